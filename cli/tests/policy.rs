//! `firebreak policy`, its help and its refusals, run as a user runs them: without AWS.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::{Command, Output};

fn firebreak(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_firebreak"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .env_clear()
        .envs(variables.iter().copied())
        .args(arguments)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A set that is valid and never does what it says.
const MISSPELT: &str = r#"@id("x") permit (principal == Playbook::"isolate-instanse", action, resource);"#;

#[test]
fn a_set_with_warnings_is_valid_and_published_only_by_a_yes() {
    let starter = firebreak(&["policy", "check", "policies/starter.cedar"], &[]);
    assert!(starter.status.success() && said(&starter).starts_with("valid: sha256 "), "{starter:?}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.cedar").display().to_string();
    std::fs::write(&path, MISSPELT).unwrap();
    let checked = firebreak(&["policy", "check", &path], &[]);
    assert_eq!(checked.status.code(), Some(0));
    assert!(said(&checked).starts_with("warning: policy `x`: there is no playbook `isolate-instanse`"), "{checked:?}");
    assert!(said(&checked).contains("\nvalid, with 5 warnings: sha256 "), "{checked:?}");

    let refused = firebreak(&["policy", "publish", &path], &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).ends_with("not published: 5 warnings; with --yes it is published all the same\n"));
    // With a yes it goes on, to where AWS would be asked.
    let published = firebreak(&["policy", "publish", &path, "--yes"], &[]);
    assert_eq!(published.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&published.stderr).contains("settings of the deployment are missing"));
}

#[test]
fn a_drill_that_is_over_is_not_blamed_on_the_role() {
    // Nothing listens on port 1.
    let endpoint = "http://127.0.0.1:1";
    let output = firebreak(
        &["preflight", "--accounts", "222222222222"],
        &[
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "a"),
            ("AWS_SECRET_ACCESS_KEY", "b"),
            ("FIREBREAK_HUB_ACCOUNT", "111111111111"),
            ("FIREBREAK_LEDGER_TABLE", "ledger"),
            ("FIREBREAK_DECISIONS_TABLE", "decisions"),
            ("FIREBREAK_EVIDENCE_BUCKET", "evidence"),
            ("FIREBREAK_TOPIC_ARN", "arn:aws:sns:eu-west-1:111111111111:topic"),
        ],
    );
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr);
    let wanted = format!("could not reach AWS at {endpoint} (AWS_ENDPOINT_URL): is the drill still running?");
    assert!(error.contains(&wanted) && !error.contains("OperatorPrincipals"), "{error}");
}

#[test]
fn without_the_url_of_peoples_door_it_says_where_the_url_is() {
    for arguments in [&["runs"][..], &["show", "01KAM9V9T0000000000000000A"], &["undo", "01KAM9V9T0000000000000000A"]] {
        let output = firebreak(arguments, &[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("the output `OperateUrl` of the stack"), "{output:?}");
    }
    let clear = firebreak(&["runs", "--operate-url", "http://door.example.com/"], &[]);
    assert!(String::from_utf8_lossy(&clear.stderr).contains("begins with https://"), "{clear:?}");
}

#[test]
fn what_a_set_changes_is_said_of_each_event() {
    let same = firebreak(
        &[
            "policy",
            "check",
            "policies/starter.cedar",
            "--events",
            "events/guardduty",
            "--current",
            "policies/starter.cedar",
            "--hub-account",
            "111111111111",
        ],
        &[],
    );
    assert!(said(&same).contains("\n0 of "), "{same:?}");
    let other = firebreak(
        &["policy", "check", "policies/starter.cedar", "--events", "events/guardduty", "--hub-account", "111111111111"],
        &[],
    );
    assert!(said(&other).contains("snapshot-volumes on i-") && said(&other).contains("propose → enforce"), "{other:?}");
    assert!(!said(&other).contains("\n0 of "), "{other:?}");
    // Without the security account nothing is enforced by either, which is no answer to what changes.
    let unknown = firebreak(&["policy", "check", "policies/starter.cedar", "--events", "events/guardduty"], &[]);
    assert!(unknown.status.code() == Some(2) && !said(&unknown).contains("answers change"), "{unknown:?}");
}

#[test]
fn a_shell_is_told_what_it_needs_to_complete() {
    let output = firebreak(&["completions", "bash"], &[]);
    assert!(output.status.success() && said(&output).contains("approve"), "{output:?}");
}

#[test]
fn help_begins_as_the_readme_and_says_what_a_decision_checks() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let first = readme.lines().find(|line| line.starts_with("Firebreak ")).unwrap().trim_end_matches('.');
    let flat = |arguments: &[&str]| {
        let output = firebreak(arguments, &[]);
        assert!(output.status.success(), "{output:?}");
        said(&output).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(flat(&["help"]).starts_with(first), "{}", flat(&["help"]));
    for (command, words) in [
        ("approve", "plans anew"),
        ("reject", "still proposed"),
        ("undo", "read first"),
        ("retry", "asked again"),
        ("plan", "You must be an operator"),
        ("preflight", "Regions, separated by commas, or the option given again"),
        ("preflight", "Member accounts, separated by commas, or the option given again"),
        ("onboard", "VPCs, separated by commas, or the option given again"),
    ] {
        assert!(flat(&["help", command]).contains(words), "{command}: {}", flat(&["help", command]));
    }
}
