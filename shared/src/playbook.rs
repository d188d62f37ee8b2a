//! Playbooks: each answers findings of certain types about one kind of target.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use crate::action::{AnyAction, Boxed, KnownGroup};
use crate::authenticate::{Authenticity, not_asked};
use crate::aws::Aws;
use crate::failure::Failure;
use crate::finding::{Answers, Check, Finding, Resource, unanswered_source};
use crate::ids::{RunId, SnapshotId, VolumeId};
use crate::permission::Permission;
use crate::plan::Plan;
use crate::run::Run;
use crate::target::{Target, TargetKind};
use crate::write_back::Note;

/// What a playbook is, as data.
#[derive(Debug)]
pub struct Meta {
    /// Kebab-case `verb-object`. Ledgers, policies and the member role's name hold it: never renamed.
    pub id: &'static str,
    /// One line for people: what it does.
    pub title: &'static str,
    /// What it is for.
    pub purpose: Purpose,
    /// The kinds of target that it acts on.
    pub kinds: &'static [TargetKind],
    /// Under which word it holds a target: its id, unless several playbooks bring the same about. They share a word,
    /// and a finding that one of them answers joins the run of another.
    pub hold: &'static str,
    /// How many seconds after a run's steps have ended it is looked again whether they still hold: whoever has the
    /// credentials of somebody who is being contained has seconds in which IAM does not know it yet everywhere.
    pub rechecks: &'static [u64],
    /// GuardDuty's finding types that it answers, in parts: playbooks may share one.
    pub triggers: &'static [&'static [Answers]],
    /// The controls that it answers, of Security Hub and of AWS Config.
    pub controls: &'static [Check],
    /// The resource parts of finding types (`EC2` in `Recon:EC2/Portscan`) that concern its kind of target:
    /// a finding of such a type that nothing answers is told to people; any other is turned away in silence.
    pub concerns: &'static [&'static str],
    /// What its plans read, beyond what its actions declare.
    pub reads: &'static [Permission],
}

/// What a playbook is for: what its success is called, and what its partial success means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It takes the target out of the attacker's hands.
    Contain,
    /// It keeps evidence.
    Preserve,
    /// It puts right what a failed control found. Unlike containment it is taken back where it cannot be finished: half a
    /// fix helps nobody.
    Fix,
}

/// What a plan is made from. Sessions in it can only read.
#[derive(Debug)]
pub struct PlanContext<'a> {
    /// The target's account and Region.
    pub aws: &'a Aws,
    /// The groups of ours in that account and Region, from the ledger.
    pub groups: &'a [KnownGroup],
    /// The run, once there is one: a later plan of the same run finds by it what the run has made.
    pub run: Option<&'a RunId>,
    /// The snapshots that the run has made in this very call of the function, by volume. AWS may not show them yet;
    /// those of an earlier call it shows, unless they are gone.
    pub snapshots: BTreeMap<VolumeId, SnapshotId>,
    /// Whether containment may be waiting for the plan: then a read that it can do without must not hold it up.
    pub hurried: bool,
    /// Days for which evidence snapshots are locked.
    pub snapshot_lock_days: i32,
    /// Whether a held run is looked at again, some time after: then there is time for what takes long, and traces
    /// that were not there before.
    pub recheck: bool,
}

/// How long a plan that containment waits for waits for a read that it can do without. The plan that checks the
/// run, and one that a person is to see, has no such limit, and takes up what was missed.
const PATIENCE: Duration = Duration::from_millis(1500);

/// What was read, or in words why it was not.
pub type Maybe<T> = Result<T, String>;

impl PlanContext<'_> {
    /// A read without which the plan is still made.
    pub async fn optional<T>(&self, read: impl Future<Output = Result<T, Failure>>) -> Maybe<T> {
        let brief = |failure: Failure| failure.brief();
        if !self.hurried {
            return read.await.map_err(brief);
        }
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(answer) => answer.map_err(brief),
            Err(_) => Err(format!("no answer within {} ms", PATIENCE.as_millis())),
        }
    }
}

/// The evidence a run has made, for the custody record.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Custody {
    /// Whether every item has reached its end, good or bad.
    pub complete: bool,
    /// What went wrong with items, in words.
    pub problems: Vec<String>,
    /// The items, as AWS describes them: ids, sizes, keys, times, request ids.
    pub items: Vec<serde_json::Value>,
}

/// What planning found.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is taken apart at once")]
pub enum Planned {
    /// What would be done. Empty when everything is as wanted already.
    Plan(Plan),
    /// The target no longer exists.
    Gone(String),
    /// The target must be left alone, for this reason.
    Refused(String),
}

/// Answers findings of certain types about one kind of target.
pub trait Playbook: Sync {
    /// What it is.
    fn meta(&self) -> &'static Meta;

    /// Every action that its plans may hold.
    fn actions(&self) -> &'static [&'static dyn AnyAction];

    /// The custody of the evidence that a run has made: what there is now, and whether it is complete.
    /// Nothing for a playbook that makes no evidence.
    fn custody<'a>(&'a self, _cx: &'a PlanContext<'a>, _run: &'a Run) -> Boxed<'a, Result<Option<Custody>, Failure>> {
        Box::pin(async { Ok(None) })
    }

    /// The targets that it would act on for this finding; none when it does not answer it.
    fn targets(&self, finding: &Finding) -> Vec<Target>;

    /// Whether a finding is about a target that an earlier event, or an earlier delivery, gave for it.
    fn is_about(&self, finding: &Finding, target: &Target) -> bool {
        self.targets(finding).contains(target)
    }

    /// Whether a finding may turn out to be one that it answers, once its source has been asked: what a rule of AWS Config
    /// checks stands in no event.
    fn may_answer(&self, _finding: &Finding) -> bool {
        false
    }

    /// Whether a finding that it answers does not name its targets, so that they have to be looked up: a control of a whole
    /// account names none of what is in it.
    fn looks_up(&self, _finding: &Finding) -> bool {
        false
    }

    /// Looks up what a finding is about that does not name it: what [`Playbook::targets`] takes for targets then. `member` is
    /// a session in the finding's account and Region that can only read.
    fn look_up<'a>(&'a self, _member: &'a Aws, _finding: &'a Finding) -> Boxed<'a, Result<Vec<Resource>, Failure>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Asks a finding's source whether it is genuine, where that is neither GuardDuty nor a person: by clients that only
    /// this playbook's function needs. `hub` is the security account, `member` the target's, with a session that can only
    /// read.
    fn authenticate<'a>(&'a self, _hub: &'a Aws, _member: &'a Aws, finding: &'a Finding) -> Boxed<'a, Authenticity> {
        Box::pin(async { Authenticity::NotAsked(not_asked(finding.source)) })
    }

    /// Writes back into Security Hub what became of a run's finding. `hub` is the security account.
    fn write_back<'a>(&'a self, hub: &'a Aws, _finding: &'a Finding, note: Note) -> Boxed<'a, Result<(), Failure>> {
        Box::pin(async move { note.write(hub).await })
    }

    /// Whether somebody may ask by hand that a target of this kind be contained: the plan needs nothing of a finding.
    fn takes_requests_about(&self, _kind: TargetKind) -> bool {
        false
    }

    /// Reads, and returns what is not yet as wanted. Calls nothing that changes anything, and gives the
    /// same plan for the same world. Run again after the steps, it is the check that they hold.
    fn plan<'a>(
        &'a self,
        cx: &'a PlanContext<'a>,
        target: &'a Target,
        finding: &'a Finding,
    ) -> Boxed<'a, Result<Planned, Failure>>;
}

impl dyn Playbook + '_ {
    /// Every permission that its plans and its actions need.
    pub fn permissions(&self) -> impl Iterator<Item = Permission> {
        let actions = self.actions().iter().flat_map(|action| action.permissions().iter().copied());
        self.meta().reads.iter().copied().chain(actions)
    }
}

impl Meta {
    /// What it answers, type by type.
    pub fn answers(&self) -> impl Iterator<Item = &'static Answers> {
        self.triggers.iter().copied().flatten()
    }

    /// Whether a finding is of concern even when it is not answered.
    pub fn is_concerned(&self, finding: &Finding) -> bool {
        let finding_type = &finding.finding_type;
        if !finding.source.has_guardduty_types() {
            return false;
        }
        let resource = finding_type.split_once(':').and_then(|(_, rest)| rest.split_once('/')).map(|(part, _)| part);
        resource.is_some_and(|part| self.concerns.contains(&part))
            || self.answers().any(|answers| answers.finding_type == *finding_type)
    }

    /// The check of its table that a finding is about.
    pub fn check(&self, finding: &Finding) -> Option<&'static Check> {
        let control = finding.control.as_ref()?;
        self.controls.iter().find(|check| control.is(check, finding.source))
    }

    /// The finding with the one name of the control that it is about, for policies and people.
    #[must_use]
    pub fn named(&self, mut finding: Finding) -> Finding {
        let name = self.check(&finding).map(|check| check.name().to_owned());
        if let Some(control) = &mut finding.control {
            control.known_as = name;
        }
        finding
    }

    /// Why a finding is not answered; `None` when it is.
    pub fn refusal(&self, finding: &Finding) -> Option<&'static str> {
        if self.check(finding).is_some() {
            return None;
        }
        // The types in the table are GuardDuty's: another source may use the same words for something else.
        let known = self.answers().find(|answers| answers.finding_type == finding.finding_type);
        match known.filter(|_| finding.source.has_guardduty_types()) {
            None => Some(unanswered_source(finding)),
            Some(answers) => answers.when.refusal(finding),
        }
    }
}
