//! Locks the case's snapshot of one volume against deletion, in governance mode: who holds
//! `ec2:UnlockSnapshot` can still unlock it.
//!
//! A snapshot can be locked while it is pending; its time then begins when it is complete.
//! <https://docs.aws.amazon.com/ebs/latest/userguide/lock-snapshot.html>

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{LockMode, LockState};
use serde::{Deserialize, Serialize};

use super::create_snapshots::{by_volume, snapshot_arn, snapshots_of_case};
use crate::action::{Action, Context, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::{Class, Failure};
use crate::ids::{SnapshotId, VolumeId};
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Undo};

/// Locks the snapshot that this run has made of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockSnapshot {
    /// The volume.
    pub volume: VolumeId,
    /// For how many days.
    pub days: i32,
}

/// Whether a snapshot is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lock {
    /// Not, or no longer.
    None,
    /// In governance mode.
    Governance,
    /// In compliance mode, which is stronger.
    Compliance,
}

impl Action for LockSnapshot {
    const NAME: &'static str = "ec2.lock-snapshot";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::read("ec2:DescribeLockedSnapshots"),
        Permission::read("ec2:DescribeSnapshots"),
        Permission::on("ec2:LockSnapshot", &["ec2:*::snapshot/*"]),
    ];
    const UNDO: Undo = Undo::Never { why: "evidence is kept; the lock ends by itself" };
    type State = Lock;

    fn subject(&self) -> String {
        self.volume.to_string()
    }

    fn change(&self, before: &Self::State) -> Change {
        Change {
            what: format!("lock of this case's snapshot of {}", self.volume),
            from: match before {
                Lock::None => "none",
                Lock::Governance => "governance mode",
                Lock::Compliance => "compliance mode",
            }
            .to_owned(),
            to: format!("governance mode, {} days", self.days),
        }
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        // The snapshot does not exist yet when the session is made.
        vec![Grant::new("ec2:LockSnapshot", [snapshot_arn(aws, "*")])]
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        let snapshot = self.snapshot(cx).await?;
        // Known from the journal, and not visible yet; or deleted, which the plan that checks the run finds.
        let lock = crate::failure::gone_is_none(lock_of(cx.aws, &snapshot).await)?;
        lock.map(Some).ok_or_else(|| self.not_visible())
    }

    async fn wanted(&self, _cx: &Context<'_>, _before: &Self::State) -> Result<Self::State, Failure> {
        Ok(Lock::Governance)
    }

    async fn set(&self, cx: &Context<'_>, _from: &Self::State, _to: &Self::State) -> Result<Set<Self::State>, Failure> {
        let snapshot = self.snapshot(cx).await?;
        let call = cx.aws.ec2().lock_snapshot().snapshot_id(snapshot.as_str());
        let call = call.lock_mode(LockMode::Governance).lock_duration(self.days);
        let locked = call.send().await.map_err(Failure::from_sdk("lock snapshot", &snapshot));
        crate::failure::gone_is_none(locked)?.ok_or_else(|| self.not_visible())?;
        Ok(Set::Done)
    }

    fn satisfied(&self, now: &Self::State, _wanted: &Self::State) -> bool {
        *now != Lock::None
    }
}

impl LockSnapshot {
    /// The snapshot of this run: by the journal, else by its tag.
    async fn snapshot(&self, cx: &Context<'_>) -> Result<SnapshotId, Failure> {
        if let Some(made) = cx.snapshots.get(&self.volume) {
            return Ok(made.clone());
        }
        let found = snapshots_of_case(cx.aws, cx.run).await?;
        by_volume(&found, &BTreeSet::from([self.volume.clone()])).remove(&self.volume).ok_or_else(|| self.not_visible())
    }

    /// Just made, it may not be visible for a moment: a later attempt finds it.
    fn not_visible(&self) -> Failure {
        Failure::new(Class::Transient, "find the snapshot of", self.volume.to_string())
    }
}

/// The lock of a snapshot.
pub async fn lock_of(aws: &Aws, snapshot: &SnapshotId) -> Result<Lock, Failure> {
    let call = aws.ec2().describe_locked_snapshots().snapshot_ids(snapshot.as_str());
    let answer = call.send().await.map_err(Failure::from_sdk("read the lock of", snapshot))?;
    let ours = answer.snapshots().iter().find(|locked| locked.snapshot_id() == Some(snapshot.as_str()));
    Ok(match ours.and_then(|locked| locked.lock_state()) {
        Some(LockState::Governance) => Lock::Governance,
        Some(LockState::Compliance | LockState::ComplianceCooloff) => Lock::Compliance,
        _ => Lock::None,
    })
}
