"""From what botocore raises to a SourceError: a stable reason, and a sentence without keys, tokens or signed URLs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError

from lora_operator.artifacts import AdapterRefused, RefusedReason
from lora_operator.sources.base import SourceError
from lora_operator.sources.remote_connections import forbidden_address, is_dns, wait_seconds
from lora_operator.sources.remote_threads import timed_out
from lora_operator.sources.s3_place import AddressedByHost

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_AGAIN = "it is asked again later"

# code -> (reason, what it means, what to do, retryable)
_CODES: Mapping[str, tuple[str, str, bool]] = {
    "NoSuchBucket": ("BucketNotFound", "there is no such bucket: correct the name, the endpoint or the region", False),
    "InvalidBucketName": ("BadRepository", "the bucket's name is not valid: correct it", False),
    "AccessDenied": (
        "AccessDenied",
        "access is denied: allow s3:ListBucket on the bucket and s3:GetObject on its objects for these keys or this "
        "role, or name a Secret with other keys",
        False,
    ),
    "AllAccessDisabled": ("AccessDenied", "all access to the bucket is disabled: enable it", False),
    "AccountProblem": ("AccessDenied", "there is a problem with the account that the keys belong to: settle it", False),
    "InvalidAccessKeyId": (
        "AuthenticationFailed",
        "the access key id is not known there: correct AWS_ACCESS_KEY_ID, or the endpoint",
        False,
    ),
    "SignatureDoesNotMatch": (
        "AuthenticationFailed",
        "the signature does not match: correct AWS_SECRET_ACCESS_KEY",
        False,
    ),
    "InvalidToken": (
        "AuthenticationFailed",
        "the session token is not valid: correct AWS_SESSION_TOKEN, or remove it if the keys are permanent",
        False,
    ),
    "ExpiredToken": (
        "CredentialsExpired",
        "the session token has expired: put fresh keys and their token into the Secret",
        False,
    ),
    "RequestTimeTooSkewed": (
        "ClockSkew",
        "the operator's clock and the store's differ too much: set both by NTP",
        True,
    ),
    "InvalidObjectState": (
        "ObjectArchived",
        "the object is in an archive class: restore it, or copy it to a class that can be read at once",
        False,
    ),
    "SSE-C": (
        "ObjectEncrypted",
        "it is encrypted with a key that only its owner has (SSE-C): copy it without, or encrypted by the store itself "
        "(SSE-S3, SSE-KMS)",
        False,
    ),
    "NoSuchVersion": ("RevisionNotFound", "there is no such version: correct revision, or leave it out", False),
}
_SAME = {
    "403": "AccessDenied",
    "AccessDeniedException": "AccessDenied",
    "TokenRefreshRequired": "ExpiredToken",
    "ExpiredTokenException": "ExpiredToken",
    "UnrecognizedClientException": "InvalidToken",
    "InvalidClientTokenId": "InvalidToken",
    "InvalidTokenId": "InvalidToken",  # MinIO's
    "InvalidSignatureException": "SignatureDoesNotMatch",
}
_SLOW = frozenset(
    {"SlowDown", "Throttling", "ThrottlingException", "ThrottledException", "RequestLimitExceeded",
     "TooManyRequests", "TooManyRequestsException", "RequestThrottled", "BandwidthLimitExceeded", "429"}
)  # fmt: skip
ELSEWHERE = frozenset(
    {"AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException",
     "301", "307"}
)  # fmt: skip
# what stores say that know buckets by the host's name alone: Aliyun, Tencent, Huawei, Volcengine
BY_HOST_ONLY = frozenset(
    {"SecondLevelDomainForbidden", "PathStyleDomainForbidden", "VirtualHostDomainRequired", "InvalidPathAccess"}
)
# the only word for it is in the sentence
_OWN_KEY = "Server Side Encryption"


def explained(error: Exception, shown: str) -> SourceError | AdapterRefused:
    """`shown` names what was asked, for people. AdapterRefused is for an object that went or changed meanwhile."""
    if isinstance(error, sdk.ClientError):
        return _answered(error, shown)
    forbidden = forbidden_address(error)
    if forbidden is not None:
        return SourceError(forbidden.reason, f"{shown}: {forbidden.message}", retryable=forbidden.retryable)
    if isinstance(error, (sdk.ConnectTimeoutError, sdk.ReadTimeoutError)):
        return timed_out(shown)
    reason, text, retryable = _unanswered(error)
    return SourceError(reason, f"{shown}: {text}", retryable=retryable)


def _answered(error: Any, shown: str) -> SourceError | AdapterRefused:
    said = error.response.get("Error", {})
    code = str(said.get("Code", ""))
    metadata = error.response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode") or 0)
    headers = metadata.get("HTTPHeaders", {})
    code = _SAME.get(code, code)
    if code in ("PreconditionFailed", "412", "NoSuchKey", "404", "InvalidRange", "416"):
        return AdapterRefused(
            RefusedReason.FILE_CHANGED, f"{shown} went or changed since it was listed: it is looked at again"
        )
    if code in BY_HOST_ONLY:
        return AddressedByHost(
            "UnexpectedAnswer",
            f"{shown}: the store wants the bucket in its host's name ({code}): give the endpoint without the bucket",
            retryable=True,
        )
    if code == "InvalidRequest" and _OWN_KEY in str(said.get("Message", "")):
        code = "SSE-C"
    if code in _CODES:
        reason, text, retryable = _CODES[code]
        return SourceError(reason, f"{shown}: {text}", retryable=retryable)
    if code in ELSEWHERE:
        region = str(said.get("Region") or headers.get("x-amz-bucket-region") or "")
        right = f"set region to {region!r}" if _WORD.fullmatch(region) else "set region to the bucket's"
        return SourceError("WrongRegion", f"{shown}: the bucket is in another region: {right}", retryable=False)
    if code in _SLOW or status == 429:
        return SourceError(
            "Throttled",
            f"{shown}: the store asks for fewer requests: {_AGAIN}",
            retryable=True,
            retry_after_seconds=wait_seconds(headers.get("retry-after")),
        )
    what = f"{code if _WORD.fullmatch(code) else 'no code'}, status {status}"
    if status >= 500 and status != 501:
        return SourceError("SourceUnavailable", f"{shown}: the store fails ({what}): {_AGAIN}", retryable=True)
    return SourceError(
        "UnexpectedAnswer",
        f"{shown}: the store refuses the request ({what}): check bucket, endpoint and keys",
        retryable=False,
    )


def _unanswered(error: Exception) -> tuple[str, str, bool]:
    """`error` is never quoted: it may hold a URL or a header."""
    if isinstance(error, sdk.SSLError):
        return "TlsFailed", "no trusted TLS connection: give the store a certificate that the operator trusts", False
    if isinstance(error, sdk.EndpointConnectionError) and is_dns(error):
        return (
            "HostNotFound",
            "the endpoint's host is not known to DNS: correct endpoint or region, or repair DNS",
            True,
        )
    if isinstance(error, (sdk.EndpointConnectionError, sdk.ProxyConnectionError)):
        return "ConnectionFailed", "the endpoint takes no connection: check that the store runs, and its port", True
    if isinstance(error, (sdk.PartialCredentialsError, sdk.NoCredentialsError)):
        return "CredentialsMissing", "no keys: name a Secret in credentialsSecretRef", False
    if isinstance(
        error, (sdk.CredentialRetrievalError, sdk.UnauthorizedSSOTokenError, sdk.RefreshWithMFAUnsupportedError)
    ):
        return "CredentialsUnavailable", "the operator's own role gives no credentials now: check its set-up", True
    if isinstance(error, ResponseParserError):
        return "UnexpectedAnswer", "what answers does not speak like an S3 store: correct the endpoint", False
    if isinstance(error, (sdk.ParamValidationError, sdk.InvalidRegionError, sdk.UnknownEndpointError)):
        return "BadRepository", "no request can be made of bucket, prefix, region and endpoint: correct them", False
    if isinstance(error, (sdk.HTTPClientError, sdk.ConnectionError, OSError)):
        kind = type(error).__name__
        return "ConnectionFailed", f"the connection broke off ({kind}): check network and endpoint; {_AGAIN}", True
    return "UnexpectedAnswer", f"the store's answer makes no sense ({type(error).__name__}): check the endpoint", False
