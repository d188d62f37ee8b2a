//! An EBS snapshot, and whether everybody may make volumes of it.

use anyhow::{Result, ensure};
use firebreak_tests::emulator::world;
use firebreak_tests::in_process::Case;
use serde_json::{Value, json};

use super::Open;

pub(super) fn open(case: &Case, state: &Value) -> Result<Open> {
    let id = &case.target.id;
    let snapshot = &state["snapshots"][id];
    ensure!(snapshot.is_object(), "there is no snapshot {id}");
    let public = snapshot["shared"]["public"] == true;
    Ok(public.then(|| ("everybody".to_owned(), [id.clone()].into())).into_iter().collect())
}

/// Everybody may again.
pub(super) async fn reopen(case: &Case) -> Result<()> {
    let params = json!({
        "SnapshotId": case.target.id, "Attribute": "createVolumePermission", "OperationType": "add", "GroupNames": ["all"],
    });
    case.call("ec2", "modify_snapshot_attribute", params).await.map(|_| ())
}

pub(super) fn hostile(evil: &str, secret: &str) -> Result<Value> {
    let mut world = world("public-snapshot")?;
    let victim = &mut world["snapshots"]["victim"];
    victim["tags"] = json!({"Name": evil, "secret": secret});
    victim["description"] = json!(evil);
    Ok(world)
}
