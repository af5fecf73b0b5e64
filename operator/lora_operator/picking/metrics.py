"""The picker's series, on the router's registry. Labels are what became of requests: never adapters or tenants."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

PREFIX = "lora_operator_picker_"
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.1, 1.0, 10.0, 60.0)
STARTS = ("warm", "cold")
RESULTS = (
    "adapter", "base", "fallback", "any", "models", "unknown", "ambiguous", "not_loaded", "loading", "too_many", "bad",
    "too_large", "unauthorized", "forbidden", "unfinished", "misconfigured", "defect",
)  # fmt: skip


class PickerMetrics:
    """`requests`: how many are with the picker now; `held_bytes`: of their bodies."""

    def __init__(
        self, registry: CollectorRegistry, requests: Callable[[], float], held_bytes: Callable[[], float]
    ) -> None:
        results = Counter(
            PREFIX + "requests_total", "Requests that Envoy asked about, by result.", ["result"], registry=registry
        )
        self._results = {one: results.labels(one) for one in RESULTS}
        seconds = Histogram(
            PREFIX + "seconds",
            "From the end of a request's body to the answer, waiting for a load included (`cold`: it had to wait).",
            ["start"],
            buckets=SECONDS,
            registry=registry,
        )
        self._seconds = {one: seconds.labels(one) for one in STARTS}
        for name, text, value in (
            ("waiting_requests", "Requests that the picker has not answered yet.", requests),
            ("held_bytes", "Bodies of requests that the picker holds now.", held_bytes),
        ):
            Gauge(PREFIX + name, text, registry=registry).set_function(value)

    def answered(self, result: str) -> None:
        """`result`: one of RESULTS."""
        self._results[result].inc()

    def took(self, seconds: float, *, waited: bool) -> None:
        """From the end of the body to the answer. `waited`: for an adapter that was not loaded."""
        self._seconds["cold" if waited else "warm"].observe(seconds)
