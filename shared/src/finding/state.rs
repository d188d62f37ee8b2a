//! Whether a finding is live.

use serde::{Deserialize, Serialize};

/// Whether a finding is live. What is not is never answered with a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Live.
    Active,
    /// Live, and Security Hub's workflow says that somebody knows of it or works on it.
    Notified,
    /// Archived: in GuardDuty by the administrator, elsewhere when what it is about has gone.
    Archived,
    /// Suppressed, by a person or by a rule.
    Suppressed,
    /// Resolved, or closed.
    Resolved,
    /// The control has passed (Security Hub, Trusted Advisor).
    Passed,
    /// The resource complies with the rule (AWS Config).
    Compliant,
    /// Nothing was found out: the resource could not be evaluated, or the control does not apply to it.
    NotEvaluated,
}

impl State {
    /// Whether the finding may be answered with a change.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Active | Self::Notified)
    }
}
