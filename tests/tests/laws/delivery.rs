//! The same finding many times, several findings of one target, forged ones, and changes that others make.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use firebreak::ledger::decisions::Verb;
use firebreak::plan::{Step, Undo};
use firebreak::playbook::Playbook;
use firebreak::run::{Outcome, Run, UndoResult};
use firebreak_tests::in_process::{
    Case, Delivered, Permits, REGION, Security, Traced, event_about, playbooks, run_to_end,
};
use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::{all, done, is_restored, is_so, named};

/// The runs that the ledger has about a case's target.
async fn runs(case: &Case) -> Result<Vec<Run>> {
    let runs = case.security.ledger()?.runs(200).await?;
    Ok(runs
        .into_iter()
        .filter(|run| run.head.target == case.target && run.head.playbook == case.playbook.id())
        .collect())
}

/// Delivers events at once, each to a process of its own, and expects one run.
async fn one_run(case: &Case, events: &[Value]) -> Result<()> {
    let processes: Vec<_> = events.iter().map(|_| case.another_process()).collect::<Result<_>>()?;
    let deliveries = processes.iter().zip(events).map(|((hub, _), event)| {
        let bytes = event.to_string().into_bytes();
        async move { hub.receive(&bytes, std::time::Instant::now() + case.settings.time).await }
    });
    let mut outcomes = BTreeMap::new();
    for answer in join_all(deliveries).await {
        let answer = answer.map_err(|failure| anyhow::anyhow!("{}", failure.brief()))?;
        for answered in answer.outcomes {
            *outcomes.entry(answered.outcome.as_str()).or_insert(0) += 1;
        }
    }
    let expected = BTreeMap::from([(done(case.playbook).as_str(), 1), (Outcome::NoChange.as_str(), events.len() - 1)]);
    ensure!(outcomes == expected, "{outcomes:?}");
    is_so(case).await?;
    let runs = runs(case).await?;
    ensure!(runs.len() == 1, "{} runs", runs.len());
    let view = case.security.ledger()?.view(case.playbook.meta(), &case.target, Timestamp::now()).await?;
    ensure!(view.spent_account == 1, "{} spent", view.spent_account);
    let state = case.state().await?;
    let made = state["security_groups"].as_object().context("no groups")?.values();
    let made =
        made.filter(|group| group["name"].as_str().is_some_and(|name| name.starts_with("firebreak-quarantine-")));
    ensure!(made.count() <= 1, "more than one group was made");
    case.settle().await?;
    Ok(())
}

#[test]
fn one_target_is_one_run_however_it_is_reported() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let mut cases = Vec::new();
        for (_, playbook) in playbooks() {
            let eight = Arc::clone(&security);
            cases.push(named(format!("{}: the same finding eight times at once", playbook.id()), async move {
                let case = Case::new(&eight, playbook, playbook.kind()?.small()).await?;
                let before = case.state().await?;
                one_run(&case, &vec![case.event.clone(); 8]).await?;
                // The first before-state is the one that undo restores.
                case.decide(Verb::Undo).await?.answer()?;
                is_restored(&case, &before, &case.the_run().await?).await
            }));
            let three = Arc::clone(&security);
            cases.push(named(format!("{}: three findings at once", playbook.id()), async move {
                let case = Case::new(&three, playbook, playbook.kind()?.small()).await?;
                let mut events = vec![case.event.clone()];
                for _ in 0..2 {
                    let event = event_about(*playbook, &three.account, &case.member, &case.ids, "victim")?;
                    three.observer.put_finding(&three.account, REGION, &event["detail"]).await?;
                    events.push(event);
                }
                one_run(&case, &events).await
            }));
            let shapes = Arc::clone(&security);
            cases.push(named(
                format!("{}: copies of member and administrator, in every shape", playbook.id()),
                async move {
                    let case = Case::new(&shapes, playbook, playbook.kind()?.small()).await?;
                    let mut of_member = case.event.clone();
                    of_member["account"] = json!(case.member);
                    let bare = case.event["detail"].clone();
                    let findings = json!({"Findings": [pascal(&bare)]});
                    one_run(&case, &[case.event.clone(), of_member, bare, findings]).await
                },
            ));
        }
        all("one target, one run", cases).await;
    });
}

/// A finding as `GetFindings` shows it.
fn pascal(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let upper =
                |key: &str| key.chars().take(1).flat_map(char::to_uppercase).chain(key.chars().skip(1)).collect();
            Value::Object(map.iter().map(|(key, value)| (upper(key), pascal(value))).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(pascal).collect()),
        other => other.clone(),
    }
}

/// Changes what a forger would change.
type Forgery = fn(&mut Value, &Case) -> Result<()>;

#[test]
fn a_forged_finding_claims_nothing_and_blocks_nothing() {
    const FORGERIES: &[(&str, Forgery)] = &[
        ("an id that GuardDuty does not know", |event, _| {
            event["detail"]["id"] = json!("00000000000000000000000000000bad");
            Ok(())
        }),
        ("a known id, about something else", |event, case| {
            let text = event.to_string().replace(case.ids.get("victim")?, case.ids.get("neighbour")?);
            *event = serde_json::from_str(&text)?;
            Ok(())
        }),
        ("a known id, about another account", |event, case| {
            let text = event.to_string().replace(&case.member, "333333333333");
            *event = serde_json::from_str(&text)?;
            Ok(())
        }),
    ];
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let mut cases = Vec::new();
        for (_, playbook) in playbooks() {
            for (name, forge) in FORGERIES {
                let security = Arc::clone(&security);
                cases.push(named(format!("{}: {name}", playbook.id()), async move {
                    let case = Case::new(&security, playbook, playbook.kind()?.largest()).await?;
                    let mut forged = case.event.clone();
                    forge(&mut forged, &case)?;
                    let before = case.state().await?;
                    let answer = case.deliver_bytes(forged.to_string().as_bytes()).await;
                    match answer {
                        Delivered::Answered(answer) => {
                            ensure!(
                                answer.outcomes.iter().all(|o| o.outcome == Outcome::Refused),
                                "{:?}",
                                answer.outcomes
                            );
                        }
                        Delivered::Failed(failure) => bail!("{}", failure.brief()),
                        Delivered::Died => bail!("died"),
                    }
                    ensure!(case.state().await? == before, "the forged one changed something");
                    let view = security.ledger()?.view(playbook.meta(), &case.target, Timestamp::now()).await?;
                    ensure!(view.hold.is_none() && view.spent_account == 0, "{view:?}");
                    // The genuine one right after.
                    let answer = case.deliver().await.answer()?;
                    ensure!(answer.outcomes.iter().all(|o| o.outcome == done(*playbook)), "{:?}", answer.outcomes);
                    is_so(&case).await
                }));
            }
        }
        all("forged findings", cases).await;
    });
}

/// How somebody else changes what a step has changed.
enum Foreign {
    /// There are two states only: to change it is to put it back.
    Back,
    /// A third state: neither the one before nor ours.
    Third,
}

/// One line for each action that is undone, reviewed. [`change`] makes the change.
const FOREIGN: &[(&str, Foreign)] = &[
    ("autoscaling.detach-instance", Foreign::Third),
    ("ec2.disable-metadata-endpoint", Foreign::Back),
    ("ec2.disassociate-address", Foreign::Third),
    ("ec2.keep-volumes", Foreign::Third),
    ("ec2.remove-public-address", Foreign::Back),
    ("ec2.replace-interface-groups", Foreign::Third),
    ("ec2.set-instance-attribute", Foreign::Back),
    ("ec2.tighten-connection-tracking", Foreign::Third),
    ("elasticloadbalancing.deregister-instance", Foreign::Back),
    ("elasticloadbalancing.deregister-targets", Foreign::Third),
    ("iam.attach-deny-policy", Foreign::Back),
    ("iam.deactivate-service-credential", Foreign::Back),
    ("iam.deactivate-signing-certificate", Foreign::Back),
    ("iam.deactivate-ssh-key", Foreign::Back),
    ("iam.revoke-sessions", Foreign::Third),
];

/// Changes the subject of a step with the independent client.
async fn change(case: &Case, step: &Step) -> Result<()> {
    let subject = step.id.0.split(' ').nth(1).context("a step has no subject")?;
    let call = |service: &'static str, operation: &'static str, params: Value| async move {
        case.security.observer.call(&case.member, REGION, service, operation, params).await
    };
    match step.action.as_str() {
        "autoscaling.detach-instance" => {
            let group = json!({
                "AutoScalingGroupName": "other", "MinSize": 0, "MaxSize": 3, "DesiredCapacity": 0,
                "LaunchTemplate": {"LaunchTemplateId": case.ids.get("launch_template")?},
                "VPCZoneIdentifier": case.ids.get("subnet_a")?,
            });
            call("autoscaling", "create_auto_scaling_group", group).await?;
            let attach = json!({"AutoScalingGroupName": "other", "InstanceIds": [subject]});
            call("autoscaling", "attach_instances", attach).await?;
        }
        "ec2.disable-metadata-endpoint" => {
            let params = json!({"InstanceId": subject, "HttpEndpoint": "enabled"});
            call("ec2", "modify_instance_metadata_options", params).await?;
        }
        "ec2.disassociate-address" => {
            let params = json!({"AllocationId": subject, "NetworkInterfaceId": case.ids.get("eni_neighbour")?});
            call("ec2", "associate_address", params).await?;
        }
        "ec2.keep-volumes" => {
            let params = json!({
                "InstanceId": subject,
                "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"DeleteOnTermination": true}}],
            });
            call("ec2", "modify_instance_attribute", params).await?;
        }
        "ec2.remove-public-address" => {
            let params = json!({"NetworkInterfaceId": subject, "AssociatePublicIpAddress": true});
            call("ec2", "modify_network_interface_attribute", params).await?;
        }
        "ec2.replace-interface-groups" => {
            let params = json!({"NetworkInterfaceId": subject, "Groups": [case.ids.get("sg_lb")?]});
            call("ec2", "modify_network_interface_attribute", params).await?;
        }
        "ec2.set-instance-attribute" => {
            let attribute = step.id.0.split(' ').nth(2).context("no attribute")?;
            let name = attribute.chars().take(1).flat_map(char::to_uppercase).chain(attribute.chars().skip(1));
            let value = match step.before.as_str() {
                Some("true") => json!(true),
                Some("false") => json!(false),
                other => json!(other),
            };
            let params = json!({"InstanceId": subject, name.collect::<String>(): {"Value": value}});
            call("ec2", "modify_instance_attribute", params).await?;
        }
        "ec2.tighten-connection-tracking" => {
            let params = json!({
                "NetworkInterfaceId": subject,
                "ConnectionTrackingSpecification": {"TcpEstablishedTimeout": 777, "UdpStreamTimeout": 77, "UdpTimeout": 37},
            });
            call("ec2", "modify_network_interface_attribute", params).await?;
        }
        "elasticloadbalancing.deregister-instance" => {
            let params =
                json!({"LoadBalancerName": step.args["load_balancer"], "Instances": [{"InstanceId": subject}]});
            call("elb", "register_instances_with_load_balancer", params).await?;
        }
        "elasticloadbalancing.deregister-targets" => {
            let first = step.before.as_array().and_then(|list| list.first()).context("there was no target")?;
            let params = json!({
                "TargetGroupArn": step.args["target_group"],
                "Targets": [{"Id": first["id"], "Port": 9999}],
            });
            call("elbv2", "register_targets", params).await?;
        }
        "iam.attach-deny-policy" => {
            let policy = format!("arn:aws:iam::{}:policy/firebreak/deny-all", case.member);
            call("iam", "detach_user_policy", json!({"UserName": subject, "PolicyArn": policy})).await?;
        }
        "iam.deactivate-service-credential" => {
            let id = &step.args["id"];
            let params = json!({"UserName": subject, "ServiceSpecificCredentialId": id, "Status": "Active"});
            call("iam", "update_service_specific_credential", params).await?;
        }
        "iam.deactivate-signing-certificate" => {
            let params = json!({"UserName": subject, "CertificateId": step.args["id"], "Status": "Active"});
            call("iam", "update_signing_certificate", params).await?;
        }
        "iam.deactivate-ssh-key" => {
            let params = json!({"UserName": subject, "SSHPublicKeyId": step.args["id"], "Status": "Active"});
            call("iam", "update_ssh_public_key", params).await?;
        }
        "iam.revoke-sessions" => {
            let other =
                json!({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}]});
            let policy = format!("firebreak-revoked-{}", case.the_run().await?.head.id);
            let params = json!({"RoleName": subject, "PolicyName": policy, "PolicyDocument": other.to_string()});
            call("iam", "put_role_policy", params).await?;
        }
        other => bail!("nobody else knows how to change what {other} changes: add it"),
    }
    Ok(())
}

#[test]
fn undo_refuses_what_somebody_else_has_changed_and_changes_nothing() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Everything).await.unwrap();
        let mut cases = Vec::new();
        for (_, playbook) in playbooks() {
            let security = Arc::clone(&security);
            cases.push(named(playbook.id(), async move { foreign_changes_stay(&security, playbook).await }));
        }
        all("undo refuses foreign changes", cases).await;
    });
}

async fn foreign_changes_stay(security: &Arc<Security>, playbook: &'static Traced) -> Result<()> {
    let case = Case::new(security, playbook, playbook.kind()?.largest()).await?;
    case.deliver().await.answer()?;
    let run = case.the_run().await?;
    let undone: Vec<&Step> = run
        .all_steps()
        .filter(|step| {
            let kind = playbook.action(&step.action).map(|action| action.undo_kind());
            kind.is_ok_and(|kind| !matches!(kind, Undo::Never { .. }))
        })
        .collect();
    for step in &undone {
        change(&case, step).await.with_context(|| format!("change what {} changed", step.id))?;
    }
    let changed = case.state().await?;
    let answer = case.decide(Verb::Undo).await?.answer()?;
    let run = case.the_run().await?;
    for step in run.all_steps() {
        let kind = playbook.action(&step.action)?.undo_kind();
        let result = run.undone.get(&step.id);
        if matches!(kind, Undo::Never { .. }) {
            continue;
        }
        let (_, foreign) = FOREIGN
            .iter()
            .find(|(action, _)| *action == step.action)
            .with_context(|| format!("add {} to the table FOREIGN", step.action))?;
        let right = match foreign {
            Foreign::Third => matches!(result, Some(UndoResult::Conflict { .. })),
            Foreign::Back => matches!(result, Some(UndoResult::AlreadySo)),
        };
        ensure!(right, "{}: {result:?}", step.id);
    }
    let after = case.state().await?;
    let differs = firebreak_tests::compare::differences(&changed, &after);
    ensure!(differs.is_empty(), "undo changed {differs:?}");
    let conflicts = run.undone.values().any(|result| matches!(result, UndoResult::Conflict { .. }));
    let expected = if conflicts { Outcome::UndonePartly } else { Outcome::Undone };
    ensure!(answer.outcomes.iter().all(|o| o.outcome == expected), "{:?}", answer.outcomes);
    let end = run.end.context("no end")?;
    ensure!(conflicts != end.not_done.is_empty(), "{:?}", end.not_done);
    Ok(())
}
