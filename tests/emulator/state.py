"""Reads an account and Region back into one document that two moments can be compared by."""

from datetime import datetime, timezone
from typing import Any

from botocore.exceptions import ClientError

from accounts import Accounts


def tags(entries: Any) -> dict:
    # moto leaves the element of an empty value of a bucket's tag out, which S3 does not.
    return {tag["Key"]: tag.get("Value", "") for tag in sorted(entries or [], key=lambda tag: tag["Key"])}


def pages(call: Any, member: str, **arguments: Any) -> list:
    found: list = []
    while True:
        answer = call(**arguments)
        found += answer[member]
        token = answer.get("NextToken")
        if not token:
            return found
        arguments["NextToken"] = token


def state(accounts: Accounts, account: str, region: str) -> dict:
    """Everything that a containment may touch or must leave alone, without times and association ids."""

    def client(service: str) -> Any:
        return accounts.client(account, region, service)

    ec2 = client("ec2")
    profiles = {
        a["InstanceId"]: a["IamInstanceProfile"]["Arn"]
        for a in pages(ec2.describe_iam_instance_profile_associations, "IamInstanceProfileAssociations")
    }
    reservations = pages(ec2.describe_instances, "Reservations")
    return {
        "instances": {
            i["InstanceId"]: instance(ec2, i, profiles) for r in reservations for i in r["Instances"]
        },
        "interfaces": {
            i["NetworkInterfaceId"]: interface(i)
            for i in pages(ec2.describe_network_interfaces, "NetworkInterfaces")
        },
        "addresses": {
            a["AllocationId"]: {
                "public": a["PublicIp"],
                "interface": a.get("NetworkInterfaceId") or None,
                "private": a.get("PrivateIpAddress") or None,
                "instance": a.get("InstanceId") or None,
                "tags": tags(a.get("Tags")),
            }
            for a in ec2.describe_addresses()["Addresses"]
        },
        "security_groups": security_groups(ec2),
        "auto_scaling_groups": scaling_groups(client("autoscaling")),
        "target_groups": target_groups(client("elbv2")),
        "classic_load_balancers": {
            b["LoadBalancerName"]: sorted(i["InstanceId"] for i in b["Instances"])
            for b in client("elb").describe_load_balancers()["LoadBalancerDescriptions"]
        },
        "volumes": {
            v["VolumeId"]: {
                "size": v["Size"],
                "encrypted": v["Encrypted"],
                "attached": sorted([a["InstanceId"], a["Device"]] for a in v["Attachments"]),
                "tags": tags(v.get("Tags")),
            }
            for v in pages(ec2.describe_volumes, "Volumes")
        },
        "snapshots": snapshots(ec2),
        "db_snapshots": db_snapshots(client("rds")),
        "instance_profiles": dict(sorted(profiles.items())),
        "buckets": buckets(client("s3")),
        "trails": trails(client("cloudtrail")),
        "users": users(client("iam")),
        "roles": roles(client("iam")),
    }


def buckets(s3: Any) -> dict:
    """Every bucket with who is let in."""

    def read(call: Any, bucket: str, member: str) -> Any:
        try:
            return call(Bucket=bucket)[member]
        except ClientError as error:
            if not error.response["Error"]["Code"].startswith("NoSuch"):
                raise
            return None

    return {
        b["Name"]: {
            "block": read(s3.get_public_access_block, b["Name"], "PublicAccessBlockConfiguration"),
            "policy": read(s3.get_bucket_policy, b["Name"], "Policy"),
            "grants": read(s3.get_bucket_acl, b["Name"], "Grants"),
            "website": read(s3.get_bucket_website, b["Name"], "IndexDocument"),
            "tags": tags(read(s3.get_bucket_tagging, b["Name"], "TagSet")),
        }
        for b in s3.list_buckets()["Buckets"]
    }


def trails(cloudtrail: Any) -> dict:
    """Every trail whose home is this Region."""
    return {
        t["Name"]: {
            "recording": cloudtrail.get_trail_status(Name=t["TrailARN"])["IsLogging"],
            "validated": t["LogFileValidationEnabled"],
            "multi_region": t["IsMultiRegionTrail"],
            "organization": t["IsOrganizationTrail"],
            "bucket": t["S3BucketName"],
            "home": t["HomeRegion"],
            "tags": tags(cloudtrail.list_tags(ResourceIdList=[t["TrailARN"]])["ResourceTagList"][0]["TagsList"]),
        }
        for t in sorted(cloudtrail.describe_trails(includeShadowTrails=False)["trailList"], key=lambda t: t["Name"])
    }


def users(iam: Any) -> dict:
    """Every user with all that it can act with."""
    found = {}
    for user in iam.get_paginator("list_users").paginate().build_full_result()["Users"]:
        name = user["UserName"]
        who = {"UserName": name}
        try:
            iam.get_login_profile(**who)
            password = True
        except iam.exceptions.NoSuchEntityException:
            password = False
        keys = iam.list_access_keys(**who)["AccessKeyMetadata"]
        certificates = iam.list_signing_certificates(**who)["Certificates"]
        credentials = iam.list_service_specific_credentials(**who)["ServiceSpecificCredentials"]
        found[name] = {
            "id": user["UserId"],
            "path": user["Path"],
            "password": password,
            "keys": {k["AccessKeyId"]: k["Status"] for k in keys},
            "key_days": {k["AccessKeyId"]: (datetime.now(timezone.utc) - k["CreateDate"]).days for k in keys},
            "service_credentials": {c["ServiceSpecificCredentialId"]: c["Status"] for c in credentials},
            "ssh_keys": {k["SSHPublicKeyId"]: k["Status"] for k in iam.list_ssh_public_keys(**who)["SSHPublicKeys"]},
            "certificates": {c["CertificateId"]: c["Status"] for c in certificates},
            "attached": sorted(p["PolicyArn"] for p in iam.list_attached_user_policies(**who)["AttachedPolicies"]),
            "inline": {
                policy: iam.get_user_policy(**who, PolicyName=policy)["PolicyDocument"]
                for policy in sorted(iam.list_user_policies(**who)["PolicyNames"])
            },
            "groups": sorted(g["GroupName"] for g in iam.list_groups_for_user(**who)["Groups"]),
            "tags": tags(iam.list_user_tags(**who)["Tags"]),
        }
    return found


def roles(iam: Any) -> dict:
    """Every role with who may assume it and what is attached; not those by which a responder comes."""
    found = {}
    for role in iam.get_paginator("list_roles").paginate().build_full_result()["Roles"]:
        if role["Path"].startswith("/firebreak/"):
            continue
        who = {"RoleName": role["RoleName"]}
        found[role["RoleName"]] = {
            "id": role["RoleId"],
            "path": role["Path"],
            "trust": role["AssumeRolePolicyDocument"],
            "attached": sorted(p["PolicyArn"] for p in iam.list_attached_role_policies(**who)["AttachedPolicies"]),
            "inline": {
                policy: iam.get_role_policy(**who, PolicyName=policy)["PolicyDocument"]
                for policy in sorted(iam.list_role_policies(**who)["PolicyNames"])
            },
            "tags": tags(iam.list_role_tags(**who)["Tags"]),
        }
    return found


def instance(ec2: Any, shown: dict, profiles: dict) -> dict:
    identifier = shown["InstanceId"]
    read: dict = {}
    if shown["State"]["Name"] != "terminated":
        for attribute, member in (
            ("disableApiTermination", "DisableApiTermination"),
            ("disableApiStop", "DisableApiStop"),
            ("instanceInitiatedShutdownBehavior", "InstanceInitiatedShutdownBehavior"),
        ):
            answer = ec2.describe_instance_attribute(InstanceId=identifier, Attribute=attribute)
            read[attribute] = answer.get(member, {}).get("Value")
    options = shown.get("MetadataOptions", {})
    return {
        "state": shown["State"]["Name"],
        "lifecycle": shown.get("InstanceLifecycle"),
        "attributes": read,
        "delete_on_termination": {
            m["DeviceName"]: m["Ebs"]["DeleteOnTermination"] for m in shown.get("BlockDeviceMappings", [])
        },
        "metadata": {
            name: options.get(name)
            for name in (
                "HttpEndpoint",
                "HttpTokens",
                "HttpPutResponseHopLimit",
                "HttpProtocolIpv6",
                "InstanceMetadataTags",
            )
        },
        "profile": (shown.get("IamInstanceProfile") or {}).get("Arn"),
        "profile_association": profiles.get(identifier),
        "security_groups": sorted(g["GroupId"] for g in shown.get("SecurityGroups", [])),
        "interfaces": sorted(i["NetworkInterfaceId"] for i in shown.get("NetworkInterfaces", [])),
        "operator": shown.get("Operator"),
        "tags": tags(shown.get("Tags")),
    }


def interface(shown: dict) -> dict:
    attachment = shown.get("Attachment") or {}
    return {
        "groups": sorted(g["GroupId"] for g in shown["Groups"]),
        "instance": attachment.get("InstanceId"),
        "device_index": attachment.get("DeviceIndex"),
        "delete_on_termination": attachment.get("DeleteOnTermination"),
        "subnet": shown["SubnetId"],
        "ipv6": sorted(a["Ipv6Address"] for a in shown.get("Ipv6Addresses", [])),
        "tracking": shown.get("ConnectionTrackingConfiguration"),
        "source_dest_check": shown.get("SourceDestCheck"),
        "addresses": [
            {
                "private": a["PrivateIpAddress"],
                "public": (a.get("Association") or {}).get("PublicIp"),
                "kind": public_kind(a.get("Association")),
            }
            for a in sorted(shown["PrivateIpAddresses"], key=lambda a: a["PrivateIpAddress"])
        ],
        "tags": tags(shown.get("TagSet")),
    }


def public_kind(association: Any) -> Any:
    if not association:
        return None
    return "elastic" if association.get("AllocationId") else "automatic"


def security_groups(ec2: Any) -> dict:
    rules: dict = {}
    for rule in pages(ec2.describe_security_group_rules, "SecurityGroupRules"):
        rules.setdefault(rule["GroupId"], []).append(
            {
                "id": rule["SecurityGroupRuleId"],
                "egress": rule["IsEgress"],
                "protocol": rule["IpProtocol"],
                "from": rule.get("FromPort"),
                "to": rule.get("ToPort"),
                "description": rule.get("Description"),
                "peer": rule.get("CidrIpv4")
                or rule.get("CidrIpv6")
                or rule.get("PrefixListId")
                or (rule.get("ReferencedGroupInfo") or {}).get("GroupId"),
            }
        )
    return {
        g["GroupId"]: {
            "name": g["GroupName"],
            "vpc": g.get("VpcId"),
            "owner": g["OwnerId"],
            "rules": sorted(rules.get(g["GroupId"], []), key=lambda r: r["id"]),
            "tags": tags(g.get("Tags")),
        }
        for g in pages(ec2.describe_security_groups, "SecurityGroups")
    }


def scaling_groups(scaling: Any) -> dict:
    return {
        g["AutoScalingGroupName"]: {
            "desired": g["DesiredCapacity"],
            "min": g["MinSize"],
            "max": g["MaxSize"],
            "instances": {
                i["InstanceId"]: {
                    "lifecycle": i["LifecycleState"],
                    "protected": i["ProtectedFromScaleIn"],
                }
                for i in sorted(g["Instances"], key=lambda i: i["InstanceId"])
            },
            "target_groups": sorted(g.get("TargetGroupARNs", [])),
            "classic_load_balancers": sorted(g.get("LoadBalancerNames", [])),
            "suspended": sorted(p["ProcessName"] for p in g.get("SuspendedProcesses", [])),
        }
        for g in pages(scaling.describe_auto_scaling_groups, "AutoScalingGroups")
    }


def target_groups(elb: Any) -> dict:
    found = {}
    for group in elb.describe_target_groups()["TargetGroups"]:
        health = elb.describe_target_health(TargetGroupArn=group["TargetGroupArn"])["TargetHealthDescriptions"]
        found[group["TargetGroupArn"]] = {
            "type": group["TargetType"],
            "targets": sorted([h["Target"]["Id"], h["Target"]["Port"]] for h in health),
        }
    return found


def snapshots(ec2: Any) -> dict:
    locks = {
        s["SnapshotId"]: {"state": s["LockState"], "days": s["LockDuration"]}
        for s in pages(ec2.describe_locked_snapshots, "Snapshots")
    }
    return {
        s["SnapshotId"]: {
            "volume": s["VolumeId"],
            "size": s["VolumeSize"],
            "state": s["State"],
            "encrypted": s["Encrypted"],
            "description": s.get("Description", ""),
            "tags": tags(s.get("Tags")),
            "lock": locks.get(s["SnapshotId"]),
            "shared": shared(ec2, s["SnapshotId"]),
        }
        for s in pages(ec2.describe_snapshots, "Snapshots", OwnerIds=["self"])
    }


def shared(ec2: Any, snapshot: str) -> dict:
    """Who may make a volume of a snapshot."""
    answer = ec2.describe_snapshot_attribute(SnapshotId=snapshot, Attribute="createVolumePermission")
    given = answer["CreateVolumePermissions"]
    return {
        "public": any(one.get("Group") == "all" for one in given),
        "accounts": sorted(one["UserId"] for one in given if "UserId" in one),
    }


def db_snapshots(rds: Any) -> dict:
    """Every snapshot of a database, of an instance or a cluster, with who may restore it."""

    def every(kind: str) -> list:
        answer = rds.get_paginator(f"describe_db_{kind}").paginate().build_full_result()
        return next(iter(answer.values()), [])

    def entry(cluster: bool, shown: dict, encrypted: bool, attributes: list) -> dict:
        given = [value for one in attributes if one["AttributeName"] == "restore" for value in one["AttributeValues"]]
        return {
            "cluster": cluster,
            "shared": {"public": "all" in given, "accounts": sorted(one for one in given if one != "all")},
            "encrypted": encrypted,
            "type": shown["SnapshotType"],
            "tags": tags(shown.get("TagList")),
        }

    found = {}
    for s in every("snapshots"):
        name = s["DBSnapshotIdentifier"]
        answer = rds.describe_db_snapshot_attributes(DBSnapshotIdentifier=name)["DBSnapshotAttributesResult"]
        found[name] = entry(False, s, s["Encrypted"], answer["DBSnapshotAttributes"])
    for s in every("cluster_snapshots"):
        name = s["DBClusterSnapshotIdentifier"]
        answer = rds.describe_db_cluster_snapshot_attributes(DBClusterSnapshotIdentifier=name)
        given = answer["DBClusterSnapshotAttributesResult"]["DBClusterSnapshotAttributes"]
        found[name] = entry(True, s, s["StorageEncrypted"], given)
    return dict(sorted(found.items()))
