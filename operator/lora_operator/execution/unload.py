"""One unload, from the moment that it is planned: routers let go first, then the engine is asked to forget the name."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from lora_operator.desired.adapters import DesiredAdapter
from lora_operator.execution.context import Context
from lora_operator.execution.last_use import LastUse
from lora_operator.execution.presence import fields, present, still_runs
from lora_operator.kube.client import KubeError
from lora_operator.kube.lease import LeaseLost
from lora_operator.planning.inflight import Effect, Stage
from lora_operator.process.backoff import doubled
from lora_operator.vllm.engine_state import EngineState
from lora_operator.vllm.errors import EngineError, RuntimeUpdatingDisabled
from lora_operator.vllm.quirks import public_name
from lora_scheduler import Unload, UnloadCause

log = logging.getLogger(__name__)

AGAIN_SECONDS = 10.0


class Unloading:
    """Unloads adapters. `withdraw` returns when nobody is told any more
    that a pod (by key) holds an adapter, and whether anybody was; it raises KubeError where it cannot."""

    def __init__(
        self, context: Context, withdraw_seconds: float, withdraw: Callable[[str, str], Awaitable[bool]]
    ) -> None:
        self._on = context
        self._withdraw_seconds = withdraw_seconds
        self._withdraw = withdraw
        self._last_use = LastUse(context.engines, context.client)

    async def run(self, effect: Effect, unload: Unload) -> None:
        """The whole of one unload; never raises. The effect is in the ledger, and leaves it."""
        pod = effect.pod
        try:
            desired = self._on.in_force.desired
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
                await self._until_routers_let_go(effect)
            async with self._on.concurrency.unloading(effect.instance):
                await self._withdrawn(effect, unload, wanted, surplus)
        except LeaseLost:
            log.info("not unloading %s from %s: another operator may lead by now", effect.engine_name, pod)
        except EngineError as error:
            await self._failed(effect, unload, error)
        except Exception as error:
            log.exception("unloading %s from %s failed unexpectedly", effect.engine_name, pod, extra=fields(effect))
            await self._failed(effect, unload, error)
        finally:
            self._on.engines.touch(pod)
            self._on.ledger.end(effect)

    async def _until_routers_let_go(self, effect: Effect) -> None:
        """What is served elsewhere, or is about to be, must never answer 404. A request for what nobody wants any more
        can only have been on its way: where none come, there is nobody to wait for."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._withdraw_seconds
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                if self._unwanted(effect) and await self._last_use.rests(effect.pod):
                    return
        await asyncio.sleep(until - loop.time())

    def _unwanted(self, effect: Effect) -> bool:
        """Whether no LoraAdapter of the namespace has an adapter of this name."""
        desired, namespace = self._on.in_force.desired, effect.pod.partition("/")[0]
        return desired is not None and desired.by_name(namespace, public_name(effect.engine_name)) is None

    async def _withdrawn(self, effect: Effect, unload: Unload, wanted: DesiredAdapter | None, surplus: bool) -> None:
        """Have the engine forget it, if that still is right. Raises EngineError, KubeError."""
        pod = effect.pod
        there = present(self._on.cluster, self._on.engines, pod)
        if there is None or not still_runs(self._on.cluster, effect):
            return
        if self._on.in_force.wants_back(effect, there[1]):
            log.info("not unloading %s from %s: it is wanted there again", effect.engine_name, pod)
            return
        if wanted is not None:
            if surplus and not self._answers_elsewhere(effect):
                log.info("not unloading %s from %s: it is the only replica by now", effect.engine_name, pod)
                return
            self._tell_preempted(unload, wanted)
        self._on.fence()
        effect.stage = Stage.UNLOADING
        self._on.engines.touch(pod)
        await self._on.client.unload(self._on.engines.endpoint(pod), effect.engine_name)
        self._on.engines.note_unloaded(pod, effect.instance, effect.engine_name)
        self._on.ledger.failed_unloads.pop((effect.instance, effect.engine_name), None)
        self._on.metrics.unload(unload.cause.value, "ok")
        name, version = effect.engine_name, (effect.version or "")[:8]
        log.info("unloaded %s %s from %s (%s)", name, version, pod, unload.cause, extra=fields(effect))

    def _answers_elsewhere(self, effect: Effect) -> bool:
        """Whether another pod of the namespace answers for this adapter."""
        namespace, name = effect.pod.partition("/")[0], public_name(effect.engine_name)
        return any(
            view.state is EngineState.UP
            and pod != effect.pod
            and pod.partition("/")[0] == namespace
            and any(public_name(model.name) == name and not model.partial for model in view.models)
            for pod, view in self._on.engines.views.items()
        )

    async def _failed(self, effect: Effect, unload: Unload, error: Exception) -> None:
        """Pause before it is planned again: an engine that keeps refusing is asked less and less often."""
        pod, key = effect.pod, (effect.instance, effect.engine_name)
        attempts = self._on.ledger.failed_unloads[key] = self._on.ledger.failed_unloads.get(key, 0) + 1
        pause = doubled(1.0, attempts - 1, AGAIN_SECONDS)
        reason = str(getattr(error, "reason", "InternalError"))
        self._on.metrics.unload(unload.cause.value, reason)
        self._on.tracing.failed(reason)
        log.warning(
            "unloading %s from %s failed (attempt %d, again in %g s): %s", effect.engine_name, pod, attempts, pause,
            error, extra=fields(effect),
        )  # fmt: skip
        if isinstance(error, RuntimeUpdatingDisabled):
            self._on.engines.note_disabled(pod, str(error))
            return
        self._on.engines.look_now(pod)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._on.stopping.wait()

    def _tell_preempted(self, unload: Unload, victim: DesiredAdapter) -> None:
        """An Event for the owner of the adapter that has to go."""
        text, desired = self._on.in_force.preemption(unload), self._on.in_force.desired
        resource = desired.resources.get(victim.resource) if desired is not None else None
        if text is not None and resource is not None:
            self._on.recorder.emit(resource.resource, "Normal", "Preempted", text)
