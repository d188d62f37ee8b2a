//! What a function is at when the fault strikes, and how things go on after it.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;
use firebreak::ledger::decisions::Verb;
use serde_json::{Value, json};

use super::trial::Armed;
use crate::in_process::{Case, Delivered, Settings};

/// What the function is at. What the schedule has to do afterwards is part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Way {
    /// A finding is answered by itself
    Found,
    /// A person takes back what a run did
    Undone,
    /// A finding is answered by a proposal
    Proposed,
    /// A person approves a proposal
    Approved,
    /// A person rejects a proposal
    Rejected,
}

/// Lambda delivers an asynchronous event three times at most.
const DELIVERIES: usize = 3;

/// The schedule comes this often at most until nothing may be due any more.
const MINUTES: usize = 12;

/// What is left of the function's time, where it runs out: for an event, and for the schedule, which takes nothing up with
/// less than 20 s.
const SHORT: Duration = Duration::from_secs(10);
const SHORT_FOR_THE_SCHEDULE: Duration = Duration::from_secs(24);

/// What the function keeps of its time for its answer; then Lambda ends the process.
const RESERVE: Duration = Duration::from_secs(2);

impl Way {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Found, Self::Undone, Self::Proposed, Self::Approved, Self::Rejected];

    /// Brings a case as far as the delivery that the way begins with, and gives its event. The process is a new one.
    pub(super) async fn begin(self, case: &mut Case) -> Result<Value> {
        let event = match self {
            Self::Found | Self::Proposed => return Ok(case.event.clone()),
            Self::Undone => {
                case.deliver().await.answer()?;
                case.settle().await?;
                case.decision(Verb::Undo).await?
            }
            Self::Approved | Self::Rejected => {
                case.deliver().await.answer()?;
                case.decision(if self == Self::Approved { Verb::Approve } else { Verb::Reject }).await?
            }
        };
        case.restart()?;
        Ok(event)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// Delivers an event, again where the function failed or died, as Lambda does; then lets time pass and the schedule work
/// until nothing is due.
pub(super) async fn go(case: &mut Case, event: &Value, armed: &Armed) -> Result<()> {
    for _ in 0..DELIVERIES {
        if answers(case, event, armed, SHORT).await? {
            break;
        }
    }
    let tick = json!({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}});
    for _ in 0..MINUTES {
        if case.let_time_pass().await? == 0 {
            return Ok(());
        }
        answers(case, &tick, armed, SHORT_FOR_THE_SCHEDULE).await?;
    }
    bail!("after {MINUTES} minutes something is still due: {:?}", case.due().await?)
}

/// Whether the function answers. Where it does not, there is a new process of it.
async fn answers(case: &mut Case, event: &Value, armed: &Armed, short: Duration) -> Result<bool> {
    let is_short = armed.ends_time && !armed.has_struck();
    case.settings.time = if is_short { short } else { Settings::default().time };
    let delivered = tokio::time::timeout(case.settings.time + RESERVE, case.deliver_event(event)).await;
    if let Ok(Delivered::Answered(_)) = delivered {
        return Ok(true);
    }
    case.restart()?;
    Ok(false)
}
