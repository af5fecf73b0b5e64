"""Files brought by agents: from nothing to everything loaded, and engines that come back to a warm disk."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import psutil

from bench.figures import Figure
from bench.scenarios.ready import LOAD
from bench.scenarios.restart import LOAD_SECONDS
from e2e.controlplane import ControlPlane
from e2e.demo.uploads import WebUpload
from e2e.world import World
from e2e.world.world import eventually

ADAPTERS, PODS = 100, 10
PATIENCE_SECONDS = 240.0


def agents(plane: ControlPlane, directory: Path, namespace: str, _: int, __: int) -> list[Figure]:
    """100 adapters of a web server on 10 pods through their agents; then all engines and agents restart"""
    store = WebUpload()
    try:
        with World(plane, directory, namespace, in_process=True) as world:
            return _measure(world, store)
    finally:
        store.close()


def _measure(world: World, store: WebUpload) -> list[Figure]:
    world.start_pods(PODS, *LOAD, max_cpu_loras=ADAPTERS, agent=(), wait=False)
    world.pods.wait_ready(world.namespace, PODS, "vllm-", timeout=PATIENCE_SECONDS)
    world.start_operator("--source-seconds", "60")
    names = [f"a{number:03d}" for number in range(ADAPTERS)]
    size_bytes = 0
    for seed, name in enumerate(names):
        files = {file.name: file.read_bytes() for file in world.adapter(name, seed=seed).iterdir()}
        store.put(name, files)
        size_bytes += sum(len(content) for content in files.values())
    started, used = time.monotonic(), _cpu_seconds(world)
    for name in names:
        deployment = {"replicaPolicy": "AllPods"}
        world.rest.create(world.collection, world.manifest(name, "", source=store.source(name), deployment=deployment))
    created = time.monotonic()
    _until_all_loaded(world)
    cold = time.monotonic() - started
    agents_ms, operator_ms = (
        1000 * (now - then) / (PODS * ADAPTERS) for now, then in zip(_cpu_seconds(world), used, strict=True)
    )
    for name in names:
        world.wait_ready(name, PATIENCE_SECONDS)
    ready = time.monotonic() - started
    fetched = _fetched(world)
    least = ADAPTERS * LOAD_SECONDS
    each = f"{PODS} pods of one node, {PODS * ADAPTERS} loads"
    note = f"of that creating {created - started:.1f} s; the engines' own loads take {least:g} s on each pod"
    warm, healthy = _restart(world)
    after = _fetched(world)
    return [
        Figure(f"{ADAPTERS} adapters through agents: first create -> all loaded, {each}", (cold,), "s", "", note=note),
        Figure(f"{ADAPTERS} adapters through agents: first create -> all Ready", (ready,), "s", ""),
        Figure("CPU time of the agents for each load", (agents_ms,), "ms", ""),
        Figure("CPU time of the operator for each load", (operator_ms,), "ms", ""),
        Figure(
            "bytes that agents fetched ÷ bytes of the adapters", (fetched / size_bytes,), "", "<= 1.0", "",
            fetched <= size_bytes, "small files come with the order; agents of a node share what one fetched",
        ),
        Figure(
            "warm start, engines and agents restarted: bytes that agents fetched", (float(after),), "bytes", "0", "",
            after == 0,
        ),
        Figure("warm start: last engine healthy -> all loaded on all pods", (warm - healthy,), "s", "",
               note=f"restarted to all loaded {warm:.1f} s; the loads themselves take {least:g} s on each pod"),
    ]  # fmt: skip


def _cpu_seconds(world: World) -> tuple[float, float]:
    """Of all agents, and of the operator."""
    assert world.operator is not None
    operator, agents = 0.0, 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            times = process.cpu_times()
            if process.pid == world.operator.process.pid:
                operator += times.user + times.system
            elif "agent" in process.cmdline():
                agents += times.user + times.system
    return agents, operator


def _restart(world: World) -> tuple[float, float]:
    """Seconds from the restart to everything loaded, and to the last engine that was up again."""
    began = time.time()
    for container in ("agent", "vllm"):
        for number in range(PODS):
            world.pods.kill_container(world.namespace, f"vllm-{number}", container)
    for number in range(PODS):
        world.pods.wait_restarted(world.namespace, f"vllm-{number}", timeout=PATIENCE_SECONDS)
        world.pods.wait_restarted(world.namespace, f"vllm-{number}", container="agent", timeout=PATIENCE_SECONDS)
    _until_all_loaded(world)
    all_back = time.time() - began
    up = [event["at"] for probe in world.engines().values() for event in probe.events() if event["event"] == "healthy"]
    return all_back, max(up) - began


def _until_all_loaded(world: World) -> None:
    waiting = {f"vllm-{number}" for number in range(PODS)}

    def done() -> bool:
        # the engines that are looked at pay for it: each until it has everything, and no oftener than needed
        for pod in sorted(waiting):
            if _count(world, pod) < ADAPTERS:
                return False
            waiting.discard(pod)
        return True

    eventually(done, PATIENCE_SECONDS, ["everything is loaded on all pods"])


def _count(world: World, pod: str) -> int:
    try:
        return len(world.engine(pod).models())
    except OSError:
        return 0


def _fetched(world: World) -> float:
    """What all agents have fetched since they were started, in bytes."""
    total = 0.0
    for number in range(PODS):
        address = world.pods.address_of(world.namespace, f"vllm-{number}")
        with urlopen(f"http://{address}:8090/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        total += sum(float(line.split()[1]) for line in lines if line.startswith("lora_operator_fetched_bytes_total"))
    return total
