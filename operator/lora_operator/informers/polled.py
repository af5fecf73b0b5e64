"""Small objects that are read once and again now and then: Secrets, ConfigMaps.

To watch them would need the right to list them all, which nobody should have to give.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, Generic, TypeVar

from lora_operator.kube.client import KubeError
from lora_operator.process.backoff import doubled

UNANSWERED_SECONDS = 0.5  # the first pause where no answer came; it doubles up to that after a refusal

Where = tuple[str, str]  # namespace, name
T = TypeVar("T")


class Polled(Generic[T]):
    """Keeps what `parse` makes of each followed object; `changed` is called when a value or an error is new.

    `parse` may raise ValueError for an object that cannot be used. What cannot be read keeps its last value.
    """

    def __init__(
        self,
        read: Callable[[str, str], Awaitable[dict[str, Any]]],
        parse: Callable[[dict[str, Any]], T],
        changed: Callable[[], None],
        *,
        again_seconds: float,
        retry_seconds: float,
    ) -> None:
        self._read_object = read
        self._parse = parse
        self._changed = changed
        self._again_seconds = again_seconds
        self._retry_seconds = retry_seconds
        self._tasks: dict[Where, asyncio.Task[None]] = {}
        self._due: dict[Where, float] = {}
        self._unanswered: dict[Where, int] = {}  # in a row
        self._stopped = False
        self.values: dict[Where, T] = {}
        self.errors: dict[Where, KubeError | ValueError] = {}

    def sync_targets(self, wanted: Iterable[Where], sooner: Collection[Where] = ()) -> None:
        """Know exactly these objects from now on; those in `sooner` look wrong and are read again before long."""
        needed = set(wanted)
        now = time.monotonic()
        for where in needed:
            if where in sooner and self._due.get(where, 0.0) > now + self._retry_seconds:
                self._again(where, self._retry_seconds)
            if where not in self._tasks and self._due.get(where, 0.0) <= now:
                self._begin(where)
        for where in [where for where in self._due if where not in needed]:
            del self._due[where]
            self._unanswered.pop(where, None)
            self.values.pop(where, None)
            self.errors.pop(where, None)

    async def first_reads(self, timeout: float) -> None:
        """Wait for what is being read just now."""
        if self._tasks:
            await asyncio.wait(set(self._tasks.values()), timeout=timeout)

    async def stop(self) -> None:
        self._stopped = True
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _begin(self, where: Where) -> None:
        self._tasks[where] = asyncio.create_task(self._read(where), name="small object")

    def _again(self, where: Where, pause: float) -> None:
        """Read it after so many seconds; that it is read is no news."""
        self._due[where] = due = time.monotonic() + pause

        def begin() -> None:
            if self._due.get(where) == due and where not in self._tasks and not self._stopped:
                self._begin(where)

        asyncio.get_running_loop().call_later(pause, begin)

    async def _read(self, where: Where) -> None:
        before = (self.values.get(where), str(self.errors.get(where)))
        try:
            self.values[where] = self._parse(await self._read_object(*where))
            self.errors.pop(where, None)
            self._unanswered.pop(where, None)
            self._due[where] = time.monotonic() + self._again_seconds
        except (KubeError, ValueError) as error:
            self.errors[where] = error
            if isinstance(error, KubeError) and error.status == 404:
                self.values.pop(where, None)
            self._again(where, self._pause(where, error))
        finally:
            self._tasks.pop(where, None)
            if (self.values.get(where), str(self.errors.get(where))) != before:
                self._changed()

    def _pause(self, where: Where, error: KubeError | ValueError) -> float:
        """A connection that broke, or an API server that is away for a moment, is no reason to wait for long."""
        if not isinstance(error, KubeError) or error.status != 0:
            self._unanswered.pop(where, None)
            return self._retry_seconds
        before = self._unanswered[where] = self._unanswered.get(where, -1) + 1
        return doubled(UNANSWERED_SECONDS, before, self._retry_seconds)


def why(error: KubeError | ValueError, kind: str) -> str:
    """What to do about an object that cannot be read."""
    status = error.status if isinstance(error, KubeError) else None
    if status == 403:
        return f"the operator may not read it; give its service account the right to get this one {kind}"
    return f"there is no such {kind}" if status == 404 else str(error)
