//! The drill: an incident rehearsed from the finding to the undo, and every claim about it checked by reading AWS
//! back with the observer, which shares no code with Firebreak.

mod always;
pub mod checks;
mod controls;
pub mod facts;
mod identities;
pub mod page;
mod portrait;
mod scenarios;
pub mod timeline;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use firebreak::ledger::decisions::Verb;
use serde::Serialize;
use serde_json::{Value, json};

use crate::compare::entries;
use crate::emulator::Emulator;
use crate::lab::{Binary, Function, Invoked, Lab};
use facts::{Fact, Names, Topic};
use portrait::Moment;
pub use scenarios::Scenario;
use timeline::Timeline;

/// The playbook that cuts.
pub const ISOLATE: &str = "isolate-instance";
/// The playbook that keeps the disks.
pub const SNAPSHOT: &str = "snapshot-volumes";

/// A step of a plan, as Firebreak's own evidence tells it.
#[derive(Debug, Clone, Serialize)]
pub struct StepShown {
    /// The stage it belongs to.
    pub stage: String,
    /// The playbook.
    pub playbook: String,
    /// The action's name.
    pub action: String,
    /// What is changed, in names.
    pub what: String,
    /// As it was.
    pub from: String,
    /// As it was to be.
    pub to: String,
    /// What the journal says became of it.
    pub result: String,
    /// Milliseconds from the finding's arrival to the step's end.
    pub after_ms: Option<u64>,
    /// What undo cannot give back.
    pub caveat: Option<String>,
}

/// What was measured.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Numbers {
    /// The Cargo profile of the function.
    pub profile: String,
    /// From the start of the process to its first request for an event, in milliseconds.
    pub ready_ms: f64,
    /// The most memory that the process has held, in megabytes.
    pub peak_mb: Option<f64>,
    /// From the event to the last cut, in milliseconds.
    pub cut_ms: Option<f64>,
    /// From the event to the function's answer, in milliseconds.
    pub answered_ms: f64,
    /// The calls up to the last cut.
    pub calls_to_cut: usize,
    /// The calls in all.
    pub calls: usize,
    /// The rounds up to the last cut: calls side by side count once.
    pub rounds: usize,
    /// How long each round takes at least, in milliseconds: the emulator's pace.
    pub pace_ms: u64,
}

/// What came of a drill.
#[derive(Debug, Clone, Serialize)]
pub struct Drill {
    /// The scenario's name.
    pub scenario: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// The finding's type.
    pub finding: String,
    /// The event that brought it.
    #[serde(skip)]
    pub event: Value,
    /// The security account.
    pub hub: String,
    /// The account of the victim.
    pub member: String,
    /// The victim.
    pub victim: String,
    /// The runs, newest last: id and playbook.
    pub runs: Vec<(String, String)>,
    /// What has to be so.
    pub facts: Vec<Fact>,
    /// The victim before, contained, and after the undo.
    pub moments: Vec<Moment>,
    /// The steps.
    pub steps: Vec<StepShown>,
    /// What is not contained, by Firebreak's own report.
    pub remains: Vec<String>,
    /// What differs after the undo, by the actions' own declaration.
    pub declared: Vec<String>,
    /// The messages that people got.
    pub messages: Vec<String>,
    /// The calls.
    pub timeline: Timeline,
    /// What was measured.
    pub numbers: Numbers,
}

impl Drill {
    /// What the victim is, by its id.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.victim.get(..4) {
            Some("AIDA") => "user",
            Some("AROA") => "role",
            Some(id) if id.starts_with("sg-") => "security group",
            _ if !self.victim.starts_with("i-") => "bucket",
            _ => "instance",
        }
    }

    /// What the time is taken of. A leaked key is inactive before everything else is denied to its user.
    #[must_use]
    pub fn cut(&self) -> &'static str {
        if self.kind() == "user" { "the last key inactive" } else { "the last cut" }
    }
    /// How many facts are as they should be.
    #[must_use]
    pub fn good(&self) -> usize {
        self.facts.iter().filter(|fact| fact.ok).count()
    }

    /// The facts that are not as they should be.
    #[must_use]
    pub fn wrong(&self) -> Vec<&Fact> {
        self.facts.iter().filter(|fact| !fact.ok).collect()
    }
}

/// How a drill is played.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// The pace of the calls that are counted (see [`crate::emulator::Observer::pace`]).
    pub pace: Duration,
    /// Whether to decide and undo, or to stop where that is left to whoever keeps the drill.
    pub undo: bool,
}

impl Default for Style {
    fn default() -> Self {
        // Long enough that on a busy machine one round does not fall apart into two.
        Self { pace: Duration::from_millis(100), undo: true }
    }
}

/// A drill under way.
pub struct Stage<'e> {
    /// The accounts.
    pub lab: Lab<'e>,
    /// The function's process.
    pub function: Function,
    /// The result so far.
    pub drill: Drill,
    /// Ids by names.
    pub names: Names,
    style: Style,
    tell: &'e (dyn Fn(&str) + Sync),
}

impl std::fmt::Debug for Stage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("scenario", &self.drill.scenario).finish_non_exhaustive()
    }
}

/// A containment, seen from outside.
#[derive(Debug)]
pub struct Contained {
    /// The member account before.
    pub before: Value,
    /// The member account afterwards.
    pub after: Value,
    /// The finding.
    pub finding: Value,
    /// What the function answered.
    pub invoked: Invoked,
}

/// Plays a scenario in accounts of its own; `tell` hears what is being done.
pub async fn play<'e>(
    scenario: Scenario,
    emulator: &'e Emulator,
    binary: &Binary,
    style: Style,
    tell: &'e (dyn Fn(&str) + Sync),
) -> Result<Stage<'e>> {
    let setup = scenario.setup();
    tell("making two accounts: Firebreak's and the victim's");
    let lab = Lab::new(emulator, binary, &setup).await.context("the accounts could not be made")?;
    let mut stage = Stage::open(scenario, lab, style, tell).await?;
    scenario.play(&mut stage).await.with_context(|| format!("the scenario {} broke off", scenario.name()))?;
    tell("done");
    stage.drill.facts.sort_by_key(|fact| fact.topic);
    Ok(stage)
}

impl<'e> Stage<'e> {
    async fn open(scenario: Scenario, lab: Lab<'e>, style: Style, tell: &'e (dyn Fn(&str) + Sync)) -> Result<Self> {
        let mut names = Names::default();
        for (name, id) in lab.ids.iter() {
            names.name(id, name);
            // Firebreak shows a target group by the last part of its ARN.
            if let Some((_, short)) = id.split_once(":targetgroup/") {
                names.name(&format!("targetgroup/{short}"), name);
            }
        }
        tell("starting the function");
        let function = lab.start().await?;
        let drill = Drill {
            scenario: scenario.name(),
            about: scenario.about(),
            finding: String::new(),
            event: Value::Null,
            hub: lab.hub.clone(),
            member: lab.member.clone(),
            victim: lab.ids.get("victim")?.to_owned(),
            runs: Vec::new(),
            facts: Vec::new(),
            moments: Vec::new(),
            steps: Vec::new(),
            remains: Vec::new(),
            declared: Vec::new(),
            messages: Vec::new(),
            timeline: Timeline::default(),
            numbers: Numbers {
                profile: lab.profile().to_owned(),
                ready_ms: function.ready_after.as_secs_f64() * 1000.0,
                ..Numbers::default()
            },
        };
        Ok(Self { lab, function, drill, names, style, tell })
    }

    /// Says what is being done.
    pub fn say(&self, what: &str) {
        (self.tell)(what);
    }

    /// Notes a fact: `found` has to be `expected`.
    pub fn same(&mut self, topic: Topic, what: &str, expected: &Value, found: &Value) {
        let fact = Fact {
            topic,
            what: what.to_owned(),
            ok: expected == found,
            expected: self.names.show(expected),
            found: self.names.show(found),
        };
        self.drill.facts.push(fact);
    }

    /// Notes a fact that holds or not; `found` says how it is.
    pub fn holds(&mut self, topic: Topic, what: &str, ok: bool, found: impl Into<String>) {
        let found = self.names.in_text(&found.into());
        self.drill.facts.push(Fact { topic, what: what.to_owned(), ok, expected: "so".to_owned(), found });
    }

    /// Notes how the victim stands now.
    pub fn moment(&mut self, title: &str, state: &Value) -> Result<()> {
        let moment = portrait::take(title, state, self.lab.ids.get("victim")?, &self.names);
        self.drill.moments.push(moment);
        Ok(())
    }

    /// Delivers a finding about the victim and measures what follows.
    pub async fn contain(&mut self, file: &str) -> Result<Contained> {
        let finding = self.lab.finding(file, "victim").await?;
        self.contain_by(finding).await
    }

    /// Delivers this finding about the victim and measures what follows.
    pub async fn contain_by(&mut self, finding: Value) -> Result<Contained> {
        let before = self.lab.state().await?;
        self.moment("before", &before)?;
        let control = finding["findings"][0]["Compliance"]["SecurityControlId"].as_str();
        self.drill.finding = finding["type"].as_str().or(control).unwrap_or_default().to_owned();
        self.say("a finding arrives");
        self.lab.put_in_guardduty(&finding).await?;
        let delivered = self.lab.route(&finding).await?;
        let event = delivered.first().cloned();
        self.same(Topic::Decided, "the rule lets the finding through, once", &json!(1), &json!(delivered.len()));
        let event = event.ok_or_else(|| anyhow!("no rule of the template let the finding through"))?;
        // Of what a queue hands over the event in it: that is what the command reads.
        let body = event["Records"][0]["body"].as_str().and_then(|body| serde_json::from_str(body).ok());
        self.drill.event = body.unwrap_or_else(|| event.clone());
        self.measured(|stage| Box::pin(stage.function.invoke(event))).await.map(|(invoked, after)| Contained {
            before,
            after,
            finding,
            invoked,
        })
    }

    /// Invokes the function at the drill's pace, and reads its calls and the state that it leaves.
    pub async fn measured(
        &mut self,
        invoke: impl for<'a> FnOnce(&'a mut Self) -> std::pin::Pin<Box<dyn Future<Output = Result<Invoked>> + 'a>>,
    ) -> Result<(Invoked, Value)> {
        let observer = self.lab.observer.clone();
        // The last call of the observer's before the function's first is the moment at which the event was taken
        // off the queue.
        let since = observer.calls(u64::MAX, &[]).await?.next;
        self.lab.at_hub("sqs", "list_queues", json!({})).await?;
        self.lab.pace(self.style.pace).await?;
        let invoked = invoke(self).await?;
        self.lab.pace(Duration::ZERO).await?;
        let calls = observer.calls(since, &[]).await?.calls;
        let zero = calls.iter().find(|call| call.operation == "ListQueues").map_or(0.0, |call| call.end);
        let after = self.lab.state().await?;
        self.learn_names(&after).await?;
        let mut signs: Vec<(&'static str, Vec<String>)> = Vec::new();
        for playbook in self.lab.function.playbooks.iter().map(|playbook| playbook.meta().id) {
            let runs = self.drill.runs.iter().filter(|(_, of)| of == playbook).map(|(run, _)| run.clone());
            signs.push((playbook, std::iter::once(playbook.to_owned()).chain(runs).collect()));
        }
        let ours: Vec<_> =
            calls.into_iter().filter(|call| call.account == self.lab.hub || call.account == self.lab.member).collect();
        let timeline = Timeline::of(&ours, zero, &signs);
        let numbers = &mut self.drill.numbers;
        numbers.cut_ms = timeline.cut_after_ms;
        numbers.answered_ms = invoked.took.as_secs_f64() * 1000.0;
        numbers.calls = timeline.calls.len();
        let cut = timeline.cut_after_ms.unwrap_or(0.0);
        numbers.calls_to_cut = timeline.calls.iter().filter(|call| call.start_ms <= cut).count();
        numbers.rounds = timeline.rounds.len();
        numbers.pace_ms = u64::try_from(self.style.pace.as_millis())?;
        numbers.peak_mb = self.function.peak_memory_kb().map(|kb| kb as f64 / 1024.0);
        self.drill.timeline = timeline;
        Ok((invoked, after))
    }

    /// Names what was made meanwhile, and notes the runs.
    pub async fn learn_names(&mut self, state: &Value) -> Result<()> {
        let known: BTreeSet<String> = self.lab.ids.iter().map(|(_, id)| id.to_owned()).collect();
        for (id, group) in entries(&state["security_groups"]) {
            let name = group["name"].as_str().unwrap_or_default();
            if !known.contains(id) && name.starts_with("firebreak-quarantine") {
                self.names.name(id, "quarantine");
            }
        }
        for (id, snapshot) in entries(&state["snapshots"]) {
            let volume = self.names.of(snapshot["volume"].as_str().unwrap_or_default()).to_owned();
            self.names.name(id, &format!("snapshot of {volume}"));
        }
        self.drill.runs = self
            .lab
            .runs()
            .await?
            .iter()
            .map(|row| (row.run().to_owned(), row.json("head")["playbook"].as_str().unwrap_or_default().to_owned()))
            .collect();
        self.drill.runs.sort();
        Ok(())
    }

    /// The newest run of a playbook.
    pub fn run_of(&self, playbook: &str) -> Result<String> {
        let run = self.drill.runs.iter().rev().find(|(_, of)| of == playbook);
        run.map(|(run, _)| run.clone()).ok_or_else(|| anyhow!("there is no run of {playbook}"))
    }

    /// The steps of the runs, as the evidence and the journal tell them.
    pub async fn read_steps(&mut self) -> Result<()> {
        let mut rows = self.lab.runs().await?;
        rows.sort_by_key(|row| row.run().to_owned());
        self.drill.steps.clear();
        for row in rows {
            let head = row.json("head");
            let playbook = head["playbook"].as_str().unwrap_or_default().to_owned();
            for stage in head["plan"]["stages"].as_array().into_iter().flatten() {
                for step in stage["steps"].as_array().into_iter().flatten() {
                    let id = step["id"].as_str().unwrap_or_default();
                    let journal = row.0["steps"]["M"][id]["S"].as_str().unwrap_or("{}");
                    let journal: Value = serde_json::from_str(journal).unwrap_or_default();
                    let text = |value: &Value| self.names.in_text(value.as_str().unwrap_or_default()).replace('`', "");
                    self.drill.steps.push(StepShown {
                        stage: text(&stage["name"]),
                        playbook: playbook.clone(),
                        action: step["action"].as_str().unwrap_or_default().to_owned(),
                        what: text(&step["change"]["what"]),
                        from: text(&step["change"]["from"]),
                        to: text(&step["change"]["to"]),
                        result: journal["state"].as_str().unwrap_or("not tried").to_owned(),
                        after_ms: journal["after_ms"].as_u64(),
                        caveat: step["caveat"].as_str().map(str::to_owned),
                    });
                }
            }
            if playbook != SNAPSHOT {
                let end = row.json("end");
                let remains = end["remains"].as_array().into_iter().flatten().filter_map(Value::as_str);
                self.drill.remains = remains.map(|text| self.names.in_text(text)).collect();
            }
        }
        Ok(())
    }

    /// Decides about the newest run of a playbook.
    pub async fn decide(&mut self, playbook: &str, verb: Verb) -> Result<Invoked> {
        let run = self.run_of(playbook)?;
        self.say(&format!("a person decides: {} {playbook}", verb.as_str()));
        self.lab.decide(&mut self.function, &run, verb).await
    }
}
