"""The tasks that a process consists of: none of them ends by itself but by a defect, and then the process has to."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable
from typing import Any


class PartEnded(Exception):
    """A part that must run for as long as the process does has ended; the process should be started anew."""


def must_go_on(parts: Iterable[asyncio.Task[Any]], done: Container[asyncio.Future[Any]]) -> None:
    """Raises PartEnded, from what the part has raised, if one of them is done."""
    for part in parts:
        if part in done:
            raise PartEnded(f"the {part.get_name()} has ended by itself") from part.exception()
