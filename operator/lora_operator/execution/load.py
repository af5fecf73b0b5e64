"""One load, from its files to the engine's answer, and what becomes of one that fails."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from lora_operator.cache.volume import StoreError
from lora_operator.delivery import DeliveryRouter
from lora_operator.delivery.agent_client import AgentError
from lora_operator.desired.adapters import DesiredAdapter
from lora_operator.execution.context import Context
from lora_operator.execution.presence import fields, present, still_runs
from lora_operator.execution.served_versions import ServedNames
from lora_operator.fetch.errors import FetchError
from lora_operator.informers.records import PodRecord
from lora_operator.kube.client import KubeError
from lora_operator.kube.lease import LeaseLost
from lora_operator.planning.inflight import Effect, Stage
from lora_operator.sources import SourceError
from lora_operator.vllm.answers import Frontend
from lora_operator.vllm.client import EngineModel
from lora_operator.vllm.engine_state import EngineState
from lora_operator.vllm.errors import (
    EngineError,
    EngineTimeout,
    EngineUnreachable,
    NameTakenByOther,
    RuntimeUpdatingDisabled,
)
from lora_operator.vllm.quirks import public_name

log = logging.getLogger(__name__)

# between two questions to an engine that did not answer a load in time
UNANSWERED_FIRST_SECONDS, UNANSWERED_LAST_SECONDS = 1.0, 30.0
# after so many, one that never lists a load whose client gave up (the Rust frontend) is let be for longer and longer
UNANSWERED_MOST = 4
DEATH_SECONDS = 5.0  # within which a load breaks off whose engine accepts no connections any more


class Loading:
    """Loads adapters. `next_on` is called with a pod when others need not wait for a load there any more."""

    def __init__(
        self, context: Context, files: DeliveryRouter, served_names: ServedNames, next_on: Callable[[str], None]
    ) -> None:
        self._on = context
        self._files = files
        self._served_names = served_names
        self._next = next_on

    async def run(self, effect: Effect, record: PodRecord, wanted: DesiredAdapter) -> None:
        """The whole of one load; never raises. The effect is in the ledger, and leaves it."""
        adapter, pod = wanted.adapter, effect.pod
        started = time.monotonic()
        path = f"{record.pod.adapter_root.rstrip('/')}/{adapter.name}/{adapter.version}"
        try:
            await self._fetch(effect, record, wanted)
            if effect.engine_name == adapter.name:
                await self._served_names.note(pod, adapter.name, adapter.version)
            log.debug("files of %s are there for %s after %.3f s", adapter.name, pod, time.monotonic() - started)
            async with self._on.concurrency.loading(self._on.engines.views.get(pod)):
                await self._until_deaths_count(effect)
                if (
                    self._on.failures.is_deadly(effect.adapter, effect.version, time.monotonic())
                    or not still_runs(self._on.cluster, effect)
                    or not present(self._on.cluster, self._on.engines, pod)
                    or not self._on.in_force.wants_load(effect)
                ):
                    log.info("not loading %s on %s any more", adapter.name, pod, extra=fields(effect))
                    return
                with self._on.tracing.span("load", **fields(effect)):
                    await self._ask_to_load(effect, path, adapter.base_model)
            self._loaded(effect, started)
        except NameTakenByOther as error:
            if error.is_base:
                self._load_failed(effect, error)
            else:
                # somebody came before us since the last look: nothing failed, there is one more resident to plan with
                self._on.metrics.load(error.reason, None)
                known = EngineModel(error.name, error.root, adapter.base_model)
                self._on.engines.note_loaded(pod, effect.instance, known)
        except RuntimeUpdatingDisabled as error:
            self._on.metrics.load(error.reason, None)
            log.warning("nothing can be loaded on %s: %s", pod, error, extra=fields(effect))
            self._on.engines.note_disabled(pod, str(error))
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
            self._on.engines.touch(pod)
            self._on.ledger.end(effect)

    async def _until_deaths_count(self, effect: Effect) -> None:
        """Where an engine refuses connections that was asked for the same version, it may have died of that."""
        if not self._may_be_deadly(effect):
            return  # nearly always
        with suppress(TimeoutError):
            async with asyncio.timeout(DEATH_SECONDS):
                while self._may_be_deadly(effect):  # noqa: ASYNC110  rare, and over in a moment
                    await asyncio.sleep(0.02)

    def _may_be_deadly(self, effect: Effect) -> bool:
        same = self._on.ledger.loads_of(effect.adapter, effect.version)
        views = [self._on.engines.views.get(other.pod) for other in same if other.stage is Stage.LOADING]
        return any(view is not None and view.refusals > 0 for view in views)

    async def _ask_to_load(self, effect: Effect, path: str, base_model: str) -> None:
        effect.stage = Stage.LOADING
        self._on.engines.touch(effect.pod)
        self._on.fence()
        await self._on.client.load(self._on.engines.endpoint(effect.pod), effect.engine_name, path)
        model = EngineModel(effect.engine_name, path, base_model)
        self._on.engines.note_loaded(effect.pod, effect.instance, model)

    def _loaded(self, effect: Effect, started: float) -> None:
        assert effect.adapter is not None and effect.version is not None  # it is a load
        pod, seconds = effect.pod, time.monotonic() - started
        self._on.failures.clear(effect.adapter, effect.version, pod)
        self._on.ledger.failed_unloads.pop((effect.instance, effect.engine_name), None)
        self._on.metrics.load("ok", seconds)
        name = public_name(effect.engine_name)
        log.info("loaded %s %s on %s in %.3f s", name, effect.version[:8], pod, seconds, extra=fields(effect))

    async def _until_it_says(self, effect: Effect, path: str, base_model: str, started: float) -> None:
        """Keep the room of a load that may still happen taken, and ask the engine again until it answers.

        An engine takes requests about one name in turn: what it answers to a later one comes after the earlier. It is
        asked to load once more while that is wanted, else to forget the name.
        """
        pod, pause, silences = effect.pod, UNANSWERED_FIRST_SECONDS, 0
        while not self._on.stopping.is_set():
            effect.stage = Stage.UNANSWERED
            self._on.engines.touch(pod)
            self._on.changed()
            self._next(pod)  # others need not wait for this
            await self._on.engines.next_probe(pod)
            view = self._on.engines.views.get(pod)
            if view is None or view.state is EngineState.STARTING or not still_runs(self._on.cluster, effect):
                return  # what was asked ended with the process
            if view.state is EngineState.UP:
                if (listed := view.listed(effect.engine_name)) is not None:
                    if listed.is_from(path):
                        self._loaded(effect, started)
                    return
                try:
                    if self._on.in_force.wants_load(effect) or self._on.in_force.lacks(effect):
                        await self._ask_to_load(effect, path, base_model)
                        self._loaded(effect, started)
                    else:
                        self._on.fence()
                        await self._on.client.unload(self._on.engines.endpoint(pod), effect.engine_name)
                        await self._on.engines.next_probe(pod)  # requests that lay unread may be taken up in any order
                    return
                except LeaseLost:
                    return  # whoever leads by now finds out
                except EngineError as error:
                    if not isinstance(error, (EngineTimeout, EngineUnreachable)):
                        return  # an answer
                    silences += isinstance(error, EngineTimeout)
                    if silences >= UNANSWERED_MOST and any(base.frontend is Frontend.RUST for base in view.bases):
                        self._load_failed(effect, error)
                        return
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._on.stopping.wait()
            pause = min(2 * pause, UNANSWERED_LAST_SECONDS)

    def _load_failed(self, effect: Effect, error: Exception) -> None:
        assert effect.adapter is not None and effect.version is not None  # it is a load
        api_server = isinstance(error, KubeError)
        pod, unknown = effect.pod, "ApiServerUnavailable" if api_server else "InternalError"
        reason = str(getattr(error, "reason", unknown))
        self._on.metrics.load(reason, None)
        self._on.tracing.failed(reason)
        slow = not getattr(error, "retryable", api_server)
        # the text of an unknown error may hold anything, and status is for everybody
        text = str(error) if reason != "InternalError" else f"{type(error).__name__} in the operator: see its log"
        failure = self._on.failures.add(
            effect.adapter, effect.version, pod, effect.instance, reason, text, time.monotonic(), slow,
            getattr(error, "retry_after_seconds", None) or 0.0,
            passes=effect.stage is Stage.FETCHING or _was_not_asked(error),
        )  # fmt: skip
        log.warning(
            "loading %s on %s failed (%s, attempt %d, again in %.1f s): %s", effect.adapter, pod, reason,
            failure.attempts, failure.next_at - time.monotonic(), error, extra=fields(effect),
        )  # fmt: skip
        record = self._on.cluster.pods.get(pod)
        ending = record is None or record.pod.terminating  # then it is no wonder that the connection broke
        if isinstance(error, EngineUnreachable) and error.maybe_received and not ending:
            name = pod.partition("/")[2]
            text = f"the engine of {name} died, or closed the connection, while it was loading this: {error}"
            self._on.failures.add_death(effect.adapter, effect.version, text, time.monotonic())
        self._on.engines.look_now(pod)

    async def _fetch(self, effect: Effect, record: PodRecord, wanted: DesiredAdapter) -> None:
        """Bring the files to the pod; every quarter of them is news for status."""

        files = wanted.found.files if wanted.found is not None else ()
        size = sum(file.size_bytes for file in files)

        def report(done_bytes: int) -> None:
            percent = 25 * min(4 * done_bytes // size, 4) if size else 0
            if percent != effect.fetched_percent:
                effect.fetched_percent = percent
                self._on.changed()

        with self._on.tracing.span("fetch", bytes=size, **fields(effect)):
            await self._files.bring(record, wanted, report)


def _may_still_happen(error: Exception) -> bool:
    """Whether the engine was asked and has not said what becomes of it."""
    return isinstance(error, EngineTimeout) or (isinstance(error, EngineUnreachable) and error.maybe_received)


def _was_not_asked(error: Exception) -> bool:
    """Whether the engine has certainly heard nothing of it."""
    return isinstance(error, EngineUnreachable) and not error.maybe_received
