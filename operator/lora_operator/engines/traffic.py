"""Looks at the engines' /metrics, slowly and beside everything else, and feeds what it sees into the demand.

One look at each engine in a period, spread evenly, at a bounded rate over the whole fleet. Nothing waits for a look: an
engine that hangs costs a time-out of its own, and is looked at again in its turn.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Container, Iterable, Mapping

from lora_operator.engines.demand import Demand, Name
from lora_operator.engines.ownership import our_model
from lora_operator.engines.prober import Engines, EngineView
from lora_operator.engines.shares import Shares
from lora_operator.informers.records import PodRecord
from lora_operator.vllm.client import EngineClient
from lora_operator.vllm.engine_state import EngineState
from lora_operator.vllm.errors import EngineError
from lora_operator.vllm.metrics import EngineMetrics

log = logging.getLogger(__name__)

LOOKS_PER_SECOND = 20.0
AT_A_TIME = 16
BUNCH_SECONDS = 0.5  # what falls due in so long is asked together: waking up costs more than a look
LOOKS_PER_HALF_LIFE = 3.0  # with fewer, single looks would show


class Activity:
    """Knows the demand of every adapter that is loaded somewhere; `changed` is called when it is news.

    `seen` hears of every page, with the pod's key.
    """

    def __init__(
        self,
        engines: Engines,
        client: EngineClient,
        changed: Callable[[], None],
        *,
        period_seconds: float,
        half_life_seconds: float,
        seen: Callable[[str, EngineMetrics], None] = lambda pod, page: None,
    ) -> None:
        self._engines = engines
        self._client = client
        self._changed = changed
        self._seen = seen
        self._period = period_seconds
        self._half_life = max(half_life_seconds, LOOKS_PER_HALF_LIFE * period_seconds)
        self._demand = Demand(self._half_life)
        self._records: Mapping[str, PodRecord] = {}
        self._wanted: Container[Name] = ()
        self._shares: dict[str, tuple[str, Shares, float]] = {}  # pod -> container instance, shares, last probe
        self._used: dict[Name, float] = {}
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def demands(self) -> Mapping[Name, float] | None:
        """Requests per second by namespace and public name, as far as known; None if it is not measured."""
        return self._demand.demands if self._period > 0 else None

    @property
    def used(self) -> Mapping[Name, float]:
        """When each adapter was last seen to be busy, in seconds since the epoch; of most that is known after the first
        look, as engines remember it."""
        return self._used

    def sync_targets(self, records: Mapping[str, PodRecord], wanted: Container[Name]) -> None:
        """Look at exactly these pods from now on, and remember exactly these adapters."""
        self._records = records
        self._wanted = wanted
        if self._task is None and self._period > 0:
            self._task = asyncio.create_task(self._run(), name="engine metrics")

    async def stop(self) -> None:
        tasks = [*self._looks.values(), *([self._task] if self._task is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._demand.keep(self._wanted)
            self._used = {name: at for name, at in self._used.items() if name in self._wanted}
            for key in [key for key in self._shares if key not in self._records]:
                del self._shares[key]
            keys = [key for key, view in self._engines.views.items() if view.state is EngineState.UP]
            pause = max(self._period / max(len(keys), 1), 1 / LOOKS_PER_SECOND)
            together = max(1, min(round(BUNCH_SECONDS / pause), AT_A_TIME // 2))
            for number, key in enumerate(keys or ("",), 1):
                if key in self._records and key not in self._looks and len(self._looks) < AT_A_TIME:
                    look = self._looks[key] = asyncio.create_task(self._look(key), name=f"metrics of {key}")
                    look.add_done_callback(lambda _, key=key: self._looks.pop(key, None))  # type: ignore[misc]
                if number % together == 0 or number >= len(keys):
                    await asyncio.sleep(pause * ((number - 1) % together + 1))

    async def _look(self, key: str) -> None:
        try:
            page = await self._client.metrics(self._engines.endpoint(key))
        except EngineError as error:
            log.debug("no metrics of pod %s: %s", key, error)
            self._engines.look_now(key)  # which finds out whether it is up
            return
        view, record = self._engines.views.get(key), self._records.get(key)
        if view is not None and record is not None and view.state is EngineState.UP:
            try:
                self._seen(key, page)
                self._take(record, view, page, time.monotonic(), time.time())
            except Exception:
                log.exception("reading the metrics of pod %s failed; it is tried again", key)

    def _take(self, record: PodRecord, view: EngineView, page: EngineMetrics, now: float, wall: float) -> None:
        if page.requests_finished is None:
            return  # it keeps no statistics
        instance, shares, since = self._shares.get(record.key, ("", Shares(self._half_life), now))
        if instance != view.instance:
            shares, since = Shares(self._half_life), now
        self._shares[record.key] = (view.instance, shares, now)
        divided = shares.look(page, now)
        found = [our_model(model, record.pod.adapter_root) for model in view.models]
        ours = [((record.pod.namespace, model.name), model.engine_name) for model in found if model is not None]
        self._note_use(ours, shares.busy, page, wall)
        if divided is None:
            return  # the first look at this container instance: what it counted so far is older
        listed: set[Name] = set()
        finished: dict[Name, float] = {}
        for name, engine_name in ours:
            listed.add(name)
            finished[name] = finished.get(name, 0.0) + divided.get(engine_name, 0.0)
        if self._demand.add(listed, finished, since, now):
            self._changed()

    def _note_use(
        self, ours: Iterable[tuple[Name, str]], busy: Container[str], page: EngineMetrics, wall: float
    ) -> None:
        before: dict[str, float] = {}  # by the engine's clock, which need not be right
        for moment in reversed(page.moments):
            before |= dict.fromkeys(moment.adapters, min(moment.at, wall))
        for name, engine_name in ours:
            at = wall if engine_name in busy else before.get(engine_name)
            if at is not None:
                self._used[name] = max(self._used.get(name, 0.0), at)
