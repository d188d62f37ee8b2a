//! Takes the whole world off those who may use an EBS snapshot. Accounts that it is shared with by name keep it.
//!
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifySnapshotAttribute.html>

use aws_sdk_ec2::types::{OperationType, PermissionGroup, SnapshotAttributeName};
use serde::{Deserialize, Serialize};

use crate::action::{Action, Context, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::{Failure, gone_is_none};
use crate::ids::SnapshotId;
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Undo};

/// Makes a public snapshot private.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnshareSnapshot {
    /// The snapshot.
    pub snapshot: SnapshotId,
}

/// Who may make volumes of a snapshot, beside the account that owns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// Everybody.
    pub public: bool,
    /// Accounts by name.
    pub accounts: Vec<String>,
}

impl Action for UnshareSnapshot {
    const NAME: &'static str = "ec2.unshare-snapshot";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::on("ec2:DescribeSnapshotAttribute", &["ec2:*::snapshot/*"]),
        Permission::on("ec2:ModifySnapshotAttribute", &["ec2:*::snapshot/*"]),
    ];
    const UNDO: Undo = Undo::Exact;
    const CUTS: bool = true;
    /// Whether it is public.
    type State = bool;

    fn subject(&self) -> String {
        self.snapshot.to_string()
    }

    fn change(&self, before: &Self::State) -> Change {
        let words = |public: bool| if public { "public: everybody may use it" } else { "not public" };
        Change {
            what: format!("snapshot {}", self.snapshot),
            from: words(*before).to_owned(),
            to: words(false).to_owned(),
        }
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        let arn = format!("arn:{}:ec2:{}::snapshot/{}", aws.region.partition(), aws.region, self.snapshot);
        vec![Grant::new("ec2:ModifySnapshotAttribute", [arn])]
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        Ok(shared(cx.aws, &self.snapshot).await?.map(|shared| shared.public))
    }

    async fn wanted(&self, _cx: &Context<'_>, _before: &Self::State) -> Result<Self::State, Failure> {
        Ok(false)
    }

    async fn set(&self, cx: &Context<'_>, _from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        let operation = if *to { OperationType::Add } else { OperationType::Remove };
        let call = cx.aws.ec2().modify_snapshot_attribute().snapshot_id(self.snapshot.as_str());
        let call = call.attribute(SnapshotAttributeName::CreateVolumePermission).operation_type(operation);
        let sent = call.group_names(PermissionGroup::All.as_str()).send().await;
        sent.map_err(Failure::from_sdk("set who may use snapshot", &self.snapshot))?;
        Ok(Set::Done)
    }
}

/// Who may make volumes of a snapshot; nothing when it does not exist.
pub async fn shared(aws: &Aws, snapshot: &SnapshotId) -> Result<Option<Shared>, Failure> {
    let call = aws.ec2().describe_snapshot_attribute().snapshot_id(snapshot.as_str());
    let answer = call.attribute(SnapshotAttributeName::CreateVolumePermission).send().await;
    let answer = gone_is_none(answer.map_err(Failure::from_sdk("read who may use snapshot", snapshot)))?;
    Ok(answer.map(|answer| {
        let given = answer.create_volume_permissions();
        Shared {
            public: given.iter().any(|one| one.group() == Some(&PermissionGroup::All)),
            accounts: given.iter().filter_map(|one| one.user_id().map(str::to_owned)).collect(),
        }
    }))
}
