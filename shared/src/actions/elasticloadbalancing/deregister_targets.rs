//! Takes an instance out of a target group, whether it is registered by its id or by an address of its.
//!
//! A target that is draining is out already: it gets no new connections.
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DeregisterTargets.html>

use std::collections::BTreeSet;

use aws_sdk_elasticloadbalancingv2::types::{
    TargetDescription, TargetHealthDescription, TargetHealthReasonEnum as Reason, TargetHealthStateEnum as Health,
};
use serde::{Deserialize, Serialize};

use crate::action::{Action, Context, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::{Class, Failure};
use crate::ids::{Arn, InstanceId};
use crate::permission::{Grant, Permission, literal};
use crate::plan::{Change, Undo};
use crate::text::plain;

/// Deregisters an instance from a target group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeregisterTargets {
    /// The target group.
    pub target_group: Arn,
    /// The instance.
    pub instance: InstanceId,
    /// Its addresses in the target group's VPC.
    pub addresses: BTreeSet<String>,
}

/// A registered target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Registered {
    /// An instance id or an address.
    pub id: String,
    /// The port.
    pub port: Option<i32>,
    /// The Availability Zone; only addresses have one.
    pub zone: Option<String>,
}

impl Action for DeregisterTargets {
    const NAME: &'static str = "elasticloadbalancing.deregister-targets";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::on("elasticloadbalancing:DeregisterTargets", &["elasticloadbalancing:*:*:targetgroup/*/*"]),
        Permission::read("elasticloadbalancing:DescribeTargetHealth"),
        Permission::on("elasticloadbalancing:RegisterTargets", &["elasticloadbalancing:*:*:targetgroup/*/*"]),
    ];
    const UNDO: Undo = Undo::Exact;
    type State = BTreeSet<Registered>;

    fn subject(&self) -> String {
        // An address that is added later is another step's.
        let addresses = crate::plan::together(&self.addresses);
        format!("{} {} {addresses}", self.instance, self.target_group.resource)
    }

    fn change(&self, before: &Self::State) -> Change {
        let words = |target: &Registered| match target.port {
            Some(port) => format!("{} port {port}", plain(&target.id, 64)),
            None => plain(&target.id, 64),
        };
        let targets: Vec<String> = before.iter().map(words).collect();
        Change {
            what: format!("targets of {} in {}", self.instance, plain(&self.target_group.resource, 96)),
            from: if targets.is_empty() { "none".to_owned() } else { targets.join(", ") },
            to: "none".to_owned(),
        }
    }

    fn grants(&self, _aws: &Aws, _before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        let group = literal(&self.target_group.to_string());
        ["elasticloadbalancing:DeregisterTargets", "elasticloadbalancing:RegisterTargets"]
            .map(|action| Grant::new(action, [group.clone()]))
            .into()
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        match targets_of(cx.aws, &self.target_group).await {
            Ok(found) => Ok(Some(registered(&found, &self.instance, &self.addresses))),
            Err(failure) if failure.class == Class::Gone => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn wanted(&self, _cx: &Context<'_>, _before: &Self::State) -> Result<Self::State, Failure> {
        Ok(BTreeSet::new())
    }

    async fn set(&self, cx: &Context<'_>, from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        let group = self.target_group.to_string();
        let described = |targets: BTreeSet<&Registered>| {
            let describe = |target: &Registered| {
                TargetDescription::builder()
                    .id(&target.id)
                    .set_port(target.port)
                    .set_availability_zone(target.zone.clone())
                    .build()
            };
            Some(targets.into_iter().map(describe).collect::<Vec<_>>())
        };
        let (out, back) = (from.difference(to).collect::<BTreeSet<_>>(), to.difference(from).collect());
        if out.is_empty() {
            let call = cx.aws.elbv2().register_targets().target_group_arn(&group).set_targets(described(back));
            call.send().await.map_err(Failure::from_sdk("register targets in", &group))?;
        } else {
            let call = cx.aws.elbv2().deregister_targets().target_group_arn(&group).set_targets(described(out));
            call.send().await.map_err(Failure::from_sdk("deregister targets from", &group))?;
        }
        Ok(Set::Done)
    }
}

/// Every target of a group with its health.
pub async fn targets_of(aws: &Aws, group: &Arn) -> Result<Vec<TargetHealthDescription>, Failure> {
    let call = aws.elbv2().describe_target_health().target_group_arn(group.to_string());
    let answer = call.send().await.map_err(Failure::from_sdk("describe the targets of", group))?;
    Ok(answer.target_health_descriptions.unwrap_or_default())
}

/// The targets among `found` that are the instance or one of its addresses.
pub fn registered(
    found: &[TargetHealthDescription],
    instance: &InstanceId,
    addresses: &BTreeSet<String>,
) -> BTreeSet<Registered> {
    let ours = |found: &TargetHealthDescription| {
        let target = found.target()?;
        let id = target.id()?;
        let by_id = id == instance.as_str();
        if is_out(found) || !(by_id || addresses.contains(id)) {
            return None;
        }
        let zone = target.availability_zone().filter(|_| !by_id).map(str::to_owned);
        Some(Registered { id: id.to_owned(), port: target.port(), zone })
    };
    found.iter().filter_map(ours).collect()
}

fn is_out(found: &TargetHealthDescription) -> bool {
    let health = found.target_health();
    let state = health.and_then(|health| health.state());
    let reason = health.and_then(|health| health.reason());
    matches!(state, Some(Health::Draining))
        || matches!(reason, Some(Reason::NotRegistered | Reason::DeregistrationInProgress))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_elasticloadbalancingv2::types::TargetHealth;

    #[test]
    fn ours_are_found_by_id_and_by_address_unless_they_are_draining() {
        let target = |id: &str, state: Health| {
            TargetHealthDescription::builder()
                .target(TargetDescription::builder().id(id).port(80).availability_zone("all").build())
                .target_health(TargetHealth::builder().state(state).build())
                .build()
        };
        let found = [
            target("i-00000001", Health::Healthy),
            target("10.0.0.1", Health::Unhealthy),
            target("10.0.0.2", Health::Draining),
            target("10.0.0.3", Health::UnhealthyDraining),
            target("i-00000002", Health::Healthy),
        ];
        let addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(str::to_owned).into();
        let ours = registered(&found, &"i-00000001".parse().unwrap(), &addresses);
        let ids: Vec<_> = ours.iter().map(|target| (target.id.as_str(), target.zone.as_deref())).collect();
        assert_eq!(ids, [("10.0.0.1", Some("all")), ("10.0.0.3", Some("all")), ("i-00000001", None)]);
    }
}
