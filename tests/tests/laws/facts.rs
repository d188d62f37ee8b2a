//! What has to be so of a target, for each kind of target there is, and what others can do to it. The independent
//! client says what is; Firebreak is not asked. A new kind is a module beside `instance`, and the compiler asks for it
//! here.

mod instance;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use firebreak::action::Boxed;
use firebreak::plan::Step;
use firebreak::playbook::{Playbook, Purpose};
use firebreak::target::TargetKind;
use firebreak_tests::in_process::{Case, kind_of_target};
use serde_json::Value;

/// What of a target is not contained: each thing, with the ids that it hangs on.
pub type Open = BTreeMap<String, BTreeSet<String>>;

/// What of the target is not contained.
pub fn open(case: &Case, state: &Value) -> Result<Open> {
    match case.target.kind {
        TargetKind::Ec2Instance => instance::open(case, state),
    }
}

/// Whether a step is about something that is open, or about what that hangs on: the words of its id say.
pub fn is_about(step: &Step, hangs_on: &BTreeSet<String>) -> bool {
    step.id.0.split(' ').any(|word| hangs_on.contains(word))
}

/// Whether what the playbook is for is so.
pub fn holds(case: &Case, state: &Value) -> Result<()> {
    match (case.playbook.meta().purpose, case.target.kind) {
        (Purpose::Contain, kind) => {
            let open = open(case, state)?;
            ensure!(open.is_empty(), "not contained: {open:?}");
            match kind {
                TargetKind::Ec2Instance => instance::is_withdrawn(case, state),
            }
        }
        (Purpose::Preserve, TargetKind::Ec2Instance) => instance::is_preserved(case, state),
    }
}

/// The same, of the account as it is now.
pub async fn is_so(case: &Case) -> Result<()> {
    holds(case, &case.state().await?)
}

/// Something that a containment has to cut, and that is not the target's yet.
pub struct More {
    /// Its id.
    pub id: String,
    /// Gives it to the target.
    pub give: Boxed<'static, Result<()>>,
}

/// Makes something more for the target.
pub async fn more(case: &Case) -> Result<More> {
    match case.target.kind {
        TargetKind::Ec2Instance => instance::spare_interface(case).await,
    }
}

/// The state before a run, as it would have been had the target had this by then.
pub fn with_more(case: &Case, before: &Value, id: &str, after: &Value) -> Result<Value> {
    match case.target.kind {
        TargetKind::Ec2Instance => instance::with_interface(case, before, id, after),
    }
}

/// Changes the target so that no plan made before fits it any more.
pub async fn alter(case: &Case) -> Result<()> {
    match case.target.kind {
        TargetKind::Ec2Instance => instance::alter(case).await,
    }
}

/// Takes back what a containment did, as whoever holds the account can.
pub async fn reopen(case: &Case) -> Result<()> {
    match case.target.kind {
        TargetKind::Ec2Instance => instance::reopen(case).await,
    }
}

/// The largest world of a playbook with `evil` wherever an attacker may write a text, and `secret` where a text must
/// not be seen at all.
pub fn hostile(playbook: &dyn Playbook, evil: &str, secret: &str) -> Result<Value> {
    match kind_of_target(playbook)? {
        TargetKind::Ec2Instance => instance::hostile(evil, secret),
    }
}

/// Ids of things that belong to nobody but Firebreak or an attacker who took our name.
pub fn squatted(case: &Case) -> Result<&str> {
    match case.target.kind {
        TargetKind::Ec2Instance => case.ids.get("sg_squatted"),
    }
}
