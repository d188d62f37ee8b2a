//! # Close a port that is open to everywhere
//!
//! ## What it answers
//!
//! Controls and rules that say that a security group lets everywhere (`0.0.0.0/0`, `::/0`) in to ports where that is not
//! meant: SSH (EC2.13), remote desktop (EC2.14), ports of high risk (EC2.19, `restricted-common-ports`), any port but the
//! authorized ones (EC2.18).
//!
//! ## What it does
//!
//! Takes the ports in question, and no others, away from everywhere, and from nowhere else. Where something uses the group, a
//! person is asked first about all but SSH and remote desktop: another port may be a service to the public. A rule about more ports is
//! replaced by rules about those that stay: these are added first, so that nothing that stays is closed for a moment. Rules
//! for other addresses, groups and prefix lists are not touched.
//!
//! ## What may break
//!
//! Whoever comes to these ports from an address that no other rule lets in. Of a rule for all traffic only TCP, UDP and ICMP
//! stay.
//!
//! ## How it is undone
//!
//! The rules are added again as they were, with their descriptions; their ids and tags are new. The rules that were added
//! are taken away.
//! Whoever undoes it is not overruled: when the control is reported again, a person is asked.
//!
//! ## What it will not touch
//!
//! Connections that are open already; rules that let nearly everywhere in (`0.0.0.0/1`), which no control looks at: they are
//! told.
//!
//! ## Drill
//!
//! `cargo drill -- open-port`
//!
//! ## References
//!
//! - <https://docs.aws.amazon.com/securityhub/latest/userguide/ec2-controls.html>
//! - <https://docs.aws.amazon.com/config/latest/developerguide/restricted-common-ports.html>
//! - <https://docs.aws.amazon.com/vpc/latest/userguide/security-group-rules.html>

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{SecurityGroup, SecurityGroupRule};
use firebreak::action::{Action, AnyAction, Of};
use firebreak::actions::ec2::empty_group::rules_of;
use firebreak::actions::ec2::open_group::EVERYWHERE;
use firebreak::actions::ec2::set_ingress_rule::{Entry, Rule, SetIngressRule};
use firebreak::actions::ec2::{filter, groups_there};
use firebreak::aws::Aws;
use firebreak::failure::Failure;
use firebreak::finding::{Check, Control, Finding, Resource, ResourceId};
use firebreak::ids::GroupId;
use firebreak::permission::Permission;
use firebreak::plan::{Plan, Step};
use firebreak::playbook::{Meta, PlanContext, Planned, Purpose};
use firebreak::target::{Target, TargetKind};

use crate::fix::{Fix, id_of};

/// Closes ports of a security group to everywhere.
#[derive(Debug)]
pub struct CloseIngress;

const SSH: Check = Check {
    control: Some("EC2.13"),
    also: &["cis-aws-foundations-benchmark/v/1.2.0/4.1", "PCI.EC2.5"],
    rule: Some(("INCOMING_SSH_DISABLED", "restricted-ssh")),
};
const RDP: Check = Check { control: Some("EC2.14"), also: &["cis-aws-foundations-benchmark/v/1.2.0/4.2"], rule: None };
const UNAUTHORIZED: Check = Check { control: Some("EC2.18"), also: &[], rule: None };
const HIGH_RISK: Check = Check { control: Some("EC2.19"), also: &[], rule: None };
const COMMON: Check =
    Check { control: None, also: &[], rule: Some(("RESTRICTED_INCOMING_TRAFFIC", "restricted-common-ports")) };

/// The ports of EC2.19, which cannot be chosen.
const HIGH_RISK_PORTS: &[u16] = &[
    20, 21, 22, 23, 25, 110, 135, 143, 445, 1433, 1434, 3000, 3306, 3389, 4333, 5000, 5432, 5500, 5601, 8080, 8088,
    8888, 9200, 9300,
];

/// The ports of `restricted-common-ports` where none are chosen.
const COMMON_PORTS: &[u16] = &[20, 21, 3306, 3389, 4333];

/// What EC2.18 authorizes where nothing else was chosen in Security Hub.
const AUTHORIZED: &[u16] = &[80, 443];

/// How many rules a group can have in one direction for each family of addresses, unless AWS was asked for more.
/// <https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html#vpc-limits-security-groups>
const MOST_RULES: usize = 60;

impl Fix for CloseIngress {
    const META: Meta = Meta {
        id: "close-ingress",
        title: "Close ports of a security group that are open to everywhere",
        purpose: Purpose::Fix,
        kinds: &[TargetKind::Ec2SecurityGroup],
        hold: "close-ingress",
        rechecks: &[],
        triggers: &[],
        controls: &[SSH, RDP, UNAUTHORIZED, HIGH_RISK, COMMON],
        concerns: &[],
        reads: &[Permission::read("config:DescribeConfigRules"), Permission::read("ec2:DescribeNetworkInterfaces")],
    };
    const ACTIONS: &'static [&'static dyn AnyAction] = &[&Of::<SetIngressRule>::NEW];

    fn target(resource: &Resource, _: &Finding) -> Option<Target> {
        match (&resource.id, &resource.region) {
            (ResourceId::SecurityGroup(id), Some(region)) => {
                Some(Target::security_group(resource.account.clone(), region.clone(), id.clone()))
            }
            _ => None,
        }
    }

    async fn plan(
        cx: &PlanContext<'_>,
        target: &Target,
        finding: &Finding,
        check: &'static Check,
    ) -> Result<Planned, Failure> {
        let group: GroupId = id_of(target)?;
        let closes = match Closes::of(check, finding.control.as_ref()) {
            Ok(closes) => closes,
            Err(why) => return Ok(Planned::Refused(why)),
        };
        let one = std::slice::from_ref(&group);
        let (there, rules, used) =
            tokio::join!(groups_there(cx.aws, one), rules_of(cx.aws, one), cx.optional(users_of(cx.aws, &group)));
        if cx.groups.iter().any(|known| known.id == group) {
            return Ok(Planned::Refused(format!("security group {group} is Firebreak's own")));
        }
        let Some(there) = there?.into_iter().next() else {
            return Ok(Planned::Gone(format!("there is no security group {group}")));
        };
        if there.owner_id() != Some(target.account.as_str()) {
            return Ok(Planned::Refused(format!(
                "security group {group} belongs to another account, which shares its VPC"
            )));
        }
        let mut planned = planned(target, &group, &there, &rules?, used.clone(), &closes);
        // SSH and remote desktop are nobody's service to the world; another port may be.
        if let (Planned::Plan(plan), Some("EC2.18" | "EC2.19") | None) = (&mut planned, check.control)
            && !plan.is_empty()
            && used != Ok(0)
        {
            let by = used.map_or_else(
                |why| format!("it is not known by what: {why}"),
                |count| format!("by {count} network interfaces"),
            );
            plan.ask_first.push(format!("{group} is in use ({by}), and what is closed may be a service to the public"));
        }
        Ok(planned)
    }
}

/// Which ports are to be closed to everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Closes {
    tcp: Ports,
    udp: Ports,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Ports {
    /// These.
    Only(BTreeSet<u16>),
    /// All but these.
    AllBut(BTreeSet<u16>),
}

impl Ports {
    fn closes(&self, port: u16) -> bool {
        match self {
            Self::Only(ports) => ports.contains(&port),
            Self::AllBut(ports) => !ports.contains(&port),
        }
    }
}

impl Closes {
    fn of(check: &Check, control: Option<&Control>) -> Result<Self, String> {
        let only = |ports: &[u16]| Ports::Only(ports.iter().copied().collect());
        let tcp = |ports: &[u16]| Ok(Self { tcp: only(ports), udp: only(&[]) });
        match (check.control, check.rule) {
            (Some("EC2.13"), _) => tcp(&[22]),
            (Some("EC2.14"), _) => tcp(&[3389]),
            // What is of high risk by TCP is not wanted by UDP either, and the control does not say which it found.
            (Some("EC2.19"), _) => Ok(Self { tcp: only(HIGH_RISK_PORTS), udp: only(HIGH_RISK_PORTS) }),
            (Some("EC2.18"), _) => {
                let tcp = authorized(control, "authorizedTcpPorts", AUTHORIZED)?;
                let udp = authorized(control, "authorizedUdpPorts", &[])?;
                Ok(Self { tcp: Ports::AllBut(tcp), udp: Ports::AllBut(udp) })
            }
            _ => tcp(&common(control)?),
        }
    }

    /// Of one protocol's ports from one to another those that stay, as few ranges as they make.
    fn kept(ports: &Ports, from: u16, to: u16) -> Vec<(u16, u16)> {
        let mut kept: Vec<(u16, u16)> = Vec::new();
        for port in (from..=to).filter(|port| !ports.closes(*port)) {
            match kept.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(port) => *last = port,
                _ => kept.push((port, port)),
            }
        }
        kept
    }

    /// What stays of a rule; nothing where all of it does.
    fn rest(&self, rule: &Rule) -> Option<Vec<Rule>> {
        let all = (0, u16::MAX);
        let rest = |protocol: &str, ports: &Ports, (from, to): (u16, u16)| {
            let rule = |(from, to): (u16, u16)| Rule {
                protocol: protocol.to_owned(),
                ports: Some((from.into(), to.into())),
                cidr: rule.cidr.clone(),
            };
            Self::kept(ports, from, to).into_iter().map(rule).collect::<Vec<_>>()
        };
        let ports = |ports: Option<(i32, i32)>| match ports {
            Some((from, to)) => Some((u16::try_from(from).ok()?, u16::try_from(to).ok()?)),
            None => Some(all),
        };
        let (one, closing) = match rule.protocol.as_str() {
            "tcp" | "6" => ("tcp", &self.tcp),
            "udp" | "17" => ("udp", &self.udp),
            "-1" => {
                let icmp = if rule.cidr.contains(':') { "icmpv6" } else { "icmp" };
                let icmp = Rule { protocol: icmp.to_owned(), ports: None, cidr: rule.cidr.clone() };
                let tcp = rest("tcp", &self.tcp, all);
                return Some(tcp.into_iter().chain(rest("udp", &self.udp, all)).chain([icmp]).collect());
            }
            _ => return None,
        };
        let range = ports(rule.ports)?;
        let rest = rest(one, closing, range);
        let whole = [(i32::from(range.0), i32::from(range.1))];
        let unchanged = rest.iter().filter_map(|rule| rule.ports).eq(whole);
        (!unchanged).then_some(rest)
    }

    /// Whether a rule lets anybody in to what is to be closed.
    fn concerns(&self, rule: &Rule) -> bool {
        self.rest(rule).is_some()
    }
}

/// The ports of `restricted-common-ports`: those that it was given, which must be among AWS's own.
fn common(control: Option<&Control>) -> Result<Vec<u16>, String> {
    let given = control.into_iter().flat_map(|control| &control.parameters);
    let given: Vec<&String> =
        given.filter(|(name, _)| name.starts_with("blockedPort")).flat_map(|(_, values)| values).collect();
    if given.is_empty() {
        return Ok(COMMON_PORTS.to_vec());
    }
    let known = |text: &&String| text.trim().parse().ok().filter(|port| COMMON_PORTS.contains(port));
    given.iter().map(known).collect::<Option<_>>().ok_or_else(|| {
        "the rule was given other ports than AWS's own, by whoever put it there: a person must say whether to close them".to_owned()
    })
}

/// The ports that Security Hub was told to authorize.
fn authorized(control: Option<&Control>, name: &str, default: &[u16]) -> Result<BTreeSet<u16>, String> {
    let Some(chosen) = control.and_then(|control| control.parameters.get(name)) else {
        return Ok(default.iter().copied().collect());
    };
    let read = |text: &String| text.trim().parse::<u16>();
    chosen
        .iter()
        .map(read)
        .collect::<Result<_, _>>()
        .map_err(|_| format!("what Security Hub authorizes by `{name}` cannot be read: nothing is closed on a guess"))
}

/// How many network interfaces are in a group.
async fn users_of(aws: &Aws, group: &GroupId) -> Result<usize, Failure> {
    let call = aws.ec2().describe_network_interfaces().filters(filter("group-id", group.as_str())).max_results(1000);
    let found: Result<Vec<_>, _> = call.into_paginator().items().send().try_collect().await;
    Ok(found.map_err(Failure::from_sdk("find what is in security group", group))?.len())
}

fn planned(
    target: &Target,
    group: &GroupId,
    there: &SecurityGroup,
    rules: &[SecurityGroupRule],
    used: Result<usize, String>,
    closes: &Closes,
) -> Planned {
    let mut plan = Plan::new(CloseIngress::META.id, target.clone());
    plan.tags = there
        .tags()
        .iter()
        .filter_map(|tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned())))
        .collect();
    let inward: BTreeMap<Rule, Entry> = rules
        .iter()
        .filter(|rule| rule.is_egress() == Some(false))
        .filter_map(|rule| Some((Rule::of(rule)?, Entry::Present(rule.description().map(str::to_owned)))))
        .collect();
    let everywhere = |rule: &Rule| EVERYWHERE.contains(&rule.cidr.as_str());
    let set = |rule: &Rule, wanted: Entry, instead_of: Option<&Rule>| SetIngressRule {
        group: group.clone(),
        rule: rule.clone(),
        wanted,
        instead_of: instead_of.cloned(),
    };
    let (mut keep, mut close): (BTreeMap<Rule, Step>, Vec<Step>) = (BTreeMap::new(), Vec::new());
    for (rule, before) in inward.iter().filter(|(rule, _)| everywhere(rule)) {
        let Some(rest) = closes.rest(rule) else { continue };
        // What stays must be there before the rule goes, and is not added where it is there already.
        let missing: Vec<Rule> = rest.into_iter().filter(|part| !inward.contains_key(part)).collect();
        let added = missing.iter().map(|part| {
            let step = set(part, before.clone(), Some(rule)).step(&Entry::Absent);
            (part.clone(), Step { cuts: false, ..step })
        });
        keep.extend(added);
        let needs: Vec<_> = missing.iter().filter_map(|part| keep.get(part)).map(|step| step.id.clone()).collect();
        close.push(set(rule, Entry::Absent, None).step(before).needing(needs));
        if rule.protocol == "-1" {
            plan.notes
                .push(format!("of `{rule}` only TCP, UDP and ICMP stay: other protocols are closed to everywhere"));
        }
    }
    for family in [':', '.'] {
        let of_family = |rule: &&Rule| rule.cidr.contains(family);
        let count = inward.keys().filter(of_family).count() + keep.keys().filter(of_family).count();
        if count > MOST_RULES && keep.keys().any(|rule| rule.cidr.contains(family)) {
            return Planned::Refused(format!(
                "what stays open of {group} would take {count} rules, and a group can have {MOST_RULES}: which of it is \
                 used, a person must say"
            ));
        }
    }
    if !close.is_empty() {
        plan.remains.push(
            "connections that are open already may go on: changed rules do not end those that are tracked".to_owned(),
        );
        match used {
            Ok(count) => plan.notes.push(format!("{count} network interfaces are in {group}")),
            Err(why) => plan.remains.push(format!("what is in {group}, and may be cut off, is not known: {why}")),
        }
    }
    for rule in inward.keys().filter(|rule| !everywhere(rule) && is_wide(&rule.cidr) && closes.concerns(rule)) {
        plan.remains.push(format!("{rule} is let in, which is nearly everywhere: no control looks at it"));
    }
    plan.stage("keep", keep.into_values());
    plan.stage("close", close);
    Planned::Plan(plan)
}

/// Whether a range of addresses is a large part of all there are.
fn is_wide(cidr: &str) -> bool {
    let most = if cidr.contains(':') { 16 } else { 8 };
    cidr.rsplit_once('/').and_then(|(_, length)| length.parse::<u8>().ok()).is_some_and(|length| length < most)
}

#[cfg(test)]
mod tests;
