"""What the disk removed, until the operator asks for it, which tells the owner."""

from __future__ import annotations

import logging
from collections import deque

from lora_operator.agent.metrics import AgentMetrics
from lora_operator.agent_api.wire import MOST_EVICTED
from lora_operator.cache.victims import Evicted

log = logging.getLogger(__name__)


class Evictions:
    """Counts and logs them all; keeps the last MOST_EVICTED that nobody has asked for."""

    def __init__(self, metrics: AgentMetrics) -> None:
        self._metrics = metrics
        self._kept: deque[Evicted] = deque(maxlen=MOST_EVICTED)

    def append(self, gone: Evicted) -> None:
        log.info("removed %s %s from the adapter disk (%s)", gone.name, gone.fingerprint, gone.why.value)
        self._metrics.evicted(gone)
        self._kept.append(gone)

    def take(self) -> tuple[Evicted, ...]:
        """Those since the last call, the oldest first."""
        taken = tuple(self._kept)
        self._kept.clear()
        return taken
