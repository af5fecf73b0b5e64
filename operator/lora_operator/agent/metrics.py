"""The agent's Prometheus metrics: those of its files and of its process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest

from lora_operator.cache.metrics import FilesMetrics


class AgentMetrics(FilesMetrics):
    """On a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        super().__init__(self.registry)

    def exposition(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)
