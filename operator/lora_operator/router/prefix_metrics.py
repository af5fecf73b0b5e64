"""What a router expects of prefix caches, and how much it remembers for that."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lora_operator.router.metrics import PREFIX
from lora_operator.router.prefix_affinity import PrefixAffinity


class PrefixMetrics(Collector):
    """Read off when somebody asks."""

    def __init__(self, prefixes: PrefixAffinity) -> None:
        self._prefixes = prefixes

    def collect(self) -> Iterator[Metric]:
        prefixes = self._prefixes
        text = "Blocks of prompts that were sent, by whether the pod probably had them in its prefix cache."
        blocks = CounterMetricFamily(PREFIX + "prompt_blocks", text, labels=["cached"])
        blocks.add_metric(["yes"], prefixes.cached_blocks)
        blocks.add_metric(["no"], prefixes.other_blocks)
        yield blocks
        text = "Blocks of prompts that are remembered, of all pods together."
        yield GaugeMetricFamily(PREFIX + "prefix_index_blocks", text, value=len(prefixes.index))
