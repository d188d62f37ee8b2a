//! Many findings at once: what is grave comes first, one account does not hold up the others, and people are not told more
//! than they can read.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use firebreak::finding::{CRITICAL, HIGH};
use firebreak::hub::{Answer, Hub};
use firebreak::ledger::{Budget, Which};
use firebreak::run::{Outcome, RunState};
use firebreak_tests::faults::{Fault, Place, Request};
use firebreak_tests::in_process::{Case, Delivered, Permits, REGION, Security, playbooks, run_to_end};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::isolating;

const MEDIUM: f64 = 5.0;

/// A genuine finding of this severity about a resource of the case's account.
async fn finding_of(case: &Case, id: &str, severity: f64) -> Result<Value> {
    let mut event = case.report(id).await?;
    event["detail"]["severity"] = json!(severity);
    case.security.observer.put_finding(&case.security.account, REGION, &event["detail"]).await?;
    Ok(event)
}

async fn answered(case: &Case, hub: &Hub, event: &Value) -> Result<Answer> {
    Ok(hub.receive(event.to_string().as_bytes(), Instant::now() + case.settings.time).await?)
}

async fn outcome_of(case: &Case, hub: &Hub, event: &Value) -> Result<(Outcome, String)> {
    let answer = answered(case, hub, event).await?;
    let first = answer.outcomes.first().context("no outcome")?;
    Ok((first.outcome, first.why.clone()))
}

#[test]
fn findings_that_are_not_grave_leave_some_of_the_budget_to_grave_ones() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = Case::new(&security, isolating(), "web-server").await.unwrap();
        let (hub, _) =
            case.process_with(|config| config.budget = Budget { account_per_hour: 2, total_per_hour: 2 }).unwrap();
        let (victim, neighbour) = (case.ids.get("victim").unwrap(), case.ids.get("neighbour").unwrap());
        let medium = finding_of(&case, victim, MEDIUM).await.unwrap();
        assert_eq!(outcome_of(&case, &hub, &medium).await.unwrap().0, Outcome::Contained);
        // One is left of the budget, and it is not for this one.
        let medium = finding_of(&case, neighbour, MEDIUM).await.unwrap();
        let (outcome, why) = outcome_of(&case, &hub, &medium).await.unwrap();
        assert_eq!(outcome, Outcome::Proposed);
        assert!(why.contains("kept for graver findings"), "{why}");
        let critical = finding_of(&case, neighbour, CRITICAL).await.unwrap();
        assert_eq!(outcome_of(&case, &hub, &critical).await.unwrap().0, Outcome::Contained);
    });
}

/// Notes that people got so many messages of a kind in this hour, about an account or about `all`.
async fn were_told(case: &Case, whose: &str, kind: &str, count: u64) -> Result<()> {
    // In the hour that begins as well: the test may run into it.
    for later in [0, 3600] {
        let hour = (Timestamp::now() + jiff::SignedDuration::from_secs(later)).strftime("%Y%m%d%H").to_string();
        let key = format!("told#{whose}#{kind}#{hour}");
        let item = json!({"pk": {"S": "BUDGET"}, "sk": {"S": key}, "told": {"N": count.to_string()}});
        let put = json!({"TableName": case.hub.config.ledger_table, "Item": item});
        case.security.call("dynamodb", "put_item", put).await?;
    }
    Ok(())
}

/// Delivers a finding that is proposed, and says what people were told.
async fn asked(case: &Case, id: &str, severity: f64) -> Result<Vec<String>> {
    let event = finding_of(case, id, severity).await?;
    let (outcome, why) = outcome_of(case, &case.hub, &event).await?;
    ensure!(outcome == Outcome::Proposed, "{outcome}: {why}");
    ensure!(case.security.outcomes().await?.len() == 1, "not every proposal has its event");
    case.security.messages().await
}

const MORE: &str = "there are more in this account";

#[test]
fn people_are_not_asked_more_than_they_can_read_and_slight_findings_hide_no_grave_one() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Default).await.unwrap();
        let case = Case::new(&security, isolating(), "web-server").await.unwrap();
        let (victim, neighbour) = (case.ids.get("victim").unwrap(), case.ids.get("neighbour").unwrap());
        were_told(&case, &case.member, "asked-low", 20).await.unwrap();
        let last = asked(&case, victim, MEDIUM).await.unwrap();
        assert!(last.len() == 1 && last[0].contains(MORE) && last[0].contains("runs --state proposed"), "{last:?}");
        assert_eq!(asked(&case, neighbour, MEDIUM).await.unwrap(), Vec::<String>::new());
        // It is on the list that the last message named.
        let listed = async |severity| {
            let which = Which { state: Some(RunState::Proposed), severity: Some(severity) };
            let runs = security.ledger().unwrap().runs(9, None, which).await.unwrap().0;
            runs.into_iter().map(|run| run.head.target.id).collect::<Vec<_>>()
        };
        assert_eq!(listed(MEDIUM).await, [neighbour, victim]);
        assert_eq!(listed(HIGH).await, Vec::<String>::new());
        let graver = asked(&case, neighbour, HIGH).await.unwrap();
        assert!(graver.len() == 1 && !graver[0].contains(MORE), "hidden behind slighter ones: {graver:?}");
        assert_eq!(listed(HIGH).await, [neighbour]);
        were_told(&case, &case.member, "asked-high", 99).await.unwrap();
        let critical = asked(&case, victim, CRITICAL).await.unwrap();
        assert!(critical.len() == 1 && !critical[0].contains(MORE), "{critical:?}");
    });
}

#[test]
fn what_is_to_be_fixed_hides_no_finding_and_its_rating_spends_no_more() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Default).await.unwrap();
        let of = |id: &str| playbooks().iter().find(|(_, playbook)| playbook.id() == id).unwrap().1;
        let case = Case::new(&security, of("validate-log-files"), "unsigned-trail").await.unwrap();
        case.deliver().await.answer().unwrap();
        let counted = async |kind: &str| {
            let hour = Timestamp::now().strftime("%Y%m%d%H").to_string();
            let key = json!({"pk": {"S": "BUDGET"}, "sk": {"S": format!("told#{}#{kind}#{hour}", case.member)}});
            let get = json!({"TableName": case.hub.config.ledger_table, "Key": key, "ConsistentRead": true});
            !security.call("dynamodb", "get_item", get).await.unwrap()["Item"].is_null()
        };
        assert!(counted("asked-fix").await || counted("paged-fix").await, "a fix was proposed and not counted");
        assert!(!counted("asked-high").await && !counted("asked-low").await, "it counts with findings");
    });
}

#[test]
fn many_messages_about_other_accounts_do_not_hide_the_first_ones_of_an_account() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Default).await.unwrap();
        let case = Case::new(&security, isolating(), "web-server").await.unwrap();
        were_told(&case, "all", "asked-low", 100).await.unwrap();
        let first = asked(&case, case.ids.get("victim").unwrap(), MEDIUM).await.unwrap();
        assert!(first.len() == 1 && !first[0].contains(MORE), "{first:?}");
        were_told(&case, &case.member, "asked-low", 3).await.unwrap();
        let next = asked(&case, case.ids.get("neighbour").unwrap(), MEDIUM).await.unwrap();
        assert!(next.len() == 1 && next[0].contains(MORE), "{next:?}");
    });
}

#[test]
fn a_message_of_a_stopped_finding_that_did_not_go_is_told_by_the_schedule() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let case = Case::new(&security, isolating(), "web-server").await.unwrap();
        security.ledger().unwrap().set_stopped(true, "ann", "a test", Timestamp::now()).await.unwrap();
        case.faults.rule(|request| (request.operation == "Publish").then_some(Fault::Denied));
        case.deliver().await.answer().unwrap();
        case.faults.mend();
        assert_eq!(security.messages().await.unwrap(), Vec::<String>::new());
        case.settle().await.unwrap();
        let told = security.messages().await.unwrap();
        assert!(told.len() == 1 && told[0].starts_with("NOTHING DONE, STOPPED"), "{told:?}");
    });
}

/// A run about a target of the case's account that a process left half done.
async fn left_half_done(case: &mut Case, of: &Case, id: &str, severity: f64) -> Result<()> {
    let event = finding_of(of, id, severity).await?;
    case.faults.once(Fault::DiesBefore, |request| request.place == Place::Member && !request.reads());
    ensure!(matches!(case.deliver_event(&event).await, Delivered::Died), "nobody died");
    case.restart()
}

/// Where the requests about a resource stand among those of a process: the first and the last.
fn span(requests: &[Request], id: &str) -> Result<(usize, usize)> {
    let about = |request: &&Request| request.place == Place::Member && request.body.contains(id);
    let mut places = requests.iter().filter(about).map(|request| request.index);
    let first = places.next().with_context(|| format!("nothing was asked about {id}"))?;
    Ok((first, places.next_back().unwrap_or(first)))
}

#[test]
fn the_schedule_goes_through_accounts_side_by_side_and_in_one_from_grave_to_less() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let mut case = Case::new(&security, isolating(), "web-server").await.unwrap();
        // Of the same function: what it has to do in another account.
        let same = Case::about(&security, isolating(), case.member.clone(), case.ids.clone(), case.settings).await;
        let same = same.unwrap();
        let other = Case::new(&security, isolating(), "web-server").await.unwrap();
        let (victim, neighbour) =
            (case.ids.get("victim").unwrap().to_owned(), case.ids.get("neighbour").unwrap().to_owned());
        let elsewhere = other.ids.get("victim").unwrap();
        left_half_done(&mut case, &same, &neighbour, MEDIUM).await.unwrap();
        left_half_done(&mut case, &same, &victim, CRITICAL).await.unwrap();
        left_half_done(&mut case, &other, elsewhere, MEDIUM).await.unwrap();
        case.let_time_pass().await.unwrap();
        let answer = case.tick().await.answer().unwrap();
        assert_eq!(answer.outcomes.len(), 3, "{:?}", answer.outcomes);
        assert!(answer.outcomes.iter().all(|o| o.outcome == Outcome::Contained), "{:?}", answer.outcomes);
        let requests = case.faults.requests();
        let [grave, less, beside] = [&victim, &neighbour, elsewhere].map(|id| span(&requests, id).unwrap());
        assert!(grave.1 < less.0, "in one account, one after another and the grave one first: {grave:?}, {less:?}");
        assert!(beside.0 < grave.1, "another account did not wait for this one: {beside:?}, {grave:?}");
    });
}
