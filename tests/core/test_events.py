"""Events: said once, never at the cost of anything else."""

from __future__ import annotations

import asyncio

import pytest

from lora_operator import events
from lora_operator.events import Recorder
from tests.core.api_server import an_api_server
from tests.core.builders import a_resource


async def test_the_same_is_said_once_within_the_hour_also_by_a_new_process() -> None:
    async with an_api_server() as api:
        for _ in range(2):
            recorder = Recorder(api.kube)
            recorder.start()
            for _ in range(3):
                recorder.emit(a_resource(), "Normal", "Ready", "1 adapter answers")
            await recorder.stop()
        names = {body["metadata"]["name"] for body in api.bodies}
        # the second process says it again, and the API server refuses a second Event of the same name
        assert len(names) == 1 and len(api.bodies) == 2


async def test_a_refused_event_does_not_end_the_others() -> None:
    async with an_api_server() as api:
        api.refuse = [403]
        recorder = Recorder(api.kube)
        recorder.start()
        recorder.emit(a_resource(), "Normal", "First", "one")
        recorder.emit(a_resource(), "Normal", "Second", "two")
        await recorder.stop()
        assert [body["reason"] for body in api.bodies] == ["First", "Second"]


async def test_too_many_at_once_are_dropped_and_nobody_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(events, "REMEMBERED", 3)
    async with an_api_server() as api:
        api.stall = asyncio.Event()
        recorder = Recorder(api.kube)
        recorder._queue = asyncio.Queue(2)
        for number in range(5):
            recorder.emit(a_resource(), "Normal", "Ready", f"number {number}")
        assert "too many Events at once" in caplog.text
        assert len(recorder._said) == 3
        api.stall.set()
        await recorder.stop()


async def test_an_api_server_that_never_answers_does_not_hold_up_the_end() -> None:
    async with an_api_server() as api:
        stall = api.stall = asyncio.Event()
        recorder = Recorder(api.kube)
        recorder.start()
        recorder.emit(a_resource(), "Normal", "Ready", "one")
        await api.until_calls(1)
        async with asyncio.timeout(5):
            await recorder.stop()
        stall.set()
