"""Keeps on each pod which names its engine has served, where the engine's prefix cache would mix up two versions.

The engine does not tell what it has served since it started, and its prefix cache remembers it: this is the one fact
about a pod that cannot be observed again later, so it is kept on the pod itself, in an annotation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial

from lora_operator.api.well_known import SERVED_ANNOTATION
from lora_operator.engines.ownership import our_model
from lora_operator.engines.prober import Engines, EngineView
from lora_operator.informers.cache import Cluster
from lora_operator.informers.records import ANY_OTHER, PodRecord
from lora_operator.kube.client import Kube
from lora_operator.kube.write_queue import Priority, Writes
from lora_operator.planning.snapshot import STRANGER
from lora_operator.vllm.client import EngineModel
from lora_operator.vllm.engine_state import EngineState
from lora_operator.vllm.quirks import PrefixCacheKey, quirks_for

WRITE = "served names"  # in the queue of writes
NOTED_NAMES = 2000  # kept in the annotation of one pod


class ServedNames:
    """Writes the annotation, one write at a time on each pod: what several want to note goes into one write."""

    def __init__(self, kube: Kube, cluster: Cluster, writes: Writes, engines: Engines) -> None:
        self._kube = kube
        self._cluster = cluster
        self._writes = writes
        self._engines = engines
        self._pending: dict[str, dict[str, str]] = {}
        self._looked_at: dict[str, tuple[EngineModel, ...]] = {}

    async def note(self, pod: str, name: str, fingerprint: str) -> None:
        """Have it written that this version is served under its plain name, before it is. Raises KubeError."""
        if self._note(pod, {name: fingerprint}, Priority.WITHDRAWAL):
            if (error := self._writes.pausing((WRITE, pod))) is not None:
                raise error
            await self._writes.tried((WRITE, pod))

    def note_strangers(self) -> None:
        """Have it written which names somebody else's adapters have, in the background: they may be ours later."""
        views = self._engines.views
        for pod in [pod for pod in self._looked_at if pod not in views]:
            del self._looked_at[pod]
        for pod, view in views.items():
            record = self._cluster.pods.get(pod)
            if record is None or view.state is not EngineState.UP or self._looked_at.get(pod) is view.models:
                continue
            self._looked_at[pod] = view.models
            names = {m.name: STRANGER for m in view.models if our_model(m, record.pod.adapter_root) is None}
            self._note(pod, names, Priority.STATUS)

    def _note(self, pod: str, names: Mapping[str, str], priority: Priority) -> bool:
        """Have this written where it is news; whether anything is."""
        if not self._news(pod, names):
            return False
        self._pending.setdefault(pod, {}).update(names)
        self._writes.put((WRITE, pod), partial(self._write_pending, pod), priority)
        return True

    def _news(self, pod: str, names: Mapping[str, str]) -> dict[str, str]:
        record, view = self._cluster.pods.get(pod), self._engines.views.get(pod)
        if record is None or view is None or not needs_note(record, view):
            return {}
        return {name: noted for name, noted in names.items() if record.served.get(name) not in (noted, STRANGER)}

    async def _write_pending(self, pod: str) -> None:
        """Raises KubeError; what was to be noted then goes on waiting."""
        pending = self._pending.pop(pod, {})
        record, news = self._cluster.pods.get(pod), self._news(pod, pending)
        if record is None or not news:
            return
        try:
            await self._write(record, news)
        except BaseException:
            self._pending[pod] = pending | self._pending.get(pod, {})
            raise

    async def _write(self, record: PodRecord, news: Mapping[str, str]) -> None:
        kept = {name: noted for name, noted in record.served.items() if name not in news}
        kept.pop(ANY_OTHER, None)
        names = kept | dict(news)
        full = ANY_OTHER in record.served or len(names) > NOTED_NAMES
        noted = {"container": record.pod.container_id, "names": dict(list(names.items())[:NOTED_NAMES])}
        # what could not be noted any more counts as served by somebody else: no plain name is then safe
        note = json.dumps(noted | ({"full": True} if full else {}), sort_keys=True)
        body = await self._kube.annotate_pod(
            record.pod.namespace, record.pod.name, record.uid, {SERVED_ANNOTATION: note}
        )
        self._cluster.pods.put(body)


def needs_note(record: PodRecord, view: EngineView) -> bool:
    """Whether this engine's prefix cache would mix up two versions of one name."""
    return record.pod.prefix_caching and quirks_for(view.release).prefix_cache_key is PrefixCacheKey.NAME
