"""A finding about an instance, contained by the deployed function and undone by a person: every claim read back."""

import json
from typing import Any

import events
import people
import tell
from emulators import HUB, REGION
from scene import Scene
from tell import holds, same, wait

CONTAINED, TOLD, UNDONE = "Contained", "Told", "Undone"
PLAYBOOKS = ("isolate-instance", "snapshot-volumes")


def interfaces(scene: Scene) -> dict:
    """The groups of each interface of the victim, by name of the interface."""
    ec2, victim = scene.at_member("ec2"), scene.ids["victim"]
    names = {value: name for name, value in scene.ids.items()}
    found = ec2.describe_network_interfaces(Filters=[{"Name": "attachment.instance-id", "Values": [victim]}])
    return {
        names.get(one["NetworkInterfaceId"], one["NetworkInterfaceId"]): sorted(
            group["GroupId"] for group in one["Groups"]
        )
        for one in found["NetworkInterfaces"]
    }


def behind(scene: Scene) -> dict:
    """Which load balancers send the victim something, and to which of its addresses and ports."""
    elb, elbv2, victim = scene.at_member("elb"), scene.at_member("elbv2"), scene.ids["victim"]
    instance = scene.at_member("ec2").describe_instances(InstanceIds=[victim])["Reservations"][0]["Instances"][0]
    own = {victim, *(one["PrivateIpAddress"] for one in instance["NetworkInterfaces"])}
    found: dict = {}
    for name, arn in scene.ids.items():
        if ":targetgroup/" in arn:
            health = elbv2.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
            sent = [one for one in health if one["TargetHealth"]["State"] not in ("unused", "draining")]
            targets = [one["Target"] for one in sent if one["Target"]["Id"] in own]
            found[name] = sorted(f"{target['Id']}:{target.get('Port')}" for target in targets)
    for one in elb.describe_load_balancers()["LoadBalancerDescriptions"]:
        found[one["LoadBalancerName"]] = sorted(i["InstanceId"] for i in one["Instances"] if i["InstanceId"] in own)
    return found


def disks(scene: Scene) -> set:
    """The victim's volumes."""
    attached = [{"Name": "attachment.instance-id", "Values": [scene.ids["victim"]]}]
    return {one["VolumeId"] for one in scene.at_member("ec2").describe_volumes(Filters=attached)["Volumes"]}


def finding(scene: Scene) -> dict:
    """GuardDuty's finding about the victim, which GuardDuty has, as its event."""
    was = json.loads((events.ROOT / "events" / "guardduty" / "command-and-control.json").read_text())
    instance = was["detail"]["resource"]["instanceDetails"]["instanceId"]
    event = events.guardduty("command-and-control", scene.member, {instance: scene.ids["victim"]})
    details = event["detail"]["resource"]["instanceDetails"]
    details["networkInterfaces"] = events.interfaces_as_found(scene.at_member("ec2"), scene.ids["victim"])
    put(scene, event["detail"])
    return event


def put(scene: Scene, detail: dict) -> None:
    body = json.dumps({"account": HUB, "region": REGION, "detail": detail}).encode()
    scene.accounts.door("guardduty/findings", "POST", body)


def calls(scene: Scene, since: int = 0) -> dict:
    return json.loads(scene.accounts.door(f"calls?since={since}"))


def contain(scene: Scene, event: dict) -> dict:
    """What was before, and the run."""
    before = {"interfaces": interfaces(scene), "behind": behind(scene)}
    function = scene.output("ContainComputeArn")
    tell.say("a finding arrives")
    targets = events.routed(scene.emulators, event)
    same(CONTAINED, "the rules of the template lead the finding to contain-compute, once", [function], targets)
    since = calls(scene)["next"]
    for target in targets:
        events.deliver(scene.emulators, target, event)

    def ended() -> Any:
        runs = [run for playbook in PLAYBOOKS for run in scene.runs(playbook)]
        return runs if len(runs) == 2 and all(run["state"] == "held" for run in runs) else None

    runs = wait(ended) or [run for playbook in PLAYBOOKS for run in scene.runs(playbook)]
    ends = [run["state"] for run in runs]
    same(CONTAINED, "the ledger has one run of each playbook, and both hold", ["held", "held"], ends)
    if not runs:
        return before
    groups = interfaces(scene)
    only = sorted({group for groups_of in groups.values() for group in groups_of})
    same(CONTAINED, "every interface is as many as before", sorted(before["interfaces"]), sorted(groups))
    sizes = [len(groups_of) for groups_of in groups.values()]
    same(CONTAINED, "each of them has one group, the same", (1, [1] * len(groups)), (len(only), sizes))
    if len(only) == 1:
        group = scene.at_member("ec2").describe_security_groups(GroupIds=only)["SecurityGroups"][0]
        rules = len(group["IpPermissions"]) + len(group["IpPermissionsEgress"])
        holds(CONTAINED, "it is a quarantine group", group["GroupName"].startswith("firebreak-quarantine"), group["GroupName"])
        same(CONTAINED, "which lets nothing in or out", 0, rules)
    same(CONTAINED, "no load balancer sends it anything", [], sorted(sum(behind(scene).values(), [])))
    kept = {one["VolumeId"] for one in scene.at_member("ec2").describe_snapshots(OwnerIds=["self"])["Snapshots"]}
    same(CONTAINED, "each of its disks is kept", sorted(disks(scene)), sorted(kept))
    under_its_roles(scene, since)
    told(scene, runs)
    return {**before, "run": next(iter(scene.runs("isolate-instance")), {}).get("id")}


def under_its_roles(scene: Scene, since: int) -> None:
    """Who made the calls that moto answered: sessions that ministack's STS gave, by trust and permission."""
    made = [call for call in calls(scene, since)["calls"] if "app/observer" not in call["agent"]]
    changing = [call for call in made if not call["operation"].startswith(("Describe", "List", "Get", "Lookup"))]
    prefix = f"arn:aws:iam::{scene.member}:role/firebreak/"
    roles = sorted({call["role"] for call in changing if call["service"] != "securityhub"})
    same(
        CONTAINED,
        "whatever was changed in the member account was changed as the role of the playbook",
        [prefix + name for name in PLAYBOOKS],
        roles,
    )
    own = sorted({call["role"] for call in made if call["account"] == HUB})
    same(CONTAINED, "GuardDuty was asked as the function's own role", [scene.output("ContainComputeRoleArn")], own)


def told(scene: Scene, runs: list) -> None:
    """The outcome on the bus, the message of the topic, the evidence."""
    seen: list = []
    ids = {run["id"] for run in runs}

    def outcomes() -> Any:
        seen.extend(scene.taken("outcomes"))
        ended = {one["detail"]["run"]: one["detail"]["outcome"] for one in seen if one["detail"].get("run") in ids}
        return ended if len(ended) == len(ids) else None

    ended = wait(outcomes, 20) or {}
    same(TOLD, "the bus has the outcome of each run", ["contained", "preserved"], sorted(ended.values()))
    heard: list = []

    def messages() -> Any:
        heard.extend(one.get("Subject", "") for one in scene.taken("messages"))
        return any(subject.startswith("Firebreak: CONTAINED") for subject in heard)

    holds(TOLD, "the topic has told people that it is contained", wait(messages, 20), heard)
    s3, bucket = scene.hub("s3"), scene.output("EvidenceBucket")
    kept = {run["id"]: s3.list_objects_v2(Bucket=bucket, Prefix=f"cases/{run['id']}/").get("KeyCount", 0) for run in runs}
    holds(TOLD, "there is evidence of each run", all(kept.values()), kept)


def undo(scene: Scene, before: dict, command: str, settings: dict) -> None:
    """An operator says so at the function URL of `operate`."""
    tell.say("an operator undoes it at people's door")
    operator = scene.people[people.OPERATOR]
    done = operator.command(command, settings, "undo", before.get("run") or "none")
    holds(UNDONE, "the command says that it is undone", done.returncode == 0 and "undone" in done.stdout, done.stdout)
    runs = [(run["state"]) for run in scene.runs("isolate-instance")]
    same(UNDONE, "the run holds nothing any more", ["released"], runs)
    same(UNDONE, "each interface has the groups that it had", before["interfaces"], interfaces(scene))
    same(UNDONE, "load balancers send it what they did", before["behind"], behind(scene))
    decisions = scene.rows("DecisionsTable")
    by = [people.arn(people.OPERATOR) in json.dumps(row) for row in decisions]
    same(UNDONE, "the decision has its table, and says who it was: the user that IAM named", [True], by)
