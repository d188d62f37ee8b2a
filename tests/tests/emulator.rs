//! The emulator starts, worlds are seeded and read back, and what we added to moto is tested by boto3.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use firebreak::target::TargetKind;
use firebreak_tests::emulator::{Emulator, Refusal, fresh_account, kind_of_victim, world, worlds};
use serde_json::json;

const REGION: &str = "eu-west-1";

#[tokio::test]
async fn a_seeded_world_is_read_back_by_the_independent_client() {
    let emulator = Emulator::shared().await.unwrap();
    let observer = emulator.observer().await.unwrap();
    let account = fresh_account();
    let ids = observer.seed(&account, REGION, &world("web-server").unwrap()).await.unwrap();
    let state = observer.state(&account, REGION).await.unwrap();

    let victim = &state["instances"][ids.get("victim").unwrap()];
    assert_eq!(victim["interfaces"].as_array().unwrap().len(), 3);
    assert_eq!(victim["attributes"]["instanceInitiatedShutdownBehavior"], "terminate");
    let first = &state["interfaces"][ids.get("eni_a").unwrap()];
    assert_eq!(first["groups"].as_array().unwrap().len(), 3);
    assert_eq!(first["addresses"][0]["kind"], "automatic");
    assert_eq!(ids.name_of(ids.get("eni_b").unwrap()), Some("eni_b"));

    assert_eq!(observer.state(&account, REGION).await.unwrap(), state, "reading twice gives the same");
    let elsewhere = observer.state(&fresh_account(), REGION).await.unwrap();
    assert_eq!(elsewhere["instances"], json!({}), "accounts are separate");
}

#[tokio::test]
async fn every_world_can_be_seeded() {
    let observer = Emulator::shared().await.unwrap().observer().await.unwrap();
    for name in worlds().unwrap() {
        let account = fresh_account();
        let ids = observer.seed(&account, REGION, &world(&name).unwrap()).await.unwrap();
        let state = observer.state(&account, REGION).await.unwrap();
        let victim = ids.get("victim").unwrap_or_else(|_| panic!("{name} has no victim"));
        // A user or a role is in the state under its name; one that was deleted is not.
        match kind_of_victim(&world(&name).unwrap()).unwrap() {
            TargetKind::Ec2Instance => assert!(state["instances"][victim].is_object(), "{name}"),
            TargetKind::IamUser => {
                assert!(state["users"].is_object() && victim.starts_with("AIDA"), "{name}: {victim}")
            }
            TargetKind::IamRole | TargetKind::IamRoleSession => {
                let found =
                    state["roles"].as_object().unwrap().keys().any(|role| role == ids.get("victim.name").unwrap());
                assert!(found && victim.starts_with("AROA"), "{name}: {victim}");
            }
            // One that was deleted is not there.
            TargetKind::Ec2SecurityGroup => {
                assert!(state["security_groups"].is_object() && victim.starts_with("sg-"), "{name}: {victim}")
            }
            TargetKind::S3Bucket => {
                assert!(state["buckets"].is_object() && victim.ends_with(&account), "{name}: {victim}")
            }
            TargetKind::Ec2Snapshot => {
                assert!(state["snapshots"].is_object() && victim.starts_with("snap-"), "{name}: {victim}")
            }
            TargetKind::RdsSnapshot | TargetKind::RdsClusterSnapshot => {
                assert!(state["db_snapshots"].is_object() && ids.get("victim.arn").unwrap().ends_with(victim), "{name}")
            }
            TargetKind::CloudTrailTrail => {
                assert_eq!(ids.get("victim.arn").unwrap().rsplit('/').next(), Some(victim), "{name}")
            }
        }
    }
}

#[tokio::test]
async fn refusals_calls_and_credentials() {
    let emulator = Emulator::shared().await.unwrap();
    let observer = emulator.observer().await.unwrap();
    let account = fresh_account();
    let since = observer.calls(0, &[]).await.unwrap().next;
    let params = json!({"InstanceIds": ["i-0123456789abcdef0"]});
    let error = observer.call(&account, REGION, "ec2", "describe_instances", params).await.unwrap_err();
    assert_eq!(error.downcast_ref::<Refusal>().unwrap().code, "InvalidInstanceID.NotFound");
    let recorded = observer.calls(since, &[("account", &account)]).await.unwrap();
    assert_eq!(recorded.calls.len(), 1);
    assert_eq!((recorded.calls[0].operation.as_str(), recorded.calls[0].status), ("DescribeInstances", 400));

    let credentials = observer.credentials(&account).await.unwrap();
    assert!(emulator.environment(REGION, &credentials).contains(&("AWS_REGION".into(), REGION.into())));
    let who = observer.call(&account, REGION, "sts", "get_caller_identity", json!({})).await.unwrap();
    assert_eq!(who["Account"], account.as_str());
}

#[tokio::test]
async fn the_pages_name_what_there_is() {
    let emulator = Emulator::shared().await.unwrap();
    let run = emulator.python().args(["-m", "unittest", "test_docs"]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[tokio::test]
async fn what_we_added_to_moto_answers_boto3_as_aws_documents_it() {
    let emulator = Emulator::shared().await.unwrap();
    let run = emulator.python().args(["-m", "unittest", "test_extension", "test_authorisation"]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}
