//! Every event of this repository, and every file of the corpus, through the parser and the screen.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use firebreak::finding::{Kind, ParseError, Problem, Reported, Source, Trigger, UNANSWERED, unanswered};
use firebreak::ids::AccountId;
use firebreak::screen::screen;
use serde_json::{Value, json};

fn events() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../events")
}

/// The folders in `events/`, sorted.
fn folders() -> Vec<String> {
    let entries = std::fs::read_dir(events()).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = entries
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    for source in Source::ALL {
        assert!(names.iter().any(|name| name == source.as_str()), "{} has no events", source.as_str());
    }
    names
}

/// The files in `events/<folder>` whose names end in `.json`, sorted.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        std::fs::read_dir(events().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

/// What a file is read as: the normal form of each finding and what the screen says of it.
fn read(path: &Path) -> Value {
    let hub: AccountId = "111111111111".parse().unwrap();
    match Trigger::parse(&std::fs::read(path).unwrap()) {
        Err(error) => json!({ "error": error.to_string() }),
        Ok(Trigger::Findings(reported)) => json!({
            "kind": reported.kind.as_str(),
            "envelope_account": reported.envelope_account,
            "findings": reported.findings.iter().map(|finding| match finding {
                Ok(finding) => json!({
                    "finding": finding,
                    "screen": screen(finding, reported.envelope_account.as_ref(), Some(&hub)).map(|t| t.to_string()),
                }),
                Err(error) => json!({ "error": error.to_string() }),
            }).collect::<Vec<_>>(),
        }),
        Ok(other) => json!({ "trigger": format!("{other:?}") }),
    }
}

#[test]
fn each_event_is_read_as_reviewed() {
    for folder in folders() {
        for path in files(&folder) {
            let name = format!("{folder}__{}", path.file_stem().unwrap().to_str().unwrap());
            insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
                insta::assert_json_snapshot!(name, read(&path));
            });
        }
    }
}

#[test]
fn every_malformed_event_is_refused_and_every_other_is_read() {
    let errors = |path: &Path| read(path).to_string().matches("\"error\"").count();
    for folder in folders() {
        for path in files(&folder) {
            assert_eq!(errors(&path), usize::from(folder == "malformed"), "{}", path.display());
        }
    }
}

/// What is kept under a source's name is that source's, whichever way it came.
#[test]
fn each_kind_of_document_has_an_event() {
    let mut kinds = BTreeSet::new();
    for path in folders().iter().flat_map(|folder| files(folder)) {
        if let Ok(Trigger::Findings(reported)) = Trigger::parse(&std::fs::read(&path).unwrap()) {
            kinds.insert(reported.kind.as_str());
        }
    }
    for kind in Kind::ALL {
        assert!(kinds.contains(kind.as_str()), "no event is a {kind}");
    }
    let page = std::fs::read_to_string(events().join("../docs/sources.md")).unwrap();
    for kind in Kind::ALL {
        assert!(page.contains(&format!("`{kind}`")), "docs/sources.md does not name {kind}");
    }
}

/// The same finding in several shapes is one finding.
#[test]
fn the_shape_makes_no_difference() {
    let finding = |name: &str| read(&events().join(name))["findings"][0]["finding"].clone();
    let event = finding("guardduty/crypto-mining-dns.json");
    assert_eq!(event["id"].as_str().map(str::len), Some(32));
    for same in ["guardduty/bare-detail.json", "guardduty/get-findings.json"] {
        assert_eq!(finding(same), event, "{same}");
    }
    // Through Security Hub, what decides is the same: one finding about one target.
    for copy in ["securityhub/guardduty-copy.json", "securityhub/custom-action.json", "securityhub/v2-guardduty.json"] {
        let copy = finding(copy);
        for field in
            ["source", "id", "arn", "finding_type", "account", "region", "instances", "detector_id", "last_seen"]
        {
            assert_eq!(copy[field], event[field], "{field}");
        }
    }
    for (one, other) in [
        ("config/bucket.json", "config/detail.json"),
        ("access-analyzer/public-bucket.json", "access-analyzer/detail.json"),
        ("macie/public-bucket.json", "macie/get-findings.json"),
        ("inspector/package.json", "inspector/list-findings.json"),
        ("securityhub/control-bucket.json", "securityhub/get-findings.json"),
        ("securityhub/v2-control.json", "securityhub/v2-get-findings.json"),
    ] {
        assert_eq!(finding(one), finding(other), "{one} and {other}");
    }
    assert_eq!(finding("securityhub/control-bucket.json")["id"], finding("securityhub/v2-control.json")["id"]);
}

#[test]
fn the_readme_has_a_line_for_each_event() {
    let readme = std::fs::read_to_string(events().join("README.md")).unwrap();
    for folder in folders() {
        for path in files(&folder) {
            let line = format!("| `{folder}/{}` |", path.file_name().unwrap().to_str().unwrap());
            assert_eq!(readme.matches(&line).count(), 1, "{line}");
        }
    }
    for line in readme.lines().filter(|l| l.starts_with("| `")) {
        let name = line.split('`').nth(1).unwrap();
        assert!(events().join(name).exists(), "{name} is listed and does not exist");
    }
}

#[test]
fn reasons_read_as_sentences_and_hold_nothing_that_breaks_a_message() {
    for (reason, types) in UNANSWERED {
        assert!(!types.is_empty());
        assert!(reason.len() < 200 && !reason.ends_with('.') && reason.is_ascii(), "{reason}");
        for name in *types {
            assert_eq!(unanswered(name), *reason);
        }
    }
}

/// What a file of the corpus must be taken for, by the word of its manifest; nothing where no finding is in it.
fn expected(word: &str) -> &'static [Kind] {
    match word {
        "guardduty-eventbridge" => &[Kind::GuardDutyEvent],
        "guardduty-api-camel" | "guardduty-api-pascal" => &[Kind::GuardDutyDetail, Kind::GuardDutyGetFindings],
        "securityhub-imported-eventbridge" => &[Kind::SecurityHubEvent],
        "securityhub-customaction-eventbridge" => &[Kind::SecurityHubCustomAction],
        "securityhub-v2-eventbridge" => &[Kind::SecurityHubV2Event],
        "ocsf-finding" => &[Kind::SecurityHubV2GetFindings],
        "config-compliance-detail" => &[Kind::ConfigDetail],
        "health-eventbridge" => &[Kind::HealthEvent],
        "trusted-advisor-eventbridge" => &[Kind::TrustedAdvisorEvent],
        "access-analyzer-eventbridge" => &[Kind::AccessAnalyzerEvent],
        word if word.starts_with("asff-") => &[Kind::SecurityHubGetFindings],
        _ => &[],
    }
}

/// The findings in a document as they stand there, by a look of its own at the text.
fn raw(document: &Value) -> Vec<Value> {
    let detail = document.get("detail").filter(|detail| detail.is_object()).unwrap_or(document);
    match detail.get("findings").and_then(Value::as_array) {
        Some(list) => list.clone(),
        None => vec![detail.clone()],
    }
}

/// Why a finding must not be answered with a change, by a look of its own at the text.
fn dead(finding: &Value) -> Option<&'static str> {
    let at = |pointer: &str| finding.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let text = finding.to_string();
    let flag = |pointer: &str| finding.pointer(pointer) == Some(&json!(true));
    let aws = |arn: &str| {
        let parts: Vec<&str> = arn.split(':').collect();
        matches!(parts.as_slice(), ["arn", _, "securityhub", _, "", product] if product.split('/').nth(1) == Some("aws"))
    };
    let product = finding.get("ProductArn").or(finding.pointer("/metadata/product/uid"));
    let marks = [
        ("sample", text.contains("\"sample\":true") || text.contains("\\\"sample\\\":true")),
        ("sample", text.contains("additionalInfo/sample\":\"true\"") || text.contains("\"i-99999999\"")),
        ("archived", at("/RecordState") == "ARCHIVED" || flag("/service/archived") || flag("/Service/Archived")),
        ("archived", at("/status") == "ARCHIVED" || flag("/isDeleted") || finding["activity_name"] == "Close"),
        ("suppressed", at("/Workflow/Status") == "SUPPRESSED" || at("/status").eq_ignore_ascii_case("suppressed")),
        (
            "resolved",
            at("/Workflow/Status") == "RESOLVED" || matches!(at("/status"), "CLOSED" | "RESOLVED" | "Resolved"),
        ),
        ("passed", at("/Compliance/Status") == "PASSED" || at("/compliance/status").eq_ignore_ascii_case("pass")),
        ("passed", at("/status") == "OK"),
        ("compliant", at("/newEvaluationResult/complianceType") == "COMPLIANT"),
        ("foreign", product.is_some_and(|arn| !arn.as_str().is_some_and(aws))),
    ];
    marks.into_iter().find(|(_, is)| *is).map(|(mark, _)| mark)
}

/// A refusal without what is particular to the file.
fn class(error: &ParseError) -> String {
    let place: String = error.at.chars().filter(|c| !c.is_ascii_digit()).collect();
    match &error.problem {
        Problem::Id(id) => format!("{place}: not a valid {}", id.kind),
        Problem::Missing => format!("{place}: missing"),
        Problem::Expected { expected, .. } => format!("{place}: not {expected}"),
        Problem::Disagrees { other, .. } => format!("{place}: disagrees with {other}"),
        Problem::Foreign { .. } => "foreign product, and malformed".to_owned(),
        Problem::UnknownShape { seen } if seen.starts_with("an event") => "an event that is not read here".to_owned(),
        Problem::UnknownShape { .. } => "a document that is not read here".to_owned(),
        other => other.to_string(),
    }
}

/// The corpus: findings and other events that other projects keep, real, sampled and made up. Every file is read, or
/// refused with a reason; and what must never be answered with a change never passes the screen.
#[test]
fn every_file_of_the_corpus_is_read_or_refused_with_a_reason() {
    let Some(corpus) = std::env::var_os("FIREBREAK_CORPUS").map(PathBuf::from) else {
        eprintln!("skipped: FIREBREAK_CORPUS is not set, the corpus is absent");
        return;
    };
    let manifest = std::fs::read_to_string(corpus.join("MANIFEST.tsv")).unwrap();
    let mut table: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let (mut files, mut findings, mut live) = (0, 0, 0);
    let mut turned_away: BTreeMap<&str, usize> = BTreeMap::new();
    for line in manifest.lines().skip(1) {
        let mut columns = line.split('\t');
        let (file, word) = (columns.next().unwrap(), columns.next().unwrap());
        let bytes = std::fs::read(corpus.join(file)).unwrap();
        let row = table.entry(word).or_default();
        files += 1;
        let reported: Reported = match Trigger::parse(&bytes) {
            Ok(Trigger::Findings(reported)) => reported,
            Ok(other) => panic!("{file} was read as {other:?}"),
            Err(error) => {
                assert!(matches!(error.problem, Problem::UnknownShape { .. }), "{file}: {error}");
                *row.entry("refused".to_owned()).or_default() += 1;
                *reasons.entry(class(&error)).or_default() += 1;
                continue;
            }
        };
        // Nothing else may pass for a finding, and no finding for one of another kind.
        assert!(expected(word).contains(&reported.kind), "{file} ({word}) was read as {}", reported.kind);
        let document: Value = serde_json::from_slice(&bytes).unwrap();
        let raw = raw(&document);
        assert_eq!(raw.len(), reported.findings.len(), "{file}");
        for (finding, raw) in reported.findings.iter().zip(&raw) {
            findings += 1;
            let dead = dead(raw);
            let said = match finding {
                Err(error) => {
                    *reasons.entry(class(error)).or_default() += 1;
                    "refused"
                }
                Ok(finding) => {
                    let asked = reported.kind == Kind::SecurityHubCustomAction;
                    assert_eq!(finding.request.is_some(), asked, "{file}");
                    let away = screen(finding, reported.envelope_account.as_ref(), None);
                    let said = away.as_ref().map_or("live", |away| away.as_str());
                    assert!(dead.is_none() || said != "live", "{file} is {dead:?} and passes for live");
                    assert!(dead != Some("sample") || finding.sample, "{file} is a sample");
                    let made_up = raw.to_string().contains("GeneratedFinding") || raw.to_string().contains("[SAMPLE]");
                    assert!(!finding.sample || made_up || dead == Some("sample"), "{file} is no sample");
                    assert!(!finding.instances.iter().any(|id| id.as_str() == "i-99999999"), "{file}");
                    live += usize::from(said == "live");
                    said
                }
            };
            *row.entry(said.to_owned()).or_default() += 1;
            *turned_away.entry(said).or_default() += 1;
        }
    }
    eprintln!("corpus: {files} files, {findings} findings, {live} of them live");
    for (word, row) in &table {
        let cells: Vec<String> = row.iter().map(|(said, count)| format!("{said} {count}")).collect();
        eprintln!("  {word:<40} {}", cells.join(", "));
    }
    eprintln!("refused:");
    for (reason, count) in &reasons {
        eprintln!("  {count:>4} × {reason}");
    }
    assert_eq!(files, manifest.lines().count() - 1);
    for word in
        ["live", "sample", "archived", "resolved", "passed", "not-evaluated", "foreign-product", "other-account"]
    {
        assert!(turned_away.contains_key(word), "nothing in the corpus is {word}");
    }
    // What is refused is refused for something that is acted on, or that decides.
    for reason in reasons.keys() {
        let clear = ["valid", "missing", "disagrees", "not read here", "foreign", "severity", "a string", "a list"];
        assert!(clear.iter().any(|word| reason.contains(word)), "{reason}");
    }
}
