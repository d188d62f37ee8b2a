//! What the one-minute schedule takes up: runs whose lease has ended, attempts, reports, evidence, holds.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{Answer, Answered, Hub};
use crate::engine::{Again, Ended, Engine, Sessions};
use crate::failure::{Class, Failure};
use crate::ledger::{Due, DueKind};
use crate::playbook::Playbook;
use crate::report::Report;
use crate::run::{Outcome, Run, RunState, StepResult};
use crate::telemetry;

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
            telemetry::alarm("playbook-unknown", &run.head.playbook);
            return Ok(None);
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
                    let mut run = run;
                    run.latest = self.ledger.last_joined(run.head.holds_as(), &run.head.target).await?;
                    self.go_on(run, RunState::Applying, now, deadline).await
                }
                _ => Ok(None),
            },
            DueKind::Recheck => match run.state {
                RunState::Held if run.undone.is_empty() => self.recheck(playbook, run, now, deadline).await,
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
                Ok(Some(self.told(playbook, report).await))
            }
            DueKind::HoldEnds => {
                if run.state != RunState::Held {
                    return Ok(None);
                }
                let mut report = Report::of_run(&run, Outcome::Contained, playbook.meta().purpose);
                report.outcome = run.end.as_ref().map_or(Outcome::Contained, |end| end.outcome);
                report.reasons.insert(0, "the hold's time is over: undo it, or leave it as it is".to_owned());
                report.page = true;
                Ok(Some(self.told(playbook, report).await))
            }
        }
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
        run.latest = self.ledger.last_joined(run.head.holds_as(), &run.head.target).await?;
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
        let Some(mut run) = self.ledger.take(&run, becomes, now).await? else { return Ok(None) };
        let engine = self.engine(playbook, deadline);
        let groups = self.ledger.groups(&run.head.target.account, run.head.target.region.as_ref()).await?;
        let ended = if becomes == RunState::Undoing {
            engine.undo(&mut run, &groups).await
        } else {
            match engine.reading(&run.head.id, &run.head.target.account, run.head.target.region.as_ref()).await {
                Ok(reading) => {
                    // What failed is tried again; what AWS does not allow is not.
                    run.steps.retain(|_, record| {
                        !matches!(
                            record.result,
                            StepResult::Failed { .. } | StepResult::Slow | StepResult::Skipped { .. }
                        )
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
