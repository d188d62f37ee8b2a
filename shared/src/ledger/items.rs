//! Rows to values and back.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::builders::{ConditionCheckBuilder, DeleteBuilder, PutBuilder, UpdateBuilder};
use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Channel, Due, DueAt, DueKind, Hold, KnownUnits, RunPlace, due_sort};
use crate::action::{GroupPurpose, KnownGroup};
use crate::failure::{Class, Failure};
use crate::plan::StepId;
use crate::run::{Outcome, Run, RunHead, RunState};

pub(crate) type Item = HashMap<String, AttributeValue>;

pub(crate) fn s(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(crate) fn n(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// A value of ours as JSON text. Values of ours always serialise.
pub(crate) fn json(value: &impl Serialize) -> AttributeValue {
    AttributeValue::S(serde_json::to_string(value).unwrap_or_default())
}

pub(crate) fn text(item: &Item, key: &str) -> Option<String> {
    item.get(key)?.as_s().ok().cloned()
}

pub(crate) fn number(item: &Item, key: &str) -> Option<u64> {
    item.get(key)?.as_n().ok()?.parse().ok()
}

pub(crate) fn timestamp(item: &Item, key: &str) -> Option<Timestamp> {
    let millis: i64 = item.get(key)?.as_n().ok()?.parse().ok()?;
    Timestamp::from_millisecond(millis).ok()
}

fn broken(item: &Item, what: &str) -> Failure {
    Failure::new(Class::Bug, "read the ledger's row", text(item, "pk").unwrap_or_default()).because(what.to_owned())
}

pub(crate) fn parse<T: DeserializeOwned>(item: &Item, key: &str) -> Result<T, Failure> {
    let text = text(item, key).ok_or_else(|| broken(item, key))?;
    serde_json::from_str(&text).map_err(|error| broken(item, key).because(error))
}

pub(crate) fn read_hold(item: &Item) -> Result<Hold, Failure> {
    let run = text(item, "run").and_then(|run| run.parse().ok());
    let state = text(item, "state").and_then(|state| RunState::parse(&state));
    let finding = text(item, "finding").and_then(|finding| finding.parse().ok());
    match (run, state, finding) {
        (Some(run), Some(state), Some(finding)) => {
            let outcome = text(item, "outcome").and_then(|outcome| Outcome::parse(&outcome));
            let (plan_hash, released_at) = (text(item, "plan_hash"), timestamp(item, "released_at"));
            let rejected = match item.get("rejected") {
                Some(AttributeValue::M(rejected)) => {
                    let severity = |value: &AttributeValue| value.as_n().ok().and_then(|n| n.parse().ok());
                    rejected.iter().filter_map(|(id, value)| Some((id.clone(), severity(value)?))).collect()
                }
                _ => Default::default(),
            };
            Ok(Hold { run, state, finding, plan_hash, outcome, released_at, rejected })
        }
        _ => Err(broken(item, "run, state or finding")),
    }
}

/// A group's sort key: several runs can have made one in a VPC.
pub(crate) fn group_sort(group: &KnownGroup) -> String {
    format!("{}#{}#{}", group.vpc, group.purpose.as_str(), group.id)
}

/// The groups of these rows, in the order in which they were recorded. A row without the group's id in its key is of
/// a time when a VPC had one group for a purpose; it has no time either, and comes first.
pub(crate) fn read_groups(items: &[Item]) -> Vec<KnownGroup> {
    let mut found: Vec<(u64, KnownGroup)> =
        items.iter().filter_map(|item| Some((number(item, "at").unwrap_or(0), read_group(item)?))).collect();
    found.sort_by(|(a_at, a), (b_at, b)| (a_at, &a.id).cmp(&(b_at, &b.id)));
    let mut seen = std::collections::BTreeSet::new();
    found.into_iter().map(|(_, group)| group).filter(|group| seen.insert(group.id.clone())).collect()
}

fn read_group(item: &Item) -> Option<KnownGroup> {
    let sort = text(item, "sk")?;
    let mut parts = sort.splitn(3, '#');
    let (vpc, purpose) = (parts.next()?.parse().ok()?, parts.next()?);
    let purpose = [GroupPurpose::Quarantine, GroupPurpose::Flush].into_iter().find(|p| p.as_str() == purpose)?;
    let id = parts.next().map(str::to_owned).or_else(|| text(item, "group_id"))?.parse().ok()?;
    Some(KnownGroup { vpc, id, purpose, run: text(item, "run").and_then(|run| run.parse().ok()) })
}

/// A severity as it stands in rows. It has one digit after the point, and no sign.
pub(super) fn tenths(severity: f64) -> i64 {
    (severity * 10.0).round() as i64
}

/// A due row, to be written.
pub(super) fn due(head: &RunHead, due: DueAt) -> Item {
    let row = [
        ("pk", s(format!("DUE#{}", head.function))),
        ("sk", s(due_sort(due.at, due.what, &head.id))),
        ("run", s(head.id.as_str())),
        ("what", s(due.what.as_str())),
        ("written", n(Timestamp::now().as_millisecond())),
        ("account", s(head.target.account.as_str())),
        ("severity", n(tenths(head.finding.severity))),
    ];
    row.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A due row; nothing where it is of a kind that this version does not know.
pub(crate) fn read_due(item: &Item) -> Option<Due> {
    let what = text(item, "what")?;
    Some(Due {
        key: text(item, "sk")?,
        what: DueKind::ALL.into_iter().find(|kind| kind.as_str() == what)?,
        run: text(item, "run")?.parse().ok()?,
        left: match text(item, "left") {
            None => Channel::ALL.into_iter().collect(),
            Some(left) => Channel::ALL.into_iter().filter(|c| left.split(',').any(|l| l == c.as_str())).collect(),
        },
        attempts: number(item, "attempts").and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
        written: number(item, "written").unwrap_or(0),
        account: text(item, "account").unwrap_or_default(),
        severity: number(item, "severity").unwrap_or(0),
    })
}

/// The place of a run in the list of runs.
pub(super) fn read_place(key: &Item) -> Option<RunPlace> {
    Some(RunPlace {
        arrived_at: text(key, "created_at")?.parse().ok()?,
        run: text(key, "pk")?.strip_prefix("RUN#")?.parse().ok()?,
    })
}

/// What cannot be read is read from AWS again.
pub(crate) fn read_units(item: &Item) -> Option<KnownUnits> {
    Some(KnownUnits { units: parse(item, "units").ok()?, read_at: timestamp(item, "read_at")? })
}

fn read_map<T: DeserializeOwned>(item: &Item, key: &str) -> Result<std::collections::BTreeMap<StepId, T>, Failure> {
    let Some(AttributeValue::M(map)) = item.get(key) else { return Ok(Default::default()) };
    map.iter()
        .map(|(id, value)| {
            let text = value.as_s().map_err(|_| broken(item, key))?;
            let value = serde_json::from_str(text).map_err(|error| broken(item, key).because(error))?;
            Ok((StepId(id.clone()), value))
        })
        .collect()
}

pub(crate) fn read_run(item: &Item) -> Result<Run, Failure> {
    let added = match item.get("added") {
        Some(AttributeValue::L(list)) => list
            .iter()
            .map(|value| {
                let text = value.as_s().map_err(|_| broken(item, "added"))?;
                serde_json::from_str(text).map_err(|error| broken(item, "added").because(error))
            })
            .collect::<Result<_, _>>()?,
        _ => Vec::new(),
    };
    Ok(Run {
        head: parse(item, "head")?,
        state: text(item, "state").and_then(|state| RunState::parse(&state)).ok_or_else(|| broken(item, "state"))?,
        epoch: number(item, "epoch").ok_or_else(|| broken(item, "epoch"))?,
        lease_until: timestamp(item, "lease_until").ok_or_else(|| broken(item, "lease_until"))?,
        added,
        steps: read_map(item, "steps")?,
        undone: read_map(item, "undone")?,
        earlier: Default::default(),
        end: if item.contains_key("end") { Some(parse(item, "end")?) } else { None },
        past: if item.contains_key("past") { parse(item, "past")? } else { Vec::new() },
        tries: number(item, "tries").and_then(|tries| u32::try_from(tries).ok()).unwrap_or(0),
        interruptions: number(item, "interruptions").and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
        approved_at: timestamp(item, "approved_at"),
        held_at: timestamp(item, "held_at"),
        reapplied: number(item, "reapplied").and_then(|times| u32::try_from(times).ok()).unwrap_or(0),
        released_at: timestamp(item, "released_at"),
        decided: if item.contains_key("decided") { parse(item, "decided")? } else { None },
        hold: if item.contains_key("hold") { Some(parse(item, "hold")?) } else { None },
        latest: None,
        seen_again: Vec::new(),
    })
}

// The builders below are always given a table, a key or an item, and an expression; that is all they
// check, so `build` cannot fail, and a transaction without the write would be refused by DynamoDB.

pub(crate) fn write_check(check: ConditionCheckBuilder) -> TransactWriteItem {
    TransactWriteItem::builder().set_condition_check(check.build().ok()).build()
}

pub(crate) fn write_put(put: PutBuilder) -> TransactWriteItem {
    TransactWriteItem::builder().set_put(put.build().ok()).build()
}

pub(crate) fn write_update(update: UpdateBuilder) -> TransactWriteItem {
    TransactWriteItem::builder().set_update(update.build().ok()).build()
}

pub(crate) fn write_delete(delete: DeleteBuilder) -> TransactWriteItem {
    TransactWriteItem::builder().set_delete(delete.build().ok()).build()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn groups_come_in_the_order_of_their_recording_and_rows_of_old_form_first() {
        let known = |id: &str| KnownGroup {
            vpc: "vpc-00000001".parse().unwrap(),
            id: id.parse().unwrap(),
            purpose: GroupPurpose::Quarantine,
            run: None,
        };
        let row =
            |id: &str, at: u64| Item::from([("sk".to_owned(), s(group_sort(&known(id)))), ("at".to_owned(), n(at))]);
        let sort = s("vpc-00000001#firebreak-quarantine");
        let old = Item::from([("sk".to_owned(), sort), ("group_id".to_owned(), s("sg-0000000f"))]);
        let other = Item::from([("sk".to_owned(), s("vpc-00000001#something-else#sg-00000005"))]);
        let rows = [row("sg-00000003", 2), row("sg-00000001", 9), row("sg-0000000f", 5), old, other];
        let ids: Vec<String> = read_groups(&rows).iter().map(|group| group.id.to_string()).collect();
        assert_eq!(ids, ["sg-0000000f", "sg-00000003", "sg-00000001"]);
        assert_eq!(read_groups(&rows).first(), Some(&known("sg-0000000f")));
    }
}
