//! Makes a security group of ours in a VPC that has none.
//!
//! `CreateSecurityGroup` has no client token; the name, which holds the run's random id, stands in for
//! it: a second call fails with `InvalidGroup.Duplicate`, and what is there is then ours.
//!
//! The VPC of a subnet that is shared by AWS RAM is another account's, and its ARN holds that account; the group is
//! the account's own (<https://docs.aws.amazon.com/vpc/latest/userguide/vpc-share-limitations.html>).
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSecurityGroup.html>

use aws_sdk_ec2::types::ResourceType;
use serde::{Deserialize, Serialize};

use crate::action::{Action, Context, GroupPurpose, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::{Class, Failure};
use crate::ids::{GroupId, VpcId};
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Undo};

/// Makes a group for a purpose in a VPC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateGroup {
    /// The VPC.
    pub vpc: VpcId,
    /// What the group is for.
    pub purpose: GroupPurpose,
}

impl Action for CreateGroup {
    const NAME: &'static str = "ec2.create-group";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::read("ec2:DescribeSecurityGroups"),
        Permission::on("ec2:CreateSecurityGroup", &["ec2:*:*:security-group/*", "ec2:*:any:vpc/*"]),
        Permission::on("ec2:CreateTags", &["ec2:*:*:security-group/*"]).when("ec2:CreateAction", "CreateSecurityGroup"),
    ];
    const MAKES_GROUP: bool = true;
    const UNDO: Undo = Undo::Never { why: "the empty group is kept for the next containment in this VPC" };
    /// The group that this run has made; none yet.
    type State = Option<GroupId>;

    fn subject(&self) -> String {
        format!("{} {}", self.purpose.as_str(), self.vpc)
    }

    fn change(&self, before: &Self::State) -> Change {
        Change {
            what: format!("group {} in {}", self.purpose.as_str(), self.vpc),
            from: before.as_ref().map_or_else(|| "none".to_owned(), GroupId::to_string),
            to: "a new group".to_owned(),
        }
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        let group = aws.arn("ec2", "security-group/*");
        let vpc = format!("arn:{}:ec2:{}:*:vpc/{}", aws.partition(), aws.region, self.vpc);
        vec![Grant::new("ec2:CreateSecurityGroup", [group.clone(), vpc]), Grant::new("ec2:CreateTags", [group])]
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        super::find_group_of_run(cx, &self.vpc, self.purpose).await.map(Some)
    }

    async fn wanted(&self, _cx: &Context<'_>, before: &Self::State) -> Result<Self::State, Failure> {
        Ok(before.clone())
    }

    async fn set(&self, cx: &Context<'_>, _from: &Self::State, _to: &Self::State) -> Result<Set<Self::State>, Failure> {
        let name = cx.group_name(self.purpose);
        let tags = [(super::TAG_RUN, cx.run.as_str()), (super::TAG_PURPOSE, self.purpose.as_str())];
        let made = cx
            .aws
            .ec2()
            .create_security_group()
            .group_name(&name)
            .description(format!("Firebreak: {}. Keep it: it is used again.", self.purpose.as_str()))
            .vpc_id(self.vpc.as_str())
            .tag_specifications(super::tags(ResourceType::SecurityGroup, &tags))
            .send()
            .await
            .map_err(Failure::from_sdk("create security group", &name))
            .map_err(|mut failure| {
                // Nobody else knows the name: what is there is ours, and not visible yet. A later attempt sees it.
                if failure.code.as_deref() == Some("InvalidGroup.Duplicate") {
                    failure.class = Class::Transient;
                }
                failure
            })?;
        let id = made.group_id().unwrap_or_default();
        let id = id.parse().map_err(|e| Failure::new(Class::Bug, "read the id of security group", name).because(e))?;
        Ok(Set::Became(Some(id)))
    }

    fn satisfied(&self, now: &Self::State, _wanted: &Self::State) -> bool {
        now.is_some()
    }

    fn made(&self, after: &Self::State) -> Option<KnownGroup> {
        let id = after.clone()?;
        Some(KnownGroup { vpc: self.vpc.clone(), id, purpose: self.purpose, run: None })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_group_can_be_made_in_a_vpc_that_is_shared_from_another_account_and_in_no_other_vpc() {
        let config = aws_types::SdkConfig::builder().build();
        let aws = Aws::new("222222222222".parse().unwrap(), "eu-west-1".parse().unwrap(), config);
        let make = CreateGroup { vpc: "vpc-00000001".parse().unwrap(), purpose: GroupPurpose::Quarantine };
        let grants = make.grants(&aws, &None, &[]);
        let on = ["arn:aws:ec2:eu-west-1:222222222222:security-group/*", "arn:aws:ec2:eu-west-1:*:vpc/vpc-00000001"];
        assert_eq!(grants.first(), Some(&Grant::new("ec2:CreateSecurityGroup", on.map(str::to_owned))));
    }
}
