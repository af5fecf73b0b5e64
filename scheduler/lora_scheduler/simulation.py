"""Tries a plan out on a snapshot, without a cluster."""

from __future__ import annotations

from dataclasses import replace

from lora_scheduler.errors import UnknownAdapter
from lora_scheduler.model import Adapter, Load, Plan, Pod, Resident, ResidentState, Snapshot


def simulate(snapshot: Snapshot, plan: Plan, *, settle: bool = False) -> Snapshot:
    """The snapshot after all actions of the plan have succeeded.

    With `settle`, what was under way before has ended well too: LOADING residents are LOADED, UNLOADING ones are gone.
    Raises UnknownAdapter if the plan loads an adapter that the snapshot does not have: it was made for another one.
    """
    adapters = {adapter.key: adapter for adapter in snapshot.adapters}
    loads: dict[str, list[Load]] = {}
    gone: set[tuple[str, str]] = set()
    for action in plan.actions:
        if isinstance(action, Load):
            if action.adapter not in adapters:
                raise UnknownAdapter(
                    f"adapter {action.adapter!r} is not in the snapshot; give the one that the plan was made for"
                )
            loads.setdefault(action.pod, []).append(action)
        else:
            gone.add((action.pod, action.name))
    pods: list[Pod] = []
    for pod in snapshot.pods:
        stay = [resident for resident in pod.residents if (pod.key, resident.name) not in gone]
        if settle:
            stay = [
                replace(resident, state=ResidentState.LOADED)
                for resident in stay
                if resident.state is not ResidentState.UNLOADING
            ]
        stay += [loaded(adapters[load.adapter], pod) for load in loads.get(pod.key, ())]
        pods.append(replace(pod, residents=tuple(sorted(stay, key=lambda resident: resident.name))))
    return replace(snapshot, pods=tuple(pods))


def loaded(adapter: Adapter, pod: Pod) -> Resident:
    """The resident that a load of the adapter's wanted version leaves on the pod."""
    return Resident(engine_name(adapter, pod), adapter.bytes, adapter.rank, adapter.key, adapter.version)


def engine_name(adapter: Adapter, pod: Pod) -> str:
    """The adapter's name, or one per version where two versions may be side by side."""
    return f"{adapter.name}--{adapter.version}" if adapter.key in pod.side_by_side else adapter.name
