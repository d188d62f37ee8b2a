"""STS: how long a session policy may be."""

from typing import Any

from moto.sts.exceptions import STSValidationError
from moto.sts.responses import TokenResponse

from .patch import override

# https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html, `Policy`
MOST_POLICY_CHARACTERS = 2048


def install() -> None:
    """Everything below changes moto's classes when the module is loaded."""


@override(TokenResponse, "assume_role")
def _assume_role(original: Any, self: Any) -> Any:
    """The plain text of a session policy can't exceed 2,048 characters.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
    """
    policy = self._get_param("Policy")
    if policy is not None and len(policy) > MOST_POLICY_CHARACTERS:
        raise STSValidationError(
            "1 validation error detected: Value at 'policy' failed to satisfy constraint: "
            f"Member must have length less than or equal to {MOST_POLICY_CHARACTERS}"
        )
    return original(self)
