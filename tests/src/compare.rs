//! Comparing states of an account: what differs, and what may.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use crate::emulator::Ids;

/// A difference between two documents: where, before, after.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Where: the names of the fields on the way, as in `interfaces/eni-0abc…/groups`.
    pub path: Vec<String>,
    /// What was there; nothing when it was absent.
    pub before: Option<Value>,
    /// What is there; nothing when it is absent.
    pub after: Option<Value>,
}

impl Difference {
    /// A part of the path; empty past its end.
    #[must_use]
    pub fn at(&self, index: usize) -> &str {
        self.path.get(index).map_or("", String::as_str)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: &Option<Value>| value.as_ref().map_or("absent".to_owned(), ToString::to_string);
        write!(f, "{}: {} → {}", self.path.join("/"), value(&self.before), value(&self.after))
    }
}

/// Every difference between two documents. Objects are compared field by field, all else as it is.
#[must_use]
pub fn differences(before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    walk(&mut Vec::new(), Some(before), Some(after), &mut found);
    found
}

/// Differences, a line each.
#[must_use]
pub fn shown(differences: &[Difference]) -> String {
    differences.iter().map(|difference| format!("  {difference}")).collect::<Vec<_>>().join("\n")
}

fn walk(path: &mut Vec<String>, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Difference>) {
    if before == after {
        return;
    }
    let (Some(Value::Object(was)), Some(is)) = (before, after.and_then(Value::as_object)) else {
        found.push(Difference { path: path.clone(), before: before.cloned(), after: after.cloned() });
        return;
    };
    let names: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    for name in names {
        path.push(name.clone());
        walk(path, was.get(name), is.get(name), found);
        path.pop();
    }
}

/// The items of an array; none when it is absent; the one value that stands where an array may.
pub fn list(value: &Value) -> std::slice::Iter<'_, Value> {
    match value {
        Value::Array(items) => items.iter(),
        Value::Null => [].iter(),
        one => std::slice::from_ref(one).iter(),
    }
}

/// The entries of an object; none when it is absent.
pub fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

/// A state in terms that two accounts with the same world share: ids by their names in the world, other ids by
/// their kind, the account and the run by what they are.
#[must_use]
pub fn normal(state: &Value, ids: &Ids, account: &str, run: Option<&str>) -> Value {
    let mut names: BTreeMap<&str, String> = ids.iter().map(|(name, id)| (id, format!("<{name}>"))).collect();
    names.insert(account, "<account>".to_owned());
    if let Some(run) = run {
        names.insert(run, "<run>".to_owned());
    }
    // Longer ids first: an ARN holds the names of other things.
    let mut order: Vec<(&str, &String)> = names.iter().map(|(id, name)| (*id, name)).collect();
    order.sort_by_key(|(id, _)| std::cmp::Reverse(id.len()));
    rewrite(state, &order)
}

fn rewrite(value: &Value, names: &[(&str, &String)]) -> Value {
    match value {
        Value::String(text) => Value::String(rename(text, names)),
        Value::Array(list) => {
            let mut list: Vec<Value> = list.iter().map(|item| rewrite(item, names)).collect();
            list.sort_by_cached_key(ToString::to_string);
            Value::Array(list)
        }
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> =
                map.iter().map(|(key, value)| (rename(key, names), rewrite(value, names))).collect();
            entries.sort_by_cached_key(|(key, value)| format!("{key} {value}"));
            let mut out = serde_json::Map::new();
            for (key, value) in entries {
                // Things that the world has no name for are told apart by their order alone.
                let mut unique = key.clone();
                let mut n = 2;
                while out.contains_key(&unique) {
                    unique = format!("{key} {n}");
                    n += 1;
                }
                out.insert(unique, value);
            }
            Value::Object(out)
        }
        other => other.clone(),
    }
}

fn rename(text: &str, names: &[(&str, &String)]) -> String {
    let mut text = text.to_owned();
    for (id, name) in names {
        if text.contains(id) {
            text = text.replace(id, name);
        }
    }
    unnamed(&text)
}

/// Ids without a name, each cut down to its kind, public addresses, and times.
fn unnamed(text: &str) -> String {
    if text.parse::<jiff::Timestamp>().is_ok() {
        return "<time>".to_owned();
    }
    if ["AIDA", "AROA", "AKIA", "ACCA", "APKA"].iter().any(|prefix| text.starts_with(prefix)) && text.len() >= 20 {
        return text.chars().take(4).collect();
    }
    const KINDS: [&str; 9] = ["sg", "sgr", "snap", "i", "eni", "vol", "vpc", "eipalloc", "subnet"];
    if let Some((kind, rest)) = text.rsplit_once('-')
        && KINDS.contains(&kind)
        && rest.len() >= 8
        && rest.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return format!("<{kind}>");
    }
    let numbers: Vec<&str> = text.split('.').collect();
    if numbers.len() == 4 && numbers.iter().all(|number| number.parse::<u8>().is_ok()) {
        return "<address>".to_owned();
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_found_field_by_field() {
        let before = json!({"a": {"b": 1, "c": [1]}, "d": 1, "n": null});
        let after = json!({"a": {"b": 1, "c": [2]}, "e": 1, "n": null});
        let found: Vec<String> = differences(&before, &after).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["a/c: [1] → [2]", "d: 1 → absent", "e: absent → 1"]);
        assert!(differences(&before, &before).is_empty());
    }

    #[test]
    fn states_of_two_accounts_become_equal() {
        let ids = |id: &str| serde_json::from_value::<Ids>(json!({"ids": {"web": id}})).unwrap();
        let one = normal(
            &json!({"sg-0123456789": "r-A", "sg-aaaaaaaaaa": "198.51.100.7"}),
            &ids("sg-0123456789"),
            "3",
            Some("A"),
        );
        let two = normal(
            &json!({"sg-bbbbbbbbbb": "198.51.100.8", "sg-9999999999": "r-B"}),
            &ids("sg-9999999999"),
            "4",
            Some("B"),
        );
        assert_eq!(one, two);
        assert_eq!(one, json!({"<web>": "r-<run>", "<sg>": "<address>"}));
    }
}
