use aws_sdk_ec2::types::{
    GroupIdentifier, IamInstanceProfile, Instance, InstanceLifecycleType, InstanceState, InstanceStateName,
    NetworkInterface, OperatorResponse, SecurityGroup, SecurityGroupRule,
};
use aws_types::SdkConfig;
use firebreak::action::KnownGroup;
use firebreak::aws::Aws;
use firebreak::ids::RunId;
use firebreak::plan::StepId;

use super::*;
use crate::reads::{Facts, not_ours_to_change};
use firebreak::playbook::Maybe;

const VPC: &str = "vpc-00000001";

fn facts(interfaces: Vec<NetworkInterface>) -> Facts {
    use firebreak::actions::ec2::set_instance_attribute::Protection;
    let wanted = |attribute: Protection| (attribute, Ok(attribute.wanted().to_owned()));
    Facts {
        instance: instance(InstanceStateName::Running).build(),
        interfaces,
        attributes: Protection::ALL.map(wanted).into(),
        addresses: Ok(Vec::new()),
        member: Ok(None),
        profile: Ok(None),
        groups: Ok(Vec::new()),
        rules: Ok(Vec::new()),
        target_groups: Ok(Vec::new()),
        balancers: Ok(Vec::new()),
    }
}

fn instance(state: InstanceStateName) -> aws_sdk_ec2::types::builders::InstanceBuilder {
    Instance::builder().instance_id("i-00000001").state(InstanceState::builder().name(state).build())
}

fn interface(id: &str, groups: &[&str]) -> NetworkInterface {
    let groups = groups.iter().map(|id| GroupIdentifier::builder().group_id(*id).build()).collect();
    NetworkInterface::builder().network_interface_id(id).vpc_id(VPC).set_groups(Some(groups)).build()
}

fn known(id: &str, purpose: GroupPurpose) -> KnownGroup {
    KnownGroup { vpc: VPC.parse().unwrap(), id: id.parse().unwrap(), purpose, run: None }
}

fn group(id: &str, owner: &str) -> SecurityGroup {
    SecurityGroup::builder().group_id(id).vpc_id(VPC).owner_id(owner).build()
}

/// The plan, its steps reduced to their ids where they want no leave.
fn plan(facts: &Facts, groups: &[KnownGroup]) -> (Plan, Vec<String>) {
    let aws = Aws::new("111111111111".parse().unwrap(), "eu-west-1".parse().unwrap(), SdkConfig::builder().build());
    let run = RunId::new();
    let cx = PlanContext {
        aws: &aws,
        groups,
        run: Some(&run),
        snapshots: Default::default(),
        hurried: false,
        snapshot_lock_days: 30,
        recheck: false,
    };
    let target: Target = "aws/111111111111/eu-west-1/ec2-instance/i-00000001".parse().unwrap();
    let id = target.id.parse().unwrap();
    let plan = Planner::new(&cx, META.id, &target, &id, facts).plan();
    let untimed =
        |step: &&firebreak::plan::Step| step.leave.is_none() && step.action != "ec2.tighten-connection-tracking";
    let ids = plan.steps().filter(untimed).map(|step| step.id.0.clone()).collect();
    (plan, ids)
}

#[test]
fn every_interface_is_cut_and_needs_only_the_group() {
    let facts = facts(vec![
        interface("eni-00000002", &["sg-0000000a", "sg-0000000b", "sg-0000000c"]),
        interface("eni-00000001", &["sg-0000000a"]),
    ]);
    let (plan, ids) = plan(&facts, &[]);
    assert_eq!(
        ids,
        [
            "ec2.create-group firebreak-quarantine vpc-00000001",
            "ec2.empty-group firebreak-quarantine egress vpc-00000001",
            "ec2.replace-interface-groups eni-00000001",
            "ec2.replace-interface-groups eni-00000002",
        ]
    );
    for step in plan.steps().filter(|step| step.cuts) {
        assert_eq!(step.needs.iter().map(|need| need.0.as_str()).collect::<Vec<_>>(), [ids[0].as_str()]);
    }
}

#[test]
fn what_is_in_quarantine_is_left_there_but_its_group_must_be_empty() {
    let mut facts = facts(vec![interface("eni-00000001", &["sg-00000009"])]);
    facts.groups = Ok(vec![group("sg-00000009", "111111111111")]);
    let ours = [known("sg-00000009", GroupPurpose::Quarantine)];
    assert!(plan(&facts, &ours).1.is_empty());

    let rule = SecurityGroupRule::builder().security_group_rule_id("sgr-1").group_id("sg-00000009");
    facts.rules = Ok(vec![rule.is_egress(false).ip_protocol("tcp").build()]);
    assert_eq!(plan(&facts, &ours).1, ["ec2.empty-group firebreak-quarantine ingress sg-00000009"]);
}

#[test]
fn a_group_that_is_gone_or_somebody_elses_is_not_used() {
    for seen in [vec![], vec![group("sg-00000009", "999999999999")]] {
        let mut facts = facts(vec![interface("eni-00000001", &["sg-0000000a"])]);
        facts.groups = Ok(seen);
        let (_, ids) = plan(&facts, &[known("sg-00000009", GroupPurpose::Quarantine)]);
        assert_eq!(ids[0], "ec2.create-group firebreak-quarantine vpc-00000001");
    }
}

#[test]
fn of_several_groups_of_ours_the_first_that_is_there_is_used_and_each_counts() {
    let ours = ["sg-00000009", "sg-00000008", "sg-00000007"].map(|id| known(id, GroupPurpose::Quarantine));
    let mut facts =
        facts(vec![interface("eni-00000001", &["sg-0000000a"]), interface("eni-00000002", &["sg-00000007"])]);
    // The first is gone.
    facts.groups = Ok(vec![group("sg-00000007", "111111111111"), group("sg-00000008", "111111111111")]);
    let (plan, ids) = plan(&facts, &ours);
    assert_eq!(ids, ["ec2.replace-interface-groups eni-00000001"]);
    assert_eq!(plan.steps().find(|step| step.cuts).unwrap().change.to, "sg-00000008");
}

#[test]
fn a_group_with_an_interface_in_it_is_ours_though_aws_does_not_show_it_yet() {
    let mut facts = facts(vec![interface("eni-00000001", &["sg-00000009"])]);
    let ours = [known("sg-00000009", GroupPurpose::Quarantine)];
    assert!(plan(&facts, &ours).1.is_empty());
    // Somebody else's is never.
    facts.groups = Ok(vec![group("sg-00000009", "999999999999")]);
    assert!(!plan(&facts, &ours).1.is_empty());
}

#[test]
fn rules_of_a_group_that_is_not_used_are_nothing_to_this_instance() {
    let ours = ["sg-00000009", "sg-00000008"].map(|id| known(id, GroupPurpose::Quarantine));
    let mut facts = facts(vec![interface("eni-00000001", &["sg-00000008"])]);
    facts.groups = Ok(vec![group("sg-00000008", "111111111111"), group("sg-00000009", "111111111111")]);
    let rule = SecurityGroupRule::builder().security_group_rule_id("sgr-1").group_id("sg-00000009");
    facts.rules = Ok(vec![rule.is_egress(false).ip_protocol("tcp").build()]);
    assert!(plan(&facts, &ours).1.is_empty());
}

#[test]
fn an_interface_with_another_group_beside_ours_is_cut() {
    let mut facts = facts(vec![interface("eni-00000001", &["sg-00000009", "sg-0000000a"])]);
    facts.groups = Ok(vec![group("sg-00000009", "111111111111")]);
    let (_, ids) = plan(&facts, &[known("sg-00000009", GroupPurpose::Quarantine)]);
    assert_eq!(ids, ["ec2.replace-interface-groups eni-00000001"]);
}

#[test]
fn no_read_but_the_two_it_needs_stops_the_cut() {
    fn failed<T>() -> Maybe<T> {
        Err("throttled".to_owned())
    }
    let mut facts = facts(vec![interface("eni-00000001", &["sg-0000000a"])]);
    facts.attributes.iter_mut().for_each(|(_, value)| *value = failed());
    (facts.addresses, facts.member, facts.profile) = (failed(), failed(), failed());
    (facts.groups, facts.rules) = (failed(), failed());
    (facts.target_groups, facts.balancers) = (failed(), failed());
    let (plan, ids) = plan(&facts, &[known("sg-00000009", GroupPurpose::Quarantine)]);
    assert_eq!(
        ids,
        [
            "ec2.empty-group firebreak-quarantine egress sg-00000009",
            "ec2.empty-group firebreak-quarantine ingress sg-00000009",
            "ec2.replace-interface-groups eni-00000001",
        ]
    );
    let missed = plan.remains.iter().filter(|line| line.contains("throttled")).count();
    // Three attributes, the group, the profile, both kinds of load balancer. Addresses the interfaces show too.
    assert_eq!(missed, 7, "{:#?}", plan.remains);
}

#[test]
fn a_flush_that_was_left_open_is_closed_without_leave() {
    let mut facts = facts(vec![interface("eni-00000001", &["sg-00000008"])]);
    facts.groups = Ok(vec![group("sg-00000009", "111111111111"), group("sg-00000008", "111111111111")]);
    let ours = [known("sg-00000008", GroupPurpose::Flush), known("sg-00000009", GroupPurpose::Quarantine)];
    let (plan, ids) = plan(&facts, &ours);
    assert_eq!(ids, ["ec2.close-interface eni-00000001"]);
    assert!(plan.steps().all(|step| step.action != "ec2.open-interface"));
}

#[test]
fn a_flush_closes_after_it_opens_and_only_with_leave() {
    let (plan, _) = plan(&facts(vec![interface("eni-00000001", &["sg-0000000a"])]), &[]);
    let stages: Vec<_> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
    let at = |name| stages.iter().position(|stage| *stage == name).unwrap();
    assert!(at("cut") < at("open for an instant"));
    assert_eq!(at("open for an instant") + 1, at("close again"));
    for stage in &plan.stages[at("make the flush group")..=at("empty the flush group")] {
        assert!(stage.steps.iter().all(|step| step.leave == Some(firebreak::plan::Leave::CutTrackedFlows)));
    }
    // To close needs nothing but the group to close into: not that opening went well.
    let made = StepId("ec2.create-group firebreak-quarantine vpc-00000001".to_owned());
    assert!(plan.stages[at("close again")].steps.iter().all(|step| step.needs == [made.clone()]));
}

#[test]
fn a_spot_instance_is_not_asked_for_what_it_cannot_have() {
    let mut facts = facts(vec![]);
    facts.instance.instance_lifecycle = Some(InstanceLifecycleType::Spot);
    facts.attributes[0].1 = Ok("false".to_owned());
    let (plan, ids) = plan(&facts, &[]);
    assert!(ids.is_empty(), "{ids:?}");
    assert!(plan.notes[0].contains("Spot"));
}

#[test]
fn an_elastic_address_is_found_on_the_interface_alone() {
    use aws_sdk_ec2::types::{NetworkInterfaceAssociation, NetworkInterfacePrivateIpAddress};
    let association =
        NetworkInterfaceAssociation::builder().allocation_id("eipalloc-00000001").public_ip("198.51.100.7");
    let ip =
        NetworkInterfacePrivateIpAddress::builder().private_ip_address("10.0.0.9").association(association.build());
    let mut seen = interface("eni-00000001", &["sg-0000000a"]);
    seen.private_ip_addresses = Some(vec![ip.build()]);
    let mut facts = facts(vec![seen]);
    facts.addresses = Err("throttled".to_owned());
    let (_, ids) = plan(&facts, &[]);
    assert!(ids.contains(&"ec2.disassociate-address eipalloc-00000001".to_owned()), "{ids:?}");
}

#[test]
fn names_are_escaped_before_they_are_shown() {
    let mut facts = facts(vec![interface("eni-00000001\n", &[])]);
    facts.profile = Ok(Some("arn:aws:iam::1:instance-profile/`<b>\u{1b}[31m".to_owned()));
    let (plan, _) = plan(&facts, &[]);
    let shown = plan.remains.join("\n");
    assert!(shown.contains("eni-00000001\\u{a}") && shown.contains("\\u{1b}"), "{shown}");
    assert!(!shown.contains("<b>") && !shown.contains('\u{1b}'), "{shown}");
}

#[test]
fn the_branch_interfaces_of_pods_are_named() {
    use aws_sdk_ec2::types::NetworkInterfaceType::{Branch, Trunk};
    // A branch interface hangs on the trunk and not on the instance; where AWS lists one all the same, it is cut too.
    let of = |id: &str, kind| {
        let mut seen = interface(id, &["sg-0000000a"]);
        seen.interface_type = Some(kind);
        seen
    };
    let (plan, ids) = plan(&facts(vec![of("eni-00000001", Trunk), of("eni-00000002", Branch)]), &[]);
    for interface in ["eni-00000001", "eni-00000002"] {
        assert!(ids.contains(&format!("ec2.replace-interface-groups {interface}")), "{ids:?}");
    }
    for line in [
        "eni-00000001: a trunk: the branch interfaces of its pods have their own groups",
        "eni-00000002: a pod's branch interface: its controller may change it back",
    ] {
        assert!(plan.remains.iter().any(|remains| remains == line), "{:?}", plan.remains);
    }
}

#[test]
fn terminated_is_gone_and_managed_is_refused() {
    let id = "i-00000001".parse().unwrap();
    let running = || instance(InstanceStateName::Running);
    let managed = OperatorResponse::builder().managed(true).principal("eks.amazonaws.com").build();
    let profile = IamInstanceProfile::builder().arn("arn:aws:iam::1:instance-profile/web").build();
    assert!(not_ours_to_change(&id, &running().iam_instance_profile(profile).build()).is_none());
    assert!(not_ours_to_change(&id, &instance(InstanceStateName::Stopped).build()).is_none());
    let refused = not_ours_to_change(&id, &running().operator(managed).build());
    assert!(matches!(refused, Some(Planned::Refused(why)) if why.contains("eks.amazonaws.com")));
    for state in [InstanceStateName::Terminated, InstanceStateName::ShuttingDown] {
        assert!(matches!(not_ours_to_change(&id, &instance(state).build()), Some(Planned::Gone(_))));
    }
}
