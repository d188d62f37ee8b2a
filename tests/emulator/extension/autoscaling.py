"""EC2 Auto Scaling: detaching and attaching instances, and the load balancers of a group."""

from typing import Any

from moto.autoscaling import models
from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult
from moto.elb.exceptions import LoadBalancerNotFoundError

from .patch import override, page

Backend = models.AutoScalingBackend


def install() -> None:
    """Everything below changes moto's classes when the module is loaded."""


def _group(backend: Any, name: str) -> Any:
    group = backend.autoscaling_groups.get(name)
    if group is None:
        raise ValidationError(f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found")
    return group


@override(Backend, "detach_instances")
def _detach_instances(original: Any, self: Any, group_name: str, instance_ids: list, should_decrement: bool) -> list:
    """The instances leave the group and its load balancers; without decrement others take their place.

    https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DetachInstances.html
    https://docs.aws.amazon.com/autoscaling/ec2/userguide/detach-instance-asg.html
    """
    group = _group(self, group_name)
    members = {state.instance.id: state for state in group.instance_states}
    for instance_id in instance_ids:
        if instance_id not in members:
            raise ValidationError(f"The instance {instance_id} is not part of Auto Scaling group {group_name}.")
    if should_decrement and group.desired_capacity - len(instance_ids) < group.min_size:
        raise ValidationError(
            f"AutoScalingGroup {group_name} has min-size={group.min_size}. "
            "Detaching with a smaller desired capacity is not possible."
        )
    activities = []
    for instance_id in instance_ids:
        instance = members[instance_id].instance
        activities.append(models.DetachInstanceActivity(instance))
        self.ec2_backend.delete_tags([instance_id], {models.ASG_NAME_TAG: group.name})
        del instance.autoscaling_group
    group.instance_states = [s for s in group.instance_states if s.instance.id not in instance_ids]
    for arn in group.target_group_arns:
        target_group = self.elbv2_backend.target_groups.get(arn)
        if target_group:
            target_group.deregister([{"Id": i} for i in instance_ids])
    for name in group.load_balancer_names:
        try:
            self.elb_backend.deregister_instances(name, instance_ids)
        except LoadBalancerNotFoundError:
            pass
    if should_decrement:
        group.desired_capacity -= len(instance_ids)
    elif "Launch" not in group._suspended_processes:
        group.set_desired_capacity(group.desired_capacity)
    return activities


@override(Backend, "attach_instances")
def _attach_instances(original: Any, self: Any, group_name: str, instance_ids: list) -> None:
    """Desired capacity grows by the number of instances and must stay within the maximum.

    https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_AttachInstances.html
    https://docs.aws.amazon.com/autoscaling/ec2/userguide/attach-instance-asg.html
    """
    group = _group(self, group_name)
    if group.desired_capacity + len(instance_ids) > group.max_size:
        raise ValidationError(
            f"AutoScalingGroup {group_name} has max-size={group.max_size}, "
            f"cannot attach {len(instance_ids)} more instance(s) to desired capacity {group.desired_capacity}."
        )
    found = []
    for instance_id in instance_ids:
        instance = self.ec2_backend.get_instance_by_id(instance_id)
        if instance is None or instance.state != "running":
            raise ValidationError(f"Invalid Instance ID(s): [{instance_id}] for this operation.")
        owner = getattr(instance, "autoscaling_group", None)
        if owner is not None and any(s.instance.id == instance_id for s in owner.instance_states):
            raise ValidationError(f"Instance {instance_id} is already part of Auto Scaling group {owner.name}.")
        if instance.placement.zone not in group.availability_zones:
            raise ValidationError(f"The instance {instance_id} is not in an Availability Zone of {group_name}.")
        found.append(instance)
    for instance in found:
        instance.autoscaling_group = group
        group.instance_states.append(
            models.InstanceState(
                instance,
                protected_from_scale_in=group.new_instances_protected_from_scale_in,
                autoscaling_group=group,
            )
        )
        self.ec2_backend.create_tags([instance.id], {models.ASG_NAME_TAG: group.name})
    group.desired_capacity += len(found)
    ids = [instance.id for instance in found]
    _register(self, group, ids)


def _register(backend: Any, group: Any, ids: list) -> None:
    for arn in group.target_group_arns:
        target_group = backend.elbv2_backend.target_groups.get(arn)
        if target_group:
            target_group.register([{"Id": i} for i in ids])
    for name in group.load_balancer_names:
        try:
            backend.elb_backend.register_instances(name, ids)
        except LoadBalancerNotFoundError:
            pass


@override(models.FakeAutoScalingGroup, "replace_autoscaling_group_instances")
def _launch(original: Any, self: Any, count: int, tags: dict) -> None:
    """New instances are registered with the group's load balancers."""
    before = {state.instance.id for state in self.instance_states}
    original(self, count, tags)
    if self.name in self.autoscaling_backend.autoscaling_groups:
        _register(
            self.autoscaling_backend, self, [s.instance.id for s in self.instance_states if s.instance.id not in before]
        )


@override(Backend, "update_attached_elbs")
def _update_attached_elbs(original: Any, self: Any, group_name: str) -> None:
    """Auto Scaling registers and deregisters its own changes; it never repairs what others changed.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/attach-load-balancer-asg.html
    moto makes the load balancer equal to the group at every change of capacity.
    """
    group = self.autoscaling_groups[group_name]
    if not getattr(group, "elbs_seen", False):
        group.elbs_seen = True
        for name in group.load_balancer_names:
            self.elb_backend.register_instances(name, [s.instance.id for s in group.active_instances()])
    for name in group.load_balancer_names:
        balancer = self.elb_backend.load_balancers.get(name)
        if balancer:
            gone = [
                i for i in balancer.instance_ids
                if (instance := self.ec2_backend.get_instance_by_id(i)) is None or instance.state == "terminated"
            ]
            self.elb_backend.deregister_instances(name, gone)


@override(Backend, "update_attached_target_groups")
def _update_attached_target_groups(original: Any, self: Any, group_name: str) -> None:
    """As for classic load balancers: only when the group is first seen with its target groups."""
    group = self.autoscaling_groups[group_name]
    seen = getattr(group, "target_groups_seen", set())
    for arn in group.target_group_arns:
        target_group = self.elbv2_backend.target_groups.get(arn)
        if target_group and arn not in seen:
            target_group.register([{"Id": s.instance.id} for s in group.instance_states])
    group.target_groups_seen = seen | set(group.target_group_arns)


@override(AutoScalingResponse, "describe_auto_scaling_instances")
def _describe_instances(original: Any, self: Any) -> ActionResult:
    """https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DescribeAutoScalingInstances.html"""
    result = original(self).result["AutoScalingInstances"]
    items, token = page(result, self._get_param("MaxRecords") or 50, self._get_param("NextToken"))
    return ActionResult({"AutoScalingInstances": items, "NextToken": token})
