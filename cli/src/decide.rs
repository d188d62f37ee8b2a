//! `firebreak approve`, `reject`, `undo` and `retry`: a person's word, written into the decisions table as an operator.
//! The event that follows carries nothing but the decision's id.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use firebreak::hub::{DECISION_EVENT, EVENT_SOURCE, Hub};
use firebreak::ids::RunId;
use firebreak::ledger::decisions::{Decision, Verb};
use firebreak::run::{Outcome, Run, RunState};
use jiff::Timestamp;

/// The command looks at the run this often, and gives up waiting after this long.
const LOOK: Duration = Duration::from_millis(700);
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) async fn run(id: &RunId, verb: Verb, wait: bool) -> Result<bool> {
    let (hub, operator) = crate::connect::operator().await?;
    let run = hub.ledger.run(id).await?.with_context(|| format!("there is no run {id}"))?;
    let fits = match verb {
        Verb::Approve | Verb::Reject => run.state == RunState::Proposed,
        // What was begun to be undone is not done again.
        Verb::Retry => run.state == RunState::Held && run.undone.is_empty(),
        Verb::Undo => run.state == RunState::Held,
    };
    if !fits {
        bail!("run {id} is {}: there is nothing to {}", run.state.as_str(), verb.as_str());
    }
    let by = &operator.arn;
    let decision = Decision::new(&run, verb, by, Timestamp::now());
    hub.ledger.decide(&decision).await?;
    send(&hub, &decision).await?;
    let mut out = anstream::stdout().lock();
    writeln!(out, "decided: {} run {id}, as {by}", verb.as_str())?;
    if !wait {
        return Ok(true);
    }
    match settled(&hub, &run).await? {
        None => {
            writeln!(out, "the function has not ended yet; look again with: firebreak show {id}")?;
            Ok(false)
        }
        Some(run) => {
            crate::show::print(&mut out, &run)?;
            let outcome = run.end.as_ref().map(|end| end.outcome);
            Ok(match verb {
                Verb::Approve | Verb::Retry => matches!(outcome, Some(Outcome::Contained | Outcome::Preserved)),
                Verb::Reject => run.state == RunState::Rejected,
                Verb::Undo => outcome == Some(Outcome::Undone),
            })
        }
    }
}

async fn send(hub: &Hub, decision: &Decision) -> Result<()> {
    let entry = PutEventsRequestEntry::builder()
        .source(EVENT_SOURCE)
        .detail_type(DECISION_EVENT)
        .detail(serde_json::json!({ "id": decision.id }).to_string())
        .build();
    let answer = hub.aws.events().put_events().entries(entry).send().await.context("could not send the decision")?;
    if answer.failed_entry_count() > 0 {
        bail!("EventBridge did not take the decision");
    }
    Ok(())
}

/// Waits until the run has left the state it was in and nobody works on it.
async fn settled(hub: &Hub, before: &Run) -> Result<Option<Run>> {
    let until = Instant::now() + PATIENCE;
    let mut look = tokio::time::interval(LOOK);
    while Instant::now() < until {
        look.tick().await;
        let Some(run) = hub.ledger.run(&before.head.id).await? else { bail!("run {} is gone", before.head.id) };
        let working = matches!(run.state, RunState::Applying | RunState::Undoing);
        if !working && (run.epoch != before.epoch || run.state != before.state) {
            return Ok(Some(run));
        }
    }
    Ok(None)
}
