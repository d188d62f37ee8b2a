//! The laws: each holds for every playbook and every action of every function, over every world.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use firebreak::ids::RunId;
use firebreak::ledger::decisions::Verb;
use firebreak::playbook::Planned;
use firebreak_tests::compare::differences;
use firebreak_tests::emulator::worlds;
use firebreak_tests::in_process::{run_to_end, Case, Permits, Security, playbooks};

#[test]
fn journey() {
    run_to_end(|| async {
    let t0 = std::time::Instant::now();
    let security = Security::fresh(Permits::Everything).await.unwrap();
    println!("security {:?}", t0.elapsed());
    for (_, playbook) in playbooks() {
        for world in worlds().unwrap() {
            let t = std::time::Instant::now();
            let mut case = Case::new(&security, playbook, &world).await.unwrap();
            let seeded = t.elapsed();
            let s0 = case.state().await.unwrap();
            let stated = t.elapsed();
            match case.plan().await.unwrap() {
                Planned::Plan(plan) => println!("{} {world}: {} steps", playbook.id(), plan.steps().count()),
                other => println!("{} {world}: {other:?}", playbook.id()),
            }
            let planned = t.elapsed();
            let n0 = case.faults.requests().len();
            let answer = case.deliver().await.answer().unwrap();
            println!("  {:?} {}", answer.outcomes.iter().map(|o| (o.outcome, &o.why)).collect::<Vec<_>>(), case.faults.requests().len() - n0);
            let applied = t.elapsed();
            let s1 = case.state().await.unwrap();
            println!("  changed {}", differences(&s0, &s1).len());
            if let Some(run) = case.run().await.unwrap() {
                println!("  not done {:?}", run.end.as_ref().map(|e| &e.not_done));
                for step in run.all_steps() { println!("    {} {:?}", step.id, run.result(&step.id).map(|r| r.name())); }
                println!("  settled {:?}", case.settle().await);
                case.restart().unwrap();
                println!("  undo {:?}", case.decide(Verb::Undo).await.unwrap().answer().map(|a| a.outcomes));
                let run = case.the_run().await.unwrap();
                println!("  not undone {:?}", run.end.as_ref().map(|e| (&e.outcome, &e.not_done)));
                let s2 = case.state().await.unwrap();
                for d in differences(&s0, &s2) { println!("    {} {} → {}", d.path.join("/"), d.before, d.after); }
            }
            let _ = RunId::new();
            println!("  seed {seeded:?} state {:?} plan {:?} apply {:?} all {:?}", stated-seeded, planned-stated, applied-planned, t.elapsed());
        }
    }
    });
}
