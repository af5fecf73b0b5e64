"""From what botocore raises to a SourceError: a stable reason, and a sentence without keys, tokens or signed URLs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore import exceptions as sdk

from lora_operator.artifacts import AdapterRefused
from lora_operator.sources.base import SourceError
from lora_operator.sources.remote_connections import is_dns
from lora_operator.sources.s3_place import AddressedByHost, is_region
from lora_operator.sources.store_errors import CLOCK_SKEW, Meaning, answered, gone, unasked

_CODES: Mapping[str, Meaning] = {
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
    "RequestTimeTooSkewed": CLOCK_SKEW,
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
    "XAdminUserNotFound": "InvalidAccessKeyId",  # versitygw's
    "InvalidSignatureException": "SignatureDoesNotMatch",
}
_SLOW = frozenset(
    {"SlowDown", "Throttling", "ThrottlingException", "ThrottledException", "RequestLimitExceeded",
     "TooManyRequests", "TooManyRequestsException", "RequestThrottled", "BandwidthLimitExceeded", "429"}
)  # fmt: skip
_GONE = frozenset({"PreconditionFailed", "412", "NoSuchKey", "404", "InvalidRange", "416"})
ELSEWHERE = frozenset(
    {"AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException",
     "301", "307"}
)  # fmt: skip
# what stores say that know buckets by the host's name alone: Aliyun, Tencent, Huawei, Volcengine
BY_HOST_ONLY = frozenset(
    {"SecondLevelDomainForbidden", "PathStyleDomainForbidden", "VirtualHostDomainRequired", "InvalidPathAccess"}
)
_KINDS: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((sdk.ConnectTimeoutError, sdk.ReadTimeoutError), "time"),
    ((sdk.SSLError,), "tls"),
    ((sdk.PartialCredentialsError, sdk.NoCredentialsError), "no keys"),
    ((sdk.CredentialRetrievalError, sdk.UnauthorizedSSOTokenError, sdk.RefreshWithMFAUnsupportedError), "no role"),
    ((sdk.ParamValidationError, sdk.InvalidRegionError, sdk.UnknownEndpointError), "request"),
    ((sdk.HTTPClientError, sdk.ConnectionError, OSError), "connection"),
)
# the only word for it is in the sentence
_OWN_KEY = "Server Side Encryption"


def explained(error: Exception, shown: str) -> SourceError | AdapterRefused:
    """`shown` names what was asked, for people. AdapterRefused is for an object that went or changed meanwhile."""
    if isinstance(error, sdk.ClientError):
        return _answered(error, shown)
    kind = next((kind for types, kind in _KINDS if isinstance(error, types)), "answer")
    unknown = isinstance(error, sdk.EndpointConnectionError) and is_dns(error)
    return unasked(error, shown, "name" if unknown else kind)


def _answered(error: Any, shown: str) -> SourceError | AdapterRefused:
    said = error.response.get("Error", {})
    code = str(said.get("Code", ""))
    metadata = error.response.get("ResponseMetadata", {})
    headers = metadata.get("HTTPHeaders", {})
    code = _SAME.get(code, code)
    if code in _GONE:
        return gone(shown)
    if code in BY_HOST_ONLY:
        return AddressedByHost(
            "UnexpectedAnswer",
            f"{shown}: the store wants the bucket in its host's name ({code}): give the endpoint without the bucket",
            retryable=True,
        )
    if code == "InvalidRequest" and _OWN_KEY in str(said.get("Message", "")):
        code = "SSE-C"
    if code in ELSEWHERE:
        region = str(said.get("Region") or headers.get("x-amz-bucket-region") or "")
        right = f"set region to {region!r}" if is_region(region) else "set region to the bucket's"
        return SourceError("WrongRegion", f"{shown}: the bucket is in another region: {right}", retryable=False)
    status, wait = int(metadata.get("HTTPStatusCode") or 0), headers.get("retry-after")
    return answered(shown, code, status, wait, _CODES, _SLOW, "check bucket, endpoint and keys")
