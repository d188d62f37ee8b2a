//! # Isolate an instance from the network
//!
//! ## What it answers
//!
//! GuardDuty findings of an EC2 instance that acts: command and control, mining, scanning, exfiltration,
//! malware. Not findings of an instance that is only acted upon.
//!
//! ## What it does
//!
//! Protects the instance and its volumes from being deleted, takes it out of its Auto Scaling group, makes
//! sure that the VPC has a security group of ours without any rule, then in one stage takes the public
//! addresses away and moves every network interface into that group. Afterwards it leaves target groups
//! and classic load balancers and shortens connection tracking. With the policy's leave it also replaces
//! the instance profile, makes AWS forget tracked flows, and switches the metadata endpoint off.
//!
//! The cut needs none of the steps before it, save the one that makes the group when there is none.
//!
//! ## What may break
//!
//! Everything that talks to the instance. The Auto Scaling group launches a replacement.
//!
//! ## How it is undone
//!
//! Step by step in reverse; each compares first and leaves what somebody else has changed. An assigned
//! public address is another one afterwards. The instance goes back into its group only below the maximum.
//!
//! ## What it will not touch
//!
//! Instances that a service manages (`Operator.Managed`), terminated ones, security groups that are not in
//! the ledger whatever their names, the rules of anybody's groups, subnets, routes and network ACLs.
//!
//! ## Drill
//!
//! `cargo drill -- compromised-instance`
//!
//! ## References
//!
//! - <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html>
//! - <https://docs.aws.amazon.com/whitepapers/latest/aws-security-incident-response-guide/welcome.html>

mod planner;

use std::collections::BTreeSet;

use firebreak::action::{Action, AnyAction, Boxed, GroupPurpose, Of};
use firebreak::actions::autoscaling::detach_instance::DetachInstance;
use firebreak::actions::ec2::close_interface::CloseInterface;
use firebreak::actions::ec2::create_group::CreateGroup;
use firebreak::actions::ec2::disable_metadata_endpoint::{DisableMetadataEndpoint, endpoint_is_on};
use firebreak::actions::ec2::disassociate_address::DisassociateAddress;
use firebreak::actions::ec2::empty_group::EmptyGroup;
use firebreak::actions::ec2::keep_volumes::KeepVolumes;
use firebreak::actions::ec2::open_group::OpenGroup;
use firebreak::actions::ec2::open_interface::OpenInterface;
use firebreak::actions::ec2::remove_public_address::RemovePublicAddress;
use firebreak::actions::ec2::replace_instance_profile::ReplaceInstanceProfile;
use firebreak::actions::ec2::replace_interface_groups::ReplaceInterfaceGroups;
use firebreak::actions::ec2::set_instance_attribute::SetInstanceAttribute;
use firebreak::actions::ec2::tighten_connection_tracking::TightenConnectionTracking;
use firebreak::actions::elasticloadbalancing::deregister_instance::DeregisterInstance;
use firebreak::actions::elasticloadbalancing::deregister_targets::DeregisterTargets;
use firebreak::failure::Failure;
use firebreak::finding::Finding;
use firebreak::ids::{InterfaceId, VpcId};
use firebreak::permission::Permission;
use firebreak::plan::{Plan, Step};
use firebreak::playbook::{Meta, PlanContext, Planned, Playbook, Purpose};
use firebreak::target::Target;

use self::planner::{Interface, Planner, make};
use crate::reads;

/// Cuts an instance off from every network.
#[derive(Debug)]
pub struct IsolateInstance;

const META: Meta = Meta {
    id: "isolate-instance",
    title: "Cut an EC2 instance off from every network, and keep it for the investigation",
    purpose: Purpose::Contain,
    concerns: &["EC2", "Runtime"],
    triggers: crate::triggers::ISOLATES,
    reads: &[Permission::read("elasticloadbalancing:DescribeTargetGroups")],
};

const ACTIONS: &[&dyn AnyAction] = &[
    &Of::<CloseInterface>::NEW,
    &Of::<CreateGroup>::NEW,
    &Of::<DeregisterInstance>::NEW,
    &Of::<DeregisterTargets>::NEW,
    &Of::<DetachInstance>::NEW,
    &Of::<DisableMetadataEndpoint>::NEW,
    &Of::<DisassociateAddress>::NEW,
    &Of::<EmptyGroup>::NEW,
    &Of::<KeepVolumes>::NEW,
    &Of::<OpenGroup>::NEW,
    &Of::<OpenInterface>::NEW,
    &Of::<RemovePublicAddress>::NEW,
    &Of::<ReplaceInstanceProfile>::NEW,
    &Of::<ReplaceInterfaceGroups>::NEW,
    &Of::<SetInstanceAttribute>::NEW,
    &Of::<TightenConnectionTracking>::NEW,
];

impl Playbook for IsolateInstance {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn actions(&self) -> &'static [&'static dyn AnyAction] {
        ACTIONS
    }

    fn targets(&self, finding: &Finding) -> Vec<Target> {
        crate::instances(&META, finding)
    }

    fn plan<'a>(
        &'a self,
        cx: &'a PlanContext<'a>,
        target: &'a Target,
        finding: &'a Finding,
    ) -> Boxed<'a, Result<Planned, Failure>> {
        Box::pin(plan(cx, target, finding))
    }
}

async fn plan(cx: &PlanContext<'_>, target: &Target, finding: &Finding) -> Result<Planned, Failure> {
    let id = reads::instance_id(cx.aws, target)?;
    let Some(facts) = reads::facts(cx, &id).await? else {
        return Ok(Planned::Gone(format!("{id} does not exist")));
    };
    if let Some(not) = reads::not_ours_to_change(&id, &facts.instance) {
        return Ok(not);
    }
    let mut plan = Planner::new(cx, META.id, target, &id, &facts).plan();
    let own = |id: &InterfaceId| facts.interfaces.iter().any(|seen| seen.network_interface_id() == Some(id.as_str()));
    plan.remains.splice(0..0, finding.not_touched(own));
    Ok(Planned::Plan(plan))
}

impl Planner<'_> {
    /// The stages, in order.
    fn plan(mut self) -> Plan {
        let to_cut: BTreeSet<InterfaceId> =
            self.interfaces.iter().filter(|i| !self.is_in(i, GroupPurpose::Quarantine)).map(|i| i.id.clone()).collect();
        let new: BTreeSet<VpcId> = self
            .interfaces
            .iter()
            .filter(|i| to_cut.contains(&i.id) && self.group(&i.vpc, GroupPurpose::Quarantine).is_none())
            .map(|i| i.vpc.clone())
            .collect();
        let make: Vec<Step> = new.iter().map(|vpc| make(vpc, GroupPurpose::Quarantine)).collect();

        let mut protect = self.protect();
        protect.extend(make);
        self.plan.stage("protect", protect);
        let empty = self.empty_quarantine(&to_cut, &new);
        self.plan.stage("empty", empty);
        let cut = self.cut(&to_cut);
        // Only what this plan takes into quarantine can be opened afterwards; what was left open is closed.
        let opens: Vec<&Interface<'_>> =
            self.interfaces.iter().filter(|i| to_cut.contains(&i.id) && !self.is_in(i, GroupPurpose::Flush)).collect();
        let flush = self.flush(&opens, &cut);
        self.plan.stage("cut", cut);
        let withdraw = self.withdraw();
        self.plan.stage("withdraw", withdraw);
        let profile = self.profile();
        self.plan.stage("credentials", profile);
        for (name, steps) in flush {
            self.plan.stage(name, steps);
        }
        if endpoint_is_on(&self.facts.instance) {
            let action = DisableMetadataEndpoint { instance: self.id.clone() };
            self.plan.stage("metadata", [action.step(&true)]);
        }
        self.say_what_remains();
        self.plan
    }
}

#[cfg(test)]
mod tests;
