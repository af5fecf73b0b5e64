"""Prometheus metrics of fetching and of the cache, the same for the operator's own volume and for an agent's disk."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from lora_operator.cache.history import Counts
from lora_operator.cache.statistics import Statistics
from lora_operator.cache.victims import Evicted, Why
from lora_operator.telemetry.reasons import counted

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


class FilesMetrics:
    """A `fetch.meter.Meter`, and what a store tells. Labels are reasons and causes: few, and never a user's words."""

    def __init__(self, registry: CollectorRegistry, prefix: str = "lora_operator_") -> None:
        r = registry
        self._bytes = Counter(prefix + "fetched_bytes_total", "Bytes that came over the network.", registry=r)
        self._retries = Counter(
            prefix + "fetch_retries_total", "Requests of fetches that were made again, by reason.", ["reason"],
            registry=r,
        )  # fmt: skip
        self._fetches = Counter(
            prefix + "fetches_total", "Fetches that ended, by result: ok or a reason.", ["result"], registry=r
        )
        self._seconds = Histogram(
            prefix + "fetch_seconds", "Time of a fetch that went well.", buckets=SECONDS, registry=r
        )
        self._evictions = Counter(
            prefix + "cache_evictions_total", "Versions removed from the cache, by cause.", ["cause"], registry=r
        )
        self._hits = Counter(prefix + "cache_hits_total", "Versions asked for and found.", registry=r)
        self._misses = Counter(prefix + "cache_misses_total", "Versions that had to be fetched.", registry=r)
        self._thrash = Counter(
            prefix + "cache_thrash_total", "Versions fetched again within an hour of their eviction.", registry=r
        )
        self._used = Gauge(prefix + "cache_used_bytes", "What the versions in the cache take.", registry=r)
        self._budget = Gauge(prefix + "cache_budget_bytes", "What they may take; -1 if there is no budget.", registry=r)
        self._versions = Gauge(prefix + "cache_versions", "Versions in the cache, by state.", ["state"], registry=r)
        self._oldest = Gauge(
            prefix + "cache_oldest_use_timestamp_seconds", "Last use of what was not used the longest.", registry=r
        )
        self._counted = Counts()
        # an increase from nothing to one is none to Prometheus
        self._fetches.labels("ok")
        for why in Why:
            self._evictions.labels(why.value)

    def received(self, count_bytes: int) -> None:
        """See `Meter`."""
        self._bytes.inc(count_bytes)

    def retried(self, reason: str) -> None:
        """See `Meter`."""
        self._retries.labels(counted(reason)).inc()

    def finished(self, reason: str, size_bytes: int, seconds: float) -> None:
        """See `Meter`."""
        self._fetches.labels(counted(reason) if reason else "ok").inc()
        if not reason:
            self._seconds.observe(seconds)

    def evicted(self, gone: Evicted) -> None:
        """A version was removed."""
        self._evictions.labels(gone.why.value).inc()

    def holds(self, statistics: Statistics) -> None:
        """What the store tells of itself now."""
        self._used.set(statistics.used_bytes)
        self._budget.set(-1 if statistics.budget_bytes is None else statistics.budget_bytes)
        states = {
            "all": statistics.versions,
            "in_use": statistics.in_use,
            "pinned": statistics.pinned,
            "prefetched": statistics.unused_prefetched,
        }
        for state, count in states.items():
            self._versions.labels(state).set(count)
        if statistics.oldest_used_at is not None:
            self._oldest.set(statistics.oldest_used_at)
        now, before = statistics.process, self._counted
        self._hits.inc(max(now.hits - before.hits, 0))
        self._misses.inc(max(now.misses - before.misses, 0))
        self._thrash.inc(max(now.thrash - before.thrash, 0))
        self._counted = now
