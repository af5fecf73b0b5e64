"""Tells of replicas that somebody else took away: the loop repairs that unasked, but a person should know."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from lora_operator.engines.liveness import instance_of
from lora_operator.engines.ownership import our_model
from lora_operator.informers.cache import Cluster
from lora_operator.planning.inflight import Ledger
from lora_operator.telemetry.metrics import Metrics
from lora_operator.vllm.client import EngineModel

log = logging.getLogger(__name__)


class Drift:
    """Counts and logs replicas of ours that an engine lists no longer though we did not ask it to unload them."""

    def __init__(self, cluster: Cluster, metrics: Metrics, ledger: Ledger) -> None:
        self._cluster = cluster
        self._metrics = metrics
        self._ledger = ledger

    def gone(self, pod: str, models: Iterable[EngineModel]) -> None:
        """These were listed by the pod's engine at the probe before, and are not now."""
        record = self._cluster.pods.get(pod)
        if record is None:
            return
        instance = instance_of(record)
        ours = [
            found
            for model in models
            if (found := our_model(model, record.pod.adapter_root)) is not None
            and not self._ledger.unloads(pod, instance, model.name)
        ]
        for found in ours:
            text = "somebody else unloaded %s from %s: it is loaded again where it is wanted"
            log.warning(text, found.engine_name, pod, extra={"pod": pod})
        if ours:
            self._metrics.drift(len(ours))
