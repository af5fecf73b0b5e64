"""The measurements: a fleet from the operator's start on, and many replicas of each adapter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure
from bench.scale.cost import cpu_seconds, longest_blocks_seconds, peak_mb, writes
from bench.scale.fleet import Fleet, fleet
from bench.scale.floor import Floor, floor, server_cpu_seconds
from bench.scenarios.quiet import OPERATOR_USER
from e2e.world.operator_process import OperatorProcess

SETTLE_SECONDS, SETTLE_TIMES = 3.0, 40


@dataclass(frozen=True, slots=True)
class Goals:
    """Most seconds to Ready, MB, percent of a core, seconds of a block, seconds after an engine's death. `before`: what
    the same took when this was first measured."""

    ready: float
    memory: float
    cpu: float
    block: float
    elsewhere: float
    before: tuple[str, str, str, str]  # to Ready, memory, quiet CPU, elsewhere


GOALS = {
    (300, 30): Goals(5, 110, 3, 0.05, 2, ("17.1", "139", "9", "11-12")),
    (1_000, 100): Goals(15, 160, 6, 0.1, 2, ("never", "298", "20", "11-12")),
    (10_000, 1_000): Goals(180, 500, 30, 0.25, 5, ("not tried",) * 4),
}
UNKNOWN = Goals(float("inf"), float("inf"), float("inf"), float("inf"), float("inf"), ("",) * 4)


@dataclass(frozen=True, slots=True)
class Chosen:
    """How long to wait, and to measure; further arguments of the operator."""

    timeout: float
    quiet_seconds: float
    arguments: tuple[str, ...]


async def size(directory: Path, adapters: int, pods: int, chosen: Chosen) -> list[Figure]:
    """One replica of each adapter, all created before the operator starts."""
    goals, what = GOALS.get((adapters, pods), UNKNOWN), f"{adapters:,} x {pods:,}"
    slots = max(2 * -(-adapters // pods), 4)
    async with fleet(directory, adapters, pods, slots, 0.01) as world:
        least = await floor(world.plane, adapters)
        await world.create(adapters, {"replicas": 1})
        server_cpu = server_cpu_seconds(world.plane)
        operator = world.start_operator(chosen.arguments)
        try:
            took = await world.seen.wait(_all_ready(adapters), chosen.timeout, lambda: _lives(operator))
            note = "" if took is not None else _why(world, operator)
            figures = [_figure(f"start -> all Ready, {what}", took, "s", goals.ready, goals.before[0], note)]
            if not _lives(operator):
                return figures
            figures += _floor(world, least, adapters, what, server_cpu_seconds(world.plane) - server_cpu)
            figures += _cost(operator, what, goals)
            figures += await _quiet(world, operator, what, goals, chosen.quiet_seconds)
            figures.append(await _death(world, operator, what, goals))
            started = time.monotonic()
            await world.delete_all(1)
            found = await world.seen.wait(lambda seen: "a0" not in seen.ready, 60.0, lambda: _lives(operator))
            took = None if found is None else time.monotonic() - started
            figures.append(_figure(f"one deleted -> gone, {what}", took, "s", before="0.54"))
            return figures
        finally:
            operator.stop()


async def all_pods(directory: Path, adapters: int, pods: int, chosen: Chosen) -> list[Figure]:
    """Each adapter on every pod, created while the operator runs, and deleted again."""
    what = f"{adapters:,} under AllPods x {pods:,}"
    promised = {500: (20.0, 30.0, "140", "132"), 100: (float("inf"), float("inf"), "5.7", "")}
    seconds, cpu, before, before_cpu = promised.get(adapters, (float("inf"), float("inf"), "", ""))
    async with fleet(directory, adapters, pods, adapters + 12, 0.01) as world:
        operator = world.start_operator(chosen.arguments)
        try:
            operator.wait_ready(60)
            spent = cpu_seconds(operator.process.pid)
            started = time.monotonic()
            await world.create(adapters, {"replicaPolicy": "AllPods"})
            found = await world.seen.wait(_all_ready(adapters), chosen.timeout, lambda: _lives(operator))
            took = None if found is None else time.monotonic() - started
            figures = [_figure(f"created -> all Ready, {what}", took, "s", seconds, before)]
            if not _lives(operator):
                return figures
            used = cpu_seconds(operator.process.pid) - spent
            figures.append(_figure(f"CPU for that, {what}", used, "s", cpu, before_cpu))
            figures += _cost(operator, what, UNKNOWN)
            return figures + await _deleted(world, operator, adapters, what, chosen.timeout)
        finally:
            operator.stop()


async def _deleted(world: Fleet, operator: OperatorProcess, adapters: int, what: str, timeout: float) -> list[Figure]:
    """All at once, with what operator, API server and etcd spend on it."""
    used, server_cpu, started = cpu_seconds(operator.process.pid), server_cpu_seconds(world.plane), time.monotonic()
    _, place = writes(world.plane.audit_log, 0, OPERATOR_USER)
    await world.delete_all(adapters)
    found = await world.seen.wait(lambda seen: not seen.ready, timeout, lambda: _lives(operator))
    took = None if found is None else time.monotonic() - started
    goal, before = (2.0, "18.7") if adapters == 100 else (float("inf"), "")
    if not _lives(operator):
        return [_figure(f"deleted -> gone, {what}", None, "s", goal, before)]
    used, server_cpu = cpu_seconds(operator.process.pid) - used, server_cpu_seconds(world.plane) - server_cpu
    wrote, _ = writes(world.plane.audit_log, place, OPERATOR_USER)
    shown = ", ".join(f"{count} {kind}" for kind, count in wrote.most_common())
    return [
        _figure(f"deleted -> gone, {what}", took, "s", goal, before, shown),
        _figure(f"CPU for that, deleted, {what}", used, "s"),
        _figure(f"CPU of API server and etcd for that, {what}", server_cpu, "s"),
    ]


def _all_ready(count: int) -> Callable[[object], bool]:
    return lambda seen: len(seen.ready) == count and all(seen.ready.values())  # type: ignore[attr-defined]


def _lives(operator: OperatorProcess) -> bool:
    return operator.process.poll() is None


def _why(world: Fleet, operator: OperatorProcess) -> str:
    ready = sum(world.seen.ready.values())
    ended = operator.process.poll()
    how = f"the operator ended with {ended}" if ended is not None else "time is up"
    return f"{ready} were Ready when {how}; see {operator.log}"


def _cost(operator: OperatorProcess, what: str, goals: Goals) -> list[Figure]:
    pid, (longest, busiest) = operator.process.pid, longest_blocks_seconds(operator)
    return [
        _figure(f"CPU since its start, {what}", cpu_seconds(pid), "s"),
        _figure(f"most memory, {what}", peak_mb(pid), "MB", goals.memory, goals.before[1]),
        _figure(f"longest block of the event loop, {what}", longest, "s", goals.block),
        _figure(f"most CPU in one block, {what}", busiest, "s"),
    ]


def _floor(world: Fleet, least: Floor, adapters: int, what: str, server_cpu: float) -> list[Figure]:
    """What was written so far, next to what must be: one status for each adapter before it can be Ready."""
    wrote, _ = writes(world.plane.audit_log, 0, OPERATOR_USER)
    statuses, rate = wrote["loraadapters/status"], f"{least.status_rate:.0f} statuses or {least.finalizer_rate:.0f}"
    shown = ", ".join(f"{count} {kind}" for kind, count in wrote.most_common())
    return [
        _figure(
            f"floor: {adapters:,} plain status patches, {what}", adapters / least.status_rate, "s",
            note=f"the API server took {rate} finalizers a second, right before",
        ),
        _figure(f"statuses written for each adapter till then, {what}", statuses / adapters, "writes", note=shown),
        _figure(f"CPU of API server and etcd till then, {what}", server_cpu, "s"),
        _figure(f"floor: that of one status for each adapter, {what}", adapters * least.status_cpu, "s"),
    ]  # fmt: skip


async def _quiet(
    world: Fleet, operator: OperatorProcess, what: str, goals: Goals, quiet_seconds: float
) -> list[Figure]:
    pid = operator.process.pid
    _, place = writes(world.plane.audit_log, 0, OPERATOR_USER)
    settled = time.monotonic()
    for _ in range(SETTLE_TIMES):  # Events and the like come after what people wait for
        await asyncio.sleep(SETTLE_SECONDS)
        count, place = writes(world.plane.audit_log, place, OPERATOR_USER)
        if not count:
            break
    settled = time.monotonic() - settled
    cpu, started = cpu_seconds(pid), time.monotonic()
    await asyncio.sleep(quiet_seconds)
    percent = 100 * (cpu_seconds(pid) - cpu) / (time.monotonic() - started)
    count, _ = writes(world.plane.audit_log, place, OPERATOR_USER)
    return [
        _figure(f"all Ready -> nothing left to write, {what}", settled, "s"),
        _figure(f"quiet CPU, {what}", percent, "% of a core", goals.cpu, goals.before[2]),
        _figure(f"writes in {quiet_seconds:g} quiet s, {what}", float(count.total()), "writes", 0.0),
    ]


async def _death(world: Fleet, operator: OperatorProcess, what: str, goals: Goals) -> Figure:
    """Of an engine that serves something; what is seen is status."""
    pods = [pod for places in world.seen.pods.values() for pod in places]
    if not pods:
        return _figure(f"an engine dies -> served elsewhere, {what}", None, "s", goals.elsewhere, goals.before[3])
    pod = max(set(pods), key=pods.count)
    lost = [name for name, places in world.seen.pods.items() if pod in places]
    world.kill_engine(pod)

    def elsewhere(seen: object) -> bool:
        return all(world.seen.pods[name] - {pod} and world.seen.ready[name] for name in lost)

    took = await world.seen.wait(elsewhere, 60.0, lambda: _lives(operator))
    return _figure(
        f"an engine dies -> its {len(lost)} served elsewhere, {what}", took, "s", goals.elsewhere, goals.before[3]
    )


def _figure(
    name: str, value: float | None, unit: str, goal: float = float("inf"), before: str = "", note: str = ""
) -> Figure:
    promised = goal != float("inf")
    return Figure(
        name,
        () if value is None else (value,),
        unit,
        f"<= {goal:g}" if promised else "",
        before,
        (value is not None and value <= goal) if promised else None,
        note,
    )
