//! # Make public snapshots private
//!
//! ## What it answers
//!
//! The control that says that EBS snapshots of an account are public (EC2.1). It names the account, not the snapshots.
//!
//! ## What it does
//!
//! Takes everybody off those who may use each public snapshot of the account in the Region. Accounts that a snapshot is
//! shared with by name keep it, and are told.
//!
//! ## What may break
//!
//! Whoever uses a snapshot that is public on purpose. Where more than five are public, that is likely, and a person is asked.
//!
//! ## How it is undone
//!
//! The snapshots are public again, unless the account blocks that meanwhile.
//!
//! ## What it will not touch
//!
//! Copies and volumes that somebody has made while a snapshot was public; snapshots of databases.
//!
//! ## Drill
//!
//! `cargo drill -- public-bucket` is the nearest: there is none of its own.
//!
//! ## References
//!
//! - <https://docs.aws.amazon.com/securityhub/latest/userguide/ec2-controls.html#ec2-1>
//! - <https://docs.aws.amazon.com/ebs/latest/userguide/ebs-modifying-snapshot-permissions.html>

use firebreak::action::{Action, AnyAction, Of};
use firebreak::actions::ec2::unshare_snapshot::{self, shared};
use firebreak::aws::Aws;
use firebreak::failure::Failure;
use firebreak::finding::{Check, Finding, Resource, ResourceId};
use firebreak::ids::SnapshotId;
use firebreak::permission::Permission;
use firebreak::plan::Plan;
use firebreak::playbook::{Meta, PlanContext, Planned, Purpose};
use firebreak::target::Target;

use crate::fix::Fix;

/// Makes the public snapshots of an account private.
#[derive(Debug)]
pub struct UnshareSnapshot;

const PUBLIC: Check = Check {
    control: Some("EC2.1"),
    also: &["PCI.EC2.1"],
    rule: Some(("EBS_SNAPSHOT_PUBLIC_RESTORABLE_CHECK", "ebs-snapshot-public-restorable-check")),
};

/// More public snapshots than these are no oversight.
const A_FEW: usize = 5;

impl Fix for UnshareSnapshot {
    const META: Meta = Meta {
        id: "unshare-snapshot",
        title: "Make the public EBS snapshots of an account private",
        purpose: Purpose::Fix,
        hold: "unshare-snapshot",
        rechecks: &[],
        triggers: &[],
        controls: &[PUBLIC],
        concerns: &[],
        reads: &[Permission::read("config:DescribeConfigRules"), Permission::read("ec2:DescribeSnapshots")],
    };
    const ACTIONS: &'static [&'static dyn AnyAction] = &[&Of::<unshare_snapshot::UnshareSnapshot>::NEW];

    fn target(resource: &Resource, finding: &Finding) -> Option<Target> {
        matches!(resource.id, ResourceId::Account(_))
            .then(|| Target::account(resource.account.clone(), finding.region.clone()))
    }

    async fn plan(cx: &PlanContext<'_>, target: &Target, _: &Finding, _: &'static Check) -> Result<Planned, Failure> {
        let mut plan = Plan::new(Self::META.id, target.clone());
        let mut steps = Vec::new();
        for snapshot in public(cx.aws).await? {
            // Gone, or made private, meanwhile.
            let Some(given) = shared(cx.aws, &snapshot).await?.filter(|given| given.public) else { continue };
            if !given.accounts.is_empty() {
                plan.remains.push(format!("{snapshot} stays shared with account {}", given.accounts.join(", ")));
            }
            plan.remains.push(format!("whoever has copied {snapshot} while it was public has it"));
            steps.push(unshare_snapshot::UnshareSnapshot { snapshot }.step(&true));
        }
        if steps.len() > A_FEW {
            let count = steps.len();
            plan.ask_first.push(format!("{count} snapshots are public, which may be on purpose"));
        }
        plan.stage("unshare", steps);
        Ok(Planned::Plan(plan))
    }
}

/// The account's snapshots that everybody may use.
async fn public(aws: &Aws) -> Result<Vec<SnapshotId>, Failure> {
    let call = aws.ec2().describe_snapshots().owner_ids("self").restorable_by_user_ids("all").max_results(1000);
    let found: Result<Vec<_>, _> = call.into_paginator().items().send().try_collect().await;
    let found = found.map_err(Failure::from_sdk("list the public snapshots of", &aws.account))?;
    let mut ids: Vec<SnapshotId> = found.iter().filter_map(|one| one.snapshot_id()?.parse().ok()).collect();
    ids.sort();
    Ok(ids)
}
