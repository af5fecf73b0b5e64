"""Knows since when the API server has not been heard: the table is then still answered from, and its age told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from lora_operator.kube import Kube, KubeError

log = logging.getLogger(__name__)

PULSE_SECONDS = 2.0
AWAY_AFTER = 2  # looks that failed one after the other


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

    def heard(self) -> None:
        if self.away:
            log.info("the API server answers again")
        self._failed = 0
        self._heard_at = self._clock()

    def missed(self, why: object) -> None:
        self._failed += 1
        # of one that answers, but refuses, the preconditions tell
        if self._failed == AWAY_AFTER and getattr(why, "status", 0) not in (403, 404):
            log.warning("the API server does not answer, the table stays as it was: %s", why)

    async def keep_looking(self, kube: Kube, namespaces: tuple[str, ...]) -> None:
        """Ask for one LoraAdapter every few seconds: a broken watch alone would not tell. Until cancelled."""
        while True:
            try:
                await kube.pulse(namespaces, PULSE_SECONDS)
            except KubeError as error:
                self.missed(error)
            else:
                self.heard()
            await asyncio.sleep(PULSE_SECONDS)
