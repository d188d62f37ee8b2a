"""A drill in the account, by the deployed function `drill`: what it begins the other functions carry out, and it scores."""

import json
from typing import Any

import events
import tell
from emulators import HUB, REGION
from scene import Scene
from tell import holds, same, wait

DRILL = "A drill in the account"
# As docs/deploy.md has it.
POLICY = """
@id("drills-are-enforced")
@reason("a drill on a canary")
permit (principal is Playbook, action == Action::"enforce", resource)
when { context.finding.source == "firebreak.drill" };
"""
# The schedule's event of each minute. The rule sends it as well.
MINUTE = {
    "version": "0",
    "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
    "detail-type": "Scheduled Event",
    "source": "aws.events",
    "account": HUB,
    "region": REGION,
    "resources": [f"arn:aws:events:{REGION}:{HUB}:rule/rehearsal"],
    "detail": {},
}


def drill(scene: Scene) -> None:
    tell.say("a drill is held on the canary")
    client, name = scene.hub("lambda"), scene.stack["resources"]["Drill"]
    settings = client.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    settings["FIREBREAK_OPERATE_URL"] = scene.emulators.door
    client.update_function_configuration(FunctionName=name, Environment={"Variables": settings})
    tell.note("the function drill is told where the function URL is answered: the template gives it a name of on.aws")
    scene.taken("messages")

    def ask(what: dict) -> Any:
        return json.loads(client.invoke(FunctionName=name, Payload=json.dumps(what).encode())["Payload"].read())

    begun = ask({"do": "drill"})
    same(DRILL, "it begins on the canary that the template names", [scene.canary], [one[1] for one in begun.get("began", [])])
    heard: list = []

    def told() -> Any:
        ask({**MINUTE, "time": events.stamp()})
        heard.extend(one.get("Subject", "") for one in scene.taken("messages"))
        return [subject for subject in heard if "DRILL PASSED" in subject or "DRILL FAILED" in subject]

    scored = wait(told, 90) or []
    holds(DRILL, "it passes: contained, and given back through people's door", "PASSED" in "".join(scored), heard)
    instance = scene.canary.rsplit("/", 1)[1]
    ours = [{"Name": "attachment.instance-id", "Values": [instance]}]
    interfaces = scene.at_member("ec2").describe_network_interfaces(Filters=ours)["NetworkInterfaces"]
    groups = [group["GroupName"] for one in interfaces for group in one["Groups"]]
    holds(DRILL, "the canary is out of quarantine", groups and not any("firebreak" in one for one in groups), groups)
