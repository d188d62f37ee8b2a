//! # Contain a hijacked user
//!
//! ## What it answers
//!
//! GuardDuty findings about an IAM user that acts by its password, or by a session that it asked STS for
//! (`GetSessionToken`): there is no long-term key in them.
//!
//! ## What it does
//!
//! Finds the user by its unique id, whatever it is called by now. Then the same as `contain-access-key`: the account's
//! deny policy, which also stops the console and every session of the user's own; all access keys inactive; then
//! service-specific credentials, SSH keys and signing certificates. It looks again whether all of that still holds.
//!
//! ## What may break
//!
//! Everything that acts as the user, with whichever of its credentials.
//!
//! ## How it is undone
//!
//! The deny policy is detached, and what services take besides access keys is active again. Access keys stay inactive.
//!
//! ## What it will not touch
//!
//! The password, which cannot be put back once it is deleted; groups and policies of the user; other users; the root user
//! and break-glass principals.
//!
//! ## Drill
//!
//! None yet. The laws try it over every world in `tests/worlds/` that has such a target.
//!
//! ## References
//!
//! - <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_disable-perms.html>

use firebreak::action::{AnyAction, Boxed};
use firebreak::failure::Failure;
use firebreak::finding::{Finding, When};
use firebreak::playbook::{Meta, PlanContext, Planned, Playbook, Purpose};
use firebreak::target::{Target, TargetKind};

use crate::user;

/// Contains a user by whatever it acts with.
#[derive(Debug)]
pub struct ContainUser;

const META: Meta = Meta {
    id: "contain-user",
    title: "Take from a hijacked user everything that it can act with",
    purpose: Purpose::Contain,
    kinds: &[TargetKind::IamUser],
    hold: user::HOLD,
    rechecks: user::RECHECKS,
    controls: &[],
    concerns: &["IAM", "IAMUser"],
    triggers: crate::triggers::USERS,
    reads: &user::READS,
};

impl Playbook for ContainUser {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn actions(&self) -> &'static [&'static dyn AnyAction] {
        user::ACTIONS
    }

    fn targets(&self, finding: &Finding) -> Vec<Target> {
        if META.refusal(finding).is_some() { Vec::new() } else { user::targets(finding, When::NamesUser) }
    }

    fn is_about(&self, finding: &Finding, target: &Target) -> bool {
        user::is_about(finding, target)
    }

    fn takes_requests_about(&self, kind: TargetKind) -> bool {
        matches!(kind, TargetKind::IamUser)
    }

    fn plan<'a>(
        &'a self,
        cx: &'a PlanContext<'a>,
        target: &'a Target,
        finding: &'a Finding,
    ) -> Boxed<'a, Result<Planned, Failure>> {
        Box::pin(user::plan(cx, META.id, target, finding))
    }
}
