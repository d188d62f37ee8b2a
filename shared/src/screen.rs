//! The screen: what is turned away on sight of the event alone.
//!
//! It calls nothing and trusts nothing: all it can do is say no. A finding that passes is fetched
//! again from its source before anything changes.

use std::fmt;

use crate::finding::{Finding, Product, Source, State};
use crate::ids::AccountId;

/// Why a finding is turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TurnedAway {
    /// A sample: it is about nothing real.
    Sample,
    /// Put into Security Hub by a product that is no service of AWS's: anybody in the account may have written it.
    ForeignProduct(String),
    /// It is not live, as its source or Security Hub says.
    NotLive(State, Source),
    /// It names a resource of another account than its own.
    OtherAccount {
        /// Whose resource it names.
        resource: AccountId,
        /// What the finding is about.
        finding: AccountId,
    },
    /// It is about the security account, where nothing is ever contained.
    AboutHub(AccountId),
    /// The event was fired in an account that is neither the finding's own nor the security account.
    Sender {
        /// Where the event was fired.
        envelope: AccountId,
        /// What the finding is about.
        finding: AccountId,
    },
}

impl TurnedAway {
    /// The reason as one word, for metrics and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Sample => "sample",
            Self::ForeignProduct(_) => "foreign-product",
            Self::NotLive(state, _) => match state {
                State::Archived => "archived",
                State::Suppressed => "suppressed",
                State::Resolved => "resolved",
                State::Passed => "passed",
                State::Compliant => "compliant",
                State::NotEvaluated => "not-evaluated",
                State::Active | State::Notified => "live",
            },
            Self::OtherAccount { .. } => "other-account",
            Self::AboutHub(_) => "about-hub",
            Self::Sender { .. } => "wrong-sender",
        }
    }
}

impl fmt::Display for TurnedAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sample => f.write_str("it is a sample finding: samples never change anything"),
            Self::ForeignProduct(name) => write!(
                f,
                "it was put into Security Hub by `{name}`, which is no service of AWS's: whoever may import findings can \
                 write such a one"
            ),
            Self::NotLive(state, source) => match state {
                State::Archived => write!(f, "it is archived in {}", source.name()),
                State::Suppressed => f.write_str("it is suppressed: a person or a rule has put it aside"),
                State::Resolved => f.write_str("it is resolved: what it is about is over"),
                State::Passed => f.write_str("the check has passed: there is nothing to be done"),
                State::Compliant => f.write_str("the resource complies with the rule: there is nothing to be done"),
                State::NotEvaluated => f.write_str("nothing was found out: the resource was not evaluated"),
                State::Active | State::Notified => f.write_str("it is live"),
            },
            Self::OtherAccount { resource, finding } => write!(
                f,
                "it is about account `{finding}`, but names a resource of account `{resource}`: nothing is done across \
                 accounts"
            ),
            Self::AboutHub(account) => {
                write!(f, "it is about the security account `{account}`, where nothing is contained automatically")
            }
            Self::Sender { envelope, finding } => write!(
                f,
                "the event was fired in account `{envelope}`, which is neither account `{finding}` that the finding is \
                 about nor the security account"
            ),
        }
    }
}

/// Whether a finding is turned away. `envelope` is the account the event was fired in, where there is
/// an envelope; `hub` is the security account, where it is known (`firebreak explain` may not know it).
pub fn screen(finding: &Finding, envelope: Option<&AccountId>, hub: Option<&AccountId>) -> Option<TurnedAway> {
    if finding.sample {
        return Some(TurnedAway::Sample);
    }
    if let Some(Product::Foreign(name)) = &finding.product {
        return Some(TurnedAway::ForeignProduct(name.clone()));
    }
    if !finding.state.is_live() {
        return Some(TurnedAway::NotLive(finding.state, finding.source));
    }
    if let Some(other) = finding.resources.iter().find(|resource| resource.account != finding.account) {
        let (resource, finding) = (other.account.clone(), finding.account.clone());
        return Some(TurnedAway::OtherAccount { resource, finding });
    }
    let hub = hub?;
    if finding.account == *hub {
        return Some(TurnedAway::AboutHub(hub.clone()));
    }
    match envelope {
        Some(sender) if sender != hub && *sender != finding.account => {
            Some(TurnedAway::Sender { envelope: sender.clone(), finding: finding.account.clone() })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::finding::parse;

    const HUB: &str = "111111111111";
    const MEMBER: &str = "222222222222";

    /// The verdict on a finding about `account`, whose event was fired in `envelope`.
    fn verdict(account: &str, envelope: Option<&str>, service: serde_json::Value) -> Option<String> {
        let document = json!({
            "accountId": account, "region": "eu-west-1", "id": "a", "type": "T", "severity": 5, "service": service,
        });
        let finding = parse(&document).unwrap().findings.remove(0).unwrap();
        let envelope: Option<AccountId> = envelope.map(|a| a.parse().unwrap());
        screen(&finding, envelope.as_ref(), Some(&HUB.parse().unwrap())).map(|t| t.to_string())
    }

    #[test]
    fn lets_a_live_finding_about_a_member_through_from_either_sender() {
        for envelope in [None, Some(HUB), Some(MEMBER)] {
            assert_eq!(verdict(MEMBER, envelope, json!({"archived": false})), None);
        }
    }

    #[test]
    fn turns_away_samples_archived_ones_the_hub_and_strangers() {
        let cases = [
            (MEMBER, HUB, json!({"additionalInfo": {"value": "{\"sample\":true}"}}), "sample"),
            (MEMBER, HUB, json!({"archived": true}), "archived"),
            (HUB, HUB, json!({}), "about the security account `111111111111`"),
            (MEMBER, "333333333333", json!({}), "fired in account `333333333333`"),
        ];
        for (account, envelope, service, expected) in cases {
            let verdict = verdict(account, Some(envelope), service).unwrap();
            assert!(verdict.contains(expected), "{verdict}");
        }
    }

    #[test]
    fn without_a_known_hub_only_the_finding_itself_counts() {
        let document = json!({"accountId": HUB, "region": "eu-west-1", "id": "a", "type": "T", "severity": 5});
        let finding = parse(&document).unwrap().findings.remove(0).unwrap();
        assert_eq!(screen(&finding, Some(&MEMBER.parse().unwrap()), None), None);
    }
}
