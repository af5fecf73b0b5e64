"""Adapters that are loaded when somebody asks: by the record of routers, by traffic, and until others need the room."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lora_operator.api.usage_record import CONFIG_MAP, Use, entry_of
from lora_operator.desired.adapters import desired
from lora_operator.informers.usage_record import Requests
from lora_operator.manager import loop
from lora_scheduler import ReplicaPolicy
from tests.core.builders import a_resource, a_source, found
from tests.core.fleet import Fleet, a_fleet
from tests.core.test_activity import ask, asking

RECORD = f"/api/v1/namespaces/home/configmaps/{CONFIG_MAP}"
SPEC = {"loadOnStartup": False, "replicaPolicy": "AllPods", "replicas": 2}
NOW = 1_800_000_000.0
QUICK: dict[str, Any] = {"requests_namespace": "home", "on_demand_seconds": 30.0}
LASTING: dict[str, Any] = {"requests_namespace": "home", "on_demand_seconds": 1000.0}


@pytest.fixture(autouse=True)
def rounds_follow_each_other_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "HEARTBEAT_SECONDS", 0.05)


def somebody_asks(fleet: Fleet, *names: str, ago: float = 0.0) -> None:
    """As routers record it."""
    at = datetime.now(UTC) - timedelta(seconds=ago)
    known = fleet.api.objects.get(RECORD, {"metadata": {"name": CONFIG_MAP}})
    news = dict(entry_of("ns", name, at) for name in names)
    fleet.api.put(RECORD, known | {"data": (known.get("data") or {}) | news})


def lazy(fleet: Fleet, *names: str, **deployment: Any) -> None:
    for name in names:
        fleet.write(name)
        fleet.apply(name, name, loadOnStartup=False, **deployment)


async def known(fleet: Fleet, *names: str) -> None:
    await fleet.until(lambda: all(fleet.condition(name, "SourceReady").get("status") == "True" for name in names))


def wanted(use: Use, **deployment: Any) -> Any:
    resource = a_resource(spec={"deploymentConfig": SPEC | deployment, "schedulingConfig": {"priority": 7}})
    made = desired([resource], {resource.key: a_source(resource, found("sql"))}, None, use)
    return made.adapters["ns/la/sql"].adapter


def test_who_was_asked_for_is_wanted_as_declared() -> None:
    adapter = wanted(Use({("ns", "sql"): NOW - 299}, NOW, 300.0))
    assert (adapter.priority, adapter.replicas, adapter.replica_policy) == (7, 2, ReplicaPolicy.ALL_PODS)


@pytest.mark.parametrize(("last", "used"), [({("ns", "sql"): NOW - 301}, NOW - 301), ({("ns", "other"): NOW}, 0)])
def test_who_was_not_gives_way_by_its_last_use(last: dict[tuple[str, str], float], used: float) -> None:
    adapter = wanted(Use(last, NOW, 300.0))
    assert adapter.idle_since == int(used) and adapter.priority == 7
    assert (adapter.replicas, adapter.replica_policy) == (0, ReplicaPolicy.FIXED)


def test_no_replicas_unload_it_whatever_was_asked() -> None:
    for last in ({}, {("ns", "sql"): NOW}):
        adapter = wanted(Use(last, NOW, 300.0), replicas=0, replicaPolicy="Fixed")
        assert not adapter.idle and adapter.replicas == 0


def test_who_is_loaded_on_startup_is_wanted_whether_it_is_used_or_not() -> None:
    assert not wanted(Use({}, NOW, 300.0), loadOnStartup=True).idle


async def test_an_adapter_is_loaded_when_it_is_asked_for_and_not_before(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1, **LASTING) as fleet:
        lazy(fleet, "sql", "chat")
        await known(fleet, "sql", "chat")
        assert fleet.condition("sql")["reason"] == "LoadOnDemand" and not fleet.listed()
        somebody_asks(fleet, "sql")
        await fleet.until(lambda: fleet.ready("sql"))
        assert fleet.listed() == {"p0": ["sql"]}
        assert "sql will be loaded when somebody asks" not in json.dumps(fleet.status("sql"))
        assert "chat will be loaded when somebody asks" in fleet.condition("chat")["message"]


async def test_a_request_from_before_a_restart_is_not_lost(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1, **LASTING) as fleet:
        lazy(fleet, "sql")
        await known(fleet, "sql")
        await fleet.stop()
        somebody_asks(fleet, "sql")
        await fleet.start_anew()
        await fleet.until(lambda: fleet.ready("sql"))


async def test_nothing_is_planned_before_the_record_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, read = asyncio.Event(), asyncio.Event()

    async def held(self: Requests, timeout: float) -> None:
        reading.set()
        await read.wait()

    monkeypatch.setattr(Requests, "first_reads", held)
    async with a_fleet(tmp_path, pods=1, **LASTING) as fleet:
        await asyncio.wait_for(reading.wait(), 10)
        assert fleet.operator.loop.reconciler.last is None
        read.set()
        await fleet.until(lambda: fleet.operator.loop.reconciler.last is not None)


async def test_stays_when_nobody_asks_any_more_and_survives_a_restart(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1, **QUICK) as fleet:
        lazy(fleet, "sql")
        somebody_asks(fleet, "sql")
        await fleet.until(lambda: fleet.ready("sql"))
        somebody_asks(fleet, "sql", ago=60)
        await fleet.until(lambda: fleet.adapter("sql").idle)
        await fleet.settle()
        await fleet.restart()
        await fleet.until(lambda: fleet.operator.loop.reconciler.last is not None)
        await fleet.rounds()
        assert fleet.listed() == {"p0": ["sql"]} and fleet.ready("sql")
        assert [one["event"] for one in fleet.engines["p0"].journal.events].count("load") == 1


async def test_the_longest_unused_goes_first_and_never_one_that_is_always_loaded(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, **QUICK) as fleet:
        await fleet.add_pod("p0", "--max-cpu-loras", "4")
        for name in ("always", "ever"):
            fleet.write(name)
            fleet.apply(name, name)
        lazy(fleet, *"abcde")
        await fleet.until(lambda: fleet.ready("always") and fleet.ready("ever"))
        await known(fleet, *"abcde")
        for name, gone, ages in (("a", "", {}), ("b", "", {"a": 60}), ("c", "a", {"b": 50}), ("d", "c", {"c": 70})):
            for other, ago in ages.items():
                somebody_asks(fleet, other, ago=ago)
                await fleet.until(lambda other=other: fleet.adapter(other).idle)  # type: ignore[misc]
            somebody_asks(fleet, name)
            await fleet.until(lambda name=name, gone=gone: name in fleet.on("p0") and gone not in fleet.on("p0"))  # type: ignore[misc]
        await fleet.settle()
        assert fleet.on("p0") == ["always", "b", "d", "ever"]
        assert {"Preempted"} <= set(fleet.events())


async def test_one_that_is_used_past_the_routers_keeps_its_place(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, demand_seconds=0.05, **QUICK) as fleet:
        await fleet.add_pod("p0", "--max-loras", "2", "--max-cpu-loras", "2")
        lazy(fleet, "used", "unused", "new")
        somebody_asks(fleet, "used", "unused")
        await fleet.until(lambda: fleet.ready("used") and fleet.ready("unused"))
        async with asking(fleet.engines["p0"], "used", 0.02):
            somebody_asks(fleet, "used", "unused", ago=60)
            await fleet.until(lambda: fleet.adapter("unused").idle and not fleet.adapter("used").idle)
            somebody_asks(fleet, "new")
            await fleet.until(lambda: fleet.on("p0") == ["new", "used"])


async def test_a_restarted_operator_learns_from_the_engines_what_was_used_last(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, demand_seconds=0.05, **QUICK) as fleet:
        lazy(fleet, "older", "newer")
        await fleet.add_pod("p0")
        somebody_asks(fleet, "older", "newer")
        await fleet.until(lambda: fleet.ready("older") and fleet.ready("newer"))
        await ask(fleet.engines["p0"], "older")
        await ask(fleet.engines["p0"], "newer")
        await fleet.settle()
        await fleet.stop()
        fleet.api.remove(RECORD)
        await fleet.start_anew()
        await fleet.until(lambda: len(fleet.observers.traffic.used) == 2)
        assert fleet.observers.traffic.used["ns", "older"] <= fleet.observers.traffic.used["ns", "newer"]


async def test_a_changed_version_of_an_unused_one_is_not_rolled_out(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1, **QUICK) as fleet:
        lazy(fleet, "sql")
        somebody_asks(fleet, "sql")
        await fleet.until(lambda: fleet.ready("sql"))
        somebody_asks(fleet, "sql", ago=60)
        await fleet.until(lambda: fleet.adapter("sql").idle)
        fleet.write("sql", seed=7)
        await fleet.until(lambda: not fleet.listed())
        await fleet.until(lambda: fleet.condition("sql")["reason"] == "LoadOnDemand")
        somebody_asks(fleet, "sql")
        await fleet.until(lambda: fleet.ready("sql"))


async def test_records_of_adapters_that_are_gone_are_removed(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1, **QUICK) as fleet:
        somebody_asks(fleet, "gone", ago=60)
        lazy(fleet, "sql")
        await fleet.until(lambda: not fleet.api.objects[RECORD]["data"])


async def test_without_a_record_all_else_goes_on(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1, **QUICK) as fleet:
        fleet.api.statuses[RECORD] = 403
        lazy(fleet, "lazy")
        fleet.write("always")
        fleet.apply("always", "always")
        await fleet.until(lambda: fleet.ready("always"))
        assert fleet.condition("lazy")["reason"] == "LoadOnDemand"
