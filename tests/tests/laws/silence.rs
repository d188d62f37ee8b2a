//! Nothing is passed over in silence: whatever call is refused or throttled for good, what was done and what was not is
//! known, told or still due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use firebreak::ledger::decisions::Verb;
use firebreak::playbook::Playbook;
use firebreak::run::{Outcome, Run, RunEnd, RunState, StepResult};
use firebreak_tests::compare::{differences, shown};
use firebreak_tests::faults::{Fault, Place};
use firebreak_tests::in_process::{Case, Delivered, Permits, Security, Traced, playbooks, run_to_end};
use serde_json::Value;

use crate::facts::{holds, open};
use crate::support::{
    Named, all, contains, done, fixes, in_turn_among, named, one_of_each, reference, results, undeclared, worlds,
};

/// Calls that an answer can do without, and why. Reviewed.
const HARMLESS: &[(&str, &str)] = &[
    ("dynamodb:DeleteItem", "a row whose work is done is worked at once more, which changes nothing"),
    ("dynamodb:PutItem", "a group that is not recorded is not used again: the next containment makes its own"),
    ("ec2:DescribeAddresses", "what the interfaces say of their addresses is read besides"),
    ("ec2:DescribeSecurityGroups", "the ledger is believed: a group's id, owner and VPC never change"),
    ("s3:GetObject", "without an accepted hash in the ledger there is no set to read; with one it is a proposal"),
    ("s3:ListObjectsV2", "without it an absent object looks like one that may not be read"),
];

async fn one_call_never_works(
    security: &Arc<Security>,
    playbook: &'static Traced,
    of: &str,
    call: (Place, &str),
    fault: Fault,
) -> Result<()> {
    let case = Case::new(security, playbook, of).await?;
    let before = case.state().await?;
    let (place, operation) = (call.0, call.1.to_owned());
    case.faults.rule(move |request| (request.place == place && request.name() == operation).then_some(fault));
    let delivered = case.deliver().await;
    ensure!(case.faults.requests().iter().any(|request| request.fault.is_some()), "the call was not made");
    let after = case.state().await?;
    let run = case.run().await?;
    let (told, due) = (case.faults.told(), case.due().await?);
    let said =
        || format!("{delivered:?}, told {told:?}, due {due:?}\n{}", run.as_ref().map(results).unwrap_or_default());

    let outcomes = match &delivered {
        Delivered::Answered(answer) => {
            ensure!(!answer.outcomes.is_empty(), "no outcome; {}", said());
            ensure!(answer.outcomes.iter().all(|o| !o.why.is_empty() || o.outcome == done(playbook)), "{}", said());
            answer.outcomes.iter().map(|o| o.outcome).collect()
        }
        // Lambda delivers again, and then keeps the event in the dead-letter queue.
        Delivered::Failed(_) => Vec::new(),
        Delivered::Died => anyhow::bail!("nobody should die"),
    };
    if outcomes.contains(&done(playbook)) {
        is_really_done(&case, call.1, &after, run.as_ref().context("no run")?, &due).with_context(said)?;
    } else {
        ensure!(!told.is_empty() || !due.is_empty(), "nobody was told and nothing is due; {}", said());
    }
    match &run {
        // Applied at least in part: each step that did not succeed is named, or will be when the lease is over.
        Some(run) if matches!(run.state, RunState::Held | RunState::Applying) => {
            what_is_not_done_is_named(run, &due).with_context(said)?;
        }
        _ => {
            let differs = differences(&before, &after);
            ensure!(differs.is_empty(), "no run holds these changes:\n{}\n{}", shown(&differs), said());
        }
    }
    // Every change is known to the journal: what it puts back is all there is, but for what people were told of.
    case.faults.mend();
    case.settle().await?;
    if let Some(run) = case.run().await?.filter(|run| run.state == RunState::Held) {
        case.decide(Verb::Undo).await?.answer()?;
        let undone = case.the_run().await?;
        ensure!(undone.state == RunState::Released, "{:?}; {}", undone.undone, results(&run));
        let named = |end: &Option<RunEnd>| end.iter().flat_map(|end| end.not_done.clone()).collect::<Vec<_>>();
        let named = [named(&run.end), named(&undone.end)].concat();
        let mut differs = undeclared(&case, &before, &case.state().await?, &undone);
        differs.retain(|d| !named.iter().any(|line| line.contains(d.at(1))));
        ensure!(
            differs.is_empty(),
            "after the undo these differ and nobody was told:\n{}\n{}",
            shown(&differs),
            said()
        );
    }
    Ok(())
}

/// What is said to be done is so; what could not be read is named, what could not be told or written is still due.
fn is_really_done(case: &Case, operation: &str, after: &Value, run: &Run, due: &[String]) -> Result<()> {
    let end = run.end.as_ref().context("no end")?;
    let unread = |line: &String| line.contains("could not be read") || line.contains("not known");
    if end.remains.iter().any(unread) {
        // The cut itself holds all the same.
        let open = if contains(case.playbook) { open(case, after)? } else { BTreeMap::new() };
        ensure!(open.is_empty(), "not cut off: {open:?}");
        return Ok(());
    }
    holds(case, after)?;
    let harmless = HARMLESS.iter().any(|(call, _)| *call == operation);
    ensure!(!due.is_empty() || harmless, "done without a word: {:?}", end.remains);
    Ok(())
}

fn what_is_not_done_is_named(run: &Run, due: &[String]) -> Result<()> {
    let Some(end) = &run.end else {
        // Interrupted: the schedule goes on when the lease is over.
        ensure!(due.iter().any(|key| key.contains("#lease#")), "nobody goes on with it");
        return Ok(());
    };
    for step in run.all_steps().filter(|step| !run.result(&step.id).is_some_and(StepResult::is_good)) {
        let named = end.not_done.iter().chain(&end.remains).any(|line| line.starts_with(&step.change.what));
        ensure!(named, "{} is not done and not named", step.id);
    }
    Ok(())
}

/// A call that never works: where, and of which playbook in which world.
type Never = (&'static Traced, &'static str, (Place, String));

/// Every call that a playbook makes in the member account, once where playbooks bring the same about; and every call of
/// the hub, which are the loop's, once: of the playbooks that make it in turn.
async fn calls(of_the_hub_only: bool) -> Vec<Never> {
    let mut alike = BTreeMap::<(&str, String), Vec<Never>>::new();
    for (_, playbook) in playbooks() {
        let worlds = worlds(playbook).await;
        let mut calls = BTreeSet::new();
        for of in [worlds.least.as_str(), worlds.largest.as_str()] {
            for request in &reference(playbook, of, Permits::Everything).await.unwrap().requests {
                let call = (request.place, request.name());
                if !calls.insert(call.clone()) {
                    continue;
                }
                let of_the_hub = request.place == Place::Hub;
                if of_the_hub || !of_the_hub_only {
                    let about = if of_the_hub { "" } else { playbook.meta().hold };
                    alike.entry((about, request.name())).or_default().push((*playbook, of, call));
                }
            }
        }
    }
    one_of_each(alike)
}

async fn every_call(fault: Fault, of_the_hub_only: bool, law: &str) {
    let servers = Security::on_each_server(Permits::Everything).await.unwrap();
    let mut cases: Vec<Named<'_>> = Vec::new();
    for (playbook, of, (place, operation)) in calls(of_the_hub_only).await {
        let security = &servers[cases.len() % servers.len()];
        cases.push(named(format!("{} {of}, {place:?} {operation}", playbook.id()), async move {
            one_call_never_works(security, playbook, of, (place, &operation), fault).await
        }));
    }
    all(law, cases).await;
}

#[test]
fn a_call_that_is_refused_for_good_is_never_passed_over_in_silence() {
    run_to_end(|| every_call(Fault::Denied, false, "every call is refused for good"));
}

/// In the member account a call that is throttled for good differs from a refused one in nothing but its class.
#[test]
fn a_call_of_the_hub_that_is_throttled_for_good_is_never_passed_over_in_silence() {
    run_to_end(|| every_call(Fault::Throttled, true, "every call of the hub is throttled for good"));
}

#[test]
fn a_finding_that_cannot_be_fetched_again_is_proposed_with_its_plan() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let mut cases: Vec<Named<'_>> = Vec::new();
        let of_guardduty = ["guardduty:ListDetectors", "guardduty:GetFindings"];
        let asked = in_turn_among(|playbook| !fixes(playbook), &of_guardduty);
        for (playbook, operation) in asked.into_iter().chain(in_turn_among(fixes, &["securityhub:GetFindings"])) {
            let operation = *operation;
            let security = &security;
            cases.push(named(format!("{}, {operation}", playbook.id()), async move {
                let case = Case::new(security, playbook, &worlds(playbook).await.least).await?;
                let before = case.state().await?;
                let plan = case.the_plan().await?;
                case.faults.rule(move |request| (request.name() == operation).then_some(Fault::Throttled));
                let answer = case.deliver().await.answer()?;
                let outcome = answer.outcomes.first().context("no outcome")?;
                ensure!(outcome.outcome == Outcome::Proposed, "{outcome:?}");
                ensure!(outcome.why.contains("could not be fetched again"), "{}", outcome.why);
                let run = case.the_run().await?;
                let steps = |plan: &firebreak::plan::Plan| plan.steps().map(|s| s.id.clone()).collect::<Vec<_>>();
                ensure!(!run.head.plan.is_empty() && steps(&run.head.plan).len() <= steps(&plan).len(), "no plan");
                ensure!(case.state().await? == before, "to propose changed something");
                ensure!(case.faults.told().iter().any(|text| text.starts_with("DECISION NEEDED")), "not asked");
                // Nor is it carried out while nobody can say that it is genuine.
                let event = case.decision(Verb::Approve).await?;
                let delivered = case.deliver_event(&event).await;
                ensure!(matches!(delivered, Delivered::Failed(_)), "{delivered:?}");
                ensure!(case.state().await? == before, "an unauthenticated finding changed something");
                case.faults.mend();
                let answer = case.deliver_event(&event).await.answer()?;
                ensure!(answer.outcomes.iter().all(|o| o.outcome == done(playbook)), "{:?}", answer.outcomes);
                holds(&case, &case.state().await?)
            }));
        }
        all("a finding that cannot be fetched again", cases).await;
    });
}
