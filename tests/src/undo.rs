//! What an undo may leave different: for each action that declares that something will be, the checkable form of the
//! words in its `UNDO`. Reviewed; the drill and the laws hold the same against it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::compare::{Difference, entries, list};

/// The timeouts of connection tracking where none is set, in seconds
/// (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html>).
const DEFAULTS: [(&str, i64); 3] = [("TcpEstablishedTimeout", 432_000), ("UdpStreamTimeout", 180), ("UdpTimeout", 30)];

/// An account before a run and after its undo.
#[derive(Debug)]
pub struct AfterUndo<'a> {
    after: &'a Value,
    target: &'a str,
    /// Instances that an Auto Scaling group has launched meanwhile.
    new: BTreeSet<&'a str>,
    /// Actions whose undo was left to a person, who was told.
    left: BTreeSet<&'a str>,
}

/// Whether a difference is one that its action declares.
type Declares = fn(&Difference, &AfterUndo<'_>) -> bool;

/// One line for each action whose undo is not exact.
const DECLARED: &[(&str, Declares)] = &[
    ("autoscaling.detach-instance", |d, undo| match d.at(0) {
        "auto_scaling_groups" if d.at(2) == "desired" => number(&d.after) == number(&d.before).map(|n| n + 1),
        "auto_scaling_groups" if d.at(2) == "instances" => undo.is_new(d.at(3)) || undo.is_left_out(d, 3),
        "instances" if d.at(2) == "tags" => d.at(3) == "aws:autoscaling:groupName" && undo.is_left_out(d, 1),
        "instances" | "instance_profiles" => undo.is_new(d.at(1)),
        "interfaces" => undo.after["interfaces"][d.at(1)]["instance"].as_str().is_some_and(|id| undo.is_new(id)),
        "volumes" => undo.after["volumes"][d.at(1)]["attached"][0][0].as_str().is_some_and(|id| undo.is_new(id)),
        // The replacement is registered beside the others.
        "target_groups" | "classic_load_balancers" => undo.but_new(&d.before) == undo.but_new(&d.after),
        _ => false,
    }),
    ("ec2.close-interface", |_, _| false),
    ("ec2.create-group", |d, _| {
        d.at(0) == "security_groups" && d.path.len() == 2 && d.before.is_none() && is_empty_group_of_ours(&d.after)
    }),
    ("ec2.create-snapshots", |d, _| d.at(0) == "snapshots" && d.path.len() == 2 && d.before.is_none()),
    ("ec2.empty-group", |_, _| false),
    ("ec2.lock-snapshot", |_, _| false),
    ("ec2.open-group", |_, _| false),
    ("ec2.open-interface", |_, _| false),
    ("ec2.remove-public-address", |d, undo| {
        // Another public address of the same kind at the same place, nothing else.
        let blank = |value: &Option<Value>| {
            let mut value = value.clone().unwrap_or_default();
            for address in value.as_array_mut().into_iter().flatten() {
                if address["kind"] == "automatic" {
                    address["public"] = json!("assigned");
                }
            }
            value
        };
        undo.is_of_target(d) && d.at(2) == "addresses" && blank(&d.before) == blank(&d.after)
    }),
    ("ec2.replace-instance-profile", |d, undo| {
        let of_instance = d.at(0) == "instances" && matches!(d.at(2), "profile" | "profile_association");
        d.at(1) == undo.target && (of_instance || d.at(0) == "instance_profiles")
    }),
    // The user's keys stay inactive, and nothing else of it differs.
    ("iam.deactivate-access-key", |d, undo| {
        let of_target = undo.after["users"][d.at(1)]["id"] == undo.target;
        d.at(0) == "users" && of_target && d.at(2) == "keys" && is(&d.before, "Active") && is(&d.after, "Inactive")
    }),
    // The same rules, of which some have another id.
    ("ec2.set-ingress-rule", |d, undo| {
        let but_ids = |rules: &Option<Value>| {
            let mut rules: Vec<String> = rules
                .iter()
                .flat_map(list)
                .map(|rule| {
                    let mut rule = rule.clone();
                    rule["id"] = Value::Null;
                    rule.to_string()
                })
                .collect();
            rules.sort();
            rules
        };
        d.at(0) == "security_groups"
            && d.at(1) == undo.target
            && d.at(2) == "rules"
            && d.path.len() == 3
            && but_ids(&d.before) == but_ids(&d.after)
    }),
    ("ec2.tighten-connection-tracking", |d, undo| {
        // What was not set is AWS's default, in so many words.
        let is_default = |name: &str, value: &Value| DEFAULTS.iter().any(|(n, s)| *n == name && *value == *s);
        undo.is_of_target(d)
            && d.at(2) == "tracking"
            && d.before.as_ref().is_none_or(Value::is_null)
            && match &d.after {
                Some(Value::Object(all)) => all.iter().all(|(name, value)| is_default(name, value)),
                Some(one) => is_default(d.at(3), one),
                None => false,
            }
    }),
];

/// Whether the table has a line for an action.
#[must_use]
pub fn declares(action: &str) -> bool {
    DECLARED.iter().any(|(name, _)| *name == action)
}

impl<'a> AfterUndo<'a> {
    /// The states before a run about `target` and after its undo, which left the steps of the actions `left` to a
    /// person.
    #[must_use]
    pub fn of(before: &Value, after: &'a Value, target: &'a str, left: impl IntoIterator<Item = &'a str>) -> Self {
        let new = launched(before, after);
        Self { after, target, new, left: left.into_iter().collect() }
    }

    /// The action whose declaration explains a difference, when the difference is what it declares.
    #[must_use]
    pub fn declared_by(&self, difference: &Difference) -> Option<&'static str> {
        DECLARED.iter().find(|(_, allows)| allows(difference, self)).map(|(action, _)| *action)
    }

    fn is_new(&self, instance: &str) -> bool {
        self.new.contains(instance)
    }

    /// Whether the part of the path is the target, which is no longer there because a person has to put it back.
    fn is_left_out(&self, d: &Difference, part: usize) -> bool {
        d.at(part) == self.target && d.after.is_none() && self.left.contains("autoscaling.detach-instance")
    }

    /// Whether a difference is of an interface of the target.
    fn is_of_target(&self, d: &Difference) -> bool {
        d.at(0) == "interfaces" && self.after["interfaces"][d.at(1)]["instance"] == self.target
    }

    /// A list of targets without the new instances.
    fn but_new<'v>(&self, value: &'v Option<Value>) -> Vec<&'v Value> {
        let id = |target: &'v Value| if target.is_array() { &target[0] } else { target };
        let known = |target: &&'v Value| !id(target).as_str().is_some_and(|id| self.is_new(id));
        value.iter().flat_map(list).filter(known).collect()
    }
}

/// Instances that are in an Auto Scaling group now and did not exist before.
#[must_use]
pub fn launched<'a>(before: &Value, after: &'a Value) -> BTreeSet<&'a str> {
    entries(&after["auto_scaling_groups"])
        .flat_map(|(_, group)| entries(&group["instances"]).map(|(id, _)| id))
        .filter(|id| before["instances"].get(*id).is_none())
        .collect()
}

fn is(value: &Option<Value>, text: &str) -> bool {
    value.as_ref().is_some_and(|value| value == text)
}

fn number(value: &Option<Value>) -> Option<i64> {
    value.as_ref().and_then(Value::as_i64)
}

fn is_empty_group_of_ours(group: &Option<Value>) -> bool {
    let Some(group) = group else { return false };
    group["name"].as_str().is_some_and(|name| name.starts_with("firebreak-")) && list(&group["rules"]).len() == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::compare::differences;

    #[test]
    fn nothing_but_what_is_declared_is_explained() {
        let before = json!({
            "interfaces": {"eni-1": {"instance": "i-1", "groups": ["sg-1"], "tracking": null}},
            "security_groups": {"sg-1": {"name": "web", "rules": [1]}},
        });
        let mut after = before.clone();
        after["interfaces"]["eni-1"]["tracking"] = json!({"UdpTimeout": 30});
        after["security_groups"]["sg-2"] = json!({"name": "firebreak-quarantine-X", "rules": []});
        let by = |after: &Value| -> Vec<Option<&'static str>> {
            let undo = AfterUndo::of(&before, after, "i-1", []);
            differences(&before, after).iter().map(|d| undo.declared_by(d)).collect()
        };
        assert_eq!(by(&after), [Some("ec2.tighten-connection-tracking"), Some("ec2.create-group")]);
        after["interfaces"]["eni-1"]["tracking"] = json!({"UdpTimeout": 31});
        after["interfaces"]["eni-1"]["groups"] = json!(["sg-2"]);
        after["security_groups"]["sg-2"]["rules"] = json!([1]);
        assert_eq!(by(&after), [None, None, None]);
    }
}
