//! Permissions: what the calls of the journeys need is what the actions declare is what the roles hold.

use std::collections::{BTreeMap, BTreeSet};

use firebreak::permission::Permission;
use firebreak::playbook::Playbook;
use firebreak_tests::emulator::{Emulator, workspace};
use firebreak_tests::faults::{Doing, Place, Request, decoded};
use firebreak_tests::in_process::{playbooks, run_to_end};
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

/// What a playbook declares, as its role must say it.
fn wanted(playbook: &dyn Playbook) -> Granted {
    let permissions = playbook.actions().iter().flat_map(|action| action.permissions()).chain(playbook.meta().reads);
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
            let is_arn = key.ends_with("ARN");
            (key.to_owned(), if is_arn { arn(value) } else { value.to_owned() })
        }));
    }
    wanted
}

/// A declared resource as the template writes it.
fn arn(resource: &str) -> String {
    let parts: Vec<&str> = resource.splitn(4, ':').collect();
    let [service, region, account, rest] = parts.as_slice() else { panic!("{resource}") };
    // Every account's own resources; a snapshot's ARN holds no account.
    let account = if *account == "*" { "${AWS::AccountId}" } else { account };
    format!("arn:${{AWS::Partition}}:{service}:{region}:{account}:{rest}")
}

fn list(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        one => vec![one],
    }
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

#[test]
fn every_role_holds_exactly_what_its_playbook_declares() {
    const READ: &str = "import json, sys, yaml; from template import Loader; \
                        print(json.dumps(yaml.load(open(sys.argv[1], encoding='utf-8'), Loader)))";
    run_to_end(|| async {
        let emulator = Emulator::shared().await.unwrap();
        let read = emulator.python().args(["-c", READ]).arg(workspace().join("template-member.yaml")).output().unwrap();
        let template: Value = serde_json::from_slice(&read.stdout).unwrap();
        let roles: BTreeMap<&str, &Value> = template["Resources"]
            .as_object()
            .unwrap()
            .values()
            .filter(|resource| resource["Type"] == "AWS::IAM::Role")
            .map(|role| (role["Properties"]["RoleName"].as_str().unwrap(), &role["Properties"]))
            .collect();
        for (_, playbook) in playbooks() {
            let (granted, wanted) = (granted(roles[playbook.id()]), wanted(*playbook));
            let names: BTreeSet<&String> = granted.keys().chain(wanted.keys()).collect();
            for name in names {
                assert_eq!(granted.get(name), wanted.get(name), "{}: {name}: granted, and declared", playbook.id());
                assert!(!name.contains('*'), "{name}");
            }
        }
        for (name, role) in roles {
            let has_playbook = playbooks().iter().any(|(_, playbook)| playbook.id() == name);
            assert!(
                has_playbook || granted(role).is_empty(),
                "role {name} belongs to no playbook and may do something"
            );
        }
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
                let allows = |s: &&&Value| list(&s["Action"]).iter().any(|a| *a == action.as_str());
                let resources: Vec<&str> = statements
                    .iter()
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
