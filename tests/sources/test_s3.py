"""Adapters in buckets, read from moto's server with the real SDK over HTTP."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

import pytest

from e2e.stores.s3 import KEYS, PAGE_KEYS
from lora_operator.sources import Credentials, SourceError, s3_store
from lora_operator.sources.s3 import S3Source
from tests.sources.adapter_bytes import CONFIG, WEIGHTS, a_request, adapter
from tests.sources.bucket import SECRET, Bucket, downloaded, names
from tests.sources.s3_servers import only_moto


async def test_objects_that_say_how_they_were_uploaded_are_taken_as_they_are(bucket: Bucket) -> None:
    bucket.put(adapter("adapters/alpaca"), ContentEncoding="aws-chunked")
    resolution = await bucket.resolved("/adapters")
    assert names(resolution) == ["alpaca"]
    weights = (await bucket.located(resolution.adapters[0])).files[1]
    assert len(await downloaded(weights)) == weights.size_bytes


@only_moto
async def test_what_lies_deep_below_the_folders_of_adapters_is_not_listed_key_by_key(
    bucket: Bucket, at_sdk: Callable[[str, Callable[..., Any]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    at_sdk("before-parameter-build.s3.ListObjectsV2", lambda params, **_: asked.append(params))
    monkeypatch.setattr(s3_store, "FLAT_KEYS", 4)
    for name in ("alpaca", "code", "sql"):
        bucket.put(adapter(f"adapters/{name}"))
        bucket.put({f"adapters/{name}/logs/{step:03}": b"x" for step in range(3 * PAGE_KEYS)})
    bucket.put({"adapters/README.md": b"x"})
    assert names(await bucket.resolved("/adapters")) == ["alpaca", "code", "sql"]
    assert len(asked) <= 6, "one page, one list of folders, and one of each"
    limited = s3_store.FLAT_KEYS
    monkeypatch.setattr(s3_store, "FLAT_KEYS", 10**6)
    asked.clear()
    assert names(await bucket.resolved("/adapters")) == ["alpaca", "code", "sql"]
    assert len(asked) >= 9 and limited == 4


async def test_finds_one_adapter_per_folder_below_the_prefix(bucket: Bucket) -> None:
    bucket.put(adapter("adapters/a") | adapter("adapters/b", rank=8) | adapter("elsewhere/c"))
    bucket.put(adapter("adapters/a/checkpoint-1") | adapter("adapters/.hidden") | {"adapters/README.md": b"x"})
    for place in ("/adapters", "/adapters/", "/adapters//"):
        found = (await bucket.resolved(place)).adapters
        assert [(each.name, each.inspection.rank) for each in found] == [("a", 4), ("b", 8)]
        assert found[0].location == f"s3://{bucket.name}/adapters/a/"


@pytest.mark.parametrize("form", ["{}", "s3://{}", "s3://{}/"])
async def test_finds_adapters_right_in_the_bucket(bucket: Bucket, form: str) -> None:
    bucket.put(adapter("a"))
    request = a_request("s3", form.format(bucket.name), endpoint=bucket.server.endpoint, credentials=SECRET)
    assert names(await bucket.source.resolve(request, None)) == ["a"]


async def test_finds_one_adapter_at_the_prefix_named_after_it(bucket: Bucket) -> None:
    bucket.put(adapter("adapters/alpaca") | adapter("adapters/alpaca/checkpoint-1"))
    assert names(await bucket.resolved("/adapters/alpaca")) == ["alpaca"]
    bucket.put(adapter())
    assert names(await bucket.resolved()) == [bucket.name]


@only_moto
async def test_lists_more_keys_than_one_page_holds(bucket: Bucket) -> None:
    bucket.put({f"many/a/{number:04}": b"" for number in range(2 * PAGE_KEYS)})
    bucket.put(adapter("many/z"))
    assert names(await bucket.resolved("/many")) == ["z"]
    assert sum("list-type=2" in request for request in bucket.server.requests(bucket.name)) == 3


async def test_knows_the_content_by_the_store_s_digest_or_else_by_its_tag(bucket: Bucket) -> None:
    files = adapter("a", seed=1)
    bucket.put({f"a/{CONFIG}": files[f"a/{CONFIG}"]})
    bucket.put({f"a/{WEIGHTS}": files[f"a/{WEIGHTS}"]}, ChecksumAlgorithm="SHA256")
    bucket.put({f"b/{CONFIG}": files[f"a/{CONFIG}"], f"b/{WEIGHTS}": files[f"a/{WEIGHTS}"]})
    a, b = (await bucket.resolved()).adapters
    sha256 = hashlib.sha256(files[f"a/{WEIGHTS}"]).hexdigest()
    assert {file.path: file.sha256 for file in a.files}[WEIGHTS] == sha256
    (weights,) = [file for file in b.files if file.path == WEIGHTS]
    assert (weights.sha256, weights.tag) == ("", hashlib.md5(files[f"a/{WEIGHTS}"]).hexdigest())
    assert a.fingerprint != b.fingerprint
    assert (await bucket.resolved()).adapters[0].fingerprint == a.fingerprint


@only_moto
async def test_an_unchanged_bucket_is_listed_and_not_read(bucket: Bucket) -> None:
    bucket.put(adapter("adapters/a") | adapter("adapters/bad", peft_type="IA3"))
    first = await bucket.resolved("/adapters")
    before = bucket.server.requests(bucket.name)
    assert sorted(request for request in before if request.startswith("GET") and "list-type" not in request) == [
        f"GET /{bucket.name}/adapters/{key}"
        for key in (f"a/{CONFIG}", f"a/{WEIGHTS}", f"bad/{CONFIG}", f"bad/{WEIGHTS}")
    ]
    second = await bucket.resolved("/adapters", first)
    assert second == first and second.adapters[0] is first.adapters[0]
    (listing,) = bucket.server.requests(bucket.name)[len(before) :]
    assert "list-type=2" in listing


async def test_keeps_the_good_version_while_its_successor_is_broken_or_half_there(bucket: Bucket) -> None:
    bucket.put(adapter("a"))
    first = await bucket.resolved()
    bucket.client.delete_object(Bucket=bucket.name, Key=f"a/{WEIGHTS}")
    half = await bucket.resolved("", first)
    assert half.adapters == first.adapters
    assert [item.reason for item in half.stale] == ["WeightsMissing"]
    bucket.put({f"a/{WEIGHTS}": b"half"})
    broken = await bucket.resolved("", half)
    assert broken.adapters == first.adapters
    assert [item.reason for item in broken.stale] == ["FileTruncated"]
    bucket.put(adapter("a", seed=5))
    healed = await bucket.resolved("", broken)
    assert healed.stale == () and healed.adapters[0].fingerprint != first.adapters[0].fingerprint


async def test_an_update_waits_until_its_files_are_quiet(bucket: Bucket) -> None:
    bucket.put(adapter("a"))
    first = await bucket.resolved()
    bucket.put(adapter("a", seed=5))
    waiting = await bucket.resolved("", first, source=S3Source(settle_seconds=60))
    assert waiting.adapters == first.adapters
    assert waiting.recheck_after_seconds is not None and 30 < waiting.recheck_after_seconds <= 61


async def test_gives_the_config_inline_and_the_weights_as_a_link(bucket: Bucket) -> None:
    files = adapter("adapters/a")
    bucket.put(files)
    (found,) = (await bucket.resolved("/adapters")).adapters
    order = await bucket.located(found)
    assert (order.name, order.fingerprint) == ("a", found.fingerprint)
    config, weights = order.files
    assert config.inline == files[f"adapters/a/{CONFIG}"] and config.link is None
    assert config.sha256 == hashlib.sha256(config.inline).hexdigest()
    assert weights.inline is None and weights.link is not None
    assert weights.link.tag == found.files[1].tag and weights.size_bytes == len(files[f"adapters/a/{WEIGHTS}"])
    assert weights.link.expires_at is not None and time.time() + 3500 < weights.link.expires_at <= time.time() + 3600
    assert await downloaded(weights) == files[f"adapters/a/{WEIGHTS}"]


async def test_signs_links_of_keys_with_signs_that_urls_escape(bucket: Bucket) -> None:
    files = adapter("my models/100% + ü#?&=/a")
    bucket.put(files)
    (found,) = (await bucket.resolved("/my models/100% + ü#?&=")).adapters
    _, weights = (await bucket.located(found)).files
    assert await downloaded(weights) == files[f"my models/100% + ü#?&=/a/{WEIGHTS}"]


async def test_neither_log_nor_repr_shows_a_key_or_a_link(bucket: Bucket, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    bucket.put(adapter("adapters/a"))
    caplog.clear()  # what the test's own client says
    resolution = await bucket.resolved("/adapters")
    order = await bucket.located(resolution.adapters[0])
    shown = caplog.text + repr((resolution, order, bucket.request(), bucket.source))
    assert not any(secret in shown for secret in (*KEYS.values(), "X-Amz", "Signature", "Authorization"))


@only_moto
async def test_a_link_for_session_keys_does_not_outlive_them(bucket: Bucket) -> None:
    bucket.put(adapter("adapters/a"))
    secret = Credentials((*KEYS.items(), ("AWS_SESSION_TOKEN", "a-session")))
    (found,) = (await bucket.resolved("/adapters", credentials=secret)).adapters
    order = await bucket.located(found, credentials=secret)
    assert order.expires_at is not None and order.expires_at <= time.time() + 600
    assert order.files[1].link is not None and "X-Amz-Security-Token=a-session" in order.files[1].link.url


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
async def test_says_that_the_version_is_gone_when_a_file_was_replaced_or_removed(bucket: Bucket, file: str) -> None:
    bucket.put(adapter("adapters/a"))
    (found,) = (await bucket.resolved("/adapters")).adapters
    bucket.put({f"adapters/a/{file}": adapter("a", seed=9, lora_alpha=32)[f"a/{file}"]})
    with pytest.raises(SourceError) as caught:
        await bucket.located(found)
    assert (caught.value.reason, caught.value.retryable) == ("SourceChanged", True)
    bucket.client.delete_object(Bucket=bucket.name, Key=f"adapters/a/{file}")
    with pytest.raises(SourceError) as caught:
        await bucket.located(found)
    assert caught.value.reason == "SourceChanged"


async def test_a_bucket_with_versions_still_gives_the_checked_one_after_it_was_replaced(bucket: Bucket) -> None:
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    old = adapter("adapters/a")
    bucket.put(old)
    (found,) = (await bucket.resolved("/adapters")).adapters
    bucket.put(adapter("adapters/a", seed=9, lora_alpha=32))
    config, weights = (await bucket.located(found)).files
    assert config.inline == old[f"adapters/a/{CONFIG}"] and weights.link is not None
    assert await downloaded(weights) == old[f"adapters/a/{WEIGHTS}"]


@pytest.mark.parametrize("named", [CONFIG, WEIGHTS])
async def test_a_revision_is_the_version_id_of_one_of_the_two_files(bucket: Bucket, named: str) -> None:
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    other = CONFIG if named == WEIGHTS else WEIGHTS
    old, new = adapter("adapters/a"), adapter("adapters/a", seed=9, lora_alpha=32)
    bucket.put(old)
    revision = bucket.client.head_object(Bucket=bucket.name, Key=f"adapters/a/{named}")["VersionId"]
    bucket.put({f"adapters/a/{named}": new[f"adapters/a/{named}"]})
    (found,) = (await bucket.resolved("/adapters/a", revision=revision)).adapters
    config, weights = (await bucket.located(found)).files
    assert config.inline == old[f"adapters/a/{CONFIG}"]
    assert await downloaded(weights) == old[f"adapters/a/{WEIGHTS}"]
    bucket.client.delete_object(Bucket=bucket.name, Key=f"adapters/a/{other}")
    assert (await bucket.resolved("/adapters/a", revision=revision)).adapters == (found,)


async def test_says_that_there_is_no_such_revision(bucket: Bucket) -> None:
    bucket.put(adapter("adapters/a"))
    with pytest.raises(SourceError) as caught:
        await bucket.resolved("/adapters/a", revision="0123456789")
    assert (caught.value.reason, caught.value.retryable) == ("RevisionNotFound", False)


@only_moto
async def test_a_public_bucket_needs_no_secret(bucket: Bucket) -> None:
    bucket.client.put_bucket_acl(Bucket=bucket.name, ACL="public-read")
    bucket.put(adapter("adapters/a"), ACL="public-read")
    (found,) = (await bucket.resolved("/adapters", credentials=None)).adapters
    weights = (await bucket.located(found, credentials=None)).files[1]
    assert weights.link is not None and weights.link.expires_at is None and "?" not in weights.link.url
    assert len(await downloaded(weights)) == found.files[1].size_bytes


@pytest.mark.parametrize(
    ("place", "hint"),
    [
        ("/adaptrs", "/ has no 'adaptrs', but the folders 'adapters', …"),
        ("/adapters/2024/x", "adapters/ has no '2024', but the folders 'alpaca', 'zebra'"),
        ("", "/ has the folders 'adapters', 'other'"),
        ("/other/deep", "other/deep/ has the folders 'er'"),
    ],
)
async def test_what_there_is_near_a_mistyped_prefix_is_said(bucket: Bucket, place: str, hint: str) -> None:
    bucket.put(adapter("adapters/alpaca") | adapter("adapters/zebra") | {"other/deep/er/model.bin": b"x"})
    resolution = await bucket.resolved(place)
    assert (resolution.adapters, resolution.broken) == ((), ())
    assert hint in resolution.hint and resolution.hint.startswith(f"s3://{bucket.name}/")


async def test_a_bucket_is_read_through_a_proxy_where_the_environment_names_one(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put(adapter("one"))
    monkeypatch.setenv("HTTP_PROXY", bucket.server.endpoint)
    resolution = await bucket.resolved(source=S3Source(settle_seconds=0), endpoint="http://192.0.2.1:9000")
    assert names(resolution) == ["one"]
