//! Which finding types a playbook answers: the entry of the table in each playbook's file.

use super::{Direction, Finding, ResourceRole};

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

impl When {
    /// Why a finding of this entry's type is not answered after all; `None` when it is.
    pub fn refusal(self, finding: &Finding) -> Option<&'static str> {
        let acting = finding.role == ResourceRole::Actor;
        let holds = match self {
            Self::Always | Self::NamesInstance => true,
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

    #[test]
    fn nothing_is_answered_without_an_instance() {
        let fargate = finding("ACTOR", "OUTBOUND", None);
        for when in [When::Always, When::Acting, When::Outbound, When::NamesInstance] {
            assert!(when.refusal(&fargate).unwrap().contains("no EC2 instance"), "{when:?}");
        }
    }
}
