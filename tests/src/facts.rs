//! What has to be so of a target, for each kind of target there is, and what others can do to it. The independent
//! client says what is; Firebreak is not asked. A new kind is a module beside `instance`, and the compiler asks for it
//! here.

mod bucket;
mod group;
mod identity;
mod instance;
mod snapshot;
mod trail;

use std::collections::{BTreeMap, BTreeSet};

use crate::in_process::{Case, kind_of_target};
use anyhow::{Result, bail, ensure};
use firebreak::action::Boxed;
use firebreak::plan::Step;
use firebreak::playbook::{Playbook, Purpose};
use firebreak::target::TargetKind;
use serde_json::{Value, json};

/// What of a target is not contained: each thing, with the ids that it hangs on.
pub type Open = BTreeMap<String, BTreeSet<String>>;

fn is_fix(case: &Case) -> bool {
    case.playbook.meta().purpose == Purpose::Fix
}

/// What of the target is not contained.
pub fn open(case: &Case, state: &Value) -> Result<Open> {
    match case.target.kind {
        TargetKind::Ec2Instance => instance::open(case, state),
        TargetKind::IamUser if is_fix(case) => identity::old_keys(case, state),
        TargetKind::IamUser => identity::open_user(case, state),
        TargetKind::IamRole | TargetKind::IamRoleSession => identity::open_sessions(case, state),
        TargetKind::Ec2SecurityGroup => Ok(group::open(case, state)),
        TargetKind::S3Bucket => bucket::open(case, state),
        TargetKind::Ec2Snapshot | TargetKind::RdsSnapshot | TargetKind::RdsClusterSnapshot => {
            snapshot::open(case, state)
        }
        TargetKind::CloudTrailTrail => trail::open(case, state),
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
                TargetKind::IamUser => identity::is_without_credentials(case, state),
                _ => Ok(()),
            }
        }
        (Purpose::Fix, _) => {
            let open = open(case, state)?;
            ensure!(open.is_empty(), "not fixed: {open:?}");
            Ok(())
        }
        (Purpose::Preserve, TargetKind::Ec2Instance) => instance::is_preserved(case, state),
        (Purpose::Preserve, kind) => bail!("no playbook keeps the evidence of {}", kind.as_str()),
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
        TargetKind::IamUser => identity::spare_key(case).await,
        _ => bail!("{} does not consist of things", case.target),
    }
}

/// The state before a run, as it would have been had the target had this by then.
pub fn with_more(case: &Case, before: &Value, id: &str, after: &Value) -> Result<Value> {
    match case.target.kind {
        TargetKind::Ec2Instance => instance::with_interface(case, before, id, after),
        TargetKind::IamUser => identity::with_key(case, before, id),
        _ => bail!("there is never more of {}", case.target),
    }
}

/// Changes the target so that no plan made before fits it any more.
pub async fn alter(case: &Case) -> Result<()> {
    match case.target.kind {
        TargetKind::Ec2Instance => instance::alter(case).await,
        TargetKind::IamUser => identity::alter_user(case).await,
        _ => bail!("{} does not consist of things", case.target),
    }
}

/// Takes back what a containment did, as whoever holds the account can.
pub async fn reopen(case: &Case) -> Result<()> {
    match case.target.kind {
        TargetKind::Ec2Instance => instance::reopen(case).await,
        TargetKind::IamUser if is_fix(case) => identity::reactivate(case).await,
        TargetKind::IamUser => identity::reopen_user(case).await,
        TargetKind::IamRole | TargetKind::IamRoleSession => identity::reopen_role(case).await,
        TargetKind::Ec2SecurityGroup => group::reopen(case).await,
        TargetKind::S3Bucket => bucket::reopen(case).await,
        TargetKind::Ec2Snapshot | TargetKind::RdsSnapshot | TargetKind::RdsClusterSnapshot => {
            snapshot::reopen(case).await
        }
        TargetKind::CloudTrailTrail => trail::reopen(case).await,
    }
}

/// Deletes the target, as whoever holds the account can. `false` where that takes more than a call: of those there is a
/// world without the target.
pub async fn vanish(case: &Case) -> Result<bool> {
    let id = &case.target.id;
    let (service, call, params) = match case.target.kind {
        TargetKind::Ec2Instance => ("ec2", "terminate_instances", json!({"InstanceIds": [id]})),
        TargetKind::Ec2SecurityGroup => ("ec2", "delete_security_group", json!({"GroupId": id})),
        TargetKind::Ec2Snapshot => ("ec2", "delete_snapshot", json!({"SnapshotId": id})),
        TargetKind::RdsSnapshot => ("rds", "delete_db_snapshot", json!({"DBSnapshotIdentifier": id})),
        TargetKind::RdsClusterSnapshot => {
            ("rds", "delete_db_cluster_snapshot", json!({"DBClusterSnapshotIdentifier": id}))
        }
        TargetKind::CloudTrailTrail => ("cloudtrail", "delete_trail", json!({"Name": id})),
        TargetKind::S3Bucket => ("s3", "delete_bucket", json!({"Bucket": id})),
        TargetKind::IamUser | TargetKind::IamRole | TargetKind::IamRoleSession => return Ok(false),
    };
    if case.state().await?.to_string().contains(id.as_str()) {
        // What another service manages it does not let go.
        return Ok(case.call(service, call, params).await.is_ok());
    }
    Ok(true)
}

/// The largest world of a playbook with `evil` wherever an attacker may write a text, and `secret` where a text must
/// not be seen at all.
pub fn hostile(playbook: &dyn Playbook, evil: &str, secret: &str) -> Result<Value> {
    match kind_of_target(playbook)? {
        TargetKind::Ec2Instance => instance::hostile(evil, secret),
        TargetKind::IamUser if playbook.meta().purpose == Purpose::Fix => identity::hostile_old_keys(secret),
        TargetKind::IamUser => identity::hostile_user(evil, secret),
        TargetKind::IamRole | TargetKind::IamRoleSession => identity::hostile_role(secret),
        TargetKind::Ec2SecurityGroup => group::hostile(evil, secret),
        TargetKind::S3Bucket => bucket::hostile(evil, secret),
        TargetKind::Ec2Snapshot => snapshot::hostile(evil, secret),
        TargetKind::RdsSnapshot | TargetKind::RdsClusterSnapshot => snapshot::hostile_database(evil, secret),
        TargetKind::CloudTrailTrail => trail::hostile(playbook, evil, secret),
    }
}

/// The id of a thing with our name that is an attacker's, where there can be one: the policy that contained users get
/// has an ARN of its own, and the one that a role gets is named for the run.
pub fn squatted(case: &Case) -> Result<Option<&str>> {
    match case.target.kind {
        TargetKind::Ec2Instance => case.ids.get("sg_squatted").map(Some),
        _ => Ok(None),
    }
}

/// Whether a target consists of things, so that it can get more of them, and another plan with them. The sessions of a role
/// are cut by one policy, whatever else there is.
pub fn has_parts(playbook: &dyn Playbook) -> bool {
    playbook.meta().purpose != Purpose::Fix
        && matches!(kind_of_target(playbook), Ok(TargetKind::Ec2Instance | TargetKind::IamUser))
}
