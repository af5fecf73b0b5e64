"""The planning loop: batch -> snapshot -> plan -> execute -> publish, and again.

A quiet loop begins at the first event; what arrives during a round is the next round's batch. Nothing here waits for a
pod: effects run beside the loop and mark it dirty when they end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

from lora_operator.api.quota import Quotas
from lora_operator.api.usage_record import Use
from lora_operator.delivery.files import Files
from lora_operator.delivery.sizes import Sizes
from lora_operator.desired.adapters import Desired, DesiredResource
from lora_operator.desired.expand import Expansions
from lora_operator.desired.quota_enforcement import within
from lora_operator.engines.liveness import instance_of
from lora_operator.engines.ownership import our_model
from lora_operator.engines.prober import Engines
from lora_operator.engines.traffic import Activity
from lora_operator.execution.executor import Executor
from lora_operator.execution.finalizers import Finalizers
from lora_operator.execution.pacing import Pace
from lora_operator.execution.readiness_gates import ReadinessGates
from lora_operator.informers.api_keys import ApiKeys
from lora_operator.informers.cache import Cluster
from lora_operator.informers.credentials import SourceCredentials
from lora_operator.informers.endpoints import Contents
from lora_operator.informers.holdings import Holdings
from lora_operator.informers.nodes import Nodes
from lora_operator.informers.published import noted
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
from lora_operator.status.inputs import StatusInputs
from lora_operator.status.offers import Offers
from lora_operator.status.pod_endpoints import Endpoints, claims_of
from lora_operator.status.scaling_events import ScalingEvents
from lora_operator.status.writer import StatusWriter
from lora_operator.telemetry.metrics import Metrics, ModelLoad
from lora_operator.tracing import OFF, Tracing, reconciling
from lora_scheduler import Plan, Policy, Snapshot

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 20.0
LARGE = 300  # adapters and pods: below that a plan takes less than others notice
FIRST_LOOKS_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Round:
    """What one round saw and decided, for whoever wants to explain it."""

    desired: Desired
    snapshot: Snapshot
    plan: Plan


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that a round works with."""

    cluster: Cluster
    engines: Engines
    activity: Activity
    resolver: Resolver
    executor: Executor
    holdings: Holdings
    publisher: StatusWriter
    endpoints: EndpointWriter
    finalizers: Finalizers
    gates: ReadinessGates
    teller: ScalingEvents
    keys: ApiKeys
    credentials: SourceCredentials
    nodes: Nodes
    quotas: NamespaceQuotas
    requests: Requests
    sizes: Sizes
    files: Files
    ledger: Ledger
    failures: Failures
    metrics: Metrics


class RoundFailed(Exception):
    """The round that was waited for did not come to its end: what it should have said was not said."""


class Loop:
    """Runs rounds for as long as it lives. Others `mark` it dirty, or wait for the `next_round`."""

    def __init__(
        self, parts: Parts, *, policy: Policy, versioned_names: bool, on_demand_seconds: float, tracing: Tracing = OFF
    ) -> None:
        self._parts = parts
        self._policy = policy
        self._versioned_names = versioned_names
        self._on_demand_seconds = on_demand_seconds
        self._tracing = tracing
        self._endpoints = Endpoints(parts.cluster.shared)
        self._participation = Participation()
        self._expansions = Expansions(parts.holdings, parts.sizes.of)
        self._snapshots = Snapshots()
        self._states = StatusInputs()
        self._isolation = Isolation()
        self._offers = Offers(parts.cluster, parts.publisher, parts.endpoints)
        self._quotas = Quotas()
        self._dirty = asyncio.Event()
        self._pace = Pace(self._presses)
        self._waiting: list[asyncio.Future[None]] = []  # for a round that has yet to begin
        self._waited_for: list[asyncio.Future[None]] = []  # for the one that goes on
        self._planning = ThreadPoolExecutor(1, thread_name_prefix="planning")
        self._in_round = False
        self._ended = False
        self.last_round: Round | None = None
        self._began_at: float | None = None  # monotonic, as is the next
        self.last_plan_at: float | None = None  # when a round last came to its end
        # of what each status and each pod's LoraEndpoint will say
        self.tell: Callable[[Mapping[str, StatusInput], Mapping[str, Contents | None]], None] = lambda *_: None

    async def next_round(self) -> None:
        """Wait until a round has ended that began after this moment; do not wait for a loop that has ended. Raises
        RoundFailed."""
        ended = asyncio.get_running_loop().create_future()
        if not self._ended:
            self._waiting.append(ended)
        self.mark()
        if not self._ended:
            await ended

    @property
    def idle(self) -> bool:
        """Whether no round goes on, and nothing has happened that calls for one."""
        return not self._in_round and not self._dirty.is_set()

    def mark(self, *_: object) -> None:
        """Something changed."""
        self._dirty.set()
        self._pace.mark()

    async def run(self) -> None:
        """Rounds until cancelled. The first waits for a first look at every engine and source: whoever knows nothing of
        what is loaded must not unload it, nor load it elsewhere."""
        try:
            await self._run()
        finally:
            self._ended = True
            self._waited_for += self._waiting
            self._waiting.clear()
            self._release()
            self._planning.shutdown(wait=False, cancel_futures=True)

    def _release(self, error: Exception | None = None) -> None:
        """Let those go on who waited for a round."""
        for ended in (one for one in self._waited_for if not one.done()):
            if error is None:
                ended.set_result(None)
            else:
                ended.set_exception(RoundFailed(f"a planning round failed: {type(error).__name__}"))
        self._waited_for.clear()

    async def _run(self) -> None:
        cluster, engines, holdings = self._parts.cluster, self._parts.engines, self._parts.holdings
        holdings.sync_targets(cluster)
        engines.assume(noted(holdings, cluster.pods.get, cluster.adapters.get))
        self._follow()
        await asyncio.gather(
            self._parts.keys.first_reads(FIRST_LOOKS_SECONDS),
            self._parts.credentials.first_reads(FIRST_LOOKS_SECONDS),
            self._parts.quotas.first_reads(FIRST_LOOKS_SECONDS),
            self._parts.requests.first_read(FIRST_LOOKS_SECONDS),
        )
        self._follow()
        engines.assume({})
        await asyncio.gather(
            engines.first_looks(FIRST_LOOKS_SECONDS),
            self._parts.resolver.first_looks(FIRST_LOOKS_SECONDS),
            self._parts.nodes.first_reads(FIRST_LOOKS_SECONDS),
        )
        await self._parts.sizes.first_reads(self._listed(), FIRST_LOOKS_SECONDS)
        self._began_at = time.monotonic()
        while True:
            self._in_round = True
            self._dirty.clear()
            self._waited_for, self._waiting = self._waiting, []
            started = time.monotonic()
            try:
                await self._round()
                self.last_plan_at = time.monotonic()
                self._release()
            except Exception as error:
                # one object that breaks the planner must not stop the rest of the operator from being seen as broken:
                # last_plan_at stands still, so that /healthz tells, and the traceback says why
                log.exception("a planning round failed; it is tried again in a second")
                self._release(error)
                await asyncio.sleep(1.0)
                self._dirty.set()
            self._in_round = False
            await self._pace.rest(time.monotonic() - started)
            try:
                async with asyncio.timeout(self._pause(started)):
                    await self._dirty.wait()
            except TimeoutError:
                pass

    def _presses(self) -> bool:
        """Whether the next round is worth more than the time that it takes from loads that are under way."""
        if self._waiting or self.last_round is None or self.last_round.plan.waiting:
            return True
        return not any(effect.is_load for effect in self._parts.ledger.loads())

    def _listed(self) -> set[tuple[str, str]]:
        """All versions of ours that engines have."""
        parts = self._parts
        records = {record.key: record for record in parts.cluster.pods.values()}
        ours = (
            our_model(model, records[key].pod.adapter_root)
            for key, view in parts.engines.views.items()
            for model in view.models
            if key in records
        )
        return {(model.name, model.fingerprint) for model in ours if model is not None}

    def _pause(self, since: float) -> float:
        """Until the next round. What fell due since the last one began was not due for it."""
        due = self._parts.failures.next_due(since)
        pause = HEARTBEAT_SECONDS if due is None else min(HEARTBEAT_SECONDS, max(due - time.monotonic(), 0.0) + 0.001)
        deadline = self._parts.finalizers.next_deadline()
        return pause if deadline is None else min(pause, max(deadline - time.time(), 0.0) + 0.001)

    def _follow(self) -> Participants:
        """Point the observers at what takes part now, and at what we still have to clear away."""
        parts = self._parts
        resources = list(parts.cluster.adapters.values())
        self._expansions.forget({resource for resource, _ in parts.holdings.sync_targets(parts.cluster)})
        found = self._participation.of(
            parts.cluster.pods.values(), resources, parts.engines.views, parts.ledger, parts.holdings.pods()
        )
        pods = found.pods
        parts.nodes.sync_targets({record.pod.node for record in pods.values() if record.pod.node})
        parts.engines.sync_targets(pods, parts.keys.sync_targets(pods, parts.engines.refusing()))
        self._quotas = parts.quotas.sync_targets(resources)
        parts.requests.sync_targets(any(_on_demand(resource) for resource in resources))
        parts.resolver.sync_targets(
            # whose quota is not known yet could get in beyond it, and what is in stays
            [r for r in resources if r.key in parts.resolver.views or not parts.quotas.reads(r.namespace)],
            {(record.pod.namespace, record.pod.base_models) for record in pods.values()},
            parts.credentials.sync_targets(resources, parts.resolver.failing()),
        )
        return found

    async def _round(self) -> None:
        """What it decides on is one moment, from `_follow` to the snapshot. What comes after goes on in slices."""
        parts = self._parts
        started = time.monotonic()
        await self._expansions.prepare(
            list(parts.cluster.adapters.values()), parts.resolver.views, parts.activity.demands, self._use()
        )
        found = self._follow()
        pods = found.pods
        use = self._use()
        resources = {resource.key: resource for resource in parts.cluster.adapters.values()}
        wanted = self._expansions.desired(resources.values(), parts.resolver.views, parts.activity.demands, use)
        parts.requests.tidy(wanted.names, use.seconds, use.now)
        wanted, uses = within(wanted, self._quotas, parts.holdings.of)
        parts.quotas.warn(uses, resources.values())
        parts.activity.sync_targets(pods, wanted.names)
        if parts.files.desired is not wanted:
            parts.sizes.remember(wanted)
            parts.files.desired = wanted
        observed = Observed(
            pods,
            parts.engines.views,
            parts.cluster.node_labels,
            parts.sizes.of,
            self._versioned_names,
            parts.keys.problems,
            found.leaving,
        )
        snapshot = self._snapshots.take(wanted, observed, parts.ledger, parts.failures, started)
        made = await self._plan(snapshot)
        seconds = time.monotonic() - started
        self.last_round = Round(wanted, snapshot, made)
        log.debug("plan in %.4f s: %d actions, %d waiting", seconds, len(made.actions), len(made.waiting))
        with reconciling(self._tracing, made, seconds):
            parts.executor.held = False
            await parts.executor.submit(made, wanted)
        # as they are by now: what is said has to be so
        pods = {key: record for key in found.pods if (record := parts.cluster.pods.get(key)) is not None}
        with self._isolation.around("bringing files early"):
            parts.files.sync_targets(wanted, snapshot, made, pods)
        held = parts.holdings.of
        self._states.update(wanted, snapshot, made, pods, parts.engines.views, parts.ledger, parts.failures)
        inputs = {key: self._states.of(resource) async for key, resource in in_slices(wanted.resources.items())}
        inputs |= self._states.departing(wanted, held)
        if self._states.reasons.unfinished:
            self.mark()
        contents = self._endpoints.update(pods, parts.engines.views, parts.ledger, claims_of(wanted, held))
        with self._isolation.around("the routing table"):
            self.tell(inputs, contents)
        with self._isolation.around("LoraEndpoints"):
            parts.endpoints.offer(contents, asyncio.get_running_loop().time())
        await self._offers.offer(inputs, resources, self._isolation)
        # as they were: who was deleted since is still among those that want something
        parts.finalizers.update(resources.values(), wanted, pods, parts.engines.views, parts.ledger, held)
        with self._isolation.around("telling what demand did"):
            parts.teller.round(wanted, snapshot, made, started)
        with self._isolation.around("deciding which pods may take traffic"):
            found_open = verdicts(snapshot, made, undecided(_not_replaced(pods, found.pods)))
            parts.gates.update(found_open, pods)
            parts.files.readiness.sync_targets(found_open, pods)
        if len(parts.failures):
            parts.failures.prune({(a.adapter.key, a.adapter.version) for a in wanted.adapters.values()}, set(pods))
        self._count(seconds, wanted.resources.values(), inputs, made)

    async def _plan(self, snapshot: Snapshot) -> Plan:
        """Beside the event loop where it may take long. Nothing new begins on pods meanwhile: the plan counts on what
        it knows of."""
        if len(snapshot.adapters) + len(snapshot.pods) < LARGE:
            return self._isolation.plan(snapshot, self._policy)
        self._parts.executor.held = True
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._planning, self._isolation.plan, snapshot, self._policy
            )
        except BaseException:
            self._parts.executor.held = False
            raise

    def _use(self) -> Use:
        """Who was asked for when: by routers, or by those that went past them."""
        last, used = dict(self._parts.requests.asked), self._parts.activity.used
        last |= {name: at for name, at in used.items() if at > last.get(name, 0.0)}
        return Use(last, time.time(), self._on_demand_seconds)

    def _count(
        self, seconds: float, resources: Iterable[DesiredResource], inputs: Mapping[str, StatusInput], made: Plan
    ) -> None:
        names = (state_name(state) for given in inputs.values() for state in given.adapters)
        rejected = ("rejected" for resource in resources for _ in resource.rejected)
        refused = (
            str(telling_reason(self._states.reasons.of(key))) for key, n in made.missing.items() for _ in range(n)
        )
        self._parts.metrics.round(
            now=time.time(),
            seconds=seconds,
            engine_states=(view.state.value for view in self._parts.engines.views.values()),
            adapter_states=chain(names, rejected),
            refused=refused,
            in_flight=len(self._parts.ledger),
        )

    def model_loads(self) -> Mapping[str, ModelLoad]:
        """What the last plan expects on the pods of each base model."""
        return {} if self.last_round is None else model_loads(self.last_round.snapshot, self.last_round.plan)

    def unready(self) -> str:
        """Why the operator is not ready; empty if it is."""
        if self.last_plan_at is None:
            return "no plan has been made yet"
        return ""

    def plan_age(self) -> float | None:
        """Seconds since a round last came to its end, or since the first of all began."""
        since = self._began_at if self.last_plan_at is None else self.last_plan_at
        return None if since is None else time.monotonic() - since


def _not_replaced(now: Mapping[str, PodRecord], before: Mapping[str, PodRecord]) -> dict[str, PodRecord]:
    """The pods with the very containers that they had before."""
    return {key: record for key, record in now.items() if instance_of(record) == instance_of(before[key])}


def _on_demand(resource: Resource) -> bool:
    return resource.spec is not None and not resource.spec.deployment_config.load_on_startup
