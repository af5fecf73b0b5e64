"""The queue in front of the API server: what is to be written about which object, and in which order.

As Kubernetes' own controllers do it: a key waits once, however often it is put, and what it writes is made up when its
turn comes, so that it is the newest. A few requests are under way at a time: none waits behind others in the client,
and its time-out counts from when it is sent. What fails, or is taken and yet not so, pauses: each key for longer and
longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
import math
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from enum import IntEnum

from lora_operator.kube.client import TOO_MANY, KubeError
from lora_operator.process.backoff import doubled

log = logging.getLogger(__name__)

AT_A_TIME = 8
BEHIND_AT_A_TIME = 1  # of what can wait, while there is something that somebody looks at to come
FLUSH_SECONDS = 2.0
FIRST_PAUSE_SECONDS = 0.2
AWAY_SECONDS = 10.0  # the longest pause where no answer came: it will be back
REFUSED_SECONDS = 60.0  # the longest pause after an answer
SAY_SECONDS = 10.0  # what no write comes through for is said once in so long, however many wait

Key = tuple[str, str]  # what is written, and about which object
FINALIZER_WRITE = "finalizer"  # of an object that is deleted it is the last one
Write = Callable[[], Awaitable[None]]


class Priority(IntEnum):
    """What goes first."""

    WITHDRAWAL = 0  # an effect on an engine waits for it
    ENDPOINT = 1  # before the status that calls ready what it says
    STATUS = 2
    PROGRESS = 3  # what is about to change again
    FINALIZER = 4
    EVENT = 5

    @property
    def can_wait(self) -> bool:
        """Whether nobody looks for it as long as the fleet is on its way to what it should be."""
        return self >= Priority.FINALIZER


class NotSo(KubeError):
    """The API server took a write, and what it answered says that nothing came of it."""

    def __init__(self, message: str) -> None:
        super().__init__(200, message)


@dataclass(slots=True, eq=False)
class _Item:
    write: Write
    priority: Priority
    due: float
    at: float = math.inf  # when it may begin, as it stands in the queue
    stamp: int = 0  # of its present place in the queue
    failures: int = 0
    error: KubeError | None = None  # while it pauses
    retry_at: float = 0.0
    running: bool = False
    behind: bool = False  # it runs, and can wait
    again: bool = False  # put while it was running
    served: list[asyncio.Future[None]] = field(default_factory=list)  # who waits for the attempt that is running
    waiting: list[asyncio.Future[None]] = field(default_factory=list)  # … for the next one


class Writes:
    """`put` and forget, or wait until it was `tried`."""

    def __init__(self, at_a_time: int = AT_A_TIME) -> None:
        self._at_a_time = at_a_time
        self._items: dict[Key, _Item] = {}
        self._later: list[tuple[float, int, Key]] = []
        self._ready: list[tuple[Priority, int, Key]] = []
        self._stamps = itertools.count(1)
        self._running: set[asyncio.Task[None]] = set()
        self._behind = 0  # of these, how many can wait
        self._looked_for: set[Key] = set()  # what cannot, is still to be written and does not pause
        self._aside = 0  # of these, how many wait for others
        self._back: deque[asyncio.Future[None]] = deque()  # … and would go on
        self._timer: asyncio.TimerHandle | None = None
        self._closed_until = 0.0  # the API server asked for patience
        self._answered_at = 0.0
        self._said_at = -math.inf  # that none comes through
        self._stopped = False

    def __contains__(self, key: Key) -> bool:
        return key in self._items

    @property
    def idle(self) -> bool:
        return not self._items

    def __len__(self) -> int:
        """How many objects there is something to write about, those that pause as well."""
        return len(self._items)

    def put(self, key: Key, write: Write, priority: Priority, delay: float = 0.0) -> None:
        """Have this written about the object after `delay` seconds at most, in place of what waits under the key.

        `write` says what is so when its turn comes: it returns when there is nothing (more) to write, and raises
        KubeError where the API server did not take it.
        """
        if self._stopped:
            return
        due = asyncio.get_running_loop().time() + delay
        item = self._items.get(key)
        if item is None:
            item = self._items[key] = _Item(write, priority, due)
        else:
            item.write, item.again = write, item.running
        self._hasten(key, item, priority, due)

    async def tried(self, key: Key) -> None:
        """Have it written before all else that waits; returns when it is, or when there is nothing to write.

        Raises KubeError: this attempt failed; it is tried again, whoever waits or not.
        """
        item = self._items.get(key)
        if item is None:
            return
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        (item.served if item.running and not item.again else item.waiting).append(answer)
        self._hasten(key, item, Priority.WITHDRAWAL, loop.time())
        await answer

    async def flush(self, key: Key) -> None:
        """Wait until the newest of this is written, however much is written before it. What the API server does not
        take holds nothing up for long.

        Raises KubeError where the API server is away: what was said before stands, and is acted on.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        while key in self._items:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    return await self._written(key)
            error = self.pausing(key)
            if error is not None and not may_heal(error):
                log.warning("%s of %s could not be written within %g s; going on", *key, FLUSH_SECONDS)
                return None
            # one that waits for its turn goes on waiting for as long as there are answers to others
            since = began if error is not None else max(began, self._answered_at)
            if loop.time() - since >= AWAY_SECONDS:
                raise KubeError(0, f"{' of '.join(key)} could not be written within {loop.time() - began:.0f} s")
        return None

    async def _written(self, key: Key) -> None:
        while key in self._items:
            with contextlib.suppress(KubeError):  # it is tried again
                await self.tried(key)
                return

    @contextlib.asynccontextmanager
    async def aside(self) -> AsyncIterator[None]:
        """For a write that waits for others: they may have its place meanwhile."""
        self._aside += 1
        self._pump()
        try:
            yield
        finally:
            place = asyncio.get_running_loop().create_future()
            self._back.append(place)
            self._pump()
            await place

    def pausing(self, key: Key) -> KubeError | None:
        """Why the last attempt failed, where this waits to be tried again."""
        item = self._items.get(key)
        return item.error if item is not None else None

    def again(self, *, refused: bool) -> None:
        """Let nothing pause any more that found the API server away; and what it `refused` no more than at first."""
        now = asyncio.get_running_loop().time()
        for key, item in self._items.items():
            if item.error is not None and (refused or may_heal(item.error)):
                item.failures, item.retry_at = 0 if refused else item.failures, 0.0
                self._hasten(key, item, item.priority, now)

    async def stop(self, grace_seconds: float) -> None:
        """Write what is due, for so long at most, and nothing after it; what pauses is given up."""
        self._stopped = True
        now = asyncio.get_running_loop().time()
        for key, item in self._items.items():
            self._hasten(key, item, item.priority, now)
        try:
            async with asyncio.timeout(grace_seconds):
                while self._running:
                    await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                    await asyncio.sleep(0)  # what an end begins
        except TimeoutError:
            pass
        if self._items:
            log.warning("%d writes to the API server are given up at the end", len(self._items))
        if self._timer is not None:
            self._timer.cancel()
        tasks, self._ready, self._later = list(self._running), [], []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for item in self._items.values():
            _tell([*item.served, *item.waiting], KubeError(0, "not written: the operator ends"))
        self._items.clear()

    def _hasten(self, key: Key, item: _Item, priority: Priority, due: float) -> None:
        item.due, item.priority, before = min(item.due, due), min(item.priority, priority), item.priority
        if not item.priority.can_wait and item.error is None:
            self._looked_for.add(key)
        at = max(item.due, item.retry_at)
        if not item.running and (at < item.at or item.priority < before):
            self._queue(key, item, at)

    def _queue(self, key: Key, item: _Item, at: float) -> None:
        item.at, item.stamp = at, next(self._stamps)
        heapq.heappush(self._later, (at, item.stamp, key))
        self._pump()

    def _pump(self) -> None:
        """Begin what may begin, and come again when more may."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._later and self._later[0][0] <= now:
            _, stamp, key = heapq.heappop(self._later)
            if self._stands(key, stamp):
                heapq.heappush(self._ready, (self._items[key].priority, stamp, key))
        while self._back and len(self._running) - self._aside < self._at_a_time:
            self._aside -= 1
            _tell([self._back.popleft()], None)
        while self._ready and len(self._running) - self._aside < self._at_a_time and self._closed_until <= now:
            priority, stamp, key = self._ready[0]
            if priority.can_wait and self._looked_for and self._behind >= BEHIND_AT_A_TIME:
                break
            heapq.heappop(self._ready)
            if self._stands(key, stamp):
                self._begin(key, self._items[key])
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        next_at = self._closed_until if self._ready and self._closed_until > now else math.inf
        if self._later:
            next_at = min(next_at, self._later[0][0])
        if next_at < math.inf:
            self._timer = loop.call_at(next_at, self._pump)

    def _stands(self, key: Key, stamp: int) -> bool:
        item = self._items.get(key)
        return item is not None and item.stamp == stamp and not item.running

    def _begin(self, key: Key, item: _Item) -> None:
        item.running, item.again, item.due, item.at = True, False, math.inf, math.inf
        item.served, item.waiting = item.waiting, []
        item.behind = item.priority.can_wait
        self._behind += item.behind
        task = asyncio.create_task(self._attempt(key, item), name=f"write {' '.join(key)}")
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._pump()

    async def _attempt(self, key: Key, item: _Item) -> None:
        try:
            await item.write()
        except KubeError as error:
            self._failed(key, item, error)
        except Exception as error:
            log.exception("writing %s of %s failed; this is a defect: please report it", *key)
            self._failed(key, item, KubeError(0, f"{type(error).__name__}: {error}"))
        else:
            item.failures, item.error, item.retry_at = 0, None, 0.0
        if item.error is None or item.error.status:
            self._answered_at = asyncio.get_running_loop().time()
        item.running = False
        self._behind -= item.behind
        if item.error is None and item.again and not item.priority.can_wait:
            self._looked_for.add(key)
        else:
            self._looked_for.discard(key)
        _tell(item.served, item.error)
        item.served = []
        if item.error is None and not item.again:
            del self._items[key]
            _tell(item.waiting, None)
        else:
            self._queue(key, item, max(item.due, item.retry_at))

    def _failed(self, key: Key, item: _Item, error: KubeError) -> None:
        now = asyncio.get_running_loop().time()
        pause = pause_after(item.failures, error, random.uniform(0.8, 1.2))
        known = item.error is not None and str(item.error) == str(error)  # where a CRD is missing, of each pod for long
        item.failures, item.error, item.due, item.retry_at = item.failures + 1, error, now, now + pause
        if error.status == TOO_MANY:
            self._closed_until = now + min(max(error.retry_after_seconds, FIRST_PAUSE_SECONDS), AWAY_SECONDS)
        if not known and error.status in (0, TOO_MANY):  # it says nothing of this object: thousands may meet it
            known = now - self._said_at < SAY_SECONDS
            self._said_at = self._said_at if known else now
        level = logging.DEBUG if known else logging.WARNING
        log.log(level, "%s of %s was not written, again in %.1f s: %s", *key, pause, error)


def pause_after(failures: int, error: KubeError, jitter: float = 1.0) -> float:
    """Seconds to wait after a failure, where there were so many in a row before it."""
    return jitter * doubled(FIRST_PAUSE_SECONDS, failures, AWAY_SECONDS if may_heal(error) else REFUSED_SECONDS)


def may_heal(error: KubeError) -> bool:
    """Whether the API server was away or busy, rather than refused it."""
    return error.status in (0, TOO_MANY) or error.status >= 500


def _tell(who: list[asyncio.Future[None]], error: KubeError | None) -> None:
    for answer in who:
        if not answer.done():
            if error is None:
                answer.set_result(None)
            else:
                answer.set_exception(error)
