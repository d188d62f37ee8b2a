//! Moves one interface from the quarantine group to the flush group, for the instant until
//! `ec2.close-interface`: tracked flows become untracked, and end when the interface is closed again.
//! AWS warns that flows may survive even so.
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html>

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::replace_interface_groups::{groups_of, join};
use crate::action::{Action, Context, GroupPurpose, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::Failure;
use crate::ids::{GroupId, InterfaceId, VpcId};
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Leave, Undo};

/// Opens an interface that is in quarantine and has no public address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenInterface {
    /// The interface.
    pub interface: InterfaceId,
    /// Its VPC.
    pub vpc: VpcId,
    /// The quarantine group, when the VPC has one; else the one that this run makes.
    pub quarantine: Option<GroupId>,
    /// The flush group, when the VPC has one; else the one that this run makes.
    pub flush: Option<GroupId>,
}

impl Action for OpenInterface {
    const NAME: &'static str = "ec2.open-interface";
    const PERMISSIONS: &'static [Permission] = super::replace_interface_groups::ReplaceInterfaceGroups::PERMISSIONS;
    const UNDO: Undo = Undo::Never { why: "the interface is closed again by the step that follows" };
    const LEAVE: Option<Leave> = Some(Leave::CutTrackedFlows);
    type State = BTreeSet<GroupId>;

    fn subject(&self) -> String {
        self.interface.to_string()
    }

    fn change(&self, before: &Self::State) -> Change {
        Change {
            what: format!("security groups of {} for an instant", self.interface),
            from: if before.is_empty() { "the new quarantine group".to_owned() } else { join(before) },
            to: self.flush.as_ref().map_or_else(|| "the new flush group".to_owned(), GroupId::to_string),
        }
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, groups: &[KnownGroup]) -> Vec<Grant> {
        let interface = aws.arn("ec2", &format!("network-interface/{}", self.interface));
        let flush = super::group_arns(aws, self.flush.as_ref(), groups, &self.vpc, GroupPurpose::Flush);
        vec![Grant::new("ec2:ModifyNetworkInterfaceAttribute", [interface].into_iter().chain(flush))]
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        super::interface(cx, &self.interface).await?.as_ref().map(groups_of).transpose()
    }

    async fn wanted(&self, cx: &Context<'_>, _before: &Self::State) -> Result<Self::State, Failure> {
        let group = match &self.flush {
            Some(group) => group.clone(),
            None => super::group_made_by_run(cx, &self.vpc, GroupPurpose::Flush).await?,
        };
        Ok(BTreeSet::from([group]))
    }

    async fn set(&self, cx: &Context<'_>, _from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        // To open what is not cut off already would expose it: looked at here, immediately before.
        let quarantine = match &self.quarantine {
            Some(group) => group.clone(),
            None => super::group_made_by_run(cx, &self.vpc, GroupPurpose::Quarantine).await?,
        };
        let Some(now) = super::interface(cx, &self.interface).await? else {
            return Ok(Set::Left("the interface is gone".to_owned()));
        };
        if groups_of(&now)? != BTreeSet::from([quarantine]) {
            return Ok(Set::Left("the interface is not in quarantine, so it is not opened".to_owned()));
        }
        if now.association().is_some() || now.private_ip_addresses().iter().any(|ip| ip.association().is_some()) {
            return Ok(Set::Left("the interface still has a public address, so it is not opened".to_owned()));
        }
        super::replace_interface_groups::replace(cx, &self.interface, to).await
    }
}
