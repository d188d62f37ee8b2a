//! What an attacker in a member account controls widens nothing, skips nothing, and is shown nowhere unescaped.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Once;

use firebreak::run::Outcome;
use firebreak_tests::compare::differences;
use firebreak_tests::faults::Place;
use firebreak_tests::in_process::{Case, Permits, REGION, Security, Settings, playbooks, run_to_end};
use serde_json::{Value, json};

use crate::facts;
use crate::support::{done, is_so, isolating};

/// A text that would do harm in a terminal, a page, a chat message, a policy or a shell.
const EVIL: &str = "evil\u{1b}[31m\r\nUNDONE: all is well `rm` <script>alert(1)</script> ${aws:username} * | \u{202e}";

/// The same as far as EC2 can answer with it: XML has no escape character.
fn in_xml() -> String {
    EVIL.replace('\u{1b}', "")
}

/// What of it must never be seen: each in its raw form.
const RAW: [&str; 5] = ["\u{1b}", "\nUNDONE: all is well", "<script>", "\u{202e}", "`rm`"];

/// The same for a policy, which no person reads: a name in an ARN stands there as it is, but for what IAM reads as
/// more than a letter.
const RAW_IN_POLICIES: [&str; 3] = ["\u{1b}", "\n", "\u{202e}"];

/// Texts that must be seen nowhere at all.
const SECRET: &str = "CANARY-OF-A-TAG";

thread_local! {
    /// What this test's thread has logged, while it is recorded.
    static LOG: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

struct OfThisThread;

impl Write for OfThisThread {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.with_borrow_mut(|log| log.iter_mut().for_each(|log| log.extend_from_slice(bytes)));
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Records the function's log from now on. One subscriber serves the whole process: whether a line is of interest to
/// anybody is decided once, by whichever thread comes to it first, and other tests come to the same lines.
fn record_log() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let log = tracing_subscriber::fmt().json().with_max_level(tracing::Level::INFO).with_writer(|| OfThisThread);
        tracing::subscriber::set_global_default(log.finish()).unwrap();
    });
    LOG.set(Some(Vec::new()));
}

fn recorded_log() -> String {
    String::from_utf8(LOG.take().unwrap_or_default()).unwrap()
}

#[test]
fn an_attackers_texts_are_escaped_everywhere_and_change_nothing() {
    run_to_end(|| async {
        for (_, playbook) in playbooks() {
            let security = Security::fresh(Permits::Everything).await.unwrap();
            record_log();
            let world = facts::hostile(*playbook, &in_xml(), SECRET).unwrap();
            let case = Case::of(&security, playbook, &world, Settings::default()).await.unwrap();
            let before = case.state().await.unwrap();
            // The finding's own texts are the attacker's too: GuardDuty quotes names.
            let mut event = case.event.clone();
            event["detail"]["title"] = json!(EVIL);
            event["detail"]["description"] = json!(EVIL);
            if event["detail"]["resource"]["instanceDetails"].is_object() {
                event["detail"]["resource"]["instanceDetails"]["tags"] = json!([{"key": "Name", "value": SECRET}]);
            }
            security.observer.put_finding(&security.account, REGION, &event["detail"]).await.unwrap();
            let answer = case.deliver_bytes(event.to_string().as_bytes()).await.answer().unwrap();
            assert_eq!(answer.outcomes[0].outcome, done(*playbook), "{:?}", answer.outcomes);
            is_so(&case).await.unwrap();
            // What comes to light later is told too.
            case.settle().await.unwrap();
            let log = recorded_log();

            // Nothing of it where people or machines read.
            let messages = security.messages().await.unwrap().join("\n---\n");
            let policies: Vec<String> = case.faults.sessions().into_values().collect();
            let events: Vec<String> = case
                .faults
                .requests()
                .into_iter()
                .filter(|request| request.operation == "PutEvents")
                .map(|request| request.body)
                .collect();
            for (place, text, raw) in [
                ("messages", &messages, RAW.as_slice()),
                ("log", &log, RAW.as_slice()),
                ("policies", &policies.concat(), RAW_IN_POLICIES.as_slice()),
                ("events", &events.concat(), RAW.as_slice()),
            ] {
                assert!(!text.is_empty(), "there are no {place}");
                assert!(!text.contains(SECRET), "{place} show a tag's value");
                for raw in raw {
                    assert!(!text.contains(raw), "{place} show {raw:?} as it is:\n{text}");
                }
            }
            assert!(log.contains("\"answered\""), "{log}");
            // Each line is one JSON object, and what is said of a run says of which.
            let run = case.the_run().await.unwrap().head.id.to_string();
            for line in log.lines() {
                let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
                if line["fields"]["run"].is_string() {
                    assert_eq!(line["span"]["id"], json!(run), "{line}");
                }
            }
            for line in messages.lines() {
                assert!(line.chars().all(|c| !c.is_control()), "{line:?}");
            }
            // A name with a star in it matches only itself.
            for policy in &policies {
                let policy: Value = serde_json::from_str(policy).unwrap();
                for statement in policy["Statement"].as_array().unwrap() {
                    for resource in statement["Resource"].as_array().unwrap() {
                        let resource = resource.as_str().unwrap();
                        assert!(!resource.contains("asg*") && !resource.contains("${aws:"), "{resource}");
                    }
                }
            }
            // What has our name and our tags is still somebody else's.
            let after = case.state().await.unwrap();
            let Some(squatted) = facts::squatted(&case).unwrap() else { continue };
            let touched = differences(&before, &after).into_iter().find(|d| d.path.iter().any(|part| part == squatted));
            assert!(touched.is_none(), "{touched:?}");
            let used = differences(&before, &after).into_iter().find(|d| d.to_string().contains(squatted));
            assert!(used.is_none(), "what is somebody else's is used: {used:?}");
        }
    });
}

#[test]
fn l18_a_tag_makes_the_guard_stricter_and_never_laxer() {
    run_to_end(|| async {
        let playbook = isolating();
        for (policies, wanted) in [
            // Permitted only for whoever wears a tag: anybody may wear it, so nobody is let in.
            (
                r#"@id("tagged") permit (principal, action == Action::"enforce", resource)
                     when { resource.hasTag("service") && resource.getTag("service") == "shop" };
                   @id("ask") permit (principal, action == Action::"propose", resource);"#,
                Outcome::Proposed,
            ),
            // Forbidden for whoever wears a tag: stricter is always heard.
            (
                r#"@id("all") permit (principal, action, resource);
                   @id("tagged") forbid (principal, action == Action::"enforce", resource)
                     when { resource.hasTag("service") && resource.getTag("service") == "shop" };"#,
                Outcome::Proposed,
            ),
        ] {
            let security = Security::fresh(Permits::Default).await.unwrap();
            security.publish(policies).await.unwrap();
            let case = Case::new(&security, playbook, "web-server").await.unwrap();
            let answer = case.deliver().await.answer().unwrap();
            assert_eq!(answer.outcomes[0].outcome, wanted, "{:?}", answer.outcomes);
            let requests = case.faults.requests();
            assert!(requests.iter().all(|r| r.place == Place::Hub || r.reads()));
        }
    });
}
