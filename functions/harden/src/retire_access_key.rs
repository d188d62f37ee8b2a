//! # Retire access keys that are too old or that nobody uses
//!
//! ## What it answers
//!
//! Controls and rules that say that a user has an access key older than 90 days (IAM.3, `access-keys-rotated`), or
//! credentials that were not used for 90 or 45 days (IAM.8, IAM.22, `iam-user-unused-credentials-check`).
//!
//! ## What it does
//!
//! Looks when each active key was made and when it was used last, and makes those inactive that the control is about. They
//! are never deleted. An old key that is in use is somebody's work: then a person is asked, whatever the policies permit.
//!
//! ## What may break
//!
//! Whatever still uses the key, if only once a quarter.
//!
//! ## How it is undone
//!
//! The keys are active again.
//!
//! ## What it will not touch
//!
//! The password, which is told; keys that are younger or in use; break-glass principals.
//!
//! ## Drill
//!
//! There is none of its own.
//!
//! ## References
//!
//! - <https://docs.aws.amazon.com/securityhub/latest/userguide/iam-controls.html>
//! - <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_access-keys.html>

use aws_sdk_iam::types::{AccessKeyMetadata, StatusType, User};
use firebreak::action::{Action, AnyAction, Of};
use firebreak::actions::iam::deactivate_access_key::keys_of;
use firebreak::actions::iam::{Status, name_of, retire_access_key};
use firebreak::aws::Aws;
use firebreak::failure::{Class, Failure, gone_is_none};
use firebreak::finding::{Check, Finding, Resource, ResourceId};
use firebreak::ids::{AccessKeyId, UserId, UserName};
use firebreak::permission::Permission;
use firebreak::plan::Plan;
use firebreak::playbook::{Meta, PlanContext, Planned, Purpose};
use firebreak::target::Target;
use firebreak::text::plain;
use jiff::{SignedDuration, Timestamp};

use crate::fix::Fix;

/// Makes access keys inactive that are too old, or that nobody uses.
#[derive(Debug)]
pub struct RetireAccessKey;

const TOO_OLD: Check = Check {
    control: Some("IAM.3"),
    also: &["cis-aws-foundations-benchmark/v/1.2.0/1.4", "cis-aws-foundations-benchmark/v/1.4.0/1.14"],
    rule: Some(("ACCESS_KEYS_ROTATED", "access-keys-rotated")),
};
const UNUSED_90: Check = Check {
    control: Some("IAM.8"),
    also: &["cis-aws-foundations-benchmark/v/1.2.0/1.3", "PCI.IAM.7"],
    rule: Some(("IAM_USER_UNUSED_CREDENTIALS_CHECK", "iam-user-unused-credentials-check")),
};
const UNUSED_45: Check =
    Check { control: Some("IAM.22"), also: &["cis-aws-foundations-benchmark/v/1.4.0/1.12"], rule: None };

impl Fix for RetireAccessKey {
    const META: Meta = Meta {
        id: "retire-access-key",
        title: "Make access keys inactive that are too old or unused",
        purpose: Purpose::Fix,
        hold: "retire-access-key",
        rechecks: &[],
        triggers: &[],
        controls: &[TOO_OLD, UNUSED_90, UNUSED_45],
        concerns: &[],
        reads: &[
            Permission::read("config:DescribeConfigRules"),
            Permission::on("iam:GetAccessKeyLastUsed", &["iam::*:user/*"]),
            Permission::on("iam:GetUser", &["iam::*:user/*"]),
            Permission::read("iam:ListUsers"),
        ],
    };
    const ACTIONS: &'static [&'static dyn AnyAction] = &[&Of::<retire_access_key::RetireAccessKey>::NEW];

    fn target(resource: &Resource, finding: &Finding) -> Option<Target> {
        match &resource.id {
            ResourceId::UserId(id) => Some(Target::user(finding.partition, resource.account.clone(), id.clone())),
            _ => None,
        }
    }

    /// Security Hub names users where it can, and a user that is made anew has the same name and is another one.
    fn names_otherwise(finding: &Finding) -> bool {
        let has = |is: fn(&ResourceId) -> bool| finding.resources.iter().any(|resource| is(&resource.id));
        has(|id| matches!(id, ResourceId::User(_))) && !has(|id| matches!(id, ResourceId::UserId(_)))
    }

    async fn look_up(member: &Aws, mut finding: Finding) -> Result<Finding, Failure> {
        let own = finding.resources.iter().filter(|resource| resource.account == member.account);
        let names: Vec<UserName> = own
            .filter_map(|resource| match &resource.id {
                ResourceId::User(name) => Some(name.clone()),
                _ => None,
            })
            .collect();
        for name in names {
            let id = user(member, &name).await?.and_then(|user| user.user_id().parse().ok());
            let (account, region) = (member.account.clone(), None);
            finding.resources.extend(id.map(|id| Resource { id: ResourceId::UserId(id), account, region }));
        }
        Ok(finding)
    }

    async fn plan(
        cx: &PlanContext<'_>,
        target: &Target,
        finding: &Finding,
        check: &'static Check,
    ) -> Result<Planned, Failure> {
        let wrong = |error| Failure::new(Class::Bug, "plan for target", target.to_string()).because(error);
        let id: UserId = target.id.parse().map_err(|error: firebreak::ids::InvalidId| wrong(error))?;
        let Some((name, user)) = find(cx.aws, &id, finding).await? else {
            return Ok(Planned::Gone(format!("there is no user with the id {id}")));
        };
        let now = cx.aws.server_time.map_or_else(Timestamp::now, |time| time.now());
        let mut plan = Plan::new(Self::META.id, target.clone());
        plan.arn = user.arn().parse().ok().map(Box::new);
        plan.tags = user.tags().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect();
        let mut steps = Vec::new();
        for key in keys_of(cx.aws, &name).await? {
            let Some(key) = read(cx.aws, &key).await? else { continue };
            if !key.is_meant(check, now) {
                continue;
            }
            let used = key.used_since(now, days(90));
            plan.notes.push(key.words());
            plan.ask_first.extend(used.then(|| format!("{}: whatever uses it stops", key.words())));
            steps.push(retire_access_key::RetireAccessKey { user: name.clone(), key: key.id }.step(&Status::Active));
        }
        if check.control != TOO_OLD.control
            && let Some(used) = user.password_last_used().and_then(|at| Timestamp::from_second(at.secs()).ok())
            && now.duration_since(used) > unused(check)
        {
            plan.remains.push(format!(
                "the password of {name}, used last on {}, is kept: a deleted one cannot be put back",
                used.strftime("%Y-%m-%d")
            ));
        }
        plan.stage("retire", steps);
        Ok(Planned::Plan(plan))
    }
}

const fn days(count: i64) -> SignedDuration {
    SignedDuration::from_hours(count * 24)
}

/// For how long credentials may go unused.
fn unused(check: &Check) -> SignedDuration {
    if check.control == UNUSED_45.control { days(45) } else { days(90) }
}

/// An active key, and what is known of its use.
struct Key {
    id: AccessKeyId,
    made: Timestamp,
    used: Option<Timestamp>,
    by: String,
}

impl Key {
    /// Whether it is one that the control finds fault with.
    fn is_meant(&self, check: &Check, now: Timestamp) -> bool {
        if check.control == TOO_OLD.control {
            return now.duration_since(self.made) > days(90);
        }
        now.duration_since(self.used.unwrap_or(self.made)) > unused(check)
    }

    fn used_since(&self, now: Timestamp, ago: SignedDuration) -> bool {
        self.used.is_some_and(|used| now.duration_since(used) <= ago)
    }

    fn words(&self) -> String {
        let (id, made) = (&self.id, self.made.strftime("%Y-%m-%d"));
        match self.used {
            Some(used) => {
                format!("access key {id}, made {made}, was used last on {} for {}", used.strftime("%Y-%m-%d"), self.by)
            }
            None => format!("access key {id}, made {made}, was never used"),
        }
    }
}

/// What is known of a key; nothing of one that is not active. When a key was used IAM knows some minutes later.
async fn read(aws: &Aws, key: &AccessKeyMetadata) -> Result<Option<Key>, Failure> {
    let active = key.status() == Some(&StatusType::Active);
    let id = key.access_key_id().filter(|_| active).and_then(|id| id.parse::<AccessKeyId>().ok());
    let made = key.create_date().and_then(|at| Timestamp::from_second(at.secs()).ok());
    let (Some(id), Some(made)) = (id, made) else { return Ok(None) };
    let answer = aws.iam().get_access_key_last_used().access_key_id(id.as_str()).send().await;
    let answer = answer.map_err(Failure::from_sdk("read when it was used last, access key", &id))?;
    let last = answer.access_key_last_used();
    let used = last.and_then(|last| last.last_used_date()).and_then(|at| Timestamp::from_second(at.secs()).ok());
    let by = last.map(|last| plain(last.service_name(), 64)).unwrap_or_default();
    Ok(Some(Key { id, made, used, by }))
}

async fn user(aws: &Aws, name: &UserName) -> Result<Option<User>, Failure> {
    let answer = aws.iam().get_user().user_name(name.as_str()).send().await;
    Ok(gone_is_none(answer.map_err(Failure::from_sdk("read user", name)))?.and_then(|answer| answer.user))
}

/// The user with this id: under the name that the finding gives, else under the one it has now.
async fn find(aws: &Aws, id: &UserId, finding: &Finding) -> Result<Option<(UserName, User)>, Failure> {
    let named = finding.resources.iter().find_map(|resource| match &resource.id {
        ResourceId::User(name) => Some(name.clone()),
        _ => None,
    });
    let is_meant = |user: &User| user.user_id() == id.as_str();
    if let Some(name) = named
        && let Some(user) = user(aws, &name).await?.filter(is_meant)
    {
        return Ok(Some((name, user)));
    }
    let Some(name) = name_of(aws, id).await? else { return Ok(None) };
    Ok(user(aws, &name).await?.filter(is_meant).map(|user| (name, user)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_key_is_meant_by_its_age_or_by_its_use() {
        let now: Timestamp = "2026-11-28T00:00:00Z".parse().unwrap();
        let key = |made: i64, used: Option<i64>| Key {
            id: "AKIAIOSFODNN7EXAMPLE".parse().unwrap(),
            made: now - days(made),
            used: used.map(|ago| now - days(ago)),
            by: "s3".to_owned(),
        };
        for (key, old, unused_90, unused_45) in [
            (key(91, Some(1)), true, false, false),
            (key(89, Some(1)), false, false, false),
            (key(200, Some(91)), true, true, true),
            (key(200, Some(50)), true, false, true),
            (key(200, None), true, true, true),
            (key(50, None), false, false, true),
        ] {
            let words = key.words();
            assert_eq!(key.is_meant(&TOO_OLD, now), old, "{words}");
            assert_eq!(key.is_meant(&UNUSED_90, now), unused_90, "{words}");
            assert_eq!(key.is_meant(&UNUSED_45, now), unused_45, "{words}");
        }
    }
}
