"""Stores that speak S3 in their own way: other regions, no ETags, the same for all, odd lists, keys of owners."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse, HeadersDict

from lora_operator.sources import SourceError
from lora_operator.sources.s3 import S3Source
from tests.sources.adapter_bytes import adapter
from tests.sources.bucket import Bucket, downloaded, names
from tests.sources.s3_servers import only_moto

AtSdk = Callable[[str, Callable[..., Any]], None]
WRONG_REGION = (
    "<Error><Code>AuthorizationHeaderMalformed</Code><Message>wrong region</Message><Region>site-1</Region></Error>"
)
OWN_KEY = (
    "<Error><Code>InvalidRequest</Code><Message>The object was stored using a form of Server Side Encryption. The "
    "correct parameters must be provided to retrieve the object.</Message></Error>"
)


class Sent(io.BytesIO):
    """A body as the SDK reads it."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


def refused(request: Any, said: str) -> AWSResponse:
    """HEAD is refused without a word, as it has no body."""
    body = b"" if request.method == "HEAD" else said.encode()
    return AWSResponse(request.url, 400, HeadersDict({"content-type": "application/xml"}), Sent(body))


async def test_objects_without_etags_are_told_apart_by_the_time_of_their_change(bucket: Bucket, at_sdk: AtSdk) -> None:
    def without_etags(http_response: Any, parsed: Any, **_: Any) -> None:
        for item in (parsed, *parsed.get("Contents", ())):
            item.pop("ETag", None)

    at_sdk("after-call.s3", without_etags)
    bucket.put(adapter("adapters/alpaca"))
    resolution = await bucket.resolved("/adapters")
    assert names(resolution) == ["alpaca"] and not resolution.broken
    manifest = await bucket.located(resolution.adapters[0])
    assert manifest.files[1].link is not None and manifest.files[1].link.tag == ""
    assert len(await downloaded(manifest.files[1])) == manifest.files[1].size_bytes


async def test_an_overwrite_is_noticed_though_the_store_gives_one_etag_to_all(bucket: Bucket, at_sdk: AtSdk) -> None:
    changed_at = datetime(2026, 1, 1, tzinfo=UTC)

    def one_etag(http_response: Any, parsed: Any, **_: Any) -> None:
        for item in (parsed, *parsed.get("Contents", ())):
            if "LastModified" in item:
                item.update(ETag='"constant"', LastModified=changed_at)

    at_sdk("after-call.s3", one_etag)
    bucket.put(adapter("adapters/alpaca"))
    first = await bucket.resolved("/adapters")
    link = (await bucket.located(first.adapters[0])).files[1].link
    assert link is not None and link.tag == ""
    assert dict(link.headers) == {"If-Unmodified-Since": "Thu, 01 Jan 2026 00:00:01 GMT"}
    changed_at = datetime(2026, 1, 2, tzinfo=UTC)
    bucket.put(adapter("adapters/alpaca", seed=9))
    second = await bucket.resolved("/adapters", first)
    assert second.adapters[0].fingerprint != first.adapters[0].fingerprint
    with pytest.raises(SourceError) as caught:
        await bucket.located(first.adapters[0])
    assert caught.value.reason == "SourceChanged"


@pytest.mark.parametrize(
    ("was", "odd"),
    [(b"<ETag>", b"<ETag>odd"), (b"<LastModified>", b"<LastModified>soon "), (b"<Size>", b"<Was>")],
    ids=["ETag", "LastModified", "no Size"],
)
async def test_an_object_that_a_store_lists_oddly_harms_no_other(
    bucket: Bucket, at_sdk: AtSdk, was: bytes, odd: bytes
) -> None:
    def listed_oddly(response_dict: Any, **_: Any) -> None:
        body = response_dict["body"].replace(was, odd, 1)
        end = was.replace(b"<", b"</")
        response_dict["body"] = body.replace(end, b"</Was>", 1) if odd == b"<Was>" else body

    at_sdk("before-parse.s3.ListObjectsV2", listed_oddly)
    bucket.put(adapter("adapters/alpaca") | adapter("adapters/zebra"))
    resolution = await bucket.resolved("/adapters", source=S3Source(settle_seconds=0))
    assert "zebra" in names(resolution)


async def test_an_object_that_only_its_owner_can_read_is_named_with_the_reason(bucket: Bucket, at_sdk: AtSdk) -> None:
    """As AWS and MinIO answer for SSE-C."""
    at_sdk("before-send.s3", lambda request, **_: refused(request, OWN_KEY) if "/alpaca/" in request.url else None)
    bucket.put(adapter("adapters/alpaca") | adapter("adapters/zebra"))
    resolution = await bucket.resolved("/adapters")
    assert names(resolution) == ["zebra"]
    (broken,) = resolution.broken
    assert (broken.name, broken.reason) == ("alpaca", "ObjectEncrypted") and "SSE-C" in broken.message


@only_moto
@pytest.mark.parametrize("region", [None, "us-east-1"], ids=["no region", "a wrong region"])
async def test_the_region_that_the_store_says_is_adopted(bucket: Bucket, at_sdk: AtSdk, region: str | None) -> None:
    def only_its_region(request: Any, **_: Any) -> Any:
        signed = str(request.headers.get("Authorization") or request.url)
        return None if "/site-1/s3/" in signed else refused(request, WRONG_REGION)

    at_sdk("before-send.s3", only_its_region)
    bucket.put(adapter("adapters/alpaca"))
    resolution = await bucket.resolved("/adapters", region=region)
    assert names(resolution) == ["alpaca"]
    weights = (await bucket.located(resolution.adapters[0], region=region)).files[1]
    assert weights.link is not None and "site-1" in weights.link.url
    assert len(await downloaded(weights)) == weights.size_bytes
