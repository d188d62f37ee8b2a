//! Custody: what is written of the evidence is what AWS knows of it.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use firebreak::run::{Outcome, RunEnd, StepResult};
use firebreak_tests::compare::{entries, list};
use firebreak_tests::emulator::Observer;
use firebreak_tests::faults::{Moment, Request};
use firebreak_tests::in_process::{Case, Permits, REGION, Security, Traced, playbooks, run_to_end};
use serde_json::{Value, json};

use crate::support::{all, is_so, named, preserves, results};

/// The custody record of the case's run: `custody`, or `custody-begun` while snapshots are pending.
async fn custody(case: &Case, kind: &str) -> Result<Value> {
    let (observer, account) = (&case.security.observer, &case.security.account);
    let bucket = &case.hub.config.evidence_bucket;
    let params = json!({"Bucket": bucket, "Prefix": format!("cases/{}/", case.the_run().await?.head.id)});
    let listed = observer.call(account, REGION, "s3", "list_objects_v2", params).await?;
    let keys = listed["Contents"].as_array().into_iter().flatten().filter_map(|object| object["Key"].as_str());
    for key in keys.rev() {
        let got = observer.call(account, REGION, "s3", "get_object", json!({"Bucket": bucket, "Key": key})).await?;
        let record: Value = serde_json::from_str(got["Body"].as_str().context("an object has no body")?)?;
        if record["kind"] == kind {
            return Ok(record);
        }
    }
    bail!("there is no record {kind}")
}

#[test]
fn the_custody_record_names_the_calls_that_made_and_locked_each_snapshot() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let mut cases = Vec::new();
        for (_, playbook) in playbooks().iter().filter(|(_, playbook)| preserves(*playbook)) {
            let security = &security;
            cases.push(named(playbook.id(), async move {
                let case = Case::new(security, playbook, "web-server").await?;
                case.deliver().await.answer()?;
                case.settle().await?;
                // What the network saw, call by call.
                let seen: Vec<_> = case.faults.requests().into_iter().filter(|r| r.answered.is_some()).collect();
                let ids_of = |operation: &str| -> BTreeSet<String> {
                    let its = seen.iter().filter(|request| request.operation == operation);
                    its.filter_map(|request| request.answered.clone()).collect()
                };
                let (made, locked) = (ids_of("CreateSnapshots"), ids_of("LockSnapshot"));
                let record = custody(&case, "custody").await?;
                let items = record["body"]["items"].as_array().context("the record has no items")?;
                ensure!(items.len() == 3 && made.len() == 1 && locked.len() == 3, "{items:?}, {made:?}, {locked:?}");
                let mut named = BTreeSet::new();
                for item in items {
                    let requests = item["requests"].as_array().context("an item has no requests")?;
                    let id = |operation: &str| {
                        let mut its = requests.iter().filter(|request| request["operation"] == operation);
                        its.next().and_then(|request| request["request_id"].as_str()).map(str::to_owned)
                    };
                    ensure!(requests.len() == 2, "{item}");
                    ensure!(id("CreateSnapshots").is_some_and(|id| made.contains(&id)), "{item}");
                    named.extend(id("LockSnapshot"));
                }
                ensure!(named == locked, "named {named:?}, made {locked:?}");
                Ok(())
            }));
        }
        all("custody", cases).await;
    });
}

/// The playbook that keeps evidence.
fn preserving() -> &'static Traced {
    playbooks().iter().map(|(_, playbook)| *playbook).find(|playbook| preserves(*playbook)).unwrap()
}

/// The one snapshot of a volume of the world.
async fn snapshot_of(case: &Case, volume: &str) -> Result<String> {
    let state = case.state().await?;
    let volume = case.ids.get(volume)?;
    let found: Vec<&str> =
        entries(&state["snapshots"]).filter(|(_, s)| s["volume"] == volume).map(|(id, _)| id).collect();
    let [one] = found.as_slice() else { anyhow::bail!("{volume} has the snapshots {found:?}") };
    Ok((*one).to_owned())
}

/// The item of a snapshot in a custody record.
fn item<'a>(record: &'a Value, snapshot: &str) -> Result<&'a Value> {
    list(&record["body"]["items"]).find(|item| item["snapshot"] == snapshot).context("the record has no such item")
}

/// The problems in a custody record, which people were told too, and nothing else.
async fn problems(case: &Case, record: &Value) -> Result<Vec<String>> {
    ensure!(record["body"]["complete"] == true, "{record}");
    let problems: Vec<String> = serde_json::from_value(record["body"]["problems"].clone())?;
    let told = case.security.told_about(case.the_run().await?.head.id.as_str()).await?;
    let last = told.last().context("nobody was told")?;
    ensure!(last.starts_with(if problems.is_empty() { "EVIDENCE KEPT" } else { "EVIDENCE INCOMPLETE" }), "{last}");
    // A message has no backticks and nothing but ASCII.
    let ascii = |problem: &String| problem.replace('`', "'").chars().take_while(char::is_ascii).collect::<String>();
    let first = problems.first().map(ascii);
    let missing = first.filter(|problem| !last.contains(problem.as_str()));
    ensure!(missing.is_none(), "{missing:?} is not in\n{last}");
    Ok(problems)
}

#[derive(Debug, Clone, Copy)]
enum Becomes {
    Pending,
    Failed,
    Unlocked,
    Deleted,
}

async fn says_what_became_of_a_snapshot(case: &Case, becomes: Becomes) -> Result<()> {
    case.deliver().await.answer()?;
    let (snapshot, volume) = (snapshot_of(case, "vol_data").await?, case.ids.get("vol_data")?.to_owned());
    let ec2 = |operation: &'static str| case.call("ec2", operation, json!({"SnapshotId": snapshot}));
    let is_now = |state: &'static str, why: Option<&'static str>| {
        case.security.observer.snapshot_state(&case.member, REGION, &snapshot, state, why)
    };
    match becomes {
        Becomes::Pending => {
            is_now("pending", None).await?;
            case.let_time_pass().await?;
            case.tick().await.answer()?;
            let record = custody(case, "custody-begun").await?;
            ensure!(record["body"]["complete"] == false && item(&record, &snapshot)?["state"] == "pending", "{record}");
            ensure!(custody(case, "custody").await.is_err(), "it is called complete");
            ensure!(case.due().await?.iter().any(|key| key.contains("#evidence#")), "nobody looks again");
            is_now("completed", None).await?;
        }
        Becomes::Failed => is_now("error", Some("the key <b>is</b>\ngone")).await?,
        Becomes::Unlocked => _ = ec2("unlock_snapshot").await?,
        Becomes::Deleted => {
            ec2("unlock_snapshot").await?;
            ec2("delete_snapshot").await?;
        }
    }
    case.settle().await?;
    let record = custody(case, "custody").await?;
    let problems = problems(case, &record).await?;
    let absent = format!("there is no snapshot of {volume} of this case");
    match becomes {
        Becomes::Pending => {
            ensure!(problems.is_empty() && item(&record, &snapshot)?["state"] == "completed", "{record}");
        }
        Becomes::Failed => {
            let failed = format!("snapshot `{snapshot}` of `{volume}` failed: the key");
            ensure!(problems.iter().any(|problem| problem.starts_with(&failed)), "{problems:?}");
            ensure!(!problems.iter().any(|problem| problem.contains(['<', '\n'])), "{problems:?}");
            ensure!(problems.contains(&absent) && problems.len() == 2, "{problems:?}");
            ensure!(item(&record, &snapshot)?["state"] == "error", "{record}");
        }
        Becomes::Unlocked => {
            ensure!(problems == [format!("snapshot `{snapshot}` of `{volume}` is not locked")], "{problems:?}");
            ensure!(item(&record, &snapshot)?["lock"] == "none", "{record}");
        }
        Becomes::Deleted => {
            ensure!(problems == [absent], "{problems:?}");
            ensure!(item(&record, &snapshot).is_err(), "{record}");
        }
    }
    Ok(())
}

#[test]
fn the_custody_record_and_the_message_say_what_became_of_each_snapshot() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let mut cases = Vec::new();
        for becomes in [Becomes::Pending, Becomes::Failed, Becomes::Unlocked, Becomes::Deleted] {
            let security = &security;
            cases.push(named(format!("{becomes:?}"), async move {
                let case = Case::new(security, preserving(), "web-server").await?;
                says_what_became_of_a_snapshot(&case, becomes).await
            }));
        }
        all("what became of a snapshot", cases).await;
    });
}

fn snapshots_are_made(request: &Request) -> bool {
    request.operation == "CreateSnapshots"
}

/// The snapshots of an account.
async fn snapshots(observer: &Observer, account: &str) -> Result<Vec<Value>> {
    let found = observer.call(account, REGION, "ec2", "describe_snapshots", json!({"OwnerIds": ["self"]})).await?;
    Ok(list(&found["Snapshots"]).cloned().collect())
}

/// AWS may not show for a moment what was just made: by its tag, or at all.
#[test]
fn a_snapshot_that_is_not_visible_yet_is_locked_and_not_made_twice() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = Case::new(&security, preserving(), "web-server").await.unwrap();
        let (observer, account) = (security.observer.clone(), case.member.clone());
        let hide = Box::pin(async move {
            for snapshot in snapshots(&observer, &account).await? {
                let params = json!({"Resources": [snapshot["SnapshotId"]], "Tags": [{"Key": "firebreak:case"}]});
                observer.call(&account, REGION, "ec2", "delete_tags", params).await?;
            }
            Ok(())
        });
        let hidden = case.faults.meanwhile(Moment::After, snapshots_are_made, hide);
        let answer = case.deliver().await.answer().unwrap();
        hidden.happened().unwrap();
        assert!(answer.outcomes.iter().all(|o| o.outcome == Outcome::Preserved), "{:?}", answer.outcomes);
        is_so(&case).await.unwrap();
    });
}

#[test]
fn a_snapshot_that_is_not_there_when_it_is_locked_is_looked_for_again() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = Case::new(&security, preserving(), "web-server").await.unwrap();
        let (observer, account) = (security.observer.clone(), case.member.clone());
        let delete = Box::pin(async move {
            let made = snapshots(&observer, &account).await?;
            let params = json!({"SnapshotId": made.first().context("nothing was made")?["SnapshotId"]});
            observer.call(&account, REGION, "ec2", "delete_snapshot", params).await.map(|_| ())
        });
        let deleted = case.faults.meanwhile(Moment::After, snapshots_are_made, delete);
        case.deliver().await.answer().unwrap();
        deleted.happened().unwrap();
        let run = case.the_run().await.unwrap();
        assert!(!run.steps.values().any(|record| record.result == StepResult::Gone), "{}", results(&run));
        assert!(matches!(run.end, Some(RunEnd { outcome: Outcome::Partial, retry: true, .. })), "{}", results(&run));
        // The next call of the function believes what AWS shows.
        case.settle().await.unwrap();
        is_so(&case).await.unwrap();
    });
}

#[test]
fn a_volume_that_came_later_is_in_a_set_of_its_own_and_so_are_its_requests() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = Case::new(&security, preserving(), "single-interface").await.unwrap();
        let (observer, account, instance) = (security.observer.clone(), case.member.clone(), case.target.id.clone());
        let attach = Box::pin(async move {
            let ec2 = |operation: &'static str, params| observer.call(&account, REGION, "ec2", operation, params);
            let seen = ec2("describe_instances", json!({"InstanceIds": [instance]})).await?;
            let zone = &seen["Reservations"][0]["Instances"][0]["Placement"]["AvailabilityZone"];
            let volume = ec2("create_volume", json!({"AvailabilityZone": zone, "Size": 1})).await?;
            let params = json!({"VolumeId": volume["VolumeId"], "InstanceId": instance, "Device": "/dev/sdz"});
            ec2("attach_volume", params).await.map(|_| ())
        });
        let attached = case.faults.meanwhile(Moment::After, snapshots_are_made, attach);
        case.deliver().await.answer().unwrap();
        attached.happened().unwrap();
        case.settle().await.unwrap();
        is_so(&case).await.unwrap();
        let sets: Vec<String> = case
            .faults
            .requests()
            .into_iter()
            .filter(snapshots_are_made)
            .map(|request| request.answered.unwrap())
            .collect();
        assert_eq!(sets.len(), 2);
        let record = custody(&case, "custody").await.unwrap();
        let mut of_set = [0, 0];
        for item in list(&record["body"]["items"]) {
            let made = list(&item["requests"]).filter(|request| request["operation"] == "CreateSnapshots");
            let [made] = made.collect::<Vec<_>>()[..] else { panic!("{item}") };
            let set = sets.iter().position(|id| made["request_id"] == id.as_str()).unwrap();
            of_set[set] += 1;
        }
        assert_eq!(of_set, [2, 1], "{record}");
    });
}
