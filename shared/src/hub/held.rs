//! What a hold says to a new finding about its target, and what is said of a target that is held and not contained.

use jiff::{SignedDuration, Timestamp};

use super::Hub;
use crate::aws::Aws;
use crate::failure::Failure;
use crate::finding::{Finding, Source};
use crate::guard::Ruling;
use crate::ids::RunId;
use crate::ledger::{Hold, View};
use crate::plan::{Leave, Plan, Step};
use crate::playbook::{Planned, Playbook, Purpose};
use crate::report::{Report, Topic};
use crate::run::{Mode, Outcome, Run, RunHead, RunState, StepResult};
use crate::target::Target;
use crate::telemetry;

/// Evidence of a target whose activity goes on is kept anew after this long, though no other finding came.
const EVIDENCE_STANDS: SignedDuration = SignedDuration::from_hours(24);

/// What a fix has put right is put right again by itself so often. Then it is a matter for people.
const MOST_FLIPS: usize = 3;

/// A finding and the target it is about, for one playbook.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) playbook: &'static dyn Playbook,
    pub(super) target: &'a Target,
    pub(super) finding: &'a Finding,
}

/// What a hold says to a finding.
pub(super) enum Word {
    /// The finding ends here.
    Ends(Box<Report>),
    /// The finding may have a run of its own.
    Free,
    /// The same, beside what the run of this finding has kept.
    Renews(Box<Finding>),
    /// The same, if a person says so.
    AskFirst(String),
    /// The run that holds the target is to do again what is not, or no more, as wanted, if the policies let it.
    Again(Box<Run>),
}

impl About<'_> {
    fn joins(&self, run: &RunId, why: String) -> Report {
        let mut report = Report::of(self.playbook.meta().id, self.target, self.finding, Outcome::NoChange, why);
        report.run = Some(run.clone());
        report.joined = true;
        report
    }
}

impl Hub {
    pub(super) async fn word_of(
        &self,
        about: About<'_>,
        hold: &Hold,
        planned: &Result<(Aws, Planned), Failure>,
        now: Timestamp,
    ) -> Result<Word, Failure> {
        let why = match hold.state {
            RunState::Applying => format!("run {} is containing it now; the finding joined", hold.run),
            RunState::Undoing => format!("run {} is being undone; the finding joined", hold.run),
            RunState::Held if hold.outcome == Some(Outcome::UndonePartly) => {
                // What a person has begun to undo is not contained again by itself.
                self.join(about, now).await?;
                let why = format!("the undo of run {} is not finished, and the activity was seen again", hold.run);
                let mut report = about.joins(&hold.run, why);
                report.outcome = Outcome::Failed;
                report.topic = Some(Topic::UndoUnfinished);
                report.held = true;
                report.page = true;
                return Ok(Word::Ends(self.told(about.playbook, report).await.into()));
            }
            RunState::Held => return self.word_of_held(about, hold, planned, now).await,
            RunState::Proposed
            | RunState::Superseded
            | RunState::Rejected
            | RunState::Observed
            | RunState::Freed
            | RunState::Released => return Ok(what_was_said(about, hold)),
        };
        self.ends_quietly(about, &hold.run, why, now).await
    }

    async fn word_of_held(
        &self,
        about: About<'_>,
        hold: &Hold,
        planned: &Result<(Aws, Planned), Failure>,
        now: Timestamp,
    ) -> Result<Word, Failure> {
        let quietly = format!("run {} holds it; the finding joined", hold.run);
        let partly = matches!(hold.outcome, Some(Outcome::Partial | Outcome::NotContained));
        let preserves = about.playbook.meta().purpose == Purpose::Preserve;
        let plan = match planned {
            Ok((_, Planned::Plan(plan))) => plan,
            Ok((_, Planned::Gone(_) | Planned::Refused(_))) => {
                return self.ends_quietly(about, &hold.run, quietly, now).await;
            }
            // Whether it is still as the run left it is not known: people are told so.
            Err(_) => return Ok(Word::Free),
        };
        if !preserves && !partly && !plan.steps().any(is_open) {
            return self.ends_quietly(about, &hold.run, quietly, now).await;
        }
        let Some(run) = self.ledger.run(&hold.run).await? else { return Ok(Word::Free) };
        if preserves && self.is_new_evidence(about, &run, now).await? {
            return Ok(Word::Renews(Box::new(run.head.finding)));
        }
        if !about.playbook.meta().rechecks.is_empty() && !self.is_open_to(about, &run, planned).await? {
            return self.ends_quietly(about, &hold.run, quietly, now).await;
        }
        // What AWS does not allow is so since the run, and was told.
        let allowed = |step: &&Step| !matches!(run.result(&step.id), Some(StepResult::Left { .. }));
        let opened = !preserves && plan.steps().filter(allowed).any(is_open);
        if opened || (partly && plan.steps().any(|step| allowed(&step))) {
            return Ok(Word::Again(Box::new(run)));
        }
        self.ends_quietly(about, &hold.run, quietly, now).await
    }

    /// Whether anything is not as wanted when a run looks at its own work: what it did may be known to it alone.
    async fn is_open_to(
        &self,
        about: About<'_>,
        run: &Run,
        planned: &Result<(Aws, Planned), Failure>,
    ) -> Result<bool, Failure> {
        let Ok((reading, _)) = planned else { return Ok(true) };
        let cx = self.plan_context(reading, &[], Some(&run.head.id));
        match about.playbook.plan(&cx, about.target, about.finding).await? {
            Planned::Plan(plan) => Ok(!plan.is_empty()),
            Planned::Gone(_) | Planned::Refused(_) => Ok(false),
        }
    }

    /// Whether a finding calls for evidence beside that which a run has kept: the activity went on after it, and
    /// the finding is another or graver one, or the evidence is a day old. GuardDuty repeats findings, so one that
    /// came before calls for nothing again.
    async fn is_new_evidence(&self, about: About<'_>, run: &Run, now: Timestamp) -> Result<bool, Failure> {
        let Some(end) = &run.end else { return Ok(false) };
        let (finding, first) = (about.finding, &run.head.finding);
        if finding.last_seen.is_some_and(|seen| seen <= end.at) {
            return Ok(false);
        }
        let other = finding.id != first.id && !self.has_joined(about, finding).await?;
        Ok(other || finding.severity > first.severity || now.duration_since(end.at) >= EVIDENCE_STANDS)
    }

    /// Whether what a hold's run has not done is still tried again by itself: a run that does not act must not take
    /// the target from it.
    pub(super) async fn is_tried_again(&self, hold: &Hold) -> Result<bool, Failure> {
        if !matches!(hold.state, RunState::Held | RunState::Freed) {
            return Ok(false);
        }
        let run = self.ledger.run(&hold.run).await?;
        Ok(run.and_then(|run| run.end).is_some_and(|end| end.retry))
    }

    async fn has_joined(&self, about: About<'_>, finding: &Finding) -> Result<bool, Failure> {
        self.ledger.has_joined(about.playbook.meta().hold, about.target, finding).await
    }

    async fn join(&self, about: About<'_>, now: Timestamp) -> Result<(), Failure> {
        self.ledger.join(about.playbook.meta().hold, about.target, about.finding, now).await
    }

    async fn joins_quietly(
        &self,
        about: About<'_>,
        run: &RunId,
        why: String,
        now: Timestamp,
    ) -> Result<Report, Failure> {
        self.join(about, now).await?;
        let report = about.joins(run, why);
        telemetry::answered(&report);
        Ok(report)
    }

    async fn ends_quietly(&self, about: About<'_>, run: &RunId, why: String, now: Timestamp) -> Result<Word, Failure> {
        // A canary does nothing: whatever a detector reports of it people must hear, whichever drill holds it.
        if about.finding.source != Source::Drill && self.config.canaries.contains(about.target) {
            let told = self.tell_unanswered(about.finding, &[format!("it is about a canary; {why}")], true).await;
            let mut report = self.joins_quietly(about, run, why, now).await?;
            // Another delivery tells it.
            report.untold |= !told;
            return Ok(Word::Ends(Box::new(report)));
        }
        self.joins_quietly(about, run, why, now).await.map(Box::new).map(Word::Ends)
    }

    /// A held target that is not, or no more, contained, and whose activity goes on: done again by its run where the
    /// policies let this finding act by itself, and else a person is asked.
    pub(super) async fn again(
        &self,
        about: About<'_>,
        run: &Run,
        plan: &Plan,
        ruling: &Ruling,
        view: &View,
        now: Timestamp,
    ) -> Result<Report, Failure> {
        let fixes = about.playbook.meta().purpose == Purpose::Fix;
        // Somebody, or another tool, wants it otherwise: the two would go on changing it back for ever.
        let times = 1 + run.past.iter().filter(|end| end.outcome == Outcome::Fixed).count();
        // Another control has failed on it: the run takes that up as well.
        let control =
            |finding: &Finding| finding.control.as_ref().map(|control| (control.id.clone(), control.check.clone()));
        let more = fixes && control(about.finding) != control(&run.head.finding);
        let contested = fixes && times > if more { 2 * MOST_FLIPS } else { MOST_FLIPS };
        let spent = view.spent(self.config.budget, about.finding, now);
        let acts = ruling.mode == Mode::Enforce && spent.is_none() && !contested;
        let id = &run.head.id;
        let contained = run.end.as_ref().is_some_and(|end| matches!(end.outcome, Outcome::Contained | Outcome::Fixed));
        let opened = contained && !more && plan.steps().any(is_open);
        if acts {
            self.ledger.ask_for_retry(run).await?;
        }
        let how = match opened {
            true => "but it is open again",
            false if more => "for another control",
            false => "in part",
        };
        if !opened && (acts || ruling.mode < Mode::Propose) {
            let then = if acts { "and the rest is tried again" } else { "and the policies want nothing of it" };
            let why = format!("run {id} holds it {how}; the finding joined, {then}");
            return self.joins_quietly(about, id, why, now).await;
        }
        self.join(about, now).await?;
        let (topic, reasons) = if acts {
            let again = if fixes { "fixed" } else { "cut" };
            (Topic::OpenAgain, vec![format!("run {id} holds it, {how}: it is {again} again within a minute")])
        } else {
            let asked = ruling.mode >= Mode::Propose;
            let goes_on = match fixes {
                true => format!("run {id} had fixed it, {how}"),
                false => format!("run {id} holds it {how}, and the activity goes on"),
            };
            let spent = spent.map(|which| format!("the hour's budget of {which} is spent, so a person is asked"));
            let contested = contested.then(|| {
                format!(
                    "it was fixed {times} times: somebody, or another tool, wants it otherwise; agree with them first"
                )
            });
            let why =
                [goes_on].into_iter().chain(contested).chain(spent).chain(ruling.reasons.iter().cloned()).collect();
            (if asked { Topic::NotContainedAgain } else { Topic::LeftOpen }, why)
        };
        let mut report = about.joins(id, String::new());
        report.topic = Some(topic);
        report.reasons = reasons;
        report.held = true;
        report.page = true;
        Ok(self.told(about.playbook, report).await)
    }

    /// People have been asked about this target. A graver finding asks again, with a run of its own; of another one
    /// they are told once, and a repeat ends here.
    pub(super) async fn asked_before(
        &self,
        playbook: &'static dyn Playbook,
        head: &RunHead,
        hold: &Hold,
        now: Timestamp,
    ) -> Result<Option<Report>, Failure> {
        let about = About { playbook, target: &head.target, finding: &head.finding };
        let Some(run) = self.ledger.run(&hold.run).await? else { return Ok(None) };
        if run.is_expired(now) {
            // Nobody can approve it any more: people are asked anew.
            return Ok(None);
        }
        if head.finding.severity > run.head.finding.severity {
            // The weaker one is answered with it, or after it.
            self.join(About { finding: &run.head.finding, ..about }, now).await?;
            return Ok(None);
        }
        if head.finding.id == hold.finding || self.has_joined(about, &head.finding).await? {
            return Ok(Some(self.lost(playbook, head, Some(hold.clone())).await));
        }
        let asked = run.head.arrived_at.strftime("%H:%M UTC");
        let mut report =
            about.joins(&hold.run, format!("another finding; a decision about this target is wanted since {asked}"));
        report.topic = Some(Topic::SeenAlso);
        let report = self.told(playbook, report).await;
        if !report.untold {
            // Last: what was not told is told with the next delivery.
            self.join(about, now).await?;
        }
        Ok(Some(report))
    }
}

/// What people have said of a target that nothing holds: a finding that was rejected, or activity from before they
/// let it go, is over; activity since is put to them first, whatever became of it in between.
fn what_was_said(about: About<'_>, hold: &Hold) -> Word {
    let finding = about.finding;
    let over = |why: &str| {
        let mut report = about.joins(&hold.run, why.to_owned());
        report.joined = false;
        telemetry::answered(&report);
        Word::Ends(Box::new(report))
    };
    if hold.was_rejected(finding) {
        return over("a person rejected what was proposed for this finding");
    }
    match (hold.released_at, finding.last_seen) {
        (None, _) => Word::Free,
        (Some(released), _) if finding.source == Source::Request => {
            let when = released.strftime("%Y-%m-%d %H:%M UTC");
            Word::AskFirst(format!("what was done was undone {when}, so a person is asked first"))
        }
        (Some(released), Some(seen)) if seen <= released => over("what was done was undone after this was last seen"),
        // A finding that does not say when cannot be shown to be old.
        (Some(_), _) => Word::AskFirst("what was done was undone, and this was seen again since".to_owned()),
    }
}

/// Whether a step just planned shows that the target is not, or no longer, cut off. One without a state before was
/// planned unseen and shows nothing.
fn is_open(step: &Step) -> bool {
    let alone = step.leave.is_none_or(|leave| leave == Leave::RevokeEverySession);
    step.cuts && alone && !step.before.is_null()
}
