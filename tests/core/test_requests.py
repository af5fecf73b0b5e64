"""Who was asked for is known at once, whatever happens to the ConfigMap, the API server or the right to read it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from lora_operator.api.usage_record import CONFIG_MAP, entry_of, key_of
from lora_operator.informers import usage_record as requests
from lora_operator.informers.usage_record import Requests
from tests.core.api_server import ApiServer, an_api_server

PATH = f"/api/v1/namespaces/home/configmaps/{CONFIG_MAP}"
AT = datetime(2026, 11, 21, 17, 50, tzinfo=UTC)
NOW = AT.timestamp()


class Watched:
    """A record, its watcher, and a way to wait for what the watcher knows."""

    def __init__(self, api: ApiServer, *namespaces: str) -> None:
        self.api = api
        self.news = asyncio.Event()
        self.ignored = 0
        self.requests = Requests(api.kube, "home", self.news.set, self._ignore, namespaces, lambda: NOW)

    def _ignore(self) -> None:
        self.ignored += 1

    def put(self, *names: str, ago: float = 0.0, **more: str) -> None:
        data = dict(entry_of("ns", name, AT - timedelta(seconds=ago)) for name in names)
        self.api.put(PATH, {"metadata": {"name": CONFIG_MAP}, "data": data | more})

    def names(self) -> list[str]:
        return sorted(name for _, name in self.requests.asked)

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not done():
                self.news.clear()
                if not done():
                    await self.news.wait()

    async def begin(self) -> None:
        self.requests.sync_targets(True)
        await self.requests.first_reads(10)
        await self.api.until_calls(2)  # it was read, and is being watched


@asynccontextmanager
async def watched(*namespaces: str) -> AsyncIterator[Watched]:
    async with an_api_server() as api:
        found = Watched(api, *namespaces)
        try:
            yield found
        finally:
            await found.requests.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(requests, "REFUSED_SECONDS", 0.02)


async def test_knows_at_the_first_read_who_was_asked_for_before() -> None:
    async with watched() as it:
        it.put("sql")
        await it.begin()
        assert it.requests.asked == {("ns", "sql"): NOW}


async def test_nothing_is_read_before_somebody_needs_it() -> None:
    async with watched() as it:
        it.requests.sync_targets(False)
        await it.requests.first_reads(10)
        it.requests.tidy((), 300.0, NOW)
        assert not it.api.calls


async def test_learns_of_changes_and_of_a_record_that_comes_and_goes() -> None:
    async with watched() as it:
        await it.begin()
        assert it.names() == []
        it.put("sql")
        await it.until(lambda: it.names() == ["sql"])
        it.put("sql", "chat")
        await it.until(lambda: it.names() == ["chat", "sql"])
        it.put("chat", ago=60)
        await it.until(lambda: it.names() == ["chat"])
        assert it.requests.asked["ns", "chat"] == NOW - 60
        it.api.remove(PATH)
        await it.until(lambda: it.names() == [])


async def test_a_clock_that_differs_is_told_once_until_it_is_right(caplog: pytest.LogCaptureFixture) -> None:
    async with watched() as it:
        it.put("old", ago=3600)  # there before us: nobody can tell what the clock said then
        await it.begin()
        it.put("a")
        await it.until(lambda: it.names() == ["a"])
        assert "clock" not in caplog.text
        for ago, name, words in ((400, "b", "400 s behind"), (500, "c", ""), (0, "d", ""), (-90, "e", "90 s ahead")):
            caplog.clear()
            it.put(name, ago=ago)
            await it.until(lambda name=name: it.names() == [name])  # type: ignore[misc]
            assert words in caplog.text and bool(words) == ("clock" in caplog.text)


async def test_goes_on_after_the_watch_has_ended_or_its_version_is_too_old() -> None:
    async with watched() as it:
        await it.begin()
        it.api.streams[PATH].put_nowait(None)
        await it.api.until_calls(4)
        it.put("sql")
        await it.until(lambda: it.names() == ["sql"])
        it.api.streams[PATH].put_nowait({"type": "ERROR", "object": {"code": 410}})
        await it.api.until_calls(6)
        it.put("chat")
        await it.until(lambda: it.names() == ["chat"])


async def test_what_is_known_stays_while_the_api_server_is_away_or_refuses(caplog: pytest.LogCaptureFixture) -> None:
    async with watched() as it:
        it.put("sql")
        await it.begin()
        it.api.away = True
        it.api.streams[PATH].put_nowait(None)
        await it.api.until_calls(5)
        assert it.names() == ["sql"]
        it.api.away = False
        it.put("chat")
        await it.until(lambda: it.names() == ["chat"])
    assert len([one for one in caplog.records if "cannot be read" in one.message]) == 1


async def test_an_api_server_that_refuses_for_a_moment_is_asked_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "REFUSED_SECONDS", 3600.0)  # only whoever refuses again and again is asked so late
    async with watched() as it:
        it.put("sql")
        it.api.statuses[PATH] = 403
        it.requests.sync_targets(True)
        await it.requests.first_reads(10)
        await it.api.until_calls(2)
        del it.api.statuses[PATH]
        await it.until(lambda: it.names() == ["sql"])


async def test_without_the_right_to_read_it_says_what_to_do_once(caplog: pytest.LogCaptureFixture) -> None:
    async with watched() as it:
        it.api.statuses[PATH] = 403
        it.requests.sync_targets(True)
        await it.requests.first_reads(10)
        await it.api.until_calls(3)
        assert it.names() == []
        del it.api.statuses[PATH]
        it.put("sql")
        await it.until(lambda: it.names() == ["sql"])
    (told,) = [one.message for one in caplog.records if "cannot be read" in one.message]
    assert "the right to get, watch and patch it" in told


async def test_what_makes_no_sense_is_told_once_and_counted_once(caplog: pytest.LogCaptureFixture) -> None:
    async with watched() as it:
        it.put("sql", bad="?")
        await it.begin()
        it.put("sql", "math", "chat", bad="??", **{key_of("ns", "chat"): "?"})
        await it.until(lambda: it.names() == ["math", "sql"])
        it.put("sql", bad="???")
        await it.until(lambda: it.names() == ["sql"])
        assert it.ignored == 2
    assert len([one for one in caplog.records if "ignored" in one.message]) == 2


async def test_a_value_that_is_spoiled_counts_no_longer() -> None:
    async with watched() as it:
        it.put("sql")
        await it.begin()
        it.put(**{key_of("ns", "sql"): "?"})
        await it.until(lambda: it.names() == [])


async def test_tidies_up_what_says_nothing_any_more_and_nothing_else() -> None:
    async with watched() as it:
        data = dict(entry_of("ns", name, AT - timedelta(seconds=ago)) for name, ago in (("old", 400), ("new", 1)))
        it.api.put(PATH, {"metadata": {"name": CONFIG_MAP}, "data": data})
        await it.begin()
        it.requests.tidy((), 300.0, NOW)
        await it.until(lambda: it.names() == ["new"])
        it.requests.tidy((), 0.1, NOW)  # not again so soon
        assert it.api.writes() == [PATH]


async def test_what_concerns_other_operators_is_no_news_and_stays() -> None:
    async with watched("mine") as it:
        it.put("old", ago=400, bad="?")
        await it.begin()
        data = dict([entry_of("mine", "sql", AT)]) | dict([entry_of("ns", "old", AT - timedelta(seconds=500))])
        assert not it.news.is_set()
        it.api.put(PATH, {"metadata": {"name": CONFIG_MAP}, "data": data | {"bad": "?"}})
        await it.until(lambda: ("mine", "sql") in it.requests.asked)
        it.requests.tidy((), 300.0, NOW)
        assert it.requests._tidying is None


async def test_does_not_remove_what_was_asked_for_anew_in_that_moment() -> None:
    async with watched() as it:
        it.put("sql", ago=400)
        await it.begin()
        it.api.refuse = [409]
        it.requests.tidy((), 300.0, NOW)
        await it.api.until_calls(3)
        it.put("sql")
        await it.until(lambda: it.requests.asked["ns", "sql"] == NOW)
        await asyncio.gather(*filter(None, [it.requests._tidying]))
        assert it.names() == ["sql"]


async def test_a_refusal_to_tidy_up_is_logged_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with watched() as it:
        it.put("sql", ago=400)
        await it.begin()
        it.api.refuse = [403]
        it.requests.tidy((), 300.0, NOW)
        await asyncio.gather(*filter(None, [it.requests._tidying]))
        assert it.names() == ["sql"]
    assert "cannot be tidied up" in caplog.text


async def test_a_watch_that_is_ended_at_once_is_not_made_again_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "RETRY_SECONDS", 3600.0)
    async with watched() as it:

        async def end(_: Any) -> Any:
            return web.Response()

        monkeypatch.setattr(it.api, "_stream", end)
        await it.begin()
        await asyncio.sleep(0.1)
        assert len(it.api.calls) == 2
