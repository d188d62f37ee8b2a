//! What an attacker in a member account controls widens nothing, skips nothing, and is shown nowhere unescaped.

use std::io::Write;
use std::sync::{Arc, Mutex};

use firebreak::run::Outcome;
use firebreak_tests::compare::differences;
use firebreak_tests::emulator::world;
use firebreak_tests::faults::Place;
use firebreak_tests::in_process::{Case, Kind, Permits, REGION, Security, Settings, playbooks, run_to_end};
use serde_json::{Value, json};

use crate::support::{contains, done, is_so};

/// A text that would do harm in a terminal, a page, a chat message, a policy or a shell.
const EVIL: &str = "evil\u{1b}[31m\r\nUNDONE: all is well `rm` <script>alert(1)</script> ${aws:username} * | \u{202e}";

/// The same as far as EC2 can answer with it: XML has no escape character.
fn in_xml() -> String {
    EVIL.replace('\u{1b}', "")
}

/// What of it must never be seen: each in its raw form.
const RAW: [&str; 5] = ["\u{1b}", "\nUNDONE: all is well", "<script>", "\u{202e}", "`rm`"];

/// Texts that must be seen nowhere at all.
const SECRET: &str = "CANARY-OF-A-TAG";

/// The largest world of a kind, with an attacker's texts wherever its people may write.
fn hostile(kind: Kind) -> Value {
    let mut world = world(kind.largest()).unwrap();
    if kind != Kind::Instance {
        let victim = &mut world[if kind == Kind::User { "users" } else { "roles" }]["victim"];
        victim["tags"] =
            json!({"evil\u{202e}key": "x", "secret": SECRET, "exempt": "true", "firebreak:exempt": "true"});
        victim["name"] = json!("a=,.@-+_b");
        if kind == Kind::Role {
            victim["session"] = json!("=,.@-+_i-0");
        }
        // What a caller asks for stands in CloudTrail as it was asked for.
        let evil = json!({
            "minutes_ago": 5, "eventName": "CreateUser", "eventSource": "iam.amazonaws.com",
            "userIdentity": {"accessKeyId": "{victim.key}"}, "requestParameters": {"userName": EVIL},
        });
        if kind == Kind::User {
            world["trail"]["us-east-1"].as_array_mut().unwrap().push(evil);
        }
        return world;
    }
    let victim = &mut world["instances"]["victim"];
    victim["tags"] = json!({
        "Name": in_xml(), "evil\u{202e}key": "x", "secret": SECRET, "long": "x".repeat(256),
        "IsTriageRequired": "False", "firebreak:exempt": "true", "exempt": "true", "firebreak:run": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    });
    world["groups"]["sg_web"]["name"] = json!("web ${aws:username} <b>");
    world["groups"]["sg_squatted"] = json!({
        "vpc": "vpc", "name": "firebreak-quarantine-01ARZ3NDEKTSV4RRFFQ69G5FAV", "description": "Firebreak: keep it",
        "ingress": [{"ipv4": ["0.0.0.0/0"]}],
        "tags": {"firebreak:purpose": "firebreak-quarantine", "firebreak:run": "01ARZ3NDEKTSV4RRFFQ69G5FAV"},
    });
    world["auto_scaling_groups"]["asg"]["name"] = json!("asg*? ${aws:username} <script>");
    world
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
#[ignore = "not seen to pass since the last changes to the engine: to be looked at first"]
fn an_attackers_texts_are_escaped_everywhere_and_change_nothing() {
    run_to_end(|| async {
        for (_, playbook) in playbooks() {
            let security = Security::fresh(Permits::Everything).await.unwrap();
            let log = Log::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt()
                .json()
                .with_max_level(tracing::Level::INFO)
                .with_writer(move || writer.clone())
                .finish();
            let guard = tracing::subscriber::set_default(subscriber);
            let case =
                Case::of(&security, playbook, &hostile(playbook.kind().unwrap()), Settings::default()).await.unwrap();
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
            drop(guard);

            // Nothing of it where people or machines read.
            let messages = security.messages().await.unwrap().join("\n---\n");
            let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
            let policies: Vec<String> = case.faults.sessions().into_values().collect();
            let events: Vec<String> = case
                .faults
                .requests()
                .into_iter()
                .filter(|request| request.operation == "PutEvents")
                .map(|request| request.body)
                .collect();
            assert!(!messages.is_empty() && !log.is_empty() && !policies.is_empty() && !events.is_empty());
            for (place, text) in
                [("messages", &messages), ("log", &log), ("policies", &policies.concat()), ("events", &events.concat())]
            {
                assert!(!text.contains(SECRET), "{place} show a tag's value");
                for raw in RAW {
                    assert!(!text.contains(raw), "{place} show {raw:?} as it is:\n{text}");
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
            // A group with our name and our tags is still somebody else's.
            let after = case.state().await.unwrap();
            if playbook.kind().unwrap() != Kind::Instance {
                continue;
            }
            let squatted = case.ids.get("sg_squatted").unwrap();
            let touched: Vec<_> =
                differences(&before, &after).into_iter().filter(|d| d.path.contains(&squatted.to_owned())).collect();
            assert!(touched.is_empty(), "{touched:?}");
            let used = after["interfaces"].to_string().contains(squatted);
            assert!(!used, "a group of somebody else's is used");
        }
    });
}

#[test]
fn l18_a_tag_makes_the_guard_stricter_and_never_laxer() {
    run_to_end(|| async {
        let (_, playbook) = playbooks().iter().find(|(_, playbook)| contains(*playbook)).unwrap();
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
