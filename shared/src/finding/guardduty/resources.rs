//! What a finding names: instances and interfaces, buckets and snapshots.
//!
//! Most types carry one instance in `resource.instanceDetails` (also Runtime Monitoring on an EKS node
//! or an ECS container instance, and malware on a volume). An attack sequence lists what took part in
//! `service.detection.sequence.resources`.

use super::super::json::{At, ParseError, Problem};
use super::super::resource::{self, Place, Resource, ResourceId, Said};
use super::sample::PLACEHOLDER_INSTANCE;
use crate::ids::{AccountId, Arn, InstanceId, InterfaceId, Region};
use crate::text::plain;

/// What a finding names, each once, in its order.
#[derive(Default)]
pub(super) struct Named {
    pub(super) instances: Vec<InstanceId>,
    /// Interfaces in a sequence that no listed instance claims.
    pub(super) interfaces: Vec<InterfaceId>,
    /// Instances, and interfaces that none of them claims, of another account or Region.
    pub(super) elsewhere: Vec<Arn>,
    /// The instances again, buckets and snapshots: those of the finding's account.
    pub(super) resources: Vec<Resource>,
    /// What a sequence was put together from.
    pub(super) signals: Vec<String>,
}

impl Named {
    /// Takes a resource in, if it is well-formed and of the finding's account. An instance must be contained whatever
    /// else a finding names: what is not understood of the rest is left out, and nothing is done about it.
    fn own(&mut self, word: &str, at: &At<'_>, place: Place<'_>, region: Option<Region>) {
        match resource::read(word, at, place, Said { account: None, region }) {
            Ok(resource) if resource.account == *place.account => self.resources.push(resource),
            _ => {}
        }
    }
}

/// The most signals that are kept: they are shown, and a sequence has a hundred at most.
const MOST_SIGNALS: usize = 100;

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
    stored(resource, place, &mut named)?;
    if sample {
        named.instances.retain(|id| id.as_str() != PLACEHOLDER_INSTANCE);
    }
    let instances = named.instances.iter().map(|id| Resource {
        id: ResourceId::Instance(id.clone()),
        account: place.account.clone(),
        region: Some(place.region.clone()),
    });
    named.resources = instances.chain(std::mem::take(&mut named.resources)).collect();
    Ok(named)
}

/// Buckets, and the snapshot in which malware was found.
fn stored(resource: &At<'_>, place: Place<'_>, named: &mut Named) -> Result<(), ParseError> {
    for bucket in resource.field("s3BucketDetails")?.items().unwrap_or_default() {
        named.own("S3_BUCKET", &bucket.field("name")?, place, None);
    }
    named.own("AWS::EC2::Snapshot", &resource.down(&["ebsSnapshotDetails", "snapshotArn"])?, place, None);
    Ok(())
}

fn sequence(service: &At<'_>, place: Place<'_>, named: &mut Named) -> Result<(), ParseError> {
    let sequence = service.down(&["detection", "sequence"])?;
    let resources = sequence.field("resources")?.items()?;
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
            Some("S3_BUCKET") if is_of(resource, place.account).unwrap_or(false) => {
                let region = resource.field("region")?.id().unwrap_or_default();
                named.own("S3_BUCKET", &resource.field("uid")?, place, region);
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
    for signal in sequence.field("signals")?.items().unwrap_or_default().iter().take(MOST_SIGNALS) {
        if let Some(name) = signal.field("name")?.value().as_str() {
            push(&mut named.signals, plain(name, 128));
        }
    }
    Ok(())
}

/// The ARN of something that a sequence's resource names by id: it is where the resource is.
fn arn_of(resource: &At<'_>, place: Place<'_>, id: String) -> Result<Arn, ParseError> {
    let mut arn = Arn {
        partition: place.partition,
        service: "ec2".to_owned(),
        region: Some(place.region.clone()),
        account: Some(place.account.clone()),
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
fn instance(uid: &At<'_>, resource: &At<'_>, place: Place<'_>, named: &mut Named) -> Result<(), ParseError> {
    let Place { partition, region, account } = place;
    let text = uid.required(At::text)?;
    let arn: Arn = if text.starts_with("arn:") {
        text.parse().map_err(|e: crate::ids::InvalidId| uid.error(e))?
    } else {
        arn_of(resource, place, format!("instance/{text}"))?
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
fn is_here(resource: &At<'_>, place: Place<'_>) -> Result<bool, ParseError> {
    let in_region: Option<Region> = resource.field("region")?.id()?;
    Ok(is_of(resource, place.account)? && in_region.is_none_or(|r| r == *place.region))
}

/// Whether a resource is in the finding's own account.
fn is_of(resource: &At<'_>, account: &AccountId) -> Result<bool, ParseError> {
    let there: Option<AccountId> = resource.field("accountId")?.id()?;
    Ok(there.is_none_or(|a| a == *account))
}

fn push<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}
