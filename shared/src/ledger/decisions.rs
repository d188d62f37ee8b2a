//! Decisions: what a person said about a run, in a table of its own that the acting functions can only
//! read. That one was used is a row of the ledger, put there in the transaction that uses it: who holds a
//! function can carry out what was decided, and can decide nothing. An event carries a decision's id and
//! nothing more.

use aws_sdk_dynamodb::types::{ConditionCheck, Put, TransactWriteItem};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::items::{self, Item, n, s, text};
use super::{Budget, Claim, DueAt, DueKind, Hold, Ledger};
use crate::failure::{Class, Failure};
use crate::ids::RunId;
use crate::run::{Run, RunHead, RunState};

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
}

impl Verb {
    /// The verb as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Undo => "undo",
            Self::Retry => "retry",
        }
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
    /// The plan that was seen: an approval is of this plan and no other.
    pub plan_hash: String,
    /// When it lapses.
    pub expires_at: Timestamp,
    /// Whether it was used.
    pub used: bool,
}

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
            plan_hash: run.head.plan_hash.clone(),
            expires_at: now + VALID,
            used: false,
        }
    }
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
        plan_hash: text(item, "plan_hash")?,
        expires_at: items::timestamp(item, "valid_until")?,
        used,
    })
}

impl Ledger {
    /// Writes a decision.
    pub async fn decide(&self, decision: &Decision) -> Result<(), Failure> {
        self.client
            .put_item()
            .table_name(&self.decisions)
            .item("id", s(&decision.id))
            .item("run", s(decision.run.as_str()))
            .item("verb", s(decision.verb.as_str()))
            .item("by", s(&decision.by))
            .item("plan_hash", s(&decision.plan_hash))
            .item("valid_until", n(decision.expires_at.as_millisecond()))
            .item("expires_at", n((decision.expires_at + KEPT).as_second()))
            .condition_expression("attribute_not_exists(id)")
            .send()
            .await
            .map(|_| ())
            .map_err(Failure::from_sdk("write decision", &decision.id))
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

    /// Uses a rejection, or, where a person has not `said` so, closes a proposal that nobody can carry out any more;
    /// the findings that joined it are due. `false` when the decision was used before or lapsed, or the run moved.
    pub async fn reject(&self, decision: &Decision, run: &Run, said: bool, now: Timestamp) -> Result<bool, Failure> {
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
