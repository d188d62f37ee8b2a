"""Who is turned away: by IAM at the door, by the trust of the roles, by what a role may not do."""

import json
import ssl
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import boto3
import events
import incident
import people
import tell
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from emulators import HUB, REGION, STRANGER
from scene import Scene
from stack import ROOT, deploy_member
from tell import holds, same, wait

DOOR, TRUST, LEAST = "Door", "Trust", "Least privilege"
COMPUTE = "contain-compute"
STARTER = ROOT / "policies" / "starter.cedar"


def code(action: Any) -> str:
    """The error code that a call is answered with."""
    try:
        action()
    except ClientError as error:
        return error.response["Error"]["Code"]
    return "allowed"


def status(scene: Scene, asked: dict, who: Any) -> int:
    """The HTTP status of a request to the function URL, signed by somebody or by nobody."""
    url, body = scene.emulators.door, json.dumps(asked).encode()
    request = AWSRequest(method="POST", url=url, data=body, headers={"content-type": "application/json"})
    if who:
        SigV4Auth(Credentials(who.key, who.secret), "lambda", REGION).add_auth(request)
    trusting = ssl.create_default_context(cafile=scene.emulators.certificate)
    try:
        with urlopen(Request(url, data=body, headers=dict(request.headers)), timeout=60, context=trusting) as answer:
            return answer.status
    except HTTPError as error:
        return error.code


def at_the_door(scene: Scene, command: str, settings: dict) -> None:
    tell.say("others come to the door")
    asked = {"do": "runs"}
    listed = scene.people[people.OPERATOR].command(command, settings, "runs")
    holds(DOOR, "an operator is let in", listed.returncode == 0, listed.stdout)
    refused = {name: status(scene, asked, scene.people.get(name)) for name in ("nobody", "mallory", "walter")}
    expected = dict.fromkeys(refused, 403)
    what = "an unsigned request, a user without the policy, and one who has it and is no operator are refused"
    same(DOOR, what, expected, refused)
    # The policy is attached to both; an event could say anything about who calls.
    boss = people.forged(people.arn("boss"), asked)
    function = scene.stack["resources"]["Operate"]
    for name in (people.OPERATOR, "walter"):
        client = scene.people[name].client("lambda")
        found = code(lambda: client.invoke(FunctionName=function, Payload=boss))
        same(DOOR, f"{name} cannot invoke `operate` with an event that names another caller", "AccessDeniedException", found)
    published = scene.people[people.OPERATOR].command(command, settings, "policy", "publish", str(STARTER))
    refused = published.returncode != 0 and "role `publisher`" in published.stdout
    holds(DOOR, "an operator cannot publish policies: the role for it does not let one in", refused, published.stdout)


def session(scene: Scene, role: str, service: str = "sts") -> Any:
    """A service as a session of a role of the security account."""
    given = scene.hub("sts").assume_role(RoleArn=role, RoleSessionName="rehearsal")["Credentials"]
    return scene.emulators.client(service, given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])


def trust(scene: Scene) -> None:
    """The member's role is taken on by one role of one account of one organization."""
    tell.say("others try the member's role")

    def taken_on(client: Any, account: str) -> str:
        role = f"arn:aws:iam::{account}:role/firebreak/isolate-instance"
        return code(lambda: client.assume_role(RoleArn=role, RoleSessionName="rehearsal"))

    right = session(scene, scene.output("ContainComputeRoleArn"))
    same(TRUST, "the function's role takes it on", "allowed", taken_on(right, scene.member))
    found = {
        "another function's role": taken_on(session(scene, scene.output("ContainIdentityRoleArn")), scene.member),
        "an operator": taken_on(scene.people[people.OPERATOR].client("sts"), scene.member),
        "a user who may assume any role": taken_on(with_leave(scene, "ambrose"), scene.member),
        "a role of the same name in another account": taken_on(namesake(scene), scene.member),
    }
    same(TRUST, "nobody else does", dict.fromkeys(found, "AccessDenied"), found)

    # One whose own trust names another organization than the hub's.
    sibling = scene.hub("organizations").create_account(Email="sibling@example.com", AccountName="sibling")
    sibling = sibling["CreateAccountStatus"]["AccountId"]
    deploy_member(scene.emulators, sibling, {"HubAccount": HUB, "OrganizationId": "o-anotherone1"})
    what = "a role that trusts another organization does not let it in"
    same(TRUST, what, "AccessDenied", taken_on(right, sibling))
    # And one that would let it in, outside of the organization: the function may not ask there.
    deploy_member(scene.emulators, STRANGER, {"HubAccount": HUB, "OrganizationId": scene.organization})
    what = "it does not take on a role outside of its organization, even where that role trusts it"
    same(TRUST, what, "AccessDenied", taken_on(right, STRANGER))


ANY_ROLE = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:*", "Resource": "*"}]}


def with_leave(scene: Scene, name: str) -> Any:
    """A user of the security account to whom IAM itself refuses no role: what is left is the trust."""
    person = people.Person(scene.emulators, name, [])
    scene.hub("iam").put_user_policy(UserName=name, PolicyName="any-role", PolicyDocument=json.dumps(ANY_ROLE))
    return person.client("sts")


def namesake(scene: Scene) -> Any:
    """`role/firebreak/contain-compute` of an account that is not the hub's, and may assume anything."""
    iam = scene.emulators.root(STRANGER, "iam")
    root = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{STRANGER}:root"}, "Action": "sts:AssumeRole"}
    trust_document = json.dumps({"Version": "2012-10-17", "Statement": [root]})
    iam.create_role(RoleName=COMPUTE, Path="/firebreak/", AssumeRolePolicyDocument=trust_document)
    iam.put_role_policy(RoleName=COMPUTE, PolicyName="any-role", PolicyDocument=json.dumps(ANY_ROLE))
    role = f"arn:aws:iam::{STRANGER}:role/firebreak/{COMPUTE}"
    given = scene.emulators.root(STRANGER, "sts").assume_role(RoleArn=role, RoleSessionName="rehearsal")["Credentials"]
    return scene.emulators.client("sts", given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])


def beyond(scene: Scene) -> None:
    """What the role of the function that contains may not do, whoever holds it."""
    role = scene.output("ContainComputeRoleArn")
    dynamodb, bus, s3 = (session(scene, role, service) for service in ("dynamodb", "events", "s3"))
    row, entry = {"id": {"S": "x"}}, {"Source": "somebody", "DetailType": "x", "Detail": "{}"}
    decisions, policies = scene.output("DecisionsTable"), scene.output("PolicyBucket")
    found = {
        "decide": code(lambda: dynamodb.put_item(TableName=decisions, Item=row)),
        "speak as another": code(lambda: bus.put_events(Entries=[entry])),
        "put policies in force": code(lambda: s3.put_object(Bucket=policies, Key="policies.cedar", Body=b"")),
    }
    expected = dict(zip(found, ("AccessDeniedException", "AccessDeniedException", "AccessDenied")))
    same(LEAST, "the function's role cannot decide, speak as another on the bus, or put policies in force", expected, found)


def narrowed(scene: Scene) -> None:
    """What a session in the member account may do to EC2: what the role may, and of that what the session was given."""
    sts = session(scene, scene.output("ContainComputeRoleArn"))
    role = f"arn:aws:iam::{scene.member}:role/firebreak/isolate-instance"
    victim, interface = scene.ids["victim"], scene.ids["eni_a"]
    reads = {"Effect": "Allow", "Action": "ec2:DescribeInstances", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [reads]})

    def ec2(**narrow: str) -> Any:
        given = sts.assume_role(RoleArn=role, RoleSessionName="rehearsal", **narrow)["Credentials"]
        return boto3.client(
            "ec2",
            region_name=REGION,
            endpoint_url=scene.emulators.moto,
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given["SessionToken"],
        )

    whole, narrow = ec2(), ec2(Policy=policy)
    groups = scene.at_member("ec2").describe_network_interfaces(NetworkInterfaceIds=[interface])["NetworkInterfaces"]
    same_groups = {"NetworkInterfaceId": interface, "Groups": [group["GroupId"] for group in groups[0]["Groups"]]}
    found = [
        code(lambda: whole.modify_network_interface_attribute(**same_groups)),
        code(lambda: narrow.describe_instances(InstanceIds=[victim])),
        code(lambda: narrow.modify_network_interface_attribute(**same_groups)),
        code(lambda: whole.terminate_instances(InstanceIds=[victim])),
    ]
    expected = ["allowed", "allowed", "UnauthorizedOperation", "UnauthorizedOperation"]
    same(LEAST, "a session in the member account does what its role and its session policy allow, and no more", expected, found)


def without_a_permission(scene: Scene, event: dict) -> dict:
    """The role lacks one permission: what fails says which, and the event is not lost. Answers with what was kept."""
    tell.say("a finding arrives while the role lacks a permission")
    iam, missing = scene.hub("iam"), "dynamodb:PutItem"
    policy = iam.get_role_policy(RoleName=COMPUTE, PolicyName=COMPUTE)["PolicyDocument"]
    lessened = json.loads(json.dumps(policy))
    for statement in lessened["Statement"]:
        if isinstance(statement["Action"], list) and missing in statement["Action"]:
            statement["Action"].remove(missing)
    put = {"RoleName": COMPUTE, "PolicyName": COMPUTE}
    iam.put_role_policy(**put, PolicyDocument=json.dumps(lessened))
    dead: list = []
    try:
        before = incident.interfaces(scene)
        events.deliver(scene.emulators, scene.output("ContainComputeArn"), event)

        def arrived() -> Any:
            dead.extend(scene.taken("dead"))
            return [one for one in dead if one.get("requestPayload", {}).get("id") == event["id"]]

        kept = (wait(arrived, 60) or [{}])[0]
        attempts = kept.get("requestContext", {}).get("approximateInvokeCount")
        same(LEAST, f"without {missing} the event is with the dead letters, after three attempts", 3, attempts)
        holds(LEAST, "the log names the permission", missing in "".join(log(scene)), log(scene)[-6:])
        same(LEAST, "nothing was changed", before, incident.interfaces(scene))
    finally:
        iam.put_role_policy(**put, PolicyDocument=json.dumps(policy))
    return kept.get("requestPayload", event)


def log(scene: Scene) -> list:
    """The lines of the function's log so far."""
    client, lines = scene.hub("logs"), []
    group = scene.stack["resources"]["ContainComputeLog"]
    for page in client.get_paginator("filter_log_events").paginate(logGroupName=group):
        lines += [one["message"] for one in page["events"]]
    return lines
