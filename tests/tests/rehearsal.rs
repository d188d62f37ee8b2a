//! Drills in the deployed account: the built functions, people's door between them, and a canary that is contained and given
//! back. What a drill may not do is tried as well.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use firebreak::door::wire::{Answer, Asked, RefusalKind};
use firebreak::drill::REHEARSED;
use firebreak::finding::Source;
use firebreak_tests::compare::list;
use firebreak_tests::deployment::{self, CONTAIN_COMPUTE, CONTAIN_IDENTITY, DRILL, FUNCTIONS, REGION};
use firebreak_tests::door::Door;
use firebreak_tests::emulator::Emulator;
use firebreak_tests::lab::{Binary, Function, Lab, Setup};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// A lab with a canary, and what is deployed in it.
struct Rehearsed {
    lab: Lab<'static>,
    door: Door,
    /// The function that contains canaries of this kind.
    acting: Function,
    drill: Function,
    canary: String,
}

/// Policies under which a canary is contained.
const ENFORCE: &str = r#"
@id("enforce") permit (principal is Playbook, action in [Action::"enforce", Action::"propose"], resource)
when { context.finding.source == "firebreak.drill" };
@id("propose") permit (principal is Playbook, action in [Action::"propose", Action::"observe"], resource);
@id("nobody") @reason("people decide nothing here")
forbid (principal is Person, action, resource);
"#;

async fn rehearsed(world: &'static str, function: deployment::Function, policies: Option<&str>) -> Rehearsed {
    let emulator = Emulator::shared().await.unwrap();
    let binary = Binary::of(function.name).await.unwrap();
    let setup = Setup { world, function, policy: None, ..Setup::default() };
    let lab = Lab::new(emulator, &binary, &setup).await.unwrap();
    if let Some(text) = policies {
        firebreak::guard::Policies::parse(text).unwrap().validate().unwrap();
        lab.publish(text).await.unwrap();
    }
    let canary = match function.name {
        "contain-compute" => format!("aws/{}/{REGION}/ec2-instance/{}", lab.member, lab.ids.get("victim").unwrap()),
        _ => {
            let trust = json!({"Version": "2012-10-17", "Statement": []}).to_string();
            let made = json!({
                "RoleName": firebreak::drill::CANARY_ROLE, "Path": "/firebreak-canary/", "AssumeRolePolicyDocument": trust,
            });
            let role = lab.at_member("iam", "create_role", made).await.unwrap();
            let id = role["Role"]["RoleId"].as_str().unwrap();
            format!("aws/{}/global/iam-role-session/{id}:firebreak-drill", lab.member)
        }
    };
    let door = Door::open(&lab).await.unwrap();
    let canaries = ("FIREBREAK_CANARIES", canary.as_str());
    // Without one identities are only proposed.
    let break_glass = ("FIREBREAK_BREAK_GLASS", "arn:aws:iam::111111111111:role/break-glass");
    let acting = lab.start_with(&function, &binary, &[canaries, break_glass], None).await.unwrap();
    let own = Binary::of(DRILL.name).await.unwrap();
    let url = ("FIREBREAK_OPERATE_URL", door.url.as_str());
    let drill = lab.start_with(&DRILL, &own, &[canaries, url], Some(&door)).await.unwrap();
    Rehearsed { lab, door, acting, drill, canary }
}

impl Rehearsed {
    /// Asks the function `drill` for something.
    async fn ask(&mut self, what: Value) -> Result<Value, String> {
        self.drill.invoke(what).await.unwrap().answer
    }

    /// Hands what the rules delivered to the acting function, as Lambda would: the outcomes.
    async fn carry(&mut self) -> Vec<String> {
        let mut outcomes = Vec::new();
        for event in self.lab.delivered().await.unwrap() {
            let invoked = self.acting.invoke(event).await.unwrap();
            invoked.answer.as_ref().unwrap();
            outcomes.extend(invoked.outcomes());
        }
        outcomes
    }

    /// The minute's schedule of the function `drill`: what it scored.
    async fn look(&mut self) -> Vec<String> {
        let answer = self.lab.schedule(&mut self.drill).await.unwrap().answer.unwrap();
        assert!(answer["problems"].is_null(), "{answer}");
        list(&answer["scored"]).map(|pair| pair[1].as_str().unwrap().to_owned()).collect()
    }

    /// Puts a row into the drills' table, as only the function `drill` may.
    async fn put(&self, id: &str, canary: &str, valid: SignedDuration) {
        let now = Timestamp::now();
        let ms = |at: Timestamp| json!({"N": at.as_millisecond().to_string()});
        let item = json!({
            "id": {"S": id}, "canary": {"S": canary}, "began_at": ms(now), "valid_until": ms(now + valid),
        });
        let table = self.lab.stack.output("DrillTable").unwrap();
        self.lab.at_hub("dynamodb", "put_item", json!({"TableName": table, "Item": item})).await.unwrap();
    }

    /// Sends a drill's id over the bus.
    async fn send(&mut self, id: &str) -> Vec<String> {
        let entry = json!({"Source": "firebreak.drill", "DetailType": "Firebreak Drill", "Detail": {"id": id}});
        self.lab.observer.put_event(&self.lab.hub, REGION, &entry).await.unwrap();
        self.carry().await
    }
}

#[tokio::test]
async fn a_drill_contains_a_canary_and_gives_it_back_whatever_people_may_decide() {
    let mut at = rehearsed("single-interface", CONTAIN_COMPUTE, Some(ENFORCE)).await;
    let before = at.lab.state().await.unwrap();
    let begun = at.ask(json!({"do": "drill"})).await.unwrap();
    assert_eq!(begun["began"][0][1], json!(at.canary), "{begun}");
    // One at a time on a canary.
    let again = at.ask(json!({"do": "drill", "canary": at.canary})).await.unwrap();
    assert!(again["problems"][0].as_str().unwrap().contains("another drill is still going on"), "{again}");
    assert_eq!(at.look().await, Vec::<String>::new(), "nothing has answered it yet");
    let mut outcomes = at.carry().await;
    outcomes.sort();
    assert_eq!(outcomes, ["contained", "preserved"]);
    assert_ne!(at.lab.state().await.unwrap(), before);
    let told = at.lab.messages().await.unwrap();
    assert!(told.iter().all(|(subject, text)| subject.contains("DRILL, ") && text.starts_with("DRILL, ")), "{told:?}");
    let events = at.lab.outcome_events().await.unwrap();
    assert!(!events.is_empty() && events.iter().all(|event| event["drill"] == true), "{events:?}");

    assert_eq!(at.look().await, Vec::<String>::new(), "the undo is asked for");
    assert_eq!(at.carry().await, ["undone"]);
    let scored = at.look().await;
    assert_eq!(scored.len(), 1);
    assert!(
        scored[0].starts_with("passed\nisolate-instance: contained and undone\nsnapshot-volumes: evidence"),
        "{scored:?}"
    );
    let (now, mut then) = (at.lab.state().await.unwrap(), before);
    // Evidence is kept, and the groups that were made: the rest is as it was.
    for kept in ["snapshots", "security_groups"] {
        then[kept] = now[kept].clone();
    }
    // What AWS does not give back as it was, the undo names: another automatic address, and time-outs where none were set.
    let left = firebreak_tests::compare::differences(&then, &now);
    let named = |path: &[String]| {
        path.first().is_some_and(|kind| kind == "interfaces") && matches!(path[2].as_str(), "addresses" | "tracking")
    };
    assert!(left.iter().all(|one| named(&one.path)), "{left:?}");
    let told = at.lab.messages().await.unwrap();
    assert!(
        told.iter().any(|(subject, text)| subject.contains("DRILL PASSED") && text.contains("Do: nothing")),
        "{told:?}"
    );
    let log = std::fs::read_to_string(at.drill.log()).unwrap();
    assert!(log.contains(r#""drills_passed_total":1"#) && log.contains("drill_time_to_contain_ms"), "{log}");
    assert_eq!(at.look().await, Vec::<String>::new(), "it is over");

    // The next one contains it as well: what the first has given back says nothing.
    at.ask(json!({"do": "drill"})).await.unwrap();
    let mut outcomes = at.carry().await;
    outcomes.sort();
    assert_eq!(outcomes, ["contained", "preserved"]);
    at.look().await;
    assert_eq!(at.carry().await, ["undone"]);
    let scored = at.look().await;
    assert!(scored[0].starts_with("passed\nisolate-instance: contained and undone"), "{scored:?}");
    drop(at.door);
}

#[tokio::test]
async fn a_drill_revokes_the_sessions_of_a_canary_role_and_gives_them_back() {
    let mut at = rehearsed("plain-role", CONTAIN_IDENTITY, Some(ENFORCE)).await;
    let before = at.lab.state().await.unwrap();
    at.ask(json!({"do": "drill"})).await.unwrap();
    assert_eq!(at.carry().await, ["contained"]);
    assert_ne!(at.lab.state().await.unwrap(), before);
    at.look().await;
    assert_eq!(at.carry().await, ["undone"]);
    let scored = at.look().await;
    assert!(scored[0].starts_with("passed\nrevoke-role-sessions: contained and undone"), "{scored:?}");
    assert_eq!(at.lab.state().await.unwrap(), before);
}

#[tokio::test]
async fn a_drill_under_policies_that_ask_takes_its_question_back() {
    let mut at = rehearsed("single-interface", CONTAIN_COMPUTE, None).await;
    let before = at.lab.state().await.unwrap();
    at.ask(json!({"do": "drill"})).await.unwrap();
    assert_eq!(at.carry().await, ["proposed", "proposed"]);
    at.look().await;
    assert_eq!(at.carry().await, ["rejected", "rejected"]);
    let scored = at.look().await;
    assert!(scored[0].starts_with("passed\nisolate-instance: proposed, as the policies want it"), "{scored:?}");
    assert_eq!(at.lab.state().await.unwrap(), before);
}

#[tokio::test]
async fn a_canary_of_which_something_real_is_reported_is_not_given_back_by_the_drill() {
    let mut at = rehearsed("single-interface", CONTAIN_COMPUTE, Some(ENFORCE)).await;
    at.ask(json!({"do": "drill"})).await.unwrap();
    at.carry().await;
    let finding = at.lab.finding("command-and-control", "victim").await.unwrap();
    at.lab.put_in_guardduty(&finding).await.unwrap();
    for event in at.lab.route(&finding).await.unwrap() {
        at.acting.invoke(event).await.unwrap().answer.unwrap();
    }
    let held = at.lab.state().await.unwrap();
    at.lab.messages().await.unwrap();
    at.look().await;
    assert_eq!(at.carry().await, ["refused"]);
    let told = at.lab.messages().await.unwrap();
    assert!(told.iter().any(|(_, text)| text.contains("was reported of the canary meanwhile")), "{told:?}");
    assert_eq!(at.lab.state().await.unwrap(), held);
}

#[tokio::test]
async fn what_is_no_drill_of_a_canary_is_refused_and_pages() {
    let mut at = rehearsed("web-server", CONTAIN_COMPUTE, Some(ENFORCE)).await;
    let before = at.lab.state().await.unwrap();
    let ten = SignedDuration::from_mins(10);
    let other = at.canary.replace(at.canary.rsplit('/').next().unwrap(), "i-0123456789abcdef0");
    at.put("01KAM9V9T0000000000000000A", &other, ten).await;
    let mut outcomes = at.send("01KAM9V9T0000000000000000A").await;
    outcomes.dedup();
    assert_eq!(outcomes, ["refused"]);
    let told = at.lab.messages().await.unwrap();
    assert!(told.iter().any(|(_, text)| text.contains("which is no canary of this deployment")), "{told:?}");
    let events = at.lab.outcome_events().await.unwrap();
    assert!(events.iter().all(|event| event["page"] == true && event["outcome"] == "refused"), "{events:?}");

    at.put("01KAM9V9T0000000000000000B", &at.canary, -ten).await;
    at.put("01KAM9V9T0000000000000000C", "aws/222222222222/global/iam-user/AIDACKCEVSQ6C2EXAMPLE", ten).await;
    for (id, why) in [
        ("01KAM9V9T0000000000000000B", "no longer good"),
        ("01KAM9V9T0000000000000000C", "canary"),
        ("01KAM9V9T0000000000000000D", "there is no drill"),
    ] {
        let log = at.acting.log().to_owned();
        let before = std::fs::read_to_string(&log).unwrap().len();
        assert_eq!(at.send(id).await, ["refused"], "{id}");
        let said = std::fs::read_to_string(&log).unwrap()[before..].to_owned();
        assert!(said.contains("drill-refused") && said.contains(why), "{said}");
    }
    // Each rings; people are told once an hour.
    let told = at.lab.messages().await.unwrap();
    assert!(matches!(&told[..], [(subject, _)] if subject.contains("DRILL REFUSED")), "{told:?}");
    assert_eq!(at.lab.state().await.unwrap(), before);
    assert!(at.lab.runs().await.unwrap().is_empty());

    // A row is good once.
    at.put("01KAM9V9T0000000000000000E", &at.canary, ten).await;
    assert_eq!(at.send("01KAM9V9T0000000000000000E").await.len(), 2);
    at.lab.messages().await.unwrap();
    assert_eq!(at.send("01KAM9V9T0000000000000000E").await, ["no_change"]);
    assert_eq!(at.lab.messages().await.unwrap(), Vec::new());
    assert_eq!(at.lab.runs().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_drill_that_nobody_answers_fails_and_pages_and_the_function_takes_back_nothing_else() {
    let mut at = rehearsed("web-server", CONTAIN_COMPUTE, None).await;
    let begun = at.ask(json!({"do": "drill"})).await.unwrap();
    let id = begun["began"][0][0].as_str().unwrap().to_owned();
    let early = Timestamp::now() - SignedDuration::from_mins(31);
    let table = at.lab.stack.output("DrillTable").unwrap();
    let update = json!({
        "TableName": table, "Key": {"id": {"S": id}}, "UpdateExpression": "SET began_at = :then",
        "ExpressionAttributeValues": {":then": {"N": early.as_millisecond().to_string()}},
    });
    at.lab.at_hub("dynamodb", "update_item", update).await.unwrap();
    let scored = at.look().await;
    assert!(scored[0].starts_with("failed\nisolate-instance: out of time: nothing has answered it"), "{scored:?}");
    let told = at.lab.messages().await.unwrap();
    assert!(
        told.iter().any(|(subject, text)| subject.contains("DRILL FAILED") && text.contains("runbooks/drill.md")),
        "{told:?}"
    );

    // Nobody has looked at its event.
    at.lab.delivered().await.unwrap();
    // A run of a finding that is no drill: whoever has the function's role decides nothing about it.
    let finding = at.lab.finding("command-and-control", "victim").await.unwrap();
    at.lab.deliver(&mut at.acting, &finding).await.unwrap();
    let run: firebreak::ids::RunId = at.lab.runs().await.unwrap()[0].run().parse().unwrap();
    let role = at.door.session(&at.lab, "firebreak/drill", "anybody").await.unwrap();
    for asked in [
        Asked::Reject { run: run.clone() },
        Asked::Approve { run: run.clone() },
        Asked::Undo { run: run.clone() },
        Asked::Show { run: run.clone() },
        Asked::Stop { reason: "x".to_owned() },
        Asked::Runs { most: 1, after: None, state: None, severity: None },
    ] {
        let answer = at.door.ask(&at.lab, &role, &asked).await.unwrap();
        let refused = matches!(&answer, Answer::Refused { kind: RefusalKind::Nobody, .. });
        assert!(refused, "{asked:?}: {answer:?}");
    }
    for malformed in [json!({}), json!({"do": "drill", "canary": "x"}), json!({"do": "all"}), json!([])] {
        assert!(at.ask(malformed.clone()).await.is_err(), "{malformed}");
    }
    let well = at.ask(json!({"do": "preflight"})).await.unwrap();
    assert!(well["problems"].is_null(), "{well}");
    let policy = json!({"Bucket": at.lab.stack.output("PolicyBucket").unwrap(), "Key": "policies.cedar"});
    at.lab.publish(ENFORCE).await.unwrap();
    at.lab.at_hub("s3", "delete_object", policy).await.unwrap();
    let looked = at.ask(json!({"do": "preflight"})).await.unwrap();
    let problems: Vec<&str> = list(&looked["problems"]).map(|one| one.as_str().unwrap()).collect();
    assert!(matches!(problems[..], [one] if one.starts_with("policy: ")), "{problems:?}");

    // Stopped, no drill is begun: it would show nothing.
    let ledger = at.lab.ledger().unwrap();
    ledger.set_stopped(true, "arn:aws:iam::111111111111:user/ann", "it is wrong", Timestamp::now()).await.unwrap();
    let begun = at.ask(json!({"do": "drill"})).await.unwrap();
    assert!(begun["began"].is_null(), "{begun}");
    assert!(begun["problems"][0].as_str().unwrap().starts_with("Firebreak is stopped by ann"), "{begun}");
}

/// What the drill waits for is what the functions answer, by the names and words that they have.
#[test]
fn what_is_rehearsed_is_what_the_functions_answer() {
    for rehearsed in REHEARSED {
        let region = "eu-west-1".parse().unwrap();
        let canary = match rehearsed.kind.as_str() {
            "ec2-instance" => "aws/222222222222/eu-west-1/ec2-instance/i-0a1b2c3d4e5f60718",
            "iam-role-session" => "aws/222222222222/global/iam-role-session/AROADBQP57FF2AEXAMPLE:firebreak-drill",
            other => panic!("{other} is new: give it a target here"),
        };
        let drill = firebreak::drill::Drill::new(canary.parse().unwrap(), Timestamp::now());
        let finding = drill.finding(&region).unwrap();
        assert_eq!((finding.source, finding.id.as_str()), (Source::Drill, drill.id.as_str()));
        let mut answered = Vec::new();
        for playbook in FUNCTIONS.iter().flat_map(|function| function.playbooks) {
            let targets = playbook.targets(&finding);
            if !targets.is_empty() {
                assert_eq!(targets, std::slice::from_ref(&drill.canary));
                let keeps = playbook.meta().purpose == firebreak::playbook::Purpose::Preserve;
                answered.push((playbook.meta().id, playbook.meta().hold, keeps));
            }
        }
        let waited: Vec<_> = rehearsed.playbooks.iter().map(|one| (one.id, one.hold, one.keeps)).collect();
        assert_eq!(answered, waited, "{canary}");
    }
}
