//! Which finding types a playbook answers: the entry of the table in each playbook's file.

use super::{Credential, Direction, Finding, Identity, ResourceRole};

/// One finding type that a playbook answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answers {
    /// The exact type, as in `Backdoor:EC2/C&CActivity.B`.
    pub finding_type: &'static str,
    /// What else must be so.
    pub when: When,
}

/// What a finding must say besides its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Nothing: the type itself says that the instance acted.
    Always,
    /// The instance did it (`resourceRole` is `ACTOR`). For types that GuardDuty also raises when it
    /// was done *to* the instance.
    Acting,
    /// The instance did it, or opened the connection. For a type whose `resourceRole` is `TARGET` in
    /// either direction.
    Outbound,
    /// It names an instance. For types that are also raised where there is none, as on Fargate.
    NamesInstance,
    /// It names a user's long-term access key.
    NamesKey,
    /// It names a user by a session of its own, or by its password.
    NamesUser,
    /// It names a session of a role.
    NamesSession,
}

impl Answers {
    /// A type that is answered in every case.
    pub const fn always(finding_type: &'static str) -> Self {
        Self { finding_type, when: When::Always }
    }

    /// A type that is answered when the instance was the actor.
    pub const fn acting(finding_type: &'static str) -> Self {
        Self { finding_type, when: When::Acting }
    }

    /// A type that is answered when the instance opened the connection.
    pub const fn outbound(finding_type: &'static str) -> Self {
        Self { finding_type, when: When::Outbound }
    }

    /// A type that is answered when an instance is named.
    pub const fn names_instance(finding_type: &'static str) -> Self {
        Self { finding_type, when: When::NamesInstance }
    }
}

impl Answers {
    /// Several types, each under the same condition.
    pub const fn each<const N: usize>(types: [&'static str; N], when: When) -> [Self; N] {
        let mut all = [Self { finding_type: "", when }; N];
        let mut n = 0;
        while n < N {
            all[n].finding_type = types[n];
            n += 1;
        }
        all
    }
}

/// What is said of credentials that no playbook can cut off, with the steps for a person. The account's own root user
/// and the users of Identity Center are beyond every role in the account.
const ROOT: &str = "it is the root user, which no role can contain: sign in as root, delete its access keys, change password and \
                    MFA; in an organization delete its credentials centrally (sts:AssumeRoot)";
const IDENTITY_CENTER: &str = "it is a user of Identity Center: there disable the user, delete its sessions and assignments; \
                               sessions that exist go on until a policy denies them (identitystore:UserId)";
const FEDERATION: &str = "a user gave the session away (GetFederationToken) and the finding does not name the user: look it up in \
                          CloudTrail by the access key (sessionIssuer) and contain that user";
const ELSEWHERE: &str = "the credentials are not this account's to cut off: they belong to another account or to a service of AWS, or \
                         the finding does not say whose they are";

/// Why nothing cuts these credentials off; `None` when some playbook does.
fn beyond(identity: &Identity) -> Option<&'static str> {
    match identity.credential() {
        Credential::Root => Some(ROOT),
        Credential::IdentityCenter => Some(IDENTITY_CENTER),
        Credential::Federation => Some(FEDERATION),
        Credential::Elsewhere => Some(ELSEWHERE),
        Credential::Key(_) | Credential::User if identity.user_id().is_none() => Some(
            "the finding does not say by its unique id which user it is: look the key up in IAM and contain the user by hand",
        ),
        Credential::Session if identity.role_id().is_none() => Some(
            "the finding does not say by its unique id which role it is: look the session up in CloudTrail and revoke it by hand",
        ),
        Credential::Key(_) | Credential::User | Credential::Session => None,
    }
}

impl When {
    /// Whether an identity is of the kind that this entry is about, and can be told from others.
    pub fn names(self, identity: &Identity) -> bool {
        let kind = matches!(
            (self, identity.credential()),
            (Self::NamesKey, Credential::Key(_))
                | (Self::NamesUser, Credential::User)
                | (Self::NamesSession, Credential::Session)
        );
        kind && beyond(identity).is_none()
    }

    /// Why a finding of an entry about identities is not answered; `None` when it is.
    fn names_nobody(self, finding: &Finding) -> Option<&'static str> {
        if finding.identities.iter().any(|identity| self.names(identity)) {
            return None;
        }
        let beyond = finding.identities.iter().find_map(beyond);
        Some(beyond.unwrap_or(match self {
            _ if finding.identities.is_empty() => "the finding names no identity",
            Self::NamesKey => "the finding names no long-term access key",
            Self::NamesUser => "the finding names no session or password of a user",
            _ => "the finding names no session of a role",
        }))
    }

    /// Why a finding of this entry's type is not answered after all; `None` when it is.
    pub fn refusal(self, finding: &Finding) -> Option<&'static str> {
        if matches!(self, Self::NamesKey | Self::NamesUser | Self::NamesSession) {
            return self.names_nobody(finding);
        }
        let acting = finding.role == ResourceRole::Actor;
        let holds = match self {
            Self::NamesKey | Self::NamesUser | Self::NamesSession | Self::Always | Self::NamesInstance => true,
            Self::Acting => acting,
            Self::Outbound => acting || finding.direction == Direction::Outbound,
        };
        if !holds {
            return Some(match (self, finding.role) {
                (Self::Outbound, _) => "the finding does not say that the instance opened the connection",
                (_, ResourceRole::Target) => {
                    "the instance was the target, not the actor: isolating it would do the attacker's work"
                }
                _ => "the finding does not say that the instance was the actor",
            });
        }
        if !finding.instances.is_empty() || !finding.interfaces.is_empty() {
            None
        } else if finding.elsewhere.is_empty() {
            Some("the finding names no EC2 instance (on Fargate there is none)")
        } else {
            Some("every instance it names is in another account or Region")
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::finding::parse;

    fn finding(role: &str, direction: &str, instance: Option<&str>) -> Finding {
        let document = serde_json::json!({
            "accountId": "222222222222", "region": "eu-west-1", "id": "a", "type": "T", "severity": 5,
            "resource": {"resourceType": "Instance", "instanceDetails": {"instanceId": instance}},
            "service": {"resourceRole": role, "action": {"networkConnectionAction": {"connectionDirection": direction}}},
        });
        parse(&document).unwrap().findings.remove(0).unwrap()
    }

    #[test]
    fn a_target_is_never_taken_for_an_actor() {
        let victim = finding("TARGET", "INBOUND", Some("i-0a1b2c3d4e5f60718"));
        assert!(When::Acting.refusal(&victim).unwrap().contains("target"));
        assert!(When::Outbound.refusal(&victim).is_some());
        let unknown = finding("SOURCE", "UNKNOWN", Some("i-0a1b2c3d4e5f60718"));
        assert!(When::Acting.refusal(&unknown).unwrap().contains("does not say"));
    }

    #[test]
    fn an_actor_is_answered_whatever_the_direction() {
        let actor = finding("ACTOR", "UNKNOWN", Some("i-0a1b2c3d4e5f60718"));
        for when in [When::Always, When::Acting, When::Outbound, When::NamesInstance] {
            assert_eq!(when.refusal(&actor), None, "{when:?}");
        }
        let outbound = finding("TARGET", "OUTBOUND", Some("i-0a1b2c3d4e5f60718"));
        assert_eq!(When::Outbound.refusal(&outbound), None);
    }

    fn by(user_type: &str, key: &str, principal: &str, name: &str) -> Finding {
        let document = serde_json::json!({
            "accountId": "222222222222", "region": "eu-west-1", "id": "a", "type": "T", "severity": 5,
            "resource": {"resourceType": "AccessKey", "accessKeyDetails": {
                "accessKeyId": key, "principalId": principal, "userType": user_type, "userName": name,
            }},
        });
        parse(&document).unwrap().findings.remove(0).unwrap()
    }

    #[test]
    fn each_kind_of_credentials_has_one_answer_or_steps_for_a_person() {
        const USER: &str = "AIDACKCEVSQ6C2EXAMPLE";
        const ROLE: &str = "AROADBQP57FF2AEXAMPLE:i-0a1b2c3d4e5f60718";
        const WHENS: [When; 3] = [When::NamesKey, When::NamesUser, When::NamesSession];
        for (finding, answered, says) in [
            (by("IAMUser", "AKIAIOSFODNN7EXAMPLE", USER, "deploy"), Some(When::NamesKey), ""),
            (by("IAMUser", "ASIAIOSFODNN7EXAMPLE", USER, "deploy"), Some(When::NamesUser), ""),
            (by("IAMUser", "", USER, "deploy"), Some(When::NamesUser), ""),
            (by("AssumedRole", "ASIAIOSFODNN7EXAMPLE", ROLE, "web"), Some(When::NamesSession), ""),
            (by("Root", "AKIAIOSFODNN7EXAMPLE", "222222222222", ""), None, "root user"),
            (by("AssumedRole", "ASIAIOSFODNN7EXAMPLE", ROLE, "AWSReservedSSO_x_0"), None, "Identity Center"),
            (by("FederatedUser", "ASIAIOSFODNN7EXAMPLE", "222222222222:bob", ""), None, "GetFederationToken"),
            (by("AWSAccount", "", "AIDACKCEVSQ6C2FOREIGN", ""), None, "not this account's"),
            (by("IAMUser", "AKIAIOSFODNN7EXAMPLE", "", "deploy"), None, "unique id"),
            (by("AssumedRole", "ASIAIOSFODNN7EXAMPLE", "web", "web"), None, "unique id"),
            (by("IAMUser", "", "", ""), None, "names no identity"),
        ] {
            let answering: Vec<When> = WHENS.into_iter().filter(|when| when.refusal(&finding).is_none()).collect();
            assert_eq!(answering, answered.into_iter().collect::<Vec<_>>(), "{:?}", finding.identities);
            for when in WHENS {
                assert!(
                    when.refusal(&finding).is_none_or(|why| why.contains(says)),
                    "{when:?}: {:?}",
                    when.refusal(&finding)
                );
            }
        }
    }

    #[test]
    fn nothing_is_answered_without_an_instance() {
        let fargate = finding("ACTOR", "OUTBOUND", None);
        for when in [When::Always, When::Acting, When::Outbound, When::NamesInstance] {
            assert!(when.refusal(&fargate).unwrap().contains("no EC2 instance"), "{when:?}");
        }
    }
}
