//! Makes an access key inactive that is too old or that nobody uses. Unlike one that leaked it is active again by an undo,
//! and it is never deleted.
//!
//! <https://docs.aws.amazon.com/IAM/latest/APIReference/API_UpdateAccessKey.html>

use serde::{Deserialize, Serialize};

use super::attach_deny_policy::is_attached;
use super::deactivate_access_key;
use super::{Status, user_arns};
use crate::action::{Action, Context, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::Failure;
use crate::ids::{AccessKeyId, UserName};
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Undo};

/// Makes an access key inactive for as long as nobody misses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetireAccessKey {
    /// Whose it is.
    pub user: UserName,
    /// The key.
    pub key: AccessKeyId,
}

impl Action for RetireAccessKey {
    const NAME: &'static str = "iam.retire-access-key";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::on("iam:ListAccessKeys", &["iam::*:user/*"]),
        Permission::on("iam:ListAttachedUserPolicies", &["iam::*:user/*"]),
        Permission::on("iam:UpdateAccessKey", &["iam::*:user/*"]),
    ];
    const UNDO: Undo = Undo::Exact;
    const CUTS: bool = true;
    type State = Status;

    fn subject(&self) -> String {
        format!("{} {}", self.user, self.key)
    }

    fn change(&self, before: &Self::State) -> Change {
        deactivate_access_key::change(&self.user, &self.key, *before)
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        vec![Grant::new("iam:UpdateAccessKey", user_arns(aws, &self.user))]
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        deactivate_access_key::status(cx.aws, &self.user, &self.key).await
    }

    async fn wanted(&self, _cx: &Context<'_>, _before: &Self::State) -> Result<Self::State, Failure> {
        Ok(Status::Inactive)
    }

    async fn set(&self, cx: &Context<'_>, _from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        // Whoever is contained gets no key back by the way.
        if *to == Status::Active && is_attached(cx.aws, &self.user).await? {
            return Ok(Set::Left(format!("{} is contained: the key stays inactive until it is released", self.user)));
        }
        deactivate_access_key::set_status(cx.aws, &self.user, &self.key, *to).await
    }

    fn satisfied(&self, now: &Self::State, _wanted: &Self::State) -> bool {
        *now != Status::Active
    }
}
