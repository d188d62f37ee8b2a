//! Plays a history, and holds ledger, messages and AWS against each other after each step. What it knows by itself is
//! small: the state at the start, what others have changed since, and whether people had reason to be told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use firebreak::ids::RunId;
use firebreak::ledger::Which;
use firebreak::ledger::decisions::Verb;
use firebreak::playbook::{Playbook, Purpose};
use firebreak::run::{Outcome, Run, RunHead, RunState, UndoResult};
use firebreak_tests::compare::{Difference, differences, shown};
use firebreak_tests::emulator::world;
use firebreak_tests::events;
use firebreak_tests::facts::{alter, has_parts, holds, reopen, vanish};
use firebreak_tests::faults::Fault;
use firebreak_tests::in_process::{Case, Delivered, REGION, Security, Settings, Traced};
use firebreak_tests::undo::AfterUndo;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::history::{Counts, History, Step, What};
use crate::support::{done, results};

/// Plays a history in an account of its own.
pub async fn play(security: &Arc<Security>, playbook: &'static Traced, history: &History) -> Result<()> {
    let case = Case::of(security, playbook, &world(&history.world)?, Settings::default()).await?;
    let mut player = Player::new(case, history.asks).await?;
    let played = player.play_all(&history.steps).await;
    // The next history has the same security account.
    player.switch(false).await?;
    played
}

struct Player {
    case: Case,
    asks: bool,
    /// The account at the start.
    start: Value,
    began: Timestamp,
    /// The events of findings that came, and how each was seen last.
    events: Vec<Value>,
    /// How far the clock of what is seen has gone on.
    seen: Timestamp,
    /// Where others have changed something.
    theirs: BTreeSet<Vec<String>>,
    /// What others have made: Firebreak never takes it away.
    made: BTreeSet<Vec<String>>,
    /// Since others opened what is held: how many messages there were by then.
    opened: Option<usize>,
    altered: bool,
    vanished: bool,
    stopped: bool,
    /// A process has died or a call was refused: what was told may be told again.
    tripped: bool,
    /// Decisions that may have spent budget again.
    retries: u64,
    /// The head of each run and where it stood.
    runs: BTreeMap<RunId, (RunHead, RunState)>,
}

impl Player {
    async fn new(case: Case, asks: bool) -> Result<Self> {
        let (start, now) = (case.state().await?, Timestamp::now());
        let events = vec![case.event.clone()];
        Ok(Self {
            case,
            asks,
            start,
            began: now - SignedDuration::from_secs(5),
            events,
            seen: now,
            theirs: BTreeSet::new(),
            made: BTreeSet::new(),
            opened: None,
            altered: false,
            vanished: false,
            stopped: false,
            tripped: false,
            retries: 0,
            runs: BTreeMap::new(),
        })
    }

    async fn play_all(&mut self, steps: &[Step]) -> Result<()> {
        for (n, step) in steps.iter().enumerate() {
            self.play_one(step).await.with_context(|| format!("step {}, {step:?}", n + 1))?;
        }
        self.end().await.context("at the end, when nothing is in the way any more")
    }

    async fn play_one(&mut self, step: &Step) -> Result<()> {
        let news = matches!(step.what, What::FoundOther | What::FoundLater(_));
        let clear = self.happens(step).await?;
        self.agree().await?;
        if news && clear {
            self.people_know().await?;
        }
        Ok(())
    }

    /// Lets it happen. Whether nothing was in the way.
    async fn happens(&mut self, step: &Step) -> Result<bool> {
        match step.what {
            What::Found => self.deliver(&self.events[0].clone(), step.trip).await,
            What::FoundAgain(which) => {
                let event = self.events[which.index(self.events.len())].clone();
                self.deliver(&event, step.trip).await
            }
            What::FoundOther => {
                let mut event = self.case.report(&self.case.target.id).await?;
                self.see(&mut event).await?;
                self.events.push(event.clone());
                self.deliver(&event, step.trip).await
            }
            What::FoundLater(which) => {
                let which = which.index(self.events.len());
                let mut event = self.events[which].clone();
                self.see(&mut event).await?;
                self.events[which] = event.clone();
                self.deliver(&event, step.trip).await
            }
            What::Decided(verb, counts) => self.decide(verb, counts, step.trip).await,
            What::Minute => self.minute(step.trip).await,
            What::Reopened => self.reopen().await,
            What::Altered => self.alter().await,
            What::Vanished => self.vanish().await,
            What::Stopped | What::Resumed => self.switch(matches!(step.what, What::Stopped)).await,
        }
    }

    /// A finding is seen again: the service that made it has it so. A second later each time, so that each is news.
    async fn see(&mut self, event: &mut Value) -> Result<()> {
        self.seen = (self.seen + SignedDuration::from_secs(1)).max(Timestamp::now());
        events::seen(event, self.seen);
        let security = &self.case.security;
        security.observer.put_finding(&security.account, REGION, &event["detail"]).await.map(|_| ())
    }

    /// Delivers an event until it is answered, as Lambda does. Whether nothing was in the way.
    async fn deliver(&mut self, event: &Value, trip: Option<(usize, Fault)>) -> Result<bool> {
        let Some((call, fault)) = trip else {
            return match self.case.deliver_event(event).await {
                Delivered::Answered(_) => Ok(true),
                Delivered::Failed(failure) => bail!("the function failed: {}", failure.brief()),
                Delivered::Died => bail!("the process died"),
            };
        };
        let count = AtomicUsize::new(0);
        let hit = self.case.faults.once(fault, move |_| count.fetch_add(1, Ordering::SeqCst) == call);
        let delivered = self.case.deliver_event(event).await;
        self.case.faults.mend();
        let hit = hit.load(Ordering::SeqCst);
        self.tripped |= hit;
        match delivered {
            Delivered::Answered(_) => return Ok(!hit),
            Delivered::Failed(failure) if !hit => bail!("the function failed: {}", failure.brief()),
            Delivered::Failed(_) => {}
            Delivered::Died => self.case.restart()?,
        }
        self.case.deliver_event(event).await.answer().context("delivered again")?;
        Ok(false)
    }

    async fn minute(&mut self, trip: Option<(usize, Fault)>) -> Result<bool> {
        self.case.let_time_pass().await?;
        let event = serde_json::json!({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}});
        self.deliver(&event, trip).await
    }

    async fn decide(&mut self, verb: Verb, counts: Counts, trip: Option<(usize, Fault)>) -> Result<bool> {
        if self.case.run().await?.is_none() {
            return Ok(true);
        }
        let event = self
            .case
            .decision_with(verb, |decision| match counts {
                Counts::Yes | Counts::Once => {}
                Counts::Lapsed => decision.expires_at = Timestamp::now(),
                Counts::OfAnother => decision.plan_hash = "another".to_owned(),
            })
            .await?;
        let before = self.case.state().await?;
        match counts {
            Counts::Yes => {
                self.retries += u64::from(verb == Verb::Retry);
                self.deliver(&event, trip).await
            }
            Counts::Once => {
                self.retries += u64::from(verb == Verb::Retry);
                let clear = self.deliver(&event, trip).await?;
                let once = self.case.state().await?;
                self.deliver(&event, None).await?;
                let differs = differences(&once, &self.case.state().await?);
                ensure!(differs.is_empty() || !clear, "a second delivery changed something:\n{}", shown(&differs));
                Ok(clear)
            }
            Counts::Lapsed | Counts::OfAnother => {
                let clear = self.deliver(&event, trip).await?;
                let differs = differences(&before, &self.case.state().await?);
                ensure!(differs.is_empty(), "a decision that does not count changed something:\n{}", shown(&differs));
                Ok(clear)
            }
        }
    }

    /// Whether the target is held, and as the playbook wants it.
    async fn is_held_and_so(&self) -> Result<bool> {
        let held = self.case.run().await?.is_some_and(|run| run.state == RunState::Held);
        Ok(held && !self.vanished && holds(&self.case, &self.case.state().await?).is_ok())
    }

    async fn reopen(&mut self) -> Result<bool> {
        if self.case.playbook.meta().purpose == Purpose::Preserve || !self.is_held_and_so().await? {
            return Ok(true);
        }
        let before = self.case.state().await?;
        reopen(&self.case).await?;
        self.others_changed(&before).await
    }

    async fn alter(&mut self) -> Result<bool> {
        if self.altered || self.vanished || !has_parts(self.case.playbook) || !self.is_held_and_so().await? {
            return Ok(true);
        }
        self.altered = true;
        let before = self.case.state().await?;
        alter(&self.case).await?;
        self.others_changed(&before).await
    }

    async fn vanish(&mut self) -> Result<bool> {
        let before = self.case.state().await?;
        if self.vanished || !vanish(&self.case).await? {
            return Ok(true);
        }
        self.vanished = true;
        self.others_changed(&before).await
    }

    async fn others_changed(&mut self, before: &Value) -> Result<bool> {
        let told = self.told().await?.len();
        self.opened = Some(told);
        for d in differences(before, &self.case.state().await?) {
            if d.before.is_none() {
                self.made.insert(d.path.clone());
            }
            self.theirs.insert(d.path);
        }
        Ok(true)
    }

    async fn switch(&mut self, stop: bool) -> Result<bool> {
        if self.stopped != stop {
            self.case.security.ledger()?.set_stopped(stop, "tester", "a history", Timestamp::now()).await?;
            self.stopped = stop;
        }
        Ok(true)
    }

    /// What people were told of the target.
    async fn told(&self) -> Result<Vec<String>> {
        self.case.security.told_about(&self.case.member).await
    }

    /// Every run of the target, the newest first.
    async fn all_runs(&self) -> Result<Vec<Run>> {
        let ledger = self.case.security.ledger()?;
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let (runs, next) = ledger.runs(50, after.as_ref(), Which::default()).await?;
            let over = runs.iter().any(|run| run.head.arrived_at < self.began);
            found.extend(runs.into_iter().filter(|run| run.head.target == self.case.target));
            after = next;
            if over || after.is_none() {
                return Ok(found);
            }
        }
    }

    /// Ledger and AWS agree.
    async fn agree(&mut self) -> Result<()> {
        let (runs, state) = (self.all_runs().await?, self.case.state().await?);
        self.runs_moved_as_they_may(&runs)?;
        let hold = self.case.run().await?;
        let preserves = self.case.playbook.meta().purpose == Purpose::Preserve;
        let open = |run: &&Run| match run.state {
            RunState::Proposed | RunState::Applying | RunState::Undoing => true,
            // Evidence beside evidence: each run keeps what it has.
            RunState::Held => !preserves,
            _ => false,
        };
        let open: Vec<&RunId> = runs.iter().filter(open).map(|run| &run.head.id).collect();
        ensure!(open.len() <= 1, "{} runs of one target are open: {open:?}", open.len());
        if let [open] = open.as_slice() {
            let holder = hold.as_ref().map(|run| &run.head.id);
            ensure!(holder == Some(*open), "run {open} is open, and the hold is of {holder:?}");
        }
        self.budget_was_spent_once(&runs).await?;
        self.nothing_is_told_twice().await?;
        let standing = runs.iter().any(|run| run.state.holds());
        if !standing {
            self.nothing_stands(&runs, &state)?;
        }
        for path in &self.made {
            let there = path.iter().try_fold(&state, |at, name| at.get(name));
            ensure!(there.is_some() || self.vanished, "what somebody else made is gone: {}", path.join("/"));
        }
        if let Some(run) = hold
            && run.state == RunState::Held
            && run.undone.is_empty()
            // Of activity that goes on there is evidence beside evidence.
            && !(preserves && runs.len() > 1)
            && run.end.as_ref().is_some_and(|end| end.outcome == done(self.case.playbook))
            && !self.vanished
        {
            match holds(&self.case, &state) {
                Ok(()) => self.opened = None,
                Err(why) => ensure!(self.opened.is_some(), "the ledger says that it is so, and: {why:#}"),
            }
        }
        Ok(())
    }

    fn runs_moved_as_they_may(&mut self, runs: &[Run]) -> Result<()> {
        for run in runs {
            let id = &run.head.id;
            if let Some((head, was)) = self.runs.get(id) {
                ensure!(reaches(*was, run.state), "run {id} was {was:?} and is {:?}", run.state);
                // The state before the first change is the one that undo gives back.
                ensure!(*head == run.head, "what was fixed when run {id} began has changed");
            }
            self.runs.insert(id.clone(), (run.head.clone(), run.state));
        }
        let now: BTreeSet<&RunId> = runs.iter().map(|run| &run.head.id).collect();
        let lost = self.runs.keys().find(|id| !now.contains(id));
        ensure!(lost.is_none(), "run {lost:?} is in the ledger no more");
        Ok(())
    }

    /// A run spends budget when it begins, and once more for each time that a person has it done again.
    async fn budget_was_spent_once(&self, runs: &[Run]) -> Result<()> {
        let waits = |run: &Run| match run.state {
            RunState::Observed | RunState::Proposed | RunState::Superseded => true,
            RunState::Rejected => run.held_at.is_none(),
            _ => false,
        };
        let begun = u64::try_from(runs.iter().filter(|run| !waits(run)).count())?;
        let (playbook, account) = (self.case.playbook.meta().id, &self.case.target.account);
        let (spent, _) = self.case.security.ledger()?.spent(playbook, account, Timestamp::now()).await?;
        let most = begun + self.retries;
        ensure!(spent <= most, "{spent} runs were paid for; {begun} have begun, {} were done again", self.retries);
        Ok(())
    }

    /// While nothing fails, no message of a run comes twice in the same words, but what a new cause has.
    async fn nothing_is_told_twice(&self) -> Result<()> {
        if self.tripped || !self.theirs.is_empty() {
            return Ok(());
        }
        let told = self.told().await?;
        // What began no run is told once a finding, in words that do not name it.
        let answers = |text: &&String| {
            let of_a_run = self.runs.keys().any(|run| text.contains(run.as_str()));
            // That evidence is kept is told when the run ends, and once more when the snapshots are complete; of each
            // other finding about a proposal people are told, in words that do not name it.
            let again = ["DECISION NOT CARRIED OUT", "EVIDENCE KEPT", "DECISION STILL NEEDED"];
            of_a_run && !again.iter().any(|begins| text.starts_with(begins))
        };
        let mut seen = BTreeSet::new();
        let twice = told.iter().filter(answers).find(|text| !seen.insert(text.as_str()));
        ensure!(twice.is_none() || self.retries > 0, "told twice: {twice:?}");
        Ok(())
    }

    /// No run has changes standing: the account is as it was at the start, but for what others changed, and what an undo
    /// declares that it leaves.
    fn nothing_stands(&self, runs: &[Run], state: &Value) -> Result<()> {
        if self.vanished {
            return Ok(());
        }
        let acted = || runs.iter().filter(|run| matches!(run.state, RunState::Freed | RunState::Released));
        let actions: BTreeSet<&str> = acted().flat_map(Run::all_steps).map(|step| step.action.as_str()).collect();
        let is_left = |run: &Run, id| {
            matches!(run.undo_result(id), Some(UndoResult::Left { declared: false, .. } | UndoResult::Conflict { .. }))
        };
        let left: Vec<&str> = acted()
            .flat_map(|run| run.all_steps().filter(move |step| is_left(run, &step.id)).map(|step| step.action.as_str()))
            .collect();
        let undo = AfterUndo::of(&self.start, state, &self.case.target.id, left);
        let mut differs = differences(&self.start, state);
        differs.retain(|d| !self.is_theirs(d) && !undo.declared_by(d).is_some_and(|action| actions.contains(action)));
        ensure!(differs.is_empty(), "no run stands, and these differ from the start:\n{}", shown(&differs));
        Ok(())
    }

    fn is_theirs(&self, d: &Difference) -> bool {
        self.theirs.iter().any(|path| path.starts_with(&d.path) || d.path.starts_with(path))
    }

    /// After news of a target that somebody opened: it is so again, or people were told since, or it is done again within the
    /// minute. That it is open again people are told once an hour.
    async fn people_know(&mut self) -> Result<()> {
        let Some(by_then) = self.opened else {
            return Ok(());
        };
        let fits = self.case.playbook.meta().purpose != Purpose::Preserve && !self.vanished && !self.stopped;
        if !fits {
            return Ok(());
        }
        let run = self.case.run().await?.context("there is no run")?;
        let claims = run.end.as_ref().is_some_and(|end| end.outcome == done(self.case.playbook));
        if run.state != RunState::Held || !claims || self.is_held_and_so().await? {
            return Ok(());
        }
        let told = self.told().await?;
        let done_again = self.case.due().await?.iter().any(|due| due.contains("#retry#"));
        let known = told.len() > by_then || done_again;
        ensure!(known, "it was opened, another finding came, and nobody was told: {told:#?}");
        Ok(())
    }

    /// Nothing is in the way any more: everything comes to its end, what goes on is noticed, and an undo gives back what
    /// was there.
    async fn end(&mut self) -> Result<()> {
        self.switch(false).await?;
        self.case.restart()?;
        self.case.settle().await?;
        self.agree().await?;
        let mut event = self.case.report(&self.case.target.id).await?;
        self.see(&mut event).await?;
        self.deliver(&event, None).await?;
        self.agree().await?;
        self.people_know().await?;
        self.case.settle().await?;
        self.agree().await?;
        ensure!(self.case.due().await?.is_empty(), "still due: {:?}", self.case.due().await?);
        let Some(run) = self.case.run().await? else {
            return Ok(());
        };
        let moving = matches!(run.state, RunState::Applying | RunState::Undoing);
        ensure!(!moving, "run {} is {:?} for ever", run.head.id, run.state);
        if !self.asks && self.opened.is_some() && !self.vanished {
            self.is_so_or_told(&run).await?;
        }
        if run.state == RunState::Proposed {
            self.deliver_decision(Verb::Approve).await?;
        }
        let Some(run) = self.case.run().await?.filter(|run| run.state == RunState::Held) else {
            return Ok(());
        };
        self.deliver_decision(Verb::Undo).await?;
        self.case.settle().await?;
        let run = self.case.security.ledger()?.run(&run.head.id).await?.context("the run is gone")?;
        ensure!(run.state == RunState::Released, "its undo ended {:?}: {}\n{:?}", run.state, results(&run), run.undone);
        self.agree().await
    }

    async fn deliver_decision(&mut self, verb: Verb) -> Result<()> {
        let event = self.case.decision(verb).await?;
        self.deliver(&event, None).await?;
        self.agree().await.with_context(|| format!("after {}", verb.as_str()))
    }

    /// What is done by itself is done again, or people know.
    async fn is_so_or_told(&self, run: &Run) -> Result<()> {
        let contains = self.case.playbook.meta().purpose != Purpose::Preserve;
        let claims = run.end.as_ref().is_some_and(|end| matches!(end.outcome, Outcome::Contained | Outcome::Fixed));
        if !contains || run.state != RunState::Held || !claims || self.is_held_and_so().await? {
            return Ok(());
        }
        let (by_then, told) = (self.opened.unwrap_or_default(), self.told().await?);
        ensure!(told.len() > by_then, "it stands open, the ledger says otherwise, and nobody was told");
        Ok(())
    }
}

/// Whether a run may come from one state to the other, by way of any.
fn reaches(from: RunState, to: RunState) -> bool {
    let mut reached = vec![from];
    let mut next = 0;
    while let Some(state) = reached.get(next).copied() {
        next += 1;
        for other in RunState::ALL {
            if state.may_become(other) && !reached.contains(&other) {
                reached.push(other);
            }
        }
    }
    reached.contains(&to)
}
