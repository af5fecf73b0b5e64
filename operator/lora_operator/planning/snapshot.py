"""One frozen moment for the planner, from everything that is desired, observed and under way. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from lora_operator.desired.adapters import Desired, DesiredAdapter
from lora_operator.engines.liveness import EngineView, instance_of
from lora_operator.engines.ownership import our_model
from lora_operator.informers.records import ANY_OTHER, PodRecord
from lora_operator.planning.agent_disks import AgentDisk
from lora_operator.planning.inflight import Effect, Failures, Ledger, Stage
from lora_operator.vllm.client import EngineModel
from lora_operator.vllm.engine_state import EngineState
from lora_operator.vllm.errors import EngineUnauthorized, ModelListTooLong
from lora_operator.vllm.quirks import (
    SEPARATOR,
    SUFFIX_HEX,
    LoadName,
    PrefixCacheKey,
    StaleCache,
    load_name,
    quirks_for,
    unsupported_features,
)
from lora_operator.vllm.targets import left_out_message, not_adapted
from lora_scheduler import Pod, Reason, Resident, ResidentState, Snapshot

# stands for the fingerprint of what somebody else loaded: no version of ours is like it
STRANGER = "foreign"
# stands for that of a version of ours that not every rank of a pod has: it has to go, and to be loaded again
PARTIAL = "partial"

SizeOf = Callable[[str, str], tuple[int, int] | None]
NO_DISK = AgentDisk()


@dataclass(frozen=True, slots=True)
class Observed:
    """What the snapshot is made of. `sizes(name, fingerprint)` gives (bytes, rank) of a version that was once known,
    `disk_of` what is known of the disk of a pod's agent."""

    pods: Mapping[str, PodRecord]
    engines: Mapping[str, EngineView]
    node_labels: Mapping[str, Mapping[str, str]]
    sizes: SizeOf
    versioned_names: bool
    key_problems: Mapping[str, str] = field(default_factory=dict)  # why a pod's API key is not known
    leaving: frozenset[str] = frozenset()  # pods that take part no more and are being rid of what is ours
    disk_of: Callable[[PodRecord], AgentDisk | None] = lambda record: None


def take_snapshot(desired: Desired, observed: Observed, ledger: Ledger, failures: Failures, now: float) -> Snapshot:
    """Put it all together; `now` is monotonic and decides which failures are due again."""
    common = Common(desired)
    pods = [
        pod_of(record, observed.engines[key], desired, observed, common, ledger, failures, now)
        for key, record in sorted(observed.pods.items())
        if key in observed.engines
    ]
    return Snapshot(tuple(wanted.adapter for wanted in desired.adapters.values()), tuple(pods))


class Common:
    """What many pods ask of all adapters: answered once per release or namespace, not once per pod."""

    def __init__(self, desired: Desired) -> None:
        self._featured = [wanted.adapter for wanted in desired.adapters.values() if wanted.adapter.features]
        self._unsupported: dict[str, dict[str, tuple[Reason, str]]] = {}
        self._targets = [(w.adapter.key, w.found.inspection.targets) for w in desired.adapters.values() if w.found]
        self._left_out: dict[frozenset[str], dict[str, tuple[Reason, str]]] = {}
        self._base_models: dict[str, set[str]] = {}
        self._names: dict[str, list[str]] = {}
        for wanted in desired.adapters.values():
            self._base_models.setdefault(wanted.adapter.namespace, set()).add(wanted.adapter.base_model)
        for namespace, name in desired.names:
            self._names.setdefault(namespace, []).append(name)

    def unsupported(self, release: str) -> Mapping[str, tuple[Reason, str]]:
        """The adapters that have a feature which this release gets wrong, by key, with the reason."""
        known = self._unsupported.get(release)
        if known is None:
            known = self._unsupported[release] = {}
            for adapter in self._featured:
                wrong = unsupported_features(release, adapter.features)
                if wrong:
                    known[adapter.key] = (Reason.UNSUPPORTED_BY_ENGINE, "; ".join(why for _, why in wrong))
        return known

    def unsupported_by(self, release: str, honoured: frozenset[str]) -> Mapping[str, tuple[Reason, str]]:
        """The same for an engine of which a person says that it honours these features."""
        found = self.unsupported(release)
        if not honoured:
            return found
        wrong = {
            adapter.key for adapter in self._featured if unsupported_features(release, adapter.features - honoured)
        }
        return {key: reason for key, reason in found.items() if key in wrong}

    def left_out(self, modules: frozenset[str] | None) -> Mapping[str, tuple[Reason, str]]:
        """The adapters of which an engine that adapts only these modules would leave something out, by key."""
        if modules is None:
            return {}
        if modules not in self._left_out:
            self._left_out[modules] = {
                key: (Reason.UNSUPPORTED_BY_ENGINE, left_out_message(missing, modules))
                for key, targets in self._targets
                if (missing := not_adapted(targets, modules))
            }
        return self._left_out[modules]

    def names(self, namespace: str) -> Iterable[str]:
        """The public names of the wanted adapters."""
        return self._names.get(namespace, ())

    def base_model(self, record: PodRecord) -> str:
        """A pod may serve its base model under several names; take the one that adapters use."""
        names = record.pod.base_models
        used = self._base_models.get(record.pod.namespace, set())
        return next((name for name in names if name in used), names[0] if names else "")


def pod_of(
    record: PodRecord,
    view: EngineView,
    desired: Desired,
    observed: Observed,
    common: Common,
    ledger: Ledger,
    failures: Failures,
    now: float,
) -> Pod:
    """One pod as the planner sees it. Whatever this looks at, `snapshots` has to look at as well."""
    pod = record.pod
    residents = _residents(record, view, desired, observed, ledger.on(record.key))
    excluded: dict[str, tuple[Reason, str]] = {}
    side_by_side: set[str] = set()
    failed_lately: set[str] = set()
    if view.state is EngineState.UP:
        excluded.update(common.left_out(pod.target_modules))
        excluded.update(common.unsupported_by(view.release, pod.honoured_features))
        for name in pod.base_models:
            if (clash := desired.by_name(pod.namespace, name)) is not None:
                excluded[clash.adapter.key] = (Reason.NAME_TAKEN, f"{name!r} is the name of its base model")
        listed = {model.name for model in view.models}
        served = _served(record, view.models)
        for name in served.keys() | common.names(pod.namespace) if ANY_OTHER in served else served:
            known = desired.by_name(pod.namespace, name)
            if known is None:
                continue
            choice = _choose_name(record, view, known, served, observed.versioned_names)
            if isinstance(choice, StaleCache):
                excluded[known.adapter.key] = (Reason.STALE_PREFIX_CACHE, choice.message)
            elif choice.engine_name not in listed:
                side_by_side.add(known.adapter.key)
        instance = instance_of(record)
        unanswered = {effect.adapter for effect in ledger.on(record.key) if effect.stage is Stage.UNANSWERED}
        for adapter, version, failure in failures.of_pod(record.key, instance):
            wanted_now = desired.adapters.get(adapter)
            if wanted_now is None or wanted_now.adapter.version != version:
                continue
            if failure.next_at > now or adapter in unanswered:
                excluded.setdefault(adapter, (Reason.LOAD_FAILED, failure.message))
            if failure.passes_at is not None and failure.passes_at > now:
                failed_lately.add(adapter)
    ready, held, not_ready = _readiness(record, view, observed.key_problems.get(record.key, ""))
    if record.key in observed.leaving:
        not_ready = Reason.POD_NOT_READY, "it takes no part any more"
    disk = observed.disk_of(record) or NO_DISK
    return Pod(
        key=record.key,
        # no adapter is for a pod without a base model: nothing gets onto it, and what is there leaves
        base_model="" if record.key in observed.leaving else common.base_model(record),
        host_slots=pod.max_cpu_loras,
        max_rank=pod.max_lora_rank,
        memory_bytes=pod.memory_bytes,
        gpu_slots=pod.max_loras,
        namespace=pod.namespace,
        labels=pod.labels,
        node=pod.node or "",
        node_labels=observed.node_labels.get(pod.node or "", MappingProxyType({})),
        residents=residents,
        ready=ready,
        held=held,
        draining=pod.terminating,
        not_ready=not_ready,
        excluded=MappingProxyType(excluded),
        side_by_side=frozenset(side_by_side),
        failed_lately=frozenset(failed_lately),
        stored=disk.stored,
        disk_bytes=disk.budget_bytes,
    )


def engine_name_for(
    record: PodRecord, view: EngineView, wanted: DesiredAdapter, versioned_names: bool
) -> LoadName | StaleCache:
    """The name under which this version may be loaded on this pod without ever answering from a stale prefix cache."""
    own = f"{wanted.adapter.name}{SEPARATOR}{wanted.adapter.version[:SUFFIX_HEX]}"
    listed = [model for name in (wanted.adapter.name, own) if (model := view.listed(name)) is not None]
    return _choose_name(record, view, wanted, _served(record, listed), versioned_names)


def _choose_name(
    record: PodRecord, view: EngineView, wanted: DesiredAdapter, served: Mapping[str, str], versioned_names: bool
) -> LoadName | StaleCache:
    name = wanted.adapter.name
    if ANY_OTHER in served and name not in served:
        served = {**served, name: STRANGER}
    quirks, by_name = quirks_for(view.release), record.pod.caches_by_name
    return load_name(
        name=name,
        fingerprint=wanted.adapter.version,
        quirks=replace(quirks, prefix_cache_key=PrefixCacheKey.NAME) if by_name else quirks,
        prefix_caching=record.pod.prefix_caching or by_name,
        served=served,
        versioned_names=versioned_names,
    )


def _served(record: PodRecord, models: Iterable[EngineModel]) -> dict[str, str]:
    """Public name -> fingerprint of all that this container is known to have served under the plain name: what is noted
    of it, and what it lists now."""
    served = dict(record.served)
    for model in models:
        ours = our_model(model, record.pod.adapter_root)
        if ours is None:
            served[model.name] = STRANGER
        elif ours.engine_name == ours.name:
            served.setdefault(ours.name, ours.fingerprint)
    return served


def _readiness(record: PodRecord, view: EngineView, key_problem: str) -> tuple[bool, bool, tuple[Reason, str] | None]:
    pod = record.pod
    if pod.problems:
        return False, view.state is EngineState.UP, (Reason.INVALID_POD_LIMITS, "; ".join(pod.problems))
    disabled = pod.lora_disabled or "; ".join(filter(None, (view.lora_disabled, pod.why_silent)))
    if pod.lora_disabled or view.lora_disabled:
        return False, view.state is EngineState.UP, (Reason.LORA_DISABLED, disabled)
    if pod.workers_lack_files:
        return False, view.state is EngineState.UP, (Reason.WORKERS_LACK_FILES, pod.workers_lack_files)
    if view.instance != instance_of(record):
        # the last probe was of an earlier container: what this one has, the next one tells in a moment
        return False, view.keeps, (Reason.POD_NOT_READY, "its container was replaced a moment ago")
    if view.state is EngineState.UP:
        return True, False, None
    if view.reason == ModelListTooLong.reason:
        return False, view.keeps, (Reason.MODEL_LIST_TOO_LONG, view.error)
    if view.state is EngineState.SUSPECT:
        missed = f"its engine has missed a probe: {view.error}" if view.error else "its engine has not been asked yet"
        return False, True, (Reason.POD_NOT_READY, missed)
    if pod.why_silent and pod.container_running:
        return False, False, (Reason.POD_UNREACHABLE, pod.why_silent)
    if view.state in (EngineState.STARTING, EngineState.UNKNOWN):
        return False, False, (Reason.POD_NOT_READY, "its engine is starting")
    if not pod.container_running:
        return False, False, (Reason.POD_NOT_READY, view.error)
    if view.reason == EngineUnauthorized.reason:
        return False, False, (Reason.UNAUTHORIZED, "; ".join(filter(None, (view.error, key_problem))))
    return False, False, (Reason.POD_UNREACHABLE, view.error)


def _residents(
    record: PodRecord, view: EngineView, desired: Desired, observed: Observed, effects: Iterable[Effect]
) -> tuple[Resident, ...]:
    pod = record.pod
    under_way = {effect.engine_name: effect for effect in effects if effect.instance == view.instance}
    residents: list[Resident] = []
    if view.keeps or view.state is EngineState.DOWN:
        for model in view.models:
            if model.partial and (coming := under_way.get(model.name)) is not None and coming.is_load:
                continue  # some ranks have loaded it already: it counts below
            effect = under_way.pop(model.name, None)
            unloading = effect is not None and effect.is_unload
            state = ResidentState.UNLOADING if unloading else ResidentState.LOADED
            residents.append(_resident(model, state, record, desired, observed))
    for effect in under_way.values():
        if effect.stage is Stage.UNANSWERED and view.state is not EngineState.STARTING:
            # it takes room, and is no replica that anybody could count on: nobody knows whether it comes
            residents.append(
                Resident(
                    effect.engine_name, effect.bytes, effect.rank, None, effect.version, ResidentState.LOADING, False
                )
            )
        elif effect.is_load and view.keeps:
            residents.append(
                Resident(
                    effect.engine_name, effect.bytes, effect.rank, effect.adapter, effect.version,
                    ResidentState.LOADING, True,
                )
            )  # fmt: skip
    return tuple(sorted(residents, key=lambda r: (r.name, pod.name)))


def _resident(
    model: EngineModel, state: ResidentState, record: PodRecord, desired: Desired, observed: Observed
) -> Resident:
    pod = record.pod
    ours = our_model(model, pod.adapter_root)
    fair_share = (pod.memory_bytes or 0) // max(pod.max_cpu_loras, 1)
    if ours is None:
        return Resident(model.name, fair_share, pod.max_lora_rank, None, None, state, owned=False)
    wanted, version = desired.by_name(pod.namespace, ours.name), PARTIAL if ours.partial else ours.fingerprint
    if wanted is None:
        owned = (pod.namespace, ours.name) not in desired.protected
        known = observed.sizes(ours.name, ours.fingerprint) or (fair_share, pod.max_lora_rank)
        return Resident(model.name, known[0], known[1], None, version, state, owned)
    size, rank = wanted.adapter.bytes, wanted.adapter.rank
    if ours.fingerprint != wanted.adapter.version:
        size, rank = observed.sizes(ours.name, ours.fingerprint) or (size, rank)
    return Resident(model.name, size, rank, wanted.adapter.key, version, state, owned=True)
