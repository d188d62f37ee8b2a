//! People at their door: who they are, what the policies let them decide, and what becomes of it. The command and both
//! functions are the built ones; the door is reached by signed requests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Output;

use firebreak_tests::deployment::OPERATE;
use firebreak_tests::door::Door;
use firebreak_tests::emulator::{Credentials, Emulator, workspace};
use firebreak_tests::lab::{Binary, Function, Lab, Setup};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// Everything is proposed; to approve and to undo takes two persons, and one of them nobody listens to.
const TWO: &str = r#"
@id("propose") @owner("blue-team@example.com")
permit (principal is Playbook, action in [Action::"propose", Action::"observe"], resource);
@id("people-decide") permit (principal is Person, action, resource);
@id("two") @reason("two persons decide here")
forbid (principal is Person, action in [Action::"approve", Action::"undo"], resource) when { context.persons < 2 };
@id("not-mallory") @reason("mallory is on leave")
forbid (principal == Person::"mallory", action, resource);
"#;

/// What somebody asks for is done at once, and held for a while.
const AT_ONCE: &str = r#"
@id("on-request") @hold("72h")
permit (principal == Playbook::"isolate-instance", action == Action::"enforce", resource)
when { context.finding.source == "firebreak.request" };
@id("propose") permit (principal is Playbook, action in [Action::"propose", Action::"observe"], resource);
@id("people-decide") permit (principal is Person, action, resource);
"#;

async fn lab(policies: Option<&str>) -> Lab<'static> {
    let emulator = Emulator::shared().await.unwrap();
    let binary = Binary::shared().await.unwrap();
    let setup = Setup { world: "web-server", policy: None, ..Setup::default() };
    let lab = Lab::new(emulator, binary, &setup).await.unwrap();
    if let Some(text) = policies {
        firebreak::guard::Policies::parse(text).unwrap().validate().unwrap();
        lab.publish(text).await.unwrap();
    }
    lab
}

/// Runs the command as somebody: what it printed and wrote, and its exit status.
async fn firebreak(lab: &Lab<'_>, door: &Door, who: &Credentials, arguments: &[&str]) -> (i32, String) {
    static BUILT: OnceCell<std::path::PathBuf> = OnceCell::const_new();
    let path = BUILT.get_or_init(|| async { Binary::command().await.unwrap().path }).await;
    let Output { status, stdout, stderr } = tokio::process::Command::new(path)
        .env_clear()
        .envs(lab.environment_of(who, Some(door)).unwrap())
        .current_dir(workspace())
        .args(arguments)
        .output()
        .await
        .unwrap();
    let text = format!("{}{}", String::from_utf8(stdout).unwrap(), String::from_utf8_lossy(&stderr));
    (status.code().unwrap(), text)
}

/// Hands what the rules delivered to the function, as Lambda would: the outcomes.
async fn carry(lab: &Lab<'_>, function: &mut Function) -> Vec<String> {
    let mut outcomes = Vec::new();
    for event in lab.delivered().await.unwrap() {
        let invoked = function.invoke(event).await.unwrap();
        if let Err(why) = &invoked.answer {
            panic!("the function failed: {why}");
        }
        outcomes.extend(invoked.outcomes());
    }
    outcomes
}

/// A proposal of `isolate-instance`: its run.
async fn proposed(lab: &Lab<'_>, function: &mut Function) -> String {
    let finding = lab.finding("command-and-control", "victim").await.unwrap();
    lab.deliver(function, &finding).await.unwrap();
    let runs = lab.runs().await.unwrap();
    let run = runs.iter().find(|run| run.json("head")["playbook"] == "isolate-instance").unwrap();
    assert_eq!(run.text("state"), "proposed");
    run.run().to_owned()
}

/// How many rows the decisions' table has.
async fn decisions(lab: &Lab<'_>) -> u64 {
    let table = lab.stack.output("DecisionsTable").unwrap();
    lab.at_hub("dynamodb", "scan", json!({"TableName": table, "ConsistentRead": true})).await.unwrap()["Count"]
        .as_u64()
        .unwrap()
}

#[tokio::test]
async fn where_a_policy_wants_two_persons_one_in_two_sessions_is_not_two() {
    let lab = lab(Some(TWO)).await;
    let (door, mut function) = (Door::open(&lab).await.unwrap(), lab.start().await.unwrap());
    let run = proposed(&lab, &mut function).await;
    let start = lab.state().await.unwrap();
    let told = lab.messages().await.unwrap();
    assert!(told.iter().any(|(_, text)| text.contains("owner: blue-team@example.com")), "{told:?}");

    let ann = door.user(&lab, "ann").await.unwrap();
    let sso = "aws-reserved/sso.amazonaws.com/eu-west-1/AWSReservedSSO_Responder_0123456789abcdef";
    let ann_again = door.session(&lab, sso, "Ann").await.unwrap();
    for who in [&ann, &ann, &ann_again] {
        let (status, text) = firebreak(&lab, &door, who, &["approve", &run, "--no-wait"]).await;
        assert_eq!(status, 4, "{text}");
        assert!(text.contains("one more person must approve it as well") && text.contains(":user/ann"), "{text}");
        assert_eq!(carry(&lab, &mut function).await, Vec::<String>::new(), "nothing was sent");
    }
    assert_eq!(lab.state().await.unwrap(), start);
    // The others are told once.
    let told = lab.messages().await.unwrap();
    let [(_, text)] = &told[..] else { panic!("{told:?}") };
    assert!(
        text.starts_with("ANOTHER PERSON NEEDED") && text.contains("approve is said by ann; 1 more person"),
        "{text}"
    );
    assert!(text.contains(&format!("Say it too: firebreak approve {run}")), "{text}");

    let ben = door.session(&lab, sso, "ben@example.com").await.unwrap();
    let (status, text) = firebreak(&lab, &door, &ben, &["approve", &run, "--no-wait"]).await;
    assert!(status == 0 && text.contains(":user/ann and arn:aws:sts:") && text.contains("/ben@example.com"), "{text}");
    assert_eq!(carry(&lab, &mut function).await, ["contained"]);
    let (_, shown) = firebreak(&lab, &door, &ben, &["show", &run]).await;
    assert!(shown.contains("approved by arn:aws:iam:") && shown.contains("/ben@example.com"), "{shown}");
    assert!(shown.contains("owner: blue-team@example.com"), "{shown}");

    // What was said of the approval counts for nothing else. A session of a role may be ann's as well: it is no second
    // person, whoever speaks first.
    let role = door.session(&lab, "responder", "cy").await.unwrap();
    let (status, text) = firebreak(&lab, &door, &ben, &["undo", &run, "--no-wait"]).await;
    assert!(status == 4 && text.contains("one more person"), "{text}");
    let (status, text) = firebreak(&lab, &door, &role, &["undo", &run, "--no-wait"]).await;
    assert!(status == 3 && text.contains("does not say who it is"), "{text}");
    assert_ne!(lab.state().await.unwrap(), start);

    // What ben said counts as the policies stand when ann says it too.
    lab.publish(&TWO.replace("Person::\"mallory\"", "Person::\"ben@example.com\"")).await.unwrap();
    let (status, text) = firebreak(&lab, &door, &ann, &["undo", &run, "--no-wait"]).await;
    assert!(status == 4 && text.contains(":user/ann") && !text.contains("ben@"), "{text}");
    lab.publish(TWO).await.unwrap();
    let (status, text) = firebreak(&lab, &door, &ben, &["undo", &run, "--no-wait"]).await;
    assert_eq!(status, 0, "{text}");
    assert_eq!(carry(&lab, &mut function).await, ["undone"]);
}

#[tokio::test]
async fn whom_a_policy_forbids_and_who_is_nobody_decides_nothing() {
    let lab = lab(Some(TWO)).await;
    let (door, mut function) = (Door::open(&lab).await.unwrap(), lab.start().await.unwrap());
    let run = proposed(&lab, &mut function).await;
    let before = decisions(&lab).await;
    let mallory = door.user(&lab, "mallory").await.unwrap();
    for verb in ["approve", "reject"] {
        let (status, text) = firebreak(&lab, &door, &mallory, &[verb, &run, "--no-wait"]).await;
        assert!(status == 3 && text.contains("`not-mallory`: mallory is on leave"), "{verb}: {text}");
    }
    // A session of the role that the command takes on has the name that whoever took it gave it.
    let operator = door.session(&lab, "firebreak/operator", "ann").await.unwrap();
    let (status, text) = firebreak(&lab, &door, &operator, &["reject", &run, "--no-wait"]).await;
    assert!(status == 3 && text.contains("does not say whose it is"), "{text}");
    // Somebody who has the id of a key and not its secret.
    let forged = Credentials { secret_access_key: "guessed".to_owned(), ..mallory.clone() };
    let (status, text) = firebreak(&lab, &door, &forged, &["runs"]).await;
    assert!(status == 2 && text.contains("the signature does not match"), "{text}");
    assert_eq!(decisions(&lab).await, before);
    assert_eq!(carry(&lab, &mut function).await, Vec::<String>::new());
    let (status, text) = firebreak(&lab, &door, &mallory, &["show", "01KAM9V9T0000000000000000A"]).await;
    assert!(status == 3 && text.contains("there is no run"), "{text}");
}

#[tokio::test]
async fn an_event_that_did_not_come_by_the_url_decides_nothing() {
    let lab = lab(None).await;
    let mut function = lab.start().await.unwrap();
    let run = proposed(&lab, &mut function).await;
    let binary = Binary::of(OPERATE.name).await.unwrap();
    let mut operate = lab.start_function(&OPERATE, &binary).await.unwrap();
    let asked = json!({"do": "approve", "run": run}).to_string();
    let arn = format!("arn:aws:iam::{}:user/ann", lab.hub);
    let whole = json!({
        "version": "2.0", "rawPath": "/", "headers": {}, "isBase64Encoded": false, "body": asked,
        "requestContext": {
            "timeEpoch": 0, "http": {"method": "POST", "path": "/"},
            "authorizer": {"iam": {
                "accountId": lab.hub, "callerId": "AIDAEXAMPLE", "userId": "AIDAEXAMPLE", "userArn": arn,
            }},
        },
    });
    let mut anonymous = whole.clone();
    anonymous["requestContext"]["authorizer"] = Value::Null;
    let mut in_the_body = anonymous.clone();
    in_the_body["body"] = json!(json!({"do": "approve", "run": run, "caller": arn}).to_string());
    let mut of_another = whole.clone();
    of_another["requestContext"]["authorizer"]["iam"]["accountId"] = json!(lab.member);
    let decision = json!({"source": "firebreak", "detail-type": "Firebreak Decision", "detail": {"id": "x"}});
    for forged in
        [anonymous, in_the_body, of_another, decision, json!({"do": "approve", "run": run}), json!([]), json!("x")]
    {
        let answer = operate.invoke(forged.clone()).await.unwrap().answer.unwrap();
        assert_eq!(answer["statusCode"], 403, "{forged}: {answer}");
        assert!(answer["body"].as_str().unwrap().contains(r#""kind":"nobody""#), "{answer}");
    }
    // With a caller, what cannot be read is said to be so.
    for (place, value) in [
        ("/body", json!("{")),
        ("/body", json!(r#"{"do":"approve"}"#)),
        ("/body", json!(r#"{"do":"approve","run":"x"}"#)),
        ("/body", json!(r#"{"do":"approve","run":"01KAM9V9T0000000000000000A","by":"ann"}"#)),
        ("/body", json!(format!(r#"{{"do":"runs","after":"{}"}}"#, "x".repeat(20_000)))),
        ("/body", Value::Null),
        ("/isBase64Encoded", json!(true)),
        ("/requestContext/http/method", json!("GET")),
    ] {
        let mut bad = whole.clone();
        *bad.pointer_mut(place).unwrap() = value;
        let answer = operate.invoke(bad).await.unwrap().answer.unwrap();
        assert_eq!(answer["statusCode"], 400, "{place}: {answer}");
    }
    assert_eq!(decisions(&lab).await, 0);
    assert_eq!(carry(&lab, &mut function).await, Vec::<String>::new());
    // Every refusal is logged, with who and why, and counted; no key and no body is.
    let log = std::fs::read_to_string(operate.log()).unwrap();
    assert_eq!(log.matches("refused at the door").count(), 15, "{log}");
    assert!(log.contains("decisions_refused_total") && !log.contains("xxxx"), "{log}");
}

#[tokio::test]
async fn what_somebody_asks_for_goes_the_way_of_a_finding() {
    let lab = lab(None).await;
    let (door, mut function) = (Door::open(&lab).await.unwrap(), lab.start().await.unwrap());
    let ann = door.user(&lab, "ann").await.unwrap();
    let (victim, member) = (lab.ids.get("victim").unwrap().to_owned(), lab.member.clone());
    let start = lab.state().await.unwrap();
    let request = |playbook: &'static str, target: String, account: String| {
        let (lab, door, ann) = (&lab, &door, &ann);
        async move {
            let arguments =
                ["request", playbook, &target, "--account", &account, "--reason", "it <b>beacons</b>", "--no-wait"];
            firebreak(lab, door, ann, &arguments).await
        }
    };
    for (playbook, target, account, why) in [
        ("isolate", victim.as_str(), member.as_str(), "no playbook of this name"),
        ("contain-user", &victim, &member, "cannot be asked for by hand about a target of kind ec2-instance"),
        ("isolate-instance", &victim, &lab.hub, "about the security account"),
    ] {
        let (status, text) = request(playbook, target.to_owned(), account.to_owned()).await;
        assert!(status == 3 && text.contains(why), "{text}");
    }
    let (status, text) = request("isolate-instance", victim.clone(), member.clone()).await;
    assert!(status == 0 && text.contains("asked for, as arn:aws:iam:"), "{text}");
    let events = lab.delivered().await.unwrap();
    for event in [&events[0], &events[0]] {
        function.invoke(event.clone()).await.unwrap().answer.unwrap();
    }
    let runs = lab.runs().await.unwrap();
    let [run] = &runs[..] else { panic!("asked for once: {runs:?}") };
    assert!(text.contains(run.run()), "{text}");
    assert_eq!(
        (run.text("state"), run.json("head")["finding"]["source"].as_str()),
        ("proposed", Some("firebreak.request"))
    );
    assert_eq!(lab.state().await.unwrap(), start);
    let told = lab.messages().await.unwrap();
    assert!(told.iter().any(|(_, text)| text.contains("Asked for by ann: it ·b·beacons·/b·")), "{told:?}");
    let (_, shown) = firebreak(&lab, &door, &ann, &["show", run.run()]).await;
    assert!(shown.contains("asked for by arn:aws:iam:") && shown.contains("it ·b·beacons·/b·"), "{shown}");
    let (status, text) = firebreak(&lab, &door, &ann, &["approve", run.run(), "--no-wait"]).await;
    assert_eq!(status, 0, "{text}");
    assert_eq!(carry(&lab, &mut function).await, ["contained"]);
}

/// What is permitted of findings is not permitted of what a person asks for, and who asked need not be who approves.
const OF_FINDINGS: &str = r#"
@id("enforce") permit (principal is Playbook, action in [Action::"enforce", Action::"propose"], resource);
@id("people-decide") permit (principal is Person, action, resource);
@id("another") @reason("somebody else approves what you ask for")
forbid (principal is Person, action == Action::"approve", resource) when {
    context.asked_by.contains(principal) || (principal.kind == "role" && !context.asked_by.isEmpty())
};
@id("by-name") forbid (principal is Person, action == Action::"request", resource) when { principal.kind == "role" };
"#;

#[tokio::test]
async fn what_somebody_asks_for_is_enforced_only_by_a_policy_that_says_so_and_another_may_have_to_approve() {
    let lab = lab(Some(OF_FINDINGS)).await;
    let (door, mut function) = (Door::open(&lab).await.unwrap(), lab.start().await.unwrap());
    let (ann, ben) = (door.user(&lab, "ann").await.unwrap(), door.user(&lab, "ben").await.unwrap());
    let victim = lab.ids.get("victim").unwrap();
    let asked = ["request", "isolate-instance", victim, "--account", &lab.member, "--reason", "now", "--no-wait"];
    let role = door.session(&lab, "responder", "ben").await.unwrap();
    assert_eq!(firebreak(&lab, &door, &role, &asked).await.0, 3);
    assert_eq!(firebreak(&lab, &door, &ann, &asked).await.0, 0);
    assert_eq!(carry(&lab, &mut function).await, ["proposed"]);
    let run = lab.runs().await.unwrap()[0].clone();
    let reasons = run.json("head")["reasons"].to_string();
    assert!(reasons.contains("enforce is permitted by `enforce`, and none of it names requests"), "{reasons}");
    let (status, text) = firebreak(&lab, &door, &ann, &["approve", run.run(), "--no-wait"]).await;
    assert!(status == 3 && text.contains("somebody else approves"), "{text}");
    let (status, text) = firebreak(&lab, &door, &role, &["approve", run.run(), "--no-wait"]).await;
    assert!(status == 3 && text.contains("somebody else approves"), "{text}");
    let (status, text) = firebreak(&lab, &door, &ben, &["approve", run.run(), "--no-wait"]).await;
    assert_eq!(status, 0, "{text}");
    assert_eq!(carry(&lab, &mut function).await, ["contained"]);
}

#[tokio::test]
async fn a_hold_ends_when_a_person_says_so() {
    let lab = lab(Some(AT_ONCE)).await;
    let (door, mut function) = (Door::open(&lab).await.unwrap(), lab.start().await.unwrap());
    let ann = door.user(&lab, "ann").await.unwrap();
    let victim = lab.ids.get("victim").unwrap();
    let asked = ["request", "isolate-instance", victim, "--account", &lab.member, "--reason", "now", "--no-wait"];
    assert_eq!(firebreak(&lab, &door, &ann, &asked).await.0, 0);
    assert_eq!(carry(&lab, &mut function).await, ["contained"]);
    let run = lab.runs().await.unwrap()[0].run().to_owned();
    let ends = async |lab: &Lab<'_>| {
        let told = lab.messages().await.unwrap();
        told.into_iter().filter(|(_, text)| text.starts_with("HOLD ENDS")).map(|(_, text)| text).collect::<Vec<_>>()
    };

    // Another end takes the place of the policy's: of the two rows that come due, one is told.
    let (status, text) = firebreak(&lab, &door, &ann, &["extend", &run, "--hours", "200", "--no-wait"]).await;
    assert_eq!(status, 0, "{text}");
    assert_eq!(carry(&lab, &mut function).await, ["no_change"]);
    let (_, shown) = firebreak(&lab, &door, &ann, &["show", &run]).await;
    assert!(shown.contains("the hold ends, by the word of arn:aws:iam:"), "{shown}");
    assert_eq!(ends(&lab).await, Vec::<String>::new());
    lab.let_time_pass().await.unwrap();
    lab.schedule(&mut function).await.unwrap();
    let told = ends(&lab).await;
    assert!(told.len() == 1 && told[0].contains("its end was set by ann"), "{told:?}");

    let (status, text) = firebreak(&lab, &door, &ann, &["release", &run, "--no-wait"]).await;
    assert_eq!(status, 0, "{text}");
    assert_eq!(carry(&lab, &mut function).await, ["no_change"]);
    let held = lab.state().await.unwrap();
    lab.schedule(&mut function).await.unwrap();
    let told = ends(&lab).await;
    assert!(told.len() == 1 && told[0].contains(&format!("firebreak undo {run}")), "{told:?}");
    assert_eq!(lab.state().await.unwrap(), held, "nothing is undone but by a decision");
    let (status, _) = firebreak(&lab, &door, &ann, &["extend", &run, "--hours", "0", "--no-wait"]).await;
    assert_eq!(status, 3);
}

#[tokio::test]
async fn a_proposal_that_nobody_answers_expires_and_is_made_anew() {
    let lab = lab(None).await;
    let (door, mut function) = (Door::open(&lab).await.unwrap(), lab.start().await.unwrap());
    let ann = door.user(&lab, "ann").await.unwrap();
    let run = proposed(&lab, &mut function).await;
    let mut pages = Vec::new();
    let mut after: Vec<String> = Vec::new();
    loop {
        let mut arguments = vec!["runs", "--most", "1"];
        arguments.extend(after.iter().flat_map(|place| ["--after", place.as_str()]));
        let (status, text) = firebreak(&lab, &door, &ann, &arguments).await;
        assert_eq!(status, 0, "{text}");
        pages.push(text.clone());
        match text.split_once("--after ") {
            Some((_, place)) => after = vec![place.trim().to_owned()],
            None => break,
        }
    }
    // DynamoDB says that there may be more after the last one of a full page.
    assert!((2..=3).contains(&pages.len()), "{pages:?}");
    assert_eq!(pages.iter().filter(|page| page.contains(&run)).count(), 1);

    let table = lab.stack.output("LedgerTable").unwrap();
    let key = json!({"pk": {"S": format!("RUN#{run}")}, "sk": {"S": "RUN"}});
    let row = lab.at_hub("dynamodb", "get_item", json!({"TableName": table, "Key": key})).await.unwrap();
    let mut head: Value = serde_json::from_str(row["Item"]["head"]["S"].as_str().unwrap()).unwrap();
    let then = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(8 * 24);
    head["arrived_at"] = json!(then.to_string());
    let update = json!({
        "TableName": table, "Key": key, "UpdateExpression": "SET head = :head",
        "ExpressionAttributeValues": {":head": {"S": head.to_string()}},
    });
    lab.at_hub("dynamodb", "update_item", update).await.unwrap();
    let (_, text) = firebreak(&lab, &door, &ann, &["runs"]).await;
    assert!(text.lines().any(|line| line.contains(&run) && line.contains("expired")), "{text}");
    let (status, text) = firebreak(&lab, &door, &ann, &["approve", &run]).await;
    assert!(status == 3 && text.contains("more than 7 days ago"), "{text}");

    let finding = lab.finding("command-and-control", "victim").await.unwrap();
    lab.deliver(&mut function, &finding).await.unwrap();
    let runs = lab.runs().await.unwrap();
    let of = |state: &str| {
        let isolating = runs.iter().filter(|run| run.json("head")["playbook"] == "isolate-instance");
        isolating.filter(|run| run.text("state") == state).count()
    };
    assert_eq!((of("superseded"), of("proposed")), (1, 1));
}

#[tokio::test]
async fn whoever_comes_to_the_door_stops_everything_and_takes_that_back() {
    // No policy lets anybody decide anything: to stop must wait for none.
    let nobody = r#"@id("enforce") permit (principal is Playbook, action, resource);"#;
    let lab = lab(Some(nobody)).await;
    let (door, mut function) = (Door::open(&lab).await.unwrap(), lab.start().await.unwrap());
    let ann = door.user(&lab, "ann").await.unwrap();
    let start = lab.state().await.unwrap();
    let (status, text) = firebreak(&lab, &door, &ann, &["stop", "--reason", "it <b>isolates</b> the shop"]).await;
    assert!(status == 0 && text.starts_with("stopped:") && text.contains(":user/ann"), "{text}");
    let told = lab.messages().await.unwrap();
    let [(subject, text)] = &told[..] else { panic!("{told:?}") };
    assert!(subject.contains("STOPPED") && text.contains("By: ann") && text.contains("it ·b·isolates"), "{text}");

    let finding = lab.finding("command-and-control", "victim").await.unwrap();
    let observed = lab.deliver(&mut function, &finding).await.unwrap().outcomes();
    assert!(!observed.is_empty() && observed.iter().all(|outcome| outcome == "observed"), "{observed:?}");
    assert_eq!(lab.state().await.unwrap(), start);
    let told = lab.messages().await.unwrap();
    assert!(told.iter().all(|(subject, _)| subject.contains("NOTHING DONE, STOPPED")), "{told:?}");
    let victim = lab.ids.get("victim").unwrap();
    let asked = ["request", "isolate-instance", victim, "--account", &lab.member, "--reason", "now", "--no-wait"];
    let (status, text) = firebreak(&lab, &door, &ann, &asked).await;
    assert!(status == 3 && text.contains("Firebreak is stopped by ann"), "{text}");
    // An empty reason is none, and somebody of whom the door knows nothing stops nothing.
    assert_eq!(firebreak(&lab, &door, &ann, &["resume", "--reason", " "]).await.0, 3);
    let operator = door.session(&lab, "firebreak/operator", "ann").await.unwrap();
    assert_eq!(firebreak(&lab, &door, &operator, &["resume", "--reason", "x"]).await.0, 3);

    let (status, text) = firebreak(&lab, &door, &ann, &["resume", "--reason", "the policy is mended"]).await;
    assert!(status == 0 && text.starts_with("resumed:"), "{text}");
    let told = lab.messages().await.unwrap();
    assert!(told.iter().any(|(subject, _)| subject.contains("RESUMED")), "{told:?}");
    let outcomes = lab.deliver(&mut function, &finding).await.unwrap().outcomes();
    assert!(outcomes.contains(&"contained".to_owned()), "{outcomes:?}");
}
