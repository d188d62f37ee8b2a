//! Whatever happens in whatever order: findings, their repeats, people's decisions, minutes, deaths of the process, calls
//! that are refused, and what others do to the target meanwhile. After each step the ledger, what people were told and
//! what AWS has are held against each other.
//!
//! `FIREBREAK_MODEL_CASES=50 cargo test --workspace --test laws model` plays so many histories of each playbook, others
//! each time. A history that fails is shortened, printed as a list, and played first from then on.

mod history;
mod player;

use std::sync::Arc;

use anyhow::Result;
use firebreak_tests::in_process::{Permits, Security, Traced, playbooks, worlds_of};
use firebreak_tests::spoil::runner;
use proptest::prelude::*;
use proptest::test_runner::TestError;

use crate::support::try_each;
use history::{History, histories};
use player::play;

/// The variable that asks for more histories.
const CASES: &str = "FIREBREAK_MODEL_CASES";

/// How many histories of each playbook are played without being asked.
const SHORT: u32 = 2;

/// A failing history is shortened by so many attempts at most: each is played whole.
const SHRINKS: u32 = 80;

/// What the hold of a history's target is permitted by: its end is due within the hour.
const ACTS: &str = r#"@id("all") @hold("1h") permit (principal, action, resource);"#;

/// The security accounts of a thread.
struct Accounts {
    /// The policies let everything be done.
    acts: Arc<Security>,
    /// A person is asked.
    asks: Arc<Security>,
}

impl Accounts {
    async fn fresh() -> Result<Self> {
        let acts = Security::fresh(Permits::Default).await?;
        acts.publish(ACTS).await?;
        Ok(Self { acts, asks: Security::fresh(Permits::Default).await? })
    }
}

#[test]
fn in_every_history_the_ledger_and_aws_agree_or_people_are_told() {
    let all = playbooks().iter().map(|(_, playbook)| *playbook).collect();
    try_each(all, Accounts::fresh, try_playbook);
}

fn try_playbook(
    runtime: &tokio::runtime::Runtime,
    accounts: &Accounts,
    playbook: &'static Traced,
) -> Result<(), String> {
    let begun = std::time::Instant::now();
    let file = format!("{}/regressions/model-{}.txt", env!("CARGO_MANIFEST_DIR"), playbook.id());
    let mut runner = runner(CASES, SHORT, file.leak(), SHRINKS);
    let strategy = histories(worlds_of(playbook).unwrap());
    let result = runner.run(&strategy, |history: History| {
        let security = if history.asks { &accounts.asks } else { &accounts.acts };
        runtime.block_on(play(security, playbook, &history)).map_err(|why| TestCaseError::fail(format!("{why:#}")))
    });
    println!("{}: {} histories in {:.1} s", playbook.id(), runner.config().cases, begun.elapsed().as_secs_f64());
    match result {
        Ok(()) => Ok(()),
        Err(TestError::Fail(why, history)) => Err(format!("{}: {why}\n{history:?}", playbook.id())),
        Err(error) => Err(format!("{}: {error}", playbook.id())),
    }
}
