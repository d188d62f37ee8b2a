//! GuardDuty findings, in each of the shapes they travel in.
//!
//! The fields are those of the [GuardDuty API's `Finding`][api]; EventBridge carries them in
//! camelCase, the SDKs and the command line print them in PascalCase. What we act on (account,
//! Region, ids) must be well-formed and must agree with itself; everything else may be missing, null
//! or of another type without making the finding unreadable.
//!
//! [api]: https://docs.aws.amazon.com/guardduty/latest/APIReference/API_Finding.html

mod identities;
mod resources;
mod sample;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::json::{At, ParseError, Problem};
use super::{Direction, Finding, ResourceRole, Source, State};
use crate::ids::{AccountId, Arn, FindingId, Partition, Region};

/// Reads one finding. `envelope_region` stands in where the finding itself names no Region.
pub(super) fn finding(at: &At<'_>, envelope_region: Option<&Region>) -> Result<Finding, ParseError> {
    let account: AccountId = required(&at.field("accountId")?, At::id)?;
    let id: FindingId = required(&at.field("id")?, At::id)?;
    let finding_type = finding_type(&at.field("type")?)?;
    let severity = severity(&at.field("severity")?)?;
    let (arn, region, partition) = place(at, &account, &id, envelope_region)?;

    let service = at.field("service")?;
    let resource = at.field("resource")?;
    let title = at.field("title")?.text()?.unwrap_or_default().to_owned();
    let sample = sample::is_sample(&title, &resource, &service)?;
    let named = resources::named(&resource, &service, (partition, &region, &account), sample)?;
    let identities = identities::named(&resource, &service, &account, sample)?;

    Ok(Finding {
        source: Source::GuardDuty,
        id,
        arn,
        finding_type,
        severity,
        account,
        region,
        partition,
        sample,
        state: if service.field("archived")?.flag() { State::Archived } else { State::Active },
        first_seen: time(&service.field("eventFirstSeen")?),
        last_seen: time(&service.field("eventLastSeen")?),
        count: count(&service.field("count")?),
        detector_id: detector_id(&service.field("detectorId")?)?,
        role: role(&service.field("resourceRole")?),
        direction: direction(&service)?,
        resource_type: resource_type(&resource.field("resourceType")?),
        instances: named.instances,
        interfaces: named.interfaces,
        elsewhere: named.elsewhere,
        identities,
        title,
    })
}

/// The value at `at`, or [`Problem::Missing`].
fn required<'a, T>(at: &At<'a>, read: impl Fn(&At<'a>) -> Result<Option<T>, ParseError>) -> Result<T, ParseError> {
    read(at)?.ok_or_else(|| at.error(Problem::Missing))
}

fn finding_type(at: &At<'_>) -> Result<String, ParseError> {
    let text = required(at, At::text)?;
    // Policies and journals compare and print it; types in use have at most about 90 characters.
    if text.len() <= 256 && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        Ok(text.to_owned())
    } else {
        Err(at.error(Problem::Expected { expected: "a finding type", found: text.to_owned() }))
    }
}

fn severity(at: &At<'_>) -> Result<f64, ParseError> {
    let severity = required(at, At::number)?;
    if (0.0..=10.0).contains(&severity) {
        Ok(severity)
    } else {
        Err(at.error(Problem::Expected { expected: "a severity from 0 to 10", found: severity.to_string() }))
    }
}

/// Where the finding was made. Its ARN, its `region` and its `partition` must tell the same story,
/// because the role that is assumed and the Region that is called follow from it.
fn place(
    at: &At<'_>,
    account: &AccountId,
    id: &FindingId,
    envelope_region: Option<&Region>,
) -> Result<(Option<Arn>, Region, Partition), ParseError> {
    let arn_at = at.field("arn")?;
    let arn: Option<Arn> = arn_at.id()?;
    let region_at = at.field("region")?;
    let region: Region = region_at
        .id()?
        .or_else(|| arn.as_ref().and_then(|a| a.region.clone()))
        .or_else(|| envelope_region.cloned())
        .ok_or_else(|| region_at.error(Problem::Missing))?;

    let partition_at = at.field("partition")?;
    let partition = partition_at.id::<Partition>()?.unwrap_or(region.partition());
    if partition != region.partition() {
        return Err(partition_at.error(disagreement(partition.as_str(), "the Region", region.partition().as_str())));
    }
    if let Some(arn) = &arn {
        let pairs = [
            ("guardduty", arn.service.as_str(), "the source"),
            (region.as_str(), arn.region.as_ref().map_or("", Region::as_str), "`region`"),
            (account.as_str(), arn.account.as_ref().map_or("", AccountId::as_str), "`accountId`"),
            (id.as_str(), arn.resource.rsplit("/finding/").next().unwrap_or_default(), "`id`"),
        ];
        if let Some((that, this, other)) = pairs.into_iter().find(|(that, this, _)| that != this) {
            return Err(arn_at.error(disagreement(this, other, that)));
        }
    }
    Ok((arn, region, partition))
}

fn disagreement(this: &str, other: &'static str, that: &str) -> Problem {
    Problem::Disagrees { this: this.to_owned(), other, that: that.to_owned() }
}

fn detector_id(at: &At<'_>) -> Result<Option<String>, ParseError> {
    match at.text()? {
        Some(id) if id.len() <= 300 && id.bytes().all(|b| b.is_ascii_alphanumeric()) => Ok(Some(id.to_owned())),
        Some(id) => Err(at.error(Problem::Expected { expected: "a detector id", found: id.to_owned() })),
        None => Ok(None),
    }
}

/// One word, or nothing: it is shown and given to policies, and is never acted on.
fn resource_type(at: &At<'_>) -> String {
    let word = at.value().as_str().unwrap_or_default();
    if word.len() <= 64 && word.bytes().all(|b| b.is_ascii_alphanumeric()) { word.to_owned() } else { String::new() }
}

fn role(at: &At<'_>) -> ResourceRole {
    match at.value().as_str() {
        Some("ACTOR") => ResourceRole::Actor,
        Some("TARGET") => ResourceRole::Target,
        _ => ResourceRole::Unknown,
    }
}

fn direction(service: &At<'_>) -> Result<Direction, ParseError> {
    let direction = service.down(&["action", "networkConnectionAction", "connectionDirection"])?;
    Ok(match direction.value().as_str() {
        Some("INBOUND") => Direction::Inbound,
        Some("OUTBOUND") => Direction::Outbound,
        _ => Direction::Unknown,
    })
}

fn count(at: &At<'_>) -> Option<u64> {
    let number = at.number().ok().flatten()?;
    // Casting saturates, so a negative count is 0.
    Some(number as u64)
}

/// A time as text (with or without a zone, then UTC) or as seconds or milliseconds since 1970. What
/// cannot be read is unknown rather than an error: a guard takes an unknown age at its strictest,
/// and a new way of writing times must not stop containment.
fn time(at: &At<'_>) -> Option<Timestamp> {
    match at.value() {
        Value::String(text) => text
            .parse::<Timestamp>()
            .or_else(|_| text.parse::<DateTime>().and_then(|t| TimeZone::UTC.to_timestamp(t)))
            .ok()
            .or_else(|| epoch(text.trim().parse().ok()?)),
        Value::Number(number) => epoch(number.as_f64()?),
        _ => None,
    }
}

fn epoch(number: f64) -> Option<Timestamp> {
    if !number.is_finite() {
        return None;
    }
    // 1e11 seconds are the year 5138; 1e11 milliseconds are March 1973, before any finding.
    let millis = if number.abs() < 1e11 { number * 1000.0 } else { number };
    Timestamp::from_millisecond(millis as i64).ok()
}
