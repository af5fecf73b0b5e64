"""Pods whose agents have disks of their own: an adapter that comes back goes where its files are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from e2e.behaviours.asking import record
from e2e.behaviours.from_stores import apply, offer
from e2e.behaviours.seen import listed
from e2e.behaviours.worlds import Worlds
from e2e.controlplane import ControlPlane
from e2e.demo.uploads import WebUpload
from e2e.world import World
from e2e.world.world import condition, eventually

PODS = ("left", "right")
LONG_AGO = timedelta(hours=1)


@pytest.fixture
def world(plane: ControlPlane, kubeconfig: Path, tmp_path: Path) -> Iterator[World]:
    """Two pods of two slots."""
    made = Worlds(plane, tmp_path, kubeconfig)
    world = made(0)
    for name in PODS:
        world.disk = world.directory / f"disk-{name}"
        world.disk.mkdir()
        world.start_pods(1, name=name, agent=(), max_loras=2, max_cpu_loras=2)
    yield world
    made.close()


def where(world: World) -> dict[str, str]:
    """Adapter -> the pod that has it."""
    return {name: pod.removesuffix("-0") for pod, names in listed(world).items() for name in names}


def test_an_adapter_comes_back_to_its_files_though_others_have_been_idle_for_longer_elsewhere(
    world: World, store: WebUpload
) -> None:
    names = ("a", "b", "c", "d", "e")
    for name in names:
        apply(world, name, offer(world, store, name), loadOnStartup=False)
    for name in names:
        world.wait(name, lambda status: condition(status, "SourceReady") == "True")
    record(world, *names[:4])
    eventually(lambda: set(where(world)) == set(names[:4]), what="four are loaded")
    home = where(world)["a"]
    (beside,) = (name for name, pod in where(world).items() if pod == home and name != "a")
    far = sorted({"b", "c", "d"} - {beside})
    record(world, "a", ago=LONG_AGO)
    record(world, "e")
    eventually(lambda: where(world).get("e") == home, what="a, which is unused, makes room")
    # those on the other pod have been unused for longer than the one on the pod that has the files
    record(world, *far, ago=LONG_AGO)
    record(world, beside, ago=LONG_AGO / 2)
    sent = store.server.sent_bytes
    record(world, "a")
    eventually(lambda: where(world).get("a") == home, what="a is back where its files are")
    assert {name: where(world)[name] for name in ("e", *far)} == {"e": home} | dict.fromkeys(far, *({*PODS} - {home}))
    assert store.server.sent_bytes - sent < 10_000, "nothing was fetched again"
    version = world.get(beside)["status"]["adapters"][0]["fingerprint"]
    folder = world.directory / f"disk-{home}" / beside / version
    assert folder.is_dir(), "unloaded, and still there"
