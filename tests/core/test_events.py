"""Events: said once, never at the cost of anything else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lora_operator.kube import events
from lora_operator.kube import write_queue as writes
from lora_operator.kube.client import KubeError
from lora_operator.kube.events import Recorder
from lora_operator.kube.write_queue import Writes
from tests.core.api_server import ApiServer, an_api_server
from tests.core.builders import a_resource


@asynccontextmanager
async def a_recorder(api: ApiServer) -> AsyncIterator[Recorder]:
    """What it was told to say has been said, or refused, at the end."""
    queue = Writes()
    try:
        yield Recorder(api.kube, queue)
        async with asyncio.timeout(60):
            while not queue.idle:  # noqa: ASYNC110 - what it waits for has no event
                await asyncio.sleep(0.005)
    finally:
        await queue.stop(0.0)


async def test_the_same_is_said_once_within_the_hour_also_by_a_new_process() -> None:
    async with an_api_server() as api:
        for _ in range(2):
            async with a_recorder(api) as recorder:
                for _ in range(3):
                    recorder.emit(a_resource(), "Normal", "Ready", "1 adapter answers")
        names = {body["metadata"]["name"] for body in api.bodies}
        # the second process says it again, and the API server refuses a second Event of the same name
        assert len(names) == 1 and len(api.bodies) == 2


async def test_a_refused_event_does_not_end_the_others_and_they_come_in_order() -> None:
    async with an_api_server() as api:
        api.refuse = [403]
        async with a_recorder(api) as recorder:
            for reason in ("First", "Second", "Third"):
                recorder.emit(a_resource(), "Normal", reason, "one")
        assert [body["reason"] for body in api.bodies] == ["First", "Second", "Third"]


async def test_an_event_that_an_api_server_has_no_time_for_is_said_later() -> None:
    async with an_api_server() as api:
        api.refuse = [503]
        async with a_recorder(api) as recorder:
            recorder.emit(a_resource(), "Normal", "First", "one")
        assert [body["reason"] for body in api.bodies] == ["First", "First"]


async def test_an_event_that_the_api_server_always_fails_over_keeps_no_other_from_being_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writes, "FIRST_PAUSE_SECONDS", 0.001)
    async with an_api_server() as api:
        create = api.kube.create_event

        async def fails_over_one(namespace: str, body: dict[str, object]) -> None:
            tried.append(str(body["reason"]))
            if body["reason"] == "Poison":
                raise KubeError(500, "a webhook fails over it")
            await create(namespace, body)

        tried: list[str] = []
        monkeypatch.setattr(api.kube, "create_event", fails_over_one)
        async with a_recorder(api) as recorder:
            for reason in ("Poison", "Second", "Third"):
                recorder.emit(a_resource(), "Normal", reason, "one")
        assert [body["reason"] for body in api.bodies] == ["Second", "Third"]
        assert tried.count("Poison") == events.MOST_TRIES and not recorder._tries


async def test_without_the_right_to_each_new_event_of_an_object_waits_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with an_api_server() as api:
        api.forbid = True
        queue = Writes()
        recorder = Recorder(api.kube, queue)
        recorder.emit(a_resource(), "Normal", "Ready", "number 0")
        while not queue.pausing((events.EVENT, "ns/la")):  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.005)
        monkeypatch.setattr(writes, "FIRST_PAUSE_SECONDS", 3600.0)
        recorder.emit(a_resource(), "Normal", "Ready", "number 1")
        await api.until_calls(2)
        for number in range(2, 50):
            recorder.emit(a_resource(), "Normal", "Ready", f"number {number}")
            await asyncio.sleep(0)
        await queue.stop(5.0)
        assert len(api.calls) == 2


async def test_too_many_at_once_are_dropped_and_nobody_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(events, "REMEMBERED", 3)
    monkeypatch.setattr(events, "PENDING", 2)
    async with an_api_server() as api, a_recorder(api) as recorder:
        api.stall = asyncio.Event()
        for number in range(5):
            recorder.emit(a_resource(), "Normal", "Ready", f"number {number}")
        assert "too many Events at once" in caplog.text
        assert len(recorder._said) == 3
        api.stall.set()
