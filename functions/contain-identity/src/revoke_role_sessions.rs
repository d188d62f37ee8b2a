//! # Revoke the sessions of a role
//!
//! ## What it answers
//!
//! GuardDuty findings about the use of a role's session: stolen credentials of an instance, a pod or a function, or a
//! session that somebody else has taken on.
//!
//! ## What it does
//!
//! Puts one inline policy on the role, which denies everything to sessions that were issued before now, by AWS's clock,
//! and that have the name which the finding gives: of an instance that is its id, of a pod a name of its own. Other
//! sessions of the role go on. Where the finding gives no name, all sessions of the role are meant, and that wants the leave
//! `revoke-every-session` of a policy.
//!
//! ## What may break
//!
//! What uses the session. An instance keeps getting the old credentials from its metadata service until they are near
//! their end, which takes hours.
//!
//! ## How it is undone
//!
//! The policy is taken off, if it still says what we wrote. A stolen session that has not expired works again then.
//!
//! ## What it will not touch
//!
//! Who may assume the role: whoever may still get a new session gets one. Roles linked to a service, of Identity Center, of
//! stack sets and of the organization's own access, Firebreak's roles, break-glass roles.
//!
//! ## Drill
//!
//! `cargo drill -- stolen-role-session`
//!
//! ## References
//!
//! - <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_revoke-sessions.html>

use aws_sdk_iam::types::Role;
use firebreak::action::{Action, AnyAction, Boxed, Of};
use firebreak::actions::iam::revoke_sessions::{Policy, ROUNDING, RevokeSessions, policy_of};
use firebreak::aws::Aws;
use firebreak::failure::{Class, Failure, gone_is_none};
use firebreak::finding::{Finding, When};
use firebreak::ids::{RoleName, SessionName};
use firebreak::permission::Permission;
use firebreak::plan::{Leave, Plan, Step};
use firebreak::playbook::{Maybe, Meta, PlanContext, Planned, Playbook, Purpose};
use firebreak::target::{Target, TargetKind};
use firebreak::text::{plain, quoted};
use jiff::Timestamp;
use serde_json::Value;

use crate::protected::why_not;

/// Revokes sessions of a role.
#[derive(Debug)]
pub struct RevokeRoleSessions;

const META: Meta = Meta {
    id: "revoke-role-sessions",
    title: "Make sessions of a role useless that were handed out before now",
    purpose: Purpose::Contain,
    kinds: &[TargetKind::IamRole, TargetKind::IamRoleSession],
    hold: "revoke-role-sessions",
    // In seconds: when IAM has spread the change everywhere, and again.
    rechecks: &[10, 70],
    controls: &[],
    concerns: &["IAM", "IAMUser"],
    triggers: crate::triggers::SESSIONS,
    reads: &[Permission::on("iam:ListInstanceProfilesForRole", &["iam::*:role/*"])],
};

const ACTIONS: &[&dyn AnyAction] = &[&Of::<RevokeSessions>::NEW];

impl Playbook for RevokeRoleSessions {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn actions(&self) -> &'static [&'static dyn AnyAction] {
        ACTIONS
    }

    fn targets(&self, finding: &Finding) -> Vec<Target> {
        let mut found = Vec::new();
        if META.refusal(finding).is_some() {
            return found;
        }
        for identity in finding.identities.iter().filter(|identity| When::NamesSession.names(identity)) {
            let Some(role) = identity.role_id() else { continue };
            let (partition, account) = (finding.partition, finding.account.clone());
            let target = match identity.session_name() {
                Some(name) => Target::session(partition, account, &role, &name),
                None => Target::role(partition, account, role),
            };
            if !found.contains(&target) {
                found.push(target);
            }
        }
        found
    }

    fn takes_requests_about(&self, kind: TargetKind) -> bool {
        matches!(kind, TargetKind::IamRole | TargetKind::IamRoleSession)
    }

    fn plan<'a>(
        &'a self,
        cx: &'a PlanContext<'a>,
        target: &'a Target,
        finding: &'a Finding,
    ) -> Boxed<'a, Result<Planned, Failure>> {
        Box::pin(plan(cx, target, finding))
    }
}

async fn plan(cx: &PlanContext<'_>, target: &Target, finding: &Finding) -> Result<Planned, Failure> {
    let wrong = || Failure::new(Class::Bug, "plan for target", target.to_string());
    if target.account != cx.aws.account {
        return Err(wrong().because("the credentials belong to another account"));
    }
    let (id, session) = target.role_and_session().ok_or_else(wrong)?;
    let named = finding.identities.iter().filter(|identity| identity.role_id().as_ref() == Some(&id));
    // A role cannot be renamed: another one under its name means that it is gone.
    let Some(name) = named.clone().find_map(|identity| identity.user_name.as_ref()?.parse::<RoleName>().ok()) else {
        return Ok(Planned::Refused(format!(
            "the finding does not name the role {id}: look its sessions up and revoke them by hand"
        )));
    };
    let (role, policy, profiles) = tokio::join!(
        async {
            let answer = cx.aws.iam().get_role().role_name(name.as_str()).send().await;
            gone_is_none(answer.map_err(Failure::from_sdk("read role", &name)))
        },
        async {
            match cx.run {
                Some(run) => policy_of(cx.aws, &name, run).await,
                // Before there is a run there can be no policy of it.
                None => Ok(Policy::Absent),
            }
        },
        cx.optional(profiles_of(cx.aws, &name)),
    );
    let Some(role) = role?.and_then(|answer| answer.role).filter(|role| role.role_id() == id.as_str()) else {
        return Ok(Planned::Gone(format!("role {name} no longer exists, or is another one by now than {id}")));
    };
    if let Some(why) = why_not(&role) {
        return Ok(Planned::Refused(why));
    }
    let mut plan = Plan::new(META.id, target.clone());
    plan.arn = role.arn().parse().ok().map(Box::new);
    plan.tags = role.tags().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect();
    // A time that is still to come says nothing.
    let come = |seen: &Timestamp| cx.aws.server_time.is_none_or(|time| *seen <= time.now() + ROUNDING);
    let seen = finding.last_seen.filter(come);
    let action = RevokeSessions { role: name, id, session: session.clone(), seen };
    plan.stage("revoke", step(&action, &policy?));
    say_whom_else_it_hits(&mut plan, &role, session.as_ref(), profiles);
    Ok(Planned::Plan(plan))
}

/// The one step, unless the sessions are revoked already.
fn step(action: &RevokeSessions, policy: &Policy) -> Option<Step> {
    if action.is_revoked_by(policy) {
        return None;
    }
    let step = action.step(policy);
    let leave = action.session.is_none().then_some(Leave::RevokeEverySession);
    Some(Step { leave, ..step })
}

async fn profiles_of(aws: &Aws, role: &RoleName) -> Result<Vec<String>, Failure> {
    let pages = aws.iam().list_instance_profiles_for_role().role_name(role.as_str()).into_paginator().items().send();
    let found: Vec<_> = pages.try_collect().await.map_err(Failure::from_sdk("list the instance profiles of", role))?;
    Ok(found.iter().map(|profile| profile.instance_profile_name().to_owned()).collect())
}

/// Who shares what is revoked, and what goes on all the same.
fn say_whom_else_it_hits(plan: &mut Plan, role: &Role, session: Option<&SessionName>, profiles: Maybe<Vec<String>>) {
    let name = quoted(role.role_name());
    match session {
        Some(session) => {
            plan.remains.push(format!("sessions of role {name} under another name than `{session}` go on"))
        }
        None => {
            plan.notes.push(format!("every session of role {name} is revoked, whosever it is"));
            match profiles {
                Ok(profiles) if profiles.is_empty() => {}
                Ok(profiles) => {
                    let profiles: Vec<String> = profiles.iter().map(|profile| quoted(profile)).collect();
                    plan.notes
                        .push(format!("it hits every instance with the instance profile {}", profiles.join(", ")));
                }
                Err(why) => plan.notes.push(format!("whether instances use the role is not known: {why}")),
            }
            if let Some(used) = role.role_last_used().and_then(|used| used.region()) {
                plan.notes.push(format!("it was last used in {}", plain(used, 32)));
            }
        }
    }
    let trusted = role.assume_role_policy_document().map(trusted_in).unwrap_or_default();
    if !trusted.is_empty() {
        plan.remains.push(format!("who may assume the role gets a new session: {}", trusted.join(", ")));
    }
    plan.remains.push(
        "for some seconds, until IAM has spread the change, the session may still work; what it did, and roles that it has \
         assumed in turn, are yours to look up"
            .to_owned(),
    );
}

/// The principals that a trust policy names.
fn trusted_in(document: &str) -> Vec<String> {
    let text = firebreak::actions::iam::document(document);
    let Ok(policy) = serde_json::from_str::<Value>(&text) else { return vec!["not known".to_owned()] };
    let list = |value: &Value| match value {
        Value::Array(items) => items.clone(),
        one => vec![one.clone()],
    };
    let mut found: Vec<String> = list(&policy["Statement"])
        .iter()
        .filter(|statement| statement["Effect"] == "Allow")
        .flat_map(|statement| match &statement["Principal"] {
            Value::Object(kinds) => kinds.values().flat_map(list).collect(),
            one => vec![one.clone()],
        })
        .filter_map(|principal| principal.as_str().map(quoted))
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trust_policy_says_who_gets_new_sessions() {
        let document = r#"{"Version":"2012-10-17","Statement":[
            {"Effect":"Allow","Principal":{"Service":["ec2.amazonaws.com","lambda.amazonaws.com"],"AWS":"arn:aws:iam::1:root"},"Action":"sts:AssumeRole"},
            {"Effect":"Deny","Principal":"*","Action":"sts:AssumeRole"}]}"#;
        let encoded = document.replace('{', "%7B").replace('"', "%22");
        for document in [document, encoded.as_str()] {
            assert_eq!(
                trusted_in(document),
                ["`arn:aws:iam::1:root`", "`ec2.amazonaws.com`", "`lambda.amazonaws.com`"]
            );
        }
        assert_eq!(trusted_in("oops"), ["not known"]);
    }
}
