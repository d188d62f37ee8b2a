//! Who calls: taken from what Lambda's IAM authentication says of the request, and from nowhere else.
//!
//! A decision counts persons, not ARNs. What is one person:
//!
//! - an IAM user, by its name;
//! - whoever signs in through IAM Identity Center, by the name that it gives the session: the same in every permission
//!   set and in small letters. A user and a session of the same name are one person;
//! - of any other role, all sessions together are one person: whoever takes it on chooses the session's name. Which human
//!   it is they do not say, so where several persons are needed such a session is none of them.
//!
//! That nobody else can make a role of Identity Center's holds of its path, which the ARN of a session does not show: who
//! may call at all is named with the path, by `OperatorPrincipals`.
//!
//! The root user, federated users and Firebreak's own roles are nobody.
//! <https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html> (`requestContext.authorizer.iam`),
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html> (what `userid` is of whom).

use aws_lambda_events::lambda_function_urls::LambdaFunctionUrlRequest;
use serde::{Deserialize, Serialize};

use crate::finding::identity::IDENTITY_CENTER_ROLE;
use crate::ids::{AccountId, Arn};
use crate::operator::{OPERATOR, PUBLISHER};

/// The roles of Firebreak's in the security account: whoever takes them on says nothing of who it is.
const OWN_ROLES: [&str; 7] = [OPERATOR, PUBLISHER, "contain-compute", "contain-identity", "harden", "operate", DRILL];

/// The role of the function that holds drills. It is nobody, and may ask for one thing: that what its own drills did be
/// taken back.
const DRILL: &str = "drill";

/// What a person is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PersonKind {
    /// A user of IAM.
    #[serde(rename = "user")]
    User,
    /// A user of IAM Identity Center.
    #[serde(rename = "sso")]
    IdentityCenter,
    /// Whoever may take a role on. Who that is, the session does not say, so it is never one of several persons: it may
    /// be the same human as another of them.
    #[serde(rename = "role")]
    Role,
}

impl PersonKind {
    /// The kind as policies write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::IdentityCenter => "sso",
            Self::Role => "role",
        }
    }
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Who it is: two callers with the same id are one person.
    pub id: String,
    /// What it is known by.
    pub kind: PersonKind,
    /// The name, in small letters.
    pub name: String,
    /// Whose credentials it comes with.
    pub account: AccountId,
    /// The role, of a session.
    pub role: Option<String>,
}

/// Somebody who has called, as AWS names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The ARN, as it stands in records.
    pub arn: String,
    /// The person.
    pub person: Person,
}

/// Why a request is nobody's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Nobody {
    /// No IAM authentication has been there.
    #[error("the event does not come from the function's URL with IAM authentication")]
    NotAuthenticated,
    /// What it says of the caller does not fit together.
    #[error("what is said of the caller does not fit together: {0}")]
    Contradiction(&'static str),
    /// The caller is of another account.
    #[error("the caller is of account `{0}`: people come with credentials of the security account")]
    OtherAccount(AccountId),
    /// It is the function that holds drills, by this ARN.
    #[error("the function that holds drills may take back its own drills and nothing else")]
    Drills(String),
    /// The credentials do not say who it is.
    #[error("{0}: come with credentials of your own")]
    NoPerson(&'static str),
}

impl Caller {
    /// Who sent a request to the function's URL.
    ///
    /// # Errors
    /// When the event is no such request, or does not say who sent it.
    pub fn of(event: &LambdaFunctionUrlRequest, hub: &AccountId) -> Result<Self, Nobody> {
        let authorizer = event.request_context.authorizer.as_ref().and_then(|authorizer| authorizer.iam.as_ref());
        let iam = authorizer.filter(|_| event.version.as_deref() == Some("2.0")).ok_or(Nobody::NotAuthenticated)?;
        let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty()).ok_or(Nobody::NotAuthenticated);
        let (arn, user_id, account) = (said(&iam.user_arn)?, said(&iam.user_id)?, said(&iam.account_id)?);
        said(&iam.caller_id)?;
        Self::named(&arn, &user_id, &account, hub)
    }

    fn named(text: &str, user_id: &str, account: &str, hub: &AccountId) -> Result<Self, Nobody> {
        let arn: Arn = text.parse().map_err(|_| Nobody::Contradiction("the ARN is none"))?;
        let account: AccountId = account.parse().map_err(|_| Nobody::Contradiction("the account is none"))?;
        if arn.account.as_ref() != Some(&account) {
            return Err(Nobody::Contradiction("the ARN is of another account"));
        }
        if account != *hub {
            return Err(Nobody::OtherAccount(account));
        }
        let (kind, rest) = arn.resource.split_once('/').unwrap_or((&arn.resource, ""));
        if arn.service == "sts" && kind == "assumed-role" && rest.split_once('/').is_some_and(|(role, _)| role == DRILL)
        {
            return Err(Nobody::Drills(text.to_owned()));
        }
        let person = match (arn.service.as_str(), kind) {
            ("iam", "user") => Self::user(rest, account)?,
            ("sts", "assumed-role") => Self::session(rest, user_id, account)?,
            ("iam", "root") => return Err(Nobody::NoPerson("the root user is not used for this")),
            ("sts", "federated-user") => {
                return Err(Nobody::NoPerson("a federated user has the name that its maker chose"));
            }
            _ => return Err(Nobody::Contradiction("the ARN is neither a user's nor a session's")),
        };
        Ok(Self { arn: text.to_owned(), person })
    }

    fn user(path_and_name: &str, account: AccountId) -> Result<Person, Nobody> {
        let name = path_and_name.rsplit('/').next().unwrap_or_default().to_lowercase();
        if name.is_empty() {
            return Err(Nobody::Contradiction("the user has no name"));
        }
        Ok(Person { id: name.clone(), kind: PersonKind::User, name, account, role: None })
    }

    fn session(role_and_session: &str, user_id: &str, account: AccountId) -> Result<Person, Nobody> {
        let (role, session) =
            role_and_session.rsplit_once('/').ok_or(Nobody::Contradiction("the session has no name"))?;
        if role.is_empty() || session.is_empty() {
            return Err(Nobody::Contradiction("the session has no name"));
        }
        if user_id.split_once(':').map(|(_, name)| name) != Some(session) {
            return Err(Nobody::Contradiction("the id is of another session than the ARN"));
        }
        if OWN_ROLES.contains(&role) {
            return Err(Nobody::NoPerson("a session of a role of Firebreak's does not say whose it is"));
        }
        let taken = Some(role.to_owned());
        if role.starts_with(IDENTITY_CENTER_ROLE) {
            let name = session.to_lowercase();
            return Ok(Person { id: name.clone(), kind: PersonKind::IdentityCenter, name, account, role: taken });
        }
        let name = role.to_lowercase();
        Ok(Person { id: format!("role/{name}"), kind: PersonKind::Role, name, account, role: taken })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    const HUB: &str = "111111111111";

    fn hub() -> AccountId {
        HUB.parse().unwrap()
    }

    fn person(resource: &str, user_id: &str) -> Result<Person, Nobody> {
        let service = if resource.starts_with("user") || resource == "root" { "iam" } else { "sts" };
        let arn = format!("arn:aws:{service}::{HUB}:{resource}");
        Caller::named(&arn, user_id, HUB, &hub()).map(|caller| caller.person)
    }

    fn id(resource: &str, session: &str) -> String {
        person(resource, &format!("AROAEXAMPLE:{session}")).unwrap().id
    }

    #[test]
    fn one_human_in_two_sessions_is_one_person() {
        let one = id("assumed-role/AWSReservedSSO_Responder_0123/ann@example.com", "ann@example.com");
        let other = id("assumed-role/AWSReservedSSO_Admin_4567/Ann@Example.com", "Ann@Example.com");
        assert_eq!((one.as_str(), one == other), ("ann@example.com", true));
        let user = person("user/blue/ann@example.com", "AIDAEXAMPLE").unwrap();
        assert_eq!(user.id, one);
        assert_ne!(id("assumed-role/AWSReservedSSO_Responder_0123/ben@example.com", "ben@example.com"), one);
    }

    #[test]
    fn a_session_whose_name_its_taker_chose_is_no_person_of_its_own() {
        let ann = id("assumed-role/responder/ann", "ann");
        assert_eq!(ann, id("assumed-role/responder/ben", "ben"));
        assert_eq!(ann, "role/responder");
        assert_ne!(ann, person("user/responder", "AIDAEXAMPLE").unwrap().id);
    }

    #[test]
    fn who_does_not_say_who_it_is_is_nobody() {
        for (resource, user_id) in [
            ("root", HUB),
            ("federated-user/ann", "111111111111:ann"),
            ("assumed-role/operator/ann", "AROAEXAMPLE:ann"),
            ("assumed-role/operate/ann", "AROAEXAMPLE:ann"),
            ("assumed-role/responder/ann", "AROAEXAMPLE:ben"),
            ("assumed-role/responder/ann", "AROAEXAMPLE"),
            ("assumed-role/responder", "AROAEXAMPLE:responder"),
            ("user/", "AIDAEXAMPLE"),
            ("role/responder", "AROAEXAMPLE"),
        ] {
            assert!(person(resource, user_id).is_err(), "{resource} {user_id}");
        }
        let other = Caller::named("arn:aws:iam::222222222222:user/ann", "AIDAEXAMPLE", "222222222222", &hub());
        assert!(matches!(other, Err(Nobody::OtherAccount(_))), "{other:?}");
        let two = Caller::named("arn:aws:iam::222222222222:user/ann", "AIDAEXAMPLE", HUB, &hub());
        assert!(matches!(two, Err(Nobody::Contradiction(_))), "{two:?}");
    }

    #[test]
    fn only_a_request_to_the_url_with_iam_authentication_has_a_caller() {
        let arn = format!("arn:aws:iam::{HUB}:user/ann");
        let whole = json!({
            "version": "2.0", "isBase64Encoded": false, "headers": {}, "body": "{}",
            "requestContext": {
                "timeEpoch": 0, "http": {"method": "POST"},
                "authorizer": {"iam": {
                    "accessKey": "AKIAEXAMPLE", "accountId": HUB, "callerId": "AIDAEXAMPLE", "userArn": arn,
                    "userId": "AIDAEXAMPLE",
                }},
            },
        });
        let of = |event: &serde_json::Value| Caller::of(&serde_json::from_value(event.clone()).unwrap(), &hub());
        assert_eq!(of(&whole).unwrap().arn, arn);
        for taken in ["accountId", "callerId", "userArn", "userId"] {
            let mut without = whole.clone();
            without["requestContext"]["authorizer"]["iam"][taken] = json!(null);
            assert_eq!(of(&without), Err(Nobody::NotAuthenticated), "{taken}");
        }
        for (place, value) in [("/version", json!("1.0")), ("/requestContext/authorizer", json!({}))] {
            let mut other = whole.clone();
            *other.pointer_mut(place).unwrap() = value;
            assert_eq!(of(&other), Err(Nobody::NotAuthenticated), "{place}");
        }
        // What the body says of a caller says nothing.
        let mut forged = whole.clone();
        forged["requestContext"]["authorizer"] = json!(null);
        forged["body"] = json!(r#"{"do":"runs","requestContext":{"authorizer":{"iam":{"userArn":"x"}}}}"#);
        assert_eq!(of(&forged), Err(Nobody::NotAuthenticated));
    }
}
