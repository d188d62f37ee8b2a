//! What is delivered: of each instance a first finding and its duplicates, in an order in which some of them meet.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Account, Size};
use crate::compare::list;
use crate::deployment::REGION;
use crate::emulator::{fresh_account, workspace};
use crate::lab::Lab;

/// How a delivery relates to the first finding about its instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It is the first.
    First,
    /// The same bytes once more: EventBridge and Lambda deliver at least once.
    Again,
    /// GuardDuty has seen the activity again: the same finding with a higher count.
    Update,
    /// Another finding about the same instance.
    Another,
    /// The first, as Security Hub hands it on.
    Copy,
}

impl Kind {
    /// The duplicates, in turn.
    const DUPLICATES: [Self; 4] = [Self::Again, Self::Update, Self::Another, Self::Copy];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "first finding",
            Self::Again => "same bytes again",
            Self::Update => "later update",
            Self::Another => "another finding",
            Self::Copy => "Security Hub's copy",
        })
    }
}

/// An event, routed already.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    /// What it is.
    pub(crate) kind: Kind,
    /// The account and the instance.
    pub(crate) target: (String, String),
    /// The finding that GuardDuty has to have by then; nothing where it has it.
    finding: Option<Value>,
    /// The id of the finding that it is about.
    pub(crate) id: String,
    /// The event.
    pub(crate) event: Value,
}

impl Delivery {
    /// Puts the finding where the function will look for it.
    pub(crate) async fn put(&self, lab: &Lab<'_>) -> Result<()> {
        match &self.finding {
            Some(finding) => lab.put_in_guardduty(finding).await,
            None => Ok(()),
        }
    }
}

/// Every delivery in its order, and one of each kind about an instance that the flood leaves out.
pub(super) async fn planned(lab: &Lab<'_>, accounts: &[Account], size: Size) -> Result<(Vec<Delivery>, Vec<Delivery>)> {
    let template = Template::read()?;
    let begun = Timestamp::now();
    let mut random = Random(0x5eed);
    let mut ordered: Vec<(f64, Delivery)> = Vec::new();
    let (mut spare, mut target) = (Vec::new(), 0);
    for account in accounts {
        for n in 0..=account.targets {
            let left_out = n == account.targets;
            if left_out && !spare.is_empty() {
                continue;
            }
            let duplicates = match left_out {
                true => Kind::DUPLICATES.len(),
                false => size.findings / size.targets + usize::from(target < size.findings % size.targets) - 1,
            };
            let kinds = if size.same && !left_out { &[Kind::Again] } else { Kind::DUPLICATES.as_slice() };
            let kinds: Vec<Kind> = kinds.iter().copied().cycle().take(duplicates).collect();
            let of_it = about(lab, &template, account, n, &kinds, begun).await?;
            if left_out {
                spare = of_it;
                continue;
            }
            let at = target as f64 * size.findings as f64 / size.targets as f64;
            for (nth, delivery) in of_it.into_iter().enumerate() {
                // Half of the duplicates come with the first and meet it; the others come at any time after.
                let after = match nth % 2 {
                    0 => nth as f64 / 10.0,
                    _ => random.below(1.0) * (size.findings as f64 - at),
                };
                ordered.push((at + after, delivery));
            }
            target += 1;
        }
    }
    ensure!(target == size.targets, "{target} targets");
    ordered.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    Ok((ordered.into_iter().map(|(_, delivery)| delivery).collect(), spare))
}

/// The deliveries about one instance, the first finding first.
async fn about(
    lab: &Lab<'_>,
    template: &Template,
    account: &Account,
    n: usize,
    duplicates: &[Kind],
    begun: Timestamp,
) -> Result<Vec<Delivery>> {
    let first = template.finding(account, n, begun)?;
    lab.put_in_guardduty(&first).await?;
    let mut found = vec![(Kind::First, first.clone(), None)];
    for (nth, kind) in duplicates.iter().copied().enumerate() {
        found.push(match kind {
            Kind::First | Kind::Again => (kind, first.clone(), None),
            Kind::Update => {
                let mut update = first.clone();
                update["service"]["count"] = json!(2 + nth);
                update["updatedAt"] = json!((begun + Duration::from_secs(nth as u64)).to_string());
                (kind, update.clone(), Some(update))
            }
            Kind::Another => {
                let another = template.finding(account, n, begun)?;
                (kind, another.clone(), Some(another))
            }
            Kind::Copy => (kind, as_security_hub_has_it(&first), None),
        });
    }
    // The same bytes are one event that is delivered twice.
    let to_route: Vec<&Value> =
        found.iter().filter(|(kind, ..)| *kind != Kind::Again).map(|(_, detail, _)| detail).collect();
    let mut routed = route(lab, &to_route).await?.into_iter();
    let mut original = None;
    let target = (account.id.clone(), account.ids.get(&format!("i{n}"))?.to_owned());
    let mut deliveries = Vec::new();
    for (kind, detail, finding) in found {
        let event = match (kind, &original) {
            (Kind::Again, Some(event)) => Value::clone(event),
            _ => routed.next().context("an event is missing")?,
        };
        original.get_or_insert_with(|| event.clone());
        let id = detail["id"].as_str().or(first["id"].as_str()).unwrap_or_default().to_owned();
        deliveries.push(Delivery { kind, target: target.clone(), finding, id, event });
    }
    Ok(deliveries)
}

/// Puts events on the hub's bus and takes what the rules deliver, in the order of the events.
async fn route(lab: &Lab<'_>, details: &[&Value]) -> Result<Vec<Value>> {
    let mut events = Vec::new();
    // As many as one call of PutEvents takes.
    for some in details.chunks(10) {
        let entry = |detail: &&Value| {
            let (source, kind) = match detail["findings"].is_array() {
                true => ("aws.securityhub", "Security Hub Findings - Imported"),
                false => ("aws.guardduty", "GuardDuty Finding"),
            };
            json!({"Source": source, "DetailType": kind, "Detail": detail.to_string()})
        };
        let entries: Vec<Value> = some.iter().map(entry).collect();
        let put = lab.at_hub("events", "put_events", json!({"Entries": entries})).await?;
        ensure!(put["FailedEntryCount"] == 0, "{put}");
        let mut delivered = lab.delivered().await?;
        for detail in some {
            let found = delivered.iter().position(|event| event["detail"] == **detail);
            let found = found.with_context(|| format!("no rule let {} through", detail["id"]))?;
            events.push(delivered.swap_remove(found));
        }
        if let Some(more) = delivered.first() {
            bail!("a rule delivered what was not put: {more}");
        }
    }
    Ok(events)
}

/// A finding of `events/guardduty/`, to be made about others.
struct Template(Value);

impl Template {
    fn read() -> Result<Self> {
        let path = workspace().join("events/guardduty/command-and-control.json");
        let event: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
        Ok(Self(event["detail"].clone()))
    }

    /// A finding about an instance of the account, as GuardDuty would make it now.
    fn finding(&self, account: &Account, n: usize, now: Timestamp) -> Result<Value> {
        let mut finding = self.0.clone();
        let instance = account.ids.get(&format!("i{n}"))?;
        let id = format!("{:032x}", fresh_account().parse::<u128>()?);
        finding["accountId"] = json!(account.id);
        finding["region"] = json!(REGION);
        finding["arn"] = json!(format!("arn:aws:guardduty:{REGION}:{}:detector/lab/finding/{id}", account.id));
        finding["id"] = json!(id);
        for field in ["title", "description"] {
            finding[field] = json!(format!("The EC2 instance {instance} is communicating outbound."));
        }
        let details = &mut finding["resource"]["instanceDetails"];
        details["instanceId"] = json!(instance);
        details["networkInterfaces"] = json!([{
            "networkInterfaceId": account.ids.get(&format!("eni{n}"))?, "subnetId": account.ids.get("subnet_a")?,
            "vpcId": account.ids.get("vpc")?, "securityGroups": [], "ipv6Addresses": [], "privateIpAddresses": [],
        }]);
        for field in ["createdAt", "updatedAt"] {
            finding[field] = json!(now.to_string());
        }
        // Before it is contained: what goes on after that has evidence of its own.
        finding["service"]["eventFirstSeen"] = json!((now - Duration::from_secs(600)).to_string());
        finding["service"]["eventLastSeen"] = json!((now - Duration::from_secs(120)).to_string());
        Ok(finding)
    }
}

/// The `detail` of the event in which Security Hub hands a finding of GuardDuty's on.
fn as_security_hub_has_it(finding: &Value) -> Value {
    let (account, service) = (finding["accountId"].as_str().unwrap_or_default(), &finding["service"]);
    let instance = finding["resource"]["instanceDetails"]["instanceId"].as_str().unwrap_or_default();
    let kind = finding["type"].as_str().unwrap_or_default();
    let own = |name: &str| format!("aws/guardduty/service/{name}");
    json!({"findings": [{
        "SchemaVersion": "2018-10-08", "Id": finding["arn"], "AwsAccountId": account, "Region": REGION,
        "ProductArn": format!("arn:aws:securityhub:{REGION}::product/aws/guardduty"),
        "Types": [format!("TTPs/Command and Control/{}", kind.replacen('/', "-", 1))],
        "Severity": {"Product": finding["severity"], "Label": "HIGH"}, "Title": finding["title"],
        "LastObservedAt": service["eventLastSeen"],
        "ProductFields": {
            own("archived"): "false", own("count"): service["count"].to_string(),
            own("resourceRole"): service["resourceRole"], own("eventLastSeen"): service["eventLastSeen"],
        },
        "Resources": [{
            "Type": "AwsEc2Instance", "Id": format!("arn:aws:ec2:{REGION}:{account}:instance/{instance}"),
            "Region": REGION,
        }],
        "Workflow": {"Status": "NEW"}, "RecordState": "ACTIVE",
    }]})
}

/// The same numbers each time: a flood can be repeated.
struct Random(u64);

impl Random {
    /// A number from zero to below `most`.
    fn below(&mut self, most: f64) -> f64 {
        // Knuth's MMIX constants.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64 * most
    }
}

/// How many runs' findings there are about each target: the ids, each once.
pub(super) fn ids_about<'d>(deliveries: &'d [Delivery], account: &str, instance: &str) -> Vec<&'d str> {
    let of_it = deliveries.iter().filter(|one| one.target.0 == account && one.target.1 == instance);
    let mut ids: Vec<&str> = of_it.map(|one| one.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The elements of an array, if it is one.
pub(super) fn texts(value: &Value) -> Vec<&str> {
    list(value).filter_map(Value::as_str).collect()
}
