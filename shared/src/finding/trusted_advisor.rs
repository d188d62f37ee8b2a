//! AWS Trusted Advisor: `Trusted Advisor Check Item Refresh Notification`, among its checks `Exposed Access Keys`.
//!
//! Trusted Advisor rates nothing and cannot be asked again without a support plan. The account is the envelope's.
//! <https://docs.aws.amazon.com/awssupport/latest/user/cloudwatch-events-ta.html>

use super::json::{At, ParseError, Problem};
use super::resource::{self, Said};
use super::{Finding, Source, State, severity};
use crate::ids::{AccountId, FindingId, Region};

/// The check that looks for keys in public places.
const EXPOSED_KEYS: &str = "Exposed Access Keys";

/// Reads the `detail`. `account` and `region` are the envelope's.
pub(super) fn finding(
    at: &At<'_>,
    account: Option<&AccountId>,
    region: Option<&Region>,
) -> Result<Finding, ParseError> {
    let id: FindingId = at.field("uuid")?.required(At::id)?;
    let missing = |what: &'static str| at.error(Problem::Expected { expected: what, found: "none".to_owned() });
    let account = account.cloned().ok_or_else(|| missing("an event with an account"))?;
    let region = region.cloned().ok_or_else(|| missing("an event with a Region"))?;
    let check = at.key("check-name").required(|at| at.word("the name of a check"))?;
    let status = at.field("status")?;
    let state = match status.text()? {
        Some("OK") => State::Passed,
        Some("WARN" | "ERROR") => State::Active,
        Some(word) => {
            let (expected, found) = ("OK, WARN or ERROR", word.to_owned());
            return Err(status.error(Problem::Expected { expected, found }));
        }
        None => return Err(status.error(Problem::Missing)),
    };
    let item = at.key("check-item-detail");
    let about_keys = check == EXPOSED_KEYS;
    let severity = match (about_keys, item.key("Fraud Type").value().as_str()) {
        (true, Some("Exposed")) => severity::EXPOSED,
        (true, _) => severity::SUSPECTED,
        (false, _) => severity::UNRATED,
    };

    let mut finding = Finding {
        state,
        last_seen: item.key("Time Updated").time(),
        resource_type: if about_keys { "AccessKey".to_owned() } else { String::new() },
        title: check.clone(),
        ..Finding::new(Source::TrustedAdvisor, id, check, severity, account, region)
    };
    if about_keys {
        let key = item.key("Access Key ID");
        let named = resource::read("AWS::IAM::AccessKey", &key, finding.place(), Said::default());
        finding.name(named)?;
    } else {
        match resource::of_arn(&at.key("resource_id"), finding.place()) {
            Ok(Some(named)) => finding.name(Ok(named))?,
            Ok(None) => {}
            Err(error) => finding.name(Err(error))?,
        }
    }
    finding.instances = finding.named_instances();
    Ok(finding)
}
