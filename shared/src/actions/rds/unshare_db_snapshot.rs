//! Takes everybody off those who may restore a snapshot of a database instance. Accounts that it is shared with by name keep it.
//!
//! <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_ModifyDBSnapshotAttribute.html>

use serde::{Deserialize, Serialize};

use super::{ALL, Publicity, RESTORE, Shared, change};
use crate::action::{Action, Context, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::{Failure, gone_is_none};
use crate::ids::DbSnapshotId;
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Undo};

/// Makes a public snapshot of a database instance private.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnshareDbSnapshot {
    /// The snapshot.
    pub snapshot: DbSnapshotId,
}

impl Action for UnshareDbSnapshot {
    const NAME: &'static str = "rds.unshare-db-snapshot";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::on("rds:DescribeDBSnapshots", &["rds:*:*:db:*", "rds:*:*:snapshot:*"]),
        Permission::on("rds:DescribeDBSnapshotAttributes", &["rds:*:*:snapshot:*"]),
        Permission::on("rds:ModifyDBSnapshotAttribute", &["rds:*:*:snapshot:*"]),
    ];
    const UNDO: Undo = Undo::Exact;
    const CUTS: bool = true;
    type State = Publicity;

    fn subject(&self) -> String {
        self.snapshot.to_string()
    }

    fn change(&self, before: &Self::State) -> Change {
        change(format!("snapshot {} of a database instance", self.snapshot), before)
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        vec![Grant::new("rds:ModifyDBSnapshotAttribute", [aws.arn("rds", &format!("snapshot:{}", self.snapshot))])]
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        Ok(state(cx.aws, &self.snapshot).await?.map(|(publicity, _)| publicity))
    }

    async fn wanted(&self, _cx: &Context<'_>, before: &Self::State) -> Result<Self::State, Failure> {
        Ok(before.private())
    }

    async fn set(&self, cx: &Context<'_>, _from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        let call = cx.aws.rds().modify_db_snapshot_attribute().db_snapshot_identifier(self.snapshot.as_str());
        let call = call.attribute_name(RESTORE);
        let call = if to.public { call.values_to_add(ALL) } else { call.values_to_remove(ALL) };
        call.send().await.map_err(Failure::from_sdk("set who may restore snapshot", &self.snapshot))?;
        Ok(Set::Done)
    }
}

/// Whether a snapshot of a database instance is public, and who may restore it; nothing when there is none of this name.
pub async fn state(aws: &Aws, snapshot: &DbSnapshotId) -> Result<Option<(Publicity, Shared)>, Failure> {
    let (answer, found) = tokio::join!(
        aws.rds().describe_db_snapshot_attributes().db_snapshot_identifier(snapshot.as_str()).send(),
        aws.rds().describe_db_snapshots().db_snapshot_identifier(snapshot.as_str()).send(),
    );
    let answer = gone_is_none(answer.map_err(Failure::from_sdk("read who may restore snapshot", snapshot)))?;
    let found = gone_is_none(found.map_err(Failure::from_sdk("describe snapshot", snapshot)))?;
    let (Some(answer), Some(found)) = (answer, found) else { return Ok(None) };
    let Some(found) = found.db_snapshots().first() else { return Ok(None) };
    let given =
        answer.db_snapshot_attributes_result().map(|result| result.db_snapshot_attributes()).unwrap_or_default();
    let restore = given.iter().filter(|attribute| attribute.attribute_name() == Some(RESTORE));
    let shared = Shared::of(restore.flat_map(|attribute| attribute.attribute_values()).map(String::as_str));
    Ok(Some((Publicity::of(&shared, found.snapshot_create_time()), shared)))
}
