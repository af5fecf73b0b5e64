"""Demand measured from real (simulated) engines, and what it does to an operator that runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import aiohttp

from e2e.vllm_sim import Engine
from lora_operator.engines.prober import Engines
from lora_operator.engines.traffic import Activity
from lora_operator.vllm.client import EngineClient
from lora_operator.vllm.metrics import EngineMetrics, Moment
from tests.core.builders import a_pod, an_engine, ours
from tests.core.fleet import Fleet, a_fleet

QUICK = {"demand_seconds": 0.05, "demand_half_life": 0.4}


def demands(fleet: Fleet) -> dict[str, float]:
    return {name: value for (_, name), value in (fleet.observers.traffic.demands or {}).items()}


async def ask(engine: Engine, model: str, tokens: int = 3) -> None:
    body = {"model": model, "prompt": "hello", "max_tokens": tokens}
    async with aiohttp.ClientSession() as session, session.post(f"{engine.url}/v1/completions", json=body) as answer:
        assert answer.status == 200, await answer.text()


@asynccontextmanager
async def asking(engine: Engine, model: str, pause: float) -> AsyncIterator[None]:
    """One request after the other as long as the block lasts."""

    async def go() -> None:
        while True:
            await ask(engine, model)
            await asyncio.sleep(pause)

    task = asyncio.create_task(go())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def served(fleet: Fleet, *names: str, **deployment: Any) -> None:
    for name in names:
        fleet.write(name)
        fleet.apply(name, name, **deployment)
    await fleet.until(lambda: all(fleet.ready(name) for name in names))


async def test_tells_the_busy_adapter_from_the_idle_one_and_sees_the_load_end(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1, **QUICK) as fleet:
        await served(fleet, "busy", "idle")
        async with asking(fleet.engines["p0"], "busy", 0.02):
            # each is known once it was looked at for a half-life, and one may have been loaded long before the other
            await fleet.until(lambda: demands(fleet).get("busy", 0.0) > 3.0 and "idle" in demands(fleet))
            assert demands(fleet)["idle"] == 0.0
            await fleet.rounds(1)  # which plans with it
            planned = {a.name: a.demand for a in fleet.operator.loop.reconciler.last.snapshot.adapters}
            assert set(planned) == {"busy", "idle"}
            shown = fleet.operator.metrics.exposition().decode()
            assert f'lora_operator_demand_requests_per_second{{base_model="tiny"}} {planned["busy"]}' in shown
        await fleet.until(lambda: demands(fleet)["busy"] == 0.0)


async def test_requests_to_a_versioned_engine_name_are_the_adapters(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, **QUICK) as fleet:
        engine = await fleet.add_pod("p0", "--release", "0.28.0")
        await served(fleet, "sql")
        fleet.write("sql", seed=2)
        await fleet.until(lambda: any("--" in name for name in engine.adapters) and len(engine.adapters) == 1)
        async with asking(engine, engine.adapters[0], 0.02):
            await fleet.until(lambda: demands(fleet).get("sql", 0.0) > 3.0)


async def test_an_engine_that_hangs_at_its_metrics_holds_up_nothing(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=2, **QUICK) as fleet:
        await served(fleet, "sql", replicas=2)
        fleet.engines["p0"].faults.add("hang", "metrics")
        async with asking(fleet.engines["p1"], "sql", 0.02):
            await fleet.until(lambda: demands(fleet).get("sql", 0.0) > 3.0)
        assert fleet.ready("sql")


async def test_without_metrics_demand_is_unknown(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1, **QUICK) as fleet:
        engine = fleet.engines["p0"]
        engine.faults.add("status", "metrics", status=404)
        await served(fleet, "sql")
        before = engine.journal.calls["metrics"]
        await fleet.until(lambda: engine.journal.calls["metrics"] > before + 20)
        assert not demands(fleet)


async def test_zero_seconds_means_that_no_engine_is_asked(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1, demand_seconds=0.0) as fleet:
        await served(fleet, "sql")
        assert not fleet.engines["p0"].journal.calls["metrics"]
        assert fleet.observers.traffic.demands is None


class Pages:
    """An Activity that is given pages instead of asking for them, ten seconds apart, with a half-life of a minute."""

    def __init__(self) -> None:
        self.activity = Activity(
            cast(Engines, None), cast(EngineClient, None), lambda: None, period_seconds=10.0, half_life_seconds=60.0
        )
        self._now = 0.0

    def look(self, finished: float | None, container: str = "c-p0") -> dict[str, float]:
        """One more page of an engine that lists only `sql`, which is busy now; what is known then."""
        self._now += 10.0
        record = a_pod("p0")
        record = replace(record, pod=replace(record.pod, container_id=container))
        page = EngineMetrics(
            requests_running=1,
            active_adapters=frozenset({"sql"}),
            requests_finished=finished,
            moments=(Moment(1.79e9 + self._now, frozenset({"sql"})),),
        )
        self.activity._take(record, an_engine(record, ours("sql")), page, self._now, 1.8e9 + self._now)
        return {name: value for (_, name), value in (self.activity.demands or {}).items()}


def test_a_container_that_took_anothers_place_is_counted_from_its_own_first_look() -> None:
    pages = Pages()
    for count in range(20):
        pages.look(10.0 * count)
    assert pages.look(200.0) == {"sql": 1.0}
    for count in range(20):
        assert pages.look(1_000_000.0 + 10.0 * count, "c-next") == {"sql": 1.0}


def test_an_engine_that_keeps_no_statistics_says_nothing_of_demand() -> None:
    pages = Pages()
    for _ in range(30):
        assert pages.look(None) == {}


def test_an_adapter_was_used_when_the_engine_says_so_and_between_two_looks_just_now() -> None:
    pages = Pages()
    pages.look(0.0)
    assert pages.activity.used == {("ns", "sql"): 1.79e9 + 10.0}, "the engine's clock is all that the first look has"
    pages.look(1.0)
    assert pages.activity.used == {("ns", "sql"): 1.8e9 + 20.0}


def test_nothing_was_used_at_a_time_that_has_yet_to_come() -> None:
    activity, record = Pages().activity, a_pod("p0")
    page = EngineMetrics(requests_finished=0.0, moments=(Moment(1.79e9, frozenset({"sql", "other"})),))
    activity._take(record, an_engine(record, ours("sql")), page, 0.0, 5.0)
    assert activity.used == {("ns", "sql"): 5.0}


async def test_pages_are_shared_with_whoever_else_wants_them(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1, **QUICK) as fleet:
        pages: list[tuple[str, int | None]] = []
        fleet.observers.traffic._seen = lambda pod, page: pages.append((pod, page.requests_running))
        await served(fleet, "sql")
        await fleet.until(lambda: pages)
        assert pages[0] == ("ns/p0", 0)


async def test_a_quiet_fleet_plans_nothing_and_writes_nothing(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=2, **QUICK) as fleet:
        await served(fleet, "sql", "chat")
        await fleet.until(lambda: demands(fleet) == {"sql": 0.0, "chat": 0.0})
        await fleet.settle()
        planned, calls = fleet.operator.loop.last_end_at, len(fleet.api.calls)
        looks = fleet.engines["p0"].journal.calls["metrics"]
        await fleet.until(lambda: fleet.engines["p0"].journal.calls["metrics"] > looks + 10)
        assert fleet.operator.loop.last_end_at == planned
        assert len(fleet.api.calls) == calls


async def test_a_restart_moves_nothing_though_demand_is_unknown_then(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=2, **QUICK) as fleet:
        await served(fleet, "sql", "chat", "math")
        where = fleet.listed()
        (pod,) = (pod for pod, names in where.items() if "sql" in names)
        async with asking(fleet.engines[pod], "sql", 0.02):
            await fleet.until(lambda: demands(fleet).get("sql", 0.0) > 3.0)
            await fleet.restart()
            assert not demands(fleet)
            await fleet.until(lambda: fleet.operator.loop.reconciler.last is not None)
            await fleet.rounds(3)
            assert fleet.listed() == where
            await fleet.until(lambda: demands(fleet).get("sql", 0.0) > 3.0)
        assert fleet.listed() == where
