"""Through a proxy, as the environment says: what fetches goes by it, and the rules for hosts still hold."""

from __future__ import annotations

import pytest

from lora_operator.artifacts import WEIGHTS_FILE
from lora_operator.fetch.errors import FetchError
from lora_operator.fetch.hosts import HostRules
from lora_operator.fetch.manifest import Link
from lora_operator.fetch.proxies import proxy_for
from lora_operator.sources.http_client import HttpClient
from tests.fetch.ordered import WEIGHTS_URL, Case, an_order

# a name that no resolver knows: only a proxy can lead there
ELSEWHERE = f"http://models.invalid{WEIGHTS_URL}"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def through(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store answers as well when it is asked for the file of another host, as a proxy is."""
    monkeypatch.setenv("HTTP_PROXY", f"http://localhost:{case.store.port}")


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://a.example.com/x", "http://plain:3128"),
        ("https://a.example.com:8443/x", "http://secure:3129"),
        ("https://minio.storage.svc/x", None),
        ("http://10.0.0.7:9000/x", None),
    ],
)
def test_the_proxy_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch, url: str, proxy: str | None) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://plain:3128")
    monkeypatch.setenv("HTTPS_PROXY", "secure:3129")
    monkeypatch.setenv("NO_PROXY", ".svc,10.0.0.7")
    assert proxy_for(url) == proxy


async def test_files_are_fetched_through_it(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    through(case, monkeypatch)
    await case.fetch(an_order(case.files, Link(ELSEWHERE)))
    assert case.whole


async def test_lists_and_headers_are_read_through_it(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    through(case, monkeypatch)
    async with HttpClient(ELSEWHERE) as client:
        answer = await client.ask("GET", ELSEWHERE, {}, limit_bytes=1 << 20)
    assert (answer.status, answer.body) == (200, case.files[WEIGHTS_FILE])


async def test_a_proxy_may_have_a_private_address_and_what_is_asked_for_may_not(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    through(case, monkeypatch)
    rules = HostRules(deny_private=True)
    error = await case.failure(an_order(case.files, Link(f"http://10.0.0.7{WEIGHTS_URL}")), rules=rules)
    assert error.reason == "ForbiddenAddress"
    await case.fetch(an_order(case.files, Link(ELSEWHERE)), rules=rules)
    assert case.whole


async def test_says_that_it_is_the_proxy_that_does_not_answer(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    error = await case.failure(an_order(case.files, Link(ELSEWHERE)))
    assert (error.reason, "its proxy does not answer" in error.message) == ("Unreachable", True)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    await case.fetch()
    assert case.whole


async def test_says_that_it_is_the_proxy_that_refuses(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    # this store knows nothing of CONNECT, and says so as a proxy does that forbids a host
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{case.store.port}")
    with pytest.raises(FetchError, match="its proxy answers 40"):
        await case.fetch(an_order(case.files, Link(ELSEWHERE.replace("http:", "https:"))))
