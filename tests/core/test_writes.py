"""The queue in front of the API server: few at a time, the important first, each key once and ever more patient."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from lora_operator.kube import write_queue as writes
from lora_operator.kube.client import KubeError
from lora_operator.kube.write_queue import Priority, Writes, pause_after


class Desk:
    """Writes that end when a test says so."""

    def __init__(self, at_a_time: int) -> None:
        self.queue = Writes(at_a_time)
        self.begun: list[str] = []
        self.errors: dict[str, list[Exception]] = {}
        self.go = asyncio.Event()
        self.go.set()

    def put(self, name: str, priority: Priority = Priority.STATUS, delay: float = 0.0) -> None:
        self.queue.put(("thing", name), self._write(name), priority, delay)

    def _write(self, name: str) -> writes.Write:
        async def write() -> None:
            self.begun.append(name)
            await self.go.wait()
            if self.errors.get(name):
                raise self.errors[name].pop(0)

        return write

    async def until(self, done: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not done():  # noqa: ASYNC110 - what it waits for has no event
                await asyncio.sleep(0.002)


@asynccontextmanager
async def a_desk(at_a_time: int = 2) -> AsyncIterator[Desk]:
    desk = Desk(at_a_time)
    try:
        yield desk
    finally:
        await desk.queue.stop(0.0)


async def test_a_thousand_at_once_are_a_few_requests_at_a_time() -> None:
    async with a_desk(at_a_time=8) as desk:
        desk.go.clear()
        for number in range(1000):
            desk.put(str(number))
        await asyncio.sleep(0)
        tasks = [task for task in asyncio.all_tasks() if task.get_name().startswith("write ")]
        assert len(desk.begun) == len(tasks) == 8 and len(desk.queue) == 1000
        desk.go.set()
        await desk.until(lambda: desk.queue.idle)
        assert desk.begun == [str(number) for number in range(1000)]


async def test_withdrawals_go_first_then_endpoints_status_finalizers_and_events() -> None:
    async with a_desk(at_a_time=1) as desk:
        desk.go.clear()
        desk.put("first", Priority.EVENT)
        for priority in reversed(Priority):
            desk.put(priority.name, priority)
        desk.put("hurried", Priority.EVENT)
        await asyncio.sleep(0)
        hurried = asyncio.create_task(desk.queue.tried(("thing", "hurried")))
        await asyncio.sleep(0)
        desk.go.set()
        await hurried
        await desk.until(lambda: desk.queue.idle)
        assert desk.begun == ["first", "WITHDRAWAL", "hurried", "ENDPOINT", "STATUS", "PROGRESS", "FINALIZER", "EVENT"]


async def test_finalizers_and_events_trickle_while_a_status_is_to_come_and_then_go_together() -> None:
    async with a_desk(at_a_time=4) as desk:
        desk.go.clear()
        desk.put("Loading", Priority.PROGRESS, delay=3600.0)
        for name in ("a", "b", "c"):
            desk.put(name, Priority.FINALIZER)
        desk.put("d", Priority.EVENT)
        await asyncio.sleep(0)
        assert desk.begun == ["a"] and len(desk.queue) == 5
        desk.put("Loading", Priority.STATUS)  # what it tells by now is Ready
        await asyncio.sleep(0)
        assert desk.begun == ["a", "Loading"]
        desk.go.set()
        await desk.until(lambda: len(desk.begun) == 5)
        desk.go.clear()
        for name in ("e", "f", "g", "h"):
            desk.put(name, Priority.FINALIZER)
        await desk.until(lambda: len(desk.begun) == 9)  # nothing else is to come


async def test_a_status_that_is_refused_does_not_hold_up_what_can_wait() -> None:
    async with a_desk(at_a_time=4) as desk:
        desk.errors["refused"] = [KubeError(422, "no")] * 9
        desk.put("refused")
        await desk.until(lambda: desk.queue.pausing(("thing", "refused")))
        desk.go.clear()
        for name in ("a", "b", "c"):
            desk.put(name, Priority.FINALIZER)
        await asyncio.sleep(0)
        assert desk.begun[1:] == ["a", "b", "c"]


async def test_what_is_put_again_while_it_waits_is_written_once_and_while_it_runs_once_more() -> None:
    async with a_desk(at_a_time=1) as desk:
        desk.go.clear()
        desk.put("busy")
        for _ in range(5):
            desk.put("a")
        desk.go.set()
        await desk.until(lambda: desk.queue.idle)
        assert desk.begun == ["busy", "a"]
        desk.go.clear()
        desk.put("a")
        await desk.until(lambda: len(desk.begun) == 3)
        for _ in range(5):
            desk.put("a")
        desk.go.set()
        await desk.until(lambda: desk.queue.idle)
        assert desk.begun == ["busy", "a", "a", "a"]


async def test_a_delay_only_ever_gets_shorter_and_nobody_who_waits_waits_for_it() -> None:
    async with a_desk() as desk:
        desk.put("a", delay=3600.0)
        desk.put("b", delay=3600.0)
        desk.put("b", delay=7200.0)
        await desk.queue.tried(("thing", "b"))
        assert desk.begun == ["b"]
        await desk.queue.tried(("thing", "a"))
        assert desk.begun == ["b", "a"] and desk.queue.idle
        await desk.queue.tried(("thing", "nothing"))


async def test_who_waits_hears_of_the_attempt_that_has_the_newest() -> None:
    async with a_desk() as desk:
        desk.go.clear()
        desk.put("a")
        await desk.until(lambda: desk.begun)
        present = asyncio.create_task(desk.queue.tried(("thing", "a")))
        await asyncio.sleep(0)
        desk.put("a")
        newest = asyncio.create_task(desk.queue.tried(("thing", "a")))
        await asyncio.sleep(0)
        desk.errors["a"] = [KubeError(422, "no")]
        desk.go.set()
        with pytest.raises(KubeError, match="no"):
            await present
        assert not newest.done()
        await newest
        assert len(desk.begun) == 2


async def test_each_key_that_fails_pauses_longer_whatever_is_put_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writes, "FIRST_PAUSE_SECONDS", 3600.0)
    async with a_desk() as desk:
        desk.errors["a"] = [KubeError(422, "no")]
        desk.put("a")
        with pytest.raises(KubeError, match="no"):
            await desk.queue.tried(("thing", "a"))
        error = desk.queue.pausing(("thing", "a"))
        assert error is not None and error.status == 422
        for number in range(256):
            desk.put("a")
            desk.put(str(number))
            await asyncio.sleep(0)
        await desk.until(lambda: len(desk.queue) == 1)
        assert desk.begun.count("a") == 1 and len(desk.begun) == 257


async def test_what_pauses_is_tried_at_once_when_somebody_knows_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "FIRST_PAUSE_SECONDS", 3600.0)
    async with a_desk() as desk:
        desk.errors["a"] = [KubeError(404, "no such kind")]
        desk.put("a")
        desk.put("b", delay=3600.0)
        await desk.until(lambda: desk.queue.pausing(("thing", "a")))
        desk.queue.again(refused=False)
        assert desk.queue.pausing(("thing", "a"))
        desk.queue.again(refused=True)
        await desk.until(lambda: ("thing", "a") not in desk.queue)
        assert desk.begun == ["a", "a"]  # and not what has yet to wait


async def test_what_found_the_api_server_away_is_tried_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "FIRST_PAUSE_SECONDS", 3600.0)
    monkeypatch.setattr(writes, "AWAY_SECONDS", 3600.0)
    async with a_desk() as desk:
        desk.errors["a"] = [KubeError(0, "no answer")]
        desk.put("a")
        await desk.until(lambda: desk.queue.pausing(("thing", "a")))
        desk.queue.again(refused=False)
        await desk.until(lambda: desk.queue.idle)
        assert desk.begun == ["a", "a"]


@pytest.mark.parametrize(
    ("status", "longest"), [(0, 10.0), (500, 10.0), (429, 10.0), (200, 60.0), (403, 60.0), (422, 60.0)]
)
def test_pauses_double_up_to_what_the_answer_calls_for(status: int, longest: float) -> None:
    error = KubeError(status, "no")
    assert [pause_after(failures, error) for failures in range(3)] == [0.2, 0.4, 0.8]
    assert pause_after(1000, error) == longest
    assert pause_after(0, error, jitter=0.8) == pytest.approx(0.16)


async def test_an_api_server_that_asks_for_patience_gets_it_from_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "FIRST_PAUSE_SECONDS", 0.0)
    async with a_desk() as desk:
        began = asyncio.get_running_loop().time()
        desk.errors["a"] = [KubeError(429, "busy", retry_after_seconds=0.1)]
        desk.put("a")
        await desk.until(lambda: desk.queue.pausing(("thing", "a")))
        desk.put("b")
        await desk.until(lambda: desk.queue.idle)
        assert sorted(desk.begun) == ["a", "a", "b"]
        assert asyncio.get_running_loop().time() - began >= 0.1


async def test_a_defect_in_one_write_is_logged_and_pauses_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writes, "FIRST_PAUSE_SECONDS", 3600.0)
    async with a_desk() as desk:
        desk.errors["a"] = [ZeroDivisionError("oops")]
        desk.put("a")
        desk.put("b")
        await desk.until(lambda: len(desk.queue) == 1)
        assert desk.begun == ["a", "b"] and caplog.text.count("this is a defect") == 1


async def test_at_the_end_what_is_due_or_delayed_is_written_and_nothing_else_begun() -> None:
    async with a_desk(at_a_time=1) as desk:
        for number in range(5):
            desk.put(str(number), delay=3600.0)
        await desk.queue.stop(10.0)
        assert desk.begun == ["0", "1", "2", "3", "4"] and desk.queue.idle
        desk.put("late")
        assert desk.queue.idle


async def test_the_end_is_bounded_whatever_hangs_or_pauses_and_who_waits_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writes, "FIRST_PAUSE_SECONDS", 3600.0)
    async with a_desk(at_a_time=1) as desk:
        desk.errors["paused"] = [KubeError(500, "no")]
        desk.put("paused")
        await desk.until(lambda: desk.queue.pausing(("thing", "paused")))
        desk.go.clear()
        desk.put("hangs")
        desk.put("behind it")
        waits = asyncio.create_task(desk.queue.tried(("thing", "behind it")))
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            await desk.queue.stop(0.05)
            with pytest.raises(KubeError, match="the operator ends"):
                await waits
        assert desk.begun == ["paused", "hangs"] and desk.queue.idle


async def test_who_waits_behind_many_goes_on_waiting_while_they_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "FLUSH_SECONDS", 0.1)
    monkeypatch.setattr(writes, "AWAY_SECONDS", 1.0)
    async with a_desk(at_a_time=1) as desk:
        desk.go.clear()
        for number in range(6):
            desk.put(str(number), Priority.WITHDRAWAL)
        desk.put("last")
        waits = asyncio.create_task(desk.queue.flush(("thing", "last")))
        for number in range(6):
            await desk.until(lambda: len(desk.begun) > number)  # noqa: B023 - called at once
            await asyncio.sleep(0.3)
            desk.go.set()
            desk.go.clear()
        desk.go.set()
        await waits
        assert desk.begun[-1] == "last"


async def test_who_waits_is_told_when_nothing_is_answered_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "FLUSH_SECONDS", 0.02)
    monkeypatch.setattr(writes, "AWAY_SECONDS", 0.02)
    async with a_desk(at_a_time=1) as desk:
        desk.go.clear()
        desk.put("hangs")
        desk.put("behind it")
        with pytest.raises(KubeError, match="thing of behind it could not be written"):
            await desk.queue.flush(("thing", "behind it"))


async def test_what_is_refused_for_the_same_reason_again_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writes, "FIRST_PAUSE_SECONDS", 0.001)
    async with a_desk() as desk:
        desk.errors["a"] = [KubeError(404, "no such CRD")] * 3 + [KubeError(403, "no right")] * 2
        desk.put("a")
        await desk.until(lambda: desk.queue.idle)
        assert (caplog.text.count("no such CRD"), caplog.text.count("no right")) == (1, 1)


async def test_that_the_api_server_is_away_is_said_once_and_what_it_refuses_of_each(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writes, "SAY_SECONDS", 3600.0)
    async with a_desk(at_a_time=4) as desk:
        for number in range(20):
            desk.errors[f"away-{number}"] = [KubeError(0, f"PATCH {number}: no answer")]
            desk.errors[f"refused-{number}"] = [KubeError(422, "no")]
            desk.put(f"away-{number}")
            desk.put(f"refused-{number}")
        await desk.until(lambda: desk.queue.idle)
        warned = [record.getMessage() for record in caplog.records if "was not written" in record.getMessage()]
        said = [text for text in warned if "no answer" in text]
        assert (len(said), len(warned) - len(said)) == (1, 20), warned
