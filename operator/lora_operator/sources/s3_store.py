"""One bucket through botocore: list, describe, read and sign. Blocking, to be called in threads.

To be imported only once such a source is asked for: the SDK takes some forty megabytes and half a second.
"""

from __future__ import annotations

import base64
import binascii
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from email.utils import formatdate
from functools import partial
from typing import Any, TypeVar

import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.utils import parse_timestamp

from lora_operator.artifacts import AdapterRefused, RefusedReason
from lora_operator.fetch.hosts import HostRules
from lora_operator.fetch.manifest import Link
from lora_operator.process.authorities import bundle_for
from lora_operator.sources.base import SourceError
from lora_operator.sources.remote_connections import Lines, check_url, checked_pools
from lora_operator.sources.remote_inspection import RemoteFile, time_tag
from lora_operator.sources.remote_store import Timing
from lora_operator.sources.remote_threads import cleanly, quiet, timed_out
from lora_operator.sources.s3_errors import BY_HOST_ONLY, ELSEWHERE, explained
from lora_operator.sources.s3_place import S3Keys, S3Place, is_region

LINK_SECONDS = 3600
# The operator's own role is renewed ten minutes before it runs out, and a link ends with it.
SHORT_LINK_SECONDS = 600
NO_ROLE_SECONDS = 60.0
REGIONS_MAX = 1000
FLAT_KEYS = 5000  # listed one by one before folders are looked at
_DEFAULT_REGION = "us-east-1"
_T = TypeVar("_T")


class Surroundings:
    """What all clients share: the SDK's descriptions of services, the role that the operator itself has, and what
    stores say of buckets: their regions, which the SDK follows for the request that was wrong and not for others, and
    whether a bucket has to be a part of the host's name."""

    def __init__(self, ca_file: str = "") -> None:
        quiet(("botocore", "urllib3"))
        self._ca_file = ca_file
        self._session: Any = botocore.session.Session()
        self._session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_when)
        self._lock = threading.Lock()  # sessions are not made for threads, clients are
        self._no_role_until = 0.0
        self._regions: OrderedDict[str, str] = OrderedDict()  # by the origin of a place
        self._by_host: OrderedDict[str, None] = OrderedDict()

    def region_of(self, place: S3Place) -> str | None:
        """What the store said, else what the resource says."""
        return self._regions.get(place.objects.origin) or place.region

    def note_region(self, place: S3Place, region: str) -> None:
        """The store says that the bucket is there."""
        self._regions[place.objects.origin] = region
        while len(self._regions) > REGIONS_MAX:
            self._regions.popitem(last=False)

    def addressing_of(self, place: S3Place) -> str:
        """The SDK's word for where a bucket's name is put."""
        known = place.objects.origin in self._by_host
        return "virtual" if known else "auto" if place.is_aws else "path"

    def note_by_host(self, place: S3Place) -> None:
        """The store knows the bucket by its host's name alone."""
        self._by_host[place.objects.origin] = None
        while len(self._by_host) > REGIONS_MAX:
            self._by_host.popitem(last=False)

    def role(self) -> Any:
        """The credentials of the operator's own role; None if it has none, which is slow to find out."""
        with self._lock:
            if time.monotonic() < self._no_role_until:
                return None
            role = self._session.get_credentials()
            if role is None:
                self._no_role_until = time.monotonic() + NO_ROLE_SECONDS
            return role

    def client(self, region: str | None, **settings: Any) -> Any:
        """A client of S3."""
        with self._lock:
            if bundle := bundle_for(self._ca_file):
                self._session.set_config_variable("ca_bundle", bundle)
            region = region or self._session.get_config_variable("region") or _DEFAULT_REGION
            return self._session.create_client("s3", region_name=region, **settings)


class S3Store:
    """One bucket (see `ObjectStore`), read with `keys`, or with what the surroundings give. Raises SourceError."""

    def __init__(
        self, surroundings: Surroundings, place: S3Place, keys: S3Keys | None, rules: HostRules, timing: Timing
    ) -> None:
        self.place = place.objects
        self._bucket = place.bucket
        self._shown = place.objects.address
        if place.endpoint is not None:
            check_url(place.endpoint, rules)
        role_may_go_there = place.is_aws or bool(rules.allowed)
        role = self._clean(surroundings.role) if keys is None and role_may_go_there else None
        self._link_seconds: int | None = None
        if keys is not None or role is not None:
            self._link_seconds = SHORT_LINK_SECONDS if getattr(keys or role, "token", None) else LINK_SECONDS
        config = Config(
            connect_timeout=timing.connect_seconds,
            read_timeout=timing.read_seconds,
            retries={"mode": "standard", "total_max_attempts": timing.attempts},
            s3={"addressing_style": surroundings.addressing_of(place)},
            max_pool_connections=16,
            response_checksum_validation="when_required",
            signature_version="s3v4" if self._link_seconds else UNSIGNED,
        )
        settings: dict[str, Any] = {"endpoint_url": place.endpoint, "config": config}
        if keys is not None:
            settings |= {
                "aws_access_key_id": keys.id,
                "aws_secret_access_key": keys.key,
                "aws_session_token": keys.token,
            }
        self._client = self._clean(partial(surroundings.client, surroundings.region_of(place), **settings))
        # before the SDK's own, which follows
        self._client.meta.events.register_first("needs-retry.s3", partial(_note_answer, surroundings, place))
        check_url(self._client.meta.endpoint_url, rules)
        if not place.is_aws:
            self._client.meta.events.register_first("before-call.s3.HeadBucket", self._no_redirect)
        self._lines = Lines()
        manager = self._client._endpoint.http_session._manager
        manager.pool_classes_by_scheme = checked_pools(manager.pool_classes_by_scheme, rules, self._lines)

    def close(self, *, cut: bool) -> None:
        self._lines.let_go(cut=cut)
        self._client.close()

    def objects(self, deadline: float) -> Iterator[tuple[str, RemoteFile]]:
        """See `ObjectStore`. Where there is much, what lies deeper than in the folders of adapters is passed over."""
        last = ""
        for number, item in enumerate(self._items(self._pages(self.place.prefix), "Contents", deadline)):
            last = str(item["Key"])
            yield last, _file(item)
            if number + 1 >= FLAT_KEYS:
                break
        else:
            return
        # keys come in the order of their bytes, so that what was listed already is not asked for again
        rest = {"Delimiter": "/", "StartAfter": last}
        for field, item in self._mixed(self._pages(self.place.prefix, **rest), deadline):
            if field == "Contents":
                yield str(item["Key"]), _file(item)
                continue
            for inside in self._items(self._pages(str(item["Prefix"]), **rest), "Contents", deadline):
                yield str(inside["Key"]), _file(inside)

    def folders_in(self, prefix: str) -> list[str]:
        """See `ObjectStore`."""
        ask = partial(self._client.list_objects_v2, Bucket=self._bucket, Prefix=prefix, Delimiter="/")
        page = self._clean(ask)
        return [str(item["Prefix"])[len(prefix) : -1] for item in page.get("CommonPrefixes", ()) if item.get("Prefix")]

    def versions(self, key: str, deadline: float) -> Iterator[RemoteFile]:
        """See `ObjectStore`."""
        pages = self._client.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=key)
        for item in self._items(pages, "Versions", deadline):
            if item["Key"] == key:
                yield replace(_file(item), version=str(item.get("VersionId", "")))

    def describe(self, key: str, file: RemoteFile) -> RemoteFile:
        """See `ObjectStore`."""
        head = self._clean(partial(self._head, self._exactly(key, file)), key)
        if head.get("ContentLength") != file.size_bytes:
            raise AdapterRefused(RefusedReason.FILE_CHANGED, f"{file.path} changed since it was listed: wait")
        if not file.etag and file.tag and _time_tag(head) not in (file.tag, ""):
            raise AdapterRefused(RefusedReason.FILE_CHANGED, f"{file.path} changed since it was listed: wait")
        version = str(head.get("VersionId") or "")
        return replace(file, sha256=_sha256(head), version=file.version or ("" if version == "null" else version))

    def _head(self, exactly: Mapping[str, str]) -> Mapping[str, Any]:
        """HEAD is refused without a word, which the SDK takes for a wrong region: GET says why."""
        try:
            return dict(self._client.head_object(ChecksumMode="ENABLED", **exactly))
        except (ClientError, SourceError) as error:
            if isinstance(error, ClientError) and error.response.get("Error", {}).get("Code") not in ("400", "403"):
                raise
            self._client.get_object(Range="bytes=0-0", **exactly)["Body"].close()
            raise

    def read(self, key: str, file: RemoteFile, begin: int, end: int) -> bytes:
        """See `ObjectStore`."""

        def get() -> bytes:
            answer = self._client.get_object(Range=f"bytes={begin}-{end - 1}", **self._exactly(key, file))
            # a store without ranges sends all of it: no more than was asked for is read of that
            with answer["Body"] as body:
                if "ContentRange" not in answer and begin:
                    return b""
                return bytes(body.read(end - begin))

        return self._clean(get, key)

    def link(self, key: str, file: RemoteFile) -> Link:
        """See `ObjectStore`."""
        now = time.time()
        params = {name: value for name, value in self._exactly(key, file).items() if name != "IfMatch"}
        url = self._clean(
            partial(
                self._client.generate_presigned_url, "get_object", Params=params, ExpiresIn=self._link_seconds or 60
            ),
            key,
        )
        # a second more: stores know parts of one that this time does not have
        until = None if file.etag or file.modified_at is None else formatdate(int(file.modified_at) + 1, usegmt=True)
        headers = {"If-Unmodified-Since": until} if until else {}
        return Link(str(url), headers, expires_at=now + self._link_seconds if self._link_seconds else None)

    def _no_redirect(self, **_: object) -> None:
        """The SDK asks so where a bucket is that it is led away from; where all leads on, it would for ever."""
        raise SourceError(
            "UnexpectedAnswer",
            f"{self._shown!r}: the store leads elsewhere, which is not followed: name its final endpoint and region",
            retryable=False,
        )

    def _exactly(self, key: str, file: RemoteFile) -> dict[str, str]:
        """The parameters for this very content of an object."""
        pins = {"IfMatch": f'"{file.etag}"' if file.etag else "", "VersionId": file.version}
        return {"Bucket": self._bucket, "Key": key} | {name: value for name, value in pins.items() if value}

    def _pages(self, prefix: str, **more: str) -> Any:
        return self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix, **more)

    def _items(self, pages: Any, field: str, deadline: float) -> Iterator[Mapping[str, Any]]:
        for found, item in self._mixed(pages, deadline):
            if found == field:
                yield item

    def _mixed(self, pages: Any, deadline: float) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """What pages list, each with the field that it is in."""
        pages = iter(pages)
        while (page := self._clean(partial(next, pages, None))) is not None:
            if not {"Name", "IsTruncated"} & page.keys():  # a web server's greeting, perhaps
                raise SourceError(
                    "UnexpectedAnswer",
                    f"{self._shown!r}: what answers does not speak like an S3 store: correct the endpoint",
                    retryable=False,
                )
            for field in ("Contents", "Versions"):
                yield from ((field, item) for item in page.get(field, ()) if "Key" in item and "Size" in item)
            yield from (("CommonPrefixes", item) for item in page.get("CommonPrefixes", ()) if item.get("Prefix"))
            if time.monotonic() > deadline:
                raise timed_out(self._shown)

    def _clean(self, call: Callable[[], _T], key: str = "") -> _T:
        shown = f"{self._shown}{key}"[:300]
        return cleanly(call, lambda error: explained(error, repr(shown)))


def _note_answer(surroundings: Surroundings, place: S3Place, response: Any = None, **_: object) -> None:
    said = response[1] if response is not None else {}
    error, metadata = said.get("Error", {}), said.get("ResponseMetadata", {})
    region = str(error.get("Region") or metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region") or "")
    if error.get("Code") in ELSEWHERE and is_region(region):
        surroundings.note_region(place, region)
    if error.get("Code") in BY_HOST_ONLY:
        surroundings.note_by_host(place)


def _file(item: Mapping[str, Any]) -> RemoteFile:
    when = item.get("LastModified")
    return RemoteFile(
        str(item["Key"]).rpartition("/")[2],
        int(item["Size"]),
        str(item.get("ETag") or "").strip('"') or _time_tag(item),
        modified_at=when.timestamp() if isinstance(when, datetime) else None,
    )


def _time_tag(item: Mapping[str, Any]) -> str:
    """What tells versions apart where the store gives no ETag; "" where it tells no time either."""
    when = item.get("LastModified")
    return time_tag(when.timestamp()) if isinstance(when, datetime) else ""


def _when(text: Any) -> datetime | None:
    """None for what is no time: else one object's would make an error of the whole list."""
    try:
        return parse_timestamp(text)  # type: ignore[no-any-return]
    except (ValueError, OverflowError):
        return None


def _sha256(head: Mapping[str, Any]) -> str:
    """Hex, or "" for none, or for one that is a digest of digests."""
    text = str(head.get("ChecksumSHA256") or "")
    if head.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT" or "-" in text:
        return ""
    try:
        digest = base64.b64decode(text, validate=True)
    except binascii.Error:
        return ""
    return digest.hex() if len(digest) == 32 else ""
