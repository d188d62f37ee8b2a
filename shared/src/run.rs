//! Runs: one plan carried out, and what became of each of its steps.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::Class;
use crate::finding::{Finding, Source};
use crate::ids::RunId;
use crate::plan::{Plan, Stage, Step, StepId};
use crate::requests::AwsRequest;
use crate::target::Target;

/// How a run, or a finding that needed none, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Read back: the target is contained.
    Contained,
    /// Some of it is; the report lists what is not.
    Partial,
    /// None of it is.
    NotContained,
    /// The evidence is kept, read back.
    Preserved,
    /// What a control found is put right, read back.
    Fixed,
    /// It is not: nothing of the fix stands, and what it had changed was put back.
    NotFixed,
    /// Everything was as wanted already, or the finding joined what is being done.
    NoChange,
    /// A person is asked.
    Proposed,
    /// The plan is recorded, nothing more.
    Observed,
    /// Turned away; the reason is given.
    Refused,
    /// The target no longer exists.
    Gone,
    /// Something of ours or of AWS's failed before anything changed.
    Failed,
    /// A person said no.
    Rejected,
    /// Undone: every step is as it was before, or is declared otherwise.
    Undone,
    /// Undone in part; the report lists what is left to a person.
    UndonePartly,
}

impl Outcome {
    /// The outcome as it stands in events, metrics and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Contained => "contained",
            Self::Partial => "partial",
            Self::NotContained => "not_contained",
            Self::Preserved => "preserved",
            Self::Fixed => "fixed",
            Self::NotFixed => "not_fixed",
            Self::NoChange => "no_change",
            Self::Proposed => "proposed",
            Self::Observed => "observed",
            Self::Refused => "refused",
            Self::Gone => "gone",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Undone => "undone",
            Self::UndonePartly => "undone_partly",
        }
    }

    /// The outcome as read from the ledger.
    pub fn parse(value: &str) -> Option<Self> {
        serde_json::from_value(Value::String(value.to_owned())).ok()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the guard lets a playbook do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nothing.
    Refuse,
    /// Record the plan.
    Observe,
    /// Ask a person.
    Propose,
    /// Act.
    Enforce,
}

impl Mode {
    /// The mode as the policy's actions are named.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Observe => "observe",
            Self::Propose => "propose",
            Self::Enforce => "enforce",
        }
    }
}

/// Where a run stands. Moves only along [`RunState::may_become`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// The plan was recorded and nothing more.
    Observed,
    /// A person is asked.
    Proposed,
    /// A person said no.
    Rejected,
    /// A later run took its place before anybody answered.
    Superseded,
    /// Steps are being applied; a lease says by whom.
    Applying,
    /// The steps have ended; what they changed holds.
    Held,
    /// The steps have ended and changed nothing.
    Freed,
    /// Steps are being undone; a lease says by whom.
    Undoing,
    /// The undo has ended.
    Released,
}

impl RunState {
    /// Every state.
    pub const ALL: [Self; 9] = [
        Self::Observed,
        Self::Proposed,
        Self::Rejected,
        Self::Superseded,
        Self::Applying,
        Self::Held,
        Self::Freed,
        Self::Undoing,
        Self::Released,
    ];

    /// The state as the ledger writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::Proposed => "proposed",
            Self::Rejected => "rejected",
            Self::Superseded => "superseded",
            Self::Applying => "applying",
            Self::Held => "held",
            Self::Freed => "freed",
            Self::Undoing => "undoing",
            Self::Released => "released",
        }
    }

    /// Every legal transition.
    pub fn may_become(self, next: Self) -> bool {
        use RunState::{Applying, Freed, Held, Proposed, Rejected, Released, Superseded, Undoing};
        matches!(
            (self, next),
            (Proposed, Rejected | Superseded | Applying)
                | (Applying, Held | Freed)
                // A retry of what failed, or a takeover of what was interrupted.
                | (Held | Freed, Applying)
                | (Held, Undoing)
                | (Undoing, Released | Held)
        )
    }

    /// Whether the run's changes stand, or are being made, so that another finding joins it.
    pub fn holds(self) -> bool {
        matches!(self, Self::Applying | Self::Held | Self::Undoing)
    }

    /// The state as read from the ledger.
    pub fn parse(value: &str) -> Option<Self> {
        serde_json::from_value(Value::String(value.to_owned())).ok()
    }
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum StepResult {
    /// We changed it.
    Changed {
        /// The state after.
        after: Value,
    },
    /// It was so already.
    AlreadySo,
    /// It no longer exists.
    Gone,
    /// AWS does not allow it here.
    Left {
        /// Why, for a person.
        why: String,
    },
    /// A step it needs did not succeed.
    Skipped {
        /// Which.
        needs: StepId,
    },
    /// It failed.
    Failed {
        /// What the failure means.
        class: Class,
        /// What failed, in one line.
        why: String,
    },
    /// It took too long and the next stage went ahead: whether it took effect is not known yet.
    Slow,
}

impl StepResult {
    /// Whether the wanted state holds, or there is nothing left to hold it.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Changed { .. } | Self::AlreadySo | Self::Gone)
    }

    /// Whether a further attempt cannot change it.
    pub fn is_final(&self) -> bool {
        self.is_good() || matches!(self, Self::Left { .. })
    }

    /// The state's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Changed { .. } => "changed",
            Self::AlreadySo => "already-so",
            Self::Gone => "gone",
            Self::Left { .. } => "left",
            Self::Skipped { .. } => "skipped",
            Self::Failed { .. } => "failed",
            Self::Slow => "slow",
        }
    }
}

/// A step's entry in the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// What became of it.
    #[serde(flatten)]
    pub result: StepResult,
    /// When it ended.
    pub at: Timestamp,
    /// Milliseconds from the finding's arrival, or from the approval, to the step's end.
    pub after_ms: u64,
    /// How long the step itself took, in milliseconds.
    pub took_ms: u64,
    /// The changing calls that AWS has answered, those of earlier attempts first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<AwsRequest>,
}

/// What became of undoing a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum UndoResult {
    /// Put back.
    Restored,
    /// As before already, or never changed.
    AlreadySo,
    /// It no longer exists.
    Gone,
    /// Somebody changed it since; nothing was done.
    Conflict {
        /// What was found.
        found: String,
    },
    /// Not undone, by declaration or because AWS does not allow it now.
    Left {
        /// Why.
        why: String,
        /// Whether the action declares that it is never undone.
        declared: bool,
    },
    /// It failed.
    Failed {
        /// What the failure means.
        class: Class,
        /// What failed.
        why: String,
    },
}

impl UndoResult {
    /// Whether a further attempt cannot change it by itself.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Failed { .. })
    }

    /// Whether nothing is left for a person.
    pub fn is_clean(&self) -> bool {
        matches!(self, Self::Restored | Self::AlreadySo | Self::Gone | Self::Left { declared: true, .. })
    }
}

/// A step's entry in the journal of the undo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UndoRecord {
    /// What became of it.
    #[serde(flatten)]
    pub result: UndoResult,
    /// The changing calls that AWS has answered, those of earlier attempts first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<AwsRequest>,
}

/// What is fixed when a run is recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunHead {
    /// The run's id.
    pub id: RunId,
    /// The function whose schedule takes it up.
    pub function: String,
    /// The playbook.
    pub playbook: String,
    /// The word under which the playbook holds targets; empty where it is the playbook's id.
    #[serde(default)]
    pub hold: String,
    /// The target.
    pub target: Target,
    /// The finding, as its own service gave it.
    pub finding: Finding,
    /// The plan with every before-state.
    pub plan: Plan,
    /// The plan's hash.
    pub plan_hash: String,
    /// What the guard said.
    pub mode: Mode,
    /// Why it said so.
    pub reasons: Vec<String>,
    /// When the finding arrived.
    pub arrived_at: Timestamp,
    /// The leaves that the policy gave.
    #[serde(default)]
    pub leaves: std::collections::BTreeSet<crate::plan::Leave>,
    /// After how many seconds the hold's end is put to a person; never when absent.
    pub hold_seconds: Option<i64>,
    /// Whom the policies name for a decision about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Whether its message is to wake somebody, whatever the outcome.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub page: bool,
    /// Whether it would have been acted on, or asked about, had not everything been stopped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
}

/// What is known when a run's steps have ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunEnd {
    /// The outcome.
    pub outcome: Outcome,
    /// When.
    pub at: Timestamp,
    /// What was to be done and is not, in words.
    pub not_done: Vec<String>,
    /// What is open although every step succeeded, in words.
    pub remains: Vec<String>,
    /// Milliseconds from the finding's arrival, or from the approval, to the last cut, of the network or of credentials.
    pub contained_after_ms: Option<u64>,
    /// Who decided it, when a person did: `approved by …`, `undone by …`.
    #[serde(default)]
    pub decided: Option<String>,
    /// Whether another attempt could do what is not done.
    #[serde(default)]
    pub retry: bool,
    /// What was seen of whoever works against it, and of what they have left, when it was looked at again, in words. No
    /// undo closes it, so it goes on from one end to the next.
    #[serde(default)]
    pub seen: Vec<String>,
}

impl RunEnd {
    /// A person has rejected what was proposed.
    pub fn rejected(decided: String, at: Timestamp) -> Self {
        Self {
            outcome: Outcome::Rejected,
            at,
            not_done: Vec::new(),
            remains: Vec::new(),
            contained_after_ms: None,
            decided: Some(decided),
            retry: false,
            seen: Vec::new(),
        }
    }
}

impl Run {
    /// Whether what stands of it is the word of the function that holds drills, and not a person's: it gives back what its
    /// own drill did, and has said nothing about what else may be reported of the canary.
    pub fn is_given_back_by_drill(&self) -> bool {
        let by_drill = |decided: &String| decided.contains(":assumed-role/drill/");
        self.head.finding.source == Source::Drill && self.decided.as_ref().is_some_and(by_drill)
    }
}

/// How a run had ended before its present end: it was done again, or undone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PastEnd {
    /// The outcome.
    pub outcome: Outcome,
    /// When.
    pub at: Timestamp,
    /// Milliseconds from the finding's arrival, or from the approval, to the last cut.
    pub contained_after_ms: Option<u64>,
    /// Who had decided it, when a person had.
    pub decided: Option<String>,
}

impl From<&RunEnd> for PastEnd {
    fn from(end: &RunEnd) -> Self {
        Self {
            outcome: end.outcome,
            at: end.at,
            contained_after_ms: end.contained_after_ms,
            decided: end.decided.clone(),
        }
    }
}

/// A proposal can be approved for so long. Then nobody remembers what it was about: what goes on is proposed anew.
pub const PROPOSAL_STANDS: jiff::SignedDuration = jiff::SignedDuration::from_hours(7 * 24);

/// A run as the ledger holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// What was fixed at the start.
    pub head: RunHead,
    /// Where it stands.
    pub state: RunState,
    /// How often it has changed hands; every write carries it.
    pub epoch: u64,
    /// Until when its present hand may write.
    pub lease_until: Timestamp,
    /// Stages added after the first plan, each journaled before it was applied.
    pub added: Vec<Stage>,
    /// The journal.
    pub steps: BTreeMap<StepId, StepRecord>,
    /// The journal of the undo.
    pub undone: BTreeMap<StepId, UndoRecord>,
    /// The requests of steps that are tried again and have no entry in the journal meanwhile. Not in the
    /// ledger, whose entry stands until it is written anew.
    #[serde(skip)]
    pub earlier: BTreeMap<StepId, Vec<AwsRequest>>,
    /// How it ended.
    pub end: Option<RunEnd>,
    /// How it had ended before that, the oldest first.
    #[serde(default)]
    pub past: Vec<PastEnd>,
    /// Automatic further attempts made.
    pub tries: u32,
    /// How often it was taken over since its present state began: its hands were interrupted.
    pub interruptions: u32,
    /// When a person approved it, if one did.
    pub approved_at: Option<Timestamp>,
    /// When it came to hold the target first.
    pub held_at: Option<Timestamp>,
    /// How often it was found that somebody had taken back what the run did.
    pub reapplied: u32,
    /// When its undo ended.
    pub released_at: Option<Timestamp>,
    /// The decision that is being carried out, in words.
    pub decided: Option<String>,
    /// The hold's end, where a person has set another than the policy's.
    #[serde(default)]
    pub hold: Option<HoldSet>,
    /// The newest finding that joined it, which says that the activity goes on. Not in the run's row.
    #[serde(skip)]
    pub latest: Option<Finding>,
    /// What was seen when it was looked at again, in words. Not in the run's row.
    #[serde(skip)]
    pub seen_again: Vec<String>,
}

/// What a person said of a hold's end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HoldSet {
    /// When it ends.
    pub until: Timestamp,
    /// When that was decided. An older row of the ledger about its end does not count any more.
    pub at: Timestamp,
    /// By whom, as AWS names them.
    pub by: String,
}

impl RunHead {
    /// The word under which the run holds its target.
    pub fn holds_as(&self) -> &str {
        if self.hold.is_empty() { &self.playbook } else { &self.hold }
    }
}

impl Run {
    /// The finding that says most about now: the last that joined it, else the one that began it.
    pub fn newest_finding(&self) -> &Finding {
        self.latest.as_ref().unwrap_or(&self.head.finding)
    }

    /// When the hold's end is put to people; nothing where it has none.
    pub fn hold_ends_at(&self) -> Option<Timestamp> {
        // A row may say anything: what has no end in time has none.
        let after = jiff::SignedDuration::from_secs;
        let by_policy = || self.held_at?.checked_add(after(self.head.hold_seconds?)).ok();
        let holds = self.state == RunState::Held;
        self.hold.as_ref().map(|hold| hold.until).or_else(by_policy).filter(|_| holds)
    }

    /// Whether it is a proposal that has stood for too long to be approved.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.state == RunState::Proposed && now.duration_since(self.head.arrived_at) >= PROPOSAL_STANDS
    }

    /// What the time to containment counts from: the approval, or else the finding's arrival.
    pub fn counts_from(&self) -> Timestamp {
        self.approved_at.unwrap_or(self.head.arrived_at)
    }

    /// Every stage, those of the plan first. A step that was added again, to be done otherwise, stands where it
    /// was added last.
    pub fn stages(&self) -> Vec<Stage> {
        let mut stages: Vec<Stage> = self.planned().map(|(_, stage)| stage.clone()).collect();
        for (place, stage) in stages.iter_mut().enumerate() {
            stage.steps.retain(|step| self.is_last(place, step));
        }
        stages.retain(|stage| !stage.steps.is_empty());
        stages
    }

    /// Every step, those of the plan first.
    pub fn all_steps(&self) -> impl DoubleEndedIterator<Item = &Step> {
        let steps = self.planned().flat_map(|(place, stage)| stage.steps.iter().map(move |step| (place, step)));
        steps.filter(|(place, step)| self.is_last(*place, step)).map(|(_, step)| step)
    }

    fn planned(&self) -> impl DoubleEndedIterator<Item = (usize, &Stage)> {
        let first = self.head.plan.stages.len();
        let added = self.added.iter().enumerate().map(move |(n, stage)| (first + n, stage));
        self.head.plan.stages.iter().enumerate().chain(added)
    }

    /// Whether no later stage has a step of the same id.
    fn is_last(&self, place: usize, step: &Step) -> bool {
        let later = (place + 1).saturating_sub(self.head.plan.stages.len());
        !self.added.iter().skip(later).any(|stage| stage.steps.iter().any(|other| other.id == step.id))
    }

    /// The result of a step so far.
    pub fn result(&self, id: &StepId) -> Option<&StepResult> {
        self.steps.get(id).map(|record| &record.result)
    }

    /// What became of undoing a step so far.
    pub fn undo_result(&self, id: &StepId) -> Option<&UndoResult> {
        self.undone.get(id).map(|record| &record.result)
    }

    /// The requests of every attempt at a step so far.
    pub fn requests(&self, id: &StepId) -> &[AwsRequest] {
        let entry = self.steps.get(id).map(|record| &record.requests);
        entry.or_else(|| self.earlier.get(id)).map(Vec::as_slice).unwrap_or_default()
    }

    /// Enters what became of a step, and answers with the whole entry: the requests of earlier attempts
    /// are kept.
    pub fn note(&mut self, id: &StepId, mut record: StepRecord) -> StepRecord {
        record.requests.splice(..0, self.requests(id).to_vec());
        self.steps.insert(id.clone(), record.clone());
        record
    }

    /// The journal's entries of these steps.
    pub fn entries(&self, ids: &std::collections::BTreeSet<StepId>) -> Vec<(StepId, StepRecord)> {
        ids.iter().filter_map(|id| self.steps.get(id).map(|record| (id.clone(), record.clone()))).collect()
    }

    /// Takes steps out of the journal that are to be tried again.
    pub fn try_again(&mut self, which: impl Fn(&StepId, &StepResult) -> bool) {
        for (id, record) in self.steps.extract_if(.., |id, record| which(id, &record.result)) {
            self.earlier.insert(id, record.requests);
        }
    }

    /// Whether everything that was changed, or may have been, was put back by the run itself.
    pub fn is_put_back(&self) -> bool {
        !self.undone.is_empty()
            && self.all_steps().all(|step| self.undo_result(&step.id).is_some_and(UndoResult::is_clean))
    }

    /// Whether anything has been changed, or may have been.
    pub fn changed_anything(&self) -> bool {
        self.steps.values().any(|record| match record.result {
            // A step is planned because it is not so yet: if it is found so, an attempt of which the journal
            // does not know brought it about, and undo must put it back.
            StepResult::Changed { .. } | StepResult::AlreadySo | StepResult::Slow => true,
            // No answer came: the change may be there.
            StepResult::Failed { class, .. } => matches!(class, Class::Transient | Class::Bug),
            _ => false,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn entry(json: &str) -> StepRecord {
        serde_json::from_str(json).unwrap()
    }

    fn request(id: &str) -> AwsRequest {
        AwsRequest { operation: "CreateSnapshots".to_owned(), request_id: id.to_owned() }
    }

    #[test]
    fn an_entry_from_before_requests_were_kept_is_read_and_written_the_same() {
        let old = r#"{"state":"already-so","at":"2026-11-03T00:00:00Z","after_ms":5,"took_ms":3}"#;
        assert!(entry(old).requests.is_empty());
        assert_eq!(serde_json::to_string(&entry(old)).unwrap(), old);
        let old = r#"{"state":"conflict","found":"sg-1"}"#;
        let undone: UndoRecord = serde_json::from_str(old).unwrap();
        assert!(undone.requests.is_empty() && !undone.result.is_clean());
        assert_eq!(serde_json::to_string(&undone).unwrap(), old);
    }

    /// A run that has done nothing yet.
    pub(crate) fn begun() -> Run {
        let event = serde_json::from_str(include_str!("../../events/guardduty/command-and-control.json")).unwrap();
        let finding = crate::finding::parse(&event).unwrap().findings.remove(0).unwrap();
        let target: Target = "aws/222222222222/eu-west-1/ec2-instance/i-00000001".parse().unwrap();
        let plan = Plan::new("snapshot-volumes", target.clone());
        Run {
            head: RunHead {
                id: RunId::new(),
                function: "contain-compute".to_owned(),
                playbook: plan.playbook.clone(),
                hold: String::new(),
                target,
                finding,
                plan_hash: plan.hash(),
                plan,
                mode: Mode::Enforce,
                reasons: Vec::new(),
                arrived_at: Timestamp::UNIX_EPOCH,
                leaves: Default::default(),
                hold_seconds: None,
                owner: None,
                page: false,
                stopped: false,
            },
            state: RunState::Applying,
            epoch: 1,
            lease_until: Timestamp::UNIX_EPOCH,
            added: Vec::new(),
            steps: BTreeMap::new(),
            undone: BTreeMap::new(),
            earlier: BTreeMap::new(),
            end: None,
            past: Vec::new(),
            tries: 0,
            interruptions: 0,
            approved_at: None,
            held_at: None,
            reapplied: 0,
            released_at: None,
            decided: None,
            hold: None,
            latest: None,
            seen_again: Vec::new(),
        }
    }

    #[test]
    fn the_requests_of_earlier_attempts_are_kept() {
        let mut run = begun();
        let id = StepId("ec2.create-snapshots i-00000001".to_owned());
        let slow = entry(r#"{"state":"slow","at":"2026-11-03T00:00:00Z","after_ms":5,"took_ms":3}"#);
        let with = |id: &str| StepRecord { requests: vec![request(id)], ..slow.clone() };
        run.note(&id, with("1"));
        run.try_again(|_, _| true);
        assert!(run.result(&id).is_none());
        run.note(&id, slow.clone());
        let whole = run.note(&id, with("2"));
        assert_eq!(whole.requests, [request("1"), request("2")]);
        assert_eq!(run.requests(&id), whole.requests);
    }
}
