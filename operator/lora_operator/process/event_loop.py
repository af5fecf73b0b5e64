"""The operator's event loop, which tells how long it was kept from looking at its sockets.

While something computes, no probe is answered and no Lease is renewed. What is measured is one turn of the loop, from
one look at the sockets to the next: two readings of the clock, and nothing wakes up for it.
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

    def show_in(self, registry: CollectorRegistry) -> None:
        """Beside the other series of this process."""
        for series in (self._seconds, self._longest):
            registry.register(series)

    def took(self, seconds: float) -> None:
        """A turn of the loop has ended."""
        self._seconds.observe(seconds)
        self.longest = max(self.longest, seconds)

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """A loop whose turns are counted here."""
        return asyncio.SelectorEventLoop(_Timed(self))


class _Timed(selectors.DefaultSelector):
    def __init__(self, blocks: Blocks) -> None:
        super().__init__()
        self._blocks = blocks
        self._since: float | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._since is not None:
            took = time.monotonic() - self._since
            if took >= TELLING_SECONDS:
                self._blocks.took(took)
        found = super().select(timeout)
        self._since = time.monotonic()
        return found
