//! Revokes sessions of a role that were handed out before now: an inline policy that denies them everything, by
//! the time at which their token was issued.
//!
//! The time is that of AWS, not of this machine and not of the finding: whatever was issued until then is
//! denied, also what was issued since somebody last looked. It stops old sessions only: whoever may still assume the role
//! gets a new one. The policy is named for the run, whose id nobody knew before, so it can only be ours; a second
//! containment by the same run moves the time forward and never back.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_revoke-sessions.html>

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::role_arns;
use crate::action::{Action, Context, KnownGroup, Set};
use crate::aws::Aws;
use crate::denial::{Denial, SessionId};
use crate::failure::{Class, Failure, gone_is_none};
use crate::ids::{RoleId, RoleName, RunId, SessionName};
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Undo, hex};

/// The `Date` of an answer gives whole seconds: what was issued within the second counts as before.
pub const ROUNDING: Duration = Duration::from_secs(1);

/// Revokes the sessions of a role: those of one name, or all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeSessions {
    /// The role.
    pub role: RoleName,
    /// Its unique id: a role that was made anew under the name is another one.
    pub id: RoleId,
    /// The name of the sessions; all sessions of the role without.
    pub session: Option<SessionName>,
    /// When they were last seen in use: what is revoked must have been issued until then at least.
    pub seen: Option<Timestamp>,
}

/// The run's policy on the role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// There is none.
    Absent,
    /// A denial of ours.
    Denial(Denial),
    /// Something else under its name; its SHA-256.
    Other(String),
}

impl RevokeSessions {
    /// The name of the policy that a run puts on a role.
    pub fn policy_name(run: &RunId) -> String {
        format!("firebreak-revoked-{run}")
    }

    fn session_id(&self) -> Option<SessionId> {
        self.session.clone().map(|name| SessionId { role: self.id.clone(), name })
    }

    /// The denial of sessions that were issued before `before`, or before the one that `than` has, whichever is later.
    fn denial(&self, before: Timestamp, than: &Policy) -> Denial {
        let already = match than {
            Policy::Denial(denial) => denial.sessions().map(|(at, _)| at),
            Policy::Other(_) | Policy::Absent => None,
        };
        Denial::of_sessions(already.map_or(before, |at| at.max(before)), self.session_id())
    }

    /// Whether a policy of ours revokes these sessions as far as is known.
    pub fn is_revoked_by(&self, policy: &Policy) -> bool {
        let wanted = self.denial(self.seen.unwrap_or(Timestamp::UNIX_EPOCH), &Policy::Absent);
        self.satisfied(policy, &Policy::Denial(wanted))
    }

    fn words(&self) -> String {
        match &self.session {
            Some(name) => format!("sessions `{name}` of role {}", self.role),
            None => format!("all sessions of role {}", self.role),
        }
    }
}

impl Action for RevokeSessions {
    const NAME: &'static str = "iam.revoke-sessions";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::on("iam:DeleteRolePolicy", &["iam::*:role/*"]),
        Permission::on("iam:GetRole", &["iam::*:role/*"]),
        Permission::on("iam:GetRolePolicy", &["iam::*:role/*"]),
        Permission::on("iam:PutRolePolicy", &["iam::*:role/*"]),
    ];
    const UNDO: Undo = Undo::Exact;
    const CUTS: bool = true;
    type State = Policy;

    fn subject(&self) -> String {
        match &self.session {
            Some(name) => format!("{} {} {name}", self.role, self.id),
            None => format!("{} {}", self.role, self.id),
        }
    }

    fn change(&self, before: &Self::State) -> Change {
        let from = match before {
            Policy::Absent => "work until they expire".to_owned(),
            Policy::Denial(denial) => match denial.sessions() {
                Some((at, _)) => format!("denied everything if issued before {at}"),
                None => "denied everything".to_owned(),
            },
            Policy::Other(_) => "our policy was changed by somebody else".to_owned(),
        };
        Change { what: self.words(), from, to: "denied everything if issued before now".to_owned() }
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        ["iam:DeleteRolePolicy", "iam:PutRolePolicy"]
            .map(|action| Grant::new(action, role_arns(aws, &self.role)))
            .into()
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        let role = async {
            let answer = cx.aws.iam().get_role().role_name(self.role.as_str()).send().await;
            gone_is_none(answer.map_err(Failure::from_sdk("read role", &self.role)))
        };
        let (role, policy) = tokio::try_join!(role, policy_of(cx.aws, &self.role, cx.run))?;
        let is_it = role.and_then(|answer| answer.role).is_some_and(|role| role.role_id() == self.id.as_str());
        Ok(is_it.then_some(policy))
    }

    async fn wanted(&self, _cx: &Context<'_>, before: &Self::State) -> Result<Self::State, Failure> {
        // At least this; `set` takes the time.
        let least = self.seen.unwrap_or(Timestamp::UNIX_EPOCH);
        Ok(Policy::Denial(self.denial(least, before)))
    }

    async fn set(&self, cx: &Context<'_>, from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        let (iam, name) = (cx.aws.iam(), Self::policy_name(cx.run));
        match to {
            Policy::Denial(_) => {
                let time = cx.aws.server_time.ok_or_else(|| {
                    Failure::new(Class::Transient, "learn the time to revoke", self.words())
                        .because("AWS's answer gave no date")
                })?;
                let denial = self.denial(time.now() + ROUNDING, from);
                let call = iam.put_role_policy().role_name(self.role.as_str()).policy_name(name);
                let call = call.policy_document(denial.render());
                call.send().await.map_err(Failure::from_sdk("revoke the sessions of role", &self.role))?;
                Ok(Set::Became(Policy::Denial(denial)))
            }
            Policy::Absent => {
                let call = iam.delete_role_policy().role_name(self.role.as_str()).policy_name(name);
                call.send().await.map_err(Failure::from_sdk("take the revocation off role", &self.role))?;
                Ok(Set::Done)
            }
            Policy::Other(_) => Ok(Set::Left("what somebody else wrote is not written again".to_owned())),
        }
    }

    fn satisfied(&self, now: &Self::State, wanted: &Self::State) -> bool {
        match (now, wanted) {
            (Policy::Denial(now), Policy::Denial(wanted)) => match (now.sessions(), wanted.sessions()) {
                (Some((at, of)), Some((least, whose))) => at >= least && of == whose,
                _ => false,
            },
            _ => now == wanted,
        }
    }
}

/// The policy that a run has put on a role; absent also when there is no such role.
pub async fn policy_of(aws: &Aws, role: &RoleName, run: &RunId) -> Result<Policy, Failure> {
    let call = aws.iam().get_role_policy().role_name(role.as_str());
    let answer = call.policy_name(RevokeSessions::policy_name(run)).send().await;
    let answer = gone_is_none(answer.map_err(Failure::from_sdk("read our policy on role", role)))?;
    Ok(answer.map_or(Policy::Absent, |answer| {
        let document = super::document(answer.policy_document());
        Denial::read(&document).map_or_else(|| Policy::Other(hex(&Sha256::digest(&document))), Policy::Denial)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(session: Option<&str>, seen: &str) -> RevokeSessions {
        RevokeSessions {
            role: "shop-web".parse().unwrap(),
            id: "AROADBQP57FF2AEXAMPLE".parse().unwrap(),
            session: session.map(|name| name.parse().unwrap()),
            seen: seen.parse().ok(),
        }
    }

    fn policy(action: &RevokeSessions, before: &str) -> Policy {
        Policy::Denial(action.denial(before.parse().unwrap(), &Policy::Absent))
    }

    #[test]
    fn the_time_moves_forward_only() {
        let action = action(Some("i-0123456789abcdef0"), "2026-11-22T01:00:00Z");
        let later = policy(&action, "2026-11-22T02:00:00Z");
        let kept = action.denial("2026-11-22T01:30:00Z".parse().unwrap(), &later);
        assert_eq!(kept.sessions().unwrap().0.to_string(), "2026-11-22T02:00:00Z");
        let moved = action.denial("2026-11-22T03:00:00Z".parse().unwrap(), &later);
        assert_eq!(moved.sessions().unwrap().0.to_string(), "2026-11-22T03:00:00Z");
    }

    #[test]
    fn what_was_issued_since_is_not_revoked_by_an_older_policy() {
        let narrow = action(Some("i-0123456789abcdef0"), "2026-11-22T01:00:00Z");
        let wanted = policy(&narrow, "2026-11-22T01:00:00Z");
        assert!(narrow.satisfied(&policy(&narrow, "2026-11-22T01:00:01Z"), &wanted));
        assert!(!narrow.satisfied(&policy(&narrow, "2026-11-22T00:59:59Z"), &wanted));
        assert!(!narrow.satisfied(&Policy::Absent, &wanted));
        assert!(!narrow.satisfied(&Policy::Other(String::new()), &wanted));
        // Another session's revocation, or everybody's, is not this one.
        for other in [action(Some("i-0aaaaaaaaaaaaaaaa"), ""), action(None, "")] {
            assert!(!narrow.satisfied(&policy(&other, "2026-11-22T02:00:00Z"), &wanted));
        }
    }
}
