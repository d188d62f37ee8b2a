//! What is said is so, and is said until it has arrived: reports over the whole life of a run.

use anyhow::{Context, Result, ensure};
use firebreak::ledger::Budget;
use firebreak::ledger::decisions::Verb;
use firebreak::playbook::Playbook as _;
use firebreak::run::{Mode, Outcome, RunState};
use firebreak_tests::emulator::world;
use firebreak_tests::faults::{Doing, Fault};
use firebreak_tests::in_process::{Case, Permits, Security, Settings, playbooks, run_to_end};
use serde_json::{Value, json};

use crate::facts::{alter, open};
use crate::support::{done, is_so, isolating, preserves, worlds};

/// Somebody who holds the account allows everything out of the case's quarantine group.
async fn open_our_group(case: &Case) -> Result<String> {
    let group = case.groups().await?.into_iter().next().context("there is no group")?.id.to_string();
    let everywhere = json!([{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]);
    let params = json!({"GroupId": group, "IpPermissions": everywhere});
    case.call("ec2", "authorize_security_group_egress", params).await?;
    ensure!(!open(case, &case.state().await?)?.is_empty(), "it is not open");
    Ok(group)
}

#[test]
fn a_repeat_shows_that_our_group_was_opened_and_it_is_emptied() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = Case::new(&security, isolating(), "single-interface").await.unwrap();
        case.deliver().await.answer().unwrap();
        case.settle().await.unwrap();
        open_our_group(&case).await.unwrap();
        security.messages().await.unwrap();
        let answer = case.deliver().await.answer().unwrap();
        assert!(answer.outcomes[0].why.contains("open again"), "{:?}", answer.outcomes);
        let told = security.messages().await.unwrap().join("\n");
        assert!(told.starts_with("OPEN AGAIN: ") && told.contains("cut again within a minute"), "{told}");
        case.settle().await.unwrap();
        is_so(&case).await.unwrap();
    });
}

#[test]
fn nothing_is_called_cut_while_our_group_has_rules() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        for fault in [Fault::Denied, Fault::Pretended] {
            let case = Case::new(&security, isolating(), "single-interface").await.unwrap();
            case.faults.rule(move |request| (request.operation == "RevokeSecurityGroupEgress").then_some(fault));
            security.messages().await.unwrap();
            let answer = case.deliver().await.answer().unwrap();
            assert_eq!(answer.outcomes[0].outcome, Outcome::Partial, "{fault:?}");
            assert!(!open(&case, &case.state().await.unwrap()).unwrap().is_empty());
            let end = case.the_run().await.unwrap().end.unwrap();
            assert_eq!(end.contained_after_ms, None, "{fault:?}");
            assert!(end.not_done.iter().any(|line| line.starts_with("egress rules of ")), "{:?}", end.not_done);
            let told = security.messages().await.unwrap().join("\n");
            assert!(told.contains("NOT DONE: egress rules of ") && !told.contains("Network cut"), "{told}");
        }
    });
}

#[test]
fn a_repeat_during_an_unfinished_undo_promises_nothing_and_wakes_somebody() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = Case::new(&security, isolating(), "single-interface").await.unwrap();
        case.deliver().await.answer().unwrap();
        case.settle().await.unwrap();
        case.faults.rule(|request| {
            let undoing = matches!(&request.doing, Doing::Undoing(step) if step.0.starts_with("ec2.set-instance"));
            (undoing && !request.reads()).then_some(Fault::ServerError)
        });
        case.decide(Verb::Undo).await.unwrap().answer().unwrap();
        case.faults.mend();
        let run = case.the_run().await.unwrap();
        let outcome = run.end.as_ref().map(|end| end.outcome);
        assert_eq!((run.state, outcome), (RunState::Held, Some(Outcome::UndonePartly)));
        case.settle().await.unwrap();
        security.messages().await.unwrap();
        let state = case.state().await.unwrap();
        let answer = case.deliver().await.answer().unwrap();
        assert_eq!(answer.outcomes[0].outcome, Outcome::Failed, "{:?}", answer.outcomes);
        let told = security.messages().await.unwrap().join("\n");
        assert!(told.starts_with("NOT CONTAINED, UNDO UNFINISHED: "), "{told}");
        assert!(told.contains(&format!("Undo: firebreak undo {}", run.head.id)), "{told}");
        assert!(case.due().await.unwrap().is_empty(), "something is promised: {:?}", case.due().await.unwrap());
        assert_eq!(case.state().await.unwrap(), state);
        // Finished, the undo is an undo like any other: the next repeat is proposed.
        case.decide(Verb::Undo).await.unwrap().answer().unwrap();
        assert_eq!(case.the_run().await.unwrap().state, RunState::Released);
    });
}

/// A world whose victim is registered under so many ports that its plan is longer than the ledger takes.
fn crowded() -> Value {
    let mut world = world("single-interface").unwrap();
    let targets: Vec<Value> = (0..3500).map(|n| json!({"instance": "victim", "port": 20_000 + n})).collect();
    world["target_groups"] = json!({"tg": {"vpc": "vpc", "port": 80}});
    world["targets"] = json!({"tg": targets});
    world
}

#[test]
fn a_plan_that_was_shortened_can_be_approved() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Default).await.unwrap();
        let case = Case::of(&security, isolating(), &crowded(), Settings::default()).await.unwrap();
        let answer = case.deliver().await.answer().unwrap();
        assert_eq!(answer.outcomes[0].outcome, Outcome::Proposed, "{:?}", answer.outcomes);
        let run = case.the_run().await.unwrap();
        assert!(run.head.plan.remains.iter().any(|line| line.contains("too long for the ledger")));
        let answer = case.decide(Verb::Approve).await.unwrap().answer().unwrap();
        assert_eq!(case.the_run().await.unwrap().head.id, run.head.id, "another run was proposed");
        assert_ne!(answer.outcomes[0].outcome, Outcome::Proposed, "{:?}", answer.outcomes);
        assert!(open(&case, &case.state().await.unwrap()).unwrap().is_empty());
    });
}

/// A set that enforces and holds for an hour.
const FOR_AN_HOUR: &str = r#"@id("all") @hold("1h") permit (principal, action, resource);"#;

#[test]
fn the_end_of_a_hold_is_asked_until_it_is_heard() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Default).await.unwrap();
        security.publish(FOR_AN_HOUR).await.unwrap();
        let case = Case::new(&security, isolating(), "single-interface").await.unwrap();
        case.deliver().await.answer().unwrap();
        let held = case.state().await.unwrap();
        security.messages().await.unwrap();
        let hold_ends = || async { case.due().await.unwrap().iter().filter(|key| key.contains("#hold-ends#")).count() };
        assert_eq!(hold_ends().await, 1);
        // Nobody can be told: the question stays.
        case.faults.rule(|request| (request.operation == "Publish").then_some(Fault::Denied));
        case.let_time_pass().await.unwrap();
        case.tick().await.answer().unwrap();
        assert_eq!(hold_ends().await, 1, "a question that nobody heard is gone");
        case.faults.mend();
        case.settle().await.unwrap();
        let run = case.the_run().await.unwrap();
        let told = security.messages().await.unwrap();
        let asked: Vec<_> = told.iter().filter(|message| message.starts_with("HOLD ENDS, UNDO IT?: ")).collect();
        let [asked] = asked.as_slice() else { panic!("{told:?}") };
        assert!(asked.contains(&format!("Undo: firebreak undo {}", run.head.id)), "{asked}");
        assert_eq!((run.state, case.state().await.unwrap()), (RunState::Held, held), "nothing is undone by itself");
    });
}

#[test]
fn an_approval_that_is_not_carried_out_is_told() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Default).await.unwrap();
        for (_, playbook) in playbooks() {
            let case = Case::new(&security, playbook, &worlds(playbook).await.least).await.unwrap();
            case.deliver().await.answer().unwrap();
            let before = case.state().await.unwrap();
            security.messages().await.unwrap();
            let (hub, _) =
                case.process_with(|config| config.budget = Budget { account_per_hour: 0, total_per_hour: 0 }).unwrap();
            let event = case.decision(Verb::Approve).await.unwrap();
            let deadline = std::time::Instant::now() + case.settings.time;
            let answer = hub.receive(event.to_string().as_bytes(), deadline).await.unwrap();
            assert_eq!(answer.outcomes[0].outcome, Outcome::Refused, "{:?}", answer.outcomes);
            let told = security.messages().await.unwrap().join("\n");
            assert!(told.starts_with("DECISION NOT CARRIED OUT: ") && told.contains("budget is spent"), "{told}");
            assert_eq!(case.state().await.unwrap(), before);
        }
    });
}

#[test]
fn an_approval_waits_for_policies_that_can_be_read() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let mut case = Case::new(&security, isolating(), "single-interface").await.unwrap();
        security.publish(r#"@id("ask") permit (principal, action == Action::"propose", resource);"#).await.unwrap();
        case.deliver().await.answer().unwrap();
        let before = case.state().await.unwrap();
        // A new process, which has no set in memory.
        security.put_policy_object("permit (").await.unwrap();
        case.restart().unwrap();
        let answer = case.decide(Verb::Approve).await.unwrap().answer().unwrap();
        assert_eq!(answer.outcomes[0].outcome, Outcome::Refused, "{:?}", answer.outcomes);
        assert_eq!(case.state().await.unwrap(), before);
        assert_eq!(case.the_run().await.unwrap().state, RunState::Proposed, "it can be decided again");
    });
}

#[test]
fn what_is_observed_or_turned_away_is_told_once_a_finding() {
    run_to_end(|| async {
        let observe = Security::fresh(Permits::Observe).await.unwrap();
        let enforce = Security::fresh(Permits::Enforce).await.unwrap();
        for (_, playbook) in playbooks() {
            let case = Case::new(&observe, playbook, &worlds(playbook).await.least).await.unwrap();
            for wanted in [Outcome::Observed, Outcome::NoChange, Outcome::NoChange] {
                let answer = case.deliver().await.answer().unwrap();
                assert_eq!(answer.outcomes[0].outcome, wanted, "{:?}", answer.outcomes);
            }
            let gone = Case::new(&enforce, playbook, &worlds(playbook).await.gone).await.unwrap();
            if playbook.looks_up(&gone.finding) {
                // What is gone is not found, and there are laws of controls for what is not found.
                continue;
            }
            enforce.messages().await.unwrap();
            for n in 0..3 {
                let answer = gone.deliver().await.answer().unwrap();
                let outcome = answer.outcomes[0].outcome;
                // The same copy of Security Hub's is not asked about again for some minutes.
                let known = n > 0 && outcome == Outcome::NoChange;
                assert!(outcome == Outcome::Gone || known, "{:?}", answer.outcomes);
            }
            let told = enforce.messages().await.unwrap();
            assert_eq!(told.len(), 1, "{told:?}");
        }
    });
}

#[test]
fn a_proposal_is_made_of_all_that_can_be_read() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Default).await.unwrap();
        let case = Case::new(&security, isolating(), "web-server").await.unwrap();
        // The first look is hurried and is refused once; nothing waits for the second.
        case.faults.once(Fault::Denied, |request| request.operation == "DescribeTargetGroups");
        let answer = case.deliver().await.answer().unwrap();
        assert_eq!(answer.outcomes[0].outcome, Outcome::Proposed, "{:?}", answer.outcomes);
        let run = case.the_run().await.unwrap();
        assert_eq!(run.head.mode, Mode::Propose);
        let steps: Vec<_> = run.head.plan.steps().map(|step| step.action.as_str()).collect();
        assert!(steps.contains(&"elasticloadbalancing.deregister-targets"), "{steps:?}");
        let answer = case.decide(Verb::Approve).await.unwrap().answer().unwrap();
        assert_eq!(answer.outcomes[0].outcome, done(case.playbook), "{:?}", answer.outcomes);
        // The clock counts from the approval, and that is said; when the finding came stays as it was.
        let (first, now) = (run, case.the_run().await.unwrap());
        assert_eq!(now.head.arrived_at, first.head.arrived_at);
        assert!(now.approved_at.is_some_and(|at| at > now.head.arrived_at), "{:?}", now.approved_at);
        let told = security.told_about(now.head.id.as_str()).await.unwrap().join("\n");
        assert!(told.contains("Network cut") && told.contains("s after the approval"), "{told}");
    });
}

#[test]
fn a_volume_that_was_attached_meanwhile_is_in_the_case_and_the_others_are_not_snapshotted_again() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        for (_, playbook) in playbooks().iter().filter(|(_, playbook)| preserves(*playbook)) {
            let case = Case::new(&security, playbook, &worlds(playbook).await.least).await.unwrap();
            // The set is made, and its locks are refused: the schedule goes on when the volume is there.
            case.faults.rule(|request| (request.operation == "LockSnapshot").then_some(Fault::ServerError));
            case.deliver().await.answer().unwrap();
            alter(&case).await.unwrap();
            case.faults.mend();
            case.settle().await.unwrap();
            let run = case.the_run().await.unwrap();
            assert_eq!(run.end.map(|end| (end.outcome, end.not_done)), Some((done(*playbook), vec![])));
            is_so(&case).await.unwrap();
        }
    });
}
