"""Makes room for an adapter that fits nowhere although there is room in all: copies that have not begun change places.

Room in pieces is brought together on one pod: a copy there moves to where there is room for it, or a large one changes
places with a small one, until the adapter fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import nlargest, nsmallest

from lora_scheduler.allotment import Allotment
from lora_scheduler.balance.shifting import Shifting, free_bytes, free_slots, may_hold
from lora_scheduler.ledger import Copy, PodLedger
from lora_scheduler.model import Adapter
from lora_scheduler.placement import allot
from lora_scheduler.steps import start

PODS_TRIED = 16  # pods on which room is made, for one copy
PARTNERS = 16  # pods that take something over
STEPS = 8  # copies moved to make room on one pod


@dataclass(frozen=True, slots=True)
class _Step:
    """A copy that leaves the pod, where to, and which one comes in exchange."""

    copy: Copy
    pod: PodLedger
    other: Copy | None = None


def pack(lacking: Iterable[Allotment], shifting: Shifting) -> None:
    """Find places for adapters that lack copies, in this order."""
    hopeless: dict[int, int] = {}  # by group: the size from which on nothing could be done
    begun = {copy.ledger.key for copy in shifting.steps.begun()}  # the pods that something can leave
    for allotment in lacking if begun else ():
        group, size = id(allotment.group), allotment.adapter.bytes
        while allotment.missing > 0 and size < hopeless.get(group, size + 1):
            pod = _make_room(allotment, shifting, begun)
            if pod is None:
                hopeless[group] = size
                break
            begun.add(pod.key)
            allot(allotment, pod)
            start(allotment, shifting.fleet, shifting.steps)


def _make_room(allotment: Allotment, shifting: Shifting, begun: set[str]) -> PodLedger | None:
    size = allotment.adapter.bytes
    targets = allotment.group.targets
    if sum(max(free_slots(pod), 0) for pod in targets) < 1 or sum(max(free_bytes(pod), 0) for pod in targets) < size:
        return None
    possible = [pod for pod in targets if pod.key in begun and free_slots(pod) >= 0 and may_hold(allotment, pod)]
    for pod in nsmallest(PODS_TRIED, possible, key=lambda p: (free_slots(p) < 1, max(size - free_bytes(p), 0), p.key)):
        if _free_up(pod, allotment.adapter, targets, shifting, begun):
            return pod
    return None


def _free_up(
    pod: PodLedger, adapter: Adapter, targets: Sequence[PodLedger], shifting: Shifting, begun: set[str]
) -> bool:
    for_bytes, steps = adapter.bytes, STEPS
    while steps > 0 and not _fits(pod, for_bytes):
        steps -= 1
        needed = for_bytes - free_bytes(pod)
        step = _best_exchange(pod, adapter, needed, targets, shifting) if free_slots(pod) > 0 else None
        step = step or _best_move(pod, needed, targets, shifting)
        if step is None:
            return False
        begun.add(step.pod.key)
        if step.other is None:
            shifting.shift(step.copy, step.pod)
        else:
            shifting.swap(step.copy, step.other)
    return _fits(pod, for_bytes)


def _fits(pod: PodLedger, size: int) -> bool:
    return free_slots(pod) > 0 and free_bytes(pod) >= size


def _best_move(pod: PodLedger, needed: int, targets: Sequence[PodLedger], shifting: Shifting) -> _Step | None:
    """The smallest copy that frees enough, or else the largest, that another pod has room for."""
    partners = _roomiest(targets, pod, slots=1)
    for copy in sorted(shifting.movable(pod), key=lambda c: _by_gain(c.bytes, needed)):
        for other in partners:
            if free_bytes(other) >= copy.bytes and shifting.may_go(copy, other):
                return _Step(copy, other)
    return None


def _best_exchange(
    pod: PodLedger, adapter: Adapter, needed: int, targets: Sequence[PodLedger], shifting: Shifting
) -> _Step | None:
    """The pair of copies the exchange of which frees just enough, or else the most."""
    copies = shifting.movable(pod)
    found: list[tuple[tuple[bool, int], float, _Step]] = []
    for other in _roomiest(targets, pod, slots=0):
        room = free_bytes(other)
        for incoming in shifting.movable(other):
            for copy in copies:
                gain = copy.bytes - incoming.bytes
                if 0 < gain <= room and incoming.adapter.name != adapter.name:  # an engine has a name only once
                    uneven = abs(copy.share - incoming.share)
                    found.append((_by_gain(gain, needed), uneven, _Step(copy, other, incoming)))
    found.sort(key=lambda entry: entry[:2])
    for _, _, step in found:
        assert step.other is not None
        if shifting.may_go(step.copy, step.pod) and shifting.may_go(step.other, pod):
            return step
    return None


def _roomiest(targets: Sequence[PodLedger], besides: PodLedger, *, slots: int) -> list[PodLedger]:
    """The other pods with the most free memory, of those with so many free slots; of equal ones, the first."""
    rated = [  # in place of free_bytes() and free_slots(), which take several times as long
        (other.byte_limit - (other.now_bytes if other.now_bytes > other.later_bytes else other.later_bytes), -position)
        for position, other in enumerate(targets)
        if other.now_slots + slots <= other.slot_limit and other.later_slots + slots <= other.slot_limit
    ]
    found = [targets[-position] for _, position in nlargest(PARTNERS + 1, rated)]
    return [other for other in found if other is not besides][:PARTNERS]


def _by_gain(gain: int, needed: int) -> tuple[bool, int]:
    """Smaller is better: what frees enough before what does not, then what comes nearest."""
    return gain < needed, gain if gain >= needed else -gain
