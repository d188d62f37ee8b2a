"""The two emulators side by side: ministack for what runs functions and evaluates IAM, moto for what it lacks."""

import json
import os
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

REGION = "us-east-1"
# The security account, and one whose roles are as right as the hub's but in another organization.
HUB = "111111111111"
STRANGER = "999999999999"


class Emulators:
    """ministack, started here; moto's server, whose endpoint is in the environment."""

    def __init__(self, settings: dict):
        self.settings = settings
        self.moto = os.environ["AWS_ENDPOINT_URL"].rstrip("/")
        self.secret = secrets.token_hex(20)
        # What it unpacks of the functions is large, and of no use to anybody afterwards.
        self.directory = directory = Path(settings["state"]) / "ministack"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self.log = Path(settings["state"]) / "ministack.log"
        environment = {
            **self.plain(),
            "FIREBREAK_MOTO": self.moto,
            "MINISTACK_ACCOUNT_ID": HUB,
            "MINISTACK_REGION": REGION,
            "AWS_ACCESS_KEY_ID": HUB,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            # Two more attempts follow at once, not after minutes.
            "LAMBDA_ASYNC_RETRY_BASE_SECONDS": "0.1",
        }
        with open(self.log, "w") as log:
            self.server = subprocess.Popen(
                [settings["ministack"], str(Path(__file__).with_name("server.py")), str(directory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                text=True,
            )
        line = self.server.stdout.readline()
        if not line:
            raise RuntimeError("ministack did not start; it wrote: " + self.log.read_text()[-2000:])
        ready = json.loads(line)
        self.endpoint = f"https://127.0.0.1:{ready['port']}"
        self.certificate = ready["certificate"]
        # Where the one function URL is answered.
        self.door = f"https://127.0.0.1:{ready['door']}/"

    def close(self) -> None:
        self.server.stdin.close()
        self.server.wait(timeout=30)
        shutil.rmtree(self.directory, ignore_errors=True)

    @staticmethod
    def plain() -> dict:
        """An environment that leads nowhere."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ}
        return {
            **kept,
            "PYTHONDONTWRITEBYTECODE": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def environment(self, key: str, secret: str, token: str = "") -> dict:
        """For a process that acts with these credentials at ministack, and at moto for what functions go there for."""
        from server import OF_MOTO

        environment = {
            **self.plain(),
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_CA_BUNDLE": self.certificate,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            **{f"AWS_ENDPOINT_URL_{service}": self.moto for service in OF_MOTO},
        }
        return {**environment, "AWS_SESSION_TOKEN": token} if token else environment

    def root(self, account: str, service: str) -> Any:
        """A client of ministack as the root user of an account."""
        return self.client(service, account, self.secret)

    def client(self, service: str, key: str, secret: str, token: Any = None) -> Any:
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint,
            verify=self.certificate,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token,
            # What is answered is what is reported.
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, read_timeout=120),
        )
