"""Every kopf handler. Each notes what was seen and marks the loop dirty; none does any work."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import kopf

from lora_operator.logs import REFUSALS
from lora_operator.observe.cluster import Cache, Cluster
from lora_operator.settings import ENDPOINTS, GROUP, PLURAL, VERSION

log = logging.getLogger(__name__)


class Backoffs(Iterable[float]):
    """Delays between attempts to reach an API server that is away: growing, and without end."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((0.1, 0.2, 0.5, 1.0, 2.0), itertools.repeat(5.0))


AGAIN_SECONDS = 1.0
AGAIN_MAX_SECONDS = 10.0  # each attempt lists everything that may be listed
GOOD_SECONDS = 60.0


class WatchError(Exception):
    """kopf's watch has ended though nobody told it to."""


class Watch:
    """Runs kopf in a thread with a loop of its own and hands every event over to ours.

    A thread because kopf, when it ends, cancels all tasks of its loop that began after it did: in one loop with ours
    that would cut off loads which a graceful stop lets end.
    """

    def __init__(
        self, cluster: Cluster, mark: Callable[[], None], *, namespaces: tuple[str, ...], kubeconfig: str
    ) -> None:
        self._cluster = cluster
        self._mark = mark
        self._namespaces = namespaces
        self._kubeconfig = kubeconfig
        self._stop = threading.Event()
        self._run_ends = threading.Event()  # of kopf, which is started again when it was refused
        self._ended: asyncio.Future[None] | None = None

    def start(self) -> asyncio.Future[None]:
        """Begin to watch; the future ends only when the watch does."""
        loop = asyncio.get_running_loop()
        ended = self._ended = loop.create_future()

        def finish(error: BaseException | None) -> None:
            if not ended.done():
                if error is not None:
                    ended.set_exception(WatchError(f"kopf ended: {type(error).__name__}: {error}"))
                else:
                    ended.set_result(None)

        def run() -> None:
            error: BaseException | None = None
            pause = AGAIN_SECONDS
            while not self._stop.is_set():
                error, began = None, time.monotonic()
                try:
                    asyncio.run(self._watch(loop))
                except BaseException as caught:
                    error = caught
                if getattr(error, "status", None) not in REFUSALS:
                    break
                pause = AGAIN_SECONDS if time.monotonic() - began > GOOD_SECONDS else pause
                self._stop.wait(pause)
                pause = min(pause * 2, AGAIN_MAX_SECONDS)
            # our loop may be closed if the process ends in a hurry
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(finish, error)

        threading.Thread(target=run, name="kopf", daemon=True).start()
        return ended

    async def stop(self) -> None:
        """End the watch."""
        self._stop.set()
        self._run_ends.set()
        if self._ended is not None:
            await asyncio.wait({self._ended}, timeout=5.0)
            if self._ended.done() and not self._ended.cancelled():
                self._ended.exception()  # it was told to end: how no longer matters

    async def _watch(self, ours: asyncio.AbstractEventLoop) -> None:
        self._run_ends = threading.Event()
        if self._stop.is_set():
            return
        try:
            await kopf.operator(
                registry=register(
                    lambda kind, event: ours.call_soon_threadsafe(self._take, kind, event), self._kubeconfig
                ),
                settings=kopf_settings(),
                standalone=True,
                clusterwide=not self._namespaces,
                namespaces=self._namespaces,
                stop_flag=self._run_ends,
            )
        finally:
            self._run_ends.set()  # a thread of kopf's waits for it, and asyncio.run waits for that thread

    def _take(self, kind: str, event: kopf.RawEvent) -> None:
        body = event["object"]
        cache: Cache[Any] = self._cluster.pods
        if kind in (PLURAL, ENDPOINTS):
            cache = self._cluster.adapters if kind == PLURAL else self._cluster.endpoints
        if cache.drop(body) if event["type"] == "DELETED" else cache.put(body):
            log.debug("%s %s: %s", kind, body["metadata"]["name"], event["type"])
            self._mark()


def register(take: Callable[[str, kopf.RawEvent], object], kubeconfig: str) -> kopf.OperatorRegistry:
    """A registry with our handlers, so that nothing depends on import order or module state."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        # not through a client library: the synchronous kubernetes client costs tens of megabytes for a token
        if kubeconfig:
            return kopf.login_with_kubeconfig(**kwargs)
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    def adapter_event(event: kopf.RawEvent, **_: Any) -> None:
        take(PLURAL, event)

    @kopf.on.event(GROUP, VERSION, ENDPOINTS, registry=registry)
    def endpoint_event(event: kopf.RawEvent, **_: Any) -> None:
        take(ENDPOINTS, event)

    @kopf.on.event("v1", "pods", registry=registry)
    def pod_event(event: kopf.RawEvent, **_: Any) -> None:
        take("pods", event)

    return registry


def kopf_settings() -> kopf.OperatorSettings:
    """No Events of kopf's own, no peering, watches that are renewed, and patience with an API server that is away."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True  # what to watch is known: no right to read CRDs and namespaces is needed
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.reconnect_backoff = 0.1
    settings.networking.error_backoffs = Backoffs()
    settings.queueing.error_delays = Backoffs()
    settings.process.ultimate_exiting_timeout = None
    return settings
