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
//! are never deleted. An old key that is in use is somebody's work, and a rule of AWS Config that allows keys fewer days than
//! Security Hub does is the account's own: then a person is asked, whatever the policies permit.
//!
//! ## What may break
//!
//! Whatever still uses the key, if only once in three months.
//!
//! ## How it is undone
//!
//! The keys are active again, unless the user is contained meanwhile: whoever releases it decides.
//! Whoever undoes it is not overruled: when the control is reported again, a person is asked.
//!
//! ## What it will not touch
//!
//! The password, which is told; keys that are younger, or in use where the control is about use; break-glass principals.
//!
//! ## Drill
//!
//! There is none of its own: `cargo test --test laws` has the worlds.
//!
//! ## References
//!
//! - <https://docs.aws.amazon.com/securityhub/latest/userguide/iam-controls.html>
//! - <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_access-keys.html>
//! - <https://docs.aws.amazon.com/IAM/latest/APIReference/API_AccessKeyLastUsed.html>

use aws_sdk_iam::types::{AccessKeyMetadata, StatusType, User};
use firebreak::action::{Action, AnyAction, Of};
use firebreak::actions::iam::deactivate_access_key::keys_of;
use firebreak::actions::iam::{Status, name_of, retire_access_key};
use firebreak::aws::Aws;
use firebreak::failure::{Failure, gone_is_none};
use firebreak::finding::{Check, Control, Finding, Resource, ResourceId};
use firebreak::ids::{AccessKeyId, UserId, UserName};
use firebreak::permission::Permission;
use firebreak::plan::Plan;
use firebreak::playbook::{Meta, PlanContext, Planned, Purpose};
use firebreak::target::{Target, TargetKind};
use firebreak::text::plain;
use jiff::{SignedDuration, Timestamp};

use crate::fix::{Fix, id_of};

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
        kinds: &[TargetKind::IamUser],
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
    fn stands_for_targets(resource: &ResourceId) -> bool {
        matches!(resource, ResourceId::User(_))
    }

    async fn look_up(member: &Aws, finding: &Finding) -> Result<Vec<Resource>, Failure> {
        let mut found = Vec::new();
        for name in names(finding) {
            let id = user(member, name).await?.and_then(|user| user.user_id().parse().ok());
            let (account, region) = (member.account.clone(), None);
            found.extend(id.map(|id| Resource { id: ResourceId::UserId(id), account, region }));
        }
        Ok(found)
    }

    async fn plan(
        cx: &PlanContext<'_>,
        target: &Target,
        finding: &Finding,
        check: &'static Check,
    ) -> Result<Planned, Failure> {
        let id: UserId = id_of(target)?;
        let allowed = match Allowed::of(check, finding.control.as_ref()) {
            Ok(allowed) => allowed,
            Err(why) => return Ok(Planned::Refused(why)),
        };
        let Some((name, user)) = find(cx.aws, &id, finding).await? else {
            return Ok(Planned::Gone(format!("there is no user with the id {id}")));
        };
        let now = cx.aws.server_time.map_or_else(Timestamp::now, |time| time.now());
        let mut plan = Plan::new(Self::META.id, target.clone());
        plan.arn = user.arn().parse().ok().map(Box::new);
        plan.tags = user.tags().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect();
        let keys = gone_is_none(keys_of(cx.aws, &name).await)?.unwrap_or_default();
        let keys = futures_util::future::try_join_all(keys.iter().map(|key| read(cx.aws, key))).await?;
        let mut steps = Vec::new();
        for key in keys.into_iter().flatten().filter(|key| allowed.is_over(key, now)) {
            plan.notes.push(key.words());
            if key.used.is_some_and(|used| now.duration_since(used) <= days(allowed.usual)) {
                plan.ask_first.push(format!("{}: whatever uses it stops", key.words()));
            }
            if !allowed.by_aws().is_over(&key, now) {
                plan.ask_first.push(format!(
                    "access key {} is over the {} days of a rule of the account's, and not over the {} that AWS takes",
                    key.id, allowed.days, allowed.usual
                ));
            }
            steps.push(retire_access_key::RetireAccessKey { user: name.clone(), key: key.id }.step(&Status::Active));
        }
        if allowed.by_use
            && let Some(used) = user.password_last_used().and_then(|at| Timestamp::from_second(at.secs()).ok())
            && now.duration_since(used) > days(allowed.days)
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

/// A rule's number of days is the account's to choose. None is sensible that is more than a hundred years.
const MOST_DAYS: i64 = 36_500;

const fn days(count: i64) -> SignedDuration {
    SignedDuration::from_hours(count * 24)
}

/// For how long a key may be as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Allowed {
    days: i64,
    /// Days without use count, not those since it was made.
    by_use: bool,
    /// What AWS takes where nothing is chosen.
    usual: i64,
}

impl Allowed {
    /// Security Hub's controls have one number each. Who puts a rule into AWS Config chooses another.
    /// <https://docs.aws.amazon.com/config/latest/developerguide/access-keys-rotated.html>
    /// <https://docs.aws.amazon.com/config/latest/developerguide/iam-user-unused-credentials-check.html>
    fn of(check: &Check, control: Option<&Control>) -> Result<Self, String> {
        let (usual, by_use, parameter) = match check.control {
            Some("IAM.22") => (45, true, "maxCredentialUsageAge"),
            Some("IAM.8") => (90, true, "maxCredentialUsageAge"),
            _ => (90, false, "maxAccessKeyAge"),
        };
        let chosen = control.and_then(|control| control.parameters.get(parameter)).and_then(|values| values.first());
        let days = match chosen {
            None => usual,
            Some(text) => match text.parse() {
                Ok(days) if (1..=MOST_DAYS).contains(&days) => days,
                _ => return Err(format!("`{parameter}` is `{}`, which is no number of days", plain(text, 32))),
            },
        };
        Ok(Self { days, by_use, usual })
    }

    fn by_aws(self) -> Self {
        Self { days: self.usual, ..self }
    }

    /// Whether a key is over it. One that was never used is as old as it is.
    fn is_over(self, key: &Key, now: Timestamp) -> bool {
        let since = if self.by_use { key.used.unwrap_or(key.made) } else { key.made };
        now.duration_since(since) > days(self.days)
    }
}

/// An active key, and what is known of its use.
struct Key {
    id: AccessKeyId,
    made: Timestamp,
    used: Option<Timestamp>,
    by: String,
}

impl Key {
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
    let answer = answer.map_err(Failure::from_sdk("read when it was used last, access key", &id));
    // Deleted since.
    let Some(answer) = gone_is_none(answer)? else { return Ok(None) };
    let last = answer.access_key_last_used();
    let used = last.and_then(|last| last.last_used_date()).and_then(|at| Timestamp::from_second(at.secs()).ok());
    let by = last.map(|last| plain(last.service_name(), 64)).unwrap_or_default();
    Ok(Some(Key { id, made, used, by }))
}

async fn user(aws: &Aws, name: &UserName) -> Result<Option<User>, Failure> {
    let answer = aws.iam().get_user().user_name(name.as_str()).send().await;
    Ok(gone_is_none(answer.map_err(Failure::from_sdk("read user", name)))?.and_then(|answer| answer.user))
}

/// The names by which a finding names users.
fn names(finding: &Finding) -> impl Iterator<Item = &UserName> {
    let own = finding.resources.iter().filter(|resource| resource.account == finding.account);
    own.filter_map(|resource| match &resource.id {
        ResourceId::User(name) => Some(name),
        _ => None,
    })
}

/// The user with this id: under a name that the finding gives, else under the one it has now.
async fn find(aws: &Aws, id: &UserId, finding: &Finding) -> Result<Option<(UserName, User)>, Failure> {
    let is_meant = |user: &User| user.user_id() == id.as_str();
    for name in names(finding) {
        if let Some(user) = user(aws, name).await?.filter(is_meant) {
            return Ok(Some((name.clone(), user)));
        }
    }
    let Some(name) = name_of(aws, id).await? else { return Ok(None) };
    Ok(user(aws, &name).await?.filter(is_meant).map(|user| (name, user)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use firebreak::finding::Compliance;

    use super::*;

    #[test]
    fn a_key_is_over_by_its_age_or_by_its_use() {
        let now: Timestamp = "2026-11-28T00:00:00Z".parse().unwrap();
        let key = |made: i64, used: Option<i64>| Key {
            id: "AKIAIOSFODNN7EXAMPLE".parse().unwrap(),
            made: now - days(made),
            used: used.map(|ago| now - days(ago)),
            by: "s3".to_owned(),
        };
        for (key, old, unused_90, unused_45) in [
            (key(91, Some(1)), true, false, false),
            (key(90, Some(1)), false, false, false),
            (key(200, Some(91)), true, true, true),
            (key(200, Some(50)), true, false, true),
            (key(200, None), true, true, true),
            (key(50, None), false, false, true),
        ] {
            let words = key.words();
            for (check, is) in [(&TOO_OLD, old), (&UNUSED_90, unused_90), (&UNUSED_45, unused_45)] {
                assert_eq!(Allowed::of(check, None).unwrap().is_over(&key, now), is, "{words} {:?}", check.control);
            }
        }
    }

    #[test]
    fn a_rule_of_config_has_days_of_its_own() {
        let control = |days: &str| Control {
            id: "keys".to_owned(),
            compliance: Compliance::Failed,
            rule: None,
            check: Some("ACCESS_KEYS_ROTATED".to_owned()),
            known_as: None,
            parameters: [("maxAccessKeyAge".to_owned(), vec![days.to_owned()])].into(),
        };
        for (days, is) in [
            ("30", Ok(30)),
            ("365", Ok(365)),
            ("0", Err(())),
            ("1000000000000000", Err(())),
            ("-1", Err(())),
            ("", Err(())),
            ("x", Err(())),
        ] {
            let allowed = Allowed::of(&TOO_OLD, Some(&control(days)));
            assert_eq!(allowed.as_ref().map(|allowed| allowed.days).map_err(|_| ()), is, "{days}: {allowed:?}");
            assert!(allowed.is_err() || allowed.unwrap().by_aws().days == 90);
        }
    }
}
