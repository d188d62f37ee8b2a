"""Around moto: one request of an account at a time, a record of every call, and our doors.

The record lets a drill count AWS calls and see which of them were made one after another: where a pace is
set, calls are answered in rounds. Times are of the monotonic clock, in seconds, which processes of one
machine share on Linux.
"""

import json
import os
import threading
import time
from collections import defaultdict
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs

from moto.core.request import Request
from moto.core.routing import get_service_router
from moto.iam.models import get_account_id_from, iam_backends

from authorisation import Authoriser, Call
from authorisation.answers import answer
from extension.cloudtrail import put_events
from extension.ec2 import set_snapshot_state
from extension.guardduty import put_finding
from extension.iam import date_key, use_password
from extension.organizations import join_organization
from extension.sts import know_session

DOOR = "/moto-api/firebreak/"
REST_SERVICES = ("cloudfront", "guardduty", "s3", "securityhub")
OBSERVER = "app/observer"
# Longer values (a session policy, a table's item) would make the record large and say nothing here.
LONGEST = 200


class Pace:
    """Answers calls in rounds: each waits until no further one has come for a while and none is being
    answered. Calls that a client makes side by side are then one round, however slow the client is, and what
    it makes one after another never is.
    """

    def __init__(self, quiet: float):
        self.quiet = quiet
        self.condition = threading.Condition()
        self.round = 1
        self.answering = 0
        self.last = 0.0

    def enter(self) -> int:
        with self.condition:
            mine, self.last = self.round, time.monotonic()
            while self.round == mine:
                left = self.quiet if self.answering else self.last + self.quiet - time.monotonic()
                if left <= 0:
                    self.round += 1
                    self.condition.notify_all()
                else:
                    self.condition.wait(left)
            self.answering += 1
            return mine

    def leave(self) -> None:
        with self.condition:
            self.answering -= 1
            self.last = time.monotonic()


class Recorder:
    """A WSGI application that wraps moto's."""

    def __init__(self, app: Any):
        self.app = app
        self.calls: list = []
        self.cleared = 0
        self.lock = threading.Lock()
        # moto keeps no consistency between threads (its DynamoDB transactions are plain loops), and
        # Python runs one thread at a time anyway.
        self.account_locks: dict = defaultdict(threading.RLock)
        self.routers: dict = {}
        self.paces: dict = {}
        # What every call takes longer, in seconds, as the way to AWS would.
        self.delay = 0.0
        self.authoriser = Authoriser()
        # Calls of EC2 that a service control policy denies, `ec2:ModifyInstanceAttribute,…`: to rehearse what fails.
        self.denied = frozenset(filter(None, os.environ.get("FIREBREAK_EMULATOR_DENIES", "").split(",")))

    def __call__(self, environ: dict, start_response: Any) -> Any:
        started = time.monotonic()
        path = environ.get("PATH_INFO", "")
        if path.startswith(DOOR):
            return self.door(path[len(DOOR) :], environ, start_response)
        if path.startswith("/moto-api"):
            return self.app(environ, start_response)
        # A chunked body is left to moto: it has no length to read here.
        if environ.get("HTTP_TRANSFER_ENCODING", "").lower() != "chunked":
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = BytesIO(body)
        else:
            body = b""
        access_key, region, service = credential_scope(environ.get("HTTP_AUTHORIZATION", ""))
        account = get_account_id_from(access_key)
        operation = self.operation(service, environ, body)
        status: list = []

        def remember(line: str, headers: list, *rest: Any) -> Any:
            status.append(int(line.split(" ", 1)[0]))
            return start_response(line, headers, *rest)

        environ["wsgi.input"] = environ["wsgi.input"] if body == b"" else BytesIO(body)
        agent = environ.get("HTTP_USER_AGENT", "")
        # The observer is no part of what is measured.
        pace = None if OBSERVER in agent else self.paces.get(account)
        if self.delay and OBSERVER not in agent:
            # Each in its own thread, and before any lock: calls that are made side by side wait side by side.
            time.sleep(self.delay)
        turn = pace.enter() if pace else 0
        try:
            if f"{service}:{operation}" in self.denied and OBSERVER not in agent:
                return denial(operation, remember)
            with self.account_locks[account]:
                # The observer is who looks on, from outside.
                if OBSERVER not in agent:
                    call = Call(account, region, service, operation, access_key, path, body)
                    refusal = self.authoriser.refusal(call)
                    if refusal:
                        line, headers, text = answer(service, refusal)
                        remember(line, headers)
                        return [text.encode()]
                return self.app(environ, remember)
        finally:
            if pace:
                pace.leave()
            self.record(
                {
                    "start": started,
                    "end": time.monotonic(),
                    "account": account,
                    "region": region,
                    "service": service,
                    "operation": operation,
                    "access_key": access_key,
                    "role": role_of(account, access_key),
                    "agent": agent,
                    "about": about(service, environ, body),
                    "round": turn,
                    "status": status[0] if status else 500,
                }
            )

    def record(self, call: dict) -> None:
        with self.lock:
            self.calls.append({"index": self.cleared + len(self.calls), **call})

    def operation(self, service: str, environ: dict, body: bytes) -> str:
        target = environ.get("HTTP_X_AMZ_TARGET")
        if target:
            return target.rsplit(".", 1)[-1]
        if service in REST_SERVICES:
            try:
                if service not in self.routers:
                    self.routers[service] = get_service_router(service)
                found, _ = self.routers[service].match(Request(environ.copy()))
                return found.name
            except Exception:  # an unknown route is still a call
                return f"{environ.get('REQUEST_METHOD')} {environ.get('PATH_INFO')}"
            finally:
                environ["wsgi.input"] = BytesIO(body)
        if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
            return parse_qs(body.decode("utf-8", "replace")).get("Action", [""])[0]
        return f"{environ.get('REQUEST_METHOD')} {environ.get('PATH_INFO')}"

    def door(self, path: str, environ: dict, start_response: Any) -> Any:
        try:
            answer, status = self.open(path, environ), "200 OK"
        except (KeyError, ValueError) as error:
            answer, status = {"error": str(error)}, "400 Bad Request"
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]

    def open(self, path: str, environ: dict) -> Any:
        query = {name: values[-1] for name, values in parse_qs(environ.get("QUERY_STRING", "")).items()}
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if path == "calls" and environ["REQUEST_METHOD"] == "DELETE":
            with self.lock:
                after = self.cleared + len(self.calls)
                before = min(int(query.get("before", after)), after)
                self.calls = self.calls[max(before - self.cleared, 0) :]
                self.cleared = after - len(self.calls)
                return {"next": after}
        if path == "calls":
            with self.lock:
                calls, after = list(self.calls), self.cleared + len(self.calls)
            since = int(query.get("since", 0))
            calls = [
                call
                for call in calls
                if call["index"] >= since
                and all(query[k] in str(call[k]) for k in ("account", "access_key", "agent", "service") if k in query)
            ]
            return {"calls": calls, "next": after}
        if path == "pace":
            given = json.loads(body)
            pace = Pace(given["quiet"]) if given["quiet"] else None
            for account in given["accounts"]:
                self.paces[account] = pace
            return {}
        if path == "delay":
            self.delay = float(json.loads(body)["seconds"])
            return {}
        if path == "enforce":
            given = json.loads(body)
            return self.authoriser.enforce(given["accounts"], given["organization"])
        if path == "guardduty/findings":
            given = json.loads(body)
            with self.account_locks[given["account"]]:
                return put_finding(given["account"], given["region"], given["detail"])
        if path == "ec2/snapshots":
            given = json.loads(body)
            with self.account_locks[given["account"]]:
                return set_snapshot_state(**given)
        if path == "organizations/accounts":
            given = json.loads(body)
            with self.account_locks[given["management"]]:
                return join_organization(given["management"], given["account"])
        if path == "iam/keys":
            given = json.loads(body)
            with self.account_locks[given["account"]]:
                return date_key(**given)
        if path == "iam/passwords":
            given = json.loads(body)
            with self.account_locks[given["account"]]:
                return use_password(**given)
        if path == "sts/sessions":
            given = json.loads(body)
            with self.account_locks[given["account"]]:
                return know_session(**given)
        if path == "cloudtrail/events":
            given = json.loads(body)
            with self.account_locks[given["account"]]:
                return put_events(given["account"], given["region"], given["events"])
        raise ValueError(f"no such door: {path}")


def denial(operation: str, start_response: Any) -> list:
    """What EC2 answers where a policy denies.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
    """
    start_response("403 Forbidden", [("Content-Type", "text/xml;charset=UTF-8")])
    why = f"You are not authorized to perform {operation} with an explicit deny in a service control policy"
    error = f"<Error><Code>UnauthorizedOperation</Code><Message>{why}</Message></Error>"
    request = "<RequestID>00000000-0000-0000-0000-000000000000</RequestID>"
    return [f"<Response><Errors>{error}</Errors>{request}</Response>".encode()]


def role_of(account: str, access_key: str) -> str:
    """The ARN of the role whose session signed a call; empty where it is no role's."""
    for backend in iam_backends[account].values():
        key = backend.access_keys.get(access_key)
        if key is not None:
            return getattr(key, "role_arn", None) or ""
    return ""


def about(service: str, environ: dict, body: bytes) -> list:
    """What a call is about: the parameters of the query protocol, the keys of DynamoDB's items, else the path."""
    text = body.decode("utf-8", "replace")
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        given = [(name, values[0]) for name, values in parse_qs(text).items() if name not in ("Action", "Version")]
        return [f"{name}={value}" for name, value in given if len(value) <= LONGEST]
    if service == "dynamodb":
        try:
            return keys(json.loads(text))
        except ValueError:
            return []
    return [environ.get("PATH_INFO", "")]


def keys(value: Any) -> list:
    """Every `pk sk` or `id` in a request to DynamoDB, and the partition key that a query asks for."""
    found = []
    if isinstance(value, dict):
        parts = [value[name]["S"] for name in ("pk", "sk", ":pk", "id") if "S" in (value.get(name) or {})]
        if parts:
            found.append(" ".join(parts))
        for inner in value.values():
            found += keys(inner)
    elif isinstance(value, list):
        for inner in value:
            found += keys(inner)
    return found


def credential_scope(authorization: str) -> tuple:
    """Access key, Region and service of a Signature Version 4 header.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-authentication-methods.html
    """
    try:
        scope = authorization.split("Credential=", 1)[1].split(",")[0].split("/")
        return scope[0], scope[2], scope[3]
    except IndexError:
        return "", "", ""
