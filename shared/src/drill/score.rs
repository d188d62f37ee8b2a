//! How a drill went: what became of each playbook's run, and what is still to be waited for. Decided from the ledger's rows
//! alone.

use std::fmt;

use crate::failure::Failure;
use crate::ids::RunId;
use crate::ledger::STOPPED;
use crate::run::{Outcome, Run, RunState};

/// A playbook that a drill rehearses, as the drill knows it: its code is not part of the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Playbook {
    /// Its id.
    pub id: &'static str,
    /// The word under which it holds a target.
    pub hold: &'static str,
    /// Whether it keeps evidence, which is never undone.
    pub keeps: bool,
}

/// Where a playbook's run stands in a drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is not over.
    Waits(&'static str),
    /// It has contained the canary: it is to be undone now.
    ToUndo(RunId),
    /// A person is asked, as the policies want it: the question is to be taken back, for it is only a drill.
    ToReject(RunId),
    /// It went as the policies want it.
    Well {
        /// In words.
        how: String,
        /// Milliseconds to the last cut, where something was cut.
        contained_after_ms: Option<u64>,
    },
    /// It did not go well.
    Badly(String),
}

impl Standing {
    /// Where a playbook's run stands. `run` is the one that has the canary, if it is this drill's.
    pub fn of(playbook: &Playbook, run: Option<&Run>) -> Self {
        let Some(run) = run else { return Self::Waits("nothing has answered it") };
        let id = &run.head.id;
        let outcome = run.end.as_ref().map(|end| end.outcome);
        let said = outcome.map_or("without an end", Outcome::as_str);
        match run.state {
            RunState::Applying => Self::Waits("it is being contained"),
            RunState::Undoing => Self::Waits("it is being undone"),
            RunState::Proposed => Self::ToReject(id.clone()),
            RunState::Rejected => Self::well("proposed, as the policies want it: nothing was contained", None),
            RunState::Observed if run.head.reasons.first().is_some_and(|why| why.starts_with(STOPPED)) => {
                Self::Badly("everything was stopped: it was only observed".to_owned())
            }
            RunState::Observed => Self::well("observed, as the policies want it: nothing was contained", None),
            RunState::Held if playbook.keeps && outcome == Some(Outcome::Preserved) => {
                Self::well("evidence kept", None)
            }
            RunState::Held if playbook.keeps => Self::Badly(format!("the evidence is {said} (run {id})")),
            // An undo that failed is not asked for again: a person has to look.
            RunState::Held if !run.undone.is_empty() => Self::Badly(format!("the undo is {said} (run {id})")),
            RunState::Held if outcome == Some(Outcome::Contained) => Self::ToUndo(id.clone()),
            // What was tried again may still come about.
            RunState::Held if run.end.as_ref().is_some_and(|end| end.retry) => Self::Waits("it is tried again"),
            RunState::Released if outcome == Some(Outcome::Undone) => {
                let contained = run.past.iter().rev().find(|past| past.outcome == Outcome::Contained);
                match contained {
                    Some(past) => Self::well("contained and undone", past.contained_after_ms),
                    None => Self::Badly(format!("it was undone and had not been contained (run {id})")),
                }
            }
            RunState::Held | RunState::Released | RunState::Freed | RunState::Superseded => {
                Self::Badly(format!("it is {}, {said} (run {id})", run.state.as_str()))
            }
        }
    }

    fn well(how: &str, contained_after_ms: Option<u64>) -> Self {
        Self::Well { how: how.to_owned(), contained_after_ms }
    }
}

/// How a drill went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Score {
    /// Whether every playbook's run went as the policies want it.
    pub passed: bool,
    /// What became of each, by playbook.
    pub lines: Vec<(&'static str, String)>,
    /// Milliseconds to the last cut, by playbook, where something was cut.
    pub contained_after_ms: Vec<(&'static str, u64)>,
}

impl Score {
    /// The score, once each run is over; nothing before. When there is no more `time`, what is not over has failed.
    pub fn of(standings: &[(&'static Playbook, Standing)], time: bool) -> Option<Self> {
        let over = |standing: &Standing| matches!(standing, Standing::Well { .. } | Standing::Badly(_));
        if time && !standings.iter().all(|(_, standing)| over(standing)) {
            return None;
        }
        let mut score = Self { passed: true, lines: Vec::new(), contained_after_ms: Vec::new() };
        for (playbook, standing) in standings {
            let (well, line) = match standing {
                Standing::Well { how, contained_after_ms } => {
                    score.contained_after_ms.extend(contained_after_ms.map(|ms| (playbook.id, ms)));
                    (true, how.clone())
                }
                Standing::Badly(why) => (false, why.clone()),
                Standing::Waits(why) => (false, format!("out of time: {why}")),
                Standing::ToUndo(run) => {
                    (false, format!("out of time: the undo of run {run} was asked for and not done"))
                }
                Standing::ToReject(run) => (false, format!("out of time: proposal {run} could not be taken back")),
            };
            score.passed &= well;
            score.lines.push((playbook.id, line));
        }
        Some(score)
    }

    /// That of a drill whose event did not get on its way.
    pub fn never_sent(failure: &Failure) -> Self {
        Self::failed(format!("its event was not sent: {}", failure.brief()))
    }

    /// That of a drill on what there is nothing to rehearse on.
    pub fn of_nothing() -> Self {
        Self::failed("there is nothing to rehearse on a target of this kind".to_owned())
    }

    fn failed(why: String) -> Self {
        Self { passed: false, lines: vec![("drill", why)], contained_after_ms: Vec::new() }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.passed { "passed" } else { "failed" })?;
        self.lines.iter().try_for_each(|(playbook, line)| write!(f, "\n{playbook}: {line}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const CUT: &Playbook = &Playbook { id: "isolate-instance", hold: "isolate-instance", keeps: false };
    const KEEP: &Playbook = &Playbook { id: "snapshot-volumes", hold: "snapshot-volumes", keeps: true };

    fn well(ms: Option<u64>) -> Standing {
        Standing::Well { how: "contained and undone".to_owned(), contained_after_ms: ms }
    }

    #[test]
    fn a_drill_is_over_when_each_run_is_or_the_time_is() {
        let waits = || Standing::Waits("it is being undone");
        assert_eq!(Score::of(&[(CUT, well(Some(9))), (KEEP, waits())], true), None);
        let late = Score::of(&[(CUT, well(Some(9))), (KEEP, waits())], false).unwrap();
        assert!(!late.passed);
        assert_eq!(
            late.to_string(),
            "failed\nisolate-instance: contained and undone\nsnapshot-volumes: out of time: it is being undone"
        );
        let good = Score::of(&[(CUT, well(Some(9))), (KEEP, well(None))], true).unwrap();
        assert!(good.passed);
        assert_eq!(good.contained_after_ms, [("isolate-instance", 9)]);
        let bad = Score::of(&[(CUT, Standing::Badly("no".to_owned())), (KEEP, well(None))], true).unwrap();
        assert!(!bad.passed);
    }

    #[test]
    fn what_was_asked_for_and_not_done_is_no_success() {
        for standing in [Standing::ToUndo(RunId::new()), Standing::ToReject(RunId::new())] {
            assert_eq!(Score::of(&[(CUT, standing.clone())], true), None);
            assert!(!Score::of(&[(CUT, standing)], false).unwrap().passed);
        }
    }
}
