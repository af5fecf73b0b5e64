"""The small interface for callers who want one answer and have no operator around them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from lora_scheduler.errors import UnknownAdapter
from lora_scheduler.model import Adapter, Load, Plan, Pod, Policy, Refusal, Resident, ResidentState, Snapshot
from lora_scheduler.planner import DEFAULT, plan


@dataclass(frozen=True, slots=True)
class Schedule:
    """Where one adapter should go: `pods` that should hold it, and if that are too few, why not the others."""

    pods: tuple[str, ...]
    missing: int
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class AdapterStatus:
    """Where one adapter is: pods by how far it has come there (`outdated`: another version is there), all sorted."""

    adapter: str
    assigned: tuple[str, ...]
    loaded: tuple[str, ...]
    loading: tuple[str, ...]
    outdated: tuple[str, ...]
    waiting: tuple[tuple[Load, Refusal], ...]
    missing: int
    refusals: tuple[Refusal, ...]


def schedule_adapter(adapter: Adapter, available_pods: Iterable[Pod], policy: Policy = DEFAULT) -> Schedule:
    """Which of the pods should hold the adapter. What else is on them is counted and left alone: nothing is preempted,
    since nothing is known here of the priorities of the others."""
    pods = tuple(
        replace(pod, residents=tuple(replace(r, owned=r.owned and r.adapter == adapter.key) for r in pod.residents))
        for pod in available_pods
    )
    made = plan(Snapshot((adapter,), pods), policy)
    return Schedule(made.assignments[adapter.key], made.missing.get(adapter.key, 0), made.refusals.get(adapter.key, ()))


def get_adapter_status(adapter_key: str, snapshot: Snapshot, policy: Policy = DEFAULT) -> AdapterStatus:
    """Where the adapter is, should be, and why not elsewhere if it lacks replicas. Raises UnknownAdapter."""
    adapter = next((adapter for adapter in snapshot.adapters if adapter.key == adapter_key), None)
    if adapter is None:
        raise UnknownAdapter(
            f"adapter {adapter_key!r} is not in the snapshot; ask for one of its {len(snapshot.adapters)}"
        )
    residents = ((pod.key, resident) for pod in snapshot.pods for resident in pod.residents if resident.owned)
    return status_of(adapter, plan(snapshot, policy), [one for one in residents if one[1].adapter == adapter_key])


def status_of(adapter: Adapter, made: Plan, residents: Iterable[tuple[str, Resident]]) -> AdapterStatus:
    """The status by a plan; `residents` are those of this adapter, each with its pod."""
    key = adapter.key
    found: dict[str, set[str]] = {"loaded": set(), "loading": set(), "outdated": set()}
    for pod, resident in residents:
        if resident.state is ResidentState.UNLOADING:
            continue
        if resident.version != adapter.version:
            found["outdated"].add(pod)
        else:
            found["loaded" if resident.state is ResidentState.LOADED else "loading"].add(pod)
    return AdapterStatus(
        adapter=key,
        assigned=made.assignments[key],
        loaded=tuple(sorted(found["loaded"])),
        loading=tuple(sorted(found["loading"])),
        outdated=tuple(sorted(found["outdated"])),
        waiting=tuple(entry for entry in made.waiting if entry[0].adapter == key),
        missing=made.missing.get(key, 0),
        refusals=made.refusals.get(key, ()),
    )


def get_pod_adapters(pod: Pod) -> tuple[str, ...]:
    """The keys of the adapters that the pod holds or is loading, sorted; foreign residents have no key."""
    return tuple(
        sorted(
            {
                resident.adapter
                for resident in pod.residents
                if resident.owned and resident.adapter is not None and resident.state is not ResidentState.UNLOADING
            }
        )
    )
