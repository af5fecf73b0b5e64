"""One cycle of the operator: observe -> decide -> act -> report.

What is decided on is one moment, from observing to the snapshot; what comes after goes on in slices. Nothing here waits
for a pod: effects run beside the cycles, and are counted as in flight until an engine confirms them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain

from lora_operator.api.quota import Quotas
from lora_operator.api.usage_record import Use
from lora_operator.delivery.files import Files
from lora_operator.delivery.sizes import Sizes
from lora_operator.desired.adapters import Desired, DesiredResource
from lora_operator.desired.expand import Expansions
from lora_operator.desired.quota_enforcement import enforce_quotas
from lora_operator.engines.liveness import EngineView, instance_of
from lora_operator.engines.ownership import our_model
from lora_operator.engines.prober import Engines
from lora_operator.engines.served_names import ServedNames, names_of_model
from lora_operator.engines.traffic import Activity
from lora_operator.execution.executor import Executor
from lora_operator.execution.finalizers import Finalizers
from lora_operator.execution.readiness_gates import ReadinessGates
from lora_operator.informers.api_keys import ApiKeys
from lora_operator.informers.cache import Cluster
from lora_operator.informers.credentials import SourceCredentials
from lora_operator.informers.endpoints import Contents
from lora_operator.informers.holdings import Holdings
from lora_operator.informers.nodes import Nodes
from lora_operator.informers.published import published
from lora_operator.informers.quotas import NamespaceQuotas
from lora_operator.informers.records import PodRecord, Resource
from lora_operator.informers.sources import Resolver
from lora_operator.informers.usage_record import Requests
from lora_operator.planning.expected_load import model_loads
from lora_operator.planning.fault_isolation import Isolation
from lora_operator.planning.inflight import Failures, Ledger
from lora_operator.planning.pod_readiness import undecided, verdicts
from lora_operator.planning.pod_selection import Participants, Participation
from lora_operator.planning.snapshot import Observed
from lora_operator.planning.snapshots import Snapshots
from lora_operator.process.slices import in_slices
from lora_operator.status.aggregate import StatusInput, state_name, telling_reason
from lora_operator.status.endpoint_writer import EndpointWriter
from lora_operator.status.inputs import Moment, StatusInputs
from lora_operator.status.offers import Offers
from lora_operator.status.pod_endpoints import Endpoints, claims_of
from lora_operator.status.scaling_events import ScalingEvents
from lora_operator.status.writer import StatusWriter
from lora_operator.telemetry.metrics import Metrics, ModelLoad
from lora_operator.tracing import OFF, Tracing, reconciling
from lora_scheduler import Plan, Policy, Snapshot

log = logging.getLogger(__name__)

LARGE = 300  # adapters and pods: below that a plan takes less than others notice
FIRST_READS_SECONDS = 5.0

EarlyStatus = Callable[[Mapping[str, StatusInput], Mapping[str, Contents | None]], Awaitable[None]]


async def _nobody(inputs: Mapping[str, StatusInput], contents: Mapping[str, Contents | None]) -> None:
    """Is told where no routes are served."""


@dataclass(frozen=True, slots=True)
class Cycle:
    """What one cycle saw and decided, for whoever wants to explain it."""

    desired: Desired
    snapshot: Snapshot
    plan: Plan


@dataclass(frozen=True, slots=True)
class Observers:
    """What knows the world as it is."""

    cluster: Cluster
    engines: Engines
    traffic: Activity
    sources: Resolver
    holdings: Holdings
    api_keys: ApiKeys
    credentials: SourceCredentials
    nodes: Nodes
    quotas: NamespaceQuotas
    usage: Requests
    sizes: Sizes

    async def stop(self) -> None:
        """Whatever runs in the background; the cluster's informers are somebody else's."""
        every = (self.api_keys, self.credentials, self.nodes, self.quotas, self.usage, self.sizes, self.traffic,
                 self.sources, self.engines)  # fmt: skip
        await asyncio.gather(*(one.stop() for one in every))


@dataclass(frozen=True, slots=True)
class InFlight:
    """Effects that are under way, and what has failed and is not due again yet."""

    ledger: Ledger
    failures: Failures


@dataclass(frozen=True, slots=True)
class Actors:
    """What changes the world: pods, their files, finalizers and readiness gates."""

    executor: Executor
    files: Files
    finalizers: Finalizers
    gates: ReadinessGates


@dataclass(frozen=True, slots=True)
class Reporters:
    """What says how things are. `early` is told what status and LoraEndpoints will say, before they are written."""

    status: StatusWriter
    endpoints: EndpointWriter
    scaling: ScalingEvents
    metrics: Metrics
    early: EarlyStatus = _nobody
    marks: Callable[[Mapping[str, PodRecord], Mapping[str, EngineView]], None] | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """How it is decided."""

    policy: Policy
    versioned_names: bool
    on_demand_seconds: float


class Reconciler:
    """Runs cycles when it is told to. `changed` is called when another is needed for what the last left over."""

    def __init__(
        self,
        observers: Observers,
        actors: Actors,
        reporters: Reporters,
        in_flight: InFlight,
        rules: Rules,
        changed: Callable[[], None],
        tracing: Tracing = OFF,
    ) -> None:
        self.observers = observers
        self.actors = actors
        self.reporters = reporters
        self.in_flight = in_flight
        self._rules = rules
        self._changed = changed
        self._tracing = tracing
        self._endpoints = Endpoints(observers.cluster.shared)
        self._participation = Participation()
        self._served_names = ServedNames(observers.holdings.said)
        self._expansions = Expansions(observers.holdings, observers.sizes.of)
        self._snapshots = Snapshots()
        self._states = StatusInputs()
        self._isolation = Isolation()
        self._offers = Offers(observers.cluster, reporters.status, reporters.endpoints)
        self._quotas = Quotas()
        self._planning = ThreadPoolExecutor(1, thread_name_prefix="planning")
        self.last: Cycle | None = None

    async def first_reads(self) -> None:
        """Wait until every engine and source was asked once, or for some seconds: whoever knows nothing of what is
        loaded must not unload it, nor load it elsewhere."""
        seen, most = self.observers, FIRST_READS_SECONDS
        seen.holdings.sync_targets(seen.cluster)
        seen.engines.assume(published(seen.holdings, seen.cluster.pods.get, seen.cluster.adapters.get))
        self._sync_targets()
        await asyncio.gather(
            seen.api_keys.first_reads(most), seen.credentials.first_reads(most), seen.quotas.first_reads(most),
            seen.usage.first_reads(most),
        )  # fmt: skip
        self._sync_targets()
        seen.engines.assume({})
        await asyncio.gather(
            seen.engines.first_probes(most), seen.sources.first_reads(most), seen.nodes.first_reads(most)
        )
        await seen.sizes.first_reads(self._listed(), most)

    async def cycle(self) -> None:
        """Observe, decide, act, report."""
        started = time.monotonic()
        # 1. observe
        found, desired, resources = await self._observe()
        # 2. decide
        snapshot = self._snapshot(found, desired, started)
        plan = await self._plan(snapshot)
        seconds = time.monotonic() - started
        self.last = Cycle(desired, snapshot, plan)
        log.debug("plan in %.4f s: %d actions, %d waiting", seconds, len(plan.actions), len(plan.waiting))
        # 3. act
        with reconciling(self._tracing, plan, seconds):
            self.actors.executor.held = False
            await self.actors.executor.submit(plan, desired)
        # as they are by now: what is said has to be so
        records = self.observers.cluster.pods
        present = {key: record for key in found.pods if (record := records.get(key)) is not None}
        pods = self._served_names.of(present, self.observers.engines.views)
        with self._isolation.around("bringing files early"):
            self.actors.files.sync_targets(desired, snapshot, plan, pods)
        # 4. report
        inputs = await self._report(desired, resources, snapshot, plan, pods, started)
        self._open(_not_replaced(pods, found.pods), snapshot, plan, pods)
        if len(self.in_flight.failures):
            wanted = {(one.adapter.key, one.adapter.version) for one in desired.adapters.values()}
            self.in_flight.failures.prune(wanted, set(pods))
        self._count(seconds, desired.resources.values(), inputs, plan)

    async def _observe(self) -> tuple[Participants, Desired, Mapping[str, Resource]]:
        """The pods that take part, the adapters that should be served, and the resources that this comes from."""
        seen = self.observers
        demands, sources = seen.traffic.demands, seen.sources.views
        await self._expansions.prepare(list(seen.cluster.adapters.values()), sources, demands, self._use())
        found = self._sync_targets()
        use = self._use()
        resources = {resource.key: resource for resource in seen.cluster.adapters.values()}
        desired = self._expansions.desired(resources.values(), sources, demands, use)
        seen.usage.tidy(desired.names, use.seconds, use.now)
        desired, uses = enforce_quotas(desired, self._quotas, seen.holdings.of)
        seen.quotas.warn(uses, resources.values())
        seen.traffic.sync_targets(found.pods, desired.names)
        if self.actors.files.desired is not desired:
            seen.sizes.remember(desired)
            self.actors.files.desired = desired
        return found, desired, resources

    def _sync_targets(self) -> Participants:
        """Point the observers at what takes part now, and at what we still have to clear away."""
        seen = self.observers
        resources = list(seen.cluster.adapters.values())
        self._expansions.forget({resource for resource, _ in seen.holdings.sync_targets(seen.cluster)})
        found = self._participation.of(
            seen.cluster.pods.values(), resources, seen.engines.views, self.in_flight.ledger, seen.holdings.pods()
        )
        pods = self._served_names.of(found.pods, seen.engines.views)
        found = replace(found, pods=pods)
        seen.nodes.sync_targets({record.pod.node for record in pods.values() if record.pod.node})
        seen.engines.sync_targets(pods, seen.api_keys.sync_targets(pods, seen.engines.refusing()))
        self._quotas = seen.quotas.sync_targets(resources)
        seen.usage.sync_targets(any(_on_demand(resource) for resource in resources))
        seen.sources.sync_targets(
            # whose quota is not known yet could get in beyond it, and what is in stays
            [r for r in resources if r.key in seen.sources.views or not seen.quotas.reads(r.namespace)],
            {(one.pod.namespace, names_of_model(one, seen.engines.views.get(key))) for key, one in pods.items()},
            seen.credentials.sync_targets(resources, seen.sources.failing()),
        )
        return found

    def _listed(self) -> set[tuple[str, str]]:
        """All versions of ours that engines have."""
        seen = self.observers
        records = {record.key: record for record in seen.cluster.pods.values()}
        ours = (
            our_model(model, records[key].pod.adapter_root)
            for key, view in seen.engines.views.items()
            for model in view.models
            if key in records
        )
        return {(model.name, model.fingerprint) for model in ours if model is not None}

    def _use(self) -> Use:
        """Which adapters were requested when: through routers, or past them."""
        last, used = dict(self.observers.usage.asked), self.observers.traffic.used
        last |= {name: at for name, at in used.items() if at > last.get(name, 0.0)}
        return Use(last, time.time(), self._rules.on_demand_seconds)

    def _snapshot(self, found: Participants, desired: Desired, now: float) -> Snapshot:
        seen, work = self.observers, self.in_flight
        observed = Observed(
            found.pods, seen.engines.views, seen.cluster.node_labels, seen.sizes.of, self._rules.versioned_names,
            seen.api_keys.problems, found.leaving, self.actors.files.agents.disks.of,
        )  # fmt: skip
        return self._snapshots.take(desired, observed, work.ledger, work.failures, now)

    async def _plan(self, snapshot: Snapshot) -> Plan:
        """Beside the event loop where it may take long. Nothing new begins on pods meanwhile: the plan counts on what
        it knows of."""
        if len(snapshot.adapters) + len(snapshot.pods) < LARGE:
            return self._isolation.plan(snapshot, self._rules.policy)
        self.actors.executor.held = True
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._planning, self._isolation.plan, snapshot, self._rules.policy
            )
        except BaseException:
            self.actors.executor.held = False
            raise

    async def _report(
        self,
        desired: Desired,
        resources: Mapping[str, Resource],
        snapshot: Snapshot,
        plan: Plan,
        pods: Mapping[str, PodRecord],
        started: float,
    ) -> Mapping[str, StatusInput]:
        """What LoraAdapters' status and pods' LoraEndpoints should say, offered to those who write them."""
        seen, work = self.observers, self.in_flight
        views, held = seen.engines.views, seen.holdings.of
        self._states.update(Moment(desired, snapshot, plan, pods, views, work.ledger, work.failures))
        inputs = {key: self._states.of(resource) async for key, resource in in_slices(desired.resources.items())}
        inputs |= self._states.departing(desired, held)
        if self._states.reasons.unfinished:
            self._changed()
        contents = self._endpoints.update(pods, views, work.ledger, claims_of(desired, held))
        with self._isolation.around("LoraEndpoints"):
            self.reporters.endpoints.offer(contents, asyncio.get_running_loop().time())
        with self._isolation.around("the routing table"):
            await self.reporters.early(inputs, contents)
        await self._offers.offer(inputs, resources, self._isolation)
        if self.reporters.marks is not None:
            with self._isolation.around("marks on pods"):
                self.reporters.marks(pods, views)
        # as they were: who was deleted since is still among those that want something
        self.actors.finalizers.update(resources.values(), desired, pods, views, work.ledger, held)
        with self._isolation.around("telling what demand did"):
            self.reporters.scaling.round(desired, snapshot, plan, started)
        return inputs

    def _open(
        self, same: Mapping[str, PodRecord], snapshot: Snapshot, plan: Plan, pods: Mapping[str, PodRecord]
    ) -> None:
        """Say which pods may take traffic, to agents and in readiness gates; `same` have the containers they had."""
        with self._isolation.around("deciding which pods may take traffic"):
            found = verdicts(snapshot, plan, undecided(same))
            self.actors.gates.update(found, pods)
            self.actors.files.readiness.sync_targets(found, pods)

    def _count(
        self, seconds: float, resources: Iterable[DesiredResource], inputs: Mapping[str, StatusInput], plan: Plan
    ) -> None:
        names = (state_name(state) for given in inputs.values() for state in given.adapters)
        rejected = ("rejected" for resource in resources for _ in resource.rejected)
        refused = (
            str(telling_reason(self._states.reasons.of(key))) for key, n in plan.missing.items() for _ in range(n)
        )
        self.reporters.metrics.round(
            now=time.time(),
            seconds=seconds,
            engine_states=(view.state.value for view in self.observers.engines.views.values()),
            adapter_states=chain(names, rejected),
            refused=refused,
            in_flight=len(self.in_flight.ledger),
        )

    def next_due(self, since: float) -> float | None:
        """Seconds until something falls due by itself that was not at `since` (monotonic): a retry, a deadline."""
        due, deadline = self.in_flight.failures.next_due(since), self.actors.finalizers.next_deadline()
        gate = self.actors.gates.next_deadline()
        pauses = [] if due is None else [due - time.monotonic()]
        pauses += [] if deadline is None else [deadline - time.time()]
        pauses += [] if gate is None else [gate - time.monotonic()]
        return max(min(pauses), 0.0) if pauses else None

    def yields_to_effects(self) -> bool:
        """Whether the next cycle may wait for loads and unloads that are under way: nothing in the last plan waits for
        one."""
        return self.last is not None and not self.last.plan.waiting and self.in_flight.ledger.goes_on()

    def model_loads(self) -> Mapping[str, ModelLoad]:
        """What the last plan expects on the pods of each base model."""
        return {} if self.last is None else model_loads(self.last.snapshot, self.last.plan)

    def close(self) -> None:
        """No cycle follows."""
        self._planning.shutdown(wait=False, cancel_futures=True)


def _on_demand(resource: Resource) -> bool:
    return resource.spec is not None and not resource.spec.deployment_config.load_on_startup


def _not_replaced(now: Mapping[str, PodRecord], before: Mapping[str, PodRecord]) -> dict[str, PodRecord]:
    """The pods with the very containers that they had before."""
    return {key: record for key, record in now.items() if instance_of(record) == instance_of(before[key])}
