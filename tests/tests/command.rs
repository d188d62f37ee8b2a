//! The command `firebreak`, run as an operator runs it, against two accounts of the emulator.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::process::Output;

use firebreak_tests::emulator::{Emulator, workspace};
use firebreak_tests::lab::{Binary, Lab, Setup};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// The command, built once a process as the function is.
async fn command() -> &'static PathBuf {
    static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
    BUILT.get_or_init(|| async { Binary::command().await.unwrap().path }).await
}

struct Operator<'l, 'e> {
    lab: &'l Lab<'e>,
}

impl Operator<'_, '_> {
    async fn run(&self, arguments: &[&str]) -> Output {
        tokio::process::Command::new(command().await)
            .env_clear()
            .envs(self.lab.operator_environment().await.unwrap())
            .current_dir(workspace())
            .args(arguments)
            .output()
            .await
            .unwrap()
    }

    /// What a command that ends well prints.
    async fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        let (out, err) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
        assert!(output.status.success(), "{arguments:?} ended with {}:\n{out}\n{err}", output.status);
        out
    }
}

async fn lab(policy: Option<&'static str>) -> Lab<'static> {
    let emulator = Emulator::shared().await.unwrap();
    let binary = Binary::shared().await.unwrap();
    let parameters = json!({ "BreakGlassPrincipals": "arn:aws:iam::222222222222:role/break-glass" });
    Lab::new(emulator, binary, &Setup { world: "web-server", policy, parameters }).await.unwrap()
}

#[tokio::test]
async fn preflight_names_what_is_missing_and_onboard_puts_it_there() {
    let lab = lab(None).await;
    let operator = Operator { lab: &lab };
    // GuardDuty is on once the lab has a detector.
    let finding = lab.finding("command-and-control", "victim").await.unwrap();
    lab.put_in_guardduty(&finding).await.unwrap();

    let before = operator.run(&["preflight", "--accounts", &lab.member]).await;
    let text = String::from_utf8(before.stdout).unwrap();
    assert_eq!(before.status.code(), Some(1), "{text}");
    let vpc = lab.ids.get("vpc").unwrap();
    assert!(text.contains(&format!("quarantine group of {vpc}")) && text.contains("firebreak onboard"), "{text}");

    let made = operator.good(&["onboard", "--account", &lab.member]).await;
    assert!(made.contains(vpc), "{made}");
    let after = operator.good(&["preflight", "--accounts", &lab.member]).await;
    assert!(after.contains("ready:") && !after.contains("NOT ready"), "{after}");

    // Read back by the independent client: a group of ours in the VPC, without any rule.
    let groups = lab.state().await.unwrap();
    let ours: Vec<&Value> = groups["security_groups"]
        .as_object()
        .unwrap()
        .values()
        .filter(|group| group["name"].as_str().is_some_and(|name| name.starts_with("firebreak-quarantine")))
        .collect();
    assert_eq!(ours.len(), 1, "{ours:?}");
    let again = operator.good(&["onboard", "--account", &lab.member, "--vpc", vpc]).await;
    assert_eq!(again.lines().count(), 1);
    assert_eq!(lab.state().await.unwrap()["security_groups"], groups["security_groups"], "onboarding twice is once");
}

#[tokio::test]
async fn plan_shows_every_step_and_changes_nothing() {
    let lab = lab(Some("starter")).await;
    let operator = Operator { lab: &lab };
    let finding = lab.finding("command-and-control", "victim").await.unwrap();
    lab.put_in_guardduty(&finding).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("event.json");
    std::fs::write(&file, serde_json::to_vec(&finding).unwrap()).unwrap();
    let before = lab.state().await.unwrap();

    let text = operator.good(&["plan", "--event", file.to_str().unwrap()]).await;
    for expected in [
        "isolate-instance",
        "snapshot-volumes",
        "would be done at once",
        "security groups of",
        "Will stay open",
        "Nothing was changed.",
    ] {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
    assert_eq!(lab.state().await.unwrap(), before);
    assert!(lab.runs().await.unwrap().is_empty());

    // A finding that GuardDuty does not have is said to be worth nothing.
    let mut forged = finding.clone();
    let id = "f".repeat(32);
    let arn = forged["arn"].as_str().unwrap().replace(forged["id"].as_str().unwrap(), &id);
    forged["id"] = json!(id);
    forged["arn"] = json!(arn);
    std::fs::write(&file, serde_json::to_vec(&forged).unwrap()).unwrap();
    let text = operator.good(&["plan", "--event", file.to_str().unwrap()]).await;
    assert!(text.contains("not genuine"), "{text}");
}

#[tokio::test]
async fn a_person_approves_looks_undoes_and_keeps_the_evidence() {
    let lab = lab(None).await;
    let operator = Operator { lab: &lab };
    let mut function = lab.start().await.unwrap();
    assert!(operator.good(&["runs"]).await.contains("no runs yet"));
    let finding = lab.finding("command-and-control", "victim").await.unwrap();
    lab.put_in_guardduty(&finding).await.unwrap();
    let start = lab.state().await.unwrap();
    lab.deliver(&mut function, &finding).await.unwrap();
    assert_eq!(lab.state().await.unwrap(), start, "a proposal changes nothing");

    let runs = operator.good(&["runs", "--json"]).await;
    let runs: Vec<Value> = runs.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let run_of = |playbook: &str| {
        let run = runs.iter().find(|run| run["playbook"] == playbook).unwrap();
        assert_eq!(run["state"], "proposed");
        run["run"].as_str().unwrap().to_owned()
    };
    let (isolate, snapshot) = (run_of("isolate-instance"), run_of("snapshot-volumes"));

    for (run, verb) in [(&snapshot, "reject"), (&isolate, "approve")] {
        let decided = operator.good(&[verb, run, "--no-wait"]).await;
        assert!(decided.contains(&format!("decided: {verb} run {run}")), "{decided}");
        for event in lab.delivered().await.unwrap() {
            function.invoke(event).await.unwrap().answer.unwrap();
        }
    }
    let shown = operator.good(&["show", &isolate]).await;
    assert!(shown.contains("contained") && shown.contains("approved by arn:aws:"), "{shown}");
    let calls = |text: &str| text.lines().filter(|l| l.trim().starts_with("ModifyNetworkInterfaceAttribute ")).count();
    let made = calls(&shown);
    assert!(made >= 3, "the ids of the calls are not shown: {shown}");
    assert!(operator.good(&["show", &snapshot]).await.contains("rejected"));
    assert_ne!(lab.state().await.unwrap(), start);

    let twice = operator.run(&["approve", &isolate]).await;
    assert_eq!(twice.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&twice.stderr).contains("there is nothing to approve"), "{twice:?}");

    operator.good(&["undo", &isolate, "--no-wait"]).await;
    for event in lab.delivered().await.unwrap() {
        function.invoke(event).await.unwrap().answer.unwrap();
    }
    let shown = operator.good(&["show", &isolate]).await;
    assert!(shown.contains("undone"), "{shown}");
    assert!(calls(&shown) > made, "the ids of the undo's calls are not shown: {shown}");

    let whole = operator.good(&["evidence", "verify", &isolate]).await;
    assert!(whole.starts_with("whole: 3 records"), "{whole}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    operator.good(&["evidence", "get", &isolate, path]).await;
    operator.good(&["evidence", "verify", &isolate, "--folder", path]).await;
    let record = folder.path().join("0002-ended.json");
    let text = std::fs::read_to_string(&record).unwrap().replace("contained", "continued");
    std::fs::write(&record, text).unwrap();
    let broken = operator.run(&["evidence", "verify", &isolate, "--folder", path]).await;
    assert_eq!(broken.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&broken.stdout).contains("NOT whole: 0003-undone.json"), "{broken:?}");
}

#[tokio::test]
async fn a_published_policy_set_is_in_force_and_a_changed_object_is_not() {
    let lab = lab(None).await;
    let operator = Operator { lab: &lab };
    let said = operator.good(&["policy", "publish", "policies/starter.cedar"]).await;
    assert!(said.contains("accepted sha256"), "{said}");
    let finding = lab.finding("command-and-control", "victim").await.unwrap();
    lab.put_in_guardduty(&finding).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("event.json");
    std::fs::write(&file, serde_json::to_vec(&finding).unwrap()).unwrap();
    let plan = ["plan", "--event", file.to_str().unwrap()];
    assert!(operator.good(&plan).await.contains("would be done at once"));

    // Somebody who can write to the bucket, and not to the ledger.
    let bucket = lab.stack.output("PolicyBucket").unwrap();
    let key = lab.setting("FIREBREAK_POLICY_KEY").unwrap();
    let lax = r#"@id("all") permit (principal, action, resource);"#;
    lab.at_hub("s3", "put_object", json!({"Bucket": bucket, "Key": key, "Body": lax})).await.unwrap();
    let text = operator.good(&plan).await;
    assert!(text.contains("would be proposed") && text.contains("its hash is not the accepted one"), "{text}");
    let bad = folder.path().join("bad.cedar");
    std::fs::write(&bad, "permit (principal").unwrap();
    assert_eq!(operator.run(&["policy", "publish", bad.to_str().unwrap()]).await.status.code(), Some(2));
}
