//! Moves one interface back into the quarantine group after `ec2.open-interface`. It needs nothing to
//! have succeeded before, and is right at any time: it only ever closes.
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyNetworkInterfaceAttribute.html>

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::replace_interface_groups::{groups_of, join};
use crate::action::{Action, Context, GroupPurpose, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::Failure;
use crate::ids::{GroupId, InterfaceId, VpcId};
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Leave, Undo};

/// Closes an interface again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseInterface {
    /// The interface.
    pub interface: InterfaceId,
    /// Its VPC.
    pub vpc: VpcId,
    /// The quarantine group, when the VPC has one; else the one that this run makes.
    pub quarantine: Option<GroupId>,
}

impl Action for CloseInterface {
    const NAME: &'static str = "ec2.close-interface";
    const PERMISSIONS: &'static [Permission] = super::replace_interface_groups::ReplaceInterfaceGroups::PERMISSIONS;
    const UNDO: Undo = Undo::Never { why: "to undo it would be to open the interface" };
    const LEAVE: Option<Leave> = Some(Leave::CutTrackedFlows);
    type State = BTreeSet<GroupId>;

    fn subject(&self) -> String {
        self.interface.to_string()
    }

    fn change(&self, before: &Self::State) -> Change {
        Change {
            what: format!("security groups of {} again", self.interface),
            from: if before.is_empty() { "the new flush group".to_owned() } else { join(before) },
            to: self.quarantine.as_ref().map_or_else(|| "the new quarantine group".to_owned(), GroupId::to_string),
        }
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, groups: &[KnownGroup]) -> Vec<Grant> {
        let interface = aws.arn("ec2", &format!("network-interface/{}", self.interface));
        let ours = super::group_arns(aws, self.quarantine.as_ref(), groups, &self.vpc, GroupPurpose::Quarantine);
        vec![Grant::new("ec2:ModifyNetworkInterfaceAttribute", [interface].into_iter().chain(ours))]
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
        super::replace_interface_groups::replace(cx, &self.interface, to).await
    }
}
