"""From the creation of a resource to Ready in its status."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from bench.figures import Figure, percentile
from e2e.controlplane import ControlPlane
from e2e.world import World
from e2e.world.world import condition

LOAD = ("--sim-load-seconds", "0.01")


def ready(plane: ControlPlane, directory: Path, namespace: str, runs: int, _: int) -> list[Figure]:
    """create to Ready, three replicas on three pods"""
    with World(plane, directory, namespace) as world:
        world.start_pods(3, *LOAD, max_cpu_loras=64)
        world.start_operator()
        values = []
        for run in range(runs + 1):
            name = f"run-{run}"
            world.adapter(name, seed=run)
            took = _create_to_ready(world, name)
            if run:  # the first one warms up connections on both sides
                values.append(took)
            world.kubectl("delete", "la", name)
            world.wait_gone(name)
    met = percentile(values, 50) <= 0.05 and percentile(values, 99) <= 0.15
    return [
        Figure(
            "create -> Ready, 3 replicas on 3 pods", tuple(values), "s", "p50 <= 0.05, p99 <= 0.15",
            "p50 0.103; 0.091", met,
        )
    ]  # fmt: skip


def _create_to_ready(world: World, name: str) -> float:
    """The watch is open before the creation, so that its own start is not measured."""
    seen: list[float] = []
    opened = threading.Event()

    def watch() -> None:
        for body in world.rest.follow(world.collection, opened):
            is_it = body["metadata"]["name"] == name
            if is_it and condition(body.get("status") or {}, "Ready") == "True":
                seen.append(time.time())
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    opened.wait(10)
    body = world.manifest(name, name, deployment={"replicas": 3})
    started = time.time()
    world.rest.create(world.collection, body)
    thread.join(30)
    if not seen:
        raise AssertionError(f"{name} was not Ready within 30 s; see {world.directory}/operator.log")
    return seen[0] - started
