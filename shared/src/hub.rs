//! The loop: what a function does with an event, from the bytes that arrive to the report.
//!
//! receive → normalise → match → screen → (authenticate ∥ resolve and read) → plan → guard →
//! claim + budget + journal → apply → verify → report

mod decide;
mod drill;
mod due;
mod held;
mod joined;
mod known;
pub(crate) mod policy;
mod preflight;
mod preview;
mod tell;

pub use preflight::Quarantine;
pub use preview::Preview;
pub use tell::{DECISION_EVENT, EVENT_SOURCE, OUTCOME_EVENT};

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jiff::Timestamp;
use serde::Serialize;

use crate::authenticate::{Authenticator, Authenticity};
use crate::aws::Aws;
use crate::config::Config;
use crate::drill::Drills;
use crate::engine::{self, Ended, Engine};
use crate::evidence::{self, Evidence};
use crate::failure::{Class, Failure};
use crate::finding::{Finding, ParseError, Problem, Reported, Source, Trigger, unanswered_source};
use crate::guard::{self, Question, Ruling};
use crate::ids::RunId;
use crate::ledger::{Claim, DueAt, DueKind, Hold, Ledger, Told, View, apart};
use crate::plan::Plan;
use crate::playbook::{PlanContext, Planned, Playbook, Purpose};
use crate::report::{Report, Topic};
use crate::run::{Mode, Outcome, Run, RunEnd, RunHead, RunState, UndoResult};
use crate::screen::{TurnedAway, screen};
use crate::target::Target;
use crate::telemetry;
use crate::write_back;
use held::{About, Word};
use known::Known;
use policy::PolicySource;

/// A list of playbooks: what a function is.
pub type Playbooks = &'static [&'static dyn Playbook];

/// Failed steps are tried again this often by the schedule, each time waiting twice as long.
const MOST_TRIES: u32 = 4;

/// What somebody takes back is done again this often by itself; then it is a matter for people.
const MOST_REAPPLIED: u32 = 30;

/// How soon after something was taken back it is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Everything a function keeps between two events.
pub struct Hub {
    /// The function's name: whose schedule takes its runs up.
    pub function: &'static str,
    /// Its playbooks.
    pub playbooks: Playbooks,
    /// Its settings.
    pub config: Config,
    /// The security account.
    pub aws: Aws,
    /// The ledger.
    pub ledger: Ledger,
    /// The evidence.
    pub evidence: Evidence,
    authenticator: Authenticator,
    policies: PolicySource,
    /// The drills' table, where the deployment has one.
    drills: Option<Drills>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("function", &self.function).finish_non_exhaustive()
    }
}

/// What an invocation answers with.
#[derive(Debug, Default, Serialize)]
pub struct Answer {
    /// One a finding and playbook, or a run taken up.
    pub outcomes: Vec<Answered>,
}

/// One line of an answer.
#[derive(Debug, Clone, Serialize)]
pub struct Answered {
    /// The playbook, when one answered.
    pub playbook: Option<String>,
    /// The target, in its canonical form.
    pub target: Option<String>,
    /// The outcome.
    pub outcome: Outcome,
    /// The run, when there is one.
    pub run: Option<RunId>,
    /// Why, in one line.
    pub why: String,
}

impl Answered {
    /// A finding that no playbook was asked about.
    fn unanswered(outcome: Outcome, why: String) -> Self {
        Self { playbook: None, target: None, outcome, run: None, why }
    }
}

impl From<&Report> for Answered {
    fn from(report: &Report) -> Self {
        Self {
            playbook: Some(report.playbook.clone()),
            target: Some(report.target.to_string()),
            outcome: report.outcome,
            run: report.run.clone(),
            why: report.reasons.iter().chain(&report.not_done).next().cloned().unwrap_or_default(),
        }
    }
}

impl Hub {
    /// Puts the parts together. Calls nothing.
    pub fn new(function: &'static str, playbooks: Playbooks, config: Config, aws: Aws) -> Self {
        let ledger = Ledger::new(aws.dynamodb().clone(), &config.ledger_table, &config.decisions_table);
        let evidence = Evidence::new(aws.s3().clone(), &config.evidence_bucket, &config.hub_account);
        let policies = PolicySource::new(config.policy_object.clone(), &config.hub_account);
        let drills = config.drills_table.as_ref().map(|table| Drills::new(aws.dynamodb().clone(), table));
        let authenticator = Authenticator::default();
        Self { function, playbooks, config, aws, ledger, evidence, authenticator, policies, drills }
    }

    /// Makes the policies ready for the first event.
    pub(crate) fn warm_policies(&self) {
        self.policies.warm_up();
    }

    fn engine(&self, playbook: &'static dyn Playbook, deadline: Instant) -> Engine<'_> {
        Engine {
            hub: &self.aws,
            ledger: &self.ledger,
            playbook,
            deadline,
            snapshot_lock_days: self.config.snapshot_lock_days,
            recheck: false,
        }
    }

    fn playbook(&self, id: &str) -> Option<&'static dyn Playbook> {
        self.playbooks.iter().copied().find(|playbook| playbook.meta().id == id)
    }

    /// Answers one event.
    ///
    /// # Errors
    /// Only where another delivery of the same event would help: the ledger or the target's account could
    /// not be reached and nothing was claimed, or the event could neither be read nor kept. Lambda delivers
    /// again, and then puts the event into the dead-letter queue.
    pub async fn receive(&self, bytes: &[u8], deadline: Instant) -> Result<Answer, Failure> {
        let arrived = Timestamp::now();
        match Trigger::parse(bytes) {
            Ok(Trigger::Schedule) => Box::pin(self.take_up_due(arrived, deadline)).await,
            Ok(Trigger::Decision { id }) => Box::pin(self.carry_decision(&id, arrived, deadline)).await,
            Ok(Trigger::Drill { id }) => Box::pin(self.carry_drill(&id, arrived, deadline)).await,
            Ok(Trigger::Findings(reported)) => Box::pin(self.answer_all(bytes, reported, arrived, deadline)).await,
            Err(error) => {
                self.keep_unreadable(bytes, &error.to_string(), arrived).await?;
                Ok(Answer::default())
            }
        }
    }

    async fn keep_unreadable(&self, bytes: &[u8], why: &str, now: Timestamp) -> Result<(), Failure> {
        let kept = self.evidence.keep_unreadable(bytes, now).await?;
        telemetry::alarm("unreadable-event", &format!("{why}; kept as {kept}"));
        self.tell_unreadable(why, &kept, now).await;
        Ok(())
    }

    async fn answer_all(
        &self,
        bytes: &[u8],
        reported: Reported,
        arrived: Timestamp,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let mut answer = Answer::default();
        let mut failed = None;
        let mut unreadable = Vec::new();
        for finding in reported.findings {
            let finding = match finding {
                Ok(finding) => finding,
                Err(ParseError { problem: problem @ Problem::Foreign { .. }, .. }) => {
                    // Whoever may import findings could write unreadable ones without end.
                    telemetry::turned_away("foreign-product");
                    answer.outcomes.push(Answered::unanswered(Outcome::Refused, problem.to_string()));
                    continue;
                }
                Err(error) => {
                    unreadable.push(error.to_string());
                    continue;
                }
            };
            if let Some(away) = screen(&finding, reported.envelope_account.as_ref(), Some(&self.config.hub_account)) {
                telemetry::turned_away(away.as_str());
                // Somebody who asks is told why nothing happens; strangers are not.
                let known = matches!(away, TurnedAway::Sample | TurnedAway::NotLive(..) | TurnedAway::AboutHub(_));
                let told = match &away {
                    _ if known && finding.request.is_some() => {
                        self.tell_unanswered(&finding, &[away.to_string()], false).await
                    }
                    TurnedAway::AboutHub(_) => self.tell_about_hub(&finding, &away).await,
                    _ => true,
                };
                if !told {
                    failed = Some(untold(&finding));
                }
                answer.outcomes.push(Answered::unanswered(Outcome::Refused, away.to_string()));
                continue;
            }
            // A copy that was only observed because everything was stopped is answered when that is taken back.
            let switched = match finding.product {
                Some(_) => self.ledger.last_switched().await.unwrap_or_default(),
                None => None,
            };
            let copy = as_copy(&finding, switched);
            if let Some(copy) = &copy
                && self.ledger.was_told(copy, arrived).await.unwrap_or(false)
            {
                telemetry::turned_away("copy-seen");
                let why = "this copy of the finding was answered minutes ago".to_owned();
                answer.outcomes.push(Answered::unanswered(Outcome::NoChange, why));
                continue;
            }
            let (finding, unsure) = self.whole(finding, deadline).await;
            let answers = self.answers(&finding);
            if let (true, Some(failure)) = (answers.is_empty(), unsure) {
                // It may be about a target all the same.
                let why = format!("what it is about could not be looked up: {}", failure.brief());
                let told = self.tell_not_looked_up(&finding, &why).await;
                answer.outcomes.push(Answered::unanswered(Outcome::Failed, why));
                match failure.class {
                    // Another delivery in a minute may find it better.
                    Class::Transient => failed = Some(failure),
                    _ if !told => failed = Some(untold(&finding)),
                    _ => {}
                }
                continue;
            }
            if answers.is_empty() {
                let mut why = vec![self.why_unanswered(&finding).to_owned()];
                why.extend(finding.not_touched(|_| false));
                telemetry::turned_away("not-answered-here");
                let lies_open = finding.is_exposed_key() && self.playbooks.iter().any(|one| one.looks_up(&finding));
                let concerned = lies_open || self.playbooks.iter().any(|one| one.meta().is_concerned(&finding));
                if (concerned || finding.request.is_some()) && !self.tell_unanswered(&finding, &why, lies_open).await {
                    failed = Some(untold(&finding));
                }
                answer.outcomes.push(Answered::unanswered(Outcome::NoChange, why.join("; ")));
                continue;
            }
            // One finding: its playbooks and targets side by side. Isolation never waits for evidence.
            let results = join_all(
                answers.iter().map(|(playbook, target)| self.answer(*playbook, target, &finding, arrived, deadline)),
            )
            .await;
            // What else the finding names is in every message but those that say that nothing is to be done.
            let is_quiet = |report: &Report| matches!(report.outcome, Outcome::NoChange | Outcome::Gone);
            let not_touched = finding.not_touched(|_| false);
            if !not_touched.is_empty()
                && results.iter().all(|result| result.as_ref().is_ok_and(is_quiet))
                && !self.tell_unanswered(&finding, &not_touched, false).await
            {
                failed = Some(untold(&finding));
            }
            if let Some(copy) = &copy
                && results.iter().all(|result| result.as_ref().is_ok_and(|report| !report.untold))
                && let Err(failure) = self.ledger.note_told(copy, arrived).await
            {
                // It is answered once more.
                telemetry::alarm("copy-unnoted", &failure.brief());
            }
            for result in results {
                match result {
                    Ok(report) => {
                        if report.untold {
                            // No row of the ledger stands for the message: another delivery tells it.
                            failed = Some(untold(&finding));
                        }
                        answer.outcomes.push(Answered::from(&report));
                    }
                    Err(failure) => failed = Some(failure),
                }
            }
        }
        if !unreadable.is_empty() {
            self.keep_unreadable(bytes, &first_of(&unreadable), arrived).await?;
        }
        match failed {
            Some(failure) => Err(failure),
            None => Ok(answer),
        }
    }

    /// What GuardDuty says itself of a finding that Security Hub hands on: its forms leave out resources, and the part
    /// they played. A copy that names another instance or identity than the finding of its id stays as it is, to be
    /// refused. With the failure, where GuardDuty could not be asked.
    ///
    /// Of a rule of AWS Config what it checks: the account gave it its name.
    async fn whole(&self, copy: Finding, deadline: Instant) -> (Finding, Option<Failure>) {
        if let Some(playbook) = self.playbooks.iter().copied().find(|playbook| playbook.may_answer(&copy)) {
            let member = match self.engine(playbook, deadline).reading_about(&copy).await {
                Ok(member) => member,
                Err(failure) => return (copy, Some(failure)),
            };
            return match playbook.authenticate(&self.aws, &member, &copy).await {
                Authenticity::Genuine(genuine) | Authenticity::PutAside(genuine) => {
                    let state = copy.state;
                    self.with_looked_up(Finding { state, ..*genuine }, deadline).await
                }
                Authenticity::Unknown(failure) => (copy, Some(failure)),
                // None that can be believed: nothing is done about it, and nobody is woken, for whoever may put rules can
                // have one of any name report without end.
                _ => {
                    telemetry::turned_away("rule-not-believed");
                    (copy.unbelieved(), None)
                }
            };
        }
        if self.playbooks.iter().any(|playbook| playbook.looks_up(&copy)) {
            return self.with_looked_up(copy, deadline).await;
        }
        if copy.product.is_none() || !self.playbooks.iter().any(|playbook| playbook.meta().is_concerned(&copy)) {
            return (copy, None);
        }
        match self.authenticator.check(&self.aws, &copy).await {
            Authenticity::Genuine(genuine)
                if copy.instances.iter().all(|id| genuine.instances.contains(id))
                    && copy
                        .identities
                        .iter()
                        .all(|one| genuine.identities.iter().any(|other| one.is_part_of(other))) =>
            {
                (*genuine, None)
            }
            Authenticity::Unknown(failure) => (copy, Some(failure)),
            // What is wrong with it is found again, and is said of each target.
            _ => (copy, None),
        }
    }

    /// A finding with what it is about, where it does not name it. With the failure, where that could not be looked up.
    async fn with_looked_up(&self, mut finding: Finding, deadline: Instant) -> (Finding, Option<Failure>) {
        let mut found = Vec::new();
        for playbook in self.playbooks.iter().copied().filter(|playbook| playbook.looks_up(&finding)) {
            let looked_up = async {
                let member = self.engine(playbook, deadline).reading_about(&finding).await?;
                playbook.look_up(&member, &finding).await
            };
            match looked_up.await {
                Ok(resources) => found.extend(resources),
                Err(failure) => return (finding, Some(failure)),
            }
        }
        if found.len() > MOST_LOOKED_UP {
            // The account decides how many there are. Those that are left come with the next report, when these are mended.
            let more = found.split_off(MOST_LOOKED_UP).len();
            telemetry::alarm("looked-up-many", &format!("{more} more targets in account {}", finding.account));
            let why = format!("{more} more things in the account are so than are answered at once: look at them");
            // The alarm stands for a message that does not arrive.
            self.tell_unanswered(&finding, &[why], false).await;
        }
        finding.resources.extend(found);
        (finding, None)
    }

    /// Why no playbook of this function answers a finding.
    pub fn why_unanswered(&self, finding: &Finding) -> &'static str {
        if self.playbooks.iter().any(|playbook| playbook.looks_up(finding)) {
            return match finding.is_exposed_key() {
                true => NO_ACTIVE_KEY,
                false => "what a fix here would change was looked for in the account, and there is none",
            };
        }
        why_unanswered(self.playbooks, finding)
    }

    /// Answers a finding with one playbook for one target; when its run ended before it changed anything,
    /// the oldest finding that joined meanwhile goes next.
    async fn answer(
        &self,
        playbook: &'static dyn Playbook,
        target: &Target,
        finding: &Finding,
        arrived: Timestamp,
        deadline: Instant,
    ) -> Result<Report, Failure> {
        let report = self.answer_once(playbook, target, finding, arrived, deadline).await?;
        if !joined::frees(&report) {
            return Ok(report);
        }
        // What is left of them is due, by the row that the run's end has written.
        let answered = self.answer_joined(playbook, target, &finding.id, arrived, deadline).await;
        Ok(answered.last.unwrap_or(report))
    }

    async fn answer_once(
        &self,
        playbook: &'static dyn Playbook,
        target: &Target,
        finding: &Finding,
        arrived: Timestamp,
        deadline: Instant,
    ) -> Result<Report, Failure> {
        // A request's run has the id that whoever asked was told.
        let asked = || finding.id.as_str().parse().ok().filter(|_| finding.source == Source::Request);
        let run: RunId = asked().unwrap_or_default();
        let id = run.clone();
        telemetry::of_run(&id, Box::pin(self.answer_as(run, playbook, target, finding, arrived, deadline))).await
    }

    async fn answer_as(
        &self,
        run: RunId,
        playbook: &'static dyn Playbook,
        target: &Target,
        finding: &Finding,
        arrived: Timestamp,
        deadline: Instant,
    ) -> Result<Report, Failure> {
        let engine = self.engine(playbook, deadline);
        let reading = engine.reading(&run, &target.account, target.region.as_ref());
        let Assessment { known, authenticity, planned } =
            self.assess(About { playbook, target, finding }, reading, true, arrived).await;
        let mut known = match known {
            Ok(known) => known,
            Err(failure) => return self.without_ledger(playbook, target, finding, failure).await,
        };
        let learned = known.learned.take();
        let gathered = Gathered { run, known, authenticity, planned };
        // Nothing waits for what is only kept for later.
        let (report, ()) = tokio::join!(
            self.answer_gathered(&engine, playbook, target, finding, arrived, gathered),
            self.remember(&target.account, learned, arrived)
        );
        report
    }

    /// The rest of an answer, when everything that it is made from has been read.
    async fn answer_gathered(
        &self,
        engine: &Engine<'_>,
        playbook: &'static dyn Playbook,
        target: &Target,
        finding: &Finding,
        arrived: Timestamp,
        gathered: Gathered,
    ) -> Result<Report, Failure> {
        let meta = playbook.meta();
        let Gathered { run, known, authenticity, planned } = gathered;
        let mut tighten = Tighten::default();
        let genuine = match authenticity {
            Authenticity::Genuine(genuine) => *genuine,
            Authenticity::PutAside(genuine) => {
                let why = format!("it was {} in Security Hub after the event was sent", put_aside(&genuine));
                telemetry::alarm("finding-put-aside", &why);
                tighten.ask_a_person(why);
                tighten.page = true;
                *genuine
            }
            // Security Hub keeps its copies for longer than GuardDuty its findings: a note on an old one is no forgery.
            Authenticity::Absent if finding.source == Source::GuardDuty && finding.product.is_some() => {
                telemetry::turned_away("copy-of-nothing");
                let why = "GuardDuty does not have the finding that this is a copy of";
                let report = Report::of(meta.id, target, finding, Outcome::Refused, why);
                telemetry::answered(&report);
                return Ok(report);
            }
            Authenticity::Absent => {
                let source = finding.source.name();
                let why = format!("{source} does not have this finding: it is not genuine, or was deleted");
                return Ok(self.refuse_forged(playbook, target, finding, why).await);
            }
            Authenticity::Differs(how) => {
                let why = format!("{}'s finding of this id is another: {how}", finding.source.name());
                return Ok(self.refuse_forged(playbook, target, finding, why).await);
            }
            Authenticity::TurnedAway(away) => {
                telemetry::turned_away(away.as_str());
                let report = Report::of(meta.id, target, finding, Outcome::Refused, away.to_string());
                telemetry::answered(&report);
                return Ok(report);
            }
            Authenticity::Unknown(failure) => {
                telemetry::alarm("finding-unauthenticated", &failure.brief());
                tighten.ask_a_person(format!("the finding could not be fetched again: {}", failure.brief()));
                finding.clone()
            }
            Authenticity::NotAsked(why) => {
                telemetry::turned_away("not-authenticated");
                let why = format!("nothing is done on the word of an event alone: {why}");
                return Ok(self.told(playbook, Report::of(meta.id, target, finding, Outcome::Refused, why)).await);
            }
        };
        let genuine = meta.named(genuine);
        tighten.for_request(&genuine);
        if !self.is_about(playbook, &genuine, target) {
            let source = finding.source.name();
            let why = format!("{source}'s finding of this id is not about this target, or of another type");
            return Ok(self.refuse_forged(playbook, target, finding, why).await);
        }
        let about = About { playbook, target, finding: &genuine };
        let (mut again, mut earlier) = (None, None);
        if let Some(hold) = &known.view.hold {
            match self.word_of(about, hold, &planned, arrived).await? {
                Word::Ends(report) => return Ok(*report),
                Word::Free => {}
                Word::Renews(first) => earlier = Some(*first),
                Word::AskFirst(why) => {
                    tighten.ask_a_person(why);
                    tighten.page = true;
                }
                Word::Again(run) => again = Some(run),
            }
        }
        let (reading, plan) = match planned {
            Ok((reading, Planned::Plan(plan))) => (reading, plan),
            Ok((_, Planned::Gone(why))) => {
                return Ok(self.told(playbook, Report::of(meta.id, target, &genuine, Outcome::Gone, why)).await);
            }
            Ok((_, Planned::Refused(why))) => {
                let mut report = Report::of(meta.id, target, &genuine, Outcome::Refused, why);
                report.reasons.extend(genuine.not_touched(|_| false));
                report.page = true;
                return Ok(self.told(playbook, report).await);
            }
            Err(failure) => return self.unplanned(playbook, target, &genuine, failure).await,
        };
        if let Some(problem) = &known.policies.problem {
            telemetry::alarm("policy-unusable", problem);
            tighten.ask_a_person(format!("the published policy set cannot be used: {problem}"));
        }
        let incomplete = plan.incomplete;
        let would_cut = plan.steps().any(|step| step.cuts);
        let (mut plan, mut ruling) = self.rule(&known, meta.id, &genuine, plan, arrived, &tighten);
        if incomplete && matches!(ruling.mode, Mode::Propose | Mode::Observe) {
            // Nothing waits for this plan, and a person is to see all of it.
            let cx = self.plan_context(&reading, &known.view.groups, None);
            match playbook.plan(&cx, target, &genuine).await {
                Ok(Planned::Plan(whole)) => {
                    let most = ruling.mode;
                    (plan, ruling) = self.rule(&known, meta.id, &genuine, whole, arrived, &tighten);
                    ruling.mode = ruling.mode.min(most);
                }
                Ok(Planned::Gone(_) | Planned::Refused(_)) => {}
                Err(failure) => telemetry::alarm("plan-incomplete", &failure.brief()),
            }
        }
        if let Some(run) = again {
            return self.again(about, &run, &plan, &ruling, &known.view, arrived).await;
        }
        if plan.is_empty() && would_cut {
            let why = "nothing was done: what contains it wants a leave that no policy gives";
            let mut report = Report::of(meta.id, target, &genuine, Outcome::Refused, why);
            report.reasons.extend(plan.notes.iter().cloned());
            report.page = true;
            return Ok(self.told(playbook, report).await);
        }
        // Other steps that want a leave nobody gave are no reason for a run.
        if plan.is_empty() {
            let mut report =
                Report::of(meta.id, target, &genuine, Outcome::NoChange, "everything is as wanted already");
            report.reasons.extend(plan.notes.iter().cloned());
            return Ok(self.told(playbook, report).await);
        }
        let head = RunHead {
            id: run,
            function: self.function.to_owned(),
            playbook: meta.id.to_owned(),
            hold: meta.hold.to_owned(),
            target: target.clone(),
            finding: genuine,
            plan_hash: plan.hash(),
            plan,
            mode: ruling.mode,
            reasons: ruling.reasons,
            arrived_at: arrived,
            leaves: ruling.leaves,
            hold_seconds: ruling.hold_seconds,
            owner: ruling.owner,
            page: tighten.page || ruling.failed,
            stopped: ruling.stopped,
        };
        self.act(engine, playbook, head, &known.view, earlier.as_ref(), &reading).await
    }

    /// Whether a finding is about a target. A request is about the one that it names, which stands in the decision; a drill is
    /// about canaries and nothing else, whatever its row says.
    fn is_about(&self, playbook: &dyn Playbook, finding: &Finding, target: &Target) -> bool {
        match finding.source {
            Source::Request => finding.account == target.account && playbook.takes_requests_about(target.kind),
            Source::Drill => self.config.canaries.contains(target) && playbook.is_about(finding, target),
            _ => playbook.is_about(finding, target),
        }
    }

    /// Rounds 1 and 2, side by side: what the ledger and the policy bucket hold, and where the account stands; the
    /// finding's own service; and in the member account a session, then every read of the plan at once.
    async fn assess(
        &self,
        about: About<'_>,
        reading: impl Future<Output = Result<Aws, Failure>>,
        hurried: bool,
        now: Timestamp,
    ) -> Assessment {
        let About { playbook, target, finding } = about;
        let theirs = matches!(finding.source, Source::GuardDuty | Source::Request | Source::Drill);
        let (known, authenticity, planned) = tokio::join!(
            self.known(playbook.meta(), target, now),
            async { if theirs { Some(self.authenticator.check(&self.aws, finding).await) } else { None } },
            async {
                let groups = self.ledger.groups(&target.account, target.region.as_ref());
                let (reading, groups) = tokio::join!(reading, groups);
                let reading = reading?;
                // A plan that does not know our groups would take what is cut for open.
                let groups = groups?;
                let cx = PlanContext { hurried, ..self.plan_context(&reading, &groups, None) };
                let asked = match theirs {
                    true => None,
                    // What it says now is what the plan is about.
                    false => Some(playbook.authenticate(&self.aws, &reading, finding).await),
                };
                let said = match &asked {
                    Some(Authenticity::Genuine(genuine) | Authenticity::PutAside(genuine)) => genuine,
                    _ => finding,
                };
                let planned = playbook.plan(&cx, target, said).await.map(|planned| (reading, planned));
                Ok::<_, Failure>((asked, planned))
            },
        );
        let (asked, planned) = match planned {
            Ok((asked, planned)) => (asked, planned),
            Err(failure) => (None, Err(failure)),
        };
        let unread = || Failure::new(Class::Transient, "ask about finding", finding.id.as_str());
        let authenticity = authenticity.or(asked);
        let authenticity =
            authenticity.unwrap_or_else(|| Authenticity::Unknown(unread().because("the account could not be reached")));
        Assessment { known, authenticity, planned }
    }

    fn plan_context<'a>(
        &self,
        aws: &'a Aws,
        groups: &'a [crate::action::KnownGroup],
        run: Option<&'a RunId>,
    ) -> PlanContext<'a> {
        let snapshot_lock_days = self.config.snapshot_lock_days;
        PlanContext {
            aws,
            groups,
            run,
            snapshots: Default::default(),
            hurried: false,
            snapshot_lock_days,
            recheck: false,
        }
    }

    /// The guard's word on a plan, made stricter by what else is known. Steps without leave are taken out, and a
    /// plan that is too long for the ledger is shortened: here, so that what is approved is what was proposed.
    fn rule(
        &self,
        known: &Known,
        playbook: &str,
        finding: &Finding,
        mut plan: Plan,
        now: Timestamp,
        tighten: &Tighten,
    ) -> (Plan, Ruling) {
        let ask = |plan: &Plan| {
            guard::rule(
                &known.policies.set,
                &Question {
                    playbook,
                    target: &plan.target,
                    tags: &plan.tags,
                    units: known.units.as_ref().map_err(String::as_str),
                    finding,
                    plan: plan.into(),
                    spent_account: known.view.spent_account,
                    spent_total: known.view.spent_total,
                    now,
                    hub_account: self.config.hub_account.as_str(),
                    break_glass: &self.config.break_glass,
                },
            )
        };
        // Leaves first: what is left out cannot make the rest of the plan inexact.
        let leaves = ask(&plan).leaves;
        engine::permit(&mut plan, &leaves);
        let mut ruling = ask(&plan);
        ruling.leaves = ruling.leaves.intersection(&leaves).copied().collect();
        engine::permit(&mut plan, &ruling.leaves);
        plan.shorten();
        if ruling.failed {
            telemetry::alarm("guard-failed", &ruling.reasons.join("; "));
        }
        if let Some(stopped) = &known.view.stopped {
            ruling.stopped = ruling.mode > Mode::Observe;
            ruling.mode = ruling.mode.min(Mode::Observe);
            ruling.reasons.insert(0, stopped.to_string());
        }
        if let Some(why) = &tighten.why {
            ruling.mode = ruling.mode.min(Mode::Propose);
            ruling.reasons.insert(0, why.clone());
        }
        if !plan.ask_first.is_empty() && !plan.is_empty() {
            ruling.mode = ruling.mode.min(Mode::Propose);
            ruling.reasons.splice(0..0, plan.ask_first.iter().cloned());
        }
        (plan, ruling)
    }

    /// Claims and applies, proposes, observes or refuses.
    async fn act(
        &self,
        engine: &Engine<'_>,
        playbook: &'static dyn Playbook,
        mut head: RunHead,
        view: &View,
        earlier: Option<&Finding>,
        reading: &Aws,
    ) -> Result<Report, Failure> {
        let now = Timestamp::now();
        let seen = view.hold.as_ref();
        if head.mode == Mode::Enforce {
            let budget = self.config.budget;
            // The claim, beside the sessions that the first steps need. One that cannot be had is not tried: all claims meet on
            // the row of the whole budget, and in a flood most are such.
            let (claim, sessions) = match view.spent(budget, &head.finding, now) {
                Some(which) => (Ok(Claim::OverBudget(which)), engine::Sessions::default()),
                None => tokio::join!(
                    self.ledger.claim(&head, seen, earlier, budget, now),
                    engine.early_sessions(&head.id, &head.plan, &view.groups)
                ),
            };
            match claim {
                Ok(Claim::Won(run)) => {
                    let ended = {
                        let mut run = *run;
                        let ended = engine.carry_out(&mut run, reading, view.groups.clone(), sessions, true).await;
                        (run, ended)
                    };
                    return self.conclude(playbook, ended.0, ended.1).await;
                }
                Ok(Claim::Lost(hold)) => return Ok(self.lost(playbook, &head, hold).await),
                Ok(Claim::OverBudget(which)) => {
                    telemetry::alarm("budget-spent", &which);
                    head.mode = Mode::Propose;
                    head.reasons.insert(0, format!("the hour's budget of {which} is spent, so a person is asked"));
                }
                Err(failure) => {
                    return self.without_ledger(playbook, &head.target, &head.finding, failure).await;
                }
            }
        }
        let (state, outcome) = match head.mode {
            Mode::Propose | Mode::Enforce => (RunState::Proposed, Outcome::Proposed),
            Mode::Observe => (RunState::Observed, Outcome::Observed),
            Mode::Refuse => {
                let mut report = Report::of(&head.playbook, &head.target, &head.finding, Outcome::Refused, "");
                report.reasons = head.reasons;
                report.reasons.extend(head.finding.not_touched(|_| false));
                return Ok(self.told(playbook, report).await);
            }
        };
        if let Some(hold) = seen {
            if hold.state == RunState::Proposed
                && state == RunState::Proposed
                && let Some(report) = self.asked_before(playbook, &head, hold, now).await?
            {
                return Ok(report);
            }
            // What waits for a person, or holds, is not put aside by what is only recorded; nor what is tried again by
            // what does not act.
            let stays = state == RunState::Observed && matches!(hold.state, RunState::Proposed | RunState::Held);
            if stays || self.is_tried_again(hold).await? {
                return Ok(self.lost(playbook, &head, Some(hold.clone())).await);
            }
            // The same plan for the same finding was recorded: a repeat shows nothing new.
            let recorded = hold.state == RunState::Observed
                && state == RunState::Observed
                && hold.finding == head.finding.id
                && hold.plan_hash.as_ref() == Some(&head.plan_hash);
            if recorded {
                return Ok(self.lost(playbook, &head, Some(hold.clone())).await);
            }
        }
        let due = DueAt { what: DueKind::Report, at: now + Duration::from_secs(60) };
        match self.ledger.record(&head, seen, earlier, state, due, now).await {
            Ok(Claim::Won(run)) => {
                let report = recorded_report(playbook, &run, outcome);
                Ok(self.tell_and_note(playbook, &run, report, due).await)
            }
            Ok(Claim::Lost(hold)) => Ok(self.lost(playbook, &head, hold).await),
            Ok(Claim::OverBudget(_)) => Err(Failure::new(Class::Bug, "record a proposal for", head.target.to_string())),
            Err(failure) => self.without_ledger(playbook, &head.target, &head.finding, failure).await,
        }
    }

    async fn lost(&self, playbook: &'static dyn Playbook, head: &RunHead, hold: Option<Hold>) -> Report {
        let why = match &hold {
            Some(hold) => format!("run {} has the target; the finding joined", hold.run),
            None => "another delivery has the target; the finding joined".to_owned(),
        };
        if let Err(failure) = self.ledger.join(head.holds_as(), &head.target, &head.finding, Timestamp::now()).await {
            telemetry::alarm("join-unwritten", &failure.brief());
        }
        let mut report = Report::of(playbook.meta().id, &head.target, &head.finding, Outcome::NoChange, why);
        report.run = hold.map(|hold| hold.run);
        report.joined = true;
        telemetry::answered(&report);
        report
    }

    /// Writes the end of a run's steps into the ledger, then reports.
    async fn conclude(&self, playbook: &'static dyn Playbook, mut run: Run, ended: Ended) -> Result<Report, Failure> {
        let mut end = match ended {
            Ended::Done(end) => RunEnd { decided: run.decided.clone(), ..end },
            Ended::Interrupted(failure) => {
                // The due row of the lease stands: the schedule goes on. Another delivery would not help.
                telemetry::alarm("run-interrupted", &failure.brief());
                let outcome = if run.state == RunState::Undoing { Outcome::UndonePartly } else { Outcome::Partial };
                let mut report = Report::of_run(&run, outcome, playbook.meta().purpose);
                report.not_done = vec![format!("interrupted, the schedule goes on: {}", failure.brief())];
                report.retry = true;
                report.page = true;
                // Of a run that comes no further people hear; not each minute, and not of one that another has.
                let told = run.interruptions.is_power_of_two() && run.interruptions.trailing_zeros().is_multiple_of(2);
                if failure.class != Class::Conflict && told {
                    return Ok(self.told(playbook, report).await);
                }
                return Ok(report);
            }
        };
        let undoing = run.state == RunState::Undoing;
        let failed_undo =
            undoing && run.undone.values().any(|undone| matches!(undone.result, UndoResult::Failed { .. }));
        let state = match (undoing, failed_undo) {
            (true, true) => RunState::Held,
            (true, false) => RunState::Released,
            (false, _) if run.is_put_back() => RunState::Freed,
            (false, _) if run.changed_anything() => RunState::Held,
            (false, _) => RunState::Freed,
        };
        let report_due = DueAt { what: DueKind::Report, at: end.at + Duration::from_secs(60) };
        let mut next = vec![report_due];
        next.extend(self.due_after(playbook, &run, state, &end));
        next.extend(write_back::due(playbook, &run, &end));
        // Only what is due is promised.
        end.retry = next.iter().any(|due| due.what == DueKind::Retry);
        if !undoing && end.retry {
            run.tries += 1;
        }
        self.ledger.finish(&run, state, &end, &next).await?;
        run.state = state;
        run.end = Some(end);
        Ok(self.deliver(playbook, &run, report_due).await)
    }

    /// What waits after a run's steps have ended.
    fn due_after(&self, playbook: &'static dyn Playbook, run: &Run, state: RunState, end: &RunEnd) -> Vec<DueAt> {
        let mut due = Vec::new();
        let later = |seconds: u64| apart(Duration::from_secs(seconds), &run.head.id);
        if state == RunState::Released && run.is_given_back_by_drill() {
            // What was reported of the canary while it was given back waits on its hold.
            due.push(DueAt { what: DueKind::Joined, at: end.at });
        }
        if run.state != RunState::Applying {
            return due;
        }
        // A fix that did not come about is planned anew when its control is reported again: meanwhile its owner may act.
        let unfinished = matches!(end.outcome, Outcome::Partial | Outcome::NotContained);
        if unfinished && end.retry && run.tries < MOST_TRIES {
            due.push(DueAt { what: DueKind::Retry, at: end.at + later(60 << run.tries) });
        }
        if playbook.meta().purpose == Purpose::Preserve && run.changed_anything() {
            due.push(DueAt { what: DueKind::Evidence, at: end.at + Duration::from_secs(30) });
        }
        if state == RunState::Held && run.held_at.is_none() {
            let at = |secs: &u64| DueAt { what: DueKind::Recheck, at: end.at + Duration::from_secs(*secs) };
            due.extend(playbook.meta().rechecks.iter().map(at));
        }
        if let Some(seconds) = run.head.hold_seconds.and_then(|s| u64::try_from(s).ok())
            && state == RunState::Held
            && run.held_at.is_none()
        {
            due.push(DueAt { what: DueKind::HoldEnds, at: end.at + Duration::from_secs(seconds) });
        }
        if matches!(end.outcome, Outcome::NotContained | Outcome::NotFixed) && state == RunState::Freed {
            due.push(DueAt { what: DueKind::Joined, at: end.at + later(60) });
        }
        due
    }

    async fn refuse_forged(
        &self,
        playbook: &'static dyn Playbook,
        target: &Target,
        finding: &Finding,
        why: String,
    ) -> Report {
        telemetry::alarm("finding-refused", &why);
        let mut report = Report::of(playbook.meta().id, target, finding, Outcome::Refused, why);
        report.page = true;
        self.told(playbook, report).await
    }

    /// Without the ledger nothing is claimed and nothing proposed: people are told at once, and the error
    /// makes Lambda deliver again.
    async fn without_ledger(
        &self,
        playbook: &'static dyn Playbook,
        target: &Target,
        finding: &Finding,
        failure: Failure,
    ) -> Result<Report, Failure> {
        telemetry::alarm("ledger-unreachable", &failure.brief());
        let why = format!("the ledger cannot be reached, so nothing was done: {}", failure.brief());
        let mut report = Report::of(playbook.meta().id, target, finding, Outcome::Failed, why);
        report.page = true;
        self.told(playbook, report).await;
        Err(failure)
    }

    async fn unplanned(
        &self,
        playbook: &'static dyn Playbook,
        target: &Target,
        finding: &Finding,
        failure: Failure,
    ) -> Result<Report, Failure> {
        telemetry::alarm("plan-failed", &failure.brief());
        let why = format!("the account could not be read, so nothing was done: {}", failure.brief());
        let mut report = Report::of(playbook.meta().id, target, finding, Outcome::Failed, why);
        report.reasons.extend(finding.not_touched(|_| false));
        report.page = true;
        let report = self.told(playbook, report).await;
        match failure.class {
            // Another delivery in a minute may find it better.
            Class::Transient => Err(failure),
            _ => Ok(report),
        }
    }
}

/// The report of a run that was recorded and does not act.
fn recorded_report(playbook: &dyn Playbook, run: &Run, outcome: Outcome) -> Report {
    let mut report = Report::of_run(run, outcome, playbook.meta().purpose);
    report.page = run.head.page;
    if run.head.stopped {
        // It would have been acted on, or asked about: who stopped it must know what is not.
        report.topic = Some(Topic::Stopped);
        report.page = true;
    }
    report
}

/// What is known of a finding and its target before anything is decided.
struct Assessment {
    known: Result<Known, Failure>,
    authenticity: Authenticity,
    /// The plan, and the session it was read with.
    planned: Result<(Aws, Planned), Failure>,
}

/// What is remembered of a copy that Security Hub hands on. Whoever has a member account can have it send the same one
/// without end (`BatchUpdateFindings` on it is enough), and cannot change when its finding was seen last.
fn as_copy(finding: &Finding, switched: Option<Timestamp>) -> Option<Told> {
    const TEN_MINUTES: Duration = Duration::from_secs(600);
    let seen = finding.last_seen.filter(|_| finding.product.is_some() && finding.request.is_none())?;
    // With what it names: a forgery of a genuine one's id must not stand for it.
    let named = serde_json::to_vec(&(&finding.instances, &finding.identities, &finding.resources)).unwrap_or_default();
    let switched = switched.map(|at| format!("#{}", at.as_millisecond())).unwrap_or_default();
    let what = format!("copy#{}#{}{switched}", seen.as_millisecond(), evidence::sha256(&named));
    Some(Told { about: finding.id.to_string(), what, remembered: TEN_MINUTES })
}

/// Why findings could not be read: of the first ones, and of how many more. A document can be full of them, and a line
/// of the log cannot.
fn first_of(unreadable: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = unreadable.get(..SHOWN).unwrap_or(unreadable).join("; ");
    match unreadable.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

/// A message about a finding that did not reach people.
fn untold(finding: &Finding) -> Failure {
    Failure::new(Class::Transient, "tell people about", finding.id.as_str())
}

/// Why no playbook answers a finding.
pub fn why_unanswered(playbooks: &[&dyn Playbook], finding: &Finding) -> &'static str {
    if !finding.source.has_guardduty_types() {
        return unanswered_source(finding);
    }
    let knows = |playbook: &&&dyn Playbook| {
        playbook.meta().answers().any(|answers| answers.finding_type == finding.finding_type)
    };
    let concerned = |playbook: &&dyn Playbook| playbook.meta().is_concerned(finding);
    match playbooks.iter().find(knows) {
        Some(playbook) => playbook
            .meta()
            .refusal(finding)
            .unwrap_or("it names only network interfaces, whose instance is for a person to look up"),
        None => match finding.finding_type.contains(":IAMUser/") && !playbooks.iter().any(concerned) {
            true => ANOTHERS,
            false => crate::finding::unanswered(&finding.finding_type),
        },
    }
}

/// At once so many targets of a finding are answered that does not name them.
const MOST_LOOKED_UP: usize = 10;

/// What is said of a key that lies open and that nothing here contains.
const NO_ACTIVE_KEY: &str = "AWS says that an access key lies open, and IAM does not know it for an active key of a user in the \
                             account: if it is the root user's, delete it; if it was made inactive, never activate it again";

/// What is said of an identity where somebody asks a function that has no power over any.
const ANOTHERS: &str = "it is about an identity, which this function has no power over: what GuardDuty reports of identities is \
                        answered by contain-identity as it is reported, and nothing is done on request";

/// What somebody did to a finding in Security Hub, as a word.
fn put_aside(finding: &Finding) -> &'static str {
    match finding.state {
        crate::finding::State::Suppressed => "suppressed",
        _ => "resolved",
    }
}

/// Why a finding is proposed at most, whatever the policies say; `None` when they decide.
pub fn why_only_proposed(finding: &Finding) -> Option<String> {
    let action = finding.request.as_ref().filter(|_| finding.source != Source::Request)?;
    Some(format!("asked for by the Security Hub custom action `{action}`, which does not say by whom"))
}

/// What an answer is made from, read side by side.
struct Gathered {
    run: RunId,
    known: Known,
    authenticity: Authenticity,
    planned: Result<(Aws, Planned), Failure>,
}

/// What makes the guard's answer stricter than the policies'.
#[derive(Debug, Default)]
struct Tighten {
    why: Option<String>,
    page: bool,
}

impl Tighten {
    fn ask_a_person(&mut self, why: String) {
        self.why.get_or_insert(why);
    }

    /// A custom action says that somebody asks, and not who.
    fn for_request(&mut self, finding: &Finding) {
        if let Some(why) = why_only_proposed(finding) {
            self.ask_a_person(why);
        }
    }
}
