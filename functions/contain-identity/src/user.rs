//! What is read and planned about a user, for both playbooks that contain one: they answer different findings and
//! bring the same about.

use aws_sdk_iam::types::{
    AccessKeyMetadata, ServiceSpecificCredentialMetadata, SigningCertificate, SshPublicKeyMetadata, StatusType, User,
};
use firebreak::action::{Action, AnyAction, Of};
use firebreak::actions::iam::attach_deny_policy::{AttachDenyPolicy, Attached, denies, is_attached};
use firebreak::actions::iam::deactivate_access_key::{DeactivateAccessKey, keys_of};
use firebreak::actions::iam::deactivate_service_credential::{DeactivateServiceCredential, credentials_of};
use firebreak::actions::iam::deactivate_signing_certificate::{DeactivateSigningCertificate, certificates_of};
use firebreak::actions::iam::deactivate_ssh_key::{DeactivateSshKey, ssh_keys_of};
use firebreak::actions::iam::{Status, name_of};
use firebreak::aws::Aws;
use firebreak::failure::{Class, Failure, gone_is_none};
use firebreak::finding::{Credential, Finding, When};
use firebreak::ids::{AccessKeyId, UserId, UserName};
use firebreak::permission::Permission;
use firebreak::plan::{Plan, Step};
use firebreak::playbook::{Maybe, PlanContext, Planned};
use firebreak::target::{Target, TargetKind};

use crate::sweep;

/// The actions of both playbooks.
pub(crate) const ACTIONS: &[&dyn AnyAction] = &[
    &Of::<AttachDenyPolicy>::NEW,
    &Of::<DeactivateAccessKey>::NEW,
    &Of::<DeactivateServiceCredential>::NEW,
    &Of::<DeactivateSigningCertificate>::NEW,
    &Of::<DeactivateSshKey>::NEW,
];

/// What their plans read besides, beyond the owner of a key.
pub(crate) const READS: [Permission; 3] = [
    Permission::read("cloudtrail:LookupEvents"),
    Permission::on("iam:GetLoginProfile", &["iam::*:user/*"]),
    Permission::read("iam:ListUsers"),
];

/// The word under which both hold a user.
pub(crate) const HOLD: &str = "contain-user";

/// In seconds: when IAM has spread the change everywhere, and again; then as soon as CloudTrail has what was done, which
/// it delivers within minutes, and once more for what came late.
pub(crate) const RECHECKS: &[u64] = &[10, 70, 600, 1800];

/// The users that a finding names by what `when` says.
pub(crate) fn targets(finding: &Finding, when: When) -> Vec<Target> {
    let mut found = Vec::new();
    for identity in finding.identities.iter().filter(|identity| when.names(identity)) {
        let target = identity.user_id().map(|id| Target::user(finding.partition, finding.account.clone(), id));
        found.extend(target.filter(|target| !found.contains(target)));
    }
    found
}

/// Whether a finding is about a user, by a key or otherwise: one playbook's run is joined by the other's finding.
pub(crate) fn is_about(finding: &Finding, target: &Target) -> bool {
    [When::NamesKey, When::NamesUser].iter().any(|when| targets(finding, *when).contains(target))
}

/// A user with all that it can act with.
#[derive(Debug)]
struct Facts {
    user: User,
    keys: Vec<AccessKeyMetadata>,
    attached: bool,
    password: Maybe<bool>,
    credentials: Maybe<Vec<ServiceSpecificCredentialMetadata>>,
    ssh_keys: Maybe<Vec<SshPublicKeyMetadata>>,
    certificates: Maybe<Vec<SigningCertificate>>,
}

/// Plans for both playbooks.
pub(crate) async fn plan(
    cx: &PlanContext<'_>,
    playbook: &'static str,
    target: &Target,
    finding: &Finding,
) -> Result<Planned, Failure> {
    let wrong = || Failure::new(Class::Bug, "plan for target", target.to_string());
    if target.account != cx.aws.account || target.kind != TargetKind::IamUser {
        return Err(wrong().because("the credentials belong to another account"));
    }
    let id: UserId = target.id.parse().map_err(|error| wrong().because(error))?;
    let named = finding.identities.iter().filter(|identity| identity.user_id().as_ref() == Some(&id));
    let keys: Vec<&AccessKeyId> = named.clone().filter_map(|identity| identity.access_key.as_ref()).collect();
    let leaked = named.clone().find_map(|identity| match identity.credential() {
        Credential::Key(key) => Some(key),
        _ => None,
    });
    // What the deny policy says is the account's, whoever the user is: read beside the look-up of the user, it costs no
    // round on the way to the keys.
    let hint = named.clone().find_map(|identity| identity.user_name.as_ref()?.parse::<UserName>().ok());
    let (found, denies) = tokio::join!(owner(cx, &id, leaked, hint), denies(cx.aws));
    let (facts, name) = match found? {
        Ok(found) => found,
        Err(none) => return Ok(none),
    };
    let denied = Attached::of(facts.attached, denies?);
    let mut plan = Plan::new(playbook, target.clone());
    plan.arn = facts.user.arn().parse().ok().map(Box::new);
    plan.tags = facts.user.tags().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect();
    plan.stage("cut", cut(&facts, denied, &id, &name));
    let credentials = credentials(&mut plan, &facts, &name);
    plan.stage("credentials", credentials);
    say_what_remains(&mut plan, &facts, &name);
    if cx.recheck {
        plan.remains.extend(sweep::made_by(cx.aws, &keys, finding).await);
    }
    Ok(Planned::Plan(plan))
}

/// The user that is to be contained with its name, or why there is none. Whose key it is, is IAM's to say; a name in the
/// finding is only where to look first.
async fn owner(
    cx: &PlanContext<'_>,
    id: &UserId,
    leaked: Option<&AccessKeyId>,
    hint: Option<UserName>,
) -> Result<Result<(Facts, UserName), Planned>, Failure> {
    let owner = match leaked {
        Some(key) => owner_of(cx.aws, key).await?,
        None => None,
    };
    let Some(name) = owner else {
        let gone = || Planned::Gone(format!("there is no user with the id {id}"));
        return Ok(find(cx, id, hint).await?.ok_or_else(gone));
    };
    Ok(facts(cx, id, &name).await?.map(|facts| (facts, name.clone())).ok_or_else(|| {
        let key = leaked.map(AccessKeyId::as_str).unwrap_or_default();
        Planned::Refused(format!(
            "access key {key} belongs to user {name}, who is not the user {id} that the finding names"
        ))
    }))
}

/// The name of a key's owner; nothing when IAM does not know the key, or not to us.
pub(crate) async fn owner_of(aws: &Aws, key: &AccessKeyId) -> Result<Option<UserName>, Failure> {
    let answer = aws.iam().get_access_key_last_used().access_key_id(key.as_str()).send().await;
    match answer.map_err(Failure::from_sdk("look up the owner of access key", key)) {
        Ok(answer) => Ok(answer.user_name().and_then(|name| name.parse().ok())),
        // A key that was deleted, or never was this account's. Who the user is can still be told by the unique id.
        Err(failure) if matches!(failure.class, Class::Gone | Class::Denied) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The user with this unique id: under the name that the finding gives, else under the one it has now. Whoever may
/// rename a user could otherwise hide it.
async fn find(cx: &PlanContext<'_>, id: &UserId, hint: Option<UserName>) -> Result<Option<(Facts, UserName)>, Failure> {
    if let Some(name) = hint
        && let Some(found) = facts(cx, id, &name).await?
    {
        return Ok(Some((found, name)));
    }
    match name_of(cx.aws, id).await? {
        Some(name) => Ok(facts(cx, id, &name).await?.map(|found| (found, name))),
        None => Ok(None),
    }
}

/// Everything about the user of this name, in one round; `None` when it is not the one with this id.
async fn facts(cx: &PlanContext<'_>, id: &UserId, name: &UserName) -> Result<Option<Facts>, Failure> {
    let aws = cx.aws;
    let (user, keys, attached, password, credentials, ssh_keys, certificates) = tokio::join!(
        async {
            let answer = aws.iam().get_user().user_name(name.as_str()).send().await;
            gone_is_none(answer.map_err(Failure::from_sdk("read user", name)))
        },
        keys_of(aws, name),
        is_attached(aws, name),
        cx.optional(has_password(aws, name)),
        cx.optional(credentials_of(aws, name)),
        cx.optional(ssh_keys_of(aws, name)),
        cx.optional(certificates_of(aws, name)),
    );
    let Some(user) = user?.and_then(|answer| answer.user).filter(|user| user.user_id() == id.as_str()) else {
        return Ok(None);
    };
    Ok(Some(Facts { user, keys: keys?, attached: attached?, password, credentials, ssh_keys, certificates }))
}

async fn has_password(aws: &Aws, name: &UserName) -> Result<bool, Failure> {
    let answer = aws.iam().get_login_profile().user_name(name.as_str()).send().await;
    Ok(gone_is_none(answer.map_err(Failure::from_sdk("read the password's profile of", name)))?.is_some())
}

/// All keys at once, and the policy that also stops what was made from them and what needs no key.
fn cut(facts: &Facts, denied: Attached, id: &UserId, user: &UserName) -> Vec<Step> {
    let active = facts.keys.iter().filter(|key| key.status() == Some(&StatusType::Active));
    let mut steps: Vec<Step> = active
        .filter_map(|key| key.access_key_id()?.parse().ok())
        .map(|key| DeactivateAccessKey { user: user.clone(), key }.step(&Status::Active))
        .collect();
    if denied != Attached::Yes {
        steps.push(AttachDenyPolicy { user: user.clone(), id: id.clone() }.step(&denied));
    }
    steps
}

/// What services take beside access keys.
fn credentials(plan: &mut Plan, facts: &Facts, user: &UserName) -> Vec<Step> {
    let mut steps = Vec::new();
    let active = |status: &StatusType| *status == StatusType::Active;
    for one in seen(plan, "service credentials", &facts.credentials).iter().filter(|one| active(one.status())) {
        let id = one.service_specific_credential_id().parse();
        steps.extend(id.ok().map(|id| DeactivateServiceCredential { user: user.clone(), id }.step(&Status::Active)));
    }
    for one in seen(plan, "SSH keys", &facts.ssh_keys).iter().filter(|one| active(one.status())) {
        let id = one.ssh_public_key_id().parse();
        steps.extend(id.ok().map(|id| DeactivateSshKey { user: user.clone(), id }.step(&Status::Active)));
    }
    for one in seen(plan, "signing certificates", &facts.certificates).iter().filter(|one| active(one.status())) {
        let id = one.certificate_id().parse();
        steps.extend(id.ok().map(|id| DeactivateSigningCertificate { user: user.clone(), id }.step(&Status::Active)));
    }
    steps
}

/// What was read, or nothing, and then it is said.
fn seen<'f, T>(plan: &mut Plan, what: &str, read: &'f Maybe<Vec<T>>) -> &'f [T] {
    match read {
        Ok(found) => found,
        Err(why) => {
            plan.incomplete = true;
            plan.remains.push(format!("the {what} could not be read and are as they were: {why}"));
            &[]
        }
    }
}

fn say_what_remains(plan: &mut Plan, facts: &Facts, user: &UserName) {
    plan.remains.push(
        "for some seconds, until IAM has spread the change, its credentials may still work; it is looked at again after that"
            .to_owned(),
    );
    match &facts.password {
        Ok(true) => plan.remains.push(format!(
            "the password of {user} is kept, for a deleted one cannot be put back: it still signs in, to nothing while the \
             deny policy is attached; change it before that is taken off"
        )),
        Ok(false) => {}
        Err(why) => plan.remains.push(format!("whether it has a password is not known: {why}")),
    }
    plan.remains.push(
        "sessions of roles that it has assumed go on; what it made and which roles it assumed is looked up in CloudTrail, \
         minutes from now, and told"
            .to_owned(),
    );
}
