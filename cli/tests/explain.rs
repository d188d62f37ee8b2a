//! `firebreak explain`, run as a user runs it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn explain(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_firebreak"))
        .current_dir(root())
        .env_clear()
        .arg("explain")
        .args(arguments)
        .output()
        .unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// The folders in `events/` that hold what is read, sorted.
fn sources() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(root().join("events"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() && !path.ends_with("malformed"))
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn files(folder: &str) -> Vec<String> {
    let folder = Path::new("events").join(folder);
    let mut names: Vec<String> = std::fs::read_dir(root().join(&folder))
        .unwrap()
        .map(|entry| folder.join(entry.unwrap().file_name()).display().to_string())
        .filter(|name| name.ends_with(".json"))
        .collect();
    names.sort();
    assert!(!names.is_empty());
    names
}

/// The reviewed record of what answers each of our events, with the starter policies.
#[test]
fn says_what_answers_each_event() {
    let mut arguments = vec!["--policy", "policies/starter.cedar", "--hub-account", "111111111111"];
    let files: Vec<String> = sources().iter().flat_map(|source| files(source)).collect();
    arguments.extend(files.iter().map(String::as_str));
    let output = explain(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut shown = String::new();
    for line in lines(&output) {
        let text = |v: &Value| v.as_str().unwrap_or("-").to_owned();
        let finding = &line["finding"];
        shown.push_str(&format!("{}: {} {}\n", text(&line["file"]), text(&line["kind"]), text(&finding["type"])));
        if finding["source"] != "guardduty" {
            let control = &finding["control"];
            shown.push_str(&format!(
                "  {} {} severity {:.1}\n",
                text(&finding["source"]),
                text(&control["id"]),
                finding["severity"]
            ));
        }
        for resource in finding["resources"].as_array().into_iter().flatten() {
            let id = resource["id"].as_str().or(resource["id"]["name"].as_str()).unwrap();
            shown.push_str(&format!("  names {} {id} in {}\n", text(&resource["kind"]), text(&resource["account"])));
        }
        for answer in line["answers"].as_array().unwrap() {
            let target = &answer["target"];
            shown.push_str(&format!(
                "  {} {} in {} {}: {}\n",
                text(&answer["playbook"]),
                text(&target["id"]),
                text(&target["account"]),
                text(&target["region"]),
                text(&answer["decision"])
            ));
            assert!(!answer["reasons"].as_array().unwrap().is_empty());
        }
        if let Some(notify) = line["notify"].as_str() {
            shown.push_str(&format!("  notify: {notify}\n"));
        }
        assert!(line["error"].is_null());
        // Every event has an answer or a reason, and never both.
        assert_eq!(line["answers"].as_array().unwrap().is_empty(), line["notify"].is_string(), "{line}");
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn reads_on_after_malformed_files_and_fails_at_the_end() {
    let mut arguments: Vec<String> = vec!["no/such/file.json".to_owned()];
    arguments.extend(files("malformed"));
    arguments.push("events/guardduty/crypto-mining-dns.json".to_owned());
    let output = explain(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(1));
    let lines = lines(&output);
    let errors: Vec<String> = lines
        .iter()
        .filter(|line| !line["error"].is_null())
        .map(|line| format!("{}: {}", line["file"].as_str().unwrap(), line["error"].as_str().unwrap()))
        .collect();
    insta::assert_snapshot!(errors.join("\n"));
    let last = lines.last().unwrap();
    assert_eq!(last["file"], "events/guardduty/crypto-mining-dns.json");
    assert_eq!(last["answers"].as_array().unwrap().len(), 2);
}

#[test]
fn takes_what_it_does_not_know_at_its_strictest_and_says_so() {
    let event = "events/guardduty/crypto-mining-dns.json";
    let folder = tempfile::tempdir().unwrap();
    let answer = |set: &str, besides: &[&str]| {
        let path = folder.path().join("set.cedar");
        std::fs::write(&path, set).unwrap();
        let path = path.display().to_string();
        let line = lines(&explain(&[&["--policy", &path, event], besides].concat())).remove(0);
        let answer = &line["answers"][0];
        (answer["decision"].as_str().unwrap().to_owned(), answer["reasons"].to_string())
    };
    const ALL: &str = r#"@id("all") permit (principal, action, resource);"#;
    let (decision, reasons) = answer(ALL, &[]);
    assert_eq!(decision, "enforce");
    assert!(reasons.contains("enforce permitted by `all`") && reasons.contains("budgets: not known"), "{reasons}");

    let hub: &[&str] = &["--hub-account", "111111111111"];
    for (condition, besides, decided, named) in [
        ("context.budget.account_this_hour > 3", hub, "propose", "budgets: not known without AWS"),
        (r#"resource.hasTag("env")"#, hub, "propose", "tags: not known without AWS"),
        ("resource has ou", hub, "propose", "the organisational unit: not known without AWS"),
        (
            r#"resource has ous && resource.ous.contains("ou-abcd-11111111")"#,
            hub,
            "propose",
            "the organisational unit: not",
        ),
        ("context.plan.steps > 9", hub, "propose", "the number of steps: not known without AWS"),
        ("resource.account == context.hub_account", &[], "propose", "the security account: not given (--hub-account)"),
        ("resource.account == context.hub_account", hub, "enforce", "enforce permitted by `all`"),
        // As of when it was last seen; that another time would be answered otherwise is said.
        ("context.finding.age_minutes > 5", hub, "enforce", "the time: supposed to be when it was last seen (--at)"),
        ("context.finding.age_minutes > 5", &["--at", "2099-01-01T00:00:00Z"], "propose", "forbidden by `not`"),
    ] {
        let not = format!(
            r#"@id("not") forbid (principal, action == Action::"enforce", resource) when {{ {} && {condition} }};"#,
            if condition.contains("age_minutes") { "context.finding has age_minutes" } else { "true" },
        );
        let (decision, reasons) = answer(&format!("{ALL}{not}"), besides);
        assert_eq!(decision, decided, "{condition}: {reasons}");
        assert!(
            reasons.contains(named) && (decided == "enforce" || reasons.contains("`not`")),
            "{condition}: {reasons}"
        );
    }
}

#[test]
fn names_what_an_attack_sequence_names_and_nothing_is_done_about() {
    let event = "events/guardduty/attack-sequence-ec2.json";
    let mut document: Value = serde_json::from_str(&std::fs::read_to_string(root().join(event)).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("event.json");
    let explained = |document: &Value| {
        std::fs::write(&path, document.to_string()).unwrap();
        lines(&explain(&["--hub-account", "111111111111", &path.display().to_string()])).remove(0)
    };
    let interface = "not touched, unless it is named itself: the instance of eni-b5e0eee6e28efca6d";
    let answers = explained(&document)["answers"].clone();
    assert_eq!(answers.as_array().unwrap().len(), 4);
    for answer in answers.as_array().unwrap() {
        assert!(answer["reasons"].as_array().unwrap().iter().any(|reason| reason == interface), "{answer}");
    }

    // One of its two instances in another account, and then both.
    let resources = &mut document["detail"]["service"]["detection"]["sequence"]["resources"];
    resources[1]["uid"] = "arn:aws:ec2:us-east-1:333333333333:instance/i-9eb615db1d6886473".into();
    resources.as_array_mut().unwrap().retain(|resource| resource["resourceType"] != "AUTOSCALING_AUTO_SCALING_GROUP");
    let elsewhere =
        "not touched: i-9eb615db1d6886473 in account 333333333333, us-east-1, which the finding names as well";
    let line = explained(&document);
    for answer in line["answers"].as_array().unwrap() {
        assert_eq!(answer["target"]["id"], "i-57dfeda647010ab65");
        assert!(answer["reasons"].as_array().unwrap().iter().any(|reason| reason == elsewhere), "{answer}");
    }
    let resources = &mut document["detail"]["service"]["detection"]["sequence"]["resources"];
    resources
        .as_array_mut()
        .unwrap()
        .retain(|resource| resource["uid"].as_str().is_some_and(|uid| uid.contains("333333333333")));
    let line = explained(&document);
    assert_eq!(line["answers"], serde_json::json!([]));
    let notify = line["notify"].as_str().unwrap();
    assert!(
        notify.starts_with("every instance it names is in another account") && notify.ends_with(elsewhere),
        "{notify}"
    );
}

#[test]
fn refuses_a_policy_set_that_does_not_validate() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.cedar");
    std::fs::write(&path, r#"@id("typo") forbid (principal, action, resource) when { resource.acount == "1" };"#)
        .unwrap();
    let output = explain(&["--policy", &path.display().to_string(), "events/guardduty/sample.json"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("acount"), "{output:?}");
}

/// Said once, however many files there are, and only where a policy asks.
#[test]
fn asks_for_the_security_account_where_a_policy_does() {
    let event = "events/guardduty/crypto-mining-dns.json";
    let said = |arguments: &[&str]| {
        let output = explain(&[arguments, &[event, event]].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let starter = said(&["--policy", "policies/starter.cedar"]);
    assert_eq!(starter.matches("give --hub-account: ").count(), 1, "{starter}");
    assert!(starter.contains("`never-the-security-account`"), "{starter}");
    assert_eq!(said(&["--policy", "policies/starter.cedar", "--hub-account", "111111111111"]), "");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.cedar");
    std::fs::write(&path, r#"@id("all") permit (principal, action, resource);"#).unwrap();
    assert_eq!(said(&["--policy", &path.display().to_string()]), "");
}

/// A custom action names nobody, so what it asks for is proposed, whatever the policies allow.
#[test]
fn a_request_is_proposed_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.cedar");
    std::fs::write(&path, r#"@id("all") permit (principal, action, resource);"#).unwrap();
    let lax = path.display().to_string();
    let decisions = |event: &str| -> Vec<Value> {
        let lines = lines(&explain(&["--policy", &lax, event]));
        lines.iter().flat_map(|line| line["answers"].as_array().unwrap().clone()).collect()
    };
    let copies = decisions("events/securityhub/guardduty-copy.json");
    assert!(copies.len() == 2 && copies.iter().all(|answer| answer["decision"] == "enforce"), "{copies:?}");
    let asked = decisions("events/securityhub/custom-action.json");
    // The instance by both playbooks, and the bucket of the control that was picked beside it.
    assert_eq!(asked.len(), 3);
    for answer in asked {
        assert_eq!(answer["decision"], "propose");
        assert!(answer["reasons"].to_string().contains("custom action `FirebreakContain`"), "{answer}");
    }
}

/// Every file of the corpus is explained or refused with a reason; nothing makes it stop. The policies allow everything,
/// so whatever is answered would be done at once: that must be nothing that is not live, and nothing of a source that
/// cannot be asked again: of controls only those that failed.
#[test]
fn explains_or_refuses_every_file_of_the_corpus() {
    let Some(corpus) = std::env::var_os("FIREBREAK_CORPUS").map(PathBuf::from) else {
        eprintln!("FIREBREAK_CORPUS is not set: the public corpus was not read");
        return;
    };
    let manifest = std::fs::read_to_string(corpus.join("MANIFEST.tsv")).unwrap();
    let names: Vec<String> = manifest
        .lines()
        .skip(1)
        .map(|line| corpus.join(line.split('\t').next().unwrap()).display().to_string())
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let lax = folder.path().join("set.cedar");
    std::fs::write(&lax, r#"@id("all") permit (principal, action, resource);"#).unwrap();
    let mut arguments = vec!["--policy".to_owned(), lax.display().to_string()];
    arguments.extend(names.iter().cloned());
    let output = explain(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let lines = lines(&output);
    let mut enforced = 0;
    for name in &names {
        let of_file: Vec<&Value> = lines.iter().filter(|line| line["file"] == name.as_str()).collect();
        assert!(!of_file.is_empty(), "nothing was said of {name}");
        for line in of_file {
            let answers = line["answers"].as_array().unwrap();
            let answered = !answers.is_empty();
            assert!(answered || line["notify"].is_string() || line["error"].is_string(), "{line}");
            let finding = &line["finding"];
            if finding.is_null() {
                assert!(!answered && line["error"].is_string(), "{line}");
                continue;
            }
            let live = finding["state"] == "active" || finding["state"] == "notified";
            let foreign = finding["product"]["foreign"].is_string();
            // A control that failed is answered by its fix.
            let failed = finding["control"]["compliance"] == "failed";
            if finding["sample"] == true || !live || foreign || (finding["source"] != "guardduty" && !failed) {
                assert!(!answered, "it is answered: {line}");
            }
            for answer in answers {
                // Whether somebody is a break-glass principal is not known here.
                let is_somebody = answer["target"]["kind"].as_str().unwrap().starts_with("iam-");
                let asked = is_somebody || !finding["request"].is_null();
                assert_eq!(answer["decision"], if asked { "propose" } else { "enforce" }, "{line}");
                enforced += usize::from(answer["decision"] == "enforce");
            }
        }
    }
    assert!(enforced > 0, "the corpus has nothing to answer, so this shows nothing");
}

#[test]
fn a_folder_is_every_json_file_in_it_and_below() {
    let folder = tempfile::tempdir().unwrap();
    let event = std::fs::read(root().join("events/guardduty/command-and-control.json")).unwrap();
    std::fs::create_dir(folder.path().join("below")).unwrap();
    for name in ["b.json", "a.json", "below/c.json", "notes.txt"] {
        std::fs::write(folder.path().join(name), &event).unwrap();
    }
    let output = explain(&[folder.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: Vec<String> = lines(&output).iter().map(|line| line["file"].as_str().unwrap().to_owned()).collect();
    let wanted = ["a.json", "b.json", "below/c.json"].map(|name| folder.path().join(name).display().to_string());
    assert_eq!(read, wanted);
}
