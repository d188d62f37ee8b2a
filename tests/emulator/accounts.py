"""Clients of boto3 for any account of the emulator, with credentials from its STS."""

import os
import threading
from typing import Any
from urllib.request import Request, urlopen

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import CredentialProvider, Credentials

ROLE = "arn:aws:iam::{account}:role/OrganizationAccountAccessRole"


class Acting(CredentialProvider):
    """Whoever makes the next call. A client takes longer to be made than what it is mostly asked for, so there is one
    of each service and Region, and every account acts through it in turn.
    """

    METHOD = "acting"

    def __init__(self) -> None:
        super().__init__()
        self.held = Credentials("", "", "")

    def load(self) -> Credentials:
        return self.held

    def become(self, held: dict) -> None:
        self.held.access_key = held["access_key_id"]
        self.held.secret_key = held["secret_access_key"]
        self.held.token = held["session_token"]


class Client:
    """A client of a service, in the name of one account."""

    def __init__(self, client: Any, acting: Acting, held: dict, lock: Any):
        self._client, self._acting, self._held, self._lock = client, acting, held, lock

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        def call(*given: Any, **arguments: Any) -> Any:
            with self._lock:
                self._acting.become(self._held)
                return found(*given, **arguments)

        return call


class Accounts:
    """Credentials and clients, each made once."""

    def __init__(self, endpoint: str):
        self.endpoint = endpoint
        self.session = boto3.Session()
        self.acting = Acting()
        of_accounts = botocore.session.get_session()
        of_accounts.get_component("credential_provider").insert_before("env", self.acting)
        self.of_accounts = boto3.Session(botocore_session=of_accounts)
        self.held: dict = {}
        self.clients: dict = {}
        self.lock = threading.RLock()

    def credentials(self, account: str, role: Any = None) -> dict:
        """Session credentials that act in `account`, of the organization's access role or of `role`."""
        arn = role or ROLE.format(account=account)
        with self.lock:
            if arn not in self.held:
                if "sts" not in self.clients:
                    self.clients["sts"] = self.session.client(
                        "sts",
                        region_name="us-east-1",
                        endpoint_url=self.endpoint,
                        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
                        aws_secret_access_key="observer",
                    )
                given = self.clients["sts"].assume_role(RoleArn=arn, RoleSessionName="observer")["Credentials"]
                self.held[arn] = {
                    "access_key_id": given["AccessKeyId"],
                    "secret_access_key": given["SecretAccessKey"],
                    "session_token": given["SessionToken"],
                }
            return self.held[arn]

    def client(self, account: str, region: str, service: str) -> Client:
        """A client of `service`, without retries: what the emulator answers is what is reported."""
        with self.lock:
            if (region, service) not in self.clients:
                self.clients[region, service] = self.of_accounts.client(
                    service,
                    region_name=region,
                    endpoint_url=self.endpoint,
                    config=Config(
                        retries={"total_max_attempts": 1},
                        # Whole: boto3's own is put together anew for each call, a tenth of what the call costs.
                        user_agent="app/observer",
                        s3={"addressing_style": "path"},
                        # What is wrong with a call, the emulator says.
                        parameter_validation=False,
                    ),
                )
            return Client(self.clients[region, service], self.acting, self.credentials(account), self.lock)

    def door(self, path: str, method: str = "GET", body: Any = None) -> bytes:
        """A request to one of the server's own doors (`calls.py`)."""
        request = Request(f"{self.endpoint}/moto-api/firebreak/{path}", data=body, method=method)
        with urlopen(request, timeout=30) as answer:
            return answer.read()


def endpoint() -> str:
    """Where the emulator listens, from the environment."""
    return os.environ["AWS_ENDPOINT_URL"].rstrip("/")
