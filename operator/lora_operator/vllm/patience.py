"""A time-out that counts only time in which we were listening.

A loop that was held up, or a process that got no CPU, finds answers and expired timers side by side when it goes on: an
answer that lies there unread is no silence. A timer that comes late therefore waits once more.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

LATE_SECONDS = 0.05  # a timer of an idle loop comes within a millisecond or two
EXTENSIONS = 3  # a loop that is always late must not wait for ever


class Patience:
    """`async with Patience(seconds):` raises TimeoutError as `asyncio.timeout` does."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._extensions = EXTENSIONS
        self._limit = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()
        self._wait(self._seconds)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._limit.__aexit__(kind, error, trace)

    def _wait(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + seconds
        self._timer = loop.call_at(self._due, self._expire)

    def _expire(self) -> None:
        now = asyncio.get_running_loop().time()
        late = now - self._due
        if late > LATE_SECONDS and self._extensions:
            self._extensions -= 1
            self._wait(min(late, self._seconds))
        else:
            self._limit.reschedule(now)
