"""Many things go wrong at once, in an order that a seed decides; afterwards everything is as declared.

`CHAOS_SECONDS=600 pytest -s --timeout 0 e2e/behaviours/test_chaos.py -k "[1-"` goes on for so long, settles after every
few steps, and prints what it did.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from e2e.behaviours.seen import listed, log_of
from e2e.behaviours.worlds import Worlds
from e2e.pods.container import ContainerError
from e2e.world import World
from e2e.world.rest import Json
from e2e.world.world import eventually

PATIENCE = (
    "--probe-seconds", "0.3", "--probe-timeout", "0.4", "--hold-seconds", "0.5", "--load-timeout", "0.6",
    "--unload-timeout", "0.6", "--retry-seconds", "0.1", "--retry-max-seconds", "1", "--settle-seconds", "0.05",
    "--source-seconds", "0.2",
)  # fmt: skip
NAMES = ("a", "b", "c", "d", "e")
STEPS = 16
SLOTS = 8
FAULTS = (
    {"kind": "hang", "endpoint": "all", "times": 3},
    {"kind": "hang", "endpoint": "load", "times": 1},
    {"kind": "status", "endpoint": "load", "status": 500, "times": 2},
    {"kind": "status", "endpoint": "unload", "status": 500, "times": 1},
    {"kind": "status", "endpoint": "models", "status": 500, "times": 2},
    {"kind": "drop", "endpoint": "load", "after": True, "times": 1},
    {"kind": "drop", "endpoint": "unload", "after": False, "times": 1},
    {"kind": "late", "endpoint": "load", "seconds": 1, "times": 1},
    {"kind": "forget_unload", "times": 1},
    {"kind": "crash"},
)


class Chaos:
    """Declares things at random, and breaks things at random. `wanted` is what the world should come to."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._random = random.Random(seed)
        self._weights = 0
        self.wanted: dict[str, int] = {}
        self.done: list[str] = []
        self.kinds: Counter[str] = Counter()
        self.samples = 0

    def step(self) -> None:
        steps: list[Callable[[], str]] = [
            self._declare, self._declare, self._delete, self._publish, self._kill_container, self._take_away,
            self._fault, self._fault, self._fault, self._kill_operator,
        ]  # fmt: skip
        step = self._random.choice(steps)
        self.kinds[step.__name__.strip("_")] += 1
        self.done.append(step())

    def sample(self) -> None:
        """No engine may ever hold more than it has room for."""
        for pod, engine in self._world.engines().items():
            names = self._reach(engine.models)
            if isinstance(names, dict):
                self.samples += 1
                assert len(names) <= SLOTS, f"{pod} holds {sorted(names)}"

    def heal(self) -> bool:
        """Take all faults away; whether every engine was there to be asked, as one may just be starting anew."""
        engines = self._world.engines().values()
        try:
            for engine in engines:
                engine.heal()
        except OSError:
            return False
        return len(engines) == 3

    def _declare(self) -> str:
        name, replicas = self._random.choice(NAMES), self._random.randint(1, 3)
        if not (self._world.source / name).exists():
            self._publish(name)
        if (self._world.get(name).get("metadata") or {}).get("deletionTimestamp"):
            self._world.wait_gone(name)  # what is applied to an object that is going goes with it
        self._world.apply(name, name, deployment={"replicas": replicas})
        self.wanted[name] = replicas
        return f"{replicas} of {name}"

    def _delete(self) -> str:
        name = self._random.choice(NAMES)
        self._world.kubectl("delete", "la", name, "--wait=false", "--ignore-not-found")
        self.wanted.pop(name, None)
        return f"no {name}"

    def _publish(self, name: str = "") -> str:
        name = name or self._random.choice(NAMES)
        self._weights += 1
        self._world.adapter(name, seed=self._weights)
        return f"new weights of {name}"

    def _kill_container(self) -> str:
        pod = self._pod()
        self._world.pods.run(_kill(self._world, pod))
        return f"killed {pod}"

    def _take_away(self) -> str:
        pod = self._pod()
        for name in NAMES:
            self._reach(partial(self._world.engine(pod).unload, name))
        return f"took all away from {pod}"

    def _fault(self) -> str:
        pod, fault = self._pod(), self._random.choice(FAULTS)
        self._reach(lambda: self._world.engine(pod).fault(**fault))
        return f"{fault} on {pod}"

    def _kill_operator(self) -> str:
        assert self._world.operator is not None
        self._world.operator.kill()
        self._world.start_operator(*PATIENCE, wait=self._random.random() < 0.5)
        return "killed the operator"

    def _pod(self) -> str:
        return f"vllm-{self._random.randint(0, 2)}"

    @staticmethod
    def _reach(work: Callable[[], object]) -> object:
        """An engine that is down or hangs cannot be asked, which is none of this test's business."""
        try:
            return work()
        except (OSError, KeyError):
            return None


async def _kill(world: World, pod: str) -> None:
    try:
        await world.pods.runner.kill_container(world.namespace, pod)
    except ContainerError:
        return  # it is down already


def served(status: Json) -> dict[str, dict[str, str]]:
    """Pod -> public name -> the name that its engine knows it by, from status."""
    return {
        item["pod"]: {name: name for name in item["adapters"]}
        | {known["name"]: known["engineName"] for known in item.get("engineNames") or ()}
        for item in status.get("podAssignments") or ()
    }


@pytest.mark.parametrize(("seed", "release"), [(1, "0.32.0"), (2, "0.28.0")])
def test_after_all_that_everything_is_as_declared(worlds: Worlds, seed: int, release: str) -> None:
    world = worlds(3, operator=PATIENCE, release=release, max_cpu_loras=SLOTS)
    chaos = Chaos(world, seed)
    until, slowest = time.monotonic() + float(os.environ.get("CHAOS_SECONDS", "0")), 0.0
    while True:
        for _ in range(STEPS):
            chaos.step()
            chaos.sample()
        began = time.monotonic()
        _settles(world, chaos)
        slowest = max(slowest, time.monotonic() - began)
        if time.monotonic() > until:
            break
        chaos.done.clear()
    assert "Traceback" not in log_of(world), log_of(world)
    print(f"{dict(chaos.kinds)}; {chaos.samples} samples within limits; settled within {slowest:.1f} s")


def _settles(world: World, chaos: Chaos) -> None:
    """Once nothing breaks any more, everything is as declared."""
    story = "; ".join(chaos.done)
    eventually(chaos.heal, timeout=60.0)
    world.pods.wait_ready(world.namespace, 3)

    def settled() -> bool:
        there = {item["metadata"]["name"]: item for item in world.rest.get(world.collection)["items"]}
        if set(there) != set(chaos.wanted):
            return False
        where: dict[str, list[str]] = {}
        for name, item in there.items():
            status = item.get("status") or {}
            ready: Json = next((c for c in status.get("conditions") or () if c["type"] == "Ready"), {})
            if (ready.get("status"), ready.get("observedGeneration")) != ("True", item["metadata"]["generation"]):
                return False
            pods = served(status)
            if len(pods) != chaos.wanted[name]:
                return False
            for pod, names in pods.items():
                where[pod] = sorted([*where.get(pod, []), *names.values()])
        return listed(world) == where and all(newest(name) for name in chaos.wanted)

    def newest(name: str) -> bool:
        weights = hashlib.sha256((world.source / name / "adapter_model.safetensors").read_bytes()).hexdigest()[:12]
        answers = [world.engine(pod).complete(names[name]) for pod, names in served(world.get(name)["status"]).items()]
        return all(answer.weights == weights and not answer.stale for answer in answers)

    try:
        eventually(settled, timeout=15.0)  # less than the heartbeat that would cover up a change that nobody saw
    except AssertionError as error:
        state = world.kubectl("get", "la", "-o", "yaml")
        raise AssertionError(f"{error}\n{story}\n{listed(world)}\n{state}\n{log_of(world)[-6000:]}") from None
