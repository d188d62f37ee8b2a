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
use firebreak::finding::{Answers, Finding};
use firebreak::ids::{InterfaceId, VpcId};
use firebreak::permission::Permission;
use firebreak::plan::{Plan, Step};
use firebreak::playbook::{Meta, PlanContext, Planned, Playbook, Purpose};
use firebreak::target::{Target, TargetKind};

use self::planner::{Interface, Planner, make};
use crate::reads;

/// Cuts an instance off from every network.
#[derive(Debug)]
pub struct IsolateInstance;

const META: Meta = Meta {
    id: "isolate-instance",
    title: "Cut an EC2 instance off from every network, and keep it for the investigation",
    purpose: Purpose::Contain,
    kinds: &[TargetKind::Ec2Instance],
    hold: "isolate-instance",
    rechecks: &[],
    controls: &[],
    concerns: &["EC2", "Runtime"],
    // What an address of somebody's own threat list does to the instance is no reason to cut it off.
    triggers: &[ACTS, &[Answers::outbound("UnauthorizedAccess:EC2/MaliciousIPCaller.Custom")]],
    reads: &[Permission::read("elasticloadbalancing:DescribeTargetGroups")],
};

/// Findings that say that the instance acts for somebody else: it is cut off, and its evidence is kept.
///
/// The question each entry answers is what an incident responder would do *if the finding is true*. How sure or how
/// grave it is, is the guard's business: a policy sees type and severity.
pub(crate) const ACTS: &[Answers] = &[
    // What an instance is seen doing in its DNS queries and network flows.
    Answers::always("Impact:EC2/MaliciousDomainRequest.Custom"),
    Answers::always("Backdoor:EC2/C&CActivity.B!DNS"),
    Answers::always("CryptoCurrency:EC2/BitcoinTool.B!DNS"),
    Answers::always("Impact:EC2/AbusedDomainRequest.Reputation"),
    Answers::always("Impact:EC2/BitcoinDomainRequest.Reputation"),
    Answers::always("Impact:EC2/MaliciousDomainRequest.Reputation"),
    Answers::always("Trojan:EC2/BlackholeTraffic!DNS"),
    Answers::always("Trojan:EC2/DGADomainRequest.B"),
    Answers::always("Trojan:EC2/DGADomainRequest.C!DNS"),
    Answers::always("Trojan:EC2/DNSDataExfiltration"),
    Answers::always("Trojan:EC2/DriveBySourceTraffic!DNS"),
    Answers::always("Trojan:EC2/DropPoint!DNS"),
    Answers::always("Trojan:EC2/PhishingDomainRequest!DNS"),
    Answers::always("UnauthorizedAccess:EC2/MetadataDNSRebind"),
    Answers::always("Backdoor:EC2/C&CActivity.B"),
    Answers::always("Backdoor:EC2/DenialOfService.Dns"),
    Answers::always("Backdoor:EC2/DenialOfService.Tcp"),
    Answers::always("Backdoor:EC2/DenialOfService.Udp"),
    Answers::always("Backdoor:EC2/DenialOfService.UdpOnTcpPorts"),
    Answers::always("Backdoor:EC2/DenialOfService.UnusualProtocol"),
    Answers::always("Backdoor:EC2/Spambot"),
    Answers::always("Behavior:EC2/NetworkPortUnusual"),
    Answers::always("Behavior:EC2/TrafficVolumeUnusual"),
    Answers::always("CryptoCurrency:EC2/BitcoinTool.B"),
    Answers::always("DefenseEvasion:EC2/UnusualDNSResolver"),
    Answers::always("DefenseEvasion:EC2/UnusualDoHActivity"),
    Answers::always("DefenseEvasion:EC2/UnusualDoTActivity"),
    Answers::always("Impact:EC2/PortSweep"),
    Answers::acting("Impact:EC2/WinRMBruteForce"),
    Answers::always("Recon:EC2/Portscan"),
    Answers::always("Trojan:EC2/BlackholeTraffic"),
    Answers::always("Trojan:EC2/DropPoint"),
    Answers::acting("UnauthorizedAccess:EC2/RDPBruteForce"),
    Answers::acting("UnauthorizedAccess:EC2/SSHBruteForce"),
    Answers::always("UnauthorizedAccess:EC2/TorClient"),
    Answers::always("UnauthorizedAccess:EC2/TorRelay"),
    // Retired by AWS; findings made before may still arrive.
    Answers::always("Backdoor:EC2/XORDDOS"),
    Answers::always("CryptoCurrency:EC2/BitcoinTool.A"),
    // What the agent saw inside: on an instance, on an EKS node, on an ECS container instance. On Fargate
    // there is no instance and nothing here answers.
    Answers::names_instance("Backdoor:Runtime/C&CActivity.B"),
    Answers::names_instance("Backdoor:Runtime/C&CActivity.B!DNS"),
    Answers::names_instance("CryptoCurrency:Runtime/BitcoinTool.B"),
    Answers::names_instance("CryptoCurrency:Runtime/BitcoinTool.B!DNS"),
    Answers::names_instance("DefenseEvasion:Runtime/FilelessExecution"),
    Answers::names_instance("DefenseEvasion:Runtime/KernelModuleLoaded"),
    Answers::names_instance("DefenseEvasion:Runtime/SensitiveFileModified"),
    Answers::names_instance("DefenseEvasion:Runtime/ProcessInjection.Proc"),
    Answers::names_instance("DefenseEvasion:Runtime/ProcessInjection.Ptrace"),
    Answers::names_instance("DefenseEvasion:Runtime/ProcessInjection.VirtualMemoryWrite"),
    Answers::names_instance("DefenseEvasion:Runtime/SuspiciousCommand"),
    Answers::names_instance("Execution:Runtime/MaliciousFileExecuted"),
    Answers::names_instance("Execution:Runtime/MaliciousFileExecuted.Custom"),
    Answers::names_instance("Execution:Runtime/SuspiciousCommand"),
    Answers::names_instance("Execution:Runtime/SuspiciousTool"),
    Answers::names_instance("Execution:Runtime/ReverseShell"),
    Answers::names_instance("Impact:Runtime/AbusedDomainRequest.Reputation"),
    Answers::names_instance("Impact:Runtime/BitcoinDomainRequest.Reputation"),
    Answers::names_instance("Impact:Runtime/CryptoMinerExecuted"),
    Answers::names_instance("Impact:Runtime/MaliciousDomainRequest.Reputation"),
    Answers::names_instance("Persistence:Runtime/SuspiciousCommand"),
    Answers::names_instance("Persistence:Runtime/SensitiveFileModified"),
    Answers::names_instance("PrivilegeEscalation:Runtime/CGroupsReleaseAgentModified"),
    Answers::names_instance("PrivilegeEscalation:Runtime/ElevationToRoot"),
    Answers::names_instance("PrivilegeEscalation:Runtime/RuncContainerEscape"),
    Answers::names_instance("PrivilegeEscalation:Runtime/SuspiciousCommand"),
    Answers::names_instance("PrivilegeEscalation:Runtime/SensitiveFileModified"),
    Answers::names_instance("Trojan:Runtime/BlackholeTraffic"),
    Answers::names_instance("Trojan:Runtime/BlackholeTraffic!DNS"),
    Answers::names_instance("Trojan:Runtime/DropPoint"),
    Answers::names_instance("Trojan:Runtime/DGADomainRequest.C!DNS"),
    Answers::names_instance("Trojan:Runtime/DriveBySourceTraffic!DNS"),
    Answers::names_instance("Trojan:Runtime/DropPoint!DNS"),
    Answers::names_instance("Trojan:Runtime/PhishingDomainRequest!DNS"),
    Answers::names_instance("UnauthorizedAccess:Runtime/MetadataDNSRebind"),
    Answers::names_instance("UnauthorizedAccess:Runtime/TorClient"),
    Answers::names_instance("UnauthorizedAccess:Runtime/TorRelay"),
    // Malware found on a volume of a running instance, whatever its workload.
    Answers::names_instance("Execution:Container/MaliciousFile"),
    Answers::names_instance("Execution:Container/SuspiciousFile"),
    Answers::names_instance("Execution:EC2/MaliciousFile"),
    Answers::names_instance("Execution:EC2/SuspiciousFile"),
    Answers::names_instance("Execution:ECS/MaliciousFile"),
    Answers::names_instance("Execution:ECS/SuspiciousFile"),
    Answers::names_instance("Execution:Kubernetes/MaliciousFile"),
    Answers::names_instance("Execution:Kubernetes/SuspiciousFile"),
    // Several instances at once: each is answered.
    Answers::names_instance("AttackSequence:EKS/CompromisedCluster"),
    Answers::names_instance("AttackSequence:ECS/CompromisedCluster"),
    Answers::names_instance("AttackSequence:EC2/CompromisedInstanceGroup"),
    // Credentials of an instance's role used elsewhere: whoever took them was on the instance, or makes
    // it ask the metadata service for them. The sessions themselves are another playbook's work.
    Answers::names_instance("UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.InsideAWS"),
    Answers::names_instance("UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS"),
];

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

    fn takes_requests_about(&self, kind: TargetKind) -> bool {
        matches!(kind, TargetKind::Ec2Instance)
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
