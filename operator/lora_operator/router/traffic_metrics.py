"""What a router tells of the engines' loads, and of replicas that its picks would have. No label names a pod."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lora_operator.router.metrics import PREFIX
from lora_operator.router.traffic import Ages


class LoadMetrics(Collector):
    """Read off when somebody asks. `looked` counts how looks ended: a fixed set of words."""

    def __init__(self, ages: Callable[[], Ages], spills_wanted: Callable[[], int]) -> None:
        self._ages = ages
        self._spills_wanted = spills_wanted
        self.looked: Counter[str] = Counter()

    def count(self, result: str) -> None:
        self.looked[result] += 1

    def collect(self) -> Iterator[Metric]:
        ages = self._ages()
        pods = GaugeMetricFamily(PREFIX + "pods", "Pods by whether their load is known.", labels=["load"])
        pods.add_metric(["fresh"], ages.fresh)
        pods.add_metric(["stale"], ages.stale)
        yield pods
        yield GaugeMetricFamily(
            PREFIX + "load_age_seconds", "Age of the oldest load that still counts.", value=ages.oldest_seconds
        )
        looks = CounterMetricFamily(
            PREFIX + "load_looks", "Looks at engines' metrics, by how they ended.", labels=["result"]
        )
        for result, count in sorted(self.looked.items()):
            looks.add_metric([result], count)
        yield looks
        yield CounterMetricFamily(
            PREFIX + "spills_wanted",
            "Picks whose pods are all busier than they should be, while another pod has room for a replica.",
            value=self._spills_wanted(),
        )
