"""What a kubelet reports of a pod. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
OWN_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready", "PodScheduled")


@dataclass(slots=True)
class ContainerState:
    """How one container is. `state` and `last` are ContainerState objects of the API."""

    name: str
    image: str
    state: Json = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last: Json = field(default_factory=dict)
    ready: bool = False
    started: bool = False  # it runs, and its startup probe has succeeded if it has one
    restarts: int = 0
    container_id: str = ""

    def as_status(self) -> Json:
        return {
            "name": self.name,
            "image": self.image,
            "imageID": f"local/{self.image}",
            "containerID": self.container_id,
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last,
        }


def pod_status(
    pod: Json,
    containers: Sequence[ContainerState],
    *,
    ip: str,
    host_ip: str,
    start_time: str,
    now: str,
    sidecars: Sequence[ContainerState] = (),
) -> Json:
    """The status to patch in, by strategic merge: only conditions that are the kubelet's own, and no times that move.

    `pod` is the pod as last seen: its conditions are where readiness gates are read and transition times come from.
    """
    seen = {item["type"]: item for item in (pod.get("status") or {}).get("conditions") or []}
    lacking = [item.name for item in (*containers, *sidecars) if not item.ready]
    initial = [item.name for item in sidecars if not (item.started or item.restarts)]
    uninitialized = f"containers with incomplete status: [{' '.join(initial)}]"
    values: dict[str, tuple[bool, str, str]] = {
        "PodReadyToStartContainers": (True, "", ""),
        "Initialized": (False, "ContainersNotInitialized", uninitialized) if initial else (True, "", ""),
        "ContainersReady": (not lacking, *_unready_containers(lacking)),
        "Ready": (not lacking, *_unready_containers(lacking)),
        "PodScheduled": (True, "", ""),
    }
    closed = [name for name in gates(pod) if seen.get(name, {}).get("status") != "True"]
    if not lacking and closed:
        message = "; ".join(f'corresponding condition of pod readiness gate "{name}" is not True' for name in closed)
        values["Ready"] = (False, "ReadinessGatesNotReady", message)
    started = any(item.state.keys() & {"running", "terminated"} or item.restarts for item in containers)
    return {
        "phase": "Running" if started else "Pending",
        "hostIP": host_ip,
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "startTime": start_time,
        "conditions": [
            _condition(kind, *values[kind], seen.get(kind), now, pod["metadata"].get("generation"))
            for kind in OWN_CONDITIONS
        ],
        "containerStatuses": [item.as_status() for item in containers],
        **({"initContainerStatuses": [item.as_status() for item in sidecars]} if sidecars else {}),
    }


def final_status(status: Json) -> Json:
    """What is reported last, of a pod whose containers have all ended, before its object goes."""
    states = [item["state"].get("terminated", {}) for item in status["containerStatuses"]]
    phase = "Succeeded" if all(state.get("exitCode") == 0 for state in states) else "Failed"
    reasons = {"Initialized": "PodCompleted"} if phase == "Succeeded" else {}
    reasons |= dict.fromkeys(("ContainersReady", "Ready"), "PodCompleted" if phase == "Succeeded" else "PodFailed")
    conditions = [
        {**one, "message": None, "reason": reasons[one["type"]]} if one["type"] in reasons else one
        for one in status["conditions"]
        if one["type"] != "PodReadyToStartContainers"
    ]
    return {**status, "phase": phase, "conditions": conditions}


def gates(pod: Json) -> Iterable[str]:
    return [item["conditionType"] for item in pod["spec"].get("readinessGates") or []]


def is_ready(status: Json) -> bool:
    return any(item["type"] == "Ready" and item["status"] == "True" for item in status.get("conditions") or [])


def _unready_containers(names: Sequence[str]) -> tuple[str, str]:
    if not names:
        return "", ""
    return "ContainersNotReady", f"containers with unready status: [{' '.join(names)}]"


def _condition(
    kind: str, true: bool, reason: str, message: str, before: Json | None, now: str, generation: int | None
) -> Json:
    status = "True" if true else "False"
    same = before is not None and before.get("status") == status
    since = before.get("lastTransitionTime") if same and before else None
    condition: Json = {"type": kind, "status": status, "lastTransitionTime": since or now}
    for key, text in (("reason", reason), ("message", message)):
        if text or (before or {}).get(key):
            condition[key] = text or None  # null removes what an earlier status said
    if generation is not None:
        condition["observedGeneration"] = generation
    return condition
