//! `firebreak preflight` and `onboard`: is everything in place, and put it there ahead.

use std::io::Write;

use anyhow::{Context, Result, bail};
use aws_sdk_ec2::types::SecurityGroupRule;
use comfy_table::{Table, presets};
use firebreak::action::{Action, GroupPurpose};
use firebreak::actions::ec2::filter;
use firebreak::actions::iam::attach_deny_policy::{AttachDenyPolicy, denies};
use firebreak::aws::Aws;
use firebreak::failure::Failure;
use firebreak::hub::Hub;
use firebreak::ids::{AccountId, Region, VpcId};
use firebreak::playbook::Playbook;
use jiff::Timestamp;
use owo_colors::OwoColorize;

/// One line of the table.
struct Check {
    wher: String,
    what: String,
    result: Result<String, String>,
}

impl Check {
    fn new(wher: &str, what: &str, result: Result<String, String>) -> Self {
        Self { wher: wher.to_owned(), what: what.to_owned(), result }
    }
}

fn brief<T>(result: Result<T, Failure>, good: impl FnOnce(T) -> String) -> Result<String, String> {
    result.map(good).map_err(|failure| failure.brief())
}

pub(crate) async fn run(accounts: &[AccountId], regions: Vec<Region>) -> Result<bool> {
    let hub = crate::connect::hub().await?;
    let regions = if regions.is_empty() { vec![hub.aws.region.clone()] } else { regions };
    let now = Timestamp::now();
    let mut checks = vec![
        Check::new("hub", "ledger writable", brief(hub.ledger.probe().await, |()| hub.config.ledger_table.clone())),
        Check::new(
            "hub",
            "evidence writable",
            brief(hub.evidence.probe(now).await, |()| hub.config.evidence_bucket.clone()),
        ),
        Check::new("hub", "policy valid", hub.probe_policy().await.map(|sha256| format!("sha256 {:.12}…", sha256))),
        Check::new(
            "hub",
            "break-glass list",
            match hub.config.break_glass.len() {
                0 => Err("empty: set the break-glass principals".to_owned()),
                n => Ok(format!("{n} principals")),
            },
        ),
    ];
    for region in &regions {
        checks.push(Check::new(region.as_str(), "GuardDuty on in the security account", guardduty(&hub, region).await));
    }
    for account in accounts {
        for region in &regions {
            let wher = format!("{account} {region}");
            for playbook in hub.playbooks {
                let session = hub.probe_role(*playbook, account, region).await;
                let what = format!("role {}", playbook.meta().id);
                match session {
                    Ok(aws) => {
                        checks.push(Check::new(&wher, &what, Ok("can be assumed".to_owned())));
                        if playbook.actions().iter().any(|action| action.name() == AttachDenyPolicy::NAME) {
                            checks.push(Check::new(&wher, "deny policy", deny_policy(&aws).await));
                        }
                        if playbook.meta().id == ISOLATE {
                            groups(&hub, &aws, account, region, &wher, &mut checks).await;
                        }
                    }
                    Err(failure) => checks.push(Check::new(&wher, &what, Err(failure.brief()))),
                }
            }
        }
    }
    print(&checks)
}

fn print(checks: &[Check]) -> Result<bool> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["", "WHERE", "WHAT", ""]);
    let mut failed = 0;
    for check in checks {
        let (mark, text) = match &check.result {
            Ok(text) => ("ok".green().to_string(), text),
            Err(text) => {
                failed += 1;
                ("NO".red().to_string(), text)
            }
        };
        table.add_row([mark, check.wher.clone(), check.what.clone(), text.clone()]);
    }
    let mut out = anstream::stdout().lock();
    writeln!(out, "{table}")?;
    match failed {
        0 => writeln!(out, "\nready: {} checks", checks.len())?,
        n => writeln!(out, "\nNOT ready: {n} of {} checks failed", checks.len())?,
    }
    Ok(failed == 0)
}

/// Whether the policy that contained users get denies everything: it is made by the member template.
async fn deny_policy(aws: &Aws) -> Result<String, String> {
    match denies(aws).await.map_err(|failure| failure.brief())? {
        true => Ok("denies everything".to_owned()),
        false => Err("absent, or somebody changed what it says: deploy the member template again".to_owned()),
    }
}

const ISOLATE: &str = "isolate-instance";

async fn guardduty(hub: &Hub, region: &Region) -> Result<String, String> {
    let aws = hub.aws.in_region(region.clone());
    let answer = aws.guardduty().list_detectors().send().await;
    let answer = answer.map_err(Failure::from_sdk("list the GuardDuty detectors of", region)).map_err(|f| f.brief())?;
    match answer.detector_ids().first() {
        Some(detector) => Ok(format!("detector {}", firebreak::text::plain(detector, 40))),
        None => Err("there is no detector: findings of this Region cannot be fetched again".to_owned()),
    }
}

async fn rules_of(aws: &Aws, group: &str) -> Result<Vec<SecurityGroupRule>, Failure> {
    let call = aws.ec2().describe_security_group_rules().filters(filter("group-id", group));
    let found = call.into_paginator().items().send().try_collect().await;
    found.map_err(Failure::from_sdk("read the rules of", group))
}

/// Each VPC with an interface: its quarantine group is there, and empty.
async fn groups(hub: &Hub, aws: &Aws, account: &AccountId, region: &Region, wher: &str, checks: &mut Vec<Check>) {
    let known = match hub.ledger.groups(account, Some(region)).await {
        Ok(known) => known,
        Err(failure) => {
            checks.push(Check::new(wher, "quarantine groups", Err(failure.brief())));
            return;
        }
    };
    let vpcs = match vpcs_in_use(aws).await {
        Ok(vpcs) => vpcs,
        Err(failure) => {
            checks.push(Check::new(wher, "quarantine groups", Err(failure.brief())));
            return;
        }
    };
    for vpc in vpcs {
        let what = format!("quarantine group of {vpc}");
        let group = known.iter().find(|known| known.vpc == vpc && known.purpose == GroupPurpose::Quarantine);
        let result = match group {
            None => Err(format!("none yet: firebreak onboard --account {account} --regions {region} --vpc {vpc}")),
            Some(known) => match rules_of(aws, known.id.as_str()).await {
                Ok(rules) if rules.is_empty() => Ok(format!("{}, no rules", known.id)),
                Ok(rules) => {
                    Err(format!("{} has {} rules: run onboard again, and ask who added them", known.id, rules.len()))
                }
                Err(failure) => Err(failure.brief()),
            },
        };
        checks.push(Check::new(wher, &what, result));
    }
}

/// The VPCs of a Region that have a network interface: those where there is something to contain.
async fn vpcs_in_use(aws: &Aws) -> Result<Vec<VpcId>, Failure> {
    let call = aws.ec2().describe_network_interfaces().max_results(1000);
    let found: Vec<_> = call
        .into_paginator()
        .items()
        .send()
        .try_collect()
        .await
        .map_err(Failure::from_sdk("list the network interfaces of", &aws.account))?;
    let mut vpcs: Vec<VpcId> = found.iter().filter_map(|interface| interface.vpc_id()?.parse().ok()).collect();
    vpcs.sort();
    vpcs.dedup();
    Ok(vpcs)
}

pub(crate) async fn onboard(account: &AccountId, regions: Vec<Region>, vpcs: Vec<VpcId>) -> Result<bool> {
    let hub = crate::connect::hub().await?;
    let regions = if regions.is_empty() { vec![hub.aws.region.clone()] } else { regions };
    let playbook: &'static dyn Playbook = hub
        .playbooks
        .iter()
        .copied()
        .find(|playbook| playbook.meta().id == ISOLATE)
        .context("the playbook isolate-instance is not in this build")?;
    let mut made = 0;
    for region in &regions {
        let aws = hub.probe_role(playbook, account, region).await?;
        let vpcs = if vpcs.is_empty() { vpcs_in_use(&aws).await? } else { vpcs.clone() };
        for vpc in vpcs {
            let group = hub.onboard(playbook, account, region, &vpc).await?;
            made += 1;
            writeln!(anstream::stdout(), "{account} {region} {vpc}: {} is there, without rules", group.id)?;
        }
    }
    if made == 0 {
        bail!("no VPC with a network interface was found in {account}");
    }
    Ok(true)
}
