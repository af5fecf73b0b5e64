"""Builds the groups that a reconciler works with, each from settings and from what is below it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from aiohttp import ClientSession

from lora_operator.artifacts import BaseModelShape
from lora_operator.cache.metrics import FilesMetrics
from lora_operator.delivery.files import Files, host_rules
from lora_operator.delivery.sizes import Sizes
from lora_operator.engines.prober import Engines, Thresholds
from lora_operator.engines.traffic import Activity
from lora_operator.execution.concurrency import LoadConcurrency
from lora_operator.execution.context import Context
from lora_operator.execution.executor import Executor, Limits
from lora_operator.execution.finalizers import Finalizers
from lora_operator.execution.readiness_gates import ReadinessGates
from lora_operator.execution.served_versions import ServedNames
from lora_operator.execution.withdrawals import Withdrawals
from lora_operator.informers.api_keys import ApiKeys
from lora_operator.informers.cache import Cluster
from lora_operator.informers.credentials import SourceCredentials
from lora_operator.informers.holdings import Holdings
from lora_operator.informers.nodes import Nodes
from lora_operator.informers.quotas import NamespaceQuotas
from lora_operator.informers.sources import Resolver
from lora_operator.informers.usage_record import Requests
from lora_operator.kube.client import Kube
from lora_operator.kube.events import Recorder
from lora_operator.kube.own_namespace import own_namespace
from lora_operator.kube.own_writes import OwnWrites
from lora_operator.kube.write_queue import Writes
from lora_operator.planning.inflight import Failures, Ledger
from lora_operator.reconcile import Actors, InFlight, Observers, Reporters
from lora_operator.router.serving import Router
from lora_operator.settings.operator import Settings, SettingsError, placement_policy, quotas_of
from lora_operator.sources import sources_by_type
from lora_operator.status.drift import Drift
from lora_operator.status.endpoint_writer import EndpointWriter
from lora_operator.status.scaling_events import ScalingEvents
from lora_operator.status.writer import StatusWriter
from lora_operator.telemetry.metrics import Metrics
from lora_operator.tracing import Tracing
from lora_operator.vllm.client import EngineClient, Timeouts
from lora_operator.vllm.engine_tls import engine_tls
from lora_operator.vllm.ranks import RanksClient

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Foundations:
    """What all groups are built on. `changed` has another cycle begin; `fence` raises unless this operator acts."""

    settings: Settings
    kube: Kube
    cluster: Cluster
    session: ClientSession
    client: EngineClient
    writes: Writes
    own_writes: OwnWrites
    recorder: Recorder
    metrics: Metrics
    tracing: Tracing
    changed: Callable[..., None]
    fence: Callable[[], None]


def engine_client(settings: Settings, session: ClientSession) -> EngineClient:
    """The client for all engines. CAs are read once the first engine speaks TLS: that takes a while."""
    timeouts = Timeouts(probe=settings.probe_timeout, load=settings.load_timeout, unload=settings.unload_timeout)
    tls = cache(partial(engine_tls, settings.ca_file, verify=settings.engine_tls_verify))
    return RanksClient(session, timeouts=timeouts, tls=tls)


def in_flight(settings: Settings) -> InFlight:
    """Nothing yet."""
    return InFlight(Ledger(), Failures(settings.retry_seconds, settings.retry_max_seconds))


def engines_and_sources(on: Foundations, work: InFlight) -> tuple[Engines, Resolver]:
    """What asks engines, and what asks sources. Raises SettingsError."""
    settings = on.settings
    engines = Engines(
        on.client,
        on.changed,
        Drift(on.cluster, on.metrics, work.ledger).gone,
        probe_seconds=settings.probe_seconds,
        probes_per_second=settings.probes_per_second,
        thresholds=Thresholds(settings.probe_failures, settings.hold_seconds),
    )
    sources = Resolver(
        sources_by_type(
            tuple(Path(root) for root in settings.local_roots),
            closed=(settings.adapter_root,),  # whose versions came with the credentials of others
            settle_seconds=settings.settle_seconds,
            rules=host_rules(settings),
        ),
        on.changed,
        interval_seconds=settings.source_seconds,
        base_shapes=base_shapes(settings.base_model_configs),
    )
    return engines, sources


def files(on: Foundations, engines: Engines, sources: Resolver, work: InFlight) -> Files:
    """The adapters' files, on the operator's volume and on agents' disks."""
    return Files(
        on.settings,
        on.session,
        cluster=on.cluster,
        engines=engines,
        resolver=sources,
        ledger=work.ledger,
        recorder=on.recorder,
        metrics=FilesMetrics(on.metrics.registry),
        policy=placement_policy(on.settings),
        fence=on.fence,
        tracing=on.tracing,
    )


def observers(on: Foundations, engines: Engines, sources: Resolver, sizes: Sizes, router: Router | None) -> Observers:
    """What knows the world as it is. A router's index is told of each engine's metrics page."""
    settings, kube, changed = on.settings, on.kube, on.changed
    namespace = own_namespace(settings.requests_namespace)
    return Observers(
        cluster=on.cluster,
        engines=engines,
        traffic=Activity(
            engines,
            on.client,
            changed,
            period_seconds=settings.demand_seconds,
            half_life_seconds=settings.demand_half_life,
            seen=router.loads.heard if router is not None else lambda pod, page: None,
        ),
        sources=sources,
        holdings=Holdings(),
        api_keys=ApiKeys(kube, changed),
        credentials=SourceCredentials(kube, changed, settings.credential_hosts),
        nodes=Nodes(kube, on.cluster, changed),
        quotas=NamespaceQuotas(kube, quotas_of(settings), on.recorder, changed),
        usage=Requests(kube, namespace, changed, on.metrics.request_ignored, settings.namespaces),
        sizes=sizes,
    )


def reporters(on: Foundations, router: Router | None) -> Reporters:
    """What says how things are. A router in this process hears it before the API server does."""
    quiet = on.settings.status_quiet_seconds
    written = Reporters(
        status=StatusWriter(
            on.kube, on.cluster, on.writes, on.recorder, on.metrics, quiet_seconds=quiet, own_writes=on.own_writes
        ),
        endpoints=EndpointWriter(on.kube, on.cluster, on.writes, on.metrics, on.changed, own_writes=on.own_writes),
        scaling=ScalingEvents(on.recorder),
        metrics=on.metrics,
    )
    return written if router is None else replace(written, early=router.ahead)


def actors(on: Foundations, seen: Observers, work: InFlight, adapter_files: Files, withdrawals: Withdrawals) -> Actors:
    """What changes the world."""
    settings, kube = on.settings, on.kube
    limits = Limits(settings.fresh_concurrency, settings.withdraw_seconds, settings.versioned_names)
    context = Context(
        engines=seen.engines,
        client=on.client,
        cluster=on.cluster,
        recorder=on.recorder,
        ledger=work.ledger,
        failures=work.failures,
        metrics=on.metrics,
        concurrency=LoadConcurrency(limits.fresh_concurrency),
        changed=on.changed,
        fence=on.fence,
        tracing=on.tracing,
    )
    served_names = ServedNames(kube, on.cluster, on.writes, seen.engines)
    executor = Executor(context, adapter_files.ways, served_names, limits, withdrawals.withdraw)
    return Actors(
        executor=executor,
        files=adapter_files,
        finalizers=Finalizers(
            kube,
            on.cluster,
            on.writes,
            on.recorder,
            deadline_seconds=settings.finalizer_seconds,
            own_writes=on.own_writes,
        ),
        gates=ReadinessGates(kube, on.cluster, on.writes, on.changed, deadline_seconds=settings.gate_seconds),
    )


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
