//! What the laws share: cases side by side, the worlds that they use, and what an undo has to give back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use firebreak::action::Boxed;
use firebreak::plan::{Leave, Plan, Step, StepId, Undo};
use firebreak::playbook::{Planned, Playbook, Purpose};
use firebreak::run::{Outcome, Run, RunState, StepResult, UndoResult};
use firebreak::target::TargetKind;
use firebreak_tests::compare::{Difference, differences, normal, shown};
use firebreak_tests::emulator::Ids;
use firebreak_tests::faults::Request;
use firebreak_tests::in_process::{Case, Permits, Security, Settings, Traced, kind_of_target, playbooks, worlds_of};
use firebreak_tests::undo::{AfterUndo, declares};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::facts::holds;
pub use crate::facts::is_so;

/// How many cases run side by side in one test. The emulator is one process: more would only wait.
pub const SIDE_BY_SIDE: usize = 6;

/// A case with a name.
pub struct Named<'a> {
    name: String,
    case: Boxed<'a, Result<()>>,
}

/// Gives a case a name.
pub fn named<'a>(name: impl Into<String>, case: impl Future<Output = Result<()>> + Send + 'a) -> Named<'a> {
    Named { name: name.into(), case: Box::pin(case) }
}

/// Runs cases side by side, prints how many, and fails with every failure there is.
pub async fn all(law: &str, cases: Vec<Named<'_>>) {
    all_of(law, cases, SIDE_BY_SIDE).await;
}

/// The same, so many side by side.
pub async fn all_of(law: &str, cases: Vec<Named<'_>>, side_by_side: usize) {
    let begun = std::time::Instant::now();
    let count = cases.len();
    assert!(count > 0, "{law}: there is no case");
    let results = futures_util::stream::iter(cases)
        .map(|named| async move { named.case.await.map_err(|error| format!("{}: {error:#}", named.name)) })
        .buffer_unordered(side_by_side)
        .collect::<Vec<_>>()
        .await;
    println!("{law}: {count} cases in {:.1} s", begun.elapsed().as_secs_f64());
    let mut failed: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    failed.sort();
    assert!(failed.is_empty(), "{law}: {} of {count} fail\n\n{}\n", failed.len(), failed.join("\n\n"));
}

/// Whether every playbook is tried with every variant of what is the loop's own: `FIREBREAK_LAWS=every`.
pub fn every_pair() -> bool {
    std::env::var("FIREBREAK_LAWS").is_ok_and(|asked| asked == "every")
}

/// The playbooks with the variants of what the loop does alike for all of them, in turn: each playbook and each
/// variant once at least. What is a playbook's own is tried with every one.
pub fn in_turn<T>(variants: &[T]) -> Vec<(&'static Traced, &T)> {
    in_turn_among(|_| true, variants)
}

/// The same of those playbooks that `which` picks: of what the others do not have.
pub fn in_turn_among<T>(which: impl Fn(&dyn Playbook) -> bool, variants: &[T]) -> Vec<(&'static Traced, &T)> {
    let playbooks: Vec<_> = playbooks().iter().map(|(_, playbook)| *playbook).filter(|p| which(*p)).collect();
    if every_pair() {
        let all = pairs(variants).into_iter();
        return all.filter(|(playbook, _)| playbooks.iter().any(|picked| picked.id() == playbook.id())).collect();
    }
    let most = playbooks.len().max(variants.len());
    playbooks.into_iter().cycle().zip(variants.iter().cycle()).take(most).collect()
}

/// Every playbook with every variant: of what a playbook decides by itself.
pub fn pairs<T>(variants: &[T]) -> Vec<(&'static Traced, &T)> {
    let playbooks = playbooks().iter().map(|(_, playbook)| *playbook);
    playbooks.flat_map(|playbook| variants.iter().map(move |variant| (playbook, variant))).collect()
}

/// Of what several playbooks do alike one each, in turn.
pub fn one_of_each<K: Ord, T>(alike: BTreeMap<K, Vec<T>>) -> Vec<T> {
    if every_pair() {
        return alike.into_values().flatten().collect();
    }
    let turn = |(n, mut of): (usize, Vec<T>)| (!of.is_empty()).then(|| of.swap_remove(n % of.len()));
    alike.into_values().enumerate().filter_map(turn).collect()
}

/// Whether a playbook cuts something off.
pub fn contains(playbook: &dyn Playbook) -> bool {
    playbook.meta().purpose == Purpose::Contain
}

/// Whether a playbook keeps evidence.
pub fn preserves(playbook: &dyn Playbook) -> bool {
    playbook.meta().purpose == Purpose::Preserve
}

/// Whether a playbook fixes what a control found.
pub fn fixes(playbook: &dyn Playbook) -> bool {
    playbook.meta().purpose == Purpose::Fix
}

/// The playbook that cuts an instance off.
pub fn isolating() -> &'static Traced {
    let isolates =
        |playbook: &Traced| contains(playbook) && kind_of_target(playbook).unwrap() == TargetKind::Ec2Instance;
    playbooks().iter().map(|(_, playbook)| *playbook).find(|playbook| isolates(playbook)).unwrap()
}

/// The outcome that says that everything was done.
pub fn done(playbook: &dyn Playbook) -> Outcome {
    match playbook.meta().purpose {
        Purpose::Contain => Outcome::Contained,
        Purpose::Preserve => Outcome::Preserved,
        Purpose::Fix => Outcome::Fixed,
    }
}

/// A step of the instant in which tracked flows are forgotten: what it does, a later step takes back by itself.
pub fn is_instant(step: &Step) -> bool {
    step.leave == Some(Leave::CutTrackedFlows)
}

/// The worlds of a playbook that the laws use.
#[derive(Debug)]
pub struct Worlds {
    /// The one with the longest plan.
    pub largest: String,
    /// The one with the shortest.
    pub least: String,
    /// One whose target is gone.
    pub gone: String,
    /// For each action the one with the shortest plan that holds it.
    pub by_action: BTreeMap<String, String>,
    /// The plan over each world that has one. Another account has other ids, and the same steps in the same order.
    pub plans: BTreeMap<String, Plan>,
}

impl Worlds {
    /// The fewest worlds in which every action is reached.
    pub fn fewest(&self) -> BTreeSet<&str> {
        self.by_action.values().map(String::as_str).collect()
    }

    /// The largest first, then the others that are needed to reach every action.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        let others = self.fewest().into_iter().filter(|of| *of != self.largest);
        [self.largest.as_str()].into_iter().chain(others)
    }
}

/// The worlds of a playbook, found once by planning over all there are.
pub async fn worlds(playbook: &Traced) -> &'static Worlds {
    static FOUND: OnceCell<BTreeMap<&'static str, Worlds>> = OnceCell::const_new();
    &FOUND.get_or_init(|| async { find_worlds().await.unwrap() }).await[playbook.id()]
}

/// A playbook, an action of it, and the world with the shortest plan that holds the action.
pub type User = (&'static Traced, &'static str, &'static str);

/// Who uses each action: one that several playbooks use is one action.
pub async fn users_of_actions() -> BTreeMap<&'static str, Vec<User>> {
    let mut users: BTreeMap<&str, Vec<User>> = BTreeMap::new();
    for (_, playbook) in playbooks() {
        for (action, of) in &worlds(playbook).await.by_action {
            users.entry(action).or_default().push((playbook, action, of));
        }
    }
    users
}

async fn find_worlds() -> Result<BTreeMap<&'static str, Worlds>> {
    let servers = Security::on_each_server(Permits::Everything).await?;
    let mut asked: BTreeMap<String, Vec<&'static Traced>> = BTreeMap::new();
    for (_, playbook) in playbooks() {
        for world in worlds_of(*playbook)? {
            asked.entry(world).or_default().push(*playbook);
        }
    }
    let mut planning: Vec<Boxed<'_, Result<(String, Vec<(&'static str, Planned)>)>>> = Vec::new();
    for (n, (world, playbooks)) in asked.into_iter().enumerate() {
        let security = &servers[n % servers.len()];
        planning.push(Box::pin(async move {
            let plans = plans_over(security, &world, &playbooks).await?;
            Ok((world, plans))
        }));
    }
    let planned = futures_util::stream::iter(planning).buffer_unordered(SIDE_BY_SIDE).collect::<Vec<_>>().await;
    // In the order of their names, whichever was ready first.
    let planned: BTreeMap<String, _> = planned.into_iter().collect::<Result<_>>()?;
    let mut plans: BTreeMap<&'static str, Vec<(String, Plan)>> = BTreeMap::new();
    let mut gone = BTreeMap::new();
    for (world, by_playbook) in planned {
        for (id, planned) in by_playbook {
            match planned {
                // All of it wants a leave, which most policies of the laws do not give.
                Planned::Plan(plan) if plan.steps().all(|step| step.leave.is_some()) => {}
                // A person is asked, whatever the policies permit.
                Planned::Plan(plan) if !plan.ask_first.is_empty() => {}
                Planned::Plan(plan) => plans.entry(id).or_default().push((world.clone(), plan)),
                Planned::Gone(_) => _ = gone.insert(id, world.clone()),
                Planned::Refused(_) => {}
            }
        }
    }
    let mut found = BTreeMap::new();
    for (id, mut plans) in plans {
        plans.sort_by_key(|(_, plan)| plan.steps().count());
        let mut by_action = BTreeMap::new();
        for (world, plan) in &plans {
            for step in plan.steps() {
                by_action.entry(step.action.clone()).or_insert_with(|| world.clone());
            }
        }
        let (Some((least, _)), Some((largest, _))) = (plans.first().cloned(), plans.last().cloned()) else { continue };
        let gone = gone.remove(id).with_context(|| format!("{id}: no world is without its target"))?;
        found.insert(id, Worlds { largest, least, gone, by_action, plans: plans.into_iter().collect() });
    }
    Ok(found)
}

/// What playbooks plan over a world. Planning changes nothing, so they share its account.
async fn plans_over(
    security: &Arc<Security>,
    world: &str,
    playbooks: &[&'static Traced],
) -> Result<Vec<(&'static str, Planned)>> {
    let mut seeded: Option<(String, Ids)> = None;
    let mut planned = Vec::new();
    for playbook in playbooks.iter().copied() {
        let case = match seeded.take() {
            Some((account, ids)) => Case::about(security, playbook, account, ids, Settings::default()).await?,
            None => Case::new(security, playbook, world).await?,
        };
        planned.push((playbook.id(), case.plan().await?));
        seeded = Some((case.member.clone(), case.ids.clone()));
    }
    Ok(planned)
}

/// The table of declared differences and the actions' own words agree on which actions have any.
pub fn check_declared(playbook: &'static Traced) -> Result<()> {
    for action in playbook.actions() {
        let (name, exact) = (action.name(), action.undo_kind() == Undo::Exact);
        ensure!(!exact || !declares(name), "{name} is undone exactly, but the table lets it differ");
        ensure!(exact || declares(name), "{name}: add its line to the table DECLARED in tests/src/undo.rs");
    }
    Ok(())
}

/// Every difference that a run has left after its undo is declared by one of its actions.
pub async fn is_restored(case: &Case, before: &Value, run: &Run) -> Result<()> {
    let after = case.state().await?;
    let differs = undeclared(case, before, &after, run);
    ensure!(differs.is_empty(), "after the undo these differ and no action says so:\n{}", shown(&differs));
    Ok(())
}

/// Differences after the undo of a run that none of its actions declares.
pub fn undeclared(case: &Case, before: &Value, after: &Value, run: &Run) -> Vec<Difference> {
    let actions: BTreeSet<&str> = run.all_steps().map(|step| step.action.as_str()).collect();
    let is_left = |step: &&Step| matches!(run.undo_result(&step.id), Some(UndoResult::Left { declared: false, .. }));
    let left = run.all_steps().filter(is_left).map(|step| step.action.as_str());
    let undo = AfterUndo::of(before, after, &case.target.id, left);
    let mut found = differences(before, after);
    found.retain(|d| !undo.declared_by(d).is_some_and(|action| actions.contains(action)));
    found
}

/// The end of an undisturbed run in a world, in terms that every account shares, and the requests that it made.
#[derive(Debug)]
pub struct Reference {
    pub state: Value,
    pub requests: Vec<Request>,
}

/// The undisturbed run of a playbook in a world, made once.
pub async fn reference(playbook: &'static Traced, of: &str, permits: Permits) -> Result<Arc<Reference>> {
    type Made = Arc<OnceCell<Arc<Reference>>>;
    static ALL: Mutex<BTreeMap<(&str, String, Permits), Made>> = Mutex::new(BTreeMap::new());
    let made = {
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry((playbook.id(), of.to_owned(), permits)).or_default())
    };
    let make = || async {
        let security = Security::fresh(permits).await?;
        let case = Case::new(&security, playbook, of).await?;
        case.deliver().await.answer()?;
        let state = in_shared_terms(&case, &case.state().await?, &case.the_run().await?);
        Ok::<_, anyhow::Error>(Arc::new(Reference { state, requests: case.faults.requests() }))
    };
    made.get_or_try_init(make).await.cloned()
}

fn in_shared_terms(case: &Case, state: &Value, run: &Run) -> Value {
    normal(state, &case.ids, &case.member, Some(run.head.id.as_str()))
}

/// The run is held, everything is so, nothing waits, and the account is as after an undisturbed run.
pub async fn ends_as_undisturbed(case: &Case, of: &str) -> Result<Run> {
    let run = case.the_run().await?;
    let outcome = run.end.as_ref().map(|end| end.outcome);
    ensure!(run.state == RunState::Held, "{}", results(&run));
    ensure!(outcome == Some(done(case.playbook)), "{outcome:?}: {}", results(&run));
    let state = case.state().await?;
    holds(case, &state)?;
    // What an Auto Scaling group launches in the largest world differs from one account to the next.
    if of != worlds(case.playbook).await.largest {
        let undisturbed = reference(case.playbook, of, case.security.permits).await?;
        let differs = differences(&undisturbed.state, &in_shared_terms(case, &state, &run));
        ensure!(differs.is_empty(), "the end is another than undisturbed:\n{}", shown(&differs));
    }
    Ok(run)
}

/// The steps that need `failed`, directly or through others.
pub fn dependents(run: &Run, failed: &StepId) -> BTreeSet<StepId> {
    let mut found = BTreeSet::from([failed.clone()]);
    loop {
        let more: Vec<StepId> = run
            .all_steps()
            .filter(|step| !found.contains(&step.id) && step.needs.iter().any(|need| found.contains(need)))
            .map(|step| step.id.clone())
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// A run's results that are not good, for a message.
pub fn results(run: &Run) -> String {
    let one = |step: &Step| {
        let result = run.result(&step.id);
        let why = match result {
            Some(StepResult::Failed { why, .. } | StepResult::Left { why }) => format!(": {why}"),
            Some(StepResult::Skipped { needs }) => format!(": needs {needs}"),
            _ => String::new(),
        };
        format!("    {} {}{why}", step.id, result.map_or("not tried", StepResult::name))
    };
    let end = run.end.as_ref().map(|end| format!("{} {:?}", end.outcome, end.not_done));
    let bad = run.all_steps().filter(|step| !run.result(&step.id).is_some_and(StepResult::is_good));
    format!("{:?} {end:?}\n{}", run.state, bad.map(one).collect::<Vec<_>>().join("\n"))
}
