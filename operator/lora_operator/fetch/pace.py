"""Going neither too fast nor too often: bandwidth, and when to try again."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from lora_operator.fetch.limits import Limits
from lora_operator.process.backoff import doubled

BURST_SECONDS = 0.1


class Bandwidth:
    """A bucket that fills with `bytes_per_second`; None for no limit. First come, first served."""

    def __init__(self, bytes_per_second: float | None) -> None:
        self._rate = bytes_per_second
        self._paid_until = 0.0

    async def take(self, count_bytes: int) -> None:
        """Pay for bytes that came: wait until the limit has made up for them."""
        if self._rate is None:
            return
        now = asyncio.get_running_loop().time()
        self._paid_until = max(self._paid_until, now) + count_bytes / self._rate
        if self._paid_until - now > BURST_SECONDS:
            await asyncio.sleep(self._paid_until - now - BURST_SECONDS)


def backoff_seconds(failures: int, asked_seconds: float | None, limits: Limits) -> float:
    """How long to wait after the `failures`th failure in a row: what the server asked for, or twice as long each time.

    With jitter, so that what failed together does not come back together.
    """
    own = doubled(limits.backoff_seconds, failures - 1, limits.backoff_max_seconds)
    return max(own * random.uniform(0.5, 1.0), asked_seconds or 0.0)


def retry_after_seconds(header: str | None) -> float | None:
    """What Retry-After says, in seconds or as a date; None where it says nothing that can be read."""
    if not header:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())
