//! Organizational units: policies that ask where an account stands decide by it, and where that is not known a person
//! is asked; policies that do not ask are as fast and as sure as without an organization.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use firebreak::playbook::Playbook;
use firebreak::run::Outcome;
use firebreak::units::Units;
use firebreak_tests::emulator::{Call, fresh_account};
use firebreak_tests::faults::Fault;
use firebreak_tests::in_process::{Case, Permits, REGION, Security, Traced, event_about, playbooks, run_to_end};
use jiff::Timestamp;

use crate::support::{all, contains, is_so, named};

const PROPOSE: &str = r#"@id("propose") permit (principal, action == Action::"propose", resource);"#;

/// Enforces below one unit, save in another.
fn by_unit(below: &str, save: &str) -> String {
    format!(
        r#"{PROPOSE}
        @id("below") permit (principal, action, resource) when {{ resource has ous && resource.ous.contains("{below}") }};
        @id("save") forbid (principal, action == Action::"enforce", resource)
        when {{ resource has ou && resource.ou == "{save}" }};"#
    )
}

fn isolating() -> &'static Traced {
    playbooks().iter().find(|(_, playbook)| contains(*playbook)).map(|(_, playbook)| *playbook).unwrap()
}

/// A security account in an organization, with a case in each of these units.
async fn cases<const N: usize>(units: [&str; N]) -> Result<(Arc<Security>, [Case; N], BTreeMap<String, String>)> {
    let security = Security::fresh(Permits::Default).await?;
    let mut cases = Vec::new();
    for _ in units {
        cases.push(Case::new(&security, isolating(), "single-interface").await?);
    }
    let members: Vec<(&str, &str)> = cases.iter().map(|case| case.member.as_str()).zip(units).collect();
    let ids = security.observer.organization(&fresh_account(), &security.account, &members).await?;
    Ok((security, cases.try_into().ok().context("a case for each unit")?, ids))
}

/// How often AWS Organizations was asked.
fn asked(case: &Case) -> usize {
    case.faults.requests().iter().filter(|request| request.service == "organizations").count()
}

async fn outcome(case: &Case) -> Result<(Outcome, Vec<String>)> {
    let answer = case.deliver().await.answer()?;
    let outcome = answer.outcomes.first().context("no outcome")?.outcome;
    Ok((outcome, case.run().await?.map(|run| run.head.reasons).unwrap_or_default()))
}

#[test]
fn policies_decide_by_where_the_account_stands() {
    run_to_end(|| async {
        let (security, [web, frozen, test, flat], ids) = cases(["prod/web", "prod/frozen", "test", ""]).await.unwrap();
        security.publish(&by_unit(&ids["prod"], &ids["prod/frozen"])).await.unwrap();
        let expected = [
            (&web, Outcome::Contained, "`below`"),
            (&frozen, Outcome::Proposed, "enforce forbidden by `save`"),
            (&test, Outcome::Proposed, "enforce is not permitted"),
            (&flat, Outcome::Proposed, "enforce is not permitted"),
        ];
        for (case, wanted, why) in expected {
            let (found, reasons) = outcome(case).await.unwrap();
            assert_eq!(found, wanted, "{reasons:?}");
            assert!(reasons.iter().any(|reason| reason.contains(why)), "{why}: {reasons:?}");
            assert_eq!(asked(case), 1);
        }
        is_so(&web).await.unwrap();
        // The root is above every account, and the parent of one that is in no unit.
        security.publish(&by_unit(&ids[""], &ids["test"])).await.unwrap();
        assert_eq!(outcome(&flat).await.unwrap().0, Outcome::Contained);
    });
}

#[test]
fn aws_organizations_is_asked_once_a_day_and_only_if_a_policy_asks() {
    run_to_end(|| async {
        let (security, [case], ids) = cases(["prod"]).await.unwrap();
        security.publish(&by_unit(&ids["prod"], "ou-none-00000000")).await.unwrap();
        let deliver_about = async |name: &str, case: &Case| {
            let about = case.ids.get(name).unwrap();
            let event = event_about(isolating(), &security.account, &case.member, &case.ids, about).unwrap();
            security.observer.put_finding(&security.account, REGION, &event["detail"]).await.unwrap();
            let answer = case.deliver_bytes(event.to_string().as_bytes()).await.answer().unwrap();
            answer.outcomes[0].outcome
        };
        let mut case = case;
        assert_eq!((outcome(&case).await.unwrap().0, asked(&case)), (Outcome::Contained, 1));
        // Another process, another finding: the ledger knows.
        case.restart().unwrap();
        assert_eq!((deliver_about("victim", &case).await, asked(&case)), (Outcome::NoChange, 0));
        // A day later it is read again.
        let account = case.member.parse().unwrap();
        let view = security.ledger().unwrap().view(isolating().meta(), &case.target, Timestamp::now()).await.unwrap();
        let known = view.units.unwrap();
        assert_eq!(known.units.ou, ids["prod"]);
        let old = Timestamp::now() - Duration::from_secs(25 * 3600);
        security.ledger().unwrap().record_units(&account, &known.units, old).await.unwrap();
        assert_eq!((deliver_about("victim", &case).await, asked(&case)), (Outcome::NoChange, 1));
        let view = security.ledger().unwrap().view(isolating().meta(), &case.target, Timestamp::now()).await.unwrap();
        assert!(view.units.unwrap().read_at > old);
        // A set that does not ask.
        let plain = Security::fresh(Permits::Enforce).await.unwrap();
        let case = Case::new(&plain, isolating(), "single-interface").await.unwrap();
        assert_eq!((outcome(&case).await.unwrap().0, asked(&case)), (Outcome::Contained, 0));
    });
}

/// What goes wrong, and what the reason then says.
const UNKNOWN: &[(Fault, &str)] = &[
    (Fault::Denied, "AccessDeniedException"),
    (Fault::Throttled, "TooManyRequestsException"),
    (Fault::ServerError, "ServiceException"),
    (Fault::NotSent, "could not find the organizational unit"),
    (Fault::Hangs, "did not answer in time"),
];

#[test]
fn where_it_is_not_known_a_person_is_asked_and_nobody_waits() {
    run_to_end(|| async {
        let (security, [case], ids) = cases(["prod"]).await.unwrap();
        let asking = by_unit(&ids["prod"], "ou-none-00000000");
        // Enforces everywhere, and asks nevertheless: what is not known must not be passed over.
        let lax = format!(
            r#"@id("all") permit (principal, action, resource);
            @id("save") forbid (principal, action, resource) when {{ resource has ou && resource.ou == "{}" }};"#,
            ids["prod"]
        );
        security.publish(&lax).await.unwrap();
        let mut cases_ = Vec::new();
        for (fault, says) in UNKNOWN {
            let (security, says, fault) = (&security, *says, *fault);
            cases_.push(named(format!("{fault:?}"), async move {
                let case = Case::new(security, isolating(), "single-interface").await?;
                case.faults.rule(move |request| (request.service == "organizations").then_some(fault));
                let begun = Instant::now();
                let (found, reasons) = outcome(&case).await?;
                ensure!(found == Outcome::Proposed, "{found}: {reasons:?}");
                let first = reasons.first().context("no reason")?;
                let whole = [says, "`save` asks for it", &case.member].iter().all(|part| first.contains(part));
                ensure!(whole, "{reasons:?}");
                ensure!(begun.elapsed() < Duration::from_secs(8), "it waited {:?}", begun.elapsed());
                let run = case.the_run().await?;
                ensure!(run.head.leaves.is_empty(), "leaves were given: {:?}", run.head.leaves);
                Ok(())
            }));
        }
        all("units that are not known", cases_).await;
        // In no organization at all, and not in this one.
        let alone = Security::fresh(Permits::Default).await.unwrap();
        alone.publish(&asking).await.unwrap();
        let (found, reasons) =
            outcome(&Case::new(&alone, isolating(), "single-interface").await.unwrap()).await.unwrap();
        assert!(found == Outcome::Proposed && reasons[0].contains("AWSOrganizationsNotInUseException"), "{reasons:?}");
        let stranger = Case::new(&security, isolating(), "single-interface").await.unwrap();
        let (found, reasons) = outcome(&stranger).await.unwrap();
        assert!(found == Outcome::Proposed && reasons[0].contains("AccountNotFoundException"), "{reasons:?}");
        // What was known yesterday is not believed when it cannot be read again.
        security.publish(&asking).await.unwrap();
        let units = Units { ou: ids["prod"].clone(), ous: ids.values().cloned().collect() };
        let yesterday = Timestamp::now() - Duration::from_secs(25 * 3600);
        let account = case.member.parse().unwrap();
        security.ledger().unwrap().record_units(&account, &units, yesterday).await.unwrap();
        case.faults.rule(|request| (request.service == "organizations").then_some(Fault::Denied));
        assert_eq!(outcome(&case).await.unwrap().0, Outcome::Proposed);
    });
}

#[test]
fn to_ask_where_the_account_stands_adds_no_call_to_the_way_to_the_cut() {
    run_to_end(|| async {
        let (security, [case], ids) = cases(["prod/web"]).await.unwrap();
        security.publish(&by_unit(&ids["prod"], "ou-none-00000000")).await.unwrap();
        let (observer, accounts) = (&security.observer, [security.account.as_str(), case.member.as_str()]);
        observer.clear_calls().await.unwrap();
        observer.pace(&accounts, Duration::from_millis(150)).await.unwrap();
        let found = outcome(&case).await.unwrap().0;
        observer.pace(&accounts, Duration::ZERO).await.unwrap();
        assert_eq!(found, Outcome::Contained);
        let mut calls = observer.calls(0, &[]).await.unwrap().calls;
        calls.retain(|call| call.round > 0 && accounts.contains(&call.account.as_str()));
        let of = |operation: &str| -> Vec<u32> {
            calls.iter().filter(|call| call.operation == operation).map(|call| call.round).collect()
        };
        let asked = of("DescribeAccount");
        let claimed = of("TransactWriteItems").into_iter().min().unwrap();
        let is_read = |call: &&Call| call.account == case.member && call.operation.starts_with("Describe");
        let read = calls.iter().filter(is_read).map(|call| call.round).filter(|round| *round < claimed).max().unwrap();
        println!("asked in round {asked:?}; the plan's last read is in round {read}, the claim in {claimed}");
        assert!(asked.len() == 1 && asked[0] <= read, "the plan was read and the answer still waited for");
        // What was learned is kept beside the rest.
        let kept = calls
            .iter()
            .find(|call| call.operation == "PutItem" && call.about.iter().any(|a| a.starts_with("ACCOUNT#")));
        assert!(kept.is_some_and(|call| call.round <= claimed), "the claim waited for {kept:?}");
    });
}
