//! Controls: what AWS Config and Security Hub evaluate.

use serde::{Deserialize, Serialize};

use crate::ids::Arn;

/// The control that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// The control, as AWS writes it: `S3.8`. Where Security Hub gives only a standard's own number, the standard is
    /// before it, as in `cis-aws-foundations-benchmark/v/1.2.0/2.7`. For AWS Config the rule's name, which the account
    /// chose: which check the rule makes, and whether it is AWS's, is to be read from Config.
    pub id: String,
    /// What the evaluation came to.
    pub compliance: Compliance,
    /// The Config rule, where the source names it.
    pub rule: Option<Arn>,
}

/// What an evaluation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compliance {
    /// The resource is not as the control wants it (`FAILED`, `NON_COMPLIANT`).
    Failed,
    /// It is (`PASSED`, `COMPLIANT`).
    Passed,
    /// It could not be evaluated, does not apply, or is not said.
    Unknown,
}

impl Compliance {
    /// By the word of AWS Config, ASFF or OCSF. A word that is not known says nothing.
    pub(super) fn of(word: &str) -> Self {
        match word.to_ascii_uppercase().as_str() {
            "FAILED" | "FAIL" | "NON_COMPLIANT" => Self::Failed,
            "PASSED" | "PASS" | "COMPLIANT" => Self::Passed,
            _ => Self::Unknown,
        }
    }
}
