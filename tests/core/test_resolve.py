"""Sources are asked at the right times, and a source that fails takes nothing away."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from e2e.world.adapters import write_adapter
from lora_operator.informers.records import Resource
from lora_operator.informers.sources import Resolver, SourceView
from lora_operator.sources import Resolution, SourceError, SourceRequest
from lora_operator.sources.local import LocalSource
from tests.core.builders import a_resource


class Scripted:
    """A source that answers what the test put there."""

    def __init__(self, *answers: Resolution | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[SourceRequest] = []

    async def resolve(self, request: SourceRequest, previous: Resolution | None) -> Resolution:
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Desk:
    def __init__(self, source: Any, interval_seconds: float) -> None:
        self.news = asyncio.Event()
        self.resolver = Resolver({"local": source}, self.news.set, interval_seconds=interval_seconds, base_shapes={})

    @property
    def view(self) -> SourceView:
        return self.resolver.views["ns/la"]

    def sync_targets(self, *resources: Resource) -> None:
        self.resolver.sync_targets(resources)

    async def until(self, done: Callable[[], Any]) -> None:
        async with asyncio.timeout(60):
            while not done():  # noqa: ASYNC110 - what it waits for has no event
                await asyncio.sleep(0.005)


@asynccontextmanager
async def a_desk(source: Any, interval_seconds: float = 3600.0) -> AsyncIterator[Desk]:
    desk = Desk(source, interval_seconds)
    try:
        yield desk
    finally:
        await desk.resolver.stop()


def of_folder(folder: Path, **metadata: Any) -> Resource:
    return a_resource(spec={"adapterSource": {"type": "local", "repository": str(folder)}}, **metadata)


async def test_a_local_folder_is_read_and_read_again_when_asked_to(tmp_path: Path) -> None:
    async with a_desk(LocalSource(settle_seconds=0.0)) as desk:
        write_adapter(tmp_path / "a", base_model="tiny", rank=2)
        desk.sync_targets(of_folder(tmp_path))
        await desk.resolver.first_reads(10.0)
        assert desk.view.resolution is not None
        assert [found.name for found in desk.view.resolution.adapters] == ["a"]
        write_adapter(tmp_path / "b", base_model="tiny", rank=2)
        refresh = {"annotations": {"production-stack.vllm-project/refresh": "now"}}
        desk.sync_targets(of_folder(tmp_path, **refresh))
        await desk.until(lambda: len(desk.view.resolution.adapters) == 2 if desk.view.resolution else False)


async def test_a_folder_that_goes_leaves_the_last_good_answer(tmp_path: Path) -> None:
    async with a_desk(LocalSource(settle_seconds=0.0), interval_seconds=0.01) as desk:
        write_adapter(tmp_path / "models" / "a", base_model="tiny", rank=2)
        desk.sync_targets(of_folder(tmp_path / "models"))
        await desk.resolver.first_reads(10.0)
        shutil.rmtree(tmp_path / "models")
        await desk.until(lambda: desk.view.error)
        assert desk.view.error is not None and desk.view.error.reason == "FolderNotFound"
        assert desk.view.resolution is not None and desk.view.resolution.adapters


async def test_the_same_again_is_no_news() -> None:
    source = Scripted(Resolution())
    async with a_desk(source, interval_seconds=0.001) as desk:
        desk.sync_targets(a_resource())
        await desk.news.wait()
        desk.news.clear()
        await desk.until(lambda: len(source.asked) > 3)
        assert not desk.news.is_set()


async def test_the_same_error_again_is_no_news_and_another_is() -> None:
    away = SourceError("Away", "it is away", retryable=True)
    same = SourceError("Away", "it is away", retryable=True)
    source = Scripted(away, same, SourceError("Denied", "no", retryable=False))
    async with a_desk(source, interval_seconds=0.001) as desk:
        desk.sync_targets(a_resource())
        await desk.until(lambda: desk.view.error and desk.view.error.reason == "Denied")
        assert desk.view.resolution is None


async def test_an_unexpected_exception_is_reported_and_tried_again() -> None:
    source = Scripted(RuntimeError("a defect"), Resolution())
    async with a_desk(source, interval_seconds=0.001) as desk:
        desk.sync_targets(a_resource())
        await desk.news.wait()
        assert desk.view.error is not None and desk.view.error.reason == "InternalError"
        await desk.until(lambda: desk.view.resolution is not None)


async def test_another_spec_keeps_what_was_found_until_it_has_an_answer() -> None:
    source = Scripted(Resolution(), SourceError("Away", "it is away", retryable=True))
    async with a_desk(source) as desk:
        desk.sync_targets(a_resource())
        await desk.until(lambda: desk.view.checked)
        desk.sync_targets(a_resource(spec={"adapterSource": {"type": "local", "repository": "/models/y"}}))
        assert not desk.view.checked and desk.view.resolution is not None
        await desk.until(lambda: desk.view.checked)
        assert desk.view.resolution is not None and desk.view.error is not None


async def test_another_resource_of_the_name_begins_with_nothing() -> None:
    source = Scripted(Resolution(), SourceError("Away", "it is away", retryable=True))
    async with a_desk(source) as desk:
        desk.sync_targets(a_resource())
        await desk.until(lambda: desk.view.checked)
        desk.sync_targets(
            a_resource(spec={"adapterSource": {"type": "local", "repository": "/models/y"}}, uid="another")
        )
        assert desk.view.resolution is None
        await desk.until(lambda: desk.view.checked)
        assert desk.view.resolution is None


async def test_a_resource_that_is_gone_or_going_is_followed_no_more() -> None:
    async with a_desk(Scripted(Resolution())) as desk:
        desk.sync_targets(a_resource())
        await desk.until(lambda: desk.view.checked)
        desk.sync_targets(a_resource(deletionTimestamp="2026-01-01T00:00:00Z"))
        assert desk.resolver.views == {} and not desk.resolver._tasks
        desk.sync_targets()


async def test_an_answer_to_an_older_question_is_thrown_away() -> None:
    go = asyncio.Event()

    class Slow(Scripted):
        async def resolve(self, request: SourceRequest, previous: Resolution | None) -> Resolution:
            if request.repository == "/models/x":
                await go.wait()
            return await super().resolve(request, previous)

    source = Slow(Resolution())
    async with a_desk(source) as desk:
        desk.sync_targets(a_resource())
        await asyncio.sleep(0)
        desk.sync_targets(a_resource(spec={"adapterSource": {"type": "local", "repository": "/models/y"}}))
        go.set()
        await desk.until(lambda: desk.view.checked)
        assert [request.repository for request in source.asked] == ["/models/x", "/models/y"]
        assert desk.view.request.repository == "/models/y"


def seen(resolution: Resolution | None = None, error: SourceError | None = None) -> SourceView:
    return SourceView(SourceRequest("local", "/models/x"), resolution, error)


def test_failures_are_asked_again_soon_and_then_less_often_than_what_answers() -> None:
    resolver = Resolver({}, lambda: None, interval_seconds=10.0, base_shapes={})
    away = SourceError("ServerError", "away", retryable=True)
    # what was about to settle when the store went away is no reason to ask it all the time
    failing = seen(Resolution(recheck_after_seconds=0.1), away)
    delays = [resolver._delay(failures, failing) for failures in range(1, 12)]
    assert 9.0 <= resolver._delay(0, seen()) <= 11.0
    assert 1.0 <= delays[0] <= 1.1 and 2.0 <= delays[1] <= 2.2
    assert all(60.0 <= delay <= 66.0 for delay in delays[6:])


def test_a_source_that_settles_is_asked_again_when_it_will_have() -> None:
    resolver = Resolver({}, lambda: None, interval_seconds=60.0, base_shapes={})
    assert resolver._delay(0, seen(Resolution(recheck_after_seconds=0.7))) == 0.7
    assert resolver._delay(0, seen(Resolution(recheck_after_seconds=0.0))) == 0.05


def test_a_store_that_asks_for_a_pause_gets_it() -> None:
    resolver = Resolver({}, lambda: None, interval_seconds=60.0, base_shapes={})
    busy = SourceError("RateLimited", "too many requests", retryable=True, retry_after_seconds=300.0)
    assert 300.0 <= resolver._delay(1, seen(error=busy)) <= 330.0
    hasty = SourceError("RateLimited", "too many requests", retryable=True, retry_after_seconds=0.1)
    assert resolver._delay(9, seen(error=hasty)) >= 60.0
    endless = SourceError("RateLimited", "too many requests", retryable=True, retry_after_seconds=1e9)
    assert resolver._delay(1, seen(error=endless)) <= 3960.0
