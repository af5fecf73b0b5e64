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
from lora_operator.delivery import DeliveryRouter
from lora_operator.delivery.agent_client import AgentError
from lora_operator.desired.adapters import Desired, DesiredAdapter
from lora_operator.engines.ownership import our_model
from lora_operator.engines.prober import Engines
from lora_operator.execution.concurrency import LoadConcurrency
from lora_operator.execution.plan_in_force import InForce
from lora_operator.execution.presence import fields, present, still_runs
from lora_operator.execution.served_versions import ServedNames
from lora_operator.execution.unload import Unloading
from lora_operator.fetch.errors import FetchError
from lora_operator.informers.cache import Cluster
from lora_operator.informers.records import PodRecord
from lora_operator.kube.client import KubeError
from lora_operator.kube.events import Recorder
from lora_operator.kube.lease import LeaseLost
from lora_operator.planning.inflight import Effect, Failures, Ledger, Stage
from lora_operator.planning.snapshot import engine_name_for
from lora_operator.process.slices import in_slices
from lora_operator.sources import SourceError
from lora_operator.telemetry.metrics import Metrics
from lora_operator.tracing import OFF, Parent, Tracing
from lora_operator.vllm.client import EngineClient, EngineModel
from lora_operator.vllm.engine_state import EngineState
from lora_operator.vllm.errors import (
    EngineError,
    EngineTimeout,
    EngineUnreachable,
    NameTakenByOther,
    RuntimeUpdatingDisabled,
)
from lora_operator.vllm.quirks import StaleCache, public_name
from lora_scheduler import Load, Plan, Unload

log = logging.getLogger(__name__)

# between two questions to an engine that did not answer a load in time
UNANSWERED_FIRST_SECONDS, UNANSWERED_LAST_SECONDS = 1.0, 30.0


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
        files: DeliveryRouter,
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
        self._ledger = ledger
        self._failures = failures
        self._metrics = metrics
        self._limits = limits
        self._turns = LoadConcurrency(limits.fresh_concurrency)
        self._changed = changed
        self._in_force = InForce()
        self._loads: dict[str, deque[Load]] = {}
        self._unloads: dict[str, deque[Unload]] = {}
        self._tasks: dict[asyncio.Task[None], Effect] = {}
        self._stopping = asyncio.Event()
        self.held = False  # while the next plan is made: of a present to which nothing may be added
        self._unloading = Unloading(
            engines=engines,
            client=client,
            cluster=cluster,
            recorder=recorder,
            ledger=ledger,
            metrics=metrics,
            concurrency=self._turns,
            withdraw_seconds=limits.withdraw_seconds,
            withdraw=withdraw,
            fence=fence,
            stopping=self._stopping,
            tracing=tracing,
        )

    async def submit(self, plan: Plan, desired: Desired) -> None:
        """Take over a new plan: what an older one had not begun is forgotten."""
        self._in_force = self._unloading.in_force = InForce.of(plan, desired)
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
        async for pod in in_slices({*self._loads, *self._unloads}):
            self._begin(pod)

    def _let_go(self) -> None:
        """Wait for no answer of a container that is gone: a machine that is lost never closes its connections."""
        for task, effect in self._tasks.items():
            view = self._engines.views.get(effect.pod)
            if view is None or view.instance != effect.instance or not still_runs(self._cluster, effect):
                task.cancel()
        present_lives = {view.instance for view in self._engines.views.values()}
        for key in [key for key in self._ledger.failed_unloads if key[0] not in present_lives]:
            del self._ledger.failed_unloads[key]

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

    def _begin(self, pod: str) -> None:
        if self._stopping.is_set() or self.held:
            return
        for unload in self._unloads.pop(pod, ()):  # all are withdrawn at once, and wait for their turn then
            self._start_unload(unload)
        loads = self._loads.get(pod)
        most = self._turns.begun(self._engines.views.get(pod))
        while loads and sum(e.is_load for e in self._ledger.on(pod)) < most:
            self._start_load(loads.popleft())

    def _spawn(self, effect: Effect, work: Awaitable[None], name: str) -> None:
        planned = self._planned

        async def run() -> None:
            what = "unload adapter" if effect.is_unload else "load adapter"
            try:
                with self._tracing.span(what, under=planned, engine_name=effect.engine_name, **fields(effect)):
                    await work
            finally:
                self._changed()
                self._begin(effect.pod)

        task = asyncio.create_task(run(), name=name)
        self._tasks[task] = effect
        task.add_done_callback(self._tasks.pop)

    def _start_load(self, load: Load) -> None:
        there = present(self._cluster, self._engines, load.pod)
        wanted = self._wanted(load.adapter)
        if there is None or wanted is None or wanted.adapter.version != load.version:
            return
        record, view = there
        choice = engine_name_for(record, view, wanted, self._limits.versioned_names)
        if isinstance(choice, StaleCache) or view.listed(choice.engine_name) is not None:
            return
        adapter = wanted.adapter
        effect = Effect(
            load.pod, choice.engine_name, Stage.FETCHING, adapter.key, adapter.version, adapter.bytes, adapter.rank,
            view.instance,
        )  # fmt: skip
        if self._ledger.begin(effect):
            self._spawn(effect, self._load(effect, record, wanted), f"load {adapter.name} on {load.pod}")

    async def _load(self, effect: Effect, record: PodRecord, wanted: DesiredAdapter) -> None:
        adapter, pod = wanted.adapter, effect.pod
        started = time.monotonic()
        path = f"{record.pod.adapter_root.rstrip('/')}/{adapter.name}/{adapter.version}"
        try:
            await self._fetch(effect, record, wanted)
            if effect.engine_name == adapter.name:
                await self._served_names.note(pod, adapter.name, adapter.version)
            log.debug("files of %s are there for %s after %.3f s", adapter.name, pod, time.monotonic() - started)
            async with self._turns.of(self._engines.views.get(pod)):
                if (
                    not still_runs(self._cluster, effect)
                    or not present(self._cluster, self._engines, pod)
                    or not self._in_force.wants_load(effect)
                ):
                    log.info("not loading %s on %s any more", adapter.name, pod, extra=fields(effect))
                    return
                with self._tracing.span("load", **fields(effect)):
                    await self._ask_to_load(effect, path, adapter.base_model)
            self._loaded(effect, started)
        except NameTakenByOther as error:
            if error.is_base:
                self._load_failed(effect, error)
            else:
                # somebody came before us since the last look: nothing failed, there is one more resident to plan with
                self._metrics.load(error.reason, None)
                known = EngineModel(error.name, error.root, adapter.base_model)
                self._engines.note_loaded(pod, effect.instance, known)
        except RuntimeUpdatingDisabled as error:
            self._metrics.load(error.reason, None)
            log.warning("nothing can be loaded on %s: %s", pod, error, extra=fields(effect))
            self._engines.note_disabled(pod, str(error))
        except LeaseLost:
            log.info("not loading %s on %s: another operator may lead by now", adapter.name, pod, extra=fields(effect))
        except (StoreError, FetchError, SourceError, AgentError, EngineError, KubeError) as error:
            self._load_failed(effect, error)
            if _may_still_happen(error):
                await self._until_it_says(effect, path, adapter.base_model, started)
        except Exception as error:
            # a defect: what is not noted as failed would be tried again at once, without end
            log.exception("loading %s on %s failed unexpectedly", adapter.name, pod, extra=fields(effect))
            self._load_failed(effect, error)
        finally:
            self._engines.touch(pod)
            self._ledger.end(effect)

    async def _ask_to_load(self, effect: Effect, path: str, base_model: str) -> None:
        effect.stage = Stage.LOADING
        self._engines.touch(effect.pod)
        self._fence()
        await self._client.load(self._engines.endpoint(effect.pod), effect.engine_name, path)
        model = EngineModel(effect.engine_name, path, base_model)
        self._engines.note_loaded(effect.pod, effect.instance, model)

    def _loaded(self, effect: Effect, started: float) -> None:
        assert effect.adapter is not None and effect.version is not None  # it is a load
        pod, seconds = effect.pod, time.monotonic() - started
        self._failures.clear(effect.adapter, effect.version, pod)
        self._ledger.failed_unloads.pop((effect.instance, effect.engine_name), None)
        self._metrics.load("ok", seconds)
        name = public_name(effect.engine_name)
        log.info("loaded %s %s on %s in %.3f s", name, effect.version[:8], pod, seconds, extra=fields(effect))

    async def _until_it_says(self, effect: Effect, path: str, base_model: str, started: float) -> None:
        """Keep the room of a load that may still happen taken, and ask the engine again until it answers.

        An engine takes requests about one name in turn: what it answers to a later one comes after the earlier. It is
        asked to load once more while that is wanted, else to forget the name.
        """
        pod, pause = effect.pod, UNANSWERED_FIRST_SECONDS
        while not self._stopping.is_set():
            effect.stage = Stage.UNANSWERED
            self._engines.touch(pod)
            self._changed()
            self._begin(pod)  # others need not wait for this
            await self._engines.next_probe(pod)
            view = self._engines.views.get(pod)
            if view is None or view.state is EngineState.STARTING or not still_runs(self._cluster, effect):
                return  # what was asked ended with the process
            if view.state is EngineState.UP:
                if (listed := view.listed(effect.engine_name)) is not None:
                    if listed.root == path:
                        self._loaded(effect, started)
                    return
                try:
                    if self._in_force.wants_load(effect) or self._in_force.lacks(effect):
                        await self._ask_to_load(effect, path, base_model)
                        self._loaded(effect, started)
                    else:
                        self._fence()
                        await self._client.unload(self._engines.endpoint(pod), effect.engine_name)
                        await self._engines.next_probe(pod)  # requests that lay unread may be taken up in any order
                    return
                except LeaseLost:
                    return  # whoever leads by now finds out
                except EngineError as error:
                    if not isinstance(error, (EngineTimeout, EngineUnreachable)):
                        return  # an answer
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            pause = min(2 * pause, UNANSWERED_LAST_SECONDS)

    def _wanted(self, adapter: str | None) -> DesiredAdapter | None:
        desired = self._in_force.desired
        return desired.adapters.get(adapter or "") if desired is not None else None

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
            effect.adapter, effect.version, pod, effect.instance, reason, text, time.monotonic(), slow,
            getattr(error, "retry_after_seconds", None) or 0.0,
            passes=effect.stage is Stage.FETCHING or _was_not_asked(error),
        )  # fmt: skip
        log.warning(
            "loading %s on %s failed (%s, attempt %d, again in %.1f s): %s", effect.adapter, pod, reason,
            failure.attempts, failure.next_at - time.monotonic(), error, extra=fields(effect),
        )  # fmt: skip
        record = self._cluster.pods.get(pod)
        ending = record is None or record.pod.terminating  # then it is no wonder that the connection broke
        if isinstance(error, EngineUnreachable) and error.maybe_received and not ending:
            name = pod.partition("/")[2]
            text = f"the engine of {name} died, or closed the connection, while it was loading this: {error}"
            self._failures.add_death(effect.adapter, effect.version, text, time.monotonic())
        self._engines.look_now(pod)

    async def _fetch(self, effect: Effect, record: PodRecord, wanted: DesiredAdapter) -> None:
        """Bring the files to the pod; every quarter of them is news for status."""

        files = wanted.found.files if wanted.found is not None else ()
        size = sum(file.size_bytes for file in files)

        def report(done_bytes: int) -> None:
            percent = 25 * min(4 * done_bytes // size, 4) if size else 0
            if percent != effect.fetched_percent:
                effect.fetched_percent = percent
                self._changed()

        with self._tracing.span("fetch", bytes=size, **fields(effect)):
            await self._files.bring(record, wanted, report)

    def _start_unload(self, unload: Unload) -> None:
        there = present(self._cluster, self._engines, unload.pod)
        if there is None:
            return
        record, view = there
        model = view.listed(unload.name)
        ours = our_model(model, record.pod.adapter_root) if model is not None else None
        if ours is None:
            return  # not there any more, or somebody else's
        effect = Effect(
            unload.pod, unload.name, Stage.WITHDRAWING, unload.adapter, ours.fingerprint, 0, 0, view.instance
        )
        if self._ledger.begin(effect):
            self._spawn(effect, self._unloading.run(effect, unload), f"unload {unload.name} from {unload.pod}")


def _may_still_happen(error: Exception) -> bool:
    """Whether the engine was asked and has not said what becomes of it."""
    return isinstance(error, EngineTimeout) or (isinstance(error, EngineUnreachable) and error.maybe_received)


def _was_not_asked(error: Exception) -> bool:
    """Whether the engine has certainly heard nothing of it."""
    return isinstance(error, EngineUnreachable) and not error.maybe_received
