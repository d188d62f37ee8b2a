//! A CloudTrail trail: whether it records, and whether its log files are validated.

use crate::emulator::world;
use crate::in_process::Case;
use anyhow::{Result, ensure};
use firebreak::playbook::Playbook;
use serde_json::{Value, json};

use super::Open;

/// The control that is about signed log files; the others are about recording.
const VALIDATED: &str = "CloudTrail.4";

fn is_about_validation(playbook: &dyn Playbook) -> bool {
    playbook.meta().controls.iter().any(|check| check.control == Some(VALIDATED))
}

pub(super) fn open(case: &Case, state: &Value) -> Result<Open> {
    let name = &case.target.id;
    let trail = &state["trails"][name];
    ensure!(trail.is_object(), "there is no trail {name}");
    let what = if is_about_validation(case.playbook) { "validated" } else { "recording" };
    let open = trail[what] == false;
    Ok(open.then(|| (format!("not {what}"), [name.clone()].into())).into_iter().collect())
}

/// It is stopped, or no longer signs, again.
pub(super) async fn reopen(case: &Case) -> Result<()> {
    let (call, params) = match is_about_validation(case.playbook) {
        true => ("update_trail", json!({"Name": case.target.id, "EnableLogFileValidation": false})),
        false => ("stop_logging", json!({"Name": case.target.id})),
    };
    case.call("cloudtrail", call, params).await.map(|_| ())
}

pub(super) fn hostile(playbook: &dyn Playbook, evil: &str, secret: &str) -> Result<Value> {
    let mut world = world(if is_about_validation(playbook) { "unsigned-trail" } else { "stopped-trail" })?;
    world["trails"]["victim"]["tags"] = json!({"Name": evil, "secret": secret});
    Ok(world)
}
