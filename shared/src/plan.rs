//! Plans: what a playbook would change, as data. Nothing here calls AWS.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::ids::Arn;
use crate::target::{Target, TargetKind};

/// A step's id within its plan: the action's name and what it is about, `ec2.replace-interface-groups eni-0abc…`.
/// The same change has the same id in every plan, so a later plan can be held against the first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StepId(pub String);

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Several things in a step's id: the same ones always read the same, and others never do.
pub fn together<T: fmt::Display>(things: &BTreeSet<T>) -> String {
    const SHOWN: usize = 3;
    let all: Vec<String> = things.iter().map(T::to_string).collect();
    match all.split_first() {
        Some((first, rest)) if all.len() > SHOWN => {
            let digest = hex(&Sha256::digest(all.join(",").as_bytes()));
            format!("{first} and {} more ({})", rest.len(), digest.get(..12).unwrap_or(&digest))
        }
        _ => all.join(","),
    }
}

/// How faithfully an action can be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undo {
    /// Every field returns to what it was.
    Exact,
    /// The function returns, but these fields differ.
    Equivalent {
        /// Which fields.
        differs: &'static str,
        /// Why AWS does not give them back.
        why: &'static str,
    },
    /// It is not undone.
    Never {
        /// Why not.
        why: &'static str,
    },
}

impl Undo {
    /// What undo cannot give back, in words; nothing when it is exact.
    pub fn caveat(self) -> Option<String> {
        match self {
            Self::Exact => None,
            Self::Equivalent { differs, why } => Some(format!("{differs} will differ: {why}")),
            Self::Never { why } => Some(format!("is not undone: {why}")),
        }
    }
}

/// A change in words, for people: `security groups of eni-0abc…`, from `sg-1, sg-2`, to `sg-9`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What is changed.
    pub what: String,
    /// As it is now.
    pub from: String,
    /// As it will be.
    pub to: String,
}

/// A leave that the policy must give by name before a step may be in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leave {
    /// Open the instance for an instant so that tracked flows are forgotten.
    CutTrackedFlows,
    /// Replace the instance profile: ends SSM and everything else that uses the role.
    ReplaceInstanceProfile,
    /// Switch the metadata endpoint off: ends SSM and memory capture.
    DisableMetadataEndpoint,
    /// Revoke every session of a role, whosever they are.
    RevokeEverySession,
}

impl Leave {
    /// Every leave.
    pub const ALL: [Self; 4] =
        [Self::CutTrackedFlows, Self::ReplaceInstanceProfile, Self::DisableMetadataEndpoint, Self::RevokeEverySession];

    /// Whether steps about this kind of target may want it.
    pub fn is_of(self, kind: TargetKind) -> bool {
        match self {
            Self::CutTrackedFlows | Self::ReplaceInstanceProfile | Self::DisableMetadataEndpoint => {
                kind == TargetKind::Ec2Instance
            }
            Self::RevokeEverySession => kind == TargetKind::IamRole,
        }
    }

    /// The leave as the policy writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CutTrackedFlows => "cut-tracked-flows",
            Self::ReplaceInstanceProfile => "replace-instance-profile",
            Self::DisableMetadataEndpoint => "disable-metadata-endpoint",
            Self::RevokeEverySession => "revoke-every-session",
        }
    }
}

/// One action with its arguments and the state it found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Unique within the plan.
    pub id: StepId,
    /// The action's frozen name.
    pub action: String,
    /// The action's arguments.
    pub args: Value,
    /// The state before the change: all that undo needs.
    pub before: Value,
    /// The change in words.
    pub change: Change,
    /// What undo cannot give back.
    pub caveat: Option<String>,
    /// Steps without which this one makes no sense. Nothing else stops a step.
    pub needs: Vec<StepId>,
    /// The leave it wants, beyond that of the playbook.
    pub leave: Option<Leave>,
    /// Whether the network is not cut without it: it moves an interface, or leaves the group that interfaces are
    /// moved into without rules. What the time to containment is measured to.
    pub cuts: bool,
}

/// Steps that may run side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// The stage's name, for people.
    pub name: String,
    /// Its steps.
    pub steps: Vec<Step>,
}

/// What a playbook would change about one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The playbook's id.
    pub playbook: String,
    /// The target.
    pub target: Target,
    /// What will be done, in order.
    pub stages: Vec<Stage>,
    /// What will still be open when every step has succeeded, in words.
    pub remains: Vec<String>,
    /// What a person should know besides, in words.
    pub notes: Vec<String>,
    /// Whether something could not be read, or not in time, that the plan was made without.
    #[serde(default)]
    pub incomplete: bool,
    /// Why a person is to be asked first, whatever the policies permit: it may break what somebody uses. In words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ask_first: Vec<String>,
    /// Facts about the target for the policy: tags that the account's people set. Hostile.
    #[serde(default)]
    pub tags: std::collections::BTreeMap<String, String>,
    /// The ARN of a target that is somebody, as IAM has it now: what a break-glass list names.
    #[serde(default)]
    pub arn: Option<Box<Arn>>,
}

/// Everything before the network cut has together this long; then the cut goes ahead.
pub const BEFORE_THE_CUT: Duration = Duration::from_secs(3);

/// The longest plan in bytes of JSON. A run is one row of the ledger, which DynamoDB limits to 400 KB, with the plan,
/// what is added to it and every step's result in it. Whoever can register an instance with a thousand targets can
/// make a plan longer than that; then what cuts is kept, and the rest is named.
pub const MOST_BYTES: usize = 200_000;

/// What may be added to a run's plan in all its attempts, beside what the plan itself has left of its room.
pub const MOST_ADDED: usize = 60_000;

/// The length of a value as JSON.
pub(crate) fn json_len(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |bytes| bytes.len())
}

impl Plan {
    /// An empty plan.
    pub fn new(playbook: &str, target: Target) -> Self {
        Self {
            playbook: playbook.to_owned(),
            target,
            stages: Vec::new(),
            remains: Vec::new(),
            notes: Vec::new(),
            incomplete: false,
            ask_first: Vec::new(),
            tags: std::collections::BTreeMap::new(),
            arn: None,
        }
    }

    /// Adds a stage, unless it is empty.
    pub fn stage(&mut self, name: &str, steps: impl IntoIterator<Item = Step>) {
        let steps: Vec<Step> = steps.into_iter().collect();
        if !steps.is_empty() {
            self.stages.push(Stage { name: name.to_owned(), steps });
        }
    }

    /// Every step in order.
    pub fn steps(&self) -> impl DoubleEndedIterator<Item = &Step> {
        self.stages.iter().flat_map(|stage| &stage.steps)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// Keeps only the steps that `keep` says, and drops stages left empty.
    pub fn retain(&mut self, mut keep: impl FnMut(&Step) -> bool) {
        for stage in &mut self.stages {
            stage.steps.retain(&mut keep);
        }
        self.stages.retain(|stage| !stage.steps.is_empty());
    }

    /// Cuts the plan to what the ledger has room for, and says so in what remains. See [`MOST_BYTES`].
    pub fn shorten(&mut self) {
        self.shorten_to(MOST_BYTES);
    }

    /// Keeps what cuts, and what that needs, of a plan longer than this; nothing if that is too long as well.
    pub(crate) fn shorten_to(&mut self, most: usize) {
        if json_len(self) <= most {
            return;
        }
        let needed: BTreeSet<StepId> =
            self.steps().filter(|step| step.cuts).flat_map(|step| step.needs.clone()).collect();
        self.retain(|step| step.cuts || needed.contains(&step.id));
        self.remains.push("the plan was too long for the ledger: only the network is cut, all else is left".to_owned());
        self.tags.clear();
        if json_len(&self.stages) > most {
            self.stages.clear();
        }
    }

    /// A hash of what would be done: steps, arguments and before-states, no times and no prose. An
    /// approval is bound to it.
    pub fn hash(&self) -> String {
        let decisive: Vec<_> = self
            .stages
            .iter()
            .map(|stage| {
                let steps = stage.steps.iter().map(|s| (&s.id, &s.action, timeless(&s.args), &s.before, &s.needs));
                (&stage.name, steps.collect::<Vec<_>>())
            })
            .collect();
        // `Value` keeps its keys sorted, so equal plans are equal bytes. Ids and JSON values always serialise.
        let bytes = serde_json::to_vec(&(&self.playbook, &self.target, decisive)).unwrap_or_default();
        hex(&Sha256::digest(&bytes))
    }
}

/// The argument that says until when the activity was seen: it moves on with every repeat of a finding, and an approval
/// is none the less of the same plan.
const SEEN: &str = "seen";

fn timeless(args: &Value) -> Value {
    let mut args = args.clone();
    if let Some(fields) = args.as_object_mut() {
        fields.remove(SEEN);
    }
    args
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        use fmt::Write as _;
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_the_same_when_the_activity_goes_on() {
        let plan = |seen: &str, role: &str| {
            let mut plan = Plan::new("p", "aws/222222222222/global/iam-role/AROADBQP57FF2AEXAMPLE".parse().unwrap());
            let change = Change { what: String::new(), from: String::new(), to: String::new() };
            plan.stage(
                "revoke",
                [Step {
                    id: StepId("a".to_owned()),
                    action: "a".to_owned(),
                    args: serde_json::json!({"role": role, "seen": seen}),
                    before: Value::Null,
                    change,
                    caveat: None,
                    needs: Vec::new(),
                    leave: None,
                    cuts: true,
                }],
            );
            plan.hash()
        };
        assert_eq!(plan("2026-11-22T01:00:00Z", "a"), plan("2026-11-22T02:00:00Z", "a"));
        assert_ne!(plan("2026-11-22T01:00:00Z", "a"), plan("2026-11-22T01:00:00Z", "b"));
    }

    #[test]
    fn sets_that_differ_have_other_names() {
        let set = |n: usize| (0..n).map(|i| format!("vol-{i}")).collect::<BTreeSet<_>>();
        assert_eq!(together(&set(2)), "vol-0,vol-1");
        assert!(together(&set(40)).starts_with("vol-0 and 39 more ("));
        let names: BTreeSet<String> = (0..50).map(|n| together(&set(n))).collect();
        assert_eq!(names.len(), 50);
    }
}
