"""The only module with effects on pods: brings files there, loads and unloads.

It keeps no queue of its own making: each plan replaces what was not begun of the one before, and every action is
checked against the present once more before it is begun. A pod that hangs holds up its own actions and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from lora_operator.cache.volume import StoreError
from lora_operator.delivery import Ways
from lora_operator.delivery.agent_client import AgentError
from lora_operator.desired import Desired, Wanted
from lora_operator.events import Recorder
from lora_operator.fetch.errors import FetchError
from lora_operator.inflight import Effect, Failures, Ledger, Stage
from lora_operator.kube import KubeError
from lora_operator.metrics import Metrics
from lora_operator.observe.cluster import Cluster, PodRecord
from lora_operator.observe.engines import Engines, EngineState, EngineView, incarnation_of
from lora_operator.served import ServedNames
from lora_operator.snapshot import engine_name_for, our_model
from lora_operator.sources import SourceError
from lora_operator.tracing import OFF, Parent, Tracing
from lora_operator.turns import Turns
from lora_operator.vllm.client import EngineClient, EngineModel
from lora_operator.vllm.errors import EngineError, EngineUnreachable, NameTakenByOther, RuntimeUpdatingDisabled
from lora_operator.vllm.quirks import StaleCache, public_name
from lora_scheduler import Load, Plan, Unload, UnloadCause

log = logging.getLogger(__name__)

UNLOADS_AT_A_TIME = 8
UNLOAD_AGAIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How the executor paces itself."""

    fresh_concurrency: int
    withdraw_seconds: float
    versioned_names: bool


class Executor:
    """Carries out plans. `changed` is called whenever something began or ended; `withdraw` returns when nobody is told
    any more that a pod (by key) holds an adapter, and whether anybody was; it raises KubeError where it cannot."""

    def __init__(
        self,
        *,
        engines: Engines,
        client: EngineClient,
        files: Ways,
        cluster: Cluster,
        served_names: ServedNames,
        recorder: Recorder,
        ledger: Ledger,
        failures: Failures,
        metrics: Metrics,
        limits: Limits,
        withdraw: Callable[[str, str], Awaitable[bool]],
        changed: Callable[[], None],
        fence: Callable[[], None],
        tracing: Tracing = OFF,
    ) -> None:
        self._tracing = tracing
        self._planned: Parent = None  # the round whose plan this is
        self._fence = fence  # raises where another operator may be acting by now
        self._engines = engines
        self._client = client
        self._files = files
        self._cluster = cluster
        self._served_names = served_names
        self._recorder = recorder
        self._ledger = ledger
        self._failures = failures
        self._metrics = metrics
        self._limits = limits
        self._turns = Turns(limits.fresh_concurrency)
        self._withdraw = withdraw
        self._changed = changed
        self._desired: Desired | None = None
        self._loads: dict[str, deque[Load]] = {}
        self._unloads: dict[str, deque[Unload]] = {}
        self._tasks: dict[asyncio.Task[None], Effect] = {}
        self._refused_unloads: dict[tuple[str, str], int] = {}  # by incarnation and engine name
        self._stopping = asyncio.Event()

    def submit(self, plan: Plan, desired: Desired) -> None:
        """Take over a new plan: what an older one had not begun is forgotten."""
        self._desired = desired
        self._planned = self._tracing.here()
        self._loads.clear()
        self._unloads.clear()
        for action in plan.actions:
            if isinstance(action, Load):
                self._loads.setdefault(action.pod, deque()).append(action)
            else:
                self._unloads.setdefault(action.pod, deque()).append(action)
        busy = set(self._loads) | {load.pod for load, _ in plan.waiting}
        for pod, view in self._engines.views.items():
            if view.state is EngineState.UP and pod not in busy and not any(e.is_load for e in self._ledger.on(pod)):
                self._engines.note_settled(pod)
        self._let_go()
        self._served_names.note_strangers()
        for pod in {*self._loads, *self._unloads}:
            self._begin(pod)

    def _let_go(self) -> None:
        """Wait for no answer of a container that is gone: a machine that is lost never closes its connections."""
        for task, effect in self._tasks.items():
            view = self._engines.views.get(effect.pod)
            if view is None or view.incarnation != effect.incarnation or not self._lives(effect):
                task.cancel()
        lives = {view.incarnation for view in self._engines.views.values()}
        for key in [key for key in self._refused_unloads if key[0] not in lives]:
            del self._refused_unloads[key]

    def _lives(self, effect: Effect) -> bool:
        """Whether the container that this is about still is the pod's."""
        record = self._cluster.pods.get(effect.pod)
        return record is not None and incarnation_of(record) == effect.incarnation

    async def stop(self, grace_seconds: float) -> None:
        """Begin nothing more; let what is under way end, then cut it off (the next start finds out how it ended).

        A load that no engine was asked for yet is given up at once.
        """
        self._stopping.set()
        for task, effect in self._tasks.items():
            if effect.stage is Stage.FETCHING:
                task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._served_names.stop()

    def _begin(self, pod: str) -> None:
        if self._stopping.is_set():
            return
        unloads = self._unloads.get(pod)
        while unloads and sum(not e.is_load for e in self._ledger.on(pod)) < UNLOADS_AT_A_TIME:
            self._start_unload(unloads.popleft())
        loads = self._loads.get(pod)
        most = self._turns.begun(self._engines.views.get(pod))
        while loads and sum(e.is_load for e in self._ledger.on(pod)) < most:
            self._start_load(loads.popleft())

    def _present(self, pod: str) -> tuple[PodRecord, EngineView] | None:
        """The pod, if its engine can be spoken to now."""
        record, view = self._cluster.pods.get(pod), self._engines.views.get(pod)
        if record is None or view is None or view.state is not EngineState.UP or record.pod.terminating:
            return None
        return (record, view) if view.incarnation == incarnation_of(record) else None

    def _spawn(self, effect: Effect, work: Awaitable[None], name: str) -> None:
        planned = self._planned

        async def run() -> None:
            what = "load adapter" if effect.is_load else "unload adapter"
            try:
                with self._tracing.span(what, under=planned, engine_name=effect.engine_name, **_fields(effect)):
                    await work
            finally:
                self._changed()
                self._begin(effect.pod)

        task = asyncio.create_task(run(), name=name)
        self._tasks[task] = effect
        task.add_done_callback(self._tasks.pop)

    def _start_load(self, load: Load) -> None:
        present = self._present(load.pod)
        wanted = self._desired.adapters.get(load.adapter) if self._desired else None
        if present is None or wanted is None or wanted.adapter.version != load.version:
            return
        record, view = present
        choice = engine_name_for(record, view, wanted, self._limits.versioned_names)
        if isinstance(choice, StaleCache) or view.listed(choice.engine_name) is not None:
            return
        adapter = wanted.adapter
        effect = Effect(
            load.pod, choice.engine_name, Stage.FETCHING, adapter.key, adapter.version, adapter.bytes, adapter.rank,
            view.incarnation,
        )  # fmt: skip
        if self._ledger.begin(effect):
            self._spawn(effect, self._load(effect, record, wanted), f"load {adapter.name} on {load.pod}")

    async def _load(self, effect: Effect, record: PodRecord, wanted: Wanted) -> None:
        adapter, pod = wanted.adapter, effect.pod
        started = time.monotonic()
        try:
            await self._fetch(effect, record, wanted)
            if effect.engine_name == adapter.name:
                await self._served_names.note(pod, adapter.name, adapter.version)
            log.debug("files of %s are there for %s after %.3f s", adapter.name, pod, time.monotonic() - started)
            async with self._turns.of(self._engines.views.get(pod)):
                if not self._lives(effect) or not self._still_wanted(wanted):
                    log.info("not loading %s on %s any more", adapter.name, pod, extra=_fields(effect))
                    return
                effect.stage = Stage.LOADING
                self._engines.touch(pod)
                path = f"{record.pod.adapter_root.rstrip('/')}/{adapter.name}/{adapter.version}"
                self._fence()
                with self._tracing.span("load", **_fields(effect)):
                    await self._client.load(self._engines.endpoint(pod), effect.engine_name, path)
                model = EngineModel(effect.engine_name, path, adapter.base_model)
                self._engines.note_loaded(pod, effect.incarnation, model)
            self._failures.clear(adapter.key, adapter.version, pod)
            seconds = time.monotonic() - started
            self._metrics.load("ok", seconds)
            version = adapter.version[:8]
            log.info("loaded %s %s on %s in %.3f s", adapter.name, version, pod, seconds, extra=_fields(effect))
        except NameTakenByOther as error:
            if error.is_base:
                self._load_failed(effect, error)
            else:
                # somebody came before us since the last look: nothing failed, there is one more resident to plan with
                self._metrics.load(error.reason, None)
                known = EngineModel(error.name, error.root, adapter.base_model)
                self._engines.note_loaded(pod, effect.incarnation, known)
        except RuntimeUpdatingDisabled as error:
            self._metrics.load(error.reason, None)
            log.warning("nothing can be loaded on %s: %s", pod, error, extra=_fields(effect))
            self._engines.note_disabled(pod, str(error))
        except (StoreError, FetchError, SourceError, AgentError, EngineError, KubeError) as error:
            self._load_failed(effect, error)
        except Exception as error:
            # a defect: what is not noted as failed would be tried again at once, without end
            log.exception("loading %s on %s failed unexpectedly", adapter.name, pod, extra=_fields(effect))
            self._load_failed(effect, error)
        finally:
            self._engines.touch(pod)
            self._ledger.end(effect)

    def _still_wanted(self, wanted: Wanted) -> bool:
        """Whether this very version is still wanted somewhere: fetching it may have taken long."""
        now = self._desired.adapters.get(wanted.adapter.key) if self._desired else None
        return now is not None and now.adapter.version == wanted.adapter.version

    def _load_failed(self, effect: Effect, error: Exception) -> None:
        assert effect.adapter is not None and effect.version is not None  # it is a load
        api_server = isinstance(error, KubeError)
        pod, unknown = effect.pod, "ApiServerUnavailable" if api_server else "InternalError"
        reason = str(getattr(error, "reason", unknown))
        self._metrics.load(reason, None)
        self._tracing.failed(reason)
        slow = not getattr(error, "retryable", api_server)
        # the text of an unknown error may hold anything, and status is for everybody
        text = str(error) if reason != "InternalError" else f"{type(error).__name__} in the operator: see its log"
        failure = self._failures.add(
            effect.adapter, effect.version, pod, effect.incarnation, reason, text, time.monotonic(), slow,
            getattr(error, "retry_after_seconds", None) or 0.0,
        )  # fmt: skip
        log.warning(
            "loading %s on %s failed (%s, attempt %d, again in %.1f s): %s", effect.adapter, pod, reason,
            failure.attempts, failure.next_at - time.monotonic(), error, extra=_fields(effect),
        )  # fmt: skip
        record = self._cluster.pods.get(pod)
        ending = record is None or record.pod.terminating  # then it is no wonder that the connection broke
        if isinstance(error, EngineUnreachable) and error.maybe_received and not ending:
            name = pod.partition("/")[2]
            text = f"the engine of {name} died, or closed the connection, while it was loading this: {error}"
            self._failures.add_death(effect.adapter, effect.version, text, time.monotonic())
        self._engines.look_now(pod)

    async def _fetch(self, effect: Effect, record: PodRecord, wanted: Wanted) -> None:
        """Bring the files to the pod; every quarter of them is news for status."""

        files = wanted.found.files if wanted.found is not None else ()
        size = sum(file.size_bytes for file in files)

        def report(done_bytes: int) -> None:
            percent = 25 * min(4 * done_bytes // size, 4) if size else 0
            if percent != effect.fetched_percent:
                effect.fetched_percent = percent
                self._changed()

        with self._tracing.span("fetch", bytes=size, **_fields(effect)):
            await self._files.bring(record, wanted, report)

    def _start_unload(self, unload: Unload) -> None:
        present = self._present(unload.pod)
        if present is None:
            return
        record, view = present
        model = view.listed(unload.name)
        ours = our_model(model, record.pod.adapter_root) if model is not None else None
        if ours is None:
            return  # not there any more, or somebody else's
        effect = Effect(
            unload.pod, unload.name, Stage.WITHDRAWING, unload.adapter, ours.fingerprint, 0, 0, view.incarnation
        )
        if self._ledger.begin(effect):
            self._spawn(effect, self._unload(effect, unload), f"unload {unload.name} from {unload.pod}")

    async def _unload(self, effect: Effect, unload: Unload) -> None:
        pod = effect.pod
        try:
            wanted = self._desired.adapters.get(unload.adapter or "") if self._desired else None
            # routers must have let go before the engine answers 404
            others = self._answers_elsewhere(effect)
            try:
                told = await self._withdraw(pod, public_name(effect.engine_name))
            except KubeError as error:
                # it goes on answering; the next round plans this again
                log.warning("not unloading %s from %s yet: routers cannot be told: %s", effect.engine_name, pod, error)
                return
            if told:
                await asyncio.sleep(self._limits.withdraw_seconds)
            if wanted is not None:
                if unload.cause is UnloadCause.SURPLUS and others and not self._answers_elsewhere(effect):
                    log.info("not unloading %s from %s: it is the only copy by now", effect.engine_name, pod)
                    return
                self._tell_preempted(unload, wanted)
            if not self._lives(effect):
                return
            self._fence()
            effect.stage = Stage.UNLOADING
            self._engines.touch(pod)
            await self._client.unload(self._engines.endpoint(pod), effect.engine_name)
            self._engines.note_unloaded(pod, effect.incarnation, effect.engine_name)
            self._refused_unloads.pop((effect.incarnation, effect.engine_name), None)
            self._metrics.unload(unload.cause.value, "ok")
            name, version = effect.engine_name, (effect.version or "")[:8]
            log.info("unloaded %s %s from %s (%s)", name, version, pod, unload.cause, extra=_fields(effect))
        except EngineError as error:
            await self._unload_failed(effect, unload, error)
        except Exception as error:
            log.exception("unloading %s from %s failed unexpectedly", effect.engine_name, pod, extra=_fields(effect))
            await self._unload_failed(effect, unload, error)
        finally:
            self._engines.touch(pod)
            self._ledger.end(effect)

    def _answers_elsewhere(self, effect: Effect) -> bool:
        """Whether another pod of the namespace answers for this adapter."""
        namespace, name = effect.pod.partition("/")[0], public_name(effect.engine_name)
        return any(
            view.state is EngineState.UP
            and pod != effect.pod
            and pod.partition("/")[0] == namespace
            and any(public_name(model.name) == name for model in view.models)
            for pod, view in self._engines.views.items()
        )

    async def _unload_failed(self, effect: Effect, unload: Unload, error: Exception) -> None:
        """Pause before it is planned again: an engine that keeps refusing is asked less and less often."""
        pod, key = effect.pod, (effect.incarnation, effect.engine_name)
        attempts = self._refused_unloads[key] = self._refused_unloads.get(key, 0) + 1
        pause = min(2.0 ** (attempts - 1), UNLOAD_AGAIN_SECONDS)
        reason = str(getattr(error, "reason", "InternalError"))
        self._metrics.unload(unload.cause.value, reason)
        self._tracing.failed(reason)
        log.warning(
            "unloading %s from %s failed (attempt %d, again in %g s): %s", effect.engine_name, pod, attempts, pause,
            error, extra=_fields(effect),
        )  # fmt: skip
        if isinstance(error, RuntimeUpdatingDisabled):
            self._engines.note_disabled(pod, str(error))
            return
        self._engines.look_now(pod)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._stopping.wait()

    def _tell_preempted(self, unload: Unload, victim: Wanted) -> None:
        """An Event for the owner of the adapter that has to go."""
        desired = self._desired
        if unload.cause is not UnloadCause.PREEMPTED or desired is None:
            return
        resource, other = desired.resources.get(victim.resource), desired.adapters.get(unload.on_behalf_of or "")
        if resource is not None and other is not None:
            why = f"priority {other.adapter.priority} goes before {victim.adapter.priority}"
            text = (
                f"{victim.adapter.name} leaves pod {unload.pod.partition('/')[2]} to make room for "
                f"{other.adapter.name} of LoraAdapter {other.resource}: "
                f"{'nobody has used it for a while' if victim.adapter.yields else why}"
            )
            self._recorder.emit(resource.resource, "Normal", "Preempted", text)


def _fields(effect: Effect) -> dict[str, str | None]:
    return {"pod": effect.pod, "adapter": effect.adapter, "version": effect.version}
