"""What each pod's engine says: is it up, which release is it, what does it list.

One small task per pod looks at `/v1/models` at a paced rate, and fast while a pod is starting, since everything waits
for that moment. A look that overlaps a load or unload of ours says nothing certain and is repeated.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

from lora_operator.observe.cluster import PodRecord
from lora_operator.vllm.client import Endpoint, EngineClient, EngineModel
from lora_operator.vllm.errors import EngineError, EngineUnauthorized, EngineUnreachable

log = logging.getLogger(__name__)

# While an engine starts it is asked every 1/2000 of the time it has been starting, within these bounds, so that the
# delay stays invisible next to the start itself and the cost stays bounded: a refused connection takes 0.1 ms.
STARTING_FRACTION = 1 / 2000
STARTING_FASTEST = 0.008
STARTING_SLOWEST = 0.25
STARTING_PER_SECOND = 200.0


class EngineState(StrEnum):
    """What is known about an engine."""

    UNKNOWN = "Unknown"  # not asked yet
    STARTING = "Starting"  # the container runs, the engine refuses connections
    UP = "Up"
    SUSPECT = "Suspect"  # it was up and does not answer; expected back at once
    DOWN = "Down"  # it does not answer for longer than that, or its container does not run


@dataclass(frozen=True, slots=True)
class EngineView:
    """An engine at its last look. `models` is only meaningful for UP and SUSPECT. `since` is monotonic time."""

    incarnation: str
    state: EngineState = EngineState.UNKNOWN
    release: str = ""
    models: tuple[EngineModel, ...] = ()
    since: float = 0.0
    error: str = ""
    reason: str = ""
    settled: bool = False  # it has once had all that was planned for it, so it may be serving
    lora_disabled: str = ""  # it has no routes to load adapters, which only a restart can change

    def listed(self, name: str) -> EngineModel | None:
        return next((model for model in self.models if model.name == name), None)


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
        hold_seconds: float,
    ) -> None:
        self._client = client
        self._changed = changed
        self._gone = gone
        self._probe_seconds = probe_seconds
        self._probes_per_second = probes_per_second
        self._hold_seconds = hold_seconds
        self.views: dict[str, EngineView] = {}
        self._records: dict[str, PodRecord] = {}
        self._keys: dict[str, str | None] = {}  # API keys by pod
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wakes: dict[str, asyncio.Event] = {}
        self._epochs: dict[str, int] = {}  # counts our own effects on a pod
        self._first: dict[str, asyncio.Event] = {}

    def follow(self, records: Mapping[str, PodRecord], api_keys: Mapping[str, str | None]) -> None:
        """Watch exactly these pods from now on."""
        for key in [key for key in self._tasks if key not in records]:
            self._tasks.pop(key).cancel()
            self._first[key].set()  # nobody has to wait for it any more
            for table in (self.views, self._records, self._wakes, self._epochs, self._first, self._keys):
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
                self.views[key] = EngineView(incarnation_of(record))
                self._tasks[key] = asyncio.create_task(self._watch(key), name=f"engine {key}")
            elif rekeyed or (known is not None and _moved_on(known, record)):
                self._wakes[key].set()

    async def first_looks(self, timeout: float) -> None:
        """Wait until every followed pod was asked once (or the time is over)."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                for event in list(self._first.values()):
                    await event.wait()

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
        return Endpoint(pod.ip or "", pod.port, self._keys.get(key))

    def touch(self, key: str) -> None:
        """An effect of ours begins or ends: a look under way is not to be believed."""
        if key in self._epochs:
            self._epochs[key] += 1

    def look_now(self, key: str) -> None:
        """Ask this pod as soon as possible."""
        if key in self._wakes:
            self._wakes[key].set()

    def note_loaded(self, key: str, incarnation: str, model: EngineModel) -> None:
        """The engine, in this life of it, has confirmed a load."""
        view = self.views.get(key)
        if view is not None and view.incarnation == incarnation and view.listed(model.name) != model:
            rest = tuple(m for m in view.models if m.name != model.name)
            self._set(key, replace(view, models=(*rest, model)))

    def note_unloaded(self, key: str, incarnation: str, name: str) -> None:
        """The engine, in this life of it, has confirmed an unload."""
        view = self.views.get(key)
        if view is not None and view.incarnation == incarnation and view.listed(name) is not None:
            self._set(key, replace(view, models=tuple(m for m in view.models if m.name != name)))

    def note_settled(self, key: str) -> None:
        """The pod has all that was planned for it; from now on it may be serving (see `fresh_concurrency`)."""
        view = self.views.get(key)
        if view is not None and not view.settled:
            self.views[key] = replace(view, settled=True)

    def note_disabled(self, key: str, message: str) -> None:
        """The engine has no routes to load and unload."""
        view = self.views.get(key)
        if view is not None:
            self._set(key, replace(view, lora_disabled=message))

    async def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()

    def _set(self, key: str, view: EngineView) -> None:
        if key in self.views and self.views[key] != view:
            self._tell(key, self.views[key], view)
            self.views[key] = view
            self._changed(key)

    def _tell(self, key: str, before: EngineView, view: EngineView) -> None:
        """For whoever is on call: why copies go and come. The first sight of a fleet that is up is no news."""
        was_up = before.state in (EngineState.UP, EngineState.SUSPECT)
        if was_up and before.incarnation.partition("/")[0] != view.incarnation.partition("/")[0]:
            log.info("pod %s has given way to a new one of that name", key, extra={"pod": key})
        elif view.state in (EngineState.STARTING, EngineState.DOWN) and was_up:
            level = logging.INFO if self._records[key].pod.terminating else logging.WARNING
            log.log(level, "the engine of pod %s does not answer any more: %s", key, view.error, extra={"pod": key})
        elif view.state is EngineState.UP and before.state in (EngineState.STARTING, EngineState.DOWN):
            log.info("the engine of pod %s answers, vLLM %s", key, view.release, extra={"pod": key})
        elif view.state is EngineState.UP and before.incarnation != view.incarnation and was_up:
            log.warning("the engine of pod %s has started anew, and has nothing loaded", key, extra={"pod": key})

    def _delay(self, key: str) -> float:
        view = self.views[key]
        if view.state in (EngineState.STARTING, EngineState.UNKNOWN):
            starting = sum(v.state is EngineState.STARTING for v in self.views.values())
            wanted = (time.monotonic() - view.since) * STARTING_FRACTION
            fastest = max(STARTING_FASTEST, starting / STARTING_PER_SECOND)
            return min(max(wanted, fastest), max(STARTING_SLOWEST, fastest))
        return max(self._probe_seconds, len(self._tasks) / self._probes_per_second)

    async def _watch(self, key: str) -> None:
        # spread the fleet's looks evenly instead of in bursts
        await asyncio.sleep(0)
        while True:
            wake = self._wakes[key]
            wake.clear()
            try:
                await self._look(key)
            except Exception:
                log.exception("looking at the engine of pod %s failed; it is tried again", key)
            self._first[key].set()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._delay(key)):
                    await wake.wait()

    async def _look(self, key: str) -> None:
        record = self._records[key]
        incarnation = incarnation_of(record)
        now = time.monotonic()
        if not record.pod.container_running or not record.pod.ip:
            down = EngineView(incarnation, EngineState.DOWN, since=now, error="its container does not run")
            self._set(key, replace(down, since=self._since(key, down)))
            return
        epoch = self._epochs[key]
        release = self._known(key, incarnation, now).release
        try:
            endpoint = self.endpoint(key)
            if release:
                models = await self._client.models(endpoint)
            else:  # both at once: adapters wait for this answer
                models, release = await asyncio.gather(self._client.models(endpoint), self._client.version(endpoint))
        except EngineError as error:
            if incarnation_of(self._records[key]) == incarnation:
                self._set(key, self._failed(self._known(key, incarnation, now), error, now))
            return
        view = self._known(key, incarnation, now)  # as it is now: an effect of ours may have ended meanwhile
        overlapped = self._epochs.get(key) != epoch or incarnation_of(self._records[key]) != incarnation
        if overlapped:
            self._wakes[key].set()
            if view.state is EngineState.UP:
                return
            # the first sight of a new engine matters more than what an overlapping effect left open
        adapters = tuple(model for model in models if model.parent is not None)
        there = {(model.name, model.root) for model in adapters}
        gone = tuple(model for model in view.models if (model.name, model.root) not in there)
        if gone and not overlapped:
            self._gone(key, gone)
        if self._changed_in_place(view, adapters):
            view = replace(view, settled=False)
        up = replace(view, state=EngineState.UP, release=release, models=adapters, error="", reason="", since=now)
        if view.state is EngineState.UP:
            up = replace(up, since=view.since)
        self._set(key, up)

    def _known(self, key: str, incarnation: str, now: float) -> EngineView:
        """What is known of this life of the engine so far."""
        view = self.views[key]
        return view if view.incarnation == incarnation else EngineView(incarnation, EngineState.STARTING, since=now)

    def _since(self, key: str, view: EngineView) -> float:
        """Since when the engine has been in the state of `view`: a look that finds the same is no news."""
        before = self.views[key]
        same = (before.incarnation, before.state, before.error) == (view.incarnation, view.state, view.error)
        return before.since if same else view.since

    @staticmethod
    def _changed_in_place(view: EngineView, adapters: tuple[EngineModel, ...]) -> bool:
        """An engine that was up and now lists nothing at all has restarted inside its container."""
        return bool(view.models) and not adapters

    def _failed(self, view: EngineView, error: EngineError, now: float) -> EngineView:
        text, reason = str(error), error.reason
        if isinstance(error, EngineUnreachable) and error.refused:
            # nobody listens: whatever the engine held is gone with its process
            if view.state is EngineState.STARTING:
                return replace(view, error=text, reason=reason)
            return EngineView(view.incarnation, EngineState.STARTING, since=now, error=text, reason=reason)
        if view.state is EngineState.UP:
            return replace(view, state=EngineState.SUSPECT, since=now, error=text, reason=reason)
        if view.state is EngineState.SUSPECT and now - view.since < self._hold_seconds:
            return replace(view, error=text, reason=reason)
        if view.state is EngineState.DOWN:
            return replace(view, error=text, reason=reason)
        return replace(view, state=EngineState.DOWN, since=now, error=text, reason=reason)


def _moved_on(before: PodRecord, after: PodRecord) -> bool:
    """Whether the pod's container began, ended, or gave way to another one, or can be reached only now."""
    return (
        incarnation_of(before) != incarnation_of(after)
        or before.pod.container_running != after.pod.container_running
        or before.pod.ip != after.pod.ip
    )


def incarnation_of(record: PodRecord) -> str:
    """Names one life of one container: another value means that the engine has forgotten everything."""
    return f"{record.uid}/{record.pod.container_id or ''}"
