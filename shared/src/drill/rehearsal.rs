//! What the function `drill` does: begins drills, and each minute looks how those that go on stand, asks for their undo at
//! people's door, and scores them. It waits for nothing: the schedule comes again.

use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{DRILL_EVENT, DRILL_SOURCE, Drill, Drills, Playbook, Score, Standing, rehearsed};
use crate::door::client::Client;
use crate::door::wire::{self, Answer};
use crate::failure::{Class, Failure};
use crate::hub::Hub;
use crate::message::Message;
use crate::run::Run;
use crate::target::Target;
use crate::telemetry;
use crate::text::plain;

/// A drill that is not over after this long has failed.
const PATIENCE: SignedDuration = SignedDuration::from_mins(30);

/// What the function is asked for, by a person or by a schedule of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Asked {
    /// Hold a drill.
    Drill {
        /// On which canary, in its canonical form; on each one where it is not said.
        #[serde(default)]
        canary: Option<String>,
    },
    /// Look whether what the functions need is in place.
    Preflight,
}

/// What became of what the function was asked for.
#[derive(Debug, Default, Serialize)]
pub struct Begun {
    /// The drills that were begun, with their canaries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub began: Vec<(String, String)>,
    /// The drills that are over now, with their scores.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scored: Vec<(String, String)>,
    /// What is not as it should be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// The function `drill`.
#[derive(Debug)]
pub struct Rehearsals {
    hub: Hub,
    drills: Drills,
    door: Client,
}

impl Rehearsals {
    /// Puts the parts together. `hub` is the security account as this function's role reaches it; it has no playbooks.
    pub fn new(hub: Hub, drills: Drills, door: Client) -> Self {
        Self { hub, drills, door }
    }

    /// Answers one event: the schedule of each minute, or what somebody asks for.
    ///
    /// # Errors
    /// When the event is neither, or the drills' table cannot be reached.
    pub async fn serve(&self, bytes: &[u8]) -> Result<Begun, Failure> {
        let now = Timestamp::now();
        if let Ok(crate::finding::Trigger::Schedule) = crate::finding::Trigger::parse(bytes) {
            return self.look(now).await;
        }
        match serde_json::from_slice(bytes) {
            Ok(Asked::Drill { canary }) => self.begin(canary.as_deref(), now).await,
            Ok(Asked::Preflight) => Ok(self.preflight().await),
            Err(error) => {
                let wanted = r#"ask by {"do":"drill"}, {"do":"drill","canary":"…"} or {"do":"preflight"}"#;
                Err(Failure::new(Class::Malformed, "read what is asked for", wanted).because(error))
            }
        }
    }

    async fn begin(&self, canary: Option<&str>, now: Timestamp) -> Result<Begun, Failure> {
        let all = &self.hub.config.canaries;
        let chosen: Vec<&Target> = match canary {
            None => all.iter().collect(),
            Some(wanted) => all.iter().filter(|one| one.to_string() == wanted).collect(),
        };
        if chosen.is_empty() {
            let which = canary.map_or_else(|| "any canary".to_owned(), |canary| plain(canary, 200));
            let why = "the parameter DrillCanaries of the stack names none such";
            return Err(Failure::new(Class::Refused, "hold a drill on", which).because(why));
        }
        let going_on = self.drills.going_on().await?;
        let mut begun = Begun::default();
        for canary in chosen {
            if let Some(other) = going_on.iter().find(|other| other.canary == *canary) {
                begun.problems.push(format!("{canary}: drill {} is still going on", other.id));
                continue;
            }
            let drill = Drill::new(canary.clone(), now);
            self.drills.begin(&drill).await?;
            match self.send(&drill).await {
                Ok(()) => begun.began.push((drill.id, canary.to_string())),
                Err(failure) => {
                    begun.problems.push(format!("{canary}: {}", failure.brief()));
                    self.over(&drill, Score::never_sent(&failure)).await?;
                }
            }
        }
        Ok(begun)
    }

    /// Sends a drill's id on its way. The event carries nothing else that counts.
    async fn send(&self, drill: &Drill) -> Result<(), Failure> {
        let entry = PutEventsRequestEntry::builder()
            .source(DRILL_SOURCE)
            .detail_type(DRILL_EVENT)
            .detail(json!({ "id": drill.id }).to_string())
            .build();
        let sent = self.hub.aws.events().put_events().entries(entry).send().await;
        let answer = sent.map_err(Failure::from_sdk("send drill", &drill.id))?;
        match answer.failed_entry_count() {
            0 => Ok(()),
            // HTTP 200 with failures inside.
            _ => {
                Err(Failure::new(Class::Transient, "send drill", drill.id.clone())
                    .because("EventBridge took it not in"))
            }
        }
    }

    async fn look(&self, now: Timestamp) -> Result<Begun, Failure> {
        let mut begun = Begun::default();
        for drill in self.drills.going_on().await? {
            match self.look_at(&drill, now).await {
                Ok(Some(score)) => {
                    begun.scored.push((drill.id.clone(), score.to_string()));
                    self.over(&drill, score).await?;
                }
                Ok(None) => {}
                // The next minute comes by itself, and the drill's time ends.
                Err(failure) => begun.problems.push(format!("drill {}: {}", drill.id, failure.brief())),
            }
        }
        Ok(begun)
    }

    /// Looks at one drill, and asks for what comes next of it; its score when it is over.
    async fn look_at(&self, drill: &Drill, now: Timestamp) -> Result<Option<Score>, Failure> {
        let time = now.duration_since(drill.began_at) < PATIENCE;
        let Some(rehearsed) = rehearsed(&drill.canary) else { return Ok(Some(Score::of_nothing())) };
        let standings = join_all(rehearsed.playbooks.iter().map(async |playbook| {
            let run = self.run_of(drill, playbook).await?;
            Ok::<_, Failure>((playbook, Standing::of(playbook, run.as_ref())))
        }))
        .await;
        let standings: Vec<(&'static Playbook, Standing)> = standings.into_iter().collect::<Result<_, _>>()?;
        if let Some(score) = Score::of(&standings, time) {
            return Ok(Some(score));
        }
        for (_, standing) in &standings {
            match standing {
                Standing::ToUndo(run) => self.ask(wire::Asked::Undo { run: run.clone() }).await?,
                Standing::ToReject(run) => self.ask(wire::Asked::Reject { run: run.clone() }).await?,
                Standing::Waits(_) | Standing::Well { .. } | Standing::Badly(_) => {}
            }
        }
        Ok(None)
    }

    /// The run that has the canary, if it is the drill's: one of another finding is no answer to this one.
    async fn run_of(&self, drill: &Drill, playbook: &Playbook) -> Result<Option<Run>, Failure> {
        let Some(hold) = self.hub.ledger.hold(playbook.hold, &drill.canary).await? else { return Ok(None) };
        let run = self.hub.ledger.run(&hold.run).await?;
        Ok(run.filter(|run| run.head.finding.id.as_str() == drill.id))
    }

    /// Says a word at people's door, with this function's own credentials.
    async fn ask(&self, asked: wire::Asked) -> Result<(), Failure> {
        let failed = || Failure::new(Class::Transient, "ask at people's door for", asked.as_str());
        match self.door.ask(&asked).await {
            Ok(Answer::Decided { .. }) => Ok(()),
            Ok(Answer::Refused { why, .. }) => Err(failed().because(why)),
            Ok(_) => Err(failed().because("it gave another answer than a decision")),
            Err(error) => Err(failed().because(error)),
        }
    }

    /// Writes down how a drill went, counts it and tells people. One that failed wakes them.
    async fn over(&self, drill: &Drill, score: Score) -> Result<(), Failure> {
        self.drills.end(drill, &score).await?;
        telemetry::drilled(drill, &score);
        let word = if score.passed { "PASSED" } else { "FAILED" };
        let subject = plain(&format!("Firebreak: DRILL {word} {}", drill.canary.id), 99).replace('…', "");
        let mut lines = vec![
            format!("DRILL {word}: {} in account {}", drill.canary.id, drill.canary.account),
            format!("Begun: {}", drill.began_at.strftime("%Y-%m-%d %H:%M UTC")),
        ];
        lines.extend(score.lines.iter().map(|(playbook, line)| format!("{playbook}: {}", plain(line, 140))));
        let advice =
            if score.passed { "nothing" } else { "find out why before the next incident: docs/runbooks/drill.md" };
        lines.push(format!("Do: {advice}"));
        let message = Message { subject, text: lines.join("\n"), outcome: None, page: !score.passed };
        let told = message.publish(&self.hub.aws, &self.hub.config.topic_arn, &drill.id).await;
        if let Err(failure) = told {
            telemetry::alarm("drill-untold", &failure.brief());
        }
        Ok(())
    }

    /// Looks at what every run needs of the security account, and counts what is not so.
    async fn preflight(&self) -> Begun {
        let problems = self.hub.problems().await;
        telemetry::preflight(&problems);
        Begun { problems, ..Begun::default() }
    }
}
