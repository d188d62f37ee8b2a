//! What a finding names: buckets, groups, snapshots, users. Each kind has an id that can only be well-formed.
//!
//! Every source has words of its own for the same things. They are brought together here, so that the same bucket
//! is the same resource whoever reports it.

use serde::{Deserialize, Serialize};

use super::json::{At, ParseError, Problem};
use crate::ids::{
    AccessKeyId, AccountId, Arn, BucketName, DbSnapshotId, GroupId, InstanceId, InvalidId, Partition, Region, RoleId,
    RoleName, SnapshotId, TrailName, UserId, UserName,
};
use crate::text::plain;

/// Something that a finding names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// What it is, and which.
    #[serde(flatten)]
    pub id: ResourceId,
    /// The account that owns it, as far as the source says; else the finding's. Nothing is acted on under a finding
    /// of another account.
    pub account: AccountId,
    /// Its Region; absent for what is global.
    pub region: Option<Region>,
}

/// The kinds of resource that something is known to be done about, each with its checked id; and the others, whose
/// ids are only shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id")]
pub enum ResourceId {
    /// An EC2 instance.
    #[serde(rename = "ec2-instance")]
    Instance(InstanceId),
    /// A security group.
    #[serde(rename = "ec2-security-group")]
    SecurityGroup(GroupId),
    /// An EBS snapshot.
    #[serde(rename = "ec2-snapshot")]
    Snapshot(SnapshotId),
    /// A snapshot of a database instance.
    #[serde(rename = "rds-snapshot")]
    DbSnapshot(DbSnapshotId),
    /// A snapshot of a database cluster.
    #[serde(rename = "rds-cluster-snapshot")]
    DbClusterSnapshot(DbSnapshotId),
    /// An S3 bucket.
    #[serde(rename = "s3-bucket")]
    Bucket(BucketName),
    /// A CloudTrail trail.
    #[serde(rename = "cloudtrail-trail")]
    Trail(TrailName),
    /// An IAM user by name.
    #[serde(rename = "iam-user")]
    User(UserName),
    /// An IAM user by unique id, as AWS Config writes it, and Security Hub when it has no details. A user may be
    /// *named* like somebody's unique id: whoever acts looks the name up and compares the ids.
    #[serde(rename = "iam-user-id")]
    UserId(UserId),
    /// An IAM role by name.
    #[serde(rename = "iam-role")]
    Role(RoleName),
    /// An IAM role by unique id; the same trap.
    #[serde(rename = "iam-role-id")]
    RoleId(RoleId),
    /// An access key.
    #[serde(rename = "iam-access-key")]
    AccessKey(AccessKeyId),
    /// The account itself, for what is set once in it.
    #[serde(rename = "account")]
    Account(AccountId),
    /// Anything else, to be shown and never acted on.
    #[serde(rename = "other")]
    Other(Other),
}

/// A resource of a kind that nothing is done about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Other {
    /// The source's word for the kind, escaped.
    pub word: String,
    /// What the source calls it, escaped and shortened.
    pub name: String,
}

impl Resource {
    /// The kind as it stands in output.
    pub fn kind(&self) -> &'static str {
        match &self.id {
            ResourceId::Instance(_) => "ec2-instance",
            ResourceId::SecurityGroup(_) => "ec2-security-group",
            ResourceId::Snapshot(_) => "ec2-snapshot",
            ResourceId::DbSnapshot(_) => "rds-snapshot",
            ResourceId::DbClusterSnapshot(_) => "rds-cluster-snapshot",
            ResourceId::Bucket(_) => "s3-bucket",
            ResourceId::Trail(_) => "cloudtrail-trail",
            ResourceId::User(_) => "iam-user",
            ResourceId::UserId(_) => "iam-user-id",
            ResourceId::Role(_) => "iam-role",
            ResourceId::RoleId(_) => "iam-role-id",
            ResourceId::AccessKey(_) => "iam-access-key",
            ResourceId::Account(_) => "account",
            ResourceId::Other(_) => "other",
        }
    }

    /// The id as AWS writes it, without its ARN.
    pub fn name(&self) -> &str {
        match &self.id {
            ResourceId::Instance(id) => id.as_str(),
            ResourceId::SecurityGroup(id) => id.as_str(),
            ResourceId::Snapshot(id) => id.as_str(),
            ResourceId::DbSnapshot(id) | ResourceId::DbClusterSnapshot(id) => id.as_str(),
            ResourceId::Bucket(name) => name.as_str(),
            ResourceId::Trail(name) => name.as_str(),
            ResourceId::User(name) => name.as_str(),
            ResourceId::UserId(id) => id.as_str(),
            ResourceId::Role(name) => name.as_str(),
            ResourceId::RoleId(id) => id.as_str(),
            ResourceId::AccessKey(id) => id.as_str(),
            ResourceId::Account(id) => id.as_str(),
            ResourceId::Other(other) => &other.name,
        }
    }
}

/// Where a finding is: what its resources are held against, and where those are that do not say it themselves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) partition: Partition,
    pub(super) region: &'a Region,
    pub(super) account: &'a AccountId,
}

/// What a source says of a resource beside its kind and id.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) account: Option<AccountId>,
    pub(super) region: Option<Region>,
}

/// The words of all sources for a kind: ASFF's, CloudFormation's (OCSF, AWS Config, IAM Access Analyzer), those of
/// Inspector and of GuardDuty's attack sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Instance,
    SecurityGroup,
    Snapshot,
    DbSnapshot,
    DbClusterSnapshot,
    Bucket,
    Trail,
    User,
    Role,
    AccessKey,
    Account,
}

impl Kind {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "AwsEc2Instance" | "AWS::EC2::Instance" | "AWS_EC2_INSTANCE" | "EC2_INSTANCE" => Self::Instance,
            "AwsEc2SecurityGroup" | "AWS::EC2::SecurityGroup" => Self::SecurityGroup,
            "AwsEc2Snapshot" | "AWS::EC2::Snapshot" => Self::Snapshot,
            "AwsRdsDbSnapshot" | "AWS::RDS::DBSnapshot" => Self::DbSnapshot,
            "AwsRdsDbClusterSnapshot" | "AWS::RDS::DBClusterSnapshot" => Self::DbClusterSnapshot,
            "AwsS3Bucket" | "AWS::S3::Bucket" | "S3_BUCKET" => Self::Bucket,
            "AwsCloudTrailTrail" | "AWS::CloudTrail::Trail" => Self::Trail,
            "AwsIamUser" | "AWS::IAM::User" => Self::User,
            "AwsIamRole" | "AWS::IAM::Role" => Self::Role,
            "AwsIamAccessKey" | "AWS::IAM::AccessKey" | "ACCESS_KEY" => Self::AccessKey,
            "AwsAccount" | "AWS::::Account" => Self::Account,
            _ => return None,
        })
    }

    /// The kind of what an ARN is of, where nothing else says it.
    fn of_arn(arn: &Arn) -> Option<Self> {
        Some(match (arn.service.as_str(), arn.resource.split_once(['/', ':']).map_or("", |(first, _)| first)) {
            ("ec2", "instance") => Self::Instance,
            ("ec2", "security-group") => Self::SecurityGroup,
            ("ec2", "snapshot") => Self::Snapshot,
            ("rds", "snapshot") => Self::DbSnapshot,
            ("rds", "cluster-snapshot") => Self::DbClusterSnapshot,
            ("s3", "") => Self::Bucket,
            ("cloudtrail", "trail") => Self::Trail,
            ("iam", "user") => Self::User,
            ("iam", "role") => Self::Role,
            _ => return None,
        })
    }

    /// What stands before the id in an ARN of this kind, its service, and the kind in words.
    fn arn(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Instance => ("ec2", "instance/", "an EC2 instance"),
            Self::SecurityGroup => ("ec2", "security-group/", "a security group"),
            Self::Snapshot => ("ec2", "snapshot/", "an EBS snapshot"),
            Self::DbSnapshot => ("rds", "snapshot:", "a database snapshot"),
            Self::DbClusterSnapshot => ("rds", "cluster-snapshot:", "a snapshot of a database cluster"),
            Self::Bucket => ("s3", "", "an S3 bucket"),
            Self::Trail => ("cloudtrail", "trail/", "a CloudTrail trail"),
            Self::User => ("iam", "user/", "an IAM user"),
            Self::Role => ("iam", "role/", "an IAM role"),
            Self::AccessKey => ("iam", "access-key/", "an access key"),
            Self::Account => ("iam", "", "an account"),
        }
    }

    fn is_global(self) -> bool {
        matches!(self, Self::User | Self::Role | Self::AccessKey | Self::Account)
    }

    /// The id, checked. `text` has no ARN around it any more.
    fn id(self, text: &str) -> Result<ResourceId, InvalidId> {
        Ok(match self {
            Self::Instance => ResourceId::Instance(text.parse()?),
            Self::SecurityGroup => ResourceId::SecurityGroup(text.parse()?),
            Self::Snapshot => ResourceId::Snapshot(text.parse()?),
            Self::DbSnapshot => ResourceId::DbSnapshot(text.parse()?),
            Self::DbClusterSnapshot => ResourceId::DbClusterSnapshot(text.parse()?),
            Self::Bucket => ResourceId::Bucket(text.parse()?),
            Self::Trail => ResourceId::Trail(text.parse()?),
            Self::User => text.parse().map(ResourceId::UserId).or_else(|_| text.parse().map(ResourceId::User))?,
            Self::Role => text.parse().map(ResourceId::RoleId).or_else(|_| text.parse().map(ResourceId::Role))?,
            Self::AccessKey => ResourceId::AccessKey(text.parse()?),
            Self::Account => ResourceId::Account(text.parse()?),
        })
    }
}

/// Reads a resource: `word` is the source's word for its kind, `at` its id or ARN.
pub(super) fn read(word: &str, at: &At<'_>, place: Place<'_>, said: Said) -> Result<Resource, ParseError> {
    let text = at.required(At::text)?;
    match Kind::of(word) {
        Some(kind) if !is_of_another_kind(kind, text) => typed(kind, text, at, place, said),
        _ => Ok(other(word, text, place, said)),
    }
}

/// Reads a resource of which only the ARN is known.
pub(super) fn of_arn(at: &At<'_>, place: Place<'_>) -> Result<Option<Resource>, ParseError> {
    let Some(text) = at.text()? else { return Ok(None) };
    let arn: Option<Arn> = text.parse().ok();
    match arn.as_ref().and_then(Kind::of_arn) {
        Some(kind) => typed(kind, text, at, place, Said::default()).map(Some),
        None => {
            let word = arn.as_ref().map_or("unknown", |arn| arn.service.as_str());
            Ok(Some(other(word, text, place, Said::default())))
        }
    }
}

/// The same id as it is called in another of this account's findings, to be shown.
fn other(word: &str, text: &str, place: Place<'_>, said: Said) -> Resource {
    let arn: Option<Arn> = text.parse().ok();
    let in_arn = |arn: &Arn| (arn.account.clone(), arn.region.clone());
    let (account, region) = arn.as_ref().map(in_arn).unwrap_or_default();
    Resource {
        id: ResourceId::Other(Other { word: plain(word, 64), name: plain(text, 256) }),
        account: account.or(said.account).unwrap_or_else(|| place.account.clone()),
        region: region.or(said.region),
    }
}

/// Some sources give a kind that is not the resource's: the account for what is evaluated once in it, a user for the
/// root user. The id says what it is.
fn is_of_another_kind(kind: Kind, text: &str) -> bool {
    match kind {
        Kind::Account => text.starts_with("arn:"),
        Kind::User => text.starts_with("arn:") && text.ends_with(":root"),
        _ => false,
    }
}

fn typed(kind: Kind, text: &str, at: &At<'_>, place: Place<'_>, said: Said) -> Result<Resource, ParseError> {
    let (service, prefix, words) = kind.arn();
    let expected = || at.error(Problem::Expected { expected: words, found: text.to_owned() });
    let (mut account, mut region) = (said.account, said.region);
    let id = if text.starts_with("arn:") {
        let arn: Arn = at.id()?.ok_or_else(expected)?;
        if arn.service != service {
            return Err(expected());
        }
        at.must_say(arn.partition.as_str(), "the finding's Region", place.partition.as_str())?;
        let id = match arn.resource.strip_prefix(prefix) {
            // Names are unique in an account whatever their path.
            Some(name) if matches!(kind, Kind::User | Kind::Role) => name.rsplit('/').next().unwrap_or(name).to_owned(),
            Some(name) => name.to_owned(),
            // Inspector in Security Hub leaves the word out.
            None if kind == Kind::Instance => arn.resource.clone(),
            None => return Err(expected()),
        };
        account = arn.account.or(account);
        region = arn.region.or(region);
        id
    } else {
        // Security Hub's form for what has no ARN.
        let form = match kind {
            Kind::AccessKey => "AWS::IAM::AccessKey:",
            Kind::Account => "AWS::::Account:",
            _ => "",
        };
        text.strip_prefix(form).unwrap_or(text).to_owned()
    };
    let id = kind.id(&id).map_err(|error| at.error(error))?;
    let account = match &id {
        ResourceId::Account(account) => account.clone(),
        _ => account.unwrap_or_else(|| place.account.clone()),
    };
    let region = if kind.is_global() { None } else { Some(region.unwrap_or_else(|| place.region.clone())) };
    Ok(Resource { id, account, region })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::{Value, json};

    use super::*;

    fn with(word: &str, id: Value, said: Said) -> Result<Resource, ParseError> {
        let (region, account) = ("eu-west-1".parse().unwrap(), "222222222222".parse().unwrap());
        let place = Place { partition: Partition::Aws, region: &region, account: &account };
        read(word, &At::root(&id), place, said)
    }

    fn of(word: &str, id: &str) -> Result<Resource, ParseError> {
        with(word, json!(id), Said::default())
    }

    #[test]
    fn one_resource_has_one_id_whatever_the_source_writes() {
        let cases = [
            (
                "AwsEc2Instance",
                "arn:aws:ec2:eu-west-1:222222222222:instance/i-0a1b2c3d4e5f60718",
                "i-0a1b2c3d4e5f60718",
            ),
            ("AwsEc2Instance", "arn:aws:ec2:eu-west-1:222222222222:i-0a1b2c3d4e5f60718", "i-0a1b2c3d4e5f60718"),
            ("AWS_EC2_INSTANCE", "i-0a1b2c3d4e5f60718", "i-0a1b2c3d4e5f60718"),
            ("AwsEc2SecurityGroup", "arn:aws:ec2:eu-west-1:222222222222:security-group/sg-0a1b2c3d", "sg-0a1b2c3d"),
            ("AWS::EC2::SecurityGroup", "sg-0a1b2c3d", "sg-0a1b2c3d"),
            ("AWS::EC2::Snapshot", "arn:aws:ec2:eu-west-1::snapshot/snap-0a1b2c3d", "snap-0a1b2c3d"),
            (
                "AwsRdsDbSnapshot",
                "arn:aws:rds:eu-west-1:222222222222:snapshot:rds:shop-2026-11-03",
                "rds:shop-2026-11-03",
            ),
            ("AwsRdsDbClusterSnapshot", "arn:aws:rds:eu-west-1:222222222222:cluster-snapshot:final", "final"),
            ("AwsS3Bucket", "arn:aws:s3:::shop-invoices", "shop-invoices"),
            ("AWS::S3::Bucket", "shop-invoices", "shop-invoices"),
            ("AwsCloudTrailTrail", "arn:aws:cloudtrail:eu-west-1:222222222222:trail/main-trail", "main-trail"),
            ("AwsIamUser", "arn:aws:iam::222222222222:user/team/shop/alice", "alice"),
            ("AWS::IAM::User", "AIDACKCEVSQ6C2EXAMPLE", "AIDACKCEVSQ6C2EXAMPLE"),
            ("AwsIamRole", "arn:aws:iam::222222222222:role/service-role/shop", "shop"),
            ("AWS::IAM::Role", "AROACKCEVSQ6C2EXAMPLE", "AROACKCEVSQ6C2EXAMPLE"),
            ("AwsIamAccessKey", "AWS::IAM::AccessKey:AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
            ("AWS::IAM::AccessKey", "AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
            ("AwsAccount", "AWS::::Account:222222222222", "222222222222"),
            ("AWS::::Account", "222222222222", "222222222222"),
        ];
        for (word, id, name) in cases {
            let resource = of(word, id).unwrap();
            assert_eq!(resource.name(), name, "{word} {id}");
            assert_ne!(resource.kind(), "other", "{word}");
            assert_eq!(resource.account.as_str(), "222222222222", "{word} {id}");
            let global = resource.kind().starts_with("iam-") || resource.kind() == "account";
            assert_eq!(resource.region.as_ref().map(Region::as_str), (!global).then_some("eu-west-1"), "{word} {id}");
            let stored = serde_json::to_value(&resource).unwrap();
            assert_eq!(stored["kind"], resource.kind());
            assert_eq!(serde_json::from_value::<Resource>(stored).unwrap(), resource);
        }
    }

    #[test]
    fn what_only_looks_like_a_resource_is_refused() {
        for (word, id, says) in [
            ("AwsEc2Instance", "i-blart", "instance id"),
            ("AwsEc2Instance", "arn:aws:ec2:eu-west-1:222222222222:volume/vol-0a1b2c3d", "instance id"),
            ("AwsEc2Instance", "arn:aws:s3:::i-0a1b2c3d", "expected an EC2 instance"),
            ("AwsEc2SecurityGroup", "sg-0123456789", "security group id"),
            ("AwsEc2SecurityGroup", "arn:aws:ec2:eu-west-1:222222222222:vpc/sg-0a1b2c3d", "expected a security group"),
            ("AwsS3Bucket", "arn:aws:s3:::bucket/object", "bucket name"),
            ("AwsS3Bucket", "No trails", "bucket name"),
            ("AwsS3Bucket", "arn:aws-cn:s3:::bucket", "says `aws-cn`"),
            ("AwsS3Bucket", "", "missing"),
            (
                "AwsRdsDbSnapshot",
                "arn:aws:rds:eu-west-1:222222222222:cluster-snapshot:x",
                "expected a database snapshot",
            ),
            ("AwsIamUser", "arn:aws:iam::222222222222:role/x", "expected an IAM user"),
            ("AwsIamUser", "arn:aws:iam::222222222222:user/a b", "user name"),
            ("AwsIamRole", "arn:aws:sts::222222222222:assumed-role/x/y", "expected an IAM role"),
            ("AwsIamAccessKey", "ACCESS_KEY_ID_HERE", "access key id"),
            ("AwsAccount", "AWS::::Account:12345678910", "account id"),
            ("AwsCloudTrailTrail", "arn:aws:cloudtrail:eu-west-1:222222222222:trail/../x", "trail name"),
        ] {
            let error = of(word, id).unwrap_err().to_string();
            assert!(error.contains(says), "{error}\n  does not contain {says}");
        }
        assert!(with("AwsS3Bucket", json!(7), Said::default()).is_err());
    }

    #[test]
    fn the_owner_and_the_region_are_those_that_the_id_says() {
        let away = of("AwsEc2Instance", "arn:aws:ec2:us-east-1:333333333333:instance/i-0a1b2c3d").unwrap();
        assert_eq!((away.account.as_str(), away.region.as_ref().unwrap().as_str()), ("333333333333", "us-east-1"));
        let said = Said { account: Some("333333333333".parse().unwrap()), region: Some("us-east-1".parse().unwrap()) };
        let bucket = with("AwsS3Bucket", json!("arn:aws:s3:::shop"), said).unwrap();
        assert_eq!((bucket.account.as_str(), bucket.region.as_ref().unwrap().as_str()), ("333333333333", "us-east-1"));
        assert_eq!(of("AwsAccount", "AWS::::Account:333333333333").unwrap().account.as_str(), "333333333333");
    }

    #[test]
    fn what_nothing_is_done_about_is_shown_escaped() {
        for (word, id) in [
            ("AwsKmsKey", "arn:aws:kms:us-east-1:333333333333:key/1abc"),
            ("AwsAccount", "arn:aws:autoscaling:us-east-1:333333333333:autoScalingGroup:test"),
            ("AwsIamUser", "arn:aws:iam::333333333333:root"),
        ] {
            let resource = of(word, id).unwrap();
            assert_eq!((resource.kind(), resource.name()), ("other", id));
            assert_eq!(resource.account.as_str(), "333333333333");
        }
        let resource = of("Container\u{1b}", "a\nb`c").unwrap();
        assert_eq!(resource.name(), "a\\u{a}b'c");
        assert_eq!(serde_json::to_value(&resource).unwrap()["id"]["word"], "Container\\u{1b}");
    }
}
