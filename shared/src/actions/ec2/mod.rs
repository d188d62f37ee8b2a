//! Actions on Amazon EC2.

pub mod close_interface;
pub mod create_group;
pub mod create_snapshots;
pub mod disable_metadata_endpoint;
pub mod disassociate_address;
pub mod empty_group;
pub mod keep_volumes;
pub mod lock_snapshot;
pub mod open_group;
pub mod open_interface;
pub mod remove_public_address;
pub mod replace_instance_profile;
pub mod replace_interface_groups;
pub mod set_ingress_rule;
pub mod set_instance_attribute;
pub mod tighten_connection_tracking;
pub mod unshare_snapshot;

use aws_sdk_ec2::types::{Filter, Instance, NetworkInterface, ResourceType, SecurityGroup, Tag, TagSpecification};

use crate::action::{Context, GroupPurpose, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::{Class, Failure};
use crate::ids::{AccountId, GroupId, InstanceId, InterfaceId, VpcId};

/// The tag that holds the run which made a thing. For people; nothing is decided by it.
pub const TAG_RUN: &str = "firebreak:run";
/// The tag that says what a group of ours is for. For people.
pub const TAG_PURPOSE: &str = "firebreak:purpose";
/// The tag by which a case's snapshots are found again: `CreateSnapshots` has no client token.
pub const TAG_CASE: &str = "firebreak:case";
/// The tag that names the playbook. For people.
pub const TAG_PLAYBOOK: &str = "firebreak:playbook";

/// A filter of a `Describe` call. Filtered calls have the larger request bucket (EC2 API throttling).
pub fn filter(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
}

/// Tags for a thing that is being made.
fn tags(kind: ResourceType, tags: &[(&str, &str)]) -> TagSpecification {
    let tags = tags.iter().map(|(key, value)| Tag::builder().key(*key).value(*value).build());
    TagSpecification::builder().resource_type(kind).set_tags(Some(tags.collect())).build()
}

/// The id of the group that this run has made in a VPC, by its name; `None` when there is none to be
/// seen. The name holds the run's random id and the account must own it: nobody else can have made it.
async fn find_group_of_run(cx: &Context<'_>, vpc: &VpcId, purpose: GroupPurpose) -> Result<Option<GroupId>, Failure> {
    let name = cx.group_name(purpose);
    let found = cx
        .aws
        .ec2()
        .describe_security_groups()
        .filters(filter("group-name", &name))
        .filters(filter("vpc-id", vpc.as_str()))
        .filters(filter("owner-id", cx.aws.account.as_str()))
        .send()
        .await
        .map_err(Failure::from_sdk("find security group", &name))?;
    Ok(found.security_groups().iter().find_map(|group| group.group_id()?.parse().ok()))
}

/// The group that this run has made in a VPC, for a step that comes after the one that made it.
async fn group_made_by_run(cx: &Context<'_>, vpc: &VpcId, purpose: GroupPurpose) -> Result<GroupId, Failure> {
    if let Some(id) = KnownGroup::find(cx.made, vpc, purpose) {
        return Ok(id.clone());
    }
    // What was just made may not be visible for a moment: a later round finds it.
    find_group_of_run(cx, vpc, purpose)
        .await?
        .ok_or_else(|| Failure::new(Class::Transient, "find security group", cx.group_name(purpose)))
}

/// Filters for these groups, however many they are: a filter takes 200 values.
fn group_filters(groups: &[GroupId]) -> impl Iterator<Item = Filter> {
    groups.chunks(200).map(|ids| {
        let values = ids.iter().map(GroupId::to_string).collect();
        Filter::builder().name("group-id").set_values(Some(values)).build()
    })
}

/// Those of these groups that exist. By a filter, not by id: a group that is gone is then absent instead of an error
/// about all of them.
pub async fn groups_there(aws: &Aws, groups: &[GroupId]) -> Result<Vec<SecurityGroup>, Failure> {
    let mut found = Vec::new();
    for filter in group_filters(groups) {
        let call = aws.ec2().describe_security_groups().filters(filter).max_results(1000);
        let page = call.into_paginator().items().send().try_collect().await;
        found.extend(page.map_err(Failure::from_sdk("describe our groups in", &aws.region))?);
    }
    Ok(found)
}

/// Why a group that the ledger says is ours is of no use, given the groups `there`: it is gone, or somewhere else, or
/// somebody else's. `None` when it is as it was made.
pub fn why_lost(known: &KnownGroup, there: &[SecurityGroup], account: &AccountId) -> Option<String> {
    let Some(group) = there.iter().find(|group| group.group_id() == Some(known.id.as_str())) else {
        return Some("it does not exist any more".to_owned());
    };
    let (vpc, owner) = (group.vpc_id().unwrap_or_default(), group.owner_id().unwrap_or_default());
    if vpc != known.vpc.as_str() {
        return Some(format!("it is in {}", crate::text::quoted(vpc)));
    }
    (owner != account.as_str()).then(|| format!("it belongs to account {}", crate::text::quoted(owner)))
}

/// The ARN of `group`, or of every group that it may turn out to be when it is not made yet.
fn group_arns(
    aws: &Aws,
    group: Option<&GroupId>,
    known: &[KnownGroup],
    vpc: &VpcId,
    purpose: GroupPurpose,
) -> Vec<String> {
    match group {
        Some(group) => vec![aws.arn("ec2", &format!("security-group/{group}"))],
        None => KnownGroup::arns(known, aws, vpc, purpose),
    }
}

/// Every volume, for a call that names an instance and takes its volumes from that instance alone:
/// `CreateSnapshots` snapshots what is attached to it, and `ModifyInstanceAttribute` names its devices. Both
/// are authorised against the instance besides, whose ARN stands beside this one, so in effect these are the
/// instance's own volumes and no others. Named one by one, 25 of them are longer than a session policy may be.
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html>
fn every_volume(aws: &Aws) -> String {
    aws.arn("ec2", "volume/*")
}

/// A network interface as it is now; `None` when it no longer exists.
async fn interface(cx: &Context<'_>, id: &InterfaceId) -> Result<Option<NetworkInterface>, Failure> {
    let answer = cx
        .aws
        .ec2()
        .describe_network_interfaces()
        .filters(filter("network-interface-id", id.as_str()))
        .send()
        .await
        .map_err(Failure::from_sdk("describe network interface", id))?;
    Ok(answer.network_interfaces.unwrap_or_default().into_iter().next())
}

/// An instance as it is now; `None` when it no longer exists, which it does not once it is terminated.
async fn instance(cx: &Context<'_>, id: &InstanceId) -> Result<Option<Instance>, Failure> {
    let answer = cx
        .aws
        .ec2()
        .describe_instances()
        .filters(filter("instance-id", id.as_str()))
        .send()
        .await
        .map_err(Failure::from_sdk("describe instance", id))?;
    let mut instances =
        answer.reservations.unwrap_or_default().into_iter().flat_map(|r| r.instances.unwrap_or_default());
    Ok(instances.next().filter(|instance| !is_gone(instance)))
}

/// Whether an instance is past saving.
pub fn is_gone(instance: &Instance) -> bool {
    use aws_sdk_ec2::types::InstanceStateName::{ShuttingDown, Terminated};
    matches!(instance.state().and_then(|state| state.name()), Some(Terminated | ShuttingDown))
}

/// What AWS does not allow on this kind of instance is an outcome for a person to read, not an error:
/// these are the codes it says so with.
fn unsupported_is_left<T, S>(answer: Result<T, Failure>, why: &str) -> Result<Set<S>, Failure> {
    const UNSUPPORTED: [&str; 4] = [
        "UnsupportedOperation",
        "OperationNotPermitted",
        "InvalidParameterCombination",
        "UnsupportedInstanceAttribute",
    ];
    match answer {
        Ok(_) => Ok(Set::Done),
        Err(failure) => match failure.code.as_deref() {
            Some(code) if UNSUPPORTED.contains(&code) => Ok(Set::Left(format!("{why} (AWS: {code})"))),
            _ => Err(failure),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_group_is_lost_when_it_is_gone_or_not_where_it_was_made() {
        let account: AccountId = "222222222222".parse().unwrap();
        let known = KnownGroup {
            vpc: "vpc-00000001".parse().unwrap(),
            id: "sg-00000001".parse().unwrap(),
            purpose: GroupPurpose::Quarantine,
            run: None,
        };
        let group = |vpc: &str, owner: &str| {
            SecurityGroup::builder().group_id("sg-00000001").vpc_id(vpc).owner_id(owner).build()
        };
        assert_eq!(why_lost(&known, &[group("vpc-00000001", "222222222222")], &account), None);
        for (there, why) in [
            (vec![], "does not exist"),
            (vec![group("vpc-00000002", "222222222222")], "in `vpc-00000002`"),
            (vec![group("vpc-00000001", "333333333333")], "account `333333333333`"),
        ] {
            assert!(why_lost(&known, &there, &account).unwrap().contains(why), "{there:?}");
        }
    }
}
