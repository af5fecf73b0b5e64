"""The operator's event loop, which tells how long it was kept from looking at its sockets.

While something computes, no probe is answered and no Lease is renewed. What is measured is one turn of the loop, from
one look at the sockets to the next: readings of two clocks, and nothing wakes up for it. How much of it was computing
tells a process that does too much at once from one that gets too little of a processor.
"""

from __future__ import annotations

import asyncio
import selectors
import time

from prometheus_client import CollectorRegistry, Gauge, Histogram

TELLING_SECONDS = 0.01  # shorter turns are not counted
SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Blocks:
    """Counts the turns of one loop that took long."""

    def __init__(self) -> None:
        prefix = "lora_operator_event_loop_"
        self.longest = 0.0
        self.busiest = 0.0
        self._seconds = Histogram(
            prefix + "block_seconds",
            f"Turns of the event loop that took {TELLING_SECONDS:g} s or more, during which nothing else is answered.",
            buckets=SECONDS,
            registry=None,
        )
        self._longest = Gauge(
            prefix + "longest_block_seconds", "The longest of them since the process began.", registry=None
        )
        self._longest.set_function(lambda: self.longest)
        self._busiest = Gauge(
            prefix + "busiest_block_cpu_seconds",
            "The most processor time that one of them took, since the process began: where that is far less than the "
            "longest block, the process is given too little of a processor.",
            registry=None,
        )
        self._busiest.set_function(lambda: self.busiest)

    def show_in(self, registry: CollectorRegistry) -> None:
        """Beside the other series of this process."""
        for series in (self._seconds, self._longest, self._busiest):
            registry.register(series)

    def took(self, seconds: float, cpu_seconds: float) -> None:
        """A turn of the loop has ended."""
        self._seconds.observe(seconds)
        self.longest = max(self.longest, seconds)
        self.busiest = max(self.busiest, cpu_seconds)

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """A loop whose turns are counted here."""
        return asyncio.SelectorEventLoop(_Timed(self))


class _Timed(selectors.DefaultSelector):
    def __init__(self, blocks: Blocks) -> None:
        super().__init__()
        self._blocks = blocks
        self._since: float | None = None
        self._cpu_since = 0.0  # of the loop's own thread

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._since is not None:
            took = time.monotonic() - self._since
            if took >= TELLING_SECONDS:
                self._blocks.took(took, time.thread_time() - self._cpu_since)
        found = super().select(timeout)
        self._since, self._cpu_since = time.monotonic(), time.thread_time()
        return found
