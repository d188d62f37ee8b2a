//! Where an account stands in the organization: what policies see as `resource.ou` and `resource.ous`.
//!
//! `DescribeAccount` names the whole path from the root in one call. The management account may call it,
//! and so may a delegated administrator, which the security account is for GuardDuty.
//! <https://docs.aws.amazon.com/organizations/latest/APIReference/API_DescribeAccount.html>

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::aws::Aws;
use crate::failure::{Class, Failure};
use crate::ids::AccountId;
use crate::ledger::KnownUnits;

/// The root and the organizational units above an account, by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Units {
    /// The account's own parent: `ou-…`, or `r-…` for an account that is in none.
    pub ou: String,
    /// Everything above the account, the root included.
    pub ous: BTreeSet<String>,
}

impl Units {
    /// Reads a path as AWS writes it, `o-…/r-…/ou-…/<account>/`. `None` when it is not this account's, or is
    /// not such a path: a policy must not be asked about something else.
    pub fn of_path(path: &str, account: &AccountId) -> Option<Self> {
        let parts: Vec<&str> = path.strip_suffix('/')?.split('/').collect();
        let [organization, root, units @ .., last] = parts.as_slice() else { return None };
        let whole = is_id(organization, "o-") && is_id(root, "r-") && units.iter().all(|unit| is_id(unit, "ou-"));
        if !whole || *last != account.as_str() {
            return None;
        }
        let ous = std::iter::once(root).chain(units).map(|id| (*id).to_owned()).collect();
        Some(Self { ou: (*units.last().unwrap_or(root)).to_owned(), ous })
    }
}

fn is_id(text: &str, prefix: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.len() > prefix.len() && text.starts_with(prefix) && text.chars().all(allowed)
}

/// Asks AWS where an account stands.
pub async fn look_up(security: &Aws, account: &AccountId) -> Result<Units, Failure> {
    let call = security.organizations().describe_account().account_id(account.as_str());
    let answer = call.send().await.map_err(Failure::from_sdk("find the organizational unit of", account))?;
    let paths = answer.account().map(|account| account.paths()).unwrap_or_default();
    // An account is in one place; of two none is the one that a policy means.
    let units = match paths {
        [path] => Units::of_path(path, account),
        _ => None,
    };
    units.ok_or_else(|| {
        let failure = Failure::new(Class::Malformed, "find the organizational unit of", account.as_str());
        failure.because(format!("AWS names {} paths", paths.len()))
    })
}

/// Where an account stands is believed for this long.
const BELIEVED: SignedDuration = SignedDuration::from_hours(24);

/// AWS Organizations is waited for this long. Only a set of policies that asks waits at all.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where an account stands, as the ledger has `known` it, or as AWS says if policies ask and that is no longer believed;
/// else why it is not known, in words.
pub async fn believed(
    security: &Aws,
    known: Option<&KnownUnits>,
    account: &AccountId,
    asked: bool,
    now: Timestamp,
) -> Result<KnownUnits, String> {
    match known.filter(|known| now.duration_since(known.read_at) < BELIEVED) {
        Some(known) => Ok(known.clone()),
        None if !asked => Err("no policy asks for it".to_owned()),
        None => match tokio::time::timeout(PATIENCE, look_up(security, account)).await {
            Ok(Ok(units)) => Ok(KnownUnits { units, read_at: now }),
            Ok(Err(failure)) => Err(failure.brief()),
            Err(_) => Err("AWS Organizations did not answer in time".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_the_parent_and_everything_above() {
        let account: AccountId = "555555555555".parse().unwrap();
        let of = |path: &str| Units::of_path(path, &account);
        let deep = of("o-exampleorg/r-abcd/ou-abcd-11111111/ou-abcd-22222222/555555555555/").unwrap();
        assert_eq!(deep.ou, "ou-abcd-22222222");
        assert_eq!(deep.ous.iter().collect::<Vec<_>>(), ["ou-abcd-11111111", "ou-abcd-22222222", "r-abcd"]);
        let flat = of("o-exampleorg/r-abcd/555555555555/").unwrap();
        assert_eq!((flat.ou.as_str(), flat.ous.len()), ("r-abcd", 1));
    }

    #[test]
    fn what_is_no_path_of_this_account_is_not_known() {
        let account: AccountId = "555555555555".parse().unwrap();
        for path in [
            "",
            "/",
            "o-exampleorg/555555555555/",
            "o-exampleorg/r-abcd/",
            "o-exampleorg/r-abcd/ou-abcd-11111111/",
            "o-exampleorg/r-abcd/666666666666/",
            "o-exampleorg/r-abcd/555555555555",
            "o-exampleorg/ou-abcd-11111111/r-abcd/555555555555/",
            "o-exampleorg/r-abcd/ou-ABCD/555555555555/",
            "o-exampleorg/r-abcd/ou-abcd-\"||true/555555555555/",
        ] {
            assert_eq!(Units::of_path(path, &account), None, "{path}");
        }
    }
}
