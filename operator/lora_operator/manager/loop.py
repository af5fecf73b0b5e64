"""Runs one cycle after the other, for as long as the operator acts.

A quiet loop begins at the first event; what arrives during a cycle is the next one's batch.
"""

from __future__ import annotations

import asyncio
import logging
import time

from lora_operator.execution.pacing import Pace
from lora_operator.reconcile import Reconciler

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 20.0
AGAIN_SECONDS = 1.0  # after a cycle that failed


class CycleFailed(Exception):
    """The cycle that was waited for did not come to its end: what it should have said was not said."""


class Loop:
    """Others `mark` it dirty, or wait for the `next_cycle`."""

    def __init__(self, reconciler: Reconciler) -> None:
        self.reconciler = reconciler
        self._dirty = asyncio.Event()
        self._pace = Pace(self._presses)
        self._waiting: list[asyncio.Future[None]] = []  # for a cycle that has yet to begin
        self._waited_for: list[asyncio.Future[None]] = []  # for the one that goes on
        self._in_cycle = False
        self._ended = False
        self._began_at: float | None = None  # monotonic, as is the next
        self.last_end_at: float | None = None  # when a cycle last came to its end

    async def next_cycle(self) -> None:
        """Wait until a cycle has ended that began after this moment; do not wait for a loop that has ended. Raises
        CycleFailed."""
        ended = asyncio.get_running_loop().create_future()
        if not self._ended:
            self._waiting.append(ended)
        self.mark()
        if not self._ended:
            await ended

    @property
    def idle(self) -> bool:
        """Whether no cycle goes on, and nothing has happened that calls for one."""
        return not self._in_cycle and not self._dirty.is_set()

    def mark(self, *_: object) -> None:
        """Something changed."""
        self._dirty.set()
        self._pace.mark()

    async def run(self) -> None:
        """Cycles until cancelled."""
        try:
            await self.reconciler.first_reads()
            self._began_at = time.monotonic()
            while True:
                await self._once()
        finally:
            self._ended = True
            self._waited_for += self._waiting
            self._waiting.clear()
            self._release()
            self.reconciler.close()

    async def _once(self) -> None:
        self._in_cycle = True
        self._dirty.clear()
        self._waited_for, self._waiting = self._waiting, []
        started = time.monotonic()
        try:
            await self.reconciler.cycle()
            self.last_end_at = time.monotonic()
            self._release()
        except Exception as error:
            # one object that breaks the planner must not stop the rest of the operator from being seen as broken:
            # last_end_at stands still, so that /healthz tells, and the traceback says why
            log.exception("a planning round failed; it is tried again in a second")
            self._release(error)
            await asyncio.sleep(AGAIN_SECONDS)
            self._dirty.set()
        self._in_cycle = False
        await self._pace.rest(time.monotonic() - started)
        try:
            async with asyncio.timeout(self._pause(started)):
                await self._dirty.wait()
        except TimeoutError:
            pass

    def _release(self, error: Exception | None = None) -> None:
        """End the waits for the cycle that has ended."""
        for ended in (one for one in self._waited_for if not one.done()):
            if error is None:
                ended.set_result(None)
            else:
                ended.set_exception(CycleFailed(f"a planning round failed: {type(error).__name__}"))
        self._waited_for.clear()

    def _presses(self) -> bool:
        """Whether the next cycle is worth more than the time that it takes from effects that are under way."""
        return bool(self._waiting) or not self.reconciler.yields_to_effects()

    def _pause(self, since: float) -> float:
        """Until the next cycle, if nothing happens before."""
        due = self.reconciler.next_due(since)
        return HEARTBEAT_SECONDS if due is None else min(HEARTBEAT_SECONDS, due + 0.001)

    def unready(self) -> str:
        """Why the operator is not ready; empty if it is."""
        return "no plan has been made yet" if self.last_end_at is None else ""

    def plan_age(self) -> float | None:
        """Seconds since a cycle last came to its end, or since the first of all began."""
        since = self._began_at if self.last_end_at is None else self.last_end_at
        return None if since is None else time.monotonic() - since
