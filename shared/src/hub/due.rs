//! What the one-minute schedule takes up: runs whose lease has ended, attempts, reports, evidence, holds.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{Answer, Answered, Hub};
use crate::engine::{Ended, Sessions};
use crate::failure::{Class, Failure};
use crate::ledger::{Due, DueKind};
use crate::playbook::Playbook;
use crate::report::{Report, Topic};
use crate::run::{Outcome, Run, RunState, StepResult};
use crate::telemetry;

/// Joined findings that could not be answered for this long are left to people.
const JOINED_PATIENCE: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// Evidence that is not complete after this long is reported as it is.
const EVIDENCE_PATIENCE: jiff::SignedDuration = jiff::SignedDuration::from_hours(26);

impl Hub {
    pub(super) async fn take_up_due(&self, now: Timestamp, deadline: Instant) -> Result<Answer, Failure> {
        let mut answer = Answer::default();
        for due in self.ledger.due(self.function, now).await? {
            if deadline.saturating_duration_since(Instant::now()) < Duration::from_secs(20) {
                // The rest is taken up in a minute.
                break;
            }
            match self.take_up(&due, now, deadline).await {
                Ok(report) => {
                    // The row goes last: an end in between repeats work that converges.
                    if let Err(failure) = self.ledger.done(self.function, &due.key).await {
                        telemetry::alarm("due-row-stays", &failure.brief());
                    }
                    answer.outcomes.extend(report.as_ref().map(Answered::from));
                }
                Err(failure) => telemetry::alarm("due-work-failed", &failure.brief()),
            }
        }
        Ok(answer)
    }

    async fn take_up(&self, due: &Due, now: Timestamp, deadline: Instant) -> Result<Option<Report>, Failure> {
        let Some(run) = self.ledger.run(&due.run).await? else { return Ok(None) };
        let Some(playbook) = self.playbook(&run.head.playbook) else {
            // The row stays: a version that knows the playbook takes it up.
            return Err(Failure::new(Class::Bug, "find the playbook", run.head.playbook.clone()));
        };
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
                    self.go_on(run, RunState::Applying, now, deadline).await
                }
                _ => Ok(None),
            },
            DueKind::Report => {
                if run.state == RunState::Proposed {
                    let mut report = Report::of_run(&run, Outcome::Proposed, playbook.meta().purpose);
                    report.page = true;
                    let (report, delivered) = self.tell(playbook, report).await;
                    if !delivered {
                        self.put_due(&run, DueKind::Report, now + Duration::from_secs(60)).await?;
                    }
                    return Ok(Some(report));
                }
                if run.end.is_none() {
                    return Ok(None);
                }
                let (report, delivered) = self.try_deliver(playbook, &run).await;
                if !delivered {
                    self.put_due(&run, DueKind::Report, now + Duration::from_secs(60)).await?;
                }
                Ok(Some(report))
            }
            DueKind::Evidence => {
                let complete = self.put_custody(playbook, &run, now).await.unwrap_or_else(|failure| {
                    telemetry::alarm("custody-unread", &failure.brief());
                    false
                });
                if complete {
                    return Ok(None);
                }
                if now.duration_since(run.head.arrived_at) < EVIDENCE_PATIENCE {
                    self.put_due(&run, DueKind::Evidence, now + Duration::from_secs(60)).await?;
                    return Ok(None);
                }
                let mut report = Report::of_run(&run, Outcome::Partial, playbook.meta().purpose);
                report.not_done.push("the snapshots are still not complete, or could not be looked at".to_owned());
                report.page = true;
                self.tell_or_keep(playbook, &run, report, DueKind::Evidence, now).await.map(Some)
            }
            DueKind::Joined => {
                // Tried again and held, it has them on its own hold.
                if run.state != RunState::Freed {
                    return Ok(None);
                }
                let (target, finding) = (&run.head.target, &run.head.finding.id);
                let answered = self.answer_joined(playbook, target, finding, now, deadline).await;
                if answered.left {
                    let ended = run.end.as_ref().map_or(run.head.arrived_at, |end| end.at);
                    let waited = now.duration_since(ended);
                    if waited < JOINED_PATIENCE {
                        // Twice as long each time.
                        let wait = Duration::try_from(waited).unwrap_or_default().max(Duration::from_secs(60));
                        self.put_due(&run, DueKind::Joined, now + wait).await?;
                    } else {
                        telemetry::alarm("joined-unanswered", run.head.id.as_str());
                    }
                }
                Ok(answered.last)
            }
            DueKind::HoldEnds => {
                if run.state != RunState::Held {
                    return Ok(None);
                }
                let outcome = run.end.as_ref().map_or(Outcome::Contained, |end| end.outcome);
                let mut report = Report::of_run(&run, outcome, playbook.meta().purpose);
                let since = run.end.as_ref().map_or(run.head.arrived_at, |end| end.at);
                let hours = now.duration_since(since).as_hours();
                report.reasons.insert(0, format!("held for {hours} h; the time that the policy gave it is over"));
                report.topic = Some(Topic::HoldEnds);
                report.page = true;
                self.tell_or_keep(playbook, &run, report, DueKind::HoldEnds, now).await.map(Some)
            }
        }
    }

    /// Tells, and keeps the work due when the report did not arrive.
    async fn tell_or_keep(
        &self,
        playbook: &'static dyn Playbook,
        run: &Run,
        report: Report,
        what: DueKind,
        now: Timestamp,
    ) -> Result<Report, Failure> {
        let (report, delivered) = self.tell(playbook, report).await;
        if !delivered {
            self.put_due(run, what, now + Duration::from_secs(60)).await?;
        }
        Ok(report)
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
        let Some(mut run) = self.ledger.take(&run, becomes, now).await? else { return Ok(None) };
        let engine = self.engine(playbook, deadline);
        let groups = self.ledger.groups(&run.head.target.account, run.head.target.region.as_ref()).await?;
        let ended = if becomes == RunState::Undoing {
            engine.undo(&mut run, &groups).await
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
        self.conclude(playbook, run, ended).await.map(Some)
    }
}
