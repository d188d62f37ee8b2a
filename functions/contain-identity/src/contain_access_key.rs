//! # Contain a leaked access key
//!
//! ## What it answers
//!
//! GuardDuty findings about the use of a user's long-term access key (`AKIA…`), and what AWS Health and Trusted Advisor say
//! of keys that lie open: as far as IAM proves it, which has to know the key and to hold it for active.
//!
//! ## What it does
//!
//! Looks the key's owner up in IAM; what the finding says of names is not believed. Then at once makes all access keys
//! of the user inactive and attaches the account's deny policy, which also stops the console and sessions that were made
//! from the key before. Afterwards it makes service-specific credentials, SSH keys and signing certificates inactive.
//!
//! Seconds later, when IAM has spread the change, and again after minutes, it looks whether somebody has taken any of it
//! back or made new credentials, and does it again. From CloudTrail it tells what the key was used to make.
//!
//! ## What may break
//!
//! Everything that acts as the user, with whichever of its credentials.
//!
//! ## How it is undone
//!
//! The deny policy is detached, and what services take besides access keys is active again. Access keys stay inactive:
//! whoever had the user may know them, or have made them. A person activates one that is known to be good.
//!
//! ## What it will not touch
//!
//! The password, which cannot be put back once it is deleted; groups and policies of the user; other users; the root user
//! and break-glass principals.
//!
//! ## Drill
//!
//! `cargo drill -- compromised-key`
//!
//! ## References
//!
//! - <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_access-keys.html>
//! - <https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_general.html#troubleshoot_general_eventual-consistency>

use firebreak::action::{AnyAction, Boxed};
use firebreak::authenticate::{Authenticity, not_asked};
use firebreak::aws::Aws;
use firebreak::failure::Failure;
use firebreak::finding::{Finding, Resource, When};
use firebreak::permission::Permission;
use firebreak::playbook::{Meta, PlanContext, Planned, Playbook, Purpose};
use firebreak::target::{Target, TargetKind};

use crate::{exposed, user};

/// Contains the user whose access key has leaked.
#[derive(Debug)]
pub struct ContainAccessKey;

const META: Meta = Meta {
    id: "contain-access-key",
    title: "Make a leaked access key useless, with everything else that its user can act with",
    purpose: Purpose::Contain,
    kinds: &[TargetKind::IamUser],
    hold: user::HOLD,
    rechecks: user::RECHECKS,
    controls: &[],
    concerns: &["IAM", "IAMUser"],
    triggers: crate::triggers::KEYS,
    reads: READS,
};

const READS: &[Permission] = &{
    let [events, password, users] = user::READS;
    [events, password, users, Permission::on("iam:GetAccessKeyLastUsed", &["iam::*:user/*"])]
};

impl Playbook for ContainAccessKey {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn actions(&self) -> &'static [&'static dyn AnyAction] {
        user::ACTIONS
    }

    fn targets(&self, finding: &Finding) -> Vec<Target> {
        if exposed::is_one(finding) {
            return exposed::targets(finding);
        }
        if META.refusal(finding).is_some() { Vec::new() } else { user::targets(finding, When::NamesKey) }
    }

    fn looks_up(&self, finding: &Finding) -> bool {
        exposed::is_one(finding) && exposed::targets(finding).is_empty()
    }

    fn look_up<'a>(&'a self, member: &'a Aws, finding: &'a Finding) -> Boxed<'a, Result<Vec<Resource>, Failure>> {
        Box::pin(exposed::look_up(member, finding))
    }

    fn authenticate<'a>(&'a self, _hub: &'a Aws, member: &'a Aws, finding: &'a Finding) -> Boxed<'a, Authenticity> {
        Box::pin(async move {
            match exposed::is_one(finding) {
                true => exposed::authenticate(member, finding).await,
                false => Authenticity::NotAsked(not_asked(finding.source)),
            }
        })
    }

    fn is_about(&self, finding: &Finding, target: &Target) -> bool {
        user::is_about(finding, target)
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
