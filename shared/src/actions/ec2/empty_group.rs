//! Revokes every rule of one direction of a group of ours: an empty group is what cuts.
//!
//! A new group allows all egress, to IPv4 and in an IPv6 VPC to IPv6 as well; and whoever holds the
//! account may have added rules since. `RevokeSecurityGroupEgress` can answer without an error and yet
//! have revoked nothing (`UnknownIpPermissions`), so the rules are read again afterwards.
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RevokeSecurityGroupEgress.html>

use std::collections::BTreeMap;

use aws_sdk_ec2::types::SecurityGroupRule;
use serde::{Deserialize, Serialize};

use crate::action::{Action, Context, GroupPurpose, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::{Class, Failure};
use crate::ids::{GroupId, VpcId};
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Undo};
use crate::text::plain;

/// Leaves a group of ours without rules in one direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmptyGroup {
    /// The group's VPC.
    pub vpc: VpcId,
    /// The group; else the one that this run makes.
    pub group: Option<GroupId>,
    /// What the group is for.
    pub purpose: GroupPurpose,
    /// Which rules.
    pub direction: Direction,
}

/// Which way the traffic of a rule goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Out of what is in the group.
    Egress,
    /// Into what is in the group.
    Ingress,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Egress, Self::Ingress];

    /// The direction in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        }
    }
}

/// Rules by id, each in words. The words are for people; the ids are revoked.
pub type Rules = BTreeMap<String, String>;

impl Action for EmptyGroup {
    const NAME: &'static str = "ec2.empty-group";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::read("ec2:DescribeSecurityGroups"),
        Permission::read("ec2:DescribeSecurityGroupRules"),
        Permission::on("ec2:RevokeSecurityGroupEgress", &["ec2:*:*:security-group/*"]),
        Permission::on("ec2:RevokeSecurityGroupIngress", &["ec2:*:*:security-group/*"]),
    ];
    const UNDO: Undo = Undo::Never { why: "the group is Firebreak's own, and empty is what it has to be" };
    /// The rules; none while the plan could not know them, because the group is not made or not read yet.
    type State = Option<Rules>;

    fn subject(&self) -> String {
        let group = self.group.as_ref().map_or(self.vpc.as_str(), GroupId::as_str);
        format!("{} {} {group}", self.purpose.as_str(), self.direction.as_str())
    }

    fn change(&self, before: &Self::State) -> Change {
        let group = self.group.as_ref().map_or_else(|| format!("the new group in {}", self.vpc), GroupId::to_string);
        Change {
            what: format!("{} rules of {group}", self.direction.as_str()),
            from: match before {
                None => "whatever it has".to_owned(),
                Some(rules) if rules.is_empty() => "none".to_owned(),
                Some(rules) => rules.values().map(String::as_str).collect::<Vec<_>>().join(", "),
            },
            to: "none".to_owned(),
        }
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, groups: &[KnownGroup]) -> Vec<Grant> {
        let action = match self.direction {
            Direction::Egress => "ec2:RevokeSecurityGroupEgress",
            Direction::Ingress => "ec2:RevokeSecurityGroupIngress",
        };
        vec![Grant::new(action, super::group_arns(aws, self.group.as_ref(), groups, &self.vpc, self.purpose))]
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        let group = self.group(cx).await?;
        Ok(Some(Some(self.rules(cx, &group).await?)))
    }

    async fn wanted(&self, _cx: &Context<'_>, _before: &Self::State) -> Result<Self::State, Failure> {
        Ok(Some(Rules::new()))
    }

    async fn set(&self, cx: &Context<'_>, from: &Self::State, _to: &Self::State) -> Result<Set<Self::State>, Failure> {
        let group = self.group(cx).await?;
        let rules = match from {
            Some(rules) => rules.clone(),
            None => self.rules(cx, &group).await?,
        };
        let not_empty = |why: &'static str| Failure::new(Class::Transient, "empty", group.to_string()).because(why);
        if rules.is_empty() {
            // A new group always has an egress rule: not to see it means that it is not visible yet.
            let unseen = from.is_none() && self.group.is_none() && self.direction == Direction::Egress;
            return if unseen { Err(not_empty("its default rule is not visible yet")) } else { Ok(Set::Done) };
        }
        let ids = Some(rules.into_keys().collect());
        let ec2 = cx.aws.ec2();
        match self.direction {
            Direction::Egress => {
                let call = ec2.revoke_security_group_egress().group_id(group.as_str()).set_security_group_rule_ids(ids);
                call.send().await.map_err(Failure::from_sdk("revoke the egress rules of", &group))?;
            }
            Direction::Ingress => {
                let call =
                    ec2.revoke_security_group_ingress().group_id(group.as_str()).set_security_group_rule_ids(ids);
                call.send().await.map_err(Failure::from_sdk("revoke the ingress rules of", &group))?;
            }
        }
        // The answer may say `true` for rules it did not know. Only what is read is believed.
        if self.rules(cx, &group).await?.is_empty() { Ok(Set::Done) } else { Err(not_empty("rules are left")) }
    }
}

impl EmptyGroup {
    async fn group(&self, cx: &Context<'_>) -> Result<GroupId, Failure> {
        match &self.group {
            Some(group) => Ok(group.clone()),
            None => super::group_made_by_run(cx, &self.vpc, self.purpose).await,
        }
    }

    async fn rules(&self, cx: &Context<'_>, group: &GroupId) -> Result<Rules, Failure> {
        let found = rules_of(cx.aws, std::slice::from_ref(group)).await?;
        Ok(in_words(&found, group, self.direction))
    }
}

/// Every rule of these groups, in both directions.
pub async fn rules_of(aws: &Aws, groups: &[GroupId]) -> Result<Vec<SecurityGroupRule>, Failure> {
    let mut found = Vec::new();
    for filter in super::group_filters(groups) {
        let call = aws.ec2().describe_security_group_rules().filters(filter).max_results(1000);
        let page = call.into_paginator().items().send().try_collect().await;
        found.extend(page.map_err(Failure::from_sdk("describe the rules of our groups in", &aws.region))?);
    }
    Ok(found)
}

/// The rules of one group and direction, by id. Descriptions are left out: anybody may have written them.
pub fn in_words(rules: &[SecurityGroupRule], group: &GroupId, direction: Direction) -> Rules {
    rules
        .iter()
        .filter(|rule| rule.group_id() == Some(group.as_str()))
        .filter(|rule| rule.is_egress() == Some(direction == Direction::Egress))
        .filter_map(|rule| Some((rule.security_group_rule_id()?.to_owned(), words(rule, direction))))
        .collect()
}

fn words(rule: &SecurityGroupRule, direction: Direction) -> String {
    let traffic = match rule.ip_protocol().unwrap_or("-1") {
        "-1" => "all traffic".to_owned(),
        protocol => match (rule.from_port(), rule.to_port()) {
            (Some(from), Some(to)) if from == to => format!("{} {from}", plain(protocol, 16)),
            (Some(from), Some(to)) => format!("{} {from}-{to}", plain(protocol, 16)),
            _ => plain(protocol, 16),
        },
    };
    let peer = [
        rule.cidr_ipv4(),
        rule.cidr_ipv6(),
        rule.prefix_list_id(),
        rule.referenced_group_info().and_then(|group| group.group_id()),
    ];
    let peer = peer.into_iter().flatten().next().map_or_else(|| "somewhere".to_owned(), |peer| plain(peer, 64));
    match direction {
        Direction::Egress => format!("{traffic} to {peer}"),
        Direction::Ingress => format!("{traffic} from {peer}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_by_group_and_direction_without_their_descriptions() {
        let group: GroupId = "sg-00000001".parse().unwrap();
        let rule = |id: &str| {
            SecurityGroupRule::builder().security_group_rule_id(id).group_id("sg-00000001").description("<b>hi</b>")
        };
        let rules = [
            rule("sgr-1").is_egress(true).ip_protocol("-1").cidr_ipv4("0.0.0.0/0").build(),
            rule("sgr-2").is_egress(true).ip_protocol("-1").cidr_ipv6("::/0").build(),
            rule("sgr-3").is_egress(false).ip_protocol("tcp").from_port(22).to_port(22).prefix_list_id("pl-1").build(),
            rule("sgr-4").is_egress(false).ip_protocol("udp").from_port(1).to_port(9).build(),
            rule("sgr-5").group_id("sg-00000002").is_egress(true).ip_protocol("-1").build(),
        ];
        let words = |direction| in_words(&rules, &group, direction).into_values().collect::<Vec<_>>();
        assert_eq!(words(Direction::Egress), ["all traffic to 0.0.0.0/0", "all traffic to ::/0"]);
        assert_eq!(words(Direction::Ingress), ["tcp 22 from pl-1", "udp 1-9 from somewhere"]);
    }
}
