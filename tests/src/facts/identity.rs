//! A user with its credentials, and the sessions of a role.

use crate::compare::{entries, list};
use crate::deployment::REGION;
use crate::emulator::world;
use crate::in_process::Case;
use anyhow::{Context, Result, ensure};
use firebreak::target::TargetKind;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{More, Open};

/// A denial that is older than this does not stop what was seen in use just now.
const RECENT: SignedDuration = SignedDuration::from_mins(10);

fn deny_policy(case: &Case) -> String {
    format!("arn:aws:iam::{}:policy/firebreak/deny-all", case.member)
}

/// The user and its name now.
fn user<'s>(case: &Case, state: &'s Value) -> Result<(&'s str, &'s Value)> {
    let mut users = entries(&state["users"]);
    users.find(|(_, user)| user["id"] == case.target.id.as_str()).with_context(|| format!("no user {}", case.target.id))
}

/// The role, by the unique id before the session's name.
fn role<'s>(case: &Case, state: &'s Value) -> Result<(&'s str, &'s Value)> {
    let id = case.target.id.split(':').next().unwrap_or_default();
    entries(&state["roles"]).find(|(_, role)| role["id"] == id).with_context(|| format!("no role {id}"))
}

/// What the user can still act with: each active key, and the user itself where nothing denies it everything.
pub(super) fn open_user(case: &Case, state: &Value) -> Result<Open> {
    let (_, user) = user(case, state)?;
    let active = entries(&user["keys"]).filter(|(_, status)| *status == "Active");
    let mut open: Open = active.map(|(key, _)| (key.to_owned(), [key.to_owned()].into())).collect();
    if !list(&user["attached"]).any(|policy| *policy == deny_policy(case).as_str()) {
        open.insert(case.target.id.clone(), [case.target.id.clone()].into());
    }
    Ok(open)
}

/// The days after which a key is too old for the control that the events here report.
const OLD: i64 = 90;

/// The active keys that are too old.
pub(super) fn old_keys(case: &Case, state: &Value) -> Result<Open> {
    let (_, user) = user(case, state)?;
    let is_old = |key: &str| user["key_days"][key].as_i64().is_some_and(|days| days > OLD);
    let old = entries(&user["keys"]).filter(|(key, status)| *status == "Active" && is_old(key));
    Ok(old.map(|(key, _)| (key.to_owned(), [key.to_owned()].into())).collect())
}

/// One that is too old works again.
pub(super) async fn reactivate(case: &Case) -> Result<()> {
    let state = case.state().await?;
    let (name, user) = user(case, &state)?;
    let old = entries(&user["key_days"]).find(|(_, days)| days.as_i64().is_some_and(|days| days > OLD));
    let (key, _) = old.with_context(|| format!("{name} has no old key"))?;
    let params = json!({"UserName": name, "AccessKeyId": key, "Status": "Active"});
    case.call("iam", "update_access_key", params).await.map(|_| ())
}

/// The sessions, where no policy of the role denies them everything that was issued until some minutes ago.
pub(super) fn open_sessions(case: &Case, state: &Value) -> Result<Open> {
    let (_, role) = role(case, state)?;
    let id = case.target.id.as_str();
    let named = case.target.kind == TargetKind::IamRoleSession;
    let denies = |policy: &Value| {
        let [statement] = list(&policy["Statement"]).as_slice() else { return false };
        let condition = &statement["Condition"];
        let until =
            condition["DateLessThan"]["aws:TokenIssueTime"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
        let everything = statement["Effect"] == "Deny" && statement["Action"] == "*" && statement["Resource"] == "*";
        let whose = condition["StringEquals"]["aws:userid"].as_str();
        everything && until.is_some_and(|until| until > Timestamp::now() - RECENT) && whose == named.then_some(id)
    };
    let mut open = Open::new();
    if !entries(&role["inline"]).any(|(_, policy)| denies(policy)) {
        // The words of the step: the role's id, and the session's name.
        open.insert(id.to_owned(), id.split(':').map(str::to_owned).collect());
    }
    Ok(open)
}

/// Nothing that services take besides access keys works.
pub(super) fn is_without_credentials(case: &Case, state: &Value) -> Result<()> {
    let (name, user) = user(case, state)?;
    for kind in ["service_credentials", "ssh_keys", "certificates"] {
        let active = entries(&user[kind]).any(|(_, status)| status == "Active");
        ensure!(!active, "{name} has active {kind}: {}", user[kind]);
    }
    Ok(())
}

/// An access key that works only once it is given.
pub(super) async fn spare_key(case: &Case) -> Result<More> {
    let state = case.state().await?;
    let (name, _) = user(case, &state)?;
    let made = case.call("iam", "create_access_key", json!({"UserName": name})).await?;
    let id = made["AccessKey"]["AccessKeyId"].as_str().context("a key without an id")?.to_owned();
    let set = |status: &str| json!({"UserName": name, "AccessKeyId": id, "Status": status});
    case.call("iam", "update_access_key", set("Inactive")).await?;
    let (observer, member, params) = (case.security.observer.clone(), case.member.clone(), set("Active"));
    let give =
        Box::pin(async move { observer.call(&member, REGION, "iam", "update_access_key", params).await.map(|_| ()) });
    Ok(More { id, give })
}

pub(super) fn with_key(case: &Case, before: &Value, id: &str) -> Result<Value> {
    let name = user(case, before)?.0.to_owned();
    let mut state = before.clone();
    let key = &mut state["users"][&name]["keys"][id];
    ensure!(*key == "Inactive", "{id} was {key} before");
    *key = json!("Active");
    Ok(state)
}

/// Another credential.
pub(super) async fn alter_user(case: &Case) -> Result<()> {
    let state = case.state().await?;
    let params = json!({"UserName": user(case, &state)?.0, "ServiceName": "cassandra.amazonaws.com"});
    case.call("iam", "create_service_specific_credential", params).await.map(|_| ())
}

/// Nothing is denied any more.
pub(super) async fn reopen_user(case: &Case) -> Result<()> {
    let state = case.state().await?;
    let params = json!({"UserName": user(case, &state)?.0, "PolicyArn": deny_policy(case)});
    case.call("iam", "detach_user_policy", params).await.map(|_| ())
}

/// The same for the sessions of a role.
pub(super) async fn reopen_role(case: &Case) -> Result<()> {
    let state = case.state().await?;
    let (name, role) = role(case, &state)?;
    for (policy, _) in entries(&role["inline"]).filter(|(policy, _)| policy.starts_with("firebreak-revoked-")) {
        let params = json!({"RoleName": name, "PolicyName": policy});
        case.call("iam", "delete_role_policy", params).await?;
    }
    Ok(())
}

/// The drill's user, its names, tags and calls in an attacker's hands.
pub(super) fn hostile_user(evil: &str, secret: &str) -> Result<Value> {
    let mut world = hostile("ci-user", "users", secret)?;
    // What a caller asks for stands in CloudTrail as it was asked for.
    let asked = json!({
        "minutes_ago": 5, "eventName": "CreateUser", "eventSource": "iam.amazonaws.com",
        "userIdentity": {"accessKeyId": "{victim.key}"}, "requestParameters": {"userName": evil},
    });
    world["trail"]["us-east-1"].as_array_mut().context("the world has no trail")?.push(asked);
    Ok(world)
}

/// A user with old keys.
pub(super) fn hostile_old_keys(secret: &str) -> Result<Value> {
    hostile("two-old-keys", "users", secret)
}

/// The drill's role.
pub(super) fn hostile_role(secret: &str) -> Result<Value> {
    let mut world = hostile("instance-role", "roles", secret)?;
    world["roles"]["victim"]["session"] = json!("=,.@-+_i-0");
    Ok(world)
}

fn hostile(name: &str, kind: &str, secret: &str) -> Result<Value> {
    let mut world = world(name)?;
    let victim = &mut world[kind]["victim"];
    victim["name"] = json!("a=,.@-+_b");
    victim["tags"] = json!({"key": "x", "secret": secret, "exempt": "true", "firebreak:exempt": "true"});
    Ok(world)
}
