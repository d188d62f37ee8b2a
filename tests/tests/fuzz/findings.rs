//! Findings of every source, requests and other events, and what a queue hands over.

use firebreak::finding::{Kind, MOST_BYTES, Trigger};
use firebreak::ids::AccountId;
use firebreak::screen::screen;
use firebreak_tests::regressions;
use firebreak_tests::spoil::{any_json, runner, spoils, spoilt};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use crate::memory::{Bound, bounded};
use crate::{CASES, document, documents, try_all};

/// A value of JSON takes more memory than its text: a list of numbers of one digit sixteen times as much, and twice that
/// while it grows.
const BOUND: Bound = Bound { bytes: 64, count: 8 };

/// Reads bytes as a function does, and looks at all that was read.
fn read(bytes: &[u8]) -> usize {
    let hub: AccountId = "111111111111".parse().unwrap();
    match Trigger::parse(bytes) {
        Err(error) => error.to_string().len(),
        Ok(Trigger::Findings(reported)) => {
            let account = reported.envelope_account.as_ref();
            let one = |finding: &Result<_, firebreak::finding::ParseError>| match finding {
                Err(error) => error.to_string().len(),
                Ok(finding) => {
                    let away = screen(finding, account, Some(&hub)).map_or(0, |away| away.to_string().len());
                    away + serde_json::to_string(finding).unwrap().len()
                }
            };
            reported.findings.iter().map(one).sum()
        }
        Ok(Trigger::Schedule) => 0,
        Ok(Trigger::Decision { id } | Trigger::Drill { id }) => id.len(),
    }
}

fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    bounded(bytes.len().min(MOST_BYTES), BOUND, || read(bytes)).map(|_| ())
}

#[test]
fn no_spoilt_event_costs_more_than_its_size_allows_or_makes_it_panic() {
    let strategy = (document(), spoils());
    let runner = runner(CASES, 3000, regressions!("fuzz-findings"), 4096);
    try_all("spoilt events", runner, &strategy, |(document, spoils)| check(&spoilt(document, &spoils)));
}

#[test]
fn no_json_and_no_bytes_make_it_panic() {
    let strategy = (any_json(), vec(any::<u8>(), 0..512));
    try_all(
        "any JSON, any bytes",
        runner(CASES, 1000, regressions!("fuzz-bytes"), 4096),
        &strategy,
        |(json, bytes)| {
            check(json.to_string().as_bytes())?;
            check(&bytes)
        },
    );
}

/// The smallest finding that can be in a list, as often as fits into an event.
#[test]
fn a_list_of_ever_so_many_findings_costs_no_more_than_its_size_allows() {
    let event = |kind: &str, detail_type: &str, item: &str| {
        let many = vec![item; (MOST_BYTES - 4096) / (item.len() + 1)].join(",");
        format!(
            r#"{{"source":"{kind}","detail-type":"{detail_type}","account":"222222222222","region":"eu-west-1","resources":[],"detail":{{"findings":[{many}]}}}}"#
        )
    };
    for item in ["{}", "0", "[]", r#"{"Id":""}"#, r#"{"ProductArn":"arn:x"}"#] {
        for text in [
            event("aws.securityhub", "Security Hub Findings - Imported", item),
            event("aws.securityhub", "Security Hub Findings - Custom Action", item),
            event("aws.securityhub", "Findings Imported V2", item),
            format!(r#"{{"findings":[{}]}}"#, vec![item; (MOST_BYTES - 64) / (item.len() + 1)].join(",")),
        ] {
            assert!(text.len() <= MOST_BYTES);
            check(text.as_bytes()).unwrap_or_else(|why| panic!("{} …: {why}", &text[..200.min(text.len())]));
        }
    }
}

/// A genuine finding with one of its lists as long as fits into an event.
#[test]
fn a_list_within_a_finding_that_is_ever_so_long_costs_no_more_than_its_size_allows() {
    let mut tried = 0;
    for document in documents() {
        for (at, item) in lists(document) {
            let text = item.to_string();
            let size = document.to_string().len();
            let Some(room) = (MOST_BYTES - 4096).checked_sub(size) else { continue };
            // Distinct, or as they are: what is the same is told once.
            let many: Vec<_> = (0..room / (text.len() + 8)).map(|n| numbered(&item, n)).collect();
            let mut long = document.clone();
            *long.pointer_mut(&at).unwrap() = json!(many);
            let bytes = long.to_string().into_bytes();
            if bytes.len() > MOST_BYTES {
                continue;
            }
            tried += 1;
            check(&bytes)
                .unwrap_or_else(|why| panic!("{at} of {} …: {why}", text.chars().take(200).collect::<String>()));
        }
        if tried > 60 {
            break;
        }
    }
    assert!(tried > 40, "{tried}");
}

/// The lists of a document, each with its first item.
fn lists(document: &serde_json::Value) -> Vec<(String, serde_json::Value)> {
    fn walk(value: &serde_json::Value, at: &str, found: &mut Vec<(String, serde_json::Value)>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields.iter().filter(|(name, _)| !name.contains(['/', '~'])) {
                    walk(value, &format!("{at}/{name}"), found);
                }
            }
            serde_json::Value::Array(items) => {
                if let Some(first) = items.first() {
                    found.push((at.to_owned(), first.clone()));
                    walk(first, &format!("{at}/0"), found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(document, "", &mut found);
    found
}

/// The same with the last digit or letter of its texts counted up, so that no two are equal.
fn numbered(item: &serde_json::Value, n: usize) -> serde_json::Value {
    let tail = format!("{n:07x}");
    match item {
        serde_json::Value::String(text) if text.len() > tail.len() && text.is_ascii() => {
            json!(format!("{}{tail}", &text[..text.len() - tail.len()]))
        }
        serde_json::Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), numbered(value, n))).collect()
        }
        other => other.clone(),
    }
}

#[test]
fn every_kind_of_document_is_among_those_that_are_spoilt() {
    let mut missing: Vec<Kind> = Kind::ALL.to_vec();
    for document in documents() {
        if let Ok(Trigger::Findings(reported)) = Trigger::from_value(document) {
            missing.retain(|kind| *kind != reported.kind);
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}
