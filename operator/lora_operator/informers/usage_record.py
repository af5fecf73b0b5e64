"""Watches the record of which adapters were requested, and keeps it small: see `lora_operator.api.usage_record`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Container, Mapping
from types import MappingProxyType
from typing import Any

from lora_operator.api.usage_record import CONFIG_MAP, Name, key_of, outdated, read_entries
from lora_operator.kube.client import Kube, KubeError
from lora_operator.kube.lease import LeaseLost

log = logging.getLogger(__name__)

WATCH_SECONDS = 10.0  # then another begins: a connection that has silently broken must not go unnoticed
SILENT_SECONDS = 12.0
RETRY_SECONDS = 1.0
REFUSED_SECONDS = 30.0  # the longest until it is tried again without the right to
TIDY_SECONDS = 60.0
TIDY_ATTEMPTS = 5
SKEW_SECONDS = 60.0  # between a record that has just been written and our clock


class Requests:
    """Knows when each adapter was last asked for, in seconds since the epoch; `changed` is called when that is news.

    `ignored` is called for each value that makes no sense, once. `watched` are the namespaces whose adapters are our
    business, all if there are none: other operators may share the record. What cannot be read keeps its last value.
    """

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        changed: Callable[[], None],
        ignored: Callable[[], None],
        watched: Collection[str] = (),
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._ignored = ignored
        self._watched = watched
        self._changed = changed
        self._wall_clock = wall_clock
        self._skewed = False
        self._values: dict[str, str] = {}  # the data as it was last seen
        self._asked: dict[Name, float] = {}  # what makes sense of it
        self._version = ""
        self._told: set[str] = set()  # keys that make no sense
        self._said = ""
        self._task: asyncio.Task[None] | None = None
        self._read = asyncio.Event()
        self._tidying: asyncio.Task[None] | None = None
        self._tidy_at = 0.0

    @property
    def asked(self) -> Mapping[Name, float]:
        return MappingProxyType(self._asked)

    def sync_targets(self, needed: bool) -> None:
        """Watch from now on; not before it is needed, as not everybody gives the right to."""
        if needed and self._task is None:
            self._task = asyncio.create_task(self._run(), name="requests for adapters on demand")

    async def first_reads(self, timeout: float) -> None:
        """Wait until it is known who was asked for before this process began."""
        if self._task is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._read.wait()

    def tidy(self, known: Container[Name], seconds: float, now: float) -> None:
        """Now and then, remove what says nothing any more (see `outdated`); `now` is in seconds since the epoch."""
        clock = asyncio.get_running_loop().time()
        if self._task is None or self._tidying is not None or clock - self._tidy_at < TIDY_SECONDS:
            return
        self._tidy_at = clock
        if self._outdated(known, seconds, now):
            self._tidying = asyncio.create_task(self._tidy(known, seconds, now), name="tidy up requests")

    async def stop(self) -> None:
        tasks = [task for task in (self._task, self._tidying) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        refused = RETRY_SECONDS
        while True:
            pause, began = RETRY_SECONDS, asyncio.get_running_loop().time()
            try:
                await self._follow_changes()
                self._said, refused = "", RETRY_SECONDS
                if asyncio.get_running_loop().time() - began > RETRY_SECONDS:
                    pause = 0.0  # its time was over: whoever is asked for meanwhile need not wait
            except KubeError as error:
                if error.status == 403:
                    # an API server that has just started refuses everything for a moment: only by and by less often
                    pause, refused = refused, min(2 * refused, REFUSED_SECONDS)
                self._tell(error)
            except Exception:
                log.exception("reading ConfigMap %s/%s failed; it is tried again", self._namespace, CONFIG_MAP)
            self._read.set()
            await asyncio.sleep(pause)

    async def _follow_changes(self) -> None:
        """Read it, then take in its changes for a while."""
        try:
            self._take(await self._kube.config_map(self._namespace, CONFIG_MAP))
        except KubeError as error:
            if error.status != 404:
                raise
            self._take({})  # routers make it when there is something to say
        self._read.set()
        path = f"/api/v1/namespaces/{self._namespace}/configmaps"
        while True:
            began = asyncio.get_running_loop().time()
            query = {"fieldSelector": f"metadata.name={CONFIG_MAP}"}
            query |= {"resourceVersion": self._version} if self._version else {}
            watch = self._kube.watch(path, query, seconds=WATCH_SECONDS, silent_seconds=SILENT_SECONDS)
            async with contextlib.aclosing(watch) as events:
                async for event in events:
                    kind, body = event.get("type"), event.get("object")
                    if kind == "ERROR":
                        return  # its version is too old, most often
                    if kind == "BOOKMARK" and isinstance(body, dict):
                        self._version = str(body["metadata"]["resourceVersion"])
                    if kind in ("ADDED", "MODIFIED", "DELETED") and isinstance(body, dict):
                        self._tell_skew(self._take({} if kind == "DELETED" else body))
            if asyncio.get_running_loop().time() - began < RETRY_SECONDS:
                await asyncio.sleep(RETRY_SECONDS)  # it was ended at once: the next may be as well

    def _take(self, body: Mapping[str, Any]) -> Collection[float]:
        """Returns the times of what is news."""
        self._version = str((body.get("metadata") or {}).get("resourceVersion") or "")
        data = body.get("data") or {}
        news = {key: value for key, value in data.items() if self._values.get(key) != value}
        gone = self._values.keys() - data.keys()
        if not news and not gone:
            return ()
        self._values = dict(data)
        found, problems = read_entries(news)
        before, self._asked = self._asked, {**self._asked, **{name: at.timestamp() for name, at in found.items()}}
        if absent := gone | problems.keys():
            self._asked = {name: at for name, at in self._asked.items() if key_of(*name) not in absent}
        self._told -= gone
        for key in problems.keys() - self._told:
            self._told.add(key)
            self._ignored()
            log.warning("ConfigMap %s/%s: %s; it is ignored", self._namespace, CONFIG_MAP, problems[key])
        if any(self._ours(name) for name in (*found, *(before.keys() - self._asked.keys()))):
            self._changed()
        return [at.timestamp() for at in found.values()]

    def _tell_skew(self, written: Collection[float]) -> None:
        """Of times that were written a moment ago. Where clocks differ much, records count too short, or not at all."""
        if not written:
            return
        ahead = max(written) - self._wall_clock()
        skewed = abs(ahead) > SKEW_SECONDS
        if skewed and not self._skewed:
            log.warning(
                "ConfigMap %s/%s: who has just written there has a clock that is %.0f s %s ours; set the clocks of all "
                "nodes by NTP, or adapters with loadOnStartup: false are not kept, or not loaded",
                self._namespace, CONFIG_MAP, abs(ahead), "ahead of" if ahead > 0 else "behind",
            )  # fmt: skip
        self._skewed = skewed

    def _ours(self, name: Name) -> bool:
        return not self._watched or name[0] in self._watched

    def _outdated(self, known: Container[Name], seconds: float, now: float) -> list[str]:
        keys = outdated(self._values, self._asked, known, seconds, now)
        if not self._watched:
            return keys
        ours = {key_of(*name) for name in self._asked if self._ours(name)}
        return [key for key in keys if key in ours]

    async def _tidy(self, known: Container[Name], seconds: float, now: float) -> None:
        try:
            for _ in range(TIDY_ATTEMPTS):
                keys = self._outdated(known, seconds, now)
                if not keys or not self._version:
                    return
                try:
                    # of exactly this version: somebody may be asking for one of them at this moment
                    await self._kube.remove_keys(self._namespace, CONFIG_MAP, keys, self._version)
                    return
                except KubeError as error:
                    if error.status != 409:
                        raise
                    await asyncio.sleep(RETRY_SECONDS)  # until the watch has told what has changed
        except LeaseLost:
            return  # whoever leads now does it
        except KubeError as error:
            log.warning("ConfigMap %s/%s cannot be tidied up: %s", self._namespace, CONFIG_MAP, error)
        finally:
            self._tidying = None

    def _tell(self, error: KubeError) -> None:
        hint = "; give the service account the right to get, watch and patch it" if error.status == 403 else ""
        text = f"ConfigMap {self._namespace}/{CONFIG_MAP} cannot be read: {error}{hint}"
        if text != self._said:
            self._said = text
            log.warning("%s; adapters with loadOnStartup: false are loaded by their traffic alone until then", text)
