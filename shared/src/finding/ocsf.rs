//! Security Hub's findings in the Open Cybersecurity Schema Framework: the event `Findings Imported V2`, and what
//! `GetFindingsV2` answers.
//!
//! One finding may come in this form and in ASFF, from the same service and with the same id.
//! <https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-v2-findings-ocsf.html>,
//! <https://schema.ocsf.io/1.6.0/categories/findings>

use super::control::{Compliance, Control};
use super::json::{At, ParseError, Problem};
use super::product::Product;
use super::resource::{self, Said};
use super::{Direction, Finding, ResourceRole, Source, State, guardduty, kind_word, securityhub, severity};
use crate::ids::{AccountId, Arn, FindingId, Region};

/// Reads one finding. `envelope_region` stands in where neither the finding nor its product names a Region.
pub(super) fn finding(at: &At<'_>, envelope_region: Option<&Region>) -> Result<Finding, ParseError> {
    let (product, product_region) = Product::of(at.down(&["metadata", "product", "uid"])?.required(At::text)?);
    let region = product_region.as_ref().or(envelope_region);
    read(at, &product, region).map_err(|error| product.error(error))
}

fn read(at: &At<'_>, product: &Product, other_region: Option<&Region>) -> Result<Finding, ParseError> {
    let cloud = at.field("cloud")?;
    let account: AccountId = cloud.down(&["account", "uid"])?.required(At::id)?;
    let region_at = cloud.field("region")?;
    let region: Region =
        region_at.id()?.or_else(|| other_region.cloned()).ok_or_else(|| region_at.error(Problem::Missing))?;
    let source = product.source();
    let info = at.field("finding_info")?;
    let (arn, id, detector_id) = identity(&info.field("uid")?, source, &region, &account)?;
    let compliance = at.field("compliance")?;
    let came_to = came_to(&compliance)?;
    let control = match product {
        Product::Aws(name) if name == "securityhub" => compliance.field("control")?.word("a control")?,
        _ => None,
    };
    let control = control.map(|id| Control {
        id,
        compliance: came_to.unwrap_or(Compliance::Unknown),
        rule: None,
        check: None,
        known_as: None,
        parameters: Default::default(),
    });
    let time = |name, name_dt| -> Result<Option<jiff::Timestamp>, ParseError> {
        Ok(info.field(name)?.time().or(info.field(name_dt)?.time()))
    };
    let title = info.field("title")?.text()?.unwrap_or_default().to_owned();
    let resources = at.field("resources")?;

    let mut finding = Finding {
        arn,
        sample: source == Source::GuardDuty && is_sample(&title, &resources)?,
        state: state(at, product, came_to)?,
        first_seen: time("first_seen_time", "first_seen_time_dt")?.or(time("created_time", "created_time_dt")?),
        last_seen: time("last_seen_time", "last_seen_time_dt")?.or(time("modified_time", "modified_time_dt")?),
        count: at.field("count")?.count(),
        detector_id,
        role: role(&resources)?,
        direction: direction(at)?,
        control,
        product: Some(product.clone()),
        title,
        ..Finding::new(source, id, finding_type(&info, source)?, severity_of(at)?, account, region)
    };
    let items = match resources.items() {
        Ok(items) => items,
        Err(_) if finding.is_out() => Vec::new(),
        Err(error) => return Err(error),
    };
    if let Some(first) = items.first() {
        finding.resource_type = kind_word(first.field("type")?.value().as_str().unwrap_or_default());
    }
    for item in items {
        let word = item.field("type")?;
        if source == Source::GuardDuty
            && matches!(word.value().as_str(), Some("AWS::IAM::AccessKey" | "AwsIamAccessKey"))
        {
            identity_of(&item, &mut finding)?;
            continue;
        }
        let named = one(&item, &finding);
        securityhub::take(&mut finding, named)?;
    }
    Ok(finding)
}

/// Who acted, in a finding of GuardDuty's: read as leniently as in its own.
fn identity_of(item: &At<'_>, finding: &mut Finding) -> Result<(), ParseError> {
    let (uid, user) = (item.field("uid")?, item.field("user")?);
    let key = uid.value().as_str().unwrap_or_default();
    if !finding.sample {
        let (kind, principal, name) = (user.field("type")?, user.field("uid")?, user.field("name")?);
        guardduty::identity_of_copy(key, &kind, &principal, &name, &mut finding.identities);
    }
    Ok(())
}

fn one(item: &At<'_>, finding: &Finding) -> Result<resource::Resource, ParseError> {
    let word = item.field("type")?.text()?.unwrap_or_default();
    let said = Said {
        account: item.down(&["owner", "account", "uid"])?.id()?,
        // What is global may have a Region that is none.
        region: item.field("region")?.id().unwrap_or_default(),
    };
    resource::read(word, &item.field("uid")?, finding.place(), said)
}

fn identity(
    at: &At<'_>,
    source: Source,
    region: &Region,
    account: &AccountId,
) -> Result<(Option<Arn>, FindingId, Option<String>), ParseError> {
    if source == Source::GuardDuty {
        let (arn, id, detector) = guardduty::of_arn(at, region, account)?;
        return Ok((Some(arn), id, detector));
    }
    let id: FindingId = at.required(At::id)?;
    let arn: Option<Arn> = id.as_str().parse().ok();
    if let Some(there) = arn.as_ref().and_then(|arn| arn.account.as_ref()) {
        at.must_say(there.as_str(), "`cloud.account.uid`", account.as_str())?;
    }
    Ok((arn, id, None))
}

fn finding_type(info: &At<'_>, source: Source) -> Result<String, ParseError> {
    let types = info.field("types")?;
    let items = types.items()?;
    if source == Source::GuardDuty {
        let mut named = items.iter().filter_map(|item| securityhub::guardduty_type(item.value().as_str()?));
        return named.next().ok_or_else(|| types.error(Problem::Missing));
    }
    items.first().ok_or_else(|| types.error(Problem::Missing))?.required(|at| at.word("a finding type"))
}

fn severity_of(at: &At<'_>) -> Result<f64, ParseError> {
    let id = at.field("severity_id")?;
    let Some(number) = id.number()? else { return severity::word(&at.field("severity")?) };
    severity::of_ocsf(number)
        .ok_or_else(|| id.error(Problem::Expected { expected: "a severity of OCSF", found: number.to_string() }))
}

/// What a control came to: by number, or by word.
fn came_to(compliance: &At<'_>) -> Result<Option<Compliance>, ParseError> {
    Ok(match compliance.field("status_id")?.number()? {
        Some(1.0) => Some(Compliance::Passed),
        Some(3.0) => Some(Compliance::Failed),
        Some(_) => Some(Compliance::Unknown),
        None => compliance.field("status")?.text()?.map(Compliance::of),
    })
}

/// The strictest of what the activity, the status and the control say.
fn state(at: &At<'_>, product: &Product, came_to: Option<Compliance>) -> Result<State, ParseError> {
    // "Close": what the finding is about is over, or its product has archived it. The status may still say New.
    if at.field("activity_id")?.number()? == Some(3.0) {
        return Ok(State::Archived);
    }
    let id = at.field("status_id")?;
    let status = match id.number()? {
        // Unknown, New, and a status of the product's own.
        Some(0.0 | 1.0 | 99.0) => State::Active,
        Some(2.0) => State::Notified,
        Some(3.0) => State::Suppressed,
        Some(4.0) => State::Resolved,
        // Archived, deleted.
        Some(5.0 | 6.0) => State::Archived,
        Some(other) => {
            return Err(id.error(Problem::Expected { expected: "a status of OCSF", found: other.to_string() }));
        }
        None => match at.field("status")?.text()?.unwrap_or("New").to_ascii_lowercase().as_str() {
            "suppressed" => State::Suppressed,
            "resolved" => State::Resolved,
            "archived" | "deleted" => State::Archived,
            _ => State::Active,
        },
    };
    if !status.is_live() {
        return Ok(status);
    }
    let evaluates = *product == Product::Aws("securityhub".to_owned());
    Ok(match came_to {
        Some(Compliance::Passed) => State::Passed,
        Some(Compliance::Unknown) => State::NotEvaluated,
        // Security Hub also makes findings of exposure and of missing coverage, which are about no control.
        None if evaluates && at.field("class_uid")?.number()? == Some(2003.0) => State::NotEvaluated,
        Some(Compliance::Failed) | None => status,
    })
}

/// The part that the first resource with one played.
fn role(resources: &At<'_>) -> Result<ResourceRole, ParseError> {
    for item in resources.items().unwrap_or_default() {
        match (item.field("role_id")?.value().as_i64(), item.field("role")?.value().as_str()) {
            (Some(2), _) | (None, Some("Actor")) => return Ok(ResourceRole::Actor),
            (Some(1 | 3), _) | (None, Some("Target" | "Affected")) => return Ok(ResourceRole::Target),
            _ => {}
        }
    }
    Ok(ResourceRole::Unknown)
}

fn direction(at: &At<'_>) -> Result<Direction, ParseError> {
    for evidence in at.field("evidences")?.items().unwrap_or_default() {
        match evidence.down(&["connection_info", "direction_id"])?.value().as_i64() {
            Some(1) => return Ok(Direction::Inbound),
            Some(2) => return Ok(Direction::Outbound),
            _ => {}
        }
    }
    Ok(Direction::Unknown)
}

/// Whether a finding of GuardDuty's is a sample, by the title or by an id that AWS assigns.
fn is_sample(title: &str, resources: &At<'_>) -> Result<bool, ParseError> {
    if title.trim_start().starts_with("[SAMPLE]") {
        return Ok(true);
    }
    for item in resources.items().unwrap_or_default() {
        let uid = item.field("uid")?;
        let last = uid.value().as_str().unwrap_or_default().rsplit(['/', ':']).next().unwrap_or_default();
        let word = item.field("type")?;
        let assigned = ["AWS::EC2::Instance", "AwsEc2Instance", "AWS::IAM::AccessKey", "AwsIamAccessKey"];
        if word.value().as_str().is_some_and(|word| assigned.contains(&word))
            && (last == guardduty::PLACEHOLDER_INSTANCE || last.starts_with(guardduty::GENERATED))
        {
            return Ok(true);
        }
    }
    Ok(false)
}
