//! AWS Health: notices about an account, among them that a key of it lies open.
//!
//! Health rates nothing, cannot be asked again without a support plan, and gives one event ARN to many accounts.
//! <https://docs.aws.amazon.com/health/latest/ug/aws-health-events-eventbridge-schema.html>

use super::json::{At, ParseError, Problem};
use super::resource::{self, Other, Resource, ResourceId, Said};
use super::{Finding, Source, State, severity};
use crate::ids::{AccountId, Arn, FindingId, Region};
use crate::text::plain;

/// What the types about keys that lie open begin with: `…EXPOSED`, `…COMPROMISED`, and both with `_SUSPECTED`.
const CREDENTIALS: &str = "AWS_RISK_CREDENTIALS_";

/// The most entities that are kept of a notice that is only shown.
const MOST_SHOWN: usize = 20;

/// Reads the `detail`. `account` and `region` are the envelope's.
pub(super) fn finding(
    at: &At<'_>,
    account: Option<&AccountId>,
    region: Option<&Region>,
) -> Result<Finding, ParseError> {
    // An organisation's events come to the account that looks after them.
    let affected = at.field("affectedAccount")?;
    let account: AccountId =
        affected.id()?.or_else(|| account.cloned()).ok_or_else(|| affected.error(Problem::Missing))?;
    let arn_at = at.field("eventArn")?;
    let arn: Arn = arn_at.required(At::id)?;
    arn_at.must_say(&arn.service, "the source", "health")?;
    let region: Region = at
        .field("eventRegion")?
        .id()
        .unwrap_or_default()
        .or_else(|| arn.region.clone())
        .or_else(|| region.cloned())
        .ok_or_else(|| arn_at.error(Problem::Missing))?;
    let code = at.field("eventTypeCode")?.required(|at| at.word("an event type code"))?;
    let id: FindingId =
        format!("{arn}/{account}").parse().map_err(|error: crate::ids::InvalidId| arn_at.error(error))?;
    let about_keys = code.starts_with(CREDENTIALS);
    let severity = match about_keys {
        true if code.ends_with("_SUSPECTED") => severity::SUSPECTED,
        true => severity::EXPOSED,
        false => severity::UNRATED,
    };
    let description = at.field("eventDescription")?.items().unwrap_or_default();
    let title = match description.first() {
        Some(first) => first.field("latestDescription")?.value().as_str().unwrap_or_default().to_owned(),
        None => String::new(),
    };

    let mut finding = Finding {
        arn: Some(arn),
        state: if at.field("statusCode")?.value().as_str() == Some("closed") { State::Resolved } else { State::Active },
        first_seen: at.field("startTime")?.time(),
        last_seen: at.field("lastUpdatedTime")?.time().or(at.field("startTime")?.time()),
        resource_type: if about_keys { "AccessKey".to_owned() } else { String::new() },
        // A notice is a letter: its first words will do.
        title: title.chars().take(256).collect(),
        ..Finding::new(Source::Health, id, code, severity, account, region)
    };
    let entities = at.field("affectedEntities")?.items()?;
    for entity in entities {
        let value = entity.field("entityValue")?;
        let named = if about_keys {
            resource::read("AWS::IAM::AccessKey", &value, finding.place(), Said::default())
        } else if finding.resources.len() < MOST_SHOWN {
            Ok(shown(&value, &finding))
        } else {
            break;
        };
        finding.name(named)?;
    }
    Ok(finding)
}

fn shown(value: &At<'_>, finding: &Finding) -> Resource {
    let name = plain(value.value().as_str().unwrap_or_default(), 256);
    Resource {
        id: ResourceId::Other(Other { word: "entity".to_owned(), name }),
        account: finding.account.clone(),
        region: None,
    }
}
