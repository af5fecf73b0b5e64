"""Pods and LoraAdapters as `/v1/fleet` tells of them; by hand, since it is done for every object. Pure."""

from __future__ import annotations

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
        "problems": [*pod.problems, *filter(None, [pod.lora_disabled, pod.workers_lack_files])],
    }


def resource_json(resource: Resource) -> Json:
    """The model `FleetResource`."""
    ready = resource.published.condition("Ready")
    return {
        "namespace": resource.namespace,
        "name": resource.name,
        "baseModel": resource.spec.base_model if resource.spec is not None else "",
        "ready": ready.status == "True" and not resource.problem,
        "deleting": resource.deleted_at is not None,
        "reason": "InvalidSpec" if resource.problem else ready.reason or "NotSeenYet",
        "message": resource.problem or ready.message or "no operator has looked at it yet",
        "adapters": [
            {
                "name": one.name, "bytes": one.bytes, "rank": one.rank, "wanted": one.replicas, "loaded": one.loaded,
            }
            for one in resource.published.adapters
        ],
        "failed": [
            {
                "name": one.name,
                "reason": one.reason,
                "message": one.message,
                "pods": [{"pod": pod, "reason": reason, "message": message} for pod, reason, message in one.pods],
            }
            for one in resource.published.failed_adapters
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
