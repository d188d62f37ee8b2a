//! Targets: what a playbook acts on, in one canonical form.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{
    AccountId, BucketName, DbSnapshotId, GroupId, InstanceId, InvalidId, Partition, Region, RoleId, SessionName,
    SnapshotId, TrailName, UserId,
};

/// The kinds of target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetKind {
    /// An EC2 instance.
    Ec2Instance,
    /// An IAM user, by its unique id.
    IamUser,
    /// An IAM role with all its sessions, by its unique id.
    IamRole,
    /// The sessions of one name of an IAM role: `AROA…:name`.
    IamRoleSession,
    /// A security group.
    Ec2SecurityGroup,
    /// An S3 bucket.
    S3Bucket,
    /// An EBS snapshot.
    Ec2Snapshot,
    /// A snapshot of a database instance.
    RdsSnapshot,
    /// A snapshot of a database cluster.
    RdsClusterSnapshot,
    /// A CloudTrail trail, in its home Region.
    #[serde(rename = "cloudtrail-trail")]
    CloudTrailTrail,
}

impl TargetKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Ec2Instance,
        Self::IamUser,
        Self::IamRole,
        Self::IamRoleSession,
        Self::Ec2SecurityGroup,
        Self::S3Bucket,
        Self::Ec2Snapshot,
        Self::RdsSnapshot,
        Self::RdsClusterSnapshot,
        Self::CloudTrailTrail,
    ];

    /// The kind as it stands in keys and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ec2Instance => "ec2-instance",
            Self::IamUser => "iam-user",
            Self::IamRole => "iam-role",
            Self::IamRoleSession => "iam-role-session",
            Self::Ec2SecurityGroup => "ec2-security-group",
            Self::S3Bucket => "s3-bucket",
            Self::Ec2Snapshot => "ec2-snapshot",
            Self::RdsSnapshot => "rds-snapshot",
            Self::RdsClusterSnapshot => "rds-cluster-snapshot",
            Self::CloudTrailTrail => "cloudtrail-trail",
        }
    }

    /// Whether it is somebody: a principal, which a break-glass list may name.
    pub fn is_identity(self) -> bool {
        match self {
            Self::Ec2Instance
            | Self::Ec2SecurityGroup
            | Self::S3Bucket
            | Self::Ec2Snapshot
            | Self::RdsSnapshot
            | Self::RdsClusterSnapshot
            | Self::CloudTrailTrail => false,
            Self::IamUser | Self::IamRole | Self::IamRoleSession => true,
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
        Self::regional(account, region, TargetKind::Ec2Instance, id.into())
    }

    /// A security group as a target.
    pub fn security_group(account: AccountId, region: Region, id: GroupId) -> Self {
        Self::regional(account, region, TargetKind::Ec2SecurityGroup, id.into())
    }

    /// An S3 bucket as a target. In its Region: its name is unique in a partition, and is given to whoever makes it anew.
    pub fn bucket(account: AccountId, region: Region, name: BucketName) -> Self {
        Self::regional(account, region, TargetKind::S3Bucket, name.into())
    }

    /// An EBS snapshot as a target.
    pub fn snapshot(account: AccountId, region: Region, id: SnapshotId) -> Self {
        Self::regional(account, region, TargetKind::Ec2Snapshot, id.into())
    }

    /// A snapshot of a database instance as a target.
    pub fn db_snapshot(account: AccountId, region: Region, id: DbSnapshotId) -> Self {
        Self::regional(account, region, TargetKind::RdsSnapshot, id.into())
    }

    /// A snapshot of a database cluster as a target.
    pub fn db_cluster_snapshot(account: AccountId, region: Region, id: DbSnapshotId) -> Self {
        Self::regional(account, region, TargetKind::RdsClusterSnapshot, id.into())
    }

    /// A trail as a target, in its home Region: there alone it can be changed.
    pub fn trail(account: AccountId, home: Region, name: TrailName) -> Self {
        Self::regional(account, home, TargetKind::CloudTrailTrail, name.into())
    }

    fn regional(account: AccountId, region: Region, kind: TargetKind, id: String) -> Self {
        Self { partition: region.partition(), account, region: Some(region), kind, id }
    }
}

impl Target {
    /// An IAM user as a target. The unique id and not the name: a user that is made anew is another one, and a user
    /// that is renamed is the same.
    pub fn user(partition: Partition, account: AccountId, id: UserId) -> Self {
        Self { partition, account, region: None, kind: TargetKind::IamUser, id: id.into() }
    }

    /// An IAM role with all its sessions as a target, by its unique id.
    pub fn role(partition: Partition, account: AccountId, id: RoleId) -> Self {
        Self { partition, account, region: None, kind: TargetKind::IamRole, id: id.into() }
    }

    /// The sessions of one name of a role as a target. The id is what `aws:userid` is in each of their calls.
    pub fn session(partition: Partition, account: AccountId, role: &RoleId, name: &SessionName) -> Self {
        let id = format!("{role}:{name}");
        Self { partition, account, region: None, kind: TargetKind::IamRoleSession, id }
    }

    /// The role's unique id and, where it is about one, the session's name; nothing for another kind of target.
    pub fn role_and_session(&self) -> Option<(RoleId, Option<SessionName>)> {
        match self.kind {
            TargetKind::IamRole => Some((self.id.parse().ok()?, None)),
            TargetKind::IamRoleSession => {
                let (role, name) = self.id.split_once(':')?;
                Some((role.parse().ok()?, Some(name.parse().ok()?)))
            }
            _ => None,
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
        let [partition, account, region, kind, id] = parts.as_slice() else { return Err(invalid()) };
        let (partition, account): (Partition, AccountId) = (partition.parse()?, account.parse()?);
        let target = match (*region, *kind) {
            ("global", "iam-user") => Self::user(partition, account, id.parse()?),
            ("global", "iam-role") => Self::role(partition, account, id.parse()?),
            ("global", "iam-role-session") => {
                let (role, name) = id.split_once(':').ok_or_else(invalid)?;
                Self::session(partition, account, &role.parse()?, &name.parse()?)
            }
            (region, "ec2-instance") => Self::instance(account, region.parse()?, id.parse()?),
            (region, "ec2-security-group") => Self::security_group(account, region.parse()?, id.parse()?),
            (region, "s3-bucket") => Self::bucket(account, region.parse()?, id.parse()?),
            (region, "ec2-snapshot") => Self::snapshot(account, region.parse()?, id.parse()?),
            (region, "rds-snapshot") => Self::db_snapshot(account, region.parse()?, id.parse()?),
            (region, "rds-cluster-snapshot") => Self::db_cluster_snapshot(account, region.parse()?, id.parse()?),
            (region, "cloudtrail-trail") => Self::trail(account, region.parse()?, id.parse()?),
            _ => return Err(invalid()),
        };
        if target.partition == partition { Ok(target) } else { Err(invalid()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canonical_form_comes_back_as_it_went_in() {
        for text in [
            "aws/222222222222/eu-west-1/ec2-instance/i-0a1b2c3d4e5f60718",
            "aws/222222222222/global/iam-user/AIDACKCEVSQ6C2EXAMPLE",
            "aws-cn/222222222222/global/iam-role/AROADBQP57FF2AEXAMPLE",
            "aws/222222222222/eu-west-1/ec2-security-group/sg-0a1b2c3d4e5f60718",
            "aws/222222222222/eu-west-1/s3-bucket/shop.invoices-1",
            "aws/222222222222/eu-west-1/ec2-snapshot/snap-0a1b2c3d4e5f60718",
            "aws/222222222222/eu-west-1/cloudtrail-trail/all-of-it",
            "aws/222222222222/eu-west-1/rds-snapshot/rds:shop-2026-11-03-08-12",
            "aws/222222222222/eu-west-1/rds-cluster-snapshot/final",
            "aws/222222222222/global/iam-role-session/AROADBQP57FF2AEXAMPLE:i-0a1b2c3d4e5f60718",
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.to_string(), text);
        }
        for bad in [
            "aws/222222222222/eu-west-1/iam-user/AIDACKCEVSQ6C2EXAMPLE",
            "aws/222222222222/global/iam-user/deploy",
            "aws/222222222222/global/s3-bucket/shop.invoices-1",
            "aws/222222222222/global/iam-role-session/AROADBQP57FF2AEXAMPLE",
            "aws/222222222222/global/ec2-instance/i-0a1b2c3d4e5f60718",
            "aws-cn/222222222222/eu-west-1/ec2-instance/i-0a1b2c3d4e5f60718",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
