//! Decisions: what a person said about a run is carried out once, by its id alone.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::held::About;
use super::{Answer, Answered, Assessment, Hub, recorded_report};
use crate::authenticate::Authenticity;
use crate::failure::{Class, Failure};
use crate::finding::{Finding, Source};
use crate::guard::Ruling;
use crate::ids::RunId;
use crate::ledger::decisions::{Decision, MOST_NAMES, Verb};
use crate::ledger::{Claim, DueAt, DueKind};
use crate::plan::Plan;
use crate::playbook::{Planned, Playbook};
use crate::report::{Report, Topic};
use crate::run::{Mode, Outcome, Run, RunEnd, RunHead, RunState};
use crate::telemetry;

impl Hub {
    pub(super) async fn carry_decision(&self, id: &str, now: Timestamp, deadline: Instant) -> Result<Answer, Failure> {
        // Nobody waits for these: the event names nothing that is known, or was delivered before.
        let turned_away = |why: String| {
            telemetry::alarm("decision-refused", &why);
            Answer { outcomes: vec![Answered::unanswered(Outcome::Refused, why)] }
        };
        let Some(decision) = self.ledger.decision(id).await? else {
            return Ok(turned_away(format!("there is no decision {}", crate::text::quoted(id))));
        };
        if decision.verb == Verb::Request {
            return self.carry_request(&decision, now, deadline).await;
        }
        let Some(run) = self.ledger.run(&decision.run).await? else {
            return Ok(turned_away(format!("there is no run {}", decision.run)));
        };
        // Every function gets the event; the one whose run it is acts.
        if run.head.function != self.function {
            return Ok(Answer::default());
        }
        let Some(playbook) = self.playbook(&run.head.playbook) else {
            return Ok(turned_away(format!("no playbook {} is here", run.head.playbook)));
        };
        let used_before = || turned_away(format!("decision {id} was used before"));
        if decision.used {
            return Ok(used_before());
        }
        let decided = telemetry::of_run(&run.head.id, Box::pin(self.decide(playbook, &decision, &run, now, deadline)));
        let (why, failure) = match decided.await {
            Ok(Ok(report)) => return Ok(Answer { outcomes: vec![Answered::from(&report)] }),
            Ok(Err(why)) => (why, None),
            Err(failure) => (failure.brief(), Some(failure)),
        };
        // Another delivery of the same decision was faster, or the schedule goes on with what this one began: to
        // deliver it again would find it used as well.
        let used = self.ledger.is_used(&decision).await;
        if matches!(used, Ok(true)) {
            if failure.is_some() {
                telemetry::alarm("decision-interrupted", &why);
            }
            return Ok(used_before());
        }
        let why = match (&failure, used) {
            (None, _) => why,
            (Some(_), Ok(_)) => format!("{why}; it is tried again by itself for as long as it is valid"),
            (Some(_), Err(_)) => format!("{why}; whether it was begun is not known: look at the run"),
        };
        // A person waits for it.
        telemetry::alarm("decision-refused", &why);
        let mut report = Report::of_run(&run, Outcome::Refused, playbook.meta().purpose);
        report.reasons = vec![why];
        report.topic = Some(Topic::DecisionRefused);
        report.page = true;
        let report = self.told(playbook, report).await;
        match failure {
            Some(failure) => Err(failure),
            None if report.untold => {
                Err(Failure::new(Class::Transient, "tell people about decision", decision.id.clone()))
            }
            None => Ok(Answer { outcomes: vec![Answered::from(&report)] }),
        }
    }

    /// Does what a decision says; why not, in words, when that is not to be done.
    async fn decide(
        &self,
        playbook: &'static dyn Playbook,
        decision: &Decision,
        run: &Run,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<Result<Report, String>, Failure> {
        if decision.expires_at <= now {
            return Ok(Err(format!("decision {} has lapsed", decision.id)));
        }
        if decision.plan_hash != run.head.plan_hash {
            return Ok(Err(format!("decision {} is of another plan", decision.id)));
        }
        if let Some(why) = decision.verb.why_not(run, now) {
            return Ok(Err(why));
        }
        let moved = || format!("run {} has moved: look at it again", run.head.id);
        let by = crate::text::plain(&decision.by, MOST_NAMES);
        match (decision.verb, run.state) {
            (Verb::Reject, RunState::Proposed) => {
                let decided = format!("rejected by {by}");
                let end = RunEnd::rejected(decided.clone(), now);
                if !self.ledger.reject(decision, run, Some(&end), now).await? {
                    return Ok(Err(moved()));
                }
                let mut report = Report::of_run(run, Outcome::Rejected, playbook.meta().purpose);
                report.reasons = vec![decided];
                Ok(Ok(self.told(playbook, report).await))
            }
            (Verb::Undo, RunState::Held) => {
                let decided = Run { decided: Some(format!("undone by {by}")), ..run.clone() };
                // What was contained for a drill may have turned out to be attacked as well.
                if decided.is_given_back_by_drill() {
                    let joined = self.ledger.joined(run.head.holds_as(), &run.head.target).await?;
                    if let Some(real) = joined.iter().find(|joined| joined.finding.source != Source::Drill) {
                        let what = crate::text::plain(real.finding.what(), 90);
                        return Ok(Err(format!("{what} was reported of the canary meanwhile: a person decides")));
                    }
                }
                match self.ledger.begin_undo(decision, &decided, now).await? {
                    Some(run) => self.resume(playbook, run, deadline).await.map(Ok),
                    None => Ok(Err(moved())),
                }
            }
            (Verb::Approve, RunState::Proposed) => {
                self.approve(playbook, decision, run.clone(), &by, now, deadline).await
            }
            // What it holds in part, or was opened again, is done again. What was begun to be undone is not.
            (Verb::Retry, RunState::Held) => {
                let decided = Run { decided: Some(format!("done again by {by}")), ..run.clone() };
                self.retry(playbook, decision, decided, now, deadline).await
            }
            (Verb::Release, RunState::Held) => self.set_hold(playbook, decision, run, now, now).await,
            (Verb::Extend, RunState::Held) => match decision.until {
                Some(until) => self.set_hold(playbook, decision, run, until, now).await,
                None => Ok(Err(format!("decision {} does not say until when", decision.id))),
            },
            (verb, state) => {
                Ok(Err(format!("run {} is {}: there is nothing to {}", run.head.id, state.as_str(), verb.as_str())))
            }
        }
    }

    /// Ends a hold at another time than it would. Nothing is done to the target; people are asked when the time has come.
    async fn set_hold(
        &self,
        playbook: &'static dyn Playbook,
        decision: &Decision,
        run: &Run,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Result<Report, String>, Failure> {
        if !self.ledger.set_hold(decision, run, until, now).await? {
            return Ok(Err(format!("run {} has moved: look at it again", run.head.id)));
        }
        let by = crate::text::plain(&decision.by, MOST_NAMES);
        let why = match decision.verb {
            Verb::Release => format!("its hold was ended by {by}: whether to undo it is asked within a minute"),
            _ => format!("its hold ends {} by the word of {by}", until.strftime("%Y-%m-%d %H:%M UTC")),
        };
        let mut report = Report::of_run(run, Outcome::NoChange, playbook.meta().purpose);
        report.reasons = vec![why];
        Ok(Ok(self.told(playbook, report).await))
    }

    /// Answers what somebody asked for by hand as a finding is answered, with the person's word for its proof. Delivered
    /// twice it is answered once: the second one finds the first one's run, or joins what has the target.
    async fn carry_request(&self, decision: &Decision, now: Timestamp, deadline: Instant) -> Result<Answer, Failure> {
        let refused = |why: String| {
            telemetry::alarm("decision-refused", &why);
            Ok(Answer { outcomes: vec![Answered::unanswered(Outcome::Refused, why)] })
        };
        let Some(asked) = &decision.by_hand else {
            return refused(format!("decision {} does not say what is asked for", decision.id));
        };
        // Every function gets the event; the one whose playbook it is answers.
        let Some(playbook) = self.playbook(&asked.playbook) else { return Ok(Answer::default()) };
        if decision.used {
            return refused(format!("decision {} was used before", decision.id));
        }
        if decision.expires_at <= now {
            return refused(format!("decision {} has lapsed", decision.id));
        }
        let finding = match Finding::by_hand(decision, asked, &self.aws.region) {
            Ok(finding) => finding,
            Err(error) => return refused(format!("decision {}: {error}", decision.id)),
        };
        let target = &asked.target;
        let away = crate::screen::screen(&finding, None, Some(&self.config.hub_account)).map(|away| away.to_string());
        let kind = target.kind.as_str();
        let not_asked = || format!("{} cannot be asked for by hand about a target of kind {kind}", asked.playbook);
        let why_not = away.or_else(|| (!playbook.takes_requests_about(target.kind)).then(not_asked));
        let report = match why_not {
            Some(why) => {
                let report = Report::of(playbook.meta().id, target, &finding, Outcome::Refused, why);
                self.told(playbook, report).await
            }
            None => self.answer(playbook, target, &finding, now, deadline).await?,
        };
        if report.untold {
            return Err(Failure::new(Class::Transient, "tell people about decision", decision.id.clone()));
        }
        if !self.ledger.use_request(decision, now).await? {
            telemetry::alarm("decision-used", &decision.id);
        }
        Ok(Answer { outcomes: vec![Answered::from(&report)] })
    }

    /// Carries an approved proposal out, if the world is still as it was when the plan was made; else
    /// makes a new plan and asks again.
    async fn approve(
        &self,
        playbook: &'static dyn Playbook,
        decision: &Decision,
        run: Run,
        by: &str,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<Result<Report, String>, Failure> {
        let engine = self.engine(playbook, deadline);
        let target = run.head.target.clone();
        let reading = engine.reading(&run.head.id, &target.account, target.region.as_ref());
        let about = About { playbook, target: &target, finding: &run.head.finding };
        let Assessment { known, authenticity, planned } = self.assess(about, reading, false, now).await;
        let known = known?;
        let finding = match authenticity {
            Authenticity::Genuine(genuine) if self.is_about(playbook, &genuine, &target) => *genuine,
            // Archived since, by the administrator: somebody else has decided otherwise meanwhile.
            Authenticity::TurnedAway(away) => {
                let why = format!("the finding does not stand any more: {away}");
                return self.falls(playbook, decision, &run, why, now).await;
            }
            Authenticity::PutAside(genuine) => {
                let why = format!("the finding was {} in Security Hub meanwhile", super::put_aside(&genuine));
                return self.falls(playbook, decision, &run, why, now).await;
            }
            Authenticity::Genuine(_) | Authenticity::Absent | Authenticity::Differs(_) => {
                return self.falls(playbook, decision, &run, "the finding is not genuine".to_owned(), now).await;
            }
            Authenticity::NotAsked(why) => return self.falls(playbook, decision, &run, why.to_owned(), now).await,
            Authenticity::Unknown(failure) => return Err(failure),
        };
        let (reading, planned) = planned?;
        let plan = match planned {
            Planned::Plan(plan) => plan,
            Planned::Gone(why) => {
                self.ledger.reject(decision, &run, None, now).await?;
                let report = Report::of(playbook.meta().id, &target, &finding, Outcome::Gone, why);
                return Ok(Ok(self.told(playbook, report).await));
            }
            Planned::Refused(why) => return Ok(Err(why)),
        };
        if let Some(problem) = &known.policies.problem {
            telemetry::alarm("policy-unusable", problem);
            return Ok(Err(format!("the published policy set cannot be used: {problem}; decide again when it can")));
        }
        let tighten = super::Tighten::default();
        let (plan, ruling) = self.rule(&known, playbook.meta().id, &finding, plan, now, &tighten);
        if ruling.mode < Mode::Propose {
            return Ok(Err(format!("the policies no longer allow it: {}", ruling.reasons.join("; "))));
        }
        if plan.is_empty() {
            return Ok(Err("nothing of the plan is left to do, or the policies no longer permit it".to_owned()));
        }
        if plan.hash() != run.head.plan_hash {
            return self.propose_again(playbook, decision, run, finding, plan, ruling, now).await.map(Ok);
        }
        let mut run = run;
        run.decided = Some(format!("approved by {by}"));
        let Some(mut taken) = self.ledger.approve(decision, &run, self.config.budget, now).await? else {
            return Ok(Err(format!("run {} has moved, or the hour's budget is spent", run.head.id)));
        };
        let sessions = engine.early_sessions(&taken.head.id, &taken.head.plan, &known.view.groups).await;
        let ended = engine.carry_out(&mut taken, &reading, known.view.groups, sessions, true).await;
        self.conclude(playbook, taken, ended).await.map(Ok)
    }

    /// Does again what a run holds in part, or was opened again, if the policies of now leave it to people. The run's
    /// finding was genuine when it began, and need not be there any more.
    async fn retry(
        &self,
        playbook: &'static dyn Playbook,
        decision: &Decision,
        mut run: Run,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<Result<Report, String>, Failure> {
        let (target, finding) = (run.head.target.clone(), run.head.finding.clone());
        let engine = self.engine(playbook, deadline);
        let reading = engine.reading(&run.head.id, &target.account, target.region.as_ref());
        let about = About { playbook, target: &target, finding: &finding };
        let Assessment { known, planned, .. } = self.assess(about, reading, false, now).await;
        let known = known?;
        let plan = match planned?.1 {
            Planned::Plan(plan) => plan,
            Planned::Gone(why) | Planned::Refused(why) => return Ok(Err(why)),
        };
        let tighten = super::Tighten::default();
        let (_, ruling) = self.rule(&known, playbook.meta().id, &finding, plan, now, &tighten);
        if ruling.mode < Mode::Propose {
            return Ok(Err(format!("the policies no longer allow it: {}", ruling.reasons.join("; "))));
        }
        run.head.leaves.retain(|leave| ruling.leaves.contains(leave));
        match self.ledger.approve(decision, &run, self.config.budget, now).await? {
            Some(run) => self.resume(playbook, run, deadline).await.map(Ok),
            None => Ok(Err(format!("run {} has moved, or the hour's budget is spent", run.head.id))),
        }
    }

    /// A proposal whose finding does not stand is not left open: it would take in every later finding.
    async fn falls(
        &self,
        playbook: &'static dyn Playbook,
        decision: &Decision,
        run: &Run,
        why: String,
        now: Timestamp,
    ) -> Result<Result<Report, String>, Failure> {
        if !self.ledger.reject(decision, run, None, now).await? {
            return Ok(Err(why));
        }
        let mut report = Report::of_run(run, Outcome::Refused, playbook.meta().purpose);
        report.reasons = vec![why];
        report.topic = Some(Topic::DecisionRefused);
        report.page = true;
        Ok(Ok(self.told(playbook, report).await))
    }

    #[allow(clippy::too_many_arguments)]
    async fn propose_again(
        &self,
        playbook: &'static dyn Playbook,
        decision: &Decision,
        run: Run,
        finding: Finding,
        plan: Plan,
        ruling: Ruling,
        now: Timestamp,
    ) -> Result<Report, Failure> {
        let head = RunHead {
            id: RunId::new(),
            finding,
            plan_hash: plan.hash(),
            plan,
            mode: Mode::Propose,
            reasons: vec![format!("the target changed since run {} was proposed: look again", run.head.id)],
            arrived_at: now,
            leaves: ruling.leaves,
            hold_seconds: ruling.hold_seconds,
            owner: ruling.owner,
            page: true,
            ..run.head.clone()
        };
        let due = DueAt { what: DueKind::Report, at: now + Duration::from_secs(60) };
        match self.ledger.propose_again(decision, &run, &head, due, now).await? {
            Claim::Won(run) => {
                let report = recorded_report(playbook, &run, Outcome::Proposed);
                Ok(self.tell_and_note(playbook, &run, report, due).await)
            }
            _ => Err(Failure::new(Class::Conflict, "propose again", run.head.id.as_str())),
        }
    }
}
