"""Which pods take traffic, as their Services see it: who is Ready, and who ever stopped being so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from e2e.world import World
from e2e.world.rest import Json, Rest


def condition_of(pod: Json, kind: str) -> tuple[str, str]:
    """Status and reason of a pod's condition; nothing where it has none."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next(((str(c["status"]), str(c.get("reason", ""))) for c in conditions if c["type"] == kind), ("", ""))


def is_ready(pod: Json) -> bool:
    return condition_of(pod, "Ready")[0] == "True"


def engine_is_ready(pod: Json) -> bool:
    """As the kubelet finds the engine alone, whatever else its pod waits for."""
    states = (pod.get("status") or {}).get("containerStatuses") or ()
    return any(state["name"] == "vllm" and state["ready"] for state in states)


def pod_once(world: World, name: str, done: Callable[[Json], bool], timeout: float = 30.0) -> Json:
    """The pod, once `done(pod)`."""
    pods = f"/api/v1/namespaces/{world.namespace}/pods"
    return world.rest.wait(pods, name, lambda pod: bool(pod) and done(pod), timeout)


@contextmanager
def nobody_stops_being_ready(world: World) -> Iterator[None]:
    """Fails if a pod that was Ready is not Ready at any moment of the block."""
    rest, opened = Rest(world.plane.kubeconfig), threading.Event()
    pods = f"/api/v1/namespaces/{world.namespace}/pods"
    before = {pod["metadata"]["uid"] for pod in rest.get(pods)["items"] if is_ready(pod)}
    assert before, "no pod is Ready"
    lost: list[str] = []

    def watch() -> None:
        ready = set(before)
        for pod in rest.follow(pods, opened):
            if pod["metadata"].get("annotations", {}).get("end-of-the-test"):
                return
            uid = pod["metadata"]["uid"]
            if is_ready(pod):
                ready.add(uid)
            elif uid in ready:
                lost.append(f"{pod['metadata']['name']}: {condition_of(pod, 'Ready')}")
                ready.discard(uid)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    assert opened.wait(10)
    try:
        yield
    finally:
        name = rest.get(pods)["items"][0]["metadata"]["name"]
        rest.patch(f"{pods}/{name}", {"metadata": {"annotations": {"end-of-the-test": "yes"}}})
        thread.join(30)
        rest.close()
    assert lost == []
