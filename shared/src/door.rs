//! People's door: the function behind a URL with IAM authentication. It is the only one that writes decisions, and it has
//! no power over any resource: what is decided is carried out by the function whose run it is.
//!
//! receive → who calls → what is asked → read the run and the policies → ask the policies → write the decision → send its id

pub mod caller;
pub mod client;
pub mod wire;

use aws_lambda_events::lambda_function_urls::LambdaFunctionUrlRequest;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::aws::Aws;
use crate::config::Config;
use crate::failure::{Class, Failure};
use crate::finding::{Finding, Source};
use crate::guard::people::{self, Word};
use crate::guard::{Policies, Question};
use crate::hub::policy::PolicySource;
use crate::hub::{DECISION_EVENT, EVENT_SOURCE};
use crate::ids::RunId;
use crate::ledger::decisions::{Decision, SaidSo, Verb};
use crate::ledger::{Ledger, RunPlace, Which};
use crate::message::Message;
use crate::plan::Plan;
use crate::report::{Report, Topic, names};
use crate::run::{Outcome, Run};
use crate::target::TargetKind;
use crate::telemetry;
use crate::text::plain;
use crate::units;
use caller::{Caller, Nobody, PersonKind};
use wire::{Answer, Asked, Brief, ByHand, LONGEST_REASON, MOST_HOURS, MOST_RUNS, RefusalKind};

/// What stands for a person where the function that holds drills takes one back.
const DRILLS: &str = "firebreak.drill";

/// The longest body that is read, in bytes: what is asked is short.
const MOST_BYTES: usize = 16 * 1024;

/// A playbook that can be asked for by hand, and the kinds of target that it takes.
pub type Requestable = (&'static str, &'static [TargetKind]);

/// Everything that the door keeps between two requests.
pub struct Door {
    config: Config,
    aws: Aws,
    ledger: Ledger,
    policies: PolicySource,
    requestable: &'static [Requestable],
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

/// Why something is not to be.
struct Refusal {
    kind: RefusalKind,
    why: String,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        telemetry::alarm("door-failed", &failure.brief());
        Self::new(RefusalKind::Failed, format!("nothing was decided: {}", failure.brief()))
    }
}

impl From<Nobody> for Refusal {
    fn from(nobody: Nobody) -> Self {
        Self::new(RefusalKind::Nobody, nobody.to_string())
    }
}

impl Refusal {
    fn new(kind: RefusalKind, why: impl Into<String>) -> Self {
        Self { kind, why: why.into() }
    }

    fn malformed(why: impl Into<String>) -> Self {
        Self::new(RefusalKind::Malformed, why)
    }
}

/// What several persons decide together, as one.
struct Matter<'a> {
    caller: &'a Caller,
    verb: Verb,
    /// What waits for more persons is known by this.
    about: String,
    plan_hash: &'a str,
    question: Question<'a>,
    asked_by: &'a [String],
    now: Timestamp,
}

impl Door {
    /// Puts the parts together. Calls nothing.
    pub fn new(config: Config, aws: Aws, requestable: &'static [Requestable]) -> Self {
        let ledger = Ledger::new(aws.dynamodb().clone(), &config.ledger_table, &config.decisions_table);
        let policies = PolicySource::new(config.policy_object.clone(), &config.hub_account);
        Self { config, aws, ledger, policies, requestable }
    }

    /// Makes ready what the first request needs. Failures show when they matter.
    pub async fn warm_up(&self) {
        crate::lambda::event_asked_for().await;
        self.policies.warm_up();
        let _ = tokio::join!(self.ledger.accepted_policy(), self.policies.fetch(&self.aws));
    }

    /// Answers one request, in the form that Lambda gives back to the URL's caller.
    /// <https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html>, "Response payload format"
    pub async fn receive(&self, bytes: &[u8]) -> Value {
        let now = Timestamp::now();
        let answer = match Box::pin(self.answer(bytes, now)).await {
            Ok(answer) => answer,
            Err(Refusal { kind, why }) => Answer::Refused { kind, why },
        };
        let body = serde_json::to_string(&answer).unwrap_or_default();
        json!({
            "statusCode": answer.status(),
            "headers": { "content-type": "application/json", "cache-control": "no-store" },
            "body": body,
            "isBase64Encoded": false,
        })
    }

    async fn answer(&self, bytes: &[u8], now: Timestamp) -> Result<Answer, Refusal> {
        let nobody = |nobody: Nobody| {
            let refusal = Refusal::from(nobody);
            refused("-", "-", &refusal);
            Err(refusal)
        };
        // What is no request to the function's URL is nobody's.
        let Ok(event) = serde_json::from_slice::<LambdaFunctionUrlRequest>(bytes) else {
            return nobody(Nobody::NotAuthenticated);
        };
        let caller = match Caller::of(&event, &self.config.hub_account) {
            Ok(caller) => caller,
            Err(Nobody::Drills(arn)) => return self.answer_drill(&arn, &event, now).await,
            Err(other) => return nobody(other),
        };
        let asked = asked(&event);
        let word = asked.as_ref().map_or("-", Asked::as_str);
        let answered = match asked {
            Ok(asked) => self.answer_caller(&caller, &asked, now).await,
            Err(refusal) => Err(refusal),
        };
        match &answered {
            Ok(answer) => answered_well(&caller, word, answer),
            Err(refusal) => refused(&caller.person.id, word, refusal),
        }
        answered
    }

    /// What the function that holds drills asks for: to take back what a drill of its own did or proposed. No policy is
    /// asked: nothing else is in reach of it, and a set that listens to no function must not leave canaries contained.
    async fn answer_drill(
        &self,
        arn: &str,
        event: &LambdaFunctionUrlRequest,
        now: Timestamp,
    ) -> Result<Answer, Refusal> {
        let asked = asked(event);
        let word = asked.as_ref().map_or("-", Asked::as_str);
        let answered = match asked {
            Ok(asked) => self.take_drill_back(arn, &asked, now).await,
            Err(refusal) => Err(refusal),
        };
        match &answered {
            Ok(_) => tracing::info!(person = DRILLS, arn, asked = word, "asked at the door"),
            Err(refusal) => refused(DRILLS, word, refusal),
        }
        answered
    }

    async fn take_drill_back(&self, arn: &str, asked: &Asked, now: Timestamp) -> Result<Answer, Refusal> {
        let only = || Refusal::from(Nobody::Drills(arn.to_owned()));
        let (id, verb) = match asked.decides() {
            Some((id, verb @ (Verb::Undo | Verb::Reject))) => (id, verb),
            _ => return Err(only()),
        };
        let run = self.run(id).await?;
        if run.head.finding.source != Source::Drill {
            return Err(only());
        }
        if let Some(why) = verb.why_not(&run, now) {
            return Err(Refusal::new(RefusalKind::State, why));
        }
        let decision = Decision { persons: vec![DRILLS.to_owned()], ..Decision::new(&run, verb, arn, now) };
        self.ledger.decide(&decision).await?;
        self.send(decision, vec![arn.to_owned()]).await
    }

    async fn answer_caller(&self, caller: &Caller, asked: &Asked, now: Timestamp) -> Result<Answer, Refusal> {
        match asked {
            Asked::Runs { most, after, state, severity } => {
                let which = Which { state: *state, severity: *severity };
                self.runs(*most, after.as_deref(), which, now).await
            }
            Asked::Show { run } => Ok(Answer::Run { run: Box::new(self.run(run).await?) }),
            Asked::Stop { reason } => self.switch(caller, true, reason, now).await,
            Asked::Resume { reason } => self.switch(caller, false, reason, now).await,
            Asked::Request(by_hand) => {
                self.not_stopped(Verb::Request).await?;
                self.request(caller, by_hand, now).await
            }
            Asked::Extend { run, hours } => {
                if !(1..=MOST_HOURS).contains(hours) {
                    return Err(Refusal::malformed(format!("a hold can end in 1 to {MOST_HOURS} hours")));
                }
                let until = now + jiff::SignedDuration::from_hours(i64::from(*hours));
                self.decide(caller, run, Verb::Extend, Some((*hours, until)), now).await
            }
            Asked::Approve { run } => self.decide(caller, run, Verb::Approve, None, now).await,
            Asked::Reject { run } => self.decide(caller, run, Verb::Reject, None, now).await,
            Asked::Undo { run } => self.decide(caller, run, Verb::Undo, None, now).await,
            Asked::Retry { run } => self.decide(caller, run, Verb::Retry, None, now).await,
            Asked::Release { run } => self.decide(caller, run, Verb::Release, None, now).await,
        }
    }

    /// Stops everything, or takes that back. Whoever may call the door may: to stop must never wait for a policy that cannot be
    /// read, and people are told who did either.
    async fn switch(&self, caller: &Caller, stop: bool, reason: &str, now: Timestamp) -> Result<Answer, Refusal> {
        let reason = reason_of(reason)?;
        self.ledger.set_stopped(stop, &caller.arn, &reason, now).await?;
        let who = names(&caller.arn);
        let (subject, text) = match stop {
            true => (
                "Firebreak: STOPPED, it only observes",
                format!(
                    "STOPPED: nothing is contained or fixed by itself any more\nBy: {who}\nWhy: {reason}\nRuns under way end within \
                     a minute; undo works\nTake it back: firebreak resume --reason …"
                ),
            ),
            false => (
                "Firebreak: RESUMED, it acts again",
                format!("RESUMED: what the policies permit is done again\nBy: {who}\nWhy: {reason}"),
            ),
        };
        let message = Message { subject: subject.to_owned(), text, outcome: None, page: true };
        let told = message.publish(&self.aws, &self.config.topic_arn, "the switch").await;
        if let Err(failure) = &told {
            telemetry::alarm("switch-untold", &failure.brief());
        }
        Ok(Answer::Switched { stopped: stop, by: caller.arn.clone(), told: told.is_ok() })
    }

    /// Refuses what would change something while everything is stopped. To undo and to reject stay.
    async fn not_stopped(&self, verb: Verb) -> Result<(), Refusal> {
        if !matches!(verb, Verb::Approve | Verb::Retry | Verb::Request) {
            return Ok(());
        }
        match self.ledger.stopped().await? {
            None => Ok(()),
            Some(stopped) => {
                let why = format!("{stopped}; {} it when that is taken back (firebreak resume)", verb.as_str());
                Err(Refusal::new(RefusalKind::State, why))
            }
        }
    }

    async fn runs(&self, most: u32, after: Option<&str>, which: Which, now: Timestamp) -> Result<Answer, Refusal> {
        if !(1..=MOST_RUNS).contains(&most) {
            return Err(Refusal::malformed(format!("1 to {MOST_RUNS} runs are listed at once")));
        }
        let after: Option<RunPlace> = match after {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| Refusal::malformed("`after` is what no answer has said"))?),
        };
        let (runs, next) = self.ledger.runs(usize::try_from(most).unwrap_or(20), after.as_ref(), which).await?;
        let runs = runs.iter().map(|run| Brief::of(run, now)).collect();
        Ok(Answer::Runs { runs, next: next.map(|place| place.to_string()) })
    }

    async fn run(&self, id: &RunId) -> Result<Run, Refusal> {
        let found = self.ledger.run(id).await?;
        found.ok_or_else(|| Refusal::new(RefusalKind::Unknown, format!("there is no run {id}")))
    }

    async fn policies(&self) -> Result<std::sync::Arc<Policies>, Refusal> {
        let (accepted, fetched) = tokio::join!(self.ledger.accepted_policy(), self.policies.fetch(&self.aws));
        let choice = self.policies.choose(fetched, accepted?.as_deref());
        match choice.problem {
            None => Ok(choice.set),
            Some(problem) => {
                telemetry::alarm("policy-unusable", &problem);
                let why = format!("the published policy set cannot be used: {problem}; decide again when it can");
                Err(Refusal::new(RefusalKind::Failed, why))
            }
        }
    }

    async fn decide(
        &self,
        caller: &Caller,
        id: &RunId,
        verb: Verb,
        extend: Option<(u32, Timestamp)>,
        now: Timestamp,
    ) -> Result<Answer, Refusal> {
        let (run, policies, stopped) = tokio::join!(self.run(id), self.policies(), self.not_stopped(verb));
        let run = run?;
        if let Some(why) = verb.why_not(&run, now) {
            return Err(Refusal::new(RefusalKind::State, why));
        }
        stopped?;
        let policies = policies?;
        let about = match extend {
            Some((hours, _)) => format!("{id}#{}#{hours}", verb.as_str()),
            None => format!("{id}#{}", verb.as_str()),
        };
        let head = &run.head;
        let known = self.known_of(&policies, &head.playbook, &head.target.account, now).await?;
        let question = known.question(&self.config, &head.playbook, &head.plan, &head.finding, now);
        let asked_by = &head.finding.asked_by;
        let matter = Matter { caller, verb, about, plan_hash: &head.plan_hash, question, asked_by, now };
        let decision = Decision::new(&run, verb, &caller.arn, now);
        let decision = Decision { until: extend.map(|(_, until)| until), ..decision };
        self.say(&policies, matter, decision).await
    }

    async fn request(&self, caller: &Caller, asked: &ByHand, now: Timestamp) -> Result<Answer, Refusal> {
        let reason = reason_of(&asked.reason)?;
        let kind = asked.target.kind;
        let Some((playbook, kinds)) = self.requestable.iter().find(|(playbook, _)| *playbook == asked.playbook) else {
            let all: Vec<&str> = self.requestable.iter().map(|(playbook, _)| *playbook).collect();
            let why = format!("no playbook of this name can be asked for by hand; there are {}", all.join(", "));
            return Err(Refusal::malformed(why));
        };
        if !kinds.contains(&kind) {
            let why = format!("{playbook} cannot be asked for by hand about a target of kind {}", kind.as_str());
            return Err(Refusal::malformed(why));
        }
        let asked = ByHand { reason, ..asked.clone() };
        let decision = Decision::by_hand(asked.clone(), &caller.arn, now);
        let finding = Finding::by_hand(&decision, &asked, &self.aws.region)
            .map_err(|error| Refusal::malformed(error.to_string()))?;
        if let Some(away) = crate::screen::screen(&finding, None, Some(&self.config.hub_account)) {
            return Err(Refusal::new(RefusalKind::Forbidden, away.to_string()));
        }
        let policies = self.policies().await?;
        let known = self.known_of(&policies, playbook, &asked.target.account, now).await?;
        // Nothing is planned yet: tags and who it is are the business of the guard that answers the request.
        let plan = Plan::new(playbook, asked.target.clone());
        let question = known.question(&self.config, playbook, &plan, &finding, now);
        // Several persons ask for one thing in the same words; other words wait beside them.
        let words = asked.fingerprint();
        let about = format!("request#{playbook}#{}#{words}", asked.target);
        let matter = Matter { caller, verb: Verb::Request, about, plan_hash: &words, question, asked_by: &[], now };
        self.say(&policies, matter, decision).await
    }

    async fn known_of(
        &self,
        policies: &Policies,
        playbook: &str,
        account: &crate::ids::AccountId,
        now: Timestamp,
    ) -> Result<Known, Refusal> {
        let (spent, units) = tokio::try_join!(self.ledger.spent(playbook, account, now), self.ledger.units(account))?;
        let asked = policies.asking_people_for_units().is_some();
        let units = units::believed(&self.aws, units.as_ref(), account, asked, now).await;
        Ok(Known { spent, units: units.map(|found| found.units) })
    }

    /// Decides, if the policies let this person, and if that is all it takes; else it waits for others.
    async fn say(&self, policies: &Policies, matter: Matter<'_>, decision: Decision) -> Result<Answer, Refusal> {
        let Matter { caller, verb, about, plan_hash, question, asked_by, now } = matter;
        let mine = Word { person: &caller.person, verb, about: &question, asked_by };
        let forbidden = |persons: usize| {
            let ruled = people::may(policies, &mine, persons);
            if ruled.failed {
                telemetry::alarm("guard-failed", &ruled.reasons.join("; "));
            }
            Refusal::new(RefusalKind::Forbidden, ruled.reasons.join("; "))
        };
        match people::needed(policies, &[mine]) {
            None => return Err(forbidden(people::MOST_PERSONS)),
            Some(1) => {
                let decision = Decision { persons: vec![caller.person.id.clone()], ..decision };
                self.ledger.decide(&decision).await?;
                return self.send(decision, vec![caller.arn.clone()]).await;
            }
            // It may be the session of somebody who says it under their own name as well.
            Some(persons) if caller.person.kind == PersonKind::Role => {
                let why = format!("it takes {persons} persons, and a session of a role does not say who it is");
                return Err(Refusal::new(RefusalKind::Forbidden, format!("{why}: come with credentials of your own")));
            }
            Some(_) => {}
        }
        let seen = self.ledger.waiting(&about).await?;
        let mut with = seen.clone().standing(plan_hash, now);
        // The policies may have changed since they said it.
        with.said.retain(|said| people::needed(policies, &[Word { person: &said.person, ..mine }]).is_some());
        let with = with.with(SaidSo { person: caller.person.clone(), arn: caller.arn.clone() }, plan_hash, now);
        let names: Vec<String> = with.said.iter().map(|said| said.arn.clone()).collect();
        let words: Vec<Word<'_>> = with.said.iter().map(|said| Word { person: &said.person, ..mine }).collect();
        let count = words.len();
        let meanwhile = || Refusal::new(RefusalKind::State, "somebody has said something meanwhile: say it again");
        match people::needed(policies, &words) {
            None => Err(forbidden(count)),
            Some(needed) if needed == count => {
                let persons = with.said.iter().map(|said| said.person.id.clone()).collect();
                let decision = Decision { by: names.join(" and "), persons, ..decision };
                if !self.ledger.decide_together(&decision, &about, &seen, now).await? {
                    return Err(meanwhile());
                }
                self.send(decision, names).await
            }
            Some(needed) => {
                let (more, until) = (needed - count, with.until.unwrap_or(now));
                // Who says it twice is one person.
                let told = if with == seen {
                    None
                } else if self.ledger.wait_for_others(&about, &seen, &with).await? {
                    Some(self.ask_others(&decision, &question, &names, more, until).await)
                } else {
                    return Err(meanwhile());
                };
                Ok(Answer::Waits { said: names, more, until, told })
            }
        }
    }

    /// Tells people that more of them are needed. Whether they could be told.
    async fn ask_others(
        &self,
        decision: &Decision,
        question: &Question<'_>,
        said: &[String],
        more: usize,
        until: Timestamp,
    ) -> bool {
        let verb = decision.verb.as_str();
        let persons = if more == 1 { "1 more person is".to_owned() } else { format!("{more} more persons are") };
        let who = names(&said.join(" and "));
        let why = format!("{verb} is said by {who}; {persons} needed until {}", until.strftime("%Y-%m-%d %H:%M UTC"));
        let mut report = Report::of(question.playbook, question.target, question.finding, Outcome::NoChange, why);
        report.topic = Some(Topic::AnotherPerson);
        report.page = true;
        report.run = (decision.verb != Verb::Request).then(|| decision.run.clone());
        report.say = match decision.verb {
            Verb::Request => decision.by_hand.as_ref().map(ByHand::command),
            _ => Some(format!("firebreak {verb} {}", decision.run)),
        };
        let told = Message::of(&report).publish(&self.aws, &self.config.topic_arn, &question.target.id).await;
        if let Err(failure) = &told {
            telemetry::alarm("second-person-untold", &failure.brief());
        }
        told.is_ok()
    }

    /// Sends a decision's id on its way. The event carries nothing else that counts.
    async fn send(&self, decision: Decision, by: Vec<String>) -> Result<Answer, Refusal> {
        let id = decision.id.as_str();
        let entry = PutEventsRequestEntry::builder()
            .source(EVENT_SOURCE)
            .detail_type(DECISION_EVENT)
            .detail(json!({ "id": id }).to_string())
            .build();
        let sent = self.aws.events().put_events().entries(entry).send().await;
        let failure = match sent.map_err(Failure::from_sdk("send decision", id)) {
            Ok(answer) if answer.failed_entry_count() == 0 => {
                return Ok(Answer::Decided { decision: decision.id, run: decision.run, by });
            }
            // HTTP 200 with failures inside.
            Ok(_) => {
                Failure { code: Some("FailedEntry".to_owned()), ..Failure::new(Class::Transient, "send decision", id) }
            }
            Err(failure) => failure,
        };
        telemetry::alarm("decision-unsent", &failure.brief());
        let brief = failure.brief();
        let why = if failure.class == Class::Transient && failure.code.is_none() {
            format!(
                "it was written down, and whether it went on is not known ({brief}): look at the run before you say it again"
            )
        } else {
            format!("it was written down and did not get any further, so nothing is done: {brief}; say it again")
        };
        Err(Refusal::new(RefusalKind::Failed, why))
    }
}

/// What the ledger knows besides the run.
struct Known {
    spent: (u64, u64),
    units: Result<crate::units::Units, String>,
}

impl Known {
    fn question<'a>(
        &'a self,
        config: &'a Config,
        playbook: &'a str,
        plan: &'a Plan,
        finding: &'a Finding,
        now: Timestamp,
    ) -> Question<'a> {
        Question {
            playbook,
            target: &plan.target,
            tags: &plan.tags,
            units: self.units.as_ref().map_err(String::as_str),
            finding,
            plan: plan.into(),
            spent_account: self.spent.0,
            spent_total: self.spent.1,
            now,
            hub_account: config.hub_account.as_str(),
            break_glass: &config.break_glass,
        }
    }
}

/// A reason as it is kept and shown.
fn reason_of(said: &str) -> Result<String, Refusal> {
    let reason = said.trim();
    if reason.is_empty() || reason.chars().count() > LONGEST_REASON {
        return Err(Refusal::malformed(format!("give a reason of 1 to {LONGEST_REASON} characters")));
    }
    Ok(plain(reason, LONGEST_REASON))
}

/// What is asked in a request's body.
fn asked(event: &LambdaFunctionUrlRequest) -> Result<Asked, Refusal> {
    if event.request_context.http.method.as_deref() != Some("POST") {
        return Err(Refusal::malformed("ask by POST"));
    }
    let body = event.body.as_deref().filter(|_| !event.is_base64_encoded);
    let body = body.ok_or_else(|| Refusal::malformed("ask in JSON, of content type application/json"))?;
    if body.len() > MOST_BYTES {
        return Err(Refusal::malformed(format!("more than {MOST_BYTES} bytes are not read")));
    }
    serde_json::from_str(body).map_err(|error| Refusal::malformed(plain(&error.to_string(), 200)))
}

/// Counts and logs what somebody decided or read.
fn answered_well(caller: &Caller, word: &'static str, answer: &Answer) {
    let (outcome, run, decision) = match answer {
        Answer::Decided { decision, run, .. } => ("decided", Some(run), Some(decision.as_str())),
        Answer::Waits { .. } => ("waits", None, None),
        Answer::Switched { stopped, .. } => (if *stopped { "stopped" } else { "resumed" }, None, None),
        Answer::Runs { .. } | Answer::Run { .. } | Answer::Refused { .. } => ("read", None, None),
    };
    metrics::counter!("decisions_answered_total", "verb" => word, "outcome" => outcome).increment(1);
    tracing::info!(
        person = caller.person.id,
        arn = caller.arn,
        asked = word,
        outcome,
        run = run.map(|run| run.as_str()),
        decision,
        "asked at the door"
    );
}

/// Counts and logs a refusal.
fn refused(person: &str, word: &'static str, refusal: &Refusal) {
    let kind = refusal.kind.as_str();
    metrics::counter!("decisions_refused_total", "verb" => word, "kind" => kind).increment(1);
    tracing::warn!(person, asked = word, kind, why = refusal.why, "refused at the door");
}
