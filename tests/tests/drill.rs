//! Every scenario of the drill as a test, each in accounts of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use firebreak_tests::drill::{Scenario, Style, play};
use firebreak_tests::emulator::Emulator;
use firebreak_tests::lab::Binary;

/// Plays a scenario; every fact has to be as it should be.
async fn passes(scenario: Scenario) {
    let emulator = Emulator::shared().await.unwrap();
    let binary = Binary::shared().await.unwrap();
    // Tests run side by side: a round takes longer to come together.
    let style = Style { pace: Duration::from_millis(150), ..Style::default() };
    let stage = play(scenario, emulator, binary, style, &|_: &str| ()).await.unwrap();
    let wrong: Vec<String> = stage
        .drill
        .wrong()
        .iter()
        .map(|fact| {
            format!("{:?} {}\n    expected {}\n    found    {}", fact.topic, fact.what, fact.expected, fact.found)
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} facts:\n{}", wrong.len(), stage.drill.facts.len(), wrong.join("\n"));
    assert!(stage.drill.facts.len() >= 5, "{} facts prove nothing", stage.drill.facts.len());
}

macro_rules! scenarios {
    ($($name:ident $scenario:ident,)*) => {
        $(#[tokio::test]
        async fn $name() {
            passes(Scenario::$scenario).await;
        })*

        #[test]
        fn every_scenario_is_a_test() {
            assert_eq!(Scenario::ALL, [$(Scenario::$scenario),*]);
        }
    };
}

scenarios! {
    a_compromised_instance_is_contained_and_the_containment_undone CompromisedInstance,
    a_group_made_ahead_is_used Prepared,
    a_proposal_is_carried_out_or_rejected_as_decided ProposeThenApprove,
    a_spot_instance_is_contained Spot,
    an_instance_without_a_role_is_contained NoProfile,
    a_full_auto_scaling_group_is_left_to_a_person AsgAtMaximum,
    a_managed_instance_is_refused ManagedByOperator,
    a_group_of_somebody_elses_is_never_used SquattedGroup,
    every_one_of_four_interfaces_is_cut FourInterfaces,
    a_killed_function_is_taken_over_by_the_schedule Killed,
}
