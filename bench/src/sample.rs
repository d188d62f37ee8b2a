//! Figures of one process: its start, its first event, a repeat, another event, and events that are not for it.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use firebreak_tests::emulator::Call;
use firebreak_tests::lab::{Function, Invoked};
use firebreak_tests::quota::Quota;
use serde_json::{Value, json};

use crate::kit::{Incident, Peer};
use crate::stage::Stage;

/// How many events that are not for it a process gets.
pub const FOREIGN_EVENTS: usize = 5;

/// One event, from its hand-over.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Milliseconds to the end of the last call that cut something off; nothing where none did.
    pub cut_ms: Option<f64>,
    /// Milliseconds to the answer.
    pub answered_ms: f64,
    /// The AWS calls until then, `service:Operation`.
    pub calls: Vec<String>,
    /// Whether AWS, read by another client, says that it is contained.
    pub contained: bool,
    /// What the peer said was wrong.
    pub error: Option<String>,
}

/// One process.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Milliseconds from the process's start to its first request for an event.
    pub ready_ms: f64,
    /// The first event; its times are from the process's start.
    pub cold: Answered,
    /// The same event again: how many sets of snapshots there are then.
    pub snapshot_sets: Option<f64>,
    /// Where what undo needs is found.
    pub undo_data: &'static str,
    /// Another event, about a victim in another account.
    pub warm: Option<Answered>,
    /// Milliseconds to the answer to events that are not for it, and the AWS calls that each made.
    pub turned_away: Vec<(f64, usize)>,
    /// The most memory that the process held, in megabytes.
    pub peak_mb: f64,
}

/// Takes a sample; under a share of a processor from its readiness on, where one is given.
///
/// # Errors
/// When the emulator, the peer's process or the observer fails; not when the peer answers with an error.
pub async fn sample(stage: &mut Stage<'_>, memory_mb: Option<u32>) -> Result<Sample> {
    stage.enter_another_account().await?;
    let event = stage.event().await?;
    let groups = groups(stage).await?;
    let since = next(stage).await?;
    // It outlives the process that is in it.
    let quota = memory_mb.map(Quota::of).transpose()?;
    let mut function = stage.start(&[]).await?;
    if let Some(quota) = &quota {
        quota.take(&function)?;
    }
    let invoked = function.invoke(event.clone()).await?;
    let cold = answered(stage, function.started_at, since, invoked).await?;
    let undo_data = undo_data(stage, &function, &groups).await?;
    let (mut snapshot_sets, mut warm, mut turned_away) = (None, None, Vec::new());
    if stage.incident == Incident::Instance {
        function.invoke(event.clone()).await?;
        snapshot_sets = Some(sets_of_snapshots(stage).await?);
        stage.enter_another_account().await?;
        let other = stage.event().await?;
        let since = next(stage).await?;
        let invoked = function.invoke(other.clone()).await?;
        warm = Some(answered(stage, invoked.begun_at, since, invoked).await?);
        let foreign = stage.foreign_event(&other).await?;
        for _ in 0..FOREIGN_EVENTS {
            let since = next(stage).await?;
            let invoked = function.invoke(foreign.clone()).await?;
            invoked.answer.map_err(|error| anyhow!("an event that is not for it: {error}"))?;
            turned_away.push((millis(invoked.took), calls(stage, since).await?.len()));
        }
    }
    let peak = function.peak_memory_kb().context("peak memory is known on Linux only")?;
    let ready_ms = millis(function.ready_after);
    Ok(Sample { ready_ms, cold, snapshot_sets, undo_data, warm, turned_away, peak_mb: peak as f64 / 1024.0 })
}

/// From the start of a process to its answer to a first event that is not for it: the start, and the event, in milliseconds.
///
/// # Errors
/// When it fails.
pub async fn turned_away_first(stage: &Stage<'_>, foreign: &Value) -> Result<(f64, f64)> {
    let mut function = stage.start(&[]).await?;
    let invoked = function.invoke(foreign.clone()).await?;
    invoked.answer.map_err(|error| anyhow!("an event that is not for it: {error}"))?;
    Ok((millis(function.ready_after), millis(invoked.took)))
}

async fn next(stage: &Stage<'_>) -> Result<u64> {
    Ok(stage.lab.observer.calls(u64::MAX, &[]).await?.next)
}

/// The calls since, but the observer's.
async fn calls(stage: &Stage<'_>, since: u64) -> Result<Vec<Call>> {
    let all = stage.lab.observer.calls(since, &[]).await?.calls;
    Ok(all.into_iter().filter(|call| !call.agent.contains("app/observer")).collect())
}

/// Whether a call took something off the network, or a credential its use.
fn cuts(call: &Call) -> bool {
    let sets_groups =
        || call.about.iter().any(|one| one.starts_with("SecurityGroupId.") || one.starts_with("GroupId."));
    call.status == 200
        && match call.operation.as_str() {
            "ModifyNetworkInterfaceAttribute" | "ModifyInstanceAttribute" => sets_groups(),
            "UpdateAccessKey" => call.about.iter().any(|one| one == "Status=Inactive"),
            "AttachUserPolicy" => true,
            _ => false,
        }
}

async fn answered(stage: &Stage<'_>, from: f64, since: u64, invoked: Invoked) -> Result<Answered> {
    let calls = calls(stage, since).await?;
    let ends = calls.iter().filter(|call| cuts(call)).map(|call| call.end);
    // A key is contained by the first that takes it its use; an instance by the last interface.
    let cut = match stage.incident {
        Incident::Instance => ends.reduce(f64::max),
        Incident::Key => ends.reduce(f64::min),
    };
    Ok(Answered {
        cut_ms: cut.map(|end| (end - from) * 1000.0),
        answered_ms: (invoked.begun_at - from) * 1000.0 + millis(invoked.took),
        calls: calls.iter().map(|call| format!("{}:{}", call.service, call.operation)).collect(),
        contained: contained(stage).await?,
        error: invoked.answer.err(),
    })
}

/// The victim's interfaces and their groups.
async fn groups(stage: &Stage<'_>) -> Result<BTreeMap<String, Vec<String>>> {
    if stage.incident == Incident::Key {
        return Ok(BTreeMap::new());
    }
    let filters = json!([{"Name": "attachment.instance-id", "Values": [stage.lab.ids.get("victim")?]}]);
    let seen = stage.lab.at_member("ec2", "describe_network_interfaces", json!({"Filters": filters})).await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |interface: &Value| {
        let groups = interface["Groups"].as_array().into_iter().flatten().map(|group| text(&group["GroupId"]));
        (text(&interface["NetworkInterfaceId"]), groups.collect())
    };
    Ok(seen["NetworkInterfaces"].as_array().into_iter().flatten().map(of).collect())
}

/// An instance whose every interface has groups without a rule; a user whose key is inactive or who is denied everything.
async fn contained(stage: &Stage<'_>) -> Result<bool> {
    if stage.incident == Incident::Key {
        let name = json!({"UserName": stage.lab.ids.get("victim.name")?});
        let keys = stage.lab.at_member("iam", "list_access_keys", name.clone()).await?;
        let leaked = stage.lab.ids.get("victim.key")?;
        let mut keys = keys["AccessKeyMetadata"].as_array().into_iter().flatten();
        let inactive = keys.any(|key| key["AccessKeyId"] == leaked && key["Status"] == "Inactive");
        let attached = stage.lab.at_member("iam", "list_attached_user_policies", name).await?;
        let denied = attached["AttachedPolicies"].as_array().is_some_and(|policies| !policies.is_empty());
        return Ok(inactive || denied);
    }
    let groups = groups(stage).await?;
    let ids: Vec<&String> = groups.values().flatten().collect();
    let filters = json!([{"Name": "group-id", "Values": ids}]);
    let rules = stage.lab.at_member("ec2", "describe_security_group_rules", json!({"Filters": filters})).await?;
    Ok(groups.len() == 3 && rules["SecurityGroupRules"].as_array().is_some_and(Vec::is_empty))
}

/// How many snapshots there are for each of the victim's volumes.
async fn sets_of_snapshots(stage: &Stage<'_>) -> Result<f64> {
    let mut counts = Vec::new();
    for volume in ["vol_root", "vol_data", "vol_logs"] {
        let filters = json!([{"Name": "volume-id", "Values": [stage.lab.ids.get(volume)?]}]);
        let asked = json!({"OwnerIds": ["self"], "Filters": filters});
        let seen = stage.lab.at_member("ec2", "describe_snapshots", asked).await?;
        counts.push(seen["Snapshots"].as_array().map_or(0, Vec::len));
    }
    match counts.iter().max() {
        Some(most) if counts.iter().all(|count| count == most) => Ok(*most as f64),
        _ => bail!("the victim's volumes have {counts:?} snapshots"),
    }
}

/// Where the groups that the interfaces had can be found afterwards.
async fn undo_data(
    stage: &Stage<'_>,
    function: &Function,
    groups: &BTreeMap<String, Vec<String>>,
) -> Result<&'static str> {
    if groups.is_empty() {
        return Ok("");
    }
    let all_in = |text: &str| groups.values().flatten().all(|group| text.contains(group.as_str()));
    if stage.peer == Peer::Firebreak {
        let rows = stage.lab.runs().await?;
        return Ok(if rows.iter().any(|row| all_in(&row.0.to_string())) { "ledger" } else { "nowhere" });
    }
    let log = fs::read_to_string(function.log()).unwrap_or_default();
    Ok(match (all_in(&stage.written()), all_in(&log)) {
        (true, true) => "log, `/tmp`",
        (true, false) => "`/tmp`",
        (false, true) => "log",
        (false, false) => "nowhere",
    })
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
