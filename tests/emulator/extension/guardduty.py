"""GuardDuty: findings, a door through which a finding comes to be in a detector, and member accounts."""

import json
from datetime import datetime, timezone
from typing import Any

import botocore.session
from moto.guardduty import urls
from moto.guardduty.exceptions import GuardDutyException
from moto.guardduty.models import Detector, guardduty_backends
from moto.guardduty.responses import GuardDutyResponse
from moto.moto_api._internal import mock_random

from .patch import add, page

_MODEL = botocore.session.get_session().get_service_model("guardduty")
_FINDING = _MODEL.shape_for("Finding")


class BadRequest(GuardDutyException):
    """https://docs.aws.amazon.com/guardduty/latest/APIReference/API_GetFindings.html#API_GetFindings_Errors"""

    code = 400

    def __init__(self, message: str):
        super().__init__("BadRequestException", message)

    def get_headers(self, *args: Any, **kwargs: Any) -> list:
        return [("X-Amzn-ErrorType", "BadRequestException")]


def install() -> None:
    """Routes of the calls that moto lacks."""
    findings = ("findings", "findings/get", "findings/archive", "findings/unarchive", "findings/create")
    for path in (*findings, "member", "member/get"):
        urls.url_paths[f"{{0}}/detector/(?P<detector_id>[^/]+)/{path}$"] = GuardDutyResponse.dispatch


def _detector(self: Any) -> Detector:
    return self.guardduty_backend.get_detector(self.path.split("/")[2])


def _findings(detector: Detector) -> dict:
    if not hasattr(detector, "findings"):
        detector.findings = {}
    return detector.findings


def _wire(value: Any, shape: Any) -> Any:
    """An event's detail in the form in which the API returns the finding: the members of the model, by
    their names on the wire, each of the model's type.

    https://docs.aws.amazon.com/guardduty/latest/APIReference/API_Finding.html
    """
    if value is None:
        return None
    if shape.type_name == "structure":
        if not isinstance(value, dict):
            return None
        given = {name[:1].lower() + name[1:]: inner for name, inner in value.items()}
        shown = {}
        for name, member in shape.members.items():
            wire_name = member.serialization.get("name", name)
            inner = _wire(given.get(wire_name[:1].lower() + wire_name[1:]), member)
            if inner is not None:
                shown[wire_name] = inner
        if shape.name == "ServiceAdditionalInfo" and "value" not in shown and value:
            shown = {"value": json.dumps(value, sort_keys=True), "type": "default"}
        return shown
    if shape.type_name == "list":
        return [_wire(item, shape.member) for item in value] if isinstance(value, list) else None
    if shape.type_name == "map":
        return value if isinstance(value, dict) else None
    if shape.type_name in ("double", "float"):
        return float(value)
    if shape.type_name in ("integer", "long"):
        return int(float(value))
    if shape.type_name == "boolean":
        return value if isinstance(value, bool) else str(value).lower() == "true"
    if shape.type_name == "timestamp":
        return value if isinstance(value, (int, float)) else datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
    return value if isinstance(value, str) else json.dumps(value)


def put_finding(account: str, region: str, detail: dict, create: bool = True) -> dict:
    """The door: put `detail` (an event's detail) into the detector of this account and Region.

    An administrator's detector also holds the findings of its member accounts:
    https://docs.aws.amazon.com/guardduty/latest/ug/guardduty_accounts.html
    """
    backend = guardduty_backends[account][region]
    if not backend.detectors and create:
        backend.create_detector(True, "FIFTEEN_MINUTES", {}, {}, [])
    detector = next(iter(backend.detectors.values()))
    finding = _wire(detail, _FINDING)
    finding.setdefault("service", {}).setdefault("archived", False)
    finding["service"]["detectorId"] = finding["service"].get("detectorId") or detector.id
    _findings(detector)[finding["id"]] = finding
    return {"detectorId": detector.id, "findingId": finding["id"]}


def _at(finding: dict, path: str) -> Any:
    value: Any = finding
    for name in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _matches(finding: dict, criteria: dict) -> bool:
    """https://docs.aws.amazon.com/guardduty/latest/APIReference/API_FindingCriteria.html"""
    for path, condition in (criteria.get("criterion") or {}).items():
        value = _at(finding, path)
        text = str(value).lower() if isinstance(value, bool) else str(value)
        for name, wanted in condition.items():
            name = name[:1].lower() + name[1:]
            if name in ("eq", "equals") and text not in wanted:
                return False
            if name in ("neq", "notEquals") and text in wanted:
                return False
            if name in ("gt", "greaterThan") and not (value is not None and float(value) > float(wanted)):
                return False
            if name in ("gte", "greaterThanOrEqual") and not (value is not None and float(value) >= float(wanted)):
                return False
            if name in ("lt", "lessThan") and not (value is not None and float(value) < float(wanted)):
                return False
            if name in ("lte", "lessThanOrEqual") and not (value is not None and float(value) <= float(wanted)):
                return False
    return True


@add(GuardDutyResponse)
def list_findings(self: Any) -> str:
    """https://docs.aws.amazon.com/guardduty/latest/APIReference/API_ListFindings.html"""
    criteria = self._get_param("findingCriteria") or {}
    ids = [i for i, finding in _findings(_detector(self)).items() if _matches(finding, criteria)]
    items, token = page(ids, self._get_param("maxResults") or 50, self._get_param("nextToken"))
    return json.dumps({"findingIds": items, "nextToken": token or ""})


@add(GuardDutyResponse)
def get_findings(self: Any) -> str:
    """Ids that the detector does not hold are left out of the answer.

    https://docs.aws.amazon.com/guardduty/latest/APIReference/API_GetFindings.html
    """
    ids = self._get_param("findingIds") or []
    if not ids or len(ids) > 50:
        raise BadRequest("The request is rejected because the parameter findingIds has an invalid value.")
    held = _findings(_detector(self))
    return json.dumps({"findings": [held[i] for i in ids if i in held]})


def _archive(self: Any, archived: bool) -> str:
    held = _findings(_detector(self))
    for finding_id in self._get_param("findingIds") or []:
        if finding_id in held:
            held[finding_id]["service"]["archived"] = archived
    return "{}"


@add(GuardDutyResponse)
def archive_findings(self: Any) -> str:
    """https://docs.aws.amazon.com/guardduty/latest/APIReference/API_ArchiveFindings.html"""
    return _archive(self, True)


@add(GuardDutyResponse)
def unarchive_findings(self: Any) -> str:
    """https://docs.aws.amazon.com/guardduty/latest/APIReference/API_UnarchiveFindings.html"""
    return _archive(self, False)


@add(GuardDutyResponse)
def create_sample_findings(self: Any) -> str:
    """https://docs.aws.amazon.com/guardduty/latest/APIReference/API_CreateSampleFindings.html"""
    detector = _detector(self)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    for finding_type in self._get_param("findingTypes") or ["Backdoor:EC2/C&CActivity.B"]:
        finding_id = mock_random.get_random_hex(32)
        put_finding(
            self.current_account,
            self.region,
            {
                "schemaVersion": "2.0",
                "accountId": self.current_account,
                "region": self.region,
                "partition": self.partition,
                "id": finding_id,
                "arn": f"arn:{self.partition}:guardduty:{self.region}:{self.current_account}:"
                f"detector/{detector.id}/finding/{finding_id}",
                "type": finding_type,
                "severity": 8.0,
                "title": "[SAMPLE] " + finding_type,
                "description": "This is a sample finding.",
                "createdAt": now,
                "updatedAt": now,
                "resource": {"resourceType": "Instance", "instanceDetails": {"instanceId": "i-99999999"}},
                "service": {
                    "serviceName": "guardduty",
                    "detectorId": detector.id,
                    "count": 1,
                    "archived": False,
                    "eventFirstSeen": now,
                    "eventLastSeen": now,
                    "additionalInfo": {"sample": True},
                },
            },
        )
    return "{}"


def _members(detector: Detector) -> dict:
    if not hasattr(detector, "members"):
        detector.members = {}
    return detector.members


def _is_delegated_administrator(account: str, region: str) -> bool:
    """Named by the organization's management account, which is another one.

    https://docs.aws.amazon.com/guardduty/latest/APIReference/API_EnableOrganizationAdminAccount.html
    """
    backends = [of_account[region] for of_account in list(guardduty_backends.values()) if region in of_account]
    return any(account in backend.admin_account_ids for backend in backends)


@add(GuardDutyResponse)
def create_members(self: Any) -> str:
    """An organization's delegated administrator enables the accounts by this call; anybody else must still invite them.

    https://docs.aws.amazon.com/guardduty/latest/APIReference/API_CreateMembers.html
    """
    status = "Enabled" if _is_delegated_administrator(self.current_account, self.region) else "Created"
    held, now = _members(_detector(self)), datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    for details in self._get_param("accountDetails") or []:
        held[details["accountId"]] = {
            "accountId": details["accountId"],
            "masterId": self.current_account,
            "administratorId": self.current_account,
            "email": details["email"],
            "relationshipStatus": status,
            "updatedAt": now,
        }
    return json.dumps({"unprocessedAccounts": []})


@add(GuardDutyResponse)
def get_members(self: Any) -> str:
    """https://docs.aws.amazon.com/guardduty/latest/APIReference/API_GetMembers.html"""
    ids = self._get_param("accountIds") or []
    if not ids or len(ids) > 50:
        raise BadRequest("The request is rejected because the parameter accountIds has an invalid value.")
    held = _members(_detector(self))
    unknown = [{"accountId": i, "result": "The account is not a member of this account."} for i in ids if i not in held]
    return json.dumps({"members": [held[i] for i in ids if i in held], "unprocessedAccounts": unknown})
