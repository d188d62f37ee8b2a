//! Custody: what is written of the evidence is what AWS knows of it.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use firebreak_tests::in_process::{Case, Permits, REGION, Security, playbooks, run_to_end};
use serde_json::{Value, json};

use crate::support::{all, contains, named};

/// The custody record of the case's run.
async fn custody(case: &Case) -> Result<Value> {
    let (observer, account) = (&case.security.observer, &case.security.account);
    let bucket = &case.hub.config.evidence_bucket;
    let params = json!({"Bucket": bucket, "Prefix": format!("cases/{}/", case.the_run().await?.head.id)});
    let listed = observer.call(account, REGION, "s3", "list_objects_v2", params).await?;
    let keys = listed["Contents"].as_array().into_iter().flatten().filter_map(|object| object["Key"].as_str());
    for key in keys.rev() {
        let got = observer.call(account, REGION, "s3", "get_object", json!({"Bucket": bucket, "Key": key})).await?;
        let record: Value = serde_json::from_str(got["Body"].as_str().context("an object has no body")?)?;
        if record["kind"] == "custody" {
            return Ok(record);
        }
    }
    bail!("there is no custody record")
}

#[test]
fn the_custody_record_names_the_calls_that_made_and_locked_each_snapshot() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let mut cases = Vec::new();
        for (_, playbook) in playbooks().iter().filter(|(_, playbook)| !contains(*playbook)) {
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
                let record = custody(&case).await?;
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
