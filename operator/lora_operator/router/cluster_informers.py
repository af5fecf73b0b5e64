"""Keeps a cluster's objects in step with the API server: LoraAdapters, and the pods that take part or did."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from lora_operator.informers.cache import Cluster
from lora_operator.informers.engine_signs import serves_a_model
from lora_operator.informers.informer import CHECK_SECONDS, Informer
from lora_operator.informers.records import Resource
from lora_operator.informers.scopes import Scope, adapter_scopes, endpoint_scopes, one_pod, pod_scopes, selector_of
from lora_operator.kube.client import Json, Kube, KubeError
from lora_operator.kube.own_writes import LORA_ADAPTER, LORA_ENDPOINT, Key

log = logging.getLogger(__name__)

STALE_SECONDS = 10.0
LINGER_SECONDS = 600.0  # that pods are still seen which no selector chooses any more
TIDY_SECONDS = 60.0
TURN_SECONDS = 0.1
SAY_SECONDS = 1.0
AT_ONCE = 16


class Following:
    """`changed` is called when something is news. `why` tells what is known to be missing: of a list that fails nothing
    more is said then. With `all_engines` every pod that serves a model is seen, also those that take no part. What may
    be a write of `ours` is told to that alone."""

    def __init__(
        self,
        kube: Kube,
        cluster: Cluster,
        namespaces: tuple[str, ...],
        changed: Callable[[], None],
        why: Callable[[], str] = lambda: "",
        *,
        relist_seconds: float = 300.0,
        all_engines: bool = False,
        ours: Callable[[Key], bool] = lambda key: False,
    ) -> None:
        self._kube = kube
        self._cluster = cluster
        self._namespaces = namespaces
        self._changed = changed
        self._ours = ours
        self._why = why
        self._relist_seconds = relist_seconds
        self._all_engines = all_engines
        self._adapters = [
            Informer(
                kube, scope, cluster.adapters, changed=self._adapter_changed, left=self._adapter_left,
                relist_seconds=relist_seconds,
            )
            for scope in sorted(adapter_scopes(namespaces))
        ]  # fmt: skip
        self._endpoints = [
            Informer(
                kube, scope, cluster.endpoints, changed=self._endpoint_changed, left=self._endpoint_left,
                relist_seconds=relist_seconds,
            )
            for scope in sorted(endpoint_scopes(namespaces))
        ]  # fmt: skip
        self._pods: dict[Scope, Informer[Any]] = {}
        self._runs: dict[Scope, asyncio.Task[None]] = {}
        self._wanted_at: dict[Scope, float] = {}
        self._selectors: dict[str, str] = {}  # of LoraAdapters that have one
        self._strays: dict[str, float] = {}  # pods that left every selector, and when they were last known to matter
        self._other_scopes = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.synced = asyncio.Event()

    def age_seconds(self) -> float | None:
        """For how long something may have changed that is not known; None before all has been listed once."""
        return time.monotonic() - _heard_at(self._oldest()) if self.synced.is_set() else None

    def trouble(self) -> KubeError | None:
        """Why the one that was not heard for longest was not heard."""
        return self._oldest().error

    def stale(self) -> str:
        """Which watch has not been fresh for a while, and why; empty if all are."""
        oldest, age = self._oldest(), self.age_seconds()
        if age is None or age <= STALE_SECONDS:
            return ""
        return f"the watch of {oldest.scope} has not been fresh for {age:.0f} s: {oldest.error}"

    def partly_stale(self) -> str:
        """The same where others are fresh: the API server is there, and another process may see what this one does
        not."""
        latest = max(map(_heard_at, self._all()))
        return self.stale() if time.monotonic() - latest < STALE_SECONDS else ""

    def start(self) -> asyncio.Task[None]:
        """Begin to list and watch; what is returned ends by itself only by a defect."""
        self._task = asyncio.create_task(self._run(), name="watches")
        return self._task

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def until_synced(self, stop: asyncio.Event) -> None:
        """Until all has been listed, or `stop` is set, or the task has ended."""
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(self.synced.wait()), asyncio.create_task(stop.wait())]
        try:
            running = [self._task] if self._task is not None else []
            await asyncio.wait([*waits, *running], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            everywhere: list[Informer[Any]] = [*self._adapters, *self._endpoints]
            for informer in everywhere:
                group.create_task(informer.run(), name=f"watch {informer.scope}")
            group.create_task(self._keep_telling(), name="tell of watches that fail")
            self._start(group, pod_scopes(self._namespaces, (), (), all_engines=self._all_engines))
            for adapters in self._adapters:
                await adapters.synced.wait()
            self._start(group, self._wanted())
            for pods in self._pods.values():
                await pods.synced.wait()
            for endpoints in self._endpoints:
                await self._synced_or_refused(endpoints)
            await self._find_strays()
            self.synced.set()
            self._changed()
            while True:
                self._other_scopes.clear()
                self._start(group, self._wanted())
                self._end()
                await asyncio.sleep(TURN_SECONDS)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TIDY_SECONDS):
                        await self._other_scopes.wait()

    def _all(self) -> list[Informer[Any]]:
        endpoints = (informer for informer in self._endpoints if not _is_refused(informer))
        return [*self._adapters, *endpoints, *self._pods.values()]

    async def _synced_or_refused(self, informer: Informer[Any]) -> None:
        """LoraEndpoints may be younger than this cluster's CRDs and rights: status says the same then."""
        while not informer.synced.is_set() and not _is_refused(informer):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TURN_SECONDS):
                    await informer.synced.wait()

    def _oldest(self) -> Informer[Any]:
        return min(self._all(), key=_heard_at)

    def _wanted(self) -> frozenset[Scope]:
        selectors = ((key.partition("/")[0], labels) for key, labels in self._selectors.items())
        return pod_scopes(self._namespaces, selectors, self._strays, all_engines=self._all_engines)

    def _start(self, group: asyncio.TaskGroup, scopes: Iterable[Scope]) -> None:
        now = time.monotonic()
        for scope in scopes:
            self._wanted_at[scope] = now
            if scope not in self._pods:
                informer = self._pods[scope] = Informer(
                    self._kube, scope, self._cluster.pods, changed=lambda _: self._changed(), left=self._pod_left,
                    relist_seconds=self._relist_seconds, keep=serves_a_model if scope.engines else lambda _: True,
                )  # fmt: skip
                if scope.name:  # which has just left another's sight
                    informer.keys.add(f"{scope.namespace}/{scope.name}")
                self._runs[scope] = group.create_task(informer.run(), name=f"watch {scope}")

    def _end(self) -> None:
        """Those that nothing has wanted for a while: until then their pods may still hold something of ours."""
        now = time.monotonic()
        over = [scope for scope, at in self._wanted_at.items() if now - at > LINGER_SECONDS]
        if not over and not self._strays:
            return
        named = self._named()
        self._strays |= dict.fromkeys(self._strays.keys() & named, now)
        self._strays = {key: at for key, at in self._strays.items() if now - at <= LINGER_SECONDS}
        for scope in over:
            del self._wanted_at[scope]
            self._runs.pop(scope).cancel()
            for key in self._pods.pop(scope).keys:
                if self._is_seen(key):
                    continue
                if key in named:
                    self._stray(key)
                elif self._cluster.pods.forget(key):
                    self._changed()

    def _named(self) -> set[str]:
        """The pods that hold something according to what was published."""
        published = {endpoint.key for endpoint in self._cluster.endpoints.values() if endpoint.said.adapters}
        return published.union(*(_pods_in_status(resource) for resource in self._cluster.adapters.values()))

    async def _find_strays(self) -> None:
        """What status names and no selector shows: most often it is gone."""
        turns = asyncio.Semaphore(AT_ONCE)

        async def find(key: str) -> None:
            scope = one_pod(key)
            with contextlib.suppress(KubeError):
                async with (
                    turns,
                    contextlib.aclosing(self._kube.pages(scope.path, scope.query, CHECK_SECONDS)) as pages,
                ):
                    if not (await anext(pages)).get("items"):
                        return
            self._stray(key)  # also where that could not be seen: its watch will

        await asyncio.gather(*(find(key) for key in self._named() if self._cluster.pods.get(key) is None))

    def _stray(self, key: str) -> None:
        self._strays[key] = time.monotonic()
        self._other_scopes.set()

    def _is_seen(self, key: str) -> bool:
        return any(key in informer.keys for informer in self._pods.values())

    def _adapter_changed(self, key: str) -> None:
        resource = self._cluster.adapters.get(key)
        self._note_selector(key, selector_of(resource) if resource is not None else "")
        if not self._ours((LORA_ADAPTER, key)):
            self._changed()

    def _note_selector(self, key: str, labels: str) -> None:
        if self._selectors.pop(key, "") != labels:
            self._other_scopes.set()
        if labels:
            self._selectors[key] = labels

    def _adapter_left(self, _: Informer[Any], key: str, body: Json | None, version: int) -> None:
        cache = self._cluster.adapters
        if cache.drop(body) if body is not None else cache.absent(key, version):
            self._note_selector(key, "")
            self._changed()

    def _endpoint_changed(self, key: str) -> None:
        if not self._ours((LORA_ENDPOINT, key)):
            self._changed()

    def _endpoint_left(self, _: Informer[Any], key: str, body: Json | None, version: int) -> None:
        cache = self._cluster.endpoints
        if cache.drop(body) if body is not None else cache.absent(key, version):
            self._changed()

    def _pod_left(self, informer: Informer[Any], key: str, body: Json | None, version: int) -> None:
        """It is gone, or only no longer what a selector chooses."""
        cache = self._cluster.pods
        if body is not None and (informer.scope.whole or body["metadata"].get("deletionTimestamp")):
            gone = cache.drop(body)
        elif informer.scope.whole:
            gone = cache.absent(key, version)
        else:
            if cache.get(key) is not None and not self._is_seen(key):
                self._stray(key)
            return
        self._strays.pop(key, None)
        if gone:
            self._changed()

    async def _keep_telling(self) -> None:
        """Of what fails for longer than a moment, once."""
        said = ""
        while True:
            await asyncio.sleep(SAY_SECONDS)
            if self.synced.is_set():
                text = self.stale()
            else:
                errors = (informer.error for informer in self._all() if not informer.synced.is_set())
                text = next((f"cannot list what to look after, trying again: {one}" for one in errors if one), "")
            if not text and said:
                log.info("all watches are fresh again")
                said = ""
            elif text and not said and not self._why():
                log.log(logging.WARNING if self.synced.is_set() else logging.ERROR, "%s", text)
                said = text


def _pods_in_status(resource: Resource) -> Iterator[str]:
    """Keys of pods."""
    return (f"{resource.namespace}/{item.pod}" for item in resource.published.pod_assignments)


def _is_refused(informer: Informer[Any]) -> bool:
    return informer.error is not None and informer.error.status in (403, 404)


def _heard_at(informer: Informer[Any]) -> float:
    """Monotonic. A new one is given the time to say something."""
    return informer.made_at if informer.heard_at is None else informer.heard_at
