//! The flood: thousands of findings about a thousand instances, most of them duplicates, through several processes of
//! the built function at once, as Lambda runs it. The independent client says what came of it; Firebreak is not asked.

mod crew;
mod deliveries;
mod facts;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::emulator::{Emulator, Ids, world};
use crate::lab::{Binary, Function, Lab, Setup};

pub use deliveries::Kind;
pub use facts::Fact;

/// So many instances are in one account: EC2's answers here take longer the more there are.
const PER_ACCOUNT: usize = 50;

/// How much floods.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Deliveries, duplicates included.
    pub findings: usize,
    /// Instances that they are about.
    pub targets: usize,
    /// Processes of the function side by side.
    pub processes: usize,
    /// Every duplicate is the first finding's event, byte by byte.
    pub same: bool,
}

/// How far the flood was, and what the processes held then.
#[derive(Debug, Clone)]
pub struct Lap {
    /// Findings answered.
    pub answered: usize,
    /// Since the first delivery.
    pub after: Duration,
    /// Memory of each process, in kilobytes; empty where that is not known.
    pub memory_kb: Vec<u64>,
    /// The most that each process has held, in kilobytes.
    pub peak_kb: Vec<u64>,
}

/// What one delivery costs that nothing else disturbs.
#[derive(Debug, Clone)]
pub struct Alone {
    /// What was delivered.
    pub kind: Kind,
    /// AWS calls of the function.
    pub calls: usize,
    /// The same by operation: those in the security account, and those in the member account.
    pub by_operation: [BTreeMap<String, usize>; 2],
    /// From handing it over to the answer.
    pub took: Duration,
}

/// What came of a flood.
#[derive(Debug)]
pub struct Score {
    /// Its size.
    pub size: Size,
    /// Member accounts.
    pub accounts: usize,
    /// From the first delivery to the last answer.
    pub took: Duration,
    /// The answers, by what was delivered and how it was answered.
    pub answers: BTreeMap<(Kind, String), usize>,
    /// Deliveries that failed and were made once more.
    pub again: usize,
    /// Times that the schedule came.
    pub schedules: usize,
    /// AWS calls of all processes.
    pub calls: usize,
    /// The same by operation.
    pub by_operation: BTreeMap<String, usize>,
    /// The samples of memory.
    pub laps: Vec<Lap>,
    /// What each kind costs alone.
    pub alone: Vec<Alone>,
    /// What has to be so.
    pub facts: Vec<Fact>,
}

impl Score {
    /// How much more a process held over the last lap than over the first, at most; nothing where memory is not known.
    #[must_use]
    pub fn growth(&self) -> Option<f64> {
        let (first, last) = (self.laps.first()?, self.laps.last()?);
        let ratios = first.memory_kb.iter().zip(&last.memory_kb).map(|(first, last)| *last as f64 / *first as f64);
        ratios.reduce(f64::max)
    }

    /// Findings answered in a second.
    #[must_use]
    pub fn a_second(&self) -> f64 {
        self.size.findings as f64 / self.took.as_secs_f64()
    }

    /// The facts that are not so.
    #[must_use]
    pub fn wrong(&self) -> Vec<&Fact> {
        self.facts.iter().filter(|fact| !fact.ok).collect()
    }
}

/// A member account with its instances.
pub(crate) struct Account {
    /// Its id.
    pub(crate) id: String,
    /// The world's ids: `i0`, `eni0`, …
    pub(crate) ids: Ids,
    /// How many of its instances are targets.
    pub(crate) targets: usize,
    /// Whether its VPC had a quarantine group before.
    pub(crate) prepared: bool,
}

/// Floods, and looks at what came of it. `tell` hears how far it is.
pub async fn flood(emulator: &Emulator, binary: &Binary, size: Size, tell: &dyn Fn(&str)) -> Result<Score> {
    let setup = Setup {
        world: "single-interface",
        parameters: json!({"BudgetAccountPerHour": 100_000, "BudgetTotalPerHour": 100_000}),
        ..Setup::default()
    };
    let lab = Lab::new(emulator, binary, &setup).await?;
    let accounts = make_accounts(&lab, size.targets, tell).await?;
    tell("routing the findings through the template's rules");
    let (plan, spare) = deliveries::planned(&lab, &accounts, size).await?;
    tell(&format!("{} deliveries about {} instances", plan.len(), size.targets));
    let mut crew = crew::Crew::hire(&lab, size.processes).await?;
    let outcome = crew.answer(&lab, &plan, tell).await?;
    crew.finish(&lab).await?;
    tell("measuring what each kind costs alone");
    let first = crew.first().context("there is no process")?;
    let mut alone = Vec::new();
    for delivery in &spare {
        alone.push(one_alone(&lab, first, delivery).await?);
    }
    tell("reading AWS and the ledger back");
    let facts = facts::facts(&lab, &accounts, &plan, &outcome, size).await?;
    Ok(Score {
        size,
        accounts: accounts.len(),
        took: outcome.took,
        answers: outcome.answers,
        again: outcome.again,
        schedules: outcome.schedules,
        calls: outcome.calls,
        by_operation: outcome.by_operation,
        laps: outcome.laps,
        alone,
        facts,
    })
}

/// The accounts that the targets are in. Every second VPC has its quarantine group before, as `firebreak onboard` makes it.
async fn make_accounts(lab: &Lab<'_>, targets: usize, tell: &dyn Fn(&str)) -> Result<Vec<Account>> {
    let count = targets.div_ceil(PER_ACCOUNT).max(2).min(targets);
    let mut accounts = Vec::new();
    for n in 0..count {
        let of_it = targets / count + usize::from(n < targets % count);
        // One more, for what is measured alone.
        let (id, ids) = lab.another_member(&crowd(of_it + 1)?).await?;
        let prepared = n % 2 == 0;
        if prepared {
            lab.prepare_in(&id, ids.get("vpc")?).await?;
        }
        accounts.push(Account { id, ids, targets: of_it, prepared });
        tell(&format!("account {} of {count}: {of_it} instances", n + 1));
    }
    Ok(accounts)
}

/// The world of one interface, so many times in one VPC.
fn crowd(instances: usize) -> Result<Value> {
    let mut of_one = world("single-interface")?;
    let victim = of_one["instances"]["victim"].clone();
    of_one["subnets"]["subnet_a"]["cidr"] = json!("10.20.0.0/20");
    of_one["instances"] = (0..instances)
        .map(|n| {
            let mut one = victim.clone();
            one["interfaces"][0]["name"] = json!(format!("eni{n}"));
            for volume in one["volumes"].as_array_mut().into_iter().flatten() {
                volume["name"] = json!(format!("{}{n}", volume["name"].as_str().unwrap_or_default()));
            }
            (format!("i{n}"), one)
        })
        .collect::<serde_json::Map<String, Value>>()
        .into();
    of_one.as_object_mut().context("a world is an object")?.remove("target");
    Ok(of_one)
}

/// Delivers one by itself and counts its calls.
async fn one_alone(lab: &Lab<'_>, function: &mut Function, delivery: &deliveries::Delivery) -> Result<Alone> {
    delivery.put(lab).await?;
    let since = lab.observer.calls(u64::MAX, &[]).await?.next;
    let invoked = function.invoke(delivery.event.clone()).await?;
    let calls = lab.observer.calls(since, &[]).await?.calls;
    let own: Vec<_> = calls.iter().filter(|call| !call.agent.contains("app/observer")).collect();
    let mut by_operation = [BTreeMap::new(), BTreeMap::new()];
    for call in &own {
        let [at_hub, at_member] = &mut by_operation;
        let place = if call.account == lab.hub { at_hub } else { at_member };
        *place.entry(format!("{}:{}", call.service, call.operation)).or_default() += 1;
    }
    Ok(Alone { kind: delivery.kind, calls: own.len(), by_operation, took: invoked.took })
}
