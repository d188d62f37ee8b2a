//! Calls by names that are the same in every account: what the code was doing, where it called, what, and which time.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde_json::Value;

use crate::compare::normal;
use crate::emulator::Ids;
use crate::faults::{Doing, Place, Request};
use crate::in_process::Case;

/// Names calls as they are made. Attempts of one call are one call.
pub(super) struct Names {
    ids: Ids,
    account: String,
    times: BTreeMap<String, usize>,
    known: BTreeSet<String>,
}

impl Names {
    pub(super) fn of(case: &Case) -> Self {
        Self { ids: case.ids.clone(), account: case.member.clone(), times: BTreeMap::new(), known: BTreeSet::new() }
    }

    /// The name of a call at its first attempt.
    pub(super) fn name(&mut self, request: &Request) -> Option<String> {
        if !request.call.is_empty() && !self.known.insert(request.call.clone()) {
            return None;
        }
        let about = |word: &str, step: &firebreak::plan::StepId| format!("{word} {}", self.words(&step.0));
        let doing = match &request.doing {
            Doing::Planning => "plan".to_owned(),
            Doing::Applying(step) => about("apply", step),
            Doing::Undoing(step) => about("undo", step),
            Doing::Reading(step) => about("read", step),
            Doing::Other => "loop".to_owned(),
        };
        let place = match request.place {
            Place::Hub => "hub",
            Place::Member => "member",
        };
        let name = format!("{doing}, {place} {}", request.name());
        let times = self.times.entry(name.clone()).or_default();
        *times += 1;
        Some(format!("{name} {times}"))
    }

    fn words(&self, text: &str) -> String {
        let shared = |word: &str| match normal(&Value::String(word.to_owned()), &self.ids, &self.account, None) {
            Value::String(shared) => shared,
            _ => String::new(),
        };
        text.split(' ').map(shared).collect::<Vec<_>>().join(" ")
    }
}

/// The calls that a case's process has made.
pub(super) fn made(case: &Case) -> Result<Vec<String>> {
    let mut names = Names::of(case);
    Ok(case.faults.requests().iter().filter_map(|request| names.name(request)).collect())
}
