//! What goes on: other findings about a target that is held, was asked about or let go, and what is said of them.

use anyhow::{Context, Result, ensure};
use firebreak::finding::Finding;
use firebreak::ledger::decisions::Verb;
use firebreak::playbook::Playbook as _;
use firebreak::run::{Outcome, RunState, StepResult};
use firebreak_tests::compare::{differences, entries, list};
use firebreak_tests::emulator::world;
use firebreak_tests::events;
use firebreak_tests::faults::{Doing, Fault, Request};
use firebreak_tests::in_process::{
    Case, Delivered, Permits, REGION, Security, Settings, Traced, finding_in, playbooks, run_to_end,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::facts::{open, reopen};
use crate::support::{contains, done, fixes, is_restored, is_so, isolating, preserves, results, worlds};

/// Sets that take back what was permitted: a person is asked, or nothing is wanted.
const ASK: &str = r#"@id("ask") permit (principal, action == Action::"propose", resource);"#;
const FORBID: &str = r#"@id("never") forbid (principal, action, resource);"#;

async fn case(security: &std::sync::Arc<Security>, playbook: &'static Traced) -> Case {
    Case::new(security, playbook, &worlds(playbook).await.least).await.unwrap()
}

/// Another finding about the case's target, which GuardDuty has: last seen then, and so severe.
async fn another(case: &Case, seen: Timestamp, severity: f64) -> Value {
    let mut event = case.report(&case.target.id).await.unwrap();
    events::seen(&mut event, seen);
    events::severe(&mut event, severity);
    put(case, &event).await;
    event
}

async fn put(case: &Case, event: &Value) {
    case.security.observer.put_finding(&case.security.account, REGION, &event["detail"]).await.unwrap();
}

fn severity(finding: &Finding) -> f64 {
    finding.severity
}

async fn outcome(case: &Case, event: &Value) -> (Outcome, String) {
    let answer = case.deliver_event(event).await.answer().unwrap();
    let [one] = answer.outcomes.as_slice() else { panic!("{:?}", answer.outcomes) };
    (one.outcome, one.why.clone())
}

/// The messages since the last look, as one text.
async fn told(case: &Case) -> String {
    case.security.messages().await.unwrap().join("\n")
}

/// The due rows of a kind.
async fn due(case: &Case, kind: &str) -> usize {
    case.due().await.unwrap().iter().filter(|key| key.contains(&format!("#{kind}#"))).count()
}

#[test]
fn what_was_opened_again_is_cut_again_only_as_the_policies_stand_now() {
    run_to_end(|| async {
        for (_, playbook) in playbooks().iter().filter(|(_, playbook)| contains(*playbook)) {
            for policies in [ASK, FORBID] {
                let security = Security::fresh(Permits::Enforce).await.unwrap();
                let case = case(&security, playbook).await;
                case.deliver().await.answer().unwrap();
                case.settle().await.unwrap();
                reopen(&case).await.unwrap();
                security.publish(policies).await.unwrap();
                told(&case).await;
                let before = case.state().await.unwrap();
                let repeat = case.report(&case.target.id).await.unwrap();
                assert_eq!(outcome(&case, &repeat).await.0, Outcome::NoChange);
                let run = case.the_run().await.unwrap().head.id;
                let text = told(&case).await;
                let (headline, offered) = match policies {
                    ASK => ("NOT CONTAINED, DECISION NEEDED: ", true),
                    _ => ("NOT CONTAINED, NOT PERMITTED: ", false),
                };
                assert!(text.starts_with(headline), "{text}");
                assert_eq!(text.contains(&format!("Do it again: firebreak retry {run}")), offered, "{text}");
                // Whoever has the account can make it repeat.
                assert_eq!(outcome(&case, &repeat).await.0, Outcome::NoChange);
                assert_eq!(told(&case).await, "", "told at each repeat");
                case.settle().await.unwrap();
                let differs = differences(&before, &case.state().await.unwrap());
                assert!(differs.is_empty(), "it was cut again by itself: {differs:?}");
                // A person may, where the policies leave it to people.
                let answer = case.decide(Verb::Retry).await.unwrap().answer().unwrap();
                if offered {
                    is_so(&case).await.unwrap();
                } else {
                    assert_eq!(answer.outcomes[0].outcome, Outcome::Refused, "{:?}", answer.outcomes);
                    assert!(differences(&before, &case.state().await.unwrap()).is_empty());
                }
                assert_eq!(case.the_run().await.unwrap().head.id, run, "another run has it");
            }
        }
    });
}

#[test]
fn what_is_held_in_part_is_tried_again_only_as_the_policies_stand_now() {
    run_to_end(|| async {
        for (policies, asked) in [(ASK, true), (FORBID, false)] {
            let security = Security::fresh(Permits::Enforce).await.unwrap();
            let case = Case::new(&security, isolating(), "web-server").await.unwrap();
            case.faults.rule(|request| (request.operation == "DeregisterTargets").then_some(Fault::Denied));
            assert_eq!(outcome(&case, &case.event).await.0, Outcome::Partial);
            case.settle().await.unwrap();
            case.faults.mend();
            security.publish(policies).await.unwrap();
            told(&case).await;
            let before = case.state().await.unwrap();
            let repeat = case.report(&case.target.id).await.unwrap();
            assert_eq!(outcome(&case, &repeat).await.0, Outcome::NoChange);
            assert_eq!(told(&case).await.starts_with("NOT CONTAINED, DECISION NEEDED: "), asked);
            assert_eq!(due(&case, "retry").await, 0);
            assert!(differences(&before, &case.state().await.unwrap()).is_empty());
        }
    });
}

#[test]
fn many_findings_ask_for_one_attempt() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = Case::new(&security, isolating(), "web-server").await.unwrap();
        case.faults.rule(|request| (request.operation == "DeregisterTargets").then_some(Fault::Denied));
        assert_eq!(outcome(&case, &case.event).await.0, Outcome::Partial);
        case.settle().await.unwrap();
        case.faults.mend();
        for _ in 0..3 {
            let repeat = case.report(&case.target.id).await.unwrap();
            assert_eq!(outcome(&case, &repeat).await.0, Outcome::NoChange);
        }
        assert_eq!(due(&case, "retry").await, 1);
        case.settle().await.unwrap();
        is_so(&case).await.unwrap();
        assert_eq!(case.the_run().await.unwrap().end.unwrap().outcome, Outcome::Contained);
    });
}

#[test]
fn a_repeat_whose_account_cannot_be_read_is_told() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = Case::new(&security, isolating(), "single-interface").await.unwrap();
        case.deliver().await.answer().unwrap();
        case.settle().await.unwrap();
        told(&case).await;
        case.faults.rule(|request| (request.operation == "AssumeRole").then_some(Fault::Denied));
        let repeat = case.report(&case.target.id).await.unwrap();
        assert_eq!(outcome(&case, &repeat).await.0, Outcome::Failed);
        let text = told(&case).await;
        assert!(text.starts_with("FAILED: ") && text.contains("could not be read"), "{text}");
    });
}

/// Whoever holds the account deletes the group that a run was to use.
async fn delete_our_groups(case: &Case) {
    for group in case.groups().await.unwrap() {
        case.call("ec2", "delete_security_group", json!({"GroupId": group.id.as_str()})).await.unwrap();
    }
}

#[test]
fn a_run_whose_group_was_deleted_makes_another_and_undo_gives_back_the_first_state() {
    run_to_end(|| async {
        // The group was there before the run, or was made by it.
        for before in [true, false] {
            let security = Security::fresh(Permits::Enforce).await.unwrap();
            let case = Case::new(&security, isolating(), "web-server").await.unwrap();
            if before {
                let neighbour = case.report(case.ids.get("neighbour").unwrap()).await.unwrap();
                case.deliver_event(&neighbour).await.answer().unwrap();
            }
            let start = case.state().await.unwrap();
            case.faults.rule(|request| {
                let cuts =
                    matches!(&request.doing, Doing::Applying(step) if step.0.starts_with("ec2.replace-interface"));
                (cuts && !request.reads()).then_some(Fault::ServerError)
            });
            let (outcome, why) = outcome(&case, &case.event).await;
            assert!(matches!(outcome, Outcome::Partial | Outcome::NotContained), "{outcome}: {why}");
            case.faults.mend();
            if before {
                // The neighbour leaves it, and it can be deleted.
                let state = case.state().await.unwrap();
                let neighbour = case.ids.get("neighbour").unwrap();
                let interfaces: Vec<_> = entries(&state["interfaces"])
                    .filter(|(_, interface)| interface["instance"] == neighbour)
                    .map(|(id, _)| id.to_owned())
                    .collect();
                for id in interfaces {
                    let params = json!({"NetworkInterfaceId": id, "Groups": [case.ids.get("sg_web").unwrap()]});
                    case.call("ec2", "modify_network_interface_attribute", params).await.unwrap();
                }
            }
            delete_our_groups(&case).await;
            case.settle().await.unwrap();
            is_so(&case).await.unwrap();
            let run = case.the_run().await.unwrap();
            assert_eq!(run.end.as_ref().unwrap().outcome, Outcome::Contained, "{}", results(&run));
            case.decide(Verb::Undo).await.unwrap().answer().unwrap();
            let run = case.the_run().await.unwrap();
            assert_eq!(run.end.as_ref().unwrap().outcome, Outcome::Undone, "{:?}", run.end);
            if !before {
                is_restored(&case, &start, &run).await.unwrap();
            } else {
                assert!(!open(&case, &case.state().await.unwrap()).unwrap().is_empty());
            }
        }
    });
}

/// More steps than one expression of DynamoDB takes.
#[test]
fn a_run_of_hundreds_of_steps_is_journaled_and_ends() {
    run_to_end(|| async {
        const MANY: usize = 230;
        let mut crowded = world("single-interface").unwrap();
        let groups = (0..MANY).map(|n| (format!("tg{n}"), json!({"vpc": "vpc", "port": 80})));
        crowded["target_groups"] = Value::Object(groups.collect());
        let targets = (0..MANY).map(|n| (format!("tg{n}"), json!([{"instance": "victim", "port": 80}])));
        crowded["targets"] = Value::Object(targets.collect());
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = Case::of(&security, isolating(), &crowded, Settings::default()).await.unwrap();
        case.deliver().await.answer().unwrap();
        case.settle().await.unwrap();
        let run = case.the_run().await.unwrap();
        assert!(run.all_steps().count() > MANY);
        assert_eq!(run.end.as_ref().unwrap().outcome, Outcome::Contained, "{}", results(&run));
        is_so(&case).await.unwrap();
    });
}

#[test]
fn people_hear_of_a_run_that_is_interrupted_again_and_again() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        for (_, playbook) in playbooks() {
            let case = case(&security, playbook).await;
            case.faults.rule(|request| (request.operation == "UpdateItem").then_some(Fault::Denied));
            told(&case).await;
            case.deliver().await.answer().unwrap();
            assert_eq!(told(&case).await, "");
            case.let_time_pass().await.unwrap();
            case.tick().await.answer().unwrap();
            let text = told(&case).await;
            assert!(text.contains("interrupted, the schedule goes on"), "{text}");
            // Not each minute.
            case.let_time_pass().await.unwrap();
            case.tick().await.answer().unwrap();
            assert_eq!(told(&case).await, "");
            case.faults.mend();
            case.settle().await.unwrap();
            assert_eq!(case.the_run().await.unwrap().end.unwrap().outcome, done(*playbook));
        }
    });
}

#[test]
fn nothing_is_opened_after_it_was_closed() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Everything).await.unwrap();
        let case = Case::new(&security, isolating(), "single-interface").await.unwrap();
        let opens = |request: &Request| {
            let opening = matches!(&request.doing, Doing::Applying(step) if step.0.starts_with("ec2.open-interface"));
            opening && !request.reads()
        };
        case.faults.rule(move |request| opens(request).then_some(Fault::ServerError));
        case.deliver().await.answer().unwrap();
        assert!(case.faults.requests().iter().any(opens), "nothing tried to open it");
        case.faults.mend();
        let from = case.faults.requests().len();
        // Whoever goes on from the journal finds the opening failed and the closing done.
        case.decide(Verb::Retry).await.unwrap().answer().unwrap();
        let opened = case.faults.requests().into_iter().skip(from).find(opens);
        assert!(opened.is_none(), "{opened:?}");
        let run = case.the_run().await.unwrap();
        let left = run.all_steps().filter(|step| step.action == "ec2.open-interface");
        let mut results = left.map(|step| run.result(&step.id));
        assert!(results.all(|result| matches!(result, Some(StepResult::Left { .. }))), "{:?}", run.steps);
        is_so(&case).await.unwrap();
    });
}

#[test]
fn what_could_not_be_read_back_is_not_called_contained() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = Case::new(&security, isolating(), "single-interface").await.unwrap();
        case.faults.rule(|request| (request.operation == "DescribeTargetGroups").then_some(Fault::Denied));
        let (first, why) = outcome(&case, &case.event).await;
        assert_eq!(first, Outcome::Partial, "{why}");
        assert!(told(&case).await.starts_with("PARTLY CONTAINED: "));
        case.faults.mend();
        case.settle().await.unwrap();
        assert_eq!(case.the_run().await.unwrap().end.unwrap().outcome, Outcome::Contained);
    });
}

/// How many snapshots there are of each of the victim's volumes.
async fn sets(case: &Case) -> Vec<usize> {
    let state = case.state().await.unwrap();
    let of = |volume: &str| entries(&state["snapshots"]).filter(|(_, snapshot)| snapshot["volume"] == volume).count();
    let attached = |volume: &Value| volume["attached"].to_string().contains(&case.target.id);
    entries(&state["volumes"]).filter(|(_, volume)| attached(volume)).map(|(id, _)| of(id)).collect()
}

#[test]
fn activity_that_goes_on_has_evidence_of_its_own_and_a_repeat_has_not() {
    run_to_end(|| async {
        for (_, playbook) in playbooks().iter().filter(|(_, playbook)| preserves(*playbook)) {
            let security = Security::fresh(Permits::Enforce).await.unwrap();
            let case = case(&security, playbook).await;
            case.deliver().await.answer().unwrap();
            case.settle().await.unwrap();
            let first = case.the_run().await.unwrap();
            let (ended, grave) = (first.end.as_ref().unwrap().at, severity(&first.head.finding));
            let (before, after) = (ended - SignedDuration::from_mins(5), ended + SignedDuration::from_mins(5));
            let all = |n: usize, found: &[usize]| !found.is_empty() && found.iter().all(|count| *count == n);

            let old = another(&case, before, grave).await;
            assert_eq!(outcome(&case, &old).await.0, Outcome::NoChange);
            let mut repeat = case.event.clone();
            events::seen(&mut repeat, after);
            put(&case, &repeat).await;
            assert_eq!(outcome(&case, &repeat).await.0, Outcome::NoChange);
            assert!(all(1, &sets(&case).await), "{:?}", sets(&case).await);

            let other = another(&case, after, grave).await;
            assert_eq!(outcome(&case, &other).await.0, done(*playbook));
            let second = case.the_run().await.unwrap();
            assert_ne!(second.head.id, first.head.id);
            assert!(all(2, &sets(&case).await), "{:?}", sets(&case).await);

            // Each of them again, and nothing comes of it.
            let later = second.end.as_ref().unwrap().at + SignedDuration::from_mins(5);
            for mut event in [repeat, other, old] {
                events::seen(&mut event, later);
                put(&case, &event).await;
                assert_eq!(outcome(&case, &event).await.0, Outcome::NoChange);
            }
            case.settle().await.unwrap();
            assert!(all(2, &sets(&case).await), "{:?}", sets(&case).await);
            let graver = another(&case, later, grave + 0.5).await;
            assert_eq!(outcome(&case, &graver).await.0, done(*playbook));
            assert!(all(3, &sets(&case).await), "{:?}", sets(&case).await);
        }
    });
}

#[test]
fn while_people_are_asked_another_finding_is_told_once_and_a_graver_one_asks_again() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Default).await.unwrap();
        for (_, playbook) in playbooks() {
            let case = case(&security, playbook).await;
            // None so grave that there is no graver one.
            let event = another(&case, Timestamp::now(), 5.0).await;
            assert_eq!(outcome(&case, &event).await.0, Outcome::Proposed);
            let first = case.the_run().await.unwrap();
            let grave = severity(&first.head.finding);
            told(&case).await;

            let weaker = another(&case, Timestamp::now(), grave - 0.5).await;
            assert_eq!(outcome(&case, &weaker).await.0, Outcome::NoChange);
            let text = told(&case).await;
            assert!(text.starts_with("DECISION STILL NEEDED: "), "{text}");
            assert!(text.contains(&format!("Approve: firebreak approve {}", first.head.id)), "{text}");
            for repeat in [&weaker, &event] {
                assert_eq!(outcome(&case, repeat).await.0, Outcome::NoChange);
            }
            assert_eq!(told(&case).await, "", "told twice");

            let graver = another(&case, Timestamp::now(), grave + 0.5).await;
            assert_eq!(outcome(&case, &graver).await.0, Outcome::Proposed);
            let second = case.the_run().await.unwrap();
            assert_eq!(second.head.finding.id, finding_in(&graver).unwrap().id);
            let text = told(&case).await;
            assert!(text.starts_with("DECISION NEEDED: ") && text.contains(second.head.id.as_str()), "{text}");
            let old = security.ledger().unwrap().run(&first.head.id).await.unwrap().unwrap();
            assert_eq!(old.state, RunState::Superseded);
            for repeat in [&weaker, &event, &graver] {
                assert_eq!(outcome(&case, repeat).await.0, Outcome::NoChange);
            }
            assert_eq!(told(&case).await, "", "told twice");
        }
    });
}

#[test]
fn what_joined_a_proposal_that_is_rejected_or_falls_is_answered_next() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Default).await.unwrap();
        for (_, playbook) in playbooks() {
            for archived in [false, true] {
                let case = case(&security, playbook).await;
                case.deliver().await.answer().unwrap();
                let first = case.the_run().await.unwrap();
                let other = another(&case, Timestamp::now(), severity(&first.head.finding)).await;
                assert_eq!(outcome(&case, &other).await.0, Outcome::NoChange);
                told(&case).await;
                if archived {
                    let mut gone = case.event.clone();
                    events::archived(&mut gone);
                    put(&case, &gone).await;
                    case.decide(Verb::Approve).await.unwrap().answer().unwrap();
                    let text = told(&case).await;
                    assert!(text.starts_with("DECISION NOT CARRIED OUT: ") && text.contains("archived"), "{text}");
                } else {
                    case.decide(Verb::Reject).await.unwrap().answer().unwrap();
                }
                assert_eq!(case.the_run().await.unwrap().state, RunState::Rejected);
                case.settle().await.unwrap();
                let next = case.the_run().await.unwrap();
                assert_eq!(next.head.finding.id, finding_in(&other).unwrap().id);
                assert_eq!(next.state, RunState::Proposed);
                let text = told(&case).await;
                assert!(text.contains("DECISION NEEDED: "), "{text}");
            }
        }
    });
}

#[test]
fn a_decision_that_comes_to_nothing_is_told_and_one_delivered_twice_is_not() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Default).await.unwrap();
        for (_, playbook) in playbooks() {
            let case = case(&security, playbook).await;
            case.deliver().await.answer().unwrap();
            told(&case).await;
            let lapsed = case.decision_with(Verb::Approve, |d| d.expires_at = Timestamp::now()).await.unwrap();
            let other = case.decision_with(Verb::Approve, |d| d.plan_hash = "another".to_owned()).await.unwrap();
            let early = case.decision(Verb::Undo).await.unwrap();
            for (event, why) in [(lapsed, "has lapsed"), (other, "is of another plan"), (early, "nothing to undo")] {
                assert_eq!(outcome(&case, &event).await.0, Outcome::Refused);
                let text = told(&case).await;
                assert!(text.starts_with("DECISION NOT CARRIED OUT: ") && text.contains(why), "{text}");
            }
            // The ledger is refused: it is said, and Lambda delivers again.
            let event = case.decision(Verb::Approve).await.unwrap();
            case.faults.rule(|request| (request.operation == "TransactWriteItems").then_some(Fault::Denied));
            assert!(matches!(case.deliver_event(&event).await, Delivered::Failed(_)));
            let text = told(&case).await;
            assert!(text.starts_with("DECISION NOT CARRIED OUT: "), "{text}");
            case.faults.mend();
            assert_eq!(outcome(&case, &event).await.0, done(*playbook));
            told(&case).await;
            assert_eq!(outcome(&case, &event).await.0, Outcome::Refused);
            assert_eq!(told(&case).await, "", "a second delivery is told as a refusal");
        }
    });
}

#[test]
fn a_message_that_was_refused_is_sent_with_the_next_delivery() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        for (_, playbook) in playbooks() {
            let gone = Case::new(&security, playbook, &worlds(playbook).await.gone).await.unwrap();
            if playbook.looks_up(&gone.finding) {
                // What is gone is not found, and nobody is told.
                continue;
            }
            told(&gone).await;
            gone.faults.rule(|request| (request.operation == "Publish").then_some(Fault::Denied));
            assert!(matches!(gone.deliver().await, Delivered::Failed(_)));
            gone.faults.mend();
            assert_eq!(outcome(&gone, &gone.event).await.0, Outcome::Gone);
            assert!(told(&gone).await.starts_with("TARGET GONE: "));
            // The same copy is not asked about again for some minutes.
            assert!(matches!(outcome(&gone, &gone.event).await.0, Outcome::Gone | Outcome::NoChange));
            assert_eq!(told(&gone).await, "", "told twice");
        }
    });
}

#[test]
fn while_one_way_is_broken_the_others_are_not_used_again() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        for (_, playbook) in playbooks() {
            let case = case(&security, playbook).await;
            let of = |operation: &str| case.faults.requests().iter().filter(|r| r.operation == operation).count();
            case.faults.rule(|request| (request.operation == "PutObject").then_some(Fault::Denied));
            case.deliver().await.answer().unwrap();
            assert_eq!((of("Publish"), of("PutEvents")), (1, 1));
            for _ in 0..3 {
                assert_eq!(due(&case, "report").await, 1);
                case.let_time_pass().await.unwrap();
                case.tick().await.answer().unwrap();
                assert_eq!((of("Publish"), of("PutEvents")), (1, 1), "the others got it again");
            }
            case.faults.mend();
            case.settle().await.unwrap();
            assert_eq!(due(&case, "report").await, 0);
            let chain = case.hub.evidence.read(&case.the_run().await.unwrap().head.id).await.unwrap();
            assert!(chain.len() >= 2, "the evidence was never written");
        }
    });
}

#[test]
fn the_end_of_a_hold_is_due_once_however_often_it_is_cut_again() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Default).await.unwrap();
        security.publish(r#"@id("all") @hold("1h") permit (principal, action, resource);"#).await.unwrap();
        let case = Case::new(&security, isolating(), "single-interface").await.unwrap();
        case.deliver().await.answer().unwrap();
        assert_eq!(due(&case, "hold-ends").await, 1);
        reopen(&case).await.unwrap();
        let repeat = case.report(&case.target.id).await.unwrap();
        assert_eq!(outcome(&case, &repeat).await.0, Outcome::NoChange);
        case.tick().await.answer().unwrap();
        is_so(&case).await.unwrap();
        assert_eq!(due(&case, "hold-ends").await, 1);
    });
}

#[test]
fn a_finding_about_the_security_account_is_told_once_if_guardduty_has_it() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        // A control that has failed there wakes nobody.
        for (_, playbook) in playbooks().iter().filter(|(_, playbook)| !fixes(*playbook)) {
            let case = case(&security, playbook).await;
            let hub = &security.account;
            let about = |id: &str| -> Result<Value> {
                let event = firebreak_tests::in_process::event_about(*playbook, hub, hub, &case.ids, id)?;
                ensure!(event["detail"]["accountId"] == hub.as_str(), "{event}");
                Ok(event)
            };
            told(&case).await;
            let forged = about("i-0123456789abcdef0").context("an event").unwrap();
            assert_eq!(outcome(&case, &forged).await.0, Outcome::Refused);
            assert_eq!(told(&case).await, "", "anybody could wake people");
            put(&case, &forged).await;
            for _ in 0..2 {
                assert_eq!(outcome(&case, &forged).await.0, Outcome::Refused);
            }
            let told = security.messages().await.unwrap();
            assert!(told.len() == 1 && told[0].contains("security account"), "{told:?}");
            let paged = security.outcomes().await.unwrap();
            assert!(paged.iter().any(|event| event["page"] == true && list(&event["reasons"]).len() > 0), "{paged:?}");
        }
    });
}

#[test]
fn what_joined_before_an_undo_is_not_contained_by_a_rejection_after_it() {
    run_to_end(|| async {
        for (_, playbook) in playbooks() {
            let security = Security::fresh(Permits::Enforce).await.unwrap();
            let case = case(&security, playbook).await;
            let start = case.state().await.unwrap();
            case.deliver().await.answer().unwrap();
            let joined = case.report(&case.target.id).await.unwrap();
            case.deliver_event(&joined).await.answer().unwrap();
            case.settle().await.unwrap();
            case.decide(Verb::Undo).await.unwrap().answer().unwrap();
            let released = case.the_run().await.unwrap();
            let at = released.released_at.unwrap();
            let later = another(&case, at + SignedDuration::from_mins(5), 8.0).await;
            assert_eq!(outcome(&case, &later).await.0, Outcome::Proposed);
            case.decide(Verb::Reject).await.unwrap().answer().unwrap();
            case.settle().await.unwrap();
            is_restored(&case, &start, &released).await.unwrap();
            // Rejected is rejected; graver, it is asked about again, and asked only.
            assert_eq!(outcome(&case, &later).await.0, Outcome::NoChange);
            let graver = another(&case, at + SignedDuration::from_mins(9), 9.0).await;
            assert_eq!(outcome(&case, &graver).await.0, Outcome::Proposed);
            is_restored(&case, &start, &released).await.unwrap();
        }
    });
}

#[test]
fn two_findings_that_were_rejected_are_not_asked_about_again() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Default).await.unwrap();
        for (_, playbook) in playbooks() {
            let case = case(&security, playbook).await;
            case.deliver().await.answer().unwrap();
            let other = another(&case, Timestamp::now(), severity(&case.finding)).await;
            assert_eq!(outcome(&case, &other).await.0, Outcome::NoChange);
            for _ in 0..2 {
                case.decide(Verb::Reject).await.unwrap().answer().unwrap();
                case.settle().await.unwrap();
            }
            assert_eq!(case.the_run().await.unwrap().state, RunState::Rejected);
            told(&case).await;
            for event in [&case.event, &other, &case.event] {
                assert_eq!(outcome(&case, event).await.0, Outcome::NoChange);
                case.settle().await.unwrap();
            }
            assert_eq!(told(&case).await, "", "asked again");
        }
    });
}

#[test]
fn evidence_that_could_not_be_claimed_or_planned_is_kept_at_the_next_delivery() {
    run_to_end(|| async {
        for (_, playbook) in playbooks().iter().filter(|(_, playbook)| preserves(*playbook)) {
            let security = Security::fresh(Permits::Enforce).await.unwrap();
            for operation in ["TransactWriteItems", "AssumeRole"] {
                let case = case(&security, playbook).await;
                case.deliver().await.answer().unwrap();
                case.settle().await.unwrap();
                let ended = case.the_run().await.unwrap().end.unwrap().at;
                let other = another(&case, ended + SignedDuration::from_mins(5), severity(&case.finding)).await;
                case.faults.rule(move |request| (request.operation == operation).then_some(Fault::ServerError));
                assert!(matches!(case.deliver_event(&other).await, Delivered::Failed(_)), "{operation}");
                case.faults.mend();
                assert_eq!(outcome(&case, &other).await.0, done(*playbook), "{operation}");
                assert!(sets(&case).await.iter().all(|count| *count == 2), "{:?}", sets(&case).await);
            }
        }
    });
}

#[test]
fn what_is_only_observed_or_asked_takes_no_target_from_a_question_or_an_attempt() {
    run_to_end(|| async {
        for (_, playbook) in playbooks() {
            let security = Security::fresh(Permits::Default).await.unwrap();
            let case = case(&security, playbook).await;
            let grave = severity(&case.finding);
            let by_severity = format!(
                r#"@id("ask") permit (principal, action == Action::"propose", resource)
                    when {{ context.finding.severity.greaterThanOrEqual(decimal("{grave:.1}")) }};
                @id("look") permit (principal, action == Action::"observe", resource);"#
            );
            security.publish(&by_severity).await.unwrap();
            assert_eq!(outcome(&case, &case.event).await.0, Outcome::Proposed);
            let run = case.the_run().await.unwrap();
            let weaker = another(&case, Timestamp::now(), grave - 1.0).await;
            assert_eq!(outcome(&case, &weaker).await.0, Outcome::NoChange);
            let still = case.the_run().await.unwrap();
            assert_eq!((still.head.id, still.state), (run.head.id, RunState::Proposed));
            assert_eq!(
                case.decide(Verb::Approve).await.unwrap().answer().unwrap().outcomes[0].outcome,
                done(*playbook)
            );
        }
        // An attempt is due, and what asks comes first.
        for (_, playbook) in playbooks().iter().filter(|(_, playbook)| preserves(*playbook)) {
            let security = Security::fresh(Permits::Enforce).await.unwrap();
            let case = case(&security, playbook).await;
            case.faults.rule(|request| (request.operation == "LockSnapshot").then_some(Fault::ServerError));
            assert_eq!(outcome(&case, &case.event).await.0, Outcome::Partial);
            case.faults.mend();
            let run = case.the_run().await.unwrap();
            security.publish(ASK).await.unwrap();
            let after = run.end.as_ref().unwrap().at + SignedDuration::from_mins(5);
            let other = another(&case, after, severity(&case.finding)).await;
            assert_eq!(outcome(&case, &other).await.0, Outcome::NoChange);
            case.settle().await.unwrap();
            let ended = case.the_run().await.unwrap();
            assert_eq!((ended.head.id, ended.end.unwrap().outcome), (run.head.id, done(*playbook)));
        }
    });
}

#[test]
fn another_finding_whose_message_was_refused_is_told_with_its_next_delivery() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Default).await.unwrap();
        for (_, playbook) in playbooks() {
            let case = case(&security, playbook).await;
            case.deliver().await.answer().unwrap();
            told(&case).await;
            let other = another(&case, Timestamp::now(), severity(&case.finding)).await;
            case.faults.rule(|request| (request.operation == "Publish").then_some(Fault::Denied));
            assert!(matches!(case.deliver_event(&other).await, Delivered::Failed(_)));
            case.faults.mend();
            assert_eq!(outcome(&case, &other).await.0, Outcome::NoChange);
            let text = told(&case).await;
            assert!(text.starts_with("DECISION STILL NEEDED: "), "{text}");
        }
    });
}
