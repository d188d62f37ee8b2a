//! Identities: the lessons and the attacks that are about them (`L` as in the lessons of other tools).

use std::sync::Arc;
use std::time::Instant;

use firebreak::hub::{Answer, Hub};
use firebreak::ledger::Which;
use firebreak::ledger::decisions::Verb;
use firebreak::run::{Outcome, Run, RunState};
use firebreak_tests::emulator::workspace;
use firebreak_tests::events;
use firebreak_tests::faults::Place;
use firebreak_tests::in_process::{Case, Permits, REGION, Security, Traced, playbooks, run_to_end};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::is_so;

fn playbook(id: &str) -> &'static Traced {
    playbooks().iter().map(|(_, playbook)| *playbook).find(|playbook| playbook.id() == id).unwrap()
}

async fn case(security: &Arc<Security>, id: &str, world: &str) -> Case {
    Case::new(security, playbook(id), world).await.unwrap()
}

async fn contained(security: &Arc<Security>, id: &str, world: &str) -> Case {
    let case = case(security, id, world).await;
    let answer = case.deliver().await.answer().unwrap();
    assert_eq!(answer.outcomes[0].outcome, Outcome::Contained, "{:?}", answer.outcomes);
    case
}

/// Calls IAM in the member account as somebody who has it.
async fn iam(case: &Case, operation: &str, params: Value) -> Value {
    case.call("iam", operation, params).await.unwrap()
}

async fn user(case: &Case) -> Value {
    let state = case.state().await.unwrap();
    let users = state["users"].as_object().unwrap().values();
    users.into_iter().find(|user| user["id"] == case.ids.get("victim").unwrap()).unwrap().clone()
}

/// The documents of the policies that were put on the victim's role since.
async fn revocations(case: &Case) -> Vec<Value> {
    let state = case.state().await.unwrap();
    let role = &state["roles"][case.ids.get("victim.name").unwrap()];
    let ours = role["inline"].as_object().unwrap().iter().filter(|(name, _)| name.starts_with("firebreak-revoked-"));
    ours.map(|(_, document)| document["Statement"][0].clone()).collect()
}

/// An event of `events/guardduty/` with texts replaced, known to GuardDuty.
async fn event(case: &Case, file: &str, replace: &[(&str, &str)]) -> Value {
    let path = workspace().join("events/guardduty").join(format!("{file}.json"));
    let mut text = std::fs::read_to_string(path).unwrap();
    for (old, new) in [("222222222222", case.member.as_str()), ("111111111111", case.security.account.as_str())] {
        text = text.replace(old, new);
    }
    for (old, new) in replace {
        assert!(text.contains(old), "{file} holds no {old}");
        text = text.replace(old, new);
    }
    let event: Value = serde_json::from_str(&text).unwrap();
    case.security.observer.put_finding(&case.security.account, REGION, &event["detail"]).await.unwrap();
    event
}

async fn receive(case: &Case, hub: &Hub, event: &Value) -> Answer {
    hub.receive(event.to_string().as_bytes(), Instant::now() + case.settings.time).await.unwrap()
}

fn remains(run: &Run) -> String {
    run.end.as_ref().unwrap().remains.join("\n")
}

#[test]
fn l01_l23_a_leaked_key_is_inactive_and_stays_so_when_all_else_is_undone() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = case(&security, "contain-access-key", "ci-user").await;
        let before = user(&case).await;
        case.deliver().await.answer().unwrap();
        let key = case.ids.get("victim.key").unwrap();
        assert_eq!((&before["keys"][key], &user(&case).await["keys"][key]), (&json!("Active"), &json!("Inactive")));
        case.settle().await.unwrap();
        case.decide(Verb::Undo).await.unwrap().answer().unwrap();
        let after = user(&case).await;
        for key in ["victim.key", "victim.key2"] {
            assert_eq!(after["keys"][case.ids.get(key).unwrap()], "Inactive");
        }
        for same in ["attached", "service_credentials", "ssh_keys", "certificates", "password", "inline"] {
            assert_eq!(after[same], before[same], "{same}");
        }
        let told = security.messages().await.unwrap();
        let undone = told.iter().find(|text| text.starts_with("UNDONE")).unwrap();
        assert!(!undone.contains("CONTAINED"), "{undone}");
        assert!(remains(&case.the_run().await.unwrap()).contains("its owner gets a new one"));
    });
}

#[test]
fn l06_what_nothing_here_can_contain_is_told_with_the_steps() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = case(&security, "contain-user", "plain-user").await;
        let before = case.state().await.unwrap();
        let hub = case.whole_function(|_| ()).unwrap();
        for (file, says) in
            [("root-credentials", "sts:AssumeRoot"), ("identity-center-session", "identitystore:UserId")]
        {
            let event = event(&case, file, &[("\"count\": 3", "\"count\": 1")]).await;
            let answer = receive(&case, &hub, &event).await;
            assert_eq!(answer.outcomes[0].outcome, Outcome::NoChange);
            let told = security.messages().await.unwrap().join("\n");
            assert!(told.contains("NOT ANSWERED") && told.contains(says), "{told}");
        }
        assert_eq!(case.state().await.unwrap(), before);
    });
}

#[test]
fn l19_sessions_are_revoked_by_awss_clock_and_keys_whatever_their_age() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let begun = Timestamp::now();
        let case = contained(&security, "revoke-role-sessions", "instance-role").await;
        let [statement] = revocations(&case).await.try_into().unwrap();
        let until: Timestamp =
            statement["Condition"]["DateLessThan"]["aws:TokenIssueTime"].as_str().unwrap().parse().unwrap();
        // The finding was last seen long before; the emulator's clock is this machine's.
        assert!(until >= begun && until > case.finding.last_seen.unwrap(), "{until} is before {begun}");
        assert!(until < Timestamp::now() + std::time::Duration::from_secs(5), "{until} is in the future");
        // A user's denial has no condition: a long-term key has no issue time.
        let case = contained(&security, "contain-access-key", "plain-user").await;
        let arn = format!("arn:aws:iam::{}:policy/firebreak/deny-all", case.member);
        assert_eq!(user(&case).await["attached"], json!([arn]));
        let policy = iam(&case, "get_policy_version", json!({"PolicyArn": arn, "VersionId": "v1"})).await;
        assert!(policy["PolicyVersion"]["Document"]["Statement"][0]["Condition"].is_null(), "{policy}");
    });
}

#[test]
fn l21_only_the_named_session_is_revoked() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = contained(&security, "revoke-role-sessions", "instance-role").await;
        let [statement] = revocations(&case).await.try_into().unwrap();
        assert_eq!(statement["Condition"]["StringEquals"], json!({"aws:userid": case.ids.get("victim").unwrap()}));
        // Another session of the same role is another target: it is revoked besides, and both are undone apart.
        let other = event(
            &case,
            "session-of-role",
            &[
                (
                    "AROADBQP57FF2AEXAMPLE:alice@example.com",
                    &format!("{}:i-0bbbbbbbbbbbbbbbb", case.ids.get("victim.role").unwrap()),
                ),
                ("\"build\"", &format!("\"{}\"", case.ids.get("victim.name").unwrap())),
            ],
        )
        .await;
        let answer = receive(&case, &case.hub, &other).await;
        assert_eq!(answer.outcomes[0].outcome, Outcome::Contained, "{:?}", answer.outcomes);
        assert_eq!(revocations(&case).await.len(), 2);
        case.decide(Verb::Undo).await.unwrap().answer().unwrap();
        let [left] = revocations(&case).await.try_into().unwrap();
        assert!(left["Condition"]["StringEquals"]["aws:userid"].as_str().unwrap().ends_with(":i-0bbbbbbbbbbbbbbbb"));
    });
}

#[test]
fn every_session_of_a_role_wants_a_leave_and_says_whom_it_hits() {
    run_to_end(|| async {
        // Without the leave nothing is done, and that is told.
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = case(&security, "revoke-role-sessions", "role-of-many").await;
        let before = case.state().await.unwrap();
        let answer = case.deliver().await.answer().unwrap();
        assert_eq!(answer.outcomes[0].outcome, Outcome::Refused, "{:?}", answer.outcomes);
        assert_eq!(case.state().await.unwrap(), before);
        assert!(security.messages().await.unwrap().join("\n").contains("leave"));
        // The shipped starter set asks a person, who sees whom it hits.
        let security = Security::fresh(Permits::Default).await.unwrap();
        let starter = std::fs::read_to_string(workspace().join("policies/starter.cedar")).unwrap();
        security.publish(&starter).await.unwrap();
        let case = self::case(&security, "revoke-role-sessions", "role-of-many").await;
        let mut fresh = case.event.clone();
        events::seen(&mut fresh, Timestamp::now());
        security.observer.put_finding(&security.account, REGION, &fresh["detail"]).await.unwrap();
        let answer = receive(&case, &case.hub, &fresh).await;
        assert_eq!(answer.outcomes[0].outcome, Outcome::Proposed, "{:?}", answer.outcomes);
        let run = case.the_run().await.unwrap();
        let forbidden = run.head.reasons.iter().any(|why| why.contains("never-every-session-unasked"));
        assert!(forbidden, "{:?}", run.head.reasons);
        let notes = run.head.plan.notes.join("\n");
        assert!(notes.contains("every session of role") && notes.contains("instance profile"), "{notes}");
        case.decide(Verb::Approve).await.unwrap().answer().unwrap();
        let [statement] = revocations(&case).await.try_into().unwrap();
        assert!(statement["Condition"]["StringEquals"].is_null(), "{statement}");
        assert_eq!(case.the_run().await.unwrap().state, RunState::Held);
    });
}

/// Whoever has the user's credentials has seconds in which they still work.
#[test]
fn what_the_attacker_takes_back_is_done_again_and_told() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = contained(&security, "contain-access-key", "ci-user").await;
        security.messages().await.unwrap();
        let name = "ci-deploy";
        let arn = format!("arn:aws:iam::{}:policy/firebreak/deny-all", case.member);
        let key = case.ids.get("victim.key").unwrap();
        iam(&case, "detach_user_policy", json!({"UserName": name, "PolicyArn": arn})).await;
        iam(&case, "update_access_key", json!({"UserName": name, "AccessKeyId": key, "Status": "Active"})).await;
        // A key of one's own needs the place of another.
        let second = case.ids.get("victim.key2").unwrap();
        iam(&case, "delete_access_key", json!({"UserName": name, "AccessKeyId": second})).await;
        iam(&case, "create_access_key", json!({"UserName": name})).await;
        // And another name, so that nobody finds the user.
        iam(&case, "update_user", json!({"UserName": name, "NewUserName": "printer"})).await;
        case.let_time_pass().await.unwrap();
        case.tick().await.answer().unwrap();
        is_so(&case).await.unwrap();
        let run = case.the_run().await.unwrap();
        assert_eq!((run.state, run.reapplied), (RunState::Held, 1));
        assert!(remains(&run).contains("somebody works against it"), "{}", remains(&run));
        let told = security.messages().await.unwrap().join("\n");
        assert!(told.contains("works against it"), "{told}");
        // It is looked at again until nobody does; then nobody hears of it.
        assert!(case.due().await.unwrap().iter().any(|key| key.contains("#recheck#")));
        case.settle().await.unwrap();
        assert!(security.messages().await.unwrap().iter().all(|text| !text.contains("works against it")));
    });
}

#[test]
fn a_second_look_at_what_holds_wakes_nobody_and_changes_nothing() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        for (id, world) in [("contain-access-key", "plain-user"), ("revoke-role-sessions", "instance-role")] {
            let case = contained(&security, id, world).await;
            security.messages().await.unwrap();
            let (held, requests) = (case.state().await.unwrap(), case.faults.requests().len());
            let rechecks = case.due().await.unwrap().iter().filter(|key| key.contains("#recheck#")).count();
            assert!(rechecks >= 2, "{id}: {rechecks}");
            case.settle().await.unwrap();
            assert!(case.faults.requests().len() > requests);
            let changed =
                case.faults.requests().into_iter().skip(requests).any(|r| r.place == Place::Member && !r.reads());
            assert!(!changed && case.state().await.unwrap() == held, "{id}");
            assert!(security.messages().await.unwrap().is_empty(), "{id}");
        }
    });
}

#[test]
fn what_the_key_made_is_told_with_what_answers_it() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = case(&security, "contain-access-key", "ci-user").await;
        // The history of the world is of the last minutes.
        let mut event = case.event.clone();
        for time in ["eventFirstSeen", "eventLastSeen"] {
            event["detail"]["service"][time] = json!(Timestamp::now().to_string());
        }
        security.observer.put_finding(&security.account, REGION, &event["detail"]).await.unwrap();
        let answer = receive(&case, &case.hub, &event).await;
        assert_eq!(answer.outcomes[0].outcome, Outcome::Contained, "{:?}", answer.outcomes);
        security.messages().await.unwrap();
        case.settle().await.unwrap();
        let run = case.the_run().await.unwrap();
        let remains = remains(&run);
        let made = case.ids.get("made.key").unwrap();
        for says in [
            format!("CreateAccessKey: access key `{made}` of user `support-bot`; contain-user answers it"),
            format!(
                "CreateUser: user `support-bot`; firebreak request contain-user {} --account {}",
                case.ids.get("made").unwrap(),
                case.member
            ),
            "UpdateAssumeRolePolicy: role `admin`; look at who may assume it".to_owned(),
            format!("session `{0}`; firebreak request revoke-role-sessions {0}", case.ids.get("admin").unwrap()),
        ] {
            assert!(remains.contains(&says), "{says}\nis not in\n{remains}");
        }
        // What was refused was not made, and what another key made is not this one's.
        assert!(!remains.contains("AttachUserPolicy") && !remains.contains("of-the-neighbour"), "{remains}");
        let told = security.messages().await.unwrap();
        assert_eq!(told.iter().filter(|text| text.contains("support-bot")).count(), 1, "{told:?}");
        is_so(&case).await.unwrap();
    });
}

#[test]
fn a_deny_policy_that_somebody_changed_is_not_attached() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = case(&security, "contain-access-key", "plain-user").await;
        let arn = format!("arn:aws:iam::{}:policy/firebreak/deny-all", case.member);
        let allows =
            json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
        let version = json!({"PolicyArn": arn, "PolicyDocument": allows.to_string(), "SetAsDefault": true});
        iam(&case, "create_policy_version", version).await;
        let answer = case.deliver().await.answer().unwrap();
        assert_eq!(answer.outcomes[0].outcome, Outcome::Partial, "{:?}", answer.outcomes);
        let user = user(&case).await;
        assert_eq!(user["attached"], json!([]), "it would have allowed everything");
        assert_eq!(user["keys"][case.ids.get("victim.key").unwrap()], "Inactive");
        let run = case.the_run().await.unwrap();
        assert!(run.end.unwrap().not_done.join("\n").contains("deny policy of deploy"));
    });
}

#[test]
fn a_key_of_somebody_else_than_the_finding_says_is_refused() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = case(&security, "contain-access-key", "ci-user").await;
        let before = case.state().await.unwrap();
        let ids = [case.ids.get("victim").unwrap(), case.ids.get("neighbour.key").unwrap()];
        let finding =
            event(&case, "iam-user", &[("AIDACKCEVSQ6C2EXAMPLE", ids[0]), ("AKIAIOSFODNN7EXAMPLE", ids[1])]).await;
        let answer = receive(&case, &case.hub, &finding).await;
        assert_eq!(answer.outcomes[0].outcome, Outcome::Refused, "{:?}", answer.outcomes);
        assert!(answer.outcomes[0].why.contains("belongs to user ci-test"), "{}", answer.outcomes[0].why);
        assert_eq!(case.state().await.unwrap(), before);
    });
}

#[test]
fn break_glass_is_never_touched_and_without_any_nobody_is() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Default).await.unwrap();
        let published = format!(
            "{}\n{}",
            firebreak::guard::DEFAULT,
            r#"@id("e") permit (principal, action == Action::"enforce", resource);"#
        );
        security.publish(&published).await.unwrap();
        let case = case(&security, "contain-access-key", "ci-user").await;
        let before = case.state().await.unwrap();
        for (break_glass, wanted) in [
            (vec!["arn:aws:iam::*:user/ci/ci-deploy".to_owned()], Outcome::Refused),
            (vec![format!("arn:aws:iam::{}:user/ci/ci-deploy", case.member)], Outcome::Refused),
            (vec![case.ids.get("victim").unwrap().to_owned()], Outcome::Refused),
            (vec![], Outcome::Proposed),
        ] {
            let hub = case.whole_function(|config| config.break_glass = break_glass.clone()).unwrap();
            let answer = receive(&case, &hub, &case.event).await;
            assert_eq!(answer.outcomes[0].outcome, wanted, "{break_glass:?}: {:?}", answer.outcomes);
            assert_eq!(case.state().await.unwrap(), before);
        }
        let hub =
            case.whole_function(|config| config.break_glass = vec!["arn:aws:iam::*:user/other".to_owned()]).unwrap();
        let answer = receive(&case, &hub, &case.event).await;
        assert_eq!(answer.outcomes[0].outcome, Outcome::Contained, "{:?}", answer.outcomes);
    });
}

/// A key and a session of the same user are one user: the second finding joins the first's run.
#[test]
fn a_user_is_held_once_whichever_credentials_are_reported() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = case(&security, "contain-access-key", "ci-user").await;
        let hub = case.whole_function(|_| ()).unwrap();
        let first = receive(&case, &hub, &case.event).await;
        let replace = [("AIDACKCEVSQ6C2EXAMPLE", case.ids.get("victim").unwrap()), ("\"alice\"", "\"ci-deploy\"")];
        let session = event(&case, "session-of-user", &replace).await;
        let second = receive(&case, &hub, &session).await;
        assert_eq!((first.outcomes.len(), first.outcomes[0].outcome), (1, Outcome::Contained));
        assert_eq!(
            (second.outcomes.len(), second.outcomes[0].outcome),
            (1, Outcome::NoChange),
            "{:?}",
            second.outcomes
        );
        assert_eq!(first.outcomes[0].run, second.outcomes[0].run);
        assert_eq!(security.ledger().unwrap().runs(50, None, Which::default()).await.unwrap().0.len(), 1);
    });
}

#[test]
fn a_session_that_acts_again_is_revoked_again_and_the_time_moves_forward() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = contained(&security, "revoke-role-sessions", "instance-role").await;
        let time = |statements: Vec<Value>| -> Timestamp {
            let [statement] = statements.try_into().unwrap();
            statement["Condition"]["DateLessThan"]["aws:TokenIssueTime"].as_str().unwrap().parse().unwrap()
        };
        let first = time(revocations(&case).await);
        // The same finding, seen again with a session that was issued since. The emulator's clock gives whole seconds.
        let mut again = case.event.clone();
        let seen = Timestamp::now() + std::time::Duration::from_secs(3);
        events::seen(&mut again, seen);
        security.observer.put_finding(&security.account, REGION, &again["detail"]).await.unwrap();
        let answer = receive(&case, &case.hub, &again).await;
        assert_eq!(answer.outcomes[0].outcome, Outcome::NoChange);
        while Timestamp::now() < seen {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        case.let_time_pass().await.unwrap();
        case.tick().await.answer().unwrap();
        let second = time(revocations(&case).await);
        assert!(second >= seen && second > first, "{first} → {second}, seen {seen}");
        is_so(&case).await.unwrap();
        // And undone it is gone.
        case.decide(Verb::Undo).await.unwrap().answer().unwrap();
        assert!(revocations(&case).await.is_empty());
    });
}

/// What AWS says of a key that lies open: of the victim's first key, or another.
fn lies_open(case: &Case, file: &str, key: &str) -> Value {
    let text = std::fs::read_to_string(workspace().join("events").join(file)).unwrap();
    let text = text.replace("AKIAIOSFODNN7EXAMPLE", key).replace("AKIAI44QH8DHBEXAMPLE", key);
    let text = text.replace("222222222222", &case.member).replace("111111111111", &case.security.account);
    serde_json::from_str(&text).unwrap()
}

const LIE_OPEN: [&str; 3] =
    ["health/exposed-key.json", "health/suspected-key-organisation.json", "trusted-advisor/exposed-key.json"];

/// Neither can be asked again: their word counts as far as IAM proves it.
#[test]
fn a_key_that_aws_has_found_in_public_is_contained_where_iam_knows_it_and_holds_it_for_active() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        for file in LIE_OPEN {
            let case = case(&security, "contain-access-key", "plain-user").await;
            let key = case.ids.get("victim.key").unwrap().to_owned();
            // A key that is not the account's, and one that is nobody's any more.
            let stranger = self::case(&security, "contain-access-key", "plain-user").await;
            let before = case.state().await.unwrap();
            security.messages().await.unwrap();
            let others = lies_open(&case, file, stranger.ids.get("victim.key").unwrap());
            let answer = case.deliver_event(&others).await.answer().unwrap();
            assert!(answer.outcomes.iter().all(|o| o.outcome == Outcome::NoChange && o.run.is_none()), "{answer:?}");
            let name = case.ids.get("victim.name").unwrap();
            let set = |status: &str| json!({"UserName": name, "AccessKeyId": key, "Status": status});
            iam(&case, "update_access_key", set("Inactive")).await;
            let event = lies_open(&case, file, &key);
            for _ in 0..2 {
                let answer = case.deliver_event(&event).await.answer().unwrap();
                assert!(
                    answer.outcomes.iter().all(|o| o.outcome == Outcome::NoChange && o.run.is_none()),
                    "{answer:?}"
                );
            }
            // Whoever made it inactive may not know that it lies open: people hear of the finding, once.
            let told = security.messages().await.unwrap();
            assert_eq!(told.iter().filter(|text| text.contains("never activate it again")).count(), 1, "{told:?}");
            iam(&case, "update_access_key", set("Active")).await;
            assert_eq!(case.state().await.unwrap(), before);

            let answer = case.deliver_event(&event).await.answer().unwrap();
            let [one] = answer.outcomes.as_slice() else { panic!("{answer:?}") };
            assert_eq!(
                (one.outcome, one.target.as_deref()),
                (Outcome::Contained, Some(case.target.to_string().as_str()))
            );
            is_so(&case).await.unwrap();
            // GuardDuty sees it used as well: one run.
            let answer = case.deliver().await.answer().unwrap();
            assert!(answer.outcomes.iter().all(|o| o.outcome == Outcome::NoChange && o.run == one.run), "{answer:?}");
            case.settle().await.unwrap();
            assert_eq!(case.the_run().await.unwrap().end.unwrap().outcome, Outcome::Contained);
        }
    });
}

#[test]
fn a_key_that_lies_open_is_proposed_where_no_policy_enforces_and_can_be_approved() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Default).await.unwrap();
        let case = case(&security, "contain-access-key", "plain-user").await;
        let event = lies_open(&case, LIE_OPEN[0], case.ids.get("victim.key").unwrap());
        let answer = case.deliver_event(&event).await.answer().unwrap();
        assert_eq!(answer.outcomes[0].outcome, Outcome::Proposed, "{answer:?}");
        let answer = case.decide(Verb::Approve).await.unwrap().answer().unwrap();
        assert_eq!(answer.outcomes[0].outcome, Outcome::Contained, "{answer:?}");
        is_so(&case).await.unwrap();
    });
}
