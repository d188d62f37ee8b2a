//! `firebreak preflight` and `onboard`: is everything in place, and put it there ahead.

use std::io::Write;

use anyhow::{Result, bail};
use comfy_table::{Table, presets};
use firebreak::aws::Aws;
use firebreak::door::wire::Asked;
use firebreak::failure::Failure;
use firebreak::hub::{Hub, Quarantine};
use firebreak::ids::{AccountId, Region, VpcId};
use firebreak::operator::{ONBOARD, Operator, PLAN};
use jiff::Timestamp;
use owo_colors::OwoColorize;

use crate::door::Door;

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

pub(crate) async fn run(url: Option<&str>, accounts: &[AccountId], regions: Vec<Region>) -> Result<bool> {
    let (hub, operator) = crate::connect::operator().await?;
    let regions = if regions.is_empty() { vec![hub.aws.region.clone()] } else { regions };
    let mut checks = of_the_hub(&hub).await;
    if url.is_some() {
        checks.push(Check::new("hub", "people's door answers", door(url).await));
    }
    for region in &regions {
        guardduty(&hub, region, accounts, &mut checks).await;
    }
    for account in accounts {
        for region in &regions {
            of_an_account(&hub, &operator, account, region, &mut checks).await;
        }
    }
    print(&checks)
}

/// What every run needs of the security account.
async fn of_the_hub(hub: &Hub) -> Vec<Check> {
    let check = |what: &str, result| Check::new("hub", what, result);
    vec![
        check("ledger writable", brief(hub.ledger.probe().await, |()| hub.config.ledger_table.clone())),
        check("decisions table there", hub.probe_decisions().await),
        check(
            "not stopped",
            match hub.ledger.stopped().await {
                Ok(None) => Ok("it acts as the policies say".to_owned()),
                Ok(Some(stopped)) => Err(stopped.to_string()),
                Err(failure) => Err(failure.brief()),
            },
        ),
        check(
            "evidence writable",
            brief(hub.evidence.probe(Timestamp::now()).await, |()| hub.config.evidence_bucket.clone()),
        ),
        check("policy valid", hub.probe_policy().await.map(|sha256| format!("sha256 {sha256:.12}…"))),
        check("somebody is told", hub.probe_topic().await.map(|count| format!("{count} subscribed"))),
        check("event bus there", hub.probe_bus().await),
        check(
            "break-glass list",
            match hub.config.break_glass.len() {
                0 => Err("empty: set the break-glass principals".to_owned()),
                1 => Ok("1 principal".to_owned()),
                n => Ok(format!("{n} principals")),
            },
        ),
    ]
}

/// People's door, with the person's own credentials.
async fn door(url: Option<&str>) -> Result<String, String> {
    let asked =
        async { Door::at(url).await?.ask(&Asked::Runs { most: 1, after: None, state: None, severity: None }).await };
    asked.await.map(|_| "yes".to_owned()).map_err(|error| format!("{error:#}"))
}

/// GuardDuty in a Region: on in the security account, and the accounts are members of it.
async fn guardduty(hub: &Hub, region: &Region, accounts: &[AccountId], checks: &mut Vec<Check>) {
    const MEMBER: &str = "GuardDuty member";
    let detector = hub.probe_detector(region).await;
    let shown = detector.clone().map(|detector| format!("detector {detector}"));
    checks.push(Check::new(region.as_str(), "GuardDuty on in the security account", shown));
    let wher = |account: &AccountId| format!("{account} {region}");
    let members = match &detector {
        Ok(detector) => hub.probe_members(region, detector, accounts).await.map_err(|failure| failure.brief()),
        Err(_) => Err("not known without the security account's detector".to_owned()),
    };
    for account in accounts {
        let stands = match &members {
            Ok(members) => members.get(account).cloned().unwrap_or_else(|| Err("GuardDuty does not say".to_owned())),
            Err(why) => Err(why.clone()),
        };
        checks.push(Check::new(&wher(account), MEMBER, stands.map(|()| "enabled".to_owned())));
    }
}

/// The operators' roles in an account, and its quarantine groups. The playbooks' roles are made with them, from one
/// template and with the same trust; but only the functions can take those on.
async fn of_an_account(hub: &Hub, operator: &Operator, account: &AccountId, region: &Region, checks: &mut Vec<Check>) {
    let wher = format!("{account} {region}");
    let mut reading = None;
    for playbook in hub.playbooks {
        let id = playbook.meta().id;
        let session = hub.probe_plan(operator, *playbook, account, region).await;
        if let Ok(aws) = &session
            && let Some(denial) = Hub::probe_denial(*playbook, aws).await
        {
            checks.push(Check::new(&wher, &format!("deny policy, for {id}"), denial));
        }
        let result = brief(session, |aws| {
            if id == ISOLATE {
                reading = Some(aws);
            }
            "reads".to_owned()
        });
        checks.push(Check::new(&wher, &format!("role {PLAN}, for {id}"), result));
    }
    let onboarding = async {
        let aws = hub.onboarding(operator, account, region).await?;
        Hub::vpcs_in_use(&aws).await
    };
    checks.push(Check::new(&wher, &format!("role {ONBOARD}"), brief(onboarding.await, |_| "reads".to_owned())));
    if let Some(aws) = reading
        && let Err(failure) = groups(hub, &aws, account, region, &wher, checks).await
    {
        checks.push(Check::new(&wher, "quarantine groups", Err(failure.brief())));
    }
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

/// The playbook that needs quarantine groups.
const ISOLATE: &str = "isolate-instance";

/// Each VPC with an interface: it has a quarantine group, and what it has is empty.
async fn groups(
    hub: &Hub,
    aws: &Aws,
    account: &AccountId,
    region: &Region,
    wher: &str,
    checks: &mut Vec<Check>,
) -> Result<(), Failure> {
    let known = hub.ledger.groups(account, Some(region)).await?;
    for vpc in Hub::vpcs_in_use(aws).await? {
        let onboard = || format!("firebreak onboard --account {account} --regions {region} --vpc {vpc}");
        let result = match hub.quarantine(aws, &known, &vpc).await {
            Ok(Quarantine::Unmade) => Err(format!("none yet: {}", onboard())),
            Ok(Quarantine::Lost { group, why }) => Err(format!("{group} is recorded, but {why}: {}", onboard())),
            Ok(Quarantine::There { groups }) => match groups.iter().find(|(_, rules)| *rules > 0) {
                Some((group, rules)) => {
                    Err(format!("{group} has {rules} rules: run onboard again, and ask who added them"))
                }
                None => {
                    let groups: Vec<&str> = groups.iter().map(|(group, _)| group.as_str()).collect();
                    Ok(format!("{}, no rules", groups.join(", ")))
                }
            },
            Err(failure) => Err(failure.brief()),
        };
        checks.push(Check::new(wher, &format!("quarantine group of {vpc}"), result));
    }
    Ok(())
}

pub(crate) async fn onboard(account: &AccountId, regions: Vec<Region>, vpcs: Vec<VpcId>) -> Result<bool> {
    let (hub, operator) = crate::connect::operator().await?;
    let regions = if regions.is_empty() { vec![hub.aws.region.clone()] } else { regions };
    let mut made = 0;
    for region in &regions {
        let vpcs = if vpcs.is_empty() {
            Hub::vpcs_in_use(&hub.onboarding(&operator, account, region).await?).await?
        } else {
            vpcs.clone()
        };
        for vpc in vpcs {
            let group = hub.onboard(&operator, account, region, &vpc).await?;
            made += 1;
            writeln!(anstream::stdout(), "{account} {region} {vpc}: {group} is there, without rules")?;
        }
    }
    if made == 0 {
        bail!("no VPC with a network interface was found in {account}");
    }
    Ok(true)
}
