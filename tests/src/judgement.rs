//! What cases are judged by: the worlds of each playbook, how an undisturbed run ends, what an undo has to give back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use firebreak::action::Boxed;
use firebreak::plan::{Plan, Step};
use firebreak::playbook::{Planned, Playbook, Purpose};
use firebreak::run::{Outcome, Run, StepResult, UndoResult};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::compare::{Difference, differences, normal, shown};
use crate::emulator::Ids;
use crate::faults::Request;
use crate::in_process::{Case, Permits, Security, Settings, Traced, playbooks, worlds_of};
use crate::undo::AfterUndo;

/// How many cases run side by side in one test. The emulator is one process: more would only wait.
pub const SIDE_BY_SIDE: usize = 6;

/// The outcome that says that everything was done.
pub fn done(playbook: &dyn Playbook) -> Outcome {
    match playbook.meta().purpose {
        Purpose::Contain => Outcome::Contained,
        Purpose::Preserve => Outcome::Preserved,
        Purpose::Fix => Outcome::Fixed,
    }
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
///
/// # Panics
/// When they cannot be found.
#[expect(clippy::unwrap_used, reason = "a test's harness fails the test")]
pub async fn worlds(playbook: &Traced) -> &'static Worlds {
    static FOUND: OnceCell<BTreeMap<&'static str, Worlds>> = OnceCell::const_new();
    let all = || playbooks().iter().map(|(_, playbook)| *playbook).collect::<Vec<_>>();
    &FOUND.get_or_init(|| async { find_worlds(&all()).await.unwrap() }).await[playbook.id()]
}

/// A world, and what each playbook plans over it.
type Planning<'a> = Boxed<'a, Result<(String, Vec<(&'static str, Planned)>)>>;

/// The worlds of these playbooks.
pub async fn find_worlds(of: &[&'static Traced]) -> Result<BTreeMap<&'static str, Worlds>> {
    let servers = Security::on_each_server(Permits::Everything).await?;
    let mut asked: BTreeMap<String, Vec<&'static Traced>> = BTreeMap::new();
    for playbook in of {
        for world in worlds_of(*playbook)? {
            asked.entry(world).or_default().push(playbook);
        }
    }
    let mut planning: Vec<Planning<'_>> = Vec::new();
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
    /// The end state.
    pub state: Value,
    /// The requests.
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

/// A state in terms that every account shares.
pub fn in_shared_terms(case: &Case, state: &Value, run: &Run) -> Value {
    normal(state, &case.ids, &case.member, Some(run.head.id.as_str()))
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
