"""What a router tells of requests that wait, and of its records of who was asked for."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lora_operator.router.deciding import Decider
from lora_operator.router.metrics import PREFIX
from lora_operator.router.usage_recorder import UsageRecorder


class WaitingMetrics(Collector):
    """Read off when somebody asks."""

    def __init__(self, decider: Decider, asking: UsageRecorder) -> None:
        self._decider = decider
        self._asking = asking

    def collect(self) -> Iterator[Metric]:
        waiting, loading = self._decider.waiting, self._asking.loading
        yield GaugeMetricFamily(PREFIX + "waiting_picks", "Picks that wait for a pod that answers.", value=waiting)
        text = "Adapters that were asked for here in the last 30 s and are not there yet."
        yield GaugeMetricFamily(PREFIX + "on_demand_loading", text, value=loading)
        text = "Records written of adapters that are on demand and were asked for or used."
        yield CounterMetricFamily(PREFIX + "records", text, value=self._asking.written)
        text = "Picks of adapters on demand that could not be recorded."
        yield CounterMetricFamily(PREFIX + "records_refused", text, value=self._asking.refused)
