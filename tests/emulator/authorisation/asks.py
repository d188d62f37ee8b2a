"""What a request asks for: each IAM action, the resource that it is asked on, and what its conditions can see.

One row an operation, each written from AWS's Service Authorization Reference (the pages of Amazon EC2, IAM, …), and none
from what Firebreak declares. A resource type that the reference marks as required is always asked for; one that it
does not mark is asked for where the request names one. Where it has no resource type, the action is asked on `*`, which
only a policy allows that says so. A request that has no row is refused.

https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
"""

import json
from functools import cached_property
from typing import Any, Callable, Iterator, NamedTuple
from urllib.parse import parse_qs, unquote

from moto.autoscaling.models import autoscaling_backends
from moto.dynamodb.models import dynamodb_backends
from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends
from moto.organizations.models import organizations_backends
from moto.s3.models import s3_backends


class Ask(NamedTuple):
    """One action on one resource. What a condition can see of it, by key."""

    action: str
    resource: str = "*"
    context: dict = {}


class UnknownOperation(Exception):
    """The table has no row for it."""


class Call:
    """A request, read."""

    def __init__(
        self, account: str, region: str, service: str, operation: str, access_key: str, path: str, body: bytes
    ):
        self.account, self.region, self.service, self.operation = account, region, service, operation
        self.access_key, self.path = access_key, path
        self.body = body
        self.organizations: dict = {}

    @cached_property
    def form(self) -> dict:
        """The parameters of the query protocol."""
        text = self.body.decode("utf-8", "replace")
        return {name: values[0] for name, values in parse_qs(text, keep_blank_values=True).items()}

    @cached_property
    def json(self) -> dict:
        """The parameters of the JSON protocols."""
        return json.loads(self.body or b"{}")

    @property
    def name(self) -> str:
        return f"{self.service}:{self.operation}"

    def arn(self, service: str, rest: str, account: Any = None, region: Any = None) -> str:
        account = self.account if account is None else account
        region = self.region if region is None else region
        return f"arn:aws:{service}:{region}:{account}:{rest}"

    def listed(self, name: str) -> list:
        """The values of `Name.1`, `Name.2`, … of EC2's protocol, or of `Name.member.1` … of the others'."""
        return [self.form[key] for key in sorted(self.form) if key.rsplit(".", 1)[0] in (name, f"{name}.member")]


# --- EC2 -----------------------------------------------------------------------------


def _ec2(call: Call) -> Any:
    return ec2_backends[call.account][call.region]


def _on(call: Call, kind: str, ids: Any) -> list:
    """The same action on each of these, whose tags a condition can see."""
    asks = []
    for id in [ids] if isinstance(ids, str) else ids:
        tags = {f"aws:ResourceTag/{key}": value for key, value in _ec2(call).tags.get(id, {}).items()}
        # The ARN of a snapshot holds no account.
        account = "" if kind == "snapshot" else None
        asks.append(Ask(call.name, call.arn("ec2", f"{kind}/{id}", account), {"ec2:ResourceID": id, **tags}))
    return asks


def _tagged(call: Call, kind: str) -> list:
    """Tags that are given to what is made are another action.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/supported-iam-actions-tagging.html
    """
    tags = {
        value: call.form.get(key[: -len("Key")] + "Value", "")
        for key, value in call.form.items()
        if key.startswith("TagSpecification.") and key.endswith(".Key")
    }
    if not tags:
        return []
    context = {f"aws:RequestTag/{key}": value for key, value in tags.items()}
    context |= {"ec2:CreateAction": call.operation, "aws:TagKeys": list(tags)}
    account = "" if kind == "snapshot" else None
    return [Ask("ec2:CreateTags", call.arn("ec2", f"{kind}/*", account), context)]


def _instance(call: Call) -> list:
    return _on(call, "instance", call.form["InstanceId"])


def _volumes(call: Call, instance: str) -> dict:
    """The volumes of an instance, by device."""
    found = [i for reservation in _ec2(call).reservations.values() for i in reservation.instances if i.id == instance]
    return {device: block.volume_id for i in found for device, block in i.block_device_mapping.items()}


def _modify_instance_attribute(call: Call) -> list:
    devices = [value for key, value in call.form.items() if key.startswith("BlockDevice") and key.endswith("DeviceName")]
    volumes = _volumes(call, call.form["InstanceId"])
    return [
        *_instance(call),
        *_on(call, "volume", [volumes[device] for device in devices if device in volumes]),
        *_on(call, "security-group", call.listed("GroupId")),
    ]


def _modify_network_interface_attribute(call: Call) -> list:
    interface = call.form["NetworkInterfaceId"]
    instances = []
    if any(key.startswith("Attachment.") for key in call.form):
        attached = _ec2(call).enis.get(interface)
        instances = [attached.instance.id] if attached is not None and attached.instance else []
    return [
        *_on(call, "network-interface", interface),
        *_on(call, "security-group", call.listed("SecurityGroupId")),
        *_on(call, "instance", instances),
        *_on(call, "subnet", call.listed("AssociatedSubnetId")),
    ]


def _associate_address(call: Call) -> list:
    asks = []
    for parameter, kind in (
        ("AllocationId", "elastic-ip"),
        ("InstanceId", "instance"),
        ("NetworkInterfaceId", "network-interface"),
    ):
        if parameter in call.form:
            asks += _on(call, kind, call.form[parameter])
    return asks or [Ask(call.name)]


def _disassociate_address(call: Call) -> list:
    wanted = call.form.get("AssociationId")
    address = next((a for a in _ec2(call).addresses if a.association_id and a.association_id == wanted), None)
    if address is None:
        # What an association that is no more is asked on, AWS does not say: EC2 answers that there is none.
        return []
    return [
        *_on(call, "elastic-ip", address.allocation_id),
        *_on(call, "network-interface", [address.eni.id] if address.eni else []),
    ]


def _create_security_group(call: Call) -> list:
    made = Ask(call.name, call.arn("ec2", "security-group/*"))
    vpc = _on(call, "vpc", call.form["VpcId"]) if "VpcId" in call.form else []
    return [made, *vpc, *_tagged(call, "security-group")]


def _create_snapshots(call: Call) -> list:
    instance = call.form["InstanceSpecification.InstanceId"]
    excluded = call.listed("InstanceSpecification.ExcludeDataVolumeId")
    volumes = [volume for volume in _volumes(call, instance).values() if volume not in excluded]
    return [
        *_on(call, "instance", instance),
        *_on(call, "volume", volumes),
        Ask(call.name, call.arn("ec2", "snapshot/*", "")),
        *_tagged(call, "snapshot"),
    ]


def _replace_profile(call: Call) -> list:
    """The role of the profile is passed to EC2, which is another action.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_passrole.html
    """
    associations = _ec2(call).iam_instance_profile_associations.values()
    instances = [a.instance.id for a in associations if a.association_id == call.form["AssociationId"]]
    given = call.form.get("IamInstanceProfile.Arn") or call.form.get("IamInstanceProfile.Name", "")
    profiles = list(iam_backends[call.account]["aws"].instance_profiles.values())
    roles = [role for profile in profiles if given in (profile.arn, profile.name) for role in profile.roles]
    to_ec2 = {"iam:PassedToService": "ec2.amazonaws.com"}
    return [*_on(call, "instance", instances or "*"), *(Ask("iam:PassRole", role.arn, to_ec2) for role in roles)]


# --- IAM -----------------------------------------------------------------------------


def _user(call: Call) -> list:
    users = iam_backends[call.account]["aws"].users
    name = call.form.get("UserName", "")
    path = users[name].path or "/" if name in users else "/"
    context = {"iam:PolicyARN": call.form["PolicyArn"]} if "PolicyArn" in call.form else {}
    return [Ask(call.name, call.arn("iam", f"user{path}{name}", region=""), context)]


def _key_owner(call: Call) -> list:
    """Its user. AWS does not say on what it is asked where the key is of nobody here: then on any user."""
    users = list(iam_backends[call.account]["aws"].users.values())
    key = call.form["AccessKeyId"]
    owners = [f"{user.path or '/'}{user.name}" for user in users if any(k.access_key_id == key for k in user.access_keys)]
    return [Ask(call.name, call.arn("iam", f"user{owner}", region="")) for owner in owners or ["/*"]]


def _iam_role(call: Call) -> list:
    name = call.form["RoleName"]
    roles = list(iam_backends[call.account]["aws"].roles.values())
    path = next((role.path for role in roles if role.name == name), "/")
    return [Ask(call.name, call.arn("iam", f"role{path}{name}", region=""))]


def _policy(call: Call) -> list:
    return [Ask(call.name, call.form["PolicyArn"])]


def _assume_role(call: Call) -> list:
    """A source identity and tags are further actions.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_monitor.html
    """
    role = call.form["RoleArn"]
    context = {"aws:ResourceOrgID": call.organizations.get(role.split(":")[4])}
    if "SourceIdentity" in call.form:
        context["sts:SourceIdentity"] = call.form["SourceIdentity"]
    further = [("SourceIdentity", "sts:SetSourceIdentity"), ("Tags.member.1.Key", "sts:TagSession")]
    actions = [call.name, *(action for parameter, action in further if parameter in call.form)]
    return [Ask(action, role, context) for action in actions]


# --- other services ------------------------------------------------------------------


def _auto_scaling_group(call: Call) -> list:
    name = call.form["AutoScalingGroupName"]
    group = autoscaling_backends[call.account][call.region].autoscaling_groups.get(name)
    absent = call.arn("autoscaling", f"autoScalingGroup:*:autoScalingGroupName/{name}")
    return [Ask(call.name, group.arn if group else absent)]


def _classic_load_balancer(call: Call) -> list:
    return [Ask(call.name, call.arn("elasticloadbalancing", f"loadbalancer/{call.form['LoadBalancerName']}"))]


def _target_group(call: Call) -> list:
    return [Ask(call.name, call.form["TargetGroupArn"])]


def _database(parameter: str, kind: str) -> Callable:
    def asks(call: Call) -> list:
        return [Ask(call.name, call.arn("rds", f"{kind}:{call.form.get(parameter) or '*'}"))]

    return asks


def _of_database(*kinds: tuple) -> Callable:
    """Snapshots are listed of a database, by their own name, or of all: what is not named is any."""
    return lambda call: [ask for parameter, kind in kinds for ask in _database(parameter, kind)(call)]


def _trail(parameter: str) -> Callable:
    def asks(call: Call) -> list:
        given = call.json[parameter]
        names = [given] if isinstance(given, str) else given
        return [Ask(call.name, name if name.startswith("arn:") else call.arn("cloudtrail", f"trail/{name}")) for name in names]

    return asks


def _bucket(call: Call) -> str:
    return f"arn:aws:s3:::{call.path.lstrip('/').split('/', 1)[0]}"


def _on_bucket(action: str) -> Callable:
    return lambda call: [Ask(action, _bucket(call))]


def _on_object(action: str) -> Callable:
    def asks(call: Call) -> list:
        bucket, _, key = call.path.lstrip("/").partition("/")
        key = unquote(key)
        asks = [Ask(action, f"{_bucket(call)}/{key}")]
        # An object that is not there is said to be absent only to who may list the bucket.
        # https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
        if action == "s3:GetObject" and not _holds(call, bucket, key):
            asks.append(Ask("s3:ListBucket", _bucket(call)))
        return asks

    return asks


def _holds(call: Call, bucket: str, key: str) -> bool:
    backend = s3_backends[call.account]["aws"]
    return bucket in backend.buckets and key in backend.buckets[bucket].keys


def _rows(call: Call, given: dict, kind: str = "") -> Ask:
    """An item's table, or the index that is asked; and the partition keys, where the request says them."""
    table, context = given["TableName"], {}
    name = table.rsplit("/", 1)[-1]
    known = dynamodb_backends[call.account][call.region].tables.get(name)
    item = given.get("Key") or given.get("Item") or {}
    if known is not None and known.hash_key_attr in item:
        context["dynamodb:LeadingKeys"] = [str(value) for value in item[known.hash_key_attr].values()]
    index = f"/index/{given['IndexName']}" if "IndexName" in given else ""
    return Ask(kind or call.name, call.arn("dynamodb", f"table/{name}{index}"), context)


def _transaction(call: Call) -> list:
    """https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html"""
    kinds = {"ConditionCheck": "dynamodb:ConditionCheckItem"}
    parts = [part for item in call.json["TransactItems"] for part in item.items()]
    return [_rows(call, given, kinds.get(kind, f"dynamodb:{kind}Item")) for kind, given in parts]


def _put_events(call: Call) -> Iterator[Ask]:
    for entry in call.json["Entries"]:
        bus = entry.get("EventBusName") or "default"
        context = {"events:source": entry.get("Source"), "events:detail-type": entry.get("DetailType")}
        yield Ask(call.name, bus if bus.startswith("arn:") else call.arn("events", f"event-bus/{bus}"), context)


def _event_bus(call: Call) -> list:
    return [Ask(call.name, call.arn("events", f"event-bus/{call.json.get('Name') or 'default'}"))]


def _security_hub(call: Call) -> list:
    workflow = (call.json.get("Workflow") or {}).get("Status")
    context = {"securityhub:ASFFSyntaxPath/Workflow.Status": workflow} if workflow else {}
    return [Ask(call.name, call.arn("securityhub", "hub/default"), context)]


def _organization_account(call: Call) -> list:
    management, _ = organizations_backends.master_accounts.get(call.account, (call.account, "aws"))
    organization = call.organizations.get(call.account, "*")
    return [Ask(call.name, call.arn("organizations", f"account/{organization}/{call.json['AccountId']}", management, ""))]


def _detector(call: Call) -> list:
    return [Ask(call.name, call.arn("guardduty", f"detector/{call.path.rsplit('/', 1)[-1]}"))]


def _topic(call: Call) -> list:
    return [Ask(call.name, call.form["TopicArn"])]


# --- the table -----------------------------------------------------------------------

# The reference has no resource type for these.
WITHOUT_RESOURCE = frozenset(
    """
    autoscaling:DescribeAutoScalingGroups autoscaling:DescribeAutoScalingInstances cloudfront:ListDistributions
    cloudtrail:DescribeTrails cloudtrail:LookupEvents config:DescribeConfigRules
    ec2:DescribeAddresses ec2:DescribeIamInstanceProfileAssociations ec2:DescribeInstanceTypes ec2:DescribeInstances
    ec2:DescribeLockedSnapshots ec2:DescribeNetworkInterfaces ec2:DescribeSecurityGroupRules
    ec2:DescribeSecurityGroups ec2:DescribeSnapshots
    elasticloadbalancing:DescribeLoadBalancers elasticloadbalancing:DescribeTargetGroups
    elasticloadbalancing:DescribeTargetHealth guardduty:GetFindings guardduty:GetMembers guardduty:ListDetectors
    iam:ListUsers
    """.split()
)
# AWS asks for no permission.
# https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
ALWAYS = frozenset({"sts:GetCallerIdentity"})

ROWS: dict = {
    "autoscaling:AttachInstances": _auto_scaling_group,
    "autoscaling:DetachInstances": _auto_scaling_group,
    "cloudtrail:GetTrailStatus": _trail("Name"),
    "cloudtrail:ListTags": _trail("ResourceIdList"),
    "cloudtrail:StartLogging": _trail("Name"),
    "cloudtrail:StopLogging": _trail("Name"),
    # What else it depends on is for a trail of an organization and for new log destinations.
    "cloudtrail:UpdateTrail": _trail("Name"),
    "dynamodb:DeleteItem": lambda call: [_rows(call, call.json)],
    "dynamodb:DescribeTable": lambda call: [_rows(call, call.json)],
    "dynamodb:GetItem": lambda call: [_rows(call, call.json)],
    "dynamodb:PutItem": lambda call: [_rows(call, call.json)],
    "dynamodb:Query": lambda call: [_rows(call, call.json)],
    "dynamodb:Scan": lambda call: [_rows(call, call.json)],
    "dynamodb:TransactWriteItems": _transaction,
    "dynamodb:UpdateItem": lambda call: [_rows(call, call.json)],
    "ec2:AssociateAddress": _associate_address,
    # The rule that is made is a resource of its own only where it is tagged.
    "ec2:AuthorizeSecurityGroupEgress": lambda call: _on(call, "security-group", call.form["GroupId"]),
    "ec2:AuthorizeSecurityGroupIngress": lambda call: _on(call, "security-group", call.form["GroupId"]),
    "ec2:CreateSecurityGroup": _create_security_group,
    "ec2:CreateSnapshots": _create_snapshots,
    "ec2:DescribeInstanceAttribute": _instance,
    "ec2:DescribeSnapshotAttribute": lambda call: _on(call, "snapshot", call.form["SnapshotId"]),
    "ec2:DisassociateAddress": _disassociate_address,
    "ec2:LockSnapshot": lambda call: _on(call, "snapshot", call.form["SnapshotId"]),
    "ec2:ModifyInstanceAttribute": _modify_instance_attribute,
    "ec2:ModifyInstanceMetadataOptions": _instance,
    "ec2:ModifyNetworkInterfaceAttribute": _modify_network_interface_attribute,
    "ec2:ModifySnapshotAttribute": lambda call: _on(call, "snapshot", call.form["SnapshotId"]),
    "ec2:ReplaceIamInstanceProfileAssociation": _replace_profile,
    "ec2:RevokeSecurityGroupEgress": lambda call: _on(call, "security-group", call.form["GroupId"]),
    "ec2:RevokeSecurityGroupIngress": lambda call: _on(call, "security-group", call.form["GroupId"]),
    "elasticloadbalancing:DeregisterInstancesFromLoadBalancer": _classic_load_balancer,
    "elasticloadbalancing:DeregisterTargets": _target_group,
    "elasticloadbalancing:RegisterInstancesWithLoadBalancer": _classic_load_balancer,
    "elasticloadbalancing:RegisterTargets": _target_group,
    "events:DescribeEventBus": _event_bus,
    "events:PutEvents": _put_events,
    "guardduty:GetDetector": _detector,
    "iam:AttachUserPolicy": _user,
    "iam:DeleteRolePolicy": _iam_role,
    "iam:DetachUserPolicy": _user,
    "iam:GetAccessKeyLastUsed": _key_owner,
    "iam:GetLoginProfile": _user,
    "iam:GetPolicy": _policy,
    "iam:GetPolicyVersion": _policy,
    "iam:GetRole": _iam_role,
    "iam:GetRolePolicy": _iam_role,
    "iam:GetUser": _user,
    "iam:ListAccessKeys": _user,
    "iam:ListAttachedUserPolicies": _user,
    "iam:ListInstanceProfilesForRole": _iam_role,
    "iam:ListSSHPublicKeys": _user,
    "iam:ListServiceSpecificCredentials": _user,
    "iam:ListSigningCertificates": _user,
    "iam:PutRolePolicy": _iam_role,
    "iam:UpdateAccessKey": _user,
    "iam:UpdateSSHPublicKey": _user,
    "iam:UpdateServiceSpecificCredential": _user,
    "iam:UpdateSigningCertificate": _user,
    "organizations:DescribeAccount": _organization_account,
    "rds:DescribeDBClusterSnapshotAttributes": _database("DBClusterSnapshotIdentifier", "cluster-snapshot"),
    "rds:DescribeDBClusterSnapshots": _of_database(
        ("DBClusterIdentifier", "cluster"), ("DBClusterSnapshotIdentifier", "cluster-snapshot")
    ),
    "rds:DescribeDBSnapshotAttributes": _database("DBSnapshotIdentifier", "snapshot"),
    "rds:DescribeDBSnapshots": _of_database(("DBInstanceIdentifier", "db"), ("DBSnapshotIdentifier", "snapshot")),
    "rds:ListTagsForResource": lambda call: [Ask(call.name, call.form["ResourceName"])],
    "rds:ModifyDBClusterSnapshotAttribute": _database("DBClusterSnapshotIdentifier", "cluster-snapshot"),
    "rds:ModifyDBSnapshotAttribute": _database("DBSnapshotIdentifier", "snapshot"),
    "s3:DeletePublicAccessBlock": _on_bucket("s3:PutBucketPublicAccessBlock"),
    "s3:GetBucketAcl": _on_bucket("s3:GetBucketAcl"),
    "s3:GetBucketPolicyStatus": _on_bucket("s3:GetBucketPolicyStatus"),
    "s3:GetBucketTagging": _on_bucket("s3:GetBucketTagging"),
    "s3:GetBucketWebsite": _on_bucket("s3:GetBucketWebsite"),
    "s3:GetObject": _on_object("s3:GetObject"),
    "s3:GetPublicAccessBlock": _on_bucket("s3:GetBucketPublicAccessBlock"),
    "s3:HeadObject": _on_object("s3:GetObject"),
    "s3:ListObjectsV2": _on_bucket("s3:ListBucket"),
    "s3:PutObject": _on_object("s3:PutObject"),
    "s3:PutPublicAccessBlock": _on_bucket("s3:PutBucketPublicAccessBlock"),
    "securityhub:BatchUpdateFindings": _security_hub,
    "securityhub:GetFindings": _security_hub,
    "sns:GetTopicAttributes": _topic,
    "sns:Publish": _topic,
    "sts:AssumeRole": _assume_role,
}


def asked(call: Call) -> list:
    """Everything that must be allowed for the request to be carried out."""
    if call.name in ALWAYS:
        return []
    if call.name in WITHOUT_RESOURCE:
        return [Ask(call.name)]
    if call.name not in ROWS:
        raise UnknownOperation(call.name)
    return list(ROWS[call.name](call))
