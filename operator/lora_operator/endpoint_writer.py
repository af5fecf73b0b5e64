"""Writes LoraEndpoints, and only where one says something new: at most one write of a pod at a time.

What came together for a pod is written together. A single change is written at once; where many pods change at the same
time each waits the longer between two writes, since every write is of the whole object, and few are under way at once,
lest an API server that is slow works on what was given up meanwhile. Withdrawals go before all others.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from lora_operator.kube import Kube, KubeError
from lora_operator.metrics import Metrics
from lora_operator.observe.cluster import Cluster
from lora_operator.observe.endpoints import Contents, body_of

log = logging.getLogger(__name__)

RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
FLUSH_SECONDS = 2.0
SLOW_SECONDS = 10.0  # beyond that, for an API server that is slow: as long as a write may take
WRITES_PER_SECOND = 50.0
LONGEST_GAP_SECONDS = 2.0
AT_A_TIME = 8
FEW = 8  # of what leaves a pod at once and may have moved; an engine that died gives up more, and nobody is to wait
TOO_MANY = 429


@dataclass(slots=True, eq=False)
class _Draft:
    """What one pod's LoraEndpoint should say, and the task that sees to it."""

    said: Contents
    due: float = math.inf
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    writing: Contents | None = None
    waiting: list[asyncio.Future[None]] = field(default_factory=list)  # for a write that begins from now on
    not_before: float = 0.0  # after a write that failed
    refused: bool = False  # by an API server that is there
    force: bool = False  # to be written though it says nothing and there is none
    urgent: bool = False  # somebody must not be sent there any more, or waits for it
    behind: bool = False  # it waits for others, and they must not wait for it


class _Turns:
    """So many drafts are written at once; urgent ones first."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: dict[_Draft, asyncio.Future[None]] = {}

    async def take(self, draft: _Draft) -> None:
        if self._free:
            self._free -= 1
            return
        turn = self._waiting[draft] = asyncio.get_running_loop().create_future()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back()
            raise
        finally:
            self._waiting.pop(draft, None)

    def give_back(self) -> None:
        waiting = [draft for draft, turn in self._waiting.items() if not turn.done()]
        after = next((draft for draft in waiting if draft.urgent), waiting[0] if waiting else None)
        if after is None:
            self._free += 1
        else:
            self._waiting[after].set_result(None)


class EndpointWriter:
    """`offer` in each round what is so; `flush` waits until it is written."""

    def __init__(
        self, kube: Kube, cluster: Cluster, metrics: Metrics, changed: Callable[[], None] = lambda: None
    ) -> None:
        self._changed = changed
        self._awaited: set[str] = set()
        self.ending = False  # nobody is to wait for anything any more
        self._kube = kube
        self._cluster = cluster
        self._metrics = metrics
        self._offered: dict[str, Contents] = {}
        self._drafts: dict[str, _Draft] = {}
        self._turns = _Turns(AT_A_TIME)
        self._written_at: dict[str, float] = {}
        self._settled: dict[str, tuple[Contents, int]] = {}  # as good as it can be, and at which resource version

    def offer(self, contents: Mapping[str, Contents | None], now: float) -> None:
        """Say what is so of all pods that are looked after; None is not known, and changes nothing."""
        for pod in [pod for pod in self._offered if pod not in contents]:
            self._forget(pod)
        for pod, said in contents.items():
            if said is None:
                continue
            self._offered[pod] = said
            draft = self._drafts.get(pod)
            if draft is not None:
                if draft.said is not said:
                    draft.said = said
                    self._plan(pod, draft, draft.writing or self._published(pod), now)
                    draft.wake.set()
            elif self._differs(pod, said) and self._settled.get(pod) != (said, self._version(pod)):
                self._plan(pod, self._begin(pod, said), self._published(pod), now)

    def awaits(self, copies: Iterable[tuple[str, str]]) -> bool:
        """Whether any of these (pod, adapter) is about to be published, so that it is too early to call it ready;
        `changed` is called when that has been done. What the API server does not take is not waited for."""
        for pod, name in () if self.ending else copies:
            draft = self._drafts.get(pod)
            if draft is None or draft.not_before or draft.said.holds(name) is None:
                continue
            published = self._published(pod)
            if published is None or published.holds(name) is None:
                self._awaited.add(pod)
                return True
        return False

    def says(self, pod: str, name: str) -> bool:
        """Whether routers may have been told, or are just being told, that the pod holds this adapter."""
        draft = self._drafts.get(pod)
        said = (self._published(pod), draft.writing if draft is not None else None)
        return any(one is not None and one.holds(name) is not None for one in said)

    async def flush(self, pod: str) -> None:
        """Wait until what was offered last is written, for a bounded time; one that the API server does not take holds
        nothing up. Raises KubeError where the API server is away: what was said before stands, and is acted on."""
        said = self._offered.get(pod)
        if said is None:
            return
        if self._cluster.endpoints.get(pod) is None and pod not in self._drafts:
            self._begin(pod, said)  # from now on it counts, and not what status says
        draft = self._drafts.get(pod)
        if draft is None:
            return
        done = asyncio.get_running_loop().create_future()
        draft.waiting.append(done)
        draft.force, draft.urgent, draft.due = True, True, 0.0
        draft.wake.set()
        for seconds in (FLUSH_SECONDS, SLOW_SECONDS):
            await asyncio.wait({done}, timeout=seconds)
            if done.done():
                return
            if draft.refused:
                log.warning("the LoraEndpoint of %s could not be written within %g s; going on", pod, FLUSH_SECONDS)
                return
        raise KubeError(0, f"the LoraEndpoint of {pod} could not be written within {FLUSH_SECONDS + SLOW_SECONDS:g} s")

    async def stop(self, grace_seconds: float) -> None:
        """Write what is due, then end."""
        tasks = [draft.task for draft in self._drafts.values() if draft.task is not None]
        for draft in self._drafts.values():
            draft.due = 0.0
            draft.wake.set()
        if tasks:
            await asyncio.wait(tasks, timeout=grace_seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _make_before_break(self, pod: str, draft: _Draft) -> None:
        """Where an adapter moves, let the pods that got it be published before this one that gives it up."""
        before = self._published(pod)
        lost = [held.name for held in before.adapters if draft.said.holds(held.name) is None] if before else []
        if not lost or len(lost) > FEW:
            return
        namespace, done = pod.partition("/")[0], []
        for key, other in self._drafts.items():
            if key.partition("/")[0] == namespace and key != pod and not other.not_before and not other.behind:
                said, published = other.said, self._published(key)
                if any(said.holds(name) and not (published and published.holds(name)) for name in lost):
                    done.append(asyncio.get_running_loop().create_future())
                    other.waiting.append(done[-1])
                    other.urgent, other.due = True, 0.0
                    other.wake.set()
        if done:
            draft.behind = True
            await asyncio.wait(done, timeout=FLUSH_SECONDS)
            draft.behind = False

    def _let_go_on(self, pod: str) -> None:
        if pod in self._awaited:
            self._awaited.discard(pod)
            self._changed()

    def _forget(self, pod: str) -> None:
        """Begin nothing more for it. What is due is written while the pod is there, as it may say that it is empty."""
        del self._offered[pod]
        self._written_at.pop(pod, None)
        self._settled.pop(pod, None)

    def _version(self, pod: str) -> int:
        known = self._cluster.endpoints.get(pod)
        return 0 if known is None else known.version

    def _published(self, pod: str) -> Contents | None:
        known = self._cluster.endpoints.get(pod)
        return None if known is None else known.said

    def _differs(self, pod: str, said: Contents) -> bool:
        """A pod that never held anything needs no object."""
        published = self._published(pod)
        return bool(said.adapters) if published is None else published != said

    def _plan(self, pod: str, draft: _Draft, before: Contents | None, now: float) -> None:
        """Decide when the draft is written; `before` is what routers know."""
        draft.urgent |= before is not None and _loses(before, draft.said)
        gap = 0.0 if draft.urgent else min(len(self._drafts) / WRITES_PER_SECOND, LONGEST_GAP_SECONDS)
        draft.due = min(draft.due, max(now, self._written_at.get(pod, 0.0) + gap))

    def _begin(self, pod: str, said: Contents) -> _Draft:
        draft = self._drafts[pod] = _Draft(said)
        draft.task = asyncio.create_task(self._write(pod, draft), name=f"LoraEndpoint {pod}")
        return draft

    async def _write(self, pod: str, draft: _Draft) -> None:
        failures = 0
        loop = asyncio.get_running_loop()
        namespace, _, name = pod.partition("/")
        try:
            while True:
                while (wait := max(draft.due, draft.not_before) - loop.time()) > 0:
                    draft.wake.clear()
                    try:
                        async with asyncio.timeout(wait if wait < math.inf else None):
                            await draft.wake.wait()
                    except TimeoutError:
                        break
                await self._make_before_break(pod, draft)
                await self._turns.take(draft)
                said, covered = draft.said, len(draft.waiting)
                try:
                    if self._cluster.pods.get(pod) is None:
                        return  # its LoraEndpoint goes with it
                    if not self._differs(pod, said) and not (draft.force and self._published(pod) is None):
                        return
                    draft.writing, draft.due, draft.urgent = said, math.inf, False
                    body = await self._kube.apply_endpoint(namespace, name, body_of(pod, said))
                except KubeError as error:
                    failures += 1
                    draft.refused = 400 <= error.status < 500 and error.status != TOO_MANY
                    self._metrics.endpoint_write("error")
                    pause = RETRY_SECONDS[min(failures, len(RETRY_SECONDS)) - 1]
                    log.warning("the LoraEndpoint of %s was not written, again in %g s: %s", pod, pause, error)
                    draft.not_before = loop.time() + pause
                    self._let_go_on(pod)
                    draft.due, draft.urgent = 0.0, draft.urgent or bool(draft.waiting)
                    continue
                finally:
                    self._turns.give_back()
                failures, draft.refused = 0, False
                now = self._written_at[pod] = loop.time()
                self._metrics.endpoint_write("ok")
                self._cluster.endpoints.put(body)
                self._settled[pod] = (said, self._version(pod))
                self._let_go_on(pod)
                _release(draft.waiting[:covered])
                del draft.waiting[:covered]
                if draft.said is said:
                    return
                self._plan(pod, draft, said, now)
        finally:
            draft.task = None
            _release(draft.waiting)
            self._let_go_on(pod)
            if self._drafts.get(pod) is draft:
                del self._drafts[pod]


def _loses(before: Contents, after: Contents) -> bool:
    """Whether somebody must not be sent any more where `before` sends them."""
    if (before.address, before.container, before.pod_uid) != (after.address, after.container, after.pod_uid):
        return True
    same = set(map(id, after.adapters))  # most are the same objects, see `Shared`
    gone = {(held.name, held.engine_name) for held in before.adapters if id(held) not in same}
    return bool(gone) and not gone <= {(held.name, held.engine_name) for held in after.adapters}


def _release(waiting: Iterable[asyncio.Future[None]]) -> None:
    for done in waiting:
        if not done.done():
            done.set_result(None)
