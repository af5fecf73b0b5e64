"""Prometheus metrics. Labels are bounded: reasons, states, results and the names of base models, of which there are at
most fifty; never the name of an adapter or a tenant."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from lora_operator.telemetry.reasons import counted
from lora_operator.vllm.engine_state import EngineState
from lora_scheduler import UnloadCause

ADAPTER_STATES = ("complete", "moving", "lacking", "unwanted", "rejected")
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """All series of the operator, on a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        prefix = "lora_operator_"
        r = self.registry
        self._loads = Counter(prefix + "loads_total", "Loads tried, by result: ok or a reason.", ["result"], registry=r)
        self._load_seconds = Histogram(
            prefix + "load_seconds", "Time from the decision to load until the engine confirmed it.", buckets=SECONDS,
            registry=r,
        )  # fmt: skip
        self._unloads = Counter(
            prefix + "unloads_total", "Unloads tried, by cause and result.", ["cause", "result"], registry=r
        )
        self._rounds = Histogram(
            prefix + "plan_seconds", "Time of one planning round, snapshot to plan.", buckets=SECONDS, registry=r
        )
        self._plan_time = Gauge(prefix + "last_plan_timestamp_seconds", "When the last plan was made.", registry=r)
        self._pods = _Counted(prefix + "pods", "Pods that take part, by state of their engine.", "state")
        self._adapters = _Counted(
            prefix + "adapters", "Adapters, by state; unwanted: on demand and not asked for, or of 0 replicas.", "state"
        )
        self._refused = _Counted(
            prefix + "unplaced_copies", "Replicas that no pod takes, by the most telling reason.", "reason"
        )
        for counted_later in (self._pods, self._adapters, self._refused):
            r.register(counted_later)
        self._in_flight = Gauge(prefix + "in_flight_actions", "Loads and unloads under way.", registry=r)
        self._status = Counter(prefix + "status_writes_total", "Writes of status, by result.", ["result"], registry=r)
        self._waiting = Gauge(
            prefix + "waiting_writes",
            "Objects about which something waits to be written to the API server.",
            registry=r,
        )
        self._endpoints = Counter(
            prefix + "endpoint_writes_total", "Writes of LoraEndpoints, by result.", ["result"], registry=r
        )
        self._drift = Counter(
            prefix + "drift_total", "Replicas that were found gone though nobody of ours unloaded them.", registry=r
        )
        self._ignored = Counter(
            prefix + "ignored_requests_total", "Records of who was asked for that make no sense.", registry=r
        )
        self._begin()

    def _begin(self) -> None:
        """Show what may happen before it has: an increase from nothing to one is none to Prometheus."""
        self._loads.labels("ok")
        for cause in UnloadCause:
            self._unloads.labels(cause.value, "ok")
        for result in ("ok", "error"):
            self._status.labels(result)
            self._endpoints.labels(result)
        self._pods.known.update(state.value for state in EngineState)
        self._adapters.known.update(ADAPTER_STATES)

    def load(self, result: str, seconds: float | None) -> None:
        self._loads.labels(result if result == "ok" else counted(result)).inc()
        if seconds is not None:
            self._load_seconds.observe(seconds)

    def unload(self, cause: str, result: str) -> None:
        self._unloads.labels(cause, result if result == "ok" else counted(result)).inc()

    def status_write(self, result: str) -> None:
        self._status.labels(result).inc()

    def endpoint_write(self, result: str) -> None:
        self._endpoints.labels(result).inc()

    def drift(self, replicas: int) -> None:
        self._drift.inc(replicas)

    def request_ignored(self) -> None:
        self._ignored.inc()

    def round(
        self,
        *,
        now: float,
        seconds: float,
        engine_states: Iterable[str],
        adapter_states: Iterable[str],
        refused: Iterable[str],
        in_flight: int,
    ) -> None:
        """One planning round; `now` is wall-clock time. What is to be counted is gone through at the next scrape."""
        self._rounds.observe(seconds)
        self._plan_time.set(now)
        self._in_flight.set(in_flight)
        self._pods.follow(engine_states)
        self._adapters.follow(adapter_states)
        self._refused.follow(refused)

    def watch_writes(self, count: Callable[[], int]) -> None:
        """Show what `count` gives at each scrape."""
        self._waiting.set_function(count)

    def watch_loads(self, read: Callable[[], Mapping[str, ModelLoad]]) -> None:
        """Show what `read` gives at each scrape."""
        self.registry.register(_Loads(read))

    def exposition(self) -> bytes:
        return generate_latest(self.registry)


class _Counted(Collector):
    """How often each value is there, counted when somebody asks. A value that was there once is shown from then on."""

    def __init__(self, name: str, text: str, label: str) -> None:
        self._made = (name, text, label)
        self._values: Iterable[str] | None = ()
        self._counts: Count[str] = Count()
        self.known: set[str] = set()

    def follow(self, values: Iterable[str]) -> None:
        """These are the values by now."""
        self._values = values

    def collect(self) -> Iterator[GaugeMetricFamily]:
        if self._values is not None:
            self._counts, self._values = Count(self._values), None
            self.known |= self._counts.keys()
        name, text, label = self._made
        family = GaugeMetricFamily(name, text, labels=[label])
        for value in sorted(self.known):
            family.add_metric([value], self._counts[value])
        yield family


class _Loads(Collector):
    """Worked out when somebody asks, not in every planning round."""

    def __init__(self, read: Callable[[], Mapping[str, ModelLoad]]) -> None:
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        demand = GaugeMetricFamily(
            "lora_operator_demand_requests_per_second",
            "Measured demand of the adapters of a base model; adapters whose demand is unknown are not in it.",
            labels=["base_model"],
        )
        imbalance = GaugeMetricFamily(
            "lora_operator_pod_load_imbalance_ratio",
            "Expected load of the most loaded pod of a base model over the mean of its pods.",
            labels=["base_model"],
        )
        for model, load in sorted(self._read().items()):
            demand.add_metric([model], load.demand)
            imbalance.add_metric([model], load.imbalance)
        yield demand
        yield imbalance


@dataclass(frozen=True, slots=True)
class ModelLoad:
    """`demand`: requests per second of all adapters whose demand is known. `imbalance`: the most loaded pod's expected
    load over the mean of all ready pods; 1 is even, and what is said of no load at all."""

    demand: float
    imbalance: float
