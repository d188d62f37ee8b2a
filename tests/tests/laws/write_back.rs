//! What is written back into Security Hub: the independent client reads it there.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use firebreak::ledger::decisions::Verb;
use firebreak::run::Outcome;
use firebreak_tests::events;
use firebreak_tests::faults::{Doing, Fault};
use firebreak_tests::in_process::{Case, Permits, REGION, Security, Traced, playbooks, run_to_end};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::delivery::imported;
use crate::support::{contains, done, fixes, worlds};

async fn case(security: &Arc<Security>, playbook: &'static Traced) -> Case {
    Case::new(security, playbook, &worlds(playbook).await.least).await.unwrap()
}

/// The case's finding as Security Hub has it, put there first where it is GuardDuty's.
async fn copy(case: &Case) -> Value {
    let copy = imported(case).unwrap();
    if !fixes(case.playbook) {
        case.security.observer.put_finding(&case.security.account, REGION, &copy["detail"]).await.unwrap();
    }
    copy
}

/// What Security Hub has of the finding of this event.
async fn there(case: &Case, event: &Value) -> Result<Value> {
    let id = &event["detail"]["findings"][0]["Id"];
    let filters = json!({"Id": [{"Value": id, "Comparison": "EQUALS"}]});
    let found = case.security.call("securityhub", "get_findings", json!({"Filters": filters})).await?;
    found["Findings"].get(0).cloned().with_context(|| format!("Security Hub has no {id}"))
}

fn written(case: &Case) -> usize {
    case.faults.requests().iter().filter(|request| request.operation == "BatchUpdateFindings").count()
}

#[test]
fn the_end_of_a_run_is_written_on_its_finding_and_undoing_it_as_well() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        for (_, playbook) in playbooks().iter().filter(|(_, playbook)| contains(*playbook) || fixes(*playbook)) {
            let case = case(&security, playbook).await;
            let copy = copy(&case).await;
            let answer = case.deliver_event(&copy).await.answer().unwrap();
            assert_eq!(answer.outcomes[0].outcome, done(*playbook), "{:?}", answer.outcomes);
            assert_eq!(there(&case, &copy).await.unwrap()["Workflow"]["Status"], "NEW", "nobody waits for it");
            case.settle().await.unwrap();
            let run = case.the_run().await.unwrap().head.id;
            let found = there(&case, &copy).await.unwrap();
            let note = found["Note"]["Text"].as_str().unwrap().to_owned();
            // Of an account, what else in it may be so is not known.
            let resolved = fixes(*playbook) && !firebreak::playbook::Playbook::looks_up(*playbook, &case.finding);
            let expected = if resolved { "RESOLVED" } else { "NOTIFIED" };
            assert_eq!(found["Workflow"]["Status"], expected, "{}: {note}", playbook.id());
            let (outcome, undo) = (done(*playbook).to_string(), format!("firebreak undo {run}"));
            assert!(note.starts_with(&outcome) && note.ends_with(&undo) && note.contains(&case.target.id), "{note}");
            assert!(note.chars().count() <= 512, "{note}");
            let end = case.the_run().await.unwrap().end.unwrap();
            assert_eq!(note.contains("Still open: "), !end.remains.is_empty(), "{note}");

            // What our own update makes Security Hub send changes nothing, and is not written back again.
            let before = case.state().await.unwrap();
            let mut ours = copy.clone();
            ours["detail"]["findings"][0] = found;
            case.deliver_event(&ours).await.answer().unwrap();
            case.settle().await.unwrap();
            assert_eq!((written(&case), case.state().await.unwrap() == before), (1, true), "{}", playbook.id());

            case.decide(Verb::Undo).await.unwrap().answer().unwrap();
            case.settle().await.unwrap();
            let found = there(&case, &copy).await.unwrap();
            let expected = if resolved { "NEW" } else { "NOTIFIED" };
            assert_eq!(found["Workflow"]["Status"], expected, "{}", playbook.id());
            assert!(found["Note"]["Text"].as_str().unwrap().starts_with("undone"), "{}", found["Note"]);
        }
    });
}

/// GuardDuty's own event comes minutes before Security Hub has its copy.
#[test]
fn a_finding_that_security_hub_does_not_have_yet_is_written_on_later_and_one_that_it_never_has_is_let_be() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        for (n, (_, playbook)) in playbooks().iter().filter(|(_, playbook)| contains(*playbook)).enumerate() {
            let case = case(&security, playbook).await;
            case.deliver().await.answer().unwrap();
            let ended = case.the_run().await.unwrap().end.unwrap().at;
            let rows = case.due().await.unwrap();
            assert!(rows.iter().any(|row| row.contains("write-back")), "{rows:?}");
            // The key of a row begins with its time, in milliseconds.
            let waits = |row: &&String| row.contains("write-back");
            let at: i64 = rows.iter().find(waits).unwrap().split('#').next().unwrap().parse().unwrap();
            assert!(at >= ended.as_millisecond() + 300_000, "it does not wait until there is a copy");
            let copied = n % 2 == 0;
            let copy = if copied { Some(copy(&case).await) } else { None };
            case.settle().await.unwrap();
            assert_eq!(written(&case), 1);
            if let Some(copy) = copy {
                assert_eq!(there(&case, &copy).await.unwrap()["Workflow"]["Status"], "NOTIFIED");
            }
            assert!(case.due().await.unwrap().is_empty());
        }
    });
}

#[test]
fn what_a_person_has_put_aside_meanwhile_stays_so() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        for (_, playbook) in playbooks().iter().filter(|(_, playbook)| fixes(*playbook)) {
            let case = case(&security, playbook).await;
            let finding = case.event["detail"]["findings"][0].clone();
            let puts = async |status: &str| {
                let this = json!({"Id": finding["Id"], "ProductArn": finding["ProductArn"]});
                let params = json!({"FindingIdentifiers": [this], "Workflow": {"Status": status}});
                security.call("securityhub", "batch_update_findings", params).await.unwrap();
            };
            case.deliver().await.answer().unwrap();
            puts("SUPPRESSED").await;
            case.settle().await.unwrap();
            let found = there(&case, &case.event).await.unwrap();
            assert_eq!(found["Workflow"]["Status"], "SUPPRESSED", "{}", playbook.id());
            assert!(found["Note"]["Text"].as_str().unwrap().starts_with("fixed"), "{}", found["Note"]);
            // Somebody has resolved it, and not we: to undo the fix opens nothing.
            puts("RESOLVED").await;
            case.decide(Verb::Undo).await.unwrap().answer().unwrap();
            case.settle().await.unwrap();
            assert_eq!(there(&case, &case.event).await.unwrap()["Workflow"]["Status"], "RESOLVED", "{}", playbook.id());
        }
    });
}

/// A control goes on failing until it is evaluated again. That we have resolved it is no word of a person's.
#[test]
fn a_repeat_of_what_we_have_resolved_is_no_finding_that_somebody_put_aside() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        for (_, playbook) in playbooks().iter().filter(|(_, playbook)| fixes(*playbook)) {
            let case = case(&security, playbook).await;
            case.deliver().await.answer().unwrap();
            case.settle().await.unwrap();
            crate::facts::reopen(&case).await.unwrap();
            // It was on its way before.
            let mut repeat = case.event.clone();
            events::seen(&mut repeat, Timestamp::now());
            let answer = case.deliver_event(&repeat).await.answer().unwrap();
            assert!(answer.outcomes.iter().all(|o| o.outcome != Outcome::Proposed), "{:?}", answer.outcomes);
            case.settle().await.unwrap();
            crate::facts::is_so(&case).await.unwrap();
        }
    });
}

#[test]
fn what_cannot_be_written_back_is_tried_for_hours_and_then_let_be() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        let (_, playbook) = playbooks().iter().find(|(_, playbook)| contains(*playbook)).unwrap();
        for (fault, times) in [(Fault::NotSent, 8), (Fault::Denied, 1)] {
            let case = case(&security, playbook).await;
            case.deliver().await.answer().unwrap();
            case.faults.rule(move |request| (request.operation == "BatchUpdateFindings").then_some(fault));
            let mut rounds = 0;
            while case.let_time_pass().await.unwrap() > 0 {
                case.tick().await.answer().unwrap();
                rounds += 1;
                assert!(rounds < 20, "it goes on for ever: {:?}", case.due().await.unwrap());
            }
            // Each is made of as many attempts as the client makes.
            assert!(written(&case) >= times, "{fault:?}: {}", written(&case));
            assert_eq!(case.the_run().await.unwrap().end.unwrap().outcome, done(*playbook));
        }
    });
}

/// Each note makes Security Hub send the finding once more, and the copies that were answered are forgotten by then: whoever
/// denies a containment must not have it begin anew for ever.
#[test]
fn what_our_own_update_makes_security_hub_send_begins_nothing_that_is_written_back_again() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        for (_, playbook) in playbooks().iter().filter(|(_, playbook)| contains(*playbook) || fixes(*playbook)) {
            for denied in [true, false] {
                let case = case(&security, playbook).await;
                let mut copy = copy(&case).await;
                case.faults.rule(move |request| {
                    let changes = matches!(request.doing, Doing::Applying(_)) && !request.reads();
                    (denied && changes).then_some(Fault::Denied)
                });
                case.deliver_event(&copy).await.answer().unwrap();
                case.settle().await.unwrap();
                let first = written(&case);
                assert_eq!(first, usize::from(!denied), "{}: denied {denied}", playbook.id());
                for _ in 0..2 {
                    // As if ten minutes had gone by: it is another copy.
                    events::seen(&mut copy, Timestamp::now());
                    if !fixes(*playbook) {
                        copy["detail"]["findings"][0]["ProductFields"]["aws/guardduty/service/eventLastSeen"] =
                            json!(Timestamp::now().to_string());
                    }
                    case.deliver_event(&copy).await.answer().unwrap();
                    case.settle().await.unwrap();
                }
                assert_eq!(written(&case), first, "{}: denied {denied}", playbook.id());
            }
        }
    });
}

/// A finding has one note, and what an analyst has written there is not ours to replace.
#[test]
fn the_note_of_a_person_on_a_control_stays() {
    run_to_end(|| async {
        let security = Security::fresh(Permits::Enforce).await.unwrap();
        for (_, playbook) in playbooks().iter().filter(|(_, playbook)| fixes(*playbook)) {
            let case = case(&security, playbook).await;
            let finding = &case.event["detail"]["findings"][0];
            let this = json!({"Id": finding["Id"], "ProductArn": finding["ProductArn"]});
            let note = json!({"Text": "ours is ticket 7", "UpdatedBy": "an analyst"});
            let params = json!({"FindingIdentifiers": [this], "Note": note});
            security.call("securityhub", "batch_update_findings", params).await.unwrap();
            case.deliver().await.answer().unwrap();
            case.settle().await.unwrap();
            let found = there(&case, &case.event).await.unwrap();
            assert_eq!(found["Note"]["Text"], "ours is ticket 7");
            assert_ne!(found["Workflow"]["Status"], "NEW", "{}", playbook.id());
        }
    });
}
