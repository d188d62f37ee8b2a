//! Whatever arrives: every parser, the handler, people's door, the loader of policies and what is read of the ledger's
//! tables, with documents spoilt. No panic, no memory and no work beyond what the size of the input allows, and nothing
//! changed by what cannot be read.
//!
//! `PROPTEST_CASES=20000 cargo test --workspace --test fuzz` tries so many of each, others each time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, unreachable_pub)]

mod door;
mod findings;
mod handler;
mod memory;
mod policies;
mod rows;

use std::sync::OnceLock;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{TestError, TestRunner};
use serde_json::Value;

/// The variable that asks for more cases.
pub const CASES: &str = "PROPTEST_CASES";

/// Documents that findings come in.
pub fn documents() -> &'static [Value] {
    static ALL: OnceLock<Vec<Value>> = OnceLock::new();
    ALL.get_or_init(|| firebreak_tests::spoil::documents().unwrap())
}

/// One of them.
pub fn document() -> impl Strategy<Value = &'static Value> {
    any::<Index>().prop_map(|index| &documents()[index.index(documents().len())])
}

/// Tries a property, prints how often, and fails with the shortest case that fails.
pub fn try_all<S: Strategy>(
    name: &str,
    mut runner: TestRunner,
    strategy: &S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) where
    S::Value: std::fmt::Debug,
{
    let begun = std::time::Instant::now();
    let result = runner.run(strategy, test);
    println!("{name}: {} cases in {:.1} s", runner.config().cases, begun.elapsed().as_secs_f64());
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, case)) => panic!("{name}: {why}\n{}", shortened(&format!("{case:#?}"))),
        Err(error) => panic!("{name}: {error}"),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(4000).collect()
}

/// A thread with a runtime, and with stack enough for an unoptimised run of the loop.
pub fn on_a_long_stack(test: impl FnOnce(&tokio::runtime::Runtime) + Send + 'static) {
    with_stack(64, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        test(&runtime);
    });
}

/// A thread with the stack that the main thread of a function has.
pub fn on_a_main_threads_stack(test: impl FnOnce() + Send + 'static) {
    with_stack(8, test);
}

fn with_stack(mebibytes: usize, test: impl FnOnce() + Send + 'static) {
    let ended = std::thread::Builder::new().stack_size(mebibytes * 1024 * 1024).spawn(test).unwrap().join();
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}
