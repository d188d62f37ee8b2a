//! Playbooks: each answers findings of certain types about one kind of target.

use std::fmt::Debug;

use crate::action::{AnyAction, Boxed, KnownGroup};
use crate::aws::Aws;
use crate::failure::Failure;
use crate::finding::{Finding, ResourceRole};
use crate::ids::RunId;
use crate::permission::Permission;
use crate::plan::Plan;
use crate::target::Target;

/// What a playbook is, as data.
#[derive(Debug)]
pub struct Meta {
    /// Kebab-case `verb-object`. Ledgers, policies and the member role's name hold it: never renamed.
    pub id: &'static str,
    /// One line for people: what it does.
    pub title: &'static str,
    /// The finding types it answers.
    pub triggers: &'static [Trigger],
    /// What its plans read, beyond what its actions declare.
    pub reads: &'static [Permission],
}

/// A finding type and when it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trigger {
    /// The type, exactly as the source writes it.
    pub finding_type: &'static str,
    /// When.
    pub when: When,
}

/// When a finding of a type is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Whenever it names an instance.
    NamesInstance,
    /// Only when the instance acted, not when it was acted upon.
    Acting,
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
    /// Days for which evidence snapshots are locked.
    pub snapshot_lock_days: i32,
}

/// What planning found.
#[derive(Debug)]
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

    /// The targets that it would act on for this finding; none when it does not answer it.
    fn targets(&self, finding: &Finding) -> Vec<Target>;

    /// Reads, and returns what is not yet as wanted. Calls nothing that changes anything, and gives the
    /// same plan for the same world. Run again after the steps, it is the check that they hold.
    fn plan<'a>(
        &'a self,
        cx: &'a PlanContext<'a>,
        target: &'a Target,
        finding: &'a Finding,
    ) -> Boxed<'a, Result<Planned, Failure>>;
}

impl Meta {
    /// Whether a finding of this type and role is answered.
    pub fn answers(&self, finding: &Finding) -> bool {
        self.triggers.iter().any(|trigger| {
            trigger.finding_type == finding.finding_type
                && match trigger.when {
                    When::NamesInstance => true,
                    When::Acting => finding.role == ResourceRole::Actor,
                }
        })
    }
}
