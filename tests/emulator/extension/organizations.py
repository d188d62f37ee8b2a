"""Organizations: accounts that existed before they joined, and where an account stands."""

from typing import Any

from moto.core.exceptions import ServiceException
from moto.organizations import models
from moto.organizations.exceptions import AWSOrganizationsNotInUseException
from moto.organizations.models import OrganizationsBackend, organizations_backends

from .patch import override

PARTITION = "aws"


def install() -> None:
    """Everything below changes moto's classes when the module is loaded."""


class AccessDenied(ServiceException):
    def __init__(self) -> None:
        super().__init__(
            "AccessDeniedException", "You don't have permissions to access this resource."
        )


def join_organization(management: str, account: str) -> dict:
    """The door: `account` accepts an invitation into the organization of `management`, and is in its root.

    https://docs.aws.amazon.com/organizations/latest/userguide/orgs_manage_accounts_invites.html
    """
    backend = organizations_backends[management][PARTITION]
    if backend.org is None:
        raise ValueError(f"{management} has no organization")
    member = models.FakeAccount(backend.org, AccountName=account, Email=f"{account}@example.com")
    member.id, member.joined_method = account, "INVITED"
    backend.accounts.append(member)
    organizations_backends.master_accounts[account] = (management, PARTITION)
    return {"parent": member.parent_id}


def _path(backend: OrganizationsBackend, account: Any) -> str:
    """`o-…/r-…/ou-…/<account>/`, from the root down."""
    units, at = [], account.parent_id
    while at:
        units.append(at)
        unit = next((unit for unit in backend.ou if unit.id == at), None)
        at = unit.parent_id if unit else None
    return "/".join([account.organization_id, *reversed(units), account.id]) + "/"


@override(OrganizationsBackend, "describe_account")
def _describe_account(original: Any, self: Any, **kwargs: Any) -> dict:
    """The management account and delegated administrators may ask; the answer has the account's path.

    https://docs.aws.amazon.com/organizations/latest/APIReference/API_DescribeAccount.html
    """
    backend = self
    if self.org is None:
        if self.account_id not in organizations_backends.master_accounts:
            raise AWSOrganizationsNotInUseException
        management, partition = organizations_backends.master_accounts[self.account_id]
        backend = organizations_backends[management][partition]
        if self.account_id not in [admin.account.id for admin in backend.admins]:
            raise AccessDenied
    answer = original(backend, **kwargs)
    account = backend.get_account_by_id(kwargs["AccountId"])
    answer["Account"]["Paths"] = [_path(backend, account)]
    return answer
