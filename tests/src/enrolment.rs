//! A member account's roles, as the stack set puts them there: those of one function at a time, and for each security
//! account that looks after it. In an organization one does; here some tests have several act on one account.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result};
use firebreak::operator;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::compare::list;
use crate::deployment::{FUNCTIONS, Function, ORGANIZATION, REGION};
use crate::emulator::{Observer, workspace};

/// What every function's roles use.
const SHARED: [&str; 3] = ["deny-all", "no-access", "firebreak-no-access"];

/// The functions whose roles an account has, each with the security accounts that they trust.
type Enrolled = BTreeMap<&'static str, BTreeSet<String>>;

/// What each account has. Who enrols one account does not wait for who enrols another.
static ENROLLED: Mutex<BTreeMap<String, Arc<Mutex<Enrolled>>>> = Mutex::const_new(BTreeMap::new());

/// Makes the roles of a function in a member account, for a security account, unless they are there. From then on what
/// roles may do is enforced in the account.
pub async fn enrol(observer: &Observer, hub: &str, member: &str, function: &Function) -> Result<()> {
    let account = Arc::clone(ENROLLED.lock().await.entry(member.to_owned()).or_default());
    let mut there = account.lock().await;
    match there.get_mut(function.name) {
        Some(hubs) if hubs.contains(hub) => return Ok(()),
        Some(hubs) => {
            let first = hubs.first().context("a role that trusts nobody")?;
            for playbook in function.playbooks {
                trust_as(observer, member, playbook.meta().id, first, hub).await?;
            }
            hubs.insert(hub.to_owned());
        }
        None => {
            let others = FUNCTIONS.iter().filter(|other| other.name != function.name);
            let mut without: Vec<&str> =
                others.flat_map(|other| other.playbooks.iter().map(|playbook| playbook.meta().id)).collect();
            without.extend([operator::PLAN, operator::ONBOARD]);
            if !there.is_empty() {
                without.extend(SHARED);
            }
            let parameters = json!({"HubAccount": hub, "OrganizationId": ORGANIZATION});
            observer.member(member, &workspace().join("template-member.yaml"), parameters, &without).await?;
            observer.enforce(&[member], Some(ORGANIZATION)).await?;
            there.insert(function.name, BTreeSet::from([hub.to_owned()]));
        }
    }
    Ok(())
}

/// Lets a role trust another security account as it trusts the first.
async fn trust_as(observer: &Observer, member: &str, role: &str, first: &str, hub: &str) -> Result<()> {
    let found = observer.call(member, REGION, "iam", "get_role", json!({"RoleName": role})).await?;
    let mut document = found["Role"]["AssumeRolePolicyDocument"].clone();
    let other = document["Statement"][0].to_string().replace(first, hub);
    let mut statements: Vec<Value> = list(&document["Statement"]).cloned().collect();
    statements.push(serde_json::from_str(&other)?);
    document["Statement"] = json!(statements);
    let update = json!({"RoleName": role, "PolicyDocument": document.to_string()});
    observer.call(member, REGION, "iam", "update_assume_role_policy", update).await.map(|_| ())
}
