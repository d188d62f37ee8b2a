"""The other two functions, once each: a leaked key by `contain-identity`, an open port by `harden` through its queue."""

import json
from typing import Any

import events
import incident
import tell
from emulators import HUB, REGION
from scene import Scene, world
from stack import ROOT
from tell import holds, same, wait
from world import seed

KEY, PORT = "A leaked key", "An open port"
USER = "deploy"


def key(scene: Scene) -> None:
    """A user of the member account, in ministack: IAM's own is there."""
    tell.say("a key leaks")
    iam = scene.emulators.root(scene.member, "iam")
    user = iam.create_user(UserName=USER)["User"]
    made = iam.create_access_key(UserName=USER)["AccessKey"]["AccessKeyId"]
    names = {"AKIAIOSFODNN7EXAMPLE": made, "AIDACKCEVSQ6C2EXAMPLE": user["UserId"]}
    event = events.guardduty("iam-user", scene.member, names)
    event["detail"]["severity"] = 8
    incident.put(scene, event["detail"])
    targets = events.routed(scene.emulators, event)
    same(KEY, "the rules lead the finding to contain-identity, once", [scene.output("ContainIdentityArn")], targets)
    for target in targets:
        events.deliver(scene.emulators, target, event)

    def inactive() -> Any:
        keys = iam.list_access_keys(UserName=USER)["AccessKeyMetadata"]
        return all(one["Status"] == "Inactive" for one in keys)

    holds(KEY, "the user's key is inactive", wait(inactive, 30), iam.list_access_keys(UserName=USER)["AccessKeyMetadata"])
    held = wait(lambda: [run for run in scene.runs("contain-access-key") if run["state"] == "held"], 30)
    holds(KEY, "the ledger has the run", held, scene.runs("contain-access-key"))


def port(scene: Scene) -> None:
    """A control of Security Hub that failed, through the queue before `harden`."""
    tell.say("a control fails")
    ids = seed(scene.accounts, scene.member, REGION, world("open-ssh"))["ids"]
    was = json.loads((ROOT / "events" / "securityhub" / "control-open-port.json").read_text())
    group = was["detail"]["findings"][0]["Resources"][0]["Id"].rsplit("/", 1)[1]
    event = events.event("securityhub/control-open-port", scene.member, {group: ids["victim"]})
    finding = event["detail"]["findings"][0]
    finding["UpdatedAt"] = finding["LastObservedAt"] = events.stamp()
    hub = scene.accounts.client(HUB, REGION, "securityhub")
    imported = hub.batch_import_findings(Findings=[finding])
    same(PORT, "Security Hub has the finding", 0, imported["FailedCount"])
    queue = scene.hub("sqs").get_queue_attributes(
        QueueUrl=scene.stack["resources"]["HardenQueue"], AttributeNames=["QueueArn"]
    )["Attributes"]["QueueArn"]
    targets = events.routed(scene.emulators, event)
    same(PORT, "the rules lead the finding into harden's queue, once", [queue], targets)
    for target in targets:
        events.deliver(scene.emulators, target, event)

    def everywhere(name: str) -> Any:
        found = scene.at_member("ec2").describe_security_groups(GroupIds=[ids[name]])["SecurityGroups"][0]
        rules = [one for one in found["IpPermissions"] if one.get("FromPort") == 22]
        return [one["CidrIp"] for rule in rules for one in rule["IpRanges"] if one["CidrIp"] == "0.0.0.0/0"]

    wait(lambda: not everywhere("victim"), 60)
    same(PORT, "SSH is closed to everywhere", [], everywhere("victim"))
    same(PORT, "and not the neighbour's", ["0.0.0.0/0"], everywhere("neighbour"))
    ended = wait(lambda: [run for run in scene.runs("close-ingress") if run["state"] == "held"], 30)
    holds(PORT, "the ledger has the run", ended, scene.runs("close-ingress"))
