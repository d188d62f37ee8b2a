//! What is known before a decision: the ledger's view, the policy set in force, and where the account stands
//! in the organization, if the policies ask.

use jiff::Timestamp;

use super::Hub;
use super::policy::Choice;
use crate::failure::Failure;
use crate::ids::AccountId;
use crate::ledger::View;
use crate::playbook::Meta;
use crate::target::Target;
use crate::telemetry;
use crate::units::{self, Units};

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
        let asked = !policies.set.asking_for_units().is_empty();
        let found = units::believed(&self.aws, view.units.as_ref(), &target.account, asked, now).await;
        if let (Err(why), true) = (&found, asked) {
            telemetry::alarm("unit-unknown", why);
        }
        let learned = found.as_ref().ok().filter(|found| found.read_at == now).map(|found| found.units.clone());
        let units = found.map(|found| found.units);
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
