//! Findings that joined a hold whose run ended before it changed anything: the target is nobody's, so the
//! oldest of them is answered next.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Hub;
use crate::ids::FindingId;
use crate::playbook::Playbook;
use crate::report::Report;
use crate::run::Outcome;
use crate::target::Target;
use crate::telemetry;

/// With less than this left of the function's time no further finding is begun with.
const LEAST_TIME: Duration = Duration::from_secs(15);

/// What became of the findings that had joined.
pub(super) struct Answered {
    /// The last report, when one was answered.
    pub(super) last: Option<Report>,
    /// Whether some could not be answered now and are still on the hold.
    pub(super) left: bool,
}

/// Whether a finding's run has freed the target, so that another finding may have it.
pub(super) fn frees(report: &Report) -> bool {
    report.freed && matches!(report.outcome, Outcome::NotContained | Outcome::NotFixed)
}

impl Hub {
    /// Answers the findings that joined a target, oldest first, until one of them has it. A finding stays on
    /// the hold until it is answered, and stays there when answering fails or it joins again: whoever ends in
    /// between loses none. Each is begun with once, so this ends. `first` is the finding whose run is over.
    pub(super) async fn answer_joined(
        &self,
        playbook: &'static dyn Playbook,
        target: &Target,
        first: &FindingId,
        arrived: Timestamp,
        deadline: Instant,
    ) -> Answered {
        let held_as = playbook.meta().hold;
        let mut answered = Answered { last: None, left: false };
        let joined = match self.ledger.joined(held_as, target).await {
            Ok(joined) => joined,
            Err(failure) => {
                telemetry::alarm("joined-unread", &failure.brief());
                answered.left = true;
                return answered;
            }
        };
        for joined in joined {
            // Of the finding itself there is nothing more to say: its run is over.
            let mut goes_on = true;
            if joined.finding.id != *first {
                if deadline.saturating_duration_since(Instant::now()) < LEAST_TIME {
                    answered.left = true;
                    break;
                }
                let report = match self.answer_once(playbook, target, &joined.finding, arrived, deadline).await {
                    Ok(report) => report,
                    Err(failure) => {
                        telemetry::alarm("joined-unanswered", &failure.brief());
                        answered.left = true;
                        break;
                    }
                };
                let over = report.outcome == Outcome::NoChange && !report.joined;
                goes_on = over
                    || frees(&report)
                    || matches!(report.outcome, Outcome::Refused | Outcome::Observed | Outcome::Gone);
                let (joined_again, failed) = (report.joined, report.outcome == Outcome::Failed);
                answered.last = Some(report);
                if joined_again || failed {
                    // Another run has the target, and the finding with it; or it is tried again later.
                    answered.left |= failed;
                    break;
                }
            }
            if let Err(failure) = self.ledger.take_off(held_as, target, &joined).await {
                // It is answered once more: better twice than never.
                telemetry::alarm("joined-row-stays", &failure.brief());
                answered.left = true;
            }
            if !goes_on {
                break;
            }
        }
        answered
    }
}
