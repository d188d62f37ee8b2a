//! Controls: what AWS Config and Security Hub evaluate.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Source;
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
    /// Of a rule of AWS Config the identifier of AWS's managed rule behind it (`INCOMING_SSH_DISABLED`), once Config was
    /// asked for it. No event carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// What the playbook that answers it calls the check, whoever evaluated it and under whatever name: [`Check::name`].
    /// Policies and people are given this one name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_as: Option<String>,
    /// What Security Hub evaluated the control with, where that can be chosen: `authorizedTcpPorts`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, Vec<String>>,
}

/// A check that a fix answers, by every name that AWS gives it.
#[derive(Debug)]
pub struct Check {
    /// Security Hub's control, where there is one: `EC2.13`.
    /// <https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-controls-reference.html>
    pub control: Option<&'static str>,
    /// The same check as standards number it, where an account has no consolidated findings:
    /// `cis-aws-foundations-benchmark/v/1.2.0/4.1`.
    pub also: &'static [&'static str],
    /// AWS's managed rule of AWS Config, where there is one whose findings can be fixed: its identifier, and the name that
    /// AWS gives a rule of it.
    /// <https://docs.aws.amazon.com/config/latest/developerguide/managed-rules-by-aws-config.html>
    pub rule: Option<(&'static str, &'static str)>,
}

impl Check {
    /// The one name of it: Security Hub's control, `EC2.13`, or where there is none the identifier of AWS's rule.
    pub fn name(&self) -> &'static str {
        self.control.or(self.rule.map(|(identifier, _)| identifier)).unwrap_or_default()
    }
}

impl Control {
    /// What it is called: the name of the check, or where nothing answers it the source's own.
    pub fn name(&self) -> &str {
        self.known_as.as_deref().unwrap_or(&self.id)
    }

    /// Whether it is this check. Of a rule of AWS Config that was not asked for yet its name is believed: enough to ask.
    pub fn is(&self, check: &Check, source: Source) -> bool {
        match (source, &self.check, check.rule) {
            (Source::Config, Some(identifier), Some((rule, _))) => identifier == rule,
            (Source::Config, None, Some((_, name))) => default_name(&self.id) == name,
            (Source::Config, _, None) => false,
            _ => check.control == Some(&self.id) || check.also.contains(&self.id.as_str()),
        }
    }
}

/// The name that AWS gives a rule: Security Hub puts its own before it and eight characters after it.
fn default_name(name: &str) -> &str {
    let Some(inner) = name.strip_prefix("securityhub-") else { return name };
    match inner.rsplit_once('-') {
        Some((inner, random)) if random.bytes().all(|b| b.is_ascii_alphanumeric()) => inner,
        _ => inner,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const SSH: Check = Check {
        control: Some("EC2.13"),
        also: &["cis-aws-foundations-benchmark/v/1.2.0/4.1"],
        rule: Some(("INCOMING_SSH_DISABLED", "restricted-ssh")),
    };

    fn control(id: &str, check: Option<&str>) -> Control {
        Control {
            id: id.to_owned(),
            compliance: Compliance::Failed,
            rule: None,
            check: check.map(str::to_owned),
            known_as: None,
            parameters: BTreeMap::new(),
        }
    }

    #[test]
    fn a_check_is_known_by_each_of_its_names() {
        for (id, check, source, is) in [
            ("EC2.13", None, Source::SecurityHub, true),
            ("cis-aws-foundations-benchmark/v/1.2.0/4.1", None, Source::SecurityHub, true),
            ("EC2.1", None, Source::SecurityHub, false),
            ("restricted-ssh", None, Source::SecurityHub, false),
            ("restricted-ssh", None, Source::Config, true),
            ("securityhub-restricted-ssh-1a2b3c4d", None, Source::Config, true),
            ("our-ssh-rule", None, Source::Config, false),
            // What Config says counts, whatever the account calls its rule.
            ("our-ssh-rule", Some("INCOMING_SSH_DISABLED"), Source::Config, true),
            ("restricted-ssh", Some("S3_BUCKET_PUBLIC_READ_PROHIBITED"), Source::Config, false),
            ("EC2.13", None, Source::Config, false),
        ] {
            assert_eq!(control(id, check).is(&SSH, source), is, "{id} {check:?} {source:?}");
        }
    }
}
