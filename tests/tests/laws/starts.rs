//! Undo from any start: worlds made at random within what each action is for, contained or fixed, and undone. The state
//! after is held against the state before, field by field, by the client that is not Firebreak's. An action that no world
//! can be made for fails here.
//!
//! `FIREBREAK_START_CASES=40 cargo test --workspace --test laws starts` tries so many worlds for each action.

mod worlds;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use firebreak::ledger::decisions::Verb;
use firebreak::playbook::Playbook as _;
use firebreak::run::{Outcome, RunState, UndoResult};
use firebreak_tests::in_process::{Case, Permits, Security, Settings, Traced, playbooks};
use firebreak_tests::spoil::runner;
use proptest::prelude::*;
use proptest::test_runner::TestError;
use serde_json::Value;

use crate::support::{done, is_restored, is_so, results, try_each};
use worlds::worlds_for;

const CASES: &str = "FIREBREAK_START_CASES";

/// How many worlds are tried for each action without being asked.
const SHORT: u32 = 1;

/// A world that fails is made smaller by so many attempts at most.
const SHRINKS: u32 = 60;

/// Each action, with a playbook that has it: in turn, where several have.
fn actions() -> Vec<(&'static str, &'static Traced)> {
    let mut users: BTreeMap<&str, Vec<&'static Traced>> = BTreeMap::new();
    for (_, playbook) in playbooks() {
        for action in playbook.actions() {
            users.entry(action.name()).or_default().push(playbook);
        }
    }
    users.into_iter().enumerate().map(|(n, (action, of))| (action, of[n % of.len()])).collect()
}

#[test]
fn there_are_worlds_for_each_action() {
    for (action, _) in actions() {
        assert!(worlds_for(action).is_ok(), "{action}");
    }
    assert!(worlds_for("ec2.no-such-action").is_err());
}

#[test]
fn undo_gives_back_what_was_there_wherever_an_action_starts() {
    try_each(
        actions(),
        async || Security::fresh(Permits::Everything).await,
        |runtime, security, (action, playbook)| try_action(runtime, security, action, playbook),
    );
}

fn try_action(
    runtime: &tokio::runtime::Runtime,
    security: &Arc<Security>,
    action: &'static str,
    playbook: &'static Traced,
) -> Result<(), String> {
    let begun = std::time::Instant::now();
    let file = format!("{}/regressions/start-{action}.txt", env!("CARGO_MANIFEST_DIR"));
    let mut runner = runner(CASES, SHORT, file.leak(), SHRINKS);
    let worlds = worlds_for(action).map_err(|error| format!("{error:#}"))?;
    let result = runner.run(&worlds, |world| {
        let there_and_back = there_and_back(security, playbook, action, &world);
        runtime.block_on(there_and_back).map_err(|why| TestCaseError::fail(format!("{why:#}")))
    });
    let seconds = begun.elapsed().as_secs_f64();
    println!("{action} ({}): {} worlds in {seconds:.1} s", playbook.id(), runner.config().cases);
    match result {
        Ok(()) => Ok(()),
        Err(TestError::Fail(why, world)) => Err(format!("{action} ({}): {why}\n{world}", playbook.id())),
        Err(error) => Err(format!("{action} ({}): {error}", playbook.id())),
    }
}

async fn there_and_back(
    security: &Arc<Security>,
    playbook: &'static Traced,
    action: &str,
    world: &Value,
) -> Result<()> {
    let case = Case::of(security, playbook, world, Settings::default()).await?;
    let before = case.state().await?;
    let mut answer = case.deliver().await.answer()?;
    if answer.outcomes.iter().any(|answered| answered.outcome == Outcome::Proposed) {
        answer = case.decide(Verb::Approve).await?.answer()?;
    }
    let run = case.the_run().await.with_context(|| format!("{:?}", answer.outcomes))?;
    let its = run.all_steps().find(|step| step.action == action);
    ensure!(its.is_some(), "no step is of the action: {:?}", run.all_steps().map(|step| &step.id).collect::<Vec<_>>());
    case.settle().await?;
    let run = case.the_run().await?;
    let outcome = run.end.as_ref().map(|end| end.outcome);
    ensure!(run.state == RunState::Held && outcome == Some(done(playbook)), "{outcome:?}: {}", results(&run));
    is_so(&case).await?;
    case.decide(Verb::Undo).await?.answer()?;
    case.settle().await?;
    let run = case.the_run().await?;
    ensure!(run.state == RunState::Released, "{:?}: {:?}", run.state, run.undone);
    if let Some((step, record)) = run
        .undone
        .iter()
        .find(|(_, record)| matches!(record.result, UndoResult::Conflict { .. } | UndoResult::Failed { .. }))
    {
        bail!("{step}: {:?}", record.result);
    }
    is_restored(&case, &before, &run).await
}
