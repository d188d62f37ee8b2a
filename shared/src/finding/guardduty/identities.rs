//! The identities that a finding names: `resource.accessKeyDetails`, and in an attack sequence its access keys and
//! the users among its actors.

use super::super::identity::{Identity, UserType};
use super::super::json::{At, ParseError};
use crate::ids::{AccessKeyId, AccountId, Arn};

/// Each identity once, in the finding's order. Those of a sample are left out: they are made up.
pub(super) fn named(
    resource: &At<'_>,
    service: &At<'_>,
    account: &AccountId,
    sample: bool,
) -> Result<Vec<Identity>, ParseError> {
    let mut found = Vec::new();
    if sample {
        return Ok(found);
    }
    let details = resource.field("accessKeyDetails")?;
    if !details.is_absent() {
        let key = details.field("accessKeyId")?;
        push(&mut found, identity(&key, &details.field("userType")?, &details)?);
    }
    let sequence = service.down(&["detection", "sequence"])?;
    for item in sequence.field("resources")?.items()? {
        let data = item.down(&["data", "accessKey"])?;
        if item.field("resourceType")?.value().as_str() == Some("ACCESS_KEY")
            && is_of(&item.field("accountId")?, account)
        {
            push(&mut found, identity(&item.field("uid")?, &data.field("userType")?, &data)?);
        }
    }
    for actor in sequence.field("actors")?.items()? {
        let user = actor.field("user")?;
        // The account in which it acted: credentials of another account are not this finding's to cut off.
        if user.is_absent() || !is_of(&user.down(&["account", "uid"])?, account) {
            continue;
        }
        let seen = Identity {
            access_key: key_in(&user.field("credentialUid")?),
            user_type: UserType::parse(user.field("type")?.value().as_str().unwrap_or_default()),
            principal_id: principal_in(&user.field("uid")?),
            user_name: name_in(&user.field("name")?),
            arn: actor.down(&["session", "issuer"])?.value().as_str().and_then(|arn| arn.parse::<Arn>().ok()),
        };
        push(&mut found, seen);
    }
    Ok(found)
}

fn identity(key: &At<'_>, user_type: &At<'_>, about: &At<'_>) -> Result<Identity, ParseError> {
    Ok(Identity {
        access_key: key_in(key),
        user_type: UserType::parse(user_type.value().as_str().unwrap_or_default()),
        principal_id: principal_in(&about.field("principalId")?),
        user_name: name_in(&about.field("userName")?),
        arn: None,
    })
}

/// The identity of an access key as Security Hub hands it on: GuardDuty's words under other names.
pub(in super::super) fn of_copy(
    key: &str,
    user_type: &At<'_>,
    principal: &At<'_>,
    name: &At<'_>,
    known: &mut Vec<Identity>,
) {
    let identity = Identity {
        access_key: key.parse().ok(),
        user_type: UserType::parse(user_type.value().as_str().unwrap_or_default()),
        principal_id: principal_in(principal),
        user_name: name_in(name),
        arn: None,
    };
    push(known, identity);
}

/// Adds what names somebody. The same key or principal again only fills in what was not said before.
fn push(found: &mut Vec<Identity>, new: Identity) {
    if new.access_key.is_none() && new.principal_id.is_none() && new.user_type != UserType::Root {
        return;
    }
    let same = |known: &&mut Identity| match (&known.access_key, &new.access_key) {
        (Some(one), Some(other)) => one == other,
        _ => known.principal_id.is_some() && known.principal_id == new.principal_id,
    };
    match found.iter_mut().find(same) {
        None => found.push(new),
        Some(known) => {
            if known.user_type == UserType::Other {
                known.user_type = new.user_type;
            }
            known.access_key = known.access_key.take().or(new.access_key);
            known.principal_id = known.principal_id.take().or(new.principal_id);
            known.user_name = known.user_name.take().or(new.user_name);
            known.arn = known.arn.take().or(new.arn);
        }
    }
}

fn key_in(at: &At<'_>) -> Option<AccessKeyId> {
    at.value().as_str()?.parse().ok()
}

/// At most what CloudTrail writes: an id, and a session name that somebody chose.
fn principal_in(at: &At<'_>) -> Option<String> {
    let text = at.value().as_str()?;
    let fits = (1..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    fits.then(|| text.to_owned())
}

/// A name that IAM could have given (`[\w+=,.@-]{1,128}`).
fn name_in(at: &At<'_>) -> Option<String> {
    let text = at.value().as_str()?;
    crate::ids::is_iam_name(text, 128).then(|| text.to_owned())
}

/// Whether an account is not said, or is the finding's.
fn is_of(at: &At<'_>, account: &AccountId) -> bool {
    match at.value().as_str() {
        None | Some("") => true,
        Some(text) => text == account.as_str(),
    }
}
