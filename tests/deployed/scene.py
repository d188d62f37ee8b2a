"""What is there before anything happens: the stacks, the people, the victim, and ears for what Firebreak tells."""

import json
from dataclasses import dataclass, field
from typing import Any

import people
import tell
from accounts import Accounts
from emulators import HUB, REGION, Emulators
from people import Person
from stack import MEMBER_STACK, ROOT, STACK, deploy_member, organization, settled
from world import seed

MANAGEMENT = "333333333333"


@dataclass
class Scene:
    """The deployment and everything around it."""

    emulators: Emulators
    # boto3 at moto, in any account: what is not ministack's is read back and made by it.
    accounts: Accounts
    organization: str
    member: str
    stack: dict = field(default_factory=dict)
    people: dict = field(default_factory=dict)
    ids: dict = field(default_factory=dict)
    canary: str = ""
    queues: dict = field(default_factory=dict)

    def hub(self, service: str) -> Any:
        """ministack, in the security account."""
        return self.emulators.root(HUB, service)

    def at_member(self, service: str) -> Any:
        """moto, in the member account."""
        return self.accounts.client(self.member, REGION, service)

    def output(self, name: str) -> str:
        return self.stack["outputs"][name]

    def rows(self, table: str = "LedgerTable") -> list:
        rows: list = []
        pages = self.hub("dynamodb").get_paginator("scan").paginate(TableName=self.output(table), ConsistentRead=True)
        for page in pages:
            rows += page["Items"]
        return rows

    def runs(self, playbook: str) -> list:
        """The runs of a playbook: id, state, and the outcome that it ended with."""
        found = []
        for row in self.rows():
            if row["sk"]["S"] == "RUN" and json.loads(row["head"]["S"])["plan"]["playbook"] == playbook:
                end = json.loads(row["end"]["S"]) if "S" in row.get("end", {}) else {}
                found.append({"id": row["pk"]["S"][4:], "state": row["state"]["S"], "end": end})
        return found

    def taken(self, queue: str) -> list:
        """What has arrived in a queue of ours."""
        client, bodies = self.hub("sqs"), []
        while True:
            messages = client.receive_message(QueueUrl=self.queues[queue], MaxNumberOfMessages=10).get("Messages", [])
            if not messages:
                return bodies
            for message in messages:
                bodies.append(json.loads(message["Body"]))
                client.delete_message(QueueUrl=self.queues[queue], ReceiptHandle=message["ReceiptHandle"])


def prepare(emulators: Emulators, accounts: Accounts) -> Scene:
    """The organization, who is in it, and an instance to drill on, before the stack is deployed."""
    found, member = organization(emulators)
    canary = seed(accounts, member, REGION, world("no-profile"))["ids"]["victim"]
    return Scene(emulators, accounts, found, member, canary=f"aws/{member}/{REGION}/ec2-instance/{canary}")


def world(name: str) -> dict:
    return json.loads((ROOT / "tests" / "worlds" / f"{name}.json").read_text())


def parameters(scene: Scene, architecture: str) -> dict:
    """What a deployment is given besides the defaults."""
    return {
        "OrganizationId": scene.organization,
        "Architecture": architecture,
        "NotifyEmail": "security@example.com",
        "BreakGlassPrincipals": f"arn:aws:iam::{HUB}:role/break-glass",
        "OperatorPrincipals": people.arn(people.OPERATOR),
        "PublisherPrincipals": people.arn(people.PUBLISHER),
        "DrillCanaries": scene.canary,
    }


def set_up(scene: Scene) -> None:
    """Everything else: the member's stack, GuardDuty, the victim, people, and who listens."""
    scene.stack = settled(scene.emulators, HUB, STACK)
    tell.same("Deployed", "the hub's stack is complete", "CREATE_COMPLETE", scene.stack["status"])
    unmade = {name: state for name, state in scene.stack["states"].items() if state != "CREATE_COMPLETE"}
    tell.same("Deployed", f"all {len(scene.stack['states'])} resources of it are made", {}, unmade)
    given = {"HubAccount": HUB, "OrganizationId": scene.organization}
    member = deploy_member(scene.emulators, scene.member, given)
    tell.same("Deployed", "the member's stack is complete", "CREATE_COMPLETE", member["status"])
    roles = scene.emulators.root(scene.member, "iam").list_roles(PathPrefix="/firebreak/")["Roles"]
    made = [name for name, kind in member["types"].items() if kind == "AWS::IAM::Role"]
    tell.holds("Deployed", f"its roles are there ({MEMBER_STACK})", len(roles) >= len(made) > 0, f"{len(roles)} roles")

    scene.people = {
        people.OPERATOR: Person(scene.emulators, people.OPERATOR, [people.policy_arn("call-operate")]),
        people.PUBLISHER: Person(scene.emulators, people.PUBLISHER, [people.policy_arn("publish-policies")]),
        # Has been given the policy, and is no operator.
        "walter": Person(scene.emulators, "walter", [people.policy_arn("call-operate")]),
        # Has nothing.
        "mallory": Person(scene.emulators, "mallory", []),
    }
    scene.ids = seed(scene.accounts, scene.member, REGION, world("web-server"))["ids"]
    guardduty(scene)
    enforce(scene)
    listen(scene)


def enforce(scene: Scene) -> None:
    """moto asks the policies of the deployed roles as well: they are copied there as ministack has them."""
    for account in (HUB, scene.member):
        deployed = scene.emulators.root(account, "iam")
        copied = scene.accounts.client(account, REGION, "iam")
        for role in deployed.list_roles(PathPrefix="/firebreak/")["Roles"]:
            name, document = role["RoleName"], json.dumps(role["AssumeRolePolicyDocument"])
            copied.create_role(RoleName=name, Path=role["Path"], AssumeRolePolicyDocument=document)
            for policy in deployed.list_role_policies(RoleName=name)["PolicyNames"]:
                found = deployed.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
                copied.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=json.dumps(found))
    body = json.dumps({"accounts": [HUB, scene.member], "organization": scene.organization}).encode()
    scene.accounts.door("enforce", "POST", body)


def guardduty(scene: Scene) -> None:
    """The security account administers the organization's GuardDuty, and has the member in it."""
    management = scene.accounts.client(MANAGEMENT, REGION, "guardduty")
    management.enable_organization_admin_account(AdminAccountId=HUB)
    hub = scene.accounts.client(HUB, REGION, "guardduty")
    detector = hub.create_detector(Enable=True)["DetectorId"]
    member = {"AccountId": scene.member, "Email": "member@example.com"}
    hub.create_members(DetectorId=detector, AccountDetails=[member])


def listen(scene: Scene) -> None:
    """Two queues: one for the events on the bus, by a rule of ours, and one subscribed to the topic."""
    sqs, events = scene.hub("sqs"), scene.hub("events")
    for name, principal in (("outcomes", "events.amazonaws.com"), ("messages", "sns.amazonaws.com")):
        scene.queues[name] = sqs.create_queue(QueueName=f"rehearsal-{name}")["QueueUrl"]
        arn = f"arn:aws:sqs:{REGION}:{HUB}:rehearsal-{name}"
        allowed = {
            "Effect": "Allow",
            "Principal": {"Service": principal},
            "Action": "sqs:SendMessage",
            "Resource": arn,
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        sqs.set_queue_attributes(QueueUrl=scene.queues[name], Attributes={"Policy": policy})
        if name == "outcomes":
            events.put_rule(Name="rehearsal-outcomes", EventPattern=json.dumps({"source": ["firebreak"]}))
            events.put_targets(Rule="rehearsal-outcomes", Targets=[{"Id": "queue", "Arn": arn}])
        else:
            topic = scene.output("TopicArn")
            scene.hub("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    scene.queues["dead"] = scene.output("DeadLettersUrl")
