//! `firebreak policy`: check a policy set, and put it in force.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use firebreak::guard::Policies;
use jiff::Timestamp;

pub(crate) fn read(path: &Path) -> Result<Policies> {
    let text = std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
    Policies::parse(&text).with_context(|| format!("{} cannot be used", path.display()))
}

pub(crate) fn check(path: &Path) -> Result<bool> {
    let policies = read(path)?;
    policies.validate().with_context(|| format!("{} cannot be used", path.display()))?;
    writeln!(anstream::stdout(), "valid: sha256 {}", policies.sha256)?;
    Ok(true)
}

/// First the object, then the accepted hash: in between, the function sees an object of another hash,
/// keeps the set in memory and proposes.
pub(crate) async fn publish(path: &Path) -> Result<bool> {
    let text = std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
    let policies = read(path)?;
    policies.validate().with_context(|| format!("{} cannot be used", path.display()))?;
    let hub = crate::connect::hub().await?;
    let Some((bucket, key)) = &hub.config.policy_object else {
        bail!("FIREBREAK_POLICY_BUCKET and FIREBREAK_POLICY_KEY are not set: there is nowhere to publish to");
    };
    let by = crate::connect::caller(&hub).await?;
    hub.aws
        .s3()
        .put_object()
        .bucket(bucket)
        .key(key)
        .expected_bucket_owner(hub.config.hub_account.as_str())
        .body(text.into_bytes().into())
        .send()
        .await
        .with_context(|| format!("could not write s3://{bucket}/{key}"))?;
    hub.ledger.accept_policy(&policies.sha256, &by, Timestamp::now()).await?;
    writeln!(anstream::stdout(), "published to s3://{bucket}/{key}, accepted sha256 {}", policies.sha256)?;
    Ok(true)
}
