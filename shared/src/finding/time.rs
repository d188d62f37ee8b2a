//! The ways in which times are written.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;
use serde_json::Value;

/// A time as text (with or without a zone, then UTC), or as seconds or milliseconds since 1970.
pub(super) fn read(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => of_text(text.trim()),
        Value::Number(number) => epoch(number.as_f64()?),
        _ => None,
    }
}

fn of_text(text: &str) -> Option<Timestamp> {
    let utc = |time: DateTime| TimeZone::UTC.to_timestamp(time).ok();
    text.parse::<Timestamp>()
        .ok()
        .or_else(|| utc(text.parse::<DateTime>().ok()?))
        .or_else(|| epoch(text.parse().ok()?))
        // AWS Health, whose samples do not always know the day of the week.
        .or_else(|| rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text).ok())
        // Inspector has two ways.
        .or_else(|| utc(DateTime::strptime("%a %b %d %H:%M:%S%.f UTC %Y", text).ok()?))
        .or_else(|| utc(DateTime::strptime("%b %d, %Y, %I:%M:%S %p", text).ok()?))
}

fn epoch(number: f64) -> Option<Timestamp> {
    if !number.is_finite() {
        return None;
    }
    // 1e11 seconds are the year 5138; 1e11 milliseconds are March 1973, before any finding.
    let millis = if number.abs() < 1e11 { number * 1000.0 } else { number };
    Timestamp::from_millisecond(millis as i64).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_source_has_its_own_way() {
        for value in [
            json!("2026-11-03T09:27:05Z"),
            json!("2026-11-03T10:27:05+01:00"),
            json!("2026-11-03 09:27:05.000000000"),
            json!("2026-11-03T09:27:05"),
            json!(1793698025),
            json!(1793698025.0),
            json!(1793698025000_u64),
            json!("1793698025"),
            json!("1793698025000"),
            json!("Tue, 03 Nov 2026 09:27:05 GMT"),
            json!("Tue, 3 Nov 2026 09:27:05 GMT"),
            json!("Sun, 03 Nov 2026 09:27:05 GMT"),
            json!("Tue Nov 03 09:27:05.000 UTC 2026"),
            json!("Nov 3, 2026, 9:27:05 AM"),
        ] {
            assert_eq!(read(&value).map(|t| t.to_string()).as_deref(), Some("2026-11-03T09:27:05Z"), "{value}");
        }
        for unknown in [json!(null), json!(""), json!("yesterday"), json!(1e300), json!({}), json!("NaN")] {
            assert_eq!(read(&unknown), None, "{unknown}");
        }
    }
}
