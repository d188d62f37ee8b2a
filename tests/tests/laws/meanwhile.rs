//! What the target gets while Firebreak is at work on it.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use firebreak::ledger::decisions::Verb;
use firebreak::plan::StepId;
use firebreak::run::{Outcome, Run, RunState};
use firebreak_tests::faults::{Doing, Fault, Meanwhile, Moment, Request};
use firebreak_tests::in_process::{Case, Delivered, Permits, Security, Traced, playbooks, run_to_end};
use serde_json::Value;

use crate::facts::{has_parts, holds, more, open, with_more};
use crate::support::{Named, all, contains, done, is_restored, named, results, worlds};

/// A case, the state before it, and one more thing for the target, which somebody gives to it at the first request that
/// changes something for a step that `which` names.
struct Growing {
    case: Case,
    before: Value,
    id: String,
    happens: Meanwhile,
}

/// Somebody gives the target more at the first cut.
async fn at_the_first_cut(security: &Arc<Security>, playbook: &'static Traced) -> Result<Growing> {
    let case = Case::new(security, playbook, &worlds(playbook).await.least).await?;
    let more = more(&case).await?;
    let before = case.state().await?;
    let cuts: BTreeSet<StepId> =
        case.the_plan().await?.steps().filter(|step| step.cuts && step.leave.is_none()).map(|s| s.id.clone()).collect();
    let is_cut = move |request: &Request| {
        matches!(&request.doing, Doing::Applying(step) if cuts.contains(step)) && !request.reads()
    };
    let happens = case.faults.meanwhile(Moment::Before, is_cut, more.give);
    Ok(Growing { case, before, id: more.id, happens })
}

/// It was taken too, by steps that were journaled before they were applied, and undo gives it back like the rest.
async fn is_taken_too(case: &Case, before: &Value, id: &str) -> Result<()> {
    let run: Run = case.the_run().await?;
    let outcome = run.end.as_ref().map(|end| end.outcome);
    ensure!(outcome == Some(done(case.playbook)), "{outcome:?}: {}", results(&run));
    let contained = case.state().await?;
    holds(case, &contained)?;
    let added = run.added.iter().flat_map(|stage| &stage.steps).any(|step| step.id.0.contains(id));
    ensure!(added, "no step was added for {id}: {:?}", run.added);
    let before = with_more(case, before, id, &contained)?;
    case.settle().await?;
    let answer = case.decide(Verb::Undo).await?.answer()?;
    ensure!(answer.outcomes.iter().all(|o| o.outcome == Outcome::Undone), "{:?}", answer.outcomes);
    is_restored(case, &before, &case.the_run().await?).await
}

#[test]
fn what_the_target_gets_while_it_is_cut_is_cut_too() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let mut cases: Vec<Named<'_>> = Vec::new();
        for (_, playbook) in playbooks().iter().filter(|(_, playbook)| contains(*playbook) && has_parts(*playbook)) {
            let security = &security;
            cases.push(named(playbook.id(), async move {
                let Growing { case, before, id, happens } = at_the_first_cut(security, playbook).await?;
                case.deliver().await.answer()?;
                happens.happened()?;
                is_taken_too(&case, &before, &id).await
            }));
            for fault in [Fault::DiesBefore, Fault::DiesAfter] {
                cases.push(named(format!("{}, {fault:?} journaling it", playbook.id()), async move {
                    let Growing { mut case, before, id, happens } = at_the_first_cut(security, playbook).await?;
                    let adds = |request: &Request| request.body.contains("added = list_append");
                    case.faults.once(fault, adds);
                    let delivered = case.deliver().await;
                    ensure!(matches!(delivered, Delivered::Died), "nobody died: {delivered:?}");
                    happens.happened()?;
                    let now = open(&case, &case.state().await?)?;
                    ensure!(now.keys().eq([&id]), "cut before it was journaled, or not all else: {now:?}");
                    case.restart()?;
                    case.deliver().await.answer()?;
                    case.settle().await?;
                    is_taken_too(&case, &before, &id).await
                }));
            }
        }
        all("what the target gets while it is cut", cases).await;
    });
}

#[test]
fn what_the_target_gets_while_it_is_given_back_stays_as_it_is() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let mut cases: Vec<Named<'_>> = Vec::new();
        for (_, playbook) in playbooks().iter().filter(|(_, playbook)| contains(*playbook) && has_parts(*playbook)) {
            let security = &security;
            cases.push(named(playbook.id(), async move {
                let case = Case::new(security, playbook, &worlds(playbook).await.least).await?;
                let more = more(&case).await?;
                let before = case.state().await?;
                case.deliver().await.answer()?;
                case.settle().await?;
                let undoes = |request: &Request| matches!(request.doing, Doing::Undoing(_)) && !request.reads();
                let happens = case.faults.meanwhile(Moment::Before, undoes, more.give);
                let answer = case.decide(Verb::Undo).await?.answer()?;
                happens.happened()?;
                ensure!(answer.outcomes.iter().all(|o| o.outcome == Outcome::Undone), "{:?}", answer.outcomes);
                let run = case.the_run().await?;
                ensure!(run.state == RunState::Released, "{:?}", run.state);
                let of_it = run.all_steps().find(|step| step.id.0.contains(&more.id));
                ensure!(of_it.is_none(), "{:?}", of_it.context("a step")?.id);
                let before = with_more(&case, &before, &more.id, &case.state().await?)?;
                is_restored(&case, &before, &run).await
            }));
        }
        all("what the target gets while it is given back", cases).await;
    });
}
