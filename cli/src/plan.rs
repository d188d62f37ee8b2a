//! `firebreak plan`: the real plan, printed for a person.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use firebreak::finding::Trigger;
use firebreak::hub::Preview;
use firebreak::run::Mode;
use firebreak::text::plain;
use owo_colors::OwoColorize;

pub(crate) async fn run(event: &Path) -> Result<bool> {
    let bytes = std::fs::read(event).with_context(|| format!("could not read {}", event.display()))?;
    let Trigger::Findings(reported) = Trigger::parse(&bytes).with_context(|| event.display().to_string())? else {
        bail!("{} holds no finding", event.display());
    };
    let (hub, operator) = crate::connect::operator().await?;
    let mut out = anstream::stdout().lock();
    let mut well = true;
    for finding in reported.findings {
        let finding = finding.with_context(|| event.display().to_string())?;
        writeln!(
            out,
            "{} {} severity {:.1}, account {}, {}",
            "Finding".bold(),
            plain(finding.what(), 120),
            finding.severity,
            finding.account,
            finding.region
        )?;
        let away =
            firebreak::screen::screen(&finding, reported.envelope_account.as_ref(), Some(&hub.config.hub_account));
        if let Some(away) = away {
            writeln!(out, "  turned away: {away}")?;
            continue;
        }
        let finding = hub.looked_up(&operator, finding).await.context("could not look up what it is about")?;
        let answers = hub.answers(&finding);
        if answers.is_empty() {
            writeln!(out, "  nothing answers it: {}", hub.why_unanswered(&finding))?;
        }
        for (playbook, target) in answers {
            match hub.preview(&operator, playbook, &target, &finding).await {
                Ok(preview) => print(&mut out, &preview)?,
                Err(failure) => {
                    well = false;
                    writeln!(out, "\n{} {} {}", playbook.meta().id.bold(), target.id, "could not be planned".red())?;
                    writeln!(out, "  {}", firebreak::failure::chain(&failure))?;
                }
            }
        }
    }
    Ok(well)
}

fn print(out: &mut impl Write, preview: &Preview) -> Result<()> {
    writeln!(out, "\n{} {}", preview.playbook.bold(), preview.target.id)?;
    if let Err(why) = &preview.genuine {
        writeln!(out, "  {} {why}: an event like this would change nothing", "not genuine:".red())?;
    }
    if let Some(hold) = &preview.hold {
        writeln!(out, "  run {} stands as {}", hold.run, hold.state.as_str())?;
    }
    let plan = match &preview.plan {
        Ok(plan) => plan,
        Err(why) => {
            writeln!(out, "  no plan: {why}")?;
            return Ok(());
        }
    };
    if let Some(ruling) = &preview.ruling {
        let word = match ruling.mode {
            Mode::Enforce => "would be done at once".red().to_string(),
            Mode::Propose => "would be proposed".yellow().to_string(),
            Mode::Observe => "would be recorded only".to_owned(),
            Mode::Refuse => "would be refused".to_owned(),
        };
        writeln!(out, "  {word}")?;
        for reason in &ruling.reasons {
            writeln!(out, "    {reason}")?;
        }
    }
    if plan.is_empty() {
        writeln!(out, "  everything is as wanted already")?;
    }
    let mut number = 0;
    for stage in &plan.stages {
        writeln!(out, "\n  {}", stage.name.bold())?;
        for step in &stage.steps {
            number += 1;
            let cut = if step.cuts { " ✂" } else { "" };
            writeln!(out, "  {number:>2}. {}{cut}", step.change.what)?;
            writeln!(out, "      {} → {}", step.change.from.dimmed(), step.change.to)?;
            if let Some(caveat) = &step.caveat {
                writeln!(out, "      {} {caveat}", "undo:".yellow())?;
            }
        }
    }
    list(out, "Will stay open", &plan.remains)?;
    list(out, "Notes", &plan.notes)?;
    writeln!(out, "\n  Nothing was changed.")?;
    Ok(())
}

pub(crate) fn list(out: &mut impl Write, title: &str, items: &[String]) -> Result<()> {
    if !items.is_empty() {
        writeln!(out, "\n  {}", title.bold())?;
        for item in items {
            writeln!(out, "  - {item}")?;
        }
    }
    Ok(())
}
