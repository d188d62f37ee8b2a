//! What people ask at the door, and what they are answered: JSON over HTTP.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ids::RunId;
use crate::ledger::decisions::Verb;
use crate::plan::hex;
use crate::run::{Outcome, Run, RunState};
use crate::target::Target;

/// The longest time for which a hold can be extended, in hours from now: a year, as a policy's `@hold`.
pub const MOST_HOURS: u32 = 8760;

/// The most runs in one answer. Lambda answers with 6 MB at most.
pub const MOST_RUNS: u32 = 100;

/// The longest reason that a request can give.
pub const LONGEST_REASON: usize = 300;

/// What somebody asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Asked {
    /// Carry a proposed run out.
    Approve {
        /// The run.
        run: RunId,
    },
    /// Turn a proposed run down.
    Reject {
        /// The run.
        run: RunId,
    },
    /// Put back what a run changed.
    Undo {
        /// The run.
        run: RunId,
    },
    /// Do again what a run holds in part, or what was opened again.
    Retry {
        /// The run.
        run: RunId,
    },
    /// End a hold now: people are asked whether to undo it.
    Release {
        /// The run.
        run: RunId,
    },
    /// Let a hold end later, or sooner, than it would.
    Extend {
        /// The run.
        run: RunId,
        /// When it ends, in hours from now.
        hours: u32,
    },
    /// Contain something by hand.
    Request(ByHand),
    /// Stop everything: from now on every function observes and changes nothing.
    Stop {
        /// Why, in one line.
        reason: String,
    },
    /// Take the stop back.
    Resume {
        /// Why, in one line.
        reason: String,
    },
    /// The newest runs.
    Runs {
        /// How many at most.
        #[serde(default = "twenty")]
        most: u32,
        /// Those before this one, as an answer's `next` says it.
        #[serde(default)]
        after: Option<String>,
        /// Those in this state only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<RunState>,
        /// Those whose finding is at least so severe.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        severity: Option<f64>,
    },
    /// One run with everything that is known of it.
    Show {
        /// The run.
        run: RunId,
    },
}

fn twenty() -> u32 {
    20
}

/// What somebody wants contained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByHand {
    /// By which playbook.
    pub playbook: String,
    /// What, in its canonical form: `aws/222222222222/eu-west-1/ec2-instance/i-…`.
    #[serde(with = "canonical")]
    pub target: Target,
    /// The name of a role, which its id does not say; IAM must agree.
    #[serde(default)]
    pub name: Option<String>,
    /// Why, in one line.
    pub reason: String,
}

/// A target in its canonical form.
mod canonical {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::target::Target;

    pub(super) fn serialize<S: Serializer>(target: &Target, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(target)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Target, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl ByHand {
    /// The command that asks for the same.
    pub(super) fn command(&self) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
        let Target { account, region, id, .. } = &self.target;
        let region = region.as_ref().map(|region| format!(" --region {region}")).unwrap_or_default();
        let name = self.name.as_ref().map(|name| format!(" --role-name {}", quoted(name))).unwrap_or_default();
        let (id, reason) = (quoted(id), quoted(&self.reason));
        format!("firebreak request {} {id} --account {account}{region}{name} --reason {reason}", self.playbook)
    }

    /// What two who ask for the same have in common: the words, which all of them are on record for.
    pub(super) fn fingerprint(&self) -> String {
        let name = self.name.as_deref().unwrap_or_default();
        hex(&Sha256::digest(format!("{}\n{name}", self.reason)))
    }
}

impl Asked {
    /// The run that it is about and what is decided about it; nothing for what only reads, and for a request.
    pub fn decides(&self) -> Option<(&RunId, Verb)> {
        Some(match self {
            Self::Approve { run } => (run, Verb::Approve),
            Self::Reject { run } => (run, Verb::Reject),
            Self::Undo { run } => (run, Verb::Undo),
            Self::Retry { run } => (run, Verb::Retry),
            Self::Release { run } => (run, Verb::Release),
            Self::Extend { run, .. } => (run, Verb::Extend),
            Self::Request(_) | Self::Stop { .. } | Self::Resume { .. } | Self::Runs { .. } | Self::Show { .. } => {
                return None;
            }
        })
    }

    /// What is asked as one word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Request(_) => Verb::Request.as_str(),
            Self::Stop { .. } => "stop",
            Self::Resume { .. } => "resume",
            Self::Runs { .. } => "runs",
            Self::Show { .. } => "show",
            decides => decides.decides().map_or("", |(_, verb)| verb.as_str()),
        }
    }
}

/// What somebody is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// It is decided, and on its way to the function that acts.
    Decided {
        /// The decision's id.
        decision: String,
        /// The run: of a request, the one that it will have if it comes to one.
        run: RunId,
        /// Who decided, as AWS names them.
        by: Vec<String>,
    },
    /// A policy wants more persons to say so.
    Waits {
        /// Who has said so, as AWS names them.
        said: Vec<String>,
        /// How many more it takes.
        more: usize,
        /// Until when what was said stands.
        until: Timestamp,
        /// Whether the topic has told people that more of them are needed; nothing where it was said before.
        told: Option<bool>,
    },
    /// The switch is set.
    Switched {
        /// Whether everything is stopped now.
        stopped: bool,
        /// Who set it, as AWS names them.
        by: String,
        /// Whether people could be told.
        told: bool,
    },
    /// Runs, the newest first.
    Runs {
        /// Each in short.
        runs: Vec<Brief>,
        /// What to ask for the ones before; absent with the last.
        next: Option<String>,
    },
    /// A run.
    Run {
        /// All that the ledger has of it.
        run: Box<Run>,
    },
    /// It is not to be.
    Refused {
        /// The kind of refusal.
        kind: RefusalKind,
        /// Why, in words.
        why: String,
    },
}

/// A run in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Brief {
    /// Its id.
    pub run: RunId,
    /// The playbook.
    pub playbook: String,
    /// The target.
    pub target: Target,
    /// The finding's type.
    pub finding_type: String,
    /// The finding's severity.
    pub severity: f64,
    /// When it arrived.
    pub arrived_at: Timestamp,
    /// Where the run stands.
    pub state: RunState,
    /// Whether it is a proposal that can no longer be approved.
    pub expired: bool,
    /// Whom the policies name for it.
    pub owner: Option<String>,
    /// How its steps ended.
    pub outcome: Option<Outcome>,
    /// When the hold's end is put to people.
    pub hold_ends_at: Option<Timestamp>,
}

impl Brief {
    /// A run in short, as of `now`.
    pub fn of(run: &Run, now: Timestamp) -> Self {
        let head = &run.head;
        Self {
            run: head.id.clone(),
            playbook: head.playbook.clone(),
            target: head.target.clone(),
            finding_type: crate::text::plain(&head.finding.finding_type, 128),
            severity: head.finding.severity,
            arrived_at: head.arrived_at,
            state: run.state,
            expired: run.is_expired(now),
            owner: head.owner.clone(),
            outcome: run.end.as_ref().map(|end| end.outcome),
            hold_ends_at: run.hold_ends_at(),
        }
    }
}

/// The kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// What is asked cannot be read.
    Malformed,
    /// It is not known who asks.
    Nobody,
    /// The policies do not let this person.
    Forbidden,
    /// There is no such run.
    Unknown,
    /// It does not fit how the run stands.
    State,
    /// Something of ours or of AWS's failed.
    Failed,
}

impl RefusalKind {
    /// The kind as metrics and logs have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Nobody => "nobody",
            Self::Forbidden => "forbidden",
            Self::Unknown => "unknown",
            Self::State => "state",
            Self::Failed => "failed",
        }
    }
}

impl Answer {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::Decided { .. } | Self::Switched { .. } | Self::Runs { .. } | Self::Run { .. } => 200,
            Self::Waits { .. } => 202,
            Self::Refused { kind, .. } => match kind {
                RefusalKind::Malformed => 400,
                RefusalKind::Nobody | RefusalKind::Forbidden => 403,
                RefusalKind::Unknown => 404,
                RefusalKind::State => 409,
                RefusalKind::Failed => 503,
            },
        }
    }
}
