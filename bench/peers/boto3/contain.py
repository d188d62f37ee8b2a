"""Contains what GuardDuty reports: an ordinary Lambda function of a few dozen lines, to measure Firebreak against.

It lives in the security account and acts in the finding's account through a role there. An instance's interfaces get the
VPC's quarantine group and no other, then its volumes are snapshotted; a leaked access key is made inactive.
"""

import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor

import boto3

ROLE = os.environ["MEMBER_ROLE"]
GROUP = "quarantine"
LEAST_SEVERITY = 5

log = logging.getLogger()
log.setLevel(logging.INFO)
# Made while Lambda gives the start of a function a whole processor.
sts = boto3.client("sts")


def handler(event: dict, context: object) -> dict:
    finding = event["detail"]
    if finding["severity"] < LEAST_SEVERITY:
        return {"outcome": "ignored"}
    kind, resource = finding["resource"]["resourceType"], finding["resource"]
    if kind == "Instance":
        return contain_instance(finding, resource["instanceDetails"]["instanceId"])
    if kind == "AccessKey":
        key = resource["accessKeyDetails"]
        client("iam", finding).update_access_key(
            UserName=key["userName"], AccessKeyId=key["accessKeyId"], Status="Inactive"
        )
        return {"outcome": "contained", "key": key["accessKeyId"]}
    return {"outcome": "ignored"}


def client(service: str, finding: dict):
    """A client of the member account. Of the default session, which loads each service's description once."""
    role = ROLE.format(account_id=finding["accountId"])
    given = sts.assume_role(RoleArn=role, RoleSessionName=finding["id"][:64])["Credentials"]
    return boto3.client(
        service,
        region_name=finding["region"],
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
    )


def contain_instance(finding: dict, instance_id: str) -> dict:
    ec2 = client("ec2", finding)
    found = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
    group = quarantine_group(ec2, found["VpcId"])
    was = {
        interface["NetworkInterfaceId"]: [one["GroupId"] for one in interface["Groups"]]
        for interface in found["NetworkInterfaces"]
    }
    still_open = [interface for interface, groups in was.items() if groups != [group]]
    if not still_open:
        return {"outcome": "already contained"}
    # Whoever undoes this finds here how it was.
    log.info(json.dumps({"instance": instance_id, "groups": was}))

    def cut(interface: str) -> None:
        ec2.modify_network_interface_attribute(NetworkInterfaceId=interface, Groups=[group])

    with ThreadPoolExecutor() as pool:
        list(pool.map(cut, still_open))
    made = ec2.create_snapshots(
        Description=f"GuardDuty finding {finding['id']}",
        InstanceSpecification={"InstanceId": instance_id},
        CopyTagsFromSource="volume",
    )
    return {"outcome": "contained", "snapshots": [one["SnapshotId"] for one in made["Snapshots"]]}


def quarantine_group(ec2, vpc: str) -> str:
    filters = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "group-name", "Values": [GROUP]}]
    found = ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
    if found:
        return found[0]["GroupId"]
    group = ec2.create_security_group(GroupName=GROUP, Description="No traffic", VpcId=vpc)["GroupId"]
    ec2.revoke_security_group_egress(
        GroupId=group, IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    )
    return group
