"""S3: bucket policies."""

import json
from typing import Any

from moto.s3.models import FakeBucket

from .patch import override


def install() -> None:
    """Everything below changes moto's classes when the module is loaded."""


def _only_without_tls(statement: dict) -> bool:
    return statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}


@override(FakeBucket, "get_permission")
def _get_permission(original: Any, self: FakeBucket, action: str, resource: str) -> Any:
    """A statement about requests without TLS concerns none of those here: loopback stands for AWS's HTTPS.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/amazon-s3-policy-keys.html
    moto denies where a condition does not hold, whatever the statement's effect.
    """
    kept = self.policy
    if kept is None:
        return original(self, action, resource)
    policy = json.loads(kept.decode())
    policy["Statement"] = [one for one in policy["Statement"] if not _only_without_tls(one)]
    self.policy = json.dumps(policy).encode() if policy["Statement"] else None
    try:
        return original(self, action, resource)
    finally:
        self.policy = kept
