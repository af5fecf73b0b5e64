"""Notes on each pod a digest of the adapters that its engine lists, in an annotation.

Routers that ask engines for their models when a watch shows their pods changed (production-stack's) learn of loads and
unloads by that. It is made of what the engine lists and not of what the pod's LoraEndpoint says: such a router would
ask again before the engine has unloaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import partial

from lora_operator.api.well_known import MODELS_ANNOTATION
from lora_operator.engines.liveness import EngineView
from lora_operator.informers.cache import Cluster
from lora_operator.informers.records import PodRecord
from lora_operator.kube.client import Kube
from lora_operator.kube.write_queue import Priority, Writes
from lora_operator.vllm.answers import EngineModel
from lora_operator.vllm.engine_state import EngineState

WRITE = "models mark"  # in the queue of writes


class PodMarks:
    """`offer` in each round what pods and engines are."""

    def __init__(self, kube: Kube, cluster: Cluster, writes: Writes) -> None:
        self._kube = kube
        self._cluster = cluster
        self._writes = writes
        self._marks: dict[str, tuple[tuple[EngineModel, ...], str]] = {}  # by pod, what the mark was worked out of

    def offer(self, pods: Mapping[str, PodRecord], views: Mapping[str, EngineView]) -> None:
        """Have marks written that are out of date. What an engine lists that does not answer is not known."""
        for pod in [pod for pod in self._marks if pod not in pods]:
            del self._marks[pod]
        for pod, record in pods.items():
            view = views.get(pod)
            if view is None or view.state is not EngineState.UP:
                continue
            known = self._marks.get(pod)
            if known is None or known[0] is not view.models:
                known = self._marks[pod] = (view.models, mark_of(view.models))
            if record.models_mark != known[1]:
                self._writes.put((WRITE, pod), partial(self._write, pod), Priority.STATUS)

    async def _write(self, pod: str) -> None:
        """Raises KubeError."""
        record, known = self._cluster.pods.get(pod), self._marks.get(pod)
        if record is None or known is None or record.models_mark == known[1]:
            return
        noted = {MODELS_ANNOTATION: known[1]}
        self._cluster.pods.put(await self._kube.annotate_pod(record.pod.namespace, record.pod.name, record.uid, noted))


def mark_of(models: Iterable[EngineModel]) -> str:
    """Another one whenever names or versions are others; empty where there are none, as on a pod that never had any."""
    names = sorted(f"{model.name}\0{model.root}" for model in models)
    return hashlib.sha256("\n".join(names).encode("utf-8", "surrogatepass")).hexdigest()[:16] if names else ""
