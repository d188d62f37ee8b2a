"""Security Hub: the filters of GetFindings, a finding's id, which belongs to its product, and what a customer says of it.

Only filters on text are understood, with the comparison EQUALS; any other is refused here, so that a call that needs
one does not pass for answered.
"""

import json
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import botocore.session
from moto.securityhub import urls
from moto.securityhub.exceptions import InvalidInputException
from moto.securityhub.models import SecurityHubBackend
from moto.securityhub.responses import SecurityHubResponse

from .patch import add, override, page

_MODEL = botocore.session.get_session().get_service_model("securityhub")
_UPDATE = _MODEL.operation_model("BatchUpdateFindings").input_shape
# What only customers change.
_CUSTOMERS = ("Note", "UserDefinedFields", "VerificationState", "Workflow")
# The lowest normalized severity of each label.
_SEVERITIES = (("CRITICAL", 90), ("HIGH", 70), ("MEDIUM", 40), ("LOW", 1), ("INFORMATIONAL", 0))


def install() -> None:
    """A route of a call that moto lacks."""
    urls.url_paths["{0}/findings/batchupdate$"] = SecurityHubResponse.dispatch


def _matches(finding: dict, field: str, wanted: list) -> bool:
    """The values of one field are joined by OR.

    https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_StringFilter.html
    """
    for one in wanted:
        if not isinstance(one, dict) or one.get("Comparison") != "EQUALS":
            raise InvalidInputException(op="GetFindings", msg=f"the emulator has no such filter on {field}")
    return finding.get(field) in [one.get("Value") for one in wanted]


@override(SecurityHubBackend, "get_findings")
def _get_findings(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
    """The fields are joined by AND.

    https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_GetFindings.html
    """
    filters = kwargs.pop("filters", None) or {}
    if not filters:
        return original(self, *args, **kwargs)
    matches = [
        finding.as_dict()
        for finding in self.findings
        if all(_matches(finding.as_dict(), field, wanted) for field, wanted in filters.items())
    ]
    return page(matches, kwargs.get("max_results") or 100, kwargs.get("next_token"))


@override(SecurityHubBackend, "batch_import_findings")
def _batch_import_findings(original: Any, self: Any, findings: list) -> Any:
    """`Id` is the product's own: two products may use the same. Moto knows a finding by `Id` alone.

    https://docs.aws.amazon.com/securityhub/latest/userguide/asff-required-attributes.html#Id

    What customers say of a finding stays, but a control that fails again makes its finding `NEW`.

    https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_BatchImportFindings.html
    https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_Workflow.html
    """
    failed, done, problems = 0, 0, []
    for finding in findings:
        product = finding.get("ProductArn")
        same = [known for known in self.findings if known.as_dict().get("ProductArn") == product]
        of_product = SimpleNamespace(findings=list(same))
        known = _found(self, finding)
        if known is not None:
            finding = {name: value for name, value in finding.items() if name not in _CUSTOMERS}
            if _is_new_again(known, finding):
                finding["Workflow"] = {"Status": "NEW"}
        counts = original(of_product, [finding])
        self.findings.extend(known for known in of_product.findings if known not in same)
        failed, done, problems = failed + counts[0], done + counts[1], problems + counts[2]
    return failed, done, problems


def _found(backend: SecurityHubBackend, wanted: dict) -> Any:
    for finding in backend.findings:
        known = finding.as_dict()
        if (known.get("Id"), known.get("ProductArn")) == (wanted.get("Id"), wanted.get("ProductArn")):
            return known
    return None


def _is_new_again(before: dict, after: dict) -> bool:
    def passed(finding: dict) -> Any:
        return finding.get("Compliance", {}).get("Status") == "PASSED"

    active_again = (before.get("RecordState"), after.get("RecordState")) == ("ARCHIVED", "ACTIVE")
    fails_again = "Compliance" in after and passed(before) and not passed(after)
    return (active_again or fails_again) and before.get("Workflow", {}).get("Status") in ("NOTIFIED", "RESOLVED")


def _refuse(message: str) -> None:
    raise InvalidInputException(op="BatchUpdateFindings", msg=message)


def _check(value: Any, shape: Any, where: str) -> None:
    """Whether a value is of the model's shape, as far as the model says."""
    if shape.type_name == "structure":
        for name in shape.required_members:
            if name not in value:
                _refuse(f"{where}.{name} is missing")
        for name, inner in value.items():
            if name not in shape.members:
                _refuse(f"{where} has no {name}")
            _check(inner, shape.members[name], f"{where}.{name}")
    elif shape.type_name == "list":
        for inner in value:
            _check(inner, shape.member, where)
    elif shape.type_name == "map":
        for inner in value.values():
            _check(inner, shape.value, where)
    elif shape.type_name == "string" and shape.enum:
        if value not in shape.enum:
            _refuse(f"{where} is none of {', '.join(shape.enum)}")
    elif shape.type_name == "string":
        if not isinstance(value, str) or not value.strip():
            _refuse(f"{where} is empty")
    elif "min" in shape.metadata and not shape.metadata["min"] <= value <= shape.metadata["max"]:
        _refuse(f"{where} is not between {shape.metadata['min']} and {shape.metadata['max']}")


def _severity(given: dict) -> dict:
    """A label and a normalized severity follow from each other.

    https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_Severity.html
    """
    if "Label" in given:
        return {"Normalized": dict(_SEVERITIES)[given["Label"]], **given}
    if "Normalized" in given:
        return {"Label": next(label for label, least in _SEVERITIES if given["Normalized"] >= least), **given}
    return given


@add(SecurityHubResponse)
def batch_update_findings(self: SecurityHubResponse) -> str:
    """What customers say of up to 100 findings. `UpdatedAt` stays: it is the provider's.

    https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_BatchUpdateFindings.html
    https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_BatchUpdateFindingsUnprocessedFinding.html
    """
    given = json.loads(self.body)
    _check(given, _UPDATE, "the request")
    wanted = given.pop("FindingIdentifiers")
    if not 1 <= len(wanted) <= 100:
        _refuse("FindingIdentifiers has 1 to 100 entries")
    # Only the page of the note as it is shown says how long it may be:
    # https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_Note.html
    if len(given.get("Note", {}).get("Text", "")) > 512:
        _refuse("Note.Text has at most 512 characters")
    # https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_AwsSecurityFinding.html
    fields = given.get("UserDefinedFields", {})
    if len(fields) > 50 or any(len(name) > 128 or len(value) > 1024 for name, value in fields.items()):
        _refuse("UserDefinedFields has at most 50 entries, of 128 and 1024 characters")
    if "Note" in given:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        given["Note"] = {**given["Note"], "UpdatedAt": now}
    severity = _severity(given.pop("Severity", {}))
    processed, unprocessed = [], []
    for one in wanted:
        finding = _found(self.securityhub_backend, one)
        if wanted.count(one) > 1:
            why = ("DuplicatedFindingIdentifier", "Finding Identifier is duplicated")
        elif finding is None:
            why = ("FindingNotFound", "Finding Not Found")
        else:
            finding.update(json.loads(json.dumps(given)))
            if severity:
                finding["Severity"] = {**finding.get("Severity", {}), **severity}
            processed.append(one)
            continue
        unprocessed.append({"FindingIdentifier": one, "ErrorCode": why[0], "ErrorMessage": why[1]})
    return json.dumps({"ProcessedFindings": processed, "UnprocessedFindings": unprocessed})
