//! IAM Access Analyzer: `Access Analyzer Finding` (access from outside), `Internal Access Finding`, and `Unused Access
//! Finding for IAM entities`. Access previews are no findings.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/access-analyzer-eventbridge.html>

use super::json::{At, ParseError, Problem};
use super::resource::{self, Said};
use super::{Finding, Source, State, kind_word, severity};
use crate::ids::{AccountId, FindingId, Region};

/// Reads one finding. `kind` is what it is about where it does not say so itself.
pub(super) fn finding(at: &At<'_>, kind: &str, envelope_region: Option<&Region>) -> Result<Finding, ParseError> {
    let account: AccountId = at.field("accountId")?.required(At::id)?;
    let id: FindingId = at.field("id")?.required(At::id)?;
    let region_at = at.field("region")?;
    let region: Region =
        region_at.id()?.or_else(|| envelope_region.cloned()).ok_or_else(|| region_at.error(Problem::Missing))?;
    let status = at.field("status")?;
    let state = match status.text()? {
        // The status of a deleted finding stays what it was.
        _ if at.field("isDeleted")?.flag() => State::Archived,
        Some("ARCHIVED") => State::Archived,
        Some("RESOLVED") => State::Resolved,
        // The analyzer could not look.
        None | Some("ACTIVE") if !at.field("error")?.is_absent() => State::NotEvaluated,
        None | Some("ACTIVE") => State::Active,
        Some(word) => {
            let (expected, found) = ("ACTIVE, ARCHIVED or RESOLVED", word.to_owned());
            return Err(status.error(Problem::Expected { expected, found }));
        }
    };
    let finding_type = at.field("findingType")?.word("a finding type")?.unwrap_or_else(|| kind.to_owned());
    let word = at.field("resourceType")?.text()?.unwrap_or_default();

    let mut finding = Finding {
        state,
        first_seen: at.field("createdAt")?.time(),
        last_seen: at.field("analyzedAt")?.time().or(at.field("updatedAt")?.time()),
        resource_type: kind_word(word),
        ..Finding::new(Source::AccessAnalyzer, id, finding_type, severity::UNRATED, account, region)
    };
    let said = Said { account: at.field("resourceOwnerAccount")?.id()?, region: None };
    let resource_at = at.field("resource")?;
    if !resource_at.is_absent() {
        let named = resource::read(word, &resource_at, finding.place(), said);
        finding.name(named)?;
    }
    Ok(finding)
}
