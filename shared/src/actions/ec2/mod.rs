//! Actions on Amazon EC2.

pub mod replace_interface_groups;

use crate::action::{Context, GroupPurpose};
use crate::failure::{Class, Failure};
use crate::ids::{GroupId, VpcId};

/// The group that this run made in a VPC, found by its name. The name holds the run's random id, and
/// the account must own it: nobody else can have made it.
pub(crate) async fn group_made_by_run(
    cx: &Context<'_>,
    vpc: &VpcId,
    purpose: GroupPurpose,
) -> Result<GroupId, Failure> {
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
    found
        .security_groups()
        .iter()
        .find_map(|group| group.group_id()?.parse().ok())
        .ok_or_else(|| Failure::new(Class::Gone, "find security group", name))
}

/// A filter of a `Describe` call. Filtered calls have the larger request bucket (EC2 API throttling).
pub fn filter(name: &str, value: &str) -> aws_sdk_ec2::types::Filter {
    aws_sdk_ec2::types::Filter::builder().name(name).values(value).build()
}
