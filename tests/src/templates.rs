//! The templates as they are written, for tests that hold them against the code.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::emulator::{Emulator, workspace};

/// A template as JSON, short tags in their long form.
pub fn read(emulator: &Emulator, name: &str) -> Result<Value> {
    const READ: &str = "import json, sys, yaml; from template import Loader; \
                        print(json.dumps(yaml.load(open(sys.argv[1], encoding='utf-8'), Loader)))";
    let read = emulator.python().args(["-c", READ]).arg(workspace().join(name)).output()?;
    ensure!(read.status.success(), "{name}: {}", String::from_utf8_lossy(&read.stderr));
    serde_json::from_slice(&read.stdout).with_context(|| format!("{name} as JSON"))
}

/// A value that may be one or a list of them.
#[must_use]
pub fn list(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Null => Vec::new(),
        one => vec![one],
    }
}

/// Every statement of every policy document in a part of a template.
#[must_use]
pub fn statements(value: &Value) -> Vec<&Value> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("Statement").map(list).unwrap_or_default();
            own.into_iter().chain(fields.values().flat_map(statements)).collect()
        }
        Value::Array(items) => items.iter().flat_map(statements).collect(),
        _ => Vec::new(),
    }
}

/// Whether a text is what a pattern with `*` in it says.
#[must_use]
pub fn matches_wildcard(pattern: &str, text: &str) -> bool {
    let parts: Vec<&str> = pattern.split('*').collect();
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return false };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    for part in parts.iter().skip(1).take(parts.len().saturating_sub(2)) {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    if parts.len() == 1 { rest.is_empty() } else { rest.ends_with(last) }
}
