"""When status is written, and what an API server that refuses or is away does to it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lora_operator.api.well_known import FINALIZER
from lora_operator.informers.cache import Cluster
from lora_operator.informers.pod_description import PodDefaults
from lora_operator.informers.records import Resource
from lora_operator.kube import write_queue as writes
from lora_operator.kube.client import KubeError
from lora_operator.kube.events import Recorder
from lora_operator.kube.write_queue import Priority, Writes
from lora_operator.status import writer as status_writer
from lora_operator.status.writer import StatusWriter
from lora_operator.telemetry.metrics import Metrics
from tests.core.api_server import ApiServer, an_api_server
from tests.core.builders import a_state, given

PATH = "/apis/production-stack.vllm-project/v1alpha1/namespaces/ns/loraadapters/la"
LOADING = given(a_state(replicas=0, moving=True))
READY = given(a_state())


class Desk:
    def __init__(self, api: ApiServer, quiet_seconds: float) -> None:
        self.api = api
        self.metrics = Metrics()
        self.cluster = Cluster(PodDefaults())
        self.writes = Writes()
        self.recorder = Recorder(api.kube, self.writes)
        self.publisher = StatusWriter(
            api.kube, self.cluster, self.writes, self.recorder, self.metrics, quiet_seconds=quiet_seconds
        )

    @property
    def written(self) -> int:
        """How often status was."""
        return len(self.api.writes("PATCH"))

    @property
    def resource(self) -> Resource:
        return self.cluster.adapters["ns/la"]

    @property
    def status(self) -> dict[str, Any]:
        return dict(self.api.objects[PATH]["status"])

    def offer(self, what: Any) -> None:
        self.publisher.offer(self.resource, what, asyncio.get_running_loop().time())

    async def until(self, done: Callable[[], Any]) -> None:
        async with asyncio.timeout(60):
            while not done():  # noqa: ASYNC110 - what it waits for has no event
                await asyncio.sleep(0.005)

    async def idle(self) -> None:
        await self.until(lambda: self.writes.idle)


@asynccontextmanager
async def a_desk(quiet_seconds: float = 0.01, status: dict[str, Any] | None = None) -> AsyncIterator[Desk]:
    async with an_api_server() as api:
        body = {
            "metadata": {"name": "la", "namespace": "ns", "uid": "u", "resourceVersion": "1", "generation": 1},
            "spec": {"baseModel": "tiny", "adapterSource": {"type": "local", "repository": "/m"}},
            "status": status or {},
        }
        api.objects[PATH] = body
        desk = Desk(api, quiet_seconds)
        desk.cluster.adapters.put(body)
        try:
            yield desk
        finally:
            api.stall = None
            await desk.writes.stop(0.1)


async def test_what_is_new_is_written_once_and_costs_nothing_again() -> None:
    async with a_desk() as desk:
        desk.offer(READY)
        await desk.idle()
        assert desk.status["phase"] == "Ready"
        for _ in range(5):
            desk.offer(READY)
        await desk.idle()
        assert desk.written == 1


async def test_what_an_older_definition_drops_is_not_written_again_and_again() -> None:
    async with a_desk() as desk:
        desk.api.unknown_fields = ("summary",)
        desk.offer(READY)
        await desk.idle()
        assert "summary" not in desk.status
        for _ in range(5):
            desk.offer(READY)
            await desk.idle()
        assert desk.written == 1
        desk.offer(LOADING)
        await desk.idle()
        assert desk.written == 2


async def test_a_new_process_writes_nothing_that_is_there_already() -> None:
    async with a_desk() as desk:
        desk.offer(READY)
        await desk.idle()
        second = Desk(desk.api, 0.01)
        second.cluster.adapters.put(desk.api.objects[PATH])
        second.offer(READY)
        await second.idle()
        assert desk.written == 1


async def test_an_intermediate_state_that_does_not_last_is_never_written() -> None:
    async with a_desk(quiet_seconds=3600.0) as desk:
        desk.offer(LOADING)
        await asyncio.sleep(0)
        desk.offer(READY)
        await desk.idle()
        assert desk.written == 1 and desk.status["phase"] == "Ready"


async def test_what_changes_while_it_is_written_is_written_next() -> None:
    async with a_desk() as desk:
        stall = desk.api.stall = asyncio.Event()
        desk.offer(READY)
        await desk.api.until_calls(1)
        desk.offer(LOADING)
        stall.set()
        await desk.idle()
        assert desk.written == 2 and desk.status["phase"] == "Loading"


async def test_what_is_so_again_while_something_else_is_written_has_the_last_word() -> None:
    async with a_desk(quiet_seconds=0.0) as desk:
        desk.offer(READY)
        await desk.idle()
        desk.offer(READY)
        stall = desk.api.stall = asyncio.Event()
        desk.offer(LOADING)
        await desk.api.until_calls(2)
        desk.offer(READY)
        stall.set()
        await desk.idle()
        assert desk.status["phase"] == "Ready"


async def test_a_flush_returns_when_the_last_offer_is_written() -> None:
    async with a_desk(quiet_seconds=3600.0) as desk:
        desk.offer(LOADING)
        await desk.publisher.flush("ns/la")
        assert desk.status["phase"] == "Loading"
        await desk.publisher.flush("ns/la")
        await desk.publisher.flush("ns/nobody")


async def test_a_flush_tells_after_a_while_that_the_api_server_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "FLUSH_SECONDS", 0.02)
    monkeypatch.setattr(writes, "AWAY_SECONDS", 0.02)
    async with a_desk() as desk:
        desk.api.stall = asyncio.Event()
        desk.offer(READY)
        with pytest.raises(KubeError, match="status of ns/la could not be written"):
            await desk.publisher.flush("ns/la")
        desk.api.stall.set()


async def test_a_flush_does_not_wait_for_ever_for_an_api_server_that_refuses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writes, "FLUSH_SECONDS", 1.0)
    monkeypatch.setattr(writes, "FIRST_PAUSE_SECONDS", 3600.0)
    async with a_desk() as desk:
        desk.api.refuse = [422]
        desk.offer(READY)
        await desk.publisher.flush("ns/la")
        assert "going on" in caplog.text


async def test_a_refused_write_is_tried_again_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "FIRST_PAUSE_SECONDS", 0.0)
    async with a_desk() as desk:
        desk.api.refuse = [500, 503, 429]
        desk.offer(READY)
        await desk.idle()
        assert desk.status["phase"] == "Ready"
        text = desk.metrics.exposition().decode()
        assert 'status_writes_total{result="error"} 3.0' in text
        assert 'status_writes_total{result="ok"} 1.0' in text


async def test_a_resource_that_is_gone_is_not_written_to_again_though_no_watch_says_so() -> None:
    async with a_desk() as desk:
        del desk.api.objects[PATH]
        for _ in range(5):
            desk.offer(READY)
            await desk.idle()
        assert desk.written == 1
        await desk.publisher.flush("ns/la")


async def test_another_resource_of_the_name_is_left_alone_until_it_was_seen() -> None:
    async with a_desk() as desk:
        another = copy.deepcopy(desk.api.objects[PATH])
        another["metadata"]["uid"] = "another"
        desk.api.put(PATH, another)
        desk.offer(READY)
        await desk.until(lambda: desk.writes.pausing(("status", "ns/la")))
        assert desk.status == {}
        desk.cluster.adapters.put(another)
        await desk.idle()
        assert desk.status == {}, "what is so of its predecessor is not so of it"
        desk.offer(READY)
        await desk.idle()
        assert desk.status["phase"] == "Ready"


async def test_what_waits_to_be_said_of_one_is_never_said_of_the_next_of_its_name() -> None:
    async with a_desk(quiet_seconds=0.05) as desk:
        desk.offer(LOADING)
        another = copy.deepcopy(desk.api.objects[PATH])
        another["metadata"] |= {"uid": "another", "resourceVersion": "7"}
        desk.api.put(PATH, another)
        desk.cluster.adapters.put(another)
        await desk.idle()
        assert desk.written == 0 and desk.status == {}


async def test_a_status_that_changes_while_it_waits_or_is_refused_is_written_once_with_the_newest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writes, "FIRST_PAUSE_SECONDS", 3600.0)
    monkeypatch.setattr(writes, "REFUSED_SECONDS", 3600.0)
    async with a_desk(quiet_seconds=0.0) as desk:
        desk.api.refuse = [422]
        desk.offer(LOADING)
        await desk.until(lambda: desk.writes.pausing(("status", "ns/la")))
        for number in range(100):  # news is no reason not to pause
            desk.offer(given(a_state(replicas=0, moving=True, wanted=number + 1)))
            await asyncio.sleep(0)
        desk.offer(READY)
        assert desk.written == 1
        desk.writes.again(refused=True)
        await desk.idle()
        assert desk.status["phase"] == "Ready" and desk.written == 2


async def test_what_is_offered_for_a_resource_that_went_meanwhile_is_dropped() -> None:
    async with a_desk(quiet_seconds=0.05) as desk:
        desk.offer(LOADING)
        desk.cluster.adapters.drop(desk.api.objects[PATH])
        await desk.idle()
        assert desk.api.calls == []
        desk.publisher.forget(set())
        assert not desk.publisher._offered and not desk.publisher._written_at


async def test_nothing_is_remembered_of_resources_that_are_gone() -> None:
    async with a_desk() as desk:
        desk.offer(READY)
        await desk.idle()
        desk.publisher.forget(set())
        assert not desk.publisher._settled and not desk.publisher._written_at


async def test_conditions_of_others_are_no_reason_to_write() -> None:
    async with a_desk() as desk:
        desk.offer(READY)
        await desk.idle()
        theirs = {"type": "Reviewed", "status": "True", "reason": "Fine", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        body = desk.api.objects[PATH]
        body["status"]["conditions"].append(theirs)
        desk.cluster.adapters.put(desk.api.put(PATH, body))
        desk.offer(READY)
        await desk.idle()
        assert desk.written == 1


async def test_a_pod_that_left_is_taken_out_of_status_though_loading_goes_on() -> None:
    async with a_desk(quiet_seconds=3600.0) as desk:
        desk.offer(READY)
        await desk.idle()
        desk.offer(LOADING)
        await desk.until(lambda: desk.written == 2)
        await desk.idle()
        assert "podAssignments" not in desk.status


async def test_what_is_due_is_written_when_the_operator_ends() -> None:
    async with a_desk(quiet_seconds=3600.0) as desk:
        desk.offer(LOADING)
        await desk.writes.stop(5.0)
        assert desk.status["phase"] == "Loading"


async def test_progress_waits_while_much_else_is_to_be_written_and_what_is_ready_does_not() -> None:
    async def nothing() -> None: ...

    async with a_desk() as desk:
        for number in range(1000):
            desk.writes.put(("other", str(number)), nothing, Priority.EVENT, 3600.0)
        desk.offer(LOADING)
        await asyncio.sleep(0.1)
        desk.offer(READY)
        await desk.until(lambda: ("status", "ns/la") not in desk.writes)
        assert desk.written == 1


def deleted(desk: Desk) -> None:
    """It is being deleted, and the operator's finalizer is the only one."""
    metadata = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [FINALIZER], "resourceVersion": "2"}
    body = copy.deepcopy(desk.api.objects[PATH])
    body["metadata"] |= metadata
    desk.api.objects[PATH] = body
    desk.cluster.adapters.put(body)


async def test_of_what_the_next_write_makes_go_no_status_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_desk() as desk:
        deleted(desk)
        go = asyncio.Event()

        async def release() -> None:
            await go.wait()
            desk.cluster.adapters.drop(desk.api.objects[PATH])

        monkeypatch.setattr(status_writer, "RELEASE_SECONDS", 0.01)
        desk.writes.put((writes.FINALIZER_WRITE, "ns/la"), release, Priority.STATUS)
        desk.offer(READY)
        await asyncio.sleep(0.05)  # it is looked at now and then
        go.set()
        await desk.idle()
        assert desk.written == 0


async def test_of_what_should_go_and_cannot_status_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_desk() as desk:
        deleted(desk)
        monkeypatch.setattr(status_writer, "RELEASE_SECONDS", 0.01)

        async def release() -> None:
            raise KubeError(422, "no")

        desk.writes.put((writes.FINALIZER_WRITE, "ns/la"), release, Priority.STATUS)
        desk.offer(READY)
        await desk.until(lambda: desk.written == 1)
