"""Divides work that takes long into slices, between which the event loop does what others wait for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")

SLICE_SECONDS = 0.01


async def in_slices(items: Iterable[T]) -> AsyncIterator[T]:
    """Each of them; what is gone through must not change in between: give a list where it could."""
    since = time.monotonic()
    for item in items:
        if time.monotonic() - since > SLICE_SECONDS:
            await asyncio.sleep(0)
            since = time.monotonic()
        yield item
