"""One unload, from the moment that it is planned: routers let go first, then the engine is asked to forget the name."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from lora_operator.desired.adapters import DesiredAdapter
from lora_operator.engines.prober import Engines
from lora_operator.execution.concurrency import LoadConcurrency
from lora_operator.execution.plan_in_force import InForce
from lora_operator.execution.presence import fields, present, still_runs
from lora_operator.informers.cache import Cluster
from lora_operator.kube.client import KubeError
from lora_operator.kube.events import Recorder
from lora_operator.kube.lease import LeaseLost
from lora_operator.planning.inflight import Effect, Ledger, Stage
from lora_operator.telemetry.metrics import Metrics
from lora_operator.tracing import Tracing
from lora_operator.vllm.client import EngineClient
from lora_operator.vllm.engine_state import EngineState
from lora_operator.vllm.errors import EngineError, RuntimeUpdatingDisabled
from lora_operator.vllm.quirks import public_name
from lora_scheduler import Unload, UnloadCause

log = logging.getLogger(__name__)

AGAIN_SECONDS = 10.0


class Unloading:
    """Unloads adapters. `in_force` is set by whoever takes plans over. `withdraw` returns when nobody is told any more
    that a pod (by key) holds an adapter, and whether anybody was; it raises KubeError where it cannot."""

    def __init__(
        self,
        *,
        engines: Engines,
        client: EngineClient,
        cluster: Cluster,
        recorder: Recorder,
        ledger: Ledger,
        metrics: Metrics,
        concurrency: LoadConcurrency,
        withdraw_seconds: float,
        withdraw: Callable[[str, str], Awaitable[bool]],
        fence: Callable[[], None],
        stopping: asyncio.Event,
        tracing: Tracing,
    ) -> None:
        self._engines = engines
        self._client = client
        self._cluster = cluster
        self._recorder = recorder
        self._ledger = ledger
        self._metrics = metrics
        self._turns = concurrency
        self._withdraw_seconds = withdraw_seconds
        self._withdraw = withdraw
        self._fence = fence
        self._stopping = stopping
        self._tracing = tracing
        self.in_force = InForce()

    async def run(self, effect: Effect, unload: Unload) -> None:
        """The whole of one unload; never raises. The effect is in the ledger, and leaves it."""
        pod = effect.pod
        try:
            desired = self.in_force.desired
            wanted = desired.adapters.get(unload.adapter or "") if desired is not None else None
            # routers must have let go before the engine answers 404
            surplus = unload.cause is UnloadCause.SURPLUS and self._answers_elsewhere(effect)
            try:
                told = await self._withdraw(pod, public_name(effect.engine_name))
            except LeaseLost:
                raise
            except KubeError as error:
                # it goes on answering; the next round plans this again
                log.warning("not unloading %s from %s yet: routers cannot be told: %s", effect.engine_name, pod, error)
                return
            if told:
                await asyncio.sleep(self._withdraw_seconds)
            async with self._turns.to_unload(effect.instance):
                await self._withdrawn(effect, unload, wanted, surplus)
        except LeaseLost:
            log.info("not unloading %s from %s: another operator may lead by now", effect.engine_name, pod)
        except EngineError as error:
            await self._failed(effect, unload, error)
        except Exception as error:
            log.exception("unloading %s from %s failed unexpectedly", effect.engine_name, pod, extra=fields(effect))
            await self._failed(effect, unload, error)
        finally:
            self._engines.touch(pod)
            self._ledger.end(effect)

    async def _withdrawn(self, effect: Effect, unload: Unload, wanted: DesiredAdapter | None, surplus: bool) -> None:
        """Have the engine forget it, if that still is right. Raises EngineError, KubeError."""
        pod = effect.pod
        there = present(self._cluster, self._engines, pod)
        if there is None or not still_runs(self._cluster, effect):
            return
        if self.in_force.wants_back(effect, there[1]):
            log.info("not unloading %s from %s: it is wanted there again", effect.engine_name, pod)
            return
        if wanted is not None:
            if surplus and not self._answers_elsewhere(effect):
                log.info("not unloading %s from %s: it is the only copy by now", effect.engine_name, pod)
                return
            self._tell_preempted(unload, wanted)
        self._fence()
        effect.stage = Stage.UNLOADING
        self._engines.touch(pod)
        await self._client.unload(self._engines.endpoint(pod), effect.engine_name)
        self._engines.note_unloaded(pod, effect.instance, effect.engine_name)
        self._ledger.failed_unloads.pop((effect.instance, effect.engine_name), None)
        self._metrics.unload(unload.cause.value, "ok")
        name, version = effect.engine_name, (effect.version or "")[:8]
        log.info("unloaded %s %s from %s (%s)", name, version, pod, unload.cause, extra=fields(effect))

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

    async def _failed(self, effect: Effect, unload: Unload, error: Exception) -> None:
        """Pause before it is planned again: an engine that keeps refusing is asked less and less often."""
        pod, key = effect.pod, (effect.instance, effect.engine_name)
        attempts = self._ledger.failed_unloads[key] = self._ledger.failed_unloads.get(key, 0) + 1
        pause = min(2.0 ** (attempts - 1), AGAIN_SECONDS)
        reason = str(getattr(error, "reason", "InternalError"))
        self._metrics.unload(unload.cause.value, reason)
        self._tracing.failed(reason)
        log.warning(
            "unloading %s from %s failed (attempt %d, again in %g s): %s", effect.engine_name, pod, attempts, pause,
            error, extra=fields(effect),
        )  # fmt: skip
        if isinstance(error, RuntimeUpdatingDisabled):
            self._engines.note_disabled(pod, str(error))
            return
        self._engines.look_now(pod)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._stopping.wait()

    def _tell_preempted(self, unload: Unload, victim: DesiredAdapter) -> None:
        """An Event for the owner of the adapter that has to go."""
        text, desired = self.in_force.preemption(unload), self.in_force.desired
        resource = desired.resources.get(victim.resource) if desired is not None else None
        if text is not None and resource is not None:
            self._recorder.emit(resource.resource, "Normal", "Preempted", text)
