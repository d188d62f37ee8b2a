//! Policy sets: what is published is text, and is read before it is known whether it is the accepted one.

use firebreak::guard::Policies;
use firebreak_tests::emulator::workspace;
use firebreak_tests::regressions;
use firebreak_tests::spoil::runner;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::memory::{Bound, bounded};
use crate::{CASES, on_a_main_threads_stack, try_all};

/// Cedar keeps each part of a policy with its place in the text, through three trees.
const BOUND: Bound = Bound { bytes: 20_000, count: 300 };

/// What is put in the place of a word, or beside it.
const WORDS: [&str; 26] = [
    "permit",
    "forbid",
    "principal",
    "resource",
    "context",
    "when",
    "unless",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ";",
    ",",
    "==",
    "in",
    "@hold(\"99999999999999999999d\")",
    "@expires(\"-9999-01-01T00:00:00Z\")",
    "@id(\"\")",
    "@id(\"\u{202e}\")",
    "9223372036854775808",
    "decimal(\"1e9\")",
    "ip(\"::/999\")",
    "\"\\u{110000}\"",
    "like \"***\"",
];

#[derive(Debug, Clone)]
enum Edit {
    Without,
    Is(&'static str),
    Before(&'static str),
    Twice,
    Moved(Index),
    Nested(usize),
    Many(usize),
    Cut,
}

fn edits() -> impl Strategy<Value = Vec<(Index, Edit)>> {
    let edit = prop_oneof![
        4 => Just(Edit::Without),
        4 => select(WORDS.to_vec()).prop_map(Edit::Is),
        4 => select(WORDS.to_vec()).prop_map(Edit::Before),
        2 => Just(Edit::Twice),
        3 => any::<Index>().prop_map(Edit::Moved),
        1 => select(vec![2, 20, 60]).prop_map(Edit::Nested),
        1 => select(vec![2, 40]).prop_map(Edit::Many),
        1 => Just(Edit::Cut),
    ];
    vec((any::<Index>(), edit), 1..4)
}

fn sets() -> Vec<String> {
    let mut paths: Vec<_> =
        std::fs::read_dir(workspace().join("policies")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "cedar"));
    paths.sort();
    paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// Words, signs and the white space between.
fn words(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut last = None;
    for c in text.chars() {
        let kind = (c.is_alphanumeric() || matches!(c, '_' | '-' | ':' | '.'), c.is_whitespace());
        match found.last_mut() {
            Some(word) if last == Some(kind) && kind != (false, false) => word.push(c),
            _ => found.push(c.to_string()),
        }
        last = Some(kind);
    }
    found
}

fn edited(text: &str, edits: &[(Index, Edit)]) -> String {
    let mut words = words(text);
    for (place, edit) in edits {
        if words.is_empty() {
            break;
        }
        let at = place.index(words.len());
        match edit {
            Edit::Without => _ = words.remove(at),
            Edit::Is(word) => words[at] = (*word).to_owned(),
            Edit::Before(word) => words.insert(at, format!("{word} ")),
            Edit::Twice => words.insert(at, words[at].clone()),
            Edit::Moved(from) => words[at] = words[from.index(words.len())].clone(),
            Edit::Nested(depth) => words[at] = format!("{}{}{}", "(".repeat(*depth), words[at], ")".repeat(*depth)),
            Edit::Many(times) => words[at] = words[at].repeat(*times),
            Edit::Cut => words.truncate(at),
        }
    }
    words.concat()
}

fn read(text: &str) {
    match Policies::parse(text) {
        Err(error) => _ = error.to_string(),
        Ok(set) => _ = (set.asking_for_units().len(), set.asking_for_hub_account()),
    }
}

#[test]
fn no_spoilt_set_makes_it_panic_or_costs_more_than_its_size_allows() {
    let sets = sets();
    assert!(!sets.is_empty());
    let strategy = (any::<Index>(), edits());
    let runner = runner(CASES, 150, regressions!("fuzz-policies"), 512);
    on_a_main_threads_stack(move || {
        try_all("spoilt policy sets", runner, &strategy, |(set, edits)| {
            let text = edited(&sets[set.index(sets.len())], &edits);
            bounded(text.len(), BOUND, || read(&text))
        });
    });
}

/// What is nested deeper than anybody writes ends the reading and not the process.
#[test]
fn what_is_nested_ever_so_deep_is_refused() {
    let nests = [
        ("(", ")"),
        ("[", "]"),
        ("if true then ", " else true"),
        ("{\"a\":", "}"),
        // What ends a policy ends none in a string or a comment.
        ("(\";\" == \";\" && ", ")"),
        ("( // ; \"\n", ")"),
    ];
    for (open, close) in nests {
        for depth in [50, 500, 5_000, 50_000] {
            let inner = format!("{}true{}", open.repeat(depth), close.repeat(depth));
            let text = format!("@id(\"deep\") permit (principal, action, resource) when {{ {inner} }};");
            on_a_main_threads_stack(move || assert!(Policies::parse(&text).is_err(), "{depth} deep is read"));
        }
    }
    // Cedar itself bounds how many of these stand before each other.
    for (open, close) in [("!", ""), ("-", "")] {
        for depth in [50, 500, 5_000, 50_000] {
            let inner = format!("{}true{}", open.repeat(depth), close.repeat(depth));
            let text = format!("@id(\"deep\") permit (principal, action, resource) when {{ {inner} }};");
            on_a_main_threads_stack(move || read(&text));
        }
    }
}
