//! What has to be so after a flood, read from AWS and from the ledger's rows by the independent client.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde_json::Value;

use super::crew::{Outcome, UNFINISHED};
use super::deliveries::{Delivery, ids_about, texts};
use super::{Account, Size};
use crate::compare::{entries, list};
use crate::deployment::REGION;
use crate::lab::{Lab, Row};

/// Something that has to be so.
#[derive(Debug, Clone)]
pub struct Fact {
    /// What.
    pub what: String,
    /// Whether it is.
    pub ok: bool,
    /// What was found, where it is not.
    pub found: String,
}

/// How groups of ours are called.
const QUARANTINE: &str = "firebreak-quarantine-";

/// The runs that answer one of the findings here, by the words of their holds, and how each has ended when it is done.
const RUNS: [(&str, &str); 2] = [("isolate-instance", "contained"), ("snapshot-volumes", "preserved")];

/// A fact about many things: those of which it is not so.
fn of_all(what: impl Into<String>, all: usize, mut not: Vec<String>) -> Fact {
    let ok = not.is_empty() && all > 0;
    let some = not.len().min(5);
    let found = format!("{} of {all} not: {}", not.len(), not.drain(..some).collect::<Vec<_>>().join("; "));
    Fact { what: format!("{} ({all})", what.into()), ok, found }
}

pub(super) async fn facts(
    lab: &Lab<'_>,
    accounts: &[Account],
    plan: &[Delivery],
    outcome: &Outcome,
    size: Size,
) -> Result<Vec<Fact>> {
    let mut facts = vec![
        of_all("every delivery was answered", plan.len(), outcome.lost.clone()),
        of_all("every answer is one of these: contained, preserved, no_change", plan.len(), other_answers(outcome)),
    ];
    let (mut open, mut evidence, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    let mut volumes = 0;
    for account in accounts {
        let state = lab.observer.state(&account.id, REGION).await?;
        for n in 0..account.targets {
            open.extend(still_open(account, n, &state)?);
            let (seen, not) = without_one_set(account, n, &state)?;
            volumes += seen;
            evidence.extend(not);
        }
        let ours = entries(&state["security_groups"])
            .filter(|(_, group)| group["name"].as_str().is_some_and(|name| name.starts_with(QUARANTINE)));
        // Runs that plan at the same moment each make one, which the ledger then knows: as many as processes.
        let most = if account.prepared { 1 } else { size.processes };
        let ours = ours.count();
        if ours == 0 || ours > most {
            groups.push(format!("{ours} in {}", account.id));
        }
    }
    facts.push(of_all("every instance is cut off, and has no public address", size.targets, open));
    facts.push(of_all("every volume has one snapshot, which is locked", volumes, evidence));
    let what = "a VPC has one quarantine group where one was there before, else no more than there are processes";
    facts.push(of_all(what, accounts.len(), groups));
    facts.extend(in_the_ledger(&lab.rows().await?, accounts, plan)?);
    Ok(facts)
}

fn other_answers(outcome: &Outcome) -> Vec<String> {
    let fine = |outcome: &str| matches!(outcome, "contained" | "preserved" | "no_change");
    let others = outcome.answers.iter().filter(|((_, said), _)| said.is_empty() || !said.split(" + ").all(fine));
    others.map(|((kind, said), times)| format!("{times} × {kind}: {said}")).collect()
}

/// What of an instance is not cut off.
fn still_open(account: &Account, n: usize, state: &Value) -> Result<Vec<String>> {
    let instance = account.ids.get(&format!("i{n}"))?;
    let own: Vec<_> = entries(&state["interfaces"]).filter(|(_, one)| one["instance"] == instance).collect();
    let mut open = Vec::new();
    if own.is_empty() {
        open.push(format!("{instance} has no interface"));
    }
    for (id, interface) in own {
        let groups = texts(&interface["groups"]);
        let cut = match groups.as_slice() {
            [group] => {
                let group = &state["security_groups"][*group];
                let named = group["name"].as_str().is_some_and(|name| name.starts_with(QUARANTINE));
                named && list(&group["rules"]).count() == 0
            }
            _ => false,
        };
        if !cut {
            open.push(format!("{id} of {instance} has {groups:?}"));
        }
        if list(&interface["addresses"]).any(|address| !address["public"].is_null()) {
            open.push(format!("{id} of {instance} has a public address"));
        }
    }
    Ok(open)
}

/// How many volumes an instance has, and which of them have not one locked snapshot.
fn without_one_set(account: &Account, n: usize, state: &Value) -> Result<(usize, Vec<String>)> {
    let instance = account.ids.get(&format!("i{n}"))?;
    let of_it = |volume: &Value| volume["attached"].to_string().contains(instance);
    let (mut seen, mut not) = (0, Vec::new());
    for (id, _) in entries(&state["volumes"]).filter(|(_, volume)| of_it(volume)) {
        seen += 1;
        let made: Vec<&Value> =
            entries(&state["snapshots"]).map(|(_, one)| one).filter(|one| one["volume"] == id).collect();
        let locked = made.iter().filter(|one| one["lock"]["state"] == "governance").count();
        if (made.len(), locked) != (1, 1) {
            not.push(format!("{id}: {} snapshots, {locked} locked", made.len()));
        }
    }
    Ok((seen, not))
}

/// What the ledger's rows say.
fn in_the_ledger(rows: &[Row], accounts: &[Account], plan: &[Delivery]) -> Result<Vec<Fact>> {
    // By playbook, account and instance.
    let mut runs: BTreeMap<(String, String, String), Vec<&Row>> = BTreeMap::new();
    let mut joined: BTreeMap<(String, String), BTreeSet<&str>> = BTreeMap::new();
    for row in rows {
        if row.text("sk") == "RUN" {
            let head = row.json("head");
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let target = (text(&head["playbook"]), text(&head["target"]["account"]), text(&head["target"]["id"]));
            runs.entry(target).or_default().push(row);
        }
        if let (Some(hold), Some(finding)) =
            (row.text("pk").strip_prefix("HOLD#"), row.text("sk").strip_prefix("JOINED#"))
            && let Some((word, target)) = hold.split_once('#')
        {
            let instance = target.rsplit('/').next().unwrap_or_default();
            joined.entry((word.to_owned(), instance.to_owned())).or_default().insert(finding);
        }
    }
    let (mut not_one, mut not_held, mut lost, mut all, mut findings) = (Vec::new(), Vec::new(), Vec::new(), 0, 0);
    for account in accounts {
        for n in 0..account.targets {
            let instance = account.ids.get(&format!("i{n}"))?;
            for (playbook, wanted) in RUNS {
                all += 1;
                let of_it = runs.get(&(playbook.to_owned(), account.id.clone(), instance.to_owned()));
                let of_it = of_it.map(Vec::as_slice).unwrap_or_default();
                let [run] = of_it else {
                    not_one.push(format!("{playbook} of {instance}: {} runs", of_it.len()));
                    continue;
                };
                let ended = run.json("end")["outcome"].as_str().unwrap_or_default().to_owned();
                if run.text("state") != "held" || ended != wanted {
                    not_held.push(format!("{playbook} of {instance}: {}, {ended}", run.text("state")));
                }
                let its = run.json("head")["finding"]["id"].as_str().unwrap_or_default().to_owned();
                let joined = joined.get(&(playbook.to_owned(), instance.to_owned()));
                for id in ids_about(plan, &account.id, instance) {
                    findings += 1;
                    if id != its && !joined.is_some_and(|joined| joined.contains(id)) {
                        lost.push(format!("{id} about {instance} with {playbook}"));
                    }
                }
            }
        }
    }
    let due = rows.iter().filter(|row| row.text("pk").starts_with("DUE#"));
    let unfinished = due.filter(|row| UNFINISHED.contains(&row.text("what")));
    Ok(vec![
        of_all("an instance has one run of each playbook", all, not_one),
        of_all("every run holds its target, and is done", all, not_held),
        of_all("every finding is its target's run's, or joined it", findings, lost),
        of_all("no work of a run is left", rows.len(), unfinished.map(|row| row.text("sk").to_owned()).collect()),
    ])
}
