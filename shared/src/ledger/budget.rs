//! Budgets: how many runs may begin in an hour, what of that is kept for graver findings, and of how many targets people
//! are told one by one.

use std::time::Duration;

use aws_sdk_dynamodb::types::{ReturnValue, TransactWriteItem, Update};
use jiff::Timestamp;

use super::items::{self, Item, n, s};
use super::{Ledger, View};
use crate::failure::{Class, Failure};
use crate::finding::{CRITICAL, Finding, HIGH, Source};
use crate::ids::AccountId;
use crate::run::RunHead;

/// Budget rows outlive their hour by a day.
const KEPT: Duration = Duration::from_secs(25 * 3600);

/// How many runs may begin in an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// In one account.
    pub account_per_hour: u64,
    /// In all.
    pub total_per_hour: u64,
}

impl Budget {
    /// What a finding may spend of it. Findings that are not grave are cheap to bring about, and must not use up what a
    /// grave one needs: a fifth is kept for critical ones, and half for critical and high ones. What a person asks for,
    /// and what is rehearsed, may have it all.
    #[must_use]
    pub fn for_finding(self, finding: &Finding) -> Self {
        let part = match finding.source {
            Source::Request | Source::Drill => 0,
            _ if finding.severity >= CRITICAL => 0,
            // AWS Config rates nothing. That is no reason to take it for slight.
            Source::Config => 5,
            _ if finding.severity >= HIGH => 5,
            _ => 2,
        };
        // Rounded in favour of what is spent: a budget of one is one for everybody.
        let left = |whole: u64| whole - whole.checked_div(part).unwrap_or(0);
        Self { account_per_hour: left(self.account_per_hour), total_per_hour: left(self.total_per_hour) }
    }

    /// A budget of an account in words, as far as a finding may spend it.
    pub(super) fn in_account(self, finding: &Finding, account: &AccountId) -> String {
        let kept = kept(self.for_finding(finding).account_per_hour, self.account_per_hour);
        format!("account {account}{kept}")
    }

    /// The budget of all accounts in words.
    pub(super) fn in_all(self, finding: &Finding) -> String {
        format!("all accounts{}", kept(self.for_finding(finding).total_per_hour, self.total_per_hour))
    }
}

fn kept(may_spend: u64, whole: u64) -> &'static str {
    if may_spend < whole { ", but for what is kept for graver findings," } else { "" }
}

impl View {
    /// Which budget was seen to be spent as far as a finding may spend it, in words. Rehearsals have one of their own, and of
    /// another hour nothing is known.
    pub fn spent(&self, budget: Budget, finding: &Finding, now: Timestamp) -> Option<String> {
        if finding.source == Source::Drill || self.hour != hour(now) {
            return None;
        }
        let may = budget.for_finding(finding);
        if self.spent_account >= may.account_per_hour {
            return Some(budget.in_account(finding, &finding.account));
        }
        (self.spent_total >= may.total_per_hour).then(|| budget.in_all(finding))
    }
}

/// The hour as it stands in budget keys.
pub(crate) fn hour(now: Timestamp) -> String {
    now.strftime("%Y%m%d%H").to_string()
}

impl Ledger {
    /// The writes that spend one run of an account's and of the whole budget, where there is one left.
    pub(super) fn spend(&self, head: &RunHead, budget: Budget, now: Timestamp) -> [TransactWriteItem; 2] {
        // Rehearsals do not spend what is there for incidents.
        let drill = if head.finding.source == Source::Drill { "drill:" } else { "" };
        let row = |who: &str, most: u64| {
            // A budget of nothing is not had by the hour's first either.
            let left = if most == 0 { "spent < :most" } else { "attribute_not_exists(spent) OR spent < :most" };
            items::write_update(
                Update::builder()
                    .table_name(&self.table)
                    .key("pk", s("BUDGET"))
                    .key("sk", s(format!("{drill}{}#{who}#{}", head.playbook, hour(now))))
                    .update_expression("SET spent = if_not_exists(spent, :zero) + :one, expires_at = :until")
                    .condition_expression(left)
                    .expression_attribute_values(":zero", n(0))
                    .expression_attribute_values(":one", n(1))
                    .expression_attribute_values(":most", n(most))
                    .expression_attribute_values(":until", n((now + KEPT).as_second())),
            )
        };
        [row(head.target.account.as_str(), budget.account_per_hour), row("all", budget.total_per_hour)]
    }

    /// How many runs of a playbook were begun this hour, in an account and in all.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn spent(&self, playbook: &str, account: &AccountId, now: Timestamp) -> Result<(u64, u64), Failure> {
        let (account, all) = (format!("{playbook}#{account}#{}", hour(now)), format!("{playbook}#all#{}", hour(now)));
        let (account, all) = tokio::try_join!(self.get("BUDGET", &account), self.get("BUDGET", &all))?;
        let spent = |item: Option<Item>| item.as_ref().and_then(|item| items::number(item, "spent")).unwrap_or(0);
        Ok((spent(account), spent(all)))
    }

    /// Counts a message of a kind that people get this hour, about an account or (`None`) about all: which one it is.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn count_told(&self, kind: &str, account: Option<&AccountId>, now: Timestamp) -> Result<u64, Failure> {
        let account = account.map_or("all", AccountId::as_str);
        let answer = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", s("BUDGET"))
            .key("sk", s(format!("told#{account}#{kind}#{}", hour(now))))
            .update_expression("SET told = if_not_exists(told, :zero) + :one, expires_at = :until")
            .expression_attribute_values(":zero", n(0))
            .expression_attribute_values(":one", n(1))
            .expression_attribute_values(":until", n((now + KEPT).as_second()))
            .return_values(ReturnValue::UpdatedNew)
            .send()
            .await
            .map_err(Failure::from_sdk("count what is told of account", account))?;
        let count = answer.attributes().and_then(|row| items::number(row, "told"));
        count.ok_or_else(|| Failure::new(Class::Bug, "count what is told of account", account))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_not_grave_leaves_some_of_the_budget_to_what_is() {
        let spends = |severity: f64, whole: u64| {
            let document = serde_json::json!({
                "accountId": "222222222222", "region": "eu-west-1", "id": "a", "type": "T", "severity": severity,
                "resource": {"resourceType": "Instance"}, "service": {},
            });
            let finding = crate::finding::parse(&document).unwrap().findings.remove(0).unwrap();
            Budget { account_per_hour: whole, total_per_hour: 4 * whole }.for_finding(&finding)
        };
        for (severity, account, total) in [(9.0, 5, 20), (8.9, 4, 16), (7.0, 4, 16), (6.9, 3, 10), (0.0, 3, 10)] {
            let expected = Budget { account_per_hour: account, total_per_hour: total };
            assert_eq!(spends(severity, 5), expected, "{severity}");
        }
        // A budget of one is one for everybody, and one of nothing nobody's.
        assert_eq!(spends(1.0, 1).account_per_hour, 1);
        assert_eq!(spends(1.0, 0).total_per_hour, 0);
    }
}
