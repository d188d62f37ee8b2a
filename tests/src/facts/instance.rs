//! An EC2 instance: its interfaces, what stands in front of it, and its volumes.

use std::collections::BTreeSet;

use crate::compare::{entries, list};
use crate::emulator::world;
use crate::in_process::Case;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{More, Open};

/// Interfaces of the instance that can still talk: with other groups than one of ours, or with ours while it lets
/// something through.
pub(super) fn open(case: &Case, state: &Value) -> Result<Open> {
    let mut open = Open::new();
    let mut seen = 0;
    for (id, interface) in of_target(case, state) {
        seen += 1;
        let groups = &state["security_groups"];
        let in_groups: Vec<&str> = list(&interface["groups"]).filter_map(Value::as_str).collect();
        let cuts = |group: &str| {
            let group = &groups[group];
            let ours = group["name"].as_str().is_some_and(|name| name.starts_with("firebreak-quarantine-"));
            ours && group["owner"] == case.member.as_str() && list(&group["rules"]).len() == 0
        };
        if let [group] = in_groups.as_slice()
            && cuts(group)
        {
            continue;
        }
        let vpcs = in_groups.iter().filter_map(|group| groups[*group]["vpc"].as_str());
        let hangs_on = in_groups.iter().copied().chain(vpcs).chain([id]).map(str::to_owned);
        open.insert(id.to_owned(), hangs_on.collect());
    }
    ensure!(seen > 0, "the victim has no interface");
    Ok(open)
}

fn of_target<'a>(case: &'a Case, state: &'a Value) -> impl Iterator<Item = (&'a str, &'a Value)> {
    entries(&state["interfaces"]).filter(|(_, interface)| interface["instance"] == case.target.id.as_str())
}

/// No public address leads to it, and no load balancer sends it anything.
pub(super) fn is_withdrawn(case: &Case, state: &Value) -> Result<()> {
    for (id, interface) in of_target(case, state) {
        let public = list(&interface["addresses"]).any(|address| !address["public"].is_null());
        ensure!(!public, "{id} has a public address");
    }
    for front in ["target_groups", "classic_load_balancers"] {
        for (name, members) in entries(&state[front]) {
            let members = members.to_string();
            ensure!(!members.contains(&case.target.id), "still a member of {name}: {members}");
        }
    }
    Ok(())
}

/// Every volume has one snapshot, and that is locked.
pub(super) fn is_preserved(case: &Case, state: &Value) -> Result<()> {
    for (id, volume) in entries(&state["volumes"]) {
        if !volume["attached"].to_string().contains(&case.target.id) {
            continue;
        }
        let snapshots: Vec<&Value> =
            entries(&state["snapshots"]).map(|(_, s)| s).filter(|s| s["volume"] == id).collect();
        ensure!(snapshots.len() == 1, "{id} has {} snapshots", snapshots.len());
        ensure!(snapshots.iter().all(|s| s["lock"]["state"] == "governance"), "a snapshot of {id} is not locked");
    }
    Ok(())
}

/// The subnet of one of the instance's interfaces, and a group that it has now.
fn place(case: &Case, state: &Value) -> Result<(Value, Value)> {
    let (_, interface) = of_target(case, state).next().context("the victim has no interface")?;
    Ok((interface["subnet"].clone(), interface["groups"][0].clone()))
}

/// A device index or name that no world uses.
const FREE_INDEX: u8 = 9;
const FREE_DEVICE: &str = "/dev/sdz";

/// An interface beside the instance, in its subnet and one of its groups.
pub(super) async fn spare_interface(case: &Case) -> Result<More> {
    let (subnet, group) = place(case, &case.state().await?)?;
    let made = case.call("ec2", "create_network_interface", json!({"SubnetId": subnet, "Groups": [group]})).await?;
    let id = made["NetworkInterface"]["NetworkInterfaceId"].as_str().context("an interface without an id")?.to_owned();
    let (observer, member) = (case.security.observer.clone(), case.member.clone());
    let params = json!({"NetworkInterfaceId": id, "InstanceId": case.target.id, "DeviceIndex": FREE_INDEX});
    let give = Box::pin(async move {
        let attached =
            observer.call(&member, crate::deployment::REGION, "ec2", "attach_network_interface", params).await;
        attached.map(|_| ())
    });
    Ok(More { id, give })
}

pub(super) fn with_interface(case: &Case, before: &Value, id: &str, after: &Value) -> Result<Value> {
    let mut state = before.clone();
    ensure!(state["interfaces"][id].is_object(), "{id} was not there before");
    for attached in ["instance", "device_index", "delete_on_termination"] {
        state["interfaces"][id][attached] = after["interfaces"][id][attached].clone();
    }
    let mut ids: BTreeSet<String> =
        of_target(case, before).map(|(id, _)| id.to_owned()).chain([id.to_owned()]).collect();
    let instance = &mut state["instances"][&case.target.id];
    let groups: BTreeSet<&str> =
        ids.iter().flat_map(|id| list(&before["interfaces"][id]["groups"])).filter_map(Value::as_str).collect();
    instance["security_groups"] = json!(groups);
    instance["interfaces"] = json!(std::mem::take(&mut ids));
    Ok(state)
}

/// Another interface and another volume: neither a cut nor a set of snapshots is whole without.
pub(super) async fn alter(case: &Case) -> Result<()> {
    spare_interface(case).await?.give.await?;
    let volume = case.call("ec2", "create_volume", json!({"AvailabilityZone": zone(case).await?, "Size": 1})).await?;
    let attach = json!({"VolumeId": volume["VolumeId"], "InstanceId": case.target.id, "Device": FREE_DEVICE});
    case.call("ec2", "attach_volume", attach).await.map(|_| ())
}

async fn zone(case: &Case) -> Result<Value> {
    let seen = case.call("ec2", "describe_instances", json!({"InstanceIds": [case.target.id]})).await?;
    Ok(seen["Reservations"][0]["Instances"][0]["Placement"]["AvailabilityZone"].clone())
}

/// The group of whoever opens an instance again.
const ATTACKERS: &str = "attackers";

fn is_attackers(group: &Value) -> bool {
    group["name"].as_str().is_some_and(|name| name.starts_with(ATTACKERS))
}

/// One interface gets a group that lets everything through.
pub(super) async fn reopen(case: &Case) -> Result<()> {
    let state = case.state().await?;
    let (id, interface) = of_target(case, &state).next().context("the victim has no interface")?;
    let vpc = list(&interface["groups"]).find_map(|group| state["security_groups"][group.as_str()?]["vpc"].as_str());
    // The first of them has the name by which other laws know it.
    let before = entries(&state["security_groups"]).filter(|(_, group)| is_attackers(group)).count();
    let name = if before == 0 { ATTACKERS.to_owned() } else { format!("{ATTACKERS}-{before}") };
    let params = json!({"GroupName": name, "Description": "open", "VpcId": vpc});
    let group = case.call("ec2", "create_security_group", params).await?["GroupId"].clone();
    let params = json!({"NetworkInterfaceId": id, "Groups": [group]});
    case.call("ec2", "modify_network_interface_attribute", params).await.map(|_| ())
}

/// The drill's world, its tags, groups and names in an attacker's hands.
pub(super) fn hostile(evil: &str, secret: &str) -> Result<Value> {
    let mut world = world("web-server")?;
    world["instances"]["victim"]["tags"] = json!({
        "Name": evil, "evil\u{202e}key": "x", "secret": secret, "long": "x".repeat(256),
        "IsTriageRequired": "False", "firebreak:exempt": "true", "exempt": "true", "firebreak:run": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    });
    world["groups"]["sg_web"]["name"] = json!("web ${aws:username} <b>");
    world["groups"]["sg_squatted"] = json!({
        "vpc": "vpc", "name": "firebreak-quarantine-01ARZ3NDEKTSV4RRFFQ69G5FAV", "description": "Firebreak: keep it",
        "ingress": [{"ipv4": ["0.0.0.0/0"]}],
        "tags": {"firebreak:purpose": "firebreak-quarantine", "firebreak:run": "01ARZ3NDEKTSV4RRFFQ69G5FAV"},
    });
    world["auto_scaling_groups"]["asg"]["name"] = json!("asg*? ${aws:username} <script>");
    Ok(world)
}
