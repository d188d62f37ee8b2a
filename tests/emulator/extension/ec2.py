"""EC2: interfaces, public addresses, instance attributes, snapshots, their locks and whom they are shared with."""

from datetime import datetime, timedelta, timezone
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow
from moto.ec2 import exceptions
from moto.ec2.models import ec2_backends, elastic_block_store, elastic_ip_addresses, iam_instance_profile, instances
from moto.ec2.models.elastic_network_interfaces import NetworkInterface
from moto.ec2.models.security_groups import SecurityGroupBackend
from moto.ec2.responses.elastic_block_store import ElasticBlockStore
from moto.ec2.responses.elastic_ip_addresses import ElasticIPAddresses
from moto.ec2.responses.elastic_network_interfaces import ElasticNetworkInterfaces
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.responses.security_groups import SecurityGroups
from moto.ec2.utils import (
    generate_dns_from_ip,
    random_iam_instance_profile_association_id,
    random_public_ip,
)

from .patch import add, override, page

Error = exceptions.EC2ClientError


def install() -> None:
    """Everything below changes moto's classes when the module is loaded."""


# --- Security groups of an interface -------------------------------------------------


def _one_group_set(interface: NetworkInterface) -> list:
    """The groups of an interface are its own.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_NetworkInterface.html
    moto answers the union with the groups the instance was launched with.
    """
    return interface._group_set


NetworkInterface.group_set = property(_one_group_set)


def _groups_of_primary(instance: instances.Instance) -> list:
    """`Instance.SecurityGroups` are those of the primary interface.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Instance.html
    """
    primary = getattr(instance, "nics", {}).get(0)
    return primary._group_set if primary else instance._launch_groups


def _set_groups_of_primary(instance: instances.Instance, groups: list) -> None:
    primary = getattr(instance, "nics", {}).get(0)
    if primary:
        primary._group_set = list(groups)
    else:
        instance._launch_groups = list(groups)


instances.Instance.security_groups = property(_groups_of_primary, _set_groups_of_primary)


def _groups(backend: Any, vpc_id: str, ids: list) -> list:
    """The groups with these ids; each must exist and be in the interface's VPC."""
    found = []
    for group_id in ids:
        group = backend.get_security_group_from_id(group_id)
        if group is None:
            raise Error("InvalidGroup.NotFound", f"The security group '{group_id}' does not exist")
        if group.vpc_id != vpc_id:
            raise Error(
                "InvalidGroup.NotFound",
                f"The security group '{group_id}' does not exist in VPC '{vpc_id}'",
            )
        found.append(group)
    return found


@override(SecurityGroupBackend, "delete_security_group")
def _delete_security_group(original: Any, self: Any, name: Any = None, group_id: Any = None) -> None:
    """A group that is associated with an interface, or that another group of its VPC refers to, stays.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteSecurityGroup.html
    """
    group = self.get_security_group_by_name_or_id(group_id or name)
    if group is not None:
        used = any(group in interface.group_set for interface in self.enis.values())
        others = [other for other in self.groups.get(group.vpc_id, {}).values() if other is not group]
        rules = [rule for other in others for rule in [*other.ingress_rules, *other.egress_rules]]
        referred = any(rule.source_group.get("GroupId") == group.id for rule in rules)
        if used or referred:
            raise Error("DependencyViolation", f"resource {group.id} has a dependent object")
    original(self, name=name, group_id=group_id)


# --- Public addresses ----------------------------------------------------------------


def _elastic_addresses(interface: NetworkInterface) -> list:
    return [address for address in interface.ec2_backend.addresses if address.eni is interface]


def _association(interface: NetworkInterface, public_ip: str, elastic: Any) -> dict:
    """`NetworkInterfaceAssociation`; an auto-assigned address belongs to `amazon` and has no ids.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_NetworkInterfaceAssociation.html
    """
    association = {
        "PublicIp": public_ip,
        "PublicDnsName": generate_dns_from_ip(public_ip),
        "IpOwnerId": interface.owner_id if elastic else "amazon",
    }
    if elastic:
        association["AllocationId"] = elastic.allocation_id
        association["AssociationId"] = elastic.association_id
    return association


def _primary_association(interface: NetworkInterface) -> dict:
    for elastic in _elastic_addresses(interface):
        if elastic.private_ip_address == interface.private_ip_address:
            return _association(interface, elastic.public_ip, elastic)
    if interface.public_ip:
        return _association(interface, interface.public_ip, None)
    return {}


def _private_addresses(interface: NetworkInterface) -> list:
    """Every private IPv4 address with the public address mapped to it, on its interface.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_NetworkInterfacePrivateIpAddress.html
    """
    mapped = {address.private_ip_address: address for address in _elastic_addresses(interface)}
    described = []
    for entry in interface.private_ip_addresses:
        private = entry.get("PrivateIpAddress")
        primary = private == interface.private_ip_address
        shown = {"PrivateIpAddress": private, "Primary": primary}
        if entry.get("PrivateDnsName"):
            shown["PrivateDnsName"] = entry["PrivateDnsName"]
        if private in mapped:
            shown["Association"] = _association(interface, mapped[private].public_ip, mapped[private])
        elif primary and interface.public_ip:
            shown["Association"] = _association(interface, interface.public_ip, None)
        described.append(shown)
    return described


class _InterfaceAliases:
    serialization_aliases = {"PrivateIpAddresses": "described_private_ip_addresses"}


NetworkInterface.association = property(_primary_association)
NetworkInterface.described_private_ip_addresses = property(_private_addresses)
NetworkInterface.instance_private_ip_address_list = property(_private_addresses)
NetworkInterface.Meta = _InterfaceAliases


@override(NetworkInterface, "check_auto_public_ip")
def _check_auto_public_ip(original: Any, self: NetworkInterface) -> None:
    """An interface with an Elastic IP on its primary address gets no other public address.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-instance-addressing.html
    """
    if not any(a.private_ip_address == self.private_ip_address for a in _elastic_addresses(self)):
        original(self)


@override(NetworkInterface, "stop")
def _stop_interface(original: Any, self: NetworkInterface) -> None:
    """Stopping releases an auto-assigned address and keeps an Elastic IP.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-instance-addressing.html
    """
    if not any(a.private_ip_address == self.private_ip_address for a in _elastic_addresses(self)):
        original(self)


Address = elastic_ip_addresses.ElasticAddress
Address.instance_id = property(
    lambda self: self.eni.instance.id
    if self.eni and self.eni.instance
    else (self.instance.id if self.instance else None)
)
Address.network_interface_id = property(lambda self: self.eni.id if self.eni else None)
Address.private_ip_address = property(
    lambda self: (getattr(self, "mapped_private_ip", None) or self.eni.private_ip_address) if self.eni else None
)


@override(Address, "get_filter_value")
def _address_filter(original: Any, self: Any, filter_name: str, method_name: Any = None) -> Any:
    """`instance-id` also finds an address that was associated with an interface.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeAddresses.html
    """
    values = {
        "instance-id": lambda: self.instance_id,
        "network-interface-owner-id": lambda: self.network_interface_owner_id,
        "private-ip-address": lambda: self.private_ip_address,
    }
    if filter_name in values:
        return values[filter_name]()
    return original(self, filter_name, method_name)


@override(Address, "__init__")
def _address(original: Any, self: Any, ec2_backend: Any, domain: str, address: Any = None, tags: Any = None) -> None:
    """An Elastic IP is a public address (moto gives loopback ones)."""
    original(self, ec2_backend, domain, address or random_public_ip(), tags)


@override(ElasticIPAddresses, "associate_address")
def _associate_address(original: Any, self: Any) -> ActionResult:
    """`PrivateIpAddress` chooses the private address, and without `AllowReassociation` a
    private address that already has an Elastic IP refuses another.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AssociateAddress.html
    """
    self.error_on_dryrun()
    backend = self.ec2_backend
    private = self._get_param("PrivateIpAddress")
    if self._get_param("NetworkInterfaceId"):
        interface = backend.get_network_interface(self._get_param("NetworkInterfaceId"))
    elif self._get_param("InstanceId"):
        instance = backend.get_instance(self._get_param("InstanceId"))
        if len(instance.nics) > 1:
            raise Error(
                "InvalidInstanceID",
                f"There are multiple interfaces attached to instance '{instance.id}'. "
                "Please specify an interface ID for the operation instead.",
            )
        interface = instance.nics[0]
    else:
        return original(self)
    if self._get_param("AllocationId"):
        address = backend.address_by_allocation([self._get_param("AllocationId")])[0]
    elif self._get_param("PublicIp"):
        address = backend.address_by_ip([self._get_param("PublicIp")])[0]
    else:
        return original(self)
    known = [entry.get("PrivateIpAddress") for entry in interface.private_ip_addresses]
    if private and private not in known:
        raise Error("InvalidParameterValue", f"Private IP address {private} is not assigned to {interface.id}")
    private = private or interface.private_ip_address
    holders = [a for a in _elastic_addresses(interface) if a.private_ip_address == private and a is not address]
    moved = address.eni is not None and (address.eni is not interface or address.private_ip_address != private)
    if (moved or holders) and not self._get_bool_param("AllowReassociation", False):
        raise Error("Resource.AlreadyAssociated", f"resource {address.allocation_id} is already associated")
    if not moved and not holders and address.eni is interface:
        return ActionResult({"AssociationId": address.association_id})
    for holder in holders:
        backend.disassociate_address(association_id=holder.association_id)
    if moved:
        backend.disassociate_address(association_id=address.association_id)
    address.eni = interface
    address.instance = None
    address.mapped_private_ip = private
    address.association_id = elastic_ip_addresses.random_eip_association_id()
    if private == interface.private_ip_address:
        interface.public_ip = address.public_ip
    return ActionResult({"AssociationId": address.association_id})


@override(elastic_ip_addresses.ElasticAddressBackend, "disassociate_address")
def _disassociate_address(original: Any, self: Any, address: Any = None, association_id: Any = None) -> None:
    """The primary interface of a running instance launched with an automatic public address gets a new one.

    https://docs.aws.amazon.com/vpc/latest/userguide/vpc-eips.html
    """
    elastic = (self.address_by_ip([address]) if address else self.address_by_association([association_id]))[0]
    interface, private = elastic.eni, elastic.private_ip_address
    elastic.eni = None
    elastic.instance = None
    elastic.association_id = None
    elastic.mapped_private_ip = None
    if interface and private == interface.private_ip_address:
        interface.public_ip = None
        if interface.instance and interface.instance.state == "running" and interface.device_index == 0:
            interface.check_auto_public_ip()


# --- Interface attributes ------------------------------------------------------------

TRACKING_LIMITS = {"TcpEstablishedTimeout": (60, 432000), "UdpStreamTimeout": (60, 180), "UdpTimeout": (30, 60)}


def _tracking(given: dict) -> dict:
    """Connection tracking timeouts within their limits.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ConnectionTrackingSpecificationRequest.html
    """
    for name, (low, high) in TRACKING_LIMITS.items():
        value = given.get(name)
        if value is not None and not low <= int(value) <= high:
            raise Error("InvalidParameterValue", f"Value ({value}) for parameter {name} is invalid.")
    return {name: int(given[name]) for name in TRACKING_LIMITS if given.get(name) is not None}


NetworkInterface.connection_tracking_configuration = None


def _operator(resource: Any) -> Any:
    """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_OperatorResponse.html"""
    principal = getattr(resource, "operator_principal", None)
    if principal is None and isinstance(resource, NetworkInterface) and resource.instance:
        principal = getattr(resource.instance, "operator_principal", None)
    return {"Managed": True, "Principal": principal} if principal else {"Managed": False}


NetworkInterface.operator = property(_operator)
instances.Instance.operator = property(_operator)


def _refuse_managed(resource: Any) -> None:
    """A resource managed by a service provider is modified by that provider only.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/amazon-ec2-managed-instances.html
    """
    managed = _operator(resource)
    if managed["Managed"]:
        raise Error(
            "OperationNotPermitted",
            f"The resource {resource.id} is managed by {managed['Principal']} and cannot be modified.",
        )


@override(ElasticNetworkInterfaces, "modify_network_interface_attribute")
def _modify_network_interface_attribute(original: Any, self: Any) -> ActionResult:
    """One attribute a call; groups, the automatic public address, connection tracking, delete on termination.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyNetworkInterfaceAttribute.html
    """
    backend = self.ec2_backend
    interface = backend.get_network_interface(self._get_param("NetworkInterfaceId"))
    groups = self._get_param("Groups", [])
    tracking = self._get_param("ConnectionTrackingSpecification")
    public = self._get_param("AssociatePublicIpAddress")
    attachment = self._get_param("Attachment")
    given = [
        groups or None,
        tracking,
        public,
        attachment,
        self._get_param("SourceDestCheck.Value"),
        self._get_param("Description.Value"),
    ]
    if sum(value is not None for value in given) > 1:
        raise Error("InvalidParameterCombination", "Fields for multiple attribute types specified")
    _refuse_managed(interface)
    if groups:
        found = _groups(backend, interface.vpc_id, groups)
        self.error_on_dryrun()
        interface._group_set = found
    elif tracking is not None:
        checked = _tracking(tracking)
        self.error_on_dryrun()
        interface.connection_tracking_configuration = {
            **(interface.connection_tracking_configuration or {}),
            **checked,
        } or None
    elif public is not None:
        self.error_on_dryrun()
        _set_automatic_address(interface, str(public).lower() == "true")
    elif attachment is not None:
        self.error_on_dryrun()
        if attachment.get("AttachmentId") != interface.attachment_id:
            raise exceptions.InvalidNetworkAttachmentIdError(attachment.get("AttachmentId"))
        if attachment.get("DeleteOnTermination") is not None:
            interface.delete_on_termination = bool(attachment["DeleteOnTermination"])
    else:
        return original(self)
    return EmptyResult()


def _set_automatic_address(interface: NetworkInterface, wanted: bool) -> None:
    """"Can be enabled for any network interface but will only apply to the primary network interface"."""
    interface.public_ip_auto_assign = wanted
    if interface.device_index != 0 or interface.instance is None:
        return
    if any(a.private_ip_address == interface.private_ip_address for a in _elastic_addresses(interface)):
        return
    if not wanted:
        interface.public_ip = None
    elif interface.public_ip is None and interface.instance.state == "running":
        interface.public_ip = random_public_ip()


@override(ElasticNetworkInterfaces, "create_network_interface")
def _create_network_interface(original: Any, self: Any) -> ActionResult:
    """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateNetworkInterface.html"""
    backend = self.ec2_backend
    subnet = backend.get_subnet(self._get_param("SubnetId"))
    _groups(backend, subnet.vpc_id, self._get_param("Groups", []))
    tracking = _tracking(self._get_param("ConnectionTrackingSpecification") or {})
    kind = self._get_param("InterfaceType")
    if kind not in (None, "efa", "efa-only", "branch", "trunk"):
        raise Error("InvalidParameterValue", f"Value ({kind}) for parameter InterfaceType is invalid.")
    result = original(self)
    made = result.result["NetworkInterface"]
    made.connection_tracking_configuration = tracking or None
    made.interface_type = kind or made.interface_type
    return result


@override(ElasticNetworkInterfaces, "attach_network_interface")
def _attach_network_interface(original: Any, self: Any) -> ActionResult:
    """An interface that is in use, or a device index that is taken, is refused.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AttachNetworkInterface.html
    """
    interface = self.ec2_backend.get_network_interface(self._get_param("NetworkInterfaceId"))
    instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
    if interface.instance is not None:
        raise Error("InvalidNetworkInterface.InUse", f"Interface: [{interface.id}] in use.")
    index = int(self._get_param("DeviceIndex"))
    if index in instance.nics:
        raise Error(
            "InvalidParameterValue",
            f"Instance '{instance.id}' already has an interface attached at device index '{index}'.",
        )
    return original(self)


# --- Instances -----------------------------------------------------------------------


@override(instances.Instance, "prep_nics")
def _prepare_interfaces(original: Any, self: Any, nic_spec: list, *args: Any, **kwargs: Any) -> None:
    """An interface made at launch is deleted on termination unless told otherwise.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceNetworkInterfaceSpecification.html
    """
    given = {int(spec.get("DeviceIndex", 0)): spec for spec in nic_spec}
    original(self, nic_spec, *args, **kwargs)
    for index, interface in self.nics.items():
        spec = given.get(index, {})
        if "NetworkInterfaceId" not in spec and spec.get("DeleteOnTermination") is None:
            interface.delete_on_termination = True


@override(InstanceResponse, "run_instances")
def _run_instances(original: Any, self: Any) -> ActionResult:
    """`DisableApiTermination`, `Operator`, and each interface's IPv6 addresses and connection tracking.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html
    """
    spot = self._get_param("InstanceMarketOptions.MarketType") == "spot"
    if spot and (self._get_bool_param("DisableApiTermination", False) or self._get_bool_param("DisableApiStop", False)):
        raise Error("UnsupportedOperation", "Protection is not supported for Spot Instances.")
    result = original(self)
    for instance in result.result.instances:
        if self._get_bool_param("DisableApiTermination", False):
            instance.disable_api_termination = True
        principal = self._get_param("Operator.Principal")
        if principal:
            instance.operator_principal = principal
        for spec in self._get_param("NetworkInterfaces", []):
            interface = instance.nics.get(int(spec.get("DeviceIndex", 0)))
            if interface is None:
                continue
            interface.ipv6_addresses.extend(
                a["Ipv6Address"] for a in spec.get("Ipv6Addresses", []) if a["Ipv6Address"] not in interface.ipv6_addresses
            )
            if spec.get("Ipv6AddressCount"):
                self.ec2_backend.assign_ipv6_addresses(interface.id, [], int(spec["Ipv6AddressCount"]))
            if spec.get("ConnectionTrackingSpecification"):
                interface.connection_tracking_configuration = _tracking(spec["ConnectionTrackingSpecification"]) or None
    return result


_INSTANCE_VALUES = {
    "DisableApiTermination": "disable_api_termination",
    "DisableApiStop": "disable_api_stop",
    "InstanceInitiatedShutdownBehavior": "instance_initiated_shutdown_behavior",
}


@override(InstanceResponse, "modify_instance_attribute")
def _modify_instance_attribute(original: Any, self: Any) -> ActionResult:
    """One attribute a call; groups only with a single interface; no protection for Spot Instances.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyInstanceAttribute.html
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_ChangingDisableAPITermination.html
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-stop-protection.html
    """
    instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
    values = {name: self._get_param(f"{name}.Value") for name in _INSTANCE_VALUES}
    if self._get_param("Attribute"):
        name = self._get_param("Attribute")
        values[name[:1].upper() + name[1:]] = self._get_param("Value")
    values = {name: value for name, value in values.items() if value is not None}
    mappings = self._get_param("BlockDeviceMappings", [])
    groups = self._get_param("Groups", [])
    if len(values) + bool(mappings) + bool(groups) > 1:
        raise Error("InvalidParameterCombination", "Fields for multiple attribute types specified")
    if instance.state in ("terminated", "shutting-down"):
        raise Error(
            "IncorrectInstanceState",
            f"The instance '{instance.id}' is not in a valid state for this operation.",
        )
    _refuse_managed(instance)
    if groups:
        if len(instance.nics) > 1:
            raise Error(
                "InvalidInstanceID",
                f"There are multiple interfaces attached to instance '{instance.id}'. "
                "Please specify an interface ID for the operation instead.",
            )
        found = _groups(self.ec2_backend, instance.vpc_id, groups)
        self.error_on_dryrun()
        instance.security_groups = found
        return EmptyResult()
    if mappings:
        for mapping in mappings:
            if mapping.get("DeviceName") not in instance.block_device_mapping:
                raise Error(
                    "InvalidInstanceAttributeValue",
                    f"No device is currently mapped at {mapping.get('DeviceName')}",
                )
        return original(self)
    for name, value in values.items():
        if name not in _INSTANCE_VALUES:
            return original(self)
        wanted = str(value).lower() == "true"
        if name.startswith("DisableApi") and wanted and instance.lifecycle == "spot":
            raise Error("UnsupportedOperation", f"{name} is not supported for Spot Instances.")
        if name == "InstanceInitiatedShutdownBehavior" and value not in ("stop", "terminate"):
            raise Error("InvalidParameterValue", f"Invalid value '{value}' for InstanceInitiatedShutdownBehavior")
        self.error_on_dryrun()
        setattr(instance, _INSTANCE_VALUES[name], wanted if name.startswith("DisableApi") else value)
        return EmptyResult()
    return original(self)


@override(InstanceResponse, "modify_instance_metadata_options")
def _modify_instance_metadata_options(original: Any, self: Any) -> ActionResult:
    """What is not given stays as it was.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyInstanceMetadataOptions.html
    """
    instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
    _refuse_managed(instance)
    self.error_on_dryrun()
    options = instance.metadata_options
    for parameter, attribute in {
        "HttpTokens": "http_tokens",
        "HttpPutResponseHopLimit": "http_put_response_hop_limit",
        "HttpEndpoint": "http_endpoint",
        "HttpProtocolIpv6": "http_protocol_ipv6",
        "InstanceMetadataTags": "instance_metadata_tags",
    }.items():
        value = self._get_param(parameter)
        if value is not None:
            setattr(options, attribute, value)
    return ActionResult({"InstanceId": instance.id, "InstanceMetadataOptions": options})


@override(InstanceResponse, "terminate_instances")
def _terminate_instances(original: Any, self: Any) -> ActionResult:
    """Stop protection prevents termination through the API too.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-stop-protection.html
    """
    for instance in self.ec2_backend.get_multi_instances_by_id(self._get_param("InstanceIds", [])):
        if instance.disable_api_stop is True:
            raise exceptions.OperationDisableApiStopNotPermitted(instance.id)
        _refuse_managed(instance)
    return original(self)


@override(instances.Instance, "terminate")
def _terminate(original: Any, self: Any) -> Any:
    """A terminated instance has no interfaces; its addresses are released or disassociated.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/terminating-instances.html
    """
    for interface in self.nics.values():
        for address in _elastic_addresses(interface):
            self.ec2_backend.disassociate_address(association_id=address.association_id)
    previous = original(self)
    for interface in list(self.nics.values()):
        self.detach_eni(interface)
    self.nics = {}
    return previous


def _primary_value(name: str) -> property:
    return property(lambda self: getattr(self.nics[0], name) if 0 in self.nics else None)


for _name, _source in {
    "private_ip": "private_ip_address",
    "private_ip_address": "private_ip_address",
    "public_ip": "public_ip",
    "public_ip_address": "public_ip",
}.items():
    setattr(instances.Instance, _name, _primary_value(_source))
_private_dns_name = instances.Instance.private_dns_name.fget
instances.Instance.private_dns_name = property(lambda self: _private_dns_name(self) if 0 in self.nics else "")


# --- Instance profiles ---------------------------------------------------------------


def _show_profile(association: Any) -> None:
    """`IamInstanceProfile` of an instance is the profile's ARN and the profile's id.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_IamInstanceProfile.html
    """
    profile = association.iam_instance_profile
    association.instance.iam_instance_profile = {"Arn": profile.arn, "Id": profile.id}


_Profiles = iam_instance_profile.IamInstanceProfileAssociationBackend


@override(_Profiles, "associate_iam_instance_profile")
def _associate_profile(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
    association = original(self, *args, **kwargs)
    _show_profile(association)
    return association


@override(_Profiles, "replace_iam_instance_profile_association")
def _replace_profile(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
    """The association gets a new id, and the instance shows the new profile.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ReplaceIamInstanceProfileAssociation.html
    """
    association = original(self, *args, **kwargs)
    association.association_id = random_iam_instance_profile_association_id()
    _show_profile(association)
    return association


# --- Volumes and snapshots -----------------------------------------------------------

Snapshot = elastic_block_store.Snapshot


@override(ElasticBlockStore, "create_snapshots")
def _create_snapshots(original: Any, self: Any) -> ActionResult:
    """`ExcludeBootVolume`, `ExcludeDataVolumeIds`, `CopyTagsFromSource`; a terminated instance is refused.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSnapshots.html
    """
    spec = self._get_param("InstanceSpecification", {})
    instance = self.ec2_backend.get_instance(spec.get("InstanceId"))
    if instance.state not in ("running", "stopped", "stopping", "pending"):
        raise Error(
            "IncorrectInstanceState", f"The instance '{instance.id}' is not in a valid state for this operation."
        )
    self.error_on_dryrun()
    without = set(spec.get("ExcludeDataVolumeIds", []))
    snapshots = []
    for device, block in instance.get_block_device_mapping:
        boot = device == instance.root_device_name
        if block.volume_id in without or (boot and str(spec.get("ExcludeBootVolume", False)).lower() == "true"):
            continue
        snapshot = self.ec2_backend.create_snapshot(block.volume_id, self._get_param("Description", ""))
        volume = self.ec2_backend.get_volume(block.volume_id)
        snapshot.kms_key_id = volume.kms_key_id
        if self._get_param("CopyTagsFromSource") == "volume":
            snapshot.add_tags({tag["key"]: tag["value"] for tag in volume.get_tags()})
        snapshot.add_tags(self._parse_tag_specification().get("snapshot", {}))
        snapshots.append(snapshot)
    return ActionResult({"Snapshots": snapshots})


@override(ElasticBlockStore, "describe_snapshots")
def _describe_snapshots(original: Any, self: Any) -> ActionResult:
    """`OwnerIds`, `RestorableByUserIds`, paging.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSnapshots.html
    """
    result = original(self)
    owners = {self.current_account if o == "self" else o for o in self._get_param("OwnerIds", [])}
    if owners:
        result.result["Snapshots"] = [s for s in result.result["Snapshots"] if s.owner_id in owners]
    users = {self.current_account if u == "self" else u for u in self._get_param("RestorableByUserIds", [])}
    if users:
        # Public ones are those of `all` only; each account has leave for its own.
        result.result["Snapshots"] = [
            s
            for s in result.result["Snapshots"]
            if users & {s.owner_id, *s.create_volume_permission_userids, *s.create_volume_permission_groups}
        ]
    return _paged(self, result, "Snapshots")


@override(ElasticBlockStore, "describe_snapshot_attribute")
def _describe_snapshot_attribute(original: Any, self: Any) -> ActionResult:
    """The attribute that was asked for, in an order that stays. moto knows one, in any order.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSnapshotAttribute.html
    """
    result = original(self)
    permissions = result.result.pop("CreateVolumePermissions")
    if self._get_param("Attribute") == "productCodes":
        return ActionResult({**result.result, "ProductCodes": []})
    permissions.sort(key=lambda one: (one.get("Group", ""), one.get("UserId", "")))
    return ActionResult({**result.result, "CreateVolumePermissions": permissions})


@override(ElasticBlockStore, "modify_snapshot_attribute")
def _modify_snapshot_attribute(original: Any, self: Any) -> ActionResult:
    """Permissions in `CreateVolumePermission`, too. moto knows only those in `GroupNames` and `UserIds`.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifySnapshotAttribute.html
    """
    result, given = original(self), self._get_param("CreateVolumePermission", {})
    for way, change in (
        ("Add", self.ec2_backend.add_create_volume_permission),
        ("Remove", self.ec2_backend.remove_create_volume_permission),
    ):
        of_way = given.get(way, [])
        change(
            self._get_param("SnapshotId"),
            user_ids=[one["UserId"] for one in of_way if "UserId" in one],
            groups=[one["Group"] for one in of_way if "Group" in one],
        )
    return result


def set_snapshot_state(account: str, region: str, snapshot: str, state: str, message: Any = None) -> dict:
    """What only EC2 brings about: `pending`, `completed`, or `error` with its reason.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Snapshot.html
    """
    found = ec2_backends[account][region].get_snapshot(snapshot)
    found.status, found.state_message = state, message
    return {}


def _lock(snapshot: Any) -> dict:
    """What is shown of a lock, with its state at this moment.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_LockedSnapshotsInfo.html
    """
    lock = snapshot.lock
    now = utcnow()
    shown = {
        "SnapshotId": snapshot.id,
        "OwnerId": snapshot.owner_id,
        "LockCreatedOn": lock["created"],
        "LockDuration": lock["days"],
        "LockDurationStartTime": lock["starts"],
        "LockExpiresOn": lock["expires"],
    }
    if now >= lock["expires"]:
        shown["LockState"] = "expired"
    elif lock["mode"] == "governance":
        shown["LockState"] = "governance"
    else:
        cooling = lock["cooloff_until"] is not None and now < lock["cooloff_until"]
        shown["LockState"] = "compliance-cooloff" if cooling else "compliance"
        if cooling:
            shown["CoolOffPeriod"] = lock["cooloff"]
            shown["CoolOffPeriodExpiresOn"] = lock["cooloff_until"]
    return shown


Snapshot.lock = None


def _naive(moment: Any) -> datetime:
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    return moment.astimezone(timezone.utc).replace(tzinfo=None) if moment.tzinfo else moment


@add(ElasticBlockStore)
def lock_snapshot(self: Any) -> ActionResult:
    """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_LockSnapshot.html"""
    snapshot = self.ec2_backend.get_snapshot(self._get_param("SnapshotId"))
    mode = self._get_param("LockMode")
    days, until = self._get_param("LockDuration"), self._get_param("ExpirationDate")
    cooloff = self._get_param("CoolOffPeriod")
    if mode not in ("compliance", "governance"):
        raise Error("InvalidParameterValue", f"Value ({mode}) for parameter LockMode is invalid.")
    if (days is None) == (until is None):
        raise Error("InvalidParameterCombination", "Specify either LockDuration or ExpirationDate.")
    if days is not None and not 1 <= int(days) <= 36500:
        raise Error("InvalidParameterValue", f"Value ({days}) for parameter LockDuration is invalid.")
    if cooloff is not None and (mode == "governance" or not 1 <= int(cooloff) <= 72):
        raise Error("InvalidParameterValue", f"Value ({cooloff}) for parameter CoolOffPeriod is invalid.")
    self.error_on_dryrun()
    now = utcnow()
    starts = now
    if snapshot.lock and _lock(snapshot)["LockState"] == "compliance":
        new_expiry = snapshot.lock["starts"] + timedelta(days=int(days)) if days is not None else _naive(until)
        if mode != "compliance" or cooloff is not None or new_expiry < snapshot.lock["expires"]:
            raise Error(
                "UnsupportedOperation", "The snapshot is locked in compliance mode; its lock can only be extended."
            )
        starts = snapshot.lock["starts"]
    expires = starts + timedelta(days=int(days)) if days is not None else _naive(until)
    snapshot.lock = {
        "mode": mode,
        "created": snapshot.lock["created"] if snapshot.lock else now,
        "starts": starts,
        "expires": expires,
        "days": int(days) if days is not None else max((expires - starts).days, 1),
        "cooloff": int(cooloff) if cooloff is not None else None,
        "cooloff_until": now + timedelta(hours=int(cooloff)) if cooloff is not None else None,
    }
    return ActionResult(_lock(snapshot))


@add(ElasticBlockStore)
def unlock_snapshot(self: Any) -> ActionResult:
    """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_UnlockSnapshot.html"""
    snapshot = self.ec2_backend.get_snapshot(self._get_param("SnapshotId"))
    if snapshot.lock is None:
        raise Error("UnsupportedOperation", f"The snapshot {snapshot.id} is not locked.")
    if _lock(snapshot)["LockState"] == "compliance":
        raise Error("UnsupportedOperation", f"The snapshot {snapshot.id} is locked in compliance mode.")
    self.error_on_dryrun()
    snapshot.lock = None
    return ActionResult({"SnapshotId": snapshot.id})


@add(ElasticBlockStore)
def describe_locked_snapshots(self: Any) -> ActionResult:
    """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeLockedSnapshots.html"""
    wanted = self._get_param("SnapshotIds", [])
    for snapshot_id in wanted:
        self.ec2_backend.get_snapshot(snapshot_id)
    states = self._filters_from_querystring().get("lock-state")
    shown = [
        _lock(snapshot)
        for snapshot in self.ec2_backend.snapshots.values()
        if snapshot.lock and (not wanted or snapshot.id in wanted)
    ]
    return _paged(
        self, ActionResult({"Snapshots": [s for s in shown if not states or s["LockState"] in states]}), "Snapshots"
    )


@override(ElasticBlockStore, "delete_snapshot")
def _delete_snapshot(original: Any, self: Any) -> ActionResult:
    """A locked snapshot cannot be deleted. The page names no error code; this one is a guess.

    https://docs.aws.amazon.com/ebs/latest/userguide/ebs-snapshot-lock.html
    """
    snapshot = self.ec2_backend.get_snapshot(self._get_param("SnapshotId"))
    if snapshot.lock and _lock(snapshot)["LockState"] != "expired":
        raise Error("OperationNotPermitted", f"The snapshot {snapshot.id} is locked and cannot be deleted.")
    return original(self)


# --- Paging --------------------------------------------------------------------------


def _paged(response: Any, result: ActionResult, member: str) -> ActionResult:
    """`MaxResults` and `NextToken`, which moto ignores in most Describe calls.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/Query-Requests.html#api-pagination
    """
    items, token = page(list(result.result[member]), response._get_param("MaxResults"), response._get_param("NextToken"))
    return ActionResult({**result.result, member: items, "NextToken": token})


for _response, _method, _member in (
    (ElasticNetworkInterfaces, "describe_network_interfaces", "NetworkInterfaces"),
    (ElasticBlockStore, "describe_volumes", "Volumes"),
    (SecurityGroups, "describe_security_groups", "SecurityGroups"),
    (SecurityGroups, "describe_security_group_rules", "SecurityGroupRules"),
):

    @override(_response, _method)
    def _describe(original: Any, self: Any, member: str = _member) -> ActionResult:
        return _paged(self, original(self), member)
