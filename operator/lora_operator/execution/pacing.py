"""Leaves effects the time that planning anew at each of their ends would take: they go on by the plan they have."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

LONG_ROUND_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 0.5
LONGEST_PROGRESS_SECONDS = 1.0  # more, while each piece of news only is that one more load has ended


class Pace:
    """`rest` after each round, `mark` when something has changed. `presses`: whether the next round is worth more than
    the time that it takes from loads."""

    def __init__(self, presses: Callable[[], bool]) -> None:
        self._presses = presses
        self._pressing = asyncio.Event()

    def mark(self) -> None:
        if self._presses():
            self._pressing.set()

    async def rest(self, took: float) -> None:
        """Return when the next round may begin, after one that took so many seconds."""
        if took <= LONG_ROUND_SECONDS:
            return
        await asyncio.sleep(min(2 * took, LONGEST_PAUSE_SECONDS))
        if self._presses():
            return
        self._pressing.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(6 * took, LONGEST_PROGRESS_SECONDS)):
                await self._pressing.wait()
