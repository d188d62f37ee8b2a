"""What ministack leaves out or gets wrong around IAM, each addition as the AWS page describes it that it names.

Nothing is allowed here that a policy does not allow: a condition key that has no value makes its condition false, so
without these every statement that asks for one of them allows nothing.
"""

import importlib
import json
from typing import Any, Callable

from ministack.core import iam_actions, iam_evaluator
from ministack.core.iam_evaluator import EvalContext
from ministack.core.router import extract_access_key_id
from ministack.services import lambda_svc


def install() -> None:
    """Everything below changes ministack's modules when this one is loaded."""


def override(module: Any, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Replace the function `name`; the new one receives the original as its first argument."""
    original = getattr(module, name)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def replaced(*given: Any, **named: Any) -> Any:
            return function(original, *given, **named)

        replaced.__name__ = name
        replaced.__doc__ = function.__doc__
        setattr(module, name, replaced)
        return function

    return decorate


def role_arn(session_arn: str) -> str:
    """The role's ARN, with its path, of `arn:aws:sts::ACCOUNT:assumed-role/NAME/SESSION`; any other ARN as it is."""
    if ":assumed-role/" not in session_arn:
        return session_arn
    account, name = session_arn.split(":")[4], session_arn.split("/")[1]
    iam = importlib.import_module("ministack.services.iam")
    return (iam._roles.get_scoped(account, None, name) or {}).get("Arn", session_arn)


@override(iam_evaluator, "_principal_org_id")
def _organization_of(original: Any, account: str) -> Any:
    """An account that an organization made is in that organization.

    https://docs.aws.amazon.com/organizations/latest/APIReference/API_CreateAccount.html
    """
    organizations = importlib.import_module("ministack.services.organizations")
    for (management, member) in organizations._accounts.to_dict():
        if member == account:
            return original(management)
    return original(account)


@override(iam_evaluator, "_resolve_condition_key")
def _condition_key(original: Any, key: str, context: EvalContext) -> Any:
    """`aws:PrincipalArn` of a role's session is the role's ARN, not the session's; `aws:ResourceOrgID` is the
    organization of the account that the resource is in.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
    """
    if key.lower() == "aws:principalarn":
        return role_arn(context.principal_arn)
    if key.lower() == "aws:resourceorgid":
        account = iam_evaluator._account_from_arn(context.resource_arn) or context.principal_account
        return iam_evaluator._principal_org_id(account)
    return original(key, context)


@override(iam_actions, "request_tag_context")
def _context(original: Any, service: str, action: str, body: bytes, params: dict) -> dict:
    """`events:source` and `events:detail-type` of what `PutEvents` is to put.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-conditions.html
    """
    context = original(service, action, body, params)
    if action != "events:PutEvents":
        return context
    try:
        entries = json.loads(body)["Entries"]
        sources, kinds = ({str(entry[name]) for entry in entries} for name in ("Source", "DetailType"))
    except (KeyError, TypeError, ValueError):
        return context
    # One value of each, which is what an operator without ForAllValues compares.
    if len(sources) == 1 and len(kinds) == 1:
        context = {**context, "events:source": sources.pop(), "events:detail-type": kinds.pop()}
    return context


@override(iam_actions, "extract_resource_arn")
def _resource(original: Any, service: str, method: str, path: str, headers: dict, body: bytes, *rest: Any) -> str:
    """The resource of `DescribeEventBus` is the bus, not a rule of that name.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazoneventbridge.html
    """
    resource = original(service, method, path, headers, body, *rest)
    if service == "events" and headers.get("x-amz-target", "").endswith(".DescribeEventBus"):
        return resource.replace(":rule/default/", ":event-bus/")
    return resource


@override(lambda_svc, "_build_function_url_event")
def _event_of_url(original: Any, *given: Any, **named: Any) -> dict:
    """A request that IAM has authenticated says whose it is.

    https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html (`requestContext.authentication`, `authorizer`)
    """
    event = original(*given, **named)
    context, headers = event["requestContext"], given[5]
    caller = iam_evaluator.resolve_caller_identity(extract_access_key_id(headers, {}))
    if context["accountId"] != "anonymous" and caller is not None:
        who = {name: caller[name] for name in ("accessKey", "accountId", "principalOrgId", "userArn", "userId")}
        iam = {**who, "callerId": caller["userId"], "cognitoIdentity": None}
        context.update({"authentication": None, "authorizer": {"iam": iam}})
    return event
