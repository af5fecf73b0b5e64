"""Adapters in folders of a web server."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from e2e.controlplane.processes import free_ports
from e2e.stores.proxy import Fault
from e2e.stores.web import WebStore
from lora_operator.artifacts import AdapterRefused
from lora_operator.fetch.limits import Limits
from lora_operator.sources import Credentials, Resolution, SourceError
from lora_operator.sources.http import HttpSource
from lora_operator.sources.http_client import Answer, HttpClient, Patience
from lora_operator.sources.http_ranges import read_range
from lora_operator.sources.remote_inspection import RemoteFile
from tests.sources.adapter_bytes import CONFIG, WEIGHTS, a_request, adapter
from tests.sources.told import all_texts

TOKEN = "aTokenThatNobodyMaySee"
OWN = Credentials((("token", TOKEN),))
SHORT = Patience(connect_seconds=2.0, idle_seconds=0.2, total_seconds=0.5)
LAST_YEAR = "Wed, 21 Oct 2015 07:28:00 GMT"


def at(folder: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}/{path}": content for path, content in files.items()}


@pytest.fixture
async def store() -> AsyncIterator[WebStore]:
    async with WebStore(at("/loras/one", adapter())) as store:
        yield store


async def resolved(
    store: WebStore, path: str = "/loras/one", previous: Resolution | None = None, **changes: Any
) -> Resolution:
    # only what never ends is waited for by the clock: a busy machine takes its time for all else
    patience = SHORT if store.always.stall_after is not None else None
    return await HttpSource(patience=patience).resolve(a_request("http", store.url(path), **changes), previous)


async def refused(store: WebStore, path: str = "/loras/one", **changes: Any) -> SourceError:
    with pytest.raises(SourceError) as caught:
        await resolved(store, path, **changes)
    return caught.value


async def test_finds_the_adapter_at_the_url(store: WebStore) -> None:
    (found,) = (await resolved(store, "/loras/one/")).adapters
    config, weights = found.files
    assert (found.name, found.inspection.rank) == ("one", 4)
    assert config.sha256 == hashlib.sha256(store.files[f"/loras/one/{CONFIG}"]).hexdigest()  # type: ignore[arg-type]
    assert (weights.sha256, weights.tag) == ("", store.tag(f"/loras/one/{WEIGHTS}"))


async def test_reads_only_the_beginning_of_the_weights_even_without_ranges(store: WebStore) -> None:
    store.always = Fault(ranges=False)
    store.files[f"/loras/one/{WEIGHTS}"] += bytes(8 << 20)  # type: ignore[operator]
    resolution = await resolved(store)
    assert [item.reason for item in resolution.broken] == ["TrailingData"]
    assert store.sent_bytes < 8 << 20


async def test_finds_the_folders_that_are_named(store: WebStore) -> None:
    store.files |= at("/loras/two", adapter(seed=1)) | at("/loras/three", adapter(seed=2))
    resolution = await resolved(store, "/loras", adapters=("one", "two", "four"))
    assert [found.name for found in resolution.adapters] == ["one", "two"]
    assert [(item.name, item.reason) for item in resolution.broken] == [("four", "NotFound")]


async def test_says_what_is_needed_where_there_is_no_adapter(store: WebStore) -> None:
    error = await refused(store, "/loras")
    assert (error.reason, error.retryable) == ("NoAdapterHere", False)
    assert "adapters" in error.message


async def test_asks_for_no_name_that_is_none(store: WebStore) -> None:
    resolution = await resolved(store, "/loras", adapters=("one", "../../etc"))
    assert [item.reason for item in resolution.broken] == ["InvalidName"]
    assert not [path for path in store.paths if "etc" in path]


async def test_reads_nothing_again_while_nothing_changed(store: WebStore) -> None:
    first = await resolved(store)
    store.requests.clear()
    assert await resolved(store, previous=first) == first
    assert {asked.method for asked in store.requests} == {"HEAD"}


async def test_keeps_the_good_version_while_its_successor_is_broken(store: WebStore) -> None:
    first = await resolved(store)
    store.files.pop(f"/loras/one/{WEIGHTS}")
    second = await resolved(store, previous=first)
    assert second.adapters == first.adapters
    assert [item.reason for item in second.stale] == ["WeightsMissing"]


async def test_one_folder_that_fails_hides_no_other(store: WebStore) -> None:
    store.files |= at("/loras/two", adapter(seed=1))
    first = await resolved(store, "/loras", adapters=("one", "two"))
    store.faults[f"/loras/two/{WEIGHTS}"] = Fault(status=500)
    second = await resolved(store, "/loras", first, adapters=("one", "two"))
    assert second.adapters == first.adapters
    assert [(item.name, item.reason) for item in second.stale] == [("two", "ServerError")]
    assert second.recheck_after_seconds is not None


async def test_explains_pickles_and_added_tokens(store: WebStore) -> None:
    store.files[f"/loras/pickle/{CONFIG}"] = store.files[f"/loras/one/{CONFIG}"]
    store.files["/loras/pickle/adapter_model.bin"] = b"\x80\x04"
    store.files |= at("/loras/tokens", adapter() | {"new_embeddings.safetensors": b"x"})
    resolution = await resolved(store, "/loras", adapters=("pickle", "tokens"))
    assert [item.reason for item in resolution.broken] == ["PickleRefused", "FeatureUnsupported"]


async def test_orders_the_config_inline_and_the_weights_by_url_with_the_token(store: WebStore) -> None:
    store.token = TOKEN
    (found,) = (await resolved(store, credentials=OWN)).adapters
    request = a_request("http", store.url("/loras/one"), credentials=OWN)
    order = await HttpSource().locate(request, found)
    config, weights = order.files
    assert config.inline == store.files[f"/loras/one/{CONFIG}"]
    assert weights.link is not None
    assert weights.link.url == store.url(f"/loras/one/{WEIGHTS}")
    assert weights.link.tag == store.tag(f"/loras/one/{WEIGHTS}")
    assert weights.link.headers["Authorization"] == f"Bearer {TOKEN}"
    assert order.shows_secret
    assert TOKEN not in repr(order)


async def test_orders_by_the_url_that_the_server_leads_to_without_the_token(store: WebStore) -> None:
    """As artifact stores do: who shows the token is led to a signed URL at another host."""
    store.token = TOKEN
    async with WebStore(at("/loras/one", adapter())) as storage:
        path = f"/loras/one/{WEIGHTS}"
        signed = storage.url(path, host="localhost") + "?signature=s1gned&Expires=4102444800"
        store.files[path] = storage.files[path]
        store.faults[path] = Fault(redirect=signed)
        (found,) = (await resolved(store, credentials=OWN)).adapters
        order = await HttpSource().locate(a_request("http", store.url("/loras/one"), credentials=OWN), found)
    (link,) = order.links
    assert (link.url, dict(link.headers), link.expires_at) == (signed, {}, 4102444800.0)
    assert not order.shows_secret


async def test_locates_no_version_that_was_replaced(store: WebStore) -> None:
    (found,) = (await resolved(store)).adapters
    for path, content in at("/loras/one", adapter(seed=8, lora_alpha=1)).items():
        before = store.files[path]
        store.files[path] = content
        store._tags.clear()
        with pytest.raises(SourceError) as caught:
            await HttpSource().locate(a_request("http", store.url("/loras/one")), found)
        assert (caught.value.reason, caught.value.retryable) == ("SourceChanged", True)
        store.files[path] = before


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
async def test_a_url_of_one_of_the_two_files_stands_for_their_folder(store: WebStore, file: str) -> None:
    (found,) = (await resolved(store, f"/loras/one/{file}")).adapters
    assert found == (await resolved(store)).adapters[0] and found.name == "one"
    order = await HttpSource().locate(a_request("http", store.url(f"/loras/one/{file}")), found)
    assert [link.url for link in order.links] == [store.url(f"/loras/one/{WEIGHTS}")]


async def test_a_server_that_wants_a_password_gets_it_and_is_the_only_one(store: WebStore) -> None:
    store.login = "reader:pass word:with a colon"
    secret = Credentials((("username", "reader"), ("password", "pass word:with a colon")), hosts=("127.0.0.1",))
    (found,) = (await resolved(store, credentials=secret)).adapters
    order = await HttpSource().locate(a_request("http", store.url("/loras/one"), credentials=secret), found)
    assert order.shows_secret and "pass" not in repr(order)
    for given in (None, Credentials((("username", "reader"), ("password", "hidden")))):
        error = await refused(store, credentials=given)
        assert error.reason == "AuthenticationFailed" and "'username' and 'password'" in error.message
        assert "hidden" not in str(error)
    error = await refused(store, credentials=replace(secret, hosts=("elsewhere.example",)))
    assert error.reason == "CredentialsForOtherHost"
    error = await refused(store, credentials=Credentials((("password", "hidden"),)))
    assert error.reason == "CredentialsIncomplete" and "hidden" not in error.message


async def test_links_of_an_open_server_show_no_secret(store: WebStore) -> None:
    (found,) = (await resolved(store)).adapters
    assert not (await HttpSource().locate(a_request("http", store.url("/loras/one")), found)).shows_secret


async def test_takes_the_time_of_the_last_change_where_there_is_no_etag(store: WebStore) -> None:
    store.always = Fault(tag="", headers={"Last-Modified": LAST_YEAR})
    (found,) = (await resolved(store)).adapters
    order = await HttpSource().locate(a_request("http", store.url("/loras/one")), found)
    link = order.files[1].link
    assert link is not None
    assert (link.tag, dict(link.headers)) == ("", {"If-Unmodified-Since": LAST_YEAR})


async def test_works_with_a_server_that_knows_no_head_or_tells_little_there(store: WebStore) -> None:
    store.always = Fault(chunked=True)
    (first,) = (await resolved(store)).adapters
    store.always = Fault()
    store.knows_head = False
    (second,) = (await resolved(store)).adapters
    assert first == second


async def test_follows_redirects_without_showing_the_token_to_other_hosts(store: WebStore) -> None:
    async with WebStore({}) as entrance:
        entrance.token = TOKEN
        for path in store.files:
            entrance.faults[path] = Fault(redirect=store.url(path, host="localhost"))
        (found,) = (await resolved(entrance, credentials=OWN)).adapters
    assert found.name == "one"
    assert {asked.authorization for asked in store.requests} == {""}


async def test_follows_five_redirects_and_no_more(store: WebStore) -> None:
    store.files |= at("/6", adapter())
    for path in (CONFIG, WEIGHTS, "new_embeddings.safetensors"):
        store.faults |= {f"/{n}/{path}": Fault(redirect=f"/{n + 1}/{path}") for n in range(6)}
    assert (await resolved(store, "/1")).adapters
    assert (await refused(store, "/0")).reason == "RedirectLoop"


def unexpected(answer: Answer) -> SourceError:
    return SourceError("Unexpected", str(answer.status), retryable=False)


async def test_takes_no_pieces_of_two_versions(store: WebStore) -> None:
    path = f"/loras/one/{WEIGHTS}"
    url, size = store.url(path), len(store.files[path])  # type: ignore[arg-type]
    store.always = Fault(tag='W/"new"')
    async with HttpClient(url) as client:
        for listed in ('W/"old"', '"old"'):
            file = RemoteFile(WEIGHTS, size, listed)
            with pytest.raises(AdapterRefused) as caught:
                await read_range(
                    client, url, file, 0, 8, lambda answer: SourceError("No", "no", retryable=False), listed
                )
            assert caught.value.transient


FAILURES = {
    "no ETag": (Fault(tag=""), "NoVersionTold", False),
    "no length": (Fault(chunked=True, ranges=False), "SizeUnknown", False),
    "two terabytes": (Fault(announced=2 << 40), "TooLarge", False),
    "needs a token": (Fault(status=401), "AuthenticationFailed", False),
    "forbidden": (Fault(status=403), "AccessDenied", False),
    "too often": (Fault(status=429, headers={"Retry-After": "3"}), "RateLimited", True),
    "fails": (Fault(status=502), "ServerError", True),
    "compressed": (Fault(headers={"Content-Encoding": "br"}), "BadAnswer", False),
    "circles": (Fault(redirect=f"/loras/one/{CONFIG}"), "RedirectLoop", False),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_names_what_is_wrong_with_the_server(store: WebStore, name: str) -> None:
    fault, reason, retryable = FAILURES[name]
    store.always = fault
    error = await refused(store)
    assert (error.reason, error.retryable) == (reason, retryable), error.message
    assert error.retry_after_seconds == (3 if reason == "RateLimited" else None)


@pytest.mark.parametrize(
    ("path", "advice"),
    [("/x.tar.xz", "pack it as .tar.gz"), ("/x.7z", "pack it as"), ("/loras/one/model.safetensors", "name the folder")],
)
async def test_what_is_neither_folder_nor_archive_is_said_with_what_to_do(
    store: WebStore, path: str, advice: str
) -> None:
    error = await refused(store, path)
    assert (error.reason, error.retryable) == ("BadRepository", False) and advice in error.message


@pytest.mark.parametrize("encoding", ["aws-chunked", "gzip", "x-gzip", "aws-chunked, gzip"])
async def test_what_a_store_calls_an_encoding_of_kept_bytes_is_taken_as_it_is(store: WebStore, encoding: str) -> None:
    store.always = Fault(headers={"Content-Encoding": encoding})
    found = await HttpSource().resolve(a_request("http", store.url("/loras/one")), None)
    assert [adapter.name for adapter in found.adapters] == ["one"]


async def test_refuses_what_is_larger_than_a_fetch_would_take(store: WebStore) -> None:
    source = HttpSource(limits=Limits(file_bytes=1000))
    with pytest.raises(SourceError) as caught:
        await source.resolve(a_request("http", store.url("/loras/one")), None)
    assert caught.value.reason == "TooLarge"


async def test_gives_no_secret_away_however_it_fails(store: WebStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    (nobody,) = free_ports(1)
    errors = []
    for host in (f"127.0.0.1:{nobody}", "[", "169.254.169.254", "no-such-host.invalid", "host:port"):
        store.always = Fault(redirect=f"http://{host}/x?sig=s3cr3t")
        errors += [await refused(store, credentials=OWN), await refused(store, "/x.tar.gz", credentials=OWN)]
    for fault in (Fault(status=401), Fault(status=500), Fault(cut_after=5), Fault(raw=b"SSH"), Fault(stall_after=5)):
        store.always = fault
        errors.append(await refused(store, credentials=OWN))
    for text in [caplog.text, *all_texts(errors)]:
        assert TOKEN not in text
        assert "s3cr3t" not in text


async def test_takes_no_body_that_ends_too_early(store: WebStore) -> None:
    store.faults[f"/loras/one/{WEIGHTS}"] = Fault(cut_after=20)
    error = await refused(store)
    assert (error.reason, error.retryable) == ("ConnectionLost", True)


@pytest.mark.parametrize(
    "url", ["http://user:pw@host/x", "http://host/x?sig=1", "http://[::1", "http://host:1x/", "ftp://host/x", "x"]
)
async def test_refuses_urls_that_hold_secrets_or_are_none(url: str) -> None:
    with pytest.raises(SourceError) as caught:
        await HttpSource().resolve(a_request("http", url), None)
    assert caught.value.reason in ("BadRepository", "ForbiddenUrl")
    assert "pw" not in caught.value.message
    assert "sig" not in caught.value.message
