"""The independent observer: seeds worlds and reads AWS back, by boto3.

Reads one JSON command a line from standard input and answers each with one JSON line:
{"ok": …} or {"error": {"code": …, "message": …}}. README.md lists the commands. It shares no code with
Firebreak and speaks to the emulator only over AWS's own protocols and the server's doors.
"""

import base64
import gc
import json
import sys
from datetime import date, datetime, timezone
from typing import Any
from urllib.parse import urlencode

from botocore.exceptions import ClientError

import headers
from accounts import Accounts, endpoint
from state import state
from template import Stack, parsed
from world import seed


def plain(value: Any) -> Any:
    """What JSON has no form for."""
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return base64.b64encode(value).decode("ascii")
    if hasattr(value, "read"):
        return plain(value.read())
    return str(value)


class Observer:
    def __init__(self) -> None:
        self.accounts = Accounts(endpoint())

    def answer(self, command: dict) -> Any:
        do = command.pop("do")
        method = getattr(self, "do_" + do, None)
        if method is None:
            raise ValueError(f"no such command: {do}")
        return method(**command)

    def do_call(self, account: str, region: str, service: str, operation: str, params: Any = None) -> Any:
        answer = getattr(self.accounts.client(account, region, service), operation)(**(params or {}))
        if isinstance(answer, dict):
            answer.pop("ResponseMetadata", None)
        return answer

    def do_seed(self, world: dict, account: str, region: str) -> Any:
        return seed(self.accounts, account, region, world)

    def do_state(self, account: str, region: str) -> Any:
        return state(self.accounts, account, region)

    def do_hub(
        self,
        account: str,
        region: str,
        template: str,
        parameters: Any = None,
        stack: str = "firebreak",
        without: Any = (),
    ) -> Any:
        return Stack(self.accounts, account, region, template, parameters or {}, stack, without).make()

    def do_member(
        self,
        account: str,
        template: str,
        parameters: Any = None,
        region: str = "us-east-1",
        stack: str = "firebreak-member",
        without: Any = (),
    ) -> Any:
        return Stack(self.accounts, account, region, template, parameters or {}, stack, without).make()

    def do_template(self, template: str) -> Any:
        return parsed(template)

    def do_time_passes(self, account: str, region: str, table: str, function: Any = None) -> Any:
        """Everything that waits in a ledger is due, in its order, and every lease of it has ended."""
        dynamodb = self.accounts.client(account, region, "dynamodb")
        if function is None:
            rows = dynamodb.scan(TableName=table, ConsistentRead=True)["Items"]
            rows = sorted((r for r in rows if r["pk"]["S"].startswith("DUE#")), key=lambda row: row["sk"]["S"])
        else:
            rows = dynamodb.query(
                TableName=table,
                ConsistentRead=True,
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues={":pk": {"S": f"DUE#{function}"}},
            )["Items"]
        for place, row in enumerate(rows):
            old, rest = row["sk"]["S"], row["sk"]["S"].split("#", 1)[1]
            new = f"{place:015}#{rest}"
            if old != new:
                dynamodb.put_item(TableName=table, Item={**row, "sk": {"S": new}})
                dynamodb.delete_item(TableName=table, Key={"pk": row["pk"], "sk": {"S": old}})
        for run in sorted({row["run"]["S"] for row in rows}):
            dynamodb.update_item(
                TableName=table,
                Key={"pk": {"S": f"RUN#{run}"}, "sk": {"S": "RUN"}},
                ConditionExpression="attribute_exists(pk)",
                UpdateExpression="SET lease_until = :past",
                ExpressionAttributeValues={":past": {"N": "0"}},
            )
        return {"due": [row["sk"]["S"] for row in rows]}

    def do_finding(self, hub_account: str, region: str, detail: dict) -> Any:
        body = json.dumps({"account": hub_account, "region": region, "detail": detail}).encode()
        return json.loads(self.accounts.door("guardduty/findings", "POST", body))

    def do_control(self, hub_account: str, region: str, finding: dict) -> Any:
        """Puts a finding into the hub's Security Hub, as Security Hub itself does; in the place of what is there.

        The workflow status of one that is there is a customer's to change.
        """
        hub = self.accounts.client(hub_account, region, "securityhub")
        answer = hub.batch_import_findings(Findings=[finding])
        if answer["FailedCount"]:
            raise ValueError(json.dumps(answer["FailedFindings"]))
        if finding.get("Workflow"):
            this = {"Id": finding["Id"], "ProductArn": finding["ProductArn"]}
            hub.batch_update_findings(FindingIdentifiers=[this], Workflow=finding["Workflow"])
        return {}

    def do_enforce(self, **given: Any) -> Any:
        return json.loads(self.accounts.door("enforce", "POST", json.dumps(given).encode()))

    def do_snapshot(self, **given: str) -> Any:
        return json.loads(self.accounts.door("ec2/snapshots", "POST", json.dumps(given).encode()))

    def do_organization(self, management: str, administrator: str, accounts: dict) -> Any:
        """Makes an organization: each account in the unit of a path of names, one account a delegated administrator."""
        organizations = self.accounts.client(management, "us-east-1", "organizations")
        organizations.create_organization()
        root = organizations.list_roots()["Roots"][0]["Id"]
        units = {"": root}
        for account, path in {administrator: "", **accounts}.items():
            body = json.dumps({"management": management, "account": account}).encode()
            parent = json.loads(self.accounts.door("organizations/accounts", "POST", body))["parent"]
            at = ""
            for name in filter(None, path.split("/")):
                above, at = at, f"{at}/{name}".strip("/")
                if at not in units:
                    made = organizations.create_organizational_unit(ParentId=units[above], Name=name)
                    units[at] = made["OrganizationalUnit"]["Id"]
            if units[at] != parent:
                organizations.move_account(AccountId=account, SourceParentId=parent, DestinationParentId=units[at])
        organizations.register_delegated_administrator(
            AccountId=administrator, ServicePrincipal="guardduty.amazonaws.com"
        )
        return {"units": units}

    def do_trail(self, account: str, region: str, events: list) -> Any:
        body = json.dumps({"account": account, "region": region, "events": events}).encode()
        return json.loads(self.accounts.door("cloudtrail/events", "POST", body))

    def do_event(self, account: str, region: str, entry: dict) -> Any:
        entry = {
            name: json.dumps(value) if name == "Detail" and not isinstance(value, str) else value
            for name, value in entry.items()
        }
        answer = self.accounts.client(account, region, "events").put_events(Entries=[entry])
        if answer.get("FailedEntryCount"):
            failed = answer["Entries"][0]
            raise ValueError(f"{failed.get('ErrorCode')}: {failed.get('ErrorMessage')}")
        return {"event_id": answer["Entries"][0]["EventId"]}

    def do_receive(self, account: str, region: str, queue_url: str, most: int = 100) -> Any:
        sqs = self.accounts.client(account, region, "sqs")
        bodies: list = []
        while len(bodies) < most:
            answer = sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=min(10, most - len(bodies)))
            messages = answer.get("Messages", [])
            if not messages:
                break
            for message in messages:
                bodies.append(message["Body"])
                sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
        return {"bodies": bodies}

    def do_credentials(self, account: str, role: Any = None) -> Any:
        return self.accounts.credentials(account, role)

    def do_calls(self, since: int = 0, **filters: str) -> Any:
        return json.loads(self.accounts.door("calls?" + urlencode({"since": since, **filters})))

    def do_delay(self, seconds: float) -> Any:
        return json.loads(self.accounts.door("delay", "POST", json.dumps({"seconds": seconds}).encode()))

    def do_pace(self, accounts: list, quiet: float) -> Any:
        body = json.dumps({"accounts": accounts, "quiet": quiet}).encode()
        return json.loads(self.accounts.door("pace", "POST", body))

    def do_clear_calls(self, before: Any = None) -> Any:
        path = "calls" if before is None else f"calls?before={before}"
        return json.loads(self.accounts.door(path, "DELETE"))


def main() -> None:
    observer = Observer()
    headers.install()
    # Little of what it makes is a cycle, and it ends with the tests.
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    for line in sys.stdin:
        try:
            answer: Any = {"ok": observer.answer(json.loads(line))}
        except ClientError as error:
            answer = {"error": {"code": error.response["Error"]["Code"], "message": error.response["Error"]["Message"]}}
        except Exception as error:  # one bad command must not end the others
            answer = {"error": {"code": type(error).__name__, "message": str(error)}}
        sys.stdout.write(json.dumps(answer, default=plain) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
