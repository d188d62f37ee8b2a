"""STS: how long a session policy may be, and that it is one; when a session was issued."""

from typing import Any

from moto.core.utils import utcnow
from moto.iam.exceptions import MalformedPolicyDocument
from moto.iam.policy_validation import IAMPolicyDocumentValidator
from moto.sts.exceptions import STSClientError, STSValidationError
from moto.sts.models import AssumedRole
from moto.sts.responses import TokenResponse

from .patch import override

# https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html, `Policy`
MOST_POLICY_CHARACTERS = 2048


def install() -> None:
    """Everything below changes moto's classes when the module is loaded."""


@override(TokenResponse, "assume_role")
def _assume_role(original: Any, self: Any) -> Any:
    """The plain text of a session policy can't exceed 2,048 characters, and its grammar is that of any policy: a
    statement without an action or a resource makes it `MalformedPolicyDocument`.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
    """
    policy = self._get_param("Policy")
    if policy is not None and len(policy) > MOST_POLICY_CHARACTERS:
        raise STSValidationError(
            "1 validation error detected: Value at 'policy' failed to satisfy constraint: "
            f"Member must have length less than or equal to {MOST_POLICY_CHARACTERS}"
        )
    if policy is not None:
        try:
            IAMPolicyDocumentValidator(policy).validate()
        except MalformedPolicyDocument as malformed:
            raise STSClientError("MalformedPolicyDocument", malformed.message) from None
    return original(self)


@override(AssumedRole, "__init__")
def _session(original: Any, self: AssumedRole, *args: Any, **kwargs: Any) -> None:
    """A session knows when it was issued, which policies can ask for (`aws:TokenIssueTime`).

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html#condition-keys-tokenissuetime
    """
    original(self, *args, **kwargs)
    self.issued = utcnow()
