//! Snapshots every EBS volume of an instance at one moment.
//!
//! `CreateSnapshots` has no client token: the case tag, which holds the run's id, stands in for it. So the SDK
//! must not repeat the call by itself when an answer is lost: what is there is looked for by its tag first.
//! Nothing of the instance's is copied into tags or descriptions.
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSnapshots.html>

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::config::Config;
use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::types::{InstanceSpecification, ResourceType, Snapshot, SnapshotState};
use serde::{Deserialize, Serialize};

use crate::action::{Action, Context, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::Failure;
use crate::ids::{InstanceId, RunId, SnapshotId, VolumeId};
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Undo};
use crate::run::{Run, StepResult};

/// Makes one crash-consistent set of snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateSnapshots {
    /// The instance.
    pub instance: InstanceId,
    /// The volumes that must be in the set.
    pub volumes: BTreeSet<VolumeId>,
    /// Volumes that are left out, because the case has a snapshot of them: data volumes, and whether the boot
    /// volume is one of them.
    pub without: (BTreeSet<VolumeId>, bool),
    /// The playbook, for the tag that tells people.
    pub playbook: String,
}

impl Action for CreateSnapshots {
    const NAME: &'static str = "ec2.create-snapshots";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::read("ec2:DescribeSnapshots"),
        Permission::on("ec2:CreateSnapshots", &["ec2:*:*:instance/*", "ec2:*:*:volume/*", "ec2:*::snapshot/*"]),
        Permission::on("ec2:CreateTags", &["ec2:*::snapshot/*"]).when("ec2:CreateAction", "CreateSnapshots"),
    ];
    const UNDO: Undo = Undo::Never { why: "evidence is kept" };
    /// The snapshots of this case, by volume.
    type State = BTreeMap<VolumeId, SnapshotId>;

    fn subject(&self) -> String {
        // A volume that is attached later is another set's.
        format!("{} {}", self.instance, crate::plan::together(&self.volumes))
    }

    fn change(&self, before: &Self::State) -> Change {
        let volumes: Vec<&str> = self.volumes.iter().map(VolumeId::as_str).collect();
        Change {
            what: format!("snapshots of {} for this case", self.instance),
            from: match before.len() {
                0 => "none".to_owned(),
                n => format!("{n} of {}", volumes.len()),
            },
            to: format!("one set of {}", volumes.join(", ")),
        }
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        let instance = aws.arn("ec2", &format!("instance/{}", self.instance));
        let snapshot = snapshot_arn(aws, "*");
        let on = [instance, snapshot.clone(), super::every_volume(aws)];
        vec![Grant::new("ec2:CreateSnapshots", on), Grant::new("ec2:CreateTags", [snapshot])]
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        Ok(Some(by_volume(&snapshots_of_case(cx.aws, cx.run).await?, &self.volumes)))
    }

    async fn wanted(&self, _cx: &Context<'_>, before: &Self::State) -> Result<Self::State, Failure> {
        Ok(before.clone())
    }

    async fn set(&self, cx: &Context<'_>, _from: &Self::State, _to: &Self::State) -> Result<Set<Self::State>, Failure> {
        let tags = [(super::TAG_CASE, cx.run.as_str()), (super::TAG_PLAYBOOK, self.playbook.as_str())];
        let (data, boot) = &self.without;
        let data: Vec<String> = data.iter().map(VolumeId::to_string).collect();
        let which = InstanceSpecification::builder().instance_id(self.instance.as_str()).exclude_boot_volume(*boot);
        let which = which.set_exclude_data_volume_ids((!data.is_empty()).then_some(data));
        let made = cx
            .aws
            .ec2()
            .create_snapshots()
            .instance_specification(which.build())
            .description(format!("Firebreak case {}", cx.run))
            .tag_specifications(super::tags(ResourceType::Snapshot, &tags))
            .customize()
            .config_override(Config::builder().retry_config(RetryConfig::disabled()))
            .send()
            .await
            .map_err(Failure::from_sdk("snapshot the volumes of", &self.instance))?;
        let ids = |made: &aws_sdk_ec2::types::SnapshotInfo| {
            Some((made.volume_id()?.parse().ok()?, made.snapshot_id()?.parse().ok()?))
        };
        Ok(Set::Became(made.snapshots().iter().filter_map(ids).collect()))
    }

    fn satisfied(&self, now: &Self::State, _wanted: &Self::State) -> bool {
        self.volumes.iter().all(|volume| now.contains_key(volume))
    }
}

/// The snapshots that a run has made, by volume, as its journal has them: the last of each volume.
pub fn made_by(run: &Run) -> BTreeMap<VolumeId, SnapshotId> {
    let steps = run.all_steps().filter(|step| step.action == CreateSnapshots::NAME);
    let made = steps.filter_map(|step| match run.result(&step.id) {
        Some(StepResult::Changed { after }) => {
            serde_json::from_value::<<CreateSnapshots as Action>::State>(after.clone()).ok()
        }
        _ => None,
    });
    made.flatten().collect()
}

/// The ARN of a snapshot, which holds no account.
pub(super) fn snapshot_arn(aws: &Aws, id: &str) -> String {
    format!("arn:{}:ec2:{}::snapshot/{id}", aws.partition(), aws.region)
}

/// The snapshots of a run, found by their tag, oldest first. Whoever can tag in the account can tag an
/// old snapshot as ours, so only those made since the run began count.
pub async fn every_snapshot_of_case(aws: &Aws, run: &RunId) -> Result<Vec<Snapshot>, Failure> {
    let call = aws.ec2().describe_snapshots().owner_ids("self").max_results(1000);
    let call = call.filters(super::filter(&format!("tag:{}", super::TAG_CASE), run.as_str()));
    let found = call.into_paginator().items().send().try_collect().await;
    let mut found: Vec<Snapshot> = found.map_err(Failure::from_sdk("find the snapshots of case", run))?;
    found.retain(|snapshot| is_of_run(snapshot, run));
    found.sort_by_key(|snapshot| {
        let started = snapshot.start_time().map(|time| (time.secs(), time.subsec_nanos()));
        (started, snapshot.snapshot_id().map(str::to_owned))
    });
    Ok(found)
}

/// The snapshots of a case that can still be evidence: those that have not failed.
pub async fn snapshots_of_case(aws: &Aws, run: &RunId) -> Result<Vec<Snapshot>, Failure> {
    let mut found = every_snapshot_of_case(aws, run).await?;
    found.retain(|snapshot| snapshot.state() != Some(&SnapshotState::Error));
    Ok(found)
}

fn is_of_run(snapshot: &Snapshot, run: &RunId) -> bool {
    /// How far AWS's clock and ours may be apart.
    const SKEW_SECS: i64 = 300;
    let began = i64::try_from(run.started_ms() / 1000).unwrap_or(i64::MAX);
    snapshot.start_time().is_some_and(|time| time.secs() >= began - SKEW_SECS)
}

/// The first snapshot of each of these volumes.
pub fn by_volume(snapshots: &[Snapshot], volumes: &BTreeSet<VolumeId>) -> BTreeMap<VolumeId, SnapshotId> {
    let mut first = BTreeMap::new();
    for snapshot in snapshots {
        let volume = snapshot.volume_id().and_then(|id| id.parse().ok());
        let id = snapshot.snapshot_id().and_then(|id| id.parse().ok());
        if let (Some(volume), Some(id)) = (volume, id)
            && volumes.contains(&volume)
        {
            first.entry(volume).or_insert(id);
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_ec2::primitives::DateTime;

    #[test]
    fn an_old_snapshot_with_our_tag_does_not_count() {
        let run = RunId::new();
        let now = i64::try_from(run.started_ms() / 1000).unwrap();
        let made = |at: i64| Snapshot::builder().start_time(DateTime::from_secs(at)).state(SnapshotState::Pending);
        assert!(is_of_run(&made(now).build(), &run));
        assert!(!is_of_run(&made(now - 86_400).build(), &run));
        assert!(!is_of_run(&Snapshot::builder().build(), &run));
    }

    #[test]
    fn the_first_snapshot_of_each_wanted_volume_is_taken() {
        let snapshot = |volume: &str, id: &str| Snapshot::builder().volume_id(volume).snapshot_id(id).build();
        let found = [
            snapshot("vol-00000001", "snap-00000001"),
            snapshot("vol-00000001", "snap-00000002"),
            snapshot("vol-00000002", "snap-00000003"),
        ];
        let volumes = BTreeSet::from(["vol-00000001".parse().unwrap()]);
        let first = by_volume(&found, &volumes);
        assert_eq!(first.values().map(SnapshotId::as_str).collect::<Vec<_>>(), ["snap-00000001"]);
    }
}
