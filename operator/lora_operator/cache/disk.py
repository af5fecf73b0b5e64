"""The threads in which a store's disk is waited for: a volume that hangs holds them up, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

THREADS = 8
T = TypeVar("T")


class Disk:
    """Of one store."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="store")

    async def do(self, work: Callable[[], T]) -> T:
        """Blocking work; a cancelled caller waits for its end: nothing may go on behind a lock that was given back."""
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            if not future.cancelled():
                future.exception()
            raise
