"""Children that die in the middle of their work, as by kill -9."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable

STEPS = frozenset({"open", "os.mkdir", "os.rename", "os.chmod", "os.remove", "os.rmdir", "os.utime", "os.scandir"})


def dies(work: Callable[[], Awaitable[object]], prepare: Callable[[], None] = lambda: None) -> bool:
    """Do `work` in a child process; whether that was killed."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    try:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        prepare()
        loop.run_until_complete(work())  # type: ignore[arg-type]
    finally:
        os._exit(0)


def dies_at(step: int, work: Callable[[], Awaitable[object]]) -> bool:
    """Do `work` in a child that kills itself at its `step`th touch of the disk; False if it was done before."""
    left = [step]

    def count(event: str, _: object) -> None:
        if event in STEPS:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), 9)

    return dies(work, lambda: sys.addaudithook(count))
