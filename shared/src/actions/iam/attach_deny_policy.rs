//! Attaches the account's one policy that denies everything to a user: it stops keys, the console, and sessions that
//! were made from either, for an explicit denial wins over whatever else is allowed.
//!
//! A managed policy and not an inline one: a user has 2,048 characters for those, and a role that may only attach
//! this one policy (`iam:PolicyARN`) can do nothing else to anybody. The member template makes the policy; that it still
//! denies is read back before it is attached and each time it is looked at, because whoever holds the account could give
//! it another version.
//! <https://docs.aws.amazon.com/IAM/latest/APIReference/API_AttachUserPolicy.html>

use serde::{Deserialize, Serialize};

use super::user_arns;
use crate::action::{Action, Context, KnownGroup, Set};
use crate::aws::Aws;
use crate::denial::Denial;
use crate::failure::{Class, Failure, gone_is_none};
use crate::ids::{UserId, UserName};
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Undo};

/// The policy, as the member template makes it.
pub const DENY_POLICY: &str = "policy/firebreak/deny-all";

/// Attaches the deny policy to a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachDenyPolicy {
    /// The user.
    pub user: UserName,
    /// Its unique id: a user that was made anew under the name is another one.
    pub id: UserId,
}

/// How a user stands to the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attached {
    /// It is not attached.
    No,
    /// It is attached, and denies everything.
    Yes,
    /// It is attached, and does not deny everything any more.
    Hollow,
}

impl Attached {
    /// How a user stands to it who has it attached or not, when it denies everything or not.
    pub fn of(attached: bool, denies: bool) -> Self {
        match (attached, denies) {
            (false, _) => Self::No,
            (true, true) => Self::Yes,
            (true, false) => Self::Hollow,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::No => "not attached",
            Self::Yes => "attached: everything is denied",
            Self::Hollow => "attached, but somebody changed what it says",
        }
    }
}

impl Action for AttachDenyPolicy {
    const NAME: &'static str = "iam.attach-deny-policy";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::on("iam:AttachUserPolicy", &["iam::*:user/*"])
            .when("iam:PolicyARN", "iam::*:policy/firebreak/deny-all"),
        Permission::on("iam:DetachUserPolicy", &["iam::*:user/*"])
            .when("iam:PolicyARN", "iam::*:policy/firebreak/deny-all"),
        Permission::on("iam:GetPolicy", &["iam::*:policy/firebreak/deny-all"]),
        Permission::on("iam:GetPolicyVersion", &["iam::*:policy/firebreak/deny-all"]),
        Permission::on("iam:GetUser", &["iam::*:user/*"]),
        Permission::on("iam:ListAttachedUserPolicies", &["iam::*:user/*"]),
    ];
    const UNDO: Undo = Undo::Exact;
    const CUTS: bool = true;
    type State = Attached;

    fn subject(&self) -> String {
        format!("{} {}", self.user, self.id)
    }

    fn change(&self, before: &Self::State) -> Change {
        Change {
            what: format!("deny policy of {}", self.user),
            from: before.words().to_owned(),
            to: Attached::Yes.words().to_owned(),
        }
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        ["iam:AttachUserPolicy", "iam:DetachUserPolicy"]
            .map(|action| Grant::new(action, user_arns(aws, &self.user)))
            .into()
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        let user = async {
            let answer = cx.aws.iam().get_user().user_name(self.user.as_str()).send().await;
            gone_is_none(answer.map_err(Failure::from_sdk("read user", &self.user)))
        };
        let (user, attached) = tokio::try_join!(user, async { gone_is_none(attached(cx.aws, &self.user).await) })?;
        let is_it = user.and_then(|answer| answer.user).is_some_and(|user| user.user_id() == self.id.as_str());
        Ok(attached.filter(|_| is_it))
    }

    async fn wanted(&self, _cx: &Context<'_>, _before: &Self::State) -> Result<Self::State, Failure> {
        Ok(Attached::Yes)
    }

    async fn set(&self, cx: &Context<'_>, _from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        let (iam, policy) = (cx.aws.iam(), cx.aws.iam_arn(DENY_POLICY));
        match to {
            Attached::Yes => {
                if !denies(cx.aws).await? {
                    // Attached as it is now, it could allow what the user may not do.
                    let failure = Failure::new(Class::Refused, "attach the deny policy to", self.user.as_str());
                    return Err(failure.because("the policy does not say what Firebreak's template made it say"));
                }
                let call = iam.attach_user_policy().user_name(self.user.as_str()).policy_arn(&policy);
                call.send().await.map_err(Failure::from_sdk("attach the deny policy to", &self.user))?;
                Ok(Set::Done)
            }
            Attached::No => {
                let call = iam.detach_user_policy().user_name(self.user.as_str()).policy_arn(&policy);
                call.send().await.map_err(Failure::from_sdk("detach the deny policy from", &self.user))?;
                Ok(Set::Done)
            }
            Attached::Hollow => Ok(Set::Left("what the policy said before is not put back".to_owned())),
        }
    }
}

/// How a user stands to the deny policy.
async fn attached(aws: &Aws, user: &UserName) -> Result<Attached, Failure> {
    let (attached, denies) = tokio::try_join!(is_attached(aws, user), denies(aws))?;
    Ok(Attached::of(attached, denies))
}

/// Whether the deny policy is attached to a user, whatever it says.
pub async fn is_attached(aws: &Aws, user: &UserName) -> Result<bool, Failure> {
    let arn = aws.iam_arn(DENY_POLICY);
    let pages = aws.iam().list_attached_user_policies().user_name(user.as_str()).into_paginator().items().send();
    let found: Vec<_> = pages.try_collect().await.map_err(Failure::from_sdk("list the policies attached to", user))?;
    Ok(found.iter().any(|policy| policy.policy_arn() == Some(arn.as_str())))
}

/// Whether the deny policy exists and denies everything.
pub async fn denies(aws: &Aws) -> Result<bool, Failure> {
    let arn = aws.iam_arn(DENY_POLICY);
    let answer = aws.iam().get_policy().policy_arn(&arn).send().await;
    let Some(answer) = gone_is_none(answer.map_err(Failure::from_sdk("read policy", &arn)))? else { return Ok(false) };
    let Some(version) = answer.policy().and_then(|policy| policy.default_version_id()) else { return Ok(false) };
    let answer = aws.iam().get_policy_version().policy_arn(&arn).version_id(version).send().await;
    let Some(answer) = gone_is_none(answer.map_err(Failure::from_sdk("read the version of policy", &arn)))? else {
        return Ok(false);
    };
    let document = answer.policy_version().and_then(|version| version.document()).map(super::document);
    Ok(document.and_then(|document| Denial::read(&document)) == Some(Denial::of_everything()))
}
