//! The loop in each situation that a finding or a decision can come into.

use anyhow::{Context, Result, ensure};
use firebreak::hub::Answered;
use firebreak::ids::RunId;
use firebreak::ledger::decisions::Verb;
use firebreak::playbook::Playbook;
use firebreak::run::{Outcome, RunState};
use firebreak_tests::compare::{differences, list};
use firebreak_tests::emulator::{workspace, world};
use firebreak_tests::events;
use firebreak_tests::faults::{Moment, Place};
use firebreak_tests::in_process::{
    Case, Permits, REGION, Security, Settings, Traced, event_about, playbooks, run_to_end,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::delivery::pascal;
use crate::facts::{alter, has_parts, holds, is_so, open, reopen};
use crate::support::{Named, all, contains, done, fixes, is_restored, isolating, named, preserves, worlds};

/// One case for each playbook, in its least world.
async fn for_each<F>(law: &str, permits: Permits, which: fn(&Traced) -> bool, case: impl Fn(Case) -> F + Copy)
where
    F: Future<Output = Result<()>> + Send,
{
    let mut cases: Vec<Named<'_>> = Vec::new();
    for (_, playbook) in playbooks().iter().filter(|(_, playbook)| which(playbook)) {
        // A security account each: what it tells is about this case.
        let security = Security::fresh(permits).await.unwrap();
        let made = Case::new(&security, playbook, &worlds(playbook).await.least).await.unwrap();
        cases.push(named(playbook.id(), case(made)));
    }
    all(law, cases).await;
}

fn every(_: &Traced) -> bool {
    true
}

fn with_parts(playbook: &Traced) -> bool {
    has_parts(playbook)
}

fn cutting(playbook: &Traced) -> bool {
    contains(playbook)
}

/// The one outcome of an event.
async fn outcome(case: &Case, event: &Value) -> Result<Answered> {
    let answer = case.deliver_event(event).await.answer()?;
    let [answered] = answer.outcomes.as_slice() else { anyhow::bail!("{:?}", answer.outcomes) };
    Ok(answered.clone())
}

/// Delivers an event that must change nothing in the account.
async fn changes_nothing(case: &Case, event: &Value, wanted: Outcome, why: &str) -> Result<()> {
    let (before, from) = (case.state().await?, case.faults.requests().len());
    let answered = outcome(case, event).await?;
    ensure!(answered.outcome == wanted && answered.why.contains(why), "{answered:?}");
    let differs = differences(&before, &case.state().await?);
    ensure!(differs.is_empty(), "{differs:?}");
    let changed = case.faults.requests().into_iter().skip(from).find(|r| r.place == Place::Member && !r.reads());
    ensure!(changed.is_none(), "{changed:?}");
    Ok(())
}

/// Another finding about the target, last seen at a time.
async fn seen_at(case: &Case, at: Timestamp) -> Result<Value> {
    let mut event = case.report(&case.target.id).await?;
    events::seen(&mut event, at);
    case.security.observer.put_finding(&case.security.account, REGION, &event["detail"]).await?;
    Ok(event)
}

#[test]
fn a_repeat_after_an_undo_is_proposed_if_the_activity_went_on_and_else_noted() {
    run_to_end(|| async {
        for_each("a repeat after an undo", Permits::Enforce, every, |case| async move {
            case.deliver().await.answer()?;
            case.settle().await?;
            case.decide(Verb::Undo).await?.answer()?;
            let undone = case.the_run().await?;
            let at = undone.released_at.context("it was not undone")?;

            let old = seen_at(&case, at - SignedDuration::from_mins(5)).await?;
            changes_nothing(&case, &old, Outcome::NoChange, "was undone after this was last seen").await?;
            ensure!(case.the_run().await?.head.id == undone.head.id, "an old repeat began a run");

            let new = seen_at(&case, at + SignedDuration::from_mins(5)).await?;
            changes_nothing(&case, &new, Outcome::Proposed, "was undone, and this was seen again since").await?;
            let run = case.the_run().await?;
            ensure!(run.head.id != undone.head.id && run.state == RunState::Proposed, "{:?}", run.state);
            let told = case.security.told_about(run.head.id.as_str()).await?;
            ensure!(told.iter().any(|text| text.starts_with("DECISION NEEDED")), "nobody was asked: {told:?}");
            // Somebody is woken: it was let go, and it goes on.
            let events = case.security.outcomes().await?;
            let paged = events.iter().any(|e| e["run"] == run.head.id.as_str() && e["page"] == true);
            ensure!(paged, "{events:?}");
            // The same again, as GuardDuty and Security Hub repeat it: the question stays, and that is all.
            let why = if fixes(case.playbook) { "was answered minutes ago" } else { "the finding joined" };
            for _ in 0..2 {
                changes_nothing(&case, &new, Outcome::NoChange, why).await?;
            }
            let still = case.the_run().await?;
            ensure!(still.head.id == run.head.id && still.state == RunState::Proposed, "{:?}", still.state);
            // And it can be contained again.
            let answer = case.decide(Verb::Approve).await?.answer()?;
            ensure!(answer.outcomes.iter().all(|o| o.outcome == done(case.playbook)), "{:?}", answer.outcomes);
            if contains(case.playbook) { is_so(&case).await } else { Ok(()) }
        })
        .await;
    });
}

#[test]
fn what_somebody_opened_again_is_cut_again_and_undo_gives_back_the_first_state() {
    run_to_end(|| async {
        for_each("held but opened again", Permits::Enforce, cutting, |case| async move {
            let before = case.state().await?;
            case.deliver().await.answer()?;
            case.settle().await?;
            let run = case.the_run().await?.head.id;
            reopen(&case).await?;
            ensure!(!open(&case, &case.state().await?)?.is_empty(), "nobody opened anything");
            let repeat = case.report(&case.target.id).await?;
            changes_nothing(&case, &repeat, Outcome::NoChange, "it is open again").await?;
            let told = case.security.told_about(run.as_str()).await?;
            ensure!(told.iter().any(|text| text.starts_with("OPEN AGAIN")), "{told:?}");
            case.settle().await?;
            is_so(&case).await?;
            ensure!(case.the_run().await?.head.id == run, "another run has it");
            case.decide(Verb::Undo).await?.answer()?;
            // What the attacker made is the attacker's; where it was is as it was.
            let mut after = case.state().await?;
            let theirs = differences(&before, &after).into_iter().filter(|d| d.before.is_none());
            for made in theirs.filter(|d| d.after.as_ref().is_some_and(|group| group["name"] == "attackers")) {
                if let Some(groups) = after[made.at(0)].as_object_mut() {
                    groups.remove(made.at(1));
                }
            }
            let run = case.the_run().await?;
            let left = crate::support::undeclared(&case, &before, &after, &run);
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await;
    });
}

#[test]
fn a_proposal_that_fits_no_more_is_made_anew_and_asked_again() {
    run_to_end(|| async {
        for_each("the world changed before the approval", Permits::Default, with_parts, |case| async move {
            case.deliver().await.answer()?;
            let old = case.the_run().await?;
            alter(&case).await?;
            let approval = case.decision(Verb::Approve).await?;
            changes_nothing(&case, &approval, Outcome::Proposed, "look again").await?;
            let new = case.the_run().await?;
            ensure!(new.head.id != old.head.id && new.head.plan_hash != old.head.plan_hash, "the plan is the same");
            let stands = case.security.ledger()?.run(&old.head.id).await?.context("it is gone")?.state;
            ensure!(stands == RunState::Superseded, "{stands:?}");
            let told = case.security.told_about(new.head.id.as_str()).await?;
            ensure!(told.iter().any(|text| text.starts_with("DECISION NEEDED")), "nobody was asked: {told:?}");
            // The approval was of the old plan, and is used.
            changes_nothing(&case, &approval, Outcome::Refused, "was used before").await?;
            let answer = case.decide(Verb::Approve).await?.answer()?;
            ensure!(answer.outcomes.iter().all(|o| o.outcome == done(case.playbook)), "{:?}", answer.outcomes);
            is_so(&case).await
        })
        .await;
    });
}

#[test]
fn a_decision_of_another_plan_or_that_has_lapsed_is_not_carried_out() {
    run_to_end(|| async {
        for_each("decisions that do not count", Permits::Default, every, |case| async move {
            case.deliver().await.answer()?;
            for verb in [Verb::Approve, Verb::Reject] {
                let other = case.decision_with(verb, |decision| decision.plan_hash = "another".to_owned()).await?;
                changes_nothing(&case, &other, Outcome::Refused, "is of another plan").await?;
                let lapsed = case.decision_with(verb, |decision| decision.expires_at = Timestamp::now()).await?;
                changes_nothing(&case, &lapsed, Outcome::Refused, "has lapsed").await?;
            }
            let undo = case.decision(Verb::Undo).await?;
            changes_nothing(&case, &undo, Outcome::Refused, "there is nothing to undo").await?;
            ensure!(case.the_run().await?.state == RunState::Proposed, "it can still be decided");
            Ok(())
        })
        .await;
    });
}

/// L3: what the administrator archived stands no more.
#[test]
fn l03_an_archived_finding_changes_nothing_in_the_event_or_in_guardduty() {
    run_to_end(|| async {
        for_each("archived", Permits::Enforce, every, |case| async move {
            let mut archived = case.event.clone();
            events::archived(&mut archived);
            changes_nothing(&case, &archived, Outcome::Refused, "archived").await?;
            ensure!(case.faults.requests().is_empty(), "an archived finding cost a call");
            // New in the event, archived since.
            case.security.observer.put_finding(&case.security.account, REGION, &archived["detail"]).await?;
            changes_nothing(&case, &case.event, Outcome::Refused, "archived").await?;
            let view = case.security.ledger()?.view(case.playbook.meta(), &case.target, Timestamp::now()).await?;
            ensure!(view.hold.is_none() && view.spent_account == 0, "{view:?}");
            Ok(())
        })
        .await;
    });
}

/// The same case with another instance of its world as the target.
fn about(case: &mut Case, name: &str) -> Result<()> {
    case.target.id = case.ids.get(name)?.to_owned();
    Ok(())
}

/// L11: everything that a document reports is answered, not the first of it.
#[test]
fn l11_every_finding_of_a_document_and_every_instance_of_a_finding_is_answered() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let text = std::fs::read_to_string(workspace().join("events/guardduty/attack-sequence-ec2.json")).unwrap();
        let mut cases: Vec<Named<'_>> = Vec::new();
        for (_, playbook) in playbooks().iter().filter(|(_, p)| p.id() == isolating().id() || preserves(*p)) {
            let (security, text) = (&security, &text);
            cases.push(named(format!("{}, two findings in one document", playbook.id()), async move {
                let mut case = Case::new(security, playbook, "web-server").await?;
                let other = case.report(case.ids.get("neighbour")?).await?;
                let both = json!({"Findings": [pascal(&case.event["detail"]), pascal(&other["detail"])]});
                both_are_answered(&mut case, &both).await
            }));
            cases.push(named(format!("{}, two instances in one finding", playbook.id()), async move {
                let mut case = Case::new(security, playbook, "web-server").await?;
                let mut text = text.clone();
                for (old, new) in [
                    ("222222222222", case.member.as_str()),
                    ("111111111111", &security.account),
                    ("5ecebb8a13b246721f94e051181520d4", &RunId::new().to_string().to_lowercase()),
                    ("i-57dfeda647010ab65", case.ids.get("victim")?),
                    ("i-9eb615db1d6886473", case.ids.get("neighbour")?),
                ] {
                    text = text.replace(old, new);
                }
                let event: Value = serde_json::from_str(&text)?;
                security.observer.put_finding(&security.account, REGION, &event["detail"]).await?;
                both_are_answered(&mut case, &event).await
            }));
        }
        all("L11: everything that is reported", cases).await;
    });
}

async fn both_are_answered(case: &mut Case, document: &Value) -> Result<()> {
    let answer = case.deliver_event(document).await.answer()?;
    ensure!(answer.outcomes.len() == 2, "{:?}", answer.outcomes);
    ensure!(answer.outcomes.iter().all(|o| o.outcome == done(case.playbook)), "{:?}", answer.outcomes);
    let state = case.state().await?;
    let mut runs = Vec::new();
    for name in ["victim", "neighbour"] {
        about(case, name)?;
        holds(case, &state).with_context(|| name.to_owned())?;
        runs.push(case.the_run().await?.head.id);
    }
    ensure!(runs[0] != runs[1], "one run for two targets");
    Ok(())
}

/// Two runs that begin side by side in a VPC without a group of ours make one each. Each of them is ours.
#[test]
fn two_instances_of_one_vpc_contained_side_by_side_are_both_held_and_both_given_back() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let mut two = world("single-interface").unwrap();
        let mut neighbour = two["instances"]["victim"].clone();
        for (kind, name) in [("interfaces", "eni_neighbour"), ("volumes", "vol_neighbour")] {
            neighbour[kind][0]["name"] = json!(name);
        }
        two["instances"]["neighbour"] = neighbour;
        let mut case = Case::of(&security, isolating(), &two, Settings::default()).await.unwrap();
        let before = case.state().await.unwrap();
        let other = case.report(case.ids.get("neighbour").unwrap()).await.unwrap();
        // The second one is planned, carried out and recorded while the first is about to make its group.
        let (hub, bytes) = (case.another_process().unwrap().0, other.to_string());
        let second = Box::pin(async move {
            let answer = hub.receive(bytes.as_bytes(), std::time::Instant::now() + Settings::default().time).await;
            let answer = answer.map_err(|failure| anyhow::anyhow!("{}", failure.brief()))?;
            ensure!(answer.outcomes.iter().all(|o| o.outcome == Outcome::Contained), "{:?}", answer.outcomes);
            Ok(())
        });
        let makes = |request: &firebreak_tests::faults::Request| request.operation == "CreateSecurityGroup";
        let second = case.faults.meanwhile(Moment::Before, makes, second);
        assert_eq!(outcome(&case, &case.event).await.unwrap().outcome, Outcome::Contained);
        second.happened().unwrap();
        assert_eq!(case.groups().await.unwrap().len(), 2, "they did not begin side by side");

        let names = ["victim", "neighbour"];
        for name in names.into_iter().chain(names) {
            about(&mut case, name).unwrap();
            is_so(&case).await.unwrap();
            let repeat = case.report(&case.target.id).await.unwrap();
            changes_nothing(&case, &repeat, Outcome::NoChange, "").await.unwrap();
        }
        case.settle().await.unwrap();
        let told = security.messages().await.unwrap();
        assert!(!told.iter().any(|text| text.starts_with("OPEN AGAIN")), "{told:?}");
        for name in names {
            about(&mut case, name).unwrap();
            let answer = case.decide(Verb::Undo).await.unwrap().answer().unwrap();
            assert!(answer.outcomes.iter().all(|o| o.outcome == Outcome::Undone), "{:?}", answer.outcomes);
        }
        // What one run does not explain the other does.
        let after = case.state().await.unwrap();
        let mut left = differences(&before, &after);
        for name in names {
            about(&mut case, name).unwrap();
            let unexplained = crate::support::undeclared(&case, &before, &after, &case.the_run().await.unwrap());
            left.retain(|difference| unexplained.contains(difference));
        }
        assert!(left.is_empty(), "{left:?}");
    });
}

/// Somebody's target group, listed and then deleted before its targets are read, is not where the instance is.
#[test]
fn a_target_group_that_is_deleted_while_the_plan_is_made_is_passed_over() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = Case::new(&security, isolating(), "web-server").await.unwrap();
        let params = json!({
            "Name": "short-lived", "Protocol": "TCP", "Port": 80, "VpcId": case.ids.get("vpc").unwrap(),
        });
        let made = case.call("elbv2", "create_target_group", params).await.unwrap();
        let arn = made["TargetGroups"][0]["TargetGroupArn"].clone();
        let (observer, member) = (security.observer.clone(), case.member.clone());
        let delete = Box::pin(async move {
            let params = json!({"TargetGroupArn": arn});
            observer.call(&member, REGION, "elbv2", "delete_target_group", params).await.map(|_| ())
        });
        let listed = |request: &firebreak_tests::faults::Request| request.operation == "DescribeTargetGroups";
        let deleted = case.faults.meanwhile(Moment::After, listed, delete);
        assert_eq!(outcome(&case, &case.event).await.unwrap().outcome, Outcome::Contained);
        deleted.happened().unwrap();
        is_so(&case).await.unwrap();
        let plan = case.the_run().await.unwrap().head.plan;
        assert!(!plan.incomplete && plan.stages.iter().any(|stage| stage.name == "withdraw"), "{:?}", plan.remains);
    });
}

/// GuardDuty's copy in the administrator's account follows the member's: what is absent is looked for twice.
#[test]
fn a_finding_that_is_absent_at_first_and_then_there_is_answered() {
    run_to_end(|| async {
        for_each("absent once, then there", Permits::Enforce, every, |case| async move {
            let security = case.security.clone();
            let event = event_about(case.playbook, &security.account, &case.member, &case.ids, &case.target.id)?;
            let (observer, account, detail) =
                (security.observer.clone(), security.account.clone(), event["detail"].clone());
            let arrives = Box::pin(async move { observer.put_finding(&account, REGION, &detail).await.map(|_| ()) });
            let fetches = |request: &firebreak_tests::faults::Request| request.operation == "GetFindings";
            let arrives = case.faults.meanwhile(Moment::After, fetches, arrives);
            let answered = outcome(&case, &event).await?;
            arrives.happened()?;
            ensure!(answered.outcome == done(case.playbook), "{answered:?}");
            is_so(&case).await
        })
        .await;
    });
}

/// L14: what is so already is a success and changes nothing. The ledger was restored from before the run.
#[test]
fn l14_what_is_contained_already_is_no_change() {
    run_to_end(|| async {
        // That the sessions of a role are revoked is known to their run alone, and they are revoked again.
        let which = |playbook: &Traced| cutting(playbook) && has_parts(playbook);
        for_each("L14: contained already", Permits::Enforce, which, |case| async move {
            case.deliver().await.answer()?;
            case.settle().await?;
            let hold = format!("HOLD#{}#{}", case.playbook.meta().hold, case.target);
            let params = json!({
                "TableName": case.hub.config.ledger_table, "Key": {"pk": {"S": hold}, "sk": {"S": "HOLD"}},
            });
            case.security.call("dynamodb", "delete_item", params).await?;
            changes_nothing(&case, &case.event, Outcome::NoChange, "everything is as wanted already").await?;
            let view = case.security.ledger()?.view(case.playbook.meta(), &case.target, Timestamp::now()).await?;
            ensure!(view.hold.is_none() && view.spent_account == 1, "{view:?}");
            Ok(())
        })
        .await;
    });
}

/// What security groups of the instance do not reach is named, in the ledger and in what machines are told.
#[test]
fn the_branch_interfaces_behind_a_trunk_are_named() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let mut node = world("single-interface").unwrap();
        let trunk = json!({"name": "eni_trunk", "subnet": "subnet_a", "groups": ["sg_web"], "type": "trunk"});
        node["instances"]["victim"]["interfaces"].as_array_mut().unwrap().push(trunk);
        let case = Case::of(&security, isolating(), &node, Settings::default()).await.unwrap();
        let before = case.state().await.unwrap();
        let answered = outcome(&case, &case.event).await.unwrap();
        assert_eq!(answered.outcome, Outcome::Contained);
        is_so(&case).await.unwrap();
        let named = format!("{}: a trunk: the branch interfaces of its pods", case.ids.get("eni_trunk").unwrap());
        let run = case.the_run().await.unwrap();
        let remains = &run.end.as_ref().unwrap().remains;
        assert!(remains.iter().any(|line| line.starts_with(&named)), "{remains:?}");
        let events = security.outcomes().await.unwrap();
        let told = events.iter().flat_map(|event| list(&event["remains"])).filter_map(Value::as_str);
        assert!(told.into_iter().any(|line| line.starts_with(&named)), "{events:?}");
        case.decide(Verb::Undo).await.unwrap().answer().unwrap();
        is_restored(&case, &before, &case.the_run().await.unwrap()).await.unwrap();
    });
}
