//! The victim at one moment, in the words of the before/after table.

use serde::Serialize;
use serde_json::Value;

use super::facts::Names;
use crate::compare::{entries, list};

/// How the victim stands at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Moment {
    /// When: `before`, `contained`, `undone`.
    pub title: String,
    /// What, and how it stands.
    pub lines: Vec<(String, String)>,
}

/// Looks at the victim.
pub(super) fn take(title: &str, state: &Value, victim: &str, names: &Names) -> Moment {
    if let Some(lines) = identity(state, victim, names) {
        return Moment { title: title.to_owned(), lines };
    }
    let instance = &state["instances"][victim];
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut line = |what: String, how: String| lines.push((what, how));
    let mut interfaces: Vec<(&str, &Value)> =
        entries(&state["interfaces"]).filter(|(_, interface)| interface["instance"] == victim).collect();
    interfaces.sort_by_key(|(id, _)| names.of(id).to_owned());
    for (id, interface) in &interfaces {
        line(format!("{}: groups", names.of(id)), names.show(&interface["groups"]));
    }
    for (id, interface) in &interfaces {
        let addresses: Vec<String> = list(&interface["addresses"])
            .filter_map(|address| Some(format!("{} ({})", address["public"].as_str()?, address["kind"].as_str()?)))
            .collect();
        line(format!("{}: public address", names.of(id)), or_none(&addresses));
    }
    let tracking: Vec<String> = interfaces
        .iter()
        .map(|(_, interface)| match interface["tracking"]["TcpEstablishedTimeout"].as_i64() {
            Some(seconds) => format!("{seconds} s"),
            None => "not set".to_owned(),
        })
        .collect();
    line("idle TCP flows forgotten after".to_owned(), tracking.join(", "));
    let attributes = &instance["attributes"];
    line("termination protection".to_owned(), names.show(&attributes["disableApiTermination"]));
    line("stop protection".to_owned(), names.show(&attributes["disableApiStop"]));
    line("on shutdown".to_owned(), names.show(&attributes["instanceInitiatedShutdownBehavior"]));
    line("disks deleted with it".to_owned(), names.show(&instance["delete_on_termination"]));
    let groups: Vec<String> = entries(&state["auto_scaling_groups"])
        .map(|(id, group)| {
            let inside = if group["instances"].get(victim).is_some() { "in" } else { "not in" };
            format!(
                "{inside} {} (desired {}, instances {})",
                names.of(id),
                group["desired"],
                count(&group["instances"])
            )
        })
        .collect();
    line("Auto Scaling".to_owned(), or_none(&groups));
    let own: Vec<&str> = interfaces
        .iter()
        .flat_map(|(_, interface)| list(&interface["addresses"]))
        .filter_map(|address| address["private"].as_str())
        .chain([victim])
        .collect();
    let mut behind: Vec<String> = Vec::new();
    for (arn, group) in entries(&state["target_groups"]) {
        for target in list(&group["targets"]).filter(|target| target[0].as_str().is_some_and(|id| own.contains(&id))) {
            behind.push(format!("{}:{}", names.of(arn), target[1]));
        }
    }
    for (name, members) in entries(&state["classic_load_balancers"]) {
        if list(members).any(|member| member == victim) {
            behind.push(names.of(name).to_owned());
        }
    }
    line("load balancers".to_owned(), or_none(&behind));
    let volumes = entries(&state["volumes"]).filter(|(_, volume)| list(&volume["attached"]).any(|a| a[0] == victim));
    let volumes: Vec<&str> = volumes.map(|(id, _)| id).collect();
    let kept: Vec<&Value> = entries(&state["snapshots"])
        .map(|(_, snapshot)| snapshot)
        .filter(|snapshot| snapshot["volume"].as_str().is_some_and(|id| volumes.contains(&id)))
        .collect();
    let locked = kept.iter().filter(|snapshot| !snapshot["lock"].is_null()).count();
    line("snapshots of its disks".to_owned(), format!("{} of {}, {locked} locked", kept.len(), volumes.len()));
    Moment { title: title.to_owned(), lines }
}

/// A user by its unique id, or a role by that of a session.
fn identity(state: &Value, victim: &str, names: &Names) -> Option<Vec<(String, String)>> {
    let role = victim.split(':').next().unwrap_or(victim);
    let of = |kind: &str, id: &str| entries(&state[kind]).find(|(_, one)| one["id"] == id).map(|(_, one)| one.clone());
    let (fields, found): (&[(&str, &str)], _) = match (of("users", victim), of("roles", role)) {
        (Some(user), _) => (
            &[
                ("access keys", "keys"),
                ("service-specific credentials", "service_credentials"),
                ("SSH keys", "ssh_keys"),
                ("signing certificates", "certificates"),
                ("attached policies", "attached"),
                ("password", "password"),
            ],
            user,
        ),
        (None, Some(role)) => (&[("attached policies", "attached"), ("inline policies", "inline")], role),
        (None, None) => return resource(state, victim, names),
    };
    let line = |(what, field): &(&str, &str)| ((*what).to_owned(), names.show(&found[*field]));
    Some(fields.iter().map(line).collect())
}

/// A security group, or a bucket.
fn resource(state: &Value, victim: &str, names: &Names) -> Option<Vec<(String, String)>> {
    if let Some(bucket) = state["buckets"].get(victim) {
        let line = |field: &str| (field.to_owned(), names.show(&bucket[field]));
        return Some(["block", "policy", "website", "tags"].map(line).into());
    }
    let group = state["security_groups"].get(victim).filter(|_| victim.starts_with("sg-"))?;
    // The same lines whatever the rules: moments are shown side by side.
    let from = |whose: fn(&str) -> bool| {
        let rules = list(&group["rules"]).filter(|rule| rule["egress"] == false);
        let mut shown: Vec<String> = rules
            .filter(|rule| whose(rule["peer"].as_str().unwrap_or_default()))
            .map(|rule| {
                let text = |name: &str| names.show(&rule[name]);
                let same = rule["from"] == rule["to"];
                let ports = if same { text("from") } else { format!("{}-{}", text("from"), text("to")) };
                let peer =
                    if whose("0.0.0.0/0") || whose("::/0") { String::new() } else { format!(" ({})", text("peer")) };
                format!("{} {ports}{peer}", text("protocol"))
            })
            .collect();
        shown.sort();
        or_none(&shown)
    };
    let lines = [
        ("from everywhere, IPv4", from(|peer| peer == "0.0.0.0/0")),
        ("from everywhere, IPv6", from(|peer| peer == "::/0")),
        ("from others", from(|peer| peer != "0.0.0.0/0" && peer != "::/0")),
    ];
    Some(lines.map(|(what, how)| (what.to_owned(), how)).into())
}

fn count(value: &Value) -> usize {
    value.as_object().map_or(0, serde_json::Map::len)
}

fn or_none(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}
