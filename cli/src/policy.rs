//! `firebreak policy`: check a policy set, and put it in force.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use firebreak::guard::Policies;
use firebreak::operator::PUBLISHER;
use jiff::Timestamp;

use crate::connect::playbooks;

pub(crate) fn read(path: &Path) -> Result<Policies> {
    let text = std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
    Policies::parse(&text).with_context(|| format!("{} cannot be used", path.display()))
}

pub(crate) fn check(path: &Path) -> Result<bool> {
    let policies = read(path)?;
    policies.validate().with_context(|| format!("{} cannot be used", path.display()))?;
    match warn(&policies)?.as_str() {
        "" => writeln!(anstream::stdout(), "valid: sha256 {}", policies.sha256)?,
        some => writeln!(anstream::stdout(), "valid, with {some}: sha256 {}", policies.sha256)?,
    }
    Ok(true)
}

/// Prints a set's warnings, one a line, and says how many there are; nothing when there is none.
fn warn(policies: &Policies) -> Result<String> {
    let ids: Vec<&str> = playbooks().iter().map(|playbook| playbook.meta().id).collect();
    let warnings = policies.warnings(&ids, Timestamp::now());
    let mut out = anstream::stdout().lock();
    for warning in &warnings {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(match warnings.len() {
        0 => String::new(),
        1 => "1 warning".to_owned(),
        count => format!("{count} warnings"),
    })
}

/// First the object, then the accepted hash: in between, the function sees an object of another hash,
/// keeps the set in memory and proposes.
pub(crate) async fn publish(path: &Path, yes: bool) -> Result<bool> {
    let text = std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
    let policies = read(path)?;
    policies.validate().with_context(|| format!("{} cannot be used", path.display()))?;
    let warnings = warn(&policies)?;
    if !warnings.is_empty() && !yes {
        writeln!(anstream::stdout(), "not published: {warnings}; with --yes it is published all the same")?;
        return Ok(false);
    }
    let (hub, publisher) = crate::connect::taking(PUBLISHER).await?;
    let Some((bucket, key)) = &hub.config.policy_object else {
        bail!("FIREBREAK_POLICY_BUCKET and FIREBREAK_POLICY_KEY are not set: there is nowhere to publish to");
    };
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
    hub.ledger.accept_policy(&policies.sha256, &publisher.arn, Timestamp::now()).await?;
    writeln!(anstream::stdout(), "published to s3://{bucket}/{key}, accepted sha256 {}", policies.sha256)?;
    Ok(true)
}
