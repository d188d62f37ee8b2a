"""Security Hub: the filters of GetFindings, and a finding's id, which belongs to its product.

Only filters on text are understood, with the comparison EQUALS; any other is refused here, so that a call that needs
one does not pass for answered.
"""

from types import SimpleNamespace
from typing import Any

from moto.securityhub.exceptions import InvalidInputException
from moto.securityhub.models import SecurityHubBackend

from .patch import override, page


def install() -> None:
    """Everything below changes moto's classes when the module is loaded."""


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
    """
    failed, done, problems = 0, 0, []
    for finding in findings:
        product = finding.get("ProductArn")
        same = [known for known in self.findings if known.as_dict().get("ProductArn") == product]
        of_product = SimpleNamespace(findings=list(same))
        counts = original(of_product, [finding])
        self.findings.extend(known for known in of_product.findings if known not in same)
        failed, done, problems = failed + counts[0], done + counts[1], problems + counts[2]
    return failed, done, problems
