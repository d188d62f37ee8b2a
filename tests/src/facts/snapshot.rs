//! A snapshot, of a volume or of a database, and whether everybody may use it.

use crate::emulator::world;
use crate::in_process::Case;
use anyhow::{Result, ensure};
use firebreak::target::TargetKind;
use serde_json::{Value, json};

use super::Open;

pub(super) fn open(case: &Case, state: &Value) -> Result<Open> {
    let id = &case.target.id;
    let all = if case.target.kind == TargetKind::Ec2Snapshot { "snapshots" } else { "db_snapshots" };
    let snapshot = &state[all][id];
    ensure!(snapshot.is_object(), "there is no snapshot {id}");
    let public = snapshot["shared"]["public"] == true;
    Ok(public.then(|| ("everybody".to_owned(), [id.clone()].into())).into_iter().collect())
}

/// Everybody may again.
pub(super) async fn reopen(case: &Case) -> Result<()> {
    let id = &case.target.id;
    let (service, call, params) = match case.target.kind {
        TargetKind::RdsSnapshot => (
            "rds",
            "modify_db_snapshot_attribute",
            json!({"DBSnapshotIdentifier": id, "AttributeName": "restore", "ValuesToAdd": ["all"]}),
        ),
        TargetKind::RdsClusterSnapshot => (
            "rds",
            "modify_db_cluster_snapshot_attribute",
            json!({"DBClusterSnapshotIdentifier": id, "AttributeName": "restore", "ValuesToAdd": ["all"]}),
        ),
        _ => (
            "ec2",
            "modify_snapshot_attribute",
            json!({"SnapshotId": id, "CreateVolumePermission": {"Add": [{"Group": "all"}]}}),
        ),
    };
    case.call(service, call, params).await.map(|_| ())
}

pub(super) fn hostile(evil: &str, secret: &str) -> Result<Value> {
    let mut world = world("public-snapshot")?;
    let victim = &mut world["snapshots"]["victim"];
    victim["tags"] = json!({"Name": evil, "secret": secret});
    victim["description"] = json!(evil);
    Ok(world)
}

pub(super) fn hostile_database(evil: &str, secret: &str) -> Result<Value> {
    let mut world = world("public-db-snapshot")?;
    world["db_snapshots"]["victim"]["tags"] = json!({"Name": evil, "secret": secret});
    Ok(world)
}
