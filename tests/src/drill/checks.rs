//! What has to be so after a containment and after its undo, worked out from the state before it and from AWS's
//! documentation; Firebreak is not asked.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::{Value, json};

use super::always::record_of;
use super::facts::{Names, Topic};
use super::{ISOLATE, SNAPSHOT, Stage, StepShown};
use crate::compare::{differences, entries, list};
use crate::undo::{AfterUndo, launched};

/// The shortest timeouts that AWS takes, in seconds
/// (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html>).
const SHORTEST: [(&str, i64); 3] = [("TcpEstablishedTimeout", 60), ("UdpStreamTimeout", 60), ("UdpTimeout", 30)];

/// What a world makes different.
#[derive(Debug, Clone, Default)]
pub struct Expect {
    /// The group that was made ahead; without it a new one has to be there.
    pub prepared: Option<String>,
    /// EC2 refuses to protect it against termination and stop, as with Spot.
    pub unprotectable: bool,
}

/// The victim and what belongs to it.
pub(super) struct Victim<'a> {
    id: &'a str,
    interfaces: Vec<(&'a str, &'a Value)>,
    /// Its id and private addresses: what a target group knows it by.
    known_by: BTreeSet<String>,
    volumes: Vec<&'a str>,
}

impl<'a> Victim<'a> {
    pub(super) fn of(state: &'a Value, id: &'a str, names: &Names) -> Self {
        let mut interfaces: Vec<(&str, &Value)> =
            entries(&state["interfaces"]).filter(|(_, interface)| interface["instance"] == id).collect();
        interfaces.sort_by_key(|(id, _)| names.of(id).to_owned());
        let addresses = interfaces.iter().flat_map(|(_, interface)| list(&interface["addresses"]));
        let private = addresses.filter_map(|address| address["private"].as_str()).map(str::to_owned);
        let known_by = private.chain([id.to_owned()]).collect();
        let mut volumes: Vec<&str> = entries(&state["volumes"])
            .filter(|(_, volume)| list(&volume["attached"]).any(|attached| attached[0] == id))
            .map(|(id, _)| id)
            .collect();
        volumes.sort_by_key(|id| names.of(id).to_owned());
        Self { id, interfaces, known_by, volumes }
    }

    fn knows(&self, target: &Value) -> bool {
        let id = if target.is_array() { &target[0] } else { target };
        id.as_str().is_some_and(|id| self.known_by.contains(id))
    }
}

impl Stage<'_> {
    /// Every fact of a containment that the observer can read in the member account.
    pub fn check_contained(&mut self, before: &Value, after: &Value, expect: &Expect) -> Result<()> {
        let id = self.drill.victim.clone();
        let names = self.names.clone();
        let victim = Victim::of(before, &id, &names);
        for new in launched(before, after) {
            self.names.name(new, "replacement");
        }
        self.moment("contained", after)?;
        self.check_cut(&victim, before, after, expect);
        self.check_protected(&victim, after, expect);
        self.check_withdrawn(&victim, before, after);
        self.check_untouched(&victim, before, after);
        Ok(())
    }

    fn check_cut(&mut self, victim: &Victim<'_>, before: &Value, after: &Value, expect: &Expect) {
        let made: Vec<&str> = entries(&after["security_groups"])
            .map(|(id, _)| id)
            .filter(|id| before["security_groups"].get(*id).is_none())
            .collect();
        let quarantine = match &expect.prepared {
            Some(group) => {
                self.same(Topic::Cut, "no group is made: the one made ahead is used", &json!([]), &json!(made));
                group.clone()
            }
            None => {
                self.same(Topic::Cut, "one quarantine group is made", &json!(1), &json!(made.len()));
                made.first().copied().unwrap_or("no group").to_owned()
            }
        };
        for (id, _) in &victim.interfaces {
            let what = format!("{} is in the quarantine group alone", self.names.of(id));
            self.same(Topic::Cut, &what, &json!([quarantine]), &after["interfaces"][*id]["groups"]);
        }
        let taken = entries(&after["interfaces"]).filter(|(_, i)| i["instance"] == victim.id).count();
        self.same(Topic::Cut, "it has the interfaces that it had", &json!(victim.interfaces.len()), &json!(taken));
        let group = &after["security_groups"][&quarantine];
        let rules = |egress: bool| list(&group["rules"]).filter(|rule| rule["egress"] == egress).count();
        let what = "the quarantine group has no rule, inward or outward, IPv4 or IPv6";
        self.same(Topic::Cut, what, &json!([0, 0]), &json!([rules(false), rules(true)]));
        self.same(Topic::Cut, "the quarantine group is the account's own", &json!(self.lab.member), &group["owner"]);
        let public: Vec<&Value> = victim
            .interfaces
            .iter()
            .flat_map(|(id, _)| list(&after["interfaces"][*id]["addresses"]))
            .map(|address| &address["public"])
            .filter(|public| !public.is_null())
            .collect();
        self.same(Topic::Cut, "no public address leads to it", &json!([]), &json!(public));
        let mapped: Vec<&str> = entries(&after["addresses"])
            .filter(|(_, address)| {
                address["instance"] == victim.id
                    || victim.interfaces.iter().any(|(interface, _)| address["interface"] == *interface)
            })
            .map(|(id, _)| id)
            .collect();
        self.same(Topic::Cut, "no Elastic IP is associated with it", &json!([]), &json!(mapped));
        for (id, _) in &victim.interfaces {
            let found = &after["interfaces"][*id]["tracking"];
            let what = format!("{} forgets tracked flows as soon as AWS can", self.names.of(id));
            self.same(Topic::Cut, &what, &timeouts(SHORTEST), found);
        }
    }

    fn check_protected(&mut self, victim: &Victim<'_>, after: &Value, expect: &Expect) {
        let instance = &after["instances"][victim.id];
        let (attributes, wanted) = (&instance["attributes"], json!(!expect.unprotectable));
        let topic = Topic::Protected;
        self.same(topic, "protected against termination", &wanted, &attributes["disableApiTermination"]);
        self.same(topic, "protected against stop", &wanted, &attributes["disableApiStop"]);
        let shutdown = &attributes["instanceInitiatedShutdownBehavior"];
        self.same(topic, "a shutdown from inside stops it only", &json!("stop"), shutdown);
        for (device, delete) in entries(&instance["delete_on_termination"]) {
            self.same(topic, &format!("whether the disk {device} is deleted with it"), &json!(false), delete);
        }
    }

    fn check_withdrawn(&mut self, victim: &Victim<'_>, before: &Value, after: &Value) {
        let topic = Topic::Withdrawn;
        for (id, was) in entries(&before["auto_scaling_groups"]) {
            let is = &after["auto_scaling_groups"][id];
            if was["instances"].get(victim.id).is_some() {
                let inside = is["instances"].get(victim.id).is_some();
                self.same(topic, &format!("out of the Auto Scaling group {id}"), &json!(false), &json!(inside));
                let (had, has) = (entries(&was["instances"]).count(), entries(&is["instances"]).count());
                self.same(topic, &format!("{id} has replaced it"), &json!(had), &json!(has));
            }
            self.same(topic, &format!("{id} still wants as many"), &was["desired"], &is["desired"]);
        }
        for (arn, was) in entries(&before["target_groups"]) {
            if list(&was["targets"]).any(|target| victim.knows(target)) {
                let left = list(&after["target_groups"][arn]["targets"]).filter(|target| victim.knows(target));
                let what = format!("out of the target group {}", self.names.of(arn));
                self.same(topic, &what, &json!(0), &json!(left.count()));
            }
        }
        for (name, was) in entries(&before["classic_load_balancers"]) {
            if list(was).any(|member| victim.knows(member)) {
                let left = list(&after["classic_load_balancers"][name]).filter(|member| victim.knows(member));
                self.same(topic, &format!("out of the load balancer {name}"), &json!(0), &json!(left.count()));
            }
        }
    }

    /// What no containment has to touch is as it was, byte for byte.
    fn check_untouched(&mut self, victim: &Victim<'_>, before: &Value, after: &Value) {
        let new = launched(before, after);
        let found = differences(&neutral(victim, before, before, &new), &neutral(victim, before, after, &new));
        let shown: Vec<String> = found.iter().map(|difference| difference.show(&self.names)).collect();
        self.same(Topic::Untouched, "nothing else has changed in the account", &json!([]), &json!(shown));
        let kept = |state: &Value, name: &str| state["instances"][victim.id][name].clone();
        for (what, name) in [("it still runs", "state"), ("its role is as it was", "profile_association")] {
            self.same(Topic::Untouched, what, &kept(before, name), &kept(after, name));
        }
    }

    /// The snapshots, the records of both runs, and the custody record that the schedule adds.
    pub async fn check_evidence(&mut self, before: &Value, after: &Value) -> Result<()> {
        let (id, names) = (self.drill.victim.clone(), self.names.clone());
        let victim = Victim::of(before, &id, &names);
        let case = self.run_of(SNAPSHOT)?;
        let mut snapshots = Vec::new();
        for volume in &victim.volumes {
            let of_volume = entries(&after["snapshots"]).filter(|(_, snapshot)| snapshot["volume"] == *volume);
            let found: Vec<Value> = of_volume
                .map(|(id, snapshot)| {
                    snapshots.push(id.to_owned());
                    json!([snapshot["tags"]["firebreak:case"], snapshot["lock"]["state"]])
                })
                .collect();
            let what = format!("{} has one snapshot, of this case and locked", self.names.of(volume));
            self.same(Topic::Evidence, &what, &json!([[case, "governance"]]), &json!(found));
        }
        self.say("time passes; the schedule comes");
        self.lab.let_time_pass().await?;
        self.lab.schedule(&mut self.function).await?;
        for playbook in [ISOLATE, SNAPSHOT] {
            let records = self.check_records(playbook).await?;
            if playbook == SNAPSHOT {
                let text = record_of(&records, "custody").unwrap_or_default();
                let named = snapshots.iter().filter(|snapshot| text.contains(snapshot.as_str())).count();
                let what = "a custody record names every snapshot";
                self.same(Topic::Evidence, what, &json!(victim.volumes.len()), &json!(named));
            }
        }
        Ok(())
    }

    /// The state after an undo is the one before, save what the actions declare. Nothing else may differ.
    pub fn check_undone(&mut self, before: &Value, undone: &Value) {
        let (id, names) = (self.drill.victim.clone(), self.names.clone());
        let victim = Victim::of(before, &id, &names);
        let undo = AfterUndo::of(before, undone, &id, []);
        let mut undeclared = Vec::new();
        let mut declared: BTreeSet<String> = BTreeSet::new();
        for difference in differences(before, undone) {
            let by = undo.declared_by(&difference);
            let subject = difference.path.get(1).map_or("", |id| names.of(id));
            let step = by.and_then(|action| {
                let declares = |step: &&StepShown| step.action == action && step.caveat.is_some();
                let mut steps = self.drill.steps.iter().filter(declares);
                steps.clone().find(|step| step.what.contains(subject)).or_else(|| steps.next())
            });
            match step {
                Some(step) => {
                    declared.insert(format!("{}: {}", step.what, step.caveat.clone().unwrap_or_default()));
                }
                None => undeclared.push(difference.show(&self.names)),
            }
        }
        self.drill.declared = declared.into_iter().collect();
        let what = "everything is as it was, save what the actions declare";
        self.same(Topic::Undone, what, &json!([]), &json!(undeclared));
        for (id, was) in &victim.interfaces {
            let found = &undone["interfaces"][*id]["groups"];
            self.same(Topic::Undone, &format!("{} is in its groups again", self.names.of(id)), &was["groups"], found);
        }
    }
}

fn timeouts(of: [(&str, i64); 3]) -> Value {
    of.iter().map(|(name, seconds)| ((*name).to_owned(), json!(seconds))).collect::<serde_json::Map<_, _>>().into()
}

/// The document without what a containment may change. `before` decides what is the victim's and what is new.
fn neutral(victim: &Victim<'_>, before: &Value, state: &Value, new: &BTreeSet<&str>) -> Value {
    let mut state = state.clone();
    let of_new = |value: &Value| value.as_str().is_some_and(|id| new.contains(id));
    let instance = &mut state["instances"][victim.id];
    for changed in ["attributes", "delete_on_termination", "security_groups"] {
        instance[changed] = Value::Null;
    }
    remove(&mut instance["tags"], |name, _| name == "aws:autoscaling:groupName");
    remove(&mut state["instances"], |id, _| new.contains(id));
    remove(&mut state["interfaces"], |_, interface| of_new(&interface["instance"]));
    remove(&mut state["volumes"], |_, volume| list(&volume["attached"]).any(|attached| of_new(&attached[0])));
    for (id, _) in &victim.interfaces {
        let interface = &mut state["interfaces"][*id];
        for changed in ["groups", "tracking"] {
            interface[changed] = Value::Null;
        }
        for address in interface["addresses"].as_array_mut().into_iter().flatten() {
            address["public"] = Value::Null;
            address["kind"] = Value::Null;
        }
    }
    for (id, was) in entries(&before["addresses"]) {
        if victim.interfaces.iter().any(|(interface, _)| was["interface"] == *interface) {
            for changed in ["interface", "private", "instance"] {
                state["addresses"][id][changed] = Value::Null;
            }
        }
    }
    remove(&mut state["security_groups"], |id, group| {
        before["security_groups"].get(id).is_none()
            && group["name"].as_str().is_some_and(|name| name.starts_with("firebreak-quarantine"))
    });
    remove(&mut state["snapshots"], |id, snapshot| {
        before["snapshots"].get(id).is_none() && victim.volumes.iter().any(|volume| snapshot["volume"] == *volume)
    });
    for group in state["auto_scaling_groups"].as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
        remove(&mut group["instances"], |id, _| id == victim.id || new.contains(id));
    }
    let passes = |target: &Value| {
        let id = if target.is_array() { &target[0] } else { target };
        !victim.knows(target) && !of_new(id)
    };
    for group in state["target_groups"].as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
        if let Some(targets) = group["targets"].as_array_mut() {
            targets.retain(passes);
        }
    }
    for members in state["classic_load_balancers"].as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
        if let Some(members) = members.as_array_mut() {
            members.retain(passes);
        }
    }
    state
}

fn remove(object: &mut Value, matches: impl Fn(&str, &Value) -> bool) {
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|name, value| !matches(name, value));
    }
}
