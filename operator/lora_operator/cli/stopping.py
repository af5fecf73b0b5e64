"""How the long-running commands are told to end, and that they do, whatever hangs."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import NoReturn

log = logging.getLogger(__name__)

GRACE_SECONDS = 25.0  # from the signal on; the charts give 30 before the kubelet kills
CLOSE_SECONDS = 2.0  # for what is left once all that matters has ended


def run(
    main: Callable[[asyncio.Event], Awaitable[int]],
    new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
    grace_seconds: float = GRACE_SECONDS,
) -> int:
    """The exit status of `main`, which is to end once its argument is set: by SIGTERM, as the kubelet sends it, or an
    interrupt. Where it does not end in time, the process does.

    Raises whatever `main` does.
    """
    with contextlib.ExitStack() as last:

        async def until_told() -> int:
            stop, loop = asyncio.Event(), asyncio.get_running_loop()

            def told() -> None:
                if not stop.is_set():
                    last.enter_context(_deadline(grace_seconds))
                stop.set()

            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, told)
            return await main(stop)

        with asyncio.Runner(loop_factory=new_loop) as runner:
            try:
                return runner.run(until_told())
            finally:
                # closing waits for every task and for every thread of the default pool
                last.enter_context(_deadline(CLOSE_SECONDS))


def exit_now(status: int) -> NoReturn:
    """End the process without waiting for threads: the interpreter would wait for each that a pool has begun."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """End the process if what is in here takes longer."""

    def over() -> None:
        log.error("what is under way did not end within %g s of being told to; the process ends all the same", seconds)
        faulthandler.dump_traceback(all_threads=True)  # where they hang
        exit_now(1)

    timer = threading.Timer(seconds, over)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
