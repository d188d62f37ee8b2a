//! What a function or the command is told by its environment. Read once, at start.

use std::collections::BTreeMap;

use crate::ids::{AccountId, InvalidId};
use crate::ledger::Budget;
use crate::target::Target;

/// The settings. Every variable is set by `template.yaml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The security account (`FIREBREAK_HUB_ACCOUNT`).
    pub hub_account: AccountId,
    /// The ledger's table (`FIREBREAK_LEDGER_TABLE`).
    pub ledger_table: String,
    /// The decisions' table (`FIREBREAK_DECISIONS_TABLE`).
    pub decisions_table: String,
    /// The evidence bucket (`FIREBREAK_EVIDENCE_BUCKET`).
    pub evidence_bucket: String,
    /// Where an overriding policy set is kept (`FIREBREAK_POLICY_BUCKET`, `FIREBREAK_POLICY_KEY`).
    pub policy_object: Option<(String, String)>,
    /// Where people are told (`FIREBREAK_TOPIC_ARN`).
    pub topic_arn: String,
    /// ARNs of principals that are never touched (`FIREBREAK_BREAK_GLASS`, separated by commas).
    pub break_glass: Vec<String>,
    /// How many runs may begin in an hour (`FIREBREAK_BUDGET_ACCOUNT_PER_HOUR`, `FIREBREAK_BUDGET_TOTAL_PER_HOUR`).
    pub budget: Budget,
    /// Days for which evidence snapshots are locked (`FIREBREAK_SNAPSHOT_LOCK_DAYS`).
    pub snapshot_lock_days: i32,
    /// The drills' table (`FIREBREAK_DRILLS_TABLE`); without one there are no drills.
    pub drills_table: Option<String>,
    /// What a drill may be about, and nothing else (`FIREBREAK_CANARIES`, separated by commas): targets in their canonical
    /// form, each of a kind that is rehearsed ([`crate::drill::REHEARSED`]).
    pub canaries: Vec<Target>,
}

/// A setting that is missing or wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not set.
    #[error("{0} is not set")]
    Missing(&'static str),
    /// Its value is not what it must be.
    #[error("{name}: {problem}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// What is wrong.
        problem: String,
    },
}

impl Config {
    /// Reads the settings from this process's environment.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_vars(&std::env::vars().collect())
    }

    /// Reads the settings from variables.
    pub fn from_vars(vars: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let get = |name: &'static str| vars.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
        let need = |name: &'static str| get(name).map(str::to_owned).ok_or(ConfigError::Missing(name));
        let number = |name: &'static str, default: u64, range: std::ops::RangeInclusive<u64>| match get(name) {
            None => Ok(default),
            Some(text) => text.parse().ok().filter(|n| range.contains(n)).ok_or_else(|| ConfigError::Invalid {
                name,
                problem: format!(
                    "{} is not a number from {} to {}",
                    crate::text::quoted(text),
                    range.start(),
                    range.end()
                ),
            }),
        };
        const HUB: &str = "FIREBREAK_HUB_ACCOUNT";
        let lock_days = number("FIREBREAK_SNAPSHOT_LOCK_DAYS", 30, 1..=36_500)?;
        const BREAK_GLASS: &str = "FIREBREAK_BREAK_GLASS";
        let break_glass = get(BREAK_GLASS).unwrap_or_default().split(',').map(str::trim).filter(|arn| !arn.is_empty());
        // The template's word for nobody, which somebody may have left beside others.
        let break_glass = break_glass.filter(|arn| *arn != "none");
        // What is no ARN would be compared with ARNs and protect nobody.
        let break_glass = break_glass.map(|arn| match arn.starts_with("arn:") {
            true => Ok(arn.to_owned()),
            false => Err(ConfigError::Invalid {
                name: BREAK_GLASS,
                problem: format!("{} is not an ARN", crate::text::quoted(arn)),
            }),
        });
        const CANARIES: &str = "FIREBREAK_CANARIES";
        let canaries = get(CANARIES).unwrap_or_default().split(',').map(str::trim).filter(|one| !one.is_empty());
        let canaries = canaries.map(|text| match text.parse::<Target>() {
            Ok(canary) if crate::drill::rehearsed(&canary).is_some() => Ok(canary),
            _ => Err(ConfigError::Invalid {
                name: CANARIES,
                problem: format!("{} is no instance and no session of a role", crate::text::quoted(text)),
            }),
        });
        Ok(Self {
            hub_account: need(HUB)?
                .parse()
                .map_err(|error: InvalidId| ConfigError::Invalid { name: HUB, problem: error.to_string() })?,
            ledger_table: need("FIREBREAK_LEDGER_TABLE")?,
            decisions_table: need("FIREBREAK_DECISIONS_TABLE")?,
            evidence_bucket: need("FIREBREAK_EVIDENCE_BUCKET")?,
            policy_object: match (get("FIREBREAK_POLICY_BUCKET"), get("FIREBREAK_POLICY_KEY")) {
                (Some(bucket), Some(key)) => Some((bucket.to_owned(), key.to_owned())),
                _ => None,
            },
            topic_arn: need("FIREBREAK_TOPIC_ARN")?,
            break_glass: break_glass.collect::<Result<_, _>>()?,
            budget: Budget {
                account_per_hour: number("FIREBREAK_BUDGET_ACCOUNT_PER_HOUR", 5, 0..=100_000)?,
                total_per_hour: number("FIREBREAK_BUDGET_TOTAL_PER_HOUR", 20, 0..=100_000)?,
            },
            snapshot_lock_days: i32::try_from(lock_days).unwrap_or(30),
            drills_table: get("FIREBREAK_DRILLS_TABLE").map(str::to_owned),
            canaries: canaries.collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn vars() -> BTreeMap<String, String> {
        [
            ("FIREBREAK_HUB_ACCOUNT", "111111111111"),
            ("FIREBREAK_LEDGER_TABLE", "ledger"),
            ("FIREBREAK_DECISIONS_TABLE", "decisions"),
            ("FIREBREAK_EVIDENCE_BUCKET", "evidence"),
            ("FIREBREAK_TOPIC_ARN", "arn:aws:sns:eu-west-1:111111111111:topic"),
            ("FIREBREAK_BREAK_GLASS", "arn:aws:iam::222222222222:role/a, arn:aws:iam::222222222222:user/b,"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into()
    }

    #[test]
    fn reads_what_the_template_sets() {
        let config = Config::from_vars(&vars()).unwrap();
        assert_eq!(config.break_glass, ["arn:aws:iam::222222222222:role/a", "arn:aws:iam::222222222222:user/b"]);
        assert_eq!(config.budget, Budget { account_per_hour: 5, total_per_hour: 20 });
        assert_eq!(config.policy_object, None);
        assert_eq!((config.drills_table, config.canaries.len()), (None, 0));
    }

    #[test]
    fn a_canary_is_a_target_that_is_rehearsed_on() {
        let with = |canaries: &str| {
            let mut vars = vars();
            vars.insert("FIREBREAK_CANARIES".to_owned(), canaries.to_owned());
            Config::from_vars(&vars).map(|config| config.canaries.len())
        };
        let (instance, session) = (
            "aws/222222222222/eu-west-1/ec2-instance/i-0a1b2c3d4e5f60718",
            "aws/222222222222/global/iam-role-session/AROADBQP57FF2AEXAMPLE:firebreak-drill",
        );
        assert_eq!(with(&format!("{instance}, {session},")).unwrap(), 2);
        for other in ["*", "i-0a1b2c3d4e5f60718", "aws/222222222222/global/iam-user/AIDACKCEVSQ6C2EXAMPLE"] {
            let said = with(other).unwrap_err().to_string();
            assert!(said.starts_with("FIREBREAK_CANARIES: ") && said.contains("is no instance"), "{said}");
        }
    }

    #[test]
    fn names_what_is_missing_or_wrong() {
        let mut without = vars();
        without.remove("FIREBREAK_LEDGER_TABLE");
        assert_eq!(Config::from_vars(&without).unwrap_err().to_string(), "FIREBREAK_LEDGER_TABLE is not set");
        let mut wrong = vars();
        wrong.insert("FIREBREAK_BUDGET_TOTAL_PER_HOUR".to_owned(), "many".to_owned());
        assert_eq!(
            Config::from_vars(&wrong).unwrap_err().to_string(),
            "FIREBREAK_BUDGET_TOTAL_PER_HOUR: `many` is not a number from 0 to 100000"
        );
        let mut wrong = vars();
        wrong.insert("FIREBREAK_BREAK_GLASS".to_owned(), "role/break-glass".to_owned());
        assert_eq!(
            Config::from_vars(&wrong).unwrap_err().to_string(),
            "FIREBREAK_BREAK_GLASS: `role/break-glass` is not an ARN"
        );
    }
}
