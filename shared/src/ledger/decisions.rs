//! Decisions: what a person said about a run, in a table of its own that people's door writes and the acting functions
//! can only read. That one was used is a row of the ledger, put there in the transaction that uses it: who holds a
//! function can carry out what was decided, and can decide nothing. An event carries a decision's id and
//! nothing more.

use aws_sdk_dynamodb::types::{ConditionCheck, Put, TransactWriteItem};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::items::{self, Item, json, n, s, text};
use super::{Budget, Claim, DueAt, DueKind, Hold, Ledger};
use crate::door::caller::Person;
use crate::door::wire::ByHand;
use crate::failure::{Class, Failure};
use crate::guard::people::MOST_PERSONS;
use crate::ids::RunId;
use crate::run::{HoldSet, Run, RunEnd, RunHead, RunState};

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Carry out the proposed plan.
    Approve,
    /// Do not.
    Reject,
    /// Put back what the run changed.
    Undo,
    /// Do again what the run holds in part, or what was opened again since.
    Retry,
    /// End the hold now: people are asked whether to undo it.
    Release,
    /// Let the hold end at another time.
    Extend,
    /// Contain something that no finding is about: there is no run yet.
    Request,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 7] =
        [Self::Approve, Self::Reject, Self::Undo, Self::Retry, Self::Release, Self::Extend, Self::Request];

    /// The verb as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Undo => "undo",
            Self::Retry => "retry",
            Self::Release => "release",
            Self::Extend => "extend",
            Self::Request => "request",
        }
    }

    /// Why a run is not such that this can be decided about it; `None` when it is.
    pub fn why_not(self, run: &Run, now: Timestamp) -> Option<String> {
        let held = run.state == RunState::Held;
        let fits = match self {
            Self::Approve | Self::Reject => run.state == RunState::Proposed,
            // What was begun to be undone is not done again.
            Self::Retry => held && run.undone.is_empty(),
            Self::Undo | Self::Release | Self::Extend => held,
            Self::Request => false,
        };
        let (id, verb) = (&run.head.id, self.as_str());
        if !fits {
            return Some(format!("run {id} is {}: there is nothing to {verb}", run.state.as_str()));
        }
        if self == Self::Approve && run.is_expired(now) {
            let days = crate::run::PROPOSAL_STANDS.as_hours() / 24;
            return Some(format!("run {id} was proposed more than {days} days ago: what goes on is proposed anew"));
        }
        if self == Self::Extend && run.hold_ends_at().is_none() {
            return Some(format!("the hold of run {id} has no end: there is nothing to extend"));
        }
        None
    }
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Its id.
    pub id: String,
    /// The run it is about.
    pub run: RunId,
    /// What was decided.
    pub verb: Verb,
    /// Who decided, as AWS STS names the caller.
    pub by: String,
    /// The persons who decided, by their ids: compared, not shown.
    pub persons: Vec<String>,
    /// The plan that was seen: an approval is of this plan and no other.
    pub plan_hash: String,
    /// When it lapses.
    pub expires_at: Timestamp,
    /// Whether it was used.
    pub used: bool,
    /// When the hold is to end, where that is what was decided.
    pub until: Option<Timestamp>,
    /// What is asked for, where there is no run yet.
    pub by_hand: Option<ByHand>,
}

/// Who has said something that takes several persons, so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Each of them, once.
    pub said: Vec<SaidSo>,
    /// Of which plan.
    pub plan_hash: String,
    /// Until when it stands; nothing where nobody has said it.
    pub until: Option<Timestamp>,
}

/// One of several persons who say the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaidSo {
    /// The person, to be judged again when the next one says it.
    pub person: Person,
    /// How AWS names the caller.
    pub arn: String,
}

/// The longest that those who decided are named, in characters: [`MOST_PERSONS`] ARNs of sessions, each of a role and a
/// session of 64 characters, and the words between.
pub const MOST_NAMES: usize = MOST_PERSONS * 200;

/// What the first of several persons said stands for so long.
const WAITS: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// A decision lapses this long after it was made.
const VALID: std::time::Duration = std::time::Duration::from_secs(600);

/// Rows are kept a year after they lapse, for audits.
const KEPT: std::time::Duration = std::time::Duration::from_secs(365 * 24 * 3600);

impl Decision {
    /// A new decision about a run, lapsing ten minutes from `now`.
    pub fn new(run: &Run, verb: Verb, by: &str, now: Timestamp) -> Self {
        Self {
            id: RunId::new().to_string(),
            run: run.head.id.clone(),
            verb,
            by: by.to_owned(),
            persons: Vec::new(),
            plan_hash: run.head.plan_hash.clone(),
            expires_at: now + VALID,
            used: false,
            until: None,
            by_hand: None,
        }
    }

    /// A new decision that something be contained, lapsing ten minutes from `now`. The run that it begins, if it begins
    /// one, has the id of [`Decision::run`].
    pub fn by_hand(asked: ByHand, by: &str, now: Timestamp) -> Self {
        Self {
            id: RunId::new().to_string(),
            run: RunId::new(),
            verb: Verb::Request,
            by: by.to_owned(),
            persons: Vec::new(),
            plan_hash: String::new(),
            expires_at: now + VALID,
            used: false,
            until: None,
            by_hand: Some(asked),
        }
    }
}

impl Waiting {
    /// What stands of it at this time, of this plan, without what was said of another.
    pub fn standing(self, plan_hash: &str, now: Timestamp) -> Self {
        let stands = self.plan_hash == plan_hash && self.until.is_some_and(|until| until > now);
        if stands { self } else { Self::default() }
    }

    /// The same with another person, unless that one has said so before.
    pub fn with(mut self, said: SaidSo, plan_hash: &str, now: Timestamp) -> Self {
        if !self.said.iter().any(|other| other.person.id == said.person.id) {
            self.said.push(said);
        }
        self.plan_hash = plan_hash.to_owned();
        self.until.get_or_insert(now + WAITS);
        self
    }
}

/// No event can carry such an id: what waits for more persons is no decision.
fn waiting_key(about: &str) -> String {
    format!("WAITS#{about}")
}

fn used_key(id: &str) -> String {
    format!("USED#{id}")
}

fn read(item: &Item, used: bool) -> Option<Decision> {
    Some(Decision {
        id: text(item, "id")?,
        run: text(item, "run")?.parse().ok()?,
        verb: serde_json::from_value(serde_json::Value::String(text(item, "verb")?)).ok()?,
        by: text(item, "by")?,
        persons: items::parse(item, "persons").ok()?,
        plan_hash: text(item, "plan_hash")?,
        expires_at: items::timestamp(item, "valid_until")?,
        used,
        until: items::timestamp(item, "until"),
        by_hand: if item.contains_key("by_hand") { Some(items::parse(item, "by_hand").ok()?) } else { None },
    })
}

impl Ledger {
    /// Writes a decision.
    pub async fn decide(&self, decision: &Decision) -> Result<(), Failure> {
        self.transact(vec![self.put_decision(decision)])
            .await
            .map_err(Failure::from_sdk("write decision", &decision.id))
    }

    /// Writes a decision that several persons made, and what they said counts for no other one any more. `false` when
    /// somebody has said something meanwhile.
    pub async fn decide_together(
        &self,
        decision: &Decision,
        about: &str,
        seen: &Waiting,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        let none = Waiting { until: Some(now), ..Waiting::default() };
        let writes = vec![self.put_decision(decision), self.put_waiting(about, seen, &none)];
        self.transact_if(writes, "write decision", &decision.id).await
    }

    /// Writes down that somebody has said something that takes more persons. `false` when another one has said it
    /// meanwhile.
    pub async fn wait_for_others(&self, about: &str, seen: &Waiting, now: &Waiting) -> Result<bool, Failure> {
        self.transact_if(vec![self.put_waiting(about, seen, now)], "write down who said", about).await
    }

    /// Who has said something so far, read consistently.
    pub async fn waiting(&self, about: &str) -> Result<Waiting, Failure> {
        let asked = self.client.get_item().table_name(&self.decisions).key("id", s(waiting_key(about)));
        let answer = asked.consistent_read(true).send().await;
        let item = answer.map_err(Failure::from_sdk("read who said", about))?.item;
        let Some(item) = item else { return Ok(Waiting::default()) };
        Ok(Waiting {
            said: items::parse(&item, "said")?,
            plan_hash: text(&item, "plan_hash").unwrap_or_default(),
            until: items::timestamp(&item, "valid_until"),
        })
    }

    pub(super) async fn transact_if(
        &self,
        writes: Vec<TransactWriteItem>,
        doing: &'static str,
        what: &str,
    ) -> Result<bool, Failure> {
        match self.transact(writes).await {
            Ok(()) => Ok(true),
            Err(error) if super::is_condition(&error) => Ok(false),
            Err(error) => Err(Failure::from_sdk(doing, what)(error)),
        }
    }

    fn put_waiting(&self, about: &str, seen: &Waiting, now: &Waiting) -> TransactWriteItem {
        let until = now.until.unwrap_or_default();
        let put = Put::builder()
            .table_name(&self.decisions)
            .item("id", s(waiting_key(about)))
            .item("said", json(&now.said))
            .item("plan_hash", s(&now.plan_hash))
            .item("valid_until", n(until.as_millisecond()))
            .item("expires_at", n((until + KEPT).as_second()));
        items::write_put(match seen.until {
            None => put.condition_expression("attribute_not_exists(id)"),
            Some(until) => put
                .condition_expression("said = :seen AND valid_until = :until")
                .expression_attribute_values(":seen", json(&seen.said))
                .expression_attribute_values(":until", n(until.as_millisecond())),
        })
    }

    fn put_decision(&self, decision: &Decision) -> TransactWriteItem {
        let mut put = Put::builder()
            .table_name(&self.decisions)
            .item("id", s(&decision.id))
            .item("run", s(decision.run.as_str()))
            .item("verb", s(decision.verb.as_str()))
            .item("by", s(&decision.by))
            .item("persons", json(&decision.persons))
            .item("plan_hash", s(&decision.plan_hash))
            .item("valid_until", n(decision.expires_at.as_millisecond()))
            .item("expires_at", n((decision.expires_at + KEPT).as_second()))
            .condition_expression("attribute_not_exists(id)");
        if let Some(until) = decision.until {
            put = put.item("until", n(until.as_millisecond()));
        }
        if let Some(asked) = &decision.by_hand {
            put = put.item("by_hand", json(asked));
        }
        items::write_put(put)
    }

    /// Reads a decision, and whether it was used, consistently.
    pub async fn decision(&self, id: &str) -> Result<Option<Decision>, Failure> {
        let decision = async {
            let asked = self.client.get_item().table_name(&self.decisions).key("id", s(id)).consistent_read(true);
            asked.send().await.map_err(Failure::from_sdk("read decision", id))
        };
        let key = used_key(id);
        let (answer, used) = tokio::try_join!(decision, self.get(&key, "USED"))?;
        match &answer.item {
            None => Ok(None),
            Some(item) => {
                read(item, used.is_some()).map(Some).ok_or_else(|| Failure::new(Class::Malformed, "read decision", id))
            }
        }
    }

    /// Uses a decision: its row still says what was read and has not lapsed, and it was not used before.
    fn consume(&self, decision: &Decision, now: Timestamp) -> [TransactWriteItem; 2] {
        let stands = ConditionCheck::builder()
            .table_name(&self.decisions)
            .key("id", s(&decision.id))
            .condition_expression(
                "valid_until > :now AND run = :run AND verb = :verb AND #by = :by AND plan_hash = :hash",
            )
            .expression_attribute_names("#by", "by")
            .expression_attribute_values(":now", n(now.as_millisecond()))
            .expression_attribute_values(":run", s(decision.run.as_str()))
            .expression_attribute_values(":verb", s(decision.verb.as_str()))
            .expression_attribute_values(":by", s(&decision.by))
            .expression_attribute_values(":hash", s(&decision.plan_hash));
        let used = Put::builder()
            .table_name(&self.table)
            .item("pk", s(used_key(&decision.id)))
            .item("sk", s("USED"))
            .item("run", s(decision.run.as_str()))
            .item("used_at", n(now.as_millisecond()))
            // As long as the decision itself.
            .item("expires_at", n((decision.expires_at + KEPT).as_second()))
            .condition_expression("attribute_not_exists(pk)");
        [items::write_check(stands), items::write_put(used)]
    }

    /// Uses an approval: decision, budgets, run and hold in one transaction. `None` when the decision was
    /// used before or lapsed, a budget is spent, or the run moved.
    pub async fn approve(
        &self,
        decision: &Decision,
        run: &Run,
        budget: Budget,
        now: Timestamp,
    ) -> Result<Option<Run>, Failure> {
        let mut besides = self.consume(decision, now).to_vec();
        besides.extend(self.spend(&run.head, budget, now));
        self.take_with(run, RunState::Applying, now, besides).await
    }

    /// Uses an undo.
    pub async fn begin_undo(&self, decision: &Decision, run: &Run, now: Timestamp) -> Result<Option<Run>, Failure> {
        self.take_with(run, RunState::Undoing, now, self.consume(decision, now).to_vec()).await
    }

    /// Uses a request. `false` when it was used before or lapsed.
    pub async fn use_request(&self, decision: &Decision, now: Timestamp) -> Result<bool, Failure> {
        self.transact_if(self.consume(decision, now).to_vec(), "use decision", &decision.id).await
    }

    /// Uses a decision about a hold's end. People are asked about it then, and not before. `false` when the decision was
    /// used before or lapsed, or the run moved.
    pub async fn set_hold(
        &self,
        decision: &Decision,
        run: &Run,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        let set = HoldSet { until, at: now, by: decision.by.clone() };
        let update = aws_sdk_dynamodb::types::Update::builder()
            .table_name(&self.table)
            .key("pk", s(super::run_key(&run.head.id)))
            .key("sk", s("RUN"))
            .update_expression("SET #hold = :hold")
            .condition_expression("epoch = :epoch AND #state = :state")
            // Both are words that DynamoDB reserves.
            .expression_attribute_names("#hold", "hold")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":state", s(run.state.as_str()))
            .expression_attribute_values(":epoch", n(run.epoch))
            .expression_attribute_values(":hold", json(&set));
        let mut writes = self.consume(decision, now).to_vec();
        writes.push(items::write_update(update));
        writes.push(self.put_due(&run.head, DueAt { what: DueKind::HoldEnds, at: until }));
        self.transact_if(writes, "set the end of the hold of", run.head.id.as_str()).await
    }

    /// Uses a rejection, or, where no person has `said` so, closes a proposal that nobody can carry out any more;
    /// the findings that joined it are due. `false` when the decision was used before or lapsed, or the run moved.
    pub async fn reject(
        &self,
        decision: &Decision,
        run: &Run,
        said: Option<&RunEnd>,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        let mut besides = self.consume(decision, now).to_vec();
        besides.push(self.put_due(&run.head, DueAt { what: DueKind::Joined, at: now }));
        self.settle(run, RunState::Rejected, said, besides).await
    }

    /// Whether a decision was used.
    pub async fn is_used(&self, decision: &Decision) -> Result<bool, Failure> {
        Ok(self.get(&used_key(&decision.id), "USED").await?.is_some())
    }

    /// Uses an approval of a plan that no longer fits for proposing the new one: in one transaction, so that
    /// there is always one of them to decide on.
    pub async fn propose_again(
        &self,
        decision: &Decision,
        old: &Run,
        head: &RunHead,
        told_by: DueAt,
        now: Timestamp,
    ) -> Result<Claim, Failure> {
        let seen = Hold {
            run: old.head.id.clone(),
            state: old.state,
            finding: old.head.finding.id.clone(),
            plan_hash: None,
            outcome: None,
            released_at: None,
            rejected: Default::default(),
        };
        let besides = self.consume(decision, now).to_vec();
        self.record_with(head, Some(&seen), RunState::Proposed, told_by, now, besides).await
    }
}
