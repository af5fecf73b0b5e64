"""Records that adapters were asked for, in the ConfigMap that the operator reads: few writes, and none that is lost.

What comes together is written together, what was recorded a moment ago is not recorded again, and who asks is told only
once it is written.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from lora_operator.api.usage_record import CONFIG_MAP, entry_of, fits
from lora_operator.kube.client import Kube, KubeError
from lora_operator.router.table import Key

log = logging.getLogger(__name__)

AGAIN_SECONDS = 30.0
BATCH_SECONDS = 0.05
REFRESH_BATCH_SECONDS = 5.0
REFRESH_BATCH = 500
MOST_LOADING = 1000


class NotAccepted(Exception):
    """It is not recorded. `kind`: `too-many-loads`, or `not-recorded` where the API server did not take it."""

    def __init__(self, kind: str, reason: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.reason = reason


class UsageRecorder:
    """`run` writes until it is cancelled. `on_demand_seconds` is how long the operator takes a record to count."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        *,
        on_demand_seconds: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._clock = clock
        self._wall_clock = wall_clock
        self._refresh_seconds = on_demand_seconds / 3
        self.dedup_seconds = min(AGAIN_SECONDS, self._refresh_seconds)
        self._recorded: dict[Key, float] = {}  # when
        self._loading: dict[Key, float] = {}  # asked for and not there yet, since when
        self._pending: dict[Key, asyncio.Future[NotAccepted | None]] = {}
        self._refresh: dict[Key, None] = {}
        self._wake = asyncio.Event()
        self._later: asyncio.TimerHandle | None = None
        self._known: dict[str, str] = {}  # what the ConfigMap said last
        self._said = ""
        self._pruned_at = clock()
        self._stopping = False
        self.written = 0  # records
        self.refused = 0

    @property
    def loading(self) -> int:
        """Adapters that were asked for a while ago and are not there."""
        now = self._clock()
        return sum(now - at < AGAIN_SECONDS for at in self._loading.values())

    def due(self, key: Key) -> bool:
        """Whether it was not recorded a moment ago."""
        at = self._recorded.get(key)
        return at is None or self._clock() - at >= self.dedup_seconds

    async def ask(self, key: Key) -> None:
        """Have it recorded that this adapter is wanted; returns when it is. Raises NotAccepted."""
        if self._stopping:
            raise _stopping()
        self._make_room(key)
        future = self._pending.get(key)
        if future is None:
            future = self._pending[key] = asyncio.get_running_loop().create_future()
            self._wake.set()
        refused = await asyncio.shield(future)
        if refused is not None:
            self.refused += 1
            raise refused

    def used(self, key: Key) -> None:
        """It is loaded and was picked: keep the record fresh, some time soon."""
        at = self._recorded.get(key)
        if (at is not None and self._clock() - at < self._refresh_seconds) or key in self._refresh:
            return
        self._refresh[key] = None
        self._write_later()

    def arrived(self, key: Key) -> None:
        """It answers, or nobody knows it any more."""
        self._loading.pop(key, None)

    def stop(self) -> None:
        """Tell those who wait for a record that this one goes."""
        self._stopping = True
        self._answer(dict(self._pending), _stopping())
        if self._later is not None:
            self._later.cancel()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._write()
            if self._pending:
                self._wake.set()
            elif self._refresh:
                self._write_later()
            await asyncio.sleep(BATCH_SECONDS)

    def _write_later(self) -> None:
        if self._later is None and not self._stopping:
            seconds = min(REFRESH_BATCH_SECONDS, self._refresh_seconds / 4)
            self._later = asyncio.get_running_loop().call_later(seconds, self._now)

    def _now(self) -> None:
        self._later = None
        self._wake.set()

    def _make_room(self, key: Key) -> None:
        """Among what is being loaded, for one more. Raises NotAccepted."""
        now = self._clock()
        if key not in self._loading and len(self._loading) >= MOST_LOADING:
            for old in [each for each, at in self._loading.items() if now - at >= AGAIN_SECONDS]:
                del self._loading[old]
            if len(self._loading) >= MOST_LOADING:
                self.refused += 1
                text = f"{MOST_LOADING} adapters are being loaded on demand already; come again when some are there"
                raise NotAccepted("too-many-loads", "TooManyLoads", text)
        self._loading[key] = now

    async def _write(self) -> None:
        asked = dict(self._pending)
        warm = [key for key in self._refresh if key not in asked][:REFRESH_BATCH]
        at = self._wall_clock()
        entries = {key: entry_of(*key, at) for key in (*asked, *warm)}
        try:
            left_out = await self._merge(dict(entries.values()))
        except KubeError as error:
            self._failed(error, asked)
            return
        now = self._clock()
        for key, (identifier, _) in entries.items():
            if identifier not in left_out:
                self._recorded[key] = now
                self.written += 1
        for key in entries:
            self._refresh.pop(key, None)
        self._said = ""
        full = {key: future for key, future in asked.items() if entries[key][0] in left_out}
        text = f"ConfigMap {self._namespace}/{CONFIG_MAP} is full: too many adapters are in use on demand"
        for key in full:
            self._loading.pop(key, None)
        self._answer(full, NotAccepted("too-many-loads", "RecordFull", text))
        self._answer({key: future for key, future in asked.items() if key not in full}, None)
        self._prune(now)

    async def _merge(self, entries: dict[str, str]) -> frozenset[str]:
        """Set these keys; returns those that there is no room for. Raises KubeError."""
        left_out: frozenset[str] = frozenset()
        if not fits(self._known | entries):
            body = await self._kube.config_map(self._namespace, CONFIG_MAP)
            self._known = dict(body.get("data") or {})
            if not fits(self._known | entries):
                left_out = frozenset(entries.keys() - self._known.keys())
        news = {key: value for key, value in entries.items() if key not in left_out}
        if news:
            body = await self._kube.merge_config_map(self._namespace, CONFIG_MAP, news)
            self._known = dict(body.get("data") or {})
        return left_out

    def _failed(self, error: KubeError, asked: dict[Key, asyncio.Future[NotAccepted | None]]) -> None:
        hint = {
            403: "; the service account needs the rights of manifests/install/router.yaml",
            404: f"; there has to be a ConfigMap {CONFIG_MAP} in namespace {self._namespace} (--requests-namespace)",
        }.get(error.status, "")
        text = f"it cannot be recorded who was asked for: {error}{hint}"
        if text != self._said:
            self._said = text
            log.warning("%s", text)
        reason = "ApiServerAway" if error.status == 0 or error.status >= 500 else "ApiServerRefused"
        for key in asked:
            self._loading.pop(key, None)
        self._answer(asked, NotAccepted("not-recorded", reason, text))

    def _answer(self, asked: dict[Key, asyncio.Future[NotAccepted | None]], refused: NotAccepted | None) -> None:
        for key, future in asked.items():
            if self._pending.get(key) is future:
                del self._pending[key]
            if not future.done():
                future.set_result(refused)

    def _prune(self, now: float) -> None:
        """Forget what no longer keeps anything from being recorded again."""
        if now - self._pruned_at < self._refresh_seconds:
            return
        self._pruned_at = now
        for key in [key for key, at in self._recorded.items() if now - at >= self._refresh_seconds]:
            del self._recorded[key]


def _stopping() -> NotAccepted:
    return NotAccepted("not-recorded", "Stopping", "this router is being stopped; ask another replica")
