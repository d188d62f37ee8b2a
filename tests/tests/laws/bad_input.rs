//! Bad input and broken surroundings: a clear error each, and a durable copy: in the evidence bucket where the event
//! cannot be read, in the dead-letter queue (Lambda's, after its retries) where the function fails.

use std::sync::Arc;

use anyhow::{Context, Result};
use firebreak::failure::Class;
use firebreak::playbook::Playbook;
use firebreak::run::Outcome;
use firebreak_tests::faults::{Fault, Place};
use firebreak_tests::in_process::{Case, Delivered, Permits, REGION, Security, run_to_end};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::isolating;

/// A case of an instance.
async fn case(permits: Permits) -> Case {
    let security = Security::fresh(permits).await.unwrap();
    case_in(&security).await
}

async fn case_in(security: &Arc<Security>) -> Case {
    Case::new(security, isolating(), "single-interface").await.unwrap()
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
fn what_cannot_be_read_is_kept_byte_for_byte_and_told_once_an_hour() {
    run_to_end(|| async {
        let case = case(Permits::Enforce).await;
        // Readable as an event, and one field of it is not what it must be.
        let mut hostile = case.event.clone();
        hostile["detail"]["resource"]["instanceDetails"]["instanceId"] = json!("i-no\nt-an-id");
        let hostile = hostile.to_string();
        let others =
            ["this is not JSON", r#"{"some": "document"}"#, r#"{"source": "aws.ec2", "detail-type": "Other"}"#];
        let told = || async { case.security.messages().await.unwrap().join("\n") };
        case.deliver_bytes(hostile.as_bytes()).await.answer().unwrap();
        assert_eq!(unreadable(&case).await.unwrap(), [hostile]);
        let first = told().await;
        assert!(first.contains("UNREADABLE EVENT") && first.contains("s3://"), "{first}");
        assert!(first.contains("instanceId") && !first.contains("i-no\nt"), "{first}");
        for bytes in others {
            read_nothing_of(&case, bytes).await;
        }
        assert_eq!(unreadable(&case).await.unwrap().len(), 4, "every one is kept");
        assert_eq!(told().await, "", "and one an hour is told");
        told_long_ago(&case).await;
        read_nothing_of(&case, others[0]).await;
        let again = told().await;
        assert!(again.contains("UNREADABLE EVENT") && again.contains("not JSON"), "{again}");
        assert_eq!(unreadable(&case).await.unwrap().len(), 4, "the same bytes are one copy");
        nothing_happened(&case).await;
    });
}

/// Delivers what cannot be read at all: it is no error, has no outcome, and is kept.
async fn read_nothing_of(case: &Case, bytes: &str) {
    let answer = case.deliver_bytes(bytes.as_bytes()).await.answer().unwrap();
    assert!(answer.outcomes.is_empty(), "{:?}", answer.outcomes);
    assert!(unreadable(case).await.unwrap().iter().any(|kept| kept == bytes), "{bytes} is not kept");
}

/// Moves back an hour when people were last told of an unreadable event.
async fn told_long_ago(case: &Case) {
    let table = &case.hub.config.ledger_table;
    let key = json!({"pk": {"S": "TOLD#unreadable"}, "sk": {"S": case.hub.function}});
    let row = case.security.call("dynamodb", "get_item", json!({"TableName": table, "Key": key})).await.unwrap();
    let told_at: i64 = row["Item"]["told_at"]["N"].as_str().unwrap().parse().unwrap();
    let params = json!({
        "TableName": table, "Key": key, "UpdateExpression": "SET told_at = :t",
        "ExpressionAttributeValues": {":t": {"N": (told_at - 3600).to_string()}},
    });
    case.security.call("dynamodb", "update_item", params).await.unwrap();
}

/// A message that SNS refuses has told nobody.
#[test]
fn an_unreadable_event_whose_message_was_refused_is_told_with_the_next() {
    run_to_end(|| async {
        let case = case(Permits::Enforce).await;
        case.faults.rule(|request| (request.name() == "sns:Publish").then_some(Fault::Denied));
        case.deliver_bytes(b"one").await.answer().unwrap();
        assert_eq!(case.security.messages().await.unwrap(), Vec::<String>::new());
        case.faults.mend();
        case.deliver_bytes(b"two").await.answer().unwrap();
        assert_eq!(case.security.messages().await.unwrap().len(), 1);
        assert_eq!(unreadable(&case).await.unwrap().len(), 2);
        // Without the ledger it is told all the same.
        case.faults.rule(|request| (request.service == "dynamodb").then_some(Fault::Denied));
        case.deliver_bytes(b"three").await.answer().unwrap();
        assert_eq!(case.security.messages().await.unwrap().len(), 1);
    });
}

/// The copy is under the bucket's lock like all evidence, and nobody replaces it.
#[test]
fn a_copy_of_what_cannot_be_read_is_locked_and_versioned() {
    run_to_end(|| async {
        let case = case(Permits::Enforce).await;
        case.deliver_bytes(b"not JSON").await.answer().unwrap();
        let bucket = &case.hub.config.evidence_bucket;
        let params = json!({"Bucket": bucket, "Prefix": "unreadable/"});
        let listed = case.security.call("s3", "list_object_versions", params).await.unwrap();
        let [version] = listed["Versions"].as_array().unwrap().as_slice() else { panic!("{listed}") };
        assert!(version["VersionId"].as_str().is_some_and(|id| id != "null"), "{version}");
        let lock = json!({"Bucket": bucket});
        let lock = case.security.call("s3", "get_object_lock_configuration", lock).await.unwrap();
        let retention = &lock["ObjectLockConfiguration"]["Rule"]["DefaultRetention"];
        assert!(retention["Days"].as_i64().is_some_and(|days| days >= 1), "{lock}");
    });
}

/// One finding of a document that cannot be read does not keep the other from being answered, and the whole is kept.
#[test]
fn a_document_that_is_read_in_part_is_kept_whole_and_the_rest_is_answered() {
    run_to_end(|| async {
        let case = case(Permits::Enforce).await;
        let mut bad = case.event["detail"].clone();
        bad["resource"]["instanceDetails"]["instanceId"] = json!("not an id");
        let document = json!({"Findings": [pascal(&bad), pascal(&case.event["detail"])]}).to_string();
        let answer = case.deliver_bytes(document.as_bytes()).await.answer().unwrap();
        let outcomes: Vec<Outcome> = answer.outcomes.iter().map(|answered| answered.outcome).collect();
        assert_eq!(outcomes, [Outcome::Contained]);
        assert_eq!(unreadable(&case).await.unwrap(), [document]);
    });
}

/// As `GetFindings` writes what EventBridge writes with a small first letter.
fn pascal(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| {
                let mut letters = name.chars();
                let first = letters.next().into_iter().flat_map(char::to_uppercase);
                (first.chain(letters).collect::<String>(), pascal(value))
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(values) => values.iter().map(pascal).collect(),
        other => other.clone(),
    }
}

#[test]
fn what_cannot_be_read_nor_kept_is_delivered_again() {
    run_to_end(|| async {
        let case = case(Permits::Enforce).await;
        case.faults.rule(|request| (request.name() == "s3:PutObject").then_some(Fault::Denied));
        let Delivered::Failed(failure) = case.deliver_bytes(b"not JSON").await else { panic!("it was lost") };
        assert_eq!(failure.class, Class::Denied);
        // Lambda has it still, and delivers again; in the end it is in the dead-letter queue (the template's test).
        case.faults.mend();
        case.deliver_bytes(b"not JSON").await.answer().unwrap();
        assert_eq!(unreadable(&case).await.unwrap(), ["not JSON"]);
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
        case.call("ec2", "terminate_instances", params).await.unwrap();
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
            ("permit (", "hash is not the accepted one"),
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
        let (hub, faults) = case.another_process().unwrap();
        let table = hub.config.ledger_table.clone();
        let open = json!({"TableName": table, "DeletionProtectionEnabled": false});
        case.security.call("dynamodb", "update_table", open).await.unwrap();
        case.security.call("dynamodb", "delete_table", json!({"TableName": table})).await.unwrap();
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
    });
}
