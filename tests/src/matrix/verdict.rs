//! Whether the end of a disturbed way will do, by facts that the independent client reads.

use anyhow::{Context, Result, bail, ensure};
use firebreak::ledger::decisions::Verb;
use firebreak::playbook::{Playbook, Purpose};
use firebreak::run::{Outcome, Run, RunEnd, RunState, UndoResult};
use serde_json::{Value, json};

use super::{Trial, Undisturbed, Way};
use crate::compare::{differences, entries, list, shown};
use crate::facts::{holds, is_so, open};
use crate::in_process::Case;
use crate::judgement::{done, in_shared_terms, is_restored, results};

/// How a way ended that was disturbed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As without the fault, and undo gives back what was there.
    Same,
    /// With less, which was said: the outcome, and what it says.
    Honest(String),
}

/// The verdict about a case in which nothing is due any more.
///
/// # Errors
/// What will not do: lost, doubled, half done in silence, said to be done and is not, or not given back by undo.
pub(super) async fn of(
    way: Way,
    case: &Case,
    before: &Value,
    undisturbed: &Undisturbed,
    trial: Option<Trial>,
) -> Result<Verdict> {
    ensure!(case.due().await?.is_empty(), "still due: {:?}", case.due().await?);
    let verdict = match way {
        Way::Found | Way::Approved => acted(case, before, undisturbed).await?,
        Way::Proposed => proposed(case, before).await?,
        Way::Rejected => rejected(case, before).await?,
        Way::Undone => undone(case, before).await?,
    };
    match (&verdict, trial) {
        (Verdict::Honest(how), Some(trial)) if trial.must_converge() => {
            bail!("{trial} leaves less than an undisturbed run: {how}")
        }
        _ => Ok(verdict),
    }
}

/// What people were told about the case's account.
async fn told(case: &Case) -> Result<Vec<String>> {
    case.security.told_about(&case.member).await
}

async fn somebody_was_told(case: &Case) -> Result<()> {
    ensure!(!told(case).await?.is_empty(), "nobody was told");
    Ok(())
}

async fn acted(case: &Case, before: &Value, undisturbed: &Undisturbed) -> Result<Verdict> {
    let state = case.state().await?;
    let Some(run) = case.run().await? else {
        ensure!(
            state == *before,
            "there is no run, and something was changed:\n{}",
            shown(&differences(before, &state))
        );
        somebody_was_told(case).await.context("there is no run")?;
        return Ok(Verdict::Honest("no run, and people were told".to_owned()));
    };
    somebody_was_told(case).await?;
    is_not_called_cut(case, &run, &state).await?;
    nothing_is_doubled(before, &undisturbed.state, &state)?;
    match run.state {
        RunState::Held => held(case, before, undisturbed, &state, &run).await,
        RunState::Freed => {
            let end = run.end.as_ref().context("the run has no end")?;
            names_what_is_not_done(&run, end)?;
            is_restored(case, before, &run).await?;
            Ok(Verdict::Honest(format!("{}, put back", end.outcome)))
        }
        RunState::Proposed => {
            asks(case, before, &state, &run).await?;
            Ok(Verdict::Honest("proposed".to_owned()))
        }
        _ => bail!("{}", results(&run)),
    }
}

async fn held(case: &Case, before: &Value, undisturbed: &Undisturbed, state: &Value, run: &Run) -> Result<Verdict> {
    let end = run.end.as_ref().context("the run has no end")?;
    one_run(case).await?;
    let verdict = if end.outcome == done(case.playbook) {
        holds(case, state).with_context(|| results(run))?;
        // What an Auto Scaling group launches differs from one account to the next.
        if entries(&state["auto_scaling_groups"]).next().is_none() {
            let differs = differences(&undisturbed.state, &in_shared_terms(case, state, run));
            ensure!(differs.is_empty(), "the end is another than undisturbed:\n{}", shown(&differs));
        }
        Verdict::Same
    } else {
        names_what_is_not_done(run, end)?;
        Verdict::Honest(end.outcome.to_string())
    };
    case.decide(Verb::Undo).await?.answer()?;
    let run = case.the_run().await?;
    is_released(&run).context("its undo")?;
    is_restored(case, before, &run).await?;
    Ok(verdict)
}

/// The end of a run that is not whole says so, and what is missing.
fn names_what_is_not_done(run: &Run, end: &RunEnd) -> Result<()> {
    let less = [Outcome::Partial, Outcome::NotContained, Outcome::NotFixed, Outcome::Failed];
    ensure!(less.contains(&end.outcome), "{}", results(run));
    ensure!(!end.not_done.is_empty(), "what is not done is not named: {}", results(run));
    Ok(())
}

/// A person is asked, and nothing was changed.
async fn asks(case: &Case, before: &Value, state: &Value, run: &Run) -> Result<()> {
    ensure!(run.state == RunState::Proposed, "{}", results(run));
    ensure!(told(case).await?.iter().any(|text| text.contains("DECISION NEEDED")), "nobody was asked");
    ensure!(state == before, "to propose changed something:\n{}", shown(&differences(before, state)));
    Ok(())
}

async fn proposed(case: &Case, before: &Value) -> Result<Verdict> {
    let state = case.state().await?;
    let Some(run) = case.run().await? else {
        ensure!(state == *before, "there is no run, and something was changed");
        somebody_was_told(case).await.context("there is no run")?;
        return Ok(Verdict::Honest("no run, and people were told".to_owned()));
    };
    asks(case, before, &state, &run).await?;
    let answer = case.decide(Verb::Approve).await?.answer()?;
    ensure!(answer.outcomes.iter().all(|one| one.outcome == done(case.playbook)), "{:?}", answer.outcomes);
    is_so(case).await?;
    Ok(Verdict::Same)
}

async fn rejected(case: &Case, before: &Value) -> Result<Verdict> {
    let run = case.the_run().await?;
    ensure!(run.state == RunState::Rejected, "{}", results(&run));
    ensure!(case.state().await? == *before, "to reject changed something");
    let answer = case.deliver().await.answer()?;
    ensure!(answer.outcomes.iter().all(|one| one.outcome == Outcome::NoChange), "{:?}", answer.outcomes);
    Ok(Verdict::Same)
}

async fn undone(case: &Case, before: &Value) -> Result<Verdict> {
    let run = case.the_run().await?;
    if run.state == RunState::Held {
        // What failed is named, people were told, and a second decision finishes it.
        let end = run.end.as_ref().context("the run has no end")?;
        ensure!(end.outcome == Outcome::UndonePartly, "it was not undone: {}", results(&run));
        ensure!(!end.not_done.is_empty(), "what is not undone is not named: {end:?}");
        let says = |text: &String| text.starts_with("PARTLY UNDONE") || text.starts_with("UNDONE IN PART");
        ensure!(told(case).await?.iter().any(says), "nobody was told: {:?}", told(case).await?);
        case.decide(Verb::Undo).await?.answer()?;
        let run = case.the_run().await?;
        is_released(&run).context("the second decision")?;
        is_restored(case, before, &run).await?;
        return Ok(Verdict::Honest("undone_partly, then undone".to_owned()));
    }
    is_released(&run)?;
    ensure!(told(case).await?.iter().any(|text| text.starts_with("UNDONE")), "nobody was told");
    is_restored(case, before, &run).await?;
    Ok(Verdict::Same)
}

fn is_released(run: &Run) -> Result<()> {
    ensure!(run.state == RunState::Released, "{:?}: {:?}", run.state, run.undone);
    let bad = |result: &&UndoResult| matches!(result, UndoResult::Conflict { .. } | UndoResult::Failed { .. });
    let bad: Vec<_> = run.undone.values().map(|undone| &undone.result).filter(bad).collect();
    ensure!(bad.is_empty(), "{bad:?}");
    Ok(())
}

/// The playbook has begun one run in the account: its budget says how many.
async fn one_run(case: &Case) -> Result<()> {
    let params = json!({
        "TableName": case.hub.config.ledger_table, "ConsistentRead": true,
        "KeyConditionExpression": "pk = :pk AND begins_with(sk, :sk)",
        "ExpressionAttributeValues": {
            ":pk": {"S": "BUDGET"}, ":sk": {"S": format!("{}#{}#", case.playbook.id(), case.member)},
        },
    });
    let found = case.security.call("dynamodb", "query", params).await?;
    let spent = |row: &Value| row["spent"]["N"].as_str().and_then(|spent| spent.parse::<u64>().ok());
    let runs: u64 = list(&found["Items"]).filter_map(spent).sum();
    ensure!(runs == 1, "{runs} runs were begun");
    Ok(())
}

/// Of no kind of thing is there more than before, or than after an undisturbed run.
fn nothing_is_doubled(before: &Value, undisturbed: &Value, state: &Value) -> Result<()> {
    for (kind, things) in entries(state) {
        let count = |things: &Value| things.as_object().map_or(0, serde_json::Map::len);
        // What an Auto Scaling group launches comes with the rest.
        let launched = entries(&state["auto_scaling_groups"]).next().is_some();
        let most = count(&before[kind]).max(count(&undisturbed[kind]));
        ensure!(
            launched || count(things) <= most,
            "{} {kind}, where {most} are as many as there may be",
            count(things)
        );
    }
    Ok(())
}

/// No report calls something cut while the independent client sees it open.
async fn is_not_called_cut(case: &Case, run: &Run, state: &Value) -> Result<()> {
    if case.playbook.meta().purpose == Purpose::Preserve {
        return Ok(());
    }
    let open = open(case, state)?;
    let Some(end) = run.end.as_ref().filter(|_| !open.is_empty()) else { return Ok(()) };
    ensure!(end.outcome != done(case.playbook), "{}, and this is open: {open:?}", end.outcome);
    let after = end.contained_after_ms;
    ensure!(after.is_none(), "this is open, and the ledger says that all was cut after {after:?} ms: {open:?}");
    for text in told(case).await? {
        let claims = text.contains("Network cut") || text.starts_with("CONTAINED") || text.starts_with("FIXED");
        ensure!(!claims, "this is open: {open:?}, and people were told:\n{text}");
    }
    Ok(())
}
