//! Documents spoilt: what an attacker, a broken sender or a new version of a service can make of one. The changes know
//! the document's structure, and are short lists that proptest can shorten further.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, FileFailurePersistence, RngAlgorithm, RngSeed, TestRunner};
use serde_json::{Map, Value, json};

use crate::emulator::workspace;

/// One change to a document.
#[derive(Debug, Clone)]
pub struct Spoil {
    /// Which of its values, or of its bytes.
    pub place: Index,
    /// What becomes of it.
    pub change: Change,
}

/// What becomes of a value.
#[derive(Debug, Clone)]
pub enum Change {
    /// It is not there.
    Dropped,
    /// Another one stands there.
    Is(Value),
    /// What no JSON value can hold stands there, as it is.
    Raw(&'static str),
    /// The one of another place stands there.
    Moved(Index),
    /// Its field stands there twice, the second time with this, before or after the first.
    Twice(Value, bool),
    /// A list of so many of it.
    Repeated(u32),
    /// A text of so many characters.
    Long(u32),
    /// So many lists around it.
    Nested(u32),
    /// This stands at its end, if it is a text.
    Ends(&'static str),
    /// The document ends here.
    Cut,
    /// The byte here is this one.
    Byte(u8),
}

/// What no value of `serde_json` holds, valid or not.
const RAW: [&str; 14] = [
    "1e999",
    "-1e999",
    "1e-999",
    "-0",
    "18446744073709551616",
    "-9223372036854775809",
    "99999999999999999999999999999",
    r#""\ud800""#,
    r#""\u0000""#,
    "NaN",
    "",
    "0x10",
    "{\"\":{\"\":{}}}",
    "\u{feff}1",
];

/// Texts that break what is written around them.
const ENDINGS: [&str; 10] =
    ["\n", "\0", "\u{202e}", "\u{1b}[31m", "*", "${aws:username}", "\"}]", "/../..", "\u{fffd}\u{10ffff}", " "];

/// Numbers and texts at the ends of what types hold, and of other types than expected.
fn odd_values() -> Vec<Value> {
    vec![
        Value::Null,
        json!(true),
        json!(false),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(253_402_207_200_000_i64),
        json!(-377_705_023_201_i64),
        json!(""),
        json!(" "),
        json!("null"),
        json!("-1"),
        json!("1e400"),
        json!("nan"),
        json!("9999-12-31T23:59:59Z"),
        json!("-9999-01-01T00:00:00Z"),
        json!("2026-02-30T00:00:00Z"),
        json!("arn:aws:iam::111111111111:root"),
        json!("arn:::::"),
        json!("i-"),
        json!("111111111111"),
        json!("*"),
        json!([]),
        json!({}),
        json!([[]]),
        json!([null]),
        json!({"": null}),
    ]
}

/// Any JSON, small.
pub fn any_json() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        select(odd_values()),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    let inside = |inner: BoxedStrategy<Value>| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((".{0,8}", inner), 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    };
    leaf.prop_recursive(3, 12, 4, move |inner| inside(inner.boxed())).boxed()
}

fn change() -> BoxedStrategy<Change> {
    prop_oneof![
        6 => Just(Change::Dropped),
        8 => any_json().prop_map(Change::Is),
        4 => select(RAW.to_vec()).prop_map(Change::Raw),
        5 => any::<Index>().prop_map(Change::Moved),
        4 => (any_json(), any::<bool>()).prop_map(|(value, first)| Change::Twice(value, first)),
        2 => select(vec![2, 11, 130, 3_000]).prop_map(Change::Repeated),
        2 => select(vec![65, 129, 257, 2_049, 70_000, 1_100_000]).prop_map(Change::Long),
        2 => select(vec![2, 100, 126, 127, 128, 5_000, 200_000]).prop_map(Change::Nested),
        5 => select(ENDINGS.to_vec()).prop_map(Change::Ends),
        1 => Just(Change::Cut),
        2 => any::<u8>().prop_map(Change::Byte),
    ]
    .boxed()
}

/// A few changes.
pub fn spoils() -> BoxedStrategy<Vec<Spoil>> {
    vec((any::<Index>(), change()).prop_map(|(place, change)| Spoil { place, change }), 1..4).boxed()
}

/// The bytes of a document with these changes made to it, one after the other.
#[must_use]
pub fn spoilt(document: &Value, spoils: &[Spoil]) -> Vec<u8> {
    let mut document = document.clone();
    // What JSON values cannot hold has a mark in the document, and takes its place in the text.
    let mut raw = BTreeMap::new();
    for (n, Spoil { place, change }) in spoils.iter().enumerate() {
        let places = places(&document);
        let at = &places[place.index(places.len())];
        let mark = format!("@@{n}@@");
        let mut put = |document: &mut Value, text: String| {
            set(document, at, json!(mark));
            raw.insert(format!("\"{mark}\""), text);
        };
        let now = || document.pointer(at).cloned().unwrap_or_default();
        match change {
            Change::Dropped => remove(&mut document, at),
            Change::Is(value) => set(&mut document, at, value.clone()),
            Change::Raw(text) => put(&mut document, (*text).to_owned()),
            Change::Moved(from) => {
                let moved = document.pointer(&places[from.index(places.len())]).cloned().unwrap_or_default();
                set(&mut document, at, moved);
            }
            Change::Twice(value, first) => {
                if let Some((parent, key)) = at.rsplit_once('/')
                    && let Some(Value::Object(fields)) = document.pointer_mut(parent)
                {
                    // Keys are written in the order of their names, or of their insertion.
                    let mark = if *first { format!("!!{n}!!") } else { format!("~~{n}~~") };
                    let others = std::mem::take(fields);
                    if *first {
                        fields.insert(mark.clone(), value.clone());
                        fields.extend(others);
                    } else {
                        fields.extend(others);
                        fields.insert(mark.clone(), value.clone());
                    }
                    raw.insert(json!(mark).to_string(), json!(unescaped(key)).to_string());
                }
            }
            Change::Repeated(times) => {
                let text = now().to_string();
                let fits = usize::try_from(*times).unwrap_or(0).min(1 + 3_000_000 / (text.len() + 1));
                put(&mut document, format!("[{}]", vec![text; fits].join(",")));
            }
            Change::Long(length) => {
                let length = usize::try_from(*length).unwrap_or(0);
                set(&mut document, at, json!("x".repeat(length)));
            }
            Change::Nested(depth) => {
                let depth = usize::try_from(*depth).unwrap_or(0);
                let text = format!("{}{}{}", "[".repeat(depth), now(), "]".repeat(depth));
                put(&mut document, text);
            }
            Change::Ends(ending) => {
                if let Some(text) = now().as_str() {
                    set(&mut document, at, json!(format!("{text}{ending}")));
                }
            }
            Change::Cut | Change::Byte(_) => {}
        }
    }
    let mut text = document.to_string();
    for (mark, with) in raw {
        text = text.replace(&mark, &with);
    }
    let mut bytes = text.into_bytes();
    for Spoil { place, change } in spoils {
        match change {
            Change::Cut if !bytes.is_empty() => bytes.truncate(place.index(bytes.len())),
            Change::Byte(byte) if !bytes.is_empty() => {
                let at = place.index(bytes.len());
                bytes[at] = *byte;
            }
            _ => {}
        }
    }
    bytes
}

/// JSON pointers to every value of a document, the document first.
fn places(document: &Value) -> Vec<String> {
    fn walk(value: &Value, at: &mut String, found: &mut Vec<String>) {
        found.push(at.clone());
        let mut inside = |name: &str, value: &Value, at: &mut String| {
            let length = at.len();
            at.push('/');
            at.push_str(&name.replace('~', "~0").replace('/', "~1"));
            walk(value, at, found);
            at.truncate(length);
        };
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| inside(name, value, at)),
            Value::Array(items) => items.iter().enumerate().for_each(|(n, item)| inside(&n.to_string(), item, at)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(document, &mut String::new(), &mut found);
    found
}

fn unescaped(key: &str) -> String {
    key.replace("~1", "/").replace("~0", "~")
}

fn set(document: &mut Value, at: &str, value: Value) {
    if let Some(place) = document.pointer_mut(at) {
        *place = value;
    }
}

fn remove(document: &mut Value, at: &str) {
    let Some((parent, key)) = at.rsplit_once('/') else {
        *document = Value::Null;
        return;
    };
    match document.pointer_mut(parent) {
        Some(Value::Object(fields)) => _ = fields.remove(&unescaped(key)),
        Some(Value::Array(items)) => {
            if let Ok(n) = key.parse::<usize>()
                && n < items.len()
            {
                items.remove(n);
            }
        }
        _ => {}
    }
}

/// Every document of `events/`, and of the corpus that `FIREBREAK_CORPUS` names, where it is there.
pub fn documents() -> Result<Vec<Value>> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(workspace().join("events"))? {
        json_in(&folder?.path(), &mut found)?;
    }
    let ours = found.len();
    match std::env::var_os("FIREBREAK_CORPUS").map(PathBuf::from) {
        None => eprintln!("FIREBREAK_CORPUS is not set: {ours} documents of events/, none of the corpus"),
        Some(corpus) => {
            let manifest = std::fs::read_to_string(corpus.join("MANIFEST.tsv"))?;
            for file in manifest.lines().skip(1).filter_map(|line| line.split('\t').next()) {
                let text = std::fs::read(corpus.join(file)).with_context(|| file.to_owned())?;
                found.extend(serde_json::from_slice(&text).ok());
            }
            eprintln!("{ours} documents of events/, {} of the corpus", found.len() - ours);
        }
    }
    Ok(found)
}

fn json_in(folder: &Path, found: &mut Vec<Value>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
        // What is not JSON stands among the malformed ones for that.
        found.extend(serde_json::from_str(&std::fs::read_to_string(path)?).ok());
    }
    Ok(())
}

/// How many cases are tried: those that a variable asks for, else `short`.
#[must_use]
pub fn cases(variable: &str, short: u32) -> (u32, bool) {
    match std::env::var(variable).ok().and_then(|asked| asked.parse().ok()) {
        Some(asked) => (asked, true),
        None => (short, false),
    }
}

/// A runner of so many cases, or of as many as `variable` asks for. Without being asked it tries the same cases each
/// time; asked for, others each time. What has failed once is tried first from then on: its seed is in `file`, in
/// `tests/regressions/`.
#[must_use]
pub fn runner(variable: &str, short: u32, file: &'static str, shrinks: u32) -> TestRunner {
    let (cases, asked) = cases(variable, short);
    TestRunner::new(Config {
        cases,
        max_shrink_iters: shrinks,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        rng_algorithm: RngAlgorithm::ChaCha,
        rng_seed: if asked { RngSeed::Random } else { RngSeed::Fixed(seed(file)) },
        ..Config::default()
    })
}

/// A seed of its own for each test, by the name of its file.
fn seed(file: &str) -> u64 {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.bytes().fold(5, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(byte.into()))
}

/// The file in `tests/regressions/` that has this name.
#[macro_export]
macro_rules! regressions {
    ($name:literal) => {
        concat!(env!("CARGO_MANIFEST_DIR"), "/regressions/", $name, ".txt")
    };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn one(change: Change) -> String {
        let document = json!({"a": {"b/c": [1, "x"]}});
        // The last place of all: the text.
        let spoil = Spoil { place: last(), change };
        String::from_utf8(spoilt(&document, &[spoil])).unwrap()
    }

    fn last() -> Index {
        let mut found = None;
        let mut runner = TestRunner::deterministic();
        while found.is_none() {
            let index = any::<Index>().new_tree(&mut runner).unwrap().current();
            found = Some(index).filter(|index| index.index(5) == 4);
        }
        found.unwrap()
    }

    use proptest::strategy::ValueTree;

    #[test]
    fn each_change_is_made_where_it_is_said() {
        assert_eq!(one(Change::Dropped), r#"{"a":{"b/c":[1]}}"#);
        assert_eq!(one(Change::Is(json!({}))), r#"{"a":{"b/c":[1,{}]}}"#);
        assert_eq!(one(Change::Raw("1e999")), r#"{"a":{"b/c":[1,1e999]}}"#);
        assert_eq!(one(Change::Repeated(2)), r#"{"a":{"b/c":[1,["x","x"]]}}"#);
        assert_eq!(one(Change::Nested(2)), r#"{"a":{"b/c":[1,[["x"]]]}}"#);
        assert_eq!(one(Change::Ends("\n")), r#"{"a":{"b/c":[1,"x\n"]}}"#);
    }

    #[test]
    fn a_field_stands_there_twice() {
        let document = json!({"a": 1});
        let mut runner = TestRunner::deterministic();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..64 {
            let place = any::<Index>().new_tree(&mut runner).unwrap().current();
            for first in [true, false] {
                let spoil = Spoil { place, change: Change::Twice(json!(2), first) };
                seen.insert(String::from_utf8(spoilt(&document, &[spoil])).unwrap());
            }
        }
        assert!(seen.contains(r#"{"a":2,"a":1}"#) && seen.contains(r#"{"a":1,"a":2}"#), "{seen:?}");
    }
}
