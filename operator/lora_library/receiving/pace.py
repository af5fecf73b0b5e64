"""How slow a client may be, and how many places one owner may hold: for bodies that come, and for those that go."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lora_library.problems import Problem

WINDOW_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Pace:
    """`stall_seconds` without a byte, and `bytes_per_second` over a minute; where places are scarce,
    `scarce_bytes_per_second`: so whoever wants to hold many must pay for them with bandwidth."""

    stall_seconds: float = 30.0
    bytes_per_second: float = 16 << 10
    scarce_bytes_per_second: float = 128 << 10
    window_seconds: float = WINDOW_SECONDS


class Places:
    """`at_once` in all, `each` for one owner. Of the second half an owner gets one more only who holds none: so it
    takes half as many owners as there are places to fill them."""

    def __init__(self, at_once: int, each: int, code: str, what: str) -> None:
        self._at_once, self._each, self._code, self._what = at_once, each, code, what
        self._held: Counter[str] = Counter()

    @property
    def held(self) -> int:
        return self._held.total()

    @property
    def scarce(self) -> bool:
        return self._held.total() * 2 > self._at_once

    @contextmanager
    def one(self, owner: str) -> Iterator[None]:
        """Raises Problem of the given code."""
        full = self._held.total() >= self._at_once or self._held[owner] >= self._each
        if full or (self._held.total() * 2 >= self._at_once and self._held[owner]):
            raise Problem(self._code, f"too many {self._what} are under way: try again in a moment")
        self._held[owner] += 1
        try:
            yield
        finally:
            self._held[owner] -= 1
            if not self._held[owner]:
                del self._held[owner]


class Meter:
    """Of one body: what has passed in the present minute."""

    def __init__(self, pace: Pace, scarce: Callable[[], bool]) -> None:
        self._pace, self._scarce = pace, scarce
        self._now = asyncio.get_running_loop().time
        self._since, self._passed = self._now(), 0

    def add(self, size_bytes: int) -> None:
        """Raises Problem (UPLOAD_TOO_SLOW)."""
        self._passed += size_bytes
        took = self._now() - self._since
        if took < self._pace.window_seconds:
            return
        least = self._pace.scarce_bytes_per_second if self._scarce() else self._pace.bytes_per_second
        if self._passed < least * took:
            raise Problem("UPLOAD_TOO_SLOW", f"less than {least:g} bytes a second came: send it again")
        self._since, self._passed = self._now(), 0


async def paced(body: AsyncIterator[bytes], pace: Pace, scarce: Callable[[], bool]) -> AsyncIterator[bytes]:
    """The same body. Raises Problem (UPLOAD_TOO_SLOW)."""
    meter = Meter(pace, scarce)
    while True:
        try:
            async with asyncio.timeout(pace.stall_seconds):
                chunk = await anext(body, None)
        except TimeoutError:
            raise Problem("UPLOAD_TOO_SLOW", f"nothing came for {pace.stall_seconds:g} s: send it again") from None
        if chunk is None:
            return
        meter.add(len(chunk))
        yield chunk
