//! Many findings at once: what is grave comes first, one account does not hold up the others, and people are not told more
//! than they can read.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use firebreak::finding::{CRITICAL, HIGH};
use firebreak::hub::{Answer, Hub};
use firebreak::ledger::Budget;
use firebreak::run::{Outcome, RunState};
use firebreak_tests::faults::{Fault, Place, Request};
use firebreak_tests::in_process::{Case, Delivered, Permits, REGION, Security, run_to_end};
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

/// Notes that people were asked or told about so many targets in this hour, of an account or of `all`.
async fn were_told(case: &Case, whose: &str, count: u64) -> Result<()> {
    // In the hour that begins as well: the test may run into it.
    for later in [0, 3600] {
        let hour = (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(later)).strftime("%Y%m%d%H").to_string();
        let item = json!({
            "pk": {"S": "BUDGET"}, "sk": {"S": format!("told#{whose}#{hour}")}, "told": {"N": count.to_string()},
        });
        let put = json!({"TableName": case.hub.config.ledger_table, "Item": item});
        case.security.call("dynamodb", "put_item", put).await?;
    }
    Ok(())
}

#[test]
fn people_are_not_asked_about_more_targets_than_they_can_read_but_for_critical_ones() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Default).await.unwrap();
        let case = Case::new(&security, isolating(), "web-server").await.unwrap();
        let (victim, neighbour) = (case.ids.get("victim").unwrap(), case.ids.get("neighbour").unwrap());
        let ask = |event: Value| {
            let (case, security) = (&case, &security);
            async move {
                let (outcome, _) = outcome_of(case, &case.hub, &event).await.unwrap();
                assert_eq!(outcome, Outcome::Proposed);
                let events = security.outcomes().await.unwrap();
                assert_eq!(events.len(), 1, "every proposal has its event");
                security.messages().await.unwrap()
            }
        };
        were_told(&case, &case.member, 19).await.unwrap();
        let last = ask(finding_of(&case, victim, MEDIUM).await.unwrap()).await;
        assert_eq!(last.len(), 1);
        assert!(last[0].contains("firebreak runs --state proposed"), "{}", last[0]);
        let further = ask(finding_of(&case, neighbour, HIGH).await.unwrap()).await;
        assert_eq!(further, Vec::<String>::new());
        // It is on the list that the last message named.
        let proposed = security.ledger().unwrap().runs(1, None, Some(RunState::Proposed)).await.unwrap().0;
        assert_eq!(proposed[0].head.target.id, neighbour);
        let critical = ask(finding_of(&case, neighbour, CRITICAL).await.unwrap()).await;
        let other = Case::new(&security, isolating(), "web-server").await.unwrap();
        were_told(&case, "all", 100).await.unwrap();
        let elsewhere = ask(finding_of(&other, other.ids.get("victim").unwrap(), HIGH).await.unwrap()).await;
        assert_eq!(elsewhere, Vec::<String>::new(), "many accounts are too many as well");
        assert_eq!(critical.len(), 1, "a critical finding is told, however many there are");
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
