//! Drills in the deployed account: a rehearsal on a canary, from the event to the undo, by the functions that are deployed.
//!
//! A drill's finding is a row in a table of its own that only the function `drill` may write. The event carries the row's id
//! and nothing else that counts. A row is good once, for ten minutes, and only about a canary of the deployment's own
//! configuration: whoever could write it could have nothing contained but what is there to be contained.

mod rehearsal;
mod score;

pub use rehearsal::{Asked, Begun, Rehearsals};
pub use score::{Playbook, Score, Standing};

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{ConditionCheck, Put, TransactWriteItem};
use jiff::Timestamp;

use crate::failure::{Class, Failure};
use crate::finding::{Finding, Identity, ResourceRole, Source, UserType};
use crate::ids::{FindingId, InvalidId, Region, RunId};
use crate::ledger::items::{self, Item, n, s, text};
use crate::target::{Target, TargetKind};

/// The source of a drill's event.
pub const DRILL_SOURCE: &str = "firebreak.drill";
/// The detail-type of a drill's event.
pub const DRILL_EVENT: &str = "Firebreak Drill";

/// The name that a canary role has in every account (`template-member.yaml`): a finding gives it beside the role's id.
pub const CANARY_ROLE: &str = "firebreak-canary";

/// A drill's finding is good for so long.
pub const VALID: Duration = Duration::from_secs(600);

/// Rows are kept this long, for whoever wants to know how earlier drills went.
const KEPT: Duration = Duration::from_secs(90 * 24 * 3600);

/// GuardDuty's scale: what the starter set of policies contains by itself.
const SEVERITY: f64 = 8.0;

/// What is rehearsed on a kind of canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rehearsed {
    /// The kind.
    pub kind: TargetKind,
    /// The type of finding that is reported of it.
    pub finding_type: &'static str,
    /// The playbooks that have to answer it. A test holds them against what the functions answer.
    pub playbooks: &'static [Playbook],
}

/// Every kind of canary.
pub const REHEARSED: &[Rehearsed] = &[
    Rehearsed {
        kind: TargetKind::Ec2Instance,
        finding_type: "Backdoor:EC2/C&CActivity.B",
        playbooks: &[
            Playbook { id: "isolate-instance", hold: "isolate-instance", keeps: false },
            Playbook { id: "snapshot-volumes", hold: "snapshot-volumes", keeps: true },
        ],
    },
    Rehearsed {
        kind: TargetKind::IamRoleSession,
        finding_type: "UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS",
        playbooks: &[Playbook { id: "revoke-role-sessions", hold: "revoke-role-sessions", keeps: false }],
    },
];

/// What is rehearsed on a canary; nothing on a target of a kind that can be none.
pub fn rehearsed(canary: &Target) -> Option<&'static Rehearsed> {
    REHEARSED.iter().find(|rehearsed| rehearsed.kind == canary.kind)
}

/// A drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drill {
    /// Its id, which is its finding's.
    pub id: String,
    /// What is to be contained.
    pub canary: Target,
    /// When it was begun.
    pub began_at: Timestamp,
    /// Until when its finding is good.
    pub valid_until: Timestamp,
    /// When it was first asked that what it did be taken back; nothing before.
    pub asked_at: Option<Timestamp>,
    /// How it went; nothing while it goes on.
    pub score: Option<String>,
}

impl Drill {
    /// A new drill on a canary.
    pub fn new(canary: Target, now: Timestamp) -> Self {
        Self {
            id: RunId::new().to_string(),
            canary,
            began_at: now,
            valid_until: now + VALID,
            asked_at: None,
            score: None,
        }
    }

    /// What it reports, as a detector would: of the type and severity that a real one has, so that the same tables and the
    /// same policies answer it. `hub` is the Region of what knows none.
    ///
    /// # Errors
    /// When there is nothing to rehearse on such a target.
    pub fn finding(&self, hub: &Region) -> Result<Finding, InvalidId> {
        let canary = &self.canary;
        let none = || InvalidId { kind: "canary", value: canary.to_string() };
        let rehearsed = rehearsed(canary).ok_or_else(none)?;
        let id: FindingId = self.id.parse()?;
        let region = canary.region.clone().unwrap_or_else(|| hub.clone());
        let kind = rehearsed.finding_type.to_owned();
        let mut finding = Finding::new(Source::Drill, id, kind, SEVERITY, canary.account.clone(), region);
        finding.partition = canary.partition;
        finding.role = ResourceRole::Actor;
        finding.first_seen = Some(self.began_at);
        finding.last_seen = Some(self.began_at);
        finding.title = "A drill: nothing has happened".to_owned();
        match canary.kind {
            TargetKind::Ec2Instance => {
                finding.resource_type = "Instance".to_owned();
                finding.instances.push(canary.id.parse()?);
            }
            _ => {
                finding.resource_type = "AccessKey".to_owned();
                finding.identities.push(Identity {
                    access_key: None,
                    user_type: UserType::AssumedRole,
                    principal_id: Some(canary.id.clone()),
                    user_name: Some(CANARY_ROLE.to_owned()),
                    arn: None,
                });
            }
        }
        Ok(finding)
    }
}

/// The drills' table. The function `drill` writes it, the acting functions read it.
#[derive(Debug, Clone)]
pub struct Drills {
    client: Client,
    table: String,
}

impl Drills {
    /// The table of this name.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }

    /// Reads a drill, consistently.
    ///
    /// # Errors
    /// When the table cannot be read, or the row says nothing that can be.
    pub async fn read(&self, id: &str) -> Result<Option<Drill>, Failure> {
        let asked = self.client.get_item().table_name(&self.table).key("id", s(id)).consistent_read(true);
        let answer = asked.send().await.map_err(Failure::from_sdk("read drill", id))?;
        let Some(item) = answer.item else { return Ok(None) };
        read(&item).map(Some).ok_or_else(|| Failure::new(Class::Malformed, "read drill", id))
    }

    /// Writes a new drill, unless another one goes on with its canary until `free`: `false` then.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn begin(&self, drill: &Drill, free: Timestamp) -> Result<bool, Failure> {
        let taken = Put::builder()
            .table_name(&self.table)
            .item("id", s(taken_key(&drill.canary)))
            .item("until", n(free.as_millisecond()))
            .item("expires_at", n((drill.began_at + KEPT).as_second()))
            .condition_expression("attribute_not_exists(id) OR #until < :now")
            .expression_attribute_names("#until", "until")
            .expression_attribute_values(":now", n(drill.began_at.as_millisecond()));
        let new = Put::builder().table_name(&self.table).set_item(Some(row(drill)));
        let new = new.condition_expression("attribute_not_exists(id)");
        self.all_or_nothing(vec![items::write_put(new), items::write_put(taken)], "begin drill", drill).await
    }

    /// Writes down that it was asked to take back what a drill did.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn asked(&self, drill: &Drill, now: Timestamp) -> Result<(), Failure> {
        let asked = Drill { asked_at: Some(now), ..drill.clone() };
        let put = self.client.put_item().table_name(&self.table).set_item(Some(row(&asked)));
        put.send().await.map(|_| ()).map_err(Failure::from_sdk("note what was asked about drill", &drill.id))
    }

    /// Writes down how a drill went, and sets its canary free. `false` when somebody else has done so.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn end(&self, drill: &Drill, score: &Score) -> Result<bool, Failure> {
        let over = Drill { score: Some(score.to_string()), ..drill.clone() };
        let free = Put::builder()
            .table_name(&self.table)
            .item("id", s(taken_key(&drill.canary)))
            .item("until", n(0))
            .item("expires_at", n((drill.began_at + KEPT).as_second()));
        let over = Put::builder().table_name(&self.table).set_item(Some(row(&over)));
        let over = over.condition_expression("attribute_not_exists(score)");
        self.all_or_nothing(vec![items::write_put(over), items::write_put(free)], "end drill", drill).await
    }

    async fn all_or_nothing(
        &self,
        writes: Vec<TransactWriteItem>,
        doing: &'static str,
        drill: &Drill,
    ) -> Result<bool, Failure> {
        match self.client.transact_write_items().set_transact_items(Some(writes)).send().await {
            Ok(_) => Ok(true),
            Err(error) if crate::ledger::is_condition(&error) => Ok(false),
            Err(error) => Err(Failure::from_sdk(doing, &drill.id)(error)),
        }
    }

    /// The drills that are going on, the oldest first.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn going_on(&self) -> Result<Vec<Drill>, Failure> {
        let call = self.client.scan().table_name(&self.table).consistent_read(true);
        let call = call.filter_expression("attribute_exists(canary) AND attribute_not_exists(score)");
        let rows: Vec<Item> = call
            .into_paginator()
            .items()
            .send()
            .try_collect()
            .await
            .map_err(Failure::from_sdk("list the drills of", &self.table))?;
        let mut drills: Vec<Drill> = rows.iter().filter_map(read).collect();
        drills.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(drills)
    }

    /// That a drill is as it was read and its finding still good: part of the transaction that uses it.
    pub(crate) fn still_good(&self, drill: &Drill, now: Timestamp) -> TransactWriteItem {
        let check = ConditionCheck::builder()
            .table_name(&self.table)
            .key("id", s(&drill.id))
            .condition_expression("canary = :canary AND valid_until = :until AND valid_until > :now")
            .expression_attribute_values(":canary", s(drill.canary.to_string()))
            .expression_attribute_values(":until", n(drill.valid_until.as_millisecond()))
            .expression_attribute_values(":now", n(now.as_millisecond()));
        items::write_check(check)
    }
}

/// No event can carry such an id: the row that says which canary a drill goes on with.
fn taken_key(canary: &Target) -> String {
    format!("CANARY#{canary}")
}

fn row(drill: &Drill) -> Item {
    let mut item = Item::from([
        ("id".to_owned(), s(&drill.id)),
        ("canary".to_owned(), s(drill.canary.to_string())),
        ("began_at".to_owned(), n(drill.began_at.as_millisecond())),
        ("valid_until".to_owned(), n(drill.valid_until.as_millisecond())),
        ("expires_at".to_owned(), n((drill.began_at + KEPT).as_second())),
    ]);
    if let Some(at) = drill.asked_at {
        item.insert("asked_at".to_owned(), n(at.as_millisecond()));
    }
    if let Some(score) = &drill.score {
        item.insert("score".to_owned(), s(score));
    }
    item
}

fn read(item: &Item) -> Option<Drill> {
    Some(Drill {
        id: text(item, "id")?,
        canary: text(item, "canary")?.parse().ok()?,
        began_at: items::timestamp(item, "began_at")?,
        valid_until: items::timestamp(item, "valid_until")?,
        asked_at: items::timestamp(item, "asked_at"),
        score: text(item, "score"),
    })
}
