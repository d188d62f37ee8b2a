//! Switches an instance's metadata endpoint off, which no security group reaches: nothing on the instance
//! gets new credentials. It ends SSM, and with it memory capture, and so wants its own leave.
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyInstanceMetadataOptions.html>

use aws_sdk_ec2::types::{Instance, InstanceMetadataEndpointState as Endpoint};
use serde::{Deserialize, Serialize};

use crate::action::{Action, Context, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::Failure;
use crate::ids::InstanceId;
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Leave, Undo};

/// Switches the metadata endpoint off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisableMetadataEndpoint {
    /// The instance.
    pub instance: InstanceId,
}

impl Action for DisableMetadataEndpoint {
    const NAME: &'static str = "ec2.disable-metadata-endpoint";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::read("ec2:DescribeInstances"),
        Permission::on("ec2:ModifyInstanceMetadataOptions", &["ec2:*:*:instance/*"]),
    ];
    const UNDO: Undo = Undo::Exact;
    const LEAVE: Option<Leave> = Some(Leave::DisableMetadataEndpoint);
    /// Whether it is on.
    type State = bool;

    fn subject(&self) -> String {
        self.instance.to_string()
    }

    fn change(&self, before: &Self::State) -> Change {
        let words = |on: bool| if on { "on" } else { "off" }.to_owned();
        Change { what: format!("metadata endpoint of {}", self.instance), from: words(*before), to: words(false) }
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        vec![Grant::new("ec2:ModifyInstanceMetadataOptions", [aws.arn("ec2", &format!("instance/{}", self.instance))])]
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        Ok(super::instance(cx, &self.instance).await?.as_ref().map(endpoint_is_on))
    }

    async fn wanted(&self, _cx: &Context<'_>, _before: &Self::State) -> Result<Self::State, Failure> {
        Ok(false)
    }

    async fn set(&self, cx: &Context<'_>, _from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        let endpoint = if *to { Endpoint::Enabled } else { Endpoint::Disabled };
        let call = cx.aws.ec2().modify_instance_metadata_options().instance_id(self.instance.as_str());
        let answer = call.http_endpoint(endpoint).send().await;
        answer.map_err(Failure::from_sdk("change the metadata options of", &self.instance))?;
        Ok(Set::Done)
    }
}

/// Whether an instance's metadata endpoint is on, which it is where AWS does not say.
pub fn endpoint_is_on(instance: &Instance) -> bool {
    instance.metadata_options().and_then(|options| options.http_endpoint()) != Some(&Endpoint::Disabled)
}
