//! What the one-minute schedule takes up: runs whose lease has ended, attempts, reports, evidence, holds.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use jiff::Timestamp;

use super::tell::Custody;
use super::{Answer, Answered, Hub, recorded_report};
use crate::action::Boxed;
use crate::engine::{Again, Ended, Engine, Sessions};
use crate::failure::{Class, Failure};
use crate::finding::Finding;
use crate::ledger::{Channels, Due, DueKind};
use crate::playbook::{Playbook, Purpose};
use crate::report::{Report, Topic};
use crate::run::{HoldSet, Outcome, Run, RunState, StepResult};
use crate::telemetry;
use crate::write_back::Note;

/// Joined findings that could not be answered so often, each time after twice as long, up to an hour, are left to
/// people: after a day.
const JOINED_PATIENCE: u32 = 29;

/// What could not be written back so often, each time after twice as long, is let be: after two hours.
const WRITE_BACK_PATIENCE: u32 = 7;

/// What has been due for longer than this is stuck: the schedule comes each minute.
const LATE: jiff::SignedDuration = jiff::SignedDuration::from_mins(15);

/// Evidence that is not complete after this long is reported as it is.
const EVIDENCE_PATIENCE: jiff::SignedDuration = jiff::SignedDuration::from_hours(26);

/// The schedule works in so many accounts at once: as many as a small function has memory for, and the minute time.
const ACCOUNTS_AT_ONCE: usize = 8;

/// What became of a due row.
enum TakenUp {
    /// It was done.
    Done(Option<Box<Report>>),
    /// It stays.
    Waits,
}

/// Whether work of a run may change something in the target's account. An undo is a person's word and goes on: it takes
/// back, and whoever stops everything may well want just that.
fn may_change(what: DueKind, state: RunState) -> bool {
    match what {
        DueKind::Lease => state != RunState::Undoing,
        DueKind::Retry | DueKind::Joined | DueKind::Recheck => true,
        DueKind::Report | DueKind::Evidence | DueKind::HoldEnds | DueKind::ProposalEnds | DueKind::WriteBack => false,
    }
}

/// What is due, account by account, in the order of what comes first in each.
fn by_account(due: Vec<Due>) -> Vec<Vec<Due>> {
    let mut accounts: Vec<Vec<Due>> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for due in due {
        let place = *places.entry(due.account.clone()).or_insert(accounts.len());
        match accounts.get_mut(place) {
            Some(account) => account.push(due),
            None => accounts.push(vec![due]),
        }
    }
    accounts
}

impl Hub {
    pub(super) async fn take_up_due(&self, now: Timestamp, deadline: Instant) -> Result<Answer, Failure> {
        let mut answer = Answer::default();
        let (due, stopped) = tokio::join!(self.ledger.due(self.function, now), self.ledger.stopped());
        let due = due?;
        let known = stopped.map(|stopped| stopped.is_some());
        if let Err(failure) = &known {
            telemetry::alarm("switch-unread", &failure.brief());
        }
        // Where it is not known whether everything is stopped, nothing is changed by itself.
        let stopped = *known.as_ref().unwrap_or(&true);
        // What waits for the stop to be taken back is not late.
        let late = |due: &&Due| due.at().is_some_and(|at| now.duration_since(at) > LATE);
        let waits = |due: &&Due| stopped && may_change(due.what, RunState::Applying);
        telemetry::standing(known.ok(), due.iter().filter(|due| late(due) && !waits(due)).count());
        // One account after the other would have all wait for one; many runs side by side in one account meet the rates that AWS
        // allows there, which the account's own work needs as well. What was interrupted waits for nothing else of any
        // account, and nothing else for all that was interrupted.
        let (interrupted, rest): (Vec<Due>, Vec<Due>) = due.into_iter().partition(|due| due.what == DueKind::Lease);
        let accounts = by_account(interrupted).into_iter().chain(by_account(rest));
        let taken_up: Vec<Vec<Answered>> =
            futures_util::stream::iter(accounts.map(|due| self.take_up_of_account(due, stopped, now, deadline)))
                .buffer_unordered(ACCOUNTS_AT_ONCE)
                .collect()
                .await;
        answer.outcomes.extend(taken_up.into_iter().flatten());
        // Every fifth minute: it costs a run's row to look.
        if now.as_second() / 60 % 5 == 0 {
            match self.ledger.oldest_proposal(self.function, now).await {
                Ok(Some(age)) => telemetry::oldest_proposal(age),
                // Too many that were decided stand before it: they are gone by the next look.
                Ok(None) => {}
                Err(failure) => telemetry::alarm("proposals-unread", &failure.brief()),
            }
        }
        Ok(answer)
    }

    /// What is due of one account, one after another. Boxed: it holds the state of a whole run.
    fn take_up_of_account(
        &self,
        due: Vec<Due>,
        stopped: bool,
        now: Timestamp,
        deadline: Instant,
    ) -> Boxed<'_, Vec<Answered>> {
        Box::pin(async move {
            let mut answered = Vec::new();
            for due in due {
                if deadline.saturating_duration_since(Instant::now()) < Duration::from_secs(20) {
                    // The rest is taken up in a minute.
                    break;
                }
                match self.take_up(&due, stopped, now, deadline).await {
                    // What may change something waits until the stop is taken back.
                    Ok(TakenUp::Waits) => {}
                    Ok(TakenUp::Done(report)) => {
                        // The row goes last: an end in between repeats work that converges.
                        if let Err(failure) = self.ledger.done(self.function, &due).await {
                            telemetry::alarm("due-row-stays", &failure.brief());
                        }
                        answered.extend(report.as_deref().map(Answered::from));
                    }
                    Err(failure) => telemetry::alarm("due-work-failed", &failure.brief()),
                }
            }
            answered
        })
    }

    async fn take_up(&self, due: &Due, stopped: bool, now: Timestamp, deadline: Instant) -> Result<TakenUp, Failure> {
        let Some(run) = self.ledger.run(&due.run).await? else { return Ok(TakenUp::Done(None)) };
        if stopped && may_change(due.what, run.state) {
            let interrupted = due.what == DueKind::Lease && run.state == RunState::Applying && run.lease_until <= now;
            return match interrupted {
                true => self.end_as_it_stands(run, now).await.map(|report| TakenUp::Done(report.map(Box::new))),
                false => Ok(TakenUp::Waits),
            };
        }
        let id = run.head.id.clone();
        let report = telemetry::of_run(&id, Box::pin(self.take_up_run(due, run, now, deadline))).await?;
        Ok(TakenUp::Done(report.map(Box::new)))
    }

    /// The playbook of a run. Where there is none the row stays: a version that knows the playbook takes it up.
    fn playbook_of(&self, run: &Run) -> Result<&'static dyn Playbook, Failure> {
        let playbook = self.playbook(&run.head.playbook);
        playbook.ok_or_else(|| Failure::new(Class::Bug, "find the playbook", run.head.playbook.clone()))
    }

    /// Ends a run that was interrupted while everything is stopped: told, and undone if a person wants that. What is not done
    /// is tried again when the stop is taken back.
    async fn end_as_it_stands(&self, run: Run, now: Timestamp) -> Result<Option<Report>, Failure> {
        let playbook = self.playbook_of(&run)?;
        let Some(run) = self.ledger.take(&run, RunState::Applying, now).await? else { return Ok(None) };
        let why = Failure::new(Class::Transient, "go on with", run.head.id.as_str()).because("everything is stopped");
        let end = self.engine(playbook, Instant::now()).end_unverified(&run, &why);
        self.conclude(playbook, run, Ended::Done(end)).await.map(Some)
    }

    async fn take_up_run(
        &self,
        due: &Due,
        run: Run,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<Option<Report>, Failure> {
        let playbook = self.playbook_of(&run)?;
        match due.what {
            DueKind::Lease => match run.state {
                RunState::Applying | RunState::Undoing if run.lease_until <= now => {
                    let state = run.state;
                    self.go_on(run, state, now, deadline).await
                }
                // Finished, or in other hands, whose own due row stands.
                _ => Ok(None),
            },
            DueKind::Retry => match run.state {
                // What a person has begun to undo is not contained again by itself.
                RunState::Held | RunState::Freed if run.undone.is_empty() => {
                    let latest = self.newest(playbook, &run, now).await?;
                    let run = Run { latest, ..run };
                    self.go_on(run, RunState::Applying, now, deadline).await
                }
                _ => Ok(None),
            },
            DueKind::Recheck => match run.state {
                RunState::Held if run.undone.is_empty() => self.recheck(playbook, run, now, deadline).await,
                _ => Ok(None),
            },
            DueKind::Report => {
                let (report, left) = if run.state == RunState::Proposed {
                    let report = recorded_report(playbook, &run, Outcome::Proposed);
                    self.tell(playbook, report, &due.left).await
                } else if run.state == RunState::Observed && run.head.stopped {
                    let report = recorded_report(playbook, &run, Outcome::Observed);
                    self.tell(playbook, report, &due.left).await
                } else if run.end.is_some() {
                    self.try_deliver(playbook, &run, &due.left).await
                } else {
                    return Ok(None);
                };
                self.put_off(&run, due, &left, now).await?;
                Ok(Some(report))
            }
            DueKind::Evidence => {
                let custody = self.put_custody(playbook, &run, now).await.unwrap_or_else(|failure| {
                    telemetry::alarm("custody-unread", &failure.brief());
                    Custody::Incomplete
                });
                // Not since it arrived: a proposal may be approved days later.
                let ended = run.end.as_ref().map_or(run.head.arrived_at, |end| end.at);
                match custody {
                    Custody::Nothing => Ok(None),
                    Custody::Complete(report) => self.tell_due(playbook, &run, *report, due, now).await.map(Some),
                    Custody::Incomplete if now.duration_since(ended) < EVIDENCE_PATIENCE => {
                        self.put_due(&run, DueKind::Evidence, now + Duration::from_secs(60)).await?;
                        Ok(None)
                    }
                    Custody::Incomplete => {
                        let mut report = Report::of_run(&run, Outcome::Partial, playbook.meta().purpose);
                        let why = "the snapshots are still not complete, or could not be looked at";
                        report.not_done.push(why.to_owned());
                        report.page = true;
                        self.tell_due(playbook, &run, report, due, now).await.map(Some)
                    }
                }
            }
            DueKind::ProposalEnds => {
                if run.state != RunState::Proposed || run.is_expired(now) {
                    return Ok(None);
                }
                let mut report = Report::of_run(&run, Outcome::Proposed, playbook.meta().purpose);
                report.topic = Some(Topic::ProposalEnds);
                report.page = true;
                self.tell_due(playbook, &run, report, due, now).await.map(Some)
            }
            DueKind::WriteBack => self.write_back(playbook, &run, due, now).await.map(|()| None),
            DueKind::Joined => {
                // Tried again and held, it has them on its own hold.
                let given_back = run.state == RunState::Released && run.is_given_back_by_drill();
                if !given_back && !matches!(run.state, RunState::Freed | RunState::Rejected) {
                    return Ok(None);
                }
                let (target, finding) = (&run.head.target, &run.head.finding.id);
                let answered = self.answer_joined(playbook, target, finding, now, deadline).await;
                if answered.left {
                    if due.attempts < JOINED_PATIENCE {
                        self.ledger.put_off(&run.head, due, &due.left, now).await?;
                    } else {
                        telemetry::alarm("joined-unanswered", run.head.id.as_str());
                    }
                }
                Ok(answered.last)
            }
            DueKind::HoldEnds => {
                // A row from before a person set another end is about an end that there is no more.
                let set_since = |set: &HoldSet| due.written < u64::try_from(set.at.as_millisecond()).unwrap_or(0);
                if run.state != RunState::Held || run.hold.as_ref().is_some_and(set_since) {
                    return Ok(None);
                }
                let outcome = run.end.as_ref().map_or(Outcome::Contained, |end| end.outcome);
                let mut report = Report::of_run(&run, outcome, playbook.meta().purpose);
                let since = run.end.as_ref().map_or(run.head.arrived_at, |end| end.at);
                let hours = now.duration_since(since).as_hours();
                let whose = match &run.hold {
                    None => "the time that the policy gave it is over".to_owned(),
                    Some(set) => format!("its end was set by {}", crate::report::names(&set.by)),
                };
                report.reasons.insert(0, format!("held for {hours} h; {whose}"));
                report.topic = Some(Topic::HoldEnds);
                report.page = true;
                self.tell_due(playbook, &run, report, due, now).await.map(Some)
            }
        }
    }

    /// Writes back into Security Hub what became of a run's finding. What people are told hangs on none of it.
    async fn write_back(
        &self,
        playbook: &'static dyn Playbook,
        run: &Run,
        due: &Due,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let Some(note) = Note::of(playbook, run) else { return Ok(()) };
        match playbook.write_back(&self.aws, &run.head.finding, note).await {
            Err(failure) if failure.class == Class::Transient && due.attempts < WRITE_BACK_PATIENCE => {
                self.ledger.put_off(&run.head, due, &due.left, now).await
            }
            Err(failure) => {
                telemetry::alarm("write-back-failed", &failure.brief());
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Tells what is due, by the channels that are left, and puts off those by which it did not arrive.
    async fn tell_due(
        &self,
        playbook: &'static dyn Playbook,
        run: &Run,
        report: Report,
        due: &Due,
        now: Timestamp,
    ) -> Result<Report, Failure> {
        let (report, left) = self.tell(playbook, report, &due.left).await;
        self.put_off(run, due, &left, now).await?;
        Ok(report)
    }

    async fn put_off(&self, run: &Run, due: &Due, left: &Channels, now: Timestamp) -> Result<(), Failure> {
        if left.is_empty() { Ok(()) } else { self.ledger.put_off(&run.head, due, left, now).await }
    }

    /// The newest finding that joined a run which is looked at again: it says how long the activity went on, or which other
    /// control has failed. One from the future says nothing.
    async fn newest(
        &self,
        playbook: &'static dyn Playbook,
        run: &Run,
        now: Timestamp,
    ) -> Result<Option<Finding>, Failure> {
        let meta = playbook.meta();
        if meta.rechecks.is_empty() && meta.purpose != Purpose::Fix {
            return Ok(None);
        }
        let last = self.ledger.last_joined(run.head.holds_as(), &run.head.target).await?;
        Ok(last.filter(|finding| finding.last_seen.is_none_or(|seen| seen <= now)))
    }

    /// Looks whether a held run still holds. When it does and nothing new has come to light, nobody hears of it; else
    /// what was taken back is done again, and people are told.
    async fn recheck(
        &self,
        playbook: &'static dyn Playbook,
        mut run: Run,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<Option<Report>, Failure> {
        run.latest = self.newest(playbook, &run, now).await?;
        let engine = Engine { recheck: true, ..self.engine(playbook, deadline) };
        let (account, region) = (&run.head.target.account, run.head.target.region.as_ref());
        let groups = self.ledger.groups(account, region).await?;
        let reading = match engine.reading(&run.head.id, account, region).await {
            Ok(reading) => reading,
            Err(failure) if failure.class == Class::Transient => return Err(failure),
            Err(failure) => {
                // Another minute would not help, and the run's report stands.
                telemetry::alarm("recheck-impossible", &failure.brief());
                return Ok(None);
            }
        };
        let Again { undone, new, gone } = engine.look_again(&run, &reading, &groups).await?;
        if gone || (undone.is_empty() && new.is_empty()) {
            return Ok(None);
        }
        if !undone.is_empty() {
            telemetry::alarm("containment-taken-back", &undone.join("; "));
            if run.reapplied < super::MOST_REAPPLIED {
                // It is looked at until nobody works against it any more.
                self.put_due(&run, DueKind::Recheck, now + super::LOOK_AGAIN).await?;
            }
            run.reapplied += 1;
            run.seen_again = vec![format!(
                "somebody works against it: since it was contained this was changed, and was done again: {}",
                undone.join(", ")
            )];
        }
        run.seen_again.extend(new);
        self.go_on(run, RunState::Applying, now, deadline).await
    }

    /// Takes a run into this function's hands and goes on from its journal.
    async fn go_on(
        &self,
        run: Run,
        becomes: RunState,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<Option<Report>, Failure> {
        let Some(playbook) = self.playbook(&run.head.playbook) else { return Ok(None) };
        // What goes on from an end goes on by itself, whoever decided that end.
        let decided = run.decided.clone().filter(|_| !matches!(run.state, RunState::Held | RunState::Freed));
        let run = Run { decided, ..run };
        let Some(run) = self.ledger.take(&run, becomes, now).await? else { return Ok(None) };
        self.resume(playbook, run, deadline).await.map(Some)
    }

    /// Goes on from the journal of a run that is in one's hands.
    pub(super) async fn resume(
        &self,
        playbook: &'static dyn Playbook,
        mut run: Run,
        deadline: Instant,
    ) -> Result<Report, Failure> {
        let engine = self.engine(playbook, deadline);
        let groups = self.ledger.groups(&run.head.target.account, run.head.target.region.as_ref()).await?;
        let ended = if run.state == RunState::Undoing {
            engine.undo(&mut run, &groups).await
        } else if playbook.meta().purpose == Purpose::Fix && !run.undone.is_empty() {
            // Whoever had it before had begun to put it back.
            engine.put_back(&mut run, &groups, Vec::new()).await
        } else {
            match engine.reading(&run.head.id, &run.head.target.account, run.head.target.region.as_ref()).await {
                Ok(reading) => {
                    // What failed is tried again; what AWS does not allow is not.
                    run.try_again(|_, result| {
                        matches!(result, StepResult::Failed { .. } | StepResult::Slow | StepResult::Skipped { .. })
                    });
                    engine.carry_out(&mut run, &reading, groups, Sessions::default(), false).await
                }
                // Ended and told as it stands, so that a person can act on it; it is not left under way.
                Err(failure) => Ended::Done(engine.end_unverified(&run, &failure)),
            }
        };
        self.conclude(playbook, run, ended).await
    }
}
