//! What cannot be read changes nothing, although every call would be carried out and the finding that it was made of is
//! genuine. The same without an emulator, and much more often, is in `tests/tests/fuzz/handler.rs`.

use std::cell::Cell;

use anyhow::{Result, ensure};
use firebreak::finding::Trigger;
use firebreak_tests::faults::Place;
use firebreak_tests::in_process::{Case, FUNCTIONS, Permits, Security, Traced, playbooks};
use firebreak_tests::regressions;
use firebreak_tests::spoil::{runner, spoils, spoilt};
use proptest::prelude::*;
use proptest::test_runner::TestError;

use crate::support::{done, worlds};

/// How many events are spoilt for each function; about a third of them cannot be read any more.
const SHORT: u32 = 30;

fn is_malformed(bytes: &[u8]) -> bool {
    match Trigger::parse(bytes) {
        Err(_) => true,
        Ok(Trigger::Findings(reported)) => reported.findings.iter().all(Result::is_err),
        Ok(_) => false,
    }
}

/// Delivers what cannot be read, and looks at what was called.
async fn changes_nothing(case: &Case, bytes: &[u8]) -> Result<()> {
    let from = case.faults.requests().len();
    let answer = case.deliver_bytes(bytes).await.answer()?;
    ensure!(answer.outcomes.iter().all(|answered| answered.run.is_none()), "{:?}", answer.outcomes);
    let changes = |place: Place, operation: &str, reads: bool| {
        (place == Place::Member && !reads) || operation == "TransactWriteItems"
    };
    let requests = case.faults.requests();
    let changed = requests.iter().skip(from).find(|r| changes(r.place, &r.operation, r.reads()));
    ensure!(changed.is_none(), "{changed:?}");
    Ok(())
}

#[test]
fn a_malformed_event_changes_nothing_where_every_call_would_be_carried_out() {
    let tries = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let security = runtime.block_on(Security::fresh(Permits::Everything)).unwrap();
        for function in FUNCTIONS {
            let of_it = |playbook: &Traced| function.playbooks.iter().any(|one| one.meta().id == playbook.id());
            let (_, playbook) = playbooks().iter().find(|(_, playbook)| of_it(playbook)).unwrap();
            let world = &runtime.block_on(worlds(playbook)).least;
            let case = runtime.block_on(Case::new(&security, playbook, world)).unwrap();
            let before = runtime.block_on(case.state()).unwrap();
            let malformed = Cell::new(0);
            let mut runner = runner("PROPTEST_CASES", SHORT, regressions!("malformed"), 60);
            let result = runner.run(&spoils(), |spoils| {
                let bytes = spoilt(&case.event, &spoils);
                if !is_malformed(&bytes) {
                    return Ok(());
                }
                malformed.set(malformed.get() + 1);
                runtime.block_on(changes_nothing(&case, &bytes)).map_err(|why| TestCaseError::fail(format!("{why:#}")))
            });
            match result {
                Ok(()) => {}
                Err(TestError::Fail(why, spoils)) => panic!("{}: {why}\n{spoils:?}", function.name),
                Err(error) => panic!("{}: {error}", function.name),
            }
            println!("{}: {} malformed events", function.name, malformed.get());
            assert!(malformed.get() > 0, "{}: no event was malformed", function.name);
            assert_eq!(runtime.block_on(case.state()).unwrap(), before, "{}", function.name);
            // Else it would show nothing: the same event as it is acts.
            let answer = runtime.block_on(case.deliver()).answer().unwrap();
            assert_eq!(answer.outcomes[0].outcome, done(*playbook), "{:?}", answer.outcomes);
        }
    };
    std::thread::Builder::new().stack_size(64 * 1024 * 1024).spawn(tries).unwrap().join().unwrap();
}
