//! What AWS enforces, enforced here: a session may do what its role and its session policy say, and a role is taken on
//! by whom it trusts. Every law runs under it (see `firebreak_tests::enrolment`); these take a permission away, and knock
//! at the doors beside.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use firebreak::failure::Class;
use firebreak::ledger::decisions::Verb;
use firebreak::playbook::Playbook;
use firebreak::run::{Outcome, Run, RunState, StepResult, UndoResult};
use firebreak_tests::compare::{Difference, list, shown};
use firebreak_tests::faults::Place;
use firebreak_tests::in_process::{Case, Permits, Security, Traced, playbooks, run_to_end};
use serde_json::{Value, json};

use crate::facts::{holds, is_about, open};
use crate::journeys::{BY_CONFIG, seen};
use crate::support::{SIDE_BY_SIDE, all_of, contains, dependents, done, fixes, named, results, undeclared, worlds};

// --- each permission taken away ---

/// The role's own policy without one action.
async fn take_away(case: &Case, action: &str) -> Result<Value> {
    let role = case.playbook.id();
    let name = json!({"RoleName": role, "PolicyName": role});
    let found = case.call("iam", "get_role_policy", name).await?;
    let whole = found["PolicyDocument"].clone();
    let mut less = whole.clone();
    let statements = less["Statement"].as_array_mut().context("a policy without statements")?;
    let allows = |statement: &Value| statement["Effect"] == "Allow";
    for statement in statements.iter_mut().filter(|statement| allows(statement)) {
        let left: Vec<Value> = list(&statement["Action"]).filter(|one| *one != action).cloned().collect();
        statement["Action"] = json!(left);
    }
    statements.retain(|statement| list(&statement["Action"]).next().is_some());
    ensure!(less != whole, "the role does not hold {action}");
    put_policy(case, &less).await?;
    Ok(whole)
}

async fn put_policy(case: &Case, document: &Value) -> Result<()> {
    let role = case.playbook.id();
    let policy = json!({"RoleName": role, "PolicyName": role, "PolicyDocument": document.to_string()});
    case.call("iam", "put_role_policy", policy).await.map(|_| ())
}

/// Permissions that playbooks can do without, and why. Reviewed.
const DONE_WITHOUT: &[(&[&str], &str, &str)] = &[
    (
        &["revoke-role-sessions"],
        "iam:ListInstanceProfilesForRole",
        "it is for a note to whoever is asked about every session of a role",
    ),
    (
        &["contain-access-key", "contain-user"],
        "iam:GetAccessKeyLastUsed",
        "AWS may say so of a key of another account too; the user is found by the unique id that the finding names",
    ),
];

fn is_done_without(playbook: &Traced, action: &str) -> bool {
    DONE_WITHOUT.iter().any(|(playbooks, named, _)| playbooks.contains(&playbook.id()) && *named == action)
}

/// A run in a world whose role lacks one action. Answers with whether anybody was told: it may end well without.
async fn without(security: &Arc<Security>, playbook: &'static Traced, of: &str, action: &str) -> Result<bool> {
    let case =
        Case::new(security, playbook, if of == BY_CONFIG { &worlds(playbook).await.largest } else { of }).await?;
    let before = case.state().await?;
    let whole = take_away(&case, action).await?;
    let event = match playbook.meta().controls.iter().find_map(|check| check.rule) {
        Some((rule, _)) if of == BY_CONFIG => case.found_by_config("our-own-name", rule).await?,
        _ => case.event.clone(),
    };
    let answer = case.deliver_event(&event).await.answer()?;
    let told = case.faults.told();
    let named_to_people = |told: &[String]| told.iter().any(|text| text.contains(action));
    let target = case.target.to_string();
    let its = answer.outcomes.iter().find(|o| o.target.as_deref().is_none_or(|about| about == target));
    let outcome = its.map(|o| o.outcome).context("nothing is answered")?;

    let Some(run) = case.run().await? else {
        // It could not be planned: nothing was done, and people know why.
        let changed = case.faults.requests().iter().any(|r| r.place == Place::Member && !r.reads());
        ensure!(!changed && case.state().await? == before, "no run, and something changed");
        ensure!(outcome == Outcome::Failed, "no run, and it is {outcome}: {:?}", answer.outcomes);
        ensure!(named_to_people(&told), "people are not told of {action}: {told:?}");
        return Ok(true);
    };
    if run.state == RunState::Proposed {
        // What is not known is put before a person.
        ensure!(outcome == Outcome::Proposed && case.state().await? == before, "{outcome}, and it is proposed");
        ensure!(named_to_people(&told), "people are not told of {action}: {told:?}");
        return Ok(true);
    }

    let state = case.state().await?;
    let end = run.end.as_ref().context("the run has no end")?;
    let said = || format!("{outcome}; {}", results(&run));
    ensure!(end.outcome == outcome, "told {outcome}, wrote {}", end.outcome);
    let denied = |result: &StepResult| matches!(result, StepResult::Failed { class: Class::Denied, .. });
    let failed: Vec<_> =
        run.all_steps().filter(|step| run.result(&step.id).is_some_and(denied)).map(|step| step.id.clone()).collect();
    let excused: BTreeSet<_> = failed.iter().flat_map(|id| dependents(&run, id)).collect();
    if outcome == done(playbook) {
        // Never said and not so.
        holds(&case, &state).with_context(said)?;
    } else {
        // A message may hold less than the report, and then says where the rest is.
        let more = |text: &String| text.contains("more)") && text.contains("More: firebreak show");
        ensure!(named_to_people(&told) || told.iter().any(more), "people are not told of {action}: {told:?}");
        let mut left = end.not_done.iter().chain(&end.remains);
        ensure!(left.any(|line| line.contains(action)), "{:?} {:?}; {}", end.not_done, end.remains, said());
        if fixes(playbook) {
            // Half a fix helps nobody: what it had changed was put back.
            let freed = outcome == Outcome::NotFixed && run.state == RunState::Freed;
            ensure!(freed || run.undone.values().any(|u| !u.result.is_clean()), "{}", said());
        } else {
            ensure!(matches!(outcome, Outcome::Partial | Outcome::NotContained), "{}", said());
        }
        // Whatever does not need it was done, and what is cut by other means is cut.
        for step in run.all_steps().filter(|step| !excused.contains(&step.id)) {
            let final_ = run.result(&step.id).is_some_and(StepResult::is_final);
            ensure!(
                fixes(playbook) || final_,
                "{} was not done, though it does not need {action}; {}",
                step.id,
                said()
            );
        }
    }
    if contains(playbook) {
        let open = open(&case, &state)?;
        for (thing, hangs_on) in &open {
            let excuse = run.all_steps().any(|step| excused.contains(&step.id) && is_about(step, hangs_on));
            ensure!(excuse, "{thing} is not cut; {}", said());
        }
        ensure!(open.is_empty() || outcome != done(playbook), "open: {open:?}; {}", said());
    }

    // It is looked at again, some time after; and what only the undo needs, its end says.
    let mut ends = vec![run.clone()];
    if run.state == RunState::Held {
        // What cannot be read stays due.
        for _ in 0..2 {
            case.let_time_pass().await?;
            case.tick().await.answer()?;
        }
        ends.push(case.the_run().await?);
        case.decide(Verb::Undo).await?.answer()?;
        let after = case.the_run().await?;
        let lacks = |result: &UndoResult| matches!(result, UndoResult::Failed { class: Class::Denied, .. });
        if after.undone.values().any(|record| lacks(&record.result)) {
            let end = after.end.as_ref().context("the undo has no end")?;
            ensure!(end.outcome == Outcome::UndonePartly, "the undo lacks {action}, and is {}", end.outcome);
            ensure!(end.not_done.iter().any(|line| line.contains(action)), "undo: {:?}", end.not_done);
        }
        ends.push(after);
    }
    let lines = |run: &Run| {
        run.end.iter().flat_map(|end| [&end.not_done, &end.remains, &end.seen]).flatten().cloned().collect()
    };
    let reported: Vec<String> = ends.iter().flat_map(lines as fn(&Run) -> Vec<String>).collect();
    let says_so = named_to_people(&case.faults.told()) || reported.iter().any(|line| line.contains(action));

    // Given back, what was left can be put back.
    put_policy(&case, &whole).await?;
    if ends.last().is_some_and(|run| run.state == RunState::Held) {
        case.decide(Verb::Undo).await?.answer()?;
    }
    let run = case.the_run().await?;
    if run.undone.values().all(|record| record.result.is_clean()) {
        // A group of ours that could not be emptied, and is nobody's any more, stays as it is.
        let of_the_run = |made: &Value| made["tags"]["firebreak:run"] == run.head.id.as_str();
        let ours = |differs: &Difference| differs.before.is_none() && differs.after.as_ref().is_some_and(of_the_run);
        let mut differs = undeclared(&case, &before, &case.state().await?, &run);
        differs.retain(|difference| !ours(difference));
        ensure!(differs.is_empty(), "after the undo these differ and no action says so:\n{}", shown(&differs));
    }
    Ok(says_so)
}

/// The permission is one of its role's, so AWS refuses the calls that need it: the run does what it can, says what it
/// could not, and which permission is missing.
#[test]
fn a_run_without_one_permission_does_the_rest_and_names_it() {
    run_to_end(|| async {
        let seen = seen().await;
        let servers = Security::on_each_server(Permits::Everything).await.unwrap();
        let mut cases = Vec::new();
        for (_, playbook) in playbooks() {
            let plans = &worlds(playbook).await.plans;
            let actions: BTreeSet<&str> =
                (*playbook as &dyn Playbook).permissions().map(|permission| permission.action).collect();
            for action in actions {
                // The smallest world that has a run which wants it.
                let used = seen.used.get(&(playbook.id(), action.to_owned()));
                // What a rule of Config has found is asked of Config: where only that wants the permission, last.
                let size = |of: &str| match of {
                    BY_CONFIG => Some(usize::MAX),
                    world => plans.get(world).map(|plan| plan.steps().count()),
                };
                let used = used.into_iter().flatten().filter_map(|of| Some((size(of)?, of)));
                let used: BTreeSet<(usize, &String)> = used.collect();
                let security = &servers[cases.len() % servers.len()];
                cases.push(named(format!("{}, without {action}", playbook.id()), async move {
                    // Where another call brings the same about, it takes another world to see it missed.
                    let mut told = false;
                    for (_, of) in used {
                        told = without(security, playbook, of, action).await.with_context(|| of.clone())?;
                        if told {
                            break;
                        }
                    }
                    ensure!(
                        told || is_done_without(playbook, action),
                        "it is missing, and nobody is told in any world"
                    );
                    ensure!(!told || !is_done_without(playbook, action), "somebody is told, so it is not done without");
                    Ok(())
                }));
            }
        }
        all_of("a permission is taken away", cases, SIDE_BY_SIDE).await;
    });
}
