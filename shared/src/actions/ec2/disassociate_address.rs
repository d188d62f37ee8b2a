//! Takes an Elastic IP address off an interface: ends every flow through the internet gateway,
//! tracked or not.
//!
//! The association's id changes whenever the address is associated anew, so it is looked up just before;
//! an address that is by then somewhere else is left alone.
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DisassociateAddress.html>

use aws_sdk_ec2::types::Address;
use serde::{Deserialize, Serialize};

use crate::action::{Action, Context, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::{Class, Failure};
use crate::ids::{AllocationId, InterfaceId};
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Undo};
use crate::text::plain;

/// Takes an Elastic IP address away from where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisassociateAddress {
    /// The address's allocation.
    pub allocation: AllocationId,
}

/// Where an Elastic IP address is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// The interface.
    pub interface: InterfaceId,
    /// The private address that it stands for.
    pub private_ip: Option<String>,
}

impl Action for DisassociateAddress {
    const NAME: &'static str = "ec2.disassociate-address";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::read("ec2:DescribeAddresses"),
        Permission::on("ec2:AssociateAddress", &["ec2:*:*:elastic-ip/*", "ec2:*:*:network-interface/*"]),
        Permission::on("ec2:DisassociateAddress", &["ec2:*:*:elastic-ip/*", "ec2:*:*:network-interface/*"]),
    ];
    const UNDO: Undo = Undo::Exact;
    const CUTS: bool = true;
    /// Nowhere is `None`.
    type State = Option<Mapping>;

    fn subject(&self) -> String {
        self.allocation.to_string()
    }

    fn change(&self, before: &Self::State) -> Change {
        let place = |at: &Mapping| match &at.private_ip {
            Some(ip) => format!("{} ({})", at.interface, plain(ip, 64)),
            None => at.interface.to_string(),
        };
        Change {
            what: format!("Elastic IP {}", self.allocation),
            from: before.as_ref().map_or_else(|| "not associated".to_owned(), place),
            to: "not associated".to_owned(),
        }
    }

    fn grants(&self, aws: &Aws, before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        let interface = before.iter().map(|at| format!("network-interface/{}", at.interface));
        let on = [format!("elastic-ip/{}", self.allocation)].into_iter().chain(interface);
        let on: Vec<String> = on.map(|resource| aws.arn("ec2", &resource)).collect();
        vec![Grant::new("ec2:AssociateAddress", on.clone()), Grant::new("ec2:DisassociateAddress", on)]
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        Ok(self.address(cx).await?.as_ref().map(mapping_of))
    }

    async fn wanted(&self, _cx: &Context<'_>, _before: &Self::State) -> Result<Self::State, Failure> {
        Ok(None)
    }

    async fn set(&self, cx: &Context<'_>, from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        let ec2 = cx.aws.ec2();
        if let Some(to) = to {
            let call = ec2.associate_address().allocation_id(self.allocation.as_str()).allow_reassociation(false);
            let call = call.network_interface_id(to.interface.as_str()).set_private_ip_address(to.private_ip.clone());
            call.send().await.map_err(Failure::from_sdk("associate address", &self.allocation))?;
            return Ok(Set::Done);
        }
        let Some(address) = self.address(cx).await? else {
            return Err(Failure::new(Class::Gone, "find address", self.allocation.to_string()));
        };
        let now = mapping_of(&address);
        let Some(association) = address.association_id().filter(|_| now.is_some()) else { return Ok(Set::Done) };
        if now != *from {
            return Ok(Set::Left("the address is by now associated with something else".to_owned()));
        }
        let call = ec2.disassociate_address().association_id(association);
        call.send().await.map_err(Failure::from_sdk("disassociate address", &self.allocation))?;
        Ok(Set::Done)
    }
}

impl DisassociateAddress {
    async fn address(&self, cx: &Context<'_>) -> Result<Option<Address>, Failure> {
        let call = cx.aws.ec2().describe_addresses().filters(super::filter("allocation-id", self.allocation.as_str()));
        let answer = call.send().await.map_err(Failure::from_sdk("describe address", &self.allocation))?;
        Ok(answer.addresses.unwrap_or_default().into_iter().next())
    }
}

/// Where an address is.
pub fn mapping_of(address: &Address) -> Option<Mapping> {
    Some(Mapping {
        interface: address.network_interface_id()?.parse().ok()?,
        private_ip: address.private_ip_address().map(str::to_owned),
    })
}
