//! The same with the built function: its process is killed at a call, or its call is never answered until Lambda's time is
//! over. Lambda delivers again to a new process, and the schedule works.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use firebreak::ledger::decisions::Verb;
use serde_json::{Value, json};

use crate::between::Between;
use crate::compare::{differences, normal, shown};
use crate::deployment::CONTAIN_COMPUTE;
use crate::emulator::Emulator;
use crate::faults::Moment;
use crate::lab::{Binary, Function, Lab, Setup};
use crate::undo::AfterUndo;

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is killed before the call reaches AWS.
    KilledBefore,
    /// It is killed when AWS has carried the call out.
    KilledAfter,
    /// The call is never answered, and Lambda ends the process when its time is over.
    OutOfTime,
}

impl End {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::KilledBefore, Self::KilledAfter, Self::OutOfTime];

    fn moment(self) -> Moment {
        match self {
            Self::KilledAfter => Moment::After,
            Self::KilledBefore | Self::OutOfTime => Moment::Before,
        }
    }
}

/// How the runs of a lab ended, in terms that every lab shares.
#[derive(Debug, PartialEq)]
pub struct Ended {
    /// Playbook, state and outcome of each run.
    pub runs: Vec<[String; 3]>,
    /// The member account.
    pub state: Value,
}

/// A process that ran to its end, or was ended.
#[derive(Debug)]
pub struct Gone {
    /// How it ended.
    pub ended: Ended,
    /// The calls of the process that was watched.
    pub calls: Vec<String>,
    /// Whether it came to the call.
    pub struck: bool,
}

const WORLD: &str = "single-interface";
const FINDING: &str = "command-and-control";
const ENFORCE: &str = r#"@id("enforce") permit (principal, action in [Action::"enforce", Action::"propose"], resource);
@id("people-decide") permit (principal is Person, action, resource);"#;

/// Lambda's time for the function where a call is never answered.
const SHORT: Duration = Duration::from_secs(12);

/// With less the schedule takes nothing up.
const SHORT_FOR_THE_SCHEDULE: Duration = Duration::from_secs(26);

/// The schedule comes this often at most until nothing may be due any more.
const MINUTES: usize = 12;

/// A function in a lab, watched until its process is ended.
struct Watched<'l> {
    lab: &'l Lab<'l>,
    binary: &'l Binary,
    between: Between,
    function: Function,
    end: Option<End>,
    struck: bool,
    calls: Vec<String>,
}

/// Contains an instance with the built function, whose process ends at the call of a number, or at none; then undoes
/// everything.
///
/// # Errors
/// What will not do: not as it was before, after the undo; or nothing came of it.
pub async fn contain(emulator: &Emulator, binary: &Binary, at: Option<(End, usize)>) -> Result<Gone> {
    let setup = Setup { world: WORLD, policy: None, ..Setup::default() };
    let lab = Lab::new(emulator, binary, &setup).await?;
    lab.publish(ENFORCE).await?;
    let before = lab.state().await?;
    let between = Between::open(emulator).await?;
    let settings = [("AWS_ENDPOINT_URL", between.url.as_str())];
    let function = lab.start_with(&CONTAIN_COMPUTE, binary, &settings, None).await?;
    let detail = lab.finding(FINDING, "victim").await?;
    lab.put_in_guardduty(&detail).await?;
    let event = lab.route(&detail).await?.pop().context("no rule let the event through")?;
    between.begin(at.map(|(end, number)| (end.moment(), number)));
    let end = at.map(|(end, _)| end);
    let mut watched = Watched { lab: &lab, binary, between, function, end, struck: false, calls: Vec::new() };
    if !watched.hand(event.clone(), SHORT).await? {
        ensure!(watched.hand(event, SHORT).await?, "the second delivery was not answered");
    }
    watched.settle().await?;
    if !watched.struck {
        watched.calls = watched.between.calls();
    }
    let (mut function, struck, calls) = (watched.function, watched.struck, watched.calls);
    let ended = ended(&lab).await?;
    undo(&lab, &mut function, &before).await?;
    Ok(Gone { ended, calls, struck })
}

impl Watched<'_> {
    /// Hands an event over. Not answered: the process was ended, and there is a new one, which nobody watches.
    async fn hand(&mut self, event: Value, short: Duration) -> Result<bool> {
        let waits = self.end.is_some() && !self.struck;
        if waits && self.end == Some(End::OutOfTime) {
            self.function.times_out_after(short);
        }
        let kills = waits && self.end != Some(End::OutOfTime);
        let invoked = tokio::select! {
            invoked = self.function.invoke(event) => Some(invoked?),
            () = self.between.held(), if kills => None,
        };
        let held = invoked.is_none() || (waits && self.between.was_held());
        if held {
            self.struck = true;
            self.calls = self.between.calls();
            self.function.kill();
            self.function = self.lab.start_with(&CONTAIN_COMPUTE, self.binary, &[], None).await?;
        }
        match invoked.map(|invoked| invoked.answer) {
            Some(Ok(_)) => Ok(true),
            Some(Err(why)) if !held => bail!("nothing ended the process, and the function failed: {why}"),
            Some(Err(_)) | None => Ok(false),
        }
    }

    async fn settle(&mut self) -> Result<()> {
        for _ in 0..MINUTES {
            let rows = self.lab.rows().await?;
            if !rows.iter().any(|row| row.text("pk").starts_with("DUE#")) {
                return Ok(());
            }
            self.lab.let_time_pass().await?;
            self.hand(self.lab.schedule_event(), SHORT_FOR_THE_SCHEDULE).await?;
        }
        bail!("after {MINUTES} minutes something is still due")
    }
}

async fn ended(lab: &Lab<'_>) -> Result<Ended> {
    let rows = lab.runs().await?;
    let mut state = lab.state().await?.to_string();
    for row in &rows {
        state = state.replace(row.run(), "<run>");
    }
    let state = normal(&serde_json::from_str(&state)?, &lab.ids, &lab.member, None);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let run = |row: &crate::lab::Row| {
        [text(&row.json("head")["playbook"]), row.text("state").to_owned(), text(&row.json("end")["outcome"])]
    };
    let mut runs: Vec<[String; 3]> = rows.iter().map(run).collect();
    runs.sort();
    let told: BTreeSet<String> = lab.messages().await?.into_iter().map(|(_, text)| text).collect();
    for row in &rows {
        ensure!(told.iter().any(|text| text.contains(row.run())), "nobody was told of {}: {told:?}", row.run());
    }
    Ok(Ended { runs, state })
}

/// Undoes every run; then all is as before, but for what the actions declare.
async fn undo(lab: &Lab<'_>, function: &mut Function, before: &Value) -> Result<()> {
    for row in lab.runs().await? {
        let invoked = lab.decide(function, row.run(), Verb::Undo).await?;
        let outcomes = invoked.answer.map_err(|why| anyhow!(why))?["outcomes"].clone();
        ensure!(outcomes[0]["outcome"] == json!("undone"), "{}: {outcomes}", row.run());
    }
    let after = lab.state().await?;
    let declared = AfterUndo::of(before, &after, lab.ids.get("victim")?, []);
    let mut left = differences(before, &after);
    left.retain(|difference| declared.declared_by(difference).is_none());
    ensure!(left.is_empty(), "after the undo these differ and no action says so:\n{}", shown(&left));
    Ok(())
}
