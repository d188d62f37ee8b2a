//! Decisions: what a person said about a run is carried out once, by its id alone.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{Answer, Answered, Hub};
use crate::authenticate::Authenticity;
use crate::failure::{Class, Failure};
use crate::finding::Finding;
use crate::guard::Ruling;
use crate::ids::RunId;
use crate::ledger::decisions::{Decision, Verb};
use crate::ledger::{Claim, DueAt, DueKind};
use crate::plan::Plan;
use crate::playbook::{Planned, Playbook};
use crate::report::{Report, Topic};
use crate::run::{Mode, Outcome, Run, RunHead, RunState};
use crate::telemetry;

impl Hub {
    pub(super) async fn carry_decision(&self, id: &str, now: Timestamp, deadline: Instant) -> Result<Answer, Failure> {
        let turned_away = |why: String| {
            telemetry::alarm("decision-refused", &why);
            Answer {
                outcomes: vec![Answered { playbook: None, target: None, outcome: Outcome::Refused, run: None, why }],
            }
        };
        let Some(decision) = self.ledger.decision(id).await? else {
            return Ok(turned_away(format!("there is no decision {}", crate::text::quoted(id))));
        };
        if decision.used {
            return Ok(turned_away(format!("decision {id} was used before")));
        }
        if decision.expires_at <= now {
            return Ok(turned_away(format!("decision {id} has lapsed")));
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
        if decision.plan_hash != run.head.plan_hash {
            return Ok(turned_away(format!("decision {id} is of another plan")));
        }
        let by = crate::text::plain(&decision.by, 120);
        let report = match (decision.verb, run.state) {
            (Verb::Reject, RunState::Proposed) => {
                if !self.ledger.reject(&decision, &run, now).await? {
                    return Ok(turned_away(format!("run {} has moved", run.head.id)));
                }
                let mut report = Report::of_run(&run, Outcome::Rejected, playbook.meta().purpose);
                report.reasons = vec![format!("rejected by {by}")];
                self.told(playbook, report).await
            }
            (Verb::Undo, RunState::Held) => {
                let mut run = run;
                run.decided = Some(format!("undone by {by}"));
                let Some(mut run) = self.ledger.begin_undo(&decision, &run, now).await? else {
                    return Ok(turned_away(format!("run {} has moved", run.head.id)));
                };
                let groups = self.ledger.groups(&run.head.target.account, run.head.target.region.as_ref()).await?;
                let engine = self.engine(playbook, deadline);
                let ended = engine.undo(&mut run, &groups).await;
                self.conclude(playbook, run, ended).await?
            }
            (Verb::Approve, RunState::Proposed) => {
                match self.approve(playbook, &decision, run.clone(), &by, now, deadline).await? {
                    Ok(report) => report,
                    Err(why) => {
                        // A person waits for it.
                        telemetry::alarm("decision-refused", &why);
                        let mut report = Report::of_run(&run, Outcome::Refused, playbook.meta().purpose);
                        report.reasons = vec![why];
                        report.topic = Some(Topic::DecisionRefused);
                        report.page = true;
                        self.told(playbook, report).await
                    }
                }
            }
            (verb, state) => {
                return Ok(turned_away(format!(
                    "run {} is {}: there is nothing to {}",
                    run.head.id,
                    state.as_str(),
                    verb.as_str()
                )));
            }
        };
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
        let (authenticity, known, reading) = tokio::join!(
            self.authenticator.check(&self.aws, &run.head.finding),
            self.known(playbook.meta().id, &target, now),
            engine.reading(&run.head.id, &target.account, target.region.as_ref()),
        );
        let known = known?;
        let finding = match authenticity {
            Authenticity::Genuine(genuine) if playbook.targets(&genuine).contains(&target) => *genuine,
            // Archived since, by the administrator: somebody else has decided otherwise meanwhile.
            Authenticity::TurnedAway(away) => return Ok(Err(format!("the finding does not stand any more: {away}"))),
            Authenticity::Genuine(_) | Authenticity::Absent | Authenticity::Differs(_) => {
                return Ok(Err("the finding is not genuine".to_owned()));
            }
            Authenticity::NotAsked(why) => return Ok(Err(why.to_owned())),
            Authenticity::Unknown(failure) => return Err(failure),
        };
        let reading = reading?;
        let cx = self.plan_context(&reading, &known.view.groups, None);
        let plan = match playbook.plan(&cx, &target, &finding).await? {
            Planned::Plan(plan) => plan,
            Planned::Gone(why) => {
                self.ledger.reject(decision, &run, now).await?;
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
        if plan.hash() != run.head.plan_hash {
            return self.propose_again(playbook, decision, run, finding, plan, ruling, now).await.map(Ok);
        }
        let mut run = run;
        run.decided = Some(format!("approved by {by}"));
        let Some(mut taken) = self.ledger.approve(decision, &run, self.config.budget, now).await? else {
            return Ok(Err(format!("run {} has moved, or the hour's budget is spent", run.head.id)));
        };
        // The time to containment counts from the approval.
        taken.head.arrived_at = now;
        let sessions = engine.early_sessions(&taken.head.id, &taken.head.plan, &known.view.groups).await;
        let ended = engine.carry_out(&mut taken, &reading, known.view.groups, sessions, true).await;
        self.conclude(playbook, taken, ended).await.map(Ok)
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
            ..run.head.clone()
        };
        let due = DueAt { what: DueKind::Report, at: now + Duration::from_secs(60) };
        match self.ledger.propose_again(decision, &run, &head, due, now).await? {
            Claim::Won(run) => {
                let mut report = Report::of_run(&run, Outcome::Proposed, playbook.meta().purpose);
                report.page = true;
                let (report, delivered) = self.tell(playbook, report).await;
                if delivered {
                    self.ledger.report_delivered(&run.head, due).await?;
                }
                Ok(report)
            }
            _ => Err(Failure::new(Class::Conflict, "propose again", run.head.id.as_str())),
        }
    }
}
