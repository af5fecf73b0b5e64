"""Puts the operator together and takes it apart again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lora_operator.artifacts import BaseModelShape
from lora_operator.drift import Drift
from lora_operator.events import Recorder
from lora_operator.execute import Executor, Limits
from lora_operator.files import Files, host_rules
from lora_operator.files_metrics import FilesMetrics
from lora_operator.finalize import Finalizers
from lora_operator.gates import Gates
from lora_operator.handlers import Watch
from lora_operator.inflight import Failures, Ledger
from lora_operator.kube import Kube, KubeError
from lora_operator.lease import Elector, LeaseLost
from lora_operator.loop import Loop, Parts
from lora_operator.metrics import Metrics
from lora_operator.observe.activity import Activity
from lora_operator.observe.cluster import Cluster
from lora_operator.observe.credentials import SourceCredentials
from lora_operator.observe.describe import PodDefaults
from lora_operator.observe.engines import Engines
from lora_operator.observe.keys import ApiKeys
from lora_operator.observe.nodes import Nodes
from lora_operator.observe.quotas import NamespaceQuotas
from lora_operator.publish import Publisher
from lora_operator.resolve import Resolver
from lora_operator.served import ServedNames
from lora_operator.server import serve_health, serve_metrics
from lora_operator.settings import Settings, SettingsError, placement_policy, quotas_of
from lora_operator.sizes import Sizes
from lora_operator.sources import sources_by_type
from lora_operator.telling import Teller
from lora_operator.vllm.client import EngineClient, Timeouts, new_session

log = logging.getLogger(__name__)

STOP_SECONDS = 10.0
LAST_ROUND_SECONDS = 1.0
LAST_STATUS_SECONDS = 2.0
LIST_RETRY_SECONDS = 2.0
FIRST_RELIST_SECONDS = 5.0


class PartEnded(Exception):
    """A part of the operator that must run for as long as the operator does has ended."""


class Operator:
    """The whole operator in one object; `run` returns when `stop` is set and everything has ended in order."""

    def __init__(self, settings: Settings, kube: Kube, elector: Elector | None = None) -> None:
        self._settings = settings
        self._kube = kube
        self._elector = elector
        kube.fence = self._check_lease
        self._session = new_session()
        self.metrics = Metrics()
        self.cluster = Cluster(PodDefaults(adapter_root=str(settings.adapter_root)))
        client = EngineClient(
            self._session,
            timeouts=Timeouts(probe=settings.probe_timeout, load=settings.load_timeout, unload=settings.unload_timeout),
        )
        engines = Engines(
            client,
            self._mark,
            Drift(self.cluster, self.metrics).gone,
            probe_seconds=settings.probe_seconds,
            probes_per_second=settings.probes_per_second,
            hold_seconds=settings.hold_seconds,
        )
        resolver = Resolver(
            sources_by_type(
                tuple(Path(root) for root in settings.local_roots),
                settle_seconds=settings.settle_seconds,
                rules=host_rules(settings),
            ),
            self._mark,
            interval_seconds=settings.source_seconds,
            base_shapes=base_shapes(settings.base_model_configs),
        )
        self._recorder = Recorder(kube)
        ledger, failures = Ledger(), Failures(settings.retry_seconds, settings.retry_max_seconds)
        publisher = Publisher(
            kube, self.cluster, self._recorder, self.metrics, quiet_seconds=settings.status_quiet_seconds
        )
        self.files = Files(
            settings,
            self._session,
            cluster=self.cluster,
            engines=engines,
            resolver=resolver,
            ledger=ledger,
            recorder=self._recorder,
            metrics=FilesMetrics(self.metrics.registry),
            policy=placement_policy(settings),
            fence=self._check_lease,
        )
        executor = Executor(
            engines=engines,
            client=client,
            files=self.files.ways,
            cluster=self.cluster,
            served_names=ServedNames(kube, self.cluster, engines),
            recorder=self._recorder,
            ledger=ledger,
            failures=failures,
            metrics=self.metrics,
            limits=Limits(settings.fresh_concurrency, settings.withdraw_seconds, settings.versioned_names),
            flush=self._publish_now,
            changed=self._mark,
            fence=self._check_lease,
        )
        self._parts = Parts(
            cluster=self.cluster,
            engines=engines,
            activity=Activity(
                engines,
                client,
                self._mark,
                period_seconds=settings.demand_seconds,
                half_life_seconds=settings.demand_half_life,
            ),
            resolver=resolver,
            executor=executor,
            publisher=publisher,
            finalizers=Finalizers(
                kube,
                self.cluster,
                self._recorder,
                deadline_seconds=settings.finalizer_seconds,
                changed=self._mark,
            ),
            gates=Gates(kube, self.cluster, self._mark),
            teller=Teller(self._recorder),
            keys=ApiKeys(kube, self._mark),
            credentials=SourceCredentials(kube, self._mark),
            nodes=Nodes(kube, self.cluster, self._mark),
            quotas=NamespaceQuotas(kube, quotas_of(settings), self._recorder, self._mark),
            sizes=Sizes(self.files.store),
            files=self.files,
            ledger=ledger,
            failures=failures,
            metrics=self.metrics,
        )
        self.loop = Loop(self._parts, policy=placement_policy(settings), versioned_names=settings.versioned_names)
        self.metrics.follow_loads(self.loop.model_loads)

    def _stands_by(self) -> bool:
        return self._elector is not None and self._elector.standing_by()

    def _check_lease(self) -> None:
        if self._elector is not None:
            self._elector.check()

    def _mark(self, *_: object) -> None:
        self.loop.mark()

    async def _publish_now(self, resource: str) -> None:
        await self.loop.next_round()
        await self._parts.publisher.flush(resource)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve health at once, list, then watch and plan until `stop` is set.

        Raises:
            ServeError: a port is taken.
            LeaseLost: somebody else may be acting; the process should be started anew, to stand by.
            WatchError: the watch ended for good; the process should be started anew.
            PartEnded: a part that must not end did; the process should be started anew.
        """
        settings = self._settings
        tasks: list[asyncio.Task[Any]] = []
        grace_seconds = STOP_SECONDS
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._kube.close)
            stack.push_async_callback(self._session.close)
            stack.push_async_callback(self.files.stop)
            if settings.health_port:
                health = await serve_health(
                    settings.host, settings.health_port, plan_age=self.loop.plan_age, unready=self.loop.unready,
                    standing_by=self._stands_by, max_age=settings.plan_max_age,
                )  # fmt: skip
                stack.push_async_callback(health.cleanup)
            if settings.metrics_port:
                metrics = await serve_metrics(settings.host, settings.metrics_port, self.metrics)
                stack.push_async_callback(metrics.cleanup)
            self._recorder.start()
            stack.push_async_callback(self._recorder.stop)
            if self._elector is not None:
                if not await self._lead(self._elector, stop):
                    return
                stack.push_async_callback(self._elector.release)
                tasks.append(asyncio.create_task(self._elector.keep(), name="lease"))
            watch = Watch(self.cluster, self._mark, namespaces=settings.namespaces, kubeconfig=settings.kubeconfig)
            try:
                await self._list_until_it_works(stop)
                watching = watch.start()
                await self.files.start()
                tasks.append(asyncio.create_task(self.loop.run(), name="planning loop"))
                tasks.append(asyncio.create_task(self._relist(), name="re-list"))
                tasks.append(asyncio.create_task(self.files.look_after(), name="sweep"))
                log.info(
                    "started: %d LoraAdapters, %d pods, adapter volume %s", len(self.cluster.adapters),
                    len(self.cluster.pods), settings.adapter_root,
                )  # fmt: skip
                stopping = asyncio.create_task(stop.wait(), name="stop flag")
                tasks.append(stopping)
                waits: list[asyncio.Future[Any]] = [watching, *tasks]
                done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                if watching in done:
                    watching.result()
                for task in tasks:
                    if task in done and isinstance(task.exception(), LeaseLost):
                        grace_seconds = 0.0  # whatever is under way may be another's business by now
                        task.result()
                    if task in done and task is not stopping:
                        raise PartEnded(f"the {task.get_name()} has ended by itself") from task.exception()
            finally:
                log.info("stopping: what is under way may end, nothing new is begun")
                await self.finish(tasks, grace_seconds)
                await watch.stop()

    @staticmethod
    async def _lead(elector: Elector, stop: asyncio.Event) -> bool:
        """Stand by until it is our turn; false if we are told to stop before."""
        turn, stopped = asyncio.create_task(elector.acquire()), asyncio.create_task(stop.wait())
        done, left = await asyncio.wait({turn, stopped}, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if turn in done:
            turn.result()
        return turn in done

    async def finish(self, tasks: Iterable[asyncio.Task[Any]], grace_seconds: float = STOP_SECONDS) -> None:
        """Begin nothing more, let end what is under way on the pods, say in status how it ended, and cancel `tasks`."""
        parts = self._parts
        await parts.executor.stop(grace_seconds)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_ROUND_SECONDS):
                await self.loop.next_round()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await parts.publisher.stop(LAST_STATUS_SECONDS)
        for part in (parts.finalizers, parts.gates, parts.keys, parts.credentials, parts.nodes, parts.quotas,
                     parts.activity, parts.resolver, parts.engines):  # fmt: skip
            await part.stop()

    async def _list(self) -> bool:
        adapters, adapters_at = await self._kube.list_adapters(self._settings.namespaces)
        pods, pods_at = await self._kube.list_pods(self._settings.namespaces)
        changed = self.cluster.adapters.replace(adapters, adapters_at)
        return self.cluster.pods.replace(pods, pods_at) or changed

    async def _list_until_it_works(self, stop: asyncio.Event) -> None:
        said = ""
        while not stop.is_set():
            try:
                await self._list()
                return
            except KubeError as error:
                hint = {
                    403: "; the service account lacks rights, see manifests/install/rbac.yaml",
                    404: "; apply the CustomResourceDefinition in crds/ first",
                }.get(error.status, "")
                if str(error) != said:
                    log.error("cannot list what to look after, trying again: %s%s", error, hint)
                    said = str(error)
                await asyncio.sleep(LIST_RETRY_SECONDS)

    async def _relist(self) -> None:
        # the watch began a moment after the first list: what was deleted in between is only seen by one more
        pause = min(FIRST_RELIST_SECONDS, self._settings.relist_seconds)
        while True:
            await asyncio.sleep(pause * random.uniform(0.9, 1.1))
            pause = self._settings.relist_seconds
            try:
                if await self._list():
                    self._mark()
            except KubeError as error:
                log.warning("the periodic list failed, the watches go on: %s", error)


def base_shapes(entries: tuple[str, ...]) -> dict[str, BaseModelShape]:
    """Read the config.json of each NAME=PATH.

    Raises:
        SettingsError: a file cannot be read.
    """
    shapes: dict[str, BaseModelShape] = {}
    for entry in entries:
        name, _, path = entry.partition("=")
        try:
            shape = BaseModelShape.from_config(Path(path))
        except (OSError, ValueError) as error:
            raise SettingsError(f"--base-model-config {entry}: {error}") from error
        if shape is None:
            log.warning("the architecture in %s is not known: adapters of %s go unchecked for layer shapes", path, name)
        else:
            shapes[name] = shape
    return shapes
