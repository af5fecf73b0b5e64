"""From what Azure's SDK raises to a SourceError: a stable reason, and a sentence without keys, tokens or signatures."""

from __future__ import annotations

import re
from collections.abc import Mapping

from azure.core import exceptions as sdk

from lora_operator.artifacts import AdapterRefused, RefusedReason
from lora_operator.sources.base import SourceError
from lora_operator.sources.remote_connections import forbidden_address, is_dns, wait_seconds
from lora_operator.sources.remote_threads import timed_out

_WORD = re.compile(r"[A-Za-z0-9]{1,64}", re.ASCII)
_AGAIN = "it is asked again later"
_GONE = frozenset({"BlobNotFound", "ResourceNotFound", "ConditionNotMet", "InvalidRange"})
_SLOW = frozenset({"ServerBusy", "TooManyRequests"})
_RIGHTS = "allow the SAS or the identity to list the container and to read its blobs (Storage Blob Data Reader)"

# code -> (reason, what it means and what to do, retryable)
_CODES: Mapping[str, tuple[str, str, bool]] = {
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
        ("ClockSkew", "the operator's clock and the store's differ too much: set both by NTP", True),
    ),
)


def explained(error: Exception, shown: str) -> SourceError | AdapterRefused:
    """`shown` names what was asked, for people. AdapterRefused is for a blob that went or changed meanwhile."""
    forbidden = forbidden_address(error)
    if forbidden is not None:
        return SourceError(forbidden.reason, f"{shown}: {forbidden.message}", retryable=forbidden.retryable)
    if isinstance(error, (sdk.ServiceRequestTimeoutError, sdk.ServiceResponseTimeoutError)):
        return timed_out(shown)
    if isinstance(error, sdk.HttpResponseError) and error.status_code:
        return _answered(error, shown)
    reason, text, retryable = _unanswered(error)
    return SourceError(reason, f"{shown}: {text}", retryable=retryable)


def _answered(error: sdk.HttpResponseError, shown: str) -> SourceError | AdapterRefused:
    code = getattr(error, "error_code", None) or ""
    code = str(getattr(code, "value", code))
    status = int(error.status_code or 0)
    if code in _GONE or (status in (404, 412, 416) and code not in _CODES):
        return AdapterRefused(
            RefusedReason.FILE_CHANGED, f"{shown} went or changed since it was listed: it is looked at again"
        )
    if code == "AuthenticationFailed":
        said = str(error.message)
        for words, (reason, text, retryable) in _DETAILS:
            if any(word in said for word in words):
                return SourceError(reason, f"{shown}: {text}", retryable=retryable)
    if code in _CODES:
        reason, text, retryable = _CODES[code]
        return SourceError(reason, f"{shown}: {text}", retryable=retryable)
    if code in _SLOW or status == 429:
        headers = getattr(error.response, "headers", None) or {}
        return SourceError(
            "Throttled",
            f"{shown}: the store asks for fewer requests: {_AGAIN}",
            retryable=True,
            retry_after_seconds=wait_seconds(headers.get("Retry-After")),
        )
    what = f"{code if _WORD.fullmatch(code) else 'no code'}, status {status}"
    if status >= 500 and status != 501:
        return SourceError("SourceUnavailable", f"{shown}: the store fails ({what}): {_AGAIN}", retryable=True)
    if status in (401, 403):
        return SourceError("AccessDenied", f"{shown}: access is denied ({what}): {_RIGHTS}", retryable=False)
    return SourceError(
        "UnexpectedAnswer", f"{shown}: the store refuses the request ({what}): check the repository", retryable=False
    )


def _unanswered(error: Exception) -> tuple[str, str, bool]:
    """`error` is never quoted: it may hold a URL or a header."""
    said = f"{error} {error.__cause__}"
    if "SSL" in said or "certificate" in said.lower():
        return "TlsFailed", "no trusted TLS connection: give the store a certificate that the operator trusts", False
    if is_dns(error):
        return "HostNotFound", "the host is not known to DNS: correct account or endpoint, or repair DNS", True
    if isinstance(error, sdk.ClientAuthenticationError):
        return "CredentialsUnavailable", "the operator's own identity gives no token now: check its set-up", True
    if isinstance(error, (sdk.ServiceRequestError, sdk.ServiceResponseError, sdk.IncompleteReadError, OSError)):
        kind = type(error).__name__
        return "ConnectionFailed", f"no connection, or it broke off ({kind}): check host and port; {_AGAIN}", True
    return "UnexpectedAnswer", f"what answers is no blob store ({type(error).__name__}): check the endpoint", False
