//! A bucket, and whether everybody could be let in.

use crate::compare::entries;
use crate::emulator::world;
use crate::in_process::Case;
use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::Open;

/// The settings of its block of public access that are off.
pub(super) fn open(case: &Case, state: &Value) -> Result<Open> {
    let bucket = &state["buckets"][&case.target.id];
    ensure!(bucket.is_object(), "there is no bucket {}", case.target.id);
    let on: Vec<&str> = entries(&bucket["block"]).filter(|(_, on)| **on == true).map(|(name, _)| name).collect();
    let all = ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"];
    let off = all.into_iter().filter(|name| !on.contains(name));
    Ok(off.map(|name| (name.to_owned(), [case.target.id.clone()].into())).collect())
}

/// Nothing is blocked any more.
pub(super) async fn reopen(case: &Case) -> Result<()> {
    case.call("s3", "delete_public_access_block", json!({"Bucket": case.target.id})).await.map(|_| ())
}

pub(super) fn hostile(evil: &str, secret: &str) -> Result<Value> {
    let mut world = world("public-bucket")?;
    world["buckets"]["victim"]["tags"] = json!({"Name": evil, "secret": secret});
    Ok(world)
}
