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

pub(super) use identities::of_copy as identity_of_copy;
pub(super) use sample::{ACTIONS, GENERATED, PLACEHOLDER_INSTANCE, says_sample};

use super::json::{At, ParseError, Problem};
use super::resource::Place;
use super::{Direction, Finding, ResourceRole, Source, State, severity};
use crate::ids::{AccountId, Arn, FindingId, Partition, Region};

/// Reads one finding. `envelope_region` stands in where the finding itself names no Region.
pub(super) fn finding(at: &At<'_>, envelope_region: Option<&Region>) -> Result<Finding, ParseError> {
    let account: AccountId = at.field("accountId")?.required(At::id)?;
    let id: FindingId = at.field("id")?.required(At::id)?;
    let finding_type = at.field("type")?.required(|at| at.word("a finding type"))?;
    let severity = severity::number(&at.field("severity")?)?;
    let (arn, region, partition) = place(at, &account, &id, envelope_region)?;

    let service = at.field("service")?;
    let resource = at.field("resource")?;
    let title = at.field("title")?.text()?.unwrap_or_default().to_owned();
    let sample = sample::is_sample(&title, &resource, &service)?;
    let named = resources::named(&resource, &service, Place { partition, region: &region, account: &account }, sample)?;
    let identities = identities::named(&resource, &service, &account, sample)?;

    let mut finding = Finding {
        arn,
        sample,
        state: if service.field("archived")?.flag() { State::Archived } else { State::Active },
        first_seen: service.field("eventFirstSeen")?.time(),
        last_seen: service.field("eventLastSeen")?.time(),
        count: service.field("count")?.count(),
        detector_id: detector_id(&service.field("detectorId")?)?,
        role: role(service.field("resourceRole")?.value().as_str()),
        direction: direction(
            service.down(&["action", "networkConnectionAction", "connectionDirection"])?.value().as_str(),
        ),
        resource_type: resource_type(&resource.field("resourceType")?),
        instances: named.instances,
        interfaces: named.interfaces,
        elsewhere: named.elsewhere,
        identities,
        signals: named.signals,
        title,
        ..Finding::new(Source::GuardDuty, id, finding_type, severity, account, region)
    };
    for resource in named.resources {
        finding.name(Ok(resource))?;
    }
    Ok(finding)
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
    partition_at.must_say(partition.as_str(), "the Region", region.partition().as_str())?;
    if let Some(arn) = &arn {
        must_be(&arn_at, arn, ("`region`", &region), ("`accountId`", account))?;
        let in_arn = arn.resource.rsplit("/finding/").next().unwrap_or_default();
        arn_at.must_say(in_arn, "`id`", id.as_str())?;
    }
    Ok((arn, region, partition))
}

/// An ARN of a GuardDuty finding must be of GuardDuty, and of the finding's account and Region.
fn must_be(
    at: &At<'_>,
    arn: &Arn,
    (region_field, region): (&'static str, &Region),
    (account_field, account): (&'static str, &AccountId),
) -> Result<(), ParseError> {
    at.must_say(&arn.service, "the source", "guardduty")?;
    at.must_say(arn.region.as_ref().map_or("", Region::as_str), region_field, region.as_str())?;
    at.must_say(arn.account.as_ref().map_or("", AccountId::as_str), account_field, account.as_str())
}

/// A finding of GuardDuty's that Security Hub hands on: all that is known of it there is its ARN, from which come its
/// own id and its detector's.
pub(super) fn of_arn(
    at: &At<'_>,
    region: &Region,
    account: &AccountId,
) -> Result<(Arn, FindingId, Option<String>), ParseError> {
    let arn: Arn = at.required(At::id)?;
    must_be(at, &arn, ("the finding's Region", region), ("the finding's account", account))?;
    let expected = || at.error(Problem::Expected { expected: "a GuardDuty finding's ARN", found: arn.to_string() });
    let (detector, id) = arn
        .resource
        .strip_prefix("detector/")
        .and_then(|rest| rest.split_once("/finding/"))
        .filter(|(detector, _)| is_detector_id(detector))
        .ok_or_else(expected)?;
    let id = id.parse().map_err(|error: crate::ids::InvalidId| at.error(error))?;
    let detector = detector.to_owned();
    Ok((arn, id, Some(detector)))
}

fn detector_id(at: &At<'_>) -> Result<Option<String>, ParseError> {
    match at.text()? {
        Some(id) if !is_detector_id(id) => {
            Err(at.error(Problem::Expected { expected: "a detector id", found: id.to_owned() }))
        }
        id => Ok(id.map(str::to_owned)),
    }
}

fn is_detector_id(text: &str) -> bool {
    (1..=300).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// One word, or nothing: it is shown and given to policies, and is never acted on.
fn resource_type(at: &At<'_>) -> String {
    let word = at.value().as_str().unwrap_or_default();
    if word.len() <= 64 && word.bytes().all(|b| b.is_ascii_alphanumeric()) { word.to_owned() } else { String::new() }
}

pub(super) fn role(word: Option<&str>) -> ResourceRole {
    match word {
        Some("ACTOR") => ResourceRole::Actor,
        Some("TARGET") => ResourceRole::Target,
        _ => ResourceRole::Unknown,
    }
}

pub(super) fn direction(word: Option<&str>) -> Direction {
    match word {
        Some("INBOUND") => Direction::Inbound,
        Some("OUTBOUND") => Direction::Outbound,
        _ => Direction::Unknown,
    }
}
