//! First light.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use firebreak::ledger::decisions::Verb;
use firebreak_tests::emulator::Emulator;
use firebreak_tests::lab::{Binary, Lab, Setup};

#[tokio::test]
async fn first_light() {
    let emulator = Emulator::shared().await.unwrap();
    let binary = Binary::shared().await.unwrap();
    let lab = Lab::new(emulator, binary, &Setup::default()).await.unwrap();
    let mut function = lab.start().await.unwrap();
    println!("ready {:?} {:?}", function.ready_after, function.log());
    let before = lab.state().await.unwrap();
    let finding = lab.finding("command-and-control").await.unwrap();
    let since = lab.observer.calls(0, &[]).await.unwrap().next;
    let invoked = lab.deliver(&mut function, &finding).await.unwrap();
    println!("{invoked:#?}");
    let t = lab.observer.calls(since, &[]).await.unwrap();
    let z = t.calls[0].start;
    for c in &t.calls {
        println!(
            "{:.3} {:.3} {} {} {} {} {}",
            c.start - z,
            c.end - z,
            c.account,
            c.service,
            c.operation,
            c.status,
            &c.agent.contains("observer")
        );
    }
    let after = lab.state().await.unwrap();
    std::fs::write("/tmp/drill-before.json", serde_json::to_string_pretty(&before).unwrap()).unwrap();
    std::fs::write("/tmp/drill-after.json", serde_json::to_string_pretty(&after).unwrap()).unwrap();
    for (s, m) in lab.messages().await.unwrap() {
        println!("--- {s}\n{m}");
    }
    for e in lab.outcome_events().await.unwrap() {
        println!("{e:#}");
    }
    println!("mem {:?}", function.peak_memory_kb());
    let runs = lab.runs().await.unwrap();
    for r in &runs {
        println!("{} {} {}", r.run(), r.text("state"), r.json("head")["playbook"]);
        let e = lab.evidence(r.run()).await.unwrap();
        println!("{:?}", firebreak::evidence::verify(&r.run().parse().unwrap(), &e));
    }
    let run = runs.iter().find(|r| r.json("head")["playbook"] == "isolate-instance").unwrap().run().to_owned();
    let undone = lab.decide(&mut function, &run, Verb::Undo).await.unwrap();
    println!("{undone:#?}");
    let end = lab.state().await.unwrap();
    std::fs::write("/tmp/drill-undone.json", serde_json::to_string_pretty(&end).unwrap()).unwrap();
    for (s, m) in lab.messages().await.unwrap() {
        println!("--- {s}\n{m}");
    }
    println!("{}", std::fs::read_to_string(function.log()).unwrap());
}
