//! Histories: what happens to one target, as short lists.

use std::fmt;

use firebreak::ledger::decisions::Verb;
use firebreak_tests::faults::Fault;
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A target in its world, and what happens.
#[derive(Clone)]
pub struct History {
    /// The world.
    pub world: String,
    /// Whether a person is asked; else everything is done by itself.
    pub asks: bool,
    /// What happens, in turn.
    pub steps: Vec<Step>,
}

/// One thing that happens, and what goes wrong at it.
#[derive(Clone)]
pub struct Step {
    /// What happens.
    pub what: What,
    /// What becomes of the nth call that the function makes at it.
    pub trip: Option<(usize, Fault)>,
}

/// What happens.
#[derive(Debug, Clone, Copy)]
pub enum What {
    /// The first finding comes, or comes again as it was.
    Found,
    /// Another finding about the same target.
    FoundOther,
    /// A finding that came is seen again since.
    FoundLater(Index),
    /// A finding that came is delivered once more, byte for byte.
    FoundAgain(Index),
    /// A person decides about the target's run, if it has one.
    Decided(Verb, Counts),
    /// All that waits is due, every lease has ended, and the schedule works.
    Minute,
    /// Somebody takes back what holds the target, if it is held.
    Reopened,
    /// Somebody gives the target something more.
    Altered,
    /// Somebody deletes the target.
    Vanished,
    /// Everything is stopped.
    Stopped,
    /// That is taken back.
    Resumed,
}

/// Whether a decision counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// It does.
    Yes,
    /// It does, and is delivered twice.
    Once,
    /// It has lapsed.
    Lapsed,
    /// It is of another plan.
    OfAnother,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "in {}, {}:", self.world, if self.asks { "a person is asked" } else { "by itself" })?;
        self.steps.iter().enumerate().try_for_each(|(n, step)| writeln!(f, "  {}. {step:?}", n + 1))
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::FoundLater(which) => write!(f, "FoundLater({})", which.index(100))?,
            What::FoundAgain(which) => write!(f, "FoundAgain({})", which.index(100))?,
            other => write!(f, "{other:?}")?,
        }
        match self.trip {
            Some((call, fault)) => write!(f, ", {fault:?} at call {call}"),
            None => Ok(()),
        }
    }
}

fn what() -> impl Strategy<Value = What> {
    let verbs = vec![Verb::Approve, Verb::Approve, Verb::Reject, Verb::Undo, Verb::Undo, Verb::Retry, Verb::Release];
    let counts = prop_oneof![
        6 => Just(Counts::Yes),
        1 => Just(Counts::Once),
        1 => Just(Counts::Lapsed),
        1 => Just(Counts::OfAnother),
    ];
    prop_oneof![
        5 => Just(What::Found),
        4 => Just(What::FoundOther),
        4 => any::<Index>().prop_map(What::FoundLater),
        3 => any::<Index>().prop_map(What::FoundAgain),
        9 => (select(verbs), counts).prop_map(|(verb, counts)| What::Decided(verb, counts)),
        7 => Just(What::Minute),
        5 => Just(What::Reopened),
        2 => Just(What::Altered),
        1 => Just(What::Vanished),
        1 => Just(What::Stopped),
        1 => Just(What::Resumed),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let faults = vec![Fault::DiesBefore, Fault::DiesAfter, Fault::DiesAfter, Fault::ReplyLost, Fault::Denied];
    (what(), weighted(0.3, (0_usize..60, select(faults)))).prop_map(|(what, trip)| Step { what, trip })
}

/// Histories in one of these worlds. Each begins with a finding: nothing happens before one comes.
pub fn histories(worlds: Vec<String>) -> impl Strategy<Value = History> {
    let first = weighted(0.3, (0_usize..60, select(vec![Fault::DiesBefore, Fault::DiesAfter, Fault::Denied])));
    (select(worlds), any::<bool>(), first, vec(step(), 3..10)).prop_map(|(world, asks, trip, rest)| {
        let mut steps = vec![Step { what: What::Found, trip }];
        steps.extend(rest);
        History { world, asks, steps }
    })
}
