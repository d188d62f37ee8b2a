//! Adds one rule to the ingress of a security group, or takes one away: a rule is a protocol, its ports and one range of
//! addresses, and a group has each at most once.
//!
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RevokeSecurityGroupIngress.html>
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AuthorizeSecurityGroupIngress.html>

use aws_sdk_ec2::types::{IpPermission, IpRange, Ipv6Range, SecurityGroupRule};
use serde::{Deserialize, Serialize};

use super::empty_group::rules_of;
use crate::action::{Action, Context, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::{Failure, gone_is_none};
use crate::ids::GroupId;
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Undo};
use crate::text::plain;

/// Leaves a rule in the ingress of a group, or leaves it without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetIngressRule {
    /// The group.
    pub group: GroupId,
    /// The rule.
    pub rule: Rule,
    /// What it is to be.
    pub wanted: Entry,
}

/// A rule of a group's ingress, by what it lets in from where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// `tcp`, `udp`, `icmp`, `icmpv6`, the number of another protocol, or `-1` for all traffic.
    pub protocol: String,
    /// The first port and the last, of protocols that have ports; of ICMP the type and the code. Absent where the rule is
    /// about all.
    pub ports: Option<(i32, i32)>,
    /// Where from: a range of IPv4 or IPv6 addresses.
    pub cidr: String,
}

/// Whether a group has a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// It does not.
    Absent,
    /// It does, with this description.
    Present(Option<String>),
}

impl Rule {
    /// The rule as EC2 describes it; nothing where it is about another group or a prefix list.
    pub fn of(rule: &SecurityGroupRule) -> Option<Self> {
        let cidr = rule.cidr_ipv4().or(rule.cidr_ipv6())?.to_owned();
        let protocol = rule.ip_protocol()?.to_owned();
        let ports = rule.from_port().zip(rule.to_port()).filter(|_| protocol != "-1");
        // All ports are written so.
        Some(Self { ports: ports.filter(|ports| *ports != (-1, -1)), protocol, cidr })
    }

    fn permission(&self, description: Option<&str>) -> IpPermission {
        let description = description.map(str::to_owned);
        let made = IpPermission::builder().ip_protocol(&self.protocol);
        let made = match (self.ports, self.protocol.as_str()) {
            (Some((from, to)), _) => made.from_port(from).to_port(to),
            (None, "tcp" | "udp" | "icmp" | "icmpv6") => made.from_port(-1).to_port(-1),
            (None, _) => made,
        };
        match self.cidr.contains(':') {
            true => {
                made.ipv6_ranges(Ipv6Range::builder().cidr_ipv6(&self.cidr).set_description(description).build())
            }
            false => made.ip_ranges(IpRange::builder().cidr_ip(&self.cidr).set_description(description).build()),
        }
        .build()
    }
}

/// As in `tcp 22 from 0.0.0.0/0`.
impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.protocol.as_str() {
            "-1" => f.write_str("all traffic")?,
            protocol => f.write_str(&plain(protocol, 16))?,
        }
        match self.ports {
            Some((from, to)) if from == to => write!(f, " {from}")?,
            Some((from, to)) => write!(f, " {from}-{to}")?,
            None => {}
        }
        write!(f, " from {}", plain(&self.cidr, 64))
    }
}

impl Entry {
    fn words(&self) -> &'static str {
        match self {
            Self::Absent => "not allowed",
            Self::Present(_) => "allowed",
        }
    }
}

impl Action for SetIngressRule {
    const NAME: &'static str = "ec2.set-ingress-rule";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::read("ec2:DescribeSecurityGroups"),
        Permission::read("ec2:DescribeSecurityGroupRules"),
        Permission::on("ec2:AuthorizeSecurityGroupIngress", &["ec2:*:*:security-group/*"]),
        Permission::on("ec2:RevokeSecurityGroupIngress", &["ec2:*:*:security-group/*"]),
    ];
    const UNDO: Undo =
        Undo::Equivalent { differs: "the rule's id and tags", why: "EC2 makes a new rule where one is added again" };
    /// What a finding about an open port is about.
    const CUTS: bool = true;
    type State = Entry;

    fn subject(&self) -> String {
        format!("{} {}", self.group, self.rule)
    }

    fn change(&self, before: &Self::State) -> Change {
        Change {
            what: format!("{} into {}", self.rule, self.group),
            from: before.words().to_owned(),
            to: self.wanted.words().to_owned(),
        }
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        let group = aws.arn("ec2", &format!("security-group/{}", self.group));
        ["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"]
            .map(|action| Grant::new(action, [group.clone()]))
            .into()
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        let groups = cx.aws.ec2().describe_security_groups().group_ids(self.group.as_str()).send();
        let (there, rules) = tokio::join!(groups, rules_of(cx.aws, std::slice::from_ref(&self.group)));
        let there = gone_is_none(there.map_err(Failure::from_sdk("describe security group", &self.group)))?;
        if there.is_none() {
            return Ok(None);
        }
        let rules = rules?;
        let inward = rules.iter().filter(|rule| rule.is_egress() == Some(false));
        let mut same = inward.filter(|rule| Rule::of(rule).as_ref() == Some(&self.rule));
        let described = |rule: &SecurityGroupRule| Entry::Present(rule.description().map(str::to_owned));
        Ok(Some(same.next().map_or(Entry::Absent, described)))
    }

    async fn wanted(&self, _cx: &Context<'_>, _before: &Self::State) -> Result<Self::State, Failure> {
        Ok(self.wanted.clone())
    }

    async fn set(&self, cx: &Context<'_>, _from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        let (ec2, group) = (cx.aws.ec2(), self.group.as_str());
        match to {
            Entry::Absent => {
                let call = ec2.revoke_security_group_ingress().group_id(group).ip_permissions(self.rule.permission(None));
                call.send().await.map_err(Failure::from_sdk("revoke a rule of", &self.group))?;
            }
            Entry::Present(description) => {
                let rule = self.rule.permission(description.as_deref());
                let call = ec2.authorize_security_group_ingress().group_id(group).ip_permissions(rule);
                call.send().await.map_err(Failure::from_sdk("add a rule to", &self.group))?;
            }
        }
        Ok(Set::Done)
    }

    /// What it is described by is for people.
    fn satisfied(&self, now: &Self::State, wanted: &Self::State) -> bool {
        matches!((now, wanted), (Entry::Absent, Entry::Absent) | (Entry::Present(_), Entry::Present(_)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_rule_is_read_and_written_the_same() {
        let described = |protocol: &str, ports: Option<(i32, i32)>, cidr: &str| {
            let made = SecurityGroupRule::builder().ip_protocol(protocol).is_egress(false);
            let made = match ports {
                Some((from, to)) => made.from_port(from).to_port(to),
                None => made,
            };
            match cidr.contains(':') {
                true => made.cidr_ipv6(cidr).build(),
                false => made.cidr_ipv4(cidr).build(),
            }
        };
        for (protocol, ports, cidr, words) in [
            ("tcp", Some((22, 22)), "0.0.0.0/0", "tcp 22 from 0.0.0.0/0"),
            ("tcp", Some((0, 65535)), "::/0", "tcp 0-65535 from ::/0"),
            ("icmp", Some((-1, -1)), "0.0.0.0/0", "icmp from 0.0.0.0/0"),
            ("-1", Some((-1, -1)), "0.0.0.0/0", "all traffic from 0.0.0.0/0"),
            ("-1", None, "::/0", "all traffic from ::/0"),
            ("47", Some((-1, -1)), "10.0.0.0/8", "47 from 10.0.0.0/8"),
        ] {
            let rule = Rule::of(&described(protocol, ports, cidr)).unwrap();
            assert_eq!(rule.to_string(), words);
            let written = rule.permission(Some("why"));
            assert_eq!(written.ip_protocol(), Some(protocol));
            let everywhere = written.ip_ranges().first().and_then(|range| range.cidr_ip());
            assert_eq!(everywhere.or(written.ipv6_ranges().first().and_then(|range| range.cidr_ipv6())), Some(cidr));
        }
        let other = SecurityGroupRule::builder().ip_protocol("tcp").prefix_list_id("pl-1").build();
        assert_eq!(Rule::of(&other), None);
    }
}
