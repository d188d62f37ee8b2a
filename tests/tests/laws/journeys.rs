//! From a finding to containment and back, for every playbook over every world: what each law says of a run in
//! which nothing fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use firebreak::action::{Applied, Boxed, Context as ActionContext, Undone};
use firebreak::engine::Sessions;
use firebreak::ids::RunId;
use firebreak::ledger::decisions::Verb;
use firebreak::plan::{Leave, Plan, Step, StepId, Undo};
use firebreak::playbook::{Planned, Playbook};
use firebreak::requests::AwsRequest;
use firebreak::run::{Outcome, Run, RunState};
use firebreak_tests::faults::{Doing, Place, Request};
use firebreak_tests::in_process::{Case, Permits, Security, Settings, Traced, playbooks, run_to_end, worlds_of};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::facts::holds;
use crate::permissions::iam_actions;
use crate::support::{check_declared, done, fixes, is_instant, is_restored, results, worlds};

/// In the place of a world: what was found by a rule of AWS Config, in the largest.
pub const BY_CONFIG: &str = "by AWS Config";

/// What the journeys have shown besides: every request that was made, and which actions were reached.
#[derive(Debug, Default)]
pub struct Seen {
    /// Requests by playbook.
    pub requests: BTreeMap<&'static str, Vec<Request>>,
    /// The session policies that were given, by access key.
    pub sessions: BTreeMap<String, String>,
    /// The worlds in which a playbook has used an IAM action in a member account.
    pub used: BTreeMap<(&'static str, String), BTreeSet<String>>,
    /// The actions that plans held, by playbook.
    pub planned: BTreeMap<&'static str, BTreeSet<String>>,
    failures: Vec<String>,
    count: usize,
}

/// The journeys, made once for all tests that look at them.
pub async fn seen() -> &'static Seen {
    static SEEN: OnceCell<Seen> = OnceCell::const_new();
    SEEN.get_or_init(make).await
}

async fn make() -> Seen {
    let shared = Arc::new(Mutex::new(Seen::default()));
    // One of each on both servers, which share the worlds.
    let laxest = [Laxest::fresh().await.unwrap(), Laxest::fresh().await.unwrap()];
    let enforce = Security::fresh(Permits::Enforce).await.unwrap();
    let mut journeys = Vec::new();
    for (_, playbook) in playbooks() {
        for (index, world) in worlds_of(*playbook).unwrap().into_iter().enumerate() {
            let laxest = &laxest[index % laxest.len()];
            for (security, stricter, name) in
                [(&laxest.everything, Some(&laxest.stricter), "everything"), (&enforce, None, "enforce")]
            {
                // Without leaves the plans are the same but for the steps that want one.
                if name == "enforce" && world != worlds(playbook).await.largest {
                    continue;
                }
                let label = format!("{} {world}, {name}", playbook.id());
                let (security, seen, world) = (Arc::clone(security), Arc::clone(&shared), world.clone());
                journeys.push(Box::pin(async move {
                    let result = journey(&security, stricter, playbook, &world, &seen).await;
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.count += 1;
                    if let Err(error) = result {
                        seen.failures.push(format!("{label}: {error:#}"));
                    }
                }) as Boxed<'_, ()>);
            }
        }
    }
    // What AWS Config finds is asked of Config.
    for (_, playbook) in playbooks().iter().filter(|(_, playbook)| fixes(*playbook)) {
        let (security, seen) = (Arc::clone(&enforce), Arc::clone(&shared));
        journeys.push(Box::pin(async move {
            let result = by_config(&security, playbook, &seen).await;
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.count += 1;
            if let Err(error) = result {
                seen.failures.push(format!("{}, by AWS Config: {error:#}", playbook.id()));
            }
        }) as Boxed<'_, ()>);
    }
    use futures_util::StreamExt;
    let begun = std::time::Instant::now();
    futures_util::stream::iter(journeys).buffer_unordered(crate::support::SIDE_BY_SIDE).collect::<Vec<()>>().await;
    let seen = std::mem::take(&mut *shared.lock().unwrap());
    println!("journeys: {} in {:.1} s", seen.count, begun.elapsed().as_secs_f64());
    seen
}

fn note(case: &Case, world: &str, seen: &Mutex<Seen>) {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    for request in case.faults.requests().iter().filter(|request| request.place == Place::Member) {
        for action in iam_actions(request) {
            seen.used.entry((case.playbook.id(), action)).or_default().insert(world.to_owned());
        }
    }
    seen.requests.entry(case.playbook.id()).or_default().extend(case.faults.requests());
    seen.sessions.extend(case.faults.sessions());
}

/// Requests in the member account that change something.
fn changing(case: &Case, since: usize) -> Vec<String> {
    let requests = case.faults.requests();
    requests.iter().skip(since).filter(|r| r.place == Place::Member && !r.reads()).map(Request::name).collect()
}

/// A security account whose policies permit everything, and beside it those that do not enforce.
struct Laxest {
    everything: Arc<Security>,
    stricter: Stricter,
}

/// Security accounts whose policies do not enforce.
struct Stricter {
    default: Arc<Security>,
    observe: Arc<Security>,
}

impl Laxest {
    async fn fresh() -> Result<Self> {
        let everything = Security::fresh(Permits::Everything).await?;
        let (default, observe) =
            tokio::try_join!(everything.beside(Permits::Default), everything.beside(Permits::Observe))?;
        Ok(Self { everything, stricter: Stricter { default, observe } })
    }
}

/// Observe and propose plan by the same code, record the plan, and change nothing in the account.
async fn stricter_modes_change_nothing(
    case: &Case,
    world: &str,
    planned: &Planned,
    before: &Value,
    stricter: &Stricter,
    seen: &Mutex<Seen>,
) -> Result<()> {
    for (security, wanted, state) in [
        (&stricter.default, Outcome::Proposed, RunState::Proposed),
        (&stricter.observe, Outcome::Observed, RunState::Observed),
    ] {
        let other =
            Case::about(security, case.playbook, case.member.clone(), case.ids.clone(), Settings::default()).await?;
        let answer = other.deliver().await.answer()?;
        note(&other, world, seen);
        let target = case.target.to_string();
        let its: Vec<_> = answer.outcomes.iter().filter(|o| o.target.as_deref() == Some(&target)).collect();
        let [answered] = its.as_slice() else { anyhow::bail!("{wanted}: {:?}", answer.outcomes) };
        let Planned::Plan(plan) = planned else {
            let nothing = matches!(answered.outcome, Outcome::Gone | Outcome::Refused);
            ensure!(nothing, "{wanted}: nothing is to be done, and it is {}", answered.outcome);
            continue;
        };
        if wanted == Outcome::Observed && plan.steps().all(|step| step.leave.is_some()) {
            ensure!(answered.outcome == Outcome::Refused, "nothing has leave, and it is {}", answered.outcome);
            continue;
        }
        ensure!(answered.outcome == wanted, "{wanted} is {}: {}", answered.outcome, answered.why);
        let run = answered.run.as_ref().with_context(|| format!("{wanted}: there is no run"))?;
        let run = security.ledger()?.run(run).await?.with_context(|| format!("{wanted}: the run is not kept"))?;
        ensure!(run.state == state, "{wanted}: the run is {:?}", run.state);
        ensure!(run.steps.is_empty() && run.added.is_empty(), "{wanted}: a step was tried: {:?}", run.steps);
        // These policies give no leave but the one that a person is asked about.
        let given = |step: &Step| step.leave.is_none_or(|leave| leave == Leave::RevokeEverySession);
        let ids = |plan: &Plan| -> Vec<StepId> {
            plan.steps().filter(|step| given(step)).map(|step| step.id.clone()).collect()
        };
        ensure!(ids(&run.head.plan) == ids(plan), "{wanted}: another plan: {:?}", ids(&run.head.plan));
        ensure!(run.head.plan.steps().all(given), "{wanted}: a step without leave is kept");
        ensure!(run.head.plan_hash == run.head.plan.hash(), "{wanted}: the hash is of another plan");
        let told = security.told_about(run.head.id.as_str()).await?;
        let expected = usize::from(wanted == Outcome::Proposed);
        ensure!(told.len() == expected, "{wanted}: people are told {told:?}");
        ensure!(changing(&other, 0).is_empty(), "{wanted} called {:?}", changing(&other, 0));
        // That a proposal lapses is told before it does.
        let due = other.due().await?;
        let reminders = due.iter().filter(|key| key.contains("#proposal-ends#")).count();
        let all = due.len() == reminders && (wanted == Outcome::Proposed) == (reminders > 0);
        ensure!(all, "{wanted}: something is due: {due:?}");
    }
    ensure!(case.state().await? == *before, "to observe or propose changed the state");
    Ok(())
}

/// The same found by a rule of AWS Config, which the account calls as it likes.
async fn by_config(security: &Arc<Security>, playbook: &'static Traced, seen: &Mutex<Seen>) -> Result<()> {
    let rules = playbook.meta().controls.iter().filter_map(|check| check.rule);
    let mut fixed = 0;
    for (rule, _) in rules {
        // The worlds are about some of the checks: of the others nothing is wrong there.
        let case = Case::new(security, playbook, &worlds(playbook).await.largest).await?;
        let event = case.found_by_config("our-own-name", rule).await?;
        let answer = case.deliver_event(&event).await.answer()?;
        note(&case, BY_CONFIG, seen);
        fixed += answer.outcomes.iter().filter(|o| o.outcome == done(playbook)).count();
        let done = |o: &firebreak::hub::Answered| o.outcome == done(playbook) || o.outcome == Outcome::NoChange;
        ensure!(!answer.outcomes.is_empty() && answer.outcomes.iter().all(done), "{rule}: {:?}", answer.outcomes);
        ensure!(answer.outcomes.iter().all(|o| o.playbook.as_deref() == Some(playbook.id())), "{:?}", answer.outcomes);
    }
    ensure!(fixed > 0, "nothing that AWS Config finds is fixed");
    Ok(())
}

async fn journey(
    security: &Arc<Security>,
    stricter: Option<&Stricter>,
    playbook: &'static Traced,
    world: &str,
    seen: &Mutex<Seen>,
) -> Result<()> {
    let mut case = Case::new(security, playbook, world).await?;
    let before = case.state().await?;

    // Plan: the same twice, and nothing but reads.
    let planned = case.plan().await?;
    let again = case.plan().await?;
    ensure!(changing(&case, 0).is_empty(), "planning called {:?}", changing(&case, 0));
    let as_wanted = matches!(&planned, Planned::Plan(plan) if plan.is_empty());
    let not_found = matches!(&planned, Planned::Gone(_)) && playbook.looks_up(&case.finding);
    if as_wanted || not_found {
        let answer = case.deliver().await.answer()?;
        ensure!(answer.outcomes.iter().all(|o| o.outcome == Outcome::NoChange), "{:?}", answer.outcomes);
        ensure!(changing(&case, 0).is_empty(), "nothing was to be done, and {:?}", changing(&case, 0));
        ensure!(case.state().await? == before, "nothing was to be done, and the state changed");
        ensure!(case.run().await?.is_none() && case.due().await?.is_empty(), "there is a run of nothing");
        ensure!(case.faults.told().is_empty(), "people are told of nothing: {:?}", case.faults.told());
        note(&case, world, seen);
        return Ok(());
    }
    if let Some(stricter) = stricter {
        stricter_modes_change_nothing(&case, world, &planned, &before, stricter, seen).await?;
    }
    let Planned::Plan(plan) = planned else {
        let answer = case.deliver().await.answer()?;
        let outcome = answer.outcomes.first().map(|o| o.outcome);
        ensure!(matches!(outcome, Some(Outcome::Gone | Outcome::Refused)), "{outcome:?}");
        ensure!(changing(&case, 0).is_empty(), "nothing was to be done, and {:?}", changing(&case, 0));
        ensure!(case.state().await? == before, "nothing was to be done, and the state changed");
        note(&case, world, seen);
        return Ok(());
    };
    let Planned::Plan(again) = again else { anyhow::bail!("the second plan is none") };
    ensure!(plan.hash() == again.hash(), "two plans of one world differ");
    {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let actions = plan.steps().map(|step| step.action.clone());
        seen.planned.entry(playbook.id()).or_default().extend(actions);
    }
    before_states_are_true(&case, &plan).await?;
    if !plan.ask_first.is_empty() {
        // A person is asked, whatever the policies permit.
        let answer = case.deliver().await.answer()?;
        ensure!(answer.outcomes.iter().all(|o| o.outcome == Outcome::Proposed), "{:?}", answer.outcomes);
        let target = case.target.to_string();
        let its: Vec<_> = answer.outcomes.iter().filter(|o| o.target.as_deref() == Some(&target)).collect();
        ensure!(its.len() == 1 && its.iter().all(|o| o.why == plan.ask_first[0]), "{:?}", answer.outcomes);
        ensure!(case.state().await? == before, "a proposal changed something");
        note(&case, world, seen);
        return Ok(());
    }

    // The whole loop.
    let from = case.faults.requests().len();
    let answer = case.deliver().await.answer()?;
    let run = case.the_run().await?;
    let outcome = answer.outcomes.first().map(|o| o.outcome);
    ensure!(outcome == Some(done(playbook)), "{outcome:?}\n{}", results(&run));
    ensure!(run.state == RunState::Held, "{:?}", run.state);
    let held = case.state().await?;
    holds(&case, &held)?;
    let made: Vec<_> = run.all_steps().map(|step| &step.action).collect();
    ensure!(made.len() == run.steps.len(), "a step has no entry in the journal");
    for request in case.faults.requests().iter().skip(from).filter(|r| r.place == Place::Member && !r.reads()) {
        ensure!(request.doing.step().is_some(), "{} changes something and belongs to no step", request.name());
    }

    requests_are_journaled(&case, from, &run, Doing::Applying, |step| run.requests(&step.id).to_vec())?;

    // Apply twice = apply once: through the loop, and action by action.
    let from = case.faults.requests().len();
    let answer = case.deliver().await.answer()?;
    ensure!(answer.outcomes.iter().all(|o| o.outcome == Outcome::NoChange), "{:?}", answer.outcomes);
    let steps: Vec<&Step> = run.all_steps().collect();
    let (target, groups) = (&run.head.target, case.groups().await?);
    let sessions = case.engine().writing(&run.head.id, &target.account, target.region.as_ref(), &steps, &groups).await;
    for step in run.all_steps().filter(|step| is_instant(step)) {
        let cx = taken_over(&sessions, &run, step)?;
        playbook.action(&step.action)?.holds(&cx, step).await.with_context(|| format!("read {} again", step.id))?;
    }
    for step in run.all_steps().filter(|step| !is_instant(step)) {
        let cx = taken_over(&sessions, &run, step)?;
        let applied = playbook.action(&step.action)?.apply(&cx, step, false).await;
        let twice = applied.with_context(|| format!("{} a second time", step.id))?;
        let same = match &twice {
            Applied::AlreadySo { .. } | Applied::Gone => true,
            // Refused by AWS again: nothing changed.
            Applied::Left(_) => run.result(&step.id).is_some_and(|r| r.name() == "left"),
            Applied::Changed { .. } => false,
        };
        ensure!(same, "{} a second time: {twice:?}", step.id);
    }
    ensure!(case.state().await? == held, "applying twice changed something");
    let harmless = |name: &String| run.steps.values().any(|r| r.result.name() == "left") && name.contains("Modify");
    let changed: Vec<String> = changing(&case, from).into_iter().filter(|name| !harmless(name)).collect();
    ensure!(changed.is_empty(), "applying twice called {changed:?}");

    // The schedule finds nothing left to do but what it must report.
    case.settle().await?;
    ensure!(case.state().await? == held, "the schedule changed something");

    // Undo: everything as it was, but for what is declared.
    let from = case.faults.requests().len();
    let answer = case.decide(Verb::Undo).await?.answer()?;
    let run = case.the_run().await?;
    let outcome = answer.outcomes.first().map(|o| o.outcome);
    let left = run.undone.values().any(|undone| !undone.result.is_clean());
    let expected = if left { Outcome::UndonePartly } else { Outcome::Undone };
    ensure!(outcome == Some(expected), "{outcome:?}: {:?}", run.undone);
    ensure!(run.state == RunState::Released, "{:?}", run.state);
    if left {
        let end = run.end.as_ref().context("the undo has no end")?;
        ensure!(!end.not_done.is_empty(), "something was left and is not named");
    }
    is_restored(&case, &before, &run).await?;
    requests_are_journaled(&case, from, &run, Doing::Undoing, |step| {
        run.undone.get(&step.id).map(|record| record.requests.clone()).unwrap_or_default()
    })?;

    // Undo twice = undo once.
    let undone = case.state().await?;
    let from = case.faults.requests().len();
    let answer = case.decide(Verb::Undo).await?.answer()?;
    ensure!(answer.outcomes.iter().all(|o| o.outcome == Outcome::Refused), "{:?}", answer.outcomes);
    for step in run.all_steps().rev() {
        let cx = taken_over(&sessions, &run, step)?;
        let action = playbook.action(&step.action)?;
        let twice = action.undo(&cx, step).await.with_context(|| format!("undo {} again", step.id))?;
        let never = matches!(action.undo_kind(), Undo::Never { .. });
        let same = match &twice {
            Undone::AlreadySo | Undone::Gone => !never,
            Undone::Left(_) => never || run.undo_result(&step.id).is_some_and(|r| !r.is_clean()),
            Undone::Restored | Undone::Conflict(_) => false,
        };
        ensure!(same, "undo {} again: {twice:?}", step.id);
    }
    ensure!(changing(&case, from).is_empty(), "undoing twice called {:?}", changing(&case, from));
    ensure!(case.state().await? == undone, "undoing twice changed something");
    case.settle().await?;
    ensure!(case.due().await?.is_empty(), "something stays due for ever: {:?}", case.due().await?);
    note(&case, world, seen);
    case.restart()?;
    Ok(())
}

/// The journal holds, step by step, the ids by which AWS has answered the calls that changed something.
fn requests_are_journaled(
    case: &Case,
    since: usize,
    run: &Run,
    doing: fn(StepId) -> Doing,
    journaled: impl Fn(&Step) -> Vec<AwsRequest>,
) -> Result<()> {
    let requests = case.faults.requests();
    for step in run.all_steps() {
        let its = doing(step.id.clone());
        let made = requests.iter().skip(since).filter(|request| request.doing == its && !request.reads());
        let made: Vec<AwsRequest> = made
            .map(|request| {
                let request_id = request.answered.clone().context("the emulator names no request id")?;
                Ok(AwsRequest { operation: request.operation.clone(), request_id })
            })
            .collect::<Result<_>>()?;
        let entered = journaled(step);
        ensure!(entered == made, "{}: made {made:?}, in the journal {entered:?}", step.id);
        let changed = run.undone.is_empty() && run.result(&step.id).is_some_and(|result| result.name() == "changed");
        ensure!(!changed || !made.is_empty(), "{} changed something without a call", step.id);
    }
    Ok(())
}

/// As whoever takes a run over has it: what the run has made is found by its name.
fn taken_over<'a>(sessions: &'a Sessions, run: &'a Run, step: &Step) -> Result<ActionContext<'a>> {
    Ok(ActionContext { aws: sessions.of(&step.id)?, run: &run.head.id, made: &[], snapshots: BTreeMap::new() })
}

/// What a plan says of the world is what each action reads there.
async fn before_states_are_true(case: &Case, plan: &Plan) -> Result<()> {
    let run = RunId::new();
    let reading = case.reading(&run).await?;
    let cx = ActionContext { aws: &reading, run: &run, made: &[], snapshots: BTreeMap::new() };
    for step in plan.steps() {
        let action = case.playbook.action(&step.action)?;
        let never = matches!(action.undo_kind(), Undo::Never { .. });
        // The state before such a step is brought about by the plan's own earlier steps, and undo does not use it.
        if never && (is_instant(step) || !step.needs.is_empty()) {
            continue;
        }
        let read = action.read_state(&cx, step).await.with_context(|| format!("read {}", step.id))?;
        ensure!(read.as_ref() == Some(&step.before), "{}: the plan says {}, read is {read:?}", step.id, step.before);
    }
    Ok(())
}

#[test]
fn plans_read_runs_hold_and_undo_restores_over_every_world() {
    run_to_end(|| async {
        let seen = seen().await;
        let (failed, count) = (&seen.failures, seen.count);
        assert!(failed.is_empty(), "{} of {count} fail\n\n{}\n", failed.len(), failed.join("\n\n"));
        let most = playbooks().iter().map(|(_, playbook)| worlds_of(*playbook).unwrap().len()).sum::<usize>();
        assert!(count > most, "{count} journeys are too few");
    });
}

#[test]
fn every_action_is_reached_and_every_step_has_its_action() {
    run_to_end(|| async {
        let seen = seen().await;
        for (_, playbook) in playbooks() {
            let planned = seen.planned.get(playbook.id()).cloned().unwrap_or_default();
            let registered: BTreeSet<String> = playbook.actions().iter().map(|a| a.name().to_owned()).collect();
            let unreached: Vec<_> = registered.difference(&planned).collect();
            assert!(unreached.is_empty(), "{}: no plan over any world reaches {unreached:?}", playbook.id());
            let unknown: Vec<_> = planned.difference(&registered).collect();
            assert!(unknown.is_empty(), "{}: planned and not registered: {unknown:?}", playbook.id());
        }
    });
}

#[test]
fn what_undo_cannot_give_back_is_declared_where_it_is_checked() {
    for (_, playbook) in playbooks() {
        check_declared(playbook).unwrap();
    }
}
