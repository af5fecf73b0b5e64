"""Which pods may hold an adapter at all: small pure functions, each with its own typed reason.

A filter answers None, or the refusal that a user reads; messages carry the numbers and leave out the pod's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lora_scheduler.ledger import PodLedger, Replica
from lora_scheduler.model import Adapter, Reason, Refusal
from lora_scheduler.selectors import describe, matches

Filter = Callable[[Adapter, PodLedger], Refusal | None]

# an exclusion of these kinds is about a load that would have to be made, not about a replica that is there
ABOUT_LOADING = frozenset({Reason.LOAD_FAILED, Reason.STALE_PREFIX_CACHE})


def in_namespace(adapter: Adapter, ledger: PodLedger) -> Refusal | None:
    """An empty namespace, of either, goes with every namespace."""
    pod = ledger.pod
    if not adapter.namespace or not pod.namespace or adapter.namespace == pod.namespace:
        return None
    message = f"the pod is in namespace {pod.namespace!r}, the adapter in {adapter.namespace!r}"
    return Refusal(pod.key, Reason.NAMESPACE_MISMATCH, message)


def serves_base_model(adapter: Adapter, ledger: PodLedger) -> Refusal | None:
    pod = ledger.pod
    if pod.base_model == adapter.base_model:
        return None
    if not pod.base_model:
        why = f": {pod.not_ready[1]}" if pod.not_ready else ""
        return Refusal(pod.key, Reason.BASE_MODEL_UNKNOWN, f"which base model the pod serves is not known{why}")
    message = f"the pod serves {pod.base_model!r}, the adapter is for {adapter.base_model!r}"
    return Refusal(pod.key, Reason.BASE_MODEL_MISMATCH, message)


def selected(adapter: Adapter, ledger: PodLedger) -> Refusal | None:
    if matches(adapter.selector, ledger.pod.labels):
        return None
    message = f"the pod's labels do not match the selector {describe(adapter.selector)}"
    return Refusal(ledger.key, Reason.SELECTOR_MISMATCH, message)


def staying(adapter: Adapter, ledger: PodLedger) -> Refusal | None:
    if not ledger.pod.draining:
        return None
    return Refusal(ledger.key, Reason.POD_TERMINATING, "the pod is terminating")


def ready(adapter: Adapter, ledger: PodLedger) -> Refusal | None:
    pod = ledger.pod
    if pod.ready:
        return None
    reason, message = pod.not_ready or (Reason.POD_NOT_READY, "the pod is not ready")
    return Refusal(pod.key, reason, message)


def sane(adapter: Adapter, ledger: PodLedger) -> Refusal | None:
    pod = ledger.pod
    limits = (
        ("host_slots (max_cpu_loras)", pod.host_slots),
        ("max_lora_rank", pod.max_rank),
        ("gpu_slots (max_loras)", pod.gpu_slots),
        ("memory_bytes", 1 if pod.memory_bytes is None else pod.memory_bytes),
    )
    wrong = [f"{name} is {value}" for name, value in limits if value <= 0]
    if not wrong:
        return None
    return Refusal(pod.key, Reason.INVALID_POD_LIMITS, f"{', '.join(wrong)}; a limit must be at least 1")


def not_excluded(adapter: Adapter, ledger: PodLedger) -> Refusal | None:
    found = ledger.pod.excluded.get(adapter.key)
    return Refusal(ledger.key, *found) if found else None


def within_rank(adapter: Adapter, ledger: PodLedger) -> Refusal | None:
    limit = ledger.pod.max_rank
    if adapter.rank <= limit:
        return None
    return Refusal(ledger.key, Reason.RANK_TOO_HIGH, f"rank {adapter.rank} exceeds max_lora_rank {limit}")


def within_budget(adapter: Adapter, ledger: PodLedger) -> Refusal | None:
    limit = ledger.byte_limit
    if adapter.bytes <= limit:
        return None
    if ledger.disk_is_tight:
        message = f"its files take {size(adapter.bytes)}, the whole disk budget of the pod's agent is {size(limit)}"
        return Refusal(ledger.key, Reason.NOT_ENOUGH_DISK, message)
    message = f"needs {size(adapter.bytes)}, the pod's whole budget is {size(limit)}"
    return Refusal(ledger.key, Reason.EXCEEDS_POD_MEMORY, message)


def name_is_free(adapter: Adapter, ledger: PodLedger) -> Refusal | None:
    name = adapter.name
    if name in ledger.foreign_names:
        message = f"an adapter called {name!r} was loaded there by somebody else"
    elif ledger.names.get(name, adapter.key) != adapter.key:
        message = f"the name {name!r} belongs to adapter {ledger.names[name]!r} there"
    else:
        return None
    return Refusal(ledger.key, Reason.NAME_TAKEN, message)


DECLARED: tuple[Filter, ...] = (in_namespace, serves_base_model, selected)  # hold for good, as both are declared
PRESENT: tuple[Filter, ...] = (staying, ready, sane)  # about the pod alone
LOADABLE: tuple[Filter, ...] = (not_excluded, within_rank, within_budget, name_is_free)


def first_refusal(filters: Iterable[Filter], adapter: Adapter, ledger: PodLedger) -> Refusal | None:
    """The first reason against, in the order of the filters."""
    for judge in filters:
        refusal = judge(adapter, ledger)
        if refusal is not None:
            return refusal
    return None


def loadable(adapter: Adapter, ledger: PodLedger) -> bool:
    """Whether LOADABLE has nothing against it: the same question without words, asked for nearly every pair."""
    key, name = adapter.key, adapter.name
    return (
        key not in ledger.pod.excluded
        and adapter.rank <= ledger.pod.max_rank
        and adapter.bytes <= ledger.byte_limit
        and name not in ledger.foreign_names
        and ledger.names.get(name, key) == key
    )


def keeps(replica: Replica) -> bool:
    """Whether a replica that is there still meets what is declared of its pod, base model and selector aside.

    One of the wanted version only has to be allowed to stay; an old one must be able to make place for the new one.
    """
    adapter, ledger = replica.adapter, replica.ledger
    if replica.current is None:
        return sane(adapter, ledger) is None and loadable(adapter, ledger)
    excluded = ledger.pod.excluded.get(adapter.key)
    if excluded is not None and excluded[0] not in ABOUT_LOADING:
        return False
    return sane(adapter, ledger) is not None or within_rank(adapter, ledger) is None


def room_refusal(adapter: Adapter, ledger: PodLedger, own: Replica | None = None) -> Refusal | None:
    """Why the pod is too full for one more replica, if it is, counting everything that stays or is on its way there."""
    slots, size_over = ledger.shortage(adapter.bytes, own)
    if slots > 0:
        taken = ledger.later_slots - (own is not None)
        return Refusal(ledger.key, Reason.NO_FREE_SLOT, f"{taken} of {ledger.slot_limit} slots are taken")
    if size_over > 0:
        free = max(ledger.byte_limit - ledger.later_bytes + (own.bytes if own else 0), 0)
        message = f"needs {size(adapter.bytes)}, {size(free)} of {size(ledger.byte_limit)} is free"
        if ledger.disk_is_tight:
            message = f"{message} on the disk of the pod's agent, where the files of what is loaded have to stay"
            return Refusal(ledger.key, Reason.NOT_ENOUGH_DISK, message)
        return Refusal(ledger.key, Reason.NOT_ENOUGH_MEMORY, message)
    return None


def size(count: int) -> str:
    """Bytes for people, in the largest unit that leaves a digit before the point: `2.0 GiB`, `512.0 MiB`, `7 B`."""
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= scale or (unit == "GiB" and count * 10 >= scale):
            return f"{count / scale:.1f} {unit}"
    return f"{count} B"
