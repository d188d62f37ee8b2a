//! # Make a public EBS snapshot private
//!
//! ## What it answers
//!
//! The control and the rule that say that EBS snapshots of an account are public (EC2.1,
//! `ebs-snapshot-public-restorable-check`). They name the account and not the snapshots: those are looked up, and each that
//! is public is a target of its own.
//!
//! ## What it does
//!
//! Takes everybody off those who may make volumes of the snapshot.
//!
//! ## What may break
//!
//! Whoever uses a snapshot that is public on purpose. Where an account has more than five of them, that is likely, and a person
//! is asked.
//!
//! ## How it is undone
//!
//! The snapshot is public again, unless the account blocks that meanwhile.
//! Whoever undoes it is not overruled: when the control is reported again, a person is asked.
//!
//! ## What it will not touch
//!
//! Accounts that the snapshot is shared with by name: they keep it, and are told. Copies that somebody has made while it was
//! public. Snapshots of databases, images, other Regions than the finding's.
//!
//! ## Drill
//!
//! There is none of its own: `cargo test --test laws` has the worlds.
//!
//! ## References
//!
//! - <https://docs.aws.amazon.com/securityhub/latest/userguide/ec2-controls.html#ec2-1>
//! - <https://docs.aws.amazon.com/ebs/latest/userguide/ebs-modifying-snapshot-permissions.html>

use std::collections::BTreeMap;

use aws_sdk_ec2::types::Snapshot;
use firebreak::action::{Action, AnyAction, Of};
use firebreak::actions::ec2::unshare_snapshot::{self, shared};
use firebreak::aws::Aws;
use firebreak::failure::{Failure, gone_is_none};
use firebreak::finding::{Check, Finding, Resource, ResourceId};
use firebreak::ids::SnapshotId;
use firebreak::permission::Permission;
use firebreak::plan::Plan;
use firebreak::playbook::{Meta, PlanContext, Planned, Purpose};
use firebreak::target::{Target, TargetKind};

use crate::fix::{Fix, id_of};

/// Makes a public snapshot private.
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
        title: "Make a public EBS snapshot private",
        purpose: Purpose::Fix,
        kinds: &[TargetKind::Ec2Snapshot],
        hold: "unshare-snapshot",
        rechecks: &[],
        triggers: &[],
        controls: &[PUBLIC],
        concerns: &[],
        reads: &[Permission::read("config:DescribeConfigRules"), Permission::read("ec2:DescribeSnapshots")],
    };
    const ACTIONS: &'static [&'static dyn AnyAction] = &[&Of::<unshare_snapshot::UnshareSnapshot>::NEW];

    fn target(resource: &Resource, _: &Finding) -> Option<Target> {
        match (&resource.id, &resource.region) {
            (ResourceId::Snapshot(id), Some(region)) => {
                Some(Target::snapshot(resource.account.clone(), region.clone(), id.clone()))
            }
            _ => None,
        }
    }

    fn stands_for_targets(resource: &ResourceId) -> bool {
        matches!(resource, ResourceId::Account(_))
    }

    async fn look_up(member: &Aws, finding: &Finding) -> Result<Vec<Resource>, Failure> {
        let resource = |id| Resource {
            id: ResourceId::Snapshot(id),
            account: finding.account.clone(),
            region: Some(finding.region.clone()),
        };
        Ok(public(member).await?.into_iter().map(resource).collect())
    }

    async fn plan(cx: &PlanContext<'_>, target: &Target, _: &Finding, _: &'static Check) -> Result<Planned, Failure> {
        let id: SnapshotId = id_of(target)?;
        let (found, given, public) =
            tokio::join!(snapshot(cx.aws, &id), shared(cx.aws, &id), cx.optional(public(cx.aws)));
        let (Some(found), Some(given)) = (found?, given?) else {
            return Ok(Planned::Gone(format!("account {} has no snapshot {id}", target.account)));
        };
        let mut plan = Plan::new(Self::META.id, target.clone());
        plan.tags = tags(&found);
        if !given.public {
            return Ok(Planned::Plan(plan));
        }
        match public {
            Ok(public) if public.len() > A_FEW => plan
                .ask_first
                .push(format!("{} snapshots of the account are public here, which may be on purpose", public.len())),
            Ok(_) => {}
            Err(why) => {
                plan.ask_first.push(format!("how many of the account's snapshots are public is not known: {why}"))
            }
        }
        if !given.accounts.is_empty() {
            plan.remains.push(format!("{id} stays shared by name with {}", given.accounts.join(", ")));
        }
        plan.remains.push(format!("whoever has copied {id} while it was public has it"));
        plan.stage("unshare", [unshare_snapshot::UnshareSnapshot { snapshot: id }.step(&true)]);
        Ok(Planned::Plan(plan))
    }
}

/// The account's own snapshot of this id; nothing when it has none.
async fn snapshot(aws: &Aws, id: &SnapshotId) -> Result<Option<Snapshot>, Failure> {
    let answer = aws.ec2().describe_snapshots().owner_ids("self").snapshot_ids(id.as_str()).send().await;
    let answer = gone_is_none(answer.map_err(Failure::from_sdk("describe snapshot", id)))?;
    Ok(answer.and_then(|answer| answer.snapshots).unwrap_or_default().into_iter().next())
}

fn tags(snapshot: &Snapshot) -> BTreeMap<String, String> {
    let tag = |tag: &aws_sdk_ec2::types::Tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned()));
    snapshot.tags().iter().filter_map(tag).collect()
}

/// The account's snapshots in the Region that everybody may use, sorted.
async fn public(aws: &Aws) -> Result<Vec<SnapshotId>, Failure> {
    let call = aws.ec2().describe_snapshots().owner_ids("self").restorable_by_user_ids("all").max_results(1000);
    let found: Result<Vec<_>, _> = call.into_paginator().items().send().try_collect().await;
    let found = found.map_err(Failure::from_sdk("list the public snapshots of", &aws.account))?;
    let mut ids: Vec<SnapshotId> = found.iter().filter_map(|one| one.snapshot_id()?.parse().ok()).collect();
    ids.sort();
    Ok(ids)
}
