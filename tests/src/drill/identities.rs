//! Scenarios of `contain-identity`: a leaked key, and a stolen session of a role.

use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::facts::Topic;
use super::{Contained, Stage};
use crate::compare::{entries, list};

const KEY: &str = "contain-access-key";
const SESSIONS: &str = "revoke-role-sessions";
/// Sequential calls from the event until the key is inactive.
const ROUNDS_KEY: usize = 5;
/// What a containment of a user changes of it.
const CHANGED: [&str; 5] = ["keys", "service_credentials", "ssh_keys", "certificates", "attached"];

pub(super) async fn compromised_key(stage: &mut Stage<'_>) -> Result<()> {
    let finding = leaked(stage, "victim").await?;
    let incident = stage.contain_by(finding).await?;
    let name = stage.lab.ids.get("victim.name")?.to_owned();
    stage.moment("contained", &incident.after)?;
    let deny = format!("arn:aws:iam::{}:policy/firebreak/deny-all", stage.lab.member);
    let user = incident.after["users"][&name].clone();
    for (what, field) in [
        ("access keys", "keys"),
        ("service-specific credentials", "service_credentials"),
        ("SSH keys", "ssh_keys"),
        ("signing certificates", "certificates"),
    ] {
        let had = entries(&incident.before["users"][&name][field]).count();
        stage.same(Topic::Cut, &format!("all {what} are inactive"), &inactive(had), &statuses(&user[field]));
    }
    let denied = list(&user["attached"]).any(|arn| *arn == json!(deny));
    stage.holds(Topic::Cut, "everything is denied to the user", denied, user["attached"].to_string());
    stage.same(Topic::Untouched, "its password is kept", &json!(true), &user["password"]);
    let rest = |state: &Value| without(state, "users", &name, &CHANGED);
    stage.check_unchanged(
        Topic::Untouched,
        "nothing else has changed: other users, roles, its own policies",
        &rest(&incident.before),
        &rest(&incident.after),
    );
    let rounds = stage.drill.numbers.rounds;
    stage.holds(
        Topic::Budget,
        &format!("the keys are inactive within {ROUNDS_KEY} AWS calls one after another"),
        (1..=ROUNDS_KEY).contains(&rounds),
        rounds.to_string(),
    );
    decided_and_told(stage, KEY).await?;
    stage.check_repeated(&incident, &[KEY]).await?;
    let invented = leaked(stage, "neighbour").await?;
    stage.check_forged(&incident, &[KEY], sample_of(&invented), invented).await?;
    taken_back(stage, &name, &deny).await?;
    stage.check_records(KEY).await?;
    if !stage.style.undo {
        return Ok(());
    }
    let undone = stage.check_undo(KEY).await?;
    let told = stage.drill.messages.iter().rfind(|text| text.starts_with("UNDONE")).cloned().unwrap_or_default();
    let what = "whoever undoes it is told again what was seen, and that the keys stay inactive";
    let named = told.contains("Seen before: ") && told.contains("Not as before: ") && !told.contains("Do: nothing");
    stage.holds(Topic::Undone, what, named, told);
    let mut expected = incident.before.clone();
    for status in expected["users"][&name]["keys"].as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
        *status = json!("Inactive");
    }
    stage.check_unchanged(
        Topic::Undone,
        "all is as it was, save its access keys: those stay inactive",
        &expected,
        &undone,
    );
    let caveats = stage.drill.steps.iter().filter(|step| step.action == "iam.deactivate-access-key");
    let declared: Vec<String> =
        caveats.filter_map(|step| Some(format!("{}: {}", step.what, step.caveat.as_ref()?))).collect();
    stage.holds(
        Topic::Undone,
        "that they stay inactive is declared in the plan",
        !declared.is_empty(),
        declared.join("; "),
    );
    stage.drill.declared = declared;
    Ok(())
}

/// The attacker takes back what it can, in the seconds in which its credentials still work.
async fn taken_back(stage: &mut Stage<'_>, name: &str, deny: &str) -> Result<()> {
    stage.say("the attacker makes the key active again and detaches the denial; the schedule comes");
    let key = stage.lab.ids.get("victim.key")?.to_owned();
    let active = json!({"UserName": name, "AccessKeyId": key, "Status": "Active"});
    stage.lab.at_member("iam", "update_access_key", active).await?;
    let detached = json!({"UserName": name, "PolicyArn": deny});
    stage.lab.at_member("iam", "detach_user_policy", detached).await?;
    stage.lab.let_time_pass().await?;
    stage.lab.schedule(&mut stage.function).await?;
    let user = stage.lab.state().await?["users"][name].clone();
    stage.same(Topic::Kept, "the key is inactive again", &json!("Inactive"), &user["keys"][&key]);
    let denied = list(&user["attached"]).any(|arn| *arn == json!(deny));
    stage.holds(Topic::Kept, "everything is denied to the user again", denied, user["attached"].to_string());
    let told: Vec<String> = stage.lab.messages().await?.into_iter().map(|(_, text)| text).collect();
    let said = told.iter().any(|text| text.contains("works against it"));
    stage.holds(Topic::Kept, "people are told that somebody works against it", said, told.join(" / "));
    stage.drill.messages.extend(told);
    stage.lab.outcome_events().await?;
    Ok(())
}

pub(super) async fn stolen_role_session(stage: &mut Stage<'_>) -> Result<()> {
    let finding = stage.lab.finding("instance-credentials-outside-aws", "victim").await?;
    let incident = stage.contain_by(finding).await?;
    let name = stage.lab.ids.get("victim.name")?.to_owned();
    let session = stage.lab.ids.get("victim")?.to_owned();
    stage.moment("contained", &incident.after)?;
    let statements = revocations(&incident.after, &name);
    stage.same(Topic::Cut, "one policy revokes", &json!(1), &json!(statements.len()));
    let statement = statements.into_iter().next().unwrap_or_default();
    let what = [&statement["Effect"], &statement["Action"], &statement["Resource"]];
    let everything = |value: &Value| *value == json!("*") || *value == json!(["*"]);
    let all = *what[0] == json!("Deny") && everything(what[1]) && everything(what[2]);
    stage.holds(Topic::Cut, "it denies everything", all, statement.to_string());
    let until = issued_before(&statement)?;
    let last_seen: Timestamp = incident.finding["service"]["eventLastSeen"].as_str().unwrap_or_default().parse()?;
    stage.holds(Topic::Cut, "to what was issued before the containment", until > last_seen, until.to_string());
    let narrowed = json!({"aws:userid": session});
    let found = &statement["Condition"]["StringEquals"];
    stage.same(Topic::Untouched, "only the session of the finding is meant: the role's others go on", &narrowed, found);
    let rest = |state: &Value| without_revocations(state, &name);
    stage.check_unchanged(
        Topic::Untouched,
        "nothing else has changed: other roles, who may assume it, its own policies",
        &rest(&incident.before),
        &rest(&incident.after),
    );
    decided_and_told(stage, SESSIONS).await?;
    stage.check_repeated(&incident, &[SESSIONS]).await?;
    let invented = stage.lab.finding("instance-credentials-outside-aws", "neighbour").await?;
    stage.check_forged(&incident, &[SESSIONS], sample_of(&invented), invented).await?;
    seen_again(stage, &incident, &name, until).await?;
    stage.check_records(SESSIONS).await?;
    if !stage.style.undo {
        return Ok(());
    }
    let undone = stage.check_undo(SESSIONS).await?;
    stage.check_unchanged(Topic::Undone, "all is as it was", &incident.before, &undone);
    Ok(())
}

/// The thief got a new session and was seen with it.
async fn seen_again(stage: &mut Stage<'_>, incident: &Contained, name: &str, until: Timestamp) -> Result<()> {
    stage.say("the session acts again, with credentials issued since; the schedule comes");
    // The emulator's clock gives whole seconds.
    let seen = Timestamp::now() + Duration::from_secs(3);
    let mut again = incident.finding.clone();
    again["service"]["eventLastSeen"] = json!(seen.to_string());
    again["updatedAt"] = json!(seen.to_string());
    stage.lab.deliver(&mut stage.function, &again).await?;
    // Nothing is seen before it has happened.
    let mut turns = tokio::time::interval(Duration::from_millis(100));
    while Timestamp::now() < seen {
        turns.tick().await;
    }
    stage.lab.let_time_pass().await?;
    stage.lab.schedule(&mut stage.function).await?;
    let state = stage.lab.state().await?;
    let statements = revocations(&state, name);
    stage.same(Topic::Kept, "still one policy revokes", &json!(1), &json!(statements.len()));
    let moved = issued_before(statements.first().context("no policy revokes any more")?)?;
    let what = "the time has moved forward, past when it was seen again";
    stage.holds(Topic::Kept, what, moved >= seen && moved > until, format!("{until} → {moved}, seen {seen}"));
    let told = stage.lab.messages().await?;
    stage.drill.messages.extend(told.into_iter().map(|(_, text)| text));
    stage.lab.outcome_events().await?;
    Ok(())
}

/// A severe finding about the use of a user's key.
async fn leaked(stage: &Stage<'_>, about: &str) -> Result<Value> {
    let mut finding = stage.lab.finding("iam-user", about).await?;
    finding["type"] = json!("CredentialAccess:IAMUser/CompromisedCredentials");
    finding["severity"] = json!(8);
    Ok(finding)
}

async fn decided_and_told(stage: &mut Stage<'_>, playbook: &str) -> Result<()> {
    stage.check_runs(Topic::Decided, "one run", &[playbook]).await?;
    stage.check_told(playbook, "contained", "CONTAINED").await?;
    stage.read_steps().await?;
    let remains = stage.drill.remains.len();
    stage.holds(Topic::Told, "what is not contained is said", remains > 0, format!("{remains} things"));
    stage.check_reasons();
    Ok(())
}

/// An invented finding as a sample of its own.
fn sample_of(invented: &Value) -> Value {
    let mut sample = invented.clone();
    let id = format!("{:032x}", 7);
    let arn = sample["arn"].as_str().unwrap_or_default().rsplit_once('/');
    sample["arn"] = json!(arn.map_or(String::new(), |(head, _)| format!("{head}/{id}")));
    sample["id"] = json!(id);
    sample["service"]["additionalInfo"]["value"] = json!(r#"{"sample":true}"#);
    sample
}

fn inactive(count: usize) -> Value {
    json!(vec!["Inactive"; count])
}

fn statuses(of: &Value) -> Value {
    entries(of).map(|(_, status)| status.clone()).collect()
}

/// The state without these fields of one user or role.
fn without(state: &Value, kind: &str, name: &str, fields: &[&str]) -> Value {
    let mut state = state.clone();
    for field in fields {
        state[kind][name][*field] = Value::Null;
    }
    state
}

const REVOCATION: &str = "firebreak-revoked-";

/// The statements of the policies that were put on a role since.
fn revocations(state: &Value, role: &str) -> Vec<Value> {
    let ours = entries(&state["roles"][role]["inline"]).filter(|(name, _)| name.starts_with(REVOCATION));
    ours.flat_map(|(_, document)| list(&document["Statement"]).cloned()).collect()
}

fn without_revocations(state: &Value, role: &str) -> Value {
    let mut state = state.clone();
    if let Some(inline) = state["roles"][role]["inline"].as_object_mut() {
        inline.retain(|name, _| !name.starts_with(REVOCATION));
    }
    state
}

fn issued_before(statement: &Value) -> Result<Timestamp> {
    let time = statement["Condition"]["DateLessThan"]["aws:TokenIssueTime"].as_str();
    time.context("no time in the revocation")?.parse().context("the revocation's time cannot be read")
}
