//! What is known before a decision: the ledger's view, the policy set in force, and where the account stands
//! in the organization, if the policies ask.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Hub;
use super::policy::Choice;
use crate::failure::Failure;
use crate::ids::AccountId;
use crate::ledger::View;
use crate::playbook::Meta;
use crate::target::Target;
use crate::telemetry;
use crate::units::{self, Units};

/// Where an account stands is believed for this long.
const BELIEVED: SignedDuration = SignedDuration::from_hours(24);

/// AWS Organizations is waited for this long. Only a set that asks waits at all.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is known.
pub(super) struct Known {
    pub(super) view: View,
    pub(super) policies: Choice,
    /// Where the account stands, or why that is not known.
    pub(super) units: Result<Units, String>,
    /// The same when the ledger does not have it yet.
    pub(super) learned: Option<Units>,
}

impl Hub {
    /// Reads the ledger and the policy bucket at once. Only if the set in force asks for the account's unit, and
    /// the ledger has none of this day, AWS Organizations is asked: one call, beside the reads of the plan.
    pub(super) async fn known(&self, playbook: &Meta, target: &Target, now: Timestamp) -> Result<Known, Failure> {
        let (view, fetched) = tokio::join!(self.ledger.view(playbook, target, now), self.policies.fetch(&self.aws));
        let view = view?;
        let policies = self.policies.choose(fetched, view.accepted_policy.as_deref());
        let believed = view.units.as_ref().filter(|known| now.duration_since(known.read_at) < BELIEVED);
        let mut learned = None;
        let units = match believed {
            Some(known) => Ok(known.units.clone()),
            None if policies.set.asking_for_units().is_empty() => Err("no policy asks for it".to_owned()),
            None => match tokio::time::timeout(PATIENCE, units::look_up(&self.aws, &target.account)).await {
                Ok(Ok(units)) => {
                    learned = Some(units.clone());
                    Ok(units)
                }
                Ok(Err(failure)) => Err(failure.brief()),
                Err(_) => Err("AWS Organizations did not answer in time".to_owned()),
            },
        };
        if let (Err(why), false) = (&units, policies.set.asking_for_units().is_empty()) {
            telemetry::alarm("unit-unknown", why);
        }
        Ok(Known { view, policies, units, learned })
    }

    /// Keeps what was learned for the findings to come.
    pub(super) async fn remember(&self, account: &AccountId, learned: Option<Units>, now: Timestamp) {
        let Some(units) = learned else { return };
        if let Err(failure) = self.ledger.record_units(account, &units, now).await {
            telemetry::alarm("unit-unrecorded", &failure.brief());
        }
    }
}
