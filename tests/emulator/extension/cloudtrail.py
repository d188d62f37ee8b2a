"""CloudTrail: trails by ARN and at home, the event history, and a door through which an event comes to be in it.

Nothing that is done here is recorded by itself, as CloudTrail would within minutes: a test or a drill says what was done.
"""

import json
from datetime import datetime, timezone
from typing import Any

from moto.cloudtrail.exceptions import TrailNotFoundException
from moto.cloudtrail.models import CloudTrailBackend, Trail, cloudtrail_backends
from moto.cloudtrail.responses import CloudTrailResponse
from moto.core.exceptions import JsonRESTError
from moto.moto_api._internal import mock_random

from .patch import add, override, page

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


class InvalidHomeRegion(JsonRESTError):
    """https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_StopLogging.html#API_StopLogging_Errors"""

    code = 400

    def __init__(self, home: str) -> None:
        super().__init__("InvalidHomeRegionException", f"The home Region of the trail is {home}.")


class ResourceNotFound(JsonRESTError):
    """https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_ListTags.html#API_ListTags_Errors"""

    code = 400

    def __init__(self, arn: str) -> None:
        super().__init__("ResourceNotFoundException", f"Resource not found: {arn}")


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


# --- Trails --------------------------------------------------------------------------


@override(Trail, "description")
def _description(original: Any, self: Trail, include_region: bool = False) -> dict:
    """What a trail has no value for is left out. moto gives null.

    https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_DescribeTrails.html#API_DescribeTrails_ResponseElements
    """
    return {name: value for name, value in original(self, include_region).items() if value is not None}


@override(CloudTrailResponse, "describe_trails")
def _describe_trails(original: Any, self: CloudTrailResponse) -> str:
    """`trailNameList`: a name is of this Region's trails, an ARN of any. What is not there is no error.

    https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_DescribeTrails.html
    moto shows every trail, whatever the list says.
    """
    shown, names = json.loads(original(self))["trailList"], self._get_param("trailNameList")
    if names:
        shown = [
            t for t in shown if t["TrailARN"] in names or (t["HomeRegion"] == self.region and t["Name"] in names)
        ]
    return json.dumps({"trailList": shown})


@override(CloudTrailBackend, "get_trail_status")
def _get_trail_status(original: Any, self: CloudTrailBackend, name: str) -> Any:
    """A trail of another Region is found by its ARN only. moto finds it by its name too.

    https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_GetTrailStatus.html
    """
    trails = {trail.arn: trail for trail in self.describe_trails(include_shadow_trails=True)}
    return trails[name].status if name in trails else self.get_trail(name).status


def _at_home(self: CloudTrailResponse) -> Trail:
    """The trail that a call changes, which it can do in the trail's home Region only.

    https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_UpdateTrail.html
    """
    name = self._get_param("Name")
    for trail in self.cloudtrail_backend.describe_trails(include_shadow_trails=True):
        if trail.arn == name and trail.region_name != self.region:
            raise InvalidHomeRegion(trail.region_name)
    return self.cloudtrail_backend.get_trail(name)


for _method in ("start_logging", "stop_logging", "update_trail"):

    @override(CloudTrailResponse, _method)
    def _change(original: Any, self: CloudTrailResponse) -> str:
        _at_home(self)
        return original(self)


@override(CloudTrailResponse, "delete_trail")
def _delete_trail(original: Any, self: CloudTrailResponse) -> str:
    """By name or ARN; its tags go with it. moto knows no ARN here, keeps the tags, and takes any name.

    https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_DeleteTrail.html
    """
    trail, backend = _at_home(self), self.cloudtrail_backend
    backend.delete_trail(trail.trail_name)
    backend.tagging_service.delete_all_tags_for_resource(trail.arn)
    return "{}"


@override(CloudTrailResponse, "list_tags")
def _list_tags(original: Any, self: CloudTrailResponse) -> str:
    """A trail that is not of this Region is not found. moto has no tags for it.

    https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_ListTags.html
    """
    for arn in self._get_param("ResourceIdList") or []:
        try:
            self.cloudtrail_backend.get_trail(arn)
        except TrailNotFoundException:
            raise ResourceNotFound(arn) from None
    return original(self)
