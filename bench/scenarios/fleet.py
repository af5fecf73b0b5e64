"""A larger fleet: five hundred adapters on fifty pods."""

from __future__ import annotations

import time
from pathlib import Path

from bench.figures import Figure
from bench.scenarios.quiet import measure
from bench.scenarios.ready import LOAD
from e2e.controlplane import ControlPlane
from e2e.world import World

ADAPTERS, PODS, RESOURCES = 500, 50, 25


def fleet(plane: ControlPlane, directory: Path, namespace: str, _: int, quiet_seconds: int) -> list[Figure]:
    """500 adapters on 50 pods: time until all are Ready, then the cost of doing nothing"""
    with World(plane, directory, namespace, in_process=True) as world:
        world.start_pods(PODS, *LOAD, max_cpu_loras=32)
        operator = world.start_operator("--source-seconds", "10")
        for number in range(ADAPTERS):
            world.adapter(f"a{number:03d}", inside=f"r{number % RESOURCES}", seed=number)
        started = time.time()
        for number in range(RESOURCES):
            body = world.manifest(f"r{number}", f"r{number}", deployment={"replicas": 2})
            world.rest.create(world.collection, body)
        for number in range(RESOURCES):
            world.wait_ready(f"r{number}", 180)
        took = time.time() - started
        what = f"{ADAPTERS} adapters x {PODS} pods"
        figures = [Figure(f"created -> all Ready, 2 replicas, {what}", (took,), "s", "", "")]
        pid = operator.process.pid
        return figures + measure(world, plane, pid, max(quiet_seconds // 3, 20), what, (200.0, 5.0, None))
