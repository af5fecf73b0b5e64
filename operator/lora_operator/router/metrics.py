"""The router API's metrics, on a registry of their own. Labels are routes, statuses and results: never adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from lora_operator.router.freshness import Freshness
from lora_operator.router.table import RoutingTable

PREFIX = "lora_operator_router_"
PICK_STATUSES = (200, 202, 404, 503)
PICK_SECONDS = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.01)
SCORES = (-100.0, -50.0, -20.0, -10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0, 30.0, 50.0)


class RouterMetrics:
    """Series of one router API."""

    def __init__(self, table: RoutingTable, freshness: Freshness, streams: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = Counter(
            PREFIX + "requests_total", "Requests, by route and status.", ["route", "status"], registry=self.registry
        )
        self._picks = Histogram(
            PREFIX + "pick_seconds", "Time to choose an endpoint.", buckets=PICK_SECONDS, registry=self.registry
        )
        scores = Histogram(
            PREFIX + "score", "Scores of what was chosen: by policy weighted, and of jobs for workers.", ["by"],
            buckets=SCORES, registry=self.registry,
        )  # fmt: skip
        self._scores = {by: scores.labels(by) for by in ("pick", "match")}
        self._selections = Counter(
            PREFIX + "selections_total", "Texts compared, by what decided and what came of it.", ["method", "chosen"],
            registry=self.registry,
        )  # fmt: skip
        self._cut = Counter(
            PREFIX + "streams_ended_total", "Change streams that ended, by reason.", ["reason"], registry=self.registry
        )
        self._children: dict[tuple[str, int], Counter] = {}
        self.registry.register(_State(table, freshness, streams))
        # an increase from nothing to one is none to Prometheus
        for status in PICK_STATUSES:
            self._requests.labels("/v1/pick", str(status))
        for reason in ("ClientGone", "Stopping", "TooSlow"):
            self._cut.labels(reason)

    def request(self, route: str, status: int) -> None:
        child = self._children.get((route, status))
        if child is None:
            child = self._children[route, status] = self._requests.labels(route, str(status))
        child.inc()

    def picked(self, seconds: float) -> None:
        self._picks.observe(seconds)

    def scored(self, by: str, score: float) -> None:
        """`by`: pick or match."""
        self._scores[by].observe(score)

    def selected(self, method: str, *, adapter: bool) -> None:
        self._selections.labels(method, "adapter" if adapter else "base").inc()

    def stream_ended(self, reason: str) -> None:
        self._cut.labels(reason).inc()

    def exposition(self) -> bytes:
        return generate_latest(self.registry)


class _State(Collector):
    """Read off when somebody asks."""

    def __init__(self, table: RoutingTable, freshness: Freshness, streams: Callable[[], int]) -> None:
        self._table = table
        self._freshness = freshness
        self._streams = streams

    def collect(self) -> Iterator[GaugeMetricFamily]:
        age = self._freshness.age_seconds
        for name, text, value in (
            ("table_adapters", "Adapters in the routing table.", float(len(self._table))),
            ("table_endpoints", "Endpoints in the routing table, over all adapters.", float(self._table.endpoints)),
            ("table_version", "Changes of the routing table since the start.", float(self._table.version)),
            ("table_age_seconds", "Since the API server last answered.", float("nan") if age is None else age),
            ("streams", "Change streams that are open.", float(self._streams())),
        ):
            yield GaugeMetricFamily(PREFIX + name, text, value=value)
