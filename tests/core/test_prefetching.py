"""Files come early where a load is to come: for replicas that wait for room, and for pods whose engines start."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from lora_operator.delivery.prefetcher import Prefetcher
from lora_operator.desired.adapters import desired
from lora_operator.planning.prefetch_forecast import Forecast
from lora_scheduler import Adapter, Plan, Pod, Reason, Resident, ResidentState, Snapshot, plan
from tests.core.builders import a_pod, a_resource, a_source, found
from tests.core.test_keys_and_nodes import until


def an_adapter(name: str, demand: float | None = None) -> Adapter:
    return Adapter(f"ns/la/{name}", name, "tiny", "v1", 10, 8, namespace="ns", demand=demand)


def a_place(key: str, **given: Any) -> Pod:
    return Pod(key, "tiny", 2, 16, namespace="ns", **given)


STARTING = (Reason.POD_NOT_READY, "its engine is starting")


def test_a_pod_whose_engine_starts_gets_what_it_will_hold_the_most_asked_for_first() -> None:
    adapters = tuple(an_adapter(name, demand) for name, demand in (("a", 1.0), ("b", 5.0), ("c", 2.0)))
    snapshot = Snapshot(adapters, (a_place("ns/p", ready=False, not_ready=STARTING),))
    forecast = Forecast(plan)
    assert forecast.early(snapshot, plan(snapshot), {"ns/p"}) == [("ns/p", "ns/la/b"), ("ns/p", "ns/la/c")]
    assert forecast.early(snapshot, plan(snapshot), ()) == []


def test_the_second_plan_is_made_once_for_the_same_question() -> None:
    snapshot = Snapshot((an_adapter("a"),), (a_place("ns/p", ready=False, not_ready=STARTING),))
    asked: list[Snapshot] = []

    def counted(then: Snapshot) -> Plan:
        asked.append(then)
        return plan(then)

    forecast = Forecast(counted)
    for _ in range(3):
        assert forecast.early(snapshot, plan(snapshot), {"ns/p"})
    newer = replace(snapshot, adapters=(replace(snapshot.adapters[0], version="v2"),))
    forecast.early(newer, plan(newer), {"ns/p"})
    assert len(asked) == 2


def test_a_copy_that_waits_for_room_has_its_files_brought_meanwhile() -> None:
    leaving = tuple(Resident(name, 10, 8, None, "v0", ResidentState.UNLOADING) for name in ("old-1", "old-2"))
    snapshot = Snapshot((an_adapter("a"),), (a_place("ns/p", residents=leaving),))
    assert Forecast(plan).early(snapshot, plan(snapshot), ()) == [("ns/p", "ns/la/a")]


class Slow:
    """Ways that a test holds up."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = asyncio.Event()

    async def prefetch(self, record: object, wanted: Any) -> None:
        self.asked.append(wanted.adapter.name)
        await self.go.wait()
        if wanted.adapter.name == "bad":
            raise OSError("no")


async def test_files_are_brought_once_and_given_up_when_nobody_wants_them_any_more() -> None:
    resource, record = a_resource(), a_pod()
    names = ["a", "bad", "c"]
    wanted = desired([resource], {resource.key: a_source(resource, *(found(name) for name in names))})
    now = [0.0]
    slow = Slow()
    made = Prefetcher(slow, clock=lambda: now[0])  # type: ignore[arg-type]
    early = [(record.key, f"ns/la/{name}") for name in names]
    made.sync_targets(early, {record.key: record}, wanted)
    await until(lambda: slow.asked == names)
    made.sync_targets(early[:2], {record.key: record}, wanted)
    slow.go.set()
    await until(lambda: not made._tasks)
    made.sync_targets(early[:2], {record.key: record}, wanted)
    assert not made._tasks  # one is there, the other failed a moment ago
    now[0] = 60.0
    made.sync_targets(early[:2], {record.key: record}, wanted)
    await until(lambda: slow.asked == [*names, "bad"])
    await made.stop()
