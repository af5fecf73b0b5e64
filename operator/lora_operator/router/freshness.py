"""Knows since when the API server has not been heard: the table is then still answered from, and its age told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
FRESH_SECONDS = 3.0  # a watch that works is heard every second
AWAY_AFTER = 2  # looks that failed one after the other


class Watches(Protocol):
    """What the table is filled from."""

    def age_seconds(self) -> float | None:
        """How old what they show may be; None before all has been listed."""
        ...  # pragma: no cover

    def trouble(self) -> object:
        """Why it is not fresher."""
        ...  # pragma: no cover

    def partly_stale(self) -> str:
        """What they cannot see though the API server answers: another process may see it."""
        ...  # pragma: no cover


class NoWatches:
    """None that fail: whoever fills the table says itself that it is there."""

    def age_seconds(self) -> float | None:
        """Nothing is known."""

    def trouble(self) -> object:
        """Nothing."""

    def partly_stale(self) -> str:
        """Nothing."""
        return ""


class Freshness:
    """`heard` is called whenever the API server has answered."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard_at: float | None = None
        self._failed = 0

    @property
    def age_seconds(self) -> float | None:
        """Since the API server last answered; None if it never has."""
        return None if self._heard_at is None else max(self._clock() - self._heard_at, 0.0)

    @property
    def away(self) -> bool:
        return self._failed >= AWAY_AFTER

    def heard(self, seconds_ago: float = 0.0) -> None:
        if self.away:
            log.info("the API server answers again")
        self._failed = 0
        self._heard_at = self._clock() - seconds_ago

    def missed(self, why: object) -> None:
        self._failed += 1
        # of one that answers, but refuses, the preconditions tell
        if self._failed == AWAY_AFTER and getattr(why, "status", 0) not in (403, 404):
            log.warning("the API server does not answer, the table stays as it was: %s", why)

    async def keep_looking(self, watches: Watches) -> None:
        """Ask how old what the watches show may be. Until cancelled."""
        while True:
            seconds = watches.age_seconds()
            if seconds is not None and seconds < FRESH_SECONDS:
                self.heard(seconds)
            elif seconds is not None:
                self.missed(watches.trouble())
            await asyncio.sleep(LOOK_SECONDS)
