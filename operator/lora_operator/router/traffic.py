"""How busy each engine is, from its /metrics, for the index that picks are made from.

Every pod of the index is asked once in a period, spread evenly, at a bounded rate and few at a time. An engine that
hangs, is away or talks nonsense costs a time-out of its own and is asked less and less often. What was known of it goes
stale, and the mean of the others stands in for it then: it counts neither as idle nor as full.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

from aiohttp import ClientSession

from lora_operator.process.backoff import doubled
from lora_operator.vllm.answers import Endpoint as EngineAddress
from lora_operator.vllm.client import EngineClient, Timeouts, new_session
from lora_operator.vllm.errors import EngineError
from lora_operator.vllm.metrics import EngineMetrics
from lora_scheduler.routing import Endpoint, EngineLoad, Index

log = logging.getLogger(__name__)

STALE_SECONDS = 10.0  # from this age on a load is not believed
LOOKS_PER_SECOND = 200.0  # one takes about a millisecond of processor time
LONGEST_PERIOD = 4.0  # also of a fleet that this takes more looks for: loads must not go stale between two
IDLE_PERIOD = 8.0  # while nobody picks: one that is missed then goes stale, and is asked before it matters
AT_A_TIME = 64
LOOK_TIMEOUTS = Timeouts(connect=1.0, metrics=2.0)
SLOWEST_SECONDS = 15.0  # between two looks at an engine that fails
JITTER = (0.9, 1.1)
TICKS = 20  # in a period
FASTEST_TICK, SLOWEST_TICK = 0.005, 0.2

OK, NO_LOAD, DEFECT = "Ok", "NoLoad", "Defect"  # how a look ended, if not by the reason of an EngineError


@dataclass(slots=True)
class _Watched:
    """`due`: when it is asked next. `failures`: looks that failed one after the other."""

    endpoint: Endpoint
    due: float
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Ages:
    """Pods whose load counts, pods of which none or only a stale one is known, and the greatest age of the former."""

    fresh: int
    stale: int
    oldest_seconds: float


class Loads:
    """Tells `index` of the pods that it has, until `run` is cancelled. `counted` hears how each look ended.

    `period_seconds` 0: it asks nobody. `needed`: whether somebody picks; while nobody does, loads are only kept from
    going stale. `session`: whoever talks to these engines already lends the connections that there are.
    """

    def __init__(
        self,
        index: Index,
        clock: Callable[[], float],
        *,
        period_seconds: float,
        counted: Callable[[str], None] = lambda result: None,
        needed: Callable[[], bool] = lambda: True,
        timeouts: Timeouts = LOOK_TIMEOUTS,
        dice: random.Random | None = None,
        session: ClientSession | None = None,
    ) -> None:
        self._index = index
        self._session = session
        self._clock = clock
        self._period_seconds = period_seconds
        self._counted = counted
        self._needed = needed
        self._was_needed = True
        self._timeouts = timeouts
        self._dice = dice or random.Random()
        self._watched: dict[str, _Watched] = {}
        self._looks: dict[str, asyncio.Task[None]] = {}

    @property
    def period_seconds(self) -> float:
        """Between two looks at one engine, in a fleet of this size."""
        least = min(len(self._watched) / LOOKS_PER_SECOND, LONGEST_PERIOD) if self._was_needed else IDLE_PERIOD
        return max(self._period_seconds, least)

    def ages(self) -> Ages:
        now = self._clock()
        ages = [now - at for pod in self._watched if (at := self._index.observed_at(pod)) is not None]
        fresh = [age for age in ages if age <= STALE_SECONDS]
        return Ages(len(fresh), len(self._watched) - len(fresh), max(fresh, default=0.0))

    async def run(self) -> None:
        """Until cancelled."""
        if not self._period_seconds:
            await asyncio.Event().wait()
        async with nullcontext(self._session) if self._session is not None else new_session() as session:
            client = EngineClient(session, timeouts=self._timeouts)
            try:
                while True:
                    self._look_at_those_due(client)
                    await asyncio.sleep(min(max(self.period_seconds / TICKS, FASTEST_TICK), SLOWEST_TICK))
            finally:
                looks = list(self._looks.values())
                for look in looks:
                    look.cancel()
                await asyncio.gather(*looks, return_exceptions=True)

    def heard(self, pod: str, page: EngineMetrics) -> None:
        """Metrics that this pod's engine gave just now, to whomever."""
        one, now = self._watched.get(pod), self._clock()
        if one is None:
            return
        load = load_of(page, now)
        if load.requests is None:  # an engine says how many it has from the beginning on: this is none
            self._fail(one, now, NO_LOAD)
            return
        self._index.observe(pod, load, now=now)
        one.failures, one.due = 0, now + self.period_seconds * self._dice.uniform(*JITTER)
        self._counted(OK)

    def _look_at_those_due(self, client: EngineClient) -> None:
        now = self._clock()
        self._notice_need(now)
        self._follow(now)
        due = sorted((one.due, pod) for pod, one in self._watched.items() if one.due <= now and pod not in self._looks)
        for _, pod in due[: AT_A_TIME - len(self._looks)]:
            look = self._looks[pod] = asyncio.create_task(self._look(client, pod), name=f"load of {pod}")
            look.add_done_callback(lambda _, pod=pod: self._looks.pop(pod, None))  # type: ignore[misc]

    def _notice_need(self, now: float) -> None:
        before, self._was_needed = self._was_needed, self._needed()
        if self._was_needed and not before:
            for one in self._watched.values():
                if not one.failures:
                    one.due = min(one.due, now + self._dice.random() * self.period_seconds)

    def _follow(self, now: float) -> None:
        """Watch exactly the pods that the index has."""
        endpoints = self._index.endpoints()
        for endpoint in endpoints:
            one = self._watched.get(endpoint.pod)
            if one is None or one.endpoint.address != endpoint.address:
                due = now + self._dice.random() * self.period_seconds
                self._watched[endpoint.pod] = _Watched(endpoint, due)
            elif one.endpoint is not endpoint:
                one.endpoint = endpoint
                if one.failures:  # something about it has changed: perhaps that
                    one.failures, one.due = 0, now
        if len(self._watched) > len(endpoints):
            there = {endpoint.pod for endpoint in endpoints}
            for pod in [pod for pod in self._watched if pod not in there]:
                del self._watched[pod]

    async def _look(self, client: EngineClient, pod: str) -> None:
        one = self._watched[pod]
        try:
            page = await client.metrics(_engine_at(one.endpoint.address))
            if self._watched.get(pod) is one:
                self.heard(pod, page)
        except EngineError as error:
            log.debug("no load of pod %s: %s", pod, error)  # whether it is up, others find out and tell
            self._fail(one, self._clock(), error.reason)
        except Exception:
            log.exception("reading the load of pod %s failed; it is tried again", pod)
            self._fail(one, self._clock(), DEFECT)

    def _fail(self, one: _Watched, now: float, result: str) -> None:
        one.failures += 1
        pause = doubled(self.period_seconds, one.failures, max(SLOWEST_SECONDS, self.period_seconds))
        one.due = now + pause * self._dice.uniform(*JITTER)
        self._counted(result)


def load_of(page: EngineMetrics, now: float) -> EngineLoad:
    """What routing takes from an engine's page that was read now."""
    idle = page.requests_running == 0 and not page.requests_waiting
    return EngineLoad(
        at=now,
        running=page.requests_running,
        waiting=page.requests_waiting,
        kv_cache_usage=page.kv_cache_usage,
        # an engine that has nothing to do goes on to show the adapters that were last busy
        running_adapters=frozenset() if idle else page.active_adapters,
        max_loras=page.max_loras,
    )


def _engine_at(address: str) -> EngineAddress:
    """Without an API key: /metrics wants none, in any release."""
    host, _, port = address.rpartition(":")
    return EngineAddress(host.strip("[]"), int(port))
