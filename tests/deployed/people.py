"""People in the security account: users with what the templates give them, and the command in their hands."""

import json
import subprocess
from typing import Any

from emulators import HUB, Emulators

OPERATOR, PUBLISHER = "olivia", "petra"


def arn(name: str) -> str:
    return f"arn:aws:iam::{HUB}:user/{name}"


class Person:
    """An IAM user of the security account with one access key."""

    def __init__(self, emulators: Emulators, name: str, policies: list):
        self.emulators, self.name = emulators, name
        iam = emulators.root(HUB, "iam")
        iam.create_user(UserName=name)
        for policy in policies:
            iam.attach_user_policy(UserName=name, PolicyArn=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        self.key, self.secret = key["AccessKeyId"], key["SecretAccessKey"]

    def client(self, service: str) -> Any:
        return self.emulators.client(service, self.key, self.secret)

    def command(self, binary: str, settings: dict, *arguments: str) -> subprocess.CompletedProcess:
        """The command `firebreak`, with this person's own key."""
        environment = {**self.emulators.environment(self.key, self.secret), **settings}
        return subprocess.run(
            [binary, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )


def policy_arn(name: str) -> str:
    """A policy of template.yaml, by its fixed name."""
    return f"arn:aws:iam::{HUB}:policy/firebreak/{name}"


def settings(emulators: Emulators, function: str) -> dict:
    """What the README tells people to set: the function's own variables, and where the door is."""
    found = emulators.root(HUB, "lambda").get_function_configuration(FunctionName=function)
    return {**found["Environment"]["Variables"], "FIREBREAK_OPERATE_URL": emulators.door}


def forged(caller: str, asked: dict) -> bytes:
    """An event as Lambda makes it of a request to a function URL, with a caller of somebody's choice.

    https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
    """
    account = caller.split(":")[4]
    return json.dumps(
        {
            "version": "2.0",
            "rawPath": "/",
            "rawQueryString": "",
            "headers": {"content-type": "application/json"},
            "requestContext": {
                "accountId": account,
                "authentication": None,
                "authorizer": {
                    "iam": {
                        "accessKey": "AKIAIOSFODNN7EXAMPLE",
                        "accountId": account,
                        "callerId": "AIDAEXAMPLEEXAMPLEID",
                        "cognitoIdentity": None,
                        "principalOrgId": None,
                        "userArn": caller,
                        "userId": "AIDAEXAMPLEEXAMPLEID",
                    }
                },
                "http": {"method": "POST", "path": "/", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "x"},
                "requestId": "e1506fd5-9e7b-434f-bd42-4f8fa224b599",
                "time": "03/Nov/2026:09:35:01 +0000",
                "timeEpoch": 1793698501000,
            },
            "body": json.dumps(asked),
            "isBase64Encoded": False,
        }
    ).encode()
