//! What fails, hangs or dies: containment goes on, says what it has not done, and converges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firebreak::failure::Class;
use firebreak::ledger::decisions::Verb;
use firebreak::playbook::Planned;
use firebreak::run::{Outcome, RunState, StepResult, UndoResult};
use firebreak_tests::compare::normal;
use firebreak_tests::emulator::world;
use firebreak_tests::faults::{Doing, Fault, Place, Request};
use firebreak_tests::in_process::{Case, Delivered, Permits, Security, Settings, Traced, playbooks, run_to_end};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::support::{Named, all, contains, dependents, done, is_restored, is_so, named, open_ways, results};

/// A short attempt, for calls that are never answered.
const IMPATIENT: Settings = Settings { attempt_timeout: Duration::from_millis(1500), time: Duration::from_secs(43) };

/// For each playbook the fewest steps in which each of its actions is reached: the world, by action.
async fn worlds_by_action() -> &'static BTreeMap<&'static str, BTreeMap<String, String>> {
    static FOUND: OnceCell<BTreeMap<&'static str, BTreeMap<String, String>>> = OnceCell::const_new();
    FOUND
        .get_or_init(|| async {
            let security = Security::fresh(Permits::Everything).await.unwrap();
            let mut found = BTreeMap::new();
            for (_, playbook) in playbooks() {
                let mut plans = Vec::new();
                for world in playbook.kind().unwrap().worlds().unwrap() {
                    let case = Case::new(&security, playbook, &world).await.unwrap();
                    if let Planned::Plan(plan) = case.plan().await.unwrap() {
                        plans.push((plan.steps().count(), world, plan));
                    }
                }
                plans.sort_by_key(|(steps, ..)| *steps);
                let mut by_action = BTreeMap::new();
                for (_, world, plan) in &plans {
                    for step in plan.steps() {
                        by_action.entry(step.action.clone()).or_insert_with(|| world.clone());
                    }
                }
                found.insert(playbook.id(), by_action);
            }
            found
        })
        .await
}

/// The fewest worlds in which every action of a playbook is reached.
async fn fewest_worlds(playbook: &Traced) -> BTreeSet<String> {
    worlds_by_action().await[playbook.id()].values().cloned().collect()
}

/// Whether a request changes something for a step of this action, while it is applied or undone.
fn changes_for<'a>(action: &'a str, undo: bool) -> impl Fn(&Request) -> bool + Send + use<'a> {
    move |request| {
        let step = match (&request.doing, undo) {
            (Doing::Applying(step), false) | (Doing::Undoing(step), true) => step,
            _ => return false,
        };
        !request.reads() && step.0.split(' ').next() == Some(action)
    }
}

// --- each step made to fail or hang ---

async fn one_step_fails(
    security: &Arc<Security>,
    playbook: &'static Traced,
    of: &str,
    fault: Fault,
    n: usize,
) -> Result<()> {
    let settings = if fault == Fault::Hangs { IMPATIENT } else { Settings::default() };
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
    if outcome == done(playbook) {
        let good = run.result(&failing.id).is_some_and(StepResult::is_final);
        ensure!(good, "{outcome}, and the journal does not say that the step's state holds; {}", said());
        is_so(&case).await.with_context(said)?;
    } else {
        ensure!(matches!(outcome, Outcome::Partial | Outcome::NotContained), "{outcome}; {}", said());
        let dependent = dependents(&run, &failing.id);
        let whats: Vec<&str> =
            run.all_steps().filter(|s| dependent.contains(&s.id)).map(|s| s.change.what.as_str()).collect();
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
    let excused = dependents(&run, &failing.id);
    for step in run.all_steps().filter(|step| !excused.contains(&step.id)) {
        let final_ = run.result(&step.id).is_some_and(StepResult::is_final);
        ensure!(final_, "{} was not done, though it does not need it; {}", step.id, said());
    }
    // Every interface is cut, unless its own cut needs the step.
    if contains(playbook) {
        let state = case.state().await?;
        let open = open_ways(&case, &state)?;
        for interface in open {
            let mut cuts = run.all_steps().filter(|step| step.cuts && step.id.0.ends_with(&interface));
            // Or it is itself about this interface, or about what is allowed in our group.
            let excused = cuts.any(|cut| excused.contains(&cut.id))
                || failing.id.0.ends_with(&interface)
                || failing.action == "ec2.empty-group";
            ensure!(excused && outcome != done(playbook), "{interface} is not cut; {}", said());
        }
    }
    // Mended, the schedule finishes what it may, and undo restores what was.
    case.faults.mend();
    case.settle().await?;
    if fault != Fault::Denied {
        let run = case.the_run().await?;
        let outcome = run.end.as_ref().map(|end| end.outcome);
        ensure!(outcome == Some(done(playbook)), "after the fault the schedule left {outcome:?}: {}", results(&run));
        is_so(&case).await?;
    }
    let run = case.the_run().await?;
    if run.state == RunState::Held {
        case.decide(Verb::Undo).await?.answer()?;
        let run = case.the_run().await?;
        if run.undone.values().all(UndoResult::is_clean) {
            is_restored(&case, &before, &run).await?;
        } else {
            // An interface whose closing was refused is where undo does not expect it: a person puts it back.
            let end = run.end.as_ref().context("the undo has no end")?;
            ensure!(end.outcome == Outcome::UndonePartly && !end.not_done.is_empty(), "{end:?}");
            ensure!(failing.action == "ec2.close-interface" && fault == Fault::Denied, "{:?}", run.undone);
        }
    }
    Ok(())
}

async fn steps_fail(fault: Fault, law: &str) {
    let security = Security::fresh(Permits::Everything).await.unwrap();
    let mut cases = Vec::new();
    for (_, playbook) in playbooks() {
        let mut actions = BTreeSet::new();
        // The largest plan first, the others for the actions that it does not hold.
        let largest = playbook.kind().unwrap().largest();
        let others = fewest_worlds(playbook).await.into_iter().filter(|of| of != largest);
        for of in [largest.to_owned()].into_iter().chain(others) {
            let counting = Case::new(&security, playbook, &of).await.unwrap();
            for (n, step) in counting.the_plan().await.unwrap().steps().enumerate() {
                // Denied: every step of the largest plan. What never answers takes long: one step an action.
                let new = actions.insert(step.action.clone());
                if (fault == Fault::Hangs || of != largest) && !new {
                    continue;
                }
                let (security, of) = (&security, of.clone());
                let name = format!("{} {of}, {}", playbook.id(), step.id);
                cases.push(named(name, async move { one_step_fails(security, playbook, &of, fault, n).await }));
            }
        }
    }
    all(law, cases).await;
}

#[test]
#[ignore = "not seen to pass since the last changes to the engine: to be looked at first"]
fn a_step_that_is_denied_stops_only_what_needs_it_and_is_named() {
    run_to_end(|| steps_fail(Fault::Denied, "a step is denied"));
}

#[test]
#[ignore = "not seen to pass since the last changes to the engine: to be looked at first"]
fn a_step_that_hangs_stops_only_what_needs_it_and_is_named() {
    run_to_end(|| steps_fail(Fault::Hangs, "a step hangs"));
}

#[test]
fn the_cut_does_not_wait_for_what_never_answers() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let mut cases = Vec::new();
        for (_, playbook) in playbooks().iter().filter(|(_, playbook)| contains(*playbook)) {
            let security = &security;
            cases.push(named(playbook.id(), async move {
                let settings = Settings { attempt_timeout: Duration::from_secs(60), time: Duration::from_secs(43) };
                let case = Case::of(security, playbook, &world(playbook.kind()?.largest())?, settings).await?;
                let plan = case.the_plan().await?;
                let cut = plan.stages.iter().position(|s| s.steps.iter().any(|s| s.cuts)).context("nothing cuts")?;
                if cut == 0 {
                    // It comes first: there is nothing to wait for.
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
                    let open = open_ways(&case, &case.state().await?)?;
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

// --- one call fails once ---

/// Injects `fault` at the first changing call of each step in turn: each is tried again or found done.
async fn first_calls_fail_once(
    security: &Arc<Security>,
    playbook: &'static Traced,
    of: &str,
    fault: Fault,
    undo: bool,
    reference: &Value,
) -> Result<()> {
    let settings = if fault == Fault::Hangs { IMPATIENT } else { Settings::default() };
    let mut case = Case::of(security, playbook, &world(of)?, settings).await?;
    let before = case.state().await?;
    let once_a_step = |case: &Case| {
        let mut hit = BTreeSet::new();
        case.faults.rule(move |request| {
            let step = match (&request.doing, undo) {
                (Doing::Applying(step), false) | (Doing::Undoing(step), true) => step,
                _ => return None,
            };
            (!request.reads() && hit.insert(step.clone())).then_some(fault)
        });
    };
    if !undo {
        once_a_step(&case);
    }
    let answer = case.deliver().await.answer()?;
    let hits = |case: &Case| case.faults.requests().iter().filter(|request| request.fault.is_some()).count();
    if !undo {
        ensure!(hits(&case) > 0, "nothing was hit");
        ensure!(answer.outcomes.iter().all(|o| o.outcome != Outcome::Failed), "{:?}", answer.outcomes);
        case.faults.mend();
        case.settle().await?;
    }
    let run = case.the_run().await?;
    let outcome = run.end.as_ref().map(|end| end.outcome);
    ensure!(outcome == Some(done(playbook)), "{outcome:?}: {}", results(&run));
    is_so(&case).await?;
    let state = normal(&case.state().await?, &case.ids, &case.member, Some(run.head.id.as_str()));
    ensure!(of == playbook.kind()?.largest() || state == *reference, "the end is another than without the fault");
    case.restart()?;
    if undo {
        once_a_step(&case);
    }
    case.decide(Verb::Undo).await?.answer()?;
    if undo {
        let never = run.all_steps().all(|step| {
            let action = playbook.action(&step.action).map(|action| action.undo_kind());
            matches!(action, Ok(firebreak::plan::Undo::Never { .. }))
        });
        ensure!(never || hits(&case) > 0, "nothing was hit");
        case.faults.mend();
        case.settle().await?;
        let run = case.the_run().await?;
        if run.state == RunState::Held {
            // What failed is named, and a second decision finishes it.
            let end = run.end.as_ref().context("no end")?;
            ensure!(end.outcome == Outcome::UndonePartly && !end.not_done.is_empty(), "{end:?}");
            case.decide(Verb::Undo).await?.answer()?;
        }
    }
    let run = case.the_run().await?;
    ensure!(run.state == RunState::Released, "{:?}: {:?}", run.state, run.undone);
    is_restored(&case, &before, &run).await
}

/// The end of an undisturbed run, in terms that every account shares.
async fn reference(security: &Arc<Security>, playbook: &'static Traced, of: &str) -> Result<(Value, Vec<Request>)> {
    let case = Case::new(security, playbook, of).await?;
    case.deliver().await.answer()?;
    let run = case.the_run().await?;
    let state = normal(&case.state().await?, &case.ids, &case.member, Some(run.head.id.as_str()));
    Ok((state, case.faults.requests()))
}

#[test]
#[ignore = "not seen to pass since the last changes to the engine: to be looked at first"]
fn what_fails_once_is_tried_again_or_found_done() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Everything).await.unwrap();
        let mut references = BTreeMap::new();
        for (_, playbook) in playbooks() {
            for of in fewest_worlds(playbook).await {
                let (state, _) = reference(&security, playbook, &of).await.unwrap();
                references.insert((playbook.id(), of), state);
            }
        }
        let mut cases = Vec::new();
        for (_, playbook) in playbooks() {
            for of in fewest_worlds(playbook).await {
                let faults = [Fault::Throttled, Fault::ServerError, Fault::NotSent, Fault::ReplyLost, Fault::Hangs];
                for (fault, undo) in faults.into_iter().flat_map(|fault| [(fault, false), (fault, true)]) {
                    let name = format!("{} {of}, {fault:?}{}", playbook.id(), if undo { " in undo" } else { "" });
                    let (security, of) = (&security, of.clone());
                    let reference = &references[&(playbook.id(), of.clone())];
                    cases.push(named(name, async move {
                        first_calls_fail_once(security, playbook, &of, fault, undo, reference).await
                    }));
                }
            }
        }
        all("the first call of every step fails once", cases).await;
    });
}

// --- death ---

/// Where a process dies.
#[derive(Clone)]
enum Death {
    /// At the n-th write into the ledger.
    Write(usize),
    /// At the first changing call of an action.
    Call(String),
}

impl Death {
    fn at(&self, undo: bool) -> Box<dyn Fn(&Request) -> bool + Send> {
        match self.clone() {
            Self::Write(n) => {
                let count = AtomicUsize::new(0);
                Box::new(move |request| {
                    request.place == Place::Hub && request.writes_ledger() && count.fetch_add(1, Ordering::SeqCst) == n
                })
            }
            Self::Call(action) => Box::new(move |request| changes_for(&action, undo)(request)),
        }
    }
}

async fn dies(
    security: &Arc<Security>,
    playbook: &'static Traced,
    of: &str,
    death: Death,
    fault: Fault,
    reference: &Value,
) -> Result<()> {
    let mut case = Case::new(security, playbook, of).await?;
    let before = case.state().await?;
    case.faults.once(fault, death.at(false));
    let delivered = case.deliver().await;
    ensure!(matches!(delivered, Delivered::Died), "nobody died: {delivered:?}");
    // A new process: Lambda delivers the event again at once, which leaves an unfinished run to its lease; then
    // the schedule works.
    case.restart()?;
    let again = case.deliver().await.answer()?;
    ensure!(again.outcomes.iter().all(|o| o.outcome != Outcome::Failed), "{:?}", again.outcomes);
    case.settle().await?;
    let run = case.the_run().await?;
    let outcome = run.end.as_ref().map(|end| end.outcome);
    ensure!(run.state == RunState::Held, "{}", results(&run));
    ensure!(outcome == Some(done(playbook)), "{outcome:?}: {}", results(&run));
    is_so(&case).await?;
    let state = normal(&case.state().await?, &case.ids, &case.member, Some(run.head.id.as_str()));
    if of != playbook.kind()?.largest() && state != *reference {
        let differs = firebreak_tests::compare::differences(reference, &state);
        let lines: Vec<String> =
            differs.iter().map(|d| format!("  {}: {} → {}", d.path.join("/"), d.before, d.after)).collect();
        anyhow::bail!("the end is another than without the death:\n{}", lines.join("\n"));
    }
    ensure!(case.due().await?.is_empty(), "still due: {:?}", case.due().await?);
    case.decide(Verb::Undo).await?.answer()?;
    let run = case.the_run().await?;
    ensure!(run.state == RunState::Released, "{:?}: {:?}", run.state, run.undone);
    is_restored(&case, &before, &run).await
}

async fn dies_in_undo(
    security: &Arc<Security>,
    playbook: &'static Traced,
    of: &str,
    death: Death,
    fault: Fault,
) -> Result<()> {
    let mut case = Case::new(security, playbook, of).await?;
    let before = case.state().await?;
    case.deliver().await.answer()?;
    case.settle().await?;
    case.restart()?;
    case.faults.once(fault, death.at(true));
    let delivered = case.decide(Verb::Undo).await?;
    if matches!(delivered, Delivered::Answered(_))
        && of != playbook.kind()?.largest()
        && matches!(death, Death::Call(_))
    {
        // In this world AWS leaves the undo of the action no call to make.
        return Box::pin(dies_in_undo(security, playbook, playbook.kind()?.largest(), death, fault)).await;
    }
    ensure!(matches!(delivered, Delivered::Died), "nobody died: {delivered:?}");
    case.restart()?;
    case.settle().await?;
    let mut run = case.the_run().await?;
    if run.state == RunState::Held && run.undone.is_empty() {
        // It died before the decision was used: it can be decided again.
        case.decide(Verb::Undo).await?.answer()?;
        run = case.the_run().await?;
    }
    ensure!(run.state == RunState::Released, "{:?}: {:?}", run.state, run.undone);
    let conflicts: Vec<_> = run
        .undone
        .iter()
        .filter(|(_, r)| matches!(r, UndoResult::Conflict { .. } | UndoResult::Failed { .. }))
        .collect();
    ensure!(conflicts.is_empty(), "{conflicts:?}");
    is_restored(&case, &before, &run).await
}

#[test]
#[ignore = "not seen to pass since the last changes to the engine: to be looked at first"]
fn whoever_dies_at_a_write_of_the_ledger_is_replaced() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Everything).await.unwrap();
        let mut known = Vec::new();
        for (_, playbook) in playbooks() {
            // The least world that holds every kind of write.
            let of = playbook.kind().unwrap().least();
            let (state, requests) = reference(&security, playbook, of).await.unwrap();
            let writes = requests.iter().filter(|request| request.writes_ledger()).count();
            known.push((*playbook, of, state, writes));
        }
        let mut cases = Vec::new();
        for (playbook, of, state, writes) in &known {
            for n in 0..*writes {
                for fault in [Fault::DiesBefore, Fault::DiesAfter] {
                    let name = format!("{} {of}, write {n} of {writes}, {fault:?}", playbook.id());
                    let security = &security;
                    cases.push(named(name, async move {
                        dies(security, playbook, of, Death::Write(n), fault, state).await
                    }));
                }
            }
        }
        all("death at every write of the ledger", cases).await;
    });
}

#[test]
#[ignore = "not seen to pass since the last changes to the engine: to be looked at first"]
fn whoever_dies_at_a_call_of_an_action_is_replaced() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Everything).await.unwrap();
        let mut references = BTreeMap::new();
        for (_, playbook) in playbooks() {
            for of in fewest_worlds(playbook).await {
                let (state, _) = reference(&security, playbook, &of).await.unwrap();
                references.insert((playbook.id(), of), state);
            }
        }
        let mut cases: Vec<Named<'_>> = Vec::new();
        for (_, playbook) in playbooks() {
            for (action, of) in &worlds_by_action().await[playbook.id()] {
                for fault in [Fault::DiesBefore, Fault::DiesAfter] {
                    let (security, name) = (&security, format!("{} {of}, {action}, {fault:?}", playbook.id()));
                    let reference = &references[&(playbook.id(), of.clone())];
                    cases.push(named(name, async move {
                        dies(security, playbook, of, Death::Call(action.clone()), fault, reference).await
                    }));
                }
            }
        }
        all("death at a call of every action", cases).await;
    });
}

#[test]
#[ignore = "not seen to pass since the last changes to the engine: to be looked at first"]
fn whoever_dies_while_undoing_is_replaced() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Everything).await.unwrap();
        let mut known = Vec::new();
        for (_, playbook) in playbooks() {
            let of = playbook.kind().unwrap().least();
            let mut case = Case::new(&security, playbook, of).await.unwrap();
            case.deliver().await.answer().unwrap();
            case.settle().await.unwrap();
            case.restart().unwrap();
            case.decide(Verb::Undo).await.unwrap().answer().unwrap();
            let writes = case.faults.requests().iter().filter(|request| request.writes_ledger()).count();
            known.push((*playbook, of, writes));
        }
        let mut cases: Vec<Named<'_>> = Vec::new();
        for (playbook, of, writes) in &known {
            for n in 0..*writes {
                // What is done and not written is the harder half; before and after the same write differ only there.
                let fault = if n % 2 == 0 { Fault::DiesBefore } else { Fault::DiesAfter };
                let (security, name) = (&security, format!("{} {of}, write {n} of {writes}, {fault:?}", playbook.id()));
                cases.push(named(
                    name,
                    async move { dies_in_undo(security, playbook, of, Death::Write(n), fault).await },
                ));
            }
            for (action, of) in &worlds_by_action().await[playbook.id()] {
                let kind = playbook.action(action).unwrap().undo_kind();
                if matches!(kind, firebreak::plan::Undo::Never { .. }) {
                    continue;
                }
                let (security, name) = (&security, format!("{} {of}, {action}", playbook.id()));
                cases.push(named(name, async move {
                    dies_in_undo(security, playbook, of, Death::Call(action.clone()), Fault::DiesAfter).await
                }));
            }
        }
        all("death while undoing", cases).await;
    });
}

// --- every call refused for good ---

/// Calls that containment can do without, and why. Reviewed.
const HARMLESS: &[(&str, &str)] = &[
    ("dynamodb:DeleteItem", "a row whose work is done is worked at once more, which changes nothing"),
    ("dynamodb:PutItem", "a group that is not recorded is not used again: the next containment makes its own"),
    ("ec2:DescribeAddresses", "what the interfaces say of their addresses is read besides"),
    ("ec2:DescribeSecurityGroups", "the ledger is believed: a group's id, owner and VPC never change"),
    ("s3:GetObject", "without an accepted hash in the ledger there is no set to read; with one it is a proposal"),
    ("s3:ListObjectsV2", "without it an absent object looks like one that may not be read"),
];

#[test]
fn a_call_that_is_refused_for_good_is_never_passed_over_in_silence() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let mut operations = BTreeMap::new();
        for (_, playbook) in playbooks() {
            let kind = playbook.kind().unwrap();
            for of in [kind.small(), kind.largest()] {
                let (_, requests) = reference(&security, playbook, of).await.unwrap();
                for request in requests {
                    operations.entry((playbook.id(), request.place, request.name())).or_insert((*playbook, of));
                }
            }
        }
        let mut cases: Vec<Named<'_>> = Vec::new();
        for ((id, place, operation), (playbook, of)) in &operations {
            let security = &security;
            cases.push(named(format!("{id} {of}, {operation}"), async move {
                let case = Case::new(security, playbook, of).await?;
                let denied = operation.clone();
                let place = *place;
                case.faults
                    .rule(move |request| (request.place == place && request.name() == denied).then_some(Fault::Denied));
                let delivered = case.deliver().await;
                let claims = match &delivered {
                    Delivered::Answered(answer) => answer.outcomes.iter().any(|o| o.outcome == done(*playbook)),
                    Delivered::Failed(_) => false,
                    Delivered::Died => anyhow::bail!("nobody should die"),
                };
                if claims {
                    let run = case.the_run().await?;
                    let end = run.end.as_ref().context("no end")?;
                    let says = |line: &String| line.contains("could not be read") || line.contains("not known");
                    if end.remains.iter().any(says) {
                        // What could not be read is named; the cut itself holds all the same.
                        if contains(*playbook) {
                            let open = open_ways(&case, &case.state().await?)?;
                            ensure!(open.is_empty(), "not cut off: {open:?}");
                        }
                        return Ok(());
                    }
                    is_so(&case).await?;
                    // What could not be told or written is still due.
                    let due = !case.due().await?.is_empty();
                    let harmless = HARMLESS.iter().any(|(call, _)| call == operation);
                    ensure!(due || harmless, "done without a word: {:?}", end.remains);
                } else if let Delivered::Answered(answer) = &delivered {
                    let told = answer.outcomes.iter().all(|o| !o.why.is_empty());
                    ensure!(told && !answer.outcomes.is_empty(), "{:?}", answer.outcomes);
                }
                Ok(())
            }));
        }
        all("every call is refused for good", cases).await;
    });
}
