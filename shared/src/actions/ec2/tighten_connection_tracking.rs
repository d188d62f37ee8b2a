//! Shortens the time for which an interface remembers idle flows, so that flows which were allowed
//! before the cut are forgotten sooner. Nitro instances only.
//!
//! AWS has no call that unsets a timeout, so what was not set returns as the number that is its default.
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ConnectionTrackingSpecificationRequest.html>

use aws_sdk_ec2::types::{ConnectionTrackingSpecificationRequest, NetworkInterface};
use serde::{Deserialize, Serialize};

use crate::action::{Action, Context, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::Failure;
use crate::ids::InterfaceId;
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Undo};

/// Sets the shortest timeouts that AWS allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TightenConnectionTracking {
    /// The interface.
    pub interface: InterfaceId,
}

/// Idle timeouts in seconds; `None` where the interface has AWS's default. Two that mean the same are equal.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Timeouts {
    /// Of established TCP connections.
    pub tcp_established: Option<i32>,
    /// Of UDP flows with more than one exchange.
    pub udp_stream: Option<i32>,
    /// Of other UDP flows.
    pub udp: Option<i32>,
}

/// The shortest that AWS allows.
pub const SHORTEST: Timeouts = Timeouts { tcp_established: Some(60), udp_stream: Some(60), udp: Some(30) };

impl Timeouts {
    /// What AWS uses where nothing is set: TCP, UDP streams, other UDP. (On Nitro v6 the first is 350.)
    pub const DEFAULTS: [i32; 3] = [432_000, 180, 30];

    /// The timeouts of an interface.
    pub fn of(interface: &NetworkInterface) -> Self {
        let set = interface.connection_tracking_configuration();
        Self {
            tcp_established: set.and_then(|set| set.tcp_established_timeout()),
            udp_stream: set.and_then(|set| set.udp_stream_timeout()),
            udp: set.and_then(|set| set.udp_timeout()),
        }
    }

    /// The numbers in force: TCP, UDP streams, other UDP.
    pub fn in_force(&self) -> [i32; 3] {
        let [tcp, stream, udp] = Self::DEFAULTS;
        [self.tcp_established.unwrap_or(tcp), self.udp_stream.unwrap_or(stream), self.udp.unwrap_or(udp)]
    }
}

impl PartialEq for Timeouts {
    fn eq(&self, other: &Self) -> bool {
        self.in_force() == other.in_force()
    }
}

impl Action for TightenConnectionTracking {
    const NAME: &'static str = "ec2.tighten-connection-tracking";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::read("ec2:DescribeNetworkInterfaces"),
        Permission::on("ec2:ModifyNetworkInterfaceAttribute", &["ec2:*:*:network-interface/*"]),
    ];
    const UNDO: Undo = Undo::Equivalent {
        differs: "connection-tracking timeouts that were not set",
        why: "AWS cannot unset one, so it is set to 432,000 s, 180 s, 30 s, the default (350 s for TCP on Nitro v6)",
    };
    type State = Timeouts;

    fn subject(&self) -> String {
        self.interface.to_string()
    }

    fn change(&self, before: &Self::State) -> Change {
        let words = |timeouts: &Timeouts| {
            let [tcp, stream, udp] = timeouts.in_force();
            format!("TCP {tcp} s, UDP streams {stream} s, UDP {udp} s")
        };
        Change {
            what: format!("connection-tracking timeouts of {}", self.interface),
            from: words(before),
            to: words(&SHORTEST),
        }
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        let interface = aws.arn("ec2", &format!("network-interface/{}", self.interface));
        vec![Grant::new("ec2:ModifyNetworkInterfaceAttribute", [interface])]
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        Ok(super::interface(cx, &self.interface).await?.as_ref().map(Timeouts::of))
    }

    async fn wanted(&self, _cx: &Context<'_>, _before: &Self::State) -> Result<Self::State, Failure> {
        Ok(SHORTEST)
    }

    async fn set(&self, cx: &Context<'_>, _from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        let [tcp, stream, udp] = to.in_force();
        let timeouts = ConnectionTrackingSpecificationRequest::builder();
        let timeouts = timeouts.tcp_established_timeout(tcp).udp_stream_timeout(stream).udp_timeout(udp).build();
        let call = cx.aws.ec2().modify_network_interface_attribute();
        let call = call.network_interface_id(self.interface.as_str()).connection_tracking_specification(timeouts);
        let answer = call.send().await.map_err(Failure::from_sdk("set the timeouts of", &self.interface));
        super::unsupported_is_left(answer, "this kind of instance keeps AWS's own connection-tracking timeouts")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unset_timeout_equals_its_default_and_nothing_else() {
        let unset = Timeouts { tcp_established: None, udp_stream: None, udp: None };
        let [tcp, stream, udp] = Timeouts::DEFAULTS;
        assert_eq!(unset, Timeouts { tcp_established: Some(tcp), udp_stream: Some(stream), udp: Some(udp) });
        assert_ne!(unset, SHORTEST);
        assert_eq!(SHORTEST, Timeouts { udp: None, ..SHORTEST });
    }
}
