//! Two hands at once: an event that comes between two writes of another, and a process so slow that another has gone on
//! with its run. What several deliveries of one kind do at once is in `delivery` and `decisions`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use firebreak::ledger::Which;
use firebreak::ledger::decisions::Verb;
use firebreak::plan::Undo;
use firebreak::run::{Outcome, Run, RunState};
use firebreak_tests::compare::{differences, shown};
use firebreak_tests::events;
use firebreak_tests::faults::{Moment, Place, Request};
use firebreak_tests::in_process::{Case, Delivered, Permits, REGION, Security, Traced, playbooks, run_to_end};
use serde_json::Value;

use crate::death::changes_for;
use crate::delivery::runs;
use crate::support::{
    Named, all, contains, done, ends_as_undisturbed, every_pair, fixes, is_restored, is_so, named, one_of_each,
    results, users_of_actions, worlds,
};

/// What arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// The case's finding, once more.
    Repeat,
    /// Another finding about the target, as grave.
    Another,
    /// Another finding, graver than the first.
    Graver,
    /// A person approves.
    Approve,
    /// A person rejects.
    Reject,
    /// A person undoes.
    Undo,
    /// A person has it done again.
    Retry,
}

impl Event {
    async fn of(self, case: &Case) -> Result<Value> {
        match self {
            Self::Repeat => Ok(case.event.clone()),
            Self::Another | Self::Graver => {
                let mut event = case.report(&case.target.id).await?;
                if self == Self::Graver {
                    events::severe(&mut event, 9.5);
                    case.security.observer.put_finding(&case.security.account, REGION, &event["detail"]).await?;
                }
                Ok(event)
            }
            Self::Approve => case.decision(Verb::Approve).await,
            Self::Reject => case.decision(Verb::Reject).await,
            Self::Undo => case.decision(Verb::Undo).await,
            Self::Retry => case.decision(Verb::Retry).await,
        }
    }
}

/// How the target stands when both arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// Nothing was reported of it.
    Free,
    /// People are asked about it.
    Proposed,
    /// It is held.
    Held,
}

/// The second event is answered whole between two writes of the first; then the run that has the target is in one of
/// these states.
struct Race(Stands, Event, Event, &'static [RunState]);

const RACES: &[Race] = &[
    Race(Stands::Free, Event::Repeat, Event::Repeat, &[RunState::Held]),
    Race(Stands::Free, Event::Repeat, Event::Another, &[RunState::Held]),
    Race(Stands::Proposed, Event::Approve, Event::Repeat, &[RunState::Held]),
    Race(Stands::Proposed, Event::Repeat, Event::Approve, &[RunState::Held]),
    Race(Stands::Proposed, Event::Approve, Event::Another, &[RunState::Held]),
    // What is graver is asked about by itself, and a word about the first question is then about nothing.
    Race(Stands::Proposed, Event::Approve, Event::Graver, &[RunState::Held, RunState::Proposed]),
    Race(Stands::Proposed, Event::Graver, Event::Approve, &[RunState::Held, RunState::Proposed]),
    Race(Stands::Proposed, Event::Reject, Event::Repeat, &[RunState::Rejected]),
    Race(Stands::Proposed, Event::Repeat, Event::Reject, &[RunState::Rejected]),
    Race(Stands::Held, Event::Undo, Event::Repeat, &[RunState::Released]),
    Race(Stands::Held, Event::Repeat, Event::Undo, &[RunState::Released]),
    Race(Stands::Held, Event::Undo, Event::Another, &[RunState::Released]),
    Race(Stands::Held, Event::Another, Event::Undo, &[RunState::Released]),
    Race(Stands::Held, Event::Undo, Event::Undo, &[RunState::Released]),
    // Of two words about one run the second is refused while the first is carried out.
    Race(Stands::Held, Event::Undo, Event::Retry, &[RunState::Released, RunState::Held]),
    Race(Stands::Held, Event::Retry, Event::Undo, &[RunState::Released, RunState::Held]),
];

/// Before which writes of the first event the second comes: its claim, and what follows; and with `every` of the tries of
/// the laws, later ones.
const WRITES: [usize; 4] = [0, 1, 3, 6];

async fn is_run(race: &'static Race, write: usize, security: &Arc<Security>, playbook: &'static Traced) -> Result<()> {
    let Race(stands, first, second, ends) = race;
    let mut case = Case::new(security, playbook, &worlds(playbook).await.least).await?;
    let before = case.state().await?;
    if *stands != Stands::Free {
        case.deliver().await.answer()?;
        if *stands == Stands::Held {
            case.settle().await?;
        }
    }
    let (first, second) = (first.of(&case).await?, second.of(&case).await?);
    case.restart()?;
    let said = Arc::new(Mutex::new(None));
    let (elsewhere, says) = (case.elsewhere(&second)?, Arc::clone(&said));
    let comes = Box::pin(async move {
        *says.lock().unwrap_or_else(PoisonError::into_inner) = Some(elsewhere.await?);
        Ok(())
    });
    let count = AtomicUsize::new(0);
    let between = move |request: &Request| {
        request.place == Place::Hub && request.writes_ledger() && count.fetch_add(1, Ordering::SeqCst) == write
    };
    let came = case.faults.meanwhile(Moment::Before, between, comes);
    let answered = case.deliver_event(&first).await;
    ensure!(matches!(answered, Delivered::Answered(_)), "{answered:?}");
    if came.happened().is_err() {
        // The first writes less often: the second comes after it.
        case.faults.nobody();
        let answer = case.elsewhere(&second)?.await?;
        *said.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }
    let said = said.lock().unwrap_or_else(PoisonError::into_inner).take().context("the second was not answered")?;
    let answered = answered.answer()?;
    let outcomes = format!("{answered:?}, then {said:?}");
    case.settle().await?;
    let run = case.the_run().await?;
    ensure!(ends.contains(&run.state), "{outcomes}\n{}", results(&run));
    // Whose word was not carried out hears so.
    let refused = answered.outcomes.iter().chain(&said.outcomes).find(|one| one.outcome == Outcome::Refused);
    if let Some(of) = refused.and_then(|refused| refused.run.as_ref()) {
        let told = case.security.told_about(of.as_str()).await?;
        ensure!(told.iter().any(|text| text.starts_with("DECISION NOT CARRIED OUT")), "{outcomes}\n{told:?}");
    }
    agrees(&case, &before, &run).await.context(outcomes)
}

/// One run at most has the target, and AWS is as its row says.
async fn agrees(case: &Case, before: &Value, run: &Run) -> Result<()> {
    let runs = runs(case).await?;
    let acting = runs.iter().filter(|run| matches!(run.state, RunState::Held | RunState::Applying | RunState::Undoing));
    let acting: Vec<_> = acting.map(|run| (&run.head.id, run.state)).collect();
    ensure!(acting.iter().all(|(id, _)| **id == run.head.id), "others have it too: {acting:?}");
    match run.state {
        RunState::Held => {
            let outcome = run.end.as_ref().map(|end| end.outcome);
            ensure!(outcome == Some(done(case.playbook)), "{}", results(run));
            is_so(case).await
        }
        RunState::Released => {
            ensure!(run.end.as_ref().is_some_and(|end| end.outcome == Outcome::Undone), "{:?}", run.end);
            is_restored(case, before, run).await
        }
        RunState::Proposed | RunState::Rejected => {
            let differs = differences(before, &case.state().await?);
            ensure!(differs.is_empty(), "nothing was to be changed:\n{}", shown(&differs));
            Ok(())
        }
        other => bail!("it ends {other:?}"),
    }
}

#[test]
fn an_event_between_two_writes_of_another_leaves_one_run_that_agrees_with_aws() {
    run_to_end(|| async {
        let (asks, acts) =
            tokio::join!(Security::on_each_server(Permits::Default), Security::on_each_server(Permits::Enforce));
        let (asks, acts) = (asks.unwrap(), acts.unwrap());
        let mut cases: Vec<Named<'_>> = Vec::new();
        let mut turn = 0;
        for race in RACES {
            for write in if every_pair() { &WRITES[..] } else { &WRITES[..2] }.iter().copied() {
                let playbooks: Vec<&'static Traced> = playbooks().iter().map(|(_, playbook)| *playbook).collect();
                // Of a fix the least is said, and of some nothing can be undone; each has its turn all the same.
                let chosen = if every_pair() { playbooks } else { vec![playbooks[turn % playbooks.len()]] };
                turn += 1;
                for playbook in chosen {
                    if race.2 == Event::Graver && fixes(playbook) {
                        // How severe a control is, is Security Hub's word alone.
                        continue;
                    }
                    let servers = if race.0 == Stands::Proposed { &asks } else { &acts };
                    let security = &servers[turn % servers.len()];
                    let name =
                        format!("{}: {:?}, {:?} at write {write} of {:?}", playbook.id(), race.0, race.2, race.1);
                    cases.push(named(name, is_run(race, write, security, playbook)));
                }
            }
        }
        all("an event between two writes of another", cases).await;
    });
}

/// What a call does that AWS carries out when another has finished the run already: nothing fences it. A process ends
/// before its lease does, so the call would have to be under way for longer than the function may run.
const UNFENCED: &[(&str, Moment, &str)] = &[
    (
        "ec2.create-snapshots",
        Moment::Before,
        "the call has no client token: there is a second set, and evidence is kept",
    ),
    (
        "ec2.open-group",
        Moment::Before,
        "the group for the instant in which flows are forgotten has a rule, and nothing is in it",
    ),
];

/// A process is slow at a call of an action; meanwhile its lease ends, and another finishes the run.
async fn is_overtaken(
    security: &Arc<Security>,
    playbook: &'static Traced,
    of: &str,
    action: &str,
    moment: Moment,
) -> Result<()> {
    let case = Case::new(security, playbook, of).await?;
    let before = case.state().await?;
    let (overtakes, ledger) = (case.overtaking()?, security.ledger()?);
    let finished = Arc::new(Mutex::new(String::new()));
    let (shows, mine) = (Arc::clone(&finished), case.target.clone());
    let id = playbook.id();
    let does = Box::pin(async move {
        overtakes.await?;
        let runs = ledger.runs(200, None, Which::default()).await?.0;
        let run = runs.into_iter().find(|run| run.head.target == mine && run.head.playbook == id);
        let run = run.context("there is no run")?;
        ensure!(run.end.is_some() && run.epoch == 2, "it was not taken over: epoch {}", run.epoch);
        *shows.lock().unwrap_or_else(PoisonError::into_inner) = format!("{run:?}");
        Ok(())
    });
    let slow = case.faults.meanwhile(moment, changes_for(action, false), does);
    let answered = case.deliver().await;
    slow.happened()?;
    let answer = answered.answer()?;
    ensure!(answer.outcomes.iter().all(|o| o.outcome != Outcome::Failed), "{:?}", answer.outcomes);
    // What it wrote when it woke up was refused.
    let run = case.the_run().await?;
    let then = finished.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ensure!(format!("{run:?}") == then, "the slow one wrote:\n{then}\n{run:?}");
    case.settle().await?;
    ends_as_undisturbed(&case, of).await?;
    if contains(playbook) || fixes(playbook) {
        case.decide(Verb::Undo).await?.answer()?;
        is_restored(&case, &before, &case.the_run().await?).await?;
    }
    Ok(())
}

#[test]
fn a_slow_process_whose_run_another_has_finished_writes_no_more_and_changes_nothing_back() {
    run_to_end(|| async {
        let servers = Security::on_each_server(Permits::Everything).await.unwrap();
        let mut cases: Vec<Named<'_>> = Vec::new();
        for (n, (playbook, action, of)) in one_of_each(users_of_actions().await).into_iter().enumerate() {
            let security = &servers[n % servers.len()];
            let both = [Moment::Before, Moment::After];
            let mut moments = if every_pair() { both.to_vec() } else { vec![both[n % 2]] };
            moments.retain(|moment| !UNFENCED.iter().any(|(of, when, _)| *of == action && when == moment));
            for moment in moments {
                let undo = playbook.action(action).unwrap().undo_kind();
                let never = if matches!(undo, Undo::Never { .. }) { ", never undone" } else { "" };
                let name = format!("{} {of}, {moment:?} {action}{never}", playbook.id());
                cases.push(named(name, is_overtaken(security, playbook, of, action, moment)));
            }
        }
        all("a slow process is overtaken", cases).await;
    });
}
