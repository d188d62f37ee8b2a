//! # Snapshot an instance's volumes as evidence
//!
//! ## What it answers
//!
//! GuardDuty findings of an EC2 instance that acts, beside `isolate-instance`, and weaker signals of a process on one.
//!
//! ## What it does
//!
//! Makes one crash-consistent set of snapshots of every EBS volume, with the case in their tags, and locks
//! each against deletion in governance mode.
//!
//! ## What may break
//!
//! Nothing. Volumes are slower while they are first read.
//!
//! ## How it is undone
//!
//! Not at all: evidence is kept. The locks end by themselves.
//!
//! ## What it will not touch
//!
//! Instances that a service manages, instance store disks, memory, snapshots of anybody else.
//!
//! ## Drill
//!
//! `cargo drill -- compromised-instance`
//!
//! ## References
//!
//! - <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSnapshots.html>
//! - <https://docs.aws.amazon.com/ebs/latest/userguide/ebs-snapshot-lock.html>

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{Instance, InstanceStorageInfo, Snapshot, SnapshotState};
use firebreak::action::{Action, AnyAction, Boxed, Of};
use firebreak::actions::ec2::create_snapshots::{
    CreateSnapshots, by_volume, every_snapshot_of_case, snapshots_of_case,
};
use firebreak::actions::ec2::keep_volumes::volumes_of;
use firebreak::actions::ec2::lock_snapshot::{Lock, LockSnapshot, lock_of};
use firebreak::aws::Aws;
use firebreak::failure::{Class, Failure};
use firebreak::finding::{Answers, Finding};
use firebreak::ids::{InterfaceId, SnapshotId, VolumeId};
use firebreak::permission::Permission;
use firebreak::plan::{Plan, Step};
use firebreak::playbook::{Custody, Maybe, Meta, PlanContext, Planned, Playbook, Purpose};
use firebreak::requests::AwsRequest;
use firebreak::run::{Run, StepResult};
use firebreak::target::{Target, TargetKind};

use firebreak::text::{plain, quoted};
use serde_json::{Value, json};

use crate::{isolate_instance, reads};

/// Snapshots the volumes of an instance.
#[derive(Debug)]
pub struct SnapshotVolumes;

const META: Meta = Meta {
    id: "snapshot-volumes",
    title: "Snapshot every EBS volume of an EC2 instance at one moment, and lock the snapshots",
    purpose: Purpose::Preserve,
    kinds: &[TargetKind::Ec2Instance],
    hold: "snapshot-volumes",
    rechecks: &[],
    controls: &[],
    concerns: &["EC2", "Runtime"],
    triggers: &[isolate_instance::ACTS, WEAKER],
    reads: &[Permission::read("ec2:DescribeInstanceTypes"), Permission::read("ec2:DescribeInstances")],
};

/// Signals that ordinary work gives as well (a new binary or library, a shell, an unusual domain, a mounted host
/// directory, the Docker socket), and a call from or to an address of the account's own threat list: the evidence is
/// worth keeping, for it costs little and is gone when the instance is; cutting a production host off is not worth
/// proposing each time.
const WEAKER: &[Answers] = &[
    Answers::always("UnauthorizedAccess:EC2/MaliciousIPCaller.Custom"),
    Answers::always("Impact:EC2/SuspiciousDomainRequest.Reputation"),
    Answers::names_instance("DefenseEvasion:Runtime/PtraceAntiDebugging"),
    Answers::names_instance("Discovery:Runtime/SuspiciousCommand"),
    Answers::names_instance("Execution:Runtime/NewBinaryExecuted"),
    Answers::names_instance("Execution:Runtime/NewLibraryLoaded"),
    Answers::names_instance("Execution:Runtime/SuspiciousShellCreated"),
    Answers::names_instance("Impact:Runtime/SuspiciousDomainRequest.Reputation"),
    Answers::names_instance("PrivilegeEscalation:Runtime/ContainerMountsHostDirectory"),
    Answers::names_instance("PrivilegeEscalation:Runtime/DockerSocketAccessed"),
    Answers::names_instance("PrivilegeEscalation:Runtime/UserfaultfdUsage"),
];

const ACTIONS: &[&dyn AnyAction] = &[&Of::<CreateSnapshots>::NEW, &Of::<LockSnapshot>::NEW];

impl Playbook for SnapshotVolumes {
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

    fn custody<'a>(&'a self, cx: &'a PlanContext<'a>, run: &'a Run) -> Boxed<'a, Result<Option<Custody>, Failure>> {
        Box::pin(async move {
            let snapshots = every_snapshot_of_case(cx.aws, &run.head.id).await?;
            let read = snapshots.iter().map(|snapshot| custody_of(cx.aws, run, snapshot));
            let items = futures_util::future::try_join_all(read).await?;
            let mut problems: Vec<String> = snapshots.iter().filter_map(problem).collect();
            problems.extend(missing(run, &snapshots));
            let unlocked = snapshots.iter().zip(&items).filter(|(_, item)| item["lock"] == json!(Lock::None));
            problems.extend(unlocked.map(|(snapshot, _)| format!("{} is not locked", in_words(snapshot))));
            let complete = snapshots.iter().all(|s| s.state() != Some(&SnapshotState::Pending));
            Ok(Some(Custody { complete, problems, items }))
        })
    }
}

/// A snapshot as the custody record holds it.
async fn custody_of(aws: &Aws, run: &Run, snapshot: &Snapshot) -> Result<Value, Failure> {
    let lock = match snapshot.snapshot_id().and_then(|id| id.parse().ok()) {
        Some(id) => lock_of(aws, &id).await?,
        None => Lock::None,
    };
    Ok(json!({
        "volume": snapshot.volume_id(),
        "snapshot": snapshot.snapshot_id(),
        "owner": snapshot.owner_id(),
        "size_gib": snapshot.volume_size(),
        "encrypted": snapshot.encrypted(),
        "kms_key": snapshot.kms_key_id(),
        "state": snapshot.state().map(|state| state.as_str()),
        "started_at": snapshot.start_time().map(ToString::to_string),
        "completed_at": snapshot.completion_time().map(ToString::to_string),
        "lock": lock,
        "requests": requests_of(run, snapshot.volume_id().unwrap_or_default(), snapshot.snapshot_id().unwrap_or_default()),
    }))
}

/// The calls that made and locked a snapshot of a volume: one call makes a set, and a volume that came later is in
/// another. Where the journal does not know what a set became, the volumes that it was for say so.
fn requests_of<'a>(run: &'a Run, volume: &str, snapshot: &str) -> Vec<&'a AwsRequest> {
    let is_about = |step: &&Step| match step.action.as_str() {
        CreateSnapshots::NAME => match run.result(&step.id) {
            Some(StepResult::Changed { after }) => after[volume] == snapshot,
            _ => step.args["volumes"].as_array().is_some_and(|volumes| volumes.iter().any(|id| id == volume)),
        },
        LockSnapshot::NAME => step.args["volume"] == volume,
        _ => false,
    };
    run.all_steps().filter(is_about).flat_map(|step| run.requests(&step.id)).collect()
}

/// Volumes that the run was to snapshot and of which there is no sound snapshot of this case now: somebody
/// deleted it, or took its tag away.
fn missing(run: &Run, snapshots: &[Snapshot]) -> Vec<String> {
    let wanted = run
        .all_steps()
        .filter(|step| step.action == CreateSnapshots::NAME)
        .filter_map(|step| serde_json::from_value::<CreateSnapshots>(step.args.clone()).ok())
        .flat_map(|action| action.volumes);
    let sound = |volume: &VolumeId| {
        snapshots.iter().any(|s| s.volume_id() == Some(volume.as_str()) && s.state() != Some(&SnapshotState::Error))
    };
    wanted
        .filter(|volume| !sound(volume))
        .map(|volume| format!("there is no snapshot of {volume} of this case"))
        .collect()
}

fn problem(snapshot: &Snapshot) -> Option<String> {
    (snapshot.state() == Some(&SnapshotState::Error)).then(|| {
        let why = snapshot.state_message().unwrap_or("no reason given");
        format!("{} failed: {}", in_words(snapshot), plain(why, 120))
    })
}

fn in_words(snapshot: &Snapshot) -> String {
    let (id, volume) = (snapshot.snapshot_id().unwrap_or_default(), snapshot.volume_id().unwrap_or_default());
    format!("snapshot {} of {}", quoted(id), quoted(volume))
}

async fn plan(cx: &PlanContext<'_>, target: &Target, finding: &Finding) -> Result<Planned, Failure> {
    let id = reads::instance_id(cx.aws, target)?;
    // Before there is a run there can be no snapshots of it.
    let case = async {
        match cx.run {
            Some(run) => snapshots_of_case(cx.aws, run).await,
            None => Ok(Vec::new()),
        }
    };
    let (instance, case) = tokio::try_join!(reads::instance(cx.aws, &id), case)?;
    let Some(instance) = instance else { return Ok(Planned::Gone(format!("{id} does not exist"))) };
    if let Some(not) = reads::not_ours_to_change(&id, &instance) {
        return Ok(not);
    }
    let own = |id: &InterfaceId| {
        instance.network_interfaces().iter().any(|seen| seen.network_interface_id() == Some(id.as_str()))
    };
    let not_touched = finding.not_touched(own);
    let attached = volumes_of(&instance);
    let volumes: BTreeSet<VolumeId> = attached.keys().cloned().collect();
    let mut made = by_volume(&case, &volumes);
    for (volume, snapshot) in cx.snapshots.iter().filter(|(volume, _)| volumes.contains(volume)) {
        made.entry(volume.clone()).or_insert_with(|| snapshot.clone());
    }
    let (locks, stores) = tokio::join!(locks(cx.aws, &made), cx.optional(instance_stores(cx.aws, &instance)));

    let mut plan = Plan::new(META.id, target.clone());
    plan.tags = reads::tags(&instance);
    plan.remains = not_touched;
    let missing: BTreeSet<VolumeId> = volumes.iter().filter(|volume| !made.contains_key(volume)).cloned().collect();
    // A volume that was attached meanwhile gets its own set; the others have their moment already.
    let is_boot = |volume: &VolumeId| {
        let device = attached.get(volume).map(|at| at.device.as_str());
        device.is_some() && device == instance.root_device_name()
    };
    let (boot, data): (BTreeSet<_>, BTreeSet<_>) = made.keys().cloned().partition(is_boot);
    let without = (data, !boot.is_empty());
    let create = CreateSnapshots { instance: id, volumes: missing.clone(), without, playbook: META.id.to_owned() };
    let needs = (!missing.is_empty()).then(|| create.id());
    if !missing.is_empty() {
        plan.stage("snapshot", [create.step(&BTreeMap::new())]);
    }
    let locks = locks?;
    let lock = |volume: &VolumeId| {
        let now = locks.get(volume).copied().unwrap_or(Lock::None);
        let action = LockSnapshot { volume: volume.clone(), days: cx.snapshot_lock_days };
        let needs = needs.clone().filter(|_| missing.contains(volume));
        (now == Lock::None).then(|| action.step(&now).needing(needs))
    };
    plan.stage("lock", volumes.iter().filter_map(lock));
    say_what_remains(&mut plan, !volumes.is_empty(), stores);
    Ok(Planned::Plan(plan))
}

/// The locks of these snapshots, by volume. What AWS does not show yet has none that it shows.
async fn locks(aws: &Aws, made: &BTreeMap<VolumeId, SnapshotId>) -> Result<BTreeMap<VolumeId, Lock>, Failure> {
    let read = made.iter().map(|(volume, snapshot)| async {
        match lock_of(aws, snapshot).await {
            Err(failure) if failure.class == Class::Gone => Ok((volume.clone(), Lock::None)),
            lock => Ok((volume.clone(), lock?)),
        }
    });
    Ok(futures_util::future::try_join_all(read).await?.into_iter().collect())
}

/// The instance store disks that come with the instance's type; it does not list them itself.
async fn instance_stores(aws: &Aws, instance: &Instance) -> Result<Option<InstanceStorageInfo>, Failure> {
    let Some(kind) = instance.instance_type() else { return Ok(None) };
    let answer = aws.ec2().describe_instance_types().instance_types(kind.clone()).send().await;
    let answer = answer.map_err(Failure::from_sdk("describe instance type", kind.as_str()))?;
    Ok(answer.instance_types.unwrap_or_default().into_iter().find_map(|found| found.instance_storage_info))
}

fn say_what_remains(plan: &mut Plan, volumes: bool, stores: Maybe<Option<InstanceStorageInfo>>) {
    if volumes {
        plan.remains.push("evidence still in the compromised account, until it is copied out".to_owned());
        plan.remains.push(
            "who holds ec2:UnlockSnapshot there can unlock (governance mode); who holds a volume's key can disable it"
                .to_owned(),
        );
    } else {
        plan.notes.push("it has no EBS volume: there is nothing to snapshot".to_owned());
    }
    match stores {
        Ok(None) => {}
        Ok(Some(stores)) => {
            let disks: i32 = stores.disks().iter().filter_map(|disk| disk.count()).sum();
            let size = stores.total_size_in_gb().unwrap_or_default();
            plan.remains.push(format!("{disks} instance store disks ({size} GB) are not captured, nor is memory"));
        }
        Err(why) => {
            plan.incomplete = true;
            plan.remains.push(format!("whether it has instance store disks, never captured, is not known: {why}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_ec2::types::DiskInfo;

    #[test]
    fn what_is_not_captured_is_named() {
        let target = "aws/111111111111/eu-west-1/ec2-instance/i-00000001".parse().unwrap();
        let mut plan = Plan::new(META.id, target);
        let disk = DiskInfo::builder().count(2).size_in_gb(900).build();
        let stores = InstanceStorageInfo::builder().total_size_in_gb(1800).disks(disk).build();
        say_what_remains(&mut plan, false, Ok(Some(stores)));
        assert_eq!(plan.remains, ["2 instance store disks (1800 GB) are not captured, nor is memory"]);
        assert_eq!(plan.notes, ["it has no EBS volume: there is nothing to snapshot"]);
    }
}
