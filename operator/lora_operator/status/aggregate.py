"""From plan and observation to the status of one LoraAdapter. Pure.

Ready means: a request for each of these adapters to each of the listed pods is answered by it now. So everything here
is counted from what the engines list, never from what was asked of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter

from lora_operator.api.v1alpha1 import (
    AdapterStatus,
    Condition,
    ConditionStatus,
    ConditionType,
    EngineName,
    FailedAdapter,
    LoraAdapterStatus,
    Phase,
    PodAssignment,
    PodFailure,
)
from lora_operator.api.well_known import GROUP, POD_LABEL
from lora_operator.desired.adapters import Rejected, SourceState, in_words
from lora_scheduler import Reason, Refusal


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica that answers. `current` is false while it still is an older version."""

    pod: str
    address: str
    engine_name: str
    current: bool
    container: str = ""  # PodDescription.container_mark


@dataclass(frozen=True, slots=True)
class AdapterState:
    """One wanted adapter at this moment. `missing` replicas have no place; `moving` are on their way or wait for room.

    `least` of the wanted replicas have to answer, all if None: what demand calls for beyond that is no promise.
    """

    name: str
    fingerprint: str
    bytes: int
    rank: int
    wanted: int
    missing: int
    moving: bool
    replicas: tuple[Replica, ...]
    refusals: tuple[Refusal, ...]
    fetched_percent: int | None = None  # of its files, while they are on their way to a pod
    least: int | None = None

    @property
    def current(self) -> int:
        """The pods that answer with the wanted version; one that has it under two names is one pod."""
        return len({replica.pod for replica in self.replicas if replica.current})

    @property
    def complete(self) -> bool:
        if self.wanted == 0 or self.missing:
            return False
        updating = any(not replica.current for replica in self.replicas)
        return self.current >= (self.wanted if self.least is None or updating else min(self.least, self.wanted))


@dataclass(frozen=True, slots=True)
class StatusInput:
    """All that the status of one resource depends on; equal inputs give equal status."""

    generation: int
    source: SourceState
    adapters: tuple[AdapterState, ...]
    rejected: tuple[Rejected, ...]
    on_demand: bool
    selector: str
    truncated: bool = False  # of one that is being deleted: its adapters were read from a status that was cut


# The most telling reason first: what a person should read when the pods refuse for different reasons.
_TELLING = (
    Reason.LOAD_FAILED,
    Reason.NOT_ENOUGH_MEMORY,
    Reason.NOT_ENOUGH_DISK,
    Reason.NO_FREE_SLOT,
    Reason.EXCEEDS_POD_MEMORY,
    Reason.RANK_TOO_HIGH,
    Reason.UNSUPPORTED_BY_ENGINE,
    Reason.STALE_PREFIX_CACHE,
    Reason.NAME_TAKEN,
    Reason.INVALID_POD_LIMITS,
    Reason.LORA_DISABLED,
    Reason.WORKERS_LACK_FILES,
    Reason.WAITING_FOR_ROOM,
    Reason.UNAUTHORIZED,
    Reason.MODEL_LIST_TOO_LONG,
    Reason.POD_UNREACHABLE,
    Reason.POD_NOT_READY,
    Reason.POD_TERMINATING,
)
# These heal by waiting: nothing is wrong with the adapter.
_PASSING = frozenset({Reason.POD_NOT_READY, Reason.POD_TERMINATING, Reason.WAITING_FOR_ROOM})
_NO_POD = frozenset(
    {Reason.SELECTOR_MISMATCH, Reason.BASE_MODEL_MISMATCH, Reason.BASE_MODEL_UNKNOWN, Reason.NAMESPACE_MISMATCH}
)
# The reason of a source whose resource is being deleted: what is loaded goes, whatever the source holds.
DELETING = "Deleting"
# Not about any one pod: there are none, or fewer than replicas.
NO_MATCHING_PODS = "NoMatchingPods"
NOT_ENOUGH_PODS = "NotEnoughPods"

_WORDS: Mapping[str, str] = {
    Reason.NOT_ENOUGH_MEMORY: "Not enough memory",
    Reason.NOT_ENOUGH_DISK: "Not enough disk",
    Reason.NO_FREE_SLOT: "No free slot",
    Reason.EXCEEDS_POD_MEMORY: "Larger than a pod's memory budget",
    Reason.RANK_TOO_HIGH: "Rank too high",
    Reason.LOAD_FAILED: "Loading failed",
    Reason.UNSUPPORTED_BY_ENGINE: "Not supported by the engine's release",
    Reason.STALE_PREFIX_CACHE: "The engine's prefix cache would answer for the old version",
    Reason.NAME_TAKEN: "Name is taken",
    Reason.INVALID_POD_LIMITS: "Pod annotations make no sense",
    Reason.POD_UNREACHABLE: "Engine does not answer",
    Reason.MODEL_LIST_TOO_LONG: "Engine lists too many models",
    Reason.UNAUTHORIZED: "Engine does not accept the API key",
    Reason.POD_NOT_READY: "Pod is not ready",
    Reason.POD_TERMINATING: "Pod is terminating",
    Reason.WAITING_FOR_ROOM: "Waiting for room",
    Reason.LORA_DISABLED: "LoRA is off in the engine",
    Reason.WORKERS_LACK_FILES: "The engine's workers in other pods cannot read the files",
    Reason.BASE_MODEL_UNKNOWN: "The pod's base model is not known",
}


def status_of(
    given: StatusInput, before: Mapping[str, object], now: datetime, *, assignments: bool = True
) -> LoraAdapterStatus:
    """The whole status; `before` is the present one, whose transition times stay where nothing changed.

    Without `assignments` it says nothing of pods: for who knows from their LoraEndpoints.
    """
    failures = [failed_adapter(state) for state in given.adapters]
    failed = {f.name: f for f in failures if f is not None}
    for item in given.rejected:
        failed.setdefault(
            item.name, FailedAdapter(name=item.name, reason=item.reason, code=item.code, message=item.message)
        )
    loaded = sorted(state.name for state in given.adapters if state.complete)
    assigned = _assignments(given.adapters) if assignments else ()
    total = len(given.adapters) + len({r.name for r in given.rejected} - {s.name for s in given.adapters})
    if given.truncated:
        said = str(before.get("summary") or "").partition("/")[2]
        total = max(total, int(said) if said.isdigit() else 0)
    conditions = _conditions(given, failed)
    return LoraAdapterStatus(
        observed_generation=given.generation,
        phase=phase_of(given, failed),
        summary=f"{len(loaded)}/{total}",
        conditions=tuple(_stamp(c, given.generation, before, now) for c in conditions),
        loaded_adapters=tuple(loaded),
        failed_adapters=tuple(failed[name] for name in sorted(failed)),
        pod_assignments=assigned,
        pods=len(assigned),
        adapters=tuple(
            AdapterStatus(
                name=s.name, fingerprint=s.fingerprint, bytes=s.bytes, rank=s.rank, replicas=s.wanted, loaded=s.current
            )
            for s in sorted(given.adapters, key=lambda s: s.name)
        ),
        replicas=min((state.current for state in given.adapters), default=0),
        selector=given.selector or f"{POD_LABEL}=enabled",
        truncated=given.truncated or None,
    )


def failed_adapter(state: AdapterState) -> FailedAdapter | None:
    """The failedAdapters entry of an adapter that lacks replicas for a reason that waiting alone does not mend."""
    refusals = [r for r in state.refusals if r.reason is not Reason.ALREADY_PLACED]
    if state.complete or state.wanted == 0 or (state.missing == 0 and not refusals):
        return None
    code = telling_reason(refusals)
    if code in _PASSING:
        return None
    candidates = [r for r in refusals if r.reason not in _NO_POD]
    if code in (NO_MATCHING_PODS, NOT_ENOUGH_PODS):
        return None
    where = candidates or refusals
    counts = Counter(r.message for r in where)
    text = "; ".join(f"{message} on {count} of {len(where)} pods" for message, count in counts.most_common(4))
    return FailedAdapter(
        name=state.name,
        reason=_words(code),
        code=str(code),
        message=text,
        pods=tuple(PodFailure(pod=_bare(r.pod), reason=str(r.reason), message=r.message) for r in where[:16]),
    )


def state_name(state: AdapterState) -> str:
    """For statistics."""
    if state.complete:
        return "complete"
    if state.moving:
        return "moving"
    return "lacking" if state.wanted else "unwanted"


def telling_reason(refusals: Iterable[Refusal]) -> str:
    """The one reason to show for an adapter."""
    present = {refusal.reason for refusal in refusals}
    if present <= _NO_POD:
        return NO_MATCHING_PODS
    if present <= {*_NO_POD, Reason.ALREADY_PLACED}:
        return NOT_ENOUGH_PODS
    others = sorted(present - _NO_POD - {Reason.ALREADY_PLACED})
    return next((reason for reason in _TELLING if reason in present), others[0])


def phase_of(given: StatusInput, failed: Mapping[str, FailedAdapter]) -> Phase:
    """Derived, for people; programs read the condition Ready."""
    if given.adapters and all(s.complete for s in given.adapters) and not failed:
        return Phase.READY
    answering = any(state.replicas for state in given.adapters)
    moving = any(state.moving for state in given.adapters)
    if failed or given.source.ready is False:
        if answering:
            return Phase.PARTIAL
        return Phase.LOADING if moving else Phase.FAILED
    if moving:
        return Phase.LOADING
    return Phase.PARTIAL if answering else Phase.PENDING


def _conditions(given: StatusInput, failed: Mapping[str, FailedAdapter]) -> list[Condition]:
    source = {True: ConditionStatus.TRUE, False: ConditionStatus.FALSE, None: ConditionStatus.UNKNOWN}
    state = given.source
    made = [_condition(ConditionType.SOURCE_READY, source[state.ready], state.reason, state.message)]
    states = given.adapters
    complete = sum(state.complete for state in states)
    unplaced = [state for state in states if state.missing]
    if not states:
        word = "NoAdapters" if given.source.ready else given.source.reason
        text = given.source.message
        if failed:
            word, text = "AllRejected", _first(failed)
        known = ConditionStatus.UNKNOWN if given.source.ready is None else ConditionStatus.FALSE
        others = (ConditionType.SCHEDULED, ConditionType.LOADED, ConditionType.READY)
        return made + [_condition(type_, known, word, text) for type_ in others]
    if unplaced:
        code = telling_reason(r for state in unplaced for r in state.refusals)
        detail = failed.get(unplaced[0].name)
        text = f"{unplaced[0].name}: {detail.message if detail else _plain_reason(code, unplaced[0])}"
        more = f" (and {len(unplaced) - 1} more)" if len(unplaced) > 1 else ""
        made.append(_condition(ConditionType.SCHEDULED, ConditionStatus.FALSE, str(code), text + more))
    else:
        made.append(_condition(ConditionType.SCHEDULED, ConditionStatus.TRUE, "Scheduled", "every replica has a pod"))
    if complete == len(states):
        made.append(_condition(ConditionType.LOADED, ConditionStatus.TRUE, "Loaded", "every replica answers"))
    else:
        code, text = _why_not_loaded(given, failed)
        made.append(_condition(ConditionType.LOADED, ConditionStatus.FALSE, code, text))
    if complete == len(states) and not failed:
        noun = "adapter answers" if complete == 1 else "adapters answer"
        made.append(_condition(ConditionType.READY, ConditionStatus.TRUE, "Ready", f"{complete} {noun}"))
    else:
        code, text = _why_not_loaded(given, failed)
        total = len(states) + len(set(failed) - {s.name for s in states})
        text = f"{complete} of {total} adapters ready: {text}"
        made.append(_condition(ConditionType.READY, ConditionStatus.FALSE, code, text))
    return made


def _why_not_loaded(given: StatusInput, failed: Mapping[str, FailedAdapter]) -> tuple[str, str]:
    if failed:
        name = next(iter(sorted(failed)))
        return failed[name].code or "Failed", _first(failed)
    if given.source.reason == DELETING:
        return DELETING, given.source.message
    lacking = [state for state in given.adapters if not state.complete]
    if given.on_demand:
        cold = [state.name for state in lacking if state.wanted == 0]
        lacking = [state for state in lacking if state.wanted > 0]
        if not lacking:
            more = f" and {len(cold) - 5} more" if len(cold) > 5 else ""
            text = f"loadOnStartup is false: {', '.join(cold[:5])}{more} will be loaded when somebody asks"
            return "LoadOnDemand", text
    if all(state.wanted == 0 for state in given.adapters):
        return "ScaledToZero", "replicas is 0"
    if any(state.moving for state in lacking):
        names = ", ".join(_on_its_way(state) for state in lacking[:5])
        more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
        return "Loading", f"loading {names}{more}{_waits_for(lacking)}"
    if not any(state.refusals or state.missing for state in lacking):
        return "Loading", f"{lacking[0].name}: a replica has just gone, and its place is being filled"
    code = telling_reason(r for state in lacking for r in state.refusals)
    return str(code), f"{lacking[0].name}: {_plain_reason(code, lacking[0])}"


def _on_its_way(state: AdapterState) -> str:
    return state.name if state.fetched_percent is None else f"{state.name} ({state.fetched_percent} % fetched)"


def _waits_for(lacking: Iterable[AdapterState]) -> str:
    """What has to happen before the first of those that wait for room can be loaded."""
    waiting = ((state, r) for state in lacking for r in state.refusals if r.reason is Reason.WAITING_FOR_ROOM)
    found = next(waiting, None)
    return f"; {found[0].name} waits for room on {_bare(found[1].pod)}: {found[1].message}" if found else ""


def _plain_reason(code: str, state: AdapterState) -> str:
    if code == NO_MATCHING_PODS:
        nobody = "no pod serves this base model and matches the podSelector"
        unnamed = [r for r in state.refusals if r.reason is Reason.BASE_MODEL_UNKNOWN]
        if not unnamed:
            return nobody
        return (
            f"{nobody}; of {len(unnamed)} it is not known which one they serve ({_bare(unnamed[0].pod)}: "
            f"{unnamed[0].message}); their engines tell once they answer, or the annotation {GROUP}/base-model does"
        )
    if code == NOT_ENOUGH_PODS:
        placed = state.wanted - state.missing
        without = "no other serves this base model and matches the podSelector"
        return f"{placed} of {state.wanted} replicas have a pod; {without}"
    return _words(code).lower()


def _words(code: str) -> str:
    """The human form of a typed reason, also of one that is younger than the table."""
    return _WORDS.get(code) or in_words(code)


def _first(failed: Mapping[str, FailedAdapter]) -> str:
    names = sorted(failed)
    item = failed[names[0]]
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"{item.name}: {item.reason}: {item.message}{more}"


def _condition(type_: ConditionType, status: ConditionStatus, reason: str, message: str) -> Condition:
    return Condition(
        type=type_, status=status, reason=reason, message=message, last_transition_time=datetime.fromtimestamp(0, UTC)
    )


def _stamp(condition: Condition, generation: int, before: Mapping[str, object], now: datetime) -> Condition:
    known = before.get("conditions")
    since = now
    for item in known if isinstance(known, list) else []:
        if item.get("type") == condition.type and item.get("status") == condition.status:
            since = datetime.fromisoformat(item["lastTransitionTime"])
    return condition.model_copy(update={"observed_generation": generation, "last_transition_time": since})


def _assignments(states: Iterable[AdapterState]) -> tuple[PodAssignment, ...]:
    pods: dict[str, tuple[Replica, list[tuple[str, str]]]] = {}
    for state in states:
        chosen: dict[str, Replica] = {}
        for replica in state.replicas:
            # with two versions on one pod for a moment, the new one is the one to ask
            if replica.pod not in chosen or replica.current:
                chosen[replica.pod] = replica
        for replica in chosen.values():
            pods.setdefault(replica.pod, (replica, []))[1].append((state.name, replica.engine_name))
    return tuple(
        PodAssignment(
            pod=_bare(pod),
            address=replica.address,
            container=replica.container or None,
            adapters=tuple(sorted(name for name, _ in names)),
            engine_names=tuple(EngineName(name=n, engine_name=e) for n, e in sorted(names) if n != e),
        )
        for pod, (replica, names) in sorted(pods.items(), key=itemgetter(0))
    )


def _bare(pod: str) -> str:
    """Pods are in the resource's own namespace, so that their name is enough."""
    return pod.partition("/")[2] or pod
