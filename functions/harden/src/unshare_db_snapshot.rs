//! # Make a public snapshot of a database private
//!
//! ## What it answers
//!
//! The control and the rule that say that everybody may restore a snapshot of a database instance or cluster (RDS.1,
//! `rds-snapshots-public-prohibited`).
//!
//! ## What it does
//!
//! Takes everybody off those who may restore the snapshot.
//!
//! ## What may break
//!
//! Whoever uses a snapshot that is public on purpose.
//!
//! ## How it is undone
//!
//! The snapshot is public again. One that was made since under the same name is another, and is left alone.
//! Whoever undoes it is not overruled: when the control is reported again, a person is asked.
//!
//! ## What it will not touch
//!
//! Accounts that the snapshot is shared with by name: they keep it, and are told. Copies that somebody has made, and databases
//! that somebody has restored, while it was public. Snapshots of Neptune and DocumentDB are RDS's as well.
//!
//! ## Drill
//!
//! There is none of its own: `cargo test --test laws` has the worlds.
//!
//! ## References
//!
//! - <https://docs.aws.amazon.com/securityhub/latest/userguide/rds-controls.html#rds-1>
//! - <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_ShareSnapshot.html>

use std::collections::BTreeMap;

use firebreak::action::{Action, AnyAction, Of};
use firebreak::actions::rds::{unshare_db_cluster_snapshot, unshare_db_snapshot};
use firebreak::aws::Aws;
use firebreak::failure::{Failure, gone_is_none};
use firebreak::finding::{Check, Finding, Resource, ResourceId};
use firebreak::ids::DbSnapshotId;
use firebreak::permission::Permission;
use firebreak::plan::Plan;
use firebreak::playbook::{Meta, PlanContext, Planned, Purpose};
use firebreak::target::{Target, TargetKind};

use crate::fix::{Fix, id_of};

/// Makes a public snapshot of a database private.
#[derive(Debug)]
pub struct UnshareDbSnapshot;

const PUBLIC: Check = Check {
    control: Some("RDS.1"),
    also: &["PCI.RDS.1"],
    rule: Some(("RDS_SNAPSHOTS_PUBLIC_PROHIBITED", "rds-snapshots-public-prohibited")),
};

impl Fix for UnshareDbSnapshot {
    const META: Meta = Meta {
        id: "unshare-db-snapshot",
        title: "Make a public snapshot of a database private",
        purpose: Purpose::Fix,
        kinds: &[TargetKind::RdsSnapshot, TargetKind::RdsClusterSnapshot],
        hold: "unshare-db-snapshot",
        rechecks: &[],
        triggers: &[],
        controls: &[PUBLIC],
        concerns: &[],
        reads: &[
            Permission::read("config:DescribeConfigRules"),
            Permission::on("rds:ListTagsForResource", &["rds:*:*:cluster-snapshot:*", "rds:*:*:snapshot:*"]),
        ],
    };
    const ACTIONS: &'static [&'static dyn AnyAction] = &[
        &Of::<unshare_db_cluster_snapshot::UnshareDbClusterSnapshot>::NEW,
        &Of::<unshare_db_snapshot::UnshareDbSnapshot>::NEW,
    ];

    fn target(resource: &Resource, _: &Finding) -> Option<Target> {
        let region = resource.region.clone()?;
        match &resource.id {
            ResourceId::DbSnapshot(id) => Some(Target::db_snapshot(resource.account.clone(), region, id.clone())),
            ResourceId::DbClusterSnapshot(id) => {
                Some(Target::db_cluster_snapshot(resource.account.clone(), region, id.clone()))
            }
            _ => None,
        }
    }

    async fn plan(cx: &PlanContext<'_>, target: &Target, _: &Finding, _: &'static Check) -> Result<Planned, Failure> {
        let snapshot: DbSnapshotId = id_of(target)?;
        let of_cluster = target.kind == TargetKind::RdsClusterSnapshot;
        let word = if of_cluster { "cluster-snapshot" } else { "snapshot" };
        let state = async {
            match of_cluster {
                true => unshare_db_cluster_snapshot::state(cx.aws, &snapshot).await,
                false => unshare_db_snapshot::state(cx.aws, &snapshot).await,
            }
        };
        let arn = cx.aws.arn("rds", &format!("{word}:{snapshot}"));
        let (state, tags) = tokio::join!(state, tags_of(cx.aws, &arn));
        let (Some((before, given)), Some(tags)) = (state?, tags?) else {
            return Ok(Planned::Gone(format!("account {} has no {word} {snapshot}", target.account)));
        };
        let mut plan = Plan::new(Self::META.id, target.clone());
        plan.tags = tags;
        if !given.public {
            return Ok(Planned::Plan(plan));
        }
        if !given.accounts.is_empty() {
            plan.remains.push(format!("{snapshot} stays shared by name with {}", given.accounts.join(", ")));
        }
        plan.remains.push(format!("whoever has copied or restored {snapshot} while it was public has it"));
        let step = match of_cluster {
            true => unshare_db_cluster_snapshot::UnshareDbClusterSnapshot { snapshot }.step(&before),
            false => unshare_db_snapshot::UnshareDbSnapshot { snapshot }.step(&before),
        };
        plan.stage("unshare", [step]);
        Ok(Planned::Plan(plan))
    }
}

/// The tags of a snapshot; nothing when it is gone.
async fn tags_of(aws: &Aws, arn: &str) -> Result<Option<BTreeMap<String, String>>, Failure> {
    let answer = aws.rds().list_tags_for_resource().resource_name(arn).send().await;
    let answer = gone_is_none(answer.map_err(Failure::from_sdk("read the tags of", arn)))?;
    Ok(answer.map(|answer| {
        let tags = answer.tag_list.unwrap_or_default().into_iter();
        tags.filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default()))).collect()
    }))
}
