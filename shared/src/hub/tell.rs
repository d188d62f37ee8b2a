//! Telling: the outcome event, the message, the evidence. A report that was not delivered stays due.

use std::time::Duration;

use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Hub;
use crate::authenticate::Authenticity;
use crate::failure::{Class, Failure};
use crate::finding::{CRITICAL, Finding, HIGH};
use crate::ledger::{Channel, Channels, DueAt, DueKind, Told, hour};
use crate::message::Message;
use crate::playbook::{Playbook, Purpose};
use crate::report::{Report, Topic};
use crate::run::{Outcome, Run, RunState};
use crate::screen::TurnedAway;
use crate::telemetry;

/// The source of our events.
pub const EVENT_SOURCE: &str = "firebreak";
/// The detail-type of outcomes.
pub const OUTCOME_EVENT: &str = "Firebreak Outcome";
/// The detail-type of decisions.
pub const DECISION_EVENT: &str = "Firebreak Decision";

/// For how long people are not told the same again.
pub(super) const AN_HOUR: Duration = Duration::from_secs(3600);
const A_WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// So many messages of a kind about an account people get in an hour, whatever there is of other accounts.
const FIRST_ASKED: u64 = 3;

/// So many at most.
const MOST_ASKED: u64 = 20;

/// So many at most about all accounts together, besides the first ones of each.
const MOST_ASKED_IN_ALL: u64 = 100;

/// How many reasons a message holds of a finding that nothing answers.
const SHOWN: usize = 3;

impl Hub {
    /// Delivers a report that no row of the ledger stands for, once and as well as can be. One that did not arrive
    /// says so, and the event is delivered again.
    pub(super) async fn told(&self, playbook: &'static dyn Playbook, report: Report) -> Report {
        let (mut report, left) = self.tell(playbook, report, &all()).await;
        report.untold = !left.is_empty();
        report
    }

    /// The same by some of the channels, and by which of them it did not arrive.
    pub(super) async fn tell(
        &self,
        playbook: &'static dyn Playbook,
        mut report: Report,
        by: &Channels,
    ) -> (Report, Channels) {
        report.purpose = Some(playbook.meta().purpose);
        telemetry::answered(&report);
        // What is turned away, or so already, wakes nobody; what began no run is told once a finding, not at each
        // of its repeats.
        let nothing_new = matches!(report.outcome, Outcome::NoChange | Outcome::Observed) && report.topic.is_none();
        let quiet = (nothing_new && !report.page) || !self.is_news(&report).await;
        let mut news = vec![once(&report)];
        let quiet = quiet
            || match self.is_one_too_many(&mut report, by).await {
                Counted::Told => false,
                Counted::Last(more) => {
                    news.push(Some(more));
                    false
                }
                Counted::Hushed => true,
            };
        // Who is woken by events is woken once, too.
        report.page &= !quiet;
        let left = self.send(&report, by, quiet).await;
        if !quiet && !left.contains(&Channel::Message) {
            for told in news {
                self.note_news(told).await;
            }
        }
        (report, left)
    }

    /// Whether a message that asks is one more than anybody reads in an hour: whoever has an account could hide one behind
    /// thousands. High findings are counted apart from slighter ones, and each cause by itself; the first ones of each
    /// account are told whatever comes of the others, and so is what is critical.
    async fn is_one_too_many(&self, report: &mut Report, by: &Channels) -> Counted {
        // What did not go was counted when it was tried first.
        let counts = by.len() == Channel::ALL.len();
        let Some(kind) = counted_as(report).filter(|_| counts) else { return Counted::Told };
        let (now, account) = (Timestamp::now(), report.target.account.clone());
        let count = async {
            let of_account = self.ledger.count_told(&kind, Some(&account), now).await?;
            if of_account <= FIRST_ASKED || of_account > MOST_ASKED {
                return Ok::<_, Failure>(of_account > MOST_ASKED);
            }
            self.ledger.count_told(&kind, None, now).await.map(|of_all| of_all > MOST_ASKED_IN_ALL)
        };
        let more = Told { about: account.to_string(), what: format!("{kind}#more#{}", hour(now)), remembered: AN_HOUR };
        match count.await {
            Ok(false) => Counted::Told,
            Ok(true) if self.ledger.was_told(&more, now).await.unwrap_or(false) => Counted::Hushed,
            Ok(true) => {
                let state = if report.topic == Some(Topic::Stopped) { "observed" } else { "proposed" };
                let why = "there are more in this account, told one by one only in the next hour";
                report.reasons.insert(0, format!("{why}; firebreak runs --state {state}"));
                Counted::Last(more)
            }
            // Better once too often than never.
            Err(failure) => {
                telemetry::alarm("telling-unnoted", &failure.brief());
                Counted::Told
            }
        }
    }

    /// Tells of a run about which a row is due, and writes down what is left of it.
    pub(super) async fn tell_and_note(
        &self,
        playbook: &'static dyn Playbook,
        run: &Run,
        report: Report,
        due: DueAt,
    ) -> Report {
        let (report, left) = self.tell(playbook, report, &all()).await;
        self.note_left(run, due, &left).await;
        report
    }

    /// Delivers the report of a run that has ended, and writes down what is left of it.
    pub(super) async fn deliver(&self, playbook: &'static dyn Playbook, run: &Run, due: DueAt) -> Report {
        let (report, left) = self.try_deliver(playbook, run, &all()).await;
        telemetry::answered(&report);
        self.note_left(run, due, &left).await;
        report
    }

    async fn note_left(&self, run: &Run, due: DueAt, left: &Channels) {
        let next = DueAt { at: Timestamp::now() + Duration::from_secs(60), ..due };
        if let Err(failure) = self.ledger.report_went(&run.head, due, left, next).await {
            // It will be told once more in a minute: better twice than never.
            telemetry::alarm("report-row-stays", &failure.brief());
        }
    }

    pub(super) async fn try_deliver(
        &self,
        playbook: &'static dyn Playbook,
        run: &Run,
        by: &Channels,
    ) -> (Report, Channels) {
        let end = run.end.as_ref();
        let outcome = end.map_or(Outcome::Failed, |end| end.outcome);
        let mut report = Report::of_run(run, outcome, playbook.meta().purpose);
        report.page =
            matches!(outcome, Outcome::Partial | Outcome::NotContained | Outcome::NotFixed | Outcome::UndonePartly)
                || !run.seen_again.is_empty();
        let mut left = Channels::new();
        if by.contains(&Channel::Evidence) {
            let records = self.records(run, &report);
            let now = end.map_or_else(Timestamp::now, |end| end.at);
            match self.evidence.append(&run.head.id, records, now).await {
                Ok(kept) => report.evidence = Some(kept),
                Err(failure) => {
                    left.insert(Channel::Evidence);
                    report.remains.push(format!("the evidence record is not written yet: {}", failure.brief()));
                    telemetry::alarm("evidence-unwritten", &failure.brief());
                }
            }
        }
        // A person who decides hears what came of it, and what a message has told is not told less by an event.
        let told =
            once(&report).filter(|_| end.is_none_or(|end| end.decided.is_none()) && by.contains(&Channel::Message));
        let quiet = told.is_some() && !self.is_news(&report).await;
        report.page &= !quiet;
        left.extend(self.send(&report, by, quiet).await);
        if !quiet && !left.contains(&Channel::Message) {
            self.note_news(told).await;
        }
        (report, left)
    }

    /// Sends the outcome event and, unless it is `quiet`, the message; answers with what did not go.
    async fn send(&self, report: &Report, by: &Channels, quiet: bool) -> Channels {
        let (event, message) = tokio::join!(
            async { if by.contains(&Channel::Event) { self.send_event(report).await } else { Ok(()) } },
            async { if by.contains(&Channel::Message) && !quiet { self.send_message(report).await } else { Ok(()) } },
        );
        let mut left = Channels::new();
        for (channel, sent) in [(Channel::Event, event), (Channel::Message, message)] {
            if let Err(failure) = sent {
                telemetry::alarm("report-undelivered", &failure.brief());
                left.insert(channel);
            }
        }
        left
    }

    /// The case's records: what was found and planned, and how each step ended.
    fn records(&self, run: &Run, report: &Report) -> Vec<(&'static str, Value)> {
        let head = &run.head;
        let begun = json!({
            "finding": head.finding,
            "target": head.target,
            "playbook": head.playbook,
            "plan": head.plan,
            "plan_hash": head.plan_hash,
            "mode": head.mode,
            "reasons": head.reasons,
            "arrived_at": head.arrived_at,
        });
        let mut records = vec![("begun", begun)];
        if matches!(run.state, RunState::Released) || !run.undone.is_empty() {
            records.push(("undone", json!({ "steps": run.undone, "report": report.event() })));
        } else {
            records.push(("ended", json!({ "added": run.added, "steps": run.steps, "report": report.event() })));
        }
        records
    }

    async fn send_event(&self, report: &Report) -> Result<(), Failure> {
        self.put_event(report.event(), &report.target.id).await
    }

    async fn put_event(&self, detail: Value, about: &str) -> Result<(), Failure> {
        let entry = PutEventsRequestEntry::builder()
            .source(EVENT_SOURCE)
            .detail_type(OUTCOME_EVENT)
            .detail(detail.to_string())
            .build();
        let sent = self.aws.events().put_events().entries(entry).send().await;
        let answer = sent.map_err(Failure::from_sdk("send the outcome event of", about))?;
        if answer.failed_entry_count() > 0 {
            // HTTP 200 with failures inside.
            return Err(Failure::new(Class::Transient, "send the outcome event of", about));
        }
        Ok(())
    }

    /// Whether people have not been told this yet; when the ledger cannot say, it is told.
    async fn is_news(&self, report: &Report) -> bool {
        let Some(told) = once(report) else { return true };
        !self.ledger.was_told(&told, Timestamp::now()).await.unwrap_or(false)
    }

    pub(super) async fn note_news(&self, told: Option<Told>) {
        if let Some(told) = told
            && let Err(failure) = self.ledger.note_told(&told, Timestamp::now()).await
        {
            // It is told once more with the next repeat: better twice than never.
            telemetry::alarm("telling-unnoted", &failure.brief());
        }
    }

    async fn send_message(&self, report: &Report) -> Result<(), Failure> {
        self.publish(Message::of(report), &report.target.id).await
    }

    pub(super) async fn publish(&self, message: Message, about: &str) -> Result<(), Failure> {
        message.publish(&self.aws, &self.config.topic_arn, about).await
    }

    /// Tells of a finding about our kind of target that no playbook answers, or of one that somebody asked about.
    /// GuardDuty repeats findings, and Security Hub hands them on and repeats them as well, so people get one message,
    /// unless they asked; the event goes out each time. `false` when something did not arrive.
    pub(super) async fn tell_unanswered(&self, finding: &Finding, why: &[String], page: bool) -> bool {
        let once = Told { about: finding.id.to_string(), what: "unanswered".to_owned(), remembered: A_WEEK };
        self.tell_unanswered_once(finding, why, page, once).await
    }

    /// The same where it could not be found out what a finding is about. Whoever has the account can have it so for every
    /// finding there is, so people are woken once an hour for an account.
    pub(super) async fn tell_not_looked_up(&self, finding: &Finding, why: &str) -> bool {
        // A key that lies open is told of once.
        let about = if finding.is_exposed_key() { finding.id.to_string() } else { finding.account.to_string() };
        let once = Told { about, what: format!("{}#not-looked-up", self.function), remembered: AN_HOUR };
        self.tell_unanswered_once(finding, &[why.to_owned()], true, once).await
    }

    async fn tell_unanswered_once(&self, finding: &Finding, why: &[String], page: bool, once: Told) -> bool {
        let id = finding.id.as_str();
        let asked = finding.request.is_some();
        let known = !asked && self.ledger.was_told(&once, Timestamp::now()).await.unwrap_or(false);
        let detail = json!({
            "version": 1,
            "playbook": null,
            "outcome": Outcome::NoChange,
            "target": null,
            "finding": { "id": finding.id, "type": finding.what(), "severity": finding.severity },
            "account": finding.account,
            "region": finding.region,
            "reasons": why,
            "page": page && !known,
            "at": Timestamp::now(),
        });
        let more = why.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!("; {more} more, in the outcome event") } else { String::new() };
        let why = why.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ") + &more;
        let message = format!(
            "NOT ANSWERED: {}\nWhere: account {}, {}\nSeverity: {:.1}\nWhy: {why}\nDo: look at finding {} in {}",
            crate::text::plain(finding.what(), 90),
            finding.account,
            finding.region,
            finding.severity,
            crate::text::plain(finding.id.as_str(), 128),
            finding.source.name()
        );
        let subject = format!("Firebreak: NOT ANSWERED in {}", finding.account);
        let (event, told) = tokio::join!(self.put_event(detail, id), async {
            let message = Message { subject, text: message, outcome: Some(Outcome::NoChange), page };
            if known { Ok(()) } else { self.publish(message, id).await }
        });
        if told.is_ok() && !known {
            self.note_news(Some(once)).await;
        }
        let arrived = event.is_ok() && told.is_ok();
        for failure in [event.err(), told.err()].into_iter().flatten() {
            telemetry::alarm("report-undelivered", &failure.brief());
        }
        arrived
    }

    /// Nothing here changes the security account, so people must look at what is found there. Only what GuardDuty has
    /// wakes them; what it cannot be asked about does as well. A control that has failed there wakes nobody.
    pub(super) async fn tell_about_hub(&self, finding: &Finding, why: &TurnedAway) -> bool {
        if finding.control.is_some() {
            return true;
        }
        match self.authenticator.check(&self.aws, finding).await {
            Authenticity::TurnedAway(TurnedAway::AboutHub(_)) | Authenticity::Unknown(_) => {
                self.tell_unanswered(finding, &[why.to_string()], true).await
            }
            _ => true,
        }
    }

    /// Tells of an event that could not be read, once an hour. Every one is kept, logged and counted.
    pub(super) async fn tell_unreadable(&self, why: &str, kept: &str, now: Timestamp) {
        // When the ledger cannot say, it is told.
        if !self.ledger.first_unreadable(self.function, now).await.unwrap_or(true) {
            return;
        }
        let message = format!(
            "UNREADABLE EVENT: nothing was done\nWhy: {}\nCopy: {kept}\nMore: those of the next hour are kept beside it and not told\nDo: look at the copy; if it is a finding, tell Firebreak's owner",
            crate::text::plain(why, 300)
        );
        let subject = "Firebreak: UNREADABLE EVENT".to_owned();
        let message = Message { subject, text: message, outcome: None, page: true };
        let sent = self.publish(message, "an unreadable event").await;
        if let Err(failure) = sent {
            telemetry::alarm("report-undelivered", &failure.brief());
            if let Err(failure) = self.ledger.untold_unreadable(self.function).await {
                telemetry::alarm("report-undelivered", &failure.brief());
            }
        }
    }

    /// Writes down what was kept of a run's evidence. With the report when it is complete.
    pub(super) async fn put_custody(
        &self,
        playbook: &'static dyn Playbook,
        run: &Run,
        now: Timestamp,
    ) -> Result<Custody, Failure> {
        let engine = self.engine(playbook, std::time::Instant::now());
        let reading = engine.reading(&run.head.id, &run.head.target.account, run.head.target.region.as_ref()).await?;
        let groups = Vec::new();
        let cx = self.plan_context(&reading, &groups, Some(&run.head.id));
        let Some(custody) = playbook.custody(&cx, run).await? else { return Ok(Custody::Nothing) };
        let kind = if custody.complete { "custody" } else { "custody-begun" };
        let body = serde_json::to_value(&custody).unwrap_or_default();
        let kept = self.evidence.append(&run.head.id, vec![(kind, body)], now).await?;
        if !custody.complete {
            return Ok(Custody::Incomplete);
        }
        let mut report = Report::of_run(run, Outcome::Preserved, playbook.meta().purpose);
        let preserved = run.end.as_ref().is_some_and(|end| end.outcome == Outcome::Preserved);
        if !preserved || !custody.problems.is_empty() {
            report.outcome = Outcome::Partial;
            report.page = true;
            report.not_done.extend(custody.problems);
        }
        report.at = now;
        report.evidence = Some(kept);
        Ok(Custody::Complete(Box::new(report)))
    }

    pub(super) async fn put_due(&self, run: &Run, what: DueKind, at: Timestamp) -> Result<(), Failure> {
        self.ledger.put_due_row(&run.head, DueAt { what, at }).await
    }
}

/// What is known of a run's evidence.
pub(super) enum Custody {
    /// There is none to look at.
    Nothing,
    /// Not yet complete.
    Incomplete,
    /// Complete, and written down.
    Complete(Box<Report>),
}

/// What became of a message that was counted.
enum Counted {
    /// It is told.
    Told,
    /// It is told, and that there are more: what to remember of that.
    Last(Told),
    /// It is not told.
    Hushed,
}

/// As what the message of a report is counted; nothing where it is told however many there are. What has another cause, or
/// another list where the rest stands, is counted apart; so is what is fixed, which whoever has the account can have
/// reported, and rated, as he likes.
fn counted_as(report: &Report) -> Option<String> {
    let cause = match (report.topic, report.outcome) {
        _ if report.drill || report.severity >= CRITICAL => return None,
        (Some(Topic::Stopped), _) => "stopped",
        (Some(Topic::SeenAlso), _) => "also",
        (Some(Topic::ProposalEnds), _) => "ends",
        (None, Outcome::Proposed) if report.page => "paged",
        (None, Outcome::Proposed) => "asked",
        _ => return None,
    };
    let band = match report.purpose {
        Some(Purpose::Fix) => "fix",
        _ if report.severity >= HIGH => "high",
        _ => "low",
    };
    Some(format!("{cause}-{band}"))
}

fn all() -> Channels {
    Channel::ALL.into_iter().collect()
}

/// What people hear once in a while and not at each repeat of a finding, which who holds the account can bring about:
/// what is turned away or gone, once a finding; what is not contained or fixed, or could not be read, once an hour of a
/// target.
fn once(report: &Report) -> Option<Told> {
    let (about, what, remembered) = match (report.topic, report.outcome) {
        (Some(Topic::OpenAgain | Topic::UndoUnfinished | Topic::NotContainedAgain | Topic::LeftOpen), _) => {
            (report.target.to_string(), format!("{:?}", report.topic), AN_HOUR)
        }
        // Whoever has an account can have findings about a target repeated, each with another plan.
        (Some(Topic::Stopped), _) => (report.target.to_string(), format!("{} stopped", report.finding_type), AN_HOUR),
        (Some(_), _) => return None,
        // Whoever denies a fix can have its control reported again.
        (None, Outcome::NotFixed) => {
            (report.target.to_string(), format!("{} {}", report.outcome, report.finding_type), AN_HOUR)
        }
        (None, Outcome::Failed) if report.run.is_none() => {
            (report.target.to_string(), report.outcome.to_string(), AN_HOUR)
        }
        (None, Outcome::Refused | Outcome::Gone | Outcome::NoChange) if report.run.is_none() => {
            (report.finding.clone(), report.outcome.to_string(), A_WEEK)
        }
        (None, _) => return None,
    };
    Some(Told { about, what: format!("{}#{what}", report.playbook), remembered })
}
