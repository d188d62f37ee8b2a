//! Amazon Inspector: `Inspector2 Finding`, about a package that can be attacked, or a port that can be reached.
//!
//! <https://docs.aws.amazon.com/inspector/latest/user/eventbridge-integration.html>

use super::json::{At, ParseError, Problem};
use super::resource::{self, Said};
use super::{Finding, Source, State, kind_word, severity};
use crate::ids::{AccountId, Arn, FindingId, Region};

pub(super) fn finding(at: &At<'_>, envelope_region: Option<&Region>) -> Result<Finding, ParseError> {
    let account: AccountId = at.field("awsAccountId")?.required(At::id)?;
    let arn_at = at.field("findingArn")?;
    let arn: Arn = arn_at.required(At::id)?;
    arn_at.must_say(&arn.service, "the source", "inspector2")?;
    arn_at.must_say(arn.account.as_ref().map_or("", AccountId::as_str), "`awsAccountId`", account.as_str())?;
    let id: FindingId = arn_at.required(At::id)?;
    let region: Region =
        arn.region.clone().or_else(|| envelope_region.cloned()).ok_or_else(|| arn_at.error(Problem::Missing))?;
    let finding_type = at.field("type")?.required(|at| at.word("a finding type"))?;
    let status = at.field("status")?;
    let state = match status.text()? {
        None | Some("ACTIVE") => State::Active,
        Some("SUPPRESSED") => State::Suppressed,
        Some("CLOSED") => State::Resolved,
        Some(word) => {
            let (expected, found) = ("ACTIVE, SUPPRESSED or CLOSED", word.to_owned());
            return Err(status.error(Problem::Expected { expected, found }));
        }
    };

    let mut finding = Finding {
        arn: Some(arn),
        state,
        first_seen: at.field("firstObservedAt")?.time(),
        last_seen: at.field("lastObservedAt")?.time().or(at.field("updatedAt")?.time()),
        title: at.field("title")?.text()?.unwrap_or_default().to_owned(),
        ..Finding::new(Source::Inspector, id, finding_type, severity::word(&at.field("severity")?)?, account, region)
    };
    for item in at.field("resources")?.items()? {
        let word = item.field("type")?.text()?.unwrap_or_default();
        if finding.resource_type.is_empty() {
            finding.resource_type = kind_word(word);
        }
        let said = Said { region: item.field("region")?.id().unwrap_or_default(), ..Said::default() };
        let named = resource::read(word, &item.field("id")?, finding.place(), said);
        finding.name(named)?;
    }
    finding.instances = finding.named_instances();
    Ok(finding)
}
