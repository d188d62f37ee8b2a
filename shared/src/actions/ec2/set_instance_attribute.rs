//! Sets one attribute that keeps an instance, and with it the evidence, from going away.
//!
//! `ModifyInstanceAttribute` takes one attribute a call. Spot Instances cannot have termination
//! protection; such refusals are outcomes.
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyInstanceAttribute.html>

use aws_sdk_ec2::operation::describe_instance_attribute::DescribeInstanceAttributeOutput;
use aws_sdk_ec2::types::{AttributeBooleanValue, AttributeValue, InstanceAttributeName};
use serde::{Deserialize, Serialize};

use crate::action::{Action, Context, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::{Class, Failure};
use crate::ids::InstanceId;
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Undo};

/// Sets one attribute of an instance to the value that protects it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetInstanceAttribute {
    /// The instance.
    pub instance: InstanceId,
    /// The attribute.
    pub attribute: Protection,
}

/// An attribute that protects an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// Termination protection, against API calls.
    DisableApiTermination,
    /// Stop protection, against API calls.
    DisableApiStop,
    /// What a shutdown from inside does: stop instead of terminate.
    ShutdownBehavior,
}

impl Protection {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::DisableApiTermination, Self::DisableApiStop, Self::ShutdownBehavior];

    /// The value that protects.
    pub fn wanted(self) -> &'static str {
        match self {
            Self::DisableApiTermination | Self::DisableApiStop => "true",
            Self::ShutdownBehavior => "stop",
        }
    }

    /// The attribute in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::DisableApiTermination => "termination protection",
            Self::DisableApiStop => "stop protection",
            Self::ShutdownBehavior => "shutdown behaviour",
        }
    }

    fn name(self) -> InstanceAttributeName {
        match self {
            Self::DisableApiTermination => InstanceAttributeName::DisableApiTermination,
            Self::DisableApiStop => InstanceAttributeName::DisableApiStop,
            Self::ShutdownBehavior => InstanceAttributeName::InstanceInitiatedShutdownBehavior,
        }
    }
}

impl Action for SetInstanceAttribute {
    const NAME: &'static str = "ec2.set-instance-attribute";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::on("ec2:DescribeInstanceAttribute", &["ec2:*:*:instance/*"]),
        Permission::on("ec2:ModifyInstanceAttribute", &["ec2:*:*:instance/*"]),
    ];
    const UNDO: Undo = Undo::Exact;
    /// `true`, `false`, `stop` or `terminate`.
    type State = String;

    fn subject(&self) -> String {
        format!("{} {}", self.instance, self.attribute.name().as_str())
    }

    fn change(&self, before: &Self::State) -> Change {
        Change {
            what: format!("{} of {}", self.attribute.words(), self.instance),
            from: crate::text::plain(before, 16),
            to: self.attribute.wanted().to_owned(),
        }
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        vec![Grant::new("ec2:ModifyInstanceAttribute", [aws.arn("ec2", &format!("instance/{}", self.instance))])]
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        crate::failure::gone_is_none(value_of(cx.aws, &self.instance, self.attribute).await)
    }

    async fn wanted(&self, _cx: &Context<'_>, _before: &Self::State) -> Result<Self::State, Failure> {
        Ok(self.attribute.wanted().to_owned())
    }

    async fn set(&self, cx: &Context<'_>, _from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        let call = cx.aws.ec2().modify_instance_attribute().instance_id(self.instance.as_str());
        let flag = || AttributeBooleanValue::builder().value(to == "true").build();
        let call = match self.attribute {
            Protection::DisableApiTermination => call.disable_api_termination(flag()),
            Protection::DisableApiStop => call.disable_api_stop(flag()),
            Protection::ShutdownBehavior => {
                call.instance_initiated_shutdown_behavior(AttributeValue::builder().value(to).build())
            }
        };
        let answer = call.send().await.map_err(Failure::from_sdk("set an attribute of", &self.instance));
        let why = format!("this kind of instance cannot have {}: {to}", self.attribute.words());
        super::unsupported_is_left(answer, &why)
    }
}

/// The value of an attribute now.
pub async fn value_of(aws: &Aws, instance: &InstanceId, attribute: Protection) -> Result<String, Failure> {
    let call = aws.ec2().describe_instance_attribute().instance_id(instance.as_str()).attribute(attribute.name());
    let answer = call.send().await.map_err(Failure::from_sdk("read an attribute of", instance))?;
    value_in(&answer, attribute).ok_or_else(|| Failure::new(Class::Bug, "read an attribute of", instance.to_string()))
}

fn value_in(answer: &DescribeInstanceAttributeOutput, attribute: Protection) -> Option<String> {
    let flag = |value: Option<&AttributeBooleanValue>| value?.value().map(|value| value.to_string());
    match attribute {
        Protection::DisableApiTermination => flag(answer.disable_api_termination()),
        Protection::DisableApiStop => flag(answer.disable_api_stop()),
        Protection::ShutdownBehavior => {
            answer.instance_initiated_shutdown_behavior().and_then(|value| value.value()).map(str::to_owned)
        }
    }
}
