//! The command `firebreak`, run as an operator runs it, against two accounts of the emulator.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Output;

use firebreak::hub::{DECISION_EVENT, EVENT_SOURCE};
use firebreak_tests::deployment::REGION;
use firebreak_tests::door::Door;
use firebreak_tests::emulator::{Call, Credentials, Emulator, fresh_account, workspace};
use firebreak_tests::lab::{Binary, Lab, Setup};
use firebreak_tests::templates::{self, list, matches_wildcard, statements};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// The command, built once a process as the function is.
async fn command() -> &'static PathBuf {
    static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
    BUILT.get_or_init(|| async { Binary::command().await.unwrap().path }).await
}

struct Operator<'l, 'e> {
    lab: &'l Lab<'e>,
    /// People's door, where it is open.
    door: Option<&'l Door>,
    /// Whose credentials, where they are somebody's in particular.
    who: Option<Credentials>,
}

impl<'l, 'e> Operator<'l, 'e> {
    fn of(lab: &'l Lab<'e>) -> Self {
        Self { lab, door: None, who: None }
    }

    fn at(lab: &'l Lab<'e>, door: &'l Door) -> Self {
        Self { lab, door: Some(door), who: None }
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let env = match &self.who {
            Some(who) => self.lab.environment_of(who, self.door).unwrap(),
            None => self.lab.operator_environment(self.door).await.unwrap(),
        };
        tokio::process::Command::new(command().await)
            .env_clear()
            .envs(env)
            .current_dir(workspace())
            .args(arguments)
            .output()
            .await
            .unwrap()
    }

    /// What a command that ends well prints.
    async fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        let (out, err) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
        assert!(output.status.success(), "{arguments:?} ended with {}:\n{out}\n{err}", output.status);
        out
    }

    /// What a command prints that ends with this status.
    async fn bad(&self, arguments: &[&str], status: i32) -> String {
        let output = self.run(arguments).await;
        let out = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            output.status.code(),
            Some(status),
            "{arguments:?}: {out}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        out
    }
}

async fn lab(policy: Option<&'static str>) -> Lab<'static> {
    let emulator = Emulator::shared().await.unwrap();
    let binary = Binary::shared().await.unwrap();
    let parameters = json!({ "BreakGlassPrincipals": "arn:aws:iam::222222222222:role/break-glass" });
    Lab::new(emulator, binary, &Setup { world: "web-server", policy, parameters, ..Setup::default() }).await.unwrap()
}

/// The lines of a table that say no.
fn refusals(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| line.starts_with("NO ")).collect()
}

/// Groups of ours in the member account, as the independent client reads them.
async fn quarantine_groups(lab: &Lab<'_>) -> Vec<(String, Value)> {
    let state = lab.state().await.unwrap();
    let groups = state["security_groups"].as_object().unwrap().iter();
    groups
        .filter(|(_, group)| group["name"].as_str().is_some_and(|name| name.starts_with("firebreak-quarantine")))
        .map(|(id, group)| (id.clone(), group.clone()))
        .collect()
}

#[tokio::test]
async fn preflight_names_what_is_missing_and_onboard_puts_it_there() {
    let lab = lab(None).await;
    let operator = Operator::of(&lab);
    let preflight = ["preflight", "--accounts", lab.member.as_str()];

    let before = operator.run(&preflight).await;
    let text = String::from_utf8(before.stdout).unwrap();
    assert_eq!(before.status.code(), Some(1), "{text}");
    let vpc = lab.ids.get("vpc").unwrap();
    let [refused] = refusals(&text)[..] else { panic!("{text}") };
    assert!(refused.contains(&format!("quarantine group of {vpc}")) && refused.contains("firebreak onboard"), "{text}");

    let made = operator.good(&["onboard", "--account", &lab.member]).await;
    assert!(made.contains(vpc), "{made}");
    let after = operator.good(&preflight).await;
    assert!(after.contains("ready: 26 checks") && !after.contains("NOT ready"), "{after}");

    // A group of ours in the VPC, without any rule.
    let ours = quarantine_groups(&lab).await;
    let [(group, seen)] = &ours[..] else { panic!("{ours:?}") };
    assert_eq!((&seen["vpc"], &seen["rules"]), (&json!(vpc), &json!([])));
    let state = lab.state().await.unwrap();
    let again = operator.good(&["onboard", "--account", &lab.member, "--vpc", vpc]).await;
    assert_eq!(again.lines().count(), 1);
    assert_eq!(lab.state().await.unwrap(), state, "onboarding twice is once");

    // Somebody opens it.
    let everywhere = json!([{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]);
    let open = json!({"GroupId": group, "IpPermissions": everywhere});
    lab.at_member("ec2", "authorize_security_group_ingress", open).await.unwrap();
    let text = operator.bad(&preflight, 1).await;
    assert!(refusals(&text).iter().all(|line| line.contains(&format!("{group} has 1 rules"))), "{text}");
    operator.good(&["onboard", "--account", &lab.member]).await;
    assert_eq!(lab.state().await.unwrap(), state);

    // Somebody deletes it: what the ledger has is worth nothing, and onboarding makes another one.
    lab.at_member("ec2", "delete_security_group", json!({"GroupId": group})).await.unwrap();
    let text = operator.bad(&preflight, 1).await;
    let [refused] = refusals(&text)[..] else { panic!("{text}") };
    assert!(refused.contains(&format!("{group} is recorded, but it does not exist any more")), "{text}");
    assert!(refused.contains("firebreak onboard"), "{text}");
    operator.good(&["onboard", "--account", &lab.member]).await;
    let ours = quarantine_groups(&lab).await;
    let [(another, seen)] = &ours[..] else { panic!("{ours:?}") };
    assert!(another != group && seen["rules"] == json!([]), "{ours:?}");
    let known = lab.ledger().unwrap();
    let known = known.groups(&lab.member.parse().unwrap(), Some(&REGION.parse().unwrap())).await.unwrap();
    assert_eq!(known.iter().map(|known| known.id.as_str()).collect::<Vec<_>>(), [group.as_str(), another.as_str()]);
    operator.good(&preflight).await;
}

#[tokio::test]
async fn preflight_says_what_a_deployment_lacks() {
    let lab = lab(None).await;
    let operator = Operator::of(&lab);
    operator.good(&["onboard", "--account", &lab.member]).await;
    let preflight = ["preflight", "--accounts", lab.member.as_str()];
    operator.good(&preflight).await;
    let says = async |what: &str, why: &str| {
        let text = operator.bad(&preflight, 1).await;
        let refused = refusals(&text);
        assert!(refused.iter().any(|line| line.contains(what) && line.contains(why)), "{what}: {why}:\n{text}");
        refused.len()
    };

    // GuardDuty off; then on again, with a member that has not been enabled, and an account that is none.
    let detectors = lab.at_hub("guardduty", "list_detectors", json!({})).await.unwrap();
    let detector = &detectors["DetectorIds"][0];
    let switch = async |on: bool| {
        let switched = json!({"DetectorId": detector, "Enable": on});
        lab.at_hub("guardduty", "update_detector", switched).await.unwrap();
    };
    switch(false).await;
    assert_eq!(says("GuardDuty on", "DISABLED").await, 2, "and the members are not known");
    switch(true).await;
    let stranger = fresh_account();
    let text = operator.bad(&["preflight", "--accounts", &stranger], 1).await;
    assert!(text.contains("no member of the security account"), "{text}");
    let elsewhere = operator.bad(&["preflight", "--accounts", &lab.member, "--regions", "eu-central-1"], 1).await;
    assert!(elsewhere.contains("there is no detector"), "{elsewhere}");

    // Nobody is told.
    let subscribed = lab.at_hub("sns", "list_subscriptions", json!({})).await.unwrap();
    let arn = subscribed["Subscriptions"][0]["SubscriptionArn"].clone();
    lab.at_hub("sns", "unsubscribe", json!({"SubscriptionArn": arn})).await.unwrap();
    assert_eq!(says("somebody is told", "nobody has subscribed").await, 1);
    // No table for decisions, and no topic at all.
    let table = lab.stack.output("DecisionsTable").unwrap();
    let open = json!({"TableName": table, "DeletionProtectionEnabled": false});
    lab.at_hub("dynamodb", "update_table", open).await.unwrap();
    lab.at_hub("dynamodb", "delete_table", json!({"TableName": table})).await.unwrap();
    says("decisions table there", "ResourceNotFoundException").await;
    lab.at_hub("sns", "delete_topic", json!({"TopicArn": lab.stack.output("TopicArn").unwrap()})).await.unwrap();
    // The switch that stops everything is in the table, too.
    assert_eq!(says("somebody is told", "NotFound").await, 3);
}

#[tokio::test]
async fn plan_shows_every_step_and_changes_nothing() {
    let lab = lab(Some("starter")).await;
    let operator = Operator::of(&lab);
    let finding = lab.finding("command-and-control", "victim").await.unwrap();
    lab.put_in_guardduty(&finding).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("event.json");
    std::fs::write(&file, serde_json::to_vec(&finding).unwrap()).unwrap();
    let before = lab.state().await.unwrap();

    let text = operator.good(&["plan", "--event", file.to_str().unwrap()]).await;
    for expected in [
        "isolate-instance",
        "snapshot-volumes",
        "would be done at once",
        "security groups of",
        "Will stay open",
        "Nothing was changed.",
    ] {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
    assert_eq!(lab.state().await.unwrap(), before);
    assert!(lab.runs().await.unwrap().is_empty());

    // A finding that GuardDuty does not have is said to be worth nothing.
    let mut forged = finding.clone();
    let id = "f".repeat(32);
    let arn = forged["arn"].as_str().unwrap().replace(forged["id"].as_str().unwrap(), &id);
    forged["id"] = json!(id);
    forged["arn"] = json!(arn);
    std::fs::write(&file, serde_json::to_vec(&forged).unwrap()).unwrap();
    let text = operator.good(&["plan", "--event", file.to_str().unwrap()]).await;
    assert!(text.contains("not genuine"), "{text}");
}

#[tokio::test]
async fn what_an_attack_sequence_names_elsewhere_is_in_the_plan_and_in_the_report() {
    let lab = lab(Some("starter")).await;
    let operator = Operator::of(&lab);
    let mut function = lab.start().await.unwrap();
    let mut finding = lab.finding("attack-sequence-ec2", "victim").await.unwrap();
    finding["resource"] = json!({"resourceType": "AttackSequence"});
    let (victim, stranger) = (lab.ids.get("victim").unwrap(), "i-0123456789abcdef0");
    let eni = lab.ids.get("eni_a").unwrap();
    finding["service"]["detection"]["sequence"]["resources"] = json!([
        {"uid": victim, "resourceType": "EC2_INSTANCE", "accountId": lab.member, "region": REGION},
        {"uid": stranger, "resourceType": "EC2_INSTANCE", "accountId": "333333333333", "region": "us-east-1"},
        {"uid": eni, "resourceType": "EC2_NETWORK_INTERFACE", "accountId": lab.member, "region": REGION},
        {"uid": "eni-0123456789abcdef0", "resourceType": "EC2_NETWORK_INTERFACE", "accountId": lab.member, "region": REGION},
    ]);
    let expected = [
        format!("not touched: {stranger} in account 333333333333, us-east-1, which the finding names as well"),
        "not touched, unless it is named itself: the instance of eni-0123456789abcdef0".to_owned(),
    ];
    lab.put_in_guardduty(&finding).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("event.json");
    std::fs::write(&file, serde_json::to_vec(&finding).unwrap()).unwrap();
    let plan = operator.good(&["plan", "--event", file.to_str().unwrap()]).await;
    let not_touched = |text: &str| text.matches("not touched").count();
    assert!(expected.iter().all(|line| plan.matches(line.as_str()).count() == 2), "for both playbooks:\n{plan}");
    assert_eq!(not_touched(&plan), 4, "its own interface is its own:\n{plan}");

    let invoked = lab.deliver(&mut function, &finding).await.unwrap();
    assert_eq!(invoked.outcomes(), ["contained", "preserved"], "{invoked:?}");
    let ended = lab.outcome_events().await.unwrap();
    for playbook in ["isolate-instance", "snapshot-volumes"] {
        let event = ended.iter().find(|event| event["playbook"] == playbook).unwrap();
        assert_eq!(event["remains"].as_array().unwrap()[..2], expected.each_ref().map(|line| json!(line)), "{event}");
    }
    let told = lab.messages().await.unwrap();
    assert_eq!(told.iter().filter(|(_, text)| text.contains(stranger)).count(), 2, "{told:?}");
    let run = lab.runs().await.unwrap()[0].run().to_owned();
    let door = Door::open(&lab).await.unwrap();
    let shown = Operator::at(&lab, &door).good(&["show", &run]).await;
    assert!(shown.contains(&expected[0]), "{shown}");

    // Another finding about the held instance joins its run; what it names besides is told all the same.
    let mut another = finding.clone();
    let id = "e".repeat(32);
    another["arn"] = json!(another["arn"].as_str().unwrap().replace(another["id"].as_str().unwrap(), &id));
    another["id"] = json!(id);
    another["service"]["count"] = json!(1);
    let invoked = lab.deliver(&mut function, &another).await.unwrap();
    assert_eq!(invoked.outcomes(), ["no_change", "no_change"], "{invoked:?}");
    let told = lab.messages().await.unwrap();
    assert!(told.iter().any(|(_, text)| text.starts_with("NOT ANSWERED") && text.contains(&expected[0])), "{told:?}");
}

#[tokio::test]
async fn a_person_approves_looks_undoes_and_keeps_the_evidence() {
    let lab = lab(None).await;
    let door = Door::open(&lab).await.unwrap();
    let operator = Operator::at(&lab, &door);
    let mut function = lab.start().await.unwrap();
    assert!(operator.good(&["runs"]).await.contains("no runs yet"));
    let finding = lab.finding("command-and-control", "victim").await.unwrap();
    lab.put_in_guardduty(&finding).await.unwrap();
    let start = lab.state().await.unwrap();
    lab.deliver(&mut function, &finding).await.unwrap();
    assert_eq!(lab.state().await.unwrap(), start, "a proposal changes nothing");

    let runs = operator.good(&["runs", "--json"]).await;
    let runs: Vec<Value> = runs.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let run_of = |playbook: &str| {
        let run = runs.iter().find(|run| run["playbook"] == playbook).unwrap();
        assert_eq!(run["state"], "proposed");
        run["run"].as_str().unwrap().to_owned()
    };
    let (isolate, snapshot) = (run_of("isolate-instance"), run_of("snapshot-volumes"));

    for (run, verb) in [(&snapshot, "reject"), (&isolate, "approve")] {
        let decided = operator.good(&[verb, run, "--no-wait"]).await;
        assert!(decided.contains(&format!("decided: {verb} run {run}")), "{decided}");
        for event in lab.delivered().await.unwrap() {
            function.invoke(event).await.unwrap().answer.unwrap();
        }
    }
    let shown = operator.good(&["show", &isolate]).await;
    assert!(shown.contains("contained") && shown.contains("approved by arn:aws:"), "{shown}");
    assert!(!shown.contains("ModifyNetworkInterfaceAttribute "), "ids nobody asked for: {shown}");
    let shown = operator.good(&["show", &isolate, "--requests"]).await;
    let calls = |text: &str| text.lines().filter(|l| l.trim().starts_with("ModifyNetworkInterfaceAttribute ")).count();
    let made = calls(&shown);
    assert!(made >= 3, "the ids of the calls are not shown: {shown}");
    assert!(operator.good(&["show", &snapshot]).await.contains("rejected"));
    assert_ne!(lab.state().await.unwrap(), start);

    let twice = operator.run(&["approve", &isolate]).await;
    assert_eq!(twice.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&twice.stderr).contains("there is nothing to approve"), "{twice:?}");

    operator.good(&["undo", &isolate, "--no-wait"]).await;
    for event in lab.delivered().await.unwrap() {
        function.invoke(event).await.unwrap().answer.unwrap();
    }
    let shown = operator.good(&["show", &isolate, "--requests"]).await;
    assert!(shown.contains("undone"), "{shown}");
    assert!(calls(&shown) > made, "the ids of the undo's calls are not shown: {shown}");

    let whole = operator.good(&["evidence", "verify", &isolate]).await;
    assert!(whole.starts_with("whole: 3 records"), "{whole}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    operator.good(&["evidence", "get", &isolate, path]).await;
    operator.good(&["evidence", "verify", &isolate, "--folder", path]).await;
    let record = folder.path().join("0002.json");
    let text = std::fs::read_to_string(&record).unwrap().replace("contained", "continued");
    std::fs::write(&record, text).unwrap();
    let broken = operator.run(&["evidence", "verify", &isolate, "--folder", path]).await;
    assert_eq!(broken.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&broken.stdout).contains("NOT whole: 0003.json"), "{broken:?}");
}

#[tokio::test]
async fn a_published_policy_set_is_in_force_and_a_changed_object_is_not() {
    let lab = lab(None).await;
    let operator = Operator::of(&lab);
    let said = operator.good(&["policy", "publish", "policies/starter.cedar"]).await;
    assert!(said.contains("accepted sha256"), "{said}");
    let finding = lab.finding("command-and-control", "victim").await.unwrap();
    lab.put_in_guardduty(&finding).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("event.json");
    std::fs::write(&file, serde_json::to_vec(&finding).unwrap()).unwrap();
    let plan = ["plan", "--event", file.to_str().unwrap()];
    assert!(operator.good(&plan).await.contains("would be done at once"));

    // Somebody who can write to the bucket, and not to the ledger.
    let bucket = lab.stack.output("PolicyBucket").unwrap();
    let key = lab.setting("FIREBREAK_POLICY_KEY").unwrap();
    let lax = r#"@id("all") permit (principal, action, resource);"#;
    lab.at_hub("s3", "put_object", json!({"Bucket": bucket, "Key": key, "Body": lax})).await.unwrap();
    let text = operator.good(&plan).await;
    assert!(text.contains("would be proposed") && text.contains("its hash is not the accepted one"), "{text}");
    let bad = folder.path().join("bad.cedar");
    std::fs::write(&bad, "permit (principal").unwrap();
    assert_eq!(operator.run(&["policy", "publish", bad.to_str().unwrap()]).await.status.code(), Some(2));
}

/// The IAM actions that a call needs (Service Authorization Reference). Reviewed.
fn iam_actions(call: &Call) -> Vec<String> {
    match (call.service.as_str(), call.operation.as_str()) {
        ("s3", "ListObjectsV2") => vec!["s3:ListBucket".to_owned()],
        ("s3", "GetPublicAccessBlock") => vec!["s3:GetBucketPublicAccessBlock".to_owned()],
        // Both buckets are asked for what may be absent, which may be said only to whoever may list.
        ("s3", "GetObject") => vec!["s3:GetObject".to_owned(), "s3:ListBucket".to_owned()],
        // Its groups are tagged as they are made.
        ("ec2", "CreateSecurityGroup") => vec!["ec2:CreateSecurityGroup".to_owned(), "ec2:CreateTags".to_owned()],
        // A source identity that a person comes with goes on to the next role.
        ("sts", "AssumeRole") => vec!["sts:AssumeRole".to_owned(), "sts:SetSourceIdentity".to_owned()],
        // What operate writes in one transaction is put, and put only.
        ("dynamodb", "TransactWriteItems") => vec!["dynamodb:PutItem".to_owned()],
        (service, operation) => vec![format!("{service}:{operation}")],
    }
}

/// The statements of a role in a template.
fn held<'t>(template: &'t Value, role: &str) -> Vec<&'t Value> {
    let roles = template["Resources"].as_object().unwrap().values();
    let role = roles.map(|resource| &resource["Properties"]).find(|properties| properties["RoleName"] == role).unwrap();
    statements(&role["Policies"])
}

/// Whether a statement of the hub's template is about this thing of the lab's.
fn is_about(lab: &Lab<'_>, statement: &Value, arn: &str) -> bool {
    list(&statement["Resource"]).into_iter().any(|resource| {
        let written = match (&resource["Fn::GetAtt"][0], &resource["Fn::Sub"]) {
            (Value::String(logical), _) => format!("${{{logical}.Arn}}"),
            (_, Value::String(text)) => text.clone(),
            _ => return resource == "*",
        };
        let mut pattern = written.replace("${PolicyKey}", lab.setting("FIREBREAK_POLICY_KEY").unwrap());
        for logical in ["EvidenceBucket", "PolicyBucket"] {
            let name = &lab.stack.resources[logical];
            pattern = pattern.replace(&format!("${{{logical}.Arn}}"), &format!("arn:aws:s3:::{name}"));
        }
        matches_wildcard(&pattern.replace("${AWS::Partition}", "aws"), arn)
    })
}

/// Whether a statement lets rows of this partition key be written.
fn lets_write(statement: &Value, table: &str, key: &str) -> bool {
    let leading = list(&statement["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]);
    statement["Resource"]["Fn::GetAtt"][0] == table
        && (leading.is_empty() || leading.iter().any(|pattern| matches_wildcard(pattern.as_str().unwrap(), key)))
}

const ASKING: &str =
    r#"@id("all") permit (principal, action, resource) when { resource has ou && resource.ou != "ou-none-00000000" };"#;

const TWO: &str = r#"
    @id("all") permit (principal, action, resource);
    @id("two") forbid (principal is Person, action, resource) when { context.persons < 2 };"#;

/// Every command that reaches AWS, in a row, against a function that answers.
async fn every_command(operator: &Operator<'_, '_>) {
    let (lab, member) = (operator.lab, operator.lab.member.as_str());
    let mut function = lab.start().await.unwrap();
    operator.bad(&["preflight", "--accounts", member], 1).await;
    operator.good(&["onboard", "--account", member]).await;
    // With rules both ways, so that both are revoked.
    let [(group, _)] = &quarantine_groups(lab).await[..] else { panic!("one group") };
    let everywhere = json!([{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]);
    let open = json!({"GroupId": group, "IpPermissions": everywhere});
    lab.at_member("ec2", "authorize_security_group_ingress", open).await.unwrap();
    operator.good(&["onboard", "--account", member]).await;
    let ready = operator.good(&["preflight", "--accounts", member]).await;
    assert!(ready.lines().any(|line| line.contains("people's door answers") && line.contains("yes")), "{ready}");

    let finding = lab.finding("command-and-control", "victim").await.unwrap();
    lab.put_in_guardduty(&finding).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("event.json");
    std::fs::write(&file, serde_json::to_vec(&finding).unwrap()).unwrap();
    operator.good(&["plan", "--event", file.to_str().unwrap()]).await;
    lab.deliver(&mut function, &finding).await.unwrap();
    let mut runs = BTreeMap::new();
    for line in operator.good(&["runs", "--json"]).await.lines() {
        let run: Value = serde_json::from_str(line).unwrap();
        runs.insert(run["playbook"].as_str().unwrap().to_owned(), run["run"].as_str().unwrap().to_owned());
    }
    let (isolate, snapshot) = (runs["isolate-instance"].as_str(), runs["snapshot-volumes"].as_str());
    for (verb, run) in [("reject", snapshot), ("approve", isolate), ("undo", isolate)] {
        operator.good(&[verb, run, "--no-wait"]).await;
        for event in lab.delivered().await.unwrap() {
            function.invoke(event).await.unwrap().answer.unwrap();
        }
    }
    operator.good(&["show", isolate]).await;
    operator.good(&["evidence", "verify", isolate]).await;
    operator.good(&["evidence", "get", isolate, folder.path().to_str().unwrap()]).await;
    operator.good(&["policy", "publish", "policies/starter.cedar"]).await;
    // Policies that ask for two persons, whom people's door tells.
    let two = folder.path().join("two.cedar");
    std::fs::write(&two, TWO).unwrap();
    operator.good(&["policy", "publish", two.to_str().unwrap(), "--yes"]).await;
    let victim = lab.ids.get("victim").unwrap();
    let asked = ["request", "isolate-instance", victim, "--account", member, "--reason", "now", "--no-wait"];
    let door = operator.door.unwrap();
    let ann = Operator { lab, door: Some(door), who: Some(door.user(lab, "ann").await.unwrap()) };
    ann.bad(&asked, 4).await;
    // Policies that ask where the account stands.
    let asking = folder.path().join("asking.cedar");
    std::fs::write(&asking, ASKING).unwrap();
    operator.good(&["policy", "publish", asking.to_str().unwrap(), "--yes"]).await;
    let shown = operator.good(&["plan", "--event", file.to_str().unwrap()]).await;
    assert!(shown.contains("`all` asks for it"), "{shown}");
    // A control is asked of Security Hub.
    let control = std::fs::read_to_string(workspace().join("events/securityhub/control-bucket.json")).unwrap();
    let of_control = folder.path().join("control.json");
    std::fs::write(&of_control, control.replace("222222222222", member).replace("111111111111", &lab.hub)).unwrap();
    let shown = operator.good(&["plan", "--event", of_control.to_str().unwrap()]).await;
    assert!(shown.contains("block-public-bucket"), "{shown}");
    let refused = operator.run(&asked).await;
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(3) && why.contains("`all` asks for it"), "{why}");
}

/// The roles are enforced, so nothing is missing; this says that nothing is granted that no command calls.
#[tokio::test]
async fn the_commands_call_exactly_what_the_operators_roles_hold() {
    let lab = lab(None).await;
    let door = Door::open(&lab).await.unwrap();
    let operator = Operator::at(&lab, &door);
    let since = lab.observer.calls(u64::MAX, &[]).await.unwrap().next;
    every_command(&operator).await;
    let calls = lab.observer.calls(since, &[]).await.unwrap().calls;
    let in_the_lab = |call: &&Call| call.account == lab.hub || call.account == lab.member;
    let calls: Vec<Call> =
        calls.iter().filter(in_the_lab).filter(|call| !call.agent.contains("app/observer")).cloned().collect();
    let of_role = |role: &str| {
        let end = format!(":role/{role}");
        calls.iter().filter(move |call| call.role.ends_with(&end)).collect::<Vec<&Call>>()
    };
    let (hub, member) = (
        templates::read(lab.emulator, "template.yaml").unwrap(),
        templates::read(lab.emulator, "template-member.yaml").unwrap(),
    );
    let used = |calls: &[&Call]| calls.iter().flat_map(|call| iam_actions(call)).collect::<BTreeSet<String>>();
    let granted = |statements: &[&Value]| {
        let actions = statements.iter().flat_map(|statement| list(&statement["Action"]));
        actions.map(|action| action.as_str().unwrap().to_owned()).collect::<BTreeSet<String>>()
    };

    // A person's own credentials do nothing but to take the role on; the playbooks' roles are the function's.
    let own: BTreeSet<&str> = of_role("responder").iter().map(|call| call.operation.as_str()).collect();
    assert_eq!(own, BTreeSet::from(["AssumeRole", "GetCallerIdentity"]));
    let people = of_role("firebreak/operator");
    let taken: BTreeSet<&str> = people
        .iter()
        .flat_map(|call| &call.about)
        .filter_map(|about| about.strip_prefix("RoleArn="))
        .map(|arn| arn.rsplit('/').next().unwrap())
        .collect();
    assert_eq!(taken, BTreeSet::from(["onboard", "plan"]));

    let publishing = of_role("firebreak/publisher");
    for (role, people) in [("operator", &people), ("publisher", &publishing)] {
        assert_eq!(used(people), granted(&held(&hub, role)), "called, and held by {role}");
    }
    let onboarding = of_role("firebreak/onboard");
    assert_eq!(used(&onboarding), granted(&held(&member, "onboard")), "called, and held by onboard");
    let planning = used(&of_role("firebreak/plan"));
    // It holds what the playbooks declare that they read, some of it for plans of a run that is under way.
    assert!(planning.len() > 10 && planning.is_subset(&granted(&held(&member, "plan"))), "{planning:?}");

    // Each call is about something that the statement names.
    let people = people.iter().map(|call| ("operator", *call));
    for (role, call) in people.chain(publishing.iter().map(|call| ("publisher", *call))) {
        let statements = held(&hub, role);
        let action = format!("{}:{}", call.service, call.operation);
        let holds = |statement: &&&Value| list(&statement["Action"]).iter().any(|held| **held == action.as_str());
        let about = call.about.first().map(String::as_str).unwrap_or_default();
        let allowed = match (call.service.as_str(), call.operation.as_str()) {
            ("s3", "GetObject" | "PutObject") => {
                let arn = format!("arn:aws:s3:::{}", about.trim_start_matches('/'));
                statements.iter().filter(holds).any(|statement| is_about(&lab, statement, &arn))
            }
            ("dynamodb", "PutItem" | "DeleteItem") => {
                // A decision's row has an id for its only key.
                let (table, key) = match about.split_once(' ') {
                    Some((key, _)) => ("LedgerTable", key),
                    None => ("DecisionsTable", about),
                };
                statements.iter().filter(holds).any(|statement| lets_write(statement, table, key))
            }
            ("sts", "AssumeRole") => call
                .about
                .iter()
                .filter_map(|about| about.strip_prefix("RoleArn="))
                .all(|arn| statements.iter().filter(holds).any(|statement| is_about(&lab, statement, arn))),
            _ => continue,
        };
        assert!(allowed, "{action} of {:?}", call.about);
    }
    // People's door: the only writer of decisions, and the only sender of their ids.
    let (door, statements) = (of_role("firebreak/operate"), held(&hub, "operate"));
    let logs = ["logs:CreateLogStream", "logs:PutLogEvents"].map(str::to_owned);
    let without_logs = granted(&statements).into_iter().filter(|action| !logs.contains(action)).collect();
    assert_eq!(used(&door), without_logs, "called, and held by operate");
    for call in door.iter().filter(|call| call.service == "dynamodb") {
        let writes = ["PutItem", "TransactWriteItems"].contains(&call.operation.as_str());
        let decisions = lab.stack.output("DecisionsTable").unwrap();
        assert!(!writes || call.about.iter().all(|about| !about.contains("RUN#")), "{decisions}: {:?}", call.about);
    }
    let sends = statements.iter().find(|statement| statement["Action"] == "events:PutEvents").unwrap();
    let only = json!({"StringEquals": {"events:source": EVENT_SOURCE, "events:detail-type": DECISION_EVENT}});
    assert_eq!(sends["Condition"], only);
}
