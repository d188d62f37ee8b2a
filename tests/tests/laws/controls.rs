//! Controls: what Security Hub and AWS Config say is asked of them again, what comes through the queue goes back alone, and
//! two who want it otherwise do not go on for ever.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use firebreak::action::{Applied, Context};
use firebreak::batch::Served;
use firebreak::ids::RunId;
use firebreak::ledger::decisions::Verb;
use firebreak::playbook::Playbook;
use firebreak::run::{Outcome, RunState};
use firebreak::target::TargetKind;
use firebreak_tests::compare::list;
use firebreak_tests::deployment::REGION;
use firebreak_tests::faults::{Doing, Fault, Request};
use firebreak_tests::in_process::{
    Case, Delivered, Permits, Security, Settings, Traced, kind_of_target, playbooks, run_to_end,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::facts::{is_so, reopen};
use crate::support::{fixes, is_restored, worlds};

fn fixing() -> impl Iterator<Item = &'static Traced> {
    playbooks().iter().map(|(_, playbook)| *playbook).filter(|playbook| fixes(*playbook))
}

async fn case(security: &Arc<Security>, playbook: &'static Traced) -> Case {
    Case::new(security, playbook, &worlds(playbook).await.least).await.unwrap()
}

async fn outcome(case: &Case, event: &Value) -> (Outcome, String) {
    let answer = case.deliver_event(event).await.answer().unwrap();
    let [one] = answer.outcomes.as_slice() else { panic!("{:?}", answer.outcomes) };
    (one.outcome, one.why.clone())
}

async fn is_unclaimed(case: &Case) {
    let ledger = case.security.ledger().unwrap();
    let view = ledger.view(case.playbook.meta(), &case.target, Timestamp::now()).await.unwrap();
    assert!(view.hold.is_none() && view.spent_account == 0, "{view:?}");
}

/// The member account may have done so, and an attacker in it.
#[test]
fn what_was_put_aside_after_the_event_is_proposed_and_cannot_be_approved_while_it_is() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        for playbook in fixing() {
            for (status, word) in [("SUPPRESSED", "suppressed"), ("RESOLVED", "resolved")] {
                let case = case(&security, playbook).await;
                let before = case.state().await.unwrap();
                let mut aside = case.event["detail"].clone();
                aside["findings"][0]["Workflow"] = json!({"Status": status});
                security.observer.put_finding(&security.account, REGION, &aside).await.unwrap();
                let (outcome, why) = outcome(&case, &case.event).await;
                assert_eq!(outcome, Outcome::Proposed, "{why}");
                assert!(why.contains(&format!("it was {word} in Security Hub after the event was sent")), "{why}");
                let answer = case.decide(Verb::Approve).await.unwrap().answer().unwrap();
                assert_eq!(answer.outcomes[0].outcome, Outcome::Refused, "{:?}", answer.outcomes);
                assert!(answer.outcomes[0].why.contains(word), "{:?}", answer.outcomes);
                assert_eq!(case.state().await.unwrap(), before);
            }
        }
    });
}

/// The account gives its rules the names that it likes, and may have rules of its own that report anything.
#[test]
fn a_rule_of_config_counts_by_what_config_says_that_it_checks() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        for playbook in fixing() {
            let rules: Vec<_> = playbook.meta().controls.iter().filter_map(|check| check.rule).collect();
            let (identifier, name) = *rules.first().unwrap();
            let case = case(&security, playbook).await;
            let before = case.state().await.unwrap();
            // One of AWS's that checks something else, under the name that AWS gives the one that is answered.
            let other = case.found_by_config(name, "IAM_PASSWORD_POLICY").await.unwrap();
            let (found, why) = outcome(&case, &other).await;
            assert_eq!(found, Outcome::NoChange, "{why}");
            // None of that name, and another one of the same name than the event says.
            let mut absent = other.clone();
            absent["detail"]["configRuleName"] = json!("there-is-none");
            let mut remade = case.found_by_config(name, identifier).await.unwrap();
            remade["detail"]["configRuleARN"] =
                json!(format!("arn:aws:config:eu-west-1:{}:config-rule/config-rule-000000", case.member));
            for forged in [absent, remade] {
                let (found, why) = outcome(&case, &forged).await;
                assert_eq!(found, Outcome::NoChange, "{why}");
            }
            assert!(security.told_about(&case.target.id).await.unwrap().is_empty(), "anybody could wake people");
            assert_eq!(case.state().await.unwrap(), before);
            is_unclaimed(&case).await;
        }
    });
}

#[test]
fn of_a_queue_only_what_failed_comes_again() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        for playbook in fixing() {
            let case = case(&security, playbook).await;
            let message = |id: &str, body: &str| json!({"messageId": id, "body": body, "eventSource": "aws:sqs"});
            let batch = json!({"Records": [
                message("fine", &case.event.to_string()), message("garbage", "not an event"),
            ]});
            let serve = async |case: &Case| -> Result<Vec<String>> {
                let until = Instant::now() + Settings::default().time;
                match case.hub.serve(batch.to_string().as_bytes(), until).await {
                    Ok(Served::Batch(again)) => {
                        Ok(again.batch_item_failures.into_iter().map(|failed| failed.item_identifier).collect())
                    }
                    other => anyhow::bail!("{other:?}"),
                }
            };
            // The ledger cannot be reached: what is unreadable is kept all the same.
            case.faults.rule(|request| (request.service == "dynamodb").then_some(Fault::NotSent));
            assert_eq!(serve(&case).await.unwrap(), ["fine"]);
            case.faults.mend();
            assert_eq!(serve(&case).await.unwrap(), [""; 0]);
            is_so(&case).await.unwrap();
            // With no time left nothing is begun, and all of it comes again.
            let late = case.hub.serve(batch.to_string().as_bytes(), Instant::now()).await;
            let Ok(Served::Batch(again)) = late else { panic!("{late:?}") };
            assert_eq!(again.batch_item_failures.len(), 2);
        }
    });
}

/// Another tool, or somebody, wants it otherwise: after three times people are asked.
#[test]
fn what_is_changed_back_again_and_again_is_left_to_people() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        for playbook in fixing() {
            let case = case(&security, playbook).await;
            assert_eq!(outcome(&case, &case.event).await.0, Outcome::Fixed);
            let mut again = 0;
            loop {
                reopen(&case).await.unwrap();
                let event = case.report(&case.target.id).await.unwrap();
                outcome(&case, &event).await;
                case.settle().await.unwrap();
                if is_so(&case).await.is_err() {
                    break;
                }
                again += 1;
                assert!(again < 10, "{}: it goes on for ever", playbook.id());
            }
            assert_eq!(again, 3, "{}", playbook.id());
            let told = security.told_about(&case.target.id).await.unwrap();
            let last =
                told.iter().find(|text| text.starts_with("NOT FIXED, DECISION NEEDED")).context("not asked").unwrap();
            assert!(last.contains("wants it otherwise"), "{last}");
            // A person can have it done all the same.
            let answer = case.decide(Verb::Retry).await.unwrap().answer().unwrap();
            assert_eq!(answer.outcomes[0].outcome, Outcome::Fixed, "{:?}", answer.outcomes);
        }
    });
}

/// A person sees a website coming.
#[test]
fn a_bucket_that_serves_a_website_is_left_to_a_person_and_can_be_approved() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let of_buckets = |playbook: &&Traced| kind_of_target(*playbook).unwrap() == TargetKind::S3Bucket;
        let playbook = fixing().find(of_buckets).unwrap();
        let case = Case::new(&security, playbook, "website-bucket").await.unwrap();
        let (found, why) = outcome(&case, &case.event).await;
        assert_eq!(found, Outcome::Proposed);
        assert!(why.contains("serves a website"), "{why}");
        let answer = case.decide(Verb::Approve).await.unwrap().answer().unwrap();
        assert_eq!(answer.outcomes[0].outcome, Outcome::Fixed, "{:?}", answer.outcomes);
        is_so(&case).await.unwrap();
        assert_eq!(case.the_run().await.unwrap().state, RunState::Held);
    });
}

/// The fix of groups over the world with most to do.
async fn open_ranges(security: &Arc<Security>) -> Case {
    let of_groups = |playbook: &&Traced| kind_of_target(*playbook).unwrap() == TargetKind::Ec2SecurityGroup;
    Case::new(security, fixing().find(of_groups).unwrap(), "open-ranges").await.unwrap()
}

/// Another control that has failed on the same group: ports of high risk are open.
async fn fails_too(case: &Case) -> Value {
    let text = case.report(&case.target.id).await.unwrap().to_string().replace("EC2.13", "EC2.19");
    let event: Value = serde_json::from_str(&text).unwrap();
    case.security.observer.put_finding(&case.security.account, REGION, &event["detail"]).await.unwrap();
    event
}

/// Whether everywhere is let in to these ports of the group.
async fn open<const N: usize>(case: &Case, ports: [i64; N]) -> [bool; N] {
    let rules = case.state().await.unwrap()["security_groups"][&case.target.id]["rules"].clone();
    ports.map(|port| {
        list(&rules).any(|rule| {
            let of = |name: &str| rule[name].as_i64().unwrap_or_default();
            rule["egress"] == false && rule["peer"] == "0.0.0.0/0" && (of("from")..=of("to")).contains(&port)
        })
    })
}

/// A port is open to several controls at once, and the fix of one must not swallow the others.
#[test]
fn another_control_that_failed_on_what_is_held_is_fixed_with_it_and_undone_with_it() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = open_ranges(&security).await;
        let before = case.state().await.unwrap();
        assert_eq!(outcome(&case, &case.event).await.0, Outcome::Fixed);
        let other = fails_too(&case).await;
        let (found, why) = outcome(&case, &other).await;
        assert!(found == Outcome::NoChange && why.contains("for another control"), "{found}: {why}");
        case.settle().await.unwrap();
        let run = case.the_run().await.unwrap();
        assert_eq!(run.end.as_ref().unwrap().outcome, Outcome::Fixed);
        let ports = open(&case, [20, 21, 22, 23, 24, 25, 443]).await;
        assert_eq!(ports, [false, false, false, false, true, false, true]);
        let told = security.told_about(&case.target.id).await.unwrap();
        assert!(told.iter().all(|text| !text.starts_with("CHANGED BACK")), "{told:?}");
        case.decide(Verb::Undo).await.unwrap().answer().unwrap();
        let run = case.the_run().await.unwrap();
        assert_eq!(run.end.as_ref().unwrap().outcome, Outcome::Undone, "{:?}", run.undone);
        is_restored(&case, &before, &run).await.unwrap();
    });
}

/// What was fixed stays so, whatever becomes of what is to come to it.
#[test]
fn another_control_that_cannot_be_fixed_does_not_take_back_what_was() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = open_ranges(&security).await;
        assert_eq!(outcome(&case, &case.event).await.0, Outcome::Fixed);
        let other = fails_too(&case).await;
        outcome(&case, &other).await;
        case.faults.rule(|request| {
            let its = matches!(&request.doing, Doing::Applying(step) if step.0.ends_with("tcp 23-25 from 0.0.0.0/0"));
            (its && !request.reads()).then_some(Fault::Denied)
        });
        case.settle().await.unwrap();
        let run = case.the_run().await.unwrap();
        assert_eq!((run.state, run.end.unwrap().outcome), (RunState::Held, Outcome::Partial));
        is_so(&case).await.unwrap();
    });
}

/// Before it comes to it the owner may have mended it, and better.
#[test]
fn what_stays_of_a_rule_is_not_added_once_the_rule_is_gone() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = open_ranges(&security).await;
        let plan = case.the_plan().await.unwrap();
        let keep = plan.steps().find(|step| !step.cuts).unwrap().clone();
        let wide = json!([{"IpProtocol": "tcp", "FromPort": 20, "ToPort": 25, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]);
        let revoke = json!({"GroupId": case.target.id, "IpPermissions": wide});
        case.call("ec2", "revoke_security_group_ingress", revoke).await.unwrap();
        let before = case.state().await.unwrap();
        let run = RunId::new();
        let groups = case.groups().await.unwrap();
        let sessions =
            case.engine().writing(&run, &case.target.account, case.target.region.as_ref(), &[&keep], &groups).await;
        let aws = sessions.of(&keep.id).unwrap();
        let cx = Context { aws, run: &run, made: &[], snapshots: Default::default() };
        let applied = case.playbook.action(&keep.action).unwrap().apply(&cx, &keep, false).await.unwrap();
        assert!(matches!(&applied, Applied::Left(why) if why.contains("is gone")), "{applied:?}");
        assert_eq!(case.state().await.unwrap(), before);
    });
}

/// What cannot be put back keeps what stands for it: nothing that is meant is closed.
#[test]
fn a_fix_that_can_be_neither_finished_nor_put_back_cuts_nobody_off_and_says_so() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = open_ranges(&security).await;
        let before = case.state().await.unwrap();
        // The second rule cannot be closed, and the first, once closed, cannot be added again.
        case.faults.rule(|request| {
            let its = request.doing.step().is_some_and(|step| step.0.ends_with("tcp 22 from ::/0"));
            let closes = its && matches!(request.doing, Doing::Applying(_)) && !request.reads();
            let adds =
                matches!(request.doing, Doing::Undoing(_)) && request.operation == "AuthorizeSecurityGroupIngress";
            (closes || adds).then_some(Fault::Denied)
        });
        let (found, _) = outcome(&case, &case.event).await;
        assert_eq!(found, Outcome::UndonePartly);
        assert_eq!(open(&case, [20, 21, 23, 24, 25, 443]).await, [true; 6], "what is meant is closed");
        let run = case.the_run().await.unwrap();
        assert_eq!(run.state, RunState::Held);
        assert!(run.end.unwrap().not_done.iter().any(|line| line.contains("could not be put back")));
        // Once it can be, a person finishes it.
        case.faults.mend();
        case.settle().await.unwrap();
        case.decide(Verb::Undo).await.unwrap().answer().unwrap();
        is_restored(&case, &before, &case.the_run().await.unwrap()).await.unwrap();
    });
}

/// A set of policies names a control once, whoever reports it and under whatever name.
#[test]
fn policies_know_a_control_by_one_name() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Default).await.unwrap();
        for playbook in fixing() {
            let rule = playbook.meta().controls.iter().find(|check| check.rule.is_some()).unwrap();
            let finding = case(&security, playbook).await.finding;
            let of_event = playbook.meta().check(&finding).unwrap();
            for (name, other) in [(of_event.name(), false), (rule.name(), true)] {
                let policies = format!(
                    r#"@id("one") permit (principal, action, resource) when {{
                        context.finding has control && context.finding.control == "{name}" }};
                       @id("else") permit (principal, action == Action::"propose", resource);"#
                );
                security.publish(&policies).await.unwrap();
                let case = case(&security, playbook).await;
                let event = match other {
                    false => case.event.clone(),
                    true => case.found_by_config("as-we-like-it", rule.rule.unwrap().0).await.unwrap(),
                };
                let (found, why) = outcome(&case, &event).await;
                // The world is about some of the controls: of the others nothing is wrong there.
                let fits = found == Outcome::Fixed || (other && found == Outcome::NoChange);
                assert!(fits, "{} by {name}: {found}: {why}", playbook.id());
                let run = case.run().await.unwrap();
                let known_as = run.and_then(|run| run.head.finding.control).and_then(|control| control.known_as);
                assert!(found == Outcome::NoChange || known_as.as_deref() == Some(name), "{known_as:?}");
            }
        }
    });
}

/// Whoever holds the account can deny a fix, and have its control reported again and again.
#[test]
fn a_fix_that_is_denied_is_told_once_an_hour() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        for playbook in fixing() {
            let case = case(&security, playbook).await;
            case.faults.rule(|request| {
                let changes = matches!(request.doing, Doing::Applying(_)) && !request.reads();
                changes.then_some(Fault::Denied)
            });
            for _ in 0..3 {
                let event = case.report(&case.target.id).await.unwrap();
                assert_eq!(outcome(&case, &event).await.0, Outcome::NotFixed);
                case.settle().await.unwrap();
            }
            let told = security.told_about(&case.member).await.unwrap();
            let [once] = told.as_slice() else { panic!("{told:?}") };
            assert!(once.starts_with("NOT FIXED: "), "{once}");
        }
    });
}

/// What stands for a rule that is to be closed must not outlive a process that dies while it puts the rule back.
#[test]
fn a_process_that_dies_while_it_puts_back_is_taken_over_and_all_is_as_it_was() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        for operation in ["AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress"] {
            for fault in [Fault::DiesBefore, Fault::DiesAfter] {
                let mut case = open_ranges(&security).await;
                let before = case.state().await.unwrap();
                let is_last = |request: &Request| {
                    let last = request.doing.step().is_some_and(|step| step.0.ends_with("tcp 22 from ::/0"));
                    last && matches!(request.doing, Doing::Applying(_)) && !request.reads()
                };
                case.faults.rule(move |request| {
                    let undoing = matches!(request.doing, Doing::Undoing(_)) && request.operation == operation;
                    if is_last(request) { Some(Fault::Denied) } else { undoing.then_some(fault) }
                });
                assert!(matches!(case.deliver().await, Delivered::Died), "{operation} {fault:?}: nobody died");
                case.restart().unwrap();
                // Else whoever takes it over finishes the fix.
                case.faults.rule(move |request| is_last(request).then_some(Fault::Denied));
                case.settle().await.unwrap();
                let run = case.the_run().await.unwrap();
                is_restored(&case, &before, &run)
                    .await
                    .unwrap_or_else(|error| panic!("{operation} {fault:?}: {error}"));
                assert!(matches!(run.state, RunState::Freed | RunState::Released), "{:?}", run.state);
                assert!(!security.told_about(&case.target.id).await.unwrap().is_empty(), "nobody is told");
            }
        }
    });
}
