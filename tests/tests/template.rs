//! The templates: they parse, they set what is read, they let through what is answered, they grant nothing by `*`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use firebreak::actions::iam::attach_deny_policy::DENY_POLICY;
use firebreak::config::Config;
use firebreak::denial::Denial;
use firebreak::drill::CANARY_ROLE;
use firebreak::finding::{Finding, Source, Trigger};
use firebreak::hub::{DECISION_EVENT, EVENT_SOURCE, Playbooks};
use firebreak::ids::AccountId;
use firebreak::ledger::LEASE;
use firebreak::operator::{ONBOARD, OPERATOR, PLAN, PUBLISHER};
use firebreak::playbook::Playbook;
use firebreak::screen::screen;
use firebreak::session;
use firebreak_tests::deployment::{DRILL, FUNCTIONS, Function, OPERATE, ORGANIZATION, REGION, deployed};
use firebreak_tests::emulator::{Emulator, fresh_account, workspace};
use firebreak_tests::templates::{list, matches_wildcard, statements};
use serde_json::{Value, json};

const HUB: &str = "template.yaml";
const MEMBER: &str = "template-member.yaml";

#[tokio::test]
async fn nothing_is_allowed_by_a_star() {
    for name in [HUB, MEMBER] {
        let template = template(name).await;
        let statements = statements(&template);
        assert!(statements.len() > 3, "{name}: {} statements found", statements.len());
        for statement in statements {
            match statement["Effect"].as_str() {
                // A star in a `Deny` takes away.
                Some("Deny") => continue,
                Some("Allow") => {}
                other => panic!("{name}: effect {other:?} in {statement}"),
            }
            assert!(statement.get("NotAction").is_none() && statement.get("NotResource").is_none(), "{statement}");
            let actions = list(&statement["Action"]);
            assert!(!actions.is_empty(), "{name}: {statement}");
            for action in actions {
                assert!(!action.as_str().unwrap().contains('*'), "{name}: {action} in {statement}");
            }
            // A bus is opened to an organization so, and to nobody else.
            let of_the_organization =
                statement["Condition"]["StringEquals"]["aws:PrincipalOrgID"] == json!({"Ref": "OrganizationId"});
            if list(&statement["Action"]) == [&json!("events:PutEvents")] && of_the_organization {
                continue;
            }
            let anybody = &statement["Principal"];
            assert!(*anybody != json!("*") && anybody["AWS"] != json!("*"), "{name}: {statement}");
        }
    }
}

#[tokio::test]
async fn a_function_is_given_exactly_the_settings_it_reads() {
    let source = std::fs::read_to_string(workspace().join("shared/src/config.rs")).unwrap();
    let (code, _) = source.split_once("#[cfg(test)]").unwrap();
    let read: BTreeSet<String> = code
        .split('"')
        .filter(|text| text.starts_with("FIREBREAK_") && !text.contains(char::is_whitespace))
        .map(str::to_owned)
        .collect();
    assert!(read.contains("FIREBREAK_LEDGER_TABLE"), "{read:?}");

    let (account, parameters) =
        (fresh_account(), json!({"OrganizationId": ORGANIZATION, "BreakGlassPrincipals": "none"}));
    let observer = Emulator::shared().await.unwrap().observer().await.unwrap();
    let stack = observer.hub(&account, REGION, &workspace().join(HUB), parameters, &[]).await.unwrap();
    for Function { logical, name, .. } in deployed() {
        let function = stack.function(logical).unwrap();
        let given: BTreeSet<String> = function.environment.keys().cloned().collect();
        // It alone goes to people's door.
        let besides = (logical == DRILL.logical).then(|| "FIREBREAK_OPERATE_URL".to_owned());
        assert_eq!(given, read.iter().cloned().chain(besides).collect(), "{logical}");
        let config = Config::from_vars(&function.environment).unwrap();
        assert_eq!(config.hub_account.as_str(), account);
        assert_eq!(config.ledger_table, stack.output("LedgerTable").unwrap());
        assert_eq!(config.decisions_table, stack.output("DecisionsTable").unwrap());
        assert_eq!(config.evidence_bucket, stack.output("EvidenceBucket").unwrap());
        assert_eq!(config.policy_object.unwrap().0, stack.output("PolicyBucket").unwrap());
        assert_eq!(config.topic_arn, stack.output("TopicArn").unwrap());
        assert!(config.break_glass.is_empty(), "empty until somebody names one");
        let role = function.role.as_deref().unwrap_or_default();
        assert!(role.ends_with(&format!(":role/firebreak/{name}")), "{role}: member roles trust it by this name");
        assert!(u64::from(function.timeout) < LEASE.as_secs(), "the lease outlives the function");
    }
}

/// A template as JSON.
async fn template(name: &str) -> Value {
    firebreak_tests::templates::read(Emulator::shared().await.unwrap(), name).unwrap()
}

/// Whether an EventBridge pattern for one value lets a text through. Knows what our patterns use.
fn lets_through(pattern: &Value, text: &str) -> bool {
    list(pattern).into_iter().any(|rule| match rule {
        Value::String(exact) => exact == text,
        Value::Object(rule) if rule.len() == 1 => match (rule.get("prefix"), rule.get("wildcard")) {
            (Some(Value::String(prefix)), None) => text.starts_with(prefix.as_str()),
            (None, Some(Value::String(wildcard))) => matches_wildcard(wildcard, text),
            _ => panic!("this test does not know the rule {rule:?}"),
        },
        other => panic!("this test does not know the rule {other}"),
    })
}

#[tokio::test]
async fn the_rules_let_through_every_type_that_is_answered() {
    let template = template(HUB).await;
    for Function { logical, playbooks, .. } in FUNCTIONS {
        let events = &template["Resources"][logical]["Properties"]["Events"];
        let decisions = &events["Decisions"]["Properties"]["Pattern"];
        let own = json!([{"Ref": "AWS::AccountId"}]);
        assert_eq!(*decisions, json!({"account": own, "source": [EVENT_SOURCE], "detail-type": [DECISION_EVENT]}));
        assert_eq!(events["DueRows"]["Properties"]["Schedule"], "rate(1 minute)");
        if playbooks.iter().all(|playbook| playbook.meta().answers().count() == 0) {
            assert!(events["Findings"].is_null(), "{logical} answers no finding of GuardDuty's");
            continue;
        }
        let pattern = &events["Findings"]["Properties"]["Pattern"];
        assert_eq!(pattern["source"], json!(["aws.guardduty"]));
        assert_eq!(pattern["detail-type"], json!(["GuardDuty Finding"]));
        for answers in playbooks.iter().flat_map(|playbook| playbook.meta().answers()) {
            let name = answers.finding_type;
            assert!(lets_through(&pattern["detail"]["type"], name), "{logical}: {name} never arrives");
        }
        for name in ["Policy:S3/BucketPublicAccessGranted", "Backdoor:Lambda/C&CActivity.B"] {
            assert!(!lets_through(&pattern["detail"]["type"], name), "{logical}: {name} is not for it");
        }
    }
}

/// What is tried how often and how long, and the queue that keeps it then. EventBridge's and Lambda's longest, written
/// out: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-retry-policy.html and
/// https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-configuring.html.
#[tokio::test]
async fn what_fails_is_tried_again_and_then_kept() {
    let hub = template(HUB).await;
    let functions: Vec<&String> = named(&hub, "AWS::Serverless::Function").map(|(name, _)| name).collect();
    assert_eq!(functions, deployed().map(|function| function.logical).collect::<Vec<_>>());
    // Whoever calls people's door waits for the answer, and hears when there is none.
    let door = &hub["Resources"][OPERATE.logical]["Properties"];
    assert!(door["Events"].is_null() && door["EventInvokeConfig"].is_null(), "{door}");
    for Function { logical, .. } in FUNCTIONS {
        let function = &hub["Resources"][logical]["Properties"];
        let invoked = &function["EventInvokeConfig"];
        assert_eq!(invoked["MaximumRetryAttempts"], 2, "{logical}");
        assert_eq!(invoked["MaximumEventAgeInSeconds"], 21600, "{logical}");
        let destination = &invoked["DestinationConfig"]["OnFailure"];
        assert_eq!(destination["Type"], "SQS", "{logical}");
        let queue = &destination["Destination"];
        keeps(&hub, queue);
        // Lambda puts it there with the function's own role.
        let role = &hub["Resources"][format!("{logical}Role")]["Properties"];
        let may = statements(role).into_iter().any(|statement| {
            list(&statement["Action"]).contains(&&json!("sqs:SendMessage")) && statement["Resource"] == *queue
        });
        assert!(may, "{logical}: its role cannot put what failed into the queue");
        for (name, event) in function["Events"].as_object().unwrap() {
            let event_properties = &event["Properties"];
            if event["Type"] == "Schedule" {
                // The next minute comes by itself.
                assert_eq!(event_properties["RetryPolicy"]["MaximumRetryAttempts"], 0, "{logical}: {name}");
            } else if event["Type"] == "SQS" {
                // What one message fails by does not bring the others back, and what fails five times is kept.
                assert_eq!(event_properties["FunctionResponseTypes"], json!(["ReportBatchItemFailures"]), "{logical}");
                let queue = event_properties["Queue"]["Fn::GetAtt"][0].as_str().unwrap();
                let queue = &hub["Resources"][queue]["Properties"];
                keeps(&hub, &queue["RedrivePolicy"]["deadLetterTargetArn"]);
                assert_eq!(queue["RedrivePolicy"]["maxReceiveCount"], 5);
                assert_eq!(
                    (&queue["MessageRetentionPeriod"], &queue["SqsManagedSseEnabled"]),
                    (&json!(1_209_600), &json!(true))
                );
                // AWS asks for six times the function's time.
                assert_eq!(queue["VisibilityTimeout"], 6 * 45);
            } else {
                delivers_or_keeps(&hub, event_properties);
            }
        }
    }
    // What begins drills by a schedule goes to the function itself.
    let times = &hub["Resources"]["DrillTimes"]["Properties"]["Targets"][0];
    assert_eq!(times["Arn"], json!({"Fn::GetAtt": [DRILL.logical, "Arn"]}));
    delivers_or_keeps(&hub, times);
    let rules = named(&hub, "AWS::Events::Rule").filter(|(name, _)| *name != "DrillTimes");
    let queued: Vec<&Value> = rules.map(|(_, rule)| rule).collect();
    assert_eq!(queued.len(), 3);
    for target in queued.iter().flat_map(|rule| list(&rule["Properties"]["Targets"])) {
        assert_eq!(target["Arn"], json!({"Fn::GetAtt": ["HardenQueue", "Arn"]}));
        delivers_or_keeps(&hub, target);
    }
    let region = template("template-region.yaml").await;
    let rules: Vec<&Value> = named(&region, "AWS::Events::Rule").map(|(_, rule)| rule).collect();
    assert_eq!(rules.len(), 1);
    for target in rules.iter().flat_map(|rule| list(&rule["Properties"]["Targets"])) {
        delivers_or_keeps(&region, target);
    }
}

/// The resources of a type in a template, with their names.
fn named<'a>(template: &'a Value, kind: &'a str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    template["Resources"].as_object().unwrap().iter().filter(move |(_, resource)| resource["Type"] == kind)
}

/// That a rule's target is tried for a day, and that a queue keeps then what could not be delivered.
fn delivers_or_keeps(template: &Value, target: &Value) {
    let tried = json!({"MaximumEventAgeInSeconds": 86400, "MaximumRetryAttempts": 185});
    assert_eq!(target["RetryPolicy"], tried, "{target}");
    let queue = &target["DeadLetterConfig"]["Arn"];
    keeps(template, queue);
    let policies = named(template, "AWS::SQS::QueuePolicy").flat_map(|(_, policy)| statements(policy));
    let from_rules: Vec<&Value> = policies
        .filter(|statement| statement["Resource"] == *queue && statement["Effect"] == "Allow")
        .filter(|statement| statement["Principal"] == json!({"Service": "events.amazonaws.com"}))
        .collect();
    let [statement] = from_rules.as_slice() else { panic!("EventBridge cannot put what failed into {queue}") };
    assert_eq!(statement["Action"], "sqs:SendMessage");
    let own = json!({"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}});
    assert_eq!(statement["Condition"], own, "another account's rule could fill it");
}

/// That an ARN is a queue of the template, which keeps for SQS's longest, encrypted, and outlives the stack.
fn keeps(template: &Value, arn: &Value) {
    let name = arn["Fn::GetAtt"][0].as_str().unwrap_or_else(|| panic!("{arn} is no queue"));
    let queue = &template["Resources"][name];
    assert_eq!(queue["Type"], "AWS::SQS::Queue");
    assert_eq!((&queue["DeletionPolicy"], &queue["UpdateReplacePolicy"]), (&json!("Retain"), &json!("Retain")));
    assert_eq!(queue["Properties"]["MessageRetentionPeriod"], 14 * 24 * 3600);
    assert_eq!(queue["Properties"]["SqsManagedSseEnabled"], true);
}

/// Where the bus of the security account takes events of others, a decision is still only its own.
#[tokio::test]
async fn a_decision_of_another_account_does_not_arrive() {
    let (account, other, parameters) =
        (fresh_account(), fresh_account(), json!({"OrganizationId": ORGANIZATION, "BreakGlassPrincipals": "none"}));
    let observer = Emulator::shared().await.unwrap().observer().await.unwrap();
    let stack = observer.hub(&account, REGION, &workspace().join(HUB), parameters, &[]).await.unwrap();
    let rule = json!({"Name": "forward", "EventPattern": json!({"source": [EVENT_SOURCE]}).to_string()});
    observer.call(&other, REGION, "events", "put_rule", rule).await.unwrap();
    let bus = format!("arn:aws:events:{REGION}:{account}:event-bus/default");
    let targets = json!({"Rule": "forward", "Targets": [{"Id": "bus", "Arn": bus}]});
    observer.call(&other, REGION, "events", "put_targets", targets).await.unwrap();
    let entry = json!({"Source": EVENT_SOURCE, "DetailType": DECISION_EVENT, "Detail": {"id": "x"}});
    for (of, arrive) in [(&other, 0), (&account, 1)] {
        observer.put_event(of, REGION, &entry).await.unwrap();
        for Function { logical, .. } in FUNCTIONS {
            let queue = &stack.function(logical).unwrap().queue_url;
            let arrived = observer.receive(&account, REGION, queue).await.unwrap();
            assert_eq!(arrived.len(), arrive, "{logical}: {arrived:?}");
        }
    }
}

/// What a function with these playbooks does with a finding, in a word or two.
fn answered(finding: &Finding, envelope: Option<&AccountId>, playbooks: Playbooks) -> String {
    let hub: AccountId = "111111111111".parse().unwrap();
    if let Some(away) = screen(finding, envelope, Some(&hub)) {
        return format!("turned away ({})", away.as_str());
    }
    let answers = |playbook: &&&dyn Playbook| !playbook.targets(finding).is_empty() || playbook.looks_up(finding);
    let names: Vec<&str> = playbooks.iter().filter(answers).map(|playbook| playbook.meta().id).collect();
    if names.is_empty() { "not answered".to_owned() } else { names.join(" and ") }
}

/// An event of a sender that invokes the function itself: AWS writes none like it, so no rule looks for it. Reviewed.
const BY_NO_RULE: &[&str] = &[
    "guardduty/pascal-case-in-envelope.json",
    // Security Hub sends the same control as `Security Hub Findings - Imported` too.
    "securityhub/v2-control.json",
    // Trusted Advisor tells each account alone, and AWS Health says the same.
    "trusted-advisor/exposed-key.json",
    "trusted-advisor/suspected-key.json",
];

/// The events of this repository that EventBridge could deliver, by file.
fn events() -> BTreeMap<String, Value> {
    let mut events = BTreeMap::new();
    for folder in std::fs::read_dir(workspace().join("events")).unwrap().map(|entry| entry.unwrap().path()) {
        for file in std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            let text = std::fs::read_to_string(&file).unwrap();
            let Ok(event) = serde_json::from_str::<Value>(&text) else { continue };
            if event["source"].is_string() && event["detail"].is_object() {
                let name = file.strip_prefix(workspace().join("events")).unwrap().display().to_string();
                events.insert(name, event);
            }
        }
    }
    events
}

/// Sends events through the rules by EventBridge's matching: which of them arrive at which function. None comes by two
/// rules.
async fn arrived(events: &BTreeMap<String, Value>) -> BTreeMap<&'static str, BTreeSet<String>> {
    let (account, parameters) =
        (fresh_account(), json!({"OrganizationId": ORGANIZATION, "BreakGlassPrincipals": "none"}));
    let observer = Emulator::shared().await.unwrap().observer().await.unwrap();
    let stack = observer.hub(&account, REGION, &workspace().join(HUB), parameters, &[]).await.unwrap();
    let mut files = BTreeMap::new();
    for (file, event) in events {
        let resources = event.get("resources").cloned().unwrap_or_else(|| json!([]));
        let mut entry = json!({"Source": event["source"], "DetailType": event["detail-type"], "Detail": event["detail"],
            "Resources": resources});
        if event["source"] == "aws.config" {
            // Member accounts forward these.
            entry["EventBusName"] = json!(stack.output("ConfigBusArn").unwrap());
        }
        let put = observer.put_event(&account, REGION, &entry).await.unwrap();
        files.insert(put["event_id"].as_str().unwrap().to_owned(), file.as_str());
    }
    let mut all = BTreeMap::new();
    for Function { logical, name, .. } in FUNCTIONS {
        let function = stack.function(logical).unwrap();
        let arrived: &mut BTreeSet<String> = all.entry(*name).or_default();
        for queue in function.batches.iter().chain([&function.queue_url]) {
            loop {
                let bodies = observer.receive(&account, REGION, queue).await.unwrap();
                if bodies.is_empty() {
                    break;
                }
                for body in bodies {
                    let event: Value = serde_json::from_str(&body).unwrap();
                    let file = files[event["id"].as_str().unwrap()];
                    assert!(arrived.insert(file.to_owned()), "{name}: {file} comes by two rules");
                }
            }
        }
    }
    all
}

/// What a function does with each finding of an event, and whether any is of those that it is for; nothing where the event
/// holds no finding.
fn said(event: &Value, playbooks: Playbooks) -> Option<(Vec<String>, bool)> {
    let Ok(Trigger::Findings(reported)) = Trigger::from_value(event) else { return None };
    let of_controls = playbooks.iter().any(|playbook| !playbook.meta().controls.is_empty());
    let own = |finding: &Finding| match of_controls {
        true => finding.control.is_some(),
        false => matches!(finding.source, Source::GuardDuty | Source::Health) || finding.request.is_some(),
    };
    let its_own = reported.findings.iter().any(|finding| finding.as_ref().is_ok_and(own));
    let said = reported.findings.iter().map(|finding| match finding {
        Ok(finding) => answered(finding, reported.envelope_account.as_ref(), playbooks),
        Err(_) => "unreadable".to_owned(),
    });
    Some((said.collect(), its_own))
}

/// The rules are tried by EventBridge's matching, not read: what a function answers must reach it, once; and nothing
/// reaches it that it can never answer. Answers with what arrives, with what is answered and never arrives, and with what
/// arrives and is of no kind that the function is for.
async fn held_against_the_rules(events: &BTreeMap<String, Value>) -> (String, BTreeSet<&str>, Vec<String>) {
    let arrived = arrived(events).await;
    let (mut shown, mut lost, mut strange) = (String::new(), BTreeSet::new(), Vec::new());
    for Function { name, playbooks, .. } in FUNCTIONS {
        for (file, event) in events {
            let arrives = arrived[name].contains(file);
            let Some((said, its_own)) = said(event, playbooks) else {
                assert!(!arrives, "{name}: {file} is no finding");
                continue;
            };
            if arrives {
                if !its_own && !said.contains(&"unreadable".to_owned()) {
                    strange.push(format!("{name}: {file}"));
                }
                shown.push_str(&format!("{name}: {file}: {}\n", said.join("; ")));
            } else {
                let is_answered = |said: &String| playbooks.iter().any(|playbook| said.contains(playbook.meta().id));
                if said.iter().any(is_answered) {
                    lost.insert(file.as_str());
                }
            }
        }
    }
    (shown, lost, strange)
}

#[tokio::test]
async fn each_event_reaches_the_functions_that_answer_it() {
    let events = events();
    let (shown, lost, strange) = held_against_the_rules(&events).await;
    assert!(strange.is_empty(), "not for them: {strange:?}");
    assert_eq!(lost, BY_NO_RULE.iter().copied().collect(), "no rule looks for these, and they are answered");
    insta::assert_snapshot!(shown);
}

/// The events that others have published, as they would come in the security account.
#[tokio::test]
async fn each_event_of_the_corpus_reaches_the_functions_that_answer_it() {
    let Some(corpus) = std::env::var_os("FIREBREAK_CORPUS").map(PathBuf::from) else {
        eprintln!("skipped: FIREBREAK_CORPUS is not set, the corpus is absent");
        return;
    };
    let mut events = BTreeMap::new();
    let mut folders = vec![corpus.clone()];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            // One document a file, or one a line.
            let whole: Vec<Value> = match serde_json::from_str::<Value>(&text) {
                Ok(Value::Array(list)) => list,
                Ok(one) => vec![one],
                Err(_) => text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
            };
            for (n, mut event) in whole.into_iter().enumerate() {
                let text = |key: &str| event[key].as_str().map(str::to_owned);
                if text("source").is_some() && text("detail-type").is_some() && event["detail"].is_object() {
                    // Whoever delivers it there is the security account.
                    event["account"] = json!("111111111111");
                    events.insert(format!("{}#{n}", path.strip_prefix(&corpus).unwrap().display()), event);
                }
            }
        }
    }
    assert!(events.len() > 20, "{} events with an envelope", events.len());
    // A control without an id, say, which a tool's test has made up: it arrives, and is turned away.
    let (shown, lost, strange) = held_against_the_rules(&events).await;
    let tells_itself = |file: &&str| events[*file]["source"] == "aws.trustedadvisor";
    let lost: Vec<&str> = lost.into_iter().filter(|file| !tells_itself(file)).collect();
    assert!(lost.is_empty(), "no rule looks for these, and they are answered: {lost:?}");
    eprintln!("corpus: {} events, {} arrivals, {} for nothing", events.len(), shown.lines().count(), strange.len());
    assert!(strange.len() * 10 < shown.lines().count(), "{strange:?}");
}

/// Whatever a bug or a finding asks for, these roles are out of reach of the one role that may write a policy, and
/// break-glass users out of reach of those that contain users.
#[tokio::test]
async fn what_must_not_be_touched_is_denied_to_the_roles_that_could() {
    let member = template(MEMBER).await;
    let denied = |name: &str| -> Vec<(BTreeSet<String>, BTreeSet<String>)> {
        let roles = member["Resources"].as_object().unwrap().values();
        let role = roles.map(|role| &role["Properties"]).find(|role| role["RoleName"] == name).unwrap();
        let text = |value: &Value| value.as_str().or(value["Fn::Sub"].as_str()).unwrap().to_owned();
        let denials = statements(&role["Policies"]).into_iter().filter(|one| one["Effect"] == "Deny");
        denials
            .map(|one| {
                assert!(one["Condition"].is_null(), "{one}");
                let all = |value: &Value| list(value).into_iter().map(text).collect::<BTreeSet<_>>();
                (all(&one["Action"]), all(&one["Resource"]))
            })
            .collect()
    };
    let changing = |id: &str| -> BTreeSet<String> {
        let playbooks = FUNCTIONS.iter().flat_map(|function| function.playbooks);
        let playbook = playbooks.into_iter().find(|playbook| playbook.meta().id == id).unwrap();
        let all = playbook.actions().iter().flat_map(|action| action.permissions());
        all.map(|permission| permission.action.to_owned()).filter(|action| !session::is_read(action)).collect()
    };
    let arn = |resource: &str| format!("arn:${{AWS::Partition}}:iam::${{AWS::AccountId}}:{resource}");
    let kept: BTreeSet<String> = contain_identity::protected::PROTECTED
        .iter()
        .map(|protected| arn(protected.pattern))
        .chain([arn("role/${BreakGlassPath}/*")])
        .collect();
    assert_eq!(denied("revoke-role-sessions"), [(changing("revoke-role-sessions"), kept)]);
    for name in ["contain-access-key", "contain-user"] {
        let kept = BTreeSet::from([arn("user/${BreakGlassPath}/*")]);
        assert_eq!(denied(name), [(changing(name), kept)], "{name}");
    }
    // An inline policy is written by that role and by no other.
    for role in member["Resources"].as_object().unwrap().values().map(|role| &role["Properties"]) {
        let writes = role["Policies"].to_string().contains("PutRolePolicy");
        assert_eq!(writes, role["RoleName"] == "revoke-role-sessions", "{}", role["RoleName"]);
        assert!(!role["Policies"].to_string().contains("PutUserPolicy"), "{}", role["RoleName"]);
    }
}

/// The policy that contained users get says what the code believes that it says.
#[tokio::test]
async fn the_deny_policy_is_the_one_that_is_expected() {
    let member = template(MEMBER).await;
    let policies: Vec<&Value> = member["Resources"]
        .as_object()
        .unwrap()
        .values()
        .filter(|resource| resource["Type"] == "AWS::IAM::ManagedPolicy")
        .map(|policy| &policy["Properties"])
        .collect();
    let [policy] = policies.as_slice() else { panic!("{policies:?}") };
    let name = format!("policy{}{}", policy["Path"].as_str().unwrap(), policy["ManagedPolicyName"].as_str().unwrap());
    assert_eq!(name, DENY_POLICY);
    assert_eq!(Denial::read(&policy["PolicyDocument"].to_string()), Some(Denial::of_everything()));
}

#[tokio::test]
async fn every_playbook_has_its_role_and_only_its_function_may_take_it() {
    let (hub, member) = (template(HUB).await, template(MEMBER).await);
    // `no-access` is nobody's: it is the role without permissions of `ec2.replace-instance-profile`.
    let not_a_playbooks = ["no-access", "forward-config", CANARY_ROLE, PLAN, ONBOARD];
    let roles = || roles_of(&member).filter(|role| !not_a_playbooks.contains(&role["RoleName"].as_str().unwrap()));
    let expected: BTreeSet<&str> =
        FUNCTIONS.iter().flat_map(|function| function.playbooks.iter().map(|playbook| playbook.meta().id)).collect();
    let found: BTreeSet<&str> = roles().map(|role| role["RoleName"].as_str().unwrap()).collect();
    assert_eq!(found, expected);

    for Function { logical, name: function, playbooks } in FUNCTIONS {
        let role = &hub["Resources"][format!("{logical}Role")]["Properties"];
        assert_eq!((&role["Path"], &role["RoleName"]), (&json!("/firebreak/"), &json!(function)));
        let taken = taken_on_by(role);
        let own: BTreeSet<&str> = playbooks.iter().map(|playbook| playbook.meta().id).collect();
        assert_eq!(taken, own, "{logical}");

        for role in roles().filter(|role| own.contains(role["RoleName"].as_str().unwrap())) {
            trusts_only(role, function);
        }
    }
}

/// The roles of a template.
fn roles_of(template: &Value) -> impl Iterator<Item = &Value> {
    let resources = template["Resources"].as_object().unwrap().values();
    resources.filter(|resource| resource["Type"] == "AWS::IAM::Role").map(|role| &role["Properties"])
}

/// The names of the member roles that a role of the hub may take on. Only those of the organization.
fn taken_on_by(role: &Value) -> BTreeSet<&str> {
    let taking = |statement: &&Value| {
        statement["Principal"].is_null() && list(&statement["Action"]).contains(&&json!("sts:AssumeRole"))
    };
    let mut taken = BTreeSet::new();
    for statement in statements(role).into_iter().filter(taking) {
        assert_eq!(statement["Condition"], json!({"StringEquals": {"aws:ResourceOrgID": {"Ref": "OrganizationId"}}}));
        for resource in list(&statement["Resource"]) {
            let arn = resource["Fn::Sub"].as_str().unwrap();
            taken.insert(arn.strip_prefix("arn:${AWS::Partition}:iam::*:role/firebreak/").expect(arn));
        }
    }
    taken
}

/// That a role of a member account may be taken on by one role of the hub, of the same organization, and nobody else.
fn trusts_only(role: &Value, taker: &str) {
    assert_eq!(role["Path"], "/firebreak/");
    let trust = list(&role["AssumeRolePolicyDocument"]["Statement"]);
    assert_eq!(trust.len(), 1, "{role}");
    assert_eq!(trust[0]["Principal"], json!({"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${HubAccount}:root"}}));
    assert_eq!(trust[0]["Action"], json!(["sts:AssumeRole", "sts:SetSourceIdentity"]));
    let taker = format!("arn:${{AWS::Partition}}:iam::${{HubAccount}}:role/firebreak/{taker}");
    let wanted = json!({
        "ArnEquals": {"aws:PrincipalArn": {"Fn::Sub": taker}},
        "StringEquals": {"aws:PrincipalOrgID": {"Ref": "OrganizationId"}},
    });
    assert_eq!(trust[0]["Condition"], wanted);
}

#[tokio::test]
async fn people_have_roles_of_their_own_that_only_named_principals_may_take() {
    let (hub, member) = (template(HUB).await, template(MEMBER).await);
    for (logical, name, principals, takes) in [
        ("OperatorRole", OPERATOR, "OperatorPrincipals", BTreeSet::from([PLAN, ONBOARD])),
        ("PublisherRole", PUBLISHER, "PublisherPrincipals", BTreeSet::new()),
    ] {
        let role = &hub["Resources"][logical]["Properties"];
        assert_eq!((&role["Path"], &role["RoleName"]), (&json!("/firebreak/"), &json!(name)));
        let trust = list(&role["AssumeRolePolicyDocument"]["Statement"]);
        assert_eq!(trust.len(), 1, "{role}");
        let root = json!({"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}});
        assert_eq!(trust[0]["Principal"], root);
        let wanted = json!({
            "ArnEquals": {"aws:PrincipalArn": {"Ref": principals}},
            "StringEquals": {"aws:PrincipalOrgID": {"Ref": "OrganizationId"}},
        });
        assert_eq!(trust[0]["Condition"], wanted);
        assert_eq!(taken_on_by(role), takes);
    }
    for name in [PLAN, ONBOARD] {
        trusts_only(roles_of(&member).find(|role| role["RoleName"] == name).unwrap(), OPERATOR);
    }
    for Function { logical, name: function, .. } in FUNCTIONS {
        let own = taken_on_by(&hub["Resources"][format!("{logical}Role")]["Properties"]);
        assert!(!own.contains(PLAN) && !own.contains(ONBOARD), "{function} has people's roles");
    }

    // Nobody by default, and then there is no role; a condition that is always met would be one for everybody.
    for principals in ["OperatorPrincipals", "PublisherPrincipals"] {
        assert_eq!(hub["Parameters"][principals]["Default"], "");
    }
    let observer = Emulator::shared().await.unwrap().observer().await.unwrap();
    for (given, expected) in [(None, false), (Some("arn:aws:iam::111111111111:role/responder"), true)] {
        let mut parameters = json!({"OrganizationId": "o-abcdefghij", "BreakGlassPrincipals": "none"});
        for principals in ["OperatorPrincipals", "PublisherPrincipals"] {
            parameters[principals] = json!(given.unwrap_or_default());
        }
        let stack = observer.hub(&fresh_account(), "eu-west-1", &workspace().join(HUB), parameters, &[]).await.unwrap();
        for logical in ["OperatorRole", "OperatorPolicy", "PublisherRole", "PublisherPolicy"] {
            assert_eq!(stack.resources.contains_key(logical), expected, "{logical}: {given:?}");
        }
    }
}

/// Who calls people's door is AWS's word only while nobody can hand it an event: it is called by its URL, with IAM
/// authentication, and in no other way. <https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html>
#[tokio::test]
async fn peoples_door_is_called_by_its_url_and_in_no_other_way() {
    let template = template(HUB).await;
    let urls: Vec<&Value> = named(&template, "AWS::Lambda::Url").map(|(_, url)| &url["Properties"]).collect();
    let arn = json!({"Fn::GetAtt": [OPERATE.logical, "Arn"]});
    let [url] = urls.as_slice() else { panic!("{urls:?}") };
    assert_eq!((&url["AuthType"], &url["TargetFunctionArn"]), (&json!("AWS_IAM"), &arn));
    // A URL of SAM's own, or a grant in the function's resource policy, would be another way in.
    for (name, function) in named(&template, "AWS::Serverless::Function") {
        assert!(function["Properties"]["FunctionUrlConfig"].is_null(), "{name}");
    }
    let others: Vec<&Value> =
        named(&template, "AWS::Lambda::Permission").map(|(_, other)| &other["Properties"]["FunctionName"]).collect();
    assert_eq!(others, [&json!({"Ref": DRILL.logical})], "a rule begins drills, and that is all");
    let operators = json!({"Ref": "OperatorPrincipals"});
    let mut granted = BTreeMap::new();
    for document in [HUB, MEMBER, "template-region.yaml"] {
        let template = self::template(document).await;
        for statement in statements(&template) {
            for action in list(&statement["Action"]).into_iter().filter_map(Value::as_str) {
                let calls = ["lambda:InvokeFunction", "lambda:InvokeFunctionUrl"];
                let any = action.starts_with("lambda:") || calls.iter().any(|call| matches_wildcard(action, call));
                if statement["Effect"] == "Allow" && any {
                    assert_eq!(statement["Resource"], arn, "{statement}");
                    granted.entry(action.to_owned()).or_insert_with(Vec::new).push(statement["Condition"].clone());
                }
            }
        }
    }
    let who = json!({"aws:PrincipalArn": operators});
    let wanted = BTreeMap::from([
        (
            "lambda:InvokeFunction".to_owned(),
            // Operators, and the function that holds drills, which the door lets take back its own.
            vec![
                json!({"Bool": {"lambda:InvokedViaFunctionUrl": "true"}}),
                json!({"ArnEquals": who, "Bool": {"lambda:InvokedViaFunctionUrl": "true"}}),
            ],
        ),
        (
            "lambda:InvokeFunctionUrl".to_owned(),
            vec![
                json!({"StringEquals": {"lambda:FunctionUrlAuthType": "AWS_IAM"}}),
                json!({"ArnEquals": who, "StringEquals": {"lambda:FunctionUrlAuthType": "AWS_IAM"}}),
            ],
        ),
    ]);
    assert_eq!(granted, wanted);
    assert_eq!(template["Resources"]["OperatorPolicy"]["Condition"], "HasOperators");
}

/// Nobody but people's door can write a decision, and people's door can write nothing else and take on no role.
#[tokio::test]
async fn decisions_are_written_by_peoples_door_alone() {
    let template = template(HUB).await;
    let writing = [
        "dynamodb:BatchWriteItem",
        "dynamodb:DeleteItem",
        "dynamodb:PartiQLDelete",
        "dynamodb:PartiQLInsert",
        "dynamodb:PartiQLUpdate",
        "dynamodb:PutItem",
        "dynamodb:UpdateItem",
    ];
    let writers = |table: &str| -> BTreeSet<&str> {
        let arn = json!({"Fn::GetAtt": [table, "Arn"]});
        // Written otherwise, it could name the table and not be seen here.
        let names = |of: &Value| *of == arn || of["Fn::GetAtt"][0].as_str().is_none();
        let of = |resource: &Value| {
            let allows = |statement: &&Value| {
                statement["Effect"] == "Allow"
                    && list(&statement["Resource"]).iter().any(|of| names(of))
                    && list(&statement["Action"])
                        .iter()
                        .filter_map(|action| action.as_str())
                        .any(|action| writing.iter().any(|written| matches_wildcard(action, written)))
            };
            statements(resource).iter().any(allows)
        };
        let resources = template["Resources"].as_object().unwrap();
        resources.iter().filter(|(_, resource)| of(resource)).map(|(logical, _)| logical.as_str()).collect()
    };
    assert_eq!(writers("DecisionsTable"), BTreeSet::from(["OperateRole"]));
    let of_the_ledger = ["ContainComputeRole", "ContainIdentityRole", "HardenRole", "OperatorRole", "PublisherRole"];
    assert_eq!(writers("LedgerTable"), BTreeSet::from(of_the_ledger));
    assert!(matches_wildcard("dynamodb:*", "dynamodb:PutItem") && !matches_wildcard("s3:*", "dynamodb:PutItem"));
    let role = &template["Resources"]["OperateRole"]["Properties"];
    assert_eq!(role["RoleName"], OPERATE.name);
    assert!(!statements(&role["Policies"]).into_iter().any(|s| s.to_string().contains("sts:")), "{role}");
}

/// What people's door knows of playbooks is what the playbooks say themselves.
#[test]
fn what_can_be_asked_for_by_hand_is_what_the_playbooks_take() {
    use firebreak::target::TargetKind;
    let all = FUNCTIONS.iter().flat_map(|function| function.playbooks);
    let taken: BTreeMap<&str, Vec<TargetKind>> = all
        .map(|playbook| {
            let takes = TargetKind::ALL.into_iter().filter(|kind| playbook.takes_requests_about(*kind));
            (playbook.meta().id, takes.collect())
        })
        .filter(|(_, takes): &(_, Vec<_>)| !takes.is_empty())
        .collect();
    let known: BTreeMap<&str, Vec<TargetKind>> =
        operate::REQUESTABLE.iter().map(|(playbook, kinds)| (*playbook, kinds.to_vec())).collect();
    assert_eq!(known, taken);
}

/// The actions for which AWS knows no resource (Service Authorization Reference): a statement that names one for them
/// allows nothing. Reviewed.
const WITHOUT_RESOURCE: &[&str] = &[
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeAutoScalingInstances",
    "cloudfront:ListDistributions",
    "cloudtrail:DescribeTrails",
    "cloudtrail:LookupEvents",
    "config:DescribeConfigRules",
    "ec2:DescribeAddresses",
    "ec2:DescribeIamInstanceProfileAssociations",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeInstances",
    "ec2:DescribeLockedSnapshots",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroupRules",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSnapshots",
    "elasticloadbalancing:DescribeLoadBalancers",
    "elasticloadbalancing:DescribeTargetGroups",
    "elasticloadbalancing:DescribeTargetHealth",
    "guardduty:GetFindings",
    "guardduty:GetMembers",
    "guardduty:ListDetectors",
    "iam:ListUsers",
];

#[tokio::test]
async fn a_star_for_a_resource_stands_where_aws_knows_no_resource_and_nowhere_else() {
    for name in [HUB, MEMBER] {
        let template = template(name).await;
        let grants = |statement: &&Value| statement["Principal"].is_null() && statement["Effect"] == "Allow";
        for statement in statements(&template).into_iter().filter(grants) {
            let everything = list(&statement["Resource"]) == [&json!("*")];
            for action in list(&statement["Action"]) {
                let knows_none = WITHOUT_RESOURCE.contains(&action.as_str().unwrap());
                assert_eq!(everything, knows_none, "{name}: {action} on {}", statement["Resource"]);
            }
        }
    }
}
