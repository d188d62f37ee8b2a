//! Permissions: what the calls of the journeys need is what the actions declare is what the roles hold.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use firebreak::drill::{DRILL_EVENT, DRILL_SOURCE, Drill, REHEARSED, Rehearsed};
use firebreak::operator;
use firebreak::permission::Permission;
use firebreak::playbook::Playbook;
use firebreak_tests::compare::list;
use firebreak_tests::emulator::{Emulator, fresh_account};
use firebreak_tests::faults::{Doing, Place, Request, decoded};
use firebreak_tests::in_process::{Case, FUNCTIONS, Permits, Security, Traced, playbooks, run_to_end};
use firebreak_tests::templates::matches_wildcard;
use serde_json::{Value, json};

use crate::journeys::seen;
use crate::support::worlds;

/// The IAM actions that a call needs beyond the one of its own name (Service Authorization Reference). Reviewed.
const BESIDES: &[(&str, &str, &str)] = &[
    // Call, what its body must hold, IAM action.
    ("ec2:CreateSecurityGroup", "TagSpecification.1", "ec2:CreateTags"),
    ("ec2:CreateSnapshots", "TagSpecification.1", "ec2:CreateTags"),
    ("ec2:ReplaceIamInstanceProfileAssociation", "IamInstanceProfile", "iam:PassRole"),
];

/// Calls whose IAM action has another name (Service Authorization Reference, Amazon S3). Reviewed.
const NAMED_OTHERWISE: &[(&str, &str)] = &[
    ("s3:DeletePublicAccessBlock", "s3:PutBucketPublicAccessBlock"),
    ("s3:GetPublicAccessBlock", "s3:GetBucketPublicAccessBlock"),
    ("s3:PutPublicAccessBlock", "s3:PutBucketPublicAccessBlock"),
];

/// Every IAM action that a call needs.
pub fn iam_actions(request: &Request) -> BTreeSet<String> {
    let name = request.name();
    let name = NAMED_OTHERWISE.iter().find(|(call, _)| *call == name).map_or(name, |(_, action)| (*action).to_owned());
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

/// What a role of the template grants: what is allowed, less what is denied.
fn granted(role: &Value) -> Result<Granted> {
    let mut granted = Granted::new();
    let statements = || list(&role["Policies"]).flat_map(|policy| list(&policy["PolicyDocument"]["Statement"]));
    let texts = |values: &Value| -> Result<Vec<String>> {
        let text = |value: &Value| value.as_str().or(value["Fn::Sub"].as_str()).map(str::to_owned);
        list(values).map(|value| text(value).with_context(|| format!("{value} is no text"))).collect()
    };
    for statement in statements() {
        ensure!(statement.get("NotAction").is_none() && statement.get("NotResource").is_none(), "{statement}");
        if statement["Effect"] == "Deny" {
            continue;
        }
        ensure!(statement["Effect"] == "Allow", "{statement}");
        for action in texts(&statement["Action"])? {
            let (on, when) = granted.entry(action).or_default();
            on.extend(texts(&statement["Resource"])?);
            for (operator, tests) in statement["Condition"].as_object().into_iter().flatten() {
                for (key, value) in tests.as_object().into_iter().flatten() {
                    let wanted = if key.ends_with("ARN") { "ArnEquals" } else { "StringEquals" };
                    ensure!(operator == wanted, "{statement}");
                    let value = value.as_str().or(value["Fn::Sub"].as_str());
                    let value = value.with_context(|| format!("{statement}"))?;
                    when.insert((key.clone(), value.to_owned()));
                }
            }
        }
    }
    for statement in statements().filter(|statement| statement["Effect"] == "Deny") {
        let (actions, resources) = (texts(&statement["Action"])?, texts(&statement["Resource"])?);
        for (action, (on, _)) in &mut granted {
            if !actions.iter().any(|pattern| matches_wildcard(&pattern.to_lowercase(), &action.to_lowercase())) {
                continue;
            }
            // It would take away something of what is declared, and only sometimes: no declaration can say so.
            let sometimes = statement["Condition"].is_object();
            ensure!(!sometimes, "{action} is denied on a condition that nothing declares: {statement}");
            on.retain(|resource| !resources.iter().any(|pattern| matches_wildcard(pattern, resource)));
        }
        granted.retain(|_, (on, _)| !on.is_empty());
    }
    Ok(granted)
}

#[test]
fn what_is_denied_is_not_granted_and_a_narrowing_has_to_be_declared() {
    let role = |besides: Value| {
        let allow =
            json!({"Effect": "Allow", "Action": ["ec2:StopInstances", "s3:GetObject"], "Resource": "arn:x:y/*"});
        json!({"Policies": [{"PolicyDocument": {"Statement": [allow, besides]}}]})
    };
    let names = |granted: &Granted| granted.keys().cloned().collect::<Vec<_>>();
    let deny = |action: &str, on: &str| json!({"Effect": "Deny", "Action": action, "Resource": on});
    for (besides, left) in [
        (deny("iam:*", "*"), vec!["ec2:StopInstances", "s3:GetObject"]),
        (deny("ec2:Stop*", "*"), vec!["s3:GetObject"]),
        (deny("EC2:stopinstances", "arn:x:y/*"), vec!["s3:GetObject"]),
        (deny("ec2:StopInstances", "arn:x:z/*"), vec!["ec2:StopInstances", "s3:GetObject"]),
        (deny("*", "*"), vec![]),
    ] {
        assert_eq!(names(&granted(&role(besides.clone())).unwrap()), left, "{besides}");
    }
    let mut sometimes = deny("ec2:StopInstances", "*");
    sometimes["Condition"] = json!({"StringEqualsIgnoreCase": {"ec2:Attribute": "userData"}});
    let said = granted(&role(sometimes)).unwrap_err().to_string();
    assert!(said.contains("a condition that nothing declares"), "{said}");
    granted(&role(json!({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}))).unwrap_err();
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
            let granted = granted(roles[role]).unwrap();
            let names: BTreeSet<&String> = granted.keys().chain(wanted.keys()).collect();
            for name in names {
                assert_eq!(granted.get(name), wanted.get(name), "{role}: {name}: granted, and declared");
                assert!(!name.contains('*'), "{name}");
            }
        }
        for (name, role) in roles {
            // EventBridge has it, to forward what Config finds.
            if name == "forward-config" {
                continue;
            }
            assert!(
                declared.contains_key(name) || granted(role).unwrap().is_empty(),
                "role {name} is nobody's and may do something"
            );
        }
    });
}

/// What a request does in the security account: to which of its resources, and the IAM actions. Reviewed: AWS's page
/// of each service's actions says what a call needs.
fn at_the_hub(request: &Request) -> Vec<(String, String)> {
    // The emulator makes the names of tables, buckets and topics from their logical ids.
    let logical = |ids: &[&str], text: &str| {
        let text = text.to_lowercase();
        let found: Vec<&str> = ids.iter().copied().filter(|id| text.contains(&id.to_lowercase())).collect();
        let [one] = found[..] else { panic!("{}: which of {ids:?} is {text}?", request.name()) };
        one.to_owned()
    };
    let form = || {
        let pairs = request.body.split('&').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), decoded(value))).collect::<BTreeMap<String, String>>()
    };
    let name = request.name();
    let one = |on: String| vec![(on, name.clone())];
    match request.service.as_str() {
        "dynamodb" => on_tables(request)
            .into_iter()
            .map(|(table, action)| (logical(&["LedgerTable", "DecisionsTable", "DrillTable"], &table), action))
            .collect(),
        "s3" => {
            let bucket = logical(&["EvidenceBucket", "PolicyBucket"], &request.uri);
            match request.operation.as_str() {
                // Who may not list a bucket is told that an absent object may not be read.
                "GetObject" => vec![(bucket.clone(), name), (bucket, "s3:ListBucket".to_owned())],
                "PutObject" => vec![(bucket, name)],
                "ListObjectsV2" => vec![(bucket, "s3:ListBucket".to_owned())],
                other => panic!("{other} at the hub"),
            }
        }
        "sns" => one(logical(&["NotifyTopic"], &form()["TopicArn"])),
        "events" => {
            let body: Value = serde_json::from_str(&request.body).unwrap();
            for entry in list(&body["Entries"]) {
                assert_eq!((&entry["Source"], &entry["EventBusName"]), (&json!("firebreak"), &Value::Null));
            }
            one("event-bus/default".to_owned())
        }
        "guardduty" => one("*".to_owned()),
        "securityhub" => one("hub/default".to_owned()),
        // Every account of the organization; which one is in the body.
        "organizations" => one("account/${OrganizationId}/*".to_owned()),
        "sts" => {
            let form = form();
            let (_, role) = form["RoleArn"].split_once(":role/").unwrap();
            assert!(form.contains_key("SourceIdentity"), "{form:?}");
            let role = format!("role/{role}");
            vec![(role.clone(), name), (role, "sts:SetSourceIdentity".to_owned())]
        }
        other => panic!("{other} is called at the hub: {name}"),
    }
}

/// A resource of a statement in `template.yaml` as [`at_the_hub`] names it.
fn resource_at_the_hub(resource: &Value) -> String {
    if let Some(name) = resource["Ref"].as_str().or(resource["Fn::GetAtt"][0].as_str()).or(resource.as_str()) {
        return name.to_owned();
    }
    let text = resource["Fn::Sub"].as_str().unwrap_or_else(|| panic!("{resource}"));
    match text.strip_prefix("${").and_then(|rest| rest.split_once(".Arn}/")) {
        // Objects: all of them, or the one that is the policy set.
        Some((bucket, "*" | "${PolicyKey}")) => bucket.to_owned(),
        Some(other) => panic!("{other:?}"),
        None => text.rsplit(':').next().unwrap().to_owned(),
    }
}

/// The requests of a run whose policies ask where the account stands.
async fn where_units_are_asked_for(playbook: &'static Traced) -> Vec<Request> {
    let security = Security::fresh(Permits::Default).await.unwrap();
    let by_unit = r#"@id("by-unit") permit (principal, action, resource) when { resource has ou };"#;
    security.publish(by_unit).await.unwrap();
    let case = Case::new(&security, playbook, &worlds(playbook).await.least).await.unwrap();
    security.observer.organization(&fresh_account(), &security.account, &[(&case.member, "prod")]).await.unwrap();
    case.deliver().await.answer().unwrap();
    case.faults.requests()
}

/// The requests of a drill that is held on what a playbook acts on; none where it is not rehearsed.
async fn where_a_drill_is_held(playbook: &'static Traced) -> Vec<Request> {
    let is_its = |rehearsed: &&Rehearsed| rehearsed.playbooks.iter().any(|one| one.id == playbook.id());
    if !REHEARSED.iter().any(|rehearsed| is_its(&rehearsed)) {
        return Vec::new();
    }
    let security = Security::fresh(Permits::Default).await.unwrap();
    let case = Case::new(&security, playbook, &worlds(playbook).await.least).await.unwrap();
    let (hub, faults) = case.process_with(|config| config.canaries = vec![case.target.clone()]).unwrap();
    let drill = Drill::new(case.target.clone(), jiff::Timestamp::now());
    let ms = |at: jiff::Timestamp| json!({"N": at.as_millisecond().to_string()});
    let item = json!({
        "id": {"S": drill.id}, "canary": {"S": drill.canary.to_string()}, "began_at": ms(drill.began_at),
        "valid_until": ms(drill.valid_until),
    });
    let table = hub.config.drills_table.clone().unwrap();
    security.call("dynamodb", "put_item", json!({"TableName": table, "Item": item})).await.unwrap();
    let event = json!({"source": DRILL_SOURCE, "detail-type": DRILL_EVENT, "detail": {"id": drill.id}});
    let deadline = std::time::Instant::now() + case.settings.time;
    let answer = hub.receive(event.to_string().as_bytes(), deadline).await.unwrap();
    assert!(!answer.outcomes.is_empty(), "the drill was not answered");
    faults.requests()
}

/// What AWS does with a function's role, and its code does not: Lambda writes its log, and puts what failed into the
/// queue.
const BY_LAMBDA: [&str; 6] = [
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:ReceiveMessage",
    "sqs:SendMessage",
];

/// What a function does in the security account is what its role may do there, resource by resource: nothing is missing
/// and nothing more. A function that could write decisions could decide.
#[test]
fn a_function_may_do_at_the_hub_what_it_does_and_only_reads_decisions() {
    run_to_end(|| async {
        let seen = seen().await;
        let template = template("template.yaml").await;
        for function in FUNCTIONS {
            let its: Vec<&'static Traced> =
                playbooks().iter().filter(|(of, _)| of.name == function.name).map(|(_, playbook)| *playbook).collect();
            let mut besides = where_units_are_asked_for(its[0]).await;
            for playbook in &its {
                besides.extend(where_a_drill_is_held(playbook).await);
            }
            let requests = its.iter().flat_map(|playbook| &seen.requests[playbook.id()]).chain(&besides);
            let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for request in requests.filter(|request| request.place == Place::Hub) {
                for (resource, action) in at_the_hub(request) {
                    used.entry(resource).or_default().insert(action);
                }
            }
            let role = &template["Resources"][format!("{}Role", function.logical)]["Properties"];
            let mut may: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for statement in list(&role["Policies"]).flat_map(|policy| list(&policy["PolicyDocument"]["Statement"])) {
                assert_eq!(statement["Effect"], "Allow", "{statement}");
                for action in list(&statement["Action"]).map(|action| action.as_str().unwrap()) {
                    for resource in list(&statement["Resource"]).filter(|_| !BY_LAMBDA.contains(&action)) {
                        may.entry(resource_at_the_hub(resource)).or_default().insert(action.to_owned());
                    }
                }
            }
            assert_eq!(used, may, "{}: done at the hub, and allowed", function.name);
            let only = ["dynamodb:ConditionCheckItem", "dynamodb:GetItem"].map(str::to_owned);
            assert_eq!(used["DecisionsTable"], BTreeSet::from(only));
            assert_eq!(used["PolicyBucket"], BTreeSet::from(["s3:GetObject", "s3:ListBucket"].map(str::to_owned)));
        }
    });
}

/// What a request does to tables: the table's name, and the IAM action.
fn on_tables(request: &Request) -> Vec<(String, String)> {
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

/// By our own reading, beside the emulator's (`neighbours.rs`): each call of the journeys is allowed by the policy of the
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
    if request.service == "cloudtrail" {
        let body: Value = serde_json::from_str(&request.body).unwrap();
        return vec![body["Name"].as_str().unwrap().to_owned()];
    }
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
