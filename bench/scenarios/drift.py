"""An adapter that somebody unloads behind the operator's back, in a fleet of fifty pods."""

from __future__ import annotations

import random
import time
from pathlib import Path

from bench.figures import Figure
from bench.scenarios.ready import LOAD
from e2e.controlplane import ControlPlane
from e2e.world import World
from e2e.world.world import eventually

PODS = 50


def drift(plane: ControlPlane, directory: Path, namespace: str, runs: int, _: int) -> list[Figure]:
    """unloaded by hand to loaded again, fifty pods"""
    with World(plane, directory, namespace, in_process=True) as world:
        world.start_pods(PODS, *LOAD, max_cpu_loras=16)
        world.start_operator()
        for number in range(PODS):
            world.adapter(f"a{number:02d}", inside="all", seed=number)
        world.apply("all", "all", deployment={"replicas": 3})
        world.wait_ready("all", 120)
        source = random.Random(1)
        values = []
        for _run in range(runs):
            status = world.get("all")["status"]
            assignment = source.choice(status["podAssignments"])
            engine, name = world.engine(assignment["pod"]), source.choice(assignment["adapters"])
            time.sleep(source.random())  # at any moment between two looks
            started = time.time()
            engine.unload(name)
            eventually(lambda engine=engine, name=name: name in engine.models(), 60, [name])  # type: ignore[misc]
            back = [e["at"] for e in engine.events() if e["event"] == "load" and e["name"] == name]
            values.append(max(back) - started)
    return [
        Figure(
            f"unloaded by hand -> loaded again, {PODS} pods", tuple(values), "s", "<= 1", "30; 6.5",
            max(values) <= 1.1, "status is corrected with the same look that notices it",
        )
    ]  # fmt: skip
