//! Permissions: what the calls of the journeys need is what the actions declare is what the roles hold.

use std::collections::{BTreeMap, BTreeSet};

use firebreak::operator;
use firebreak::permission::Permission;
use firebreak::playbook::Playbook;
use firebreak_tests::compare::list;
use firebreak_tests::emulator::Emulator;
use firebreak_tests::faults::{Doing, Place, Request, decoded};
use firebreak_tests::in_process::{FUNCTIONS, playbooks, run_to_end};
use serde_json::Value;

use crate::journeys::seen;

/// The IAM actions that a call needs beyond the one of its own name (Service Authorization Reference). Reviewed.
const BESIDES: &[(&str, &str, &str)] = &[
    // Call, what its body must hold, IAM action.
    ("ec2:CreateSecurityGroup", "TagSpecification.1", "ec2:CreateTags"),
    ("ec2:CreateSnapshots", "TagSpecification.1", "ec2:CreateTags"),
    ("ec2:ReplaceIamInstanceProfileAssociation", "IamInstanceProfile", "iam:PassRole"),
];

/// Every IAM action that a call needs.
fn iam_actions(request: &Request) -> BTreeSet<String> {
    let name = request.name();
    let besides = BESIDES.iter().filter(|(call, holds, _)| *call == name && request.body.contains(holds));
    let mut actions: BTreeSet<String> = besides.map(|(_, _, action)| (*action).to_owned()).collect();
    actions.insert(name);
    actions
}

fn declared(permissions: &[Permission]) -> BTreeSet<String> {
    permissions.iter().map(|permission| permission.action.to_owned()).collect()
}

#[test]
fn every_action_declares_exactly_what_it_calls() {
    run_to_end(|| async {
        let seen = seen().await;
        for (_, playbook) in playbooks() {
            let requests = &seen.requests[playbook.id()];
            let members = || requests.iter().filter(|request| request.place == Place::Member);
            for action in playbook.actions() {
                let is_its = |request: &&Request| {
                    request.doing.step().is_some_and(|step| step.0.split(' ').next() == Some(action.name()))
                };
                let used: BTreeSet<String> = members().filter(is_its).flat_map(iam_actions).collect();
                assert_eq!(used, declared(action.permissions()), "{}: calls, and what is declared", action.name());
            }
            let planning = members().filter(|request| request.doing == Doing::Planning);
            let planned: BTreeSet<String> = planning.flat_map(iam_actions).collect();
            let all: BTreeSet<String> = playbook
                .actions()
                .iter()
                .flat_map(|action| declared(action.permissions()))
                .chain(declared(playbook.meta().reads))
                .collect();
            let missing: Vec<_> = planned.difference(&all).collect();
            assert!(missing.is_empty(), "{}: planning calls {missing:?}, which nothing declares", playbook.id());
            let extra: Vec<&str> =
                playbook.meta().reads.iter().map(|p| p.action).filter(|action| !planned.contains(*action)).collect();
            assert!(extra.is_empty(), "{}: declares reads that no plan makes: {extra:?}", playbook.id());
        }
        println!("permissions: {} requests looked at", seen.requests.values().map(Vec::len).sum::<usize>());
    });
}

/// An IAM action as a role grants it: its resources, and its condition.
type Granted = BTreeMap<String, (BTreeSet<String>, BTreeSet<(String, String)>)>;

/// What is declared, as a role must say it.
fn wanted(permissions: impl IntoIterator<Item = Permission>) -> Granted {
    let mut wanted = Granted::new();
    for permission in permissions {
        let (on, when) = wanted.entry(permission.action.to_owned()).or_default();
        if permission.on.is_empty() {
            on.insert("*".to_owned());
        }
        for resource in permission.on {
            on.insert(arn(resource));
        }
        when.extend(permission.when.map(|(key, value)| {
            let value = if key.ends_with("ARN") { arn(value) } else { value.to_owned() };
            (key.to_owned(), value)
        }));
    }
    wanted
}

/// A declared resource as the template writes it.
fn arn(resource: &str) -> String {
    let parts: Vec<&str> = resource.splitn(4, ':').collect();
    let [service, region, account, rest] = parts.as_slice() else { panic!("{resource}") };
    // Every account's own resources, unless it is said that they may be another's; a snapshot's ARN holds no account.
    let account = match *account {
        "*" => "${AWS::AccountId}",
        "any" => "*",
        other => other,
    };
    format!("arn:${{AWS::Partition}}:{service}:{region}:{account}:{rest}")
}

/// What a role of the template grants.
fn granted(role: &Value) -> Granted {
    let mut granted = Granted::new();
    for policy in role["Policies"].as_array().into_iter().flatten() {
        for statement in list(&policy["PolicyDocument"]["Statement"]) {
            if statement["Effect"] == "Deny" {
                // What is taken away again is another test's.
                continue;
            }
            assert_eq!(statement["Effect"], "Allow", "{statement}");
            for action in list(&statement["Action"]) {
                let (on, when) = granted.entry(action.as_str().unwrap().to_owned()).or_default();
                for resource in list(&statement["Resource"]) {
                    on.insert(resource.as_str().or(resource["Fn::Sub"].as_str()).unwrap().to_owned());
                }
                for (operator, tests) in statement["Condition"].as_object().into_iter().flatten() {
                    for (key, value) in tests.as_object().unwrap() {
                        let wanted = if key.ends_with("ARN") { "ArnEquals" } else { "StringEquals" };
                        assert_eq!(operator, wanted, "{statement}");
                        let value = value.as_str().or(value["Fn::Sub"].as_str()).unwrap();
                        when.insert((key.clone(), value.to_owned()));
                    }
                }
            }
        }
    }
    granted
}

/// A template as JSON, short tags in their long form.
async fn template(name: &str) -> Value {
    Emulator::shared().await.unwrap().observer().await.unwrap().template(name).await.unwrap()
}

#[test]
fn every_role_holds_exactly_what_its_playbook_declares() {
    run_to_end(|| async {
        let template = template("template-member.yaml").await;
        let roles: BTreeMap<&str, &Value> = template["Resources"]
            .as_object()
            .unwrap()
            .values()
            .filter(|resource| resource["Type"] == "AWS::IAM::Role")
            .map(|role| (role["Properties"]["RoleName"].as_str().unwrap(), &role["Properties"]))
            .collect();
        let all: Vec<&dyn Playbook> = playbooks().iter().map(|(_, playbook)| *playbook as &dyn Playbook).collect();
        let mut declared: BTreeMap<&str, Granted> =
            all.iter().map(|playbook| (playbook.meta().id, wanted(playbook.permissions()))).collect();
        // What people have in a member account.
        declared.insert(operator::PLAN, wanted(operator::plan_permissions(&all)));
        declared.insert(operator::ONBOARD, wanted(operator::onboard_permissions()));
        for (role, wanted) in &declared {
            let granted = granted(roles[role]);
            let names: BTreeSet<&String> = granted.keys().chain(wanted.keys()).collect();
            for name in names {
                assert_eq!(granted.get(name), wanted.get(name), "{role}: {name}: granted, and declared");
                assert!(!name.contains('*'), "{name}");
            }
        }
        for (name, role) in roles {
            assert!(
                declared.contains_key(name) || granted(role).is_empty(),
                "role {name} is nobody's and may do something"
            );
        }
    });
}

/// What a request does to tables: the table's name, and the IAM action.
fn on_tables(request: &Request) -> Vec<(String, String)> {
    if request.service != "dynamodb" {
        return Vec::new();
    }
    let body: Value = serde_json::from_str(&request.body).unwrap();
    let name = |part: &Value| part["TableName"].as_str().unwrap().to_owned();
    if request.operation != "TransactWriteItems" {
        return vec![(name(&body), request.name())];
    }
    let parts = body["TransactItems"].as_array().unwrap().iter().flat_map(|item| item.as_object().unwrap());
    let action = |kind: &str| match kind {
        "ConditionCheck" => "dynamodb:ConditionCheckItem".to_owned(),
        other => format!("dynamodb:{other}Item"),
    };
    parts.map(|(kind, part)| (name(part), action(kind))).collect()
}

/// A function that could write decisions could decide.
#[test]
fn a_function_may_do_to_the_tables_what_it_does_and_only_reads_decisions() {
    run_to_end(|| async {
        let seen = seen().await;
        let mut used: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for request in seen.requests.values().flatten().filter(|request| request.place == Place::Hub) {
            for (table, action) in on_tables(request) {
                // The emulator makes a table's name from its logical id.
                let logical =
                    ["LedgerTable", "DecisionsTable"].into_iter().find(|id| table.contains(&id.to_lowercase()));
                used.entry(logical.unwrap_or_else(|| panic!("{table}"))).or_default().insert(action);
            }
        }
        let template = template("template.yaml").await;
        for function in FUNCTIONS {
            let role = &template["Resources"][format!("{}Role", function.logical)]["Properties"];
            let mut may: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
            for statement in role["Policies"][0]["PolicyDocument"]["Statement"].as_array().unwrap() {
                for action in list(&statement["Action"]).filter_map(Value::as_str) {
                    if action.starts_with("dynamodb:") {
                        let table = statement["Resource"]["Fn::GetAtt"][0].as_str().unwrap();
                        may.entry(table).or_default().insert(action.to_owned());
                    }
                }
            }
            assert_eq!(used, may, "{}: done to the tables, and allowed", function.name);
        }
        let only = ["dynamodb:ConditionCheckItem", "dynamodb:GetItem"].map(str::to_owned);
        assert_eq!(used["DecisionsTable"], BTreeSet::from(only));
    });
}

/// The emulator enforces no session policy, so this does: each call of the journeys is allowed by the policy of the
/// very session that made it, and what it changes is among the resources that the policy names.
#[test]
fn every_session_allows_its_calls_on_nothing_but_what_they_change() {
    run_to_end(|| async {
        let seen = seen().await;
        let mut looked_at = 0;
        for request in seen.requests.values().flatten().filter(|request| request.place == Place::Member) {
            let policy = seen.sessions.get(&request.access_key).expect("a session has its policy");
            let policy: Value = serde_json::from_str(policy).unwrap_or_else(|error| panic!("{error}: {policy}"));
            for action in iam_actions(request) {
                let statements = list(&policy["Statement"]);
                let allows = |s: &&Value| list(&s["Action"]).any(|a| a == action.as_str());
                let resources: Vec<&str> = statements
                    .filter(allows)
                    .flat_map(|s| list(&s["Resource"]))
                    .map(|resource| resource.as_str().unwrap())
                    .collect();
                assert!(!resources.is_empty(), "{}: {action} is not allowed by {policy}", request.name());
                if request.reads() || action != request.name() {
                    continue;
                }
                assert!(!resources.contains(&"*"), "{action} is allowed on everything: {policy}");
                for id in ids_in(request) {
                    let named = resources.iter().any(|on| on.ends_with(&id) || on.contains(&format!(":{id}")));
                    let of_kind = resources.iter().any(|on| on.ends_with("snapshot/*") && id.starts_with("snap-"));
                    assert!(named || of_kind, "{}: {id} is not among {resources:?}", request.name());
                }
                looked_at += 1;
            }
        }
        println!("sessions: {} policies, {looked_at} changing requests looked at", seen.sessions.len());
        assert!(looked_at > 100, "{looked_at}");
    });
}

/// The ids and names of what a request changes.
fn ids_in(request: &Request) -> Vec<String> {
    // Other services name an instance by a parameter that is no resource of theirs.
    let ec2 = request.service == "ec2";
    const KINDS: [&str; 6] = ["i-", "eni-", "sg-", "vpc-", "eipalloc-", "snap-"];
    const NAMES: [&str; 5] = ["AutoScalingGroupName", "LoadBalancerName", "RoleName", "TargetGroupArn", "UserName"];
    let pairs = request.body.split('&').filter_map(|pair| pair.split_once('='));
    let mut found = Vec::new();
    for (key, value) in pairs {
        let value = decoded(value);
        let is_id = KINDS.iter().any(|kind| value.starts_with(kind)) && value.len() > 10;
        if (ec2 && is_id) || NAMES.contains(&key) {
            found.push(value);
        }
    }
    found
}
