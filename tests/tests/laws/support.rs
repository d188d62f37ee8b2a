//! What the laws share: cases side by side, and what is true of an account whatever Firebreak says.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use firebreak::plan::{Leave, Step, StepId, Undo};
use firebreak::playbook::{Playbook, Purpose};
use firebreak::run::{Outcome, Run, StepResult};
use firebreak_tests::compare::{Difference, differences};
use firebreak_tests::in_process::{Case, Kind, Traced};
use futures_util::StreamExt;
use jiff::Timestamp;
use serde_json::Value;

/// How many cases run side by side in one test. The emulator is one process: more would only wait.
pub const SIDE_BY_SIDE: usize = 6;

/// A case with a name.
pub struct Named<'a> {
    name: String,
    case: firebreak::action::Boxed<'a, Result<()>>,
}

/// Gives a case a name.
pub fn named<'a>(name: impl Into<String>, case: impl Future<Output = Result<()>> + Send + 'a) -> Named<'a> {
    Named { name: name.into(), case: Box::pin(case) }
}

/// Runs cases side by side, prints how many, and fails with every failure there is.
pub async fn all(law: &str, cases: Vec<Named<'_>>) {
    let begun = std::time::Instant::now();
    let count = cases.len();
    assert!(count > 0, "{law}: there is no case");
    let results = futures_util::stream::iter(cases)
        .map(|named| async move { named.case.await.map_err(|error| format!("{}: {error:#}", named.name)) })
        .buffer_unordered(SIDE_BY_SIDE)
        .collect::<Vec<_>>()
        .await;
    println!("{law}: {count} cases in {:.1} s", begun.elapsed().as_secs_f64());
    let mut failed: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    failed.sort();
    assert!(failed.is_empty(), "{law}: {} of {count} fail\n\n{}\n", failed.len(), failed.join("\n\n"));
}

/// The playbooks of a function that cut something off.
pub fn contains(playbook: &dyn Playbook) -> bool {
    playbook.meta().purpose == Purpose::Contain
}

/// The outcome that says that everything was done.
pub fn done(playbook: &dyn Playbook) -> Outcome {
    if contains(playbook) { Outcome::Contained } else { Outcome::Preserved }
}

/// A step of the instant in which tracked flows are forgotten: what it does, a later step takes back by itself.
pub fn is_instant(step: &Step) -> bool {
    step.leave == Some(Leave::CutTrackedFlows)
}

/// What of the victim is not cut off, by the independent client's state: interfaces, keys, the user, the session. Each
/// by the last word of the steps that cut it.
pub fn open_ways(case: &Case, state: &Value) -> Result<BTreeSet<String>> {
    match case.playbook.kind()? {
        Kind::Instance => open_interfaces(case, state),
        Kind::User => open_credentials(case, state),
        Kind::Role => open_sessions(case, state),
    }
}

fn victim_of<'s>(case: &Case, state: &'s Value, kind: &str, id: &str) -> Result<(&'s String, &'s Value)> {
    let all = state[kind].as_object().with_context(|| format!("the state has no {kind}"))?;
    all.iter().find(|(_, one)| one["id"] == id).with_context(|| format!("{id} is not there in {}", case.member))
}

fn open_credentials(case: &Case, state: &Value) -> Result<BTreeSet<String>> {
    let id = case.ids.get("victim")?;
    let (_, user) = victim_of(case, state, "users", id)?;
    let keys = user["keys"].as_object().context("a user has no keys")?;
    let mut open: BTreeSet<String> =
        keys.iter().filter(|(_, status)| *status == "Active").map(|(key, _)| key.clone()).collect();
    let policy = format!("arn:aws:iam::{}:policy/firebreak/deny-all", case.member);
    if !user["attached"].as_array().is_some_and(|attached| attached.contains(&Value::String(policy))) {
        open.insert(id.to_owned());
    }
    Ok(open)
}

/// Sessions for which no policy on the role denies everything that was issued until some minutes ago.
fn open_sessions(case: &Case, state: &Value) -> Result<BTreeSet<String>> {
    let (_, role) = victim_of(case, state, "roles", case.ids.get("victim.role")?)?;
    let victim = case.ids.get("victim")?;
    let denies = |policy: &Value| {
        let [statement] = policy["Statement"].as_array().map(Vec::as_slice).unwrap_or_default() else { return false };
        let condition = &statement["Condition"];
        let until =
            condition["DateLessThan"]["aws:TokenIssueTime"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
        let recent = Timestamp::now() - Duration::from_secs(600);
        let whose = condition["StringEquals"]["aws:userid"].as_str();
        let everything = statement["Effect"] == "Deny" && statement["Action"] == "*" && statement["Resource"] == "*";
        everything && until.is_some_and(|until| until > recent) && whose == victim.contains(':').then_some(victim)
    };
    let inline = role["inline"].as_object().context("a role has no inline policies")?;
    let open = !inline.values().any(denies);
    let last = victim.split(':').next_back().unwrap_or(victim);
    Ok(open.then(|| last.to_owned()).into_iter().collect())
}

/// Interfaces of the victim that are not cut off, by the independent client's state.
pub fn open_interfaces(case: &Case, state: &Value) -> Result<BTreeSet<String>> {
    let victim = case.ids.get("victim")?;
    let mut open = BTreeSet::new();
    let interfaces = state["interfaces"].as_object().context("the state has no interfaces")?;
    let mut seen = 0;
    for (id, interface) in interfaces.iter().filter(|(_, interface)| interface["instance"] == victim) {
        seen += 1;
        let groups = interface["groups"].as_array().context("an interface has no groups")?;
        let [group] = groups.as_slice() else {
            open.insert(id.clone());
            continue;
        };
        let group = &state["security_groups"][group.as_str().unwrap_or_default()];
        let ours = group["name"].as_str().is_some_and(|name| name.starts_with("firebreak-quarantine-"));
        let owned = group["owner"] == case.member.as_str();
        let empty = group["rules"].as_array().is_some_and(Vec::is_empty);
        if !(ours && owned && empty) {
            open.insert(id.clone());
        }
    }
    ensure!(seen > 0, "the victim has no interface");
    Ok(open)
}

/// Whether what the playbook is for is so, by the independent client alone.
pub async fn is_so(case: &Case) -> Result<()> {
    let state = case.state().await?;
    if contains(case.playbook) {
        let open = open_ways(case, &state)?;
        ensure!(open.is_empty(), "not cut off: {open:?}");
        if case.playbook.kind()? == Kind::User {
            let (name, user) = victim_of(case, &state, "users", case.ids.get("victim")?)?;
            for credentials in ["service_credentials", "ssh_keys", "certificates"] {
                let active = user[credentials].as_object().context("no credentials")?.values().any(|s| s == "Active");
                ensure!(!active, "{name} has active {credentials}: {}", user[credentials]);
            }
        }
        if case.playbook.kind()? != Kind::Instance {
            return Ok(());
        }
        let victim = case.ids.get("victim")?;
        for (id, interface) in state["interfaces"].as_object().context("no interfaces")? {
            let public = interface["addresses"].as_array().into_iter().flatten().any(|a| !a["public"].is_null());
            ensure!(interface["instance"] != victim || !public, "{id} has a public address");
        }
        for group in state["target_groups"].as_object().context("no target groups")?.values() {
            let targets = group["targets"].to_string();
            ensure!(!targets.contains(victim), "still a target: {targets}");
        }
    } else {
        let victim = case.ids.get("victim")?;
        for (id, volume) in state["volumes"].as_object().context("no volumes")? {
            if !volume["attached"].to_string().contains(victim) {
                continue;
            }
            let of = |s: &&Value| s["volume"] == id.as_str();
            let snapshots: Vec<&Value> =
                state["snapshots"].as_object().context("no snapshots")?.values().filter(of).collect();
            ensure!(snapshots.len() == 1, "{id} has {} snapshots", snapshots.len());
            ensure!(snapshots.iter().all(|s| s["lock"]["state"] == "governance"), "a snapshot of {id} is not locked");
        }
    }
    Ok(())
}

/// What undo may leave different, for each action that declares that something will be. Reviewed: a line here is
/// the checkable form of the words in the action's `UNDO`.
const DECLARED: &[(&str, fn(&Difference) -> bool)] = &[
    ("autoscaling.detach-instance", |d| {
        // The group launches a replacement, which brings an interface, a volume and targets of its own.
        let new = d.before.is_null();
        match at(d, 0) {
            "auto_scaling_groups" => true,
            // AWS's own tag says which group it is in.
            "instances" if at(d, 2) == "tags" => at(d, 3) == "aws:autoscaling:groupName",
            "instances" | "interfaces" | "volumes" | "instance_profiles" => new && d.path.len() == 2,
            "target_groups" => only_adds(d),
            "classic_load_balancers" => only_adds(d),
            _ => false,
        }
    }),
    // A key stays inactive, and nothing else of its user differs.
    ("iam.deactivate-access-key", |d| {
        at(d, 0) == "users" && at(d, 2) == "keys" && d.before == "Active" && d.after == "Inactive"
    }),
    ("ec2.close-interface", |_| false),
    ("ec2.create-group", |d| at(d, 0) == "security_groups" && is_new_group_of_ours(d)),
    ("ec2.create-snapshots", |d| at(d, 0) == "snapshots" && d.before.is_null() && d.path.len() == 2),
    ("ec2.empty-group", |_| false),
    ("ec2.lock-snapshot", |_| false),
    ("ec2.open-group", |_| false),
    ("ec2.open-interface", |_| false),
    ("ec2.remove-public-address", |d| {
        // Another address, of the same kind, at the same place.
        let without = |value: &Value| {
            let list = value.as_array().cloned().unwrap_or_default();
            let strip = |mut a: Value| {
                a["public"] = Value::Bool(a["public"].is_null());
                a
            };
            list.into_iter().map(strip).collect::<Vec<_>>()
        };
        at(d, 0) == "interfaces" && at(d, 2) == "addresses" && without(&d.before) == without(&d.after)
    }),
    ("ec2.replace-instance-profile", |d| {
        at(d, 0) == "instance_profiles"
            || (at(d, 0) == "instances" && matches!(at(d, 2), "profile" | "profile_association"))
    }),
    ("ec2.tighten-connection-tracking", |d| {
        let defaults = [("TcpEstablishedTimeout", 432_000), ("UdpStreamTimeout", 180), ("UdpTimeout", 30)];
        let is_default = |key: &str, value: &Value| defaults.iter().any(|(k, n)| *k == key && *value == *n);
        at(d, 0) == "interfaces"
            && at(d, 2) == "tracking"
            && d.before.is_null()
            && match &d.after {
                Value::Object(all) => all.iter().all(|(key, value)| is_default(key, value)),
                one => is_default(at(d, 3), one),
            }
    }),
];

fn at(d: &Difference, n: usize) -> &str {
    d.path.get(n).map_or("", String::as_str)
}

fn only_adds(d: &Difference) -> bool {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let after = list(&d.after);
    list(&d.before).iter().all(|item| after.contains(item))
}

fn is_new_group_of_ours(d: &Difference) -> bool {
    let name = d.after["name"].as_str().unwrap_or_default();
    d.before.is_null() && name.starts_with("firebreak-") && d.after["rules"].as_array().is_some_and(Vec::is_empty)
}

/// Differences after an undo that no action in `steps` declares.
pub fn undeclared<'a>(before: &Value, after: &Value, actions: &BTreeSet<&'a str>) -> Vec<Difference> {
    let allowed: Vec<_> = DECLARED.iter().filter(|(name, _)| actions.contains(name)).collect();
    let mut found = differences(before, after);
    found.retain(|d| !allowed.iter().any(|(_, allows)| allows(d)));
    found
}

/// The table of declared differences and the actions' own words agree on which actions have any.
pub fn check_declared(playbook: &'static Traced) -> Result<()> {
    for action in playbook.actions() {
        let listed = DECLARED.iter().any(|(name, _)| *name == action.name());
        let exact = action.undo_kind() == Undo::Exact;
        ensure!(
            listed != exact,
            "{}: {}",
            action.name(),
            if exact {
                "is undone exactly, but the table lets it differ"
            } else {
                "add its line to the table DECLARED"
            }
        );
    }
    Ok(())
}

/// Every difference that a run has left after its undo is declared by one of its actions.
pub async fn is_restored(case: &Case, before: &Value, run: &Run) -> Result<()> {
    let after = case.state().await?;
    let actions = run.all_steps().map(|step| step.action.as_str()).collect();
    let differs = undeclared(before, &after, &actions);
    if differs.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> =
        differs.iter().map(|d| format!("  {}: {} → {}", d.path.join("/"), d.before, d.after)).collect();
    bail!("after the undo these differ and no action says so:\n{}", lines.join("\n"))
}

/// The steps that need `failed`, directly or through others.
pub fn dependents(run: &Run, failed: &StepId) -> BTreeSet<StepId> {
    let mut found = BTreeSet::from([failed.clone()]);
    loop {
        let more: Vec<StepId> = run
            .all_steps()
            .filter(|step| !found.contains(&step.id) && step.needs.iter().any(|need| found.contains(need)))
            .map(|step| step.id.clone())
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// A run's results that are not good, for a message.
pub fn results(run: &Run) -> String {
    let one = |step: &Step| {
        let result = run.result(&step.id);
        let why = match result {
            Some(StepResult::Failed { why, .. } | StepResult::Left { why }) => format!(": {why}"),
            Some(StepResult::Skipped { needs }) => format!(": needs {needs}"),
            _ => String::new(),
        };
        format!("    {} {}{why}", step.id, result.map_or("not tried", StepResult::name))
    };
    let end = run.end.as_ref().map(|end| format!("{} {:?}", end.outcome, end.not_done));
    let bad = run.all_steps().filter(|step| !run.result(&step.id).is_some_and(StepResult::is_good));
    format!("{:?} {end:?}\n{}", run.state, bad.map(one).collect::<Vec<_>>().join("\n"))
}
