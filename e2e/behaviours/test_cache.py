"""An agent's disk with little room: adapters come and go, owners are told, and what is loaded always stays."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest

from e2e.behaviours.from_stores import apply, offer
from e2e.behaviours.worlds import Worlds
from e2e.controlplane import ControlPlane
from e2e.demo.uploads import WebUpload
from e2e.world import World
from e2e.world.world import eventually, failed


@pytest.fixture(scope="module")
def world(plane: ControlPlane, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One pod, whose agent may keep two adapters and a half."""
    made = Worlds(plane, tmp_path_factory.mktemp("cache"), kubeconfig)
    world = made(0)
    size = sum(file.stat().st_size for file in world.adapter("measured").iterdir())
    world.start_pods(1, agent=("--cache-bytes", str(size * 5 // 2)))
    yield world
    made.close()


def files(world: World, name: str) -> list[Path]:
    return list((world.disk / name).glob("*/adapter_model.safetensors"))


def an_hour_passes(world: World, name: str) -> None:
    """For this adapter: what was asked for a moment ago stays, as it is about to be loaded."""
    at = time.time() - 3600
    for version in (world.disk / name).glob("*"):
        with suppress(FileNotFoundError):
            os.utime(version, (at, at))


def make_way(world: World, name: str, successor: str) -> None:
    """Nobody wants `name` loaded any more, which was long ago; until the other adapter is Ready."""
    world.kubectl("scale", f"la/{name}", "--replicas=0")
    eventually(lambda: name not in world.engine("vllm-0").models(), what=[name, "is unloaded"])

    def ready() -> bool:
        if files(world, name):  # the agent hears a little later that it is not loaded any more
            an_hour_passes(world, name)
        return successor in world.engine("vllm-0").models()

    eventually(ready, what=[successor, "is loaded"])
    world.wait_ready(successor)


def test_adapters_take_turns_on_a_small_disk_and_what_is_loaded_stays(world: World, store: WebUpload) -> None:
    for seed, name in enumerate(("kept", "first")):
        apply(world, name, offer(world, store, name, seed=seed), replicas=1)
        world.wait_ready(name)
    (kept,) = files(world, "kept")
    same = kept.stat().st_ino
    apply(world, "second", offer(world, store, "second", seed=5), replicas=1)
    status = world.wait("second", lambda status: bool(failed(status)))["status"]
    message = status["failedAdapters"][0]["message"]
    assert "on the disk of the pod's agent" in message and "is free" in message
    make_way(world, "first", "second")
    assert not files(world, "first") and kept.stat().st_ino == same
    eventually(lambda: "Evicted" in [event["reason"] for event in world.events("first")], what=["an Event"])
    (event,) = [event for event in world.events("first") if event["reason"] == "Evicted"]
    assert "removed from the disk of pod vllm-0" in event["message"] and event["type"] == "Normal"
    world.kubectl("scale", "la/first", "--replicas=1")
    make_way(world, "second", "first")
    assert store.read("first/adapter_model.safetensors") > store.read("kept/adapter_model.safetensors")
    assert kept.stat().st_ino == same
    answers = {name: world.engine("vllm-0").complete(name).status for name in ("kept", "first")}
    assert answers == {"kept": 200, "first": 200}
    within_budget(world, evictions=2)


def within_budget(world: World, *, evictions: int) -> None:
    """The disk holds what the agent says, and that is not too much."""
    used = sum(file.stat().st_size for file in world.disk.glob("[!.]*/*/*"))
    metrics = metrics_of(world)
    assert used == metrics["lora_operator_cache_used_bytes"] <= metrics["lora_operator_cache_budget_bytes"]
    assert sum(value for name, value in metrics.items() if "cache_evictions_total" in name) == evictions


def metrics_of(world: World) -> dict[str, float]:
    """The agent's."""
    with urlopen(f"http://{world.pods.address_of(world.namespace, 'vllm-0')}:8090/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}
