//! Telling a sample (`CreateSampleFindings`) from the real thing.
//!
//! A sample never changes anything, so whoever can make a real finding look like a sample switches
//! containment off. Only marks in places that GuardDuty or AWS fill in are believed: never a tag, a
//! group, bucket, profile, user or domain name, or an image description, all of which belong to the
//! account that may be compromised.

use serde_json::Value;

use super::super::json::{At, ParseError};

/// The instance id in GuardDuty's samples.
pub(in super::super) const PLACEHOLDER_INSTANCE: &str = "i-99999999";

/// What every made-up value in a sample starts with.
pub(in super::super) const GENERATED: &str = "GeneratedFinding";

/// Fields below `resource` that AWS assigns.
const ASSIGNED: [&[&str]; 6] = [
    &["instanceDetails", "instanceId"],
    &["instanceDetails", "availabilityZone"],
    &["instanceDetails", "instanceState"],
    &["instanceDetails", "instanceType"],
    &["accessKeyDetails", "accessKeyId"],
    &["accessKeyDetails", "principalId"],
];

/// The actions whose remote address GuardDuty locates from its own data.
pub(in super::super) const ACTIONS: [&str; 4] =
    ["networkConnectionAction", "awsApiCallAction", "kubernetesApiCallAction", "rdsLoginAttemptAction"];

/// Whether the finding is a sample, by any mark.
pub(super) fn is_sample(title: &str, resource: &At<'_>, service: &At<'_>) -> Result<bool, ParseError> {
    // No title that GuardDuty writes starts with a name from the account; this one only samples have.
    if title.trim_start().starts_with("[SAMPLE]") || flagged(&service.field("additionalInfo")?)? {
        return Ok(true);
    }
    if resource.down(&["instanceDetails", "instanceId"])?.value().as_str() == Some(PLACEHOLDER_INSTANCE) {
        return Ok(true);
    }
    for path in ASSIGNED {
        if resource.down(path)?.starts_with(GENERATED) {
            return Ok(true);
        }
    }
    for action in ACTIONS {
        let remote = service.down(&["action", action, "remoteIpDetails"])?;
        if remote.down(&["country", "countryName"])?.starts_with(GENERATED)
            || remote.down(&["city", "cityName"])?.starts_with(GENERATED)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The flag that GuardDuty sets, which is where findings have it today: `sample` inside the JSON text
/// in `additionalInfo.value`. Older findings have it beside the text.
fn flagged(info: &At<'_>) -> Result<bool, ParseError> {
    if info.field("sample")?.flag() {
        return Ok(true);
    }
    let value = info.field("value")?;
    match value.value() {
        Value::String(text) => says_sample(text),
        _ => Ok(value.field("sample")?.flag()),
    }
}

/// Whether a text is JSON with the flag. Free text holds none.
pub(in super::super) fn says_sample(text: &str) -> Result<bool, ParseError> {
    match serde_json::from_str::<Value>(text) {
        Ok(inner) => Ok(At::root(&inner).field("sample")?.flag()),
        Err(_) => Ok(false),
    }
}
