"""The files of adapters, seen from the operator: its volume, its fetches, the agents, and what may be removed when."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import aiohttp

from lora_operator.agent_api.token import TokenError, TokenFile
from lora_operator.agent_api.wire import EvictedBody
from lora_operator.cache.limits import Limits
from lora_operator.cache.metrics import FilesMetrics
from lora_operator.cache.volume import Evicted, StoreError, VolumeStore
from lora_operator.delivery import DeliveryRouter
from lora_operator.delivery.agent_client import AgentClient, AgentError
from lora_operator.delivery.agent_readiness import AgentReadiness
from lora_operator.delivery.agents import Agents
from lora_operator.delivery.prefetcher import Prefetcher
from lora_operator.delivery.retention import Key, in_use, needed
from lora_operator.delivery.shared import SharedVolume
from lora_operator.desired.adapters import Desired, DesiredAdapter
from lora_operator.desired.pinning import pinned
from lora_operator.engines.ownership import our_model
from lora_operator.engines.prober import Engines, EngineView, instance_of
from lora_operator.fetch.fetcher import Fetcher
from lora_operator.fetch.hosts import HostRules
from lora_operator.fetch.limits import Limits as FetchLimits
from lora_operator.fetch.manifest import FetchManifest
from lora_operator.informers.cache import Cluster
from lora_operator.informers.records import PodRecord
from lora_operator.informers.sources import Resolver
from lora_operator.kube.client import KubeError
from lora_operator.kube.events import Recorder
from lora_operator.planning.inflight import Effect, Ledger
from lora_operator.planning.pod_selection import ENDED
from lora_operator.planning.prefetch_forecast import Forecast
from lora_operator.settings.operator import Settings
from lora_operator.sources import SourceError
from lora_operator.tracing import OFF, Tracing
from lora_operator.vllm.engine_state import EngineState
from lora_scheduler import Plan, Policy, Snapshot, plan

log = logging.getLogger(__name__)

STORE_SECONDS = 5.0
MEASURE_SECONDS = 60.0
SWEEP_SECONDS = 600.0
Records = Mapping[str, PodRecord]
Views = Mapping[str, EngineView]


def host_rules(settings: Settings) -> HostRules:
    """Where adapters may come from, for sources and fetches alike."""
    return HostRules(
        settings.allowed_hosts,
        deny_private=settings.deny_private,
        private=settings.private_hosts,
        ca_file=settings.ca_file,
    )


class Files:
    """`desired` is set by each planning round; until the first nothing may be removed. `fence` raises KubeError where
    another operator may be acting by now: then nothing may be removed either.
    """

    def __init__(
        self,
        settings: Settings,
        session: aiohttp.ClientSession,
        *,
        cluster: Cluster,
        engines: Engines,
        resolver: Resolver,
        ledger: Ledger,
        recorder: Recorder,
        metrics: FilesMetrics,
        policy: Policy,
        fence: Callable[[], None] = lambda: None,
        tracing: Tracing = OFF,
    ) -> None:
        self._settings = settings
        self._fence = fence
        self._cluster = cluster
        self._engines = engines
        self._resolver = resolver
        self._ledger = ledger
        self._recorder = recorder
        self._metrics = metrics
        self.desired: Desired | None = None
        self._opening: asyncio.Task[None] | None = None
        self._pinned: dict[str, frozenset[Key]] = {}  # by namespace
        self._listed: dict[str, tuple[EngineView, frozenset[Key]]] = {}  # what a view lists, worked out once
        self.store = VolumeStore(
            settings.adapter_root,
            limits=Limits(settings.cache_bytes, settings.retain_seconds),
            in_use=self._in_use,
            on_evicted=self._evicted,
        )
        limits = FetchLimits(bytes_per_second=settings.bytes_per_second)
        self._fetcher = Fetcher(rules=host_rules(settings), limits=limits, meter=metrics, tracing=tracing)

        def client_of(namespace: str) -> AgentClient:
            return AgentClient(session, lambda: self._token(namespace), tracing)

        self.readiness = AgentReadiness(client_of, fence)
        self.agents = Agents(
            client_of,
            self._locate,
            self._loaded_on,
            self._evicted_by_agent,
            pinned=lambda pod: self._pinned.get(pod.partition("/")[0], frozenset()),
            gone=self._is_gone,
            known=lambda pod: cluster.pods.get(pod) is not None,
            fence=fence,
            secrets=settings.secrets_to_agents,
            wanted=lambda: self._kept(needed),
            retain_seconds=settings.retain_seconds,
        )
        self._shared = SharedVolume(self.store, self._fetcher, self._locate)
        self.ways = DeliveryRouter(self._shared, self.agents)
        self.prefetcher = Prefetcher(self.ways)
        self._forecast = Forecast(lambda snapshot: plan(snapshot, policy))

    async def start(self) -> None:
        """A volume that is not there lets no load succeed, and status says so; what is loaded is still looked after."""
        self._opening = asyncio.create_task(self._open(), name="adapter volume")
        done, _ = await asyncio.wait({self._opening}, timeout=STORE_SECONDS)
        if not done:
            log.error("the adapter volume does not answer within %g s; nothing can be loaded until then", STORE_SECONDS)

    async def _open(self) -> None:
        try:
            repaired = await self.store.start()
        except StoreError as error:
            log.error("%s; nothing can be loaded until then", error)
            return
        if repaired:
            log.info("repaired or removed %d left-overs on the adapter volume", repaired)

    async def look_after(self) -> None:
        """Remove versions from the adapter volume that nobody wants and no engine lists, for as long as it runs."""
        swept_at = time.monotonic()
        while True:
            await self._measure()
            await asyncio.sleep(min(MEASURE_SECONDS, SWEEP_SECONDS) * random.uniform(0.9, 1.1))
            if time.monotonic() - swept_at >= SWEEP_SECONDS:
                await self.sweep()
                swept_at = time.monotonic()

    async def _measure(self) -> None:
        """Have the metrics say what the adapter volume holds."""
        try:
            self._metrics.holds(await self.store.statistics())
        except StoreError as error:
            log.debug("the adapter volume cannot be measured: %s", error)

    async def sweep(self) -> None:
        """Once, now."""
        keep = self._kept(needed)
        if keep is None:
            return  # an engine that cannot be asked may still need its files
        try:
            await self.store.sweep(keep, older_than_seconds=self._settings.retain_seconds, now=time.time())
        except StoreError as error:
            log.warning("clearing the adapter volume failed: %s", error)

    async def stop(self) -> None:
        """Everything that brings files has been cancelled before."""
        parts = (self.prefetcher, self.agents, self.readiness, self._shared)
        ending = [asyncio.create_task(part.stop()) for part in parts]
        if self._opening is not None:
            self._opening.cancel()
            ending.append(self._opening)
        # a volume that hangs lets nothing of it end
        await asyncio.wait(ending, timeout=STORE_SECONDS)
        await self._fetcher.close()

    def sync_targets(self, wanted: Desired, snapshot: Snapshot, made: Plan, pods: Mapping[str, PodRecord]) -> None:
        """Tell agents what is loaded by now, and bring early what the plan will want next."""
        for gone in self._listed.keys() - pods.keys():
            del self._listed[gone]
        spaces = {each.resource.namespace for each in wanted.resources.values() if each.resource.pinned}
        self._pinned = {namespace: pinned(wanted, namespace) for namespace in spaces}
        self.agents.sync_targets(pods)
        starting = frozenset(
            key for key, record in pods.items() if record.pod.agent_port and record.pod.ip and self._starts(key)
        )
        self.prefetcher.sync_targets(self._forecast.early(snapshot, made, starting), pods, wanted)

    def _starts(self, pod: str) -> bool:
        view = self._engines.views.get(pod)
        return view is not None and view.state is EngineState.STARTING

    def _token(self, namespace: str) -> str:
        path = self._settings.agent_token_file
        if not path:
            raise AgentError(
                "AgentTokenMissing", "pods have agents, and the operator has no --agent-token-file", retryable=False
            )
        file = Path(path)
        try:
            return TokenFile(file / namespace if file.is_dir() else file).read()
        except TokenError as error:
            raise AgentError("AgentTokenMissing", str(error), retryable=True) from None

    async def _locate(self, wanted: DesiredAdapter) -> Path | FetchManifest:
        if wanted.found is None:
            raise SourceError("SourceUnavailable", f"the source of {wanted.adapter.name} is away", retryable=True)
        return await self._resolver.locate(wanted.resource, wanted.found)

    def _in_use(self) -> set[Key] | None:
        return self._kept(in_use)

    def _kept(self, choose: Callable[[Desired, Records, Views], set[Key] | None]) -> set[Key] | None:
        """What `choose` says has to stay, and what is just being loaded; None while nobody can tell."""
        try:
            self._fence()
        except KubeError:
            return None
        if self.desired is None:
            return None
        records = {record.key: record for record in self._cluster.pods.values()}
        keep = choose(self.desired, records, self._engines.views)
        if keep is None:
            return None
        return keep | pinned(self.desired) | {key for each in self._ledger.loads() if (key := _key(each))}

    def _is_gone(self, pod: str) -> bool:
        """Whether there certainly is no such pod ("namespace/name"), or none of its containers runs any more."""
        watched = self._settings.namespaces
        if watched and pod.partition("/")[0] not in watched:
            return False
        record = self._cluster.pods.get(pod)
        return record is None or record.pod.phase in ENDED

    def _loaded_on(self, pod: str) -> frozenset[Key] | None:
        """What the pod's engine has or is about to get; None while nobody knows."""
        record, view = self._cluster.pods.get(pod), self._engines.views.get(pod)
        if record is None or view is None or view.instance != instance_of(record):
            return None
        if view.state is not EngineState.UP:
            return None
        known = self._listed.get(pod)
        if known is None or known[0] is not view:
            ours = (our_model(model, record.pod.adapter_root) for model in view.models)
            listed = frozenset((model.name, model.fingerprint) for model in ours if model is not None)
            known = self._listed[pod] = (view, listed)
        coming = {key for effect in self._ledger.on(pod) if effect.reads_files and (key := _key(effect)) is not None}
        return known[1] | coming if coming else known[1]

    def _evicted(self, gone: Evicted) -> None:
        self._metrics.evicted(gone)
        self._tell_evicted(gone.key, None, "the adapter volume", f"{gone.why.value}, {gone.size_bytes} bytes")

    def _evicted_by_agent(self, record: PodRecord, gone: EvictedBody) -> None:
        where = f"the disk of pod {record.pod.name}"
        key = (gone.name, gone.fingerprint)
        self._tell_evicted(key, record.pod.namespace, where, f"{gone.why}, {gone.size_bytes} bytes")

    def _tell_evicted(self, key: Key, namespace: str | None, where: str, why: str) -> None:
        """An Event for each LoraAdapter that wants this very version: the next load of it has to fetch it again."""
        log.info("%s %s was removed from %s (%s)", *key, where, why)
        if self.desired is None:
            return
        for wanted in self.desired.adapters.values():
            adapter = wanted.adapter
            if (adapter.name, adapter.version) == key and namespace in (None, adapter.namespace):
                resource = self.desired.resources[wanted.resource].resource
                text = f"the files of {key[0]} were removed from {where} ({why}); the next load fetches them again"
                self._recorder.emit(resource, "Normal", "Evicted", text)


def _key(effect: Effect) -> Key | None:
    """The version that an effect is about."""
    if effect.adapter is None or effect.version is None:
        return None
    return effect.adapter.rpartition("/")[2], effect.version
