//! Who acted, where a finding is about credentials rather than a machine.
//!
//! The words are those of CloudTrail's `userIdentity`, from which detectors take them
//! (<https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-user-identity.html>).
//! Nothing here is acted on by itself: what a name or an id stands for is looked up in IAM, and must agree.

use serde::{Deserialize, Serialize};

use crate::ids::{AccessKeyId, Arn, RoleId, SessionName, UserId};

/// An identity that a finding names. What the source does not say, or says in a form that IAM could not have
/// given it, is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The access key that signed the calls.
    pub access_key: Option<AccessKeyId>,
    /// What kind of identity it is.
    pub user_type: UserType,
    /// Its unique id: `AIDA…` of a user, `AROA…:session` of a role's session, an account id of a root user.
    pub principal_id: Option<String>,
    /// The name of the user, or of the session's role. Names are given anew; the unique id is not.
    pub user_name: Option<String>,
    /// Its ARN, where the source gives one: of the user, the role, or the session.
    pub arn: Option<Arn>,
}

/// The kinds of identity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserType {
    /// The root user of the account.
    Root,
    /// An IAM user, by a long-term key, the console, or a session that it asked STS for.
    IamUser,
    /// A session of a role.
    AssumedRole,
    /// A session that an IAM user gave away by `GetFederationToken`.
    FederatedUser,
    /// A user of IAM Identity Center.
    IdentityCenterUser,
    /// Somebody of another account.
    AwsAccount,
    /// A service of AWS.
    AwsService,
    /// Anything else, or not said.
    #[default]
    Other,
}

impl UserType {
    /// The kind by the source's word for it.
    pub fn parse(word: &str) -> Self {
        let word: String = word.chars().filter(char::is_ascii_alphanumeric).collect();
        match word.to_ascii_lowercase().as_str() {
            "root" => Self::Root,
            "iamuser" => Self::IamUser,
            "assumedrole" => Self::AssumedRole,
            "federateduser" => Self::FederatedUser,
            "identitycenteruser" => Self::IdentityCenterUser,
            "awsaccount" => Self::AwsAccount,
            "awsservice" => Self::AwsService,
            _ => Self::Other,
        }
    }
}

/// What an identity acted with: what there is to be cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential<'a> {
    /// A user's long-term access key.
    Key(&'a AccessKeyId),
    /// A user's password, or a session of its own (`GetSessionToken`).
    User,
    /// A session of a role.
    Session,
    /// A session that a user gave away; the finding does not name the user.
    Federation,
    /// A session of IAM Identity Center, whose users and roles are not the account's to change.
    IdentityCenter,
    /// The root user.
    Root,
    /// Nothing of this account's: a service, another account, or not said.
    Elsewhere,
}

/// What the names of the roles that Identity Center makes begin with.
pub const IDENTITY_CENTER_ROLE: &str = "AWSReservedSSO_";

impl Identity {
    /// Whether another says the same of the key and of the unique id, and perhaps more.
    pub fn is_part_of(&self, other: &Self) -> bool {
        let key = self.access_key.is_none() || self.access_key == other.access_key;
        key && (self.principal_id.is_none() || self.principal_id == other.principal_id)
    }

    /// An identity of which only the access key is known.
    pub fn of_key(access_key: AccessKeyId) -> Self {
        Self {
            access_key: Some(access_key),
            user_type: UserType::Other,
            principal_id: None,
            user_name: None,
            arn: None,
        }
    }

    /// What it acted with. A long-term key belongs to a user, or to the root user, whatever else is said.
    pub fn credential(&self) -> Credential<'_> {
        let long_term = self.access_key.as_ref().filter(|key| key.is_long_term());
        let of_identity_center = self.user_name.as_deref().is_some_and(|name| name.starts_with(IDENTITY_CENTER_ROLE));
        match (self.user_type, long_term) {
            (UserType::Root, _) => Credential::Root,
            (UserType::IdentityCenterUser, _) => Credential::IdentityCenter,
            (UserType::AssumedRole, None) if of_identity_center => Credential::IdentityCenter,
            (UserType::AwsAccount | UserType::AwsService, _) => Credential::Elsewhere,
            (_, Some(key)) => Credential::Key(key),
            (UserType::IamUser, None) => Credential::User,
            (UserType::AssumedRole, None) => Credential::Session,
            (UserType::FederatedUser, None) => Credential::Federation,
            (UserType::Other, None) => Credential::Elsewhere,
        }
    }

    /// The unique id of the user, when it is one.
    pub fn user_id(&self) -> Option<UserId> {
        self.principal_id.as_deref()?.parse().ok()
    }

    /// The unique id of the role, when it is a role's session.
    pub fn role_id(&self) -> Option<RoleId> {
        self.principal_id.as_deref()?.split(':').next()?.parse().ok()
    }

    /// The name of the role's session.
    pub fn session_name(&self) -> Option<SessionName> {
        self.principal_id.as_deref()?.split_once(':')?.1.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(user_type: UserType, key: &str, name: &str) -> Identity {
        Identity {
            access_key: key.parse().ok(),
            user_type,
            principal_id: None,
            user_name: Some(name.to_owned()),
            arn: None,
        }
    }

    #[test]
    fn a_kind_is_known_however_it_is_written() {
        for word in ["IAMUser", "IamUser", "IAM_USER", "iam user"] {
            assert_eq!(UserType::parse(word), UserType::IamUser, "{word}");
        }
        assert_eq!(UserType::parse("AssumedRole"), UserType::AssumedRole);
        assert_eq!(UserType::parse("SAMLUser"), UserType::Other);
        assert_eq!(UserType::parse(""), UserType::Other);
    }

    #[test]
    fn what_is_cut_off_is_what_it_acted_with() {
        let (long, short) = ("AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE");
        let key: AccessKeyId = long.parse().unwrap();
        for (user_type, with, name, expected) in [
            (UserType::IamUser, long, "deploy", Credential::Key(&key)),
            (UserType::Other, long, "deploy", Credential::Key(&key)),
            (UserType::Root, long, "root", Credential::Root),
            (UserType::IamUser, short, "deploy", Credential::User),
            (UserType::IamUser, "", "deploy", Credential::User),
            (UserType::AssumedRole, short, "shop-web", Credential::Session),
            (UserType::AssumedRole, short, "AWSReservedSSO_Admin_0123456789abcdef", Credential::IdentityCenter),
            (UserType::FederatedUser, short, "", Credential::Federation),
            (UserType::AwsAccount, long, "", Credential::Elsewhere),
            (UserType::AwsService, "", "", Credential::Elsewhere),
            (UserType::Other, short, "", Credential::Elsewhere),
        ] {
            assert_eq!(identity(user_type, with, name).credential(), expected, "{user_type:?} {with} {name}");
        }
    }

    #[test]
    fn ids_are_read_out_of_the_principal() {
        let of = |principal: &str| Identity {
            principal_id: Some(principal.to_owned()),
            ..identity(UserType::Other, "", "")
        };
        let session = of("AROADBQP57FF2AEXAMPLE:i-a0636392b8ed214f9");
        assert_eq!(session.role_id().unwrap().as_str(), "AROADBQP57FF2AEXAMPLE");
        assert_eq!(session.session_name().unwrap().as_str(), "i-a0636392b8ed214f9");
        assert_eq!(session.user_id(), None);
        assert_eq!(of("AIDACKCEVSQ6C2EXAMPLE").user_id().unwrap().as_str(), "AIDACKCEVSQ6C2EXAMPLE");
        for principal in ["111122223333:alice", "accounts.google.com:app:me", "AROADBQP57FF2AEXAMPLE:${aws:username}"] {
            let both = of(principal).session_name().is_some() && of(principal).role_id().is_some();
            assert!(!both, "{principal}");
        }
    }
}
