//! Makes the steps of `isolate-instance` of what was read; calls nothing.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{InstanceLifecycleType, InstanceStateName, NetworkInterface, NetworkInterfaceType};
use firebreak::action::{Action, GroupPurpose, KnownGroup};
use firebreak::actions::autoscaling::detach_instance::{DetachInstance, group_of};
use firebreak::actions::ec2::close_interface::CloseInterface;
use firebreak::actions::ec2::create_group::CreateGroup;
use firebreak::actions::ec2::disassociate_address::{DisassociateAddress, Mapping, mapping_of};
use firebreak::actions::ec2::empty_group::{Direction, EmptyGroup, Rules, in_words};
use firebreak::actions::ec2::keep_volumes::{KeepVolumes, volumes_of};
use firebreak::actions::ec2::open_group::{EVERYWHERE, OpenGroup};
use firebreak::actions::ec2::open_interface::OpenInterface;
use firebreak::actions::ec2::remove_public_address::{RemovePublicAddress, has_assigned_address};
use firebreak::actions::ec2::replace_instance_profile::{NO_ACCESS_PROFILE, ReplaceInstanceProfile};
use firebreak::actions::ec2::replace_interface_groups::{ReplaceInterfaceGroups, groups_of};
use firebreak::actions::ec2::set_instance_attribute::{Protection, SetInstanceAttribute};
use firebreak::actions::ec2::tighten_connection_tracking::{SHORTEST, TightenConnectionTracking, Timeouts};
use firebreak::actions::ec2::why_lost;
use firebreak::actions::elasticloadbalancing::deregister_instance::{DeregisterInstance, has_instance};
use firebreak::actions::elasticloadbalancing::deregister_targets::{DeregisterTargets, registered};
use firebreak::ids::{AllocationId, GroupId, InstanceId, InterfaceId, VpcId};
use firebreak::plan::{Leave, Plan, Step, StepId};
use firebreak::playbook::PlanContext;
use firebreak::target::Target;
use firebreak::text::{plain, quoted};

use crate::reads::{self, Facts};

/// Makes a plan of facts; calls nothing.
pub(super) struct Planner<'a> {
    pub(super) cx: &'a PlanContext<'a>,
    pub(super) id: &'a InstanceId,
    pub(super) facts: &'a Facts,
    /// Our groups, wherever they have something in them: those that AWS does not say are elsewhere or somebody else's.
    /// What AWS does not show is among them: it may be too new, and it is not gone while an interface is in it.
    pub(super) ours: Vec<KnownGroup>,
    /// Those of them that an interface can be moved into: AWS shows them.
    pub(super) usable: Vec<KnownGroup>,
    pub(super) interfaces: Vec<Interface<'a>>,
    pub(super) plan: Plan,
}

/// A network interface, checked.
pub(super) struct Interface<'a> {
    pub(super) id: InterfaceId,
    pub(super) vpc: VpcId,
    pub(super) groups: BTreeSet<GroupId>,
    pub(super) seen: &'a NetworkInterface,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        cx: &'a PlanContext<'a>,
        playbook: &str,
        target: &Target,
        id: &'a InstanceId,
        facts: &'a Facts,
    ) -> Self {
        let mut plan = Plan::new(playbook, target.clone());
        plan.tags = reads::tags(&facts.instance);
        let mut interfaces = Vec::new();
        for seen in &facts.interfaces {
            match Interface::of(seen) {
                Some(interface) => interfaces.push(interface),
                None => plan.remains.push(format!(
                    "network interface {} could not be understood and is not cut",
                    quoted(seen.network_interface_id().unwrap_or_default())
                )),
            }
        }
        interfaces.sort_by(|a, b| a.id.cmp(&b.id));
        let (ours, usable) = still_ours(cx, facts);
        Self { cx, id, facts, ours, usable, interfaces, plan }
    }

    /// Steps that keep the instance and its volumes.
    pub(super) fn protect(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        let spot = self.facts.instance.instance_lifecycle() == Some(&InstanceLifecycleType::Spot);
        if spot {
            self.plan.notes.push("a Spot instance cannot have termination protection".to_owned());
            self.plan.remains.push("AWS may interrupt the Spot instance and terminate it at any time".to_owned());
        }
        for (attribute, value) in &self.facts.attributes {
            let action = SetInstanceAttribute { instance: self.id.clone(), attribute: *attribute };
            match value {
                _ if spot && *attribute == Protection::DisableApiTermination => {}
                Ok(value) if value == attribute.wanted() => {}
                Ok(value) => steps.push(action.step(value)),
                Err(why) => missed(&mut self.plan, attribute.words(), why),
            }
        }
        let mut volumes = volumes_of(&self.facts.instance);
        volumes.retain(|_, at| at.delete_on_termination);
        if !volumes.is_empty() {
            let which = volumes.keys().cloned().collect();
            steps.push(KeepVolumes { instance: self.id.clone(), volumes: which }.step(&volumes));
        }
        match &self.facts.member {
            Err(why) => missed(&mut self.plan, "the Auto Scaling group, which may terminate the instance,", why),
            Ok(None) => {}
            Ok(Some(member)) => {
                if let Some(group) = group_of(member) {
                    if member.protected_from_scale_in() == Some(true) {
                        let group = quoted(&group);
                        self.plan
                            .notes
                            .push(format!("it had scale-in protection in {group}; undo does not restore that"));
                    }
                    steps.push(DetachInstance { instance: self.id.clone() }.step(&Some(group)));
                }
            }
        }
        steps
    }

    /// Steps that leave every quarantine group that is used, or will be, without rules. What is moved into a group
    /// with rules is not cut, so these cut as well.
    pub(super) fn empty_quarantine(&mut self, to_cut: &BTreeSet<InterfaceId>, new: &BTreeSet<VpcId>) -> Vec<Step> {
        let mut steps = Vec::new();
        let purpose = GroupPurpose::Quarantine;
        for vpc in new {
            let action = EmptyGroup { vpc: vpc.clone(), group: None, purpose, direction: Direction::Egress };
            steps.push(action.step(&None).needing([making(vpc, purpose)]));
        }
        let used = |known: &&KnownGroup| {
            self.interfaces.iter().any(|interface| {
                let will = to_cut.contains(&interface.id) && self.group(&interface.vpc, purpose) == Some(&known.id);
                will || interface.groups.contains(&known.id)
            })
        };
        for known in self.ours.iter().filter(|known| known.purpose == purpose).filter(used) {
            steps.extend(self.empty(known));
        }
        for step in &mut steps {
            step.cuts = true;
        }
        if let Err(why) = &self.facts.rules {
            self.plan.incomplete = true;
            self.plan.notes.push(format!("the rules of the quarantine group are revoked unseen: {why}"));
        }
        steps
    }

    /// Steps that empty one of our groups, where it is not empty.
    fn empty(&self, known: &KnownGroup) -> Vec<Step> {
        let step = |direction| {
            let action =
                EmptyGroup { vpc: known.vpc.clone(), group: Some(known.id.clone()), purpose: known.purpose, direction };
            match &self.facts.rules {
                Err(_) => Some(action.step(&None)),
                Ok(rules) => {
                    let rules: Rules = in_words(rules, &known.id, direction);
                    (!rules.is_empty()).then(|| action.step(&Some(rules)))
                }
            }
        };
        Direction::BOTH.into_iter().filter_map(step).collect()
    }

    /// Steps that cut.
    pub(super) fn cut(&mut self, to_cut: &BTreeSet<InterfaceId>) -> Vec<Step> {
        let mut steps = Vec::new();
        let (mappings, unknown) = self.elastic_addresses();
        for (allocation, mapping) in mappings {
            steps.push(DisassociateAddress { allocation }.step(&Some(mapping)));
        }
        self.plan.remains.extend(unknown);
        for interface in &self.interfaces {
            if has_assigned_address(interface.seen) {
                steps.push(RemovePublicAddress { interface: interface.id.clone() }.step(&true));
            }
        }
        for interface in self.interfaces.iter().filter(|interface| to_cut.contains(&interface.id)) {
            let quarantine = self.group(&interface.vpc, GroupPurpose::Quarantine).cloned();
            let needs = quarantine.is_none().then(|| making(&interface.vpc, GroupPurpose::Quarantine));
            let (id, vpc) = (interface.id.clone(), interface.vpc.clone());
            let step = if self.is_in(interface, GroupPurpose::Flush) {
                // A flush that was left open. To close it takes no leave, and undo must not open it again.
                let close = CloseInterface { interface: id, vpc, quarantine };
                Step { leave: None, cuts: true, ..close.step(&interface.groups) }
            } else {
                ReplaceInterfaceGroups { interface: id, vpc, quarantine }.step(&interface.groups)
            };
            steps.push(step.needing(needs));
        }
        steps
    }

    /// Elastic IP addresses by allocation, and what to say of those that could not be understood.
    fn elastic_addresses(&self) -> (BTreeMap<AllocationId, Mapping>, Vec<String>) {
        let mut found = BTreeMap::new();
        let mut unknown = Vec::new();
        for address in self.facts.addresses.iter().flatten() {
            match (address.allocation_id().and_then(|id| id.parse().ok()), mapping_of(address)) {
                (Some(allocation), Some(mapping)) => _ = found.insert(allocation, mapping),
                _ => unknown.push(format!(
                    "public address {} could not be understood and stays",
                    quoted(address.public_ip().unwrap_or_default())
                )),
            }
        }
        // What the interfaces say is read in any case, and enough when the addresses could not be read.
        for interface in &self.interfaces {
            let whole = (interface.seen.association(), interface.seen.private_ip_address());
            let each =
                interface.seen.private_ip_addresses().iter().map(|ip| (ip.association(), ip.private_ip_address()));
            for (association, private_ip) in each.chain([whole]) {
                let allocation = association.and_then(|a| a.allocation_id()).and_then(|id| id.parse().ok());
                if let Some(allocation) = allocation {
                    let private_ip = private_ip.map(str::to_owned);
                    found.entry(allocation).or_insert(Mapping { interface: interface.id.clone(), private_ip });
                }
            }
        }
        (found, unknown)
    }

    /// Steps beside the cut: load balancers and connection tracking.
    pub(super) fn withdraw(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        match &self.facts.target_groups {
            Err(why) => missed(&mut self.plan, "the target groups, where it may still be registered,", why),
            Ok(groups) => {
                for (group, arn, targets) in groups {
                    let there = |i: &&Interface<'_>| group.vpc_id() == Some(i.vpc.as_str());
                    let addresses: BTreeSet<String> =
                        self.interfaces.iter().filter(there).flat_map(addresses).collect();
                    let before = registered(targets, self.id, &addresses);
                    if !before.is_empty() {
                        let action =
                            DeregisterTargets { target_group: arn.clone(), instance: self.id.clone(), addresses };
                        steps.push(action.step(&before));
                    }
                }
            }
        }
        match &self.facts.balancers {
            Err(why) => missed(&mut self.plan, "the classic load balancers, where it may still be registered,", why),
            Ok(balancers) => {
                for balancer in balancers.iter().filter(|balancer| has_instance(balancer, self.id)) {
                    let Some(name) = balancer.load_balancer_name() else { continue };
                    let action = DeregisterInstance { load_balancer: name.to_owned(), instance: self.id.clone() };
                    steps.push(action.step(&true));
                }
            }
        }
        for interface in &self.interfaces {
            let timeouts = Timeouts::of(interface.seen);
            if timeouts != SHORTEST {
                steps.push(TightenConnectionTracking { interface: interface.id.clone() }.step(&timeouts));
            }
        }
        steps
    }

    pub(super) fn profile(&self) -> Option<Step> {
        let profile = self.profile_arn()?;
        let none = self.cx.aws.iam_arn(NO_ACCESS_PROFILE);
        let action = ReplaceInstanceProfile { instance: self.id.clone(), profile_arn: none.clone() };
        (profile != none).then(|| action.step(&profile))
    }

    fn profile_arn(&self) -> Option<String> {
        let described = || self.facts.instance.iam_instance_profile().and_then(|p| p.arn()).map(str::to_owned);
        self.facts.profile.clone().ok().flatten().or_else(described)
    }

    /// The stages in which interfaces that `cut` has cut are opened for an instant and closed again.
    pub(super) fn flush(&self, opens: &[&Interface<'_>], cut: &[Step]) -> Vec<(&'static str, Vec<Step>)> {
        let purpose = GroupPurpose::Flush;
        let vpcs: BTreeSet<&VpcId> = opens.iter().map(|interface| &interface.vpc).collect();
        let leave = |step: Step| Step { leave: Some(Leave::CutTrackedFlows), ..step };
        let (mut made, mut rules, mut open, mut close, mut tidy) = (vec![], vec![], vec![], vec![], vec![]);
        for vpc in vpcs {
            let group = self.group(vpc, purpose).cloned();
            let needs: Vec<StepId> = group.is_none().then(|| making(vpc, purpose)).into_iter().collect();
            if group.is_none() {
                made.push(leave(make(vpc, purpose)));
            }
            for direction in Direction::BOTH {
                let action = OpenGroup { vpc: vpc.clone(), group: group.clone(), direction };
                let allowed = self.allowed(group.as_ref(), direction);
                if allowed.len() < EVERYWHERE.len() {
                    rules.push(action.step(&allowed).needing(needs.clone()));
                }
                let action = EmptyGroup { vpc: vpc.clone(), group: group.clone(), purpose, direction };
                tidy.push(leave(action.step(&None)).needing(needs.clone()));
            }
        }
        for interface in opens {
            let (vpc, id) = (interface.vpc.clone(), interface.id.clone());
            let quarantine = self.group(&vpc, GroupPurpose::Quarantine).cloned();
            let flush = self.group(&vpc, purpose).cloned();
            let (closed, opened) =
                (quarantine.clone().into_iter().collect(), flush.clone().into_iter().collect::<BTreeSet<_>>());
            let needs: Vec<StepId> = made.iter().chain(&rules).chain(cut).map(|step| step.id.clone()).collect();
            let action =
                OpenInterface { interface: id.clone(), vpc: vpc.clone(), quarantine: quarantine.clone(), flush };
            open.push(action.step(&closed).needing(needs));
            // What was never made cannot be closed into, and nothing was opened without it.
            let made = quarantine.is_none().then(|| making(&vpc, GroupPurpose::Quarantine));
            close.push(CloseInterface { interface: id, vpc, quarantine }.step(&opened).needing(made));
        }
        if opens.is_empty() {
            // Left by a run that was cut short; whoever holds the account could use it.
            let here = |known: &&KnownGroup| {
                known.purpose == purpose && self.interfaces.iter().any(|interface| interface.vpc == known.vpc)
            };
            tidy = self.usable.iter().filter(here).flat_map(|known| self.empty(known)).collect();
        }
        vec![
            ("make the flush group", made),
            ("open the flush group", rules),
            ("open for an instant", open),
            ("close again", close),
            ("empty the flush group", tidy),
        ]
    }

    /// Which families a flush group allows everything in now. A new group allows all IPv4 egress.
    fn allowed(&self, group: Option<&GroupId>, direction: Direction) -> BTreeSet<String> {
        let Some(group) = group else {
            let egress = direction == Direction::Egress;
            return egress.then(|| EVERYWHERE[0].to_owned()).into_iter().collect();
        };
        let rules = self.facts.rules.iter().flatten();
        rules
            .filter(|rule| rule.group_id() == Some(group.as_str()) && rule.ip_protocol() == Some("-1"))
            .filter(|rule| rule.is_egress() == Some(direction == Direction::Egress))
            .filter_map(|rule| rule.cidr_ipv4().or(rule.cidr_ipv6()))
            .filter(|cidr| EVERYWHERE.contains(cidr))
            .map(str::to_owned)
            .collect()
    }

    /// The group of ours for a purpose in a VPC.
    pub(super) fn group(&self, vpc: &VpcId, purpose: GroupPurpose) -> Option<&GroupId> {
        KnownGroup::find(&self.usable, vpc, purpose)
    }

    /// Whether an interface has nothing but groups of ours, and at least one of them for this purpose. In
    /// quarantine it has none for another.
    pub(super) fn is_in(&self, interface: &Interface<'_>, purpose: GroupPurpose) -> bool {
        let of = |group: &GroupId| {
            self.ours.iter().find(|known| known.id == *group && known.vpc == interface.vpc).map(|known| known.purpose)
        };
        let purposes: Option<BTreeSet<GroupPurpose>> = interface.groups.iter().map(of).collect();
        purposes.is_some_and(|found| match purpose {
            GroupPurpose::Quarantine => found == BTreeSet::from([purpose]),
            GroupPurpose::Flush => found.contains(&purpose),
        })
    }

    /// What stays open when every step has succeeded.
    pub(super) fn say_what_remains(&mut self) {
        let profile = self.profile_arn();
        let remains = &mut self.plan.remains;
        if let Some(seconds) = self.interfaces.iter().map(|i| idle_seconds(i.seen, self.cx.run.is_some())).max() {
            remains.push(format!(
                "flows that were allowed before may survive up to {seconds} s without a packet (connection tracking), \
                 longer while they are used; those through NAT gateways, Network Load Balancers and the like are always \
                 tracked"
            ));
        }
        remains.push(
            "the VPC's DNS resolver, the metadata service and the serial console: no security group filters them"
                .to_owned(),
        );
        if let Some(profile) = profile {
            remains.push(format!(
                "sessions of the role in {}: credentials handed out before stay valid, also outside",
                plain(&profile, 128)
            ));
        }
        if let Err(why) = &self.facts.profile {
            missed(&mut self.plan, "the instance profile", why);
        }
        let remains = &mut self.plan.remains;
        for interface in &self.interfaces {
            if let Some(what) = beyond(interface.seen) {
                remains.push(format!("{}: {what}", interface.id));
            }
        }
        let secondary = self.facts.instance.secondary_interfaces().len();
        if secondary > 0 {
            remains.push(format!("{secondary} interfaces on secondary networks, which have no security groups"));
        }
        let has_ipv6 = |i: &Interface<'_>| !i.seen.ipv6_addresses().is_empty() || !i.seen.ipv6_prefixes().is_empty();
        if self.interfaces.iter().any(has_ipv6) {
            self.plan.notes.push("IPv6 addresses stay assigned; the empty group is what cuts them".to_owned());
        }
        if self.facts.instance.state().and_then(|state| state.name()) != Some(&InstanceStateName::Running) {
            self.plan.notes.push("the instance is not running; it is isolated all the same".to_owned());
        }
        if self.interfaces.is_empty() {
            self.plan.notes.push("it has no network interface".to_owned());
        }
    }
}

impl<'a> Interface<'a> {
    fn of(seen: &'a NetworkInterface) -> Option<Self> {
        Some(Self {
            id: seen.network_interface_id()?.parse().ok()?,
            vpc: seen.vpc_id()?.parse().ok()?,
            groups: groups_of(seen).ok()?,
            seen,
        })
    }
}

/// The groups that the ledger says are ours, save those that AWS says are somebody else's; and those of them that AWS
/// shows. Where AWS could not be asked the ledger is believed: a group's id, owner and VPC never change.
fn still_ours(cx: &PlanContext<'_>, facts: &Facts) -> (Vec<KnownGroup>, Vec<KnownGroup>) {
    // The order within a VPC is that of the ledger: the first recorded is used.
    let mut ours = cx.groups.to_vec();
    ours.sort_by(|a, b| a.vpc.cmp(&b.vpc));
    let Ok(there) = &facts.groups else { return (ours.clone(), ours) };
    let is_seen = |known: &KnownGroup| there.iter().any(|group| group.group_id() == Some(known.id.as_str()));
    ours.retain(|known| !is_seen(known) || why_lost(known, there, &cx.aws.account).is_none());
    let usable = ours.iter().filter(|known| is_seen(known)).cloned().collect();
    (ours, usable)
}

/// The step that makes a group of ours in a VPC.
pub(super) fn make(vpc: &VpcId, purpose: GroupPurpose) -> Step {
    CreateGroup { vpc: vpc.clone(), purpose }.step(&None)
}

/// The id of that step.
pub(super) fn making(vpc: &VpcId, purpose: GroupPurpose) -> StepId {
    CreateGroup { vpc: vpc.clone(), purpose }.id()
}

/// Says that something could not be read: nothing was done about it, so it remains.
fn missed(plan: &mut Plan, what: &str, why: &str) {
    plan.incomplete = true;
    plan.remains.push(format!("{what} could not be read and is as it was: {why}"));
}

/// Every address of an interface.
fn addresses(interface: &Interface<'_>) -> Vec<String> {
    let v4 = interface.seen.private_ip_addresses().iter().filter_map(|ip| ip.private_ip_address());
    let v6 = interface.seen.ipv6_addresses().iter().filter_map(|ip| ip.ipv6_address());
    v4.chain(v6).chain(interface.seen.private_ip_address()).map(str::to_owned).collect()
}

/// For how long an idle flow of an interface is remembered: what is in force, once the run has tried to
/// shorten it; what it will be before.
fn idle_seconds(interface: &NetworkInterface, tried: bool) -> i32 {
    let timeouts = if tried { Timeouts::of(interface) } else { SHORTEST };
    timeouts.in_force().into_iter().max().unwrap_or_default()
}

/// What the security groups of an interface do not reach.
fn beyond(interface: &NetworkInterface) -> Option<&'static str> {
    match interface.interface_type() {
        Some(NetworkInterfaceType::Trunk) => Some("a trunk: the branch interfaces of its pods have their own groups"),
        Some(NetworkInterfaceType::Branch) => Some("a pod's branch interface: its controller may change it back"),
        _ if interface.requester_managed() == Some(true) => Some("managed by a service, which may change it back"),
        _ => None,
    }
}
