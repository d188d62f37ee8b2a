//! The processes of the function, as Lambda runs them: each answers one event at a time, and takes the next from a queue.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::future::try_join_all;

use super::Lap;
use super::deliveries::{Delivery, Kind};
use crate::lab::{Function, Lab};

/// Lambda delivers an event that failed twice more.
const MOST_RETRIES: u32 = 2;

/// The schedule comes each minute.
const SCHEDULE: Duration = Duration::from_secs(60);

/// Memory is looked at so often.
const LAPS: usize = 10;

/// What waits in the ledger for the schedule, and is work that is not over; the rest is for its time.
pub(super) const UNFINISHED: [&str; 4] = ["lease", "retry", "report", "joined"];

/// What is to be answered.
enum Work {
    /// A delivery, and how often it has failed.
    Finding(usize, u32),
    /// The schedule.
    Schedule,
}

/// What the crew has seen.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) took: Duration,
    pub(super) answers: BTreeMap<(Kind, String), usize>,
    pub(super) again: usize,
    pub(super) schedules: usize,
    /// Deliveries that failed for good.
    pub(super) lost: Vec<String>,
    pub(super) calls: usize,
    pub(super) by_operation: BTreeMap<String, usize>,
    pub(super) laps: Vec<Lap>,
}

/// What the processes share.
struct Shared<'a> {
    plan: &'a [Delivery],
    queue: Mutex<VecDeque<Work>>,
    outcome: Mutex<Outcome>,
    memory: Mutex<Vec<(u64, u64)>>,
    begun: Instant,
    scheduled: Mutex<Instant>,
    /// Calls of before this index are counted.
    counted: Mutex<u64>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The processes.
pub(super) struct Crew(Vec<Function>);

impl Crew {
    /// Starts them.
    pub(super) async fn hire(lab: &Lab<'_>, processes: usize) -> Result<Self> {
        let mut functions = Vec::new();
        for _ in 0..processes {
            functions.push(lab.start().await?);
        }
        Ok(Self(functions))
    }

    /// The first of them.
    pub(super) fn first(&mut self) -> Option<&mut Function> {
        self.0.first_mut()
    }

    /// Answers every delivery.
    pub(super) async fn answer(&mut self, lab: &Lab<'_>, plan: &[Delivery], tell: &dyn Fn(&str)) -> Result<Outcome> {
        let counted = lab.observer.calls(u64::MAX, &[]).await?.next;
        let shared = Shared {
            plan,
            queue: Mutex::new((0..plan.len()).map(|n| Work::Finding(n, 0)).collect()),
            outcome: Mutex::default(),
            memory: Mutex::new(vec![(0, 0); self.0.len()]),
            begun: Instant::now(),
            scheduled: Mutex::new(Instant::now()),
            counted: Mutex::new(counted),
        };
        let shared = &shared;
        try_join_all(self.0.iter_mut().enumerate().map(|(n, function)| one(lab, shared, n, function, tell))).await?;
        let mut outcome = std::mem::take(&mut *held(&shared.outcome));
        outcome.took = shared.begun.elapsed();
        count_calls(lab, shared, &mut outcome).await?;
        Ok(outcome)
    }

    /// The schedule finishes what was left, such as a run whose process was ended.
    pub(super) async fn finish(&mut self, lab: &Lab<'_>) -> Result<()> {
        let function = self.first().context("there is no process")?;
        let begun = Instant::now();
        loop {
            let left: Vec<_> = lab
                .rows()
                .await?
                .into_iter()
                .filter(|row| row.text("pk").starts_with("DUE#") && UNFINISHED.contains(&row.text("what")))
                .collect();
            if left.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > SCHEDULE * 5 {
                bail!("after five minutes {} are still due: {:?}", left.len(), left.first().map(|row| row.text("sk")));
            }
            lab.schedule(function).await?;
            tokio::task::spawn_blocking(|| std::thread::park_timeout(Duration::from_secs(2))).await?;
        }
    }
}

/// One process: the next event, until there is none.
async fn one(lab: &Lab<'_>, shared: &Shared<'_>, n: usize, function: &mut Function, tell: &dyn Fn(&str)) -> Result<()> {
    loop {
        if take_turn(&shared.scheduled) {
            held(&shared.queue).push_front(Work::Schedule);
        }
        let Some(work) = held(&shared.queue).pop_front() else { return Ok(()) };
        let (event, delivery) = match work {
            Work::Schedule => (lab.schedule_event(), None),
            Work::Finding(index, failed) => {
                let delivery = shared.plan.get(index).context("no such delivery")?;
                if failed == 0 {
                    delivery.put(lab).await?;
                }
                (delivery.event.clone(), Some((index, failed, delivery)))
            }
        };
        let invoked = function.invoke(event).await?;
        if !function.runs()? {
            *function = lab.start().await?;
        }
        if let Some(memory) = function.memory_kb().zip(function.peak_memory_kb())
            && let Some(mine) = held(&shared.memory).get_mut(n)
        {
            *mine = memory;
        }
        let Some((index, failed, delivery)) = delivery else {
            held(&shared.outcome).schedules += 1;
            continue;
        };
        let answered = {
            let mut outcome = held(&shared.outcome);
            match &invoked.answer {
                Ok(_) => {
                    let mut outcomes = invoked.outcomes();
                    outcomes.sort_unstable();
                    *outcome.answers.entry((delivery.kind, outcomes.join(" + "))).or_default() += 1;
                }
                Err(why) if failed < MOST_RETRIES => {
                    outcome.again += 1;
                    tell(&format!("delivered once more: {why}"));
                    held(&shared.queue).push_back(Work::Finding(index, failed + 1));
                    continue;
                }
                Err(why) => outcome.lost.push(format!("{} about {}: {why}", delivery.kind, delivery.target.1)),
            }
            outcome.answers.values().sum::<usize>() + outcome.lost.len()
        };
        if answered % shared.plan.len().div_ceil(LAPS) == 0 || answered == shared.plan.len() {
            lap(lab, shared, answered, tell).await?;
        }
    }
}

/// Whether a minute has passed since the schedule came last.
fn take_turn(scheduled: &Mutex<Instant>) -> bool {
    let mut last = held(scheduled);
    let due = last.elapsed() >= SCHEDULE;
    if due {
        *last = Instant::now();
    }
    due
}

async fn lap(lab: &Lab<'_>, shared: &Shared<'_>, answered: usize, tell: &dyn Fn(&str)) -> Result<()> {
    let memory: Vec<(u64, u64)> = held(&shared.memory).iter().copied().filter(|(now, _)| *now > 0).collect();
    let lap = Lap {
        answered,
        after: shared.begun.elapsed(),
        memory_kb: memory.iter().map(|(now, _)| *now).collect(),
        peak_kb: memory.iter().map(|(_, peak)| *peak).collect(),
    };
    tell(&format!("{answered} answered after {:.0} s, {:?} kB", lap.after.as_secs_f64(), lap.memory_kb));
    let mut counted = Outcome::default();
    count_calls(lab, shared, &mut counted).await?;
    let mut outcome = held(&shared.outcome);
    outcome.laps.push(lap);
    outcome.calls += counted.calls;
    for (operation, calls) in counted.by_operation {
        *outcome.by_operation.entry(operation).or_default() += calls;
    }
    Ok(())
}

/// Counts the calls of the function since the last count, and lets the emulator forget them.
async fn count_calls(lab: &Lab<'_>, shared: &Shared<'_>, outcome: &mut Outcome) -> Result<()> {
    let since = *held(&shared.counted);
    let calls = lab.observer.calls(since, &[]).await?;
    {
        let mut counted = held(&shared.counted);
        if *counted != since {
            // Another lap counts these.
            return Ok(());
        }
        *counted = calls.next;
    }
    lab.observer.clear_calls_before(calls.next).await?;
    for call in calls.calls.iter().filter(|call| !call.agent.contains("app/observer")) {
        outcome.calls += 1;
        *outcome.by_operation.entry(format!("{}:{}", call.service, call.operation)).or_default() += 1;
    }
    Ok(())
}
