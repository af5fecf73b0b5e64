"""Pods and LoraAdapters as `/v1/fleet` tells of them; by hand, since it is done for every object. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lora_operator.informers.records import PodRecord, Resource
from lora_operator.planning.inflight import Effect
from lora_operator.router.derive import view_of
from lora_operator.router.ui.wire import PodState
from lora_operator.vllm.quirks import public_name

Json = dict[str, Any]


def pod_json(record: PodRecord, leaving: bool) -> Json:
    """The model `FleetPod`."""
    pod, view = record.pod, view_of(record)
    state = PodState.TERMINATING if view.terminating else PodState.READY if view.ready else PodState.NOT_READY
    return {
        "namespace": pod.namespace,
        "name": pod.name,
        "node": pod.node or "",
        "address": view.address,
        "baseModels": list(pod.base_models),
        "memoryBytes": pod.memory_bytes,
        "gpuSlots": pod.max_loras,
        "hostSlots": pod.max_cpu_loras,
        "maxRank": pod.max_lora_rank,
        "state": state.value,
        "leaving": leaving,
        "problems": [*pod.problems, *filter(None, [pod.lora_disabled])],
    }


def resource_json(resource: Resource) -> Json:
    """The model `FleetResource`. Raises whatever a status makes it raise that breaks the rules of its definition."""
    ready: Mapping[str, Any] = next((c for c in _items(resource, "conditions") if c["type"] == "Ready"), {})
    return {
        "namespace": resource.namespace,
        "name": resource.name,
        "baseModel": resource.spec.base_model if resource.spec is not None else "",
        "ready": ready.get("status") == "True" and not resource.problem,
        "deleting": resource.deleted_at is not None,
        "reason": "InvalidSpec" if resource.problem else str(ready.get("reason") or "NotSeenYet"),
        "message": resource.problem or str(ready.get("message") or "no operator has looked at it yet"),
        "adapters": [
            {
                "name": str(one["name"]), "bytes": one.get("bytes"), "rank": one.get("rank"),
                "wanted": int(one.get("replicas") or 0), "loaded": int(one.get("loaded") or 0),
            }
            for one in _items(resource, "adapters")
        ],
        "failed": [
            {
                "name": str(one["name"]),
                "reason": str(one.get("code") or one.get("reason") or "Failed"),
                "message": str(one.get("message") or one.get("reason") or ""),
                "pods": [
                    {"pod": str(why["pod"]), "reason": str(why["reason"]), "message": str(why.get("message") or "")}
                    for why in one.get("pods") or ()
                ],
            }
            for one in _items(resource, "failedAdapters")
        ],
    }  # fmt: skip


def effect_json(effect: Effect) -> Json:
    """The model `UnderWay`."""
    namespace, _, pod = effect.pod.partition("/")
    return {
        "namespace": namespace,
        "pod": pod,
        "name": public_name(effect.engine_name),
        "stage": effect.stage.value,
        "fetchedPercent": effect.fetched_percent,
        "bytes": effect.bytes,
    }


def _items(resource: Resource, field: str) -> Iterable[Mapping[str, Any]]:
    return resource.status.get(field) or ()
