"""Whether what an effect is about is still there: the pod, its container, its engine. Pure."""

from __future__ import annotations

from lora_operator.engines.liveness import EngineView, instance_of
from lora_operator.engines.prober import Engines
from lora_operator.informers.cache import Cluster
from lora_operator.informers.records import PodRecord
from lora_operator.planning.inflight import Effect
from lora_operator.vllm.engine_state import EngineState


def still_runs(cluster: Cluster, effect: Effect) -> bool:
    """Whether the container that the effect is about still is the pod's."""
    record = cluster.pods.get(effect.pod)
    return record is not None and instance_of(record) == effect.instance


def present(cluster: Cluster, engines: Engines, pod: str) -> tuple[PodRecord, EngineView] | None:
    """The pod, if its engine can be spoken to now."""
    record, view = cluster.pods.get(pod), engines.views.get(pod)
    if record is None or view is None or view.state is not EngineState.UP or record.pod.terminating:
        return None
    return (record, view) if view.instance == instance_of(record) else None


def fields(effect: Effect) -> dict[str, str | None]:
    """What logs and traces say of an effect."""
    return {"pod": effect.pod, "adapter": effect.adapter, "version": effect.version}
