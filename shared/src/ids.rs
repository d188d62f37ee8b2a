//! Identifiers that Firebreak acts on. Each type can only hold a well-formed value, so nothing an
//! attacker writes into an event reaches an API call, a policy document or a key unchecked.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A value that is not a well-formed identifier of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {kind}: {}", crate::text::quoted(value))]
pub struct InvalidId {
    /// What was expected, for example `account id`.
    pub kind: &'static str,
    /// What was given; shown escaped and shortened.
    pub value: String,
}

macro_rules! checked_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The identifier as AWS writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(value: &str) -> Result<Self, InvalidId> {
                let check: fn(&str) -> bool = $check;
                if check(value) {
                    Ok(Self(value.to_owned()))
                } else {
                    Err(InvalidId { kind: $kind, value: value.to_owned() })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(value: String) -> Result<Self, InvalidId> {
                value.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_id! {
    /// A 12-digit AWS account id.
    AccountId, "account id", |v| v.len() == 12 && v.bytes().all(|b| b.is_ascii_digit())
}

checked_id! {
    /// A Region name such as `eu-west-1` or `us-gov-west-1`.
    Region, "Region", is_region
}

checked_id! {
    /// An EC2 instance id: `i-` and 8 or 17 hexadecimal digits.
    InstanceId, "instance id", |v| has_hex_suffix(v, "i-")
}

checked_id! {
    /// A network interface id: `eni-` and 8 or 17 hexadecimal digits.
    InterfaceId, "network interface id", |v| has_hex_suffix(v, "eni-")
}

checked_id! {
    /// A VPC id: `vpc-` and 8 or 17 hexadecimal digits.
    VpcId, "VPC id", |v| has_hex_suffix(v, "vpc-")
}

checked_id! {
    /// A security group id: `sg-` and 8 or 17 hexadecimal digits.
    GroupId, "security group id", |v| has_hex_suffix(v, "sg-")
}

checked_id! {
    /// An EBS volume id: `vol-` and 8 or 17 hexadecimal digits.
    VolumeId, "volume id", |v| has_hex_suffix(v, "vol-")
}

checked_id! {
    /// An EBS snapshot id: `snap-` and 8 or 17 hexadecimal digits.
    SnapshotId, "snapshot id", |v| has_hex_suffix(v, "snap-")
}

checked_id! {
    /// An Elastic IP address's allocation id: `eipalloc-` and 8 or 17 hexadecimal digits.
    AllocationId, "allocation id", |v| has_hex_suffix(v, "eipalloc-")
}

checked_id! {
    /// An access key's id: `AKIA…` of a long-term key, `ASIA…` of a temporary one.
    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids>
    AccessKeyId, "access key id", |v| is_unique_id(v, "A")
}

impl AccessKeyId {
    /// Whether it is a key of a user that does not end by itself.
    pub fn is_long_term(&self) -> bool {
        self.0.starts_with("AKIA")
    }
}

checked_id! {
    /// The unique id of an IAM user. A user that is made anew under the same name has another one.
    UserId, "user id", |v| is_unique_id(v, "AIDA")
}

checked_id! {
    /// The unique id of an IAM role. A role that is made anew under the same name has another one.
    RoleId, "role id", |v| is_unique_id(v, "AROA")
}

checked_id! {
    /// The id of a service-specific credential, an SSH public key or a signing certificate of a user.
    CredentialId, "credential id", |v| {
        (16..=128).contains(&v.len()) && v.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    }
}

checked_id! {
    /// The name of an IAM user, without its path.
    UserName, "user name", |v| is_iam_name(v, 128)
}

checked_id! {
    /// The name of an IAM role, without its path.
    RoleName, "role name", |v| is_iam_name(v, 64)
}

checked_id! {
    /// The name of a role's session: the instance id where EC2 made it, else what the caller chose. It goes into
    /// policies: it can hold nothing that means something there.
    SessionName, "session name", |v| v.len() >= 2 && is_iam_name(v, 64)
}

checked_id! {
    /// A finding's id as its service writes it: 1 to 512 visible ASCII characters.
    FindingId, "finding id", |v| (1..=512).contains(&v.len()) && v.bytes().all(|b| b.is_ascii_graphic())
}

checked_id! {
    /// An S3 bucket's name. Old buckets in `us-east-1` may have capitals, underscores and up to 255
    /// characters, so those are names too.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>
    BucketName, "bucket name", |v| (3..=255).contains(&v.len()) && is_plain_name(v)
}

checked_id! {
    /// The identifier of an RDS snapshot, of an instance or of a cluster. Those that AWS makes begin with
    /// a word and a colon: `rds:`, `awsbackup:`.
    DbSnapshotId, "database snapshot id", |v| {
        v.len() <= 255
            && v.starts_with(|c: char| c.is_ascii_alphabetic())
            && v.split(':').count() <= 2
            && v.split(':').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
    }
}

checked_id! {
    /// The name of a CloudTrail trail: 3 to 128 letters, digits, full stops, hyphens and underscores.
    TrailName, "trail name", |v| (3..=128).contains(&v.len()) && is_plain_name(v)
}

checked_id! {
    /// The id of a run: a ULID, 26 characters of Crockford's base 32, sortable by time. It cannot be
    /// guessed before the run exists, which is why names made from it can be trusted.
    RunId, "run id", |v| v.len() == 26 && !v.bytes().any(|b| b.is_ascii_lowercase()) && ulid::Ulid::from_string(v).is_ok()
}

impl RunId {
    /// A new id: 48 bits of time and 80 random bits.
    pub fn new() -> Self {
        Self(ulid::Ulid::generate().to_string())
    }

    /// When the run began, in milliseconds since 1970: the first 48 bits of the id.
    pub fn started_ms(&self) -> u64 {
        // Checked when the id was made.
        ulid::Ulid::from_string(&self.0).map_or(0, |ulid| ulid.timestamp_ms())
    }
}

impl Default for RunId {
    fn default() -> Self {
        Self::new()
    }
}

/// A unique id as IAM makes them: capital letters and digits behind the prefix of its kind, 16 to 128 in all.
fn is_unique_id(value: &str, prefix: &str) -> bool {
    (16..=128).contains(&value.len())
        && value.starts_with(prefix)
        && value.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

/// Whether IAM could have given this name (`[\w+=,.@-]+`).
pub(crate) fn is_iam_name(value: &str, most: usize) -> bool {
    (1..=most).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
}

/// `prefix` followed by 8 or 17 lower-case hexadecimal digits: the two lengths EC2 has used.
fn has_hex_suffix(value: &str, prefix: &str) -> bool {
    value.strip_prefix(prefix).is_some_and(|hex| {
        matches!(hex.len(), 8 | 17) && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// A letter or digit, then letters, digits, full stops, hyphens and underscores.
fn is_plain_name(value: &str) -> bool {
    value.starts_with(|c: char| c.is_ascii_alphanumeric())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// `aa-bbb-1`, `aa-bbb-ccc-1`: two letters, one or more words, a number.
fn is_region(value: &str) -> bool {
    let parts: Vec<&str> = value.split('-').collect();
    let [first, middle @ .., last] = parts.as_slice() else { return false };
    value.len() <= 32
        && first.len() == 2
        && !middle.is_empty()
        && middle.iter().chain([first]).all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase()))
        && (1..=2).contains(&last.len())
        && last.bytes().all(|b| b.is_ascii_digit())
}

/// An AWS partition: accounts of one never act in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Partition {
    /// The commercial Regions.
    #[serde(rename = "aws")]
    Aws,
    /// China (Beijing, Ningxia).
    #[serde(rename = "aws-cn")]
    AwsCn,
    /// GovCloud (US).
    #[serde(rename = "aws-us-gov")]
    AwsUsGov,
}

impl Partition {
    /// The partition as it stands in an ARN.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::AwsCn => "aws-cn",
            Self::AwsUsGov => "aws-us-gov",
        }
    }
}

impl Region {
    /// The partition this Region belongs to.
    pub fn partition(&self) -> Partition {
        match self.as_str() {
            r if r.starts_with("cn-") => Partition::AwsCn,
            r if r.starts_with("us-gov-") => Partition::AwsUsGov,
            _ => Partition::Aws,
        }
    }
}

impl FromStr for Partition {
    type Err = InvalidId;
    fn from_str(value: &str) -> Result<Self, InvalidId> {
        match value {
            "aws" => Ok(Self::Aws),
            "aws-cn" => Ok(Self::AwsCn),
            "aws-us-gov" => Ok(Self::AwsUsGov),
            _ => Err(InvalidId { kind: "partition", value: value.to_owned() }),
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An ARN taken apart: `arn:partition:service:region:account:resource`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Arn {
    /// The partition.
    pub partition: Partition,
    /// The service, as in `guardduty`.
    pub service: String,
    /// The Region; absent for global services.
    pub region: Option<Region>,
    /// The account; absent where AWS leaves it empty (S3 buckets, AWS's own products).
    pub account: Option<AccountId>,
    /// All that follows the fifth colon.
    pub resource: String,
}

impl FromStr for Arn {
    type Err = InvalidId;
    fn from_str(value: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId { kind: "ARN", value: value.to_owned() };
        let visible = value.len() <= 2048 && value.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        let parts: Vec<&str> = value.splitn(6, ':').collect();
        let ["arn", partition, service, region, account, resource] = parts.as_slice() else { return Err(invalid()) };
        if !visible || service.is_empty() || resource.is_empty() {
            return Err(invalid());
        }
        let partition: Partition = partition.parse().map_err(|_| invalid())?;
        let region = match *region {
            "" => None,
            r => Some(r.parse::<Region>().map_err(|_| invalid())?),
        };
        if region.as_ref().is_some_and(|r| r.partition() != partition) {
            return Err(invalid());
        }
        let account = match *account {
            "" => None,
            a => Some(a.parse().map_err(|_| invalid())?),
        };
        Ok(Self { partition, service: (*service).to_owned(), region, account, resource: (*resource).to_owned() })
    }
}

impl TryFrom<String> for Arn {
    type Error = InvalidId;
    fn try_from(value: String) -> Result<Self, InvalidId> {
        value.parse()
    }
}

impl From<Arn> for String {
    fn from(arn: Arn) -> String {
        arn.to_string()
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "arn:{}:{}:{}:{}:{}",
            self.partition,
            self.service,
            self.region.as_ref().map_or("", Region::as_str),
            self.account.as_ref().map_or("", AccountId::as_str),
            self.resource
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_only_looks_like_an_account() {
        assert!("111122223333".parse::<AccountId>().is_ok());
        for bad in [
            "",
            "11112222333",
            "1111222233334",
            "111122223333\n",
            " 111122223333",
            "111122223333 ",
            "11112222333a",
            "１１１１２２２２３３３３",
            "١١١١٢٢٢٢٣٣٣٣",
            "1111-2222-33",
            "+11112222333",
        ] {
            assert!(bad.parse::<AccountId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn refuses_what_only_looks_like_an_instance() {
        for good in ["i-0a1b2c3d", "i-0a1b2c3d4e5f60718"] {
            assert_eq!(good.parse::<InstanceId>().unwrap().to_string(), good);
        }
        for bad in [
            "i-",
            "i-0a1b2c3",
            "i-0A1B2C3D",
            "i-0a1b2c3d4e5f60718\n",
            "i-0a1b2c3d4e5f60718 ",
            "i-0a1b2c3d4e5f6071",
            "i-0a1b2c3d4e5f607189",
            "I-0a1b2c3d",
            "eni-0a1b2c3d",
            "i-０a1b2c3",
            "i-0a1b2c3d,i-0a1b2c3e",
            "mi-0a1b2c3d4e5f60718",
            "*",
        ] {
            assert!(bad.parse::<InstanceId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn refuses_what_only_looks_like_an_identity() {
        assert!("AKIAIOSFODNN7EXAMPLE".parse::<AccessKeyId>().unwrap().is_long_term());
        assert!(!"ASIAIOSFODNN7EXAMPLE".parse::<AccessKeyId>().unwrap().is_long_term());
        for bad in [
            "",
            "AKIA",
            "AKIAIOSFODNN7EXAMPLE\n",
            "akiaiosfodnn7example",
            "AKIA_OSFODNN7EXAMPLE",
            "GeneratedFindingAccessKeyId",
        ] {
            assert!(bad.parse::<AccessKeyId>().is_err(), "{bad:?}");
        }
        assert!("AIDACKCEVSQ6C2EXAMPLE".parse::<UserId>().is_ok());
        assert!("AROACKCEVSQ6C2EXAMPLE".parse::<UserId>().is_err());
        for good in ["i-0a1b2c3d4e5f60718", "a.b@example.com", "x_+=,-"] {
            assert!(good.parse::<SessionName>().is_ok(), "{good}");
        }
        for bad in ["", "x", "*", "a*", "a?b", "${aws:username}", "a b", "a/b", "a\"b", "ä-session"] {
            assert!(bad.parse::<SessionName>().is_err(), "{bad:?}");
            assert!(bad.parse::<RoleName>().is_err() || bad == "x", "{bad:?}");
        }
    }

    #[test]
    fn knows_regions_of_every_partition() {
        for (region, partition) in [
            ("eu-west-1", Partition::Aws),
            ("ap-southeast-7", Partition::Aws),
            ("cn-northwest-1", Partition::AwsCn),
            ("us-gov-west-1", Partition::AwsUsGov),
        ] {
            assert_eq!(region.parse::<Region>().unwrap().partition(), partition, "{region}");
        }
        for bad in [
            "",
            "eu",
            "eu-west",
            "eu-west-",
            "eu-west-123",
            "EU-WEST-1",
            "eu-west-1a",
            "eu--1",
            "e-west-1",
            "eu-west-1\n",
        ] {
            assert!(bad.parse::<Region>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_hold_nothing_that_leads_elsewhere() {
        for good in ["logs", "my.bucket-1", "Old_Bucket", "shop--usw2-az1--x-s3"] {
            assert!(good.parse::<BucketName>().is_ok(), "{good:?}");
        }
        for bad in ["", "ab", "...", ".git", "a/b", "a b", "bucket\n", "bücket", "b:c", "a*c", &"a".repeat(256)] {
            assert!(bad.parse::<BucketName>().is_err(), "{bad:?}");
            assert!(bad.parse::<TrailName>().is_err(), "{bad:?}");
        }
        for good in ["mydb-final", "rds:mydb-2026-11-03-08-12", "awsbackup:job-1"] {
            assert!(good.parse::<DbSnapshotId>().is_ok(), "{good:?}");
        }
        for bad in ["", ":", "rds:", "1db", "a:b:c", "db snap", "db/snap", "db\n", "é"] {
            assert!(bad.parse::<DbSnapshotId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_arn_must_be_of_its_regions_partition() {
        let arn: Arn = "arn:aws-cn:ec2:cn-north-1:111122223333:instance/i-0a1b2c3d".parse().unwrap();
        assert_eq!(arn.partition, Partition::AwsCn);
        assert_eq!(arn.resource, "instance/i-0a1b2c3d");
        for bad in [
            "arn:aws:ec2:cn-north-1:111122223333:instance/i-0a1b2c3d",
            "arn:aws-us-gov:ec2:us-east-1:111122223333:instance/x",
            "arn:aws:ec2:eu-west-1:1111:instance/x",
            "arn:aws:ec2:eu-west-1:111122223333:",
            "arn:aws::eu-west-1:111122223333:x",
            "arn:aws:ec2:eu-west-1:111122223333:x\n",
            "arn:awsx:ec2:eu-west-1:111122223333:x",
            "ARN:aws:ec2:eu-west-1:111122223333:x",
            "",
        ] {
            assert!(bad.parse::<Arn>().is_err(), "{bad:?}");
        }
        assert_eq!("arn:aws:s3:::bucket/a:b".parse::<Arn>().unwrap().to_string(), "arn:aws:s3:::bucket/a:b");
    }

    #[test]
    fn an_error_shows_what_was_given_escaped() {
        let error = "1\u{1b}[31m`2".parse::<AccountId>().unwrap_err();
        assert_eq!(error.to_string(), "not a valid account id: `1\\u{1b}[31m'2`");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn well_formed_ids_come_back_as_they_went_in(hex in "[0-9a-f]{17}", account in "[0-9]{12}") {
            let id: InstanceId = format!("i-{hex}").parse().unwrap();
            let stored = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(serde_json::from_str::<InstanceId>(&stored).unwrap(), id);
            let arn = format!("arn:aws:ec2:eu-west-1:{account}:instance/i-{hex}");
            prop_assert_eq!(arn.parse::<Arn>().unwrap().to_string(), arn);
        }

        #[test]
        fn what_parses_has_only_the_characters_it_may_have(text in "\\PC*|i-[0-9a-fA-F\\n ]{7,19}|[0-9\\n ]{11,14}") {
            if let Ok(id) = text.parse::<InstanceId>() {
                prop_assert!(id.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
            }
            if let Ok(id) = text.parse::<AccountId>() {
                prop_assert!(id.as_str().len() == 12 && id.as_str().bytes().all(|b| b.is_ascii_digit()));
            }
            // Stored values are checked again when they are read.
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(serde_json::from_str::<InstanceId>(&json).is_ok(), text.parse::<InstanceId>().is_ok());
        }
    }
}
