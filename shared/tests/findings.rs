//! Every event of this repository, and every GuardDuty file of the corpus, through the parser.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use firebreak::finding::{Trigger, UNANSWERED, unanswered};
use firebreak::ids::AccountId;
use firebreak::screen::screen;
use serde_json::{Value, json};

fn events() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../events")
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
    for folder in ["guardduty", "malformed"] {
        for path in files(folder) {
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
    for path in files("malformed") {
        assert_eq!(errors(&path), 1, "{}", path.display());
    }
    for path in files("guardduty") {
        assert_eq!(errors(&path), 0, "{}", path.display());
    }
}

/// The same finding in three shapes is one finding.
#[test]
fn the_shape_makes_no_difference() {
    let finding = |name: &str| read(&events().join("guardduty").join(name))["findings"][0]["finding"].clone();
    let event = finding("crypto-mining-dns.json");
    assert_eq!(event["id"].as_str().map(str::len), Some(32));
    assert_eq!(finding("bare-detail.json"), event);
    assert_eq!(finding("get-findings.json"), event);
}

#[test]
fn the_readme_has_a_line_for_each_event() {
    let readme = std::fs::read_to_string(events().join("README.md")).unwrap();
    for folder in ["guardduty", "malformed"] {
        for path in files(folder) {
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

/// The corpus: findings that other projects keep, real, sampled and made up.
#[test]
fn every_guardduty_file_of_the_corpus_is_read_or_refused_with_a_reason() {
    let Some(corpus) = std::env::var_os("FIREBREAK_CORPUS").map(PathBuf::from) else {
        eprintln!("skipped: FIREBREAK_CORPUS is not set, the corpus is absent");
        return;
    };
    let manifest = std::fs::read_to_string(corpus.join("MANIFEST.tsv")).unwrap();
    let (mut read, mut samples, mut archived) = (0, 0, 0);
    let mut refused: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut findings, mut other_kinds) = (0, 0);
    for line in manifest.lines().skip(1) {
        let mut columns = line.split('\t');
        let (file, kind) = (columns.next().unwrap(), columns.next().unwrap());
        let bytes = std::fs::read(corpus.join(file)).unwrap();
        let trigger = Trigger::parse(&bytes);
        if !kind.starts_with("guardduty") {
            // Nothing else may pass for a GuardDuty finding.
            assert!(!matches!(trigger, Ok(Trigger::Findings(_))), "{file} ({kind}) was read as GuardDuty");
            other_kinds += 1;
            continue;
        }
        findings += 1;
        let text = String::from_utf8(bytes).unwrap();
        let result = trigger.and_then(|trigger| match trigger {
            Trigger::Findings(mut reported) => {
                assert_eq!(reported.findings.len(), 1, "{file}");
                reported.findings.remove(0)
            }
            other => panic!("{file} was read as {other:?}"),
        });
        match result {
            Ok(finding) => {
                read += 1;
                samples += usize::from(finding.sample);
                let flag = screen(&finding, None, None).map(|t| t.as_str());
                archived += usize::from(finding.state == firebreak::finding::State::Archived);
                // An independent look at the text: what calls itself a sample is known as one.
                let marked = text.contains("\"sample\": true")
                    || text.contains("\\\"sample\\\":true")
                    || text.contains("i-99999999");
                assert!(!marked || finding.sample, "{file} is a sample");
                assert_eq!(finding.sample, flag == Some("sample"), "{file}");
                assert!(!finding.instances.iter().any(|i| i.as_str() == "i-99999999"), "{file}");
            }
            Err(error) => refused.entry(error.to_string()).or_default().push(file.to_owned()),
        }
    }
    let refusals: usize = refused.values().map(Vec::len).sum();
    eprintln!(
        "corpus: {findings} GuardDuty files: {read} read ({samples} samples, {archived} archived), {refusals} refused; {other_kinds} files of other kinds refused"
    );
    for (reason, files) in &refused {
        eprintln!("  {} × {reason}", files.len());
    }
    assert_eq!(read + refusals, findings);
    // Each refusal is about something that is acted on and that is truly malformed in the file.
    for reason in refused.keys() {
        let allowed = [
            "accountId`: not a valid account id",
            "AccountId`: not a valid account id",
            "rn`: says",
            "account`: not a valid account id",
            "region`: not a valid Region",
            "rn`: not a valid ARN",
            "an event of source none",
        ];
        assert!(allowed.iter().any(|a| reason.contains(a)), "{reason}");
    }
    assert!(read > 0 && samples > 0 && archived > 0);
}
