"""A hub that fails, or is none: each failure has its reason, says whether it can heal, and gives no secret away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web

from e2e.controlplane.processes import free_ports
from e2e.stores.hub import LocalHub, Repository
from e2e.stores.proxy import Fault, FaultyStore
from lora_operator.fetch.hosts import HostRules
from lora_operator.sources import Credentials, SourceError
from lora_operator.sources.http_client import Patience
from lora_operator.sources.huggingface import HuggingFaceSource
from tests.sources.adapter_bytes import a_request, adapter
from tests.sources.told import all_texts

TOKEN = "hf_aTokenThatNobodyMaySee"
OWN = Credentials((("token", TOKEN),))
SHORT = Patience(connect_seconds=2.0, idle_seconds=0.2, total_seconds=0.5)


@pytest.fixture
async def hub() -> AsyncIterator[LocalHub]:
    async with LocalHub(tokens=frozenset({TOKEN})) as hub:
        hub.repositories["org/a"] = Repository("org/a")
        hub.repositories["org/a"].commit(adapter())
        yield hub


@pytest.fixture
async def no_hub() -> AsyncIterator[FaultyStore]:
    async with FaultyStore({}) as store:
        yield store


async def refused(endpoint: str, repository: str = "org/a", **options: Any) -> SourceError:
    with pytest.raises(SourceError) as caught:
        await HuggingFaceSource(endpoint=endpoint, **options).resolve(
            a_request("huggingface", repository, credentials=OWN), None
        )
    return caught.value


@dataclass(frozen=True)
class Case:
    """An answer of something that should be a hub, and what is to be said of it."""

    fault: Fault
    reason: str
    retryable: bool


CASES = {
    "too many requests": Case(Fault(status=429, headers={"Retry-After": "7"}), "RateLimited", True),
    "the hub's own way": Case(Fault(status=429, headers={"RateLimit": '"api";r=0;t=7'}), "RateLimited", True),
    "overloaded": Case(Fault(status=503, headers={"Retry-After": "7"}), "ServerError", True),
    "teapot": Case(Fault(status=418), "BadAnswer", False),
    "not HTTP": Case(Fault(raw=b"SSH-2.0-OpenSSH_9.9\r\n\r\n"), "BadAnswer", True),
    "redirect in circles": Case(Fault(redirect="/api/models/org/a"), "RedirectLoop", False),
    "redirect to a file": Case(Fault(redirect="file:///etc/passwd"), "ForbiddenUrl", False),
    "redirect to the cloud": Case(Fault(redirect="http://169.254.169.254/latest"), "ForbiddenAddress", False),
}


@pytest.mark.parametrize("name", CASES)
async def test_names_what_is_wrong_with_the_answer(no_hub: FaultyStore, name: str) -> None:
    case = CASES[name]
    no_hub.always = case.fault
    error = await refused(no_hub.url(""))
    assert (error.reason, error.retryable) == (case.reason, case.retryable), error.message
    if "7" in str(case.fault.headers):
        assert error.retry_after_seconds == 7


PAGES = {
    "not JSON": b"<html>It works!</html>",
    "another JSON": b"[1, 2]",
    "no commit": b'{"id": "org/a", "sha": "../../x"}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("name", PAGES)
async def test_names_an_endpoint_that_is_no_hub(no_hub: FaultyStore, name: str) -> None:
    no_hub.files["/api/models/org/a"] = PAGES[name]
    error = await refused(no_hub.url(""))
    assert (error.reason, error.retryable) == ("BadAnswer", False)
    assert "endpoint" in error.message


async def test_reads_no_list_without_end(no_hub: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_operator.sources.huggingface_sdk.MAX_ANSWER_BYTES", 100_000)
    no_hub.files["/api/models/org/a"] = b" " * 200_000
    no_hub.always = Fault(chunked=True, stall_after=150_000)
    assert (await refused(no_hub.url(""))).reason == "AnswerTooLarge"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(Fault(stall_after=3), "Stalled"), (Fault(cut_after=3), "ConnectionLost")],
)
async def test_waits_for_no_answer_that_does_not_end(no_hub: FaultyStore, fault: Fault, reason: str) -> None:
    no_hub.files["/api/models/org/a"] = b'{"id": "org/a"}'
    no_hub.always = fault
    error = await refused(no_hub.url(""), patience=SHORT)
    assert (error.reason, error.retryable) == (reason, True)


async def test_says_that_nobody_answers_at_the_endpoint() -> None:
    error = await refused(f"http://127.0.0.1:{free_ports(1)[0]}")
    assert (error.reason, error.retryable) == ("ConnectionRefused", True)


async def test_says_that_the_endpoint_is_unknown_to_dns() -> None:
    error = await refused("http://no-such-host.invalid")
    assert (error.reason, error.retryable) == ("HostNotFound", True)


async def test_says_that_the_endpoint_speaks_no_tls(no_hub: FaultyStore) -> None:
    assert (await refused(no_hub.url("").replace("http:", "https:"))).reason == "TlsFailed"


@pytest.mark.parametrize("endpoint", ["http://[::1", "http://host:port", "ftp://host", "host"])
async def test_asks_no_endpoint_that_is_no_url(endpoint: str) -> None:
    error = await refused(endpoint)
    assert error.reason in ("ForbiddenUrl", "BadAnswer")
    assert not error.retryable


async def test_ends_at_once_when_nobody_waits_for_the_answer_any_more(no_hub: FaultyStore) -> None:
    no_hub.files["/api/models/org/a"] = b'{"id": "org/a"}'
    no_hub.always = Fault(stall_after=3)
    source = HuggingFaceSource(endpoint=no_hub.url(""))
    asking = asyncio.create_task(source.resolve(a_request("huggingface", "org/a"), None))
    await no_hub.asked.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    no_hub.always = Fault()
    no_hub.files["/api/models/org/a"] = b"{}"
    with pytest.raises(SourceError):  # its threads are free again
        await asyncio.wait_for(source.resolve(a_request("huggingface", "org/a"), None), 60)


async def test_asks_no_host_that_the_operator_may_not_ask(hub: LocalHub) -> None:
    error = await refused(hub.url, rules=HostRules(allowed=("huggingface.co", "*.hf.co")))
    assert (error.reason, error.retryable) == ("ForbiddenUrl", False)
    assert hub.seen == []


async def test_follows_the_hub_to_no_file_store_that_the_operator_may_not_ask(hub: LocalHub) -> None:
    allowed = HostRules(allowed=("localhost",))
    error = await refused(hub.url.replace("127.0.0.1", "localhost"), rules=allowed)
    assert (error.reason, error.retryable) == ("ForbiddenUrl", False)
    assert [seen for seen in hub.seen if seen.host == "files"] == []


async def test_asks_again_later_when_the_file_store_refuses_a_link_of_the_hub(hub: LocalHub) -> None:
    hub.link_seconds = -100.0
    error = await refused(hub.url)
    assert (error.reason, error.retryable) == ("ServerError", True)


async def test_gives_no_secret_away_however_it_fails(
    hub: LocalHub, no_hub: FaultyStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "Signature=" + "5" * 64
    signed = f"http://127.0.0.1:{free_ports(1)[0]}/blob?{secret}"
    errors = []
    for fault in (Fault(redirect=signed), Fault(redirect=f"{signed}\x00["), Fault(status=403), Fault(status=401)):
        no_hub.always = fault
        errors.append(await refused(no_hub.url("")))
    hub.script.extend([_moved(hub, signed)] * 3)
    errors.append(await refused(hub.url))
    hub.script.clear()
    source, request = HuggingFaceSource(endpoint=hub.url), a_request("huggingface", "org/a", credentials=OWN)
    (found,) = (await source.resolve(request, None)).adapters
    order = await source.locate(request, found)
    texts = [caplog.text, repr(request), repr(found), repr(order), repr(source), *all_texts(errors)]
    for text in texts:
        assert TOKEN not in text
        assert "Signature" not in text
        assert "Expires=" not in text


def _moved(hub: LocalHub, to: str) -> Any:
    return lambda request: web.Response(status=307, headers={"Location": to})
