"""IAM: unique ids of users, owners of keys, service-specific credentials, pages of users; and doors through which a key
comes to be old, and a key or a password to have been used.
"""

from datetime import datetime, timedelta, timezone
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow
from moto.iam.exceptions import NotFoundException
from moto.iam.models import AccessKeyLastUsed, IAMBackend, User, iam_backends
from moto.iam.responses import IamResponse
from moto.iam.utils import generate_access_key_id_from_account_id
from moto.moto_api._internal import mock_random

from .patch import add, override, page


def install() -> None:
    """Everything below changes moto's classes when the module is loaded."""


@override(User, "__init__")
def _user(original: Any, self: User, account_id: str, *args: Any, **kwargs: Any) -> None:
    """A user's unique id begins with AIDA; moto's is any text.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-prefixes
    """
    original(self, account_id, *args, **kwargs)
    self.id = generate_access_key_id_from_account_id(account_id, prefix="AIDA", total_length=21)


@override(IAMBackend, "update_user")
def _update_user(
    original: Any, self: IAMBackend, user_name: str, new_path: Any = None, new_user_name: Any = None
) -> None:
    """A renamed user keeps its access keys, and its unique id.

    https://docs.aws.amazon.com/IAM/latest/APIReference/API_UpdateUser.html
    """
    original(self, user_name, new_path, new_user_name)
    for key in self.users[new_user_name or user_name].access_keys:
        key.user_name = new_user_name or user_name


@override(IAMBackend, "get_all_access_keys_for_all_users")
def _own_access_keys(original: Any, self: IAMBackend) -> list:
    """An account sees its own users' keys only.

    https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetAccessKeyLastUsed.html
    moto looks through every account.
    """
    return [key for user in self.users.values() for key in user.access_keys]


@override(IamResponse, "list_users")
def _list_users(original: Any, self: IamResponse) -> ActionResult:
    """https://docs.aws.amazon.com/IAM/latest/APIReference/API_ListUsers.html"""
    users = sorted(self.backend.list_users(self._get_param("PathPrefix"), None, None), key=lambda user: user.name)
    items, marker = page(users, int(self._get_param("MaxItems") or 100), self._get_param("Marker"))
    result = {"Users": items, "IsTruncated": marker is not None}
    return ActionResult({**result, "Marker": marker} if marker else result)


# --- What time alone brings about ----------------------------------------------------


def _moment(text: str) -> datetime:
    """In whole seconds, as IAM has them. moto's times are of UTC and do not say so."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(timezone.utc)
    return moment.replace(microsecond=0, tzinfo=None)


def date_key(account: str, region: str, access_key: str, created: str, used: Any = None, service: str = "s3") -> dict:
    """The door: a key was made at `created` and used last at `used`, or never. Its user is no younger than it.

    https://docs.aws.amazon.com/IAM/latest/APIReference/API_AccessKeyLastUsed.html
    """
    for user in iam_backends[account]["aws"].users.values():
        for key in user.access_keys:
            if key.access_key_id == access_key:
                key.create_date = _moment(created)
                key.last_used = AccessKeyLastUsed(_moment(used), service, region) if used else None
                user.create_date = min(user.create_date, key.create_date)
                return {}
    raise ValueError(f"no user has the access key {access_key}")


def use_password(account: str, user: str, used: str) -> dict:
    """The door: the user signed in with the password at `used`.

    https://docs.aws.amazon.com/IAM/latest/APIReference/API_User.html
    """
    found = iam_backends[account]["aws"].get_user(user)
    found.password_last_used = _moment(used)
    found.create_date = min(found.create_date, found.password_last_used)
    return {}


# --- Service-specific credentials ----------------------------------------------------


def _credentials(user: User) -> dict:
    if not hasattr(user, "service_specific_credentials"):
        user.service_specific_credentials = {}
    return user.service_specific_credentials


def _credential(self: IamResponse) -> tuple:
    user = self.backend.get_user(self._get_param("UserName"))
    found = self._get_param("ServiceSpecificCredentialId")
    if found not in _credentials(user):
        raise NotFoundException(f"No such credential {found} exists")
    return user, found


@add(IamResponse)
def create_service_specific_credential(self: IamResponse) -> ActionResult:
    """https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateServiceSpecificCredential.html"""
    user, service = self.backend.get_user(self._get_param("UserName")), self._get_param("ServiceName")
    made = {
        "UserName": user.name,
        "Status": "Active",
        "ServiceName": service,
        "CreateDate": utcnow(),
        "ServiceSpecificCredentialId": generate_access_key_id_from_account_id(
            self.current_account, prefix="ACCA", total_length=21
        ),
    }
    if self._get_param("CredentialAgeDays"):
        made["ExpirationDate"] = utcnow() + timedelta(days=int(self._get_param("CredentialAgeDays")))
    if service == "bedrock.amazonaws.com":
        made["ServiceCredentialAlias"] = f"{user.name}-at-{self.current_account}"
        secret = {"ServiceCredentialSecret": mock_random.get_random_hex(40)}
    else:
        made["ServiceUserName"] = f"{user.name}-at-{self.current_account}"
        secret = {"ServicePassword": mock_random.get_random_hex(40)}
    _credentials(user)[made["ServiceSpecificCredentialId"]] = made
    return ActionResult({"ServiceSpecificCredential": {**made, **secret}})


@add(IamResponse)
def list_service_specific_credentials(self: IamResponse) -> ActionResult:
    """https://docs.aws.amazon.com/IAM/latest/APIReference/API_ListServiceSpecificCredentials.html"""
    user, service = self.backend.get_user(self._get_param("UserName")), self._get_param("ServiceName")
    found = [c for c in _credentials(user).values() if service in (None, c["ServiceName"])]
    return ActionResult({"ServiceSpecificCredentials": found, "IsTruncated": False})


@add(IamResponse)
def update_service_specific_credential(self: IamResponse) -> EmptyResult:
    """https://docs.aws.amazon.com/IAM/latest/APIReference/API_UpdateServiceSpecificCredential.html"""
    user, found = _credential(self)
    _credentials(user)[found]["Status"] = self._get_param("Status")
    return EmptyResult()


@add(IamResponse)
def delete_service_specific_credential(self: IamResponse) -> EmptyResult:
    """https://docs.aws.amazon.com/IAM/latest/APIReference/API_DeleteServiceSpecificCredential.html"""
    user, found = _credential(self)
    del _credentials(user)[found]
    return EmptyResult()
