"""Where the placement library would put the adapters of a trace, for requests that may not have anything loaded."""

from __future__ import annotations

from bench.routing.demand import Shape, adapter_name, shares
from bench.routing.replay import Setting
from lora_scheduler import Adapter, Pod, ReplicaPolicy, Snapshot, plan


def placed(shape: Shape, setting: Setting) -> dict[str, list[str]]:
    """Pod -> adapters, with the demand known and as many replicas as it asks for. Raises ValueError if not all fit."""
    limits = setting.limits
    adapters = tuple(
        Adapter(
            name, name, "llama", "v1", bytes=1, rank=8, replica_policy=ReplicaPolicy.AUTO, max_replicas=setting.pods,
            demand=share * shape.per_second,
        )
        for name, share in ((adapter_name(number), share) for number, share in enumerate(shares(shape)))
    )  # fmt: skip
    pods = tuple(
        Pod(pod, "llama", limits.host_slots, max_rank=8, gpu_slots=limits.gpu_slots) for pod in setting.pod_names
    )
    made = plan(Snapshot(adapters, pods))
    absent = [key for key, where in made.assignments.items() if not where]
    if absent:
        raise ValueError(f"{len(absent)} adapters of {shape} find no place; give {setting} more slots")
    held: dict[str, list[str]] = {pod: [] for pod in setting.pod_names}
    for key, where in made.assignments.items():
        for pod in where:
            held[pod].append(key)
    return held
