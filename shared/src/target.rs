//! Targets: what a playbook acts on, in one canonical form.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{AccountId, InstanceId, InvalidId, Partition, Region};

/// The kinds of target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetKind {
    /// An EC2 instance.
    Ec2Instance,
}

impl TargetKind {
    /// The kind as it stands in keys and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ec2Instance => "ec2-instance",
        }
    }
}

/// What a playbook acts on. Two findings about the same thing, from whatever source, give the same target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Target {
    /// The partition.
    pub partition: Partition,
    /// The account that owns it.
    pub account: AccountId,
    /// Its Region; absent for what is global.
    pub region: Option<Region>,
    /// Its kind.
    pub kind: TargetKind,
    /// Its unique id, as AWS writes it.
    pub id: String,
}

impl Target {
    /// An EC2 instance as a target.
    pub fn instance(account: AccountId, region: Region, id: InstanceId) -> Self {
        Self {
            partition: region.partition(),
            account,
            region: Some(region),
            kind: TargetKind::Ec2Instance,
            id: id.into(),
        }
    }
}

/// The canonical form, as in keys: `aws/222222222222/eu-west-1/ec2-instance/i-0abc…`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let region = self.region.as_ref().map_or("global", Region::as_str);
        write!(f, "{}/{}/{region}/{}/{}", self.partition, self.account, self.kind.as_str(), self.id)
    }
}

impl FromStr for Target {
    type Err = InvalidId;
    fn from_str(value: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId { kind: "target", value: value.to_owned() };
        let parts: Vec<&str> = value.split('/').collect();
        let [partition, account, region, "ec2-instance", id] = parts.as_slice() else { return Err(invalid()) };
        let target = Self::instance(account.parse()?, region.parse()?, id.parse()?);
        if target.partition == partition.parse()? { Ok(target) } else { Err(invalid()) }
    }
}
