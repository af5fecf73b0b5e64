"""What becomes of pods and status while the network between operator and engines is spoilt, and engines are well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from e2e.faults.proxy import FaultProxy
from lora_operator.vllm.engine_state import EngineState
from tests.core.fleet import GROUP, Fleet, a_fleet
from tests.core.test_silent_engines import never_lost

SLOTS = 3


@asynccontextmanager
async def behind_a_proxy(tmp_path: Path, **settings: float) -> AsyncIterator[tuple[Fleet, FaultProxy]]:
    """Two pods of three slots, each with two adapters; the operator reaches the first one through a proxy."""
    async with a_fleet(tmp_path, **settings) as fleet:
        engine = await fleet.add_pod("p0", "--max-loras", "1", "--max-cpu-loras", str(SLOTS))
        await fleet.add_pod("p1", "--max-loras", "1", "--max-cpu-loras", str(SLOTS))
        with FaultProxy("127.0.0.1", engine.port) as proxy:
            port = {f"{GROUP}/port": str(proxy.port)}
            fleet.change_pod("p0", lambda body: body["metadata"]["annotations"].update(port))
            for name in ("a", "b"):
                fleet.write(name)
                fleet.apply(name, name, replicas=2)
            await fleet.until(lambda: fleet.ready("a") and fleet.ready("b") and len(fleet.on("p0")) == 2)
            await fleet.settle()
            yield fleet, proxy


def within_limits(fleet: Fleet) -> bool:
    """Whether, by its journal, no engine ever listed more than it has slots or was asked twice for what it had."""
    for engine in fleet.engines.values():
        listed: set[str] = set()
        for event in engine.journal.events:
            if event["event"] == "load" and event["status"] == 200:
                if event["name"] in listed:
                    return False
                listed.add(event["name"])
            elif event["event"] == "unload" and event["status"] == 200:
                listed.discard(event["name"])
            if len(listed) > SLOTS:
                return False
    return True


def silence(proxy: FaultProxy) -> None:
    proxy.block = True
    proxy.silence()


def half_open(proxy: FaultProxy) -> None:
    proxy.block = True
    proxy.half_open()


def truncate(proxy: FaultProxy) -> None:
    proxy.truncate(40)
    proxy.block = True


def refuse(proxy: FaultProxy) -> None:
    proxy.refuse = True
    proxy.reset()


def latency(proxy: FaultProxy) -> None:
    proxy.delay = 0.3  # each way, so that answers come long after the time-out


FAULTS = [silence, half_open, truncate, refuse, latency]


@pytest.mark.parametrize("spoil", FAULTS)
async def test_a_broken_network_takes_nothing_from_a_pod_before_the_threshold(
    spoil: Callable[[FaultProxy], None], tmp_path: Path
) -> None:
    async with behind_a_proxy(tmp_path, hold_seconds=60.0, probe_timeout=0.2) as (fleet, proxy):
        spoil(proxy)
        await fleet.until(lambda: fleet.view("p0").state is EngineState.SUSPECT and fleet.view("p0").misses >= 3)
        fleet.write("c")
        fleet.apply("c", "c", replicas=2)
        await fleet.until(lambda: set(fleet.assigned("c")) == {"p1"})
        assert not fleet.failed("c") and fleet.ready("a") and fleet.ready("b")
        proxy.heal()
        await fleet.until(lambda: all(fleet.ready(name) for name in "abc"))
        assert set(fleet.assigned("c")) == {"p0", "p1"}
        assert never_lost(fleet, "a", "p0") and never_lost(fleet, "b", "p0") and within_limits(fleet)


@pytest.mark.parametrize("spoil", FAULTS)
async def test_behind_a_network_that_stays_broken_a_pod_is_given_up_and_taken_back(
    spoil: Callable[[FaultProxy], None], tmp_path: Path
) -> None:
    async with behind_a_proxy(tmp_path, hold_seconds=0.4, probe_timeout=0.1, load_timeout=2.0, unload_timeout=2.0) as (
        fleet,
        proxy,
    ):
        fleet.apply("a", "a", replicas=1)
        await fleet.until(lambda: len(fleet.assigned("a")) == 1)
        spoil(proxy)
        await fleet.until(lambda: fleet.view("p0").state is EngineState.DOWN)
        await fleet.until(lambda: set(fleet.assigned("a")) == {"p1"} and set(fleet.assigned("b")) == {"p1"})
        proxy.heal()
        await fleet.until(lambda: fleet.ready("a") and fleet.ready("b") and set(fleet.assigned("b")) == {"p0", "p1"})
        await fleet.until(lambda: not len(fleet.ledger))
        assert within_limits(fleet)


def cut(proxy: FaultProxy) -> None:
    """What is open, before another byte of an answer; new connections work."""
    proxy.truncate(0)


@pytest.mark.parametrize("spoil", [*FAULTS, FaultProxy.reset, cut])
async def test_a_load_that_the_network_swallows_keeps_its_room_until_the_engine_was_asked_again(
    spoil: Callable[[FaultProxy], None], tmp_path: Path
) -> None:
    """The last slot: what the engine may have got is not given to somebody else."""
    async with behind_a_proxy(tmp_path, hold_seconds=60.0, probe_timeout=0.2, load_timeout=0.3) as (fleet, proxy):
        late = fleet.engines["p0"].faults.add("late", "load")
        fleet.write("c")
        fleet.apply("c", "c", replicas=2)
        await fleet.until(lambda: late.hits)
        spoil(proxy)
        fleet.engines["p0"].faults.clear()
        fleet.write("d")
        fleet.apply("d", "d", replicas=2)
        fleet.delete("c")
        await asyncio.sleep(1.0)  # while nothing gets through
        proxy.heal()
        await fleet.until(lambda: fleet.ready("d") and not fleet.exists("c"), timeout=60.0)
        assert within_limits(fleet)
