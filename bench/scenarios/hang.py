"""One engine accepts requests and never answers: what does that do to a new adapter on the healthy pods?"""

from __future__ import annotations

import time
from pathlib import Path

from bench.figures import Figure, percentile
from bench.scenarios.ready import LOAD
from e2e.controlplane import ControlPlane
from e2e.world import World
from e2e.world.world import eventually


def hang(plane: ControlPlane, directory: Path, namespace: str, runs: int, _: int) -> list[Figure]:
    """a new adapter on the healthy pods while one engine hangs, next to the same without"""
    with World(plane, directory, namespace) as world:
        world.start_pods(3, *LOAD, max_cpu_loras=64)
        world.start_operator()
        runs = max(5, runs // 3)
        without = [_create(world, f"well-{run}", ["vllm-1", "vllm-2"]) for run in range(runs)]
        world.engine("vllm-0").fault(kind="hang", endpoint="all")
        with_hang = [_create(world, f"hung-{run}", ["vllm-1", "vllm-2"]) for run in range(runs)]
        world.engine("vllm-0").heal()
    ratio = percentile(with_hang, 50) / percentile(without, 50)
    return [
        Figure("new adapter on 2 healthy pods, none hangs", tuple(without), "s", "", "0.1; 0.1"),
        Figure(
            "new adapter on 2 healthy pods, one hangs", tuple(with_hang), "s", "as if it did not",
            "never; 29 to > 240", ratio <= 1.5, f"ratio of the medians: {ratio:.2f}",
        ),
    ]  # fmt: skip


def _create(world: World, name: str, pods: list[str]) -> float:
    world.adapter(name, seed=hash(name) % 1000)
    body = world.manifest(name, name, deployment={"replicaPolicy": "AllPods"})
    engines = [world.engine(pod) for pod in pods]
    started = time.time()
    world.rest.create(world.collection, body)
    for engine in engines:
        eventually(lambda engine=engine: name in engine.models(), 60, [name])  # type: ignore[misc]
    at = [e["at"] for engine in engines for e in engine.events() if e["event"] == "load" and e["name"] == name]
    return float(max(at)) - started
