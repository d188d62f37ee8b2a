//! Reports: the same facts for a machine (an event), for a person on a phone (a message), and for the
//! evidence. What is said is what was read back.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::evidence::Kept;
use crate::finding::Finding;
use crate::ids::RunId;
use crate::playbook::Purpose;
use crate::run::{Outcome, Run};
use crate::target::Target;
use crate::text::plain;

/// What is reported about one finding and one playbook, or about an undo.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The playbook.
    pub playbook: String,
    /// The target.
    pub target: Target,
    /// The run, when there is one.
    pub run: Option<RunId>,
    /// The finding's id.
    pub finding: String,
    /// The finding's type.
    pub finding_type: String,
    /// The finding's severity.
    pub severity: f64,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, in words.
    pub reasons: Vec<String>,
    /// What was to be done and is not.
    pub not_done: Vec<String>,
    /// What is open although every step succeeded.
    pub remains: Vec<String>,
    /// Milliseconds from the finding's arrival to the last cut.
    pub contained_after_ms: Option<u64>,
    /// What the plan would do, or did: one line a step.
    pub steps: Vec<String>,
    /// Whether somebody must be woken.
    pub page: bool,
    /// Whether what is not done is tried again by itself.
    pub retry: bool,
    /// When.
    pub at: Timestamp,
    /// Where the evidence is.
    pub evidence: Option<Kept>,
    /// What the playbook is for; decides the words.
    #[serde(skip)]
    pub purpose: Option<Purpose>,
}

/// The longest line of a message: what a phone shows without much wrapping.
const LINE: usize = 160;

/// The most lines of a message.
pub const MOST_LINES: usize = 10;

impl Report {
    /// A report about a finding that began no run.
    pub fn of(playbook: &str, target: &Target, finding: &Finding, outcome: Outcome, why: impl Into<String>) -> Self {
        Self {
            playbook: playbook.to_owned(),
            target: target.clone(),
            run: None,
            finding: finding.id.to_string(),
            finding_type: finding.finding_type.clone(),
            severity: finding.severity,
            outcome,
            reasons: vec![why.into()],
            not_done: Vec::new(),
            remains: Vec::new(),
            contained_after_ms: None,
            steps: Vec::new(),
            page: false,
            retry: false,
            at: Timestamp::now(),
            evidence: None,
            purpose: None,
        }
    }

    /// A report about a run.
    pub fn of_run(run: &Run, outcome: Outcome, purpose: Purpose) -> Self {
        let head = &run.head;
        let steps = run
            .all_steps()
            .map(|step| {
                let became = run.result(&step.id).map_or("planned", |result| result.name());
                format!("{}: {} → {} ({became})", step.change.what, step.change.from, step.change.to)
            })
            .collect();
        let end = run.end.as_ref();
        let mut report = Self::of(&head.playbook, &head.target, &head.finding, outcome, "");
        report.reasons = head.reasons.clone();
        report.run = Some(head.id.clone());
        report.not_done = end.map(|end| end.not_done.clone()).unwrap_or_default();
        report.remains = end.map_or_else(|| head.plan.remains.clone(), |end| end.remains.clone());
        report.contained_after_ms = end.and_then(|end| end.contained_after_ms);
        report.steps = steps;
        report.purpose = Some(purpose);
        if let Some(end) = end {
            if let Some(decided) = &end.decided {
                report.reasons.insert(0, decided.clone());
            }
            report.retry = end.retry;
            report.at = end.at;
        }
        report
    }

    /// The outcome event's `detail`.
    pub fn event(&self) -> Value {
        json!({
            "version": 1,
            "playbook": self.playbook,
            "outcome": self.outcome,
            "target": {
                "partition": self.target.partition,
                "account": self.target.account,
                "region": self.target.region,
                "kind": self.target.kind,
                "id": self.target.id,
            },
            "run": self.run,
            "finding": { "id": self.finding, "type": self.finding_type, "severity": self.severity },
            "reasons": self.reasons,
            "not_done": self.not_done,
            "remains": self.remains,
            "contained_after_ms": self.contained_after_ms,
            "page": self.page,
            "retry": self.retry,
            "at": self.at,
            "evidence": self.evidence,
        })
    }

    /// The message's subject: SNS takes at most 100 ASCII characters.
    pub fn subject(&self) -> String {
        let text = format!("Firebreak: {} {} in {}", self.headline(), self.target.id, self.target.account);
        plain(&text, 99).replace('…', "")
    }

    fn headline(&self) -> &'static str {
        match self.outcome {
            Outcome::Contained => "CONTAINED",
            Outcome::Partial => match self.purpose {
                Some(Purpose::Preserve) => "EVIDENCE INCOMPLETE",
                _ => "PARTLY CONTAINED",
            },
            Outcome::NotContained => match self.purpose {
                Some(Purpose::Preserve) => "EVIDENCE NOT KEPT",
                _ => "NOT CONTAINED",
            },
            Outcome::Preserved => "EVIDENCE KEPT",
            Outcome::NoChange => "NO CHANGE",
            Outcome::Proposed => "DECISION NEEDED",
            Outcome::Observed => "OBSERVED",
            Outcome::Refused => "REFUSED",
            Outcome::Gone => "TARGET GONE",
            Outcome::Failed => "FAILED",
            Outcome::Rejected => "REJECTED",
            Outcome::Undone => "UNDONE",
            Outcome::UndonePartly => "UNDONE IN PART",
        }
    }

    /// The message for a person with a phone: what, where, contained or what is not, what to do, and the
    /// command that takes it back. Ten lines at most.
    pub fn message(&self) -> String {
        let region = self.target.region.as_ref().map_or("global", |region| region.as_str());
        let mut lines = vec![
            format!("{}: {} ({})", self.headline(), self.target.id, self.playbook),
            format!("Where: account {}, {region}", self.target.account),
            format!("Finding: {}, severity {:.1}", plain(&self.finding_type, 90), self.severity),
        ];
        if let Some(ms) = self.contained_after_ms {
            let what = if self.target.kind.is_identity() { "Credentials" } else { "Network" };
            lines.push(format!("{what} cut {:.1} s after the finding arrived", ms as f64 / 1000.0));
        }
        let list = |title: &str, items: &[String]| {
            let shown = items.iter().take(2).map(|item| plain(item, 110)).collect::<Vec<_>>().join("; ");
            let more = items.len().saturating_sub(2);
            let more = if more > 0 { format!("; {more} more") } else { String::new() };
            format!("{title}: {shown}{more}")
        };
        if !self.not_done.is_empty() {
            lines.push(list("NOT DONE", &self.not_done));
        }
        match self.outcome {
            Outcome::Contained | Outcome::Partial | Outcome::Preserved => {
                if !self.remains.is_empty() {
                    lines.push(list("Still open", &self.remains));
                }
            }
            _ => {
                if !self.reasons.is_empty() {
                    lines.push(list("Why", &self.reasons));
                }
            }
        }
        lines.push(format!("Do: {}", self.advice()));
        if let Some(run) = &self.run {
            match self.outcome {
                Outcome::Proposed => {
                    lines.push(format!("Approve: firebreak approve {run}"));
                    lines.push(format!("Reject: firebreak reject {run}"));
                }
                Outcome::Contained | Outcome::Partial | Outcome::UndonePartly
                    if self.purpose != Some(Purpose::Preserve) =>
                {
                    lines.push(format!("Undo: firebreak undo {run}"));
                }
                _ => {}
            }
            lines.push(format!("More: firebreak show {run}"));
        }
        lines.truncate(MOST_LINES);
        lines.iter().map(|line| shorten(line, LINE)).collect::<Vec<_>>().join("\n")
    }

    fn advice(&self) -> &'static str {
        match (self.outcome, self.purpose) {
            (Outcome::Contained, _) if self.target.kind.is_identity() => {
                "investigate what was done with the credentials; give their owner new ones"
            }
            (Outcome::Contained, _) => "investigate; the role's sessions and what is still open are yours",
            (Outcome::Partial | Outcome::NotContained, Some(Purpose::Preserve)) => {
                "take snapshots by hand now, before the instance changes"
            }
            (Outcome::Partial, _) if self.retry => "finish by hand what is not done; it is tried again by itself",
            (Outcome::Partial, _) => "finish by hand what is not done; it is not tried again by itself",
            (Outcome::NotContained, _) => "contain it by hand now",
            (Outcome::Preserved, _) => "copy the snapshots out of the compromised account",
            (Outcome::Proposed, _) => "decide",
            (Outcome::Failed, _) => "contain it by hand now; mend what failed",
            (Outcome::UndonePartly, _) => "restore by hand what is left",
            (Outcome::Refused | Outcome::NoChange, _) => "nothing, if that is what you expect",
            (Outcome::Observed | Outcome::Gone | Outcome::Rejected | Outcome::Undone, _) => "nothing",
        }
    }
}

/// Cuts a line of text that is safe already.
fn shorten(line: &str, max: usize) -> String {
    if line.chars().count() <= max {
        return line.to_owned();
    }
    let mut short: String = line.chars().take(max - 1).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests;
