"""Clients of boto3 for any account of the emulator, with credentials from its STS."""

import os
import threading
from typing import Any
from urllib.request import Request, urlopen

import boto3
from botocore.config import Config

ROLE = "arn:aws:iam::{account}:role/OrganizationAccountAccessRole"


class Accounts:
    """Credentials and clients, each made once."""

    def __init__(self, endpoint: str):
        self.endpoint = endpoint
        self.session = boto3.Session()
        self.held: dict = {}
        self.clients: dict = {}
        self.lock = threading.RLock()

    def credentials(self, account: str, role: Any = None) -> dict:
        """Session credentials that act in `account`, of the organization's access role or of `role`."""
        arn = role or ROLE.format(account=account)
        with self.lock:
            if arn not in self.held:
                sts = self.session.client(
                    "sts",
                    region_name="us-east-1",
                    endpoint_url=self.endpoint,
                    aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
                    aws_secret_access_key="observer",
                )
                given = sts.assume_role(RoleArn=arn, RoleSessionName="observer")["Credentials"]
                self.held[arn] = {
                    "access_key_id": given["AccessKeyId"],
                    "secret_access_key": given["SecretAccessKey"],
                    "session_token": given["SessionToken"],
                }
            return self.held[arn]

    def client(self, account: str, region: str, service: str) -> Any:
        """A client of `service`, without retries: what the emulator answers is what is reported."""
        key = (account, region, service)
        with self.lock:
            if key not in self.clients:
                held = self.credentials(account)
                self.clients[key] = self.session.client(
                    service,
                    region_name=region,
                    endpoint_url=self.endpoint,
                    aws_access_key_id=held["access_key_id"],
                    aws_secret_access_key=held["secret_access_key"],
                    aws_session_token=held["session_token"],
                    config=Config(
                        retries={"total_max_attempts": 1},
                        user_agent_appid="observer",
                        s3={"addressing_style": "path"},
                    ),
                )
            return self.clients[key]

    def door(self, path: str, method: str = "GET", body: Any = None) -> bytes:
        """A request to one of the server's own doors (`calls.py`)."""
        request = Request(f"{self.endpoint}/moto-api/firebreak/{path}", data=body, method=method)
        with urlopen(request, timeout=30) as answer:
            return answer.read()


def endpoint() -> str:
    """Where the emulator listens, from the environment."""
    return os.environ["AWS_ENDPOINT_URL"].rstrip("/")
