//! The tables: what is printed, and the generated part of `docs/benchmarks.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};
use firebreak_tests::emulator::workspace;

use crate::figures::Figures;
use crate::instructions::Instructions;
use crate::kit::{Incident, Peer};
use crate::sample::Sample;

const PAGE: &str = "docs/benchmarks.md";
const BEGINS: &str = "<!-- what `cargo peers -- --write` wrote begins here -->\n";
const ENDS: &str = "<!-- and ends here -->\n";

/// Under what a sample was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Condition {
    /// What every AWS call takes longer, in milliseconds.
    pub delay_ms: u64,
    /// The Lambda memory size whose share of a processor there is; without one a whole core.
    pub memory_mb: Option<u32>,
}

impl Condition {
    fn words(self) -> String {
        let share = self.memory_mb.map_or_else(|| "a whole core".to_owned(), |size| format!("the share of {size} MB"));
        format!("{} ms a call, {share}", self.delay_ms)
    }
}

/// A policy of Cloud Custodian's as its documentation suggests it, and what came of one event.
#[derive(Debug)]
pub struct Documented {
    /// The policy's name.
    pub policy: &'static str,
    /// What came of it.
    pub sample: Sample,
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Results {
    /// When, on what, with which versions.
    pub circumstances: Vec<String>,
    /// Milliseconds from start to ready, by peer.
    pub starts: BTreeMap<Peer, Figures>,
    /// Milliseconds to the answer to a first event that is not for it, after the start.
    pub turned_away_first: BTreeMap<Peer, Figures>,
    /// The samples.
    pub samples: Vec<(Incident, Condition, Peer, Sample)>,
    /// Cloud Custodian as documented.
    pub documented: Vec<Documented>,
    /// Bytes that are uploaded, by peer and incident.
    pub bytes: BTreeMap<(Incident, Peer), u64>,
    /// Instructions, by peer.
    pub instructions: BTreeMap<Peer, Instructions>,
    /// What was not measured, and why.
    pub not_measured: Vec<String>,
}

impl Results {
    fn of(&self, incident: Incident, peer: Peer) -> impl Iterator<Item = (Condition, &Sample)> {
        let here = move |one: &&(Incident, Condition, Peer, Sample)| one.0 == incident && one.2 == peer;
        self.samples.iter().filter(here).map(|(_, condition, _, sample)| (*condition, sample))
    }

    fn figures(
        &self,
        incident: Incident,
        peer: Peer,
        condition: Condition,
        of: impl Fn(&Sample) -> Option<f64>,
    ) -> Figures {
        self.of(incident, peer).filter(|(at, _)| *at == condition).filter_map(|(_, sample)| of(sample)).collect()
    }

    fn conditions(&self, incident: Incident) -> BTreeSet<Condition> {
        self.samples.iter().filter(|one| one.0 == incident).map(|one| one.1).collect()
    }

    /// The tables, as Markdown.
    ///
    /// # Errors
    /// When a text cannot be written.
    pub fn tables(&self) -> Result<String> {
        let mut page = String::new();
        writeln!(page, "{}\n", self.circumstances.join("\n"))?;
        self.goals(&mut page)?;
        self.process(&mut page)?;
        for incident in Incident::ALL {
            self.incident(&mut page, incident)?;
        }
        self.calls(&mut page)?;
        self.correctness(&mut page)?;
        if !self.instructions.is_empty() {
            writeln!(page, "### Instructions\n\nMillions, by callgrind.\n")?;
            writeln!(page, "| | Start to ready | An event turned away |\n|---|---|---|")?;
            for (peer, counted) in &self.instructions {
                writeln!(page, "| {} | {:.2} | {:.3} |", peer.name(), counted.start, counted.turned_away)?;
            }
            writeln!(page)?;
        }
        for why in &self.not_measured {
            writeln!(page, "Not measured: {why}.\n")?;
        }
        Ok(page)
    }

    /// A row of medians: Firebreak's, then each peer's with its ratio to that.
    fn row(page: &mut String, what: &str, unit: &str, figures: impl Fn(Peer) -> Figures) -> Result<()> {
        let ours = figures(Peer::Firebreak).median();
        write!(page, "| {what}")?;
        for peer in Peer::ALL {
            let theirs = figures(peer);
            let (median, (least, most)) = (theirs.median(), theirs.range());
            if theirs.count() == 0 {
                write!(page, " | –")?;
            } else if peer == Peer::Firebreak {
                write!(page, " | **{}** {unit} ({}–{})", short(median), short(least), short(most))?;
            } else {
                let ratio = short(median / ours);
                write!(page, " | {} {unit} ({}–{}), × {ratio}", short(median), short(least), short(most))?;
            }
        }
        writeln!(page, " |")?;
        Ok(())
    }

    fn head(page: &mut String, first: &str) -> Result<()> {
        let names: Vec<&str> = Peer::ALL.iter().map(|peer| peer.name()).collect();
        writeln!(page, "| {first} | {} |\n|---|---|---|---|", names.join(" | "))?;
        Ok(())
    }

    fn turned_away(&self, peer: Peer) -> Figures {
        let samples = self.of(Incident::Instance, peer).filter(|(at, _)| at.memory_mb.is_none());
        samples.flat_map(|(_, sample)| sample.turned_away.iter().map(|(took, _)| *took)).collect()
    }

    fn peak(&self, incident: Incident, peer: Peer) -> Figures {
        self.of(incident, peer).map(|(_, sample)| sample.peak_mb).collect()
    }

    fn process(&self, page: &mut String) -> Result<()> {
        let starts = self.starts.values().map(Figures::count).min().unwrap_or_default();
        writeln!(page, "### A process\n\nMedian (least–most), × how many times Firebreak's. n = {starts} starts.\n")?;
        Self::head(page, "")?;
        let by = |map: &BTreeMap<Peer, Figures>, peer: Peer| map.get(&peer).cloned().unwrap_or_default();
        Self::row(page, "Start to ready", "ms", |peer| by(&self.starts, peer))?;
        Self::row(page, "First event, turned away", "ms", |peer| by(&self.turned_away_first, peer))?;
        let n = self.turned_away(Peer::Firebreak).count();
        Self::row(page, &format!("Later event, turned away (n = {n})"), "ms", |peer| self.turned_away(peer))?;
        Self::row(page, "Peak memory, instance", "MB", |peer| self.peak(Incident::Instance, peer))?;
        Self::row(page, "Peak memory, key", "MB", |peer| self.peak(Incident::Key, peer))?;
        for (incident, what) in [(Incident::Instance, "instance"), (Incident::Key, "key")] {
            let shipped = |peer: Peer| self.bytes.get(&(incident, peer)).map(|bytes| *bytes as f64 / 1e3);
            Self::row(page, &format!("Shipped, {what}"), "kB", |peer| shipped(peer).into_iter().collect())?;
        }
        writeln!(page)?;
        Ok(())
    }

    fn incident(&self, page: &mut String, incident: Incident) -> Result<()> {
        let title = match incident {
            Incident::Instance => "An instance of three interfaces and three volumes",
            Incident::Key => "A leaked access key",
        };
        writeln!(page, "### {title}\n")?;
        for condition in self.conditions(incident) {
            let n = self.figures(incident, Peer::Firebreak, condition, |_| Some(0.0)).count();
            writeln!(page, "{} (n = {n}):\n", condition.words())?;
            Self::head(page, "")?;
            let row = |page: &mut String, what: &str, of: &dyn Fn(&Sample) -> Option<f64>| {
                Self::row(page, what, "ms", |peer| self.figures(incident, peer, condition, of))
            };
            row(page, "Process start to last cut", &|sample| sample.cold.cut_ms)?;
            row(page, "Process start to answer", &|sample| Some(sample.cold.answered_ms))?;
            if incident == Incident::Instance {
                row(page, "Warm event to last cut", &|sample| sample.warm.as_ref()?.cut_ms)?;
                row(page, "Warm event to answer", &|sample| sample.warm.as_ref().map(|warm| warm.answered_ms))?;
            }
            writeln!(page)?;
        }
        Ok(())
    }

    fn calls(&self, page: &mut String) -> Result<()> {
        writeln!(page, "### AWS calls\n\nOf a first event, those made while the process starts among them.\n")?;
        for incident in Incident::ALL {
            for peer in Peer::ALL {
                let Some((_, sample)) = self.of(incident, peer).last() else { continue };
                let counts: Figures =
                    self.of(incident, peer).map(|(_, sample)| sample.cold.calls.len() as f64).collect();
                let mut tally: BTreeMap<&str, usize> = BTreeMap::new();
                for call in &sample.cold.calls {
                    *tally.entry(call).or_default() += 1;
                }
                let tally: Vec<String> = tally
                    .into_iter()
                    .map(|(call, times)| if times == 1 { call.to_owned() } else { format!("{call} × {times}") })
                    .collect();
                let what = if incident == Incident::Instance { "instance" } else { "key" };
                let median = counts.median();
                writeln!(page, "- {}, {what}: **{median}**. {}", peer.name(), tally.join(", "))?;
            }
        }
        let made = |peer| {
            let samples = self.of(Incident::Instance, peer).flat_map(|(_, sample)| &sample.turned_away);
            samples.map(|(_, calls)| *calls).max().unwrap_or_default().to_string()
        };
        let most: Vec<String> = Peer::ALL.iter().map(|peer| format!("{} {}", peer.name(), made(*peer))).collect();
        writeln!(page, "- For an event turned away, at most: {}\n", most.join(", "))?;
        Ok(())
    }

    fn correctness(&self, page: &mut String) -> Result<()> {
        writeln!(page, "### Is it contained?\n\nRead back from AWS by another client after each event.\n")?;
        Self::head(page, "")?;
        let share = |good: usize, all: usize| format!("{good} of {all}");
        let cell = |page: &mut String, what: &str, of: &dyn Fn(Peer) -> String| -> Result<()> {
            let cells: Vec<String> = Peer::ALL.iter().map(|peer| of(*peer)).collect();
            writeln!(page, "| {what} | {} |", cells.join(" | "))?;
            Ok(())
        };
        cell(page, "Every interface without a way in or out", &|peer| {
            let events = || {
                self.of(Incident::Instance, peer)
                    .flat_map(|(_, sample)| [Some(&sample.cold), sample.warm.as_ref()])
                    .flatten()
            };
            share(events().filter(|one| one.contained).count(), events().count())
        })?;
        cell(page, "The leaked key of no use", &|peer| {
            let events = || self.of(Incident::Key, peer).map(|(_, sample)| &sample.cold);
            share(events().filter(|one| one.contained).count(), events().count())
        })?;
        cell(page, "Sets of snapshots after the same event again", &|peer| {
            let sets: BTreeSet<String> = self
                .of(Incident::Instance, peer)
                .filter_map(|(_, sample)| Some(short(sample.snapshot_sets?)))
                .collect();
            sets.into_iter().collect::<Vec<_>>().join(", ")
        })?;
        cell(page, "Where the groups of before are kept", &|peer| {
            let kept: BTreeSet<&str> = self.of(Incident::Instance, peer).map(|(_, sample)| sample.undo_data).collect();
            kept.into_iter().collect::<Vec<_>>().join(", ")
        })?;
        writeln!(page)?;
        for one in &self.documented {
            let (cold, sample) = (&one.sample.cold, &one.sample);
            let end = if cold.contained { "contained" } else { "**not contained**" };
            let said = cold.error.as_deref().map_or("no error".to_owned(), |error| format!("`{error}`"));
            write!(page, "- Cloud Custodian's policy `{}`: {end}, {said}", one.policy)?;
            if let (Some(sets), Some((_, calls))) = (sample.snapshot_sets, sample.turned_away.first()) {
                let away: Figures = sample.turned_away.iter().map(|(took, _)| *took).collect();
                let away = short(away.median());
                write!(page, "; sets of snapshots after the same event again: {sets}")?;
                write!(page, "; an event is turned away in {away} ms, with {calls} calls")?;
            }
            writeln!(page)?;
        }
        writeln!(page)?;
        Ok(())
    }

    fn goals(&self, page: &mut String) -> Result<()> {
        let median = |map: &BTreeMap<Peer, Figures>, peer: Peer| map.get(&peer).map_or(f64::NAN, Figures::median);
        let start = |peer| median(&self.starts, peer) / median(&self.starts, Peer::Firebreak);
        let away = |peer| self.turned_away(peer).median() / self.turned_away(Peer::Firebreak).median();
        let documented = self.documented.iter().flat_map(|one| one.sample.turned_away.iter().map(|(took, _)| *took));
        let documented = documented.collect::<Figures>().median() / self.turned_away(Peer::Firebreak).median();
        let peak = |peer| {
            self.peak(Incident::Instance, peer).median() / self.peak(Incident::Instance, Peer::Firebreak).median()
        };
        let slow = Condition { delay_ms: 40, memory_mb: None };
        let cut = |peer| self.figures(Incident::Instance, peer, slow, |sample| sample.cold.cut_ms).median();
        let sooner = |peer| cut(peer) / cut(Peer::Firebreak);
        let (boto3, custodian) = (Peer::Boto3, Peer::Custodian);
        let goals = [
            ("Start to ready at least 40 × faster than the boto3 handler", start(boto3), 40.0),
            ("Start to ready at least 80 × faster than Cloud Custodian", start(custodian), 80.0),
            ("An event turned away at least 100 × faster than by Cloud Custodian as documented", documented, 100.0),
            ("The same, where its policy says so by `conditions`", away(custodian), 100.0),
            ("At most a quarter of the boto3 handler's memory", peak(boto3), 4.0),
            ("At most a quarter of Cloud Custodian's memory", peak(custodian), 4.0),
            ("Cold event to last cut, at 40 ms a call, before the boto3 handler", sooner(boto3), 1.0),
            ("Cold event to last cut, at 40 ms a call, before Cloud Custodian", sooner(custodian), 1.0),
        ];
        writeln!(page, "### Goals\n\n| Goal | Measured | |\n|---|---|---|")?;
        for (goal, ratio, least) in goals {
            let met = match ratio {
                _ if ratio.is_nan() => "not measured",
                _ if ratio >= least => "met",
                _ => "**not met**",
            };
            writeln!(page, "| {goal} | {} × | {met} |", short(ratio))?;
        }
        writeln!(page)?;
        Ok(())
    }
}

/// Three digits that count.
fn short(figure: f64) -> String {
    match figure.abs() {
        _ if figure.is_nan() => "–".to_owned(),
        size if size >= 99.5 || figure.fract() == 0.0 => format!("{figure:.0}"),
        size if size >= 9.95 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

/// Puts tables into the page, in the place of what was generated before.
///
/// # Errors
/// When the page cannot be read or written, or has lost its marks.
pub fn write(tables: &str) -> Result<()> {
    let path = workspace().join(PAGE);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {PAGE}"))?;
    let filled = filled(&text, tables).with_context(|| format!("{PAGE} has lost the marks of what is generated"))?;
    fs::write(&path, filled).with_context(|| format!("cannot write {PAGE}"))
}

fn filled(page: &str, tables: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGINS)?;
    let (_, after) = rest.split_once(ENDS)?;
    Some(format!("{before}{BEGINS}\n{}\n\n{ENDS}{after}", tables.trim()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_generated_takes_the_place_of_what_was() {
        let page = format!("# A\n\n{BEGINS}old\n{ENDS}\nmore\n");
        let once = filled(&page, "new\n").unwrap();
        assert_eq!(once, format!("# A\n\n{BEGINS}\nnew\n\n{ENDS}\nmore\n"));
        assert_eq!(filled(&once, "new").unwrap(), once);
        assert_eq!(filled("# A\n", "new"), None);
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!([3.456, 34.56, 345.6, 12.0, f64::NAN].map(short), ["3.46", "34.6", "346", "12", "–"]);
    }
}
