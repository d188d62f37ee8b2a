//! What the laws share: cases side by side, the worlds that they use, and what an undo has to give back.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use firebreak::action::Boxed;
use firebreak::plan::{Leave, Step, StepId, Undo};
use firebreak::playbook::{Playbook, Purpose};
use firebreak::run::{Run, RunState};
use firebreak::target::TargetKind;
use firebreak_tests::compare::{differences, shown};
use firebreak_tests::in_process::{Case, Traced, kind_of_target, playbooks};
pub use firebreak_tests::judgement::{
    SIDE_BY_SIDE, done, in_shared_terms, is_restored, reference, results, undeclared, worlds,
};
use firebreak_tests::undo::declares;
use futures_util::StreamExt;

use crate::facts::holds;
pub use crate::facts::is_so;

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

/// Tries each thing on one of a few threads, each with a runtime and accounts of its own: what one of them is told is about one
/// case at a time. Fails with every failure there is.
pub fn try_each<T: Send + 'static, A>(
    things: Vec<T>,
    accounts: impl AsyncFn() -> Result<A> + Copy + Send + 'static,
    try_one: impl Fn(&tokio::runtime::Runtime, &A, T) -> Result<(), String> + Copy + Send + 'static,
) {
    const THREADS: usize = 3;
    let mut shares: [Vec<T>; THREADS] = Default::default();
    for (n, thing) in things.into_iter().enumerate() {
        shares[n % THREADS].push(thing);
    }
    let threads = shares.map(|share| {
        let tries = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let accounts = runtime.block_on(accounts()).unwrap();
            share.into_iter().filter_map(|thing| try_one(&runtime, &accounts, thing).err()).collect::<Vec<_>>()
        };
        std::thread::Builder::new().stack_size(64 * 1024 * 1024).spawn(tries).unwrap()
    });
    let failures: Vec<String> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert!(failures.is_empty(), "{} fail\n\n{}\n", failures.len(), failures.join("\n\n"));
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

/// A step of the instant in which tracked flows are forgotten: what it does, a later step takes back by itself.
pub fn is_instant(step: &Step) -> bool {
    step.leave == Some(Leave::CutTrackedFlows)
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

/// The table of declared differences and the actions' own words agree on which actions have any.
pub fn check_declared(playbook: &'static Traced) -> Result<()> {
    for action in playbook.actions() {
        let (name, exact) = (action.name(), action.undo_kind() == Undo::Exact);
        ensure!(!exact || !declares(name), "{name} is undone exactly, but the table lets it differ");
        ensure!(exact || declares(name), "{name}: add its line to the table DECLARED in tests/src/undo.rs");
    }
    Ok(())
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
