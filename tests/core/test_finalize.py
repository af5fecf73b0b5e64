"""The finalizer: there before anything can be left behind, gone when nothing is, and never for ever."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from lora_operator.api.well_known import FINALIZER
from lora_operator.desired.adapters import Desired, desired
from lora_operator.engines.prober import EngineView, instance_of
from lora_operator.execution.finalizers import Finalizers, Leftovers
from lora_operator.informers.cache import Cluster
from lora_operator.informers.pod_description import PodDefaults
from lora_operator.informers.records import PodRecord
from lora_operator.kube import write_queue as writes
from lora_operator.kube.events import Recorder
from lora_operator.kube.own_writes import OwnWrites
from lora_operator.kube.write_queue import Writes
from lora_operator.planning.inflight import Effect, Ledger, Stage
from lora_operator.vllm.engine_state import EngineState
from tests.core.api_server import ApiServer, an_api_server
from tests.core.builders import V1, a_pod, a_resource, a_source, an_engine, found, ours

PATH = "/apis/production-stack.vllm-project/v1alpha1/namespaces/ns/loraadapters/la"
NOTED = {"adapters": [{"name": "sql", "fingerprint": V1}]}
NOBODY = desired([], {})


class Desk:
    def __init__(self, api: ApiServer) -> None:
        self.api = api
        self.cluster = Cluster(PodDefaults())
        self.writes = Writes()
        self.recorder = Recorder(api.kube, self.writes)
        self.rounds = asyncio.Event()
        self.finalizers = Finalizers(
            api.kube, self.cluster, self.writes, self.recorder, deadline_seconds=60.0,
            own_writes=OwnWrites(self.rounds.set),
        )  # fmt: skip

    def put(
        self,
        *,
        finalizer: bool = True,
        finalizers: list[str] | None = None,
        deleted_seconds_ago: float | None = None,
        generation: int = 1,
        **body: Any,
    ) -> None:
        metadata: dict[str, Any] = {"name": "la", "namespace": "ns", "uid": "u", "resourceVersion": "1"}
        metadata["generation"] = generation
        if finalizer or finalizers:
            metadata["finalizers"] = [FINALIZER] if finalizers is None else finalizers
        if deleted_seconds_ago is not None:
            moment = time.gmtime(time.time() - deleted_seconds_ago)
            metadata["deletionTimestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", moment)
        spec = {"baseModel": "tiny", "adapterSource": {"type": "local", "repository": "/m"}}
        self.cluster.adapters.put(self.api.put(PATH, {"metadata": metadata, "spec": spec, "status": NOTED} | body))

    def update(self, *pairs: tuple[PodRecord, EngineView], ledger: Ledger | None = None) -> None:
        self.finalizers.update(
            self.cluster.adapters.values(),
            NOBODY,
            {record.key: record for record, _ in pairs},
            {record.key: view for record, view in pairs},
            ledger or Ledger(),
        )

    async def until(self, done: Callable[[], Any]) -> None:
        async with asyncio.timeout(60):
            while not done():  # noqa: ASYNC110 - what it waits for has no event
                await asyncio.sleep(0.005)

    async def written(self) -> None:
        await self.until(lambda: self.writes.idle)


@asynccontextmanager
async def a_desk() -> AsyncIterator[Desk]:
    async with an_api_server() as api:
        desk = Desk(api)
        try:
            yield desk
        finally:
            await desk.writes.stop(0.0)


def holding(**extra: Any) -> tuple[PodRecord, EngineView]:
    record = a_pod()
    return record, an_engine(record, ours("sql"), **extra)


async def test_it_is_added_once_and_nothing_is_planned_anew_for_it() -> None:
    async with a_desk() as desk:
        desk.put(finalizer=False)
        desk.update()
        desk.update()
        await desk.written()
        desk.update()
        await desk.written()
        assert desk.api.objects[PATH]["metadata"]["finalizers"] == [FINALIZER]
        assert len(desk.api.calls) == 1 and not desk.rounds.is_set()


@pytest.mark.parametrize("change", [{"metadata": {"generation": 2}}, {"status": {}}])
async def test_the_loop_goes_on_when_a_change_of_somebody_else_comes_with_the_answer(change: dict[str, Any]) -> None:
    async with a_desk() as desk:
        desk.put(finalizer=False)
        desk.update()
        body = desk.api.objects[PATH]
        body |= change | {"metadata": body["metadata"] | change.get("metadata", {})}
        await desk.written()
        assert desk.rounds.is_set()


async def test_while_an_engine_lists_it_the_resource_stays() -> None:
    async with a_desk() as desk:
        desk.put(deleted_seconds_ago=0)
        desk.update(holding())
        assert desk.api.calls == [] and desk.finalizers.next_deadline() is not None
        record = a_pod()
        desk.update((record, an_engine(record)))
        await desk.written()
        assert desk.cluster.adapters.get("ns/la") is None
        assert PATH not in desk.api.objects


async def test_status_that_is_always_news_does_not_keep_what_is_deleted() -> None:
    async with a_desk() as desk:
        keys = [("status", str(number)) for number in range(2 * writes.AT_A_TIME)]

        async def write(key: tuple[str, str]) -> None:
            await asyncio.sleep(0)
            desk.writes.put(key, partial(write, key), writes.Priority.STATUS)

        for key in keys:
            desk.writes.put(key, partial(write, key), writes.Priority.STATUS)
        desk.put(deleted_seconds_ago=0)
        desk.update()
        await desk.until(lambda: PATH not in desk.api.objects)


async def test_after_the_deadline_it_goes_with_an_event_that_names_what_is_left() -> None:
    async with a_desk() as desk:
        desk.put(deleted_seconds_ago=61)
        desk.update(holding(state=EngineState.SUSPECT))
        await desk.written()
        event = next(body for body in desk.api.bodies if isinstance(body, dict) and body.get("kind") == "Event")
        assert event["reason"] == "ReleasedWithoutUnload" and "sql on p0" in event["message"]
        assert desk.cluster.adapters.get("ns/la") is None


async def test_a_finalizer_of_somebody_else_keeps_the_resource_and_we_write_no_more() -> None:
    async with a_desk() as desk:
        desk.put(finalizers=["example.com/before", FINALIZER, "example.com/after"], deleted_seconds_ago=0)
        desk.update()
        await desk.written()
        resource = desk.cluster.adapters["ns/la"]
        assert resource.finalizers == ("example.com/before", "example.com/after") and resource.deleted_at is not None
        desk.update()
        await desk.written()
        assert len(desk.api.calls) == 1


@pytest.mark.parametrize("theirs", [[], ["example.com/theirs"]])
async def test_one_that_was_in_the_body_of_a_created_resource_is_removed(theirs: list[str]) -> None:
    # a restored backup: its creator owns our finalizer, and server-side apply by another manager would leave it there
    async with a_desk() as desk:
        desk.put(finalizers=[FINALIZER, *theirs], deleted_seconds_ago=0)
        desk.update()
        await desk.written()
        assert len(desk.api.calls) == 1 and (PATH in desk.api.objects) == bool(theirs)


async def test_it_is_added_beside_those_of_others() -> None:
    async with a_desk() as desk:
        desk.put(finalizers=["example.com/theirs"])
        desk.update()
        await desk.written()
        assert desk.api.objects[PATH]["metadata"]["finalizers"] == ["example.com/theirs", FINALIZER]


@pytest.mark.parametrize("adding", [True, False])
async def test_a_list_that_somebody_has_changed_meanwhile_is_left_alone_until_it_was_seen(adding: bool) -> None:
    async with a_desk() as desk:
        ours = [] if adding else [FINALIZER]
        desk.put(finalizers=ours, deleted_seconds_ago=None if adding else 0)
        body = copy.deepcopy(desk.api.objects[PATH])
        body["metadata"]["finalizers"] = ["example.com/theirs", *ours]
        desk.api.put(PATH, body)
        desk.update()
        await desk.until(lambda: desk.writes.pausing((writes.FINALIZER_WRITE, "ns/la")))
        assert desk.api.objects[PATH]["metadata"]["finalizers"] == ["example.com/theirs", *ours]
        desk.cluster.adapters.put(body)
        await desk.written()
        wanted = ["example.com/theirs", FINALIZER] if adding else ["example.com/theirs"]
        assert desk.api.objects[PATH]["metadata"]["finalizers"] == wanted


async def test_a_write_that_changes_nothing_is_not_repeated_in_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_desk() as desk:
        desk.put(finalizer=False)
        calls = []

        async def taken_and_not_so(*arguments: Any) -> Any:
            calls.append(arguments)
            return desk.api.put(PATH, desk.api.objects[PATH])  # a webhook that knows better

        monkeypatch.setattr(desk.api.kube, "add_finalizer", taken_and_not_so)
        desk.update()
        await desk.until(lambda: desk.writes.pausing((writes.FINALIZER_WRITE, "ns/la")))
        monkeypatch.setattr(writes, "FIRST_PAUSE_SECONDS", 3600.0)
        await desk.until(lambda: len(calls) == 2)
        for _ in range(256):
            desk.update()
            await asyncio.sleep(0)
        assert len(calls) == 2


async def test_what_a_later_round_no_longer_wants_is_not_written() -> None:
    async with a_desk() as desk:
        desk.put(deleted_seconds_ago=0)
        desk.update()
        desk.update(holding())  # an engine is back, and has it
        await desk.written()
        assert desk.api.calls == [] and desk.finalizers.next_deadline() is not None


async def test_what_was_decided_for_one_is_not_done_to_the_next_of_its_name() -> None:
    async with a_desk() as desk:
        desk.put(deleted_seconds_ago=0)
        desk.update()
        desk.put()  # a dump applied again, with the finalizer in its body
        await desk.written()
        assert desk.api.calls == []


async def test_a_resource_that_is_gone_is_forgotten_though_no_watch_said_so() -> None:
    async with a_desk() as desk:
        desk.put(deleted_seconds_ago=0)
        del desk.api.objects[PATH]
        desk.update()
        await desk.written()
        assert desk.cluster.adapters.get("ns/la") is None


@pytest.mark.parametrize("status", [409, 422, 500])
async def test_a_refused_write_is_tried_again_in_a_while(status: int) -> None:
    async with a_desk() as desk:
        desk.put(deleted_seconds_ago=0)
        desk.api.refuse = [status]
        desk.update()
        desk.update()
        await desk.until(lambda: desk.writes.pausing((writes.FINALIZER_WRITE, "ns/la")))
        assert desk.cluster.adapters.get("ns/la") is not None
        desk.update()
        await desk.written()
        assert len(desk.api.calls) == 2 and desk.cluster.adapters.get("ns/la") is None


def left(*pairs: tuple[PodRecord, EngineView], wanted: Desired = NOBODY, ledger: Ledger | None = None) -> list[str]:
    found = Leftovers(
        wanted,
        {record.key: record for record, _ in pairs},
        {record.key: view for record, view in pairs},
        ledger or Ledger(),
    )
    return found.of(a_resource(status=NOTED))


def test_an_engine_that_hangs_or_is_down_still_has_what_it_had() -> None:
    for state in (EngineState.SUSPECT, EngineState.DOWN, EngineState.UP):
        assert left(holding(state=state)) == ["sql on p0"]


def test_an_engine_that_is_starting_has_nothing() -> None:
    assert left(holding(state=EngineState.STARTING)) == []


def test_a_pod_that_is_gone_or_going_has_let_go() -> None:
    record = a_pod(deletionTimestamp="2026-01-01T00:00:00Z")
    assert left((record, an_engine(record, ours("sql")))) == []
    assert left() == []


def test_a_running_engine_that_was_never_heard_of_may_hold_anything() -> None:
    record = a_pod()
    view = EngineView(instance_of(record), EngineState.UNKNOWN)
    assert left((record, view)) == ["whatever p0 holds, as its engine does not say"]


def test_a_load_under_way_is_waited_for() -> None:
    record = a_pod()
    ledger = Ledger()
    ledger.begin(Effect(record.key, "sql", Stage.LOADING, "ns/la/sql", V1, 1, 1, instance_of(record)))
    assert left((record, an_engine(record)), ledger=ledger) == ["sql on p0"]


def test_what_another_resource_wants_by_now_is_not_ours_to_wait_for() -> None:
    other = a_resource("other")
    assert left(holding(), wanted=desired([other], {other.key: a_source(other, found("sql"))})) == []
