//! Decisions: each is carried out once, as it was made, in its time, and by nobody who could have made it himself.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firebreak::ledger::Budget;
use firebreak::ledger::decisions::{Decision, Verb};
use firebreak::run::{Outcome, Run, RunEnd, RunState};
use firebreak_tests::in_process::{Case, Permits, REGION, Security, playbooks, run_to_end};
use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::{all, done, in_turn, is_so, named, worlds};

/// More than a decision's ten minutes.
const AN_HOUR: Duration = Duration::from_secs(3600);

const BUDGET: Budget = Budget { account_per_hour: 9, total_per_hour: 9 };

/// The event that follows a decision.
fn event(case: &Case, decision: &Decision) -> Vec<u8> {
    let event = json!({
        "source": "firebreak", "detail-type": "Firebreak Decision", "account": case.security.account,
        "detail": {"id": decision.id},
    });
    event.to_string().into_bytes()
}

/// A decision about the case's run, written as a person's command writes it.
async fn decided(case: &Case, verb: Verb, at: Timestamp) -> Result<Decision> {
    let decision = Decision::new(&case.the_run().await?, verb, "arn:aws:sts::111111111111:assumed-role/people/ann", at);
    case.security.ledger()?.decide(&decision).await?;
    Ok(decision)
}

/// The decision's row, as the independent client reads it.
async fn row(case: &Case, decision: &Decision) -> Result<Value> {
    let params = json!({
        "TableName": case.hub.config.decisions_table, "Key": {"id": {"S": decision.id}}, "ConsistentRead": true,
    });
    let got = case.security.observer.call(&case.security.account, REGION, "dynamodb", "get_item", params).await?;
    Ok(got["Item"].clone())
}

/// The one outcome of delivering a decision, and why.
async fn outcome(case: &Case, decision: &Decision) -> Result<(Outcome, String)> {
    let answer = case.deliver_bytes(&event(case, decision)).await.answer()?;
    let answered = answer.outcomes.first().context("no outcome")?;
    Ok((answered.outcome, answered.why.clone()))
}

async fn proposed(case: &Case) -> Result<Run> {
    case.deliver().await.answer()?;
    let run = case.the_run().await?;
    ensure!(run.state == RunState::Proposed, "{:?}", run.state);
    Ok(run)
}

#[test]
fn a_decision_is_used_once_and_its_row_is_never_written() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Default).await.unwrap();
        let mut cases = Vec::new();
        for (_, playbook) in playbooks() {
            let security = &security;
            cases.push(named(playbook.id(), async move {
                let case = Case::new(security, playbook, &worlds(playbook).await.least).await?;
                proposed(&case).await?;
                for (verb, wanted) in [(Verb::Approve, done(*playbook)), (Verb::Undo, Outcome::Undone)] {
                    let decision = decided(&case, verb, Timestamp::now()).await?;
                    let written = row(&case, &decision).await?;
                    let (first, why) = outcome(&case, &decision).await?;
                    ensure!(first == wanted, "{first}: {why}");
                    let state = case.state().await?;
                    let (again, why) = outcome(&case, &decision).await?;
                    ensure!(again == Outcome::Refused && why.contains("was used before"), "{again}: {why}");
                    ensure!(case.state().await? == state, "the second use changed something");
                    ensure!(row(&case, &decision).await? == written, "the decision's row was written");
                    ensure!(security.ledger()?.decision(&decision.id).await?.is_some_and(|d| d.used), "not marked");
                }
                Ok(())
            }));
        }
        all("a decision is used once", cases).await;
    });
}

/// Four decisions at once.
const DECISIONS: &[[Verb; 4]] = &[[Verb::Approve; 4], [Verb::Approve, Verb::Reject, Verb::Approve, Verb::Reject]];

#[test]
fn of_a_decision_delivered_many_times_at_once_one_is_carried_out() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Default).await.unwrap();
        let mut cases = Vec::new();
        for (playbook, verbs) in in_turn(DECISIONS) {
            let security = &security;
            let same = verbs.iter().all(|verb| *verb == Verb::Approve);
            let name = if same { "the same four times" } else { "four different ones" };
            cases.push(named(format!("{}: {name}", playbook.id()), async move {
                let case = Case::new(security, playbook, &worlds(playbook).await.least).await?;
                proposed(&case).await?;
                let mut events = Vec::new();
                for verb in verbs {
                    if events.is_empty() || !same {
                        events.push(event(&case, &decided(&case, *verb, Timestamp::now()).await?));
                    } else {
                        events.extend(events.first().cloned());
                    }
                }
                let processes: Vec<_> = events.iter().map(|_| case.another_process()).collect::<Result<_>>()?;
                let deliveries = processes.iter().zip(&events).map(|((hub, _), bytes)| async move {
                    hub.receive(bytes, std::time::Instant::now() + case.settings.time).await
                });
                let mut carried = Vec::new();
                for answer in join_all(deliveries).await {
                    let answer = answer.map_err(|failure| anyhow::anyhow!("{}", failure.brief()))?;
                    let outcomes = answer.outcomes.into_iter().map(|answered| answered.outcome);
                    carried.extend(outcomes.filter(|outcome| *outcome != Outcome::Refused));
                }
                let [one] = carried.as_slice() else { anyhow::bail!("carried out: {carried:?}") };
                let run = case.the_run().await?;
                if *one == Outcome::Rejected {
                    ensure!(run.state == RunState::Rejected, "{:?}", run.state);
                } else {
                    ensure!(*one == done(playbook) && run.state == RunState::Held, "{one}, {:?}", run.state);
                    is_so(&case).await?;
                }
                Ok(())
            }));
        }
        all("one of many is carried out", cases).await;
    });
}

#[test]
fn a_decision_that_has_lapsed_is_not_carried_out() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Default).await.unwrap();
        let (_, playbook) = playbooks()[0];
        let case = Case::new(&security, playbook, &worlds(playbook).await.least).await.unwrap();
        let run = proposed(&case).await.unwrap();
        let before = case.state().await.unwrap();
        let old = decided(&case, Verb::Approve, Timestamp::now() - AN_HOUR).await.unwrap();
        let (refused, why) = outcome(&case, &old).await.unwrap();
        assert!(refused == Outcome::Refused && why.contains("has lapsed"), "{refused}: {why}");
        // One that lapses between the look at it and its use.
        let ledger = security.ledger().unwrap();
        let later = Timestamp::now() + AN_HOUR;
        for verb in [Verb::Approve, Verb::Reject] {
            let decision = decided(&case, verb, Timestamp::now()).await.unwrap();
            let used = match verb {
                Verb::Reject => ledger
                    .reject(&decision, &run, Some(&RunEnd::rejected("rejected by ann".to_owned(), later)), later)
                    .await
                    .unwrap(),
                _ => ledger.approve(&decision, &run, BUDGET, later).await.unwrap().is_some(),
            };
            assert!(!used, "{verb:?}");
            assert!(!ledger.decision(&decision.id).await.unwrap().unwrap().used, "what came to nothing is not used");
        }
        assert_eq!(case.the_run().await.unwrap().state, RunState::Proposed);
        assert_eq!(case.state().await.unwrap(), before);
    });
}

#[test]
fn a_decision_is_carried_out_as_it_was_made_or_not_at_all() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Default).await.unwrap();
        let (_, playbook) = playbooks()[0];
        let case = Case::new(&security, playbook, &worlds(playbook).await.least).await.unwrap();
        let run = proposed(&case).await.unwrap();
        let ledger = security.ledger().unwrap();
        let decision = decided(&case, Verb::Approve, Timestamp::now()).await.unwrap();
        // What the function holds in its hand is not what the table says: each field by itself.
        let other = Decision::new(&run, Verb::Reject, "somebody else", Timestamp::now());
        let altered = [
            Decision { verb: other.verb, ..decision.clone() },
            Decision { by: other.by.clone(), ..decision.clone() },
            Decision { run: firebreak::ids::RunId::new(), ..decision.clone() },
            Decision { plan_hash: "another plan".to_owned(), ..decision.clone() },
            Decision { id: other.id.clone(), ..decision.clone() },
        ];
        for altered in altered {
            let used = ledger.approve(&altered, &run, BUDGET, Timestamp::now()).await.unwrap();
            assert!(used.is_none(), "{altered:?}");
        }
        assert_eq!(case.the_run().await.unwrap().state, RunState::Proposed);
        let (approved, why) = outcome(&case, &decision).await.unwrap();
        assert_eq!(approved, done(playbook), "{why}");
    });
}
