//! Severities, on GuardDuty's scale from 0.0 to 10.0, whoever the source is.
//!
//! A word stands for the lower end of GuardDuty's own band of that name (Low 1.0, Medium 4.0, High 7.0, Critical
//! 9.0): a policy that acts from 7.0 on acts on what its source calls high. A source that gives none gives 0.0, so
//! that no policy acts by itself on what nobody has rated.
//! <https://docs.aws.amazon.com/guardduty/latest/ug/guardduty_findings-severity.html>

use super::json::{At, ParseError, Problem};

/// From here on a finding is critical.
pub const CRITICAL: f64 = 9.0;

/// From here on it is high.
pub const HIGH: f64 = 7.0;

/// What no source has rated.
pub(super) const UNRATED: f64 = 0.0;

/// What lays a key bare for certain. AWS Health and Trusted Advisor rate nothing; to find a key in public is as bad
/// as anything that GuardDuty calls critical.
pub(super) const EXPOSED: f64 = CRITICAL;

/// The same when AWS only suspects it.
pub(super) const SUSPECTED: f64 = HIGH;

/// A severity by name.
pub(super) fn of_word(word: &str) -> Option<f64> {
    Some(match word.to_ascii_uppercase().as_str() {
        "UNTRIAGED" | "UNKNOWN" | "OTHER" | "INFORMATIONAL" => 0.0,
        "LOW" => 1.0,
        "MEDIUM" => 4.0,
        "HIGH" => HIGH,
        "CRITICAL" => CRITICAL,
        "FATAL" => 10.0,
        _ => return None,
    })
}

/// OCSF's `severity_id`.
pub(super) fn of_ocsf(id: f64) -> Option<f64> {
    // The ids are whole numbers.
    Some(match id as i64 {
        0 | 1 | 99 => 0.0,
        2 => 1.0,
        3 => 4.0,
        4 => HIGH,
        5 => CRITICAL,
        6 => 10.0,
        _ => return None,
    })
}

/// A severity that must be a word.
pub(super) fn word(at: &At<'_>) -> Result<f64, ParseError> {
    let text = at.required(At::text)?;
    of_word(text).ok_or_else(|| expected(at, text))
}

/// A number on GuardDuty's scale.
pub(super) fn number(at: &At<'_>) -> Result<f64, ParseError> {
    let number = at.required(At::number)?;
    if (0.0..=10.0).contains(&number) { Ok(number) } else { Err(expected(at, &number.to_string())) }
}

/// ASFF's `Severity`: the label, or else `Normalized` (0 to 100). GuardDuty keeps its own scale in `Product`.
pub(super) fn asff(at: &At<'_>, of_guardduty: bool) -> Result<f64, ParseError> {
    if at.is_absent() {
        return Err(at.error(Problem::Missing));
    }
    let product = at.field("Product")?;
    if of_guardduty && !product.is_absent() {
        return number(&product);
    }
    let label = at.field("Label")?;
    if !label.is_absent() {
        return word(&label);
    }
    let normalized = at.field("Normalized")?;
    let given = normalized.required(At::number)?;
    if (0.0..=100.0).contains(&given) {
        Ok(given / 10.0)
    } else {
        Err(normalized.error(Problem::Expected { expected: "a number from 0 to 100", found: given.to_string() }))
    }
}

fn expected(at: &At<'_>, found: &str) -> ParseError {
    at.error(Problem::Expected { expected: "a severity from 0 to 10, or its name", found: found.to_owned() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn every_way_of_asff_comes_to_one_scale() {
        for (severity, guardduty, expected) in [
            (json!({"Label": "HIGH", "Normalized": 75, "Product": 30}), false, 7.0),
            (json!({"Label": "INFORMATIONAL", "Normalized": 10}), false, 0.0),
            (json!({"Normalized": 40}), false, 4.0),
            (json!({"Product": 5, "Label": "MEDIUM", "Normalized": 50}), true, 5.0),
            (json!({"Product": "8.5"}), true, 8.5),
            (json!({"Label": "CRITICAL"}), true, 9.0),
        ] {
            assert_eq!(asff(&At::root(&severity), guardduty), Ok(expected), "{severity}");
        }
        for severity in
            [json!({}), json!({"Label": "URGENT"}), json!({"Normalized": 101}), json!({"Label": 7}), json!(7)]
        {
            assert!(asff(&At::root(&severity), false).is_err(), "{severity}");
        }
        assert!(asff(&At::root(&json!({"Product": 80})), true).is_err());
    }

    #[test]
    fn words_and_numbers_of_ocsf_agree() {
        for (id, name) in [
            (0.0, "Unknown"),
            (1.0, "Informational"),
            (2.0, "Low"),
            (3.0, "Medium"),
            (4.0, "High"),
            (5.0, "Critical"),
            (6.0, "Fatal"),
            (99.0, "Other"),
        ] {
            assert_eq!(of_ocsf(id), of_word(name), "{name}");
            assert!(of_ocsf(id).is_some());
        }
        assert_eq!((of_ocsf(7.0), of_word("")), (None, None));
    }
}
