//! Replaces every security group of one network interface by a group of ours: the network cut.
//!
//! `ModifyNetworkInterfaceAttribute` with `Groups` replaces the whole set in one call, so there is no
//! moment with a mixture. (`ModifyInstanceAttribute` refuses instances with several interfaces.)
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyNetworkInterfaceAttribute.html>

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::action::{Action, Context, GroupPurpose, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::{Class, Failure};
use crate::ids::{GroupId, InterfaceId, VpcId};
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Undo};

/// Moves an interface into the quarantine group of its VPC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplaceInterfaceGroups {
    /// The interface.
    pub interface: InterfaceId,
    /// Its VPC.
    pub vpc: VpcId,
    /// The quarantine group, when the VPC has one; else the one that this run makes.
    pub quarantine: Option<GroupId>,
}

impl Action for ReplaceInterfaceGroups {
    const NAME: &'static str = "ec2.replace-interface-groups";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::read("ec2:DescribeNetworkInterfaces"),
        Permission::read("ec2:DescribeSecurityGroups"),
        Permission::on(
            "ec2:ModifyNetworkInterfaceAttribute",
            &["ec2:*:*:network-interface/*", "ec2:*:*:security-group/*"],
        ),
    ];
    const UNDO: Undo = Undo::Exact;
    const CUTS: bool = true;
    type State = BTreeSet<GroupId>;

    fn subject(&self) -> String {
        self.interface.to_string()
    }

    fn change(&self, before: &Self::State) -> Change {
        Change {
            what: format!("security groups of {}", self.interface),
            from: join(before),
            to: self.quarantine.as_ref().map_or_else(|| "the new quarantine group".to_owned(), GroupId::to_string),
        }
    }

    fn grants(&self, aws: &Aws, before: &Self::State, groups: &[KnownGroup]) -> Vec<Grant> {
        let ours = super::group_arns(aws, self.quarantine.as_ref(), groups, &self.vpc, GroupPurpose::Quarantine);
        let theirs = before.iter().map(|group| aws.arn("ec2", &format!("security-group/{group}")));
        let interface = aws.arn("ec2", &format!("network-interface/{}", self.interface));
        vec![Grant::new("ec2:ModifyNetworkInterfaceAttribute", [interface].into_iter().chain(theirs).chain(ours))]
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        super::interface(cx, &self.interface).await?.as_ref().map(groups_of).transpose()
    }

    async fn wanted(&self, cx: &Context<'_>, _before: &Self::State) -> Result<Self::State, Failure> {
        let group = match &self.quarantine {
            Some(group) => group.clone(),
            None => super::group_made_by_run(cx, &self.vpc, GroupPurpose::Quarantine).await?,
        };
        Ok(BTreeSet::from([group]))
    }

    async fn set(&self, cx: &Context<'_>, _from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        replace(cx, &self.interface, to).await
    }
}

/// The one call that moves an interface.
pub(super) async fn replace<S>(
    cx: &Context<'_>,
    interface: &InterfaceId,
    groups: &BTreeSet<GroupId>,
) -> Result<Set<S>, Failure> {
    cx.aws
        .ec2()
        .modify_network_interface_attribute()
        .network_interface_id(interface.as_str())
        .set_groups(Some(groups.iter().map(GroupId::to_string).collect()))
        .send()
        .await
        .map_err(Failure::from_sdk("replace the security groups of", interface))?;
    Ok(Set::Done)
}

/// The groups of an interface as AWS describes it.
pub fn groups_of(interface: &aws_sdk_ec2::types::NetworkInterface) -> Result<BTreeSet<GroupId>, Failure> {
    interface
        .groups()
        .iter()
        .filter_map(|group| group.group_id())
        .map(|id| {
            id.parse().map_err(|error| Failure::new(Class::Bug, "read the security group id of", id).because(error))
        })
        .collect()
}

/// Groups in words.
pub(super) fn join(groups: &BTreeSet<GroupId>) -> String {
    if groups.is_empty() {
        return "none".to_owned();
    }
    groups.iter().map(GroupId::as_str).collect::<Vec<_>>().join(", ")
}
