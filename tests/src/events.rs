//! Findings as events, changed as their services change them: what each form calls the same thing is written here once.

use jiff::Timestamp;
use serde_json::{Value, json};

/// The finding of an event of Security Hub's; nothing for one of GuardDuty's, whose `detail` is the finding.
fn imported(event: &mut Value) -> Option<&mut Value> {
    event["detail"]["findings"].get_mut(0)
}

/// When the activity, or the failure, was seen last.
pub fn seen(event: &mut Value, at: Timestamp) {
    match imported(event) {
        Some(finding) => {
            finding["LastObservedAt"] = json!(at.to_string());
            finding["UpdatedAt"] = json!(at.to_string());
        }
        None => event["detail"]["service"]["eventLastSeen"] = json!(at.to_string()),
    }
}

/// How severe it is, on GuardDuty's scale; Security Hub has four words for it, of which the least that is not less.
pub fn severe(event: &mut Value, severity: f64) {
    let Some(finding) = imported(event) else {
        event["detail"]["severity"] = json!(severity);
        return;
    };
    let label = match severity {
        severity if severity > 7.0 => "CRITICAL",
        severity if severity > 4.0 => "HIGH",
        severity if severity > 1.0 => "MEDIUM",
        _ => "LOW",
    };
    finding["Severity"] = json!({"Label": label});
    finding["FindingProviderFields"]["Severity"] = json!({"Label": label});
}

/// Put aside by its service.
pub fn archived(event: &mut Value) {
    match imported(event) {
        Some(finding) => finding["RecordState"] = json!("ARCHIVED"),
        None => event["detail"]["service"]["archived"] = json!(true),
    }
}

/// Another id.
pub fn of_id(event: &mut Value, id: &str) {
    match imported(event) {
        Some(finding) => finding["Id"] = json!(id),
        None => event["detail"]["id"] = json!(id),
    }
}
