"""Small objects that are read now and then: what a failure to read them costs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lora_operator.informers import polled
from lora_operator.informers.polled import Polled
from lora_operator.kube.client import KubeError

WHERE = ("ns", "quota")


class Desk:
    """Follows one object, which is read as the errors say, and then as it is."""

    def __init__(self, *errors: KubeError) -> None:
        self.errors = list(errors)
        self.reads = 0
        self.polled = Polled(self._read, dict, self._follow, again_seconds=3600.0, retry_seconds=3600.0)

    async def _read(self, namespace: str, name: str) -> dict[str, Any]:
        self.reads += 1
        if self.errors:
            raise self.errors.pop(0)
        return {"data": name}

    def _follow(self) -> None:
        self.polled.sync_targets([WHERE])


async def test_where_no_answer_came_it_is_read_again_before_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polled, "UNANSWERED_SECONDS", 0.01)
    desk = Desk(KubeError(0, "the connection broke"), KubeError(0, "and the next one"))
    desk._follow()
    async with asyncio.timeout(60):
        while WHERE not in desk.polled.values:  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.005)
    assert desk.reads == 3 and not desk.polled.errors
    await desk.polled.stop()


async def test_what_is_refused_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polled, "UNANSWERED_SECONDS", 0.0)
    desk = Desk(KubeError(403, "no"), KubeError(403, "no"))
    desk._follow()
    await desk.polled.first_reads(10.0)
    for _ in range(10):
        desk._follow()
        await asyncio.sleep(0)
    assert desk.reads == 1 and WHERE in desk.polled.errors
    await desk.polled.stop()


async def test_reading_again_what_is_missing_calls_nobody() -> None:
    # each call is a whole cycle of the operator, and there may be as many such objects as namespaces
    desk = Desk(*[KubeError(404, "there is none")] * 3)
    calls: list[int] = []
    desk.polled = Polled(desk._read, dict, lambda: calls.append(desk.reads), again_seconds=3600.0, retry_seconds=0.01)
    desk._follow()
    async with asyncio.timeout(60):
        while WHERE not in desk.polled.values:  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.005)
    assert desk.reads == 4
    assert calls == [1, 4], "that it is missing, and that it is there"
    desk.polled.sync_targets([])
    await desk.polled.stop()


async def test_what_is_wanted_no_more_is_not_read_again() -> None:
    desk = Desk(KubeError(404, "there is none"))
    desk.polled = Polled(
        desk._read, dict, lambda: desk.polled.sync_targets([]), again_seconds=3600.0, retry_seconds=0.0
    )
    desk._follow()
    await desk.polled.first_reads(60.0)
    await asyncio.sleep(0.02)
    assert desk.reads == 1
    await desk.polled.stop()
