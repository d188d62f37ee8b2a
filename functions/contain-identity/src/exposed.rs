//! Keys that AWS itself has found in public, as AWS Health and Trusted Advisor say.
//!
//! Neither can be asked again, so their word counts as far as IAM proves it: the key is the account's, and it is active.
//! Whose it is, is IAM's word alone.
//! <https://docs.aws.amazon.com/health/latest/ug/cloudwatch-events-health.html>

use aws_sdk_iam::types::StatusType;
use firebreak::actions::iam::deactivate_access_key::keys_of;
use firebreak::authenticate::Authenticity;
use firebreak::aws::Aws;
use firebreak::failure::{Failure, gone_is_none};
use firebreak::finding::{Finding, Identity, Resource, ResourceId, UserType};
use firebreak::ids::{AccessKeyId, UserId};
use firebreak::target::Target;

use crate::user::owner_of;

/// The keys that lie open, as AWS says in this finding.
fn keys(finding: &Finding) -> impl Iterator<Item = &AccessKeyId> {
    let says_so = finding.is_exposed_key();
    let own = finding.resources.iter().filter(move |resource| says_so && resource.account == finding.account);
    own.filter_map(|resource| match &resource.id {
        ResourceId::AccessKey(key) if key.is_long_term() => Some(key),
        _ => None,
    })
}

/// Whether it is such a finding.
pub(crate) fn is_one(finding: &Finding) -> bool {
    keys(finding).next().is_some()
}

/// The users that were looked up.
pub(crate) fn targets(finding: &Finding) -> Vec<Target> {
    let own = finding.resources.iter().filter(|resource| is_one(finding) && resource.account == finding.account);
    let mut found = Vec::new();
    for resource in own {
        if let ResourceId::UserId(id) = &resource.id {
            let target = Target::user(finding.partition, finding.account.clone(), id.clone());
            found.extend((!found.contains(&target)).then_some(target));
        }
    }
    found
}

/// The users whose keys are active that lie open.
pub(crate) async fn look_up(member: &Aws, finding: &Finding) -> Result<Vec<Resource>, Failure> {
    let mut found = Vec::new();
    for key in keys(finding) {
        if let Some(Proof { id, active: true, .. }) = prove(member, key).await? {
            found.push(Resource { id: ResourceId::UserId(id), account: finding.account.clone(), region: None });
        }
    }
    Ok(found)
}

/// The finding with whose the keys are, which IAM alone says.
pub(crate) async fn authenticate(member: &Aws, finding: &Finding) -> Authenticity {
    let mut identities = Vec::new();
    for key in keys(finding) {
        match prove(member, key).await {
            Ok(proof) => identities.extend(proof.filter(|proof| proof.active).map(|proof| proof.identity(key))),
            Err(failure) => return Authenticity::Unknown(failure),
        }
    }
    match identities.is_empty() {
        false => Authenticity::Genuine(Box::new(Finding { identities, ..finding.clone() })),
        true => Authenticity::NotAsked("IAM does not know the key for an active one any more"),
    }
}

/// What IAM says of a key.
struct Proof {
    id: UserId,
    name: String,
    active: bool,
}

impl Proof {
    fn identity(self, key: &AccessKeyId) -> Identity {
        Identity {
            access_key: Some(key.clone()),
            user_type: UserType::IamUser,
            principal_id: Some(self.id.into()),
            user_name: Some(self.name),
            arn: None,
        }
    }
}

/// Nothing where the account has no such key.
async fn prove(member: &Aws, key: &AccessKeyId) -> Result<Option<Proof>, Failure> {
    let Some(name) = owner_of(member, key).await? else { return Ok(None) };
    let (user, keys) = tokio::join!(
        async {
            let answer = member.iam().get_user().user_name(name.as_str()).send().await;
            gone_is_none(answer.map_err(Failure::from_sdk("read user", &name)))
        },
        async { gone_is_none(keys_of(member, &name).await) },
    );
    let (user, keys) = (user?.and_then(|answer| answer.user), keys?.unwrap_or_default());
    let Some(id) = user.and_then(|user| user.user_id().parse().ok()) else { return Ok(None) };
    let found = keys.iter().find(|one| one.access_key_id() == Some(key.as_str()));
    Ok(found.map(|found| Proof { id, name: name.into(), active: found.status() == Some(&StatusType::Active) }))
}
