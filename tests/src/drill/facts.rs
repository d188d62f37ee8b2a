//! Facts: what has to be so, and what the observer found.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::compare::Difference;

/// What a fact is about; the order is that of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// The finding's way to the function, and what was decided.
    Decided,
    /// The network.
    Cut,
    /// The instance and its disks stay as they are.
    Protected,
    /// Groups and load balancers that would act on the instance.
    Withdrawn,
    /// Everything else.
    Untouched,
    /// What an attacker takes back is done again.
    Kept,
    /// Snapshots, records, custody.
    Evidence,
    /// What people and machines are told.
    Told,
    /// Repeats, samples, forgeries.
    Repeated,
    /// Undo.
    Undone,
    /// Calls.
    Budget,
}

impl Topic {
    /// The heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Decided => "Decided",
            Self::Cut => "Cut off",
            Self::Protected => "Protected",
            Self::Withdrawn => "Withdrawn",
            Self::Untouched => "Untouched",
            Self::Kept => "Kept so",
            Self::Evidence => "Evidence",
            Self::Told => "Told",
            Self::Repeated => "Repeats and forgeries",
            Self::Undone => "Undone",
            Self::Budget => "Budget",
        }
    }
}

/// One thing that has to be so.
#[derive(Debug, Clone, Serialize)]
pub struct Fact {
    /// What it is about.
    pub topic: Topic,
    /// What has to be so.
    pub what: String,
    /// Whether it is.
    pub ok: bool,
    /// What was expected, in names.
    pub expected: String,
    /// What was found, in names.
    pub found: String,
}

/// Ids by the names that people know them by.
#[derive(Debug, Clone, Default)]
pub struct Names(BTreeMap<String, String>);

impl Names {
    /// Gives an id a name.
    pub fn name(&mut self, id: &str, name: &str) {
        if !id.is_empty() {
            self.0.insert(id.to_owned(), name.to_owned());
        }
    }

    /// The name of an id, or the id.
    #[must_use]
    pub fn of<'a>(&'a self, id: &'a str) -> &'a str {
        self.0.get(id).map_or(id, String::as_str)
    }

    /// A text with every known id in it named.
    #[must_use]
    pub fn in_text(&self, text: &str) -> String {
        // The longest first: a target group's ARN holds its name.
        let mut ids: Vec<(&String, &String)> = self.0.iter().filter(|(id, _)| id.contains('-')).collect();
        ids.sort_by_key(|(id, _)| std::cmp::Reverse(id.len()));
        ids.into_iter().fold(text.to_owned(), |text, (id, name)| text.replace(id.as_str(), name))
    }

    /// A value in few words.
    #[must_use]
    pub fn show(&self, value: &Value) -> String {
        match value {
            Value::Null => "none".to_owned(),
            Value::Bool(true) => "yes".to_owned(),
            Value::Bool(false) => "no".to_owned(),
            Value::String(text) => self.of(text).to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Array(items) if items.is_empty() => "none".to_owned(),
            Value::Array(items) => items.iter().map(|item| self.show(item)).collect::<Vec<_>>().join(", "),
            Value::Object(fields) if fields.is_empty() => "none".to_owned(),
            Value::Object(fields) => {
                let field = |(name, value): (&String, &Value)| format!("{}: {}", self.of(name), self.show(value));
                fields.iter().map(field).collect::<Vec<_>>().join(", ")
            }
        }
    }
}

impl Difference {
    /// The difference in one line.
    #[must_use]
    pub fn show(&self, names: &Names) -> String {
        let path: Vec<&str> = self.path.iter().map(|part| names.of(part)).collect();
        let value = |value: &Option<Value>| {
            let text = value.as_ref().map_or("absent".to_owned(), |value| names.show(value));
            if text.chars().count() > 90 { text.chars().take(90).chain(['…']).collect() } else { text }
        };
        format!("{}: {} → {}", path.join("/"), value(&self.before), value(&self.after))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use serde_json::json;

    #[test]
    fn ids_are_shown_by_name() {
        let mut names = Names::default();
        names.name("eni-1", "eni_a");
        assert_eq!(names.show(&json!({"eni-1": ["eni-1", null, true]})), "eni_a: eni_a, none, yes");
        assert_eq!(names.in_text("x eni-1 y"), "x eni_a y");
    }
}
