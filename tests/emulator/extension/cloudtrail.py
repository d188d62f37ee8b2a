"""CloudTrail: the event history, and a door through which an event comes to be in it.

Nothing that is done here is recorded by itself, as CloudTrail would within minutes: a test or a drill says what was done.
"""

import json
from datetime import datetime, timezone
from typing import Any

from moto.cloudtrail.models import cloudtrail_backends
from moto.cloudtrail.responses import CloudTrailResponse
from moto.core.exceptions import JsonRESTError
from moto.moto_api._internal import mock_random

from .patch import add, page

ATTRIBUTES = {
    "EventId": lambda event: event["eventID"],
    "EventName": lambda event: event["eventName"],
    "ReadOnly": lambda event: str(event.get("readOnly", False)).lower(),
    "Username": lambda event: event.get("userIdentity", {}).get("userName"),
    "EventSource": lambda event: event["eventSource"],
    "AccessKeyId": lambda event: event.get("userIdentity", {}).get("accessKeyId"),
}


class InvalidLookupAttributes(JsonRESTError):
    """https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_LookupEvents.html#API_LookupEvents_Errors"""

    code = 400

    def __init__(self) -> None:
        super().__init__("InvalidLookupAttributesException", "The lookup attributes are not valid.")


def install() -> None:
    """Everything below changes moto's classes when the module is loaded."""


def _history(account: str, region: str) -> list:
    backend = cloudtrail_backends[account][region]
    if not hasattr(backend, "history"):
        backend.history = []
    return backend.history


def put_events(account: str, region: str, events: list) -> dict:
    """The door: put records into the event history of this account and Region.

    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html
    """
    for event in events:
        missing = [name for name in ("eventName", "eventSource", "eventTime") if name not in event]
        if missing:
            raise ValueError(f"a record of CloudTrail without {missing}")
        whole = {
            "eventVersion": "1.11",
            "eventID": mock_random.uuid4().hex,
            "awsRegion": region,
            "recipientAccountId": account,
            "eventCategory": "Management",
            **event,
        }
        _history(account, region).append(whole)
    return {"events": len(events)}


def _seconds(event: dict) -> float:
    return datetime.fromisoformat(event["eventTime"].replace("Z", "+00:00")).timestamp()


def _at(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else datetime.fromisoformat(value).timestamp()


@add(CloudTrailResponse)
def lookup_events(self: CloudTrailResponse) -> str:
    """One attribute at most, events of 90 days, newest first, 50 a page.

    https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_LookupEvents.html
    """
    attributes = self._get_param("LookupAttributes") or []
    if len(attributes) > 1 or any(one["AttributeKey"] not in ATTRIBUTES for one in attributes):
        raise InvalidLookupAttributes()
    start, end = self._get_param("StartTime"), self._get_param("EndTime")
    oldest = datetime.now(timezone.utc).timestamp() - 90 * 24 * 3600
    since = max(_at(start) if start is not None else oldest, oldest)
    found = [
        event
        for event in _history(self.current_account, self.region)
        if _seconds(event) >= since
        and (end is None or _seconds(event) <= _at(end))
        and all(ATTRIBUTES[one["AttributeKey"]](event) == one["AttributeValue"] for one in attributes)
    ]
    found.sort(key=_seconds, reverse=True)
    items, token = page(found, self._get_param("MaxResults") or 50, self._get_param("NextToken"))
    shown = [
        {
            "EventId": event["eventID"],
            "EventName": event["eventName"],
            "ReadOnly": ATTRIBUTES["ReadOnly"](event),
            "AccessKeyId": ATTRIBUTES["AccessKeyId"](event),
            "EventTime": _seconds(event),
            "EventSource": event["eventSource"],
            "Username": ATTRIBUTES["Username"](event),
            "Resources": event.get("resources", []),
            "CloudTrailEvent": json.dumps(event),
        }
        for event in items
    ]
    answer = {"Events": [{name: value for name, value in one.items() if value is not None} for one in shown]}
    return json.dumps({**answer, "NextToken": token} if token else answer)
