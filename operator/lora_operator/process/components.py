"""The tasks that a process consists of: none of them ends by itself but by a defect, and then the process has to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Container, Iterable
from typing import Any

log = logging.getLogger(__name__)


class ComponentExited(Exception):
    """A part that must run for as long as the process does has ended; the process should be started anew."""


def supervise(parts: Iterable[asyncio.Task[Any]], done: Container[asyncio.Future[Any]]) -> None:
    """Raises ComponentExited, from what the part has raised, if one of them is done."""
    for part in parts:
        if part in done:
            raise ComponentExited(f"the {part.get_name()} has ended by itself") from part.exception()


async def end_within(what: str, end: Awaitable[Any], seconds: float) -> None:
    """Wait for the end of something, but not for longer: whoever waits for a thread that hangs cannot be cancelled."""
    task = asyncio.ensure_future(end)
    done, _ = await asyncio.wait((task,), timeout=seconds)
    if not done:
        log.warning("%s did not end within %g s; going on without", what, seconds)
    elif not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s did not end in order", what, exc_info=error)
