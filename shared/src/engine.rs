//! The engine: carries a run's plan out, checks it by reading back, and takes it back.
//!
//! Containment holds: a step that fails stops only the steps that name it in `needs`. Nothing is ever
//! unwound but by a decision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;

use crate::action::{Action, AnyAction, Applied, Boxed, Context, KnownGroup, Undone};
use crate::actions::ec2::close_interface::CloseInterface;
use crate::actions::ec2::create_snapshots;
use crate::actions::ec2::open_interface::OpenInterface;
use crate::aws::Aws;
use crate::failure::{Class, Failure};
use crate::finding::Finding;
use crate::ids::{AccountId, Region, RunId, SnapshotId, VolumeId};
use crate::ledger::Ledger;
use crate::plan::{BEFORE_THE_CUT, Leave, MOST_ADDED, MOST_BYTES, Plan, Stage, Step, StepId, Undo, json_len};
use crate::playbook::{PlanContext, Planned, Playbook, Purpose};
use crate::requests;
use crate::run::{Outcome, Run, RunEnd, StepRecord, StepResult, UndoRecord, UndoResult};
use crate::session::{self, Narrowed};

/// A stage is waited for this long; then the next one goes ahead beside what is still under way.
const PATIENCE: Duration = Duration::from_secs(6);

/// With less than this left of lease or function time no further step is begun.
const LAST_CALL: Duration = Duration::from_secs(3);

/// How often what appeared meanwhile is taken up.
const MOST_ROUNDS: usize = 3;

/// What the engine works with.
#[derive(Clone, Copy)]
pub struct Engine<'a> {
    /// The security account.
    pub hub: &'a Aws,
    /// The ledger.
    pub ledger: &'a Ledger,
    /// The run's playbook.
    pub playbook: &'static dyn Playbook,
    /// When the function must have answered.
    pub deadline: Instant,
    /// Days for which evidence snapshots are locked.
    pub snapshot_lock_days: i32,
    /// Whether a held run is looked at again, some time after.
    pub recheck: bool,
}

impl std::fmt::Debug for Engine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("playbook", &self.playbook.meta().id).finish_non_exhaustive()
    }
}

/// How far the engine came.
#[derive(Debug)]
pub enum Ended {
    /// To the end; the report's facts.
    Done(RunEnd),
    /// Time ran out or the lease was lost: the schedule goes on from the journal.
    Interrupted(Failure),
}

/// Sessions by step.
#[derive(Debug, Default)]
pub struct Sessions {
    by_step: BTreeMap<StepId, Arc<Aws>>,
    failed: BTreeMap<StepId, (Class, String)>,
}

impl Sessions {
    /// The session of a step, or why there is none.
    pub fn of(&self, step: &StepId) -> Result<&Aws, Failure> {
        match (self.by_step.get(step), self.failed.get(step)) {
            (Some(aws), _) => Ok(aws),
            (None, Some((class, why))) => {
                Err(Failure::new(*class, "get a session for", step.0.clone()).because(why.clone()))
            }
            (None, None) => Err(Failure::new(Class::Bug, "get a session for", step.0.clone())),
        }
    }
}

impl<'a> Engine<'a> {
    /// The action of a step.
    fn action(&self, step: &Step) -> Result<&'static dyn AnyAction, Failure> {
        self.playbook
            .actions()
            .iter()
            .copied()
            .find(|action| action.name() == step.action)
            .ok_or_else(|| Failure::new(Class::Bug, "find the action", step.action.clone()))
    }

    /// A session that can only read.
    pub async fn reading(&self, run: &RunId, account: &AccountId, region: Option<&Region>) -> Result<Aws, Failure> {
        let region = region.unwrap_or(&self.hub.region);
        let policy = session::read_policy(self.playbook.permissions());
        session::assume(self.hub, self.playbook.meta().id, account, region, run, &policy).await
    }

    /// The same where a finding is, before there is a run or a target.
    pub async fn reading_about(&self, finding: &Finding) -> Result<Aws, Failure> {
        self.reading(&RunId::default(), &finding.account, Some(&finding.region)).await
    }

    /// Sessions for steps, each narrowed to what its steps need. A step that does not name its group uses the one
    /// that this run has made, and no other of ours.
    pub async fn writing(
        &self,
        run: &RunId,
        account: &AccountId,
        region: Option<&Region>,
        steps: &[&Step],
        groups: &[KnownGroup],
    ) -> Sessions {
        let region = region.unwrap_or(&self.hub.region);
        let scope = self.hub.with_account(account.clone(), region.clone());
        let by_run = |known: &&KnownGroup| known.run.as_ref().is_none_or(|by| by == run);
        let groups: Vec<KnownGroup> = groups.iter().filter(by_run).cloned().collect();
        let mut sessions = Sessions::default();
        let mut grants = Vec::new();
        let mut reads = Vec::new();
        for step in steps {
            let action = match self.action(step) {
                Ok(action) => action,
                Err(failure) => {
                    sessions.failed.insert(step.id.clone(), (failure.class, failure.brief()));
                    continue;
                }
            };
            match action.grants_of(&scope, step, &groups) {
                Ok(granted) if granted.iter().any(|grant| grant.on.is_empty()) => {
                    let why = Failure::new(Class::Transient, "find the group for", step.id.0.clone());
                    sessions.failed.insert(step.id.clone(), (why.class, why.brief()));
                }
                Ok(granted) => {
                    grants.push((step.id.clone(), granted));
                    let names = action.permissions().iter().map(|p| p.action).filter(|a| session::is_read(a));
                    reads.push((step.id.clone(), names.collect()));
                }
                Err(failure) => {
                    sessions.failed.insert(step.id.clone(), (failure.class, failure.brief()));
                }
            }
        }
        let packed: Vec<Narrowed> = session::narrow(&grants, &reads);
        let assumed = join_all(packed.iter().map(|narrowed| {
            session::assume(self.hub, self.playbook.meta().id, account, region, run, &narrowed.policy)
        }))
        .await;
        for (narrowed, session) in packed.into_iter().zip(assumed) {
            match session {
                Ok(aws) => {
                    let aws = Arc::new(aws);
                    sessions.by_step.extend(narrowed.steps.into_iter().map(|id| (id, aws.clone())));
                }
                Err(failure) => {
                    let why = (failure.class, failure.brief());
                    sessions.failed.extend(narrowed.steps.into_iter().map(|id| (id, why.clone())));
                }
            }
        }
        sessions
    }

    /// The sessions that can be asked for before anything is applied: all of them, unless a stage makes
    /// a group, whose id the later ones must name.
    pub async fn early_sessions(&self, run: &RunId, plan: &Plan, groups: &[KnownGroup]) -> Sessions {
        let steps: Vec<&Step> = self.until_a_group_is_made(&plan.stages).collect();
        self.writing(run, &plan.target.account, plan.target.region.as_ref(), &steps, groups).await
    }

    fn time_left(&self, run: &Run) -> Duration {
        let lease = run.lease_until.duration_since(Timestamp::now());
        let lease = Duration::try_from(lease).unwrap_or_default();
        lease.min(self.deadline.saturating_duration_since(Instant::now()))
    }

    /// Applies what the journal does not show as applied, verifies, and takes up what appeared meanwhile.
    /// `fresh` says that the run was claimed just now, so that nothing can have been tried.
    pub async fn carry_out(
        &self,
        run: &mut Run,
        reading: &Aws,
        groups: Vec<KnownGroup>,
        sessions: Sessions,
        fresh: bool,
    ) -> Ended {
        let fixes = self.playbook.meta().purpose == Purpose::Fix;
        let known = groups.clone();
        match self.bring_about(run, reading, groups, sessions, fresh).await {
            Ended::Done(end) if fixes && end.outcome == Outcome::NotFixed && run.changed_anything() => {
                match run.held_at {
                    None => self.put_back(run, &known, end.not_done).await,
                    // What was whole once stays, whatever was to come to it.
                    Some(_) => Ended::Done(RunEnd { outcome: Outcome::Partial, ..end }),
                }
            }
            ended => ended,
        }
    }

    async fn bring_about(
        &self,
        run: &mut Run,
        reading: &Aws,
        mut groups: Vec<KnownGroup>,
        sessions: Sessions,
        fresh: bool,
    ) -> Ended {
        let stages = run.stages();
        let mut sessions = sessions;
        let earlier = create_snapshots::made_by(run);
        if let Err(failure) = self.apply(run, &stages, &mut groups, &mut sessions, fresh).await {
            return Ended::Interrupted(failure);
        }
        let mut rounds = 0;
        loop {
            let outstanding = match self.outstanding(run, reading, &groups, &earlier).await {
                Ok(outstanding) => outstanding,
                Err(failure) => return Ended::Done(self.end_unverified(run, &failure)),
            };
            let again = outstanding.worth_another_attempt(run);
            if again.is_empty() || rounds == MOST_ROUNDS || self.time_left(run) < LAST_CALL {
                return match self.settle(run, reading, &outstanding).await {
                    Ok(missed) => Ended::Done(self.end(run, outstanding, missed)),
                    Err(failure) => Ended::Interrupted(failure),
                };
            }
            rounds += 1;
            // What the journal holds is applied again from the first before-state; what is new, or is to be
            // done otherwise now, is journaled first.
            let added = to_add(run, &outstanding.plan, &again);
            if !added.is_empty() {
                if let Err(failure) = self.ledger.add_stages(run, &added).await {
                    return Ended::Interrupted(failure);
                }
                run.added.extend(added);
            }
            run.try_again(|id, _| again.contains(id));
            let stages = run.stages();
            let mut sessions = Sessions::default();
            if let Err(failure) = self.apply(run, &stages, &mut groups, &mut sessions, false).await {
                return Ended::Interrupted(failure);
            }
        }
    }

    /// Runs stages: steps side by side, results journaled beside the next stage. Neither a slow step nor a
    /// slow ledger holds the next stage up.
    async fn apply(
        &self,
        run: &mut Run,
        stages: &[Stage],
        groups: &mut Vec<KnownGroup>,
        sessions: &mut Sessions,
        fresh: bool,
    ) -> Result<(), Failure> {
        let begun = Instant::now();
        let last_cut = stages.iter().rposition(|stage| stage.steps.iter().any(|step| step.cuts));
        let mut progress = Progress::default();
        for (index, stage) in stages.iter().enumerate() {
            let todo: Vec<&Step> =
                stage.steps.iter().filter(|step| !run.result(&step.id).is_some_and(StepResult::is_final)).collect();
            if todo.is_empty() {
                continue;
            }
            if self.time_left(run) < LAST_CALL {
                self.ledger.journal(&run.head.id, run.epoch, &progress.not_known_written(run)).await?;
                let failure = Failure::new(Class::Transient, "go on with", run.head.id.as_str());
                return Err(failure.because("no time is left"));
            }
            self.more_sessions(run, stages.get(index..).unwrap_or_default(), groups, sessions).await;
            self.write_beside(run, &mut progress);
            let opens = todo.iter().any(|step| step.action == OpenInterface::NAME);
            if opens {
                self.written(run, groups, &mut progress).await?;
            }

            let mut waiting: BTreeSet<StepId> = BTreeSet::new();
            let hurried = self.time_left(run) < PATIENCE * 2 + LAST_CALL;
            for step in todo {
                let not_opened = match step.action == OpenInterface::NAME {
                    true if hurried => Some("there was no time left to open and close it safely"),
                    true if !progress.writing.is_empty() => Some("the ledger did not answer in time"),
                    true if is_closed(run, step) => Some("it is closed already, and closing comes after opening"),
                    _ => None,
                };
                if let Some(why) = not_opened {
                    // Nothing is opened that might not be closed again.
                    let left = StepResult::Left { why: why.to_owned() };
                    progress.note(run, step.id.clone(), record(left, run.counts_from(), Instant::now()));
                    continue;
                }
                let missing = step.needs.iter().find(|need| !run.result(need).is_some_and(StepResult::is_good));
                let aws = sessions.by_step.get(&step.id).cloned();
                let result = match (missing, aws) {
                    (Some(need), _) => StepResult::Skipped { needs: need.clone() },
                    (None, Some(aws)) => {
                        waiting.insert(step.id.clone());
                        progress.under_way.push(self.one(step.clone(), aws, run, fresh, progress.made.clone()));
                        continue;
                    }
                    (None, None) => match sessions.failed.get(&step.id) {
                        Some((class, why)) => StepResult::Failed { class: *class, why: why.clone() },
                        None => StepResult::Failed { class: Class::Bug, why: "it has no session".to_owned() },
                    },
                };
                progress.note(run, step.id.clone(), record(result, run.counts_from(), Instant::now()));
            }
            let patience = match last_cut {
                // Everything before the interfaces are moved has together three seconds; then they are moved.
                Some(cut) if index < cut => BEFORE_THE_CUT.saturating_sub(begun.elapsed()),
                _ => PATIENCE,
            };
            let until = tokio::time::Instant::now() + patience;
            while !waiting.is_empty() {
                let Ok(Some(event)) = tokio::time::timeout_at(until, progress.under_way.next()).await else { break };
                if let Event::Step { id, .. } = &event {
                    waiting.remove(id);
                }
                self.take_in(run, groups, &mut progress, event)?;
            }
            for id in waiting {
                progress.note(run, id, record(StepResult::Slow, run.counts_from(), begun));
            }
        }
        self.write_beside(run, &mut progress);
        // Stragglers: waited for as long as the others were.
        let until = tokio::time::Instant::now() + PATIENCE.min(self.time_left(run).saturating_sub(LAST_CALL));
        while let Ok(Some(event)) = tokio::time::timeout_at(until, progress.under_way.next()).await {
            self.take_in(run, groups, &mut progress, event)?;
        }
        self.ledger.journal(&run.head.id, run.epoch, &progress.not_known_written(run)).await
    }

    /// Sessions for the stages ahead that have none: as far as the next one that makes a group, whose id
    /// the ones after it must name. None for a step that is done, or that needs one which did not succeed.
    async fn more_sessions(&self, run: &Run, ahead: &[Stage], groups: &[KnownGroup], sessions: &mut Sessions) {
        let ended_badly = |need: &StepId| run.result(need).is_some_and(|result| !result.is_good());
        let lacks = |step: &&Step| {
            let has = sessions.by_step.contains_key(&step.id) || sessions.failed.contains_key(&step.id);
            let done = run.result(&step.id).is_some_and(StepResult::is_final);
            !has && !done && !step.needs.iter().any(ended_badly)
        };
        let Some(stage) = ahead.first() else { return };
        if !stage.steps.iter().any(|step| lacks(&step)) {
            return;
        }
        let wanted: Vec<&Step> = self.until_a_group_is_made(ahead).filter(lacks).collect();
        let target = &run.head.target;
        let more = self.writing(&run.head.id, &target.account, target.region.as_ref(), &wanted, groups).await;
        sessions.by_step.extend(more.by_step);
        sessions.failed.extend(more.failed);
    }

    /// The steps of these stages, up to and with the first stage that makes a group.
    fn until_a_group_is_made<'s>(&self, stages: &'s [Stage]) -> impl Iterator<Item = &'s Step> + use<'s> {
        let makes = |stage: &Stage| stage.steps.iter().any(|step| self.action(step).is_ok_and(|a| a.makes_group()));
        let until = stages.iter().position(makes).map_or(stages.len(), |n| n + 1);
        stages.iter().take(until).flat_map(|stage| &stage.steps)
    }

    /// Begins to write what has ended since, beside whatever comes next.
    fn write_beside(&self, run: &Run, progress: &mut Progress<'a>) {
        let ids = std::mem::take(&mut progress.unwritten);
        if ids.is_empty() {
            return;
        }
        let (ledger, id, epoch) = (self.ledger, run.head.id.clone(), run.epoch);
        let results = run.entries(&ids);
        let number = progress.writes;
        progress.writes += 1;
        progress.writing.insert(number, ids);
        progress.under_way.push(Box::pin(async move {
            Event::Written { number, written: ledger.journal(&id, epoch, &results).await }
        }));
    }

    /// Waits for what is being written, as long as for a step. An error means that another has the run: what opens for an
    /// instant must not begin then, as whoever has the run has closed it for good.
    async fn written(
        &self,
        run: &mut Run,
        groups: &mut Vec<KnownGroup>,
        progress: &mut Progress<'a>,
    ) -> Result<(), Failure> {
        let until = tokio::time::Instant::now() + PATIENCE;
        while !progress.writing.is_empty() {
            let Ok(Some(event)) = tokio::time::timeout_at(until, progress.under_way.next()).await else { break };
            self.take_in(run, groups, progress, event)?;
        }
        Ok(())
    }

    /// Takes an event in. An error means that another has the run.
    fn take_in(
        &self,
        run: &mut Run,
        groups: &mut Vec<KnownGroup>,
        progress: &mut Progress<'a>,
        event: Event,
    ) -> Result<(), Failure> {
        match event {
            Event::Step { id, record, made } => {
                if let Some(group) = made {
                    self.record_beside(run, groups, progress, group);
                }
                progress.note(run, id, record);
            }
            Event::Written { number, written } => {
                let ids = progress.writing.remove(&number).unwrap_or_default();
                match written {
                    Ok(()) => {}
                    Err(failure) if failure.class == Class::Conflict => return Err(failure),
                    // A journal that cannot be written does not stop containment: it is written with the next
                    // results.
                    Err(failure) => {
                        crate::telemetry::alarm("journal-unwritten", &failure.brief());
                        progress.unwritten.extend(ids);
                    }
                }
            }
            Event::Recorded(Ok(())) => {}
            // Without the row the next containment makes a group of its own: no reason to stop here.
            Event::Recorded(Err(failure)) => crate::telemetry::alarm("group-unrecorded", &failure.brief()),
        }
        Ok(())
    }

    fn record_beside(&self, run: &Run, groups: &mut Vec<KnownGroup>, progress: &mut Progress<'a>, group: KnownGroup) {
        let group = KnownGroup { run: Some(run.head.id.clone()), ..group };
        if !groups.iter().any(|known| known.id == group.id) {
            groups.push(group.clone());
        }
        progress.made.push(group.clone());
        let target = run.head.target.clone();
        let ledger = self.ledger;
        progress.under_way.push(Box::pin(async move {
            let Some(region) = &target.region else { return Event::Recorded(Ok(())) };
            Event::Recorded(ledger.record_group(&target.account, region, &group, Timestamp::now()).await)
        }));
    }

    fn one(&self, step: Step, aws: Arc<Aws>, run: &Run, fresh: bool, made: Vec<KnownGroup>) -> Boxed<'a, Event> {
        let action = self.action(&step);
        let snapshots = create_snapshots::made_by(run);
        let (run, arrived) = (run.head.id.clone(), run.counts_from());
        Box::pin(async move {
            let begun = Instant::now();
            let cx = Context { aws: &aws, run: &run, made: &made, snapshots };
            let (applied, requests) = requests::noting(async {
                match action {
                    Ok(action) => action.apply(&cx, &step, fresh).await,
                    Err(failure) => Err(failure),
                }
            })
            .await;
            let (result, made) = match applied {
                Ok(Applied::Changed { after, made }) => (StepResult::Changed { after }, made),
                Ok(Applied::AlreadySo { made }) => (StepResult::AlreadySo, made),
                Ok(Applied::Gone) => (StepResult::Gone, None),
                Ok(Applied::Left(why)) => (StepResult::Left { why }, None),
                Err(failure) => {
                    tracing::warn!(
                        step = step.id.0,
                        class = failure.class.as_str(),
                        code = failure.code,
                        request_id = failure.request_id,
                        "step failed"
                    );
                    (StepResult::Failed { class: failure.class, why: failure.brief() }, None)
                }
            };
            let record = StepRecord { requests, ..record(result, arrived, begun) };
            Event::Step { id: step.id, record, made }
        })
    }

    /// Plans again: what is not as wanted is outstanding. `earlier` are the snapshots of the run that were made before
    /// this call of the function.
    async fn outstanding(
        &self,
        run: &Run,
        reading: &Aws,
        groups: &[KnownGroup],
        earlier: &BTreeMap<VolumeId, SnapshotId>,
    ) -> Result<Outstanding, Failure> {
        let mut snapshots = create_snapshots::made_by(run);
        snapshots.retain(|volume, made| earlier.get(volume) != Some(made));
        let cx = PlanContext {
            aws: reading,
            groups,
            run: Some(&run.head.id),
            snapshots,
            hurried: false,
            snapshot_lock_days: self.snapshot_lock_days,
            recheck: self.recheck,
        };
        match self.playbook.plan(&cx, &run.head.target, run.newest_finding()).await? {
            Planned::Gone(why) => Ok(Outstanding { plan: Plan::new("", run.head.target.clone()), gone: Some(why) }),
            Planned::Refused(why) => {
                Err(Failure::new(Class::Refused, "read back", run.head.target.id.clone()).because(why))
            }
            Planned::Plan(mut plan) => {
                permit(&mut plan, &run.head.leaves);
                // A step with a leave of its own is done once; there is no state that says so. The sessions of a role are
                // revoked again where new ones were handed out.
                let once = |step: &Step| step.leave.is_some_and(|leave| leave != Leave::RevokeEverySession);
                plan.retain(|step| !(once(step) && run.result(&step.id).is_some_and(StepResult::is_good)));
                plan.shorten();
                Ok(Outstanding { plan, gone: None })
            }
        }
    }

    /// Looks at a held run again: what is not as it was left, and what has come to light since, in words.
    pub async fn look_again(&self, run: &Run, reading: &Aws, groups: &[KnownGroup]) -> Result<Again, Failure> {
        let outstanding = self.outstanding(run, reading, groups, &create_snapshots::made_by(run)).await?;
        let known = run.end.as_ref().map(|end| end.remains.as_slice()).unwrap_or_default();
        let mut again = Again::default();
        // What was never done, or cannot be, is no news.
        for step in outstanding.plan.steps().filter(|step| run.result(&step.id).is_none_or(StepResult::is_good)) {
            again.undone.push(step.change.what.clone());
        }
        again.new.extend(outstanding.plan.remains.into_iter().filter(|line| !known.contains(line)));
        again.gone = outstanding.gone.is_some();
        Ok(again)
    }

    /// Looks at the steps that did not succeed and that the last plan no longer holds. Where their state is as
    /// wanted all the same, by another step or late, the journal says so, and undo will put it back. The
    /// others, in words, were not done and cannot be done any more.
    async fn settle(&self, run: &mut Run, reading: &Aws, last: &Outstanding) -> Result<Vec<String>, Failure> {
        let mut missed = Vec::new();
        if last.gone.is_some() {
            return Ok(missed);
        }
        let wanted: BTreeSet<&StepId> = last.plan.steps().map(|step| &step.id).collect();
        let open = |step: &&Step| !wanted.contains(&step.id) && !run.result(&step.id).is_some_and(StepResult::is_final);
        let steps: Vec<Step> = run.all_steps().filter(open).cloned().collect();
        let snapshots = create_snapshots::made_by(run);
        let cx = Context { aws: reading, run: &run.head.id, made: &[], snapshots };
        let holds = join_all(steps.iter().map(|step| async {
            match self.action(step) {
                Ok(action) => action.holds(&cx, step).await,
                Err(failure) => Err(failure),
            }
        }))
        .await;
        let mut found = Vec::new();
        for (step, holds) in steps.into_iter().zip(holds) {
            let result = match holds {
                Ok(Some(true)) => StepResult::AlreadySo,
                Ok(None) => StepResult::Gone,
                Ok(Some(false)) | Err(_) => {
                    missed.push(format!("{}: {}", step.change.what, why_not(run.result(&step.id))));
                    continue;
                }
            };
            let record = run.note(&step.id, record(result, run.counts_from(), Instant::now()));
            found.push((step.id, record));
        }
        self.ledger.journal(&run.head.id, run.epoch, &found).await?;
        Ok(missed)
    }

    fn end(&self, run: &Run, outstanding: Outstanding, missed: Vec<String>) -> RunEnd {
        let mut not_done = Vec::new();
        let incomplete = outstanding.gone.is_none() && outstanding.plan.incomplete;
        let retry = incomplete || !outstanding.worth_another_attempt(run).is_empty();
        let purpose = self.playbook.meta().purpose;
        let seen = seen(run);
        let mut remains = seen.clone();
        remains.extend(outstanding.plan.remains.iter().cloned());
        if purpose == Purpose::Fix {
            // Nothing is found wrong any more, and so nothing is said of it: what the plan said still holds.
            let planned = run.head.plan.remains.iter().filter(|line| !outstanding.plan.remains.contains(line));
            remains.extend(planned.cloned());
        }
        let mut open_cuts = 0;
        let mut failed = 0;
        for step in outstanding.plan.steps() {
            match run.result(&step.id) {
                Some(StepResult::Left { why }) if purpose != Purpose::Fix => {
                    remains.push(format!("{}: {why}", step.change.what))
                }
                result => {
                    failed += 1;
                    open_cuts += usize::from(step.cuts);
                    not_done.push(format!("{}: {}", step.change.what, why_not(result)));
                }
            }
        }
        failed += missed.len();
        not_done.extend(missed);
        if incomplete {
            // What could not be looked at may be as it was.
            failed += 1;
            not_done.push("not everything could be read back: what is still open says what".to_owned());
        }
        let cuts = run.all_steps().filter(|step| step.cuts).count();
        let all = run.all_steps().count();
        let outcome = if outstanding.gone.is_some() {
            Outcome::Gone
        } else if failed == 0 {
            match purpose {
                Purpose::Contain => Outcome::Contained,
                Purpose::Preserve => Outcome::Preserved,
                Purpose::Fix => Outcome::Fixed,
            }
        } else if purpose == Purpose::Fix {
            Outcome::NotFixed
        } else if (cuts > 0 && open_cuts >= cuts) || (cuts == 0 && failed >= all) {
            Outcome::NotContained
        } else {
            Outcome::Partial
        };
        if let Some(why) = outstanding.gone {
            not_done.push(why);
            remains.clone_from(&run.head.plan.remains);
        }
        // Only what was read back is cut. What was cut, opened again and cut again was cut when it was first.
        let first = run.end.as_ref().and_then(|end| end.contained_after_ms);
        let contained_after_ms = (open_cuts == 0).then(|| first.or_else(|| contained_after(run))).flatten();
        let at = Timestamp::now();
        RunEnd { outcome, at, not_done, remains, contained_after_ms, decided: None, retry, seen }
    }

    /// The steps have ended but could not be read back: never reported as contained.
    pub(crate) fn end_unverified(&self, run: &Run, failure: &Failure) -> RunEnd {
        let mut not_done = vec![format!("the result could not be read back: {}", failure.brief())];
        for step in run.all_steps() {
            let result = run.result(&step.id);
            if !result.is_some_and(StepResult::is_final) {
                not_done.push(format!("{}: {}", step.change.what, why_not(result)));
            }
        }
        let changed = run.changed_anything();
        RunEnd {
            outcome: match self.playbook.meta().purpose {
                _ if changed => Outcome::Partial,
                Purpose::Fix => Outcome::NotFixed,
                Purpose::Contain | Purpose::Preserve => Outcome::NotContained,
            },
            at: Timestamp::now(),
            not_done,
            remains: run.head.plan.remains.clone(),
            contained_after_ms: None,
            decided: None,
            retry: failure.class != Class::Denied,
            seen: seen(run),
        }
    }

    /// Undoes a run from its journal alone, in reverse.
    pub async fn undo(&self, run: &mut Run, groups: &[KnownGroup]) -> Ended {
        let stages = run.stages();
        for stage in stages.iter().rev() {
            let todo: Vec<&Step> = stage
                .steps
                .iter()
                .filter(|step| !run.undo_result(&step.id).is_some_and(UndoResult::is_final))
                .collect();
            if todo.is_empty() {
                continue;
            }
            if self.time_left(run) < LAST_CALL {
                let failure = Failure::new(Class::Transient, "go on undoing", run.head.id.as_str());
                return Ended::Interrupted(failure.because("no time is left"));
            }
            let changing: Vec<&Step> =
                todo.iter().copied().filter(|step| self.undone_without_a_call(run, step).is_none()).collect();
            let target = &run.head.target;
            let sessions = self.writing(&run.head.id, &target.account, target.region.as_ref(), &changing, groups).await;
            let undoing = todo.iter().map(|step| requests::noting(self.undo_one(run, step, &sessions)));
            let results = join_all(undoing).await;
            for (step, (result, new)) in todo.iter().zip(results) {
                let mut requests = run.undone.get(&step.id).map(|record| record.requests.clone()).unwrap_or_default();
                requests.extend(new);
                let record = UndoRecord { result, requests };
                if let Err(failure) = self.ledger.journal_undo(run, &step.id, &record).await {
                    return Ended::Interrupted(failure);
                }
                run.undone.insert(step.id.clone(), record);
            }
        }
        Ended::Done(end_of_undo(run))
    }

    /// Puts back what a fix that cannot be finished has changed, from the journal alone, as an undo does. `not_done` says
    /// why it cannot be. A run that is interrupted while it does so goes on with it, whoever takes it up.
    pub(crate) async fn put_back(&self, run: &mut Run, groups: &[KnownGroup], mut not_done: Vec<String>) -> Ended {
        if not_done.is_empty() {
            for step in run.all_steps() {
                let result = run.result(&step.id);
                if !result.is_some_and(StepResult::is_good) {
                    not_done.push(format!("{}: {}", step.change.what, why_not(result)));
                }
            }
        }
        match self.undo(run, groups).await {
            Ended::Interrupted(failure) => Ended::Interrupted(failure),
            Ended::Done(undone) => {
                let back = undone.outcome == Outcome::Undone;
                not_done.extend(undone.not_done.into_iter().map(|line| format!("could not be put back: {line}")));
                // As of an undo that a person has begun: people are to finish it.
                let outcome = if back { Outcome::NotFixed } else { Outcome::UndonePartly };
                Ended::Done(RunEnd { outcome, not_done, ..undone })
            }
        }
    }

    /// The result of undoing a step for which nothing is called, and no session is asked for.
    fn undone_without_a_call(&self, run: &Run, step: &Step) -> Option<UndoResult> {
        // What never took effect is not undone: AWS does not allow it, or it was never tried. A failed attempt
        // may have taken effect: the action compares.
        let never = match run.result(&step.id) {
            Some(StepResult::Left { .. }) => true,
            Some(StepResult::Skipped { .. }) => run.epoch <= 2 && run.tries == 0,
            _ => false,
        };
        if never {
            return Some(UndoResult::AlreadySo);
        }
        match self.action(step).ok()?.undo_kind() {
            Undo::Never { why } => Some(UndoResult::Left { why: why.to_owned(), declared: true }),
            Undo::Exact | Undo::Equivalent { .. } => None,
        }
    }

    async fn undo_one(&self, run: &Run, step: &Step, sessions: &Sessions) -> UndoResult {
        if let Some(result) = self.undone_without_a_call(run, step) {
            return result;
        }
        if self.playbook.meta().purpose == Purpose::Fix {
            // What stays of a rule is not taken away before the rule is there again.
            let needing = run.all_steps().filter(|other| other.needs.contains(&step.id));
            let mut left = needing.filter(|other| run.undo_result(&other.id).is_some_and(|result| !result.is_clean()));
            if let Some(other) = left.next() {
                let why = format!("it stays, because `{}` could not be put back", other.id);
                return UndoResult::Failed { class: Class::Conflict, why };
            }
        }
        if let Some((class, why)) = sessions.failed.get(&step.id) {
            return UndoResult::Failed { class: *class, why: why.clone() };
        }
        let (Some(aws), Ok(action)) = (sessions.by_step.get(&step.id), self.action(step)) else {
            return UndoResult::Failed { class: Class::Bug, why: format!("nothing undoes `{}`", step.action) };
        };
        // What the run made is found by its name: the ledger may know another group by now.
        let cx = Context { aws, run: &run.head.id, made: &[], snapshots: create_snapshots::made_by(run) };
        match action.undo(&cx, step).await {
            Ok(Undone::Restored) => UndoResult::Restored,
            Ok(Undone::AlreadySo) => UndoResult::AlreadySo,
            Ok(Undone::Gone) => UndoResult::Gone,
            // A call that was refused changed nothing, so what is there instead is not ours to put back: another
            // step's work, which its own undo takes care of, or somebody else's.
            Ok(Undone::Conflict(_))
                if matches!(run.result(&step.id), Some(StepResult::Failed { class: Class::Denied, .. })) =>
            {
                UndoResult::AlreadySo
            }
            Ok(Undone::Conflict(found)) => UndoResult::Conflict { found },
            Ok(Undone::Left(why)) => UndoResult::Left { why, declared: false },
            Err(failure) => {
                tracing::warn!(
                    step = step.id.0,
                    class = failure.class.as_str(),
                    code = failure.code,
                    request_id = failure.request_id,
                    "undo of step failed"
                );
                UndoResult::Failed { class: failure.class, why: failure.brief() }
            }
        }
    }
}

/// Takes steps whose leave was not given out of a plan, and says so.
pub fn permit(plan: &mut Plan, leaves: &BTreeSet<Leave>) {
    let refused: BTreeSet<Leave> =
        plan.steps().filter_map(|step| step.leave).filter(|leave| !leaves.contains(leave)).collect();
    plan.retain(|step| step.leave.is_none_or(|leave| leaves.contains(&leave)));
    plan.notes
        .extend(refused.iter().map(|leave| format!("left out, because no policy permits it: {}", leave.as_str())));
}

/// Something that has ended while a run is applied.
enum Event {
    /// A step.
    Step { id: StepId, record: StepRecord, made: Option<KnownGroup> },
    /// A write of results into the journal.
    Written { number: usize, written: Result<(), Failure> },
    /// A write of a group of ours.
    Recorded(Result<(), Failure>),
}

/// What is under way while a run is applied, and what is not in the journal yet.
#[derive(Default)]
struct Progress<'a> {
    under_way: FuturesUnordered<Boxed<'a, Event>>,
    unwritten: BTreeSet<StepId>,
    /// What writes that are under way hold, by their number.
    writing: BTreeMap<usize, BTreeSet<StepId>>,
    writes: usize,
    made: Vec<KnownGroup>,
}

impl Progress<'_> {
    fn note(&mut self, run: &mut Run, id: StepId, record: StepRecord) {
        run.note(&id, record);
        self.unwritten.insert(id);
    }

    /// Every entry that no write is known to have brought into the journal. A write that has not ended is given
    /// up with this, so what it holds is written once more.
    fn not_known_written(&mut self, run: &Run) -> Vec<(StepId, StepRecord)> {
        let given_up = std::mem::take(&mut self.writing);
        let ids = std::mem::take(&mut self.unwritten).into_iter().chain(given_up.into_values().flatten());
        run.entries(&ids.collect())
    }
}

/// What a second look at a held run finds.
#[derive(Debug, Default)]
pub struct Again {
    /// What somebody has taken back, or added: it is not as wanted.
    pub undone: Vec<String>,
    /// What remains open and was not known.
    pub new: Vec<String>,
    /// Whether the target no longer exists.
    pub gone: bool,
}

struct Outstanding {
    plan: Plan,
    gone: Option<String>,
}

impl Outstanding {
    /// Steps that another attempt could mend: not what AWS refuses, and not what a person must mend.
    fn worth_another_attempt(&self, run: &Run) -> BTreeSet<StepId> {
        self.plan
            .steps()
            .filter(|step| match run.result(&step.id) {
                Some(StepResult::Failed { class, .. }) => {
                    !matches!(class, Class::Refused | Class::Denied | Class::Bug | Class::Conflict)
                }
                Some(StepResult::Left { .. }) => false,
                Some(StepResult::Skipped { needs }) => run.result(needs).is_none_or(StepResult::is_good),
                Some(StepResult::Changed { .. } | StepResult::AlreadySo | StepResult::Gone | StepResult::Slow)
                | None => true,
            })
            .map(|step| step.id.clone())
            .collect()
    }
}

/// What the last plan holds that the journal does not: steps that are new, and those that are to be done otherwise
/// than first planned, as when the group they named is gone. These keep the state they were first found in, for
/// undo. Cut to what the run's row has room for.
fn to_add(run: &Run, last: &Plan, again: &BTreeSet<StepId>) -> Vec<Stage> {
    let known: BTreeMap<&StepId, &Step> = run.all_steps().map(|step| (&step.id, step)).collect();
    let mut added = Plan { stages: Vec::new(), ..last.clone() };
    for stage in &last.stages {
        let steps =
            stage.steps.iter().filter(|step| again.contains(&step.id)).filter_map(|step| match known.get(&step.id) {
                None => Some(step.clone()),
                Some(old) if old.args == step.args && old.needs == step.needs => None,
                Some(old) => Some(Step { before: old.before.clone(), change: old.change.clone(), ..step.clone() }),
            });
        added.stage(&stage.name, steps);
    }
    added.shorten_to((MOST_BYTES + MOST_ADDED).saturating_sub(json_len(&run.head.plan) + json_len(&run.added)));
    added.stages
}

/// Whether the interface that a step opens was closed again before.
fn is_closed(run: &Run, opening: &Step) -> bool {
    let of_it =
        |step: &&Step| step.action == CloseInterface::NAME && step.args["interface"] == opening.args["interface"];
    run.all_steps()
        .filter(of_it)
        .any(|step| run.result(&step.id).is_some_and(StepResult::is_good) || run.earlier.contains_key(&step.id))
}

fn why_not(result: Option<&StepResult>) -> String {
    match result {
        Some(StepResult::Failed { why, .. }) => why.clone(),
        Some(StepResult::Skipped { needs }) => format!("not tried, because `{needs}` did not succeed"),
        Some(StepResult::Slow) => "no answer in time".to_owned(),
        Some(StepResult::Left { why }) => why.clone(),
        Some(StepResult::Changed { .. } | StepResult::AlreadySo | StepResult::Gone) => {
            "was done and is so no more: somebody changed it back".to_owned()
        }
        None => "not tried".to_owned(),
    }
}

fn record(result: StepResult, arrived: Timestamp, begun: Instant) -> StepRecord {
    let at = Timestamp::now();
    let millis = |d: jiff::SignedDuration| u64::try_from(d.as_millis()).unwrap_or(0);
    StepRecord {
        result,
        at,
        after_ms: millis(at.duration_since(arrived)),
        took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        requests: Vec::new(),
    }
}

/// Milliseconds to the last cut that holds.
fn contained_after(run: &Run) -> Option<u64> {
    run.all_steps()
        .filter(|step| step.cuts)
        .filter_map(|step| run.steps.get(&step.id))
        .filter(|record| record.result.is_good())
        .map(|record| record.after_ms)
        .max()
}

/// What was seen so far of whoever works against a run.
fn seen(run: &Run) -> Vec<String> {
    let before = run.end.as_ref().map(|end| end.seen.as_slice()).unwrap_or_default();
    let new = run.seen_again.iter().filter(|line| !before.contains(line));
    before.iter().chain(new).cloned().collect()
}

fn end_of_undo(run: &Run) -> RunEnd {
    let mut not_done = Vec::new();
    let mut remains = Vec::new();
    for step in run.all_steps() {
        match run.undo_result(&step.id) {
            Some(UndoResult::Conflict { found }) => not_done.push(format!("changed since by somebody else: {found}")),
            Some(UndoResult::Left { why, declared: true }) => remains.push(format!("{}: {why}", step.change.what)),
            Some(UndoResult::Left { why, declared: false }) => not_done.push(format!("{}: {why}", step.change.what)),
            Some(UndoResult::Failed { why, .. }) => not_done.push(format!("{}: {why}", step.change.what)),
            Some(UndoResult::Restored) => {
                remains.extend(step.caveat.iter().map(|caveat| format!("{}: {caveat}", step.change.what)));
            }
            Some(UndoResult::AlreadySo | UndoResult::Gone) | None => {}
        }
    }
    let outcome = if not_done.is_empty() { Outcome::Undone } else { Outcome::UndonePartly };
    RunEnd {
        outcome,
        at: Timestamp::now(),
        not_done,
        remains,
        contained_after_ms: None,
        decided: None,
        retry: false,
        seen: seen(run),
    }
}
