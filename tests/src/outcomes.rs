//! The schema of the outcome event: every event that a test or a drill reads is held against it.

use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use jsonschema::Validator;
use serde_json::Value;

use crate::emulator::workspace;

/// Where the schema is. What it says is promised to whoever subscribes to the events.
const SCHEMA: &str = "docs/events.schema.json";

fn schema() -> Result<&'static Validator> {
    static MADE: OnceLock<Result<Validator, String>> = OnceLock::new();
    let make = || -> Result<Validator> {
        let text = std::fs::read_to_string(workspace().join(SCHEMA))?;
        Ok(jsonschema::validator_for(&serde_json::from_str(&text)?)?)
    };
    let made = MADE.get_or_init(|| make().map_err(|error| format!("{error:#}")));
    made.as_ref().map_err(|why| anyhow::anyhow!("{SCHEMA}: {why}"))
}

/// Reads an event as EventBridge hands it over: its `detail`, which is as the schema says.
///
/// # Errors
/// When the event is no JSON, or its detail is not as the schema says.
pub fn detail_of(event: &str) -> Result<Value> {
    let event: Value = serde_json::from_str(event).context("an outcome event is not JSON")?;
    let detail = event["detail"].clone();
    let wrong: Vec<String> =
        schema()?.iter_errors(&detail).map(|error| format!("{}: {error}", error.instance_path())).collect();
    if !wrong.is_empty() {
        bail!("an outcome event is not as {SCHEMA} says: {}\n{detail}", wrong.join("; "));
    }
    Ok(detail)
}
