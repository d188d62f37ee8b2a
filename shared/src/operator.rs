//! People at the command: the roles through which they reach the security account and member accounts.
//!
//! A person's own credentials do one thing: they take on the role `operator` of the security account, whose trust
//! policy says who may. It holds what the command's calls need, but for publishing policies, which has the role
//! `publisher`. In a member account it can take on two roles: `plan`,
//! which reads what playbooks read, and `onboard`, which makes and empties quarantine groups. The playbooks' own
//! roles are for the functions alone.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::action::Action;
use crate::actions::ec2::create_group::CreateGroup;
use crate::actions::ec2::empty_group::EmptyGroup;
use crate::aws::Aws;
use crate::failure::Failure;
use crate::ids::{AccountId, Arn, Region};
use crate::permission::Permission;
use crate::playbook::Playbook;
use crate::session::{self, SESSION_SECONDS, Take};

/// The role of the security account with which people look, plan and onboard.
pub const OPERATOR: &str = "operator";
/// The role of the security account that puts policy sets in force. Whoever has it says what everybody else may.
pub const PUBLISHER: &str = "publisher";
/// The role of a member account that reads for plans and checks.
pub const PLAN: &str = "plan";
/// The role of a member account that makes and empties quarantine groups.
pub const ONBOARD: &str = "onboard";

/// The longest that a session lasts which was taken on with another one (IAM user guide, role chaining).
const HUB_SECONDS: i32 = 3600;

/// `onboard` empties only what was tagged as a quarantine group when it was made: key and value of the condition.
const TAGGED_AS_OURS: (&str, &str) = ("aws:ResourceTag/firebreak:purpose", "firebreak-quarantine");

/// What `plan` holds: every read of these playbooks.
pub fn plan_permissions(playbooks: &[&dyn Playbook]) -> Vec<Permission> {
    let all: BTreeSet<Permission> = playbooks.iter().flat_map(|playbook| playbook.permissions()).collect();
    all.into_iter().filter(|permission| session::is_read(permission.action)).collect()
}

/// What `onboard` holds: its two actions, and the read that finds the VPCs in use.
pub fn onboard_permissions() -> Vec<Permission> {
    let actions = CreateGroup::PERMISSIONS.iter().chain(EmptyGroup::PERMISSIONS).copied();
    let narrowed = actions.map(|permission| match permission.action {
        "ec2:RevokeSecurityGroupEgress" | "ec2:RevokeSecurityGroupIngress" => {
            permission.when(TAGGED_AS_OURS.0, TAGGED_AS_OURS.1)
        }
        _ => permission,
    });
    let all: BTreeSet<Permission> = narrowed.chain([Permission::read("ec2:DescribeNetworkInterfaces")]).collect();
    all.into_iter().collect()
}

/// A person who has taken on the role of the security account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Who it is, as STS names the person's own credentials: what decisions are signed with.
    pub arn: String,
}

impl Operator {
    /// Takes on a role of the security account, unless `own` are credentials of that role already.
    ///
    /// # Errors
    /// When STS cannot be asked, or does not let this person take the role on.
    pub async fn take(own: &Aws, role: &'static str) -> Result<(Self, Aws), Failure> {
        let asked = own.sts().get_caller_identity().send().await;
        let identity = asked.map_err(Failure::from_sdk("ask STS who calls in", &own.region))?;
        let arn = identity.arn().unwrap_or_default().to_owned();
        let operator = Self { arn };
        if operator.has(role, &own.account) {
            let same = own.in_region(own.region.clone());
            return Ok((operator, same));
        }
        let name = operator.name();
        let take = Take { role, name: &name, source_identity: None, seconds: HUB_SECONDS, policy: None };
        let aws = take.on(own, &own.account, &own.region).await?;
        Ok((operator, aws))
    }

    /// A session of one of the operators' roles in a member account, narrowed to `policy`. No source identity is set:
    /// one that the person came with stays, and may not be changed.
    pub(crate) async fn session(
        &self,
        hub: &Aws,
        role: &'static str,
        account: &AccountId,
        region: &Region,
        policy: &Value,
    ) -> Result<Aws, Failure> {
        let name = self.name();
        let take = Take { role, name: &name, source_identity: None, seconds: SESSION_SECONDS, policy: Some(policy) };
        take.on(hub, account, region).await
    }

    fn has(&self, role: &str, hub: &AccountId) -> bool {
        self.arn.parse::<Arn>().is_ok_and(|arn| {
            arn.service == "sts"
                && arn.account.as_ref() == Some(hub)
                && arn.resource.starts_with(&format!("assumed-role/{role}/"))
        })
    }

    /// The person's name as a session can have it: the last part of the ARN, 2 to 64 characters of those that STS
    /// takes (STS API reference, `AssumeRole`, `RoleSessionName`).
    fn name(&self) -> String {
        let last = self.arn.rsplit('/').next().unwrap_or_default();
        let name: String =
            last.chars().filter(|c| c.is_ascii_alphanumeric() || "_+=,.@-".contains(*c)).take(64).collect();
        if name.len() < 2 { "firebreak".to_owned() } else { name }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::action::GroupPurpose;
    use crate::actions::ec2::TAG_PURPOSE;

    fn operator(arn: &str) -> Operator {
        Operator { arn: arn.to_owned() }
    }

    #[test]
    fn a_session_has_the_persons_name() {
        for (arn, name) in [
            ("arn:aws:iam::111111111111:user/blue/ann", "ann"),
            ("arn:aws:sts::111111111111:assumed-role/AWSReservedSSO_Responder_1/ann@example.com", "ann@example.com"),
            ("arn:aws:iam::111111111111:user/é", "firebreak"),
        ] {
            assert_eq!(operator(arn).name(), name);
        }
        assert_eq!(operator(&"a".repeat(99)).name().len(), 64);
    }

    #[test]
    fn only_the_security_accounts_role_is_taken_for_it() {
        let hub = "111111111111".parse().unwrap();
        assert!(operator("arn:aws:sts::111111111111:assumed-role/operator/ann").has(OPERATOR, &hub));
        for other in [
            "arn:aws:sts::222222222222:assumed-role/operator/ann",
            "arn:aws:sts::111111111111:assumed-role/operators/ann",
            "arn:aws:iam::111111111111:user/assumed-role/operator/ann",
            "",
        ] {
            assert!(!operator(other).has(OPERATOR, &hub), "{other}");
        }
    }

    #[test]
    fn onboarding_revokes_rules_of_quarantine_groups_only() {
        assert_eq!(TAGGED_AS_OURS.0, format!("aws:ResourceTag/{TAG_PURPOSE}"));
        assert_eq!(TAGGED_AS_OURS.1, GroupPurpose::Quarantine.as_str());
        let held = onboard_permissions();
        let revoking: Vec<&Permission> = held.iter().filter(|held| held.action.contains("Revoke")).collect();
        assert_eq!(revoking.len(), 2);
        assert!(revoking.iter().all(|held| held.when == Some(TAGGED_AS_OURS)), "{revoking:?}");
    }
}
