"""From what Azure's SDK raises to a SourceError: a stable reason, and a sentence without keys, tokens or signatures."""

from __future__ import annotations

from collections.abc import Mapping

from azure.core import exceptions as sdk

from lora_operator.artifacts import AdapterRefused
from lora_operator.sources.base import SourceError
from lora_operator.sources.remote_connections import forbidden_address, is_dns
from lora_operator.sources.store_errors import CLOCK_SKEW, Meaning, answered, gone, meant, unasked

_GONE = frozenset({"BlobNotFound", "ResourceNotFound", "ConditionNotMet", "InvalidRange"})
_SLOW = frozenset({"ServerBusy", "TooManyRequests"})
_RIGHTS = "allow the SAS or the identity to list the container and to read its blobs (Storage Blob Data Reader)"

_CODES: Mapping[str, Meaning] = {
    "ContainerNotFound": ("ContainerNotFound", "there is no such container: correct the repository", False),
    "ContainerBeingDeleted": ("ContainerNotFound", "the container is being deleted: name another one", False),
    "ContainerDisabled": ("AccessDenied", "the container is disabled: enable it", False),
    "AccountIsDisabled": ("AccessDenied", "the storage account is disabled: enable it", False),
    "AuthorizationFailure": ("AccessDenied", f"access is denied: {_RIGHTS}, and check the account's firewall", False),
    "AuthorizationPermissionMismatch": ("AccessDenied", f"rights are missing: {_RIGHTS}", False),
    "InsufficientAccountPermissions": ("AccessDenied", f"rights are missing: {_RIGHTS}", False),
    "AuthorizationResourceTypeMismatch": ("AccessDenied", f"the SAS is for other resources: {_RIGHTS}", False),
    "AuthorizationServiceMismatch": ("AccessDenied", f"the SAS is for another service: {_RIGHTS}", False),
    "AuthorizationSourceIPMismatch": (
        "AccessDenied",
        "the SAS does not let the operator's address in: widen it",
        False,
    ),
    "AuthorizationProtocolMismatch": ("AccessDenied", "the SAS wants https: use it in the endpoint", False),
    "KeyBasedAuthenticationNotPermitted": (
        "AccessDenied",
        "the account takes no keys: use the operator's identity (no Secret), or a user delegation SAS",
        False,
    ),
    "PublicAccessNotPermitted": (
        "AccessDenied",
        "the account has no public access: name a Secret, or give the operator an identity",
        False,
    ),
    "NoAuthenticationInformation": (
        "AuthenticationFailed",
        "the container is not public: name a Secret, or give the operator an identity",
        False,
    ),
    "InvalidAuthenticationInfo": (
        "AuthenticationFailed",
        "the credentials are not accepted: correct the Secret",
        False,
    ),
    "AuthenticationFailed": (
        "AuthenticationFailed",
        "the signature is not accepted: correct the key or the SAS token in the Secret, and the account's name",
        False,
    ),
    "InvalidResourceName": ("BadRepository", "no blob or container can have this name: correct the repository", False),
    "OutOfRangeInput": ("BadRepository", "no blob or container can have this name: correct the repository", False),
    "InvalidUri": ("BadRepository", "no blob or container can have this name: correct the repository", False),
    "BlobArchived": ("ObjectArchived", "the blob is archived: rehydrate it to a tier that can be read at once", False),
}
# What the service says beside AuthenticationFailed; the words around it hold signatures and are not looked at.
_DETAILS = (
    (
        ("Signature not valid in the specified time frame", "Signature not valid in the specified key time frame"),
        ("CredentialsExpired", "the SAS token is expired or not valid yet: put a fresh one into the Secret", False),
    ),
    (
        ("Request date header too old", "The Date header in the request is incorrect"),
        CLOCK_SKEW,
    ),
)


def explained(error: Exception, shown: str) -> SourceError | AdapterRefused:
    """`shown` names what was asked, for people. AdapterRefused is for a blob that went or changed meanwhile."""
    if isinstance(error, sdk.HttpResponseError) and error.status_code and forbidden_address(error) is None:
        return _answered(error, shown)
    return unasked(error, shown, _kind(error))


def _answered(error: sdk.HttpResponseError, shown: str) -> SourceError | AdapterRefused:
    code = getattr(error, "error_code", None) or ""
    code = str(getattr(code, "value", code))
    status = int(error.status_code or 0)
    if code in _GONE or (status in (404, 412, 416) and code not in _CODES):
        return gone(shown)
    if code == "AuthenticationFailed":
        said = str(error.message)
        for words, meaning in _DETAILS:
            if any(word in said for word in words):
                return meant(meaning, shown)
    headers = getattr(error.response, "headers", None) or {}
    return answered(shown, code, status, headers.get("Retry-After"), _CODES, _SLOW, "check the repository", _RIGHTS)


def _kind(error: Exception) -> str:
    if isinstance(error, (sdk.ServiceRequestTimeoutError, sdk.ServiceResponseTimeoutError)):
        return "time"
    said = f"{error} {error.__cause__}"
    if "SSL" in said or "certificate" in said.lower():
        return "tls"
    if is_dns(error):
        return "name"
    if isinstance(error, sdk.ClientAuthenticationError):
        return "no role"
    failed = (sdk.ServiceRequestError, sdk.ServiceResponseError, sdk.IncompleteReadError, OSError)
    return "connection" if isinstance(error, failed) else "answer"
