//! A finding: our one normal form of what a detector reported.

mod guardduty;
pub mod identity;
mod json;
mod trigger;
mod trigger_type;
mod unanswered;

pub use identity::{Credential, Identity, UserType};
pub use json::{ParseError, Problem};
pub use trigger::{Kind, MOST_BYTES, Reported, Trigger, parse};
pub use trigger_type::{Answers, When};
pub use unanswered::{UNANSWERED, unanswered};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{AccountId, Arn, FindingId, InstanceId, InterfaceId, Partition, Region};

/// What a detector reported, in our normal form. Everything that decides is typed and checked; text
/// that people wrote (a title, a name) is kept only to be shown, escaped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The service that made the finding.
    pub source: Source,
    /// The finding's id, the same on every repeat.
    pub id: FindingId,
    /// The finding's own ARN, when the source gives one.
    pub arn: Option<Arn>,
    /// The finding type, as in `Backdoor:EC2/C&CActivity.B!DNS`.
    pub finding_type: String,
    /// GuardDuty's scale, 0.0 to 10.0.
    pub severity: f64,
    /// The account the finding is about.
    pub account: AccountId,
    /// The Region the finding was made in.
    pub region: Region,
    /// The partition of the account.
    pub partition: Partition,
    /// Whether it is a sample: samples never change anything.
    pub sample: bool,
    /// Whether it is live or put away.
    pub state: State,
    /// When the activity was first seen.
    pub first_seen: Option<Timestamp>,
    /// When the activity was last seen; moves on with every repeat.
    pub last_seen: Option<Timestamp>,
    /// How often it was seen.
    pub count: Option<u64>,
    /// The detector that made the finding. The member's, in a finding about a member account.
    pub detector_id: Option<String>,
    /// Whether the resource acted or was acted upon; unknown where the source does not say.
    pub role: ResourceRole,
    /// Which side opened the connection; unknown for findings that are not about one.
    #[serde(default)]
    pub direction: Direction,
    /// The kind of resource, as GuardDuty writes it (`Instance`, `AccessKey`, `EKSCluster` …).
    pub resource_type: String,
    /// The EC2 instances the finding is about: one for most, several for an attack sequence, none
    /// when it names none. In the order of the finding, each once.
    pub instances: Vec<InstanceId>,
    /// Network interfaces an attack sequence names without naming their instance.
    #[serde(default)]
    pub interfaces: Vec<InterfaceId>,
    /// Instances an attack sequence names in another account or Region. Never acted on under this
    /// finding, whose role and session are for one account; the report lists them.
    #[serde(default)]
    pub elsewhere: Vec<Arn>,
    /// The identities whose credentials the finding is about, each once: one for most that name any, several for an
    /// attack sequence.
    #[serde(default)]
    pub identities: Vec<Identity>,
    /// The title, written by the service, with names in it that an attacker may have chosen.
    pub title: String,
}

/// The service a finding came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Amazon GuardDuty.
    #[serde(rename = "guardduty")]
    GuardDuty,
}

/// Whether a finding is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Live.
    Active,
    /// Archived, in GuardDuty by the administrator: nothing is done.
    Archived,
}

/// The part the resource played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResourceRole {
    /// It did what the finding reports.
    Actor,
    /// It was done to it.
    Target,
    /// The source does not say.
    Unknown,
}

impl Source {
    /// The source as policies and output write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GuardDuty => "guardduty",
        }
    }
}

/// Which side opened a connection, seen from the resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The other side.
    Inbound,
    /// The resource.
    Outbound,
    /// The source does not say.
    #[default]
    Unknown,
}
