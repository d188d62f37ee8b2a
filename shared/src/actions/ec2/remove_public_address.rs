//! Takes the public IPv4 address that AWS assigned by itself off an interface: ends every flow through
//! the internet gateway, tracked or not.
//!
//! AWS allows it for the primary interface of an instance. An address given back is lost: AWS assigns
//! another one on undo.
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyNetworkInterfaceAttribute.html>

use aws_sdk_ec2::types::NetworkInterface;
use serde::{Deserialize, Serialize};

use crate::action::{Action, Context, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::Failure;
use crate::ids::InterfaceId;
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Undo};

/// Takes the assigned public address away from an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovePublicAddress {
    /// The interface.
    pub interface: InterfaceId,
}

impl Action for RemovePublicAddress {
    const NAME: &'static str = "ec2.remove-public-address";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::read("ec2:DescribeNetworkInterfaces"),
        Permission::on("ec2:ModifyNetworkInterfaceAttribute", &["ec2:*:*:network-interface/*"]),
    ];
    const UNDO: Undo =
        Undo::Equivalent { differs: "the public IPv4 address", why: "AWS takes it back and assigns a new one" };
    const CUTS: bool = true;
    /// Whether it has one.
    type State = bool;

    fn subject(&self) -> String {
        self.interface.to_string()
    }

    fn change(&self, before: &Self::State) -> Change {
        let words = |has: bool| if has { "assigned by AWS" } else { "none" }.to_owned();
        Change { what: format!("public IPv4 address of {}", self.interface), from: words(*before), to: words(false) }
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        let interface = aws.arn("ec2", &format!("network-interface/{}", self.interface));
        vec![Grant::new("ec2:ModifyNetworkInterfaceAttribute", [interface])]
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        Ok(super::interface(cx, &self.interface).await?.as_ref().map(has_assigned_address))
    }

    async fn wanted(&self, _cx: &Context<'_>, _before: &Self::State) -> Result<Self::State, Failure> {
        Ok(false)
    }

    async fn set(&self, cx: &Context<'_>, _from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        let call = cx.aws.ec2().modify_network_interface_attribute();
        let call = call.network_interface_id(self.interface.as_str()).associate_public_ip_address(*to);
        let answer = call.send().await.map_err(Failure::from_sdk("change the public address of", &self.interface));
        super::unsupported_is_left(answer, "AWS does not allow changing the public address of this interface")
    }
}

/// Whether an interface has a public address that is not an Elastic IP address: one without an allocation.
pub fn has_assigned_address(interface: &NetworkInterface) -> bool {
    let primary = interface.private_ip_addresses().iter().filter(|ip| ip.primary() == Some(true));
    primary
        .filter_map(|ip| ip.association())
        .chain(interface.association())
        .any(|association| association.allocation_id().is_none() && association.public_ip().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_ec2::types::NetworkInterfaceAssociation;

    #[test]
    fn an_elastic_address_is_not_an_assigned_one() {
        let with = |association| NetworkInterface::builder().association(association).build();
        let public = || NetworkInterfaceAssociation::builder().public_ip("198.51.100.7");
        assert!(has_assigned_address(&with(public().ip_owner_id("amazon").build())));
        assert!(!has_assigned_address(&with(public().allocation_id("eipalloc-00000001").build())));
        assert!(!has_assigned_address(&NetworkInterface::builder().build()));
    }
}
