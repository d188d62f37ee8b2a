//! What fails or hangs: containment goes on, says what it has not done, and converges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firebreak::failure::Class;
use firebreak::ledger::decisions::Verb;
use firebreak::plan::{BEFORE_THE_CUT, Step, Undo};
use firebreak::playbook::Playbook;
use firebreak::run::{Outcome, Run, RunState, StepResult};
use firebreak_tests::compare::{entries, list};
use firebreak_tests::emulator::world;
use firebreak_tests::faults::{Doing, Fault};
use firebreak_tests::in_process::{Case, Permits, Security, Settings, Traced, playbooks, run_to_end};

use crate::facts::{holds, is_about, is_so, open};
use crate::support::{
    SIDE_BY_SIDE, all, all_of, contains, dependents, done, ends_as_undisturbed, fixes, is_instant, is_restored,
    isolating, named, one_of_each, results, users_of_actions, worlds,
};

/// How the function is set up where calls are never answered: it waits for less, and for long enough that the cut goes
/// ahead of what hangs before it.
fn impatient(attempts: u32, attempt_timeout: Duration) -> Settings {
    Settings { attempt_timeout, attempts, ..Settings::default() }
}

// --- each step made to fail or hang ---

async fn one_step_fails(
    security: &Arc<Security>,
    playbook: &'static Traced,
    of: &str,
    fault: Fault,
    n: usize,
) -> Result<()> {
    let settings = match fault {
        // Longer than everything before the cut may take.
        Fault::Hangs => impatient(1, BEFORE_THE_CUT + Duration::from_millis(300)),
        _ => Settings::default(),
    };
    let case = Case::of(security, playbook, &world(of)?, settings).await?;
    let before = case.state().await?;
    let plan = case.the_plan().await?;
    let failing = plan.steps().nth(n).context("there is no such step")?.clone();
    let id = failing.id.clone();
    case.faults.rule(move |request| {
        let its = matches!(&request.doing, Doing::Applying(step) if *step == id) && !request.reads();
        its.then_some(fault)
    });
    let answer = case.deliver().await.answer()?;
    let run = case.the_run().await?;
    let said = || format!("{}: {}", failing.id, results(&run));

    // It is named and never said to be done, unless another step has brought the same about and it is so.
    let outcome = answer.outcomes.first().map(|o| o.outcome).context("no outcome")?;
    let end = run.end.as_ref().context("the run has no end")?;
    ensure!(end.outcome == outcome, "told {outcome}, wrote {}", end.outcome);
    let state = case.state().await?;
    let excused = dependents(&run, &failing.id);
    if outcome == done(playbook) {
        let good = run.result(&failing.id).is_some_and(StepResult::is_final);
        ensure!(good, "{outcome}, and the journal does not say that the step's state holds; {}", said());
        holds(&case, &state).with_context(said)?;
    } else {
        if fixes(playbook) {
            // Half a fix helps nobody: what it had changed was put back.
            ensure!(outcome == Outcome::NotFixed && run.state == RunState::Freed, "{outcome}; {}", said());
            is_restored(&case, &before, &run).await?;
        } else {
            ensure!(matches!(outcome, Outcome::Partial | Outcome::NotContained), "{outcome}; {}", said());
        }
        let whats: Vec<&str> =
            run.all_steps().filter(|s| excused.contains(&s.id)).map(|s| s.change.what.as_str()).collect();
        let named = end.not_done.iter().any(|line| whats.iter().any(|what| line.starts_with(what)));
        ensure!(named, "not named; {}", said());
        match run.result(&failing.id) {
            Some(StepResult::Failed { class, .. }) => {
                let wanted = if fault == Fault::Denied { Class::Denied } else { Class::Transient };
                ensure!(*class == wanted, "{class}; {}", said());
            }
            Some(StepResult::Slow) if fault == Fault::Hangs => {}
            // Another step has brought the same about; what needed this one is named.
            Some(result) if result.is_good() => {}
            other => anyhow::bail!("{other:?}; {}", said()),
        }
    }
    // Whatever does not need it was done.
    for step in run.all_steps().filter(|step| !excused.contains(&step.id)) {
        let final_ = run.result(&step.id).is_some_and(StepResult::is_final);
        ensure!(final_, "{} was not done, though it does not need it; {}", step.id, said());
    }
    // Everything is cut, unless what cuts it needs the step; and what is not cut is never said to be.
    if contains(playbook) {
        let open = open(&case, &state)?;
        for (thing, hangs_on) in &open {
            let excuse = run.all_steps().any(|step| excused.contains(&step.id) && is_about(step, hangs_on));
            ensure!(excuse, "{thing} is not cut; {}", said());
        }
        if !open.is_empty() {
            is_not_called_cut(&case, &run, outcome).with_context(said)?;
        }
    }
    // Mended, the schedule finishes what it may, and undo restores what was.
    case.faults.mend();
    case.settle().await?;
    // A fix is planned anew when its control is reported again.
    if fault != Fault::Denied && !fixes(playbook) {
        let run = case.the_run().await?;
        let end = run.end.as_ref().context("the run has no end")?;
        // What is in quarantine is not opened later for an instant: that is named, and is all that may be left.
        let passed: Vec<&str> = run
            .all_steps()
            .filter(|step| is_instant(step) && excused.contains(&step.id))
            .map(|step| step.change.what.as_str())
            .collect();
        let left = || end.not_done.iter().all(|line| passed.iter().any(|what| line.starts_with(what)));
        let finished = end.outcome == done(playbook) || (end.outcome == Outcome::Partial && left());
        ensure!(finished, "after the fault the schedule left {}: {}", end.outcome, results(&run));
        is_so(&case).await?;
    }
    let run = case.the_run().await?;
    if run.state == RunState::Held {
        case.decide(Verb::Undo).await?.answer()?;
        let run = case.the_run().await?;
        if run.undone.values().all(|undone| undone.result.is_clean()) {
            is_restored(&case, &before, &run).await?;
        } else {
            // What was to be closed again and was refused is where undo does not expect it: a person puts it back.
            let end = run.end.as_ref().context("the undo has no end")?;
            ensure!(end.outcome == Outcome::UndonePartly && !end.not_done.is_empty(), "{end:?}");
            ensure!(is_instant(&failing) && fault == Fault::Denied, "{:?}", run.undone);
        }
    }
    Ok(())
}

/// No report calls something cut while the independent client sees it open.
fn is_not_called_cut(case: &Case, run: &Run, outcome: Outcome) -> Result<()> {
    ensure!(outcome != done(case.playbook), "{outcome}, and something is open");
    let after = run.end.as_ref().and_then(|end| end.contained_after_ms);
    ensure!(after.is_none(), "something is open, and the ledger says that all was cut after {after:?} ms");
    for text in case.faults.told() {
        let claims = text.contains("Network cut") || text.starts_with("CONTAINED");
        ensure!(!claims, "something is open, and people were told:\n{text}");
    }
    Ok(())
}

/// A step: of which playbook, over which world, which of the plan's, and of which action.
type Failing = (&'static Traced, &'static str, usize, &'static Step);

/// Denied: every step of the largest plan, and one step of each action that is in no largest; where playbooks bring the
/// same about, of one of them. What never answers takes long: one step an action.
async fn steps_fail(fault: Fault, law: &str, side_by_side: usize) {
    let servers = Security::on_each_server(Permits::Everything).await.unwrap();
    let mut steps: BTreeMap<(&str, &str, usize), Vec<Failing>> = BTreeMap::new();
    for (_, playbook) in playbooks() {
        let (worlds, mut actions) = (worlds(playbook).await, BTreeMap::<&str, usize>::new());
        for of in worlds.all() {
            for (n, step) in worlds.plans[of].steps().enumerate() {
                let times = actions.entry(&step.action).or_default();
                if (fault == Fault::Hangs || of != worlds.largest) && *times > 0 {
                    continue;
                }
                *times += 1;
                let (about, time) = if fault == Fault::Hangs { ("", 0) } else { (playbook.meta().hold, *times) };
                steps.entry((about, &step.action, time)).or_default().push((playbook, of, n, step));
            }
        }
    }
    let mut cases = Vec::new();
    for (playbook, of, n, step) in one_of_each(steps) {
        let security = &servers[cases.len() % servers.len()];
        let name = format!("{} {of}, {}", playbook.id(), step.id);
        cases.push(named(name, async move { one_step_fails(security, playbook, of, fault, n).await }));
    }
    all_of(law, cases, side_by_side).await;
}

#[test]
fn a_step_that_is_denied_stops_only_what_needs_it_and_is_named() {
    run_to_end(|| steps_fail(Fault::Denied, "a step is denied", SIDE_BY_SIDE));
}

#[test]
fn a_step_that_hangs_stops_only_what_needs_it_and_is_named() {
    // They wait more than they work.
    run_to_end(|| steps_fail(Fault::Hangs, "a step hangs", 2 * SIDE_BY_SIDE));
}

#[test]
fn the_cut_does_not_wait_for_what_never_answers() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let mut cases = Vec::new();
        for (_, playbook) in playbooks().iter().filter(|(_, playbook)| contains(*playbook)) {
            let security = &security;
            cases.push(named(playbook.id(), async move {
                let settings = impatient(1, Duration::from_secs(60));
                let case = Case::of(security, playbook, &world(&worlds(playbook).await.largest)?, settings).await?;
                let plan = case.the_plan().await?;
                let cut = plan.stages.iter().position(|s| s.steps.iter().any(|s| s.cuts)).context("nothing cuts")?;
                if cut == 0 {
                    // It comes first, so there is nothing that it could wait for.
                    return Ok(());
                }
                // Every step before the cut hangs, but for what the cut itself needs.
                let needed: BTreeSet<_> = plan.stages[cut].steps.iter().flat_map(|s| s.needs.clone()).collect();
                let slow: BTreeSet<_> = plan.stages[..cut]
                    .iter()
                    .flat_map(|stage| &stage.steps)
                    // Nor what is about the group that the cut uses.
                    .filter(|step| !needed.contains(&step.id) && step.needs.iter().all(|need| !needed.contains(need)))
                    .map(|step| step.id.clone())
                    .collect();
                ensure!(!slow.is_empty(), "nothing is before the cut");
                let hanging = slow.clone();
                case.faults.rule(move |request| {
                    let its = request.doing.step().is_some_and(|step| hanging.contains(step));
                    (its && !request.reads()).then_some(Fault::Hangs)
                });
                let begun = std::time::Instant::now();
                let delivery = case.deliver();
                tokio::pin!(delivery);
                // Looked at while the run is still waiting for what hangs.
                let open = loop {
                    tokio::select! {
                        _ = &mut delivery => anyhow::bail!("the run ended before anybody looked"),
                        () = tokio::time::sleep(Duration::from_millis(250)) => {}
                    }
                    let open = open(&case, &case.state().await?)?;
                    if open.is_empty() || begun.elapsed() > Duration::from_secs(15) {
                        break open;
                    }
                };
                let took = begun.elapsed();
                ensure!(open.is_empty(), "after {took:?} these are open: {open:?}");
                ensure!(took < Duration::from_secs(10), "the cut took {took:?}");
                println!("the cut went ahead after {:.1} s", took.as_secs_f64());
                Ok(())
            }));
        }
        all("the cut does not wait", cases).await;
    });
}

/// What shares a session with steps that need a group which cannot be made is done all the same.
#[test]
fn where_no_group_can_be_made_the_public_addresses_are_taken_all_the_same() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let mut cases = Vec::new();
        for fault in [Fault::Denied, Fault::ServerError] {
            let security = &security;
            cases.push(named(format!("{fault:?}"), async move {
                let case = Case::new(security, isolating(), "web-server").await?;
                let before = case.state().await?;
                case.faults.rule(move |request| (request.operation == "CreateSecurityGroup").then_some(fault));
                let answer = case.deliver().await.answer()?;
                let run = case.the_run().await?;
                ensure!(answer.outcomes.iter().all(|o| o.outcome == Outcome::Partial), "{:?}", answer.outcomes);
                let victim = case.ids.get("victim")?;
                let state = case.state().await?;
                let its = entries(&state["interfaces"]).filter(|(_, interface)| interface["instance"] == victim);
                let public = its.flat_map(|(_, interface)| list(&interface["addresses"]));
                let left: Vec<_> = public.filter(|address| !address["public"].is_null()).collect();
                ensure!(left.is_empty(), "{left:?} stay; {}", results(&run));
                // What is told is why: not what came of it.
                let code = if fault == Fault::Denied { "UnauthorizedOperation" } else { "InternalError" };
                let not_done = &run.end.as_ref().context("the run has no end")?.not_done;
                ensure!(not_done.iter().any(|line| line.contains("could not create security group")), "{not_done:?}");
                ensure!(not_done.iter().any(|line| line.contains(code)), "{not_done:?}");
                ensure!(!not_done.iter().any(|line| line.contains("session")), "{not_done:?}");
                let told = security.told_about(run.head.id.as_str()).await?;
                let says = |text: &String| {
                    text.starts_with("PARTLY CONTAINED") && text.contains("could not create security group")
                };
                ensure!(told.iter().any(says), "{told:?}");
                if fault == Fault::ServerError {
                    case.faults.mend();
                    case.settle().await?;
                    is_so(&case).await?;
                }
                case.decide(Verb::Undo).await?.answer()?;
                is_restored(&case, &before, &case.the_run().await?).await
            }));
        }
        all("no group can be made", cases).await;
    });
}

// --- one call fails once ---

/// Injects `fault` at the first changing call of each step in turn, and again when it is undone: each is tried again or
/// found done.
async fn first_calls_fail_once(
    security: &Arc<Security>,
    playbook: &'static Traced,
    of: &str,
    fault: Fault,
) -> Result<()> {
    let settings = match fault {
        Fault::Hangs => impatient(3, Duration::from_millis(1500)),
        _ => Settings::default(),
    };
    let mut case = Case::of(security, playbook, &world(of)?, settings).await?;
    let before = case.state().await?;
    let once_a_step = |case: &Case, undo: bool| {
        let mut hit = BTreeSet::new();
        case.faults.rule(move |request| {
            let step = match (&request.doing, undo) {
                (Doing::Applying(step), false) | (Doing::Undoing(step), true) => step,
                _ => return None,
            };
            (!request.reads() && hit.insert(step.clone())).then_some(fault)
        });
    };
    let hits = |case: &Case| case.faults.requests().iter().filter(|request| request.fault.is_some()).count();
    once_a_step(&case, false);
    let answer = case.deliver().await.answer()?;
    ensure!(hits(&case) > 0, "nothing was hit");
    ensure!(answer.outcomes.iter().all(|o| o.outcome != Outcome::Failed), "{:?}", answer.outcomes);
    case.faults.mend();
    case.settle().await?;
    let run = ends_as_undisturbed(&case, of).await?;
    case.restart()?;
    once_a_step(&case, true);
    case.decide(Verb::Undo).await?.answer()?;
    let never = run.all_steps().all(|step| {
        let action = playbook.action(&step.action).map(|action| action.undo_kind());
        matches!(action, Ok(Undo::Never { .. }))
    });
    ensure!(never || hits(&case) > 0, "nothing was hit in undo");
    case.faults.mend();
    case.settle().await?;
    let mut run = case.the_run().await?;
    if run.state == RunState::Held {
        // What failed is named, and a second decision finishes it.
        let end = run.end.as_ref().context("no end")?;
        ensure!(end.outcome == Outcome::UndonePartly && !end.not_done.is_empty(), "{end:?}");
        case.decide(Verb::Undo).await?.answer()?;
        run = case.the_run().await?;
    }
    ensure!(run.state == RunState::Released, "{:?}: {:?}", run.state, run.undone);
    is_restored(&case, &before, &run).await
}

#[test]
fn what_fails_once_is_tried_again_or_found_done() {
    run_to_end(|| async {
        let servers = Security::on_each_server(Permits::Everything).await.unwrap();
        // Each action in one world, and so all that are in it.
        let users = one_of_each(users_of_actions().await).into_iter();
        let places: BTreeMap<_, _> = users.map(|(playbook, _, of)| ((playbook.id(), of), playbook)).collect();
        let mut cases = Vec::new();
        for ((id, of), playbook) in places {
            for fault in [Fault::Throttled, Fault::ServerError, Fault::NotSent, Fault::ReplyLost, Fault::Hangs] {
                let security = &servers[cases.len() % servers.len()];
                let name = format!("{id} {of}, {fault:?}");
                cases.push(named(name, async move { first_calls_fail_once(security, playbook, of, fault).await }));
            }
        }
        all("the first call of every step fails once", cases).await;
    });
}
