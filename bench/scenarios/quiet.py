"""What the operator costs while nothing happens: writes, calls, memory, CPU."""

from __future__ import annotations

import json
import time
from pathlib import Path

import psutil

from bench.figures import Figure
from bench.scenarios.ready import LOAD
from e2e.controlplane import ControlPlane
from e2e.world import World

OPERATOR_USER = "system:serviceaccount:lora-operator-system:lora-operator"


def quiet(plane: ControlPlane, directory: Path, namespace: str, _: int, quiet_seconds: int) -> list[Figure]:
    """20 adapters on 3 pods, left alone"""
    with World(plane, directory, namespace) as world:
        world.start_pods(3, *LOAD, max_cpu_loras=64)
        operator = world.start_operator("--source-seconds", "10")
        for number in range(20):
            world.adapter(f"a{number:02d}", inside="all", seed=number)
        world.apply("all", "all", deployment={"replicas": 3})
        world.wait_ready("all", 60)
        return measure(world, plane, operator.process.pid, quiet_seconds, "20 adapters x 3 pods", (120.0, 1.0, 600.0))


def measure(
    world: World, plane: ControlPlane, pid: int, quiet_seconds: int, what: str, goals: tuple[float, float, float | None]
) -> list[Figure]:
    """Wait until all is said, then count for `quiet_seconds`. Goals: MB, percent of a core, engine calls."""
    time.sleep(5)
    process = psutil.Process(pid)
    calls_before = _calls(world)
    writes_before, cpu_before, started = _writes(plane), process.cpu_times(), time.monotonic()
    time.sleep(quiet_seconds)
    seconds, cpu = time.monotonic() - started, process.cpu_times()
    writes = _writes(plane) - writes_before
    calls = _calls(world) - calls_before
    percent = 100 * (cpu.user + cpu.system - cpu_before.user - cpu_before.system) / seconds
    memory = process.memory_info().rss / 1e6
    minutes = quiet_seconds / 60
    small = goals[2] is not None
    figures = [
        Figure(
            f"API writes in {minutes:g} quiet minutes, {what}", (float(writes),), "writes", "0",
            "60; 360" if small else "", writes == 0,
        ),
        Figure(f"memory, {what}", (memory,), "MB", f"<= {goals[0]:g}", "54; 93" if small else "", memory <= goals[0]),
        Figure(
            f"CPU, {what}", (percent,), "% of a core", f"<= {goals[1]:g}", "0.2; 1.5" if small else "",
            percent <= goals[1],
        ),
    ]  # fmt: skip
    if goals[2] is not None:
        allowed = goals[2] * quiet_seconds / 180
        figures.insert(
            1,
            Figure(
                f"engine calls in {minutes:g} quiet minutes, {what}", (float(calls),), "calls", f"<= {allowed:g}",
                "180; 1080", calls <= allowed,
            ),
        )  # fmt: skip
    return figures


def _calls(world: World) -> int:
    """Requests to all engines, less those to /health, which the kubelet makes."""
    return sum(
        count for engine in world.engines().values() for what, count in engine.calls().items() if what != "health"
    )


def _writes(plane: ControlPlane) -> int:
    """Requests of the operator that change something, from the API server's audit log."""
    count = 0
    with plane.audit_log.open() as log:
        for line in log:
            event = json.loads(line)
            if event.get("stage") == "ResponseComplete" and event["user"]["username"] == OPERATOR_USER:
                lease = (event.get("objectRef") or {}).get("resource") == "leases"  # renewed as long as it leads
                count += event["verb"] not in ("get", "list", "watch") and not lease
    return count
