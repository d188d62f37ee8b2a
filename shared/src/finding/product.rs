//! Who put a finding into Security Hub.
//!
//! Whoever may call `BatchImportFindings` in a member account can import anything, but only under a product of that
//! account. What AWS's own services import stands under a product without an account, which nobody else can use:
//! <https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-custom-providers.html>.

use serde::{Deserialize, Serialize};

use super::Source;
use super::json::{ParseError, Problem};
use crate::ids::{Arn, Region};
use crate::text::plain;

/// The product that a finding came into Security Hub by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Product {
    /// A service of AWS, by the name in its product ARN: `guardduty`, `securityhub`.
    Aws(String),
    /// Anybody else: what he calls himself, escaped. Never acted on.
    Foreign(String),
}

impl Product {
    /// Reads a product ARN, `arn:<partition>:securityhub:<region>::product/aws/<service>`; Security Hub's OCSF
    /// findings write `productv2`. All else is foreign, an ARN with an account in it first of all. Its Region is given
    /// beside it.
    pub(super) fn of(text: &str) -> (Self, Option<Region>) {
        let arn: Option<Arn> = text.parse().ok();
        let service =
            arn.as_ref().filter(|arn| arn.service == "securityhub" && arn.account.is_none()).and_then(|arn| {
                let name =
                    arn.resource.strip_prefix("product/aws/").or_else(|| arn.resource.strip_prefix("productv2/aws/"));
                name.filter(|name| is_service(name))
            });
        let product = service.map_or_else(|| Self::Foreign(plain(text, 128)), |name| Self::Aws(name.to_owned()));
        (product, arn.and_then(|arn| arn.region))
    }

    /// An error in a finding of this product: of a foreign one it is no fault of anybody's.
    pub(super) fn error(&self, error: ParseError) -> ParseError {
        match self {
            Self::Aws(_) => error,
            Self::Foreign(name) => {
                let because = error.problem.to_string();
                ParseError { at: error.at, problem: Problem::Foreign { product: name.clone(), because } }
            }
        }
    }

    /// The service that made the findings of this product.
    pub(super) fn source(&self) -> Source {
        match self {
            Self::Aws(name) => match name.as_str() {
                "guardduty" => Source::GuardDuty,
                "config" => Source::Config,
                "health" => Source::Health,
                "access-analyzer" => Source::AccessAnalyzer,
                "macie" => Source::Macie,
                "inspector" => Source::Inspector,
                _ => Source::SecurityHub,
            },
            Self::Foreign(_) => Source::SecurityHub,
        }
    }
}

fn is_service(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_service_of_aws_is_one() {
        for (text, service) in [
            ("arn:aws:securityhub:eu-west-1::product/aws/guardduty", "guardduty"),
            ("arn:aws:securityhub:us-east-1::productv2/aws/inspector", "inspector"),
            ("arn:aws-cn:securityhub:cn-north-1::product/aws/securityhub", "securityhub"),
            ("arn:aws-us-gov:securityhub:us-gov-west-1::product/aws/access-analyzer", "access-analyzer"),
        ] {
            let (product, region) = Product::of(text);
            assert_eq!(product, Product::Aws(service.to_owned()));
            assert!(text.contains(region.as_ref().map_or("none", Region::as_str)), "{text}");
        }
        for foreign in [
            "arn:aws:securityhub:eu-west-1:222222222222:product/222222222222/default",
            "arn:aws:securityhub:eu-west-1:222222222222:product/aws/guardduty",
            "arn:aws:securityhub:eu-west-1::product/prowler/prowler",
            "arn:aws:securityhub:eu-west-1::product/aws/guardduty/x",
            "arn:aws:securityhub:eu-west-1::product/aws/",
            "arn:aws:securityhub:eu-west-1::product/aws/guardduty\n",
            "arn:aws:securityhub:eu-west-1::product/aws/GuardDuty",
            "arn:aws:guardduty:eu-west-1::product/aws/guardduty",
            "arn:aws:securityhub:cn-north-1::product/aws/guardduty",
            "xarn:aws:securityhub:eu-west-1::product/aws/guardduty",
            "prowler",
            "",
        ] {
            let (product, _) = Product::of(foreign);
            assert!(matches!(product, Product::Foreign(_)), "{foreign:?}");
            assert_eq!(product.source(), Source::SecurityHub, "{foreign:?}");
        }
    }
}
