//! Controls that do not name what they are about: what is looked up is each a target of its own, and what cannot be looked
//! up is said. And keys, whose users are looked up.

use std::collections::BTreeSet;
use std::sync::Arc;

use firebreak::hub::Answered;
use firebreak::ledger::decisions::Verb;
use firebreak::playbook::Playbook as _;
use firebreak::run::{Outcome, UndoResult};
use firebreak_tests::compare::entries;
use firebreak_tests::emulator::{workspace, world};
use firebreak_tests::events;
use firebreak_tests::faults::Fault;
use firebreak_tests::in_process::{
    Case, Delivered, Permits, REGION, Security, Settings, Traced, finding_in, playbooks, run_to_end,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::facts::is_so;
use crate::support::worlds;

/// The playbooks whose findings here do not name their targets.
async fn looking_up(security: &Arc<Security>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (_, playbook) in playbooks() {
        let case = Case::new(security, playbook, &worlds(playbook).await.least).await.unwrap();
        cases.extend(playbook.looks_up(&case.finding).then_some(case));
    }
    assert!(cases.len() >= 2);
    cases
}

fn playbook(id: &str) -> &'static Traced {
    playbooks().iter().map(|(_, playbook)| *playbook).find(|playbook| playbook.id() == id).unwrap()
}

async fn retiring(security: &Arc<Security>, world: &str) -> Case {
    Case::new(security, playbook("retire-access-key"), world).await.unwrap()
}

async fn outcomes(case: &Case, event: &Value) -> Vec<Answered> {
    case.deliver_event(event).await.answer().unwrap().outcomes
}

/// The victim's keys with their statuses.
async fn keys(case: &Case) -> Vec<(String, Value)> {
    let state = case.state().await.unwrap();
    let name = case.ids.get("victim.name").unwrap();
    entries(&state["users"][name]["keys"]).map(|(key, status)| (key.to_owned(), status.clone())).collect()
}

#[test]
fn each_thing_that_a_control_of_the_account_is_about_has_a_run_of_its_own() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let mut two = world("public-snapshot").unwrap();
        two["snapshots"]["neighbour"]["public"] = json!(true);
        let case = Case::of(&security, playbook("unshare-snapshot"), &two, Settings::default()).await.unwrap();
        let before = case.state().await.unwrap();
        let found = outcomes(&case, &case.event).await;
        assert!(found.len() == 2 && found.iter().all(|o| o.outcome == Outcome::Fixed), "{found:?}");
        let runs: BTreeSet<_> = found.iter().map(|o| o.run.clone().unwrap()).collect();
        assert_eq!(runs.len(), 2);
        is_so(&case).await.unwrap();
        // One is undone, and the other stays.
        case.decide(Verb::Undo).await.unwrap().answer().unwrap();
        let after = case.state().await.unwrap();
        let of = |state: &Value, name: &str| state["snapshots"][case.ids.get(name).unwrap()]["shared"].clone();
        assert_eq!(of(&after, "victim"), of(&before, "victim"));
        assert_eq!(of(&after, "neighbour")["public"], false);
        // Who has it shared by name keeps it.
        assert_eq!(of(&after, "neighbour")["accounts"], of(&before, "neighbour")["accounts"]);
        // The control fails as before: what was undone is a person's to decide, and the other is as wanted.
        case.settle().await.unwrap();
        let mut later = case.report(&case.target.id).await.unwrap();
        events::seen(&mut later, Timestamp::now());
        security.observer.put_finding(&security.account, REGION, &later["detail"]).await.unwrap();
        let found = outcomes(&case, &later).await;
        let [one] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(one.outcome, Outcome::Proposed, "{found:?}");
    });
}

/// A control goes on failing for hours after it was fixed, and meanwhile something else may be as it says.
#[test]
fn what_comes_to_be_so_later_is_another_target_and_not_a_change_back() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = Case::new(&security, playbook("unshare-snapshot"), "public-snapshot").await.unwrap();
        assert_eq!(outcomes(&case, &case.event).await[0].outcome, Outcome::Fixed);
        let neighbour = case.ids.get("neighbour").unwrap();
        let public = json!({"SnapshotId": neighbour, "CreateVolumePermission": {"Add": [{"Group": "all"}]}});
        case.call("ec2", "modify_snapshot_attribute", public).await.unwrap();
        let found = outcomes(&case, &case.report(&case.target.id).await.unwrap()).await;
        let [one] = found.as_slice() else { panic!("{found:?}") };
        assert!(one.outcome == Outcome::Fixed && one.target.as_deref().unwrap().ends_with(neighbour), "{found:?}");
    });
}

#[test]
fn what_is_looked_up_and_not_there_wakes_nobody() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        for case in looking_up(&security).await {
            let gone = Case::new(&security, case.playbook, &worlds(case.playbook).await.gone).await.unwrap();
            let before = gone.state().await.unwrap();
            let found = outcomes(&gone, &gone.event).await;
            let [one] = found.as_slice() else { panic!("{found:?}") };
            assert!(one.outcome == Outcome::NoChange && one.run.is_none(), "{found:?}");
            assert!(one.why.contains("was looked for in the account, and there is none"), "{found:?}");
            assert!(gone.faults.told().is_empty() && gone.due().await.unwrap().is_empty());
            assert_eq!(gone.state().await.unwrap(), before);
        }
    });
}

/// Whoever has the account can have it so for every finding that there is.
#[test]
fn what_cannot_be_looked_up_is_told_once_an_hour_for_an_account() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        for case in looking_up(&security).await {
            let before = case.state().await.unwrap();
            case.faults.rule(|request| (request.operation == "AssumeRole").then_some(Fault::Denied));
            for n in 0..3 {
                let event = case.report(&case.target.id).await.unwrap();
                let found = outcomes(&case, &event).await;
                let [one] = found.as_slice() else { panic!("{found:?}") };
                assert!(one.outcome == Outcome::Failed && one.why.contains("could not be looked up"), "{n}: {found:?}");
            }
            let told = security.told_about(&case.member).await.unwrap();
            let [once] = told.as_slice() else { panic!("{told:?}") };
            assert!(once.starts_with("NOT ANSWERED: ") && once.contains("could not be looked up"), "{once}");
            assert_eq!(case.state().await.unwrap(), before);
            // AWS does not answer: what waits in the queue comes again.
            case.faults.mend();
            case.faults.rule(|request| (request.operation == "AssumeRole").then_some(Fault::NotSent));
            assert!(matches!(case.deliver().await, Delivered::Failed(_)));
            case.faults.mend();
            assert_eq!(outcomes(&case, &case.event).await[0].outcome, Outcome::Fixed);
            is_so(&case).await.unwrap();
        }
    });
}

/// Security Hub names users, and the name may be another user's by now.
#[test]
fn a_user_that_is_named_is_looked_up_and_held_by_its_unique_id() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = retiring(&security, "old-keys").await;
        let text = std::fs::read_to_string(workspace().join("events/securityhub/control-user.json")).unwrap();
        let text = text.replace("222222222222", &case.member).replace("111111111111", &security.account);
        let event: Value = serde_json::from_str(&text).unwrap();
        security.observer.put_finding(&security.account, REGION, &event["detail"]).await.unwrap();
        assert!(case.playbook.looks_up(&finding_in(&event).unwrap()));
        let found = outcomes(&case, &event).await;
        let [one] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((one.outcome, one.target.as_deref()), (Outcome::Fixed, Some(case.target.to_string().as_str())));
        is_so(&case).await.unwrap();
        // The same of the same user, by its id.
        let found = outcomes(&case, &case.event).await;
        assert!(found.iter().all(|o| o.outcome == Outcome::NoChange && o.run == one.run), "{found:?}");
    });
}

#[test]
fn only_the_keys_that_the_control_is_about_are_retired() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = retiring(&security, "old-keys").await;
        assert_eq!(outcomes(&case, &case.event).await[0].outcome, Outcome::Fixed);
        let (old, young) = (case.ids.get("victim.key").unwrap(), case.ids.get("victim.key2").unwrap());
        for (key, status) in keys(&case).await {
            assert_eq!(status, if key == old { "Inactive" } else { "Active" }, "{key} of {old}, {young}");
        }
        // Old, and used yesterday: its owner has to be asked.
        let case = retiring(&security, "old-key-in-use").await;
        let found = outcomes(&case, &case.event).await;
        assert!(found[0].outcome == Outcome::Proposed && found[0].why.contains("whatever uses it stops"), "{found:?}");
        assert!(keys(&case).await.iter().all(|(_, status)| status == "Active"));
    });
}

/// Whoever may put rules into AWS Config chooses for how long keys may live.
#[test]
fn a_rule_that_allows_less_than_aws_does_asks_a_person_and_one_that_allows_more_is_heard() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        for (days, expected) in [(5, Outcome::Proposed), (500, Outcome::NoChange), (90, Outcome::Fixed)] {
            let case = retiring(&security, "old-keys").await;
            let event = case.found_by_config("keys", "ACCESS_KEYS_ROTATED").await.unwrap();
            let rule = json!({
                "ConfigRuleName": "keys", "Source": {"Owner": "AWS", "SourceIdentifier": "ACCESS_KEYS_ROTATED"},
                "InputParameters": json!({"maxAccessKeyAge": days.to_string()}).to_string(),
            });
            case.call("config", "put_config_rule", json!({"ConfigRule": rule})).await.unwrap();
            let found = outcomes(&case, &event).await;
            assert_eq!(found[0].outcome, expected, "{days}: {found:?}");
        }
    });
}

/// An undo for the owner's sake must not give an attacker a key.
#[test]
fn no_key_is_given_back_to_a_user_who_is_contained_meanwhile() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = retiring(&security, "two-old-keys").await;
        assert_eq!(outcomes(&case, &case.event).await[0].outcome, Outcome::Fixed);
        let name = case.ids.get("victim.name").unwrap();
        let policy = format!("arn:aws:iam::{}:policy/firebreak/deny-all", case.member);
        case.call("iam", "attach_user_policy", json!({"UserName": name, "PolicyArn": policy})).await.unwrap();
        let answer = case.decide(Verb::Undo).await.unwrap().answer().unwrap();
        assert_eq!(answer.outcomes[0].outcome, Outcome::UndonePartly, "{:?}", answer.outcomes);
        assert!(keys(&case).await.iter().all(|(_, status)| status == "Inactive"));
        let run = case.the_run().await.unwrap();
        let left = run.undone.values().filter(|undone| matches!(undone.result, UndoResult::Left { .. }));
        assert_eq!(left.count(), 2, "{:?}", run.undone);
        assert!(run.end.unwrap().not_done.iter().any(|line| line.contains("is contained")));
    });
}

/// The name of a database's snapshot is its owner's to give again, and what has it then may be anything.
#[test]
fn a_snapshot_that_was_made_anew_under_its_name_is_not_published_by_an_undo() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = Case::new(&security, playbook("unshare-db-snapshot"), "public-db-snapshot").await.unwrap();
        assert_eq!(outcomes(&case, &case.event).await[0].outcome, Outcome::Fixed);
        let id = &case.target.id;
        case.call("rds", "delete_db_snapshot", json!({"DBSnapshotIdentifier": id})).await.unwrap();
        let database = json!({
            "DBInstanceIdentifier": "production", "DBInstanceClass": "db.t3.micro", "Engine": "postgres",
            "MasterUsername": "owner", "MasterUserPassword": "not-a-secret-1A", "AllocatedStorage": 20,
        });
        case.call("rds", "create_db_instance", database).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        let made = json!({"DBSnapshotIdentifier": id, "DBInstanceIdentifier": "production"});
        case.call("rds", "create_db_snapshot", made).await.unwrap();
        let answer = case.decide(Verb::Undo).await.unwrap().answer().unwrap();
        assert_eq!(answer.outcomes[0].outcome, Outcome::UndonePartly, "{:?}", answer.outcomes);
        assert_eq!(case.state().await.unwrap()["db_snapshots"][id]["shared"]["public"], false);
    });
}

/// How many there are the account decides.
#[test]
fn of_many_things_that_are_so_some_are_answered_at_once_and_the_rest_is_told() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let mut many = world("public-snapshot").unwrap();
        for n in 0..14 {
            many["snapshots"][format!("more{n}")] = json!({"description": "more", "size": 1, "public": true});
        }
        let case = Case::of(&security, playbook("unshare-snapshot"), &many, Settings::default()).await.unwrap();
        let found = outcomes(&case, &case.event).await;
        assert!(found.len() == 10 && found.iter().all(|o| o.outcome == Outcome::Proposed), "{found:?}");
        let told = security.told_about(&case.member).await.unwrap();
        assert_eq!(
            told.iter().filter(|text| text.contains("5 more things in the account are so")).count(),
            1,
            "{told:?}"
        );
    });
}
