"""The planner's view of a fleet from objects: what an engine holds is what it said, or what status says of it. Pure.

The same `desired` and `take_snapshot` as in the operator's own rounds; only what they are given comes from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lora_operator.api.usage_record import Use
from lora_operator.cache.paths import is_fingerprint
from lora_operator.desired.adapters import Desired, desired
from lora_operator.engines.prober import EngineView, instance_of
from lora_operator.informers.holdings import Holdings
from lora_operator.informers.pod_description import PodDefaults
from lora_operator.informers.records import PodRecord, Resource, read_pod, read_resource
from lora_operator.informers.sources import SourceView
from lora_operator.planning.inflight import Failures, Ledger
from lora_operator.planning.pod_selection import Participants, Participation
from lora_operator.planning.snapshot import Observed, take_snapshot
from lora_operator.plugin.engine_lists import Engine
from lora_operator.plugin.objects import Objects
from lora_operator.vllm.client import EngineModel
from lora_operator.vllm.engine_state import EngineState
from lora_operator.vllm.quirks import is_versioned
from lora_scheduler import Snapshot


@dataclass(frozen=True, slots=True)
class Assumed:
    """A moment of the fleet, as far as objects tell."""

    resources: Mapping[str, Resource]
    participants: Participants
    desired: Desired
    snapshot: Snapshot

    @property
    def pods(self) -> Mapping[str, PodRecord]:
        """Those that take part, by namespace/name."""
        return self.participants.pods


def read(objects: Objects) -> tuple[dict[str, Resource], dict[str, PodRecord]]:
    """LoraAdapters and pods, reduced to what is used."""
    defaults = PodDefaults()
    resources = {key: read_resource(body) for key, body in objects.adapters.items()}
    return resources, {key: read_pod(body, defaults) for key, body in objects.pods.items()}


def assume(
    resources: Mapping[str, Resource],
    records: Mapping[str, PodRecord],
    node_labels: Mapping[str, Mapping[str, str]],
    sources: Mapping[str, SourceView],
    engines: Mapping[str, Engine] = MappingProxyType({}),
) -> Assumed:
    """Put it together. `sources` are the answers for resources whose status does not name their adapters, `engines`
    those of the pods that could be asked."""
    ledger = Ledger()
    published = Holdings()
    for resource in resources.values():
        published.set_status(resource.key, resource.published)
    found = Participation().of(records.values(), resources.values(), {}, ledger, published.pods())
    wanted = desired(resources.values(), sources, None, _used(resources.values()), published)
    held = _held(resources)
    views = {key: _view(record, held.get(key, {}), engines.get(key)) for key, record in found.pods.items()}
    observed = Observed(
        pods=found.pods,
        engines=views,
        node_labels=node_labels,
        sizes=lambda name, fingerprint: None,
        versioned_names=True,
        leaving=found.leaving,
    )
    snapshot = take_snapshot(wanted, observed, ledger, Failures(1.0, 300.0), 0.0)
    return Assumed(resources, found, wanted, snapshot)


def _used(resources: Iterable[Resource]) -> Use:
    """What is loaded now counts as used just now: when adapters on demand were last asked for is not in status."""
    loaded = {
        (resource.namespace, name): 1.0
        for resource in resources
        for assignment in resource.published.pod_assignments
        for name in assignment.adapters
    }
    return Use(loaded, now=1.0, seconds=1.0)


def _held(resources: Mapping[str, Resource]) -> dict[str, dict[str, tuple[str, str]]]:
    """Pod -> engine name -> (name, fingerprint), from status."""
    held: dict[str, dict[str, tuple[str, str]]] = {}
    for resource in resources.values():
        versions = {noted.name: noted.fingerprint for noted in resource.published.adapters}
        for assignment in resource.published.pod_assignments:
            here = held.setdefault(f"{resource.namespace}/{assignment.pod}", {})
            for name in assignment.adapters:
                engine_name = assignment.engine_names.get(name, name)
                here[engine_name] = (name, _fingerprint(engine_name, versions.get(name, "")))
    return held


def _fingerprint(engine_name: str, wanted: str) -> str:
    """Of what is there: status tells it of the wanted version only, and an engine's name may tell of another."""
    own = engine_name[-8:] if is_versioned(engine_name) else wanted[:8]
    fingerprint = wanted if wanted.startswith(own) else own.ljust(16, "0")
    return fingerprint if is_fingerprint(fingerprint) else "0" * 16


def _view(record: PodRecord, held: Mapping[str, tuple[str, str]], engine: Engine | None) -> EngineView:
    pod = record.pod
    if engine is not None:
        return EngineView(instance_of(record), EngineState.UP, engine.release, engine.models)
    root = pod.adapter_root.rstrip("/")
    models = tuple(
        EngineModel(engine_name, f"{root}/{name}/{fingerprint}", pod.base_models[0] if pod.base_models else "")
        for engine_name, (name, fingerprint) in sorted(held.items())
    )
    up = pod.container_running and (pod.containers_ready or bool(held))
    return EngineView(
        instance=instance_of(record),
        state=EngineState.UP if up else EngineState.STARTING,
        release=pod.release_hint or "",
        models=models if up else (),
    )
