//! Takes an instance out of its Auto Scaling group, which would otherwise terminate it, and the evidence
//! with it, as soon as its health checks fail. The group launches a replacement, which is never ours to
//! terminate.
//!
//! `AttachInstances` raises the desired capacity by one and fails above the maximum.
//! <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_AttachInstances.html>

use aws_sdk_autoscaling::types::AutoScalingInstanceDetails;
use serde::{Deserialize, Serialize};

use crate::action::{Action, Context, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::Failure;
use crate::ids::InstanceId;
use crate::permission::{Grant, Permission, literal};
use crate::plan::{Change, Undo};
use crate::text::quoted;

/// Detaches an instance without lowering the group's desired capacity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachInstance {
    /// The instance.
    pub instance: InstanceId,
}

impl Action for DetachInstance {
    const NAME: &'static str = "autoscaling.detach-instance";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::on("autoscaling:AttachInstances", &["autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/*"]),
        Permission::read("autoscaling:DescribeAutoScalingGroups"),
        Permission::read("autoscaling:DescribeAutoScalingInstances"),
        Permission::on("autoscaling:DetachInstances", &["autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/*"]),
    ];
    const UNDO: Undo = Undo::Equivalent {
        differs: "the group's desired capacity, one higher, and the instance's scale-in protection",
        why: "the group has a replacement by then, and attaching has no field for protection",
    };
    /// The group's name; `None` is in no group.
    type State = Option<String>;

    fn subject(&self) -> String {
        self.instance.to_string()
    }

    fn change(&self, before: &Self::State) -> Change {
        Change {
            what: format!("Auto Scaling group of {}", self.instance),
            from: before.as_ref().map_or_else(|| "none".to_owned(), |name| quoted(name)),
            to: "none; the group launches a replacement".to_owned(),
        }
    }

    fn grants(&self, aws: &Aws, before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        let Some(name) = before else { return Vec::new() };
        let group = aws.arn("autoscaling", &format!("autoScalingGroup:*:autoScalingGroupName/{}", literal(name)));
        ["autoscaling:AttachInstances", "autoscaling:DetachInstances"]
            .map(|action| Grant::new(action, [group.clone()]))
            .into()
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        Ok(Some(membership(cx.aws, &self.instance).await?.as_ref().and_then(group_of)))
    }

    async fn wanted(&self, _cx: &Context<'_>, _before: &Self::State) -> Result<Self::State, Failure> {
        Ok(None)
    }

    async fn set(&self, cx: &Context<'_>, from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        match (from, to) {
            (_, Some(group)) => self.attach(cx, group).await,
            (Some(group), None) => {
                let call = cx.aws.autoscaling().detach_instances().auto_scaling_group_name(group);
                let call = call.instance_ids(self.instance.as_str()).should_decrement_desired_capacity(false);
                call.send().await.map_err(Failure::from_sdk("detach from its group", &self.instance))?;
                Ok(Set::Done)
            }
            (None, None) => Ok(Set::Done),
        }
    }
}

impl DetachInstance {
    async fn attach(&self, cx: &Context<'_>, name: &str) -> Result<Set<Option<String>>, Failure> {
        let call = cx.aws.autoscaling().describe_auto_scaling_groups().auto_scaling_group_names(name);
        let answer = call.send().await.map_err(Failure::from_sdk("describe Auto Scaling group", name))?;
        let left = |why: &str| Ok(Set::Left(format!("the group {} {why}", quoted(name))));
        let Some(group) =
            answer.auto_scaling_groups().iter().find(|group| group.auto_scaling_group_name() == Some(name))
        else {
            return left("no longer exists");
        };
        if group.desired_capacity().unwrap_or(0) >= group.max_size().unwrap_or(0) {
            return left("is at its maximum; which instance goes is left to a person");
        }
        let call = cx.aws.autoscaling().attach_instances().auto_scaling_group_name(name);
        let call = call.instance_ids(self.instance.as_str());
        call.send().await.map_err(Failure::from_sdk("attach to its group", &self.instance))?;
        Ok(Set::Done)
    }
}

/// What Auto Scaling knows of an instance; none when it is in no group.
pub async fn membership(aws: &Aws, instance: &InstanceId) -> Result<Option<AutoScalingInstanceDetails>, Failure> {
    let call = aws.autoscaling().describe_auto_scaling_instances().instance_ids(instance.as_str());
    let answer = call.send().await.map_err(Failure::from_sdk("describe the Auto Scaling group of", instance))?;
    let mut found = answer.auto_scaling_instances.unwrap_or_default().into_iter();
    Ok(found.find(|found| found.instance_id() == Some(instance.as_str())))
}

/// The group that an instance is in; one that it is leaving does not count.
pub fn group_of(member: &AutoScalingInstanceDetails) -> Option<String> {
    let leaving = member.lifecycle_state().is_some_and(|state| matches!(state, "Detaching" | "Detached"));
    member.auto_scaling_group_name().filter(|_| !leaving).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_on_its_way_out_is_in_no_group() {
        let member =
            |state| AutoScalingInstanceDetails::builder().auto_scaling_group_name("web").lifecycle_state(state).build();
        assert_eq!(group_of(&member("InService")).as_deref(), Some("web"));
        assert_eq!(group_of(&member("Standby")).as_deref(), Some("web"));
        assert_eq!(group_of(&member("Detaching")), None);
    }
}
