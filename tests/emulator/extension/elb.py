"""Elastic Load Balancing: targets by id and port, instances of a classic load balancer."""

from typing import Any

from moto.ec2 import ec2_backends
from moto.elb.exceptions import ELBClientError
from moto.elb.models import ELBBackend
from moto.elbv2.models import FakeHealthStatus, FakeTargetGroup
from moto.elbv2.exceptions import TargetNotRunning

from .patch import override


def install() -> None:
    """Everything below changes moto's classes when the module is loaded."""


def _key(group: FakeTargetGroup, target: dict) -> str:
    return f"{target['Id']}:{target.get('Port') or group.port}"


@override(FakeTargetGroup, "register")
def _register(original: Any, self: FakeTargetGroup, targets: list) -> None:
    """One instance can be registered on several ports.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_RegisterTargets.html
    """
    for target in targets:
        instance = self.ec2_backend.get_instance_by_id(target["Id"])
        if instance and instance.state != "running":
            raise TargetNotRunning(instance_id=target["Id"])
        self.targets[_key(self, target)] = {**target, "Port": int(target.get("Port") or self.port)}
        self.deregistered_targets.pop(_key(self, target), None)


@override(FakeTargetGroup, "deregister")
def _deregister(original: Any, self: FakeTargetGroup, targets: list) -> None:
    """A port override must be repeated; "if the specified target does not exist, the action returns successfully".

    https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DeregisterTargets.html
    """
    for target in targets:
        gone = self.targets.pop(_key(self, target), None)
        if gone:
            self.deregistered_targets[_key(self, target)] = gone


@override(FakeTargetGroup, "deregister_terminated_instances")
def _deregister_terminated(original: Any, self: FakeTargetGroup, instance_ids: list) -> None:
    for key, target in list(self.targets.items()):
        if target["Id"] in instance_ids:
            self.terminated_targets[key] = self.targets.pop(key)


@override(FakeTargetGroup, "health_for")
def _health_for(original: Any, self: FakeTargetGroup, target: dict, ec2_backend: Any) -> FakeHealthStatus:
    """https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeTargetHealth.html"""
    port = int(target.get("Port") or self.port)
    if _key(self, target) not in self.targets:
        return FakeHealthStatus(
            target["Id"],
            port,
            self.health_check_port,
            "unused",
            "Target.NotRegistered",
            "Target is not registered to the target group",
        )
    instance = ec2_backend.get_instance_by_id(target["Id"])
    if instance and instance.state == "stopped":
        return FakeHealthStatus(
            target["Id"],
            port,
            self.health_check_port,
            "unused",
            "Target.InvalidState",
            "Target is in the stopped state",
        )
    return FakeHealthStatus(target["Id"], port, self.health_check_port, "healthy")


@override(ELBBackend, "register_instances")
def _register_instances(original: Any, self: Any, name: str, ids: Any, from_autoscaling: bool = False) -> Any:
    """An instance is listed once, and must exist.

    https://docs.aws.amazon.com/elasticloadbalancing/2012-06-01/APIReference/API_RegisterInstancesWithLoadBalancer.html
    """
    balancer = self.get_load_balancer(name)
    for instance_id in ids:
        if ec2_backends[self.account_id][self.region_name].get_instance_by_id(instance_id) is None:
            raise ELBClientError("InvalidInstance", f"Could not find EC2 instance {instance_id}.")
        if instance_id not in balancer.instance_ids:
            balancer.instance_sparse_ids.append(instance_id)
    return balancer


@override(ELBBackend, "deregister_instances")
def _deregister_instances(original: Any, self: Any, name: str, ids: Any, from_autoscaling: bool = False) -> Any:
    """Whoever registered it, the instance is deregistered.

    https://docs.aws.amazon.com/elasticloadbalancing/2012-06-01/APIReference/API_DeregisterInstancesFromLoadBalancer.html
    """
    balancer = self.get_load_balancer(name)
    for attribute in ("instance_sparse_ids", "instance_autoscaling_ids"):
        setattr(balancer, attribute, [i for i in getattr(balancer, attribute) if i not in set(ids)])
    return balancer
