//! The stop switch: while everything is stopped nothing is changed but by a person's undo, people are told of what is not
//! done, and what was begun waits until it is taken back.

use anyhow::{Context, ensure};
use firebreak::ledger::decisions::Verb;
use firebreak::run::{Outcome, RunState};
use firebreak_tests::faults::{Doing, Fault, Place};
use firebreak_tests::in_process::{Case, Permits, Security, playbooks, run_to_end};
use jiff::Timestamp;
use serde_json::json;

use crate::support::{all, done, in_turn, is_restored, is_so, named, worlds};

const ANN: &str = "arn:aws:iam::111111111111:user/ann";

async fn stop(security: &Security, stop: bool) {
    security.ledger().unwrap().set_stopped(stop, ANN, "it isolates the build farm", Timestamp::now()).await.unwrap();
}

/// Whether a case's member account was asked for any change.
fn changes(case: &Case) -> Vec<String> {
    let requests = case.faults.requests();
    let changing = requests.iter().filter(|request| request.place == Place::Member && !request.reads());
    changing.map(|request| request.name()).collect()
}

#[test]
fn while_everything_is_stopped_findings_are_observed_and_people_are_told() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Everything).await.unwrap();
        stop(&security, true).await;
        let mut cases = Vec::new();
        for (_, playbook) in playbooks() {
            cases.push(Case::new(&security, playbook, &worlds(playbook).await.least).await.unwrap());
        }
        let stopped = cases.iter().map(|case| {
            named(case.playbook.id(), async move {
                let before = case.state().await?;
                let answer = case.deliver().await.answer()?;
                let outcomes: Vec<Outcome> = answer.outcomes.iter().map(|answered| answered.outcome).collect();
                ensure!(outcomes == [Outcome::Observed], "{outcomes:?}");
                ensure!(changes(case).is_empty(), "{:?}", changes(case));
                ensure!(case.state().await? == before, "something was changed");
                let run = case.the_run().await?;
                let told = case.security.told_about(run.head.id.as_str()).await?;
                let [text] = &told[..] else { anyhow::bail!("told {} times", told.len()) };
                ensure!(text.starts_with("NOTHING DONE, STOPPED"), "{text}");
                ensure!(text.contains("stopped by ann") && text.contains("it isolates the build farm"), "{text}");
                // The same again is no news.
                case.deliver().await.answer()?;
                ensure!(case.security.told_about(run.head.id.as_str()).await?.len() == 1, "told again");
                ensure!(changes(case).is_empty(), "{:?}", changes(case));
                Ok(())
            })
        });
        all("stopped, it observes", stopped.collect()).await;
        stop(&security, false).await;
        let resumed = cases.iter().map(|case| {
            named(case.playbook.id(), async move {
                let answer = case.deliver().await.answer()?;
                let wanted = done(case.playbook);
                ensure!(answer.outcomes.iter().all(|o| o.outcome == wanted), "{:?}", answer.outcomes);
                is_so(case).await
            })
        });
        all("resumed, a repeat is answered", resumed.collect()).await;
    });
}

/// What a person says while everything is stopped.
const SAID: [Verb; 3] = [Verb::Undo, Verb::Approve, Verb::Retry];

#[test]
fn while_everything_is_stopped_a_person_can_undo_and_nothing_else_that_changes() {
    run_to_end(|| async {
        let mut cases = Vec::new();
        for (playbook, verb) in in_turn(&SAID) {
            cases.push(named(format!("{}: {}", playbook.id(), verb.as_str()), async move {
                let permits = if *verb == Verb::Approve { Permits::Default } else { Permits::Everything };
                let security = Security::fresh(permits).await?;
                let mut case = Case::new(&security, playbook, &worlds(playbook).await.least).await?;
                let before = case.state().await?;
                case.deliver().await.answer()?;
                let held = case.state().await?;
                stop(&security, true).await;
                case.restart()?;
                let answer = case.decide(*verb).await?.answer()?;
                let outcomes: Vec<Outcome> = answer.outcomes.iter().map(|answered| answered.outcome).collect();
                if *verb == Verb::Undo {
                    ensure!(outcomes == [Outcome::Undone], "{outcomes:?}");
                    return is_restored(&case, &before, &case.the_run().await?).await;
                }
                ensure!(outcomes == [Outcome::Refused], "{outcomes:?}");
                ensure!(answer.outcomes[0].why.contains("Firebreak is stopped by ann"), "{}", answer.outcomes[0].why);
                ensure!(changes(&case).is_empty(), "{:?}", changes(&case));
                ensure!(case.state().await? == held, "something was changed");
                Ok(())
            }));
        }
        all("stopped, a person undoes", cases).await;
    });
}

#[test]
fn what_was_interrupted_or_failed_waits_until_the_stop_is_taken_back() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Everything).await.unwrap();
        let mut cases = Vec::new();
        for (_, playbook) in playbooks() {
            let mut case = Case::new(&security, playbook, &worlds(playbook).await.least).await.unwrap();
            // The process ends at the first change.
            case.faults.rule(|request| {
                let its = request.place == Place::Member && matches!(request.doing, Doing::Applying(_));
                (its && !request.reads()).then_some(Fault::DiesBefore)
            });
            let _ = case.deliver().await;
            case.restart().unwrap();
            cases.push(case);
        }
        stop(&security, true).await;
        let waiting = cases.iter().map(|case| {
            named(case.playbook.id(), async move {
                let run = case.the_run().await?;
                ensure!(run.state == RunState::Applying, "it was not interrupted: {:?}", run.state);
                let due = case.due().await?;
                case.let_time_pass().await?;
                case.tick().await.answer()?;
                case.tick().await.answer()?;
                ensure!(changes(case).is_empty(), "{:?}", changes(case));
                ensure!(case.due().await?.len() == due.len(), "its rows went");
                Ok(())
            })
        });
        all("stopped, what was begun waits", waiting.collect()).await;
        stop(&security, false).await;
        let resumed = cases.iter().map(|case| {
            named(case.playbook.id(), async move {
                case.settle().await?;
                let run = case.the_run().await?;
                let end = run.end.as_ref().context("it has no end")?;
                ensure!(end.outcome == done(case.playbook), "{}", end.outcome);
                is_so(case).await
            })
        });
        all("resumed, what was begun is ended", resumed.collect()).await;
    });
}

#[test]
fn where_the_switch_cannot_be_read_nothing_is_changed() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Everything).await.unwrap();
        let mut cases = Vec::new();
        for (playbook, ()) in in_turn(&[()]) {
            let security = &security;
            cases.push(named(playbook.id(), async move {
                let case = Case::new(security, playbook, &worlds(playbook).await.least).await?;
                let before = case.state().await?;
                case.faults.rule(|request| {
                    let switch = request.service == "dynamodb" && request.body.contains(firebreak::ledger::STOP);
                    switch.then_some(Fault::ServerError)
                });
                ensure!(case.deliver().await.answer().is_err(), "it was answered");
                ensure!(changes(&case).is_empty(), "{:?}", changes(&case));
                ensure!(case.state().await? == before, "something was changed");
                Ok(())
            }));
        }
        all("the switch unread, nothing is changed", cases).await;
        let row = json!({"TableName": security.config().unwrap().decisions_table, "Key": {"id": {"S": "STOP#all"}}});
        let read = security.call("dynamodb", "get_item", row).await.unwrap();
        assert!(read["Item"].is_null(), "nobody had stopped anything: {read}");
    });
}
