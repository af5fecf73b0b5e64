"""What a pod shows of the group of pods that compute for one engine: whether it only works for another pod's server,
and whether the workers of its own server can read what its agent fetches. Pure.

A load of vLLM's is carried out by every worker, and each reads the adapter's files itself, from the path that its
server was given: in tensor and pipeline parallel workers, and in data-parallel engines behind one server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_operator.api.well_known import GROUP
from lora_operator.informers.loose_json import listing, mapping, text
from lora_operator.informers.pod_ports import A_PORT_FOR_EACH_RANK
from lora_operator.vllm.command import EngineCommand

LWS_SIZE = "leaderworkerset.sigs.k8s.io/size"
LWS_INDEX = "leaderworkerset.sigs.k8s.io/worker-index"
# With these every node or rank has an API server of its own.
OWN_SERVERS = ("data-parallel-hybrid-lb", "data-parallel-external-lb", A_PORT_FOR_EACH_RANK)
_OWN_RANK = ("data-parallel-rank", "dpn", "data-parallel-start-rank", "dpr")
_OWN_SHORT = ("dph", "dpe", "dpm")
# Kubernetes makes one of these for each pod.
_OWN_VOLUMES = ("emptyDir", "ephemeral")
_HOLDERS = 2  # of a volume: engine and agent; a third may be the worker, which then needs nothing
_DIGITS_MAX = 6


def worker_index(labels: Mapping[str, Any]) -> int:
    """A pod's place in its LeaderWorkerSet; 0 for the leader, and for pods of none."""
    return _number(labels.get(LWS_INDEX)) or 0


def is_follower(command: EngineCommand, labels: Mapping[str, str]) -> bool:
    """Whether the pod computes for an engine whose server is in another pod."""
    return bool(command.switch("headless")) or (worker_index(labels) > 0 and not command.found)


def workers_lack_files(
    command: EngineCommand, pod: Mapping[str, Any], container: Mapping[str, Any], root: str, *, has_agent: bool
) -> str:
    """Why workers in other pods cannot read the files that the agent of their leader fetches; empty where that is not
    certain. `root`: where the adapters of `container`, the engine's, lie."""
    serves = (command.found or command.visible) and not command.open_ended and not command.switch("headless")
    if not has_agent or not serves:
        return ""
    if any(command.switch(option) for option in (*OWN_SERVERS, *_OWN_SHORT)) or command.first(*_OWN_RANK) is not None:
        return ""
    spec = mapping(pod.get("spec"))
    volume = _volume_at(container, root)
    kinds = {text(one.get("name")): one for one in map(mapping, listing(spec.get("volumes")))}
    kind = next((kind for kind in _OWN_VOLUMES if kind in kinds.get(volume, {})), None)
    if volume is None or kind is None:
        return ""
    elsewhere = _led_by_set(mapping(pod.get("metadata")))
    if not elsewhere and command.visible and _holders(spec, volume) <= _HOLDERS:
        elsewhere = _led_by_command(command)
    if not elsewhere:
        return ""
    return (
        f"{elsewhere}, and they read an adapter's files as well, from the same path; {root} is a volume of this pod "
        f"alone ({kind}), and its agent fetches for this pod alone; mount one shared volume at {root} in all pods of "
        f"the group and take the agent away, or if they have the files all the same, say so in the annotation "
        f'{GROUP}/lora-enabled: "true"'
    )


def _led_by_set(metadata: Mapping[str, Any]) -> str:
    labels, annotations = mapping(metadata.get("labels")), mapping(metadata.get("annotations"))
    size = _number(annotations.get(LWS_SIZE) or labels.get(LWS_SIZE))
    if size is None or size < 2 or worker_index(labels) != 0:
        return ""
    return f"it leads a group of {size} pods (LeaderWorkerSet) whose workers compute for its engine"


def _led_by_command(command: EngineCommand) -> str:
    nodes = _number(command.first("nnodes", "n"))
    if nodes is not None and nodes > 1 and _number(command.first("node-rank", "r") or "0") == 0:
        return f"it leads a group of {nodes} pods (--nnodes {nodes}) whose workers compute for its engine"
    engines = _number(command.first("data-parallel-size", "dp"))
    here = _number(command.first("data-parallel-size-local", "dpl"))
    if engines is not None and here is not None and here < engines and engines > 1:
        return f"{engines - here} of its {engines} data-parallel engines run in other pods"
    return ""


def _volume_at(container: Mapping[str, Any], root: str) -> str | None:
    """The volume that `root` lies on: the one that is mounted there, or nearest above."""
    found, nearest = None, -1
    for mount in map(mapping, listing(container.get("volumeMounts"))):
        path = (text(mount.get("mountPath")) or "").rstrip("/")
        if (root == path or root.startswith(f"{path}/")) and len(path) > nearest:
            found, nearest = text(mount.get("name")), len(path)
    return found


def _holders(spec: Mapping[str, Any], volume: str) -> int:
    containers = map(mapping, (*listing(spec.get("containers")), *listing(spec.get("initContainers"))))
    names = ([mapping(mount).get("name") for mount in listing(one.get("volumeMounts"))] for one in containers)
    return sum(volume in mounted for mounted in names)


def _number(value: object) -> int | None:
    said = str(value or "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < _DIGITS_MAX else None
