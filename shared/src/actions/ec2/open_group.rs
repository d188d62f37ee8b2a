//! Allows everything in one direction of the flush group: the first half of making AWS forget tracked
//! flows. A flow is untracked, and then obeys a later change at once, only while both directions allow all.
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html>

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{IpPermission, IpRange, Ipv6Range};
use serde::{Deserialize, Serialize};

use super::empty_group::{Direction, rules_of};
use crate::action::{Action, Context, GroupPurpose, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::Failure;
use crate::ids::{GroupId, VpcId};
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Leave, Undo};

/// Opens the flush group of a VPC in one direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenGroup {
    /// The VPC.
    pub vpc: VpcId,
    /// The flush group; else the one that this run makes.
    pub group: Option<GroupId>,
    /// Which rules.
    pub direction: Direction,
}

/// Everywhere, in both families.
pub const EVERYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];

impl Action for OpenGroup {
    const NAME: &'static str = "ec2.open-group";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::read("ec2:DescribeSecurityGroups"),
        Permission::read("ec2:DescribeSecurityGroupRules"),
        Permission::on("ec2:AuthorizeSecurityGroupEgress", &["ec2:*:*:security-group/*"]),
        Permission::on("ec2:AuthorizeSecurityGroupIngress", &["ec2:*:*:security-group/*"]),
    ];
    const UNDO: Undo = Undo::Never { why: "the group is emptied again by the step that follows" };
    const LEAVE: Option<Leave> = Some(Leave::CutTrackedFlows);
    /// Which of the two families are allowed everything.
    type State = BTreeSet<String>;

    fn subject(&self) -> String {
        format!("{} {}", self.direction.as_str(), self.group.as_ref().map_or(self.vpc.as_str(), GroupId::as_str))
    }

    fn change(&self, before: &Self::State) -> Change {
        let group = self.group.as_ref().map_or_else(|| format!("the new group in {}", self.vpc), GroupId::to_string);
        let words = |cidrs: &BTreeSet<String>| match cidrs.is_empty() {
            true => "nothing everywhere".to_owned(),
            false => format!("all traffic, {}", cidrs.iter().map(String::as_str).collect::<Vec<_>>().join(" and ")),
        };
        Change {
            what: format!("{} that {group} allows", self.direction.as_str()),
            from: words(before),
            to: words(&everywhere()),
        }
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, groups: &[KnownGroup]) -> Vec<Grant> {
        let action = match self.direction {
            Direction::Egress => "ec2:AuthorizeSecurityGroupEgress",
            Direction::Ingress => "ec2:AuthorizeSecurityGroupIngress",
        };
        vec![Grant::new(action, super::group_arns(aws, self.group.as_ref(), groups, &self.vpc, GroupPurpose::Flush))]
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        let group = self.group(cx).await?;
        let rules = rules_of(cx.aws, std::slice::from_ref(&group)).await?;
        let all = rules
            .iter()
            .filter(|rule| rule.is_egress() == Some(self.direction == Direction::Egress))
            .filter(|rule| rule.ip_protocol() == Some("-1"))
            .filter_map(|rule| rule.cidr_ipv4().or(rule.cidr_ipv6()));
        Ok(Some(all.filter(|cidr| EVERYWHERE.contains(cidr)).map(str::to_owned).collect()))
    }

    async fn wanted(&self, _cx: &Context<'_>, _before: &Self::State) -> Result<Self::State, Failure> {
        Ok(everywhere())
    }

    async fn set(&self, cx: &Context<'_>, from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        let group = self.group(cx).await?;
        let mut all = IpPermission::builder().ip_protocol("-1");
        for cidr in to.difference(from) {
            all = match cidr.contains(':') {
                true => all.ipv6_ranges(Ipv6Range::builder().cidr_ipv6(cidr).build()),
                false => all.ip_ranges(IpRange::builder().cidr_ip(cidr).build()),
            };
        }
        let (ec2, all) = (cx.aws.ec2(), all.build());
        match self.direction {
            Direction::Egress => {
                let call = ec2.authorize_security_group_egress().group_id(group.as_str()).ip_permissions(all);
                call.send().await.map_err(Failure::from_sdk("open the egress of", &group))?;
            }
            Direction::Ingress => {
                let call = ec2.authorize_security_group_ingress().group_id(group.as_str()).ip_permissions(all);
                call.send().await.map_err(Failure::from_sdk("open the ingress of", &group))?;
            }
        }
        Ok(Set::Done)
    }
}

impl OpenGroup {
    async fn group(&self, cx: &Context<'_>) -> Result<GroupId, Failure> {
        match &self.group {
            Some(group) => Ok(group.clone()),
            None => super::group_made_by_run(cx, &self.vpc, GroupPurpose::Flush).await,
        }
    }
}

fn everywhere() -> BTreeSet<String> {
    EVERYWHERE.map(str::to_owned).into()
}
