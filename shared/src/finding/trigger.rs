//! What can start a function: findings in any shape, the schedule, a decision.

use std::fmt;

use serde_json::Value;

use super::json::{At, ParseError, Problem, not_json};
use super::{Finding, guardduty};
use crate::ids::{AccountId, Region};
use crate::text::quoted;

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
    /// An EventBridge event.
    GuardDutyEvent,
    /// The `detail` of one, alone.
    GuardDutyDetail,
    /// What `GetFindings` answers, whole or one finding of it.
    GuardDutyGetFindings,
}

impl Kind {
    /// The kind's name, as `firebreak explain` prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GuardDutyEvent => "guardduty-event",
            Self::GuardDutyDetail => "guardduty-detail",
            Self::GuardDutyGetFindings => "guardduty-get-findings",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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
            (Some("aws.guardduty"), Some("GuardDuty Finding")) => Ok(Self::Findings(event(&at))),
            // A rule with a schedule, and EventBridge Scheduler.
            (Some("aws.events" | "aws.scheduler"), Some("Scheduled Event")) => Ok(Self::Schedule),
            (Some("firebreak"), Some("Firebreak Decision")) => decision(&at),
            (None, None) => bare(&at).map(Self::Findings),
            (source, detail_type) => {
                Err(unknown(&at, format!("an event of source {}, detail-type {}", shown(source), shown(detail_type))))
            }
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
    }
}

/// An EventBridge event. What is wrong with it is said of its one finding, since its kind is known.
fn event(at: &At<'_>) -> Reported {
    let account = at.field("account").and_then(|account| account.id());
    let finding = account.clone().and_then(|_: Option<AccountId>| {
        let detail = at.field("detail")?;
        if !detail.value().is_object() {
            let found = kind_of(detail.value()).to_owned();
            return Err(detail.error(Problem::Expected { expected: "an object", found }));
        }
        let region: Option<Region> = at.field("region")?.id()?;
        guardduty::finding(&detail, region.as_ref())
    });
    Reported { kind: Kind::GuardDutyEvent, envelope_account: account.ok().flatten(), findings: vec![finding] }
}

fn decision(at: &At<'_>) -> Result<Trigger, ParseError> {
    let id = at.down(&["detail", "id"])?;
    match id.text()? {
        // It becomes a key in the decisions table, and nothing more.
        Some(text)
            if text.len() <= 128
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) =>
        {
            Ok(Trigger::Decision { id: text.to_owned() })
        }
        Some(text) => Err(id.error(Problem::Expected { expected: "a decision id", found: text.to_owned() })),
        None => Err(id.error(Problem::Missing)),
    }
}

/// A document without an envelope.
fn bare(at: &At<'_>) -> Result<Reported, ParseError> {
    let reported = |kind, findings| Reported { kind, envelope_account: None, findings };
    let document = at.value();
    let list = at.field("findings")?;
    if document.is_object() && !list.is_absent() {
        let items = list.items()?;
        if items.is_empty() {
            let (expected, found) = ("at least one finding", "an empty list".to_owned());
            return Err(list.error(Problem::Expected { expected, found }));
        }
        let findings = items
            .iter()
            .map(|item| {
                if is_asff(item.value()) { Err(unknown(item, ASFF.to_owned())) } else { guardduty::finding(item, None) }
            })
            .collect();
        return Ok(reported(Kind::GuardDutyGetFindings, findings));
    }
    if is_asff(document) {
        return Err(unknown(at, ASFF.to_owned()));
    }
    let has = |key: &str| document.get(key).is_some();
    if (has("accountId") || has("AccountId")) && (has("type") || has("Type")) {
        let kind = if has("AccountId") { Kind::GuardDutyGetFindings } else { Kind::GuardDutyDetail };
        return Ok(reported(kind, vec![guardduty::finding(at, None)]));
    }
    Err(unknown(at, seen(document)))
}

const ASFF: &str = "a Security Hub finding (it has a `ProductArn`)";

fn is_asff(value: &Value) -> bool {
    value.get("ProductArn").is_some()
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
    fn tells_a_security_hub_finding_from_a_guardduty_one() {
        let asff = json!({"SchemaVersion": "2018-10-08", "ProductArn": "arn:aws:securityhub:eu-west-1::product/aws/guardduty", "AwsAccountId": "111122223333"});
        let alone = parse(&asff).unwrap_err();
        assert!(alone.to_string().contains("Security Hub finding"), "{alone}");
        let listed = parse(&json!({"Findings": [asff]})).unwrap();
        let error = listed.findings[0].as_ref().unwrap_err();
        assert_eq!(error.at, "$.Findings[0]");
    }
}
