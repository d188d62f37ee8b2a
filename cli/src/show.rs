//! `firebreak runs` and `firebreak show`: what was done.

use std::io::Write;

use anyhow::{Context, Result};
use comfy_table::{Table, presets};
use firebreak::ids::RunId;
use firebreak::run::{Outcome, Run, UndoResult};
use owo_colors::OwoColorize;
use serde_json::{Value, json};

use crate::plan::list;

pub(crate) async fn runs(most: i32, as_json: bool) -> Result<bool> {
    let hub = crate::connect::hub().await?;
    let runs = hub.ledger.runs(most).await?;
    let mut out = anstream::stdout().lock();
    if as_json {
        for run in &runs {
            writeln!(out, "{}", to_json(run))?;
        }
        return Ok(true);
    }
    if runs.is_empty() {
        writeln!(out, "no runs yet")?;
        return Ok(true);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["RUN", "WHEN", "PLAYBOOK", "ACCOUNT", "TARGET", "STATE", "OUTCOME"]);
    for run in &runs {
        let head = &run.head;
        table.add_row([
            head.id.to_string(),
            head.arrived_at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            head.playbook.clone(),
            head.target.account.to_string(),
            head.target.id.clone(),
            run.state.as_str().to_owned(),
            run.end.as_ref().map_or("", |end| end.outcome.as_str()).to_owned(),
        ]);
    }
    writeln!(out, "{table}")?;
    Ok(true)
}

/// A run as JSON: what the ledger holds.
fn to_json(run: &Run) -> Value {
    json!({
        "run": run.head.id,
        "state": run.state,
        "playbook": run.head.playbook,
        "target": run.head.target,
        "finding": { "id": run.head.finding.id, "type": run.head.finding.finding_type, "severity": run.head.finding.severity },
        "mode": run.head.mode,
        "reasons": run.head.reasons,
        "arrived_at": run.head.arrived_at,
        "approved_at": run.approved_at,
        "plan": run.head.plan,
        "plan_hash": run.head.plan_hash,
        "added": run.added,
        "steps": run.steps,
        "undone": run.undone,
        "end": run.end,
    })
}

pub(crate) async fn show(id: &RunId, as_json: bool) -> Result<bool> {
    let hub = crate::connect::hub().await?;
    let run = hub.ledger.run(id).await?.with_context(|| format!("there is no run {id}"))?;
    let mut out = anstream::stdout().lock();
    if as_json {
        writeln!(out, "{}", to_json(&run))?;
    } else {
        print(&mut out, &run)?;
    }
    Ok(true)
}

pub(crate) fn print(out: &mut impl Write, run: &Run) -> Result<()> {
    let head = &run.head;
    let region = head.target.region.as_ref().map_or("global", |region| region.as_str());
    let outcome = run.end.as_ref().map_or(run.state.as_str(), |end| end.outcome.as_str());
    writeln!(out, "{} {} {}", "Run".bold(), head.id, outcome.bold())?;
    writeln!(out, "  {} on {}, account {}, {region}", head.playbook, head.target.id, head.target.account)?;
    let finding = &head.finding;
    let kind = firebreak::text::plain(&finding.finding_type, 120);
    writeln!(out, "  finding {kind}, severity {:.1}, {}", finding.severity, finding.id)?;
    writeln!(out, "  arrived {}, state {}", head.arrived_at.strftime("%Y-%m-%d %H:%M:%SZ"), run.state.as_str())?;
    if let Some(ms) = run.end.as_ref().and_then(|end| end.contained_after_ms) {
        let what = if head.target.kind.is_identity() { "credentials" } else { "network" };
        let since = if run.approved_at.is_some() { "the approval" } else { "the finding arrived" };
        writeln!(out, "  {what} cut {:.1} s after {since}", ms as f64 / 1000.0)?;
    }
    if let Some(decided) = run.end.as_ref().and_then(|end| end.decided.as_ref()) {
        writeln!(out, "  {}", firebreak::text::plain(decided, 160))?;
    }
    for reason in &head.reasons {
        writeln!(out, "  {reason}")?;
    }
    for stage in run.stages() {
        writeln!(out, "\n  {}", stage.name.bold())?;
        for step in &stage.steps {
            let became = run.result(&step.id).map_or("planned", |result| result.name());
            let after = run.steps.get(&step.id).map(|record| format!(", {} ms", record.after_ms)).unwrap_or_default();
            let undone = run.undo_result(&step.id).map(|result| format!("; undo: {}", undone(result)));
            let undone = undone.unwrap_or_default();
            writeln!(out, "  - {} ({became}{after}{undone})", step.change.what)?;
            writeln!(out, "      {} → {}", step.change.from.dimmed(), step.change.to)?;
            let of_undo = run.undone.get(&step.id).map(|record| record.requests.as_slice()).unwrap_or_default();
            for request in run.requests(&step.id).iter().chain(of_undo) {
                let id = firebreak::text::plain(&request.request_id, 128);
                writeln!(out, "      {} {id}", request.operation.dimmed())?;
            }
        }
    }
    if let Some(end) = &run.end {
        list(out, "Not done", &end.not_done)?;
        list(out, title_of_remains(end.outcome), &end.remains)?;
    } else {
        list(out, "Will stay open", &head.plan.remains)?;
    }
    list(out, "Notes", &head.plan.notes)?;
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
