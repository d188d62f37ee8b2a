"""Events of `../../events/` about what is here, and their way to what their rules name."""

import json
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

from emulators import HUB, REGION, Emulators
from stack import ROOT


def stamp(seconds_ago: int = 0) -> str:
    """A time as GuardDuty writes it."""
    at = datetime.now(timezone.utc) - timedelta(seconds=seconds_ago)
    return at.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def event(file: str, member: str, names: dict) -> dict:
    """An event with the accounts, the Region and the names of what is here; it is new, and so is its finding."""
    text = (ROOT / "events" / f"{file}.json").read_text()
    was = json.loads(text)
    names = {was["account"]: HUB, was["region"]: REGION, "222222222222": member, **names}
    for old, new in names.items():
        text = text.replace(old, new)
    event = json.loads(text)
    event["id"], event["time"] = str(uuid.uuid4()), stamp()
    return event


def guardduty(file: str, member: str, names: dict) -> dict:
    """A finding of GuardDuty, as its event."""
    found = event(f"guardduty/{file}", member, names)
    detail = found["detail"]
    old, new = detail["id"], uuid.uuid4().hex
    detail["id"], detail["arn"] = new, detail["arn"].replace(old, new)
    detail["createdAt"] = detail["updatedAt"] = stamp()
    detail["service"]["eventFirstSeen"], detail["service"]["eventLastSeen"] = stamp(600), stamp(120)
    return found


def interfaces_as_found(ec2: Any, instance: str) -> list:
    """What a finding says of an instance's interfaces."""
    seen = ec2.describe_network_interfaces(Filters=[{"Name": "attachment.instance-id", "Values": [instance]}])
    return [
        {
            "networkInterfaceId": interface["NetworkInterfaceId"],
            "privateIpAddress": interface["PrivateIpAddress"],
            "subnetId": interface["SubnetId"],
            "vpcId": interface["VpcId"],
            "securityGroups": [
                {"groupId": group["GroupId"], "groupName": group["GroupName"]} for group in interface["Groups"]
            ],
        }
        for interface in seen["NetworkInterfaces"]
    ]


def routed(emulators: Emulators, event: dict) -> list:
    """The targets of the rules of the default bus that let an event through, as ministack evaluates their patterns."""
    client = emulators.root(HUB, "events")
    targets = []
    for rule in client.list_rules()["Rules"]:
        pattern = rule.get("EventPattern")
        if pattern and client.test_event_pattern(EventPattern=pattern, Event=json.dumps(event))["Result"]:
            targets += [one["Arn"] for one in client.list_targets_by_rule(Rule=rule["Name"])["Targets"]]
    return targets


def deliver(emulators: Emulators, target: str, event: dict) -> None:
    """Hands an event to a target as EventBridge does: a function asynchronously, a queue as a message.

    `PutEvents` takes no event whose source begins with `aws.`, here as on AWS.
    """
    service, name = target.split(":")[2], target.split(":")[-1]
    if service == "lambda":
        client = emulators.root(HUB, "lambda")
        client.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(event).encode())
    else:
        queue = emulators.root(HUB, "sqs")
        url = queue.get_queue_url(QueueName=name)["QueueUrl"]
        queue.send_message(QueueUrl=url, MessageBody=json.dumps(event))
