//! The services that findings come from.

use serde::{Deserialize, Serialize};

/// The service that made a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Amazon GuardDuty.
    #[serde(rename = "guardduty")]
    GuardDuty,
    /// AWS Security Hub: its own controls, and products that have no source of their own here.
    #[serde(rename = "securityhub")]
    SecurityHub,
    /// AWS Config.
    Config,
    /// AWS Health.
    Health,
    /// AWS Trusted Advisor.
    TrustedAdvisor,
    /// IAM Access Analyzer.
    AccessAnalyzer,
    /// Amazon Macie.
    Macie,
    /// Amazon Inspector.
    Inspector,
    /// Somebody who asked at people's door that something be contained. Not a source of findings that come as events.
    #[serde(rename = "firebreak.request")]
    Request,
    /// A drill in the deployed account, about a canary. It speaks as GuardDuty does. Not a source of findings that come as
    /// events.
    #[serde(rename = "firebreak.drill")]
    Drill,
}

impl Source {
    /// Every source whose findings come as events.
    pub const ALL: [Self; 8] = [
        Self::GuardDuty,
        Self::SecurityHub,
        Self::Config,
        Self::Health,
        Self::TrustedAdvisor,
        Self::AccessAnalyzer,
        Self::Macie,
        Self::Inspector,
    ];

    /// The source as policies and output write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GuardDuty => "guardduty",
            Self::SecurityHub => "securityhub",
            Self::Config => "config",
            Self::Health => "health",
            Self::TrustedAdvisor => "trusted-advisor",
            Self::AccessAnalyzer => "access-analyzer",
            Self::Macie => "macie",
            Self::Inspector => "inspector",
            Self::Request => "firebreak.request",
            Self::Drill => "firebreak.drill",
        }
    }

    /// The source as people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::GuardDuty => "GuardDuty",
            Self::SecurityHub => "Security Hub",
            Self::Config => "AWS Config",
            Self::Health => "AWS Health",
            Self::TrustedAdvisor => "Trusted Advisor",
            Self::AccessAnalyzer => "IAM Access Analyzer",
            Self::Macie => "Macie",
            Self::Inspector => "Inspector",
            Self::Request => "a person's request",
            Self::Drill => "a drill",
        }
    }

    /// Whether its findings have GuardDuty's types, so that GuardDuty's tables answer them.
    pub fn has_guardduty_types(self) -> bool {
        matches!(self, Self::GuardDuty | Self::Drill)
    }
}
