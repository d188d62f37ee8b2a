//! AWS Config: `Config Rules Compliance Change`.
//!
//! The event comes when a resource's compliance with a rule changes, in the resource's account and Region. It names the
//! rule, not the check behind it, and anybody who may put rules can have one that says anything: what the event claims
//! counts only once the rule and the resource have been read.
//! <https://docs.aws.amazon.com/config/latest/developerguide/monitor-config-with-cloudwatchevents.html>

use super::control::{Compliance, Control};
use super::json::{At, ParseError, Problem};
use super::resource::{self, Said};
use super::{Finding, Source, State, kind_word, severity};
use crate::ids::{AccountId, Arn, FindingId, Region};

/// The one kind of message that is a change.
const CHANGE: &str = "ComplianceChangeNotification";

pub(super) fn finding(at: &At<'_>, envelope_region: Option<&Region>) -> Result<Finding, ParseError> {
    let account: AccountId = at.field("awsAccountId")?.required(At::id)?;
    let region_at = at.field("awsRegion")?;
    let region: Region =
        region_at.id()?.or_else(|| envelope_region.cloned()).ok_or_else(|| region_at.error(Problem::Missing))?;
    let message = at.field("messageType")?;
    let kind = message.required(|at| at.word("a message of AWS Config"))?;
    if kind != CHANGE {
        return Err(message.error(Problem::Expected { expected: CHANGE, found: kind }));
    }
    let rule_at = at.field("configRuleARN")?;
    let rule: Option<Arn> = rule_at.id()?;
    if let Some(rule) = &rule {
        rule_at.must_say(&rule.service, "the source", "config")?;
        rule_at.must_say(rule.account.as_ref().map_or("", AccountId::as_str), "`awsAccountId`", account.as_str())?;
        rule_at.must_say(rule.region.as_ref().map_or("", Region::as_str), "`awsRegion`", region.as_str())?;
    }
    let name = at.field("configRuleName")?.required(|at| at.word("the name of a Config rule"))?;
    let word = at.field("resourceType")?.required(|at| at.word("a resource type"))?;
    let resource_at = at.field("resourceId")?;
    let result = at.field("newEvaluationResult")?;
    let (state, compliance) = match result.field("complianceType")?.text()?.map(Compliance::of) {
        Some(Compliance::Failed) => (State::Active, Compliance::Failed),
        Some(Compliance::Passed) => (State::Compliant, Compliance::Passed),
        // Not applicable, too little data, or no result at all: the resource or the rule is gone.
        Some(Compliance::Unknown) | None => (State::NotEvaluated, Compliance::Unknown),
    };
    let id = id(&resource_at, rule.as_ref(), &name, &word)?;

    let mut finding = Finding {
        state,
        last_seen: result.field("resultRecordedTime")?.time().or(at.field("notificationCreationTime")?.time()),
        resource_type: kind_word(&word),
        title: name.clone(),
        control: Some(Control {
            id: name,
            compliance,
            rule,
            check: None,
            known_as: None,
            parameters: Default::default(),
        }),
        ..Finding::new(Source::Config, id, kind, severity::UNRATED, account, region)
    };
    let named = resource::read(&word, &resource_at, finding.place(), Said::default());
    finding.name(named)?;
    finding.instances = finding.named_instances();
    Ok(finding)
}

/// Config gives a change no id of its own: it is the same finding as long as rule and resource are.
fn id(resource: &At<'_>, rule: Option<&Arn>, name: &str, word: &str) -> Result<FindingId, ParseError> {
    let rule = rule.map_or_else(|| name.replace(' ', "_"), Arn::to_string);
    let id = format!("{rule}/{word}/{}", resource.required(At::text)?);
    id.parse().map_err(|error: crate::ids::InvalidId| resource.error(error))
}
