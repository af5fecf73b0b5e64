"""From LoraAdapter resources and what their sources hold to the adapters that should be served. Pure.

Everything that a resource asks for ends up in exactly one of two lists: wanted, or rejected with a typed reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType

from lora_operator.api.usage_record import NO_USE, Use
from lora_operator.api.v1alpha1 import DeploymentConfig, LoraAdapterSpec
from lora_operator.artifacts import InvalidAdapterName, served_as, valid_adapter_name
from lora_operator.cache.paths import is_fingerprint
from lora_operator.informers.holdings import Held, Holdings, known_of
from lora_operator.informers.published_status import NotedAdapter
from lora_operator.informers.records import Resource
from lora_operator.informers.sources import SourceView
from lora_operator.sources import FoundAdapter, select
from lora_scheduler import Adapter, ReplicaPolicy

Demands = Mapping[tuple[str, str], float]
SizeOf = Callable[[str, str], tuple[int, int] | None]


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of the adapters of one resource beside what its source says: their age; by name, the pods that they
    are on by what was published, and how many replicas were wanted; and the demand and the last use of all."""

    age_rank: int
    homes: Held
    counts: Mapping[str, int]
    demands: Demands | None
    use: Use


@dataclass(frozen=True, slots=True)
class DesiredAdapter:
    """One adapter that should be served. `found` is None where only status remembers it (its source is away)."""

    resource: str
    adapter: Adapter
    found: FoundAdapter | None

    @property
    def folder(self) -> Path | None:
        return Path(self.found.location) if self.found is not None else None


@dataclass(frozen=True, slots=True)
class Rejected:
    """One adapter that cannot be served as declared."""

    name: str
    code: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class SourceState:
    """The SourceReady condition in the making: ready is None while the first answer is awaited."""

    ready: bool | None
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class DesiredResource:
    """What one LoraAdapter stands for."""

    resource: Resource
    source: SourceState
    wanted: tuple[DesiredAdapter, ...]
    rejected: tuple[Rejected, ...]
    on_demand: bool = False


@dataclass(frozen=True, slots=True)
class Desired:
    """All of it. `protected`: (namespace, name) whose replicas stay though nobody is known to want them just now.

    `departing` are resources that are being deleted: they want nothing, and their replicas are on their way out.
    """

    resources: Mapping[str, DesiredResource]
    adapters: Mapping[str, DesiredAdapter]
    protected: frozenset[tuple[str, str]]
    names: Mapping[tuple[str, str], str]  # (namespace, name) -> key in `adapters`
    departing: tuple[Resource, ...] = ()

    def by_name(self, namespace: str, name: str) -> DesiredAdapter | None:
        """The wanted adapter that has this public name."""
        return self.adapters.get(self.names.get((namespace, name), ""))


def desired(
    resources: Iterable[Resource],
    sources: Mapping[str, SourceView],
    demands: Demands | None = None,
    use: Use = NO_USE,
    holdings: Holdings | None = None,
    sizes: SizeOf = lambda name, fingerprint: None,
) -> Desired:
    """Expand every resource; the oldest to claim a name in a namespace has it.

    `demands`: requests per second by (namespace, public name); what is not in there is unknown, which is not 0. None
    means that demand is not measured at all. `use`: of adapters that are loaded on demand. `holdings`: what was
    published of pods, by status alone if it is not given. `sizes`: (bytes, rank) of versions that were once known.
    """
    ordered = sorted(resources, key=lambda r: (r.created, r.key, r.uid))
    if holdings is None:
        holdings = Holdings()
        for resource in ordered:
            holdings.set_status(resource.key, resource.published)
    expanded = [expand(r, sources.get(r.key), demands, use, holdings, sizes) for r in ordered if r.deleted_at is None]
    return resolve_names(expanded, tuple(resource for resource in ordered if resource.deleted_at is not None), holdings)


def resolve_names(expanded: Sequence[DesiredResource], departing: tuple[Resource, ...], published: Holdings) -> Desired:
    """Put resources together, which come in the order of their age; see `desired`."""
    holders = _holders(expanded, published)
    found: dict[str, DesiredResource] = {}
    protected: set[tuple[str, str]] = set()
    for each in expanded:
        resource = each.resource
        claims = [(candidate, holders[resource.namespace, candidate.adapter.name]) for candidate in each.wanted]
        if not all(holder is candidate for candidate, holder in claims):
            wanted = tuple(candidate for candidate, holder in claims if holder is candidate)
            conflicts = tuple(_conflict(candidate, holder) for candidate, holder in claims if holder is not candidate)
            each = replace(each, wanted=wanted, rejected=each.rejected + conflicts)
        if each.source.ready is not True:
            protected |= {(resource.namespace, name) for name in _known_names(resource, published)}
        found[resource.key] = each
    return Desired(
        MappingProxyType(found),
        MappingProxyType({holder.adapter.key: holder for holder in holders.values()}),
        frozenset(protected),
        MappingProxyType({claim: holder.adapter.key for claim, holder in holders.items()}),
        departing,
    )


def _holders(ordered: Iterable[DesiredResource], published: Holdings) -> dict[tuple[str, str], DesiredAdapter]:
    """Who has each (namespace, name). Creation times are whole seconds: of one second, the one that has it already."""
    found: dict[tuple[str, str], tuple[Resource, DesiredAdapter]] = {}
    for each in ordered:
        for candidate in each.wanted:
            name = candidate.adapter.name
            holder, _ = found.setdefault((each.resource.namespace, name), (each.resource, candidate))
            if (
                holder is not each.resource
                and holder.created == each.resource.created
                and name in _known_names(each.resource, published) - _known_names(holder, published)
            ):
                found[each.resource.namespace, name] = (each.resource, candidate)
    return {claim: candidate for claim, (_, candidate) in found.items()}


def _age_rank(resource: Resource) -> int:
    """When it was created, in seconds: who goes does not change the rank of those who stay."""
    try:
        return int(datetime.fromisoformat(resource.created).timestamp())
    except ValueError:
        return 0


def expand(
    resource: Resource,
    view: SourceView | None,
    demands: Demands | None,
    use: Use,
    published: Holdings,
    sizes: SizeOf = lambda name, fingerprint: None,
) -> DesiredResource:
    """What one resource asks for, without regard to others."""
    try:
        homes = published.of(resource.key)
        known = _Known(_age_rank(resource), homes, _counts(resource, homes), demands, use)
        remembered = partial(_remembered, resource, known=known, published=published, sizes=sizes)
        return _expand(resource, view, known, remembered)
    except Exception as error:  # a defect, which must not stop the work for all others
        text = f"{type(error).__name__}: {error}; this is a defect of the operator, please report it"
        return DesiredResource(resource, SourceState(False, "InternalError", text), (), ())


def _expand(
    resource: Resource,
    view: SourceView | None,
    known: _Known,
    remembered: Callable[[LoraAdapterSpec], tuple[DesiredAdapter, ...]],
) -> DesiredResource:
    spec = resource.spec
    if spec is None:
        return DesiredResource(resource, SourceState(False, "InvalidSpec", resource.problem), (), ())
    on_demand = not spec.deployment_config.load_on_startup
    if view is None or (not view.checked and view.resolution is None):
        state = SourceState(None, "Resolving", "the source is being read")
        return DesiredResource(resource, state, remembered(spec), (), on_demand)
    if view.resolution is None:
        assert view.error is not None
        state = SourceState(False, view.error.reason, str(view.error))
        return DesiredResource(resource, state, remembered(spec), (), on_demand)
    wanted = [
        DesiredAdapter(
            resource.key,
            _adapter(resource, spec, item.name, item.fingerprint, item.inspection.bytes, item.inspection.rank,
                     item.inspection.features, known),
            item,
        )
        for item in _as_served(view.resolution.adapters, spec.served_name)
    ]  # fmt: skip
    rejected = [
        Rejected(_printable(item.name), item.reason, in_words(item.reason), _printable(item.message))
        for item in view.resolution.broken
    ]
    if not view.checked:
        state = SourceState(None, "Resolving", "the source is being read; what was found before stays in force")
    elif view.error is not None:
        state = SourceState(False, view.error.reason, f"{view.error}; what was found before stays in force")
    elif view.resolution.stale:
        names = ", ".join(f"{item.name} ({item.reason}: {item.message})" for item in view.resolution.stale)
        state = SourceState(True, "KeptPreviousVersion", f"a changed version is not usable: {names}"[:1000])
    else:
        text = (
            f"found {len(wanted)} adapter{'' if len(wanted) == 1 else 's'}"
            if wanted or rejected
            else _nothing_found(spec, view.resolution.hint)
        )
        doubts = [f"{item.name}: {doubt}" for item in view.resolution.adapters for doubt in item.inspection.doubts]
        if doubts:
            text = f"{text}; served, though it may be wrong: {_printable('; '.join(doubts))}"[:1000]
        state = SourceState(True, "Resolved", text)
    return DesiredResource(resource, state, tuple(wanted), tuple(rejected), on_demand)


def _as_served(adapters: Iterable[FoundAdapter], template: str | None) -> Iterable[FoundAdapter]:
    """With the names that requests use."""
    if template is None:
        return adapters
    return [replace(item, name=served_as(template, item.name)) for item in adapters]


def _nothing_found(spec: LoraAdapterSpec, hint: str) -> str:
    """Told with the selection, as mostly that is what is wrong."""
    source = spec.adapter_source
    chosen = {"pattern": source.pattern, "prefix": source.prefix, "adapters": ", ".join(source.adapters or ())}
    by = " and ".join(f"{field} {value!r}" for field, value in chosen.items() if value)
    what = f"no adapter there is selected by {by}" if by else "there is no adapter"
    also = f"; {hint}" if hint else ""
    return f"{what}: an adapter is a folder with adapter_config.json and adapter_model.safetensors{also}"


def _adapter(
    resource: Resource,
    spec: LoraAdapterSpec,
    name: str,
    fingerprint: str,
    size: int,
    rank: int,
    features: frozenset[str],
    known: _Known,
) -> Adapter:
    deployment, scheduling = spec.deployment_config, spec.scheduling_config
    demand = (known.demands or {}).get((resource.namespace, name))
    declared = scheduling.resource_requirements.memory_bytes
    used = resource.namespace, name
    idle = not deployment.load_on_startup and not known.use.wants(used)
    return Adapter(
        key=f"{resource.key}/{name}",
        name=name,
        base_model=spec.base_model,
        version=fingerprint,
        bytes=size if declared is None else declared,
        rank=rank,
        namespace=resource.namespace,
        # what is loaded and not used stays while nobody wants its room; but 0 replicas unload it
        idle_since=int(known.use.last_used(used)) if idle and deployment.replicas else None,
        priority=scheduling.priority,
        preemption=scheduling.preemption_policy,
        replicas=0 if idle else _replicas(deployment, demand, known, name),
        replica_policy=ReplicaPolicy.FIXED if idle else deployment.replica_policy,
        max_replicas=deployment.max_replicas,
        max_surge=deployment.max_surge,
        selector=deployment.pod_selector.for_placement(),
        topology_key=scheduling.topology_key,
        demand=demand,
        age_rank=known.age_rank,
        features=features,
        previous_pods=known.homes.get(name, frozenset()),
    )


def _replicas(deployment: DeploymentConfig, demand: float | None, known: _Known, name: str) -> int:
    """The least replicas. Where demand will be known in a while, as many as there were are kept until then."""
    if deployment.replica_policy is not ReplicaPolicy.AUTO or demand is not None or known.demands is None:
        return deployment.replicas
    kept = max(deployment.replicas, known.counts.get(name, 0))
    return kept if deployment.max_replicas is None else min(kept, deployment.max_replicas)


def _counts(resource: Resource, homes: Held) -> dict[str, int]:
    """Adapter -> how many replicas of it status says are wanted, if that was said of the spec as it is now; of one that
    is not in status, as it was cut, how many there are."""
    automatic = resource.spec is not None and resource.spec.deployment_config.replica_policy is ReplicaPolicy.AUTO
    if not automatic or resource.published.observed_generation != resource.generation:
        return {}
    noted = {item.name: item.replicas for item in resource.published.adapters}
    return {name: len(pods) for name, pods in known_of(resource.published, homes).items()} | noted


def _remembered(
    resource: Resource, spec: LoraAdapterSpec, *, known: _Known, published: Holdings, sizes: SizeOf
) -> tuple[DesiredAdapter, ...]:
    """What status says was wanted, or pods hold where it was cut: while the source cannot tell, nothing that works is
    taken away.

    The files are still in the adapter volume under their fingerprint, so that even a restarted pod gets them back.
    """
    noted = {
        item.name: item
        for item in resource.published.adapters
        if _is_name(item.name) and is_fingerprint(item.fingerprint)
    }
    for name in known_of(resource.published, known.homes).keys() - noted.keys():
        version = published.version(resource.key, name)
        if _is_name(name) and is_fingerprint(version):
            size, rank = sizes(name, version) or (0, 1)
            noted[name] = NotedAdapter(name, version, size, rank)
    source = spec.adapter_source
    chosen: Iterable[str] = noted
    if spec.served_name is None:  # else they are selected by names that they have at the source
        chosen, _ = select(noted, pattern=source.pattern, prefix=source.prefix, adapters=source.adapters)
    return tuple(
        DesiredAdapter(
            resource.key,
            _adapter(
                resource, spec, name, noted[name].fingerprint, noted[name].bytes or 0, noted[name].rank or 1,
                frozenset(), known,
            ),
            None,
        )
        for name in sorted(chosen)
    )  # fmt: skip


def _known_names(resource: Resource, published: Holdings) -> set[str]:
    """Of its adapters, as far as status and LoraEndpoints tell."""
    names = resource.published.names | set(resource.published.loaded_adapters)
    return names | known_of(resource.published, published.of(resource.key)).keys()


def _conflict(candidate: DesiredAdapter, holder: DesiredAdapter) -> Rejected:
    if candidate.resource == holder.resource:
        text = f"servedName gives several adapters the name {candidate.adapter.name!r}; write {{name}} in it"
        return Rejected(candidate.adapter.name, "Conflict", "Name is taken", text)
    return Rejected(
        candidate.adapter.name,
        "Conflict",
        "Name is taken",
        f"LoraAdapter {holder.resource} is older and serves an adapter called {candidate.adapter.name!r} in this "
        "namespace; give one of them another name with servedName, or delete one",
    )


def _is_name(value: str) -> bool:
    """Whether this may be an adapter's name: status can be written by others, and restored from anywhere."""
    try:
        valid_adapter_name(value)
    except InvalidAdapterName:
        return False
    return True


def _printable(text: str) -> str:
    """A file name need not be valid text, and no JSON could carry it then."""
    return text.encode("utf-8", "replace").decode()


def in_words(code: str) -> str:
    """`RankMismatch` -> `Rank mismatch`: the human form of a typed reason."""
    words = "".join(f" {c.lower()}" if c.isupper() else c for c in code).strip()
    return words[:1].upper() + words[1:]
