//! Lessons from other tools (`docs/lessons.md` names them): those that concern instances and have no law of their own.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use firebreak::ledger::Budget;
use firebreak::ledger::decisions::Verb;
use firebreak::run::Outcome;
use firebreak_tests::emulator::workspace;
use firebreak_tests::faults::{Fault, Place};
use firebreak_tests::in_process::{Case, FUNCTIONS, Permits, REGION, Security, Settings, run_to_end};
use serde_json::{Value, json};

use crate::facts::open;
use crate::support::{all, is_restored, is_so, isolating, named};

/// A world whose victim has this many interfaces, each with this many groups.
fn grid(interfaces: usize, groups: usize) -> Value {
    let names: Vec<String> = (0..groups).map(|n| format!("sg_{n}")).collect();
    let all_groups: serde_json::Map<String, Value> = names
        .iter()
        .map(|name| (name.clone(), json!({"vpc": "vpc", "name": name, "ingress": [{"ipv4": ["0.0.0.0/0"]}]})))
        .collect();
    let interfaces: Vec<Value> = (0..interfaces)
        .map(|n| json!({"name": format!("eni_{n}"), "subnet": "subnet", "groups": names, "ipv6": n % 2}))
        .collect();
    let root = json!({"name": "vol_root", "device": "/dev/sda1", "size": 8});
    json!({
        "about": "A grid of interfaces and groups.",
        "vpcs": {"vpc": {"cidr": "10.20.0.0/16", "ipv6": true}},
        "subnets": {"subnet": {"vpc": "vpc", "cidr": "10.20.1.0/24", "zone": "a"}},
        "groups": all_groups,
        "instances": {"victim": {"type": "m5.large", "interfaces": interfaces, "volumes": [root]}},
    })
}

#[test]
fn l02_every_interface_ends_with_exactly_the_quarantine_group() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let mut cases = Vec::new();
        for (interfaces, groups) in (1..=4).flat_map(|i| (1..=5).map(move |g| (i, g))) {
            let security = &security;
            cases.push(named(format!("{interfaces} interfaces × {groups} groups"), async move {
                let case = Case::of(security, isolating(), &grid(interfaces, groups), Settings::default()).await?;
                let answer = case.deliver().await.answer()?;
                ensure!(answer.outcomes.iter().all(|o| o.outcome == Outcome::Contained), "{:?}", answer.outcomes);
                is_so(&case).await
            }));
        }
        all("L2: interfaces × groups", cases).await;
    });
}

#[test]
fn l04_a_spent_budget_asks_a_person() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = Case::new(&security, isolating(), "web-server").await.unwrap();
        let (hub, faults) =
            case.process_with(|config| config.budget = Budget { account_per_hour: 1, total_per_hour: 9 }).unwrap();
        let deadline = || std::time::Instant::now() + case.settings.time;
        let first = hub.receive(case.event.to_string().as_bytes(), deadline()).await.unwrap();
        assert_eq!(first.outcomes[0].outcome, Outcome::Contained);
        let other = case.report(case.ids.get("neighbour").unwrap()).await.unwrap();
        let before = (case.state().await.unwrap(), faults.requests().len());
        let second = hub.receive(other.to_string().as_bytes(), deadline()).await.unwrap();
        assert_eq!(second.outcomes[0].outcome, Outcome::Proposed);
        assert!(second.outcomes[0].why.contains("budget"), "{}", second.outcomes[0].why);
        assert_eq!(case.state().await.unwrap(), before.0);
        let changed = faults.requests().into_iter().skip(before.1).any(|r| r.place == Place::Member && !r.reads());
        assert!(!changed);
    });
}

#[test]
fn l15_l17_isolation_needs_no_profile_and_waits_for_no_evidence() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = Case::new(&security, isolating(), "no-profile").await.unwrap();
        // The whole function, with every other playbook's calls never answered.
        let faults = security.faults();
        faults.rule(|request| {
            let evidence = request.operation.contains("Snapshot") || request.operation == "DescribeInstanceTypes";
            evidence.then_some(Fault::Hangs)
        });
        let http = aws_smithy_runtime_api::client::http::SharedHttpClient::new(faults.clone());
        let aws = security
            .aws(
                isolating(),
                http,
                Settings { attempt_timeout: std::time::Duration::from_secs(60), ..Settings::default() },
            )
            .unwrap();
        let function = FUNCTIONS.iter().find(|f| f.playbooks.iter().any(|p| p.meta().id == isolating().id())).unwrap();
        let hub = firebreak::hub::Hub::new(function.name, function.playbooks, security.config().unwrap(), aws);
        let bytes = case.event.to_string().into_bytes();
        let delivery = hub.receive(&bytes, std::time::Instant::now() + case.settings.time);
        tokio::pin!(delivery);
        let begun = std::time::Instant::now();
        loop {
            tokio::select! {
                ended = &mut delivery => panic!("the function answered first: {ended:?}"),
                () = tokio::time::sleep(std::time::Duration::from_millis(250)) => {}
            }
            if open(&case, &case.state().await.unwrap()).unwrap().is_empty() {
                break;
            }
            assert!(begun.elapsed().as_secs() < 15, "isolation waits for evidence");
        }
    });
}

#[test]
fn l16_our_group_is_emptied_on_every_use() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = Case::new(&security, isolating(), "web-server").await.unwrap();
        case.deliver().await.answer().unwrap();
        is_so(&case).await.unwrap();
        let [group] = case.groups().await.unwrap().try_into().unwrap();
        // Whoever holds the account opens our group, in both families and both ways.
        let everywhere =
            json!([{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}], "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}]);
        for operation in ["authorize_security_group_ingress", "authorize_security_group_egress"] {
            let params = json!({"GroupId": group.id.as_str(), "IpPermissions": everywhere});
            case.call("ec2", operation, params).await.unwrap();
        }
        let victim = case.ids.get("victim").unwrap();
        assert!(!open(&case, &case.state().await.unwrap()).unwrap().is_empty(), "{victim} is open again");
        // The next instance of the VPC is isolated, and with it the group is empty again.
        let other = case.report(case.ids.get("neighbour").unwrap()).await.unwrap();
        let answer = case.deliver_event(&other).await.answer().unwrap();
        assert_eq!(answer.outcomes[0].outcome, Outcome::Contained, "{:?}", answer.outcomes);
        is_so(&case).await.unwrap();
        let state = case.state().await.unwrap();
        let neighbour = &state["interfaces"][case.ids.get("eni_neighbour").unwrap()];
        assert_eq!(neighbour["groups"], json!([group.id.as_str()]), "the one group of the VPC is used again");
        assert_eq!(state["security_groups"][group.id.as_str()]["rules"], json!([]));
    });
}

#[test]
fn l20_the_report_is_what_was_read_back() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = Case::new(&security, isolating(), "single-interface").await.unwrap();
        case.faults.rule(|request| {
            let cut =
                request.operation == "ModifyNetworkInterfaceAttribute" && request.body.contains("SecurityGroupId");
            cut.then_some(Fault::Pretended)
        });
        let answer = case.deliver().await.answer().unwrap();
        let outcome = answer.outcomes[0].outcome;
        assert!(matches!(outcome, Outcome::NotContained | Outcome::Partial), "{outcome}");
        let run = case.the_run().await.unwrap();
        assert!(run.end.unwrap().not_done.iter().any(|line| line.contains("security groups of eni-")));
        let told = security.messages().await.unwrap().join("\n");
        assert!(told.contains("NOT DONE") && !told.starts_with("CONTAINED"), "{told}");
        assert!(!told.contains("Network cut"), "{told}");
    });
}

#[test]
fn l24_samples_change_nothing_however_they_say_so() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = Case::new(&security, isolating(), "single-interface").await.unwrap();
        let before = case.state().await.unwrap();
        let mut flagged = case.event.clone();
        flagged["detail"]["service"]["additionalInfo"]["value"] = json!("{\"sample\":true}");
        let text = std::fs::read_to_string(workspace().join("events/guardduty/sample.json")).unwrap();
        let sample: Value = serde_json::from_str(&text).unwrap();
        for event in [flagged.clone(), sample] {
            let answer = case.deliver_event(&event).await.answer().unwrap();
            assert!(answer.outcomes.iter().all(|o| o.outcome == Outcome::Refused), "{:?}", answer.outcomes);
        }
        assert!(case.faults.requests().is_empty(), "a sample cost a call");
        // Not in the event, but in the service: the service's word counts.
        security.observer.put_finding(&security.account, REGION, &flagged["detail"]).await.unwrap();
        let answer = case.deliver().await.answer().unwrap();
        assert!(answer.outcomes.iter().all(|o| o.outcome == Outcome::Refused), "{:?}", answer.outcomes);
        assert_eq!(case.state().await.unwrap(), before);
    });
}

#[test]
fn l26_the_first_before_state_wins() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let security: &Arc<Security> = &security;
        let case = Case::new(security, isolating(), "web-server").await.unwrap();
        let before = case.state().await.unwrap();
        let again = async |name: &str| -> Result<()> {
            let event = case.report(&case.target.id).await?;
            let answer = case.deliver_event(&event).await.answer()?;
            let outcome = answer.outcomes.first().map(|o| o.outcome).context("no outcome")?;
            ensure!(outcome == Outcome::NoChange, "{name}: {outcome}");
            Ok(())
        };
        // Held in part first, so that a later finding asks for another attempt.
        case.faults.rule(|request| (request.operation == "DisassociateAddress").then_some(Fault::ServerError));
        let answer = case.deliver().await.answer().unwrap();
        assert_eq!(answer.outcomes[0].outcome, Outcome::Partial);
        case.faults.mend();
        again("while it is held in part").await.unwrap();
        case.settle().await.unwrap();
        is_so(&case).await.unwrap();
        again("while it is held").await.unwrap();
        case.decide(Verb::Undo).await.unwrap().answer().unwrap();
        is_restored(&case, &before, &case.the_run().await.unwrap()).await.unwrap();
    });
}
