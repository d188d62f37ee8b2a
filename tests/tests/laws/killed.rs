//! The built function is killed at a call, or its time runs out at one: the process that follows brings about the same.

use anyhow::ensure;
use firebreak_tests::emulator::Emulator;
use firebreak_tests::in_process::run_to_end;
use firebreak_tests::lab::Binary;
use firebreak_tests::matrix::killed::{End, contain};

use crate::support::{all, named};

/// Where the process ends: at the first call of this name.
const AT: [(End, &str); 6] = [
    (End::KilledAfter, "dynamodb:TransactWriteItems"),
    (End::KilledBefore, "ec2:ModifyNetworkInterfaceAttribute"),
    (End::KilledAfter, "ec2:ModifyNetworkInterfaceAttribute"),
    (End::KilledAfter, "ec2:CreateSnapshots"),
    (End::KilledBefore, "sns:Publish"),
    (End::OutOfTime, "ec2:ModifyNetworkInterfaceAttribute"),
];

#[test]
fn whoever_is_killed_is_replaced() {
    run_to_end(|| async {
        let emulator = Emulator::shared().await.unwrap();
        let binary = Binary::shared().await.unwrap();
        let undisturbed = contain(emulator, binary, None).await.unwrap();
        let mut cases = Vec::new();
        for (end, name) in AT {
            let undisturbed = &undisturbed;
            let number = undisturbed.calls.iter().position(|call| call == name);
            let number = number.unwrap_or_else(|| panic!("no call {name} in {:?}", undisturbed.calls));
            cases.push(named(format!("{end:?} at {name}"), async move {
                let gone = contain(emulator, binary, Some((end, number))).await?;
                ensure!(gone.struck, "it did not come to the call");
                let (ended, wanted) = (&gone.ended, &undisturbed.ended);
                ensure!(ended.runs == wanted.runs, "{:?} instead of {:?}", ended.runs, wanted.runs);
                ensure!(ended.state == wanted.state, "the end is another than undisturbed");
                Ok(())
            }));
        }
        all("the built function is killed", cases).await;
    });
}
