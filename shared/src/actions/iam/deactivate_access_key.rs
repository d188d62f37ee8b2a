//! Makes one access key of a user inactive: what is signed with it is refused from then on, once IAM has spread the
//! change, which takes seconds. Sessions that were made from the key before live on.
//!
//! <https://docs.aws.amazon.com/IAM/latest/APIReference/API_UpdateAccessKey.html>

use aws_sdk_iam::types::AccessKeyMetadata;
use serde::{Deserialize, Serialize};

use super::{Status, status_of, user_arns};
use crate::action::{Action, Context, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::{Failure, gone_is_none};
use crate::ids::{AccessKeyId, UserName};
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Undo};

/// Makes an access key inactive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeactivateAccessKey {
    /// Whose it is.
    pub user: UserName,
    /// The key.
    pub key: AccessKeyId,
}

impl Action for DeactivateAccessKey {
    const NAME: &'static str = "iam.deactivate-access-key";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::on("iam:ListAccessKeys", &["iam::*:user/*"]),
        Permission::on("iam:UpdateAccessKey", &["iam::*:user/*"]),
    ];
    const UNDO: Undo = Undo::Never {
        why: "whoever had the user may know the key or have made it: its owner gets a new one, or a person activates it",
    };
    const CUTS: bool = true;
    type State = Status;

    fn subject(&self) -> String {
        format!("{} {}", self.user, self.key)
    }

    fn change(&self, before: &Self::State) -> Change {
        change(&self.user, &self.key, *before)
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        vec![Grant::new("iam:UpdateAccessKey", user_arns(aws, &self.user))]
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        status(cx.aws, &self.user, &self.key).await
    }

    async fn wanted(&self, _cx: &Context<'_>, _before: &Self::State) -> Result<Self::State, Failure> {
        Ok(Status::Inactive)
    }

    async fn set(&self, cx: &Context<'_>, _from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        set_status(cx.aws, &self.user, &self.key, *to).await
    }

    fn satisfied(&self, now: &Self::State, _wanted: &Self::State) -> bool {
        *now != Status::Active
    }
}

/// The change of a key that is made inactive, in words.
pub(super) fn change(user: &UserName, key: &AccessKeyId, before: Status) -> Change {
    Change {
        what: format!("access key {key} of {user}"),
        from: before.words().to_owned(),
        to: Status::Inactive.words().to_owned(),
    }
}

/// The status of a key; nothing when it or its user is gone.
pub(super) async fn status(aws: &Aws, user: &UserName, key: &AccessKeyId) -> Result<Option<Status>, Failure> {
    let Some(keys) = gone_is_none(keys_of(aws, user).await)? else { return Ok(None) };
    let found = keys.iter().find(|one| one.access_key_id() == Some(key.as_str()));
    found.map(|one| status_of(one.status(), key.as_str())).transpose()
}

pub(super) async fn set_status<S>(
    aws: &Aws,
    user: &UserName,
    key: &AccessKeyId,
    to: Status,
) -> Result<Set<S>, Failure> {
    let call = aws.iam().update_access_key().user_name(user.as_str());
    let call = call.access_key_id(key.as_str()).status(to.as_aws());
    call.send().await.map_err(Failure::from_sdk("set the status of access key", key))?;
    Ok(Set::Done)
}

/// The access keys of a user. A user can have two.
pub async fn keys_of(aws: &Aws, user: &UserName) -> Result<Vec<AccessKeyMetadata>, Failure> {
    let pages = aws.iam().list_access_keys().user_name(user.as_str()).into_paginator().items().send();
    pages.try_collect().await.map_err(Failure::from_sdk("list the access keys of", user))
}
