"""Says on stderr what takes long: a line that counts the seconds on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

QUIET_LINE_SECONDS = 15.0


@contextmanager
def progress(what: str, stream: TextIO | None = None) -> Iterator[None]:
    """Show `what` and the seconds so far until the block ends."""
    out = sys.stderr if stream is None else stream
    terminal = out.isatty()
    started = time.monotonic()
    done = threading.Event()

    def show(text: str, end: str = "\n") -> None:
        try:
            out.write(f"\r{text}\033[K{end}" if terminal else f"{text}\n")
            out.flush()
        except (OSError, ValueError):
            done.set()  # the stream has gone; the work goes on without it

    def count() -> None:
        while not done.wait(1.0 if terminal else QUIET_LINE_SECONDS):
            show(f"{what} … {time.monotonic() - started:.0f} s", end="")

    show(f"{what} …", end="")
    thread = threading.Thread(target=count, name="progress", daemon=True)
    thread.start()
    outcome = "failed after"
    try:
        yield
        outcome = "done in"
    finally:
        done.set()
        thread.join()
        show(f"{what}: {outcome} {time.monotonic() - started:.1f} s")
