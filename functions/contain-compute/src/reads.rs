//! What is read about an instance: everything at once, and only two reads that a plan cannot do without.

use std::collections::BTreeMap;

use aws_sdk_autoscaling::types::AutoScalingInstanceDetails;
use aws_sdk_ec2::types::{Address, Instance, NetworkInterface, SecurityGroup, SecurityGroupRule};
use aws_sdk_elasticloadbalancing::types::LoadBalancerDescription;
use aws_sdk_elasticloadbalancingv2::types::{TargetGroup, TargetHealthDescription};
use firebreak::actions::autoscaling::detach_instance;
use firebreak::actions::ec2::replace_instance_profile::{association, profile_of};
use firebreak::actions::ec2::set_instance_attribute::{Protection, value_of};
use firebreak::actions::ec2::{empty_group, filter, groups_there, is_gone};
use firebreak::actions::elasticloadbalancing::deregister_targets::targets_of;
use firebreak::aws::Aws;
use firebreak::failure::{Class, Failure};
use firebreak::ids::{Arn, GroupId, InstanceId};
use firebreak::playbook::{Maybe, PlanContext, Planned};
use firebreak::target::Target;
use firebreak::text::quoted;
use futures_util::{StreamExt, TryStreamExt, stream};

/// An instance with all that hangs on it.
#[derive(Debug)]
pub(crate) struct Facts {
    /// The instance.
    pub(crate) instance: Instance,
    /// Every network interface attached to it.
    pub(crate) interfaces: Vec<NetworkInterface>,
    /// The attributes that protect it.
    pub(crate) attributes: Vec<(Protection, Maybe<String>)>,
    /// Elastic IP addresses.
    pub(crate) addresses: Maybe<Vec<Address>>,
    /// Its place in an Auto Scaling group.
    pub(crate) member: Maybe<Option<AutoScalingInstanceDetails>>,
    /// The ARN of its instance profile.
    pub(crate) profile: Maybe<Option<String>>,
    /// Those of our groups that still exist in the Region.
    pub(crate) groups: Maybe<Vec<SecurityGroup>>,
    /// The rules of our groups.
    pub(crate) rules: Maybe<Vec<SecurityGroupRule>>,
    /// The Region's target groups with their targets.
    pub(crate) target_groups: Maybe<Vec<(TargetGroup, Arn, Vec<TargetHealthDescription>)>>,
    /// The Region's classic load balancers.
    pub(crate) balancers: Maybe<Vec<LoadBalancerDescription>>,
}

/// The instance id of a target, which must be where the credentials are.
pub(crate) fn instance_id(aws: &Aws, target: &Target) -> Result<InstanceId, Failure> {
    let wrong = || Failure::new(Class::Bug, "plan for target", target.to_string());
    if target.account != aws.account || target.region.as_ref() != Some(&aws.region) {
        return Err(wrong().because("the credentials belong to another account or Region"));
    }
    target.id.parse().map_err(|error| wrong().because(error))
}

/// Reads all of it in one round; `None` when there is no such instance.
pub(crate) async fn facts(cx: &PlanContext<'_>, id: &InstanceId) -> Result<Option<Facts>, Failure> {
    let aws = cx.aws;
    let ours: Vec<GroupId> = cx.groups.iter().map(|known| known.id.clone()).collect();
    let attributes = futures_util::future::join_all(Protection::ALL.map(|attribute| {
        let read = value_of(aws, id, attribute);
        async move { (attribute, cx.optional(read).await) }
    }));
    let profile = async { Ok(association(aws, id).await?.as_ref().and_then(profile_of)) };
    let (instance, interfaces, attributes, addresses, member, profile, groups, rules, target_groups, balancers) = tokio::join!(
        instance(aws, id),
        interfaces(aws, id),
        attributes,
        cx.optional(addresses(aws, id)),
        cx.optional(detach_instance::membership(aws, id)),
        cx.optional(profile),
        cx.optional(groups_there(aws, &ours)),
        cx.optional(empty_group::rules_of(aws, &ours)),
        cx.optional(target_groups(aws)),
        cx.optional(balancers(aws)),
    );
    let (Some(instance), interfaces) = (instance?, interfaces?) else { return Ok(None) };
    Ok(Some(Facts {
        instance,
        interfaces,
        attributes,
        addresses,
        member,
        profile,
        groups,
        rules,
        target_groups,
        balancers,
    }))
}

/// The instance; `None` when there is none of this id.
pub(crate) async fn instance(aws: &Aws, id: &InstanceId) -> Result<Option<Instance>, Failure> {
    let call = aws.ec2().describe_instances().filters(filter("instance-id", id.as_str()));
    let answer = call.send().await.map_err(Failure::from_sdk("describe instance", id))?;
    Ok(answer.reservations.unwrap_or_default().into_iter().flat_map(|r| r.instances.unwrap_or_default()).next())
}

async fn interfaces(aws: &Aws, id: &InstanceId) -> Result<Vec<NetworkInterface>, Failure> {
    let call = aws.ec2().describe_network_interfaces().filters(filter("attachment.instance-id", id.as_str()));
    let pages = call.max_results(1000).into_paginator().items().send();
    pages.try_collect().await.map_err(Failure::from_sdk("describe the network interfaces of", id))
}

async fn addresses(aws: &Aws, id: &InstanceId) -> Result<Vec<Address>, Failure> {
    let call = aws.ec2().describe_addresses().filters(filter("instance-id", id.as_str()));
    let answer = call.send().await.map_err(Failure::from_sdk("describe the addresses of", id))?;
    Ok(answer.addresses.unwrap_or_default())
}

async fn target_groups(aws: &Aws) -> Result<Vec<(TargetGroup, Arn, Vec<TargetHealthDescription>)>, Failure> {
    let pages = aws.elbv2().describe_target_groups().into_paginator().items().send();
    let found = pages.try_collect().await.map_err(Failure::from_sdk("describe the target groups in", &aws.region))?;
    let read = found.into_iter().filter_map(|group| {
        let arn: Arn = group.target_group_arn()?.parse().ok()?;
        Some(async move {
            match targets_of(aws, &arn).await {
                // Deleted between the two reads: the instance is not in it.
                Err(failure) if failure.class == Class::Gone => Ok(None),
                targets => Ok(Some((group, arn, targets?))),
            }
        })
    });
    let read: Vec<Option<_>> = stream::iter(read.collect::<Vec<_>>()).buffered(16).try_collect().await?;
    Ok(read.into_iter().flatten().collect())
}

async fn balancers(aws: &Aws) -> Result<Vec<LoadBalancerDescription>, Failure> {
    let pages = aws.elb().describe_load_balancers().into_paginator().items().send();
    pages.try_collect().await.map_err(Failure::from_sdk("describe the classic load balancers in", &aws.region))
}

/// Why an instance is left alone, if it is.
pub(crate) fn not_ours_to_change(id: &InstanceId, instance: &Instance) -> Option<Planned> {
    if is_gone(instance) {
        return Some(Planned::Gone(format!("{id} is terminated")));
    }
    let operator = instance.operator().filter(|operator| operator.managed() == Some(true))?;
    let who = quoted(operator.principal().unwrap_or("a service"));
    Some(Planned::Refused(format!("{id} is managed by {who}, which alone may change it; contain it there")))
}

/// The tags of an instance: for the policy only, for anybody may have written them.
pub(crate) fn tags(instance: &Instance) -> BTreeMap<String, String> {
    let pair =
        |tag: &aws_sdk_ec2::types::Tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned()));
    instance.tags().iter().filter_map(pair).collect()
}
