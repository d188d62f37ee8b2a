//! The drill: every scenario as a test, each in accounts of its own; and its command line, as a person types it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Output, Stdio};
use std::time::Duration;

use firebreak_tests::drill::{Scenario, Style, play};
use firebreak_tests::emulator::{Emulator, workspace};
use firebreak_tests::lab::Binary;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// Plays a scenario; every fact has to be as it should be.
async fn passes(scenario: Scenario) {
    let emulator = Emulator::shared().await.unwrap();
    // Cargo has nothing to do when it is built already.
    let binary = Binary::build(scenario.setup().function, "dev").await.unwrap();
    // Tests run side by side: a round takes longer to come together.
    let style = Style { pace: Duration::from_millis(150), ..Style::default() };
    let stage = play(scenario, emulator, &binary, style, &|_: &str| ()).await.unwrap();
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
    if scenario == Scenario::ProposeThenApprove {
        // The page shows the question and what came of the answer.
        let told = |begin: &str| stage.drill.messages.iter().any(|text| text.starts_with(begin));
        assert!(told("DECISION NEEDED") && told("CONTAINED"), "{:?}", stage.drill.messages);
    }
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
    a_leaked_key_is_contained_held_against_the_attacker_and_undone CompromisedKey,
    an_open_port_is_closed_alone_and_the_fix_undone OpenPort,
    a_public_bucket_is_blocked_and_the_block_undone PublicBucket,
    a_stolen_session_is_revoked_and_the_revocation_undone StolenRoleSession,
}

/// `cargo drill -- …`, without Cargo around it.
fn drill(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_incident-drill"));
    command.current_dir(workspace()).args(arguments).kill_on_drop(true);
    command
}

/// The exit status, and what was said to whoever reads and to whoever watches.
fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn the_list_names_every_scenario_for_people_and_for_machines() {
    let (status, out, _) = said(&drill(&["--list"]).output().await.unwrap());
    assert_eq!(status, Some(0));
    let names: Vec<&str> = out.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let expected: Vec<&str> = Scenario::ALL.iter().map(|one| one.name()).chain(["all"]).collect();
    assert_eq!(names, expected);
    assert!(Scenario::ALL.iter().all(|one| out.contains(one.about())), "{out}");

    let (status, out, err) = said(&drill(&["--list", "--json"]).output().await.unwrap());
    assert_eq!((status, err.as_str()), (Some(0), ""));
    let listed: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(listed.as_object().unwrap().len(), Scenario::ALL.len());
    for one in Scenario::ALL {
        assert_eq!(listed[one.name()], one.about());
    }
}

#[tokio::test]
async fn what_cannot_be_held_says_why_and_ends_with_two() {
    for (arguments, why) in [
        (&["no-such-thing"][..], "there is no scenario `no-such-thing`; `cargo drill -- --list` lists them"),
        (&["all", "--keep"], "--keep keeps one scenario: name it"),
        (&["--profile", "no-such-profile"], "profile `no-such-profile` is not defined"),
        (&["--deployed", "--profile", "fast"], "with the profile `dev` or `ship`, not `fast`"),
        (&["--deployed", "--keep"], "cannot be used with"),
        (&["--no-such-option"], "unexpected argument '--no-such-option'"),
    ] {
        let (status, out, err) = said(&drill(arguments).output().await.unwrap());
        assert_eq!((status, out.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(err.contains(why), "{arguments:?}: {err}");
    }
}

#[tokio::test]
async fn a_drill_whose_facts_are_all_so_ends_with_zero_and_leaves_a_page() {
    let output = drill(&["managed-by-operator"]).output().await.unwrap();
    let (status, out, err) = said(&output);
    assert_eq!(status, Some(0), "{out}{err}");
    assert!(out.contains("Facts, each read back from AWS") && out.contains("✓ Told"), "{out}");
    let (_, score) = out.split_once("managed-by-operator ").unwrap();
    assert!(!out.contains('✗') && score.contains(" facts"), "{out}");
    assert!(out.contains("Report page: ") && out.contains("drill/report.html"), "{out}");
}

/// A service control policy forbids the cut: nothing is hidden, and a script notices.
#[tokio::test]
async fn a_drill_with_a_fact_that_is_not_so_ends_with_one_and_says_which() {
    let mut command = drill(&["no-profile", "--json"]);
    command.env("FIREBREAK_EMULATOR_DENIES", "ec2:ModifyNetworkInterfaceAttribute");
    let (status, out, err) = said(&command.output().await.unwrap());
    assert_eq!(err, "", "only the document, for machines");
    let drills: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"));
    assert_eq!(status, Some(1));
    let [drill] = drills.as_array().unwrap().as_slice() else { panic!("{out}") };
    assert_eq!(drill["scenario"], "no-profile");
    let facts = drill["facts"].as_array().unwrap();
    let wrong: Vec<&Value> = facts.iter().filter(|fact| fact["ok"] == false).collect();
    assert!(wrong.iter().any(|fact| fact["topic"] == "cut"), "{wrong:?}");
    assert!(wrong.len() < facts.len(), "what does not need the cut is as it should be");
    let messages = drill["messages"].to_string();
    assert!(messages.contains("NOT CONTAINED") || messages.contains("PARTLY"), "people are told so: {messages}");
}

/// Keeps a scenario, pastes every command that it prints, and expects the outcome of each by its first word.
async fn is_kept(scenario: &str, expected: &[(&str, &str)]) {
    let mut kept = drill(&[scenario, "--keep"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(kept.stdout.take().unwrap()).lines();
    let mut printed = Vec::new();
    let mut source = None;
    while let Some(line) = lines.next_line().await.unwrap() {
        match line.strip_prefix("  ") {
            Some(command) if command.starts_with(". ") => source = Some(command.to_owned()),
            Some(command) if command.starts_with("cargo run ") => printed.push(command.to_owned()),
            _ if line.contains("Ctrl-C ends it") => break,
            _ => {}
        }
    }
    let source = source.expect("it says how to lead the command to the drill");
    // As a person pastes it, in a shell without any AWS settings.
    let run = async |command: &str| {
        let both = format!("{source} && {command}");
        let output = Command::new("sh").args(["-c", &both]).current_dir(workspace()).output().await.unwrap();
        let (status, out, err) = said(&output);
        (status, out, err)
    };
    let firebreak: Vec<&str> = printed.iter().map(|command| command.split(" -- ").nth(1).unwrap()).collect();
    let kinds: Vec<&str> = firebreak.iter().map(|command| command.split(' ').next().unwrap()).collect();
    assert_eq!(kinds, expected.iter().map(|(kind, _)| *kind).collect::<Vec<_>>());
    for (command, (_, says)) in printed.iter().zip(expected) {
        let (status, out, err) = run(command).await;
        assert!(out.contains(says), "{command}: {out}{err}");
        assert_eq!(status, Some(0), "{command}: {out}{err}");
    }
    let pid = kept.id().unwrap().to_string();
    // Not INT: a shell that runs the tests in the background has made them ignore it.
    std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    kept.wait().await.unwrap();
    let (status, _, err) = run(&printed[0]).await;
    assert_ne!(status, Some(0), "the emulator ends with the drill");
    assert_eq!(err, "this drill is over\n");
}

/// One after the other: each leaves its files in the same folder.
#[tokio::test]
async fn what_is_kept_can_be_looked_at_decided_and_undone_by_the_commands_it_prints() {
    let held = [
        ("runs", "isolate-instance"),
        ("show", "the finding arrived"),
        ("show", "the finding arrived"),
        ("undo", "undone"),
        ("explain", r#""playbook":"isolate-instance""#),
        ("plan", "isolate-instance"),
        ("preflight", "checks"),
    ];
    is_kept("no-profile", &held).await;
    let proposed = [
        ("runs", "proposed"),
        ("show", "the finding arrived"),
        ("show", "the finding arrived"),
        ("approve", "contained"),
        ("approve", "preserved"),
        ("explain", r#""decision":"propose""#),
        ("plan", "snapshot-volumes"),
        ("preflight", "checks"),
    ];
    is_kept("propose-then-approve", &proposed).await;
}
