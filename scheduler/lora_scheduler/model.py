"""The frozen values that placement works on: what is wanted, what is there, and what to do about it.

Everything here is data without behaviour that could depend on time, order or the outside world.
Sizes are in bytes, demand in requests per second. A `key` identifies a thing within one snapshot
and is opaque to this library (the operator uses `namespace/resource/adapter` and `namespace/pod`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class PreemptionPolicy(StrEnum):
    """Whether an adapter may take the room of adapters of strictly lower priority."""

    LOWER_PRIORITY = "LowerPriority"
    NONE = "None"


class ReplicaPolicy(StrEnum):
    """How many pods should hold a replica."""

    FIXED = "Fixed"  # `replicas` of them
    ALL_PODS = "AllPods"  # every eligible pod
    AUTO = "Auto"  # follows demand between `replicas` and `max_replicas`


class ResidentState(StrEnum):
    """How far a resident has come. All three count against every limit of the pod."""

    LOADED = "Loaded"  # the engine lists it
    LOADING = "Loading"  # asked for, not yet confirmed
    UNLOADING = "Unloading"  # asked to go, not yet confirmed


class Reason(StrEnum):
    """Why an adapter is not, or not yet, on a pod. Stable identifiers: users and alerts match on them."""

    # the pod can never hold this adapter as both are declared now
    BASE_MODEL_MISMATCH = "BaseModelMismatch"
    BASE_MODEL_UNKNOWN = "BaseModelUnknown"  # nobody has said yet which one the pod serves
    SELECTOR_MISMATCH = "SelectorMismatch"
    NAMESPACE_MISMATCH = "NamespaceMismatch"
    RANK_TOO_HIGH = "RankTooHigh"
    EXCEEDS_POD_MEMORY = "ExceedsPodMemory"  # larger than the whole budget
    UNSUPPORTED_BY_ENGINE = "UnsupportedByEngine"
    STALE_PREFIX_CACHE = "StalePrefixCache"
    LORA_DISABLED = "LoraDisabled"
    WORKERS_LACK_FILES = "WorkersLackFiles"  # its engine has workers in other pods, and they see none of its files
    # the pod cannot take anything at the moment
    POD_NOT_READY = "PodNotReady"
    POD_TERMINATING = "PodTerminating"
    POD_UNREACHABLE = "PodUnreachable"
    MODEL_LIST_TOO_LONG = "ModelListTooLong"  # its engine lists more than is read
    UNAUTHORIZED = "Unauthorized"  # its engine does not accept our API key
    INVALID_POD_LIMITS = "InvalidPodLimits"
    # the pod is full, and nobody there has to make room
    NOT_ENOUGH_MEMORY = "NotEnoughMemory"
    NOT_ENOUGH_DISK = "NotEnoughDisk"  # for the files of all that is loaded there
    NO_FREE_SLOT = "NoFreeSlot"
    # it will fit as soon as others have left
    WAITING_FOR_ROOM = "WaitingForRoom"
    # another resident has the name
    NAME_TAKEN = "NameTaken"
    # loading failed there and is not due again yet
    LOAD_FAILED = "LoadFailed"
    # a replica is already there, or no further replica is wanted
    ALREADY_PLACED = "AlreadyPlaced"
    NOT_WANTED = "NotWanted"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One pod's answer to "why not here?"; `message` is a whole sentence without the pod's name."""

    pod: str
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Requirement:
    """One `matchExpressions` entry of a Kubernetes label selector; `operator` is In, NotIn, Exists or DoesNotExist."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Selector:
    """A Kubernetes label selector. Empty selects every pod that serves the adapter's base model."""

    match_labels: tuple[tuple[str, str], ...] = ()
    match_expressions: tuple[Requirement, ...] = ()


YIELDING = -(1 << 62)  # below it is the idle tier: effective priorities of adapters that nobody uses
LONGEST_AGO = 1 << 40  # in seconds since the epoch; times are told apart from 0 to this


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter that should be available. `name` is what requests ask for; `version` identifies the weights.

    `max_surge` is that of this adapter's updates; None: as the Policy says.

    `previous_pods` are the pods that are known to have held it last (by its published status, say): of the pods that
    are allowed, those are taken first, so that a replica comes back to where its files are. It never overrides a limit.

    One with `idle_since` is in the idle tier: nobody has used it since that time (in seconds since the epoch). It keeps
    the replicas of the wanted version that it has, whatever `replicas` says, and gets no others: its room is for
    whoever lacks room, also where that one preempts nobody; of several, from the one that was used the longest ago.
    `effective_priority` follows: that of an idle one is below all that can be given.
    """

    key: str
    name: str
    base_model: str
    version: str
    bytes: int
    rank: int
    namespace: str = ""
    priority: int = 0
    preemption: PreemptionPolicy = PreemptionPolicy.LOWER_PRIORITY
    replicas: int = 1
    replica_policy: ReplicaPolicy = ReplicaPolicy.FIXED
    max_replicas: int | None = None
    selector: Selector = Selector()
    topology_key: str = "kubernetes.io/hostname"
    demand: float | None = None
    age_rank: int = 0  # the smaller, the older: the first tie-break within a priority, then the key
    features: frozenset[str] = frozenset()
    previous_pods: frozenset[str] = frozenset()
    idle_since: int | None = None
    max_surge: int | None = None
    effective_priority: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        effective = self.priority
        if isinstance(self.idle_since, int):  # else it is refused with the snapshot
            effective = YIELDING - LONGEST_AGO + max(0, min(self.idle_since, LONGEST_AGO - 1))
        object.__setattr__(self, "effective_priority", effective)

    @property
    def idle(self) -> bool:
        return self.idle_since is not None


@dataclass(frozen=True, slots=True)
class Resident:
    """Something that takes room on a pod.

    `adapter` is the key of the adapter that it is a replica of, or None for a foreign one (loaded by somebody else) or
    one that nobody wants any more. `name` is the name the engine knows it by; `owned` is true where it is ours to
    unload. `bytes` and `rank` of a foreign resident are estimates made by the caller.
    """

    name: str
    bytes: int
    rank: int
    adapter: str | None = None
    version: str | None = None
    state: ResidentState = ResidentState.LOADED
    owned: bool = True


@dataclass(frozen=True, slots=True)
class Pod:
    """A vLLM pod: its limits, what is on it or on its way there, and what it must not get.

    `memory_bytes` None means that the pod declares no budget. `host_slots` is vLLM's max_cpu_loras: the number of names
    that may be resident. `gpu_slots` is max_loras: how many of them fit in one batch. `ready` false with `not_ready`
    saying why. `held` is true while an unready pod is expected back at once: its residents still count as replicas, so
    that a blip moves nothing. `excluded` maps an adapter's key to a refusal found outside of this library (failed
    loads that are not due again, features that the engine's release gets wrong). `failed_lately` names the adapters of
    which a load has failed here a while ago for a reason that passes and says nothing of the version (files that could
    not be brought): for these nobody has to make room yet, see Places.failed. `side_by_side` names the adapters
    whose next version gets an engine name of its own on this pod, so that it can be loaded beside the old one; all
    others must be unloaded first, as an engine refuses a name that it already lists. `stored` has (name, version) of
    the adapters whose files are on the pod's disk, loaded or not: there a load has nothing to fetch. `disk_bytes` is
    what that disk may hold, as the files of what is loaded have to stay; None: nothing is known of it.
    """

    key: str
    base_model: str
    host_slots: int
    max_rank: int
    memory_bytes: int | None = None
    gpu_slots: int = 1
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    node: str = ""
    node_labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    residents: tuple[Resident, ...] = ()
    ready: bool = True
    held: bool = False
    draining: bool = False
    not_ready: tuple[Reason, str] | None = None
    excluded: Mapping[str, tuple[Reason, str]] = field(default_factory=lambda: MappingProxyType({}))
    side_by_side: frozenset[str] = frozenset()
    failed_lately: frozenset[str] = frozenset()
    stored: frozenset[tuple[str, str]] = frozenset()
    disk_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """What a plan has decided, for the next one to hold on to: adapter key -> the pods that should hold it, the pods
    that could take loads then, and in `firm` the adapters that had been on a pod already when they got a place.

    A replica of which nothing is on its pod yet keeps its place there, if it still may be there, has the room and can
    begin to load at once, or waits for an older version of its own to leave. When further pods can take loads, places
    that are not firm are given anew. What is on a pod already does not depend on this.

    `moves`: adapter key -> the pod that a replica of it is about to leave for another pod, and the adapter that needs
    its room there, if one does. While the new replica is being loaded, nothing else tells which of the two is to stay,
    nor that it is no growth of an adapter whose replicas follow demand.

    `remembered`: whether the plan that is made with these will be held on to by the next one, as it says of its own.

    `failed`: adapter key -> its version, if loading that has failed and it has served nowhere since. It takes only the
    room that nobody uses: else it would evict others again at every try. Not what a pod names in `failed_lately`.
    """

    assignments: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    pods: frozenset[str] = frozenset()
    firm: frozenset[str] = frozenset()
    failed: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    moves: Mapping[str, tuple[str, str]] = field(default_factory=lambda: MappingProxyType({}))
    remembered: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment, seen whole: everything that is wanted and everything that is there, and in `places` what an earlier
    plan has decided (`Plan.places`), where the next one is to hold on to that."""

    adapters: tuple[Adapter, ...]
    pods: tuple[Pod, ...]
    places: Places = Places()


class LoadCause(StrEnum):
    """Why a load is in the plan."""

    MISSING = "Missing"  # fewer replicas than wanted
    UPDATE = "Update"  # the weights changed
    MOVE = "Move"  # to a less loaded pod, or another domain; the replica that it replaces goes when this one serves
    SURGE = "Surge"  # a temporary extra replica of the new version, so that the old one can go


class UnloadCause(StrEnum):
    """Why an unload is in the plan."""

    UNWANTED = "Unwanted"  # nobody wants this adapter any more
    SURPLUS = "Surplus"  # more replicas than wanted, or a pod that no longer matches
    SUPERSEDED = "Superseded"  # an old version that must leave before, or has left its place to, the new one
    PREEMPTED = "Preempted"  # makes room for a higher priority


@dataclass(frozen=True, slots=True, order=True)
class Load:
    """Bring `adapter` (at `version`) onto `pod`. Within the limits even if nothing else of the plan has happened."""

    pod: str
    adapter: str
    version: str
    cause: LoadCause = LoadCause.MISSING


@dataclass(frozen=True, slots=True, order=True)
class Unload:
    """Take the resident called `name` (the engine's name for it) off `pod`."""

    pod: str
    name: str
    cause: UnloadCause
    adapter: str | None = None
    on_behalf_of: str | None = None  # the adapter that this makes room for


class Obstacle(StrEnum):
    """Why a pod keeps more load than its like."""

    MOVES_UNDER_WAY = "MovesUnderWay"  # as many as are allowed at a time; its turn comes
    NO_ROOM_ELSEWHERE = "NoRoomElsewhere"  # no pod takes one of its replicas: limits, spread, or its own load
    NOTHING_TO_MOVE = "NothingToMove"  # none of its replicas is at rest, of known demand and free to go elsewhere


@dataclass(frozen=True, slots=True)
class Overload:
    """A pod with more load than is tolerated that keeps it for now; both in requests per second. `message` is a whole
    sentence without the pod's name."""

    pod: str
    load: float
    tolerated: float
    obstacle: Obstacle
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What should be where, what can be done about it at once, and why anything is missing.

    All in a fixed order: mappings by key, unloads before loads, loads and `waiting` with the highest priority first.

    `assignments`: adapter key -> the pods that should hold it, sorted; every adapter of the snapshot is a key.
    `actions`: may all start now, in any order, at the same time: each load fits beside everything that is resident or
    on its way, before any unload has happened. What has to wait for an unload is not here: it is in the next plan.
    `waiting`: assigned replicas that are not loaded and not in `actions`, with the reason.
    `refusals`: adapter key -> one refusal per pod, for each adapter that has fewer replicas than wanted (for AllPods:
    for each pod that matches base model and selector and does not get one). `missing`: adapter key -> how many
    replicas; for AllPods, how many pods that match and are ready, and 1 if no replica has a place and no pod matches.
    `overloads`: pods that stay more loaded than `Policy.rebalance_epsilon` tolerates, by base model, the most loaded
    first. `places`: for the next snapshot, if its plan is to hold on to what this one has decided.
    """

    assignments: Mapping[str, tuple[str, ...]]
    actions: tuple[Load | Unload, ...]
    waiting: tuple[tuple[Load, Refusal], ...]
    refusals: Mapping[str, tuple[Refusal, ...]]
    missing: Mapping[str, int]
    overloads: tuple[Overload, ...] = ()
    places: Places = Places()


@dataclass(frozen=True, slots=True)
class Policy:
    """How to choose among pods that are all allowed. `name` selects the scorers: balanced, binpack or spread.

    `max_unavailable`: how many serving replicas of one adapter an update may take away at a time. `max_surge`: how many
    replicas more than wanted it may have at a time, where other pods have the room: then it need not take any away. The
    only one that serves has that always.
    `rebalance_epsilon`: a pod whose load is beyond this much more than the mean of its like (or than the largest
    replica, which cannot be divided) gives replicas up to others, as far as demand is known; None, or with binpack:
    nothing that serves is moved for the sake of load. `max_moves`: how many replicas may be on their way for that, or
    for spread, at once; None: two, and one more for every fifty pods. `demand_half_life`: by how many seconds ago a
    request counts half in the measured demand; differences of load that chance can explain then move nothing. 0: demand
    is known exactly. `hot_share`: adapters whose replica policy is Auto get so many replicas that none carries more
    than this part of a pod's mean load.
    """

    name: str = "balanced"
    max_unavailable: int = 1
    max_surge: int = 1
    rebalance_epsilon: float | None = 0.1
    max_moves: int | None = None
    hot_share: float = 0.5
    demand_half_life: float = 0.0
