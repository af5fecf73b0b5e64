"""A thread for work that takes long, with a bounded queue in front of it: the event loop goes on answering others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

MOST_WAITING = 64


class Busy(Exception):
    """As many wait as may."""


class Worker:
    """One thread. What was cancelled before its turn is not done."""

    def __init__(self, name: str, most_waiting: int = MOST_WAITING) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._most_waiting = most_waiting
        self.waiting = 0  # or being done

    async def do(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises. Raises Busy."""
        if self.waiting >= self._most_waiting:
            raise Busy
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        finally:
            self.waiting -= 1

    def stop(self) -> None:
        """Begin nothing more; what is under way ends by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)
