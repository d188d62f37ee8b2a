//! Bad input and broken surroundings: a clear error each, and a durable copy: in the evidence bucket where the event
//! cannot be read, in the dead-letter queue (Lambda's, after its retries) where the function fails.

use std::sync::Arc;

use anyhow::{Context, Result};
use firebreak::failure::Class;
use firebreak::playbook::Playbook;
use firebreak::run::Outcome;
use firebreak_tests::faults::{Fault, Place};
use firebreak_tests::in_process::{Case, Delivered, Permits, REGION, Security, playbooks, run_to_end};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::contains;

/// A case of the first playbook that contains, in the least world.
async fn case(permits: Permits) -> Case {
    let security = Security::fresh(permits).await.unwrap();
    case_in(&security).await
}

async fn case_in(security: &Arc<Security>) -> Case {
    let (_, playbook) = playbooks().iter().find(|(_, playbook)| contains(*playbook)).unwrap();
    Case::new(security, playbook, "single-interface").await.unwrap()
}

/// The evidence bucket's objects under `unreadable/`, as text.
async fn unreadable(case: &Case) -> Result<Vec<String>> {
    let observer = &case.security.observer;
    let bucket = &case.hub.config.evidence_bucket;
    let params = json!({"Bucket": bucket, "Prefix": "unreadable/"});
    let listed = observer.call(&case.security.account, REGION, "s3", "list_objects_v2", params).await?;
    let mut found = Vec::new();
    for object in listed["Contents"].as_array().into_iter().flatten() {
        let params = json!({"Bucket": bucket, "Key": object["Key"]});
        let got = observer.call(&case.security.account, REGION, "s3", "get_object", params).await?;
        found.push(got["Body"].as_str().context("an object has no body")?.to_owned());
    }
    Ok(found)
}

/// Nothing was claimed, spent or changed.
async fn nothing_happened(case: &Case) {
    let view =
        case.security.ledger().unwrap().view(case.playbook.meta(), &case.target, Timestamp::now()).await.unwrap();
    assert!(view.hold.is_none(), "{:?}", view.hold);
    assert_eq!(view.spent_account, 0);
    let requests = case.faults.requests();
    let changed: Vec<_> = requests.iter().filter(|r| r.place == Place::Member && !r.reads()).collect();
    assert!(changed.is_empty(), "{changed:?}");
}

/// The one outcome of an event.
async fn outcome(case: &Case, event: &Value) -> (Outcome, String) {
    let answer = case.deliver_bytes(event.to_string().as_bytes()).await.answer().unwrap();
    let [answered] = answer.outcomes.as_slice() else { panic!("{:?}", answer.outcomes) };
    (answered.outcome, answered.why.clone())
}

#[test]
fn what_cannot_be_read_is_kept_byte_for_byte_and_told() {
    run_to_end(|| async {
        let case = case(Permits::Enforce).await;
        for bytes in ["this is not JSON", r#"{"some": "document"}"#, r#"{"source": "aws.ec2", "detail-type": "Other"}"#]
        {
            let answer = case.deliver_bytes(bytes.as_bytes()).await.answer().unwrap();
            assert!(answer.outcomes.is_empty(), "{:?}", answer.outcomes);
            assert!(unreadable(&case).await.unwrap().iter().any(|kept| kept == bytes), "{bytes} is not kept");
            let told = case.security.messages().await.unwrap().join("\n");
            assert!(told.contains("UNREADABLE EVENT") && told.contains("s3://"), "{told}");
        }
        // Readable as an event, and one field of it is not what it must be.
        let mut event = case.event.clone();
        event["detail"]["resource"]["instanceDetails"]["instanceId"] = json!("i-no\nt-an-id");
        case.deliver_bytes(event.to_string().as_bytes()).await.answer().unwrap();
        assert_eq!(unreadable(&case).await.unwrap().len(), 4);
        let told = case.security.messages().await.unwrap().join("\n");
        assert!(told.contains("instanceId") && !told.contains("i-no\nt"), "{told}");
        nothing_happened(&case).await;
    });
}

#[test]
fn what_cannot_be_read_nor_kept_is_delivered_again() {
    run_to_end(|| async {
        let case = case(Permits::Enforce).await;
        case.faults.rule(|request| (request.name() == "s3:PutObject").then_some(Fault::Denied));
        let Delivered::Failed(failure) = case.deliver_bytes(b"not JSON").await else { panic!("it was lost") };
        assert_eq!(failure.class, Class::Denied);
    });
}

#[test]
fn an_unknown_type_is_told_and_nothing_is_done() {
    run_to_end(|| async {
        let case = case(Permits::Enforce).await;
        let mut event = case.event.clone();
        event["detail"]["type"] = json!("Backdoor:EC2/SomethingNew.Z");
        // People are told when it is first seen.
        event["detail"]["service"]["count"] = json!(1);
        let (outcome, why) = outcome(&case, &event).await;
        assert_eq!(outcome, Outcome::NoChange);
        assert!(!why.is_empty());
        let told = case.security.messages().await.unwrap().join("\n");
        assert!(told.contains("Backdoor:EC2/SomethingNew.Z"), "{told}");
        nothing_happened(&case).await;
    });
}

#[test]
fn a_finding_of_a_stranger_or_about_ourselves_is_turned_away() {
    run_to_end(|| async {
        let case = case(Permits::Enforce).await;
        let mut stranger = case.event.clone();
        stranger["account"] = json!("444444444444");
        let hub: Value =
            serde_json::from_str(&case.event.to_string().replace(&case.member, &case.security.account)).unwrap();
        for (event, says) in [(stranger, "444444444444"), (hub, "security account")] {
            let (outcome, why) = outcome(&case, &event).await;
            assert_eq!(outcome, Outcome::Refused);
            assert!(why.contains(says), "{why}");
        }
        nothing_happened(&case).await;
    });
}

#[test]
fn a_region_without_a_detector_cannot_vouch_for_a_finding() {
    run_to_end(|| async {
        let case = case(Permits::Enforce).await;
        let event: Value = serde_json::from_str(&case.event.to_string().replace(REGION, "ap-southeast-2")).unwrap();
        let (outcome, why) = outcome(&case, &event).await;
        assert_eq!(outcome, Outcome::Refused);
        assert!(why.contains("GuardDuty does not have this finding"), "{why}");
        nothing_happened(&case).await;
    });
}

#[test]
fn an_instance_that_is_gone_is_an_outcome() {
    run_to_end(|| async {
        let case = case(Permits::Enforce).await;
        let params = json!({"InstanceIds": [case.ids.get("victim").unwrap()]});
        case.security.observer.call(&case.member, REGION, "ec2", "terminate_instances", params).await.unwrap();
        let (outcome, why) = outcome(&case, &case.event).await;
        assert_eq!(outcome, Outcome::Gone);
        assert!(why.contains("terminated"), "{why}");
        let told = case.security.messages().await.unwrap().join("\n");
        assert!(told.contains("TARGET GONE"), "{told}");
        nothing_happened(&case).await;
    });
}

const ENFORCE: &str = r#"@id("enforce") permit (principal, action, resource);"#;

#[test]
fn a_published_set_that_cannot_be_used_makes_every_answer_a_proposal() {
    run_to_end(|| async {
        for (text, says) in [
            ("permit (", "does not parse"),
            (r#"@id("other") permit (principal, action, resource);"#, "hash is not the accepted one"),
        ] {
            let security = Security::fresh(Permits::Default).await.unwrap();
            security.publish(ENFORCE).await.unwrap();
            // Somebody who may write to the bucket replaces the object; the accepted hash stays.
            security.put_policy_object(text).await.unwrap();
            let case = case_in(&security).await;
            let (outcome, why) = outcome(&case, &case.event).await;
            assert_eq!(outcome, Outcome::Proposed, "{text}");
            assert!(why.contains(says), "{why}");
            let requests = case.faults.requests();
            assert!(requests.iter().all(|r| r.place == Place::Hub || r.reads()), "{text}: something changed");
        }
    });
}

#[test]
fn an_accepted_set_that_is_absent_makes_every_answer_a_proposal() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Default).await.unwrap();
        let set = firebreak::guard::Policies::parse(ENFORCE).unwrap();
        security.ledger().unwrap().accept_policy(&set.sha256, "tester", Timestamp::now()).await.unwrap();
        let case = case_in(&security).await;
        let (outcome, why) = outcome(&case, &case.event).await;
        assert_eq!(outcome, Outcome::Proposed);
        assert!(why.contains("absent from the bucket"), "{why}");
    });
}

#[test]
fn a_policy_that_errs_when_it_is_asked_makes_the_answer_a_proposal() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Default).await.unwrap();
        // Cedar skips a policy whose evaluation errors: without our own rule this forbid would be passed over.
        let errs = r#"
            @id("enforce") permit (principal, action, resource);
            @id("errs") forbid (principal, action, resource) when { resource.getTag("absent") == "x" };
        "#;
        security.publish(errs).await.unwrap();
        let case = case_in(&security).await;
        let (outcome, why) = outcome(&case, &case.event).await;
        assert_eq!(outcome, Outcome::Proposed);
        assert!(why.contains("guard failed"), "{why}");
    });
}

#[test]
fn without_the_ledger_nothing_is_done_people_are_told_and_the_event_comes_again() {
    run_to_end(|| async {
        let case = case(Permits::Enforce).await;
        let before = case.state().await.unwrap();
        let (hub, faults) = case.process_with(|config| config.ledger_table = "no-such-table".to_owned()).unwrap();
        let bytes = case.event.to_string().into_bytes();
        let failure = hub.receive(&bytes, std::time::Instant::now() + case.settings.time).await.unwrap_err();
        assert_eq!(failure.code.as_deref(), Some("ResourceNotFoundException"), "{}", failure.brief());
        let told = case.security.messages().await.unwrap().join("\n");
        assert!(told.contains("FAILED") && told.contains("ledger"), "{told}");
        assert!(faults.requests().iter().all(|r| r.place == Place::Hub || r.reads()));
        assert_eq!(case.state().await.unwrap(), before);
    });
}

#[test]
fn when_aws_cannot_be_reached_the_event_comes_again() {
    run_to_end(|| async {
        let case = case(Permits::Enforce).await;
        case.faults.rule(|_| Some(Fault::NotSent));
        let Delivered::Failed(failure) = case.deliver().await else { panic!("it was answered") };
        assert_eq!(failure.class, Class::Transient, "{}", failure.brief());
        // Only the member account.
        case.faults.rule(|request| (request.place == Place::Member).then_some(Fault::NotSent));
        let Delivered::Failed(failure) = case.deliver().await else { panic!("it was answered") };
        assert_eq!(failure.class, Class::Transient, "{}", failure.brief());
        let told = case.security.messages().await.unwrap().join("\n");
        assert!(told.contains("FAILED"), "{told}");
        case.faults.mend();
        nothing_happened(&case).await;
        let (outcome, _) = outcome(&case, &case.event).await;
        assert_eq!(outcome, Outcome::Contained, "and then it is");
    });
}

#[test]
fn a_role_that_cannot_be_taken_is_told_and_not_retried_for_ever() {
    run_to_end(|| async {
        let case = case(Permits::Enforce).await;
        case.faults.rule(|request| (request.operation == "AssumeRole").then_some(Fault::Denied));
        let (outcome, why) = outcome(&case, &case.event).await;
        assert_eq!(outcome, Outcome::Failed);
        assert!(why.contains("assume role") && why.contains("AccessDenied"), "{why}");
        let told = case.security.messages().await.unwrap().join("\n");
        assert!(told.contains("FAILED"), "{told}");
        nothing_happened(&case).await;
        let _ = case.playbook.meta();
    });
}
