//! The flood in its short form; `cargo flood` is the long one.
#![allow(clippy::unwrap_used)]

use firebreak_tests::deployment::CONTAIN_COMPUTE;
use firebreak_tests::emulator::Emulator;
use firebreak_tests::flood::{Size, flood};
use firebreak_tests::lab::Binary;

#[tokio::test]
async fn of_two_hundred_findings_at_three_processes_none_is_lost_and_each_target_has_one_run() {
    let emulator = Emulator::shared().await.unwrap();
    let binary = Binary::build(CONTAIN_COMPUTE, "dev").await.unwrap();
    let size = Size { findings: 200, targets: 20, processes: 3, same: false };
    let score = flood(emulator, &binary, size, &|_: &str| ()).await.unwrap();
    assert!(score.wrong().is_empty(), "{:#?}\n{:#?}", score.wrong(), score.answers);
    assert!(score.facts.len() >= 9, "{} facts prove nothing", score.facts.len());
    assert_eq!(score.answers.values().sum::<usize>(), size.findings);
    // A process that has only just started still grows a little.
    if let Some(growth) = score.growth() {
        assert!(growth < 1.5, "{:#?}", score.laps);
    }
}

#[tokio::test]
async fn the_same_finding_many_times_at_eight_processes_is_one_run() {
    let emulator = Emulator::shared().await.unwrap();
    let binary = Binary::build(CONTAIN_COMPUTE, "dev").await.unwrap();
    let findings = if std::env::var("FIREBREAK_LAWS").is_ok_and(|asked| asked == "every") { 200 } else { 40 };
    let size = Size { findings, targets: 1, processes: 8, same: true };
    let score = flood(emulator, &binary, size, &|_: &str| ()).await.unwrap();
    assert!(score.wrong().is_empty(), "{:#?}\n{:#?}", score.wrong(), score.answers);
    assert_eq!(score.answers.values().sum::<usize>(), findings);
}
