//! `firebreak runs` and `firebreak show`: what was done.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::{Result, bail};
use comfy_table::{Table, presets};
use firebreak::door::wire::{Answer, Asked, Brief};
use firebreak::finding::Source;
use firebreak::ids::RunId;
use firebreak::ledger::Which;
use firebreak::ledger::decisions::MOST_NAMES;
use firebreak::plan::Step;
use firebreak::run::{Outcome, PastEnd, Run, RunState, StepResult, UndoResult};
use firebreak::text::plain;
use jiff::Timestamp;
use owo_colors::OwoColorize;

use crate::door::Door;
use crate::plan::list;

pub(crate) async fn runs(
    url: Option<&str>,
    most: u32,
    after: Option<String>,
    which: Which,
    as_json: bool,
) -> Result<bool> {
    let door = Door::at(url).await?;
    let Answer::Runs { runs, next } =
        door.ask(&Asked::Runs { most, after, state: which.state, severity: which.severity }).await?
    else {
        bail!("the door gave another answer than runs");
    };
    let mut out = anstream::stdout().lock();
    if as_json {
        for run in &runs {
            writeln!(out, "{}", serde_json::to_string(run)?)?;
        }
    } else if runs.is_empty() {
        match &next {
            _ if which == Which::default() => writeln!(out, "no runs yet")?,
            None => writeln!(out, "no such run")?,
            Some(_) => writeln!(out, "none among the newest runs")?,
        }
    } else {
        writeln!(out, "{}", table(&runs))?;
    }
    if let Some(next) = next {
        // Not among the lines that a script reads.
        let state = which.state.map(|state| format!(" --state {}", state.as_str())).unwrap_or_default();
        let severity = which.severity.map(|severity| format!(" --severity {severity}")).unwrap_or_default();
        writeln!(anstream::stderr(), "more: firebreak runs --most {most}{state}{severity} --after {next}")?;
    }
    Ok(true)
}

fn table(runs: &[Brief]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["RUN", "WHEN", "PLAYBOOK", "ACCOUNT", "TARGET", "SEVERITY", "STATE", "OUTCOME", "OWNER"]);
    for run in runs {
        let state = if run.expired { "expired" } else { run.state.as_str() };
        table.add_row([
            run.run.to_string(),
            run.arrived_at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            run.playbook.clone(),
            run.target.account.to_string(),
            run.target.id.clone(),
            format!("{:.1}", run.severity),
            state.to_owned(),
            run.outcome.map_or("", |outcome| outcome.as_str()).to_owned(),
            run.owner.clone().unwrap_or_default(),
        ]);
    }
    table
}

pub(crate) async fn show(url: Option<&str>, id: &RunId, requests: bool, as_json: bool) -> Result<bool> {
    let run = Door::at(url).await?.run(id).await?;
    let mut out = anstream::stdout().lock();
    if as_json {
        writeln!(out, "{}", serde_json::to_string(&run)?)?;
    } else {
        print(&mut out, &run, requests)?;
    }
    Ok(true)
}

/// A time as people read it.
fn when(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Milliseconds since the clock of a run began.
fn since(ms: u64) -> String {
    format!("+{:.1} s", ms as f64 / 1000.0)
}

pub(crate) fn print(out: &mut impl Write, run: &Run, requests: bool) -> Result<()> {
    let head = &run.head;
    let region = head.target.region.as_ref().map_or("global", |region| region.as_str());
    let expired = run.is_expired(Timestamp::now());
    let state = if expired { "expired" } else { run.state.as_str() };
    let outcome = run.end.as_ref().map_or(state, |end| end.outcome.as_str());
    writeln!(out, "{} {} {}", "Run".bold(), head.id, outcome.bold())?;
    writeln!(out, "  {} on {}, account {}, {region}", head.playbook, head.target.id, head.target.account)?;
    let finding = &head.finding;
    match &finding.request {
        Some(by) if finding.source == Source::Request => {
            writeln!(out, "  asked for by {}: {}", plain(by, MOST_NAMES), plain(&finding.title, 300))?;
        }
        _ => {
            let what = if finding.control.is_some() { "failed control" } else { "finding" };
            let kind = plain(finding.what(), 120);
            writeln!(out, "  {what} {kind}, severity {:.1}, {}", finding.severity, finding.id)?;
        }
    }
    for reason in &head.reasons {
        writeln!(out, "  {reason}")?;
    }
    timeline(out, run)?;
    let mut said = BTreeSet::new();
    for stage in run.stages() {
        writeln!(out, "\n  {}", stage.name.bold())?;
        for step in &stage.steps {
            print_step(out, run, step, requests, &mut said)?;
        }
    }
    if let Some(end) = &run.end {
        list(out, "Not done", &end.not_done)?;
        list(out, title_of_remains(end.outcome), &end.remains)?;
        if matches!(end.outcome, Outcome::Undone | Outcome::UndonePartly) {
            list(out, "Seen before the undo", &end.seen)?;
        }
    } else {
        list(out, "Will stay open", &head.plan.remains)?;
    }
    list(out, "Notes", &head.plan.notes)?;
    Ok(())
}

/// What happened when, and who decided.
fn timeline(out: &mut impl Write, run: &Run) -> Result<()> {
    let head = &run.head;
    let mut line = |at: Timestamp, what: &str| writeln!(out, "  {}  {what}", when(at).dimmed());
    let came = if head.finding.source == Source::Request { "asked for" } else { "the finding arrived" };
    line(head.arrived_at, came)?;
    if let Some(at) = run.approved_at {
        line(at, "approved")?;
    }
    let ends: Vec<PastEnd> = run.past.iter().cloned().chain(run.end.as_ref().map(PastEnd::from)).collect();
    let mut cut = false;
    for end in &ends {
        if let (Some(ms), false) = (end.contained_after_ms, cut) {
            cut = true;
            let what = if head.target.kind.is_identity() { "credentials" } else { "network" };
            let from = if run.approved_at.is_some() { "the approval" } else { "the finding arrived" };
            let at = run.counts_from() + std::time::Duration::from_millis(ms);
            line(at, &format!("{what} cut, {:.1} s after {from}", ms as f64 / 1000.0))?;
        }
        let by = end.decided.as_ref().map(|decided| format!(", {}", plain(decided, MOST_NAMES))).unwrap_or_default();
        line(end.at, &format!("{}{by}", end.outcome.as_str()))?;
    }
    if let Some(at) = run.hold_ends_at() {
        let by = run.hold.as_ref().map(|set| format!(", by the word of {}", plain(&set.by, MOST_NAMES)));
        line(at, &format!("the hold ends{}", by.unwrap_or_default()))?;
    }
    if let Some(owner) = &head.owner {
        writeln!(out, "  owner: {}", plain(owner, 80))?;
    }
    // What is under way.
    if let Some(decided) = run.decided.as_ref().filter(|_| matches!(run.state, RunState::Applying | RunState::Undoing))
    {
        writeln!(out, "  {}", plain(decided, MOST_NAMES))?;
    }
    Ok(())
}

/// `said` is what was said of other steps' undo: once is enough.
fn print_step(out: &mut impl Write, run: &Run, step: &Step, requests: bool, said: &mut BTreeSet<String>) -> Result<()> {
    let became = match run.result(&step.id) {
        None => "planned".to_owned(),
        Some(StepResult::Changed { .. }) => "done".to_owned(),
        Some(StepResult::AlreadySo) => "so already".to_owned(),
        Some(StepResult::Gone) => "gone".to_owned(),
        Some(StepResult::Left { why }) => format!("left: {}", plain(why, 200)),
        Some(StepResult::Skipped { needs }) => format!("skipped: it needs {}", plain(&needs.0, 120)),
        Some(StepResult::Failed { why, .. }) => format!("failed: {}", plain(why, 200)),
        Some(StepResult::Slow) => "no answer in time".to_owned(),
    };
    let at = run.steps.get(&step.id).map(|record| format!(", at {}", since(record.after_ms))).unwrap_or_default();
    let caveat = step.caveat.as_ref().filter(|caveat| said.insert((*caveat).clone()));
    let undone = match (run.undo_result(&step.id), caveat) {
        (Some(UndoResult::Restored), Some(caveat)) => format!("; undo: restored, but {caveat}"),
        (Some(result), _) => format!("; undo: {}", undone(result)),
        // Whoever decides is to know what the decision cannot take back.
        (None, Some(caveat)) => format!("; undo: {caveat}"),
        (None, None) => String::new(),
    };
    writeln!(out, "  - {}: {} → {}", step.change.what, step.change.from, step.change.to)?;
    writeln!(out, "      {}", format!("{became}{at}{undone}").dimmed())?;
    if requests {
        let of_undo = run.undone.get(&step.id).map(|record| record.requests.as_slice()).unwrap_or_default();
        for request in run.requests(&step.id).iter().chain(of_undo) {
            let id = plain(&request.request_id, 128);
            writeln!(out, "      {} {id}", request.operation.dimmed())?;
        }
    }
    Ok(())
}

/// What a run leaves open is one thing, what its undo could not give back another.
fn title_of_remains(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Undone | Outcome::UndonePartly => "Not as before",
        _ => "Still open",
    }
}

fn undone(result: &UndoResult) -> String {
    match result {
        UndoResult::Restored => "restored".to_owned(),
        UndoResult::AlreadySo => "as before already".to_owned(),
        UndoResult::Gone => "gone".to_owned(),
        UndoResult::Conflict { found } => format!("changed since by somebody else, left alone: {found}"),
        UndoResult::Left { why, .. } => format!("left: {why}"),
        UndoResult::Failed { why, .. } => format!("failed: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_undo_leaves_is_not_called_open() {
        assert_eq!(title_of_remains(Outcome::Contained), "Still open");
        for outcome in [Outcome::Undone, Outcome::UndonePartly] {
            assert_eq!(title_of_remains(outcome), "Not as before");
        }
    }
}
