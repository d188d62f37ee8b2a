//! The templates: they parse, they set what is read, they let through what is answered, they grant nothing by `*`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use firebreak::actions::iam::attach_deny_policy::DENY_POLICY;
use firebreak::config::Config;
use firebreak::denial::Denial;
use firebreak::hub::{DECISION_EVENT, EVENT_SOURCE};
use firebreak::ledger::LEASE;
use firebreak::playbook::Playbook;
use firebreak::session;
use firebreak_tests::emulator::{Emulator, fresh_account, workspace};
use serde_json::{Value, json};

const HUB: &str = "template.yaml";
const MEMBER: &str = "template-member.yaml";

/// The logical id of each function in the template, with its playbooks.
const FUNCTIONS: &[(&str, &str, &[&dyn Playbook])] = &[
    ("ContainCompute", contain_compute::FUNCTION, contain_compute::PLAYBOOKS),
    ("ContainIdentity", contain_identity::FUNCTION, contain_identity::PLAYBOOKS),
];

/// A template as JSON, short tags in their long form.
async fn template(name: &str) -> Value {
    const READ: &str = "import json, sys, yaml; from template import Loader; \
                        print(json.dumps(yaml.load(open(sys.argv[1], encoding='utf-8'), Loader)))";
    let emulator = Emulator::shared().await.unwrap();
    let read = emulator.python().args(["-c", READ]).arg(workspace().join(name)).output().unwrap();
    assert!(read.status.success(), "{name}: {}", String::from_utf8_lossy(&read.stderr));
    serde_json::from_slice(&read.stdout).unwrap()
}

fn list(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Null => Vec::new(),
        one => vec![one],
    }
}

/// Every statement of every policy document in a template.
fn statements(value: &Value) -> Vec<&Value> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("Statement").map(list).unwrap_or_default();
            own.into_iter().chain(fields.values().flat_map(statements)).collect()
        }
        Value::Array(items) => items.iter().flat_map(statements).collect(),
        _ => Vec::new(),
    }
}

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

    let (account, parameters) = (fresh_account(), json!({"OrganizationId": "o-abcdefghij"}));
    let observer = Emulator::shared().await.unwrap().observer().await.unwrap();
    let stack = observer.hub(&account, "eu-west-1", &workspace().join(HUB), parameters).await.unwrap();
    for (logical, name, _) in FUNCTIONS {
        let function = stack.function(logical).unwrap();
        let given: BTreeSet<String> = function.environment.keys().cloned().collect();
        assert_eq!(given, read, "{logical}");
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

fn matches_wildcard(pattern: &str, text: &str) -> bool {
    let parts: Vec<&str> = pattern.split('*').collect();
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return false };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    for part in parts.iter().skip(1).take(parts.len().saturating_sub(2)) {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    if parts.len() == 1 { rest.is_empty() } else { rest.ends_with(last) }
}

#[tokio::test]
async fn the_rules_let_through_every_type_that_is_answered() {
    let template = template(HUB).await;
    for (logical, _, playbooks) in FUNCTIONS {
        let events = &template["Resources"][logical]["Properties"]["Events"];
        let pattern = &events["Findings"]["Properties"]["Pattern"];
        assert_eq!(pattern["source"], json!(["aws.guardduty"]));
        assert_eq!(pattern["detail-type"], json!(["GuardDuty Finding"]));
        for answers in playbooks.iter().flat_map(|playbook| playbook.meta().triggers) {
            let name = answers.finding_type;
            assert!(lets_through(&pattern["detail"]["type"], name), "{logical}: {name} never arrives");
        }
        for name in ["Policy:S3/BucketPublicAccessGranted", "Backdoor:Lambda/C&CActivity.B"] {
            assert!(!lets_through(&pattern["detail"]["type"], name), "{logical}: {name} is not for it");
        }
        let decisions = &events["Decisions"]["Properties"]["Pattern"];
        assert_eq!(*decisions, json!({"source": [EVENT_SOURCE], "detail-type": [DECISION_EVENT]}));
        assert_eq!(events["DueRows"]["Properties"]["Schedule"], "rate(1 minute)");
        for (name, event) in events.as_object().unwrap() {
            let kept = event["Type"] == "Schedule" || event["Properties"]["DeadLetterConfig"].is_object();
            assert!(kept, "{logical}: what {name} cannot deliver is lost");
        }
    }
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
        let (_, _, playbooks) = FUNCTIONS.iter().find(|(logical, ..)| *logical == "ContainIdentity").unwrap();
        let playbook = playbooks.iter().find(|playbook| playbook.meta().id == id).unwrap();
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
    let roles = || {
        let resources = member["Resources"].as_object().unwrap().values();
        // `no-access` is not a playbook's: it is the role without permissions of `ec2.replace-instance-profile`.
        resources
            .filter(|resource| resource["Type"] == "AWS::IAM::Role")
            .map(|role| &role["Properties"])
            .filter(|role| role["RoleName"] != "no-access")
    };
    let expected: BTreeSet<&str> =
        FUNCTIONS.iter().flat_map(|(_, _, playbooks)| playbooks.iter().map(|playbook| playbook.meta().id)).collect();
    let found: BTreeSet<&str> = roles().map(|role| role["RoleName"].as_str().unwrap()).collect();
    assert_eq!(found, expected);

    for (logical, function, playbooks) in FUNCTIONS {
        let role = &hub["Resources"][format!("{logical}Role")]["Properties"];
        assert_eq!((&role["Path"], &role["RoleName"]), (&json!("/firebreak/"), &json!(function)));
        let taken: BTreeSet<&str> = statements(role)
            .into_iter()
            .filter(|statement| {
                statement["Principal"].is_null() && list(&statement["Action"]).contains(&&json!("sts:AssumeRole"))
            })
            .flat_map(|statement| list(&statement["Resource"]))
            .map(|resource| resource["Fn::Sub"].as_str().unwrap().rsplit('/').next().unwrap())
            .collect();
        let own: BTreeSet<&str> = playbooks.iter().map(|playbook| playbook.meta().id).collect();
        assert_eq!(taken, own, "{logical}");

        for role in roles().filter(|role| own.contains(role["RoleName"].as_str().unwrap())) {
            assert_eq!(role["Path"], "/firebreak/");
            let trust = list(&role["AssumeRolePolicyDocument"]["Statement"]);
            assert_eq!(trust.len(), 1, "{role}");
            assert_eq!(
                trust[0]["Principal"],
                json!({"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${HubAccount}:root"}})
            );
            let taker = format!("arn:${{AWS::Partition}}:iam::${{HubAccount}}:role/firebreak/{function}");
            let wanted = json!({
                "ArnEquals": {"aws:PrincipalArn": {"Fn::Sub": taker}},
                "StringEquals": {"aws:PrincipalOrgID": {"Ref": "OrganizationId"}},
            });
            assert_eq!(trust[0]["Condition"], wanted);
        }
    }
}
