//! The instances and interfaces that a finding names.
//!
//! Most types carry one instance in `resource.instanceDetails` (also Runtime Monitoring on an EKS node
//! or an ECS container instance, and malware on a volume). An attack sequence lists what took part in
//! `service.detection.sequence.resources`.

use super::super::json::{At, ParseError, Problem};
use super::sample::PLACEHOLDER_INSTANCE;
use crate::ids::{AccountId, Arn, InstanceId, InterfaceId, Partition, Region};

/// What a finding names, each once, in its order.
#[derive(Default)]
pub(super) struct Named {
    pub(super) instances: Vec<InstanceId>,
    /// Interfaces in a sequence that no listed instance claims.
    pub(super) interfaces: Vec<InterfaceId>,
    /// Instances, and interfaces that none of them claims, of another account or Region.
    pub(super) elsewhere: Vec<Arn>,
}

/// Groups in a sequence whose `ec2InstanceUids` are, by the API's own words, the *compromised*
/// instances that share the group. `eksCluster` and `ecsCluster` have a field of the same name which
/// lists every node of the cluster: those are not named as compromised and are left out on purpose.
const GROUPS: [&str; 6] = [
    "autoscalingAutoScalingGroup",
    "cloudformationStack",
    "ec2Image",
    "ec2LaunchTemplate",
    "ec2Vpc",
    "iamInstanceProfile",
];

type Place<'a> = (Partition, &'a Region, &'a AccountId);

pub(super) fn named(resource: &At<'_>, service: &At<'_>, place: Place<'_>, sample: bool) -> Result<Named, ParseError> {
    let mut named = Named::default();
    let instance = resource.down(&["instanceDetails", "instanceId"])?;
    match instance.id::<InstanceId>() {
        Ok(Some(id)) => push(&mut named.instances, id),
        Ok(None) => {}
        // Samples carry made-up ids; nothing is done for them, so there is nothing to be strict about.
        Err(_) if sample => {}
        Err(error) => return Err(error),
    }
    match sequence(service, place, &mut named) {
        Err(error) if !sample => return Err(error),
        _ => {}
    }
    if sample {
        named.instances.retain(|id| id.as_str() != PLACEHOLDER_INSTANCE);
    }
    Ok(named)
}

fn sequence(service: &At<'_>, place: Place<'_>, named: &mut Named) -> Result<(), ParseError> {
    let resources = service.down(&["detection", "sequence", "resources"])?.items()?;
    let mut interfaces = Vec::new();
    let mut away: Vec<(InterfaceId, Arn)> = Vec::new();
    let mut claimed: Vec<InterfaceId> = Vec::new();
    for resource in &resources {
        let data = resource.field("data")?;
        match resource.field("resourceType")?.value().as_str() {
            Some("EC2_INSTANCE") => {
                instance(&resource.field("uid")?, resource, place, named)?;
                for uid in data.down(&["ec2Instance", "ec2NetworkInterfaceUids"])?.items()? {
                    claimed.extend(interface(&uid)?);
                }
            }
            Some("EC2_NETWORK_INTERFACE") if is_here(resource, place)? => {
                let uid = resource.field("uid")?;
                interfaces.push(interface(&uid)?.ok_or_else(|| uid.error(Problem::Missing))?);
            }
            Some("EC2_NETWORK_INTERFACE") => {
                // Only to be named: nothing is done there, so there is nothing to be strict about.
                if let Ok(Some(id)) = interface(&resource.field("uid")?) {
                    let arn = arn_of(resource, place, format!("network-interface/{id}"))?;
                    away.push((id, arn));
                }
            }
            _ => {}
        }
        for group in GROUPS {
            for uid in data.down(&[group, "ec2InstanceUids"])?.items()? {
                instance(&uid, resource, place, named)?;
            }
        }
    }
    for id in interfaces.into_iter().filter(|id| !claimed.contains(id)) {
        push(&mut named.interfaces, id);
    }
    for (_, arn) in away.into_iter().filter(|(id, _)| !claimed.contains(id)) {
        push(&mut named.elsewhere, arn);
    }
    Ok(())
}

/// The ARN of something that a sequence's resource names by id: it is where the resource is.
fn arn_of(resource: &At<'_>, (partition, region, account): Place<'_>, id: String) -> Result<Arn, ParseError> {
    let mut arn = Arn {
        partition,
        service: "ec2".to_owned(),
        region: Some(region.clone()),
        account: Some(account.clone()),
        resource: id,
    };
    if let Some(there) = resource.field("accountId")?.id()? {
        arn.account = Some(there);
    }
    if let Some(there) = resource.field("region")?.id::<Region>()? {
        arn.partition = there.partition();
        arn.region = Some(there);
    }
    Ok(arn)
}

/// An instance in a sequence, by bare id (it is then where its resource is) or by ARN.
fn instance(
    uid: &At<'_>,
    resource: &At<'_>,
    (partition, region, account): Place<'_>,
    named: &mut Named,
) -> Result<(), ParseError> {
    let text = uid.text()?.ok_or_else(|| uid.error(Problem::Missing))?;
    let arn: Arn = if text.starts_with("arn:") {
        text.parse().map_err(|e: crate::ids::InvalidId| uid.error(e))?
    } else {
        arn_of(resource, (partition, region, account), format!("instance/{text}"))?
    };
    let id: InstanceId = arn
        .resource
        .strip_prefix("instance/")
        .unwrap_or(text)
        .parse()
        .map_err(|e: crate::ids::InvalidId| uid.error(e))?;
    if arn.service != "ec2" {
        return Err(uid.error(Problem::Expected { expected: "an EC2 instance", found: text.to_owned() }));
    }
    if arn.partition == partition && arn.region.as_ref() == Some(region) && arn.account.as_ref() == Some(account) {
        push(&mut named.instances, id);
    } else {
        push(&mut named.elsewhere, arn);
    }
    Ok(())
}

fn interface(uid: &At<'_>) -> Result<Option<InterfaceId>, ParseError> {
    let Some(text) = uid.text()? else { return Ok(None) };
    let id = text.rsplit_once(":network-interface/").map_or(text, |(_, id)| id);
    id.parse().map(Some).map_err(|e: crate::ids::InvalidId| uid.error(e))
}

/// Whether a resource is in the finding's own account and Region.
fn is_here(resource: &At<'_>, (_, region, account): Place<'_>) -> Result<bool, ParseError> {
    let there: Option<AccountId> = resource.field("accountId")?.id()?;
    let in_region: Option<Region> = resource.field("region")?.id()?;
    Ok(there.is_none_or(|a| a == *account) && in_region.is_none_or(|r| r == *region))
}

fn push<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}
