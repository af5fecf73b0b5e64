"""What is lost comes back: a container that dies, a pod that is deleted, an adapter that somebody unloads."""

from __future__ import annotations

import sys
from collections.abc import Callable
from subprocess import run

from e2e.demo.errors import NotAsExpected
from e2e.demo.fleet import Fleet
from e2e.demo.samples import NAMESPACE
from e2e.demo.shown import python, shown
from e2e.demo.stage import Stage
from e2e.world.engines import EngineProbe


def kill_container(stage: Stage) -> str:
    """SIGKILL for the engine of a pod that holds sql."""
    pod, held = _holder(stage)
    directory = stage.directory / "pods"
    stage.screen.say(
        f"The engine of {pod} is killed. A restarted engine has forgotten everything that was loaded at run time; "
        "status stops naming the pod at once, and the operator loads everything again as soon as the engine answers."
    )
    command = ("-m", "e2e.pods", "kill", f"{NAMESPACE}/{pod}", "--dir", shown(directory))
    stage.screen.command(python(*command))

    def kill() -> None:
        done = run((sys.executable, *command), capture_output=True, text=True)
        if done.returncode != 0:
            raise NotAsExpected(f"{pod} could not be killed: {done.stderr.strip()}")

    return _lost_and_back(stage, pod, held, kill, "container killed")


def delete_pod(stage: Stage) -> str:
    """The StatefulSet puts a new pod in its place."""
    pod, held = _holder(stage)
    stage.screen.say(f"{pod} is deleted. Its StatefulSet makes a new one, with another address and nothing loaded.")
    stage.screen.command(f"kubectl delete pod {pod}")
    return _lost_and_back(stage, pod, held, lambda: stage.kubectl("delete", "pod", pod, "--wait=false"), "pod deleted")


def unload_by_hand(stage: Stage) -> str:
    """Somebody goes behind the operator's back."""
    pod, _ = _holder(stage)
    found = stage.watching.look().pod(pod)
    assert found is not None
    stage.screen.say(f"Somebody unloads sql from {pod} by hand. The operator looks at every engine once a second.")
    body = '{"lora_name": "sql"}'
    url = f"http://{found.address}/v1/unload_lora_adapter"
    stage.screen.command(f"curl {url} -H 'Content-Type: application/json' -d '{body}'")

    def unload() -> None:
        status = EngineProbe(found.address).unload("sql")
        if status != 200:
            raise NotAsExpected(f"{pod} answered {status} to the unload of sql")

    def whole(fleet: Fleet) -> bool:
        return fleet.holds(pod, "sql") and fleet.ready("sql")

    _, (seconds,) = stage.watching.until(f"{pod} holds sql again", whole, act=unload)
    return f"unloaded by hand: loaded again after {seconds:.2f} s"


def _holder(stage: Stage) -> tuple[str, tuple[str, ...]]:
    """A pod that holds sql, and all that it holds."""
    fleet = stage.watching.look()
    pod = next(pod for pod in fleet.pods if "sql" in (pod.loaded or {}))
    return pod.name, tuple(pod.loaded or ())


def _lost_and_back(stage: Stage, pod: str, held: tuple[str, ...], act: Callable[[], object], what: str) -> str:
    names = tuple(stage.watching.look().resources or {})

    def answers(fleet: Fleet) -> bool:
        found = fleet.pod(pod)
        return found is not None and found.loaded is not None and found.state != "ending"

    def whole(fleet: Fleet) -> bool:
        # a replica may have found another pod meanwhile; everything else has to be back here
        back = [name for name in held if name != "sql"]
        everyone = all(found.state == "ready" for found in fleet.pods) and len(fleet.pods) == stage.engine.pods
        return everyone and fleet.holds(pod, *back) and fleet.settled(pod) and fleet.ready(*names)

    _, (lost, started, ready) = stage.watching.until(
        f"{pod} answers, with everything loaded, and all is Ready",
        lambda fleet: not answers(fleet),
        answers,
        whole,
        act=act,
    )
    restored = stage.watching.span(ready - started)
    return f"{what}: engine back after {started - lost:.1f} s, everything loaded and Ready {restored} after that"
