//! Reports: the same facts for a machine (an event), for a person on a phone (a message), and for the
//! evidence. What is said is what was read back.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::evidence::Kept;
use crate::finding::identity::IDENTITY_CENTER_ROLE;
use crate::finding::{Finding, Source};
use crate::ids::RunId;
use crate::playbook::Purpose;
use crate::run::{Outcome, Run, RunState};
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
    /// Who asked for it by hand, as AWS names them, and why, where a person did and no finding reported it.
    pub asked_for: Option<AskedFor>,
    /// Whether it is a drill, about a canary: nothing has happened.
    pub drill: bool,
    /// Not told by a message: there are too many of its account in this hour.
    pub hushed: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// What the report is about, when it is not the outcome itself.
    pub topic: Option<Topic>,
    /// Why, in words.
    pub reasons: Vec<String>,
    /// What was to be done and is not.
    pub not_done: Vec<String>,
    /// What is open although every step succeeded.
    pub remains: Vec<String>,
    /// What was seen of whoever works against it, and of what they have left.
    pub seen: Vec<String>,
    /// Milliseconds from the finding's arrival, or from the approval, to the last cut.
    pub contained_after_ms: Option<u64>,
    /// When a person approved it, if one did.
    pub approved_at: Option<Timestamp>,
    /// Whom the policies name for a decision.
    pub owner: Option<String>,
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
    /// Whether somebody had taken back what the run did, and it was done again.
    #[serde(skip)]
    pub again: bool,
    /// How another person says the same, where more of them are needed.
    #[serde(skip)]
    pub say: Option<String>,
    /// Whether the run's changes stand, so that they can be undone.
    #[serde(skip)]
    pub held: bool,
    /// Whether the finding joined what another run does with the target, and waits on its hold.
    #[serde(skip)]
    pub joined: bool,
    /// Whether the run ended before it changed anything, so that the target is nobody's.
    #[serde(skip)]
    pub freed: bool,
    /// Whether people should have been told, and nothing but another delivery of the event will tell them.
    #[serde(skip)]
    pub untold: bool,
}

/// That a person asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AskedFor {
    /// Who.
    pub by: String,
    /// Why, in that person's words.
    pub reason: String,
}

/// What a report is about when no step has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// The hold's time is over: a person decides whether to undo.
    HoldEnds,
    /// Somebody has opened again what a run had contained.
    OpenAgain,
    /// An undo is not finished, and the activity was seen again: nothing contains it.
    UndoUnfinished,
    /// What a person decided was not done.
    DecisionRefused,
    /// A run holds the target and it is not contained, the activity goes on, and a person is asked.
    NotContainedAgain,
    /// The same, and the policies leave nothing of it to a person's word.
    LeftOpen,
    /// Another finding about a target about which a person was asked.
    SeenAlso,
    /// Somebody has said what takes more persons to be decided.
    AnotherPerson,
    /// Everything is stopped, so it was only observed.
    Stopped,
    /// A proposal lapses within a day, and nobody has decided.
    ProposalEnds,
}

/// The longest line of a message: what a phone shows without much wrapping.
const LINE: usize = 160;

/// Before what another person is to say.
const SAY: &str = "Say it too: ";

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
            // Of a control its id says more than the kind of finding that it came as.
            finding_type: finding.what().to_owned(),
            severity: finding.severity,
            asked_for: finding
                .request
                .as_ref()
                .filter(|_| finding.source == Source::Request)
                .map(|by| AskedFor { by: by.clone(), reason: finding.title.clone() }),
            drill: finding.source == Source::Drill,
            hushed: false,
            outcome,
            topic: None,
            reasons: vec![why.into()],
            not_done: Vec::new(),
            remains: Vec::new(),
            seen: Vec::new(),
            contained_after_ms: None,
            approved_at: None,
            owner: None,
            steps: Vec::new(),
            page: false,
            retry: false,
            at: Timestamp::now(),
            evidence: None,
            purpose: None,
            again: false,
            say: None,
            held: false,
            joined: false,
            freed: false,
            untold: false,
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
        report.reasons = match outcome {
            // What permitted the run says nothing about its undo: that was decided.
            Outcome::Undone | Outcome::UndonePartly => Vec::new(),
            _ => head.reasons.clone(),
        };
        report.run = Some(head.id.clone());
        report.not_done = end.map(|end| end.not_done.clone()).unwrap_or_default();
        report.remains = end.map_or_else(|| head.plan.remains.clone(), |end| end.remains.clone());
        report.contained_after_ms = end.and_then(|end| end.contained_after_ms);
        report.approved_at = run.approved_at;
        report.owner = head.owner.clone();
        report.steps = steps;
        report.purpose = Some(purpose);
        report.held = run.state == RunState::Held;
        report.freed = run.state == RunState::Freed;
        report.again = run.reapplied > 0;
        if let Some(end) = end {
            if let Some(decided) = &end.decided {
                report.reasons.insert(0, decided.clone());
            }
            report.retry = end.retry;
            report.seen = end.seen.clone();
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
            "topic": self.topic,
            "target": {
                "partition": self.target.partition,
                "account": self.target.account,
                "region": self.target.region,
                "kind": self.target.kind,
                "id": self.target.id,
            },
            "run": self.run,
            "finding": { "id": self.finding, "type": self.finding_type, "severity": self.severity },
            "asked_for": self.asked_for,
            "drill": self.drill,
            "reasons": self.reasons,
            "not_done": self.not_done,
            "remains": self.remains,
            "seen": self.seen,
            "contained_after_ms": self.contained_after_ms,
            "approved_at": self.approved_at,
            "owner": self.owner,
            "page": self.page,
            "retry": self.retry,
            "at": self.at,
            "evidence": self.evidence,
        })
    }

    /// The message's subject: SNS takes at most 100 ASCII characters.
    pub fn subject(&self) -> String {
        let drill = if self.drill { "DRILL, " } else { "" };
        let text = format!("Firebreak: {drill}{} {} in {}", self.headline(), self.target.id, self.target.account);
        plain(&text, 99).replace('…', "")
    }

    fn headline(&self) -> &'static str {
        match self.topic {
            Some(Topic::HoldEnds) => return "HOLD ENDS, UNDO IT?",
            Some(Topic::OpenAgain) if self.purpose == Some(Purpose::Fix) => return "CHANGED BACK",
            Some(Topic::OpenAgain) => return "OPEN AGAIN",
            Some(Topic::UndoUnfinished) if self.purpose == Some(Purpose::Fix) => return "NOT FIXED, UNDO UNFINISHED",
            Some(Topic::UndoUnfinished) => return "NOT CONTAINED, UNDO UNFINISHED",
            Some(Topic::DecisionRefused) => return "DECISION NOT CARRIED OUT",
            Some(Topic::NotContainedAgain) if self.purpose == Some(Purpose::Preserve) => {
                return "EVIDENCE INCOMPLETE, DECISION NEEDED";
            }
            Some(Topic::NotContainedAgain) if self.purpose == Some(Purpose::Fix) => return "NOT FIXED, DECISION NEEDED",
            Some(Topic::NotContainedAgain) => return "NOT CONTAINED, DECISION NEEDED",
            Some(Topic::LeftOpen) if self.purpose == Some(Purpose::Fix) => return "NOT FIXED, NOT PERMITTED",
            Some(Topic::LeftOpen) => return "NOT CONTAINED, NOT PERMITTED",
            Some(Topic::SeenAlso) => return "DECISION STILL NEEDED",
            Some(Topic::AnotherPerson) => return "ANOTHER PERSON NEEDED",
            Some(Topic::Stopped) => return "NOTHING DONE, STOPPED",
            Some(Topic::ProposalEnds) => return "DECISION STILL NEEDED, LAPSES SOON",
            None => {}
        }
        match self.outcome {
            // Whoever has read the first message is to see that this is not the same.
            Outcome::Contained if self.again => "CONTAINED AGAIN",
            Outcome::Contained => "CONTAINED",
            Outcome::Fixed if self.again => "FIXED AGAIN",
            Outcome::Fixed => "FIXED",
            Outcome::NotFixed => "NOT FIXED",
            Outcome::Partial => match self.purpose {
                Some(Purpose::Preserve) => "EVIDENCE INCOMPLETE",
                Some(Purpose::Fix) => "PARTLY FIXED",
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
            Outcome::Undone if self.purpose == Some(Purpose::Preserve) => "UNDONE, EVIDENCE KEPT",
            Outcome::Undone => "UNDONE",
            Outcome::UndonePartly => "UNDONE IN PART",
        }
    }

    /// The message for a person with a phone: what, where, contained or what is not, what to do, and the
    /// command that takes it back. Ten lines at most.
    pub fn message(&self) -> String {
        let region = self.target.region.as_ref().map_or("global", |region| region.as_str());
        let drill = if self.drill { "DRILL, " } else { "" };
        let mut lines = vec![
            format!("{drill}{}: {} ({})", self.headline(), self.target.id, self.playbook),
            format!("Where: account {}, {region}", self.target.account),
            match &self.asked_for {
                Some(AskedFor { by, reason }) => format!("Asked for by {}: {}", names(by), plain(reason, LINE)),
                None => format!("Finding: {}, severity {:.1}", plain(&self.finding_type, 90), self.severity),
            },
        ];
        let contained = matches!(self.outcome, Outcome::Contained | Outcome::Partial);
        let cut = contained && self.topic.is_none() && self.purpose != Some(Purpose::Fix);
        if let (true, Some(ms)) = (cut, self.contained_after_ms) {
            let what = if self.target.kind.is_identity() { "Credentials" } else { "Network" };
            let since = if self.approved_at.is_some() { "the approval" } else { "the finding arrived" };
            lines.push(format!("{what} cut {:.1} s after {since}", ms as f64 / 1000.0));
        }
        let asked = self.outcome == Outcome::Proposed || matches!(self.topic, Some(Topic::SeenAlso | Topic::HoldEnds));
        let owner = self.owner.as_ref().filter(|_| asked).map(|owner| format!(" (owner: {})", plain(owner, 80)));
        let mut last = vec![format!("Do: {}{}", self.advice(), owner.unwrap_or_default())];
        last.extend(self.say.iter().map(|say| format!("{SAY}{say}")));
        if let Some(run) = &self.run {
            let asked = self.outcome == Outcome::Proposed || self.topic == Some(Topic::SeenAlso);
            if self.topic == Some(Topic::NotContainedAgain) {
                last.push(format!("Do it again: firebreak retry {run}"));
            }
            if asked {
                last.push(format!("Approve: firebreak approve {run}"));
                last.push(format!("Reject: firebreak reject {run}"));
            }
            if self.held && self.purpose != Some(Purpose::Preserve) {
                last.push(format!("Undo: firebreak undo {run}"));
            }
            last.push(format!("More: firebreak show {run}"));
        }
        let would: Vec<String> =
            self.steps.iter().map(|step| step.strip_suffix(" (planned)").unwrap_or(step).to_owned()).collect();
        let (not_done, why) = (("NOT DONE", &self.not_done, 2), ("Why", &self.reasons, 3));
        let lists = match (self.topic, self.outcome) {
            (None, Outcome::Contained | Outcome::Partial | Outcome::Preserved | Outcome::Fixed) => {
                vec![not_done, ("Still open", &self.remains, 3)]
            }
            (None, Outcome::Proposed) => vec![not_done, ("Would do", &would, 1), why],
            (None, Outcome::Undone | Outcome::UndonePartly) => {
                vec![not_done, ("Not as before", &self.remains, 2), ("Seen before", &self.seen, 2), why]
            }
            _ => vec![not_done, why],
        };
        // What the other lines leave; each of the lists gets one line at least.
        let mut room = MOST_LINES.saturating_sub(lines.len() + last.len());
        for (n, (title, items, most)) in lists.iter().enumerate() {
            let kept = lists.iter().skip(n + 1).filter(|(_, items, _)| !items.is_empty()).count();
            let listed = list(title, items, (*most).min(room.saturating_sub(kept)));
            room = room.saturating_sub(listed.len());
            lines.extend(listed);
        }
        lines.extend(last);
        // A command that is cut short does something else.
        let line = |line: &String| if line.starts_with(SAY) { line.clone() } else { shorten(line, LINE) };
        lines.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn advice(&self) -> &'static str {
        match self.topic {
            Some(Topic::HoldEnds) => return "undo it if the investigation is over; else nothing, it stays as it is",
            Some(Topic::OpenAgain) if self.purpose == Some(Purpose::Fix) => {
                return "find out who changed it back; it is fixed again within a minute";
            }
            Some(Topic::OpenAgain) => return "find out who opened it; it is cut again within a minute",
            Some(Topic::UndoUnfinished) if self.purpose == Some(Purpose::Fix) => {
                return "fix it by hand, or finish the undo: then it is proposed";
            }
            Some(Topic::UndoUnfinished) => return "contain it by hand now, or finish the undo: then it is proposed",
            Some(Topic::DecisionRefused) => return "read why, look at the run, decide again",
            Some(Topic::NotContainedAgain) => return "decide whether it is done again, or do it by hand",
            Some(Topic::LeftOpen) if self.purpose == Some(Purpose::Fix) => {
                return "fix it by hand, or change the policies";
            }
            Some(Topic::LeftOpen) => return "contain it by hand, or change the policies",
            Some(Topic::SeenAlso) => return "decide",
            Some(Topic::AnotherPerson) => return "say the same; else it lapses",
            Some(Topic::ProposalEnds) => {
                return "decide within a day: then it lapses, and is made anew only when it is seen again";
            }
            Some(Topic::Stopped) => {
                return "see to it by hand; firebreak resume ends the stop, and a repeat is acted on then";
            }
            None => {}
        }
        match (self.outcome, self.purpose) {
            (Outcome::Contained, _) if self.target.kind.is_identity() => {
                "investigate what was done with the credentials; give their owner new ones"
            }
            (Outcome::Contained, _) => "investigate; the role's sessions and what is still open are yours",
            (Outcome::Partial | Outcome::NotContained, Some(Purpose::Preserve)) => {
                "take snapshots by hand now, before the instance changes"
            }
            (Outcome::Fixed, _) => "nothing; undo it if something that was meant to be so is broken",
            (Outcome::NotFixed, _) => {
                "fix it by hand, or mend what failed: it is tried again when it is reported again"
            }
            (Outcome::Failed, Some(Purpose::Fix)) => "fix it by hand; mend what failed",
            (Outcome::Partial, _) if self.retry => "finish by hand what is not done; it is tried again by itself",
            (Outcome::Partial, _) => "finish by hand what is not done; it is not tried again by itself",
            (Outcome::NotContained, _) => "contain it by hand now",
            (Outcome::Preserved, _) => "copy the snapshots out of the compromised account",
            (Outcome::Proposed, _) => "decide",
            (Outcome::Failed, _) => "contain it by hand now; mend what failed",
            (Outcome::UndonePartly, _) => "restore by hand what is left",
            (Outcome::Undone, _) if !self.remains.is_empty() || !self.seen.is_empty() => {
                "see to what is not as before, and to what was seen"
            }
            (Outcome::Refused | Outcome::NoChange, _) => "nothing, if that is what you expect",
            (Outcome::Observed | Outcome::Gone | Outcome::Rejected | Outcome::Undone, _) => "nothing",
        }
    }
}

/// Those who decided, as a phone shows them: the name of the user, or of the session that Identity Center made. The name of
/// another session whoever took it has chosen, so the role stands before it.
pub(crate) fn names(by: &str) -> String {
    let of = |arn: &str| {
        let last = plain(arn.rsplit('/').next().unwrap_or(arn), 64);
        let session = arn.split_once(":assumed-role/").and_then(|(_, rest)| rest.rsplit_once('/'));
        match session {
            Some((role, _)) if !role.starts_with(IDENTITY_CENTER_ROLE) => {
                format!("role/{} (session {last})", plain(role, 64))
            }
            _ => last,
        }
    };
    by.split(" and ").map(of).collect::<Vec<_>>().join(" and ")
}

/// Items on so many lines at most, one each; the last line says how many more there are.
fn list(title: &str, items: &[String], lines: usize) -> Vec<String> {
    let items: Vec<&String> = items.iter().filter(|item| !item.is_empty()).collect();
    let shown = items.len().min(lines);
    let more = items.len() - shown;
    let line = |(index, item): (usize, &&String)| {
        let begin = if index == 0 { format!("{title}: ") } else { "- ".to_owned() };
        let end = if more > 0 && index + 1 == shown { format!(" (and {more} more)") } else { String::new() };
        let room = LINE - begin.chars().count() - end.chars().count();
        format!("{begin}{}{end}", shorten(&plain(item, LINE), room))
    };
    items.iter().take(shown).enumerate().map(line).collect()
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
