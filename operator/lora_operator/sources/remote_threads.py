"""Runs the blocking calls of a cloud's SDK: in threads of their own, within a deadline, and with clean errors.

A store that hangs must not take the threads that everything else shares.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from lora_operator.artifacts import AdapterRefused
from lora_operator.sources.base import SourceError

THREADS = 8
DEADLINE_SECONDS = 30.0
_T = TypeVar("_T")


class Threads:
    """The threads of one source. `deadline_seconds` bound each resolve or locate."""

    def __init__(self, name: str, *, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix=name)
        self._deadline_seconds = deadline_seconds

    async def run(self, call: Callable[[], _T]) -> _T:
        """The result of `call`, made in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    @asynccontextmanager
    async def deadline(self, shown: str) -> AsyncIterator[float]:
        """Raises SourceError (TimedOut) when the time is over. Gives the end in monotonic time, for what loops."""
        try:
            async with asyncio.timeout(self._deadline_seconds):
                yield time.monotonic() + self._deadline_seconds
        except TimeoutError:
            pass
        else:
            return
        raise timed_out(shown)


def timed_out(shown: str) -> SourceError:
    return SourceError(
        "TimedOut",
        f"{shown}: the store does not answer in time: check network, endpoint and store; it is asked again",
        retryable=True,
    )


def cleanly(call: Callable[[], _T], explain: Callable[[Exception], SourceError | AdapterRefused]) -> _T:
    """The result of `call`; what the SDK raises becomes `explain` of it.

    Exceptions of SDKs carry URLs with signatures: the one raised has none of them as its cause or context.
    """
    try:
        return call()
    except (SourceError, AdapterRefused):
        raise
    except Exception as error:
        clean = explain(error)
    raise clean


def quiet(loggers: Iterable[str]) -> None:
    """Let nothing below a warning through from what writes URLs, headers or signatures to its log, and no warning of
    urllib3, which quotes whole URLs when an answer makes no sense.
    """
    for name in loggers:
        logging.getLogger(name).setLevel(logging.CRITICAL if name == "urllib3" else logging.WARNING)
