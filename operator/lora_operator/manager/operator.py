"""Puts the operator together and takes it apart again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from lora_operator.delivery.sizes import Sizes
from lora_operator.execution.withdrawals import Withdrawals
from lora_operator.informers.cache import Cluster
from lora_operator.informers.pod_description import PodDefaults
from lora_operator.injection.webhook import Webhook
from lora_operator.kube.client import Kube, KubeError
from lora_operator.kube.events import Recorder
from lora_operator.kube.lease import Elector, LeaseLost
from lora_operator.kube.own_namespace import own_namespace
from lora_operator.kube.own_writes import Key, OwnWrites
from lora_operator.kube.preconditions import Preconditions, rights_to_act
from lora_operator.kube.write_queue import Writes
from lora_operator.manager import builders
from lora_operator.manager.loop import CycleFailed, Loop
from lora_operator.process.components import end_within, supervise
from lora_operator.reconcile import InFlight, Reconciler, Rules
from lora_operator.router.cluster_informers import Following
from lora_operator.router.serving import Router
from lora_operator.settings.operator import Settings, placement_policy
from lora_operator.settings.routing_rules import rules_of
from lora_operator.telemetry.metrics import Metrics
from lora_operator.telemetry.server import serve_health, serve_metrics
from lora_operator.tracing.collector import tracing_to
from lora_operator.vllm.client import new_session

log = logging.getLogger(__name__)

STOP_SECONDS = 10.0
LAST_ROUND_SECONDS = 1.0
LAST_WRITES_SECONDS = 2.0
END_SECONDS = 2.0  # for what should take none
STORE_END_SECONDS = 6.0


class Operator:
    """The whole operator in one object; `run` returns when `stop` is set and everything has ended in order."""

    def __init__(self, settings: Settings, kube: Kube, elector: Elector | None = None) -> None:
        self._settings = settings
        self._elector = elector
        self._tracing = tracing_to(settings.otlp_endpoint, "lora-operator")  # first: it may refuse what was chosen
        self._session = new_session()
        self.metrics = Metrics()
        self.cluster = Cluster(PodDefaults(adapter_root=str(settings.adapter_root)))
        self._writes, self._own_writes = Writes(), OwnWrites(self._mark)
        self._kube = kube = kube.fenced(self._check_lease, back=partial(self._writes.again, refused=False))
        self._needs = Preconditions(
            kube,
            rights_to_act(
                settings.namespaces,
                own_namespace(settings.requests_namespace),
                own_namespace(settings.lease_namespace) if elector is not None else "",
            )
            + builders.rights_to_export(settings),
            healed=partial(self._writes.again, refused=True),
        )
        self._following = Following(
            kube, self.cluster, settings.namespaces, self._mark, self._needs.why,
            relist_seconds=settings.relist_seconds, ours=self._is_ours,
        )  # fmt: skip
        work = builders.in_flight(settings)
        self._router = (
            Router(
                self.cluster,
                kube,
                load_seconds=settings.load_seconds,
                requests_namespace=settings.requests_namespace,
                on_demand_seconds=settings.on_demand_seconds,
                watches=self._following,
                lacks=self._needs.why,
                effects=work.ledger.on,
                rules=rules_of(settings.routing_policy, settings.routing_threshold, settings.routing_weights),
                prefix_blocks=settings.prefix_blocks,
                session=self._session,
            )
            if settings.router_port
            else None
        )
        self.loop = Loop(self._reconciler(work))
        self.metrics.watch_loads(self.loop.reconciler.model_loads)
        self.metrics.watch_writes(self._writes.__len__)

    def _reconciler(self, work: InFlight) -> Reconciler:
        settings = self._settings
        on = builders.Foundations(
            settings=settings,
            kube=self._kube,
            cluster=self.cluster,
            session=self._session,
            client=builders.engine_client(settings, self._session),
            writes=self._writes,
            own_writes=self._own_writes,
            recorder=Recorder(self._kube, self._writes),
            metrics=self.metrics,
            tracing=self._tracing,
            changed=self._mark,
            fence=self._check_lease,
        )
        engines, sources = builders.engines_and_sources(on, work)
        self.files = builders.files(on, engines, sources, work)
        observers = builders.observers(on, engines, sources, Sizes(self.files.store, self._mark), self._router)
        reporters = builders.reporters(on, self._router)
        self._exports = builders.exports(on, self._router)
        withdrawals = Withdrawals(
            observers.holdings, reporters.endpoints, reporters.status, self._next_cycle, self._exports.flush
        )
        return Reconciler(
            observers,
            builders.actors(on, observers, work, self.files, withdrawals),
            reporters,
            work,
            Rules(placement_policy(settings), settings.versioned_names, settings.on_demand_seconds),
            self._mark,
            self._tracing,
        )

    def _stands_by(self) -> bool:
        """One that lacks something is not ready to: a roll-out that takes a right away stops at its first pod."""
        return self._elector is not None and self._elector.standing_by() and not self._lacks()

    def _unready(self) -> str:
        return self._lacks() or self.loop.unready()

    def _lacks(self) -> str:
        return self._needs.why() or self._following.stale()

    def _check_lease(self) -> None:
        if self._elector is not None:
            self._elector.check()

    def _mark(self, *_: object) -> None:
        self.loop.mark()
        if self._router is not None:
            self._router.mark()

    def _is_ours(self, key: Key) -> bool:
        """Whether a watch may have shown a write of ours; the routing table goes by what is written."""
        ours = self._own_writes.may_be(key)
        if ours and self._router is not None:
            self._router.mark()
        return ours

    async def _next_cycle(self) -> None:
        try:
            await self.loop.next_cycle()
        except CycleFailed as error:
            raise KubeError(0, f"what is to be published is not known: {error}") from error

    async def run(self, stop: asyncio.Event) -> None:
        """Serve health at once, list, then watch and plan until `stop` is set.

        Raises:
            ServeError: a port is taken.
            LeaseLost: somebody else may be acting; the process should be started anew, to stand by.
            ComponentExited: a part that must not end did; the process should be started anew.
        """
        settings = self._settings
        tasks: list[asyncio.Task[Any]] = []
        grace_seconds = STOP_SECONDS
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(
                lambda: end_within("sending traces", asyncio.to_thread(self._tracing.close), END_SECONDS)
            )
            stack.push_async_callback(self._kube.close)
            stack.push_async_callback(self._session.close)
            stack.push_async_callback(lambda: end_within("the adapter volume", self.files.stop(), STORE_END_SECONDS))
            if settings.health_port:
                health = await serve_health(
                    settings.host, settings.health_port, plan_age=self.loop.plan_age, unready=self._unready,
                    standing_by=self._stands_by, max_age=settings.plan_max_age,
                )  # fmt: skip
                stack.push_async_callback(health.cleanup)
            if settings.metrics_port:
                metrics = await serve_metrics(settings.host, settings.metrics_port, self.metrics)
                stack.push_async_callback(metrics.cleanup)
            if settings.injection_port:
                webhook = Webhook(
                    settings.host, settings.injection_port, Path(settings.injection_tls_cert),
                    Path(settings.injection_tls_key), Path(settings.injected_parts),
                )  # fmt: skip
                stack.push_async_callback((await webhook.serve()).cleanup)
            looking = asyncio.create_task(self._needs.keep_looking(), name="look for what is missing")
            stack.callback(looking.cancel)
            stack.push_async_callback(self._following.stop)
            watching: asyncio.Task[None] | None = None
            if self._router is not None:
                # who stands by answers routers as well, and so has to see what there is
                watching = await self._serve_routers(self._router, stack, stop)
            if self._elector is not None:
                if not await self._lead(self._elector, stop, watching):
                    return
                stack.push_async_callback(self._elector.release)
                tasks.append(asyncio.create_task(self._elector.keep(), name="lease"))
            try:
                watching = watching or self._following.start()
                await self._following.until_synced(stop)
                supervise([watching], [watching] if watching.done() else [])
                if not self._following.synced.is_set():
                    return  # told to stop: with half of what there is known nothing may be decided
                await self.files.start()
                tasks += watching, looking
                tasks.append(asyncio.create_task(self.loop.run(), name="planning loop"))
                tasks += self._router.tasks if self._router is not None else ()
                tasks.append(asyncio.create_task(self._exports.run(), name="exports"))
                tasks.append(asyncio.create_task(self.files.look_after(), name="sweep"))
                log.info(
                    "started: %d LoraAdapters, %d pods, adapter volume %s", len(self.cluster.adapters),
                    len(self.cluster.pods), settings.adapter_root,
                )  # fmt: skip
                stopping = asyncio.create_task(stop.wait(), name="stop flag")
                tasks.append(stopping)
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    if task in done and isinstance(task.exception(), LeaseLost):
                        grace_seconds = 0.0  # whatever is under way may be another's business by now
                        task.result()
                supervise((task for task in tasks if task is not stopping), done)
            finally:
                log.info("stopping: what is under way may end, nothing new is begun")
                await self.finish(tasks, grace_seconds)

    async def _serve_routers(
        self, router: Router, stack: contextlib.AsyncExitStack, stop: asyncio.Event
    ) -> asyncio.Task[None]:
        """Answer routers from now on; returns the watches."""
        await router.start(self._settings.host, self._settings.router_port)
        stack.push_async_callback(router.stop)
        log.info("router API and web view on port %d", router.port)
        watching = self._following.start()
        await self._following.until_synced(stop)
        if self._following.synced.is_set():
            router.listed()
        return watching

    @staticmethod
    async def _lead(elector: Elector, stop: asyncio.Event, watching: asyncio.Task[None] | None) -> bool:
        """Stand by until it is our turn; false if we are told to stop before. Raises ComponentExited."""
        turn, stopped = asyncio.create_task(elector.acquire()), asyncio.create_task(stop.wait())
        waits: list[asyncio.Future[Any]] = [turn, stopped, *([watching] if watching is not None else ())]
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        left = {turn, stopped} - done
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        supervise([watching] if watching is not None else [], done)
        if turn in done:
            turn.result()
        return turn in done

    async def finish(self, tasks: Iterable[asyncio.Task[Any]], grace_seconds: float = STOP_SECONDS) -> None:
        """Begin nothing more, let end what is under way on the pods, say in status how it ended, and cancel `tasks`."""
        reconciler = self.loop.reconciler
        executor = reconciler.actors.executor
        await end_within("loading and unloading", executor.stop(grace_seconds), grace_seconds + END_SECONDS)
        reconciler.reporters.endpoints.ending = True
        with contextlib.suppress(TimeoutError, CycleFailed):
            async with asyncio.timeout(LAST_ROUND_SECONDS):
                await self.loop.next_cycle()
        for task in tasks:
            task.cancel()
        await end_within(
            "what runs for as long as the process", asyncio.gather(*tasks, return_exceptions=True), END_SECONDS
        )
        await self._writes.stop(LAST_WRITES_SECONDS)
        await end_within("observing", reconciler.observers.stop(), END_SECONDS)
