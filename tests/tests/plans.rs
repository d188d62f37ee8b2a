//! The reviewed record of what each playbook plans for each starting state of `tests/worlds/`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use firebreak::aws::Connection;
use firebreak::playbook::{PlanContext, Planned};
use firebreak_tests::deployment::{self, FUNCTIONS, ORGANIZATION, REGION};
use firebreak_tests::emulator::{Emulator, fresh_account, kind_of_victim, workspace, world, worlds};
use firebreak_tests::in_process::{event_about, finding_in, target_of};
use serde_json::json;

/// Where a stage begins, and where a step does: for sorting, taken out again.
const STAGE: char = '\u{1}';
const STEP: char = '\u{2}';

/// Ids are the emulator's own at each run, and order what is otherwise equal: with the world's names for
/// them, and sorted by these, the same plan is the same text.
fn stable<'a>(shown: &str, ids: impl Iterator<Item = (&'a str, &'a str)>, account: &str) -> String {
    let mut named: Vec<(&str, String)> = ids.map(|(symbol, id)| (id, format!("<{symbol}>"))).collect();
    named.sort_by_key(|(id, _)| std::cmp::Reverse(id.len()));
    let mut shown = shown.replace(account, "<account>");
    for (id, symbol) in named {
        shown = shown.replace(id, &symbol);
    }
    let stages = shown.split(STAGE).map(|stage| {
        let mut parts = stage.split(STEP);
        let head = parts.next().unwrap_or_default().to_owned();
        let mut steps: Vec<String> = parts.map(sorted_lists).collect();
        steps.sort();
        head + &steps.concat()
    });
    stages.collect()
}

/// A step's lines with its lists in order: what it needs, and names after one another.
fn sorted_lists(step: &str) -> String {
    let mut lines: Vec<String> = step.lines().map(sorted_names).collect();
    let is_need = |line: &String| line.trim_start().starts_with("needs ");
    if let Some(first) = lines.iter().position(is_need) {
        let end = lines.iter().rposition(is_need).unwrap_or(first) + 1;
        lines[first..end].sort();
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// `<b>, <a>` as `<a>, <b>`, and `<b>,<a>` as `<a>,<b>`.
fn sorted_names(line: &str) -> String {
    let word = |word: &str| {
        let mut names: Vec<&str> = word.split(',').collect();
        if names.len() > 1 && names.iter().all(|name| name.starts_with('<')) {
            names.sort_unstable();
        }
        names.join(",")
    };
    let line = line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    let mut out = String::new();
    for (n, part) in line.split(": ").enumerate() {
        if n > 0 {
            out.push_str(": ");
        }
        let sides: Vec<String> = part
            .split(" → ")
            .map(|side| {
                let (lead, names) = side.split_at(side.find('<').unwrap_or(side.len()));
                let mut names: Vec<&str> = names.split(", ").collect();
                if names.iter().all(|name| name.starts_with('<')) {
                    names.sort_unstable();
                }
                format!("{lead}{}", names.join(", "))
            })
            .collect();
        out.push_str(&sides.join(" → "));
    }
    out
}

#[tokio::test]
async fn each_world_has_a_reviewed_plan() {
    let emulator = Emulator::shared().await.unwrap();
    let observer = emulator.observer().await.unwrap();
    for name in worlds().unwrap() {
        let account = fresh_account();
        let world = world(&name).unwrap();
        let ids = observer.seed(&account, REGION, &world).await.unwrap();
        let credentials = observer.credentials(&account).await.unwrap();
        let member = deployment::account(emulator, &account, &credentials, &Connection::default()).unwrap();
        let parameters = json!({"HubAccount": "111111111111", "OrganizationId": ORGANIZATION});
        observer.member(&account, &workspace().join("template-member.yaml"), parameters, &[]).await.unwrap();
        let cx = PlanContext {
            aws: &member,
            groups: &[],
            run: None,
            snapshots: Default::default(),
            hurried: false,
            snapshot_lock_days: 30,
            recheck: false,
        };
        let mut shown = String::new();
        let mut hashes = BTreeMap::new();
        for playbook in FUNCTIONS.iter().flat_map(|function| function.playbooks) {
            if !playbook.meta().kinds.contains(&kind_of_victim(&world).unwrap()) {
                continue;
            }
            let id = playbook.meta().id;
            let victim = ids.get("victim").unwrap();
            let event = event_about(*playbook, "111111111111", &account, &ids, victim).unwrap();
            let finding = finding_in(&event).unwrap();
            let target = target_of(*playbook, &finding, victim).unwrap();
            writeln!(shown, "{id}").unwrap();
            match playbook.plan(&cx, &target, &finding).await.unwrap() {
                Planned::Gone(why) => writeln!(shown, "  gone: {why}").unwrap(),
                Planned::Refused(why) => writeln!(shown, "  refused: {why}").unwrap(),
                Planned::Plan(plan) => {
                    hashes.insert(id, plan.hash());
                    for stage in &plan.stages {
                        writeln!(shown, "{STAGE}  [{}]", stage.name).unwrap();
                        for step in &stage.steps {
                            let change = &step.change;
                            writeln!(shown, "{STEP}    {}: {} → {}", change.what, change.from, change.to).unwrap();
                            write!(shown, "      {}", step.action).unwrap();
                            if step.cuts {
                                shown.push_str(", cuts");
                            }
                            if let Some(leave) = step.leave {
                                write!(shown, ", with leave {}", leave.as_str()).unwrap();
                            }
                            shown.push('\n');
                            for need in &step.needs {
                                writeln!(shown, "      needs {need}").unwrap();
                            }
                            if let Some(caveat) = &step.caveat {
                                writeln!(shown, "      undo: {caveat}").unwrap();
                            }
                        }
                    }
                    shown.push(STAGE);
                    for remains in &plan.remains {
                        writeln!(shown, "  remains: {remains}").unwrap();
                    }
                    for note in &plan.ask_first {
                        writeln!(shown, "  ask first: {note}").unwrap();
                    }
                    for note in &plan.notes {
                        writeln!(shown, "  note: {note}").unwrap();
                    }
                    // The same world gives the same plan.
                    let again = playbook.plan(&cx, &target, &finding).await.unwrap();
                    let Planned::Plan(again) = again else { panic!("{name}: the second plan is none") };
                    assert_eq!(again.hash(), hashes[id], "{name}: {id} does not plan the same twice");
                }
            }
        }
        let shown = stable(&shown, ids.iter(), &account);
        let mut settings = insta::Settings::clone_current();
        settings.add_filter(r"targetgroup/([A-Za-z0-9-]+)/[0-9a-f]+", "targetgroup/$1/<id>");
        // Worlds say how many days ago.
        settings.add_filter(r"\b20\d\d-\d\d-\d\d\b", "<date>");
        settings.add_filter(r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b", "<ip>");
        settings.bind(|| insta::assert_snapshot!(format!("plan_of_{name}"), shown));
    }
}
