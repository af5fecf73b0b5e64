"""Keeps a cache in step with one list of the API server: list it page by page, then watch from there on.

Nothing says of a silent watch whether there is no news or no connection (bookmarks come only where versions go on). So
a watch is short: the API server ends it after a second, which says that all came through, and the next one begins where
it ended, on the same connection. One that does not end in time is broken, whatever TCP thinks, and is made again on
new ones; what changed meanwhile comes then. The list is read again only where its version is no longer known, and now
and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from typing import Generic

from lora_operator.informers.cache import Cache, T
from lora_operator.informers.records import key_of, version_of
from lora_operator.informers.scopes import Scope
from lora_operator.kube.client import OPENED, Json, Kube, KubeError, Silent

log = logging.getLogger(__name__)

WATCH_SECONDS = 1.0
SILENT_SECONDS = 1.6
SILENT_MOST_SECONDS = 5.0  # for an API server that is that slow
SLOWER = 1.5  # than the last time it may be
PAGE = 200
PAGE_SECONDS = 60.0
CHECK_SECONDS = 2.0
PAUSES = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0)  # of attempts that follow each other
AT_ONCE = 25  # objects that are read before others have their turn
GONE = 410
NOT_NOW = frozenset({401, 403, 429})  # what may be had again as it was


class Informer(Generic[T]):
    """Call `run` once. `changed` is called with the key when something is news; `left` with the key of what this scope
    no longer shows, its last state if that is known, and the version from which on that is so. What is not to `keep` is
    passed over."""

    def __init__(
        self,
        kube: Kube,
        scope: Scope,
        cache: Cache[T],
        *,
        changed: Callable[[str], None],
        left: Callable[[Informer[T], str, Json | None, int], None],
        relist_seconds: float,
        keep: Callable[[Json], bool] = lambda body: True,
    ) -> None:
        self._kube = kube
        self._own: Kube | None = None  # connections that nobody else has, and that are given up together
        self.scope = scope
        self._cache: Cache[T] = cache
        self._changed = changed
        self._left: Callable[[Informer[T], str, Json | None, int], None] = left
        self._relist_seconds = relist_seconds
        self._keep = keep
        self._relist_at = 0.0
        self._version = 0  # where the watch is; 0: a list is needed
        self._sure = True  # that this version still means something
        self._silent_seconds = SILENT_SECONDS
        self.keys: set[str] = set()  # of what this scope shows
        self.synced = asyncio.Event()
        self.made_at = time.monotonic()
        # monotonic: when the API server last said something while we were in step
        self.heard_at: float | None = None
        self.error: KubeError | None = None  # why the last attempt failed, until one works

    async def run(self) -> None:
        """Until cancelled."""
        failed = 0
        try:
            while True:
                try:
                    await self._once()
                    failed = 0
                except KubeError as error:
                    await self._fail(error, failed)
                    # all who lose their connection at once must not come back at once
                    await asyncio.sleep(PAUSES[min(failed, len(PAUSES) - 1)] * random.uniform(0.8, 1.2))
                    failed += 1
        finally:
            await self._give_up_connections()

    async def _once(self) -> None:
        if self._own is None:
            self._own = self._kube.with_own_connections()
        kube = self._own
        if not self._sure:
            await self._check(kube)
        if not self._version or time.monotonic() >= self._relist_at:
            await self._list(kube)
        await self._watch(kube)

    async def _fail(self, error: KubeError, failed: int) -> None:
        if 400 <= error.status < 500 and error.status not in NOT_NOW:
            self._version = 0  # the place from which to go on is no longer known
        self._sure = False
        if isinstance(error, Silent) and failed:  # the new connection as well: maybe it is only slow
            self._silent_seconds = min(self._silent_seconds * 2, SILENT_MOST_SECONDS)
        if error.status != GONE:
            self.error = error
        log.debug("%s: %s", self.scope, error)
        await self._give_up_connections()

    async def _give_up_connections(self) -> None:
        """Idle ones too: they may be as silent as the one that was noticed."""
        if self._own is not None:
            kube, self._own = self._own, None
            await kube.close()

    async def _check(self, kube: Kube) -> None:
        """Whether the API server's versions have begun anew (etcd was restored). A watch from a version that is yet to
        come would be silent about everything before it."""
        query = self.scope.query | {"limit": "1"}
        async with contextlib.aclosing(kube.pages(self.scope.path, query, CHECK_SECONDS)) as pages:
            self._notice_rewind(version_of(await anext(pages)))

    def _notice_rewind(self, version: int) -> None:
        if version < self._version:
            log.warning(
                "%s: the API server has gone back from version %d to %d, as after a restored backup; all is read anew",
                self.scope, self._version, version,
            )  # fmt: skip
            self._cache.rewind()
            self._version = 0
        self._sure = True

    async def _list(self, kube: Kube) -> None:
        shown: set[str] = set()
        made_at = count = 0
        query = self.scope.query | {"limit": str(PAGE)}
        async with contextlib.aclosing(kube.pages(self.scope.path, query, PAGE_SECONDS)) as pages:
            async for page in pages:
                if not made_at:
                    made_at = version_of(page)
                    self._notice_rewind(made_at)
                for body in page.get("items") or ():
                    if self._keep(body):
                        shown.add(key_of(body))
                        self._see(body)
                    count += 1
                    if count % AT_ONCE == 0:
                        await asyncio.sleep(0)
        gone, self.keys = self.keys - shown, shown
        for key in gone:
            self._left(self, key, None, made_at)
        self._version = made_at
        self._relist_at = time.monotonic() + self._relist_seconds * random.uniform(0.9, 1.1)
        self._heard()
        self.synced.set()

    async def _watch(self, kube: Kube) -> None:
        """Follow changes for a while. Raises KubeError."""
        began, count = time.monotonic(), 0
        query = self.scope.query | {"resourceVersion": str(self._version)}
        watch = kube.watch(self.scope.path, query, seconds=WATCH_SECONDS, silent_seconds=self._silent_seconds)
        async with contextlib.aclosing(watch) as events:
            async for event in events:
                self._take(event)
                self._heard()
                count += 1
                if count % AT_ONCE == 0:
                    await asyncio.sleep(0)
        took = time.monotonic() - began
        if took < WATCH_SECONDS / 2:
            raise KubeError(0, f"watching {self.scope.path}: it was ended at once")
        self._silent_seconds = max(SILENT_SECONDS, took * SLOWER)

    def _heard(self) -> None:
        if self.error is not None and not 400 <= self.error.status < 500:
            self._kube.back()
        self.heard_at, self.error = time.monotonic(), None

    def _take(self, event: Json) -> None:
        """Raises KubeError for an ERROR."""
        kind, body = event.get("type"), event.get("object") or {}
        if kind == "ERROR":
            raise KubeError(int(body.get("code") or 0), f"watching {self.scope.path}: {body.get('message')}")
        if kind == OPENED:
            return
        if kind in ("ADDED", "MODIFIED") and self._keep(body):
            self.keys.add(key_of(body))
            self._see(body)
        elif kind == "DELETED":
            self.keys.discard(key_of(body))
            self._left(self, key_of(body), body, version_of(body))
        self._version = version_of(body) or self._version

    def _see(self, body: Json) -> None:
        try:
            news = self._cache.see(body)
        except Exception:  # one object must not keep all others from being seen
            log.exception("%s %s cannot be read", self.scope.plural, key_of(body))
            return
        if news:
            self._changed(key_of(body))
