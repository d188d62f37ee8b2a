"""What AWS answers to a request that is refused, in the protocol of each service.

https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
"""

import json
from xml.sax.saxutils import escape

from . import Refusal

REQUEST_ID = "00000000-0000-0000-0000-000000000000"
# Their JSON comes by HTTP's own methods and paths, and its error by a header.
REST_JSON = ("guardduty", "securityhub")
# The others speak JSON by `X-Amz-Target`.
XML = ("autoscaling", "elasticloadbalancing", "iam", "rds", "sns", "sts")
# https://docs.aws.amazon.com/sns/latest/api/API_Publish.html#API_Publish_Errors
CODES = {"sns": "AuthorizationError"}


def message(refusal: Refusal) -> str:
    """`User: … is not authorized to perform: … on resource: … because …`; no resource where the action has none."""
    on = "" if refusal.resource == "*" else f" on resource: {refusal.resource}"
    return f"User: {refusal.principal} is not authorized to perform: {refusal.action}{on} {refusal.why}"


def answer(service: str, refusal: Refusal) -> tuple:
    """Status, headers and body."""
    said = message(refusal)
    if service == "ec2":
        # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
        said = f"You are not authorized to perform this operation. {said}. Encoded authorization failure message: -"
        error = f"<Error><Code>UnauthorizedOperation</Code><Message>{escape(said)}</Message></Error>"
        body = f"<Response><Errors>{error}</Errors><RequestID>{REQUEST_ID}</RequestID></Response>"
        return "403 Forbidden", [("Content-Type", "text/xml;charset=UTF-8")], body
    if service == "s3":
        # https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#RESTErrorResponses
        body = f"<Error><Code>AccessDenied</Code><Message>{escape(said)}</Message><RequestId>{REQUEST_ID}</RequestId></Error>"
        return "403 Forbidden", [("Content-Type", "application/xml")], body
    if service in XML or service == "cloudfront":
        code = CODES.get(service, "AccessDenied")
        error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(said)}</Message></Error>"
        body = f"<ErrorResponse>{error}<RequestId>{REQUEST_ID}</RequestId></ErrorResponse>"
        return "403 Forbidden", [("Content-Type", "text/xml")], body
    body = json.dumps({"__type": "AccessDeniedException", "message": said, "Message": said})
    if service in REST_JSON:
        headers = [("Content-Type", "application/json"), ("x-amzn-ErrorType", "AccessDeniedException")]
        return "403 Forbidden", headers, body
    return "400 Bad Request", [("Content-Type", "application/x-amz-json-1.1")], body
