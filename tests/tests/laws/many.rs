//! An instance that has much of everything: no step's session policy is longer than STS takes.

use anyhow::{Result, ensure};
use firebreak::ledger::decisions::Verb;
use firebreak::session::MOST_POLICY_CHARACTERS;
use firebreak::target::TargetKind;
use firebreak_tests::in_process::{Case, Permits, Security, Settings, Traced, kind_of_target, playbooks, run_to_end};
use serde_json::{Map, Value, json};

use crate::support::{all, done, is_restored, is_so, named, results};

const VOLUMES: usize = 40;
const INTERFACES: usize = 8;
/// As many as a raised quota allows on one interface.
const GROUPS: usize = 16;
const TARGET_GROUPS: usize = 12;

/// A world whose victim has as much as an instance can have.
fn crowded() -> Value {
    let range = |count: usize, name: &str| -> Vec<String> { (0..count).map(|n| format!("{name}_{n}")).collect() };
    let of = |names: &[String], one: Value| -> Map<String, Value> {
        names.iter().map(|name| (name.clone(), one.clone())).collect()
    };
    let mut groups = of(&range(GROUPS, "sg"), json!({"vpc": "vpc"}));
    for (name, group) in &mut groups {
        group["name"] = json!(name);
    }
    let interface = |name: String| json!({"name": name, "subnet": "subnet", "groups": range(GROUPS, "sg")});
    let mut volumes = vec![json!({
        "name": "vol_root", "device": "/dev/sda1", "size": 8, "delete_on_termination": true,
    })];
    volumes.extend((1..VOLUMES).map(|n| {
        // /dev/xvdba, /dev/xvdbb … /dev/xvdcz: AWS's recommended names.
        let letter = |n: usize| char::from(b'a' + u8::try_from(n).unwrap());
        let device = format!("/dev/xvd{}{}", letter(1 + n / 26), letter(n % 26));
        json!({"name": format!("vol_{n}"), "device": device, "size": 8, "delete_on_termination": true})
    }));
    let target_groups = range(TARGET_GROUPS, "tg");
    let interfaces: Vec<Value> = range(INTERFACES, "eni").into_iter().map(interface).collect();
    json!({
        "about": "Much of everything.",
        "vpcs": {"vpc": {"cidr": "10.20.0.0/16"}},
        "subnets": {"subnet": {"vpc": "vpc", "cidr": "10.20.1.0/24", "zone": "a"}},
        "groups": groups,
        "target_groups": of(&target_groups, json!({"vpc": "vpc", "port": 8080})),
        "instances": {"victim": {"type": "m5.24xlarge", "interfaces": interfaces, "volumes": volumes}},
        "targets": of(&target_groups, json!([{"instance": "victim", "port": 8080}])),
    })
}

async fn is_answered_like_any_other(case: &Case) -> Result<()> {
    let before = case.state().await?;
    let answer = case.deliver().await.answer()?;
    let run = case.the_run().await?;
    let done = answer.outcomes.iter().all(|answered| answered.outcome == done(case.playbook));
    ensure!(done, "{:?}\n{}", answer.outcomes, results(&run));
    is_so(case).await?;
    case.settle().await?;
    case.decide(Verb::Undo).await?.answer()?;
    is_restored(case, &before, &case.the_run().await?).await?;
    for policy in case.faults.sessions().values() {
        ensure!(policy.len() <= MOST_POLICY_CHARACTERS, "{} characters: {policy}", policy.len());
    }
    Ok(())
}

#[test]
fn an_instance_with_much_of_everything_is_answered_like_any_other() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Everything).await.unwrap();
        let world = crowded();
        let mut cases = Vec::new();
        let is_its = |playbook: &Traced| kind_of_target(playbook).unwrap() == TargetKind::Ec2Instance;
        for (_, playbook) in playbooks().iter().filter(|(_, playbook)| is_its(playbook)) {
            let (security, world) = (&security, &world);
            cases.push(named(playbook.id(), async move {
                let case = Case::of(security, playbook, world, Settings::default()).await?;
                is_answered_like_any_other(&case).await
            }));
        }
        all("much of everything", cases).await;
    });
}
