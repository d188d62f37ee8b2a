"""STS: how long a session policy may be, and that it is one; when a session was issued; and a door for sessions that
another STS has given.
"""

from typing import Any

from moto.core.utils import utcnow
from moto.iam.exceptions import MalformedPolicyDocument
from moto.iam.models import iam_backends
from moto.iam.policy_validation import IAMPolicyDocumentValidator
from moto.sts.exceptions import STSClientError, STSValidationError
from moto.sts.models import AssumedRole, sts_backends
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


def know_session(account: str, access_key: str, role: str, session: str, policy: str) -> dict:
    """The door: a session of `role` in `account`, given by the STS of another emulator with a session policy or an empty
    one. Its calls are of that account, and authorisation knows it.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
    """
    backend = iam_backends[account]["aws"]
    if access_key not in backend.access_keys:
        key = backend.create_temp_access_key()
        del backend.access_keys[key.access_key_id]
        key.access_key_id, key.role_arn = access_key, role
        backend.access_keys[access_key] = key
        known = AssumedRole(account, "us-east-1", key, session, role, policy, 3600, "")
        sts_backends[account]["aws"].assumed_roles.append(known)
    return {}
