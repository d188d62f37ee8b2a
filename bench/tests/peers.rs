//! That the peers do what they are measured for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use firebreak_bench::kit::{Incident, Kit, Peer};
use firebreak_bench::sample::sample;
use firebreak_bench::stage::Stage;
use firebreak_tests::deployment::FUNCTIONS;

/// Cloud Custodian's and the boto3 handler's processes, on the emulator. Firebreak's own are under every other test.
#[tokio::test]
async fn each_peer_contains_an_instance() {
    // Firebreak's functions are not started here: any folder with files of their names will do.
    let folder = tempfile::tempdir().unwrap();
    for function in FUNCTIONS {
        std::fs::write(folder.path().join(function.name), "").unwrap();
    }
    let kit = Kit::new(Some(folder.path()), &|what| eprintln!("{what}")).await.unwrap();
    for peer in [Peer::Boto3, Peer::Custodian] {
        let mut stage = Stage::new(&kit, peer, Incident::Instance, Incident::Instance.policies()[0]).await.unwrap();
        let sample = sample(&mut stage, None).await.unwrap();
        assert_eq!(sample.cold.error, None, "{peer:?}");
        assert!(sample.cold.contained && sample.cold.cut_ms.is_some(), "{peer:?}: {sample:?}");
        assert!(sample.warm.is_some_and(|warm| warm.contained), "{peer:?}");
        // What is turned away costs no call.
        assert!(sample.turned_away.iter().all(|(_, calls)| *calls == 0), "{peer:?}");
    }
}
