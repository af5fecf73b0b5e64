"""Writes LoraEndpoints, and only where one says something new.

What came together for a pod is written together. A single change is written at once; where many pods change at the same
time each waits the longer between two writes, since every write is of the whole object. Withdrawals never wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from lora_operator.informers.cache import Cluster
from lora_operator.informers.endpoints import Contents, body_of
from lora_operator.kube.client import Kube, KubeError
from lora_operator.kube.own_writes import LORA_ENDPOINT, OwnWrites
from lora_operator.kube.write_queue import FLUSH_SECONDS, Priority, Writes
from lora_operator.telemetry.metrics import Metrics

WRITES_PER_SECOND = 50.0
LONGEST_GAP_SECONDS = 2.0
FEW = 8  # of what leaves a pod at once and may have moved; an engine that died gives up more, and nobody is to wait
WRITE = "LoraEndpoint"  # in the queue of writes


class EndpointWriter:
    """`offer` in each round what is so; `flush` waits until it is written."""

    def __init__(
        self,
        kube: Kube,
        cluster: Cluster,
        writes: Writes,
        metrics: Metrics,
        changed: Callable[[], None] = lambda: None,
        own_writes: OwnWrites | None = None,
    ) -> None:
        self._changed = changed
        self._own_writes = own_writes or OwnWrites()
        self._awaited: set[str] = set()
        self._behind: set[str] = set()  # they wait for others, which must not wait for them
        self.ending = False  # nobody is to wait for anything any more
        self._kube = kube
        self._cluster = cluster
        self._writes = writes
        self._metrics = metrics
        self._offered: dict[str, Contents] = {}
        self._writing: dict[str, Contents] = {}
        self._forced: set[str] = set()  # to be written though it says nothing and there is none
        self._written_at: dict[str, float] = {}
        self._settled: dict[str, tuple[Contents, int]] = {}  # as good as it can be, and at which resource version

    def offer(self, contents: Mapping[str, Contents | None], now: float) -> None:
        """Say what is so of all pods that are looked after; None is not known, and changes nothing."""
        for pod in [pod for pod in self._offered if pod not in contents]:
            self._forget(pod)
        for pod, said in contents.items():
            if said is None:
                continue
            before, self._offered[pod] = self._offered.get(pod), said
            waits = (WRITE, pod) in self._writes
            if waits and before is said:
                continue
            if waits or (self._differs(pod, said) and self._settled.get(pod) != (said, self._version(pod))):
                told = self._writing.get(pod) or self._published(pod)
                withdraws = told is not None and _loses(told, said)
                if withdraws:
                    self._put(pod, Priority.WITHDRAWAL, 0.0)
                else:
                    self._put(pod, Priority.ENDPOINT, self._gap(pod, now))

    def awaits(self, copies: Iterable[tuple[str, str]]) -> bool:
        """Whether any of these (pod, adapter) is about to be published, so that it is too early to call it ready;
        `changed` is called when that has been done. What the API server does not take is not waited for."""
        for pod, name in () if self.ending else copies:
            said = self._offered.get(pod)
            waits = (WRITE, pod) in self._writes and self._writes.pausing((WRITE, pod)) is None
            if not waits or said is None or said.holds(name) is None:
                continue
            published = self._published(pod)
            if published is None or published.holds(name) is None:
                self._awaited.add(pod)
                return True
        return False

    def says(self, pod: str, name: str) -> bool:
        """Whether routers may have been told, or are about to be, that the pod holds this adapter."""
        waits = self._offered.get(pod) if (WRITE, pod) in self._writes else None
        said = (self._published(pod), self._writing.get(pod), waits)
        return any(one is not None and one.holds(name) is not None for one in said)

    async def flush(self, pod: str) -> None:
        """See `Writes.flush`, of what was offered last. From then on the pod's LoraEndpoint counts, and not status."""
        if pod not in self._offered:
            return
        if self._cluster.endpoints.get(pod) is None:
            self._forced.add(pod)
            self._put(pod, Priority.WITHDRAWAL, 0.0)
        await self._writes.flush((WRITE, pod))

    def _put(self, pod: str, priority: Priority, delay_seconds: float) -> None:
        self._writes.put((WRITE, pod), partial(self._write, pod), priority, delay_seconds)

    async def _make_before_break(self, pod: str, said: Contents) -> None:
        """Where an adapter moves, let the pods that got it be published before this one that gives it up."""
        before = self._published(pod)
        lost = [held.name for held in before.adapters if said.holds(held.name) is None] if before else []
        if not lost or len(lost) > FEW:
            return
        got = [other for other in self._offered if other != pod and self._gets(other, pod.partition("/")[0], lost)]
        if not got:
            return
        self._behind.add(pod)
        try:
            async with self._writes.aside(), asyncio.timeout(FLUSH_SECONDS):
                with contextlib.suppress(KubeError):
                    await asyncio.gather(*(self._writes.tried((WRITE, other)) for other in got))
        except TimeoutError:
            pass
        finally:
            self._behind.discard(pod)

    def _gets(self, pod: str, namespace: str, names: Iterable[str]) -> bool:
        """Whether one of these adapters is about to be published of the pod."""
        key = (WRITE, pod)
        if key not in self._writes or pod in self._behind or self._writes.pausing(key) is not None:
            return False
        said, published = self._offered[pod], self._published(pod)
        return pod.partition("/")[0] == namespace and any(
            said.holds(name) and not (published and published.holds(name)) for name in names
        )

    def _let_go_on(self, pod: str) -> None:
        if pod in self._awaited:
            self._awaited.discard(pod)
            self._changed()

    def _forget(self, pod: str) -> None:
        """Begin nothing more for it. What is due is written while the pod is there, as it may say that it is empty."""
        if (WRITE, pod) not in self._writes:
            del self._offered[pod]
            self._forced.discard(pod)
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

    def _gap(self, pod: str, now: float) -> float:
        gap = min((len(self._writes) + 1) / WRITES_PER_SECOND, LONGEST_GAP_SECONDS)
        return max(self._written_at.get(pod, 0.0) + gap - now, 0.0)

    async def _write(self, pod: str) -> None:
        """What was offered last, where it differs from what is there. Raises KubeError."""
        try:
            said = self._offered.get(pod)
            if said is not None:
                await self._make_before_break(pod, said)
                await self._apply(pod, self._offered.get(pod, said))
        finally:
            self._let_go_on(pod)

    async def _apply(self, pod: str, said: Contents) -> None:
        if self._cluster.pods.get(pod) is None:
            return  # its LoraEndpoint goes with it
        if not self._differs(pod, said) and not (pod in self._forced and self._published(pod) is None):
            return
        namespace, _, name = pod.partition("/")
        self._writing[pod] = said
        try:
            with self._own_writes.writing((LORA_ENDPOINT, pod)) as own:
                body = await self._kube.apply_endpoint(namespace, name, body_of(pod, said))
                self._cluster.endpoints.put(body)
                own.news = not self._cluster.endpoints.is_at(body) or self._published(pod) != said
        except KubeError:
            self._metrics.endpoint_write("error")
            raise
        finally:
            del self._writing[pod]
        self._forced.discard(pod)
        self._written_at[pod] = asyncio.get_running_loop().time()
        self._metrics.endpoint_write("ok")
        self._settled[pod] = (said, self._version(pod))


def _loses(before: Contents, after: Contents) -> bool:
    """Whether somebody must not be sent any more where `before` sends them."""
    if (before.address, before.container, before.pod_uid) != (after.address, after.container, after.pod_uid):
        return True
    same = set(map(id, after.adapters))  # most are the same objects, see `Shared`
    gone = {(held.name, held.engine_name) for held in before.adapters if id(held) not in same}
    return bool(gone) and not gone <= {(held.name, held.engine_name) for held in after.adapters}
