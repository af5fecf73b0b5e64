"""What the library counts. No label names a user or an adapter."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

# of a quota, in percent: the upper ends of the bands in which users are counted
BANDS = {50: "0-50", 80: "50-80", 95: "80-95", 100: "95-100"}
PREFIX = "lora_operator_library_"
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class LibraryMetrics:
    """`exposition` is what /metrics answers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.uploads = Counter(
            PREFIX + "uploads", "Uploads that ended, by `ok` or the code of the problem.", ["result"],
            registry=self.registry,
        )  # fmt: skip
        self.bytes = Counter(PREFIX + "upload_bytes", "Bytes of adapters that were stored.", registry=self.registry)
        self.seconds = Histogram(
            PREFIX + "upload_seconds", "Time of uploads that succeeded, until store and cluster were told.",
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self.ready_seconds = Histogram(
            PREFIX + "ready_seconds",
            "Time from when a new adapter was stored until the operator had it for requests; updates are not in it.",
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self.owners = Gauge(
            PREFIX + "owners", "Users, by the percentage that they use of the fuller one of their quotas.", ["used"],
            registry=self.registry,
        )  # fmt: skip
        self.under_way = Gauge(PREFIX + "uploads_under_way", "Uploads under way.", registry=self.registry)
        self.requests = Counter(
            PREFIX + "requests", "Requests to the API.", ["method", "status"], registry=self.registry
        )

    def exposition(self) -> bytes:
        return generate_latest(self.registry)
