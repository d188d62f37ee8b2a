//! Blocks public access to one bucket: public policies and access lists are neither taken nor heeded any more.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html>

use aws_sdk_s3::types::PublicAccessBlockConfiguration;
use serde::{Deserialize, Serialize};

use crate::action::{Action, Context, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::{Failure, gone_is_none};
use crate::ids::BucketName;
use crate::permission::{Grant, Permission, literal};
use crate::plan::{Change, Undo};

/// Blocks public access to a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockPublicAccess {
    /// The bucket.
    pub bucket: BucketName,
}

/// The bucket's own settings. Those of its account count beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Public access lists are not taken.
    pub block_acls: bool,
    /// Those that there are do not count.
    pub ignore_acls: bool,
    /// Public policies are not taken.
    pub block_policy: bool,
    /// One that there is lets in the account itself and services of AWS.
    pub restrict: bool,
}

impl Block {
    /// Everything public is blocked.
    pub const ALL: Self = Self { block_acls: true, ignore_acls: true, block_policy: true, restrict: true };

    fn words(self) -> String {
        let parts = [
            (self.block_acls, "new access lists"),
            (self.ignore_acls, "access lists"),
            (self.block_policy, "new policies"),
            (self.restrict, "policies"),
        ];
        let blocked: Vec<&str> = parts.into_iter().filter(|(on, _)| *on).map(|(_, what)| what).collect();
        match blocked.len() {
            0 => "not blocked".to_owned(),
            4 => "blocked".to_owned(),
            _ => format!("blocked for {}", blocked.join(", ")),
        }
    }
}

impl Action for BlockPublicAccess {
    const NAME: &'static str = "s3.block-public-access";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::on("s3:GetBucketPublicAccessBlock", &["s3:::*"]),
        Permission::on("s3:PutBucketPublicAccessBlock", &["s3:::*"]),
    ];
    const UNDO: Undo = Undo::Exact;
    const CUTS: bool = true;
    /// Nothing where the bucket has no settings of its own.
    type State = Option<Block>;

    fn subject(&self) -> String {
        self.bucket.to_string()
    }

    fn change(&self, before: &Self::State) -> Change {
        Change {
            what: format!("public access to bucket {}", self.bucket),
            from: before.map_or_else(|| "not blocked, never set".to_owned(), Block::words),
            to: Block::ALL.words(),
        }
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        vec![Grant::new("s3:PutBucketPublicAccessBlock", [bucket_arn(aws, &self.bucket)])]
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        gone_is_none(block_of(cx.aws, &self.bucket).await)
    }

    async fn wanted(&self, _cx: &Context<'_>, _before: &Self::State) -> Result<Self::State, Failure> {
        Ok(Some(Block::ALL))
    }

    async fn set(&self, cx: &Context<'_>, _from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        let (s3, bucket, owner) = (cx.aws.s3(), self.bucket.as_str(), cx.aws.account.as_str());
        match to {
            Some(block) => {
                let wanted = PublicAccessBlockConfiguration::builder()
                    .block_public_acls(block.block_acls)
                    .ignore_public_acls(block.ignore_acls)
                    .block_public_policy(block.block_policy)
                    .restrict_public_buckets(block.restrict)
                    .build();
                let call = s3.put_public_access_block().bucket(bucket).expected_bucket_owner(owner);
                let sent = call.public_access_block_configuration(wanted).send().await;
                sent.map_err(Failure::from_sdk("block public access to bucket", &self.bucket))?;
            }
            None => {
                let call = s3.delete_public_access_block().bucket(bucket).expected_bucket_owner(owner);
                let sent = call.send().await;
                sent.map_err(Failure::from_sdk("take off the public access block of bucket", &self.bucket))?;
            }
        }
        Ok(Set::Done)
    }
}

/// A bucket's own settings.
///
/// # Errors
/// Of class [`crate::failure::Class::Gone`] when the account has no such bucket.
pub async fn block_of(aws: &Aws, bucket: &BucketName) -> Result<Option<Block>, Failure> {
    let call = aws.s3().get_public_access_block().bucket(bucket.as_str());
    let answer = call.expected_bucket_owner(aws.account.as_str()).send().await;
    let answer = match answer.map_err(Failure::from_sdk("read the public access block of bucket", bucket)) {
        Ok(answer) => answer,
        Err(failure) => {
            return match failure.code.as_deref() {
                Some("NoSuchPublicAccessBlockConfiguration") => Ok(None),
                _ => Err(failure),
            };
        }
    };
    Ok(answer.public_access_block_configuration().map(|block| Block {
        block_acls: block.block_public_acls().unwrap_or_default(),
        ignore_acls: block.ignore_public_acls().unwrap_or_default(),
        block_policy: block.block_public_policy().unwrap_or_default(),
        restrict: block.restrict_public_buckets().unwrap_or_default(),
    }))
}

/// The ARN of a bucket.
fn bucket_arn(aws: &Aws, bucket: &BucketName) -> String {
    format!("arn:{}:s3:::{}", aws.region.partition(), literal(bucket.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_blocked_is_said() {
        assert_eq!(Block::ALL.words(), "blocked");
        let none = Block { block_acls: false, ignore_acls: false, block_policy: false, restrict: false };
        assert_eq!(none.words(), "not blocked");
        assert_eq!(Block { restrict: true, block_acls: true, ..none }.words(), "blocked for new access lists, policies");
    }
}
