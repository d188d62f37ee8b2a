//! What a finding costs before any call: read, matched with the playbooks, and put to the policies.
//!
//! `cargo bench`. The SDKs are not optimised in that profile (they would take as long as to build what ships) and nothing here goes
//! through them; all else is as it ships, but for the optimisation across crates. Compare such numbers with each other.

#![allow(missing_docs, unreachable_pub, reason = "what Criterion's macros make")]
#![allow(clippy::panic, reason = "what is measured has to be there")]

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use firebreak::finding::{Finding, Trigger};
use firebreak::guard::{PlanFacts, Policies, Question, rule};
use firebreak::hub::Playbooks;
use firebreak::screen::screen;
use firebreak::target::Target;
use jiff::Timestamp;

const HUB: &str = "111111111111";

fn file(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn finding(name: &str) -> Finding {
    let Ok(Trigger::Findings(reported)) = Trigger::parse(&file(name)) else { panic!("{name} is no event of findings") };
    let first = reported.findings.into_iter().next();
    first.and_then(Result::ok).unwrap_or_else(|| panic!("{name} holds no finding"))
}

fn answers(playbooks: Playbooks, finding: &Finding) -> Vec<Target> {
    playbooks.iter().flat_map(|playbook| playbook.targets(finding)).collect()
}

fn read(criterion: &mut Criterion) {
    for (name, event) in [
        ("a finding", "events/guardduty/command-and-control.json"),
        ("an attack sequence", "events/guardduty/attack-sequence-ec2.json"),
        ("a control", "events/securityhub/control-open-port.json"),
        ("what is no JSON", "events/malformed/not-json.json"),
    ] {
        let bytes = file(event);
        criterion.bench_function(&format!("read/{name}"), |bencher| bencher.iter(|| Trigger::parse(black_box(&bytes))));
    }
}

fn matched(criterion: &mut Criterion) {
    let hub = HUB.parse().ok();
    for (name, event, playbooks) in [
        ("answered", "events/guardduty/command-and-control.json", contain_compute::PLAYBOOKS),
        ("not answered", "events/guardduty/port-probe.json", contain_compute::PLAYBOOKS),
        ("a key", "events/guardduty/iam-user.json", contain_identity::PLAYBOOKS),
    ] {
        let finding = finding(event);
        assert_eq!(answers(playbooks, &finding).is_empty(), name == "not answered", "{event}");
        criterion.bench_function(&format!("match/{name}"), |bencher| {
            bencher.iter(|| (screen(black_box(&finding), None, hub.as_ref()), answers(playbooks, &finding)));
        });
    }
}

fn guarded(criterion: &mut Criterion) {
    let text = String::from_utf8(file("policies/starter.cedar")).unwrap_or_else(|error| panic!("{error}"));
    criterion
        .bench_function("guard/load the starter set", |bencher| bencher.iter(|| Policies::parse(black_box(&text))));
    let policies = Policies::parse(&text).unwrap_or_else(|error| panic!("{error}"));
    let finding = finding("events/guardduty/command-and-control.json");
    let targets = answers(contain_compute::PLAYBOOKS, &finding);
    let target = targets.first().unwrap_or_else(|| panic!("nothing is answered"));
    let now: Timestamp = finding.last_seen.unwrap_or_else(Timestamp::now);
    for (name, tags) in [
        ("a decision", BTreeMap::new()),
        ("a decision about what is tagged", BTreeMap::from([("service".to_owned(), "shop".to_owned())])),
    ] {
        criterion.bench_function(&format!("guard/{name}"), |bencher| {
            bencher.iter(|| {
                let question = Question {
                    playbook: "isolate-instance",
                    target,
                    tags: &tags,
                    units: Err("nobody asked AWS"),
                    finding: black_box(&finding),
                    plan: PlanFacts::default(),
                    spent_account: 0,
                    spent_total: 0,
                    now,
                    hub_account: HUB,
                    break_glass: &[],
                };
                rule(&policies, &question)
            });
        });
    }
}

criterion_group!(benches, read, matched, guarded);
criterion_main!(benches);
