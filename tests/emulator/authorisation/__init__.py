"""Authorisation: a session of a role may do what its policies say, and no more.

moto lets anybody do anything. Here every request of an account for which this is on (it is off by default) is put to
the policies of its principal before moto sees it, and so is every `AssumeRole` of a role of such an account to the
role's trust policy. The decision is ministack's evaluator's (`ministack.core.iam_evaluator`), used as a library; what a
request asks for is the table in `asks.py`, and what is answered to a refusal is in `answers.py`.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

import functools
from typing import Any, NamedTuple, Optional

from ministack.core.iam_evaluator import (
    EvalContext,
    evaluate,
    evaluate_trust_policy,
    parse_policy_document,
)
from moto.iam.models import Role, iam_backends
from moto.sts.models import sts_backends

from .asks import Ask, Call, UnknownOperation, asked

# Organizations makes it in every account that it makes, with AdministratorAccess. moto has no such role.
# https://docs.aws.amazon.com/organizations/latest/userguide/orgs_manage_accounts_create-cross-account-role.html
ADMINISTRATOR = "OrganizationAccountAccessRole"
ANYTHING = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}'

# What stands for a character that means something in a pattern, where a policy says that it means itself.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html#policy-vars-specialchars
LITERAL = {"*": "\ue000", "?": "\ue001", "$": "\ue002"}


class Refusal(NamedTuple):
    """A request that is not allowed."""

    principal: str
    action: str
    resource: str
    # As AWS ends its message: `because no identity-based policy allows`, `with an explicit deny in`.
    why: str


class Principal(NamedTuple):
    """A session of a role."""

    session: str
    role: str
    account: str
    policies: list
    boundary: Optional[list]
    session_policy: Optional[list]
    keys: dict


def _plainly(text: str) -> str:
    for character, stands_for in LITERAL.items():
        text = text.replace("${" + character + "}", stands_for)
    return text


def _itself(text: str) -> str:
    for character, stands_for in LITERAL.items():
        text = text.replace(character, stands_for)
    return text


@functools.lru_cache(maxsize=4096)
def _statements(document: str) -> list:
    return parse_policy_document(_plainly(document))


def _role(account: str, arn: str) -> Optional[Role]:
    # Another account may be at work on its roles meanwhile.
    return next((role for role in list(iam_backends[account]["aws"].roles.values()) if role.arn == arn), None)


def _managed(account: str, arn: str) -> list:
    policy = iam_backends[account]["aws"].managed_policies.get(arn)
    versions = policy.versions if policy else []
    return next((_statements(v.document) for v in versions if v.version_id == policy.default_version_id), [])


class Authoriser:
    """Which accounts it is on for, and what is allowed there."""

    def __init__(self) -> None:
        self.organizations: dict = {}

    def enforce(self, accounts: list, organization: Optional[str]) -> dict:
        """The door: from now on in these accounts, which are in this organization; without one no more."""
        for account in accounts:
            if organization is None:
                self.organizations.pop(account, None)
            else:
                self.organizations[account] = organization
        return {}

    def refusal(self, call: Call) -> Optional[Refusal]:
        """Why the request is refused; nothing where it is allowed, or where nothing is enforced."""
        there = self._other_account(call)
        if call.account not in self.organizations and there not in self.organizations:
            return None
        principal = self._principal(call)
        if principal is None:
            return None
        call.organizations = self.organizations
        try:
            asks = asked(call)
        except UnknownOperation:
            return Refusal(principal.session, f"{call.service}:{call.operation}", "*", "which the emulator does not know")
        if call.account in self.organizations:
            for ask in asks:
                refused = self._refused(principal, call, ask)
                if refused:
                    return refused
        if there in self.organizations:
            return self._distrusted(principal, call, there, asks)
        return None

    @staticmethod
    def _other_account(call: Call) -> str:
        """The account of the role that is to be taken on."""
        if (call.service, call.operation) != ("sts", "AssumeRole"):
            return ""
        parts = call.form.get("RoleArn", "").split(":")
        return parts[4] if len(parts) > 4 else ""

    def _principal(self, call: Call) -> Optional[Principal]:
        """The session that signed; nothing where it was a user's key or nobody's."""
        session = sts_backends[call.account]["aws"].get_assumed_role_from_access_key(call.access_key)
        if session is None:
            return None
        account, boundary = call.account, None
        role = _role(account, session.role_arn)
        if role is not None:
            policies = [_statements(document) for document in role.policies.values()]
            policies += [_managed(account, arn) for arn in role.managed_policies]
            boundary = [_managed(account, role.permissions_boundary_arn)] if role.permissions_boundary_arn else None
        elif session.role_arn == f"arn:aws:iam::{account}:role/{ADMINISTRATOR}":
            policies = [_statements(ANYTHING)]
        else:
            policies = []
        keys = {
            "aws:userid": session.user_id,
            "aws:tokenissuetime": session.issued.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "aws:principalorgid": self.organizations.get(account),
        }
        given = [_statements(session.policy)] if session.policy else None
        return Principal(session.arn, session.role_arn, account, policies, boundary, given, keys)

    def _context(self, principal: Principal, call: Call, ask: Ask) -> EvalContext:
        return EvalContext(
            # `aws:PrincipalArn` of a session is the role's.
            principal_arn=principal.role,
            principal_type="AssumedRole",
            principal_account=principal.account,
            action=ask.action,
            resource_arn="*" if ask.resource == "*" else _itself(ask.resource),
            region=call.region,
            secure_transport=True,
            service_context={"aws:tagkeys": None, **{key.lower(): value for key, value in ask.context.items()}},
            principal_keys=principal.keys,
        )

    def _refused(self, principal: Principal, call: Call, ask: Ask) -> Optional[Refusal]:
        context = self._context(principal, call, ask)
        kinds = [("identity-based policy", principal.policies)]
        if principal.boundary is not None:
            kinds.append(("permissions boundary", principal.boundary))
        if principal.session_policy is not None:
            kinds.append(("session policy", principal.session_policy))
        decided = evaluate(context, *(policies for _, policies in kinds))
        if decided.decision == "Allow":
            return None
        # The whole is refused: by which kind of policy is only for the message.
        found = [(kind, evaluate(context, policies).decision) for kind, policies in kinds]
        denied = next((kind for kind, decision in found if decision == "Deny"), None)
        if denied:
            article = "an" if denied.startswith("i") else "a"
            return Refusal(principal.session, ask.action, ask.resource, f"with an explicit deny in {article} {denied}")
        kind = next(kind for kind, decision in found if decision != "Allow")
        why = f"because no {kind} allows the {ask.action} action"
        return Refusal(principal.session, ask.action, ask.resource, why)

    def _distrusted(self, principal: Principal, call: Call, account: str, asks: list) -> Optional[Refusal]:
        """Every action of it must be trusted. A role that is not there answers the same as one that does not trust."""
        arn = call.form["RoleArn"]
        role = _role(account, arn)
        for ask in asks:
            context = self._context(principal, call, ask)
            document = role.assume_role_policy_document if role else "{}"
            if not evaluate_trust_policy(document, principal.session, context):
                why = f"because no resource-based policy allows the {ask.action} action"
                return Refusal(principal.session, ask.action, arn, why)
        return None


__all__ = ["Authoriser", "Call", "Refusal"]
