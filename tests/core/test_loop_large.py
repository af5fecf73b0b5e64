"""A fleet so large that its plans are made beside the event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from lora_operator import reconcile
from lora_operator.manager import loop
from lora_scheduler import Plan, Policy, Snapshot
from tests.core.fleet import Fleet, a_fleet


class SlowPlanner:
    """Makes each plan only when it is let, and counts them."""

    def __init__(self, fleet: Fleet, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(reconcile, "LARGE", 0)
        isolation: Any = fleet.operator.loop.reconciler._isolation
        self._plan = isolation.plan
        self._go = threading.Semaphore(0)
        self.begun = 0
        patch.setattr(isolation, "plan", self._slowly)

    def _slowly(self, snapshot: Snapshot, policy: Policy) -> Plan:
        self.begun += 1
        self._go.acquire(timeout=60.0)
        made: Plan = self._plan(snapshot, policy)
        return made

    def let(self, plans: int) -> None:
        self._go.release(plans)


async def test_nothing_begins_on_a_pod_while_the_next_plan_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_fleet(tmp_path, pods=1, fresh_concurrency=1) as fleet:
        for number in range(4):
            fleet.write(f"many/a{number}", seed=number)
        go = fleet.hold_fetches(monkeypatch)
        fleet.apply("la", "many")
        await fleet.until(lambda: len(fleet.ledger))
        await fleet.settle_rounds()
        planner = SlowPlanner(fleet, monkeypatch)
        fleet.operator.loop.mark()
        await fleet.until(lambda: planner.begun)
        go.set()
        # the plan that is there would have the next one begin now, of which the plan in the making knows nothing
        await fleet.until(lambda: not len(fleet.ledger))
        await asyncio.sleep(0)
        assert len(fleet.on("p0")) == 1 and not len(fleet.ledger)
        planner.let(1000)
        await fleet.until(lambda: fleet.ready("la"))


async def test_who_comes_while_a_round_goes_on_waits_for_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        planner = SlowPlanner(fleet, monkeypatch)
        fleet.operator.loop.mark()
        await fleet.until(lambda: planner.begun)
        begun = planner.begun
        waiting = asyncio.create_task(fleet.operator.loop.next_cycle())
        planner.let(1)
        await fleet.until(lambda: planner.begun > begun)
        assert not waiting.done()
        planner.let(1000)
        await waiting


async def test_a_large_fleet_is_served_and_let_go_as_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "LARGE", 0)
    async with a_fleet(tmp_path, pods=2) as fleet:
        for number in range(3):
            fleet.write(f"many/a{number}", seed=number)
        fleet.apply("la", "many", replicas=2)
        await fleet.until(lambda: fleet.ready("la"))
        assert fleet.listed() == {"p0": ["a0", "a1", "a2"], "p1": ["a0", "a1", "a2"]}
        fleet.delete("la")
        await fleet.until(lambda: not fleet.exists("la"))
        assert fleet.listed() == {}


async def test_what_is_deleted_while_a_plan_is_made_stays_until_the_engines_have_let_go_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.ready("la"))
        await fleet.settle()
        planner = SlowPlanner(fleet, monkeypatch)
        fleet.operator.loop.mark()
        await fleet.until(lambda: planner.begun)
        fleet.delete("la")  # of which the plan in the making knows nothing
        begun = planner.begun
        planner.let(1)
        await fleet.until(lambda: planner.begun > begun)
        await fleet.until(lambda: fleet.operator._writes.idle)
        assert fleet.exists("la") and fleet.on("p0") == ["sql"]
        planner.let(1000)
        await fleet.until(lambda: not fleet.exists("la"))
        assert fleet.on("p0") == []


async def test_a_failure_that_falls_due_during_a_round_is_tried_again_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "HEARTBEAT_SECONDS", 3600.0)
    async with a_fleet(tmp_path, pods=1) as fleet:
        fleet.write("sql")
        fleet.apply("sql", "sql")
        await fleet.until(lambda: fleet.ready("sql"))
        await fleet.settle()
        planner = SlowPlanner(fleet, monkeypatch)
        fleet.operator.loop.mark()
        await fleet.until(lambda: planner.begun)
        wanted, life = fleet.adapter("sql"), fleet.view("p0").instance
        failures = fleet.failures
        failures.add(wanted.key, wanted.version, "ns/p0", life, "Refused", "no", time.monotonic(), slow=False)
        await fleet.until(lambda: failures.next_due(time.monotonic()) is None)
        begun = planner.begun
        planner.let(1)
        await fleet.until(lambda: planner.begun > begun, timeout=20.0)
        planner.let(1000)
