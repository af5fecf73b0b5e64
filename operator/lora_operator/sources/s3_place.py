"""What a request says about S3, checked: bucket, prefix, endpoint, region and keys. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from lora_operator.sources.base import Credentials, SourceError, SourceRequest
from lora_operator.sources.remote_objects import ObjectPlace, bad_repository, split_prefix
from lora_operator.sources.remote_request import endpoint_of, secret_value

ID, KEY, TOKEN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", re.ASCII)
_AWS = re.compile(
    r"https://(s3(-fips)?(\.dualstack)?([.-][a-z]{2,4}(-[a-z]+)+-\d)?|bucket\.vpce-[0-9a-z-]+\.s3\.[a-z0-9-]+\.vpce)"
    r"\.amazonaws\.com(\.cn)?",
    re.ASCII,
)
_REGION = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)


class AddressedByHost(SourceError):
    """The store wants the bucket in the host's name: the next client puts it there."""


@dataclass(frozen=True, slots=True)
class S3Place:
    """`endpoint` is None for AWS itself, `region` None where the surroundings decide."""

    bucket: str
    objects: ObjectPlace
    endpoint: str | None
    region: str | None

    @property
    def is_aws(self) -> bool:
        """Whether AWS itself answers there, and nobody who rents a host name below amazonaws.com."""
        return self.endpoint is None or bool(_AWS.fullmatch(self.endpoint))


@dataclass(frozen=True, slots=True)
class S3Keys:
    """What a Secret holds for S3; never part of a repr, a log line or an error."""

    id: str = field(repr=False)
    key: str = field(repr=False)
    token: str | None = field(repr=False)


def place_of(request: SourceRequest) -> S3Place:
    """Where the request points. Raises SourceError (BadRepository, BadEndpoint, BadRegion)."""
    text = request.repository.removeprefix("s3://")
    shown = f"s3 repository {request.repository[:300]!r}"
    bucket, _, rest = text.partition("/")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise bad_repository(f"{shown} does not begin with a bucket's name: write bucket or bucket/prefix")
    prefix, last = split_prefix(rest, shown)
    endpoint = endpoint_of(request.endpoint)
    if request.region is not None and not is_region(request.region):
        raise SourceError(
            "BadRegion",
            f"region {request.region[:60]!r} is no region's name: write one like eu-west-1",
            retryable=False,
        )
    origin = f"s3 {'aws' if endpoint is None else endpoint} {bucket}"
    objects = ObjectPlace(f"s3://{bucket}/", prefix, last or bucket, origin)
    return S3Place(bucket, objects, endpoint, request.region)


def is_region(text: str) -> bool:
    """Whether this can be a region's name: it becomes a part of a host's."""
    return _REGION.fullmatch(text) is not None


def keys_of(credentials: Credentials | None) -> S3Keys | None:
    """The keys that the Secret holds; None without a Secret. Raises SourceError for half of them."""
    if credentials is None:
        return None
    id_, key, token = (secret_value(credentials, name) for name in (ID, KEY, TOKEN))
    missing = [name for name, value in ((ID, id_), (KEY, key)) if not value]
    if missing:
        raise SourceError(
            "CredentialsIncomplete",
            f"the Secret has no {' and no '.join(missing)}: add {'it' if len(missing) == 1 else 'both'}, or name no "
            "Secret for a public bucket or the operator's own role",
            retryable=False,
        )
    return S3Keys(id_, key, token or None)
