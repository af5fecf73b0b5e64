"""Probes of the pods' engines: is it up, which release is it, what does it list.

One small task per pod probes `/v1/models` at a paced rate, and fast while a pod is starting, since everything waits
for that moment. A probe that overlaps a load or unload of ours says nothing certain and is repeated. What a probe
means is said in `liveness`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from lora_operator.api.endpoint import Scheme
from lora_operator.engines.liveness import (
    EngineView,
    Thresholds,
    answered,
    assumed,
    instance_of,
    missed,
    refusal_vouched_for,
    vouched_for,
    witnesses,
)
from lora_operator.informers.records import PodRecord
from lora_operator.vllm.client import Endpoint, EngineClient, EngineModel
from lora_operator.vllm.engine_state import EngineState
from lora_operator.vllm.errors import (
    EngineError,
    EngineSleeping,
    EngineUnauthorized,
    EngineUnreachable,
    ModelListTooLong,
)
from lora_operator.vllm.tripwire import Tripwires

__all__ = ["EngineState", "EngineView", "Engines", "Thresholds", "instance_of"]

log = logging.getLogger(__name__)

# While an engine starts it is asked every 1/2000 of the time it has been starting, within these bounds, so that the
# delay stays invisible next to the start itself and the cost stays bounded: a refused connection takes 0.1 ms.
STARTING_FRACTION = 1 / 2000
STARTING_FASTEST = 0.008
STARTING_SLOWEST = 0.25
STARTING_PER_SECOND = 200.0
REFUSED_AGAIN_SECONDS = 0.05  # until a refused connection is tried once more: it may have been an accident
# Probes begin in bunches, as waking up costs more than a probe does, and few at a time, so that the loop goes on.
BUNCH_SECONDS = 0.1
AT_A_TIME = 32
PATIENT_SECONDS = 0.25  # who does not answer for so long no longer counts among those, and holds up nobody else
TOO_LONG_AGAIN_SECONDS = 10.0  # until a list that was too long to be read is asked for again
BASES_MAX = 64  # names of one base model that are kept
SECONDS_PER_MODEL = 0.0005  # a long list costs time to read: such a pod is probed less often


class Engines:
    """Looks after one task per participating pod.

    `changed` is called with the pod's key when a view changed, `gone` with what an engine stopped listing without us.
    """

    def __init__(
        self,
        client: EngineClient,
        changed: Callable[[str], None],
        gone: Callable[[str, tuple[EngineModel, ...]], None] = lambda pod, models: None,
        *,
        probe_seconds: float,
        probes_per_second: float,
        thresholds: Thresholds,
    ) -> None:
        self._client = client
        self._changed = changed
        self._gone = gone
        self._probe_seconds = probe_seconds
        self._probes_per_second = probes_per_second
        self._thresholds = thresholds
        self.views: dict[str, EngineView] = {}
        self._records: dict[str, PodRecord] = {}
        self._heard_at: dict[str, float] = {}  # monotonic: when each answered last
        self._keys: dict[str, str | None] = {}  # API keys by pod
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wakes: dict[str, asyncio.Event] = {}
        self._epochs: dict[str, int] = {}  # counts our own effects on a pod
        self._first: dict[str, asyncio.Event] = {}
        self._probed: dict[str, list[asyncio.Future[None]]] = {}  # who waits for a probe that begins after now
        self._assumed: Mapping[str, tuple[EngineModel, ...]] = {}
        self._states: Counter[EngineState] = Counter()
        self._turns = asyncio.Semaphore(AT_A_TIME)
        self._tripwires = Tripwires(self.look_now)

    def assume(self, held: Mapping[str, tuple[EngineModel, ...]]) -> None:
        """What status says that pods hold: an operator that has just started takes nothing from a pod before it has
        really asked it. Counts for pods that are followed from now on, until they are all known."""
        self._assumed = held

    def sync_targets(self, records: Mapping[str, PodRecord], api_keys: Mapping[str, str | None]) -> None:
        """Probe exactly these pods from now on."""
        for key in [key for key in self._tasks if key not in records]:
            self._tasks.pop(key).cancel()
            self._tripwires.cut(key)
            self._first[key].set()  # nobody has to wait for it any more
            self._tell_waiting(self._probed.pop(key, []))
            self._states[self.views[key].state] -= 1
            for table in (
                self.views,
                self._records,
                self._heard_at,
                self._wakes,
                self._epochs,
                self._first,
                self._keys,
            ):
                table.pop(key, None)
        for key, record in records.items():
            known = self._records.get(key)
            rekeyed = self._keys.get(key) != api_keys.get(key)
            self._records[key] = record
            self._keys[key] = api_keys.get(key)
            if key not in self._tasks:
                self._first[key] = asyncio.Event()
                self._wakes[key] = asyncio.Event()
                self._epochs[key] = 0
                held = self._assumed.get(key, ()) if record.pod.container_running else ()
                self.views[key] = assumed(record, held, time.monotonic()) if held else EngineView(instance_of(record))
                self._states[self.views[key].state] += 1
                self._begin(key)
            elif known is not None and _moved_on(known, record):
                # a probe that is under way waits for an answer of what is not there any more
                self._tasks[key].cancel()
                self._begin(key)
            elif rekeyed:
                self._wakes[key].set()

    def _begin(self, key: str) -> None:
        self._tasks[key] = asyncio.create_task(self._watch(key), name=f"engine {key}")

    async def first_probes(self, timeout: float) -> None:
        """Wait until every followed pod was probed once (or the time is over)."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                for event in list(self._first.values()):
                    await event.wait()

    async def next_probe(self, key: str) -> None:
        """Probe the pod now, and wait until a probe that began after this moment has ended (or the pod is gone)."""
        if key in self._tasks:
            ended = asyncio.get_running_loop().create_future()
            self._probed.setdefault(key, []).append(ended)
            self._wakes[key].set()
            await ended

    def refusing(self) -> set[str]:
        """The pods whose engines do not accept the API key that they are given."""
        return {key for key, view in self.views.items() if view.reason == EngineUnauthorized.reason}

    def endpoint(self, key: str) -> Endpoint:
        """Where the pod's engine listens now.

        Raises:
            EngineUnreachable: the pod is gone.
        """
        if key not in self._records:
            raise EngineUnreachable(key, f"pod {key} is gone", refused=True)
        pod = self._records[key].pod
        secure = pod.scheme is Scheme.HTTPS
        return Endpoint(pod.ip or "", pod.port, self._keys.get(key), secure=secure, further_ports=pod.further_ports)

    def touch(self, key: str) -> None:
        """An effect of ours begins or ends: a probe under way is not to be believed."""
        if key in self._epochs:
            self._epochs[key] += 1

    def look_now(self, key: str) -> None:
        """Probe this pod as soon as possible."""
        if key in self._wakes:
            self._wakes[key].set()

    def note_loaded(self, key: str, instance: str, model: EngineModel) -> None:
        """The engine, in this life of it, has confirmed a load."""
        view = self.views.get(key)
        if view is not None and view.instance == instance and view.listed(model.name) != model:
            self._set(key, view.with_model(model))

    def note_unloaded(self, key: str, instance: str, name: str) -> None:
        """The engine, in this life of it, has confirmed an unload."""
        view = self.views.get(key)
        if view is not None and view.instance == instance and view.listed(name) is not None:
            self._set(key, view.without_model(name))

    def note_settled(self, key: str) -> None:
        """The pod has all that was planned for it; from now on it may be serving (see `fresh_concurrency`)."""
        view = self.views.get(key)
        if view is not None and not view.has_served:
            self.views[key] = replace(view, has_served=True)

    def note_disabled(self, key: str, message: str) -> None:
        """The engine has no routes to load and unload."""
        view = self.views.get(key)
        if view is not None:
            self._set(key, replace(view, lora_disabled=message))

    async def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for waiting in self._probed.values():
            self._tell_waiting(waiting)
        self._tasks.clear()
        self._tripwires.cut_all()

    def _set(self, key: str, view: EngineView) -> None:
        before = self.views.get(key)
        if before is None:
            return
        if before != view or (before.misses, before.refusals) != (view.misses, view.refusals):
            self.views[key] = view  # else the same object stays: much is worked out from it once
        if before != view:
            self._states[before.state] -= 1
            self._states[view.state] += 1
            self._tell(key, before, view)
            self._changed(key)

    def _tell(self, key: str, before: EngineView, view: EngineView) -> None:
        """For whoever is on call: why replicas go and come. The first sight of a fleet that is up is no news."""
        was_up = before.keeps
        if was_up and before.instance.partition("/")[0] != view.instance.partition("/")[0]:
            log.info("pod %s has given way to a new one of that name", key, extra={"pod": key})
        elif view.state in (EngineState.STARTING, EngineState.DOWN) and was_up:
            level = logging.INFO if self._records[key].pod.terminating else logging.WARNING
            log.log(level, "the engine of pod %s does not answer any more: %s", key, view.error, extra={"pod": key})
        elif view.state is EngineState.UP and before.state in (EngineState.STARTING, EngineState.DOWN):
            log.info("the engine of pod %s answers, vLLM %s", key, view.release, extra={"pod": key})
        elif view.state is EngineState.UP and before.instance != view.instance and was_up:
            log.warning("the engine of pod %s has started anew, and has nothing loaded", key, extra={"pod": key})

    def _delay(self, key: str) -> float:
        view = self.views[key]
        states = self._states
        if view.refusals and view.state is not EngineState.STARTING:
            return REFUSED_AGAIN_SECONDS
        if view.state in (EngineState.STARTING, EngineState.UNKNOWN):
            wanted = (time.monotonic() - view.since) * STARTING_FRACTION
            fastest = max(STARTING_FASTEST, states[EngineState.STARTING] / STARTING_PER_SECOND)
            return min(max(wanted, fastest), max(STARTING_SLOWEST, fastest))
        if view.reason == ModelListTooLong.reason:
            return max(self._probe_seconds, TOO_LONG_AGAIN_SECONDS)
        # who is missed is asked at the pace of a small fleet, so that thresholds pass in their time
        many = states[EngineState.SUSPECT] if view.state is EngineState.SUSPECT else len(self._tasks)
        return max(self._probe_seconds, many / self._probes_per_second, len(view.models) * SECONDS_PER_MODEL)

    async def _watch(self, key: str) -> None:
        first = True
        while True:
            wake = self._wakes[key]
            wake.clear()
            waiting = self._probed.pop(key, [])
            turn = _Turn(self._turns)
            try:
                await turn.begin()
                await self._look(key)
            except Exception:
                log.exception("probing the engine of pod %s failed; it is tried again", key)
            finally:
                turn.end()
                self._tell_waiting(waiting)
            self._first[key].set()
            delay = self._delay(key)
            if first and self.views[key].state is EngineState.UP:
                delay *= random.random()  # spread the fleet over the bunches
                first = False
            at = asyncio.get_running_loop().time() + delay
            with suppress(TimeoutError):
                async with asyncio.timeout_at(at if delay < BUNCH_SECONDS else _next_bunch(at)):
                    await wake.wait()

    @staticmethod
    def _tell_waiting(waiting: Iterable[asyncio.Future[None]]) -> None:
        for ended in waiting:
            if not ended.done():
                ended.set_result(None)

    async def _look(self, key: str) -> None:
        record = self._records[key]
        instance = instance_of(record)
        now = time.monotonic()
        if not record.pod.container_running or not record.pod.ip:
            down = EngineView(instance, EngineState.DOWN, since=now, error="its container does not run")
            self._tripwires.cut(key)
            self._set(key, replace(down, since=self._since(key, down)))
            return
        epoch = self._epochs[key]
        release = self._known(key, instance, now).release
        try:
            endpoint = self.endpoint(key)
            if not release and self.views[key].state is EngineState.STARTING:  # adapters wait for this answer
                models, release = await asyncio.gather(self._client.models(endpoint), self._client.version(endpoint))
            else:
                models = await self._client.models(endpoint)
                release = release or await self._client.version(endpoint)
            if record.pod.may_sleep and await self._client.is_sleeping(endpoint):
                raise EngineSleeping(str(endpoint))
        except EngineError as error:
            self._missed(key, instance, error)
            return
        now = self._heard_at[key] = time.monotonic()
        view = self._known(key, instance, now)  # as it is now: an effect of ours may have ended meanwhile
        overlapped = self._epochs.get(key) != epoch or instance_of(self._records[key]) != instance
        if overlapped:
            if view.keeps and view.release:  # it answers, and what it has is known better
                self._set(key, answered(view, view.release, view.models, now))
                return  # at once it would be overlapped as well, where one load follows the other
            # the first sight of a new engine matters more than what an overlapping effect left open
            self._wakes[key].set()
        adapters = tuple(model for model in models if model.parent is not None)
        bases = tuple(model for model in models if model.parent is None)[:BASES_MAX]
        if adapters == view.models:
            adapters = view.models
        elif view.release and not overlapped:  # else nobody has seen yet what it had
            there = {model.name: model for model in adapters}
            gone = tuple(
                model
                for model in view.models
                if (same := there.get(model.name)) is None or not same.is_from(model.root)
            )
            if gone:
                self._gone(key, gone)
        if not view.release:
            self._tripwires.cut(key)  # that of an earlier container instance
        self._set(key, answered(view, release, adapters, now, bases))
        await self._tripwires.stretch(key, endpoint)

    def _missed(self, key: str, instance: str, error: EngineError) -> None:
        if instance_of(self._records[key]) != instance:
            return
        if isinstance(error, EngineUnreachable) and error.own_shortage:
            log.warning("pod %s could not be probed: %s", key, error)
            return
        now = time.monotonic()
        refused = isinstance(error, EngineUnreachable) and error.refused
        vouch = refusal_vouched_for if refused else vouched_for
        vouched = vouch(key, self.views, self._records, self._heard_at)
        for other in witnesses(key, self.views, self._records) if vouched is None else ():
            self.look_now(other)
        view = missed(self._known(key, instance, now), error, now, self._thresholds, vouched=vouched)
        if view.state is EngineState.STARTING:
            self._tripwires.cut(key)
        self._set(key, view)

    def _known(self, key: str, instance: str, now: float) -> EngineView:
        """What is known of this container instance so far."""
        view = self.views[key]
        return view if view.instance == instance else EngineView(instance, EngineState.STARTING, since=now)

    def _since(self, key: str, view: EngineView) -> float:
        """Since when the engine has been in the state of `view`: a probe that finds the same is no news."""
        before = self.views[key]
        same = (before.instance, before.state, before.error) == (view.instance, view.state, view.error)
        return before.since if same else view.since


class _Turn:
    """One of those that may probe at a time, for as long as the engine answers soon."""

    def __init__(self, turns: asyncio.Semaphore) -> None:
        self._turns = turns
        self._timer: asyncio.TimerHandle | None = None

    async def begin(self) -> None:
        await self._turns.acquire()
        self._timer = asyncio.get_running_loop().call_later(PATIENT_SECONDS, self.end)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._turns.release()


def _next_bunch(at: float) -> float:
    """The first moment from `at` on at which a bunch begins; the same for all that begin together."""
    return math.ceil(at / BUNCH_SECONDS) * BUNCH_SECONDS


def _moved_on(before: PodRecord, after: PodRecord) -> bool:
    """Whether the pod's container began, ended, or gave way to another one, or can be reached only now."""
    return (
        instance_of(before) != instance_of(after)
        or before.pod.container_running != after.pod.container_running
        or before.pod.ip != after.pod.ip
    )
