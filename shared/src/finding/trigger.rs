//! What can start a function: findings in any shape, the schedule, a decision.

use std::fmt;

use serde_json::Value;

use super::json::{At, ParseError, Problem, not_json};
use super::{
    Finding, access_analyzer, config, guardduty, health, inspector, macie, ocsf, securityhub, trusted_advisor,
};
use crate::ids::{AccountId, Region};
use crate::text::{plain, quoted};

/// The most that is read: an EventBridge entry and an asynchronous Lambda payload hold 1 MB.
pub const MOST_BYTES: usize = 1024 * 1024;

/// What an invocation of a function asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Trigger {
    /// A detector reported something.
    Findings(Reported),
    /// The one-minute schedule: take up what is due.
    Schedule,
    /// A person decided; the decision itself stands in its own table.
    Decision {
        /// The decision's id: all that the event is believed for.
        id: String,
    },
    /// A drill; its finding stands in a table of its own.
    Drill {
        /// The drill's id: all that the event is believed for.
        id: String,
    },
}

/// What one document reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Reported {
    /// The shape the document had.
    pub kind: Kind,
    /// The account that the event was fired in: the finding's own or the delegated administrator's.
    /// Unknown for documents without an envelope.
    pub envelope_account: Option<AccountId>,
    /// Each finding, or why it could not be read. One unreadable finding does not hide the others.
    pub findings: Vec<Result<Finding, ParseError>>,
}

/// The shape of a document that holds findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// GuardDuty's EventBridge event.
    GuardDutyEvent,
    /// The `detail` of one, alone.
    GuardDutyDetail,
    /// What `GetFindings` answers, whole or one finding of it.
    GuardDutyGetFindings,
    /// Security Hub's event `Security Hub Findings - Imported`.
    SecurityHubEvent,
    /// `Security Hub Findings - Custom Action`: somebody picked findings in the console.
    SecurityHubCustomAction,
    /// What Security Hub's `GetFindings` answers, whole or one finding of it.
    SecurityHubGetFindings,
    /// Security Hub's event `Findings Imported V2`.
    SecurityHubV2Event,
    /// What `GetFindingsV2` answers, whole or one finding of it.
    SecurityHubV2GetFindings,
    /// AWS Config's event `Config Rules Compliance Change`.
    ConfigEvent,
    /// The `detail` of one, alone, as Config's own notifications carry it.
    ConfigDetail,
    /// AWS Health's event.
    HealthEvent,
    /// Trusted Advisor's event.
    TrustedAdvisorEvent,
    /// IAM Access Analyzer's events about findings.
    AccessAnalyzerEvent,
    /// The `detail` of one, alone.
    AccessAnalyzerDetail,
    /// Macie's event.
    MacieEvent,
    /// The `detail` of one, or what `GetFindings` answers, whole or one finding of it.
    MacieDetail,
    /// Inspector's event.
    InspectorEvent,
    /// The `detail` of one, or what `ListFindings` answers, whole or one finding of it.
    InspectorDetail,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 18] = [
        Self::GuardDutyEvent,
        Self::GuardDutyDetail,
        Self::GuardDutyGetFindings,
        Self::SecurityHubEvent,
        Self::SecurityHubCustomAction,
        Self::SecurityHubGetFindings,
        Self::SecurityHubV2Event,
        Self::SecurityHubV2GetFindings,
        Self::ConfigEvent,
        Self::ConfigDetail,
        Self::HealthEvent,
        Self::TrustedAdvisorEvent,
        Self::AccessAnalyzerEvent,
        Self::AccessAnalyzerDetail,
        Self::MacieEvent,
        Self::MacieDetail,
        Self::InspectorEvent,
        Self::InspectorDetail,
    ];

    /// The kind's name, as `firebreak explain` prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GuardDutyEvent => "guardduty-event",
            Self::GuardDutyDetail => "guardduty-detail",
            Self::GuardDutyGetFindings => "guardduty-get-findings",
            Self::SecurityHubEvent => "securityhub-event",
            Self::SecurityHubCustomAction => "securityhub-custom-action",
            Self::SecurityHubGetFindings => "securityhub-get-findings",
            Self::SecurityHubV2Event => "securityhub-v2-event",
            Self::SecurityHubV2GetFindings => "securityhub-v2-get-findings",
            Self::ConfigEvent => "config-event",
            Self::ConfigDetail => "config-detail",
            Self::HealthEvent => "health-event",
            Self::TrustedAdvisorEvent => "trusted-advisor-event",
            Self::AccessAnalyzerEvent => "access-analyzer-event",
            Self::AccessAnalyzerDetail => "access-analyzer-detail",
            Self::MacieEvent => "macie-event",
            Self::MacieDetail => "macie-detail",
            Self::InspectorEvent => "inspector-event",
            Self::InspectorDetail => "inspector-detail",
        }
    }

    /// The kind of an EventBridge event, by its source and detail-type; for Access Analyzer also what its findings are
    /// about, which older ones do not say.
    fn of_event(source: &str, detail_type: &str) -> Option<(Self, &'static str)> {
        let kind = match (source, detail_type) {
            ("aws.guardduty", "GuardDuty Finding") => Self::GuardDutyEvent,
            ("aws.securityhub", "Security Hub Findings - Imported") => Self::SecurityHubEvent,
            ("aws.securityhub", "Security Hub Findings - Custom Action") => Self::SecurityHubCustomAction,
            ("aws.securityhub", "Findings Imported V2") => Self::SecurityHubV2Event,
            ("aws.config", "Config Rules Compliance Change") => Self::ConfigEvent,
            ("aws.health", "AWS Health Event" | "AWS Health Abuse Event") => Self::HealthEvent,
            ("aws.trustedadvisor", "Trusted Advisor Check Item Refresh Notification") => Self::TrustedAdvisorEvent,
            ("aws.access-analyzer", "Access Analyzer Finding") => return Some((Self::AccessAnalyzerEvent, EXTERNAL)),
            ("aws.access-analyzer", "Internal Access Finding") => {
                return Some((Self::AccessAnalyzerEvent, "InternalAccess"));
            }
            ("aws.access-analyzer", "Unused Access Finding for IAM entities") => {
                return Some((Self::AccessAnalyzerEvent, "UnusedAccess"));
            }
            ("aws.macie", "Macie Finding") => Self::MacieEvent,
            ("aws.inspector2", "Inspector2 Finding") => Self::InspectorEvent,
            _ => return None,
        };
        Some((kind, ""))
    }

    /// The kind of one finding without an envelope, by the fields that only its source has.
    fn of_bare(value: &Value) -> Option<Self> {
        let has = |key: &str| value.get(key).is_some();
        let typed = has("type") || has("Type");
        let kind = if has("ProductArn") || (has("AwsAccountId") && has("Resources")) {
            Self::SecurityHubGetFindings
        } else if has("class_uid") && has("finding_info") {
            Self::SecurityHubV2GetFindings
        } else if has("findingArn") && has("awsAccountId") {
            Self::InspectorDetail
        } else if has("configRuleName") && has("messageType") {
            Self::ConfigDetail
        } else if has("resourcesAffected") && has("severity") {
            Self::MacieDetail
        } else if has("AccountId") && typed {
            Self::GuardDutyGetFindings
        } else if has("accountId") && typed {
            Self::GuardDutyDetail
        } else if has("accountId") && has("resourceType") && has("status") {
            Self::AccessAnalyzerDetail
        } else {
            return None;
        };
        Some(kind)
    }
}

/// What the event `Access Analyzer Finding` is about.
const EXTERNAL: &str = "ExternalAccess";

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Reported {
    /// The same, each finding as picked by a custom action.
    fn requested(self, action: &str) -> Self {
        let request = if action.is_empty() { "unnamed" } else { action };
        let asked = |finding| Finding { request: Some(request.to_owned()), ..finding };
        Self { findings: self.findings.into_iter().map(|finding| finding.map(asked)).collect(), ..self }
    }
}

impl Trigger {
    /// Reads the bytes of an invocation or of a file.
    ///
    /// # Errors
    /// When the whole document is not JSON, too large, or of no kind that is read here. A single
    /// finding that cannot be read is an error inside [`Reported::findings`] instead.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        if bytes.len() > MOST_BYTES {
            let problem = Problem::TooLarge { bytes: bytes.len(), most: MOST_BYTES };
            return Err(ParseError { at: "$".to_owned(), problem });
        }
        let document: Value = serde_json::from_slice(bytes).map_err(|e| not_json(&e))?;
        Self::from_value(&document)
    }

    /// Reads a document that is JSON already.
    ///
    /// # Errors
    /// As [`Trigger::parse`].
    pub fn from_value(document: &Value) -> Result<Self, ParseError> {
        let at = At::root(document);
        let text = |key: &str| document.get(key).and_then(Value::as_str);
        match (text("source"), text("detail-type")) {
            // A rule with a schedule, and EventBridge Scheduler.
            (Some("aws.events" | "aws.scheduler"), Some("Scheduled Event")) => Ok(Self::Schedule),
            (Some("firebreak"), Some("Firebreak Decision")) => row_id(&at).map(|id| Self::Decision { id }),
            (Some("firebreak.drill"), Some("Firebreak Drill")) => row_id(&at).map(|id| Self::Drill { id }),
            (None, None) => bare(&at).map(Self::Findings),
            (source, detail_type) => match source.zip(detail_type).and_then(|(s, t)| Kind::of_event(s, t)) {
                Some((kind, about)) => Ok(Self::Findings(event(&at, kind, about))),
                None => Err(unknown(
                    &at,
                    format!("an event of source {}, detail-type {}", shown(source), shown(detail_type)),
                )),
            },
        }
    }
}

/// The findings in a document.
///
/// # Errors
/// As [`Trigger::parse`]; also when the document is a trigger without findings.
pub fn parse(document: &Value) -> Result<Reported, ParseError> {
    match Trigger::from_value(document)? {
        Trigger::Findings(reported) => Ok(reported),
        Trigger::Schedule => Err(unknown(&At::root(document), "a scheduled event, which holds no finding".to_owned())),
        Trigger::Decision { .. } => Err(unknown(&At::root(document), "a decision, which holds no finding".to_owned())),
        Trigger::Drill { .. } => {
            Err(unknown(&At::root(document), "a drill, whose finding stands in its table".to_owned()))
        }
    }
}

/// An EventBridge event. What is wrong with it is said of its one finding, since its kind is known.
fn event(at: &At<'_>, kind: Kind, about: &'static str) -> Reported {
    let account = at.field("account").and_then(|account| account.id());
    let findings = account.clone().and_then(|account: Option<AccountId>| {
        let detail = at.field("detail")?;
        if !detail.value().is_object() {
            let found = kind_of(detail.value()).to_owned();
            return Err(detail.error(Problem::Expected { expected: "an object", found }));
        }
        let region: Option<Region> = at.field("region")?.id()?;
        in_detail(&detail, kind, about, (account.as_ref(), region.as_ref()))
    });
    let findings = findings.unwrap_or_else(|error| vec![Err(error)]);
    let reported = Reported { kind, envelope_account: account.ok().flatten(), findings };
    match kind {
        // Without a name of its own it is a request all the same.
        Kind::SecurityHubCustomAction => reported.requested(&action(at).unwrap_or_default()),
        _ => reported,
    }
}

/// The findings in the `detail` of an event: one, except from Security Hub.
fn in_detail(
    detail: &At<'_>,
    kind: Kind,
    about: &'static str,
    (account, region): (Option<&AccountId>, Option<&Region>),
) -> Result<Vec<Result<Finding, ParseError>>, ParseError> {
    let list = || -> Result<Vec<At<'_>>, ParseError> {
        let list = detail.field("findings")?;
        let items = list.items()?;
        if items.is_empty() { Err(none(&list)) } else { Ok(items) }
    };
    Ok(match kind {
        Kind::SecurityHubEvent | Kind::SecurityHubCustomAction => {
            list()?.iter().map(|item| securityhub::finding(item, region)).collect()
        }
        Kind::SecurityHubV2Event => list()?.iter().map(|item| ocsf::finding(item, region)).collect(),
        Kind::HealthEvent => vec![health::finding(detail, account, region)],
        Kind::TrustedAdvisorEvent => vec![trusted_advisor::finding(detail, account, region)],
        Kind::AccessAnalyzerEvent => vec![access_analyzer::finding(detail, about, region)],
        _ => vec![alone(detail, kind, region)],
    })
}

/// One finding that says all of itself, in an event or without.
fn alone(at: &At<'_>, kind: Kind, region: Option<&Region>) -> Result<Finding, ParseError> {
    match kind {
        Kind::ConfigEvent | Kind::ConfigDetail => config::finding(at, region),
        Kind::MacieEvent | Kind::MacieDetail => macie::finding(at, region),
        Kind::InspectorEvent | Kind::InspectorDetail => inspector::finding(at, region),
        Kind::AccessAnalyzerEvent | Kind::AccessAnalyzerDetail => access_analyzer::finding(at, EXTERNAL, region),
        Kind::SecurityHubEvent | Kind::SecurityHubCustomAction | Kind::SecurityHubGetFindings => {
            securityhub::finding(at, region)
        }
        Kind::SecurityHubV2Event | Kind::SecurityHubV2GetFindings => ocsf::finding(at, region),
        Kind::GuardDutyEvent | Kind::GuardDutyDetail | Kind::GuardDutyGetFindings => guardduty::finding(at, region),
        Kind::HealthEvent | Kind::TrustedAdvisorEvent => Err(unknown(at, "a notice without its envelope".to_owned())),
    }
}

/// The custom action by which somebody picked findings: the end of its ARN, or its name.
fn action(at: &At<'_>) -> Result<String, ParseError> {
    for resource in at.field("resources")?.items().unwrap_or_default() {
        if let Some((_, id)) = resource.value().as_str().and_then(|arn| arn.split_once(":action/custom/")) {
            return Ok(plain(id, 64));
        }
    }
    let (inside, alone) = (at.down(&["detail", "actionName"])?, at.field("actionName")?);
    let name = inside.value().as_str().or(alone.value().as_str());
    Ok(plain(name.unwrap_or_default(), 64))
}

/// The id of a row in a table of ours: of a decision or of a drill.
fn row_id(at: &At<'_>) -> Result<String, ParseError> {
    let id = at.down(&["detail", "id"])?;
    match id.text()? {
        // It becomes a key, and nothing more.
        Some(text)
            if text.len() <= 128
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) =>
        {
            Ok(text.to_owned())
        }
        Some(text) => Err(id.error(Problem::Expected { expected: "an id of ours", found: text.to_owned() })),
        None => Err(id.error(Problem::Missing)),
    }
}

/// A document without an envelope: one finding, or a list of them.
fn bare(at: &At<'_>) -> Result<Reported, ParseError> {
    let reported = |kind, findings| Reported { kind, envelope_account: None, findings };
    let document = at.value();
    let list = at.field("findings")?;
    if document.is_object() && !list.is_absent() {
        let items = list.items()?;
        let Some(first) = items.first() else { return Err(none(&list)) };
        // What is none of the others is taken for GuardDuty's, whose error says what is missing.
        let of_item = |item: &At<'_>| match Kind::of_bare(item.value()) {
            None | Some(Kind::GuardDutyDetail) => Kind::GuardDutyGetFindings,
            Some(kind) => kind,
        };
        let findings = items.iter().map(|item| alone(item, of_item(item), None)).collect();
        return Ok(match of_item(first) {
            // The `detail` of a custom action's event, alone.
            Kind::SecurityHubGetFindings if !at.field("actionName")?.is_absent() => {
                reported(Kind::SecurityHubCustomAction, findings).requested(&action(at)?)
            }
            kind => reported(kind, findings),
        });
    }
    match Kind::of_bare(document) {
        Some(kind) => Ok(reported(kind, vec![alone(at, kind, None)])),
        None => Err(unknown(at, seen(document))),
    }
}

fn none(list: &At<'_>) -> ParseError {
    list.error(Problem::Expected { expected: "at least one finding", found: "an empty list".to_owned() })
}

fn unknown(at: &At<'_>, seen: String) -> ParseError {
    at.error(Problem::UnknownShape { seen })
}

/// A few words on a document of no known kind: its JSON type and first keys.
fn seen(document: &Value) -> String {
    match document.as_object() {
        Some(object) if object.is_empty() => "an empty object".to_owned(),
        Some(object) => {
            let keys: Vec<String> = object.keys().take(6).map(|k| quoted(k)).collect();
            let more = if object.len() > 6 { " …" } else { "" };
            format!("an object with {}{more}", keys.join(", "))
        }
        None => kind_of(document).to_owned(),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing (null)",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn shown(text: Option<&str>) -> String {
    text.map_or_else(|| "none".to_owned(), quoted)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;

    #[test]
    fn reads_the_schedule_of_rules_and_of_the_scheduler() {
        for source in ["aws.events", "aws.scheduler"] {
            let event = json!({"version": "0", "source": source, "detail-type": "Scheduled Event", "detail": {}});
            assert_eq!(Trigger::from_value(&event), Ok(Trigger::Schedule));
        }
    }

    #[test]
    fn believes_a_decision_event_for_its_id_only() {
        let event = |id: &str| json!({"source": "firebreak", "detail-type": "Firebreak Decision", "detail": {"id": id, "verdict": "approve"}});
        assert_eq!(
            Trigger::from_value(&event("01K0000000000000000000000A")),
            Ok(Trigger::Decision { id: "01K0000000000000000000000A".to_owned() })
        );
        for bad in ["", "a b", "x\n", "a/b", "é"] {
            assert!(Trigger::from_value(&event(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_what_it_saw_when_it_cannot_read_a_document() {
        let cases = [
            (&b"{\"a\": 1,\n oops}"[..], "`$`: not JSON: unexpected text at line 2, column 2"),
            (&b"{\"a\""[..], "`$`: not JSON: the text ends too early at line 1, column 4"),
            (&b"[]"[..], "`$`: not a kind of event that is read here: a list; accepted are"),
            (&b"{\"Records\": []}"[..], "an object with `Records`;"),
            (
                &b"{\"source\": \"aws.ec2\", \"detail-type\": \"EC2 `x`\\n\"}"[..],
                "an event of source `aws.ec2`, detail-type `EC2 'x'\\u{a}`;",
            ),
            (&b"{\"Findings\": []}"[..], "`$.Findings`: expected at least one finding, found `an empty list`"),
        ];
        for (bytes, expected) in cases {
            let shown = Trigger::parse(bytes).unwrap_err().to_string();
            assert!(shown.contains(expected), "{shown}\n  does not contain {expected}");
        }
    }

    #[test]
    fn an_envelope_that_cannot_be_read_is_an_unreadable_finding_of_its_kind() {
        for (key, value, expected) in [
            ("detail", json!("x"), "`$.detail`: expected an object, found `a string`"),
            ("account", json!("1234567891234"), "`$.account`: not a valid account id: `1234567891234`"),
        ] {
            let mut event = json!({"source": "aws.guardduty", "detail-type": "GuardDuty Finding", "detail": {}});
            event[key] = value;
            let reported = parse(&event).unwrap();
            assert_eq!(reported.kind, Kind::GuardDutyEvent);
            assert_eq!(reported.findings[0].as_ref().unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn refuses_more_than_an_event_can_hold() {
        let error = Trigger::parse(&vec![b' '; MOST_BYTES + 1]).unwrap_err();
        assert_eq!(error.to_string(), "`$`: too large: 1048577 bytes, at most 1048576 are read");
    }

    #[test]
    fn every_item_of_a_list_is_read_as_what_it_is() {
        let asff = json!({"SchemaVersion": "2018-10-08", "ProductArn": "arn:aws:securityhub:eu-west-1::product/aws/guardduty", "AwsAccountId": "11112222333"});
        let guardduty =
            json!({"AccountId": "111122223333", "Type": "T", "Id": "a", "Severity": 5, "Region": "eu-west-1"});
        let alone = parse(&asff).unwrap();
        assert_eq!(alone.kind, Kind::SecurityHubGetFindings);
        assert_eq!(alone.findings[0].as_ref().unwrap_err().at, "$.AwsAccountId");
        let listed = parse(&json!({"Findings": [asff, guardduty]})).unwrap();
        assert_eq!(listed.kind, Kind::SecurityHubGetFindings);
        assert_eq!(listed.findings[0].as_ref().unwrap_err().at, "$.Findings[0].AwsAccountId");
        assert!(listed.findings[1].is_ok());
    }

    #[test]
    fn kinds_have_names_of_their_own() {
        let names: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
    }

    #[test]
    fn a_custom_action_makes_each_finding_a_request() {
        let asff = json!({"ProductArn": "arn:aws:securityhub:eu-west-1::product/aws/securityhub", "AwsAccountId": "222222222222",
            "Id": "arn:aws:securityhub:eu-west-1:222222222222:security-control/S3.8/finding/1", "Severity": {"Label": "HIGH"},
            "Types": ["T"], "Resources": []});
        let detail = json!({"actionName": "Firebreak: contain", "findings": [asff, asff]});
        let event = |resources: Value| {
            json!({"source": "aws.securityhub", "detail-type": "Security Hub Findings - Custom Action",
            "account": "111111111111", "region": "eu-west-1", "resources": resources, "detail": detail})
        };
        let arn = "arn:aws:securityhub:eu-west-1:111111111111:action/custom/FirebreakContain";
        for (document, action) in [
            (event(json!([arn])), "FirebreakContain"),
            (event(json!([])), "Firebreak: contain"),
            (event(json!("x")), "Firebreak: contain"),
            (detail.clone(), "Firebreak: contain"),
        ] {
            let reported = parse(&document).unwrap();
            assert_eq!(reported.kind, Kind::SecurityHubCustomAction);
            assert_eq!(reported.findings.len(), 2);
            for finding in reported.findings {
                assert_eq!(finding.unwrap().request.as_deref(), Some(action));
            }
        }
        let mut nameless = event(json!([]));
        nameless["detail"]["actionName"] = Value::Null;
        assert_eq!(parse(&nameless).unwrap().findings[0].as_ref().unwrap().request.as_deref(), Some("unnamed"));
    }
}
