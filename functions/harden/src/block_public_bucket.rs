//! # Block public access to a bucket
//!
//! ## What it answers
//!
//! Controls and rules that say that everybody may read or write a bucket (S3.2, S3.3, CloudTrail.6,
//! `s3-bucket-public-read-prohibited`, `s3-bucket-public-write-prohibited`), or that nothing keeps its owners from letting
//! everybody in (S3.8, `s3-bucket-level-public-access-prohibited`).
//!
//! ## What it does
//!
//! Switches on the bucket's own block of public access, all four settings. Policies and access lists stay as they are: they
//! do not let the public in any more.
//!
//! ## What may break
//!
//! Whoever reads the bucket without credentials, and users of other accounts that a public policy lets in besides. A bucket that serves a website, or from which CloudFront reads without
//! credentials of its own, is therefore left to a person, whatever the policies permit.
//!
//! ## How it is undone
//!
//! The settings are put back as they were, or taken away where there were none.
//! Whoever undoes it is not overruled: when the control is reported again, a person is asked.
//!
//! ## What it will not touch
//!
//! The account's own block of public access, the bucket's policy and access lists, access points, what is in the bucket.
//! CloudFront distributions of other accounts that read the bucket are not seen, nor those that name it by a path; an origin
//! access control that never signs is taken for one that does.
//!
//! ## Drill
//!
//! `cargo drill -- public-bucket`
//!
//! ## References
//!
//! - <https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html>
//! - <https://docs.aws.amazon.com/securityhub/latest/userguide/s3-controls.html>
//! - <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-restricting-access-to-s3.html>

use std::collections::BTreeMap;

use aws_sdk_cloudfront::types::{DistributionSummary, Origin};
use aws_sdk_s3::types::Grant;
use firebreak::action::{Action, AnyAction, Of};
use firebreak::actions::s3::block_public_access::{Block, BlockPublicAccess, Settings, settings_of};
use firebreak::aws::Aws;
use firebreak::failure::{Failure, gone_is_none};
use firebreak::finding::{Check, Finding, Resource, ResourceId};
use firebreak::ids::BucketName;
use firebreak::permission::Permission;
use firebreak::plan::Plan;
use firebreak::playbook::{Maybe, Meta, PlanContext, Planned, Purpose};
use firebreak::target::{Target, TargetKind};

use crate::fix::{Fix, id_of};

/// Blocks public access to a bucket.
#[derive(Debug)]
pub struct BlockPublicBucket;

const READ: Check = Check {
    control: Some("S3.2"),
    also: &["PCI.S3.2"],
    rule: Some(("S3_BUCKET_PUBLIC_READ_PROHIBITED", "s3-bucket-public-read-prohibited")),
};
const WRITE: Check = Check {
    control: Some("S3.3"),
    also: &["PCI.S3.1"],
    rule: Some(("S3_BUCKET_PUBLIC_WRITE_PROHIBITED", "s3-bucket-public-write-prohibited")),
};
const OF_A_TRAIL: Check =
    Check { control: Some("CloudTrail.6"), also: &["cis-aws-foundations-benchmark/v/1.2.0/2.3"], rule: None };
const BLOCKED: Check = Check {
    control: Some("S3.8"),
    also: &["cis-aws-foundations-benchmark/v/1.4.0/2.1.5.2"],
    rule: Some(("S3_BUCKET_LEVEL_PUBLIC_ACCESS_PROHIBITED", "s3-bucket-level-public-access-prohibited")),
};

impl Fix for BlockPublicBucket {
    const META: Meta = Meta {
        id: "block-public-bucket",
        title: "Block public access to a bucket",
        purpose: Purpose::Fix,
        kinds: &[TargetKind::S3Bucket],
        hold: "block-public-bucket",
        rechecks: &[],
        triggers: &[],
        controls: &[READ, WRITE, OF_A_TRAIL, BLOCKED],
        concerns: &[],
        reads: &[
            Permission::read("cloudfront:ListDistributions"),
            Permission::read("config:DescribeConfigRules"),
            Permission::on("s3:GetBucketAcl", &["s3:::*"]),
            Permission::on("s3:GetBucketPolicyStatus", &["s3:::*"]),
            Permission::on("s3:GetBucketTagging", &["s3:::*"]),
            Permission::on("s3:GetBucketWebsite", &["s3:::*"]),
        ],
    };
    const ACTIONS: &'static [&'static dyn AnyAction] = &[&Of::<BlockPublicAccess>::NEW];

    fn target(resource: &Resource, _: &Finding) -> Option<Target> {
        match (&resource.id, &resource.region) {
            (ResourceId::Bucket(name), Some(region)) => {
                Some(Target::bucket(resource.account.clone(), region.clone(), name.clone()))
            }
            _ => None,
        }
    }

    async fn plan(
        cx: &PlanContext<'_>,
        target: &Target,
        _: &Finding,
        check: &'static Check,
    ) -> Result<Planned, Failure> {
        let bucket: BucketName = id_of(target)?;
        let (settings, policy, list, website, tags, served) = tokio::join!(
            settings_of(cx.aws, &bucket),
            policy_lets_everybody_in(cx.aws, &bucket),
            list_lets_everybody_in(cx.aws, &bucket),
            serves_a_website(cx.aws, &bucket),
            tags_of(cx.aws, &bucket),
            cx.optional(served_by(cx.aws, &bucket)),
        );
        let Some(settings) = gone_is_none(settings)? else {
            return Ok(Planned::Gone(format!("the account has no bucket {bucket}")));
        };
        let mut plan = Plan::new(Self::META.id, target.clone());
        plan.tags = tags?;
        let on = |setting: fn(Block) -> bool| matches!(settings, Settings::Set(block) if setting(block));
        let ways = [
            (policy? && !on(|block| block.restrict), "its policy"),
            (list? && !on(|block| block.ignore_acls), "its access list"),
        ];
        let public: Vec<&str> = ways.into_iter().filter(|(is, _)| *is).map(|(_, by)| by).collect();
        let violated = match check.control {
            Some("S3.8") => settings != Settings::Set(Block::ALL),
            _ => !public.is_empty(),
        };
        if !violated {
            return Ok(Planned::Plan(plan));
        }
        if !public.is_empty() {
            plan.notes.push(format!("everybody is let in by {}", public.join(" and ")));
        }
        if website? {
            plan.ask_first.push(format!("bucket {bucket} serves a website, which nobody could read any more"));
        }
        say_who_is_served(&mut plan, &bucket, served);
        plan.stage("block", [BlockPublicAccess { bucket }.step(&settings)]);
        Ok(Planned::Plan(plan))
    }
}

fn say_who_is_served(plan: &mut Plan, bucket: &BucketName, served: Maybe<Vec<String>>) {
    match served {
        Ok(served) if served.is_empty() => {}
        Ok(served) => plan.ask_first.push(format!(
            "CloudFront reads bucket {bucket} without credentials of its own, for {}: give it an origin access control first",
            served.join(", ")
        )),
        Err(why) => plan.ask_first.push(format!("whether CloudFront reads bucket {bucket} is not known: {why}")),
    }
}

/// Whether the bucket's policy is public, as S3 judges it.
async fn policy_lets_everybody_in(aws: &Aws, bucket: &BucketName) -> Result<bool, Failure> {
    let call = aws.s3().get_bucket_policy_status().bucket(bucket.as_str());
    let answer = call.expected_bucket_owner(aws.account.as_str()).send().await;
    let answer = answer.map_err(Failure::from_sdk("read whether the policy is public of bucket", bucket));
    let status = unless(answer, "NoSuchBucketPolicy")?;
    Ok(status.and_then(|answer| answer.policy_status?.is_public).unwrap_or_default())
}

/// Whether the bucket's access list names everybody, or everybody who has an AWS account.
async fn list_lets_everybody_in(aws: &Aws, bucket: &BucketName) -> Result<bool, Failure> {
    let call = aws.s3().get_bucket_acl().bucket(bucket.as_str());
    let answer = call.expected_bucket_owner(aws.account.as_str()).send().await;
    let answer = gone_is_none(answer.map_err(Failure::from_sdk("read the access list of bucket", bucket)))?;
    Ok(answer.is_some_and(|answer| answer.grants().iter().any(names_everybody)))
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html#specifying-grantee>
fn names_everybody(grant: &Grant) -> bool {
    const GROUPS: [&str; 2] = ["/groups/global/AllUsers", "/groups/global/AuthenticatedUsers"];
    let uri = grant.grantee().and_then(|grantee| grantee.uri()).unwrap_or_default();
    GROUPS.iter().any(|group| uri.ends_with(group))
}

async fn serves_a_website(aws: &Aws, bucket: &BucketName) -> Result<bool, Failure> {
    let call = aws.s3().get_bucket_website().bucket(bucket.as_str());
    let answer = call.expected_bucket_owner(aws.account.as_str()).send().await;
    let answer = answer.map_err(Failure::from_sdk("read the website of bucket", bucket));
    Ok(unless(answer, "NoSuchWebsiteConfiguration")?.is_some())
}

async fn tags_of(aws: &Aws, bucket: &BucketName) -> Result<BTreeMap<String, String>, Failure> {
    let call = aws.s3().get_bucket_tagging().bucket(bucket.as_str());
    let answer = call.expected_bucket_owner(aws.account.as_str()).send().await;
    let answer = unless(answer.map_err(Failure::from_sdk("read the tags of bucket", bucket)), "NoSuchTagSet")?;
    let tags = answer.map(|answer| answer.tag_set).unwrap_or_default();
    Ok(tags.into_iter().map(|tag| (tag.key, tag.value)).collect())
}

/// What is not set answers with an error of its own; of a bucket that is gone nothing is set.
fn unless<T>(answer: Result<T, Failure>, absent: &str) -> Result<Option<T>, Failure> {
    match answer {
        Err(failure) if failure.code.as_deref() == Some(absent) => Ok(None),
        other => gone_is_none(other),
    }
}

/// The account's CloudFront distributions that read the bucket as anybody could.
async fn served_by(aws: &Aws, bucket: &BucketName) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    let mut marker = None;
    loop {
        let answer = aws.cloudfront().list_distributions().set_marker(marker).send().await;
        let answer = answer.map_err(Failure::from_sdk("list the CloudFront distributions of", &aws.account))?;
        let Some(page) = answer.distribution_list else { return Ok(found) };
        found.extend(page.items().iter().filter(|one| reads(one, bucket)).map(|one| one.id().to_owned()));
        marker = page.next_marker.filter(|_| page.is_truncated);
        if marker.is_none() {
            return Ok(found);
        }
    }
}

fn reads(distribution: &DistributionSummary, bucket: &BucketName) -> bool {
    let origins = distribution.origins().map(|origins| origins.items()).unwrap_or_default();
    origins.iter().any(|origin| is_bucket(origin.domain_name(), bucket) && !has_credentials(origin))
}

/// `name.s3.amazonaws.com`, `name.s3.region.amazonaws.com`, `name.s3-website…`.
fn is_bucket(domain: &str, bucket: &BucketName) -> bool {
    let rest = domain.strip_prefix(bucket.as_str()).unwrap_or_default();
    [".s3.", ".s3-"].iter().any(|service| rest.starts_with(service))
}

fn has_credentials(origin: &Origin) -> bool {
    let is_set = |text: Option<&str>| text.is_some_and(|text| !text.is_empty());
    is_set(origin.origin_access_control_id())
        || is_set(origin.s3_origin_config().map(|config| config.origin_access_identity()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_bucket_is_known_by_the_domains_of_its_own() {
        let bucket: BucketName = "shop".parse().unwrap();
        for (domain, is) in [
            ("shop.s3.amazonaws.com", true),
            ("shop.s3.eu-west-1.amazonaws.com", true),
            ("shop.s3-website-eu-west-1.amazonaws.com", true),
            ("shop.s3-website.eu-central-1.amazonaws.com", true),
            ("shop-two.s3.amazonaws.com", false),
            ("my.shop.s3.amazonaws.com", false),
            ("shop.example.com", false),
        ] {
            assert_eq!(is_bucket(domain, &bucket), is, "{domain}");
        }
    }
}
