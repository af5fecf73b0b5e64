"""The methods that placement is compared with: what other systems do, each in its usual form.

Every one serves higher priorities first, never breaks a limit, and puts replicas of one adapter on distinct pods. Those
that are `sticky` keep what is in place when the fleet changes and place only what lacks; the others start anew.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.placement.quality import Assignment, budget_bytes, usable
from lora_scheduler import Adapter, Pod, Snapshot

MASK = (1 << 64) - 1
BOUND = 1.25  # what bounded-load hashing allows a pod beyond the mean


@dataclass(slots=True)
class Room:
    """What is left on one pod while a method is at work."""

    pod: Pod
    slots: int
    bytes: int
    number: int
    load: float = 0.0
    adapters: set[str] = field(default_factory=set)

    def fits(self, adapter: Adapter) -> bool:
        return self.slots > 0 and self.bytes >= adapter.bytes

    def put(self, adapter: Adapter) -> None:
        self.slots -= 1
        self.bytes -= adapter.bytes
        self.load += share(adapter)
        self.adapters.add(adapter.key)


Choose = Callable[[Adapter, Sequence[Room], "State"], Room | None]


@dataclass(frozen=True, slots=True)
class State:
    """What a choice may look at besides the pods that fit."""

    rng: random.Random
    salt: Mapping[str, int]
    mean: float


@dataclass(frozen=True, slots=True)
class Baseline:
    """`order` sorts adapters of one priority; `choose` takes one of the pods that fit, or none."""

    name: str
    order: Callable[[Adapter], object]
    choose: Choose
    sticky: bool = True

    def place(self, snapshot: Snapshot, before: Assignment) -> dict[str, tuple[str, ...]]:
        """Where everything should be, given where it was. Replicas that fit nowhere are left out."""
        rooms = [
            Room(pod, pod.host_slots, budget_bytes(pod), number)
            for number, pod in enumerate(pod for pod in snapshot.pods if usable(pod))
        ]
        by_key = {room.pod.key: room for room in rooms}
        ordered = sorted(snapshot.adapters, key=self.order)  # type: ignore[arg-type]
        ordered.sort(key=lambda adapter: -adapter.priority)
        result: dict[str, list[str]] = {adapter.key: [] for adapter in ordered}
        for adapter in ordered if self.sticky else ():
            for key in before.get(adapter.key, ()):
                room = by_key.get(key)
                if room is not None and room.fits(adapter) and len(result[adapter.key]) < adapter.replicas:
                    room.put(adapter)
                    result[adapter.key].append(key)
        total = sum(share(adapter) * adapter.replicas for adapter in ordered)
        salt = {room.pod.key: hashed(room.pod.key) for room in rooms}
        state = State(random.Random("baseline"), salt, total / max(len(rooms), 1))
        eligible = _Eligible(rooms)
        for adapter in ordered:
            there = result[adapter.key]
            while len(there) < adapter.replicas:
                fitting = [room for room in eligible.of(adapter) if room.fits(adapter)]
                if there:
                    fitting = [room for room in fitting if adapter.key not in room.adapters]
                chosen = self.choose(adapter, fitting, state) if fitting else None
                if chosen is None:
                    break
                chosen.put(adapter)
                there.append(chosen.pod.key)
        return {key: tuple(sorted(pods)) for key, pods in result.items()}


class _Eligible:
    """The pods that an adapter may be on by base model and rank, listed once per pair."""

    def __init__(self, rooms: Sequence[Room]) -> None:
        self._rooms = rooms
        self._known: dict[tuple[str, int], list[Room]] = {}

    def of(self, adapter: Adapter) -> list[Room]:
        key = (adapter.base_model, adapter.rank)
        if key not in self._known:
            self._known[key] = [
                room
                for room in self._rooms
                if room.pod.base_model == adapter.base_model and adapter.rank <= room.pod.max_rank
            ]
        return self._known[key]


def share(adapter: Adapter) -> float:
    """The load of one replica when all are there."""
    return (1.0 if adapter.demand is None else adapter.demand) / max(adapter.replicas, 1)


def hashed(text: str) -> int:
    """64 bits that are the same in every process."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def mixed(value: int) -> int:
    """A good 64-bit mix (the finalizer of splitmix64)."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def _first(adapter: Adapter, fitting: Sequence[Room], state: State) -> Room:
    return fitting[0]


def _tightest(adapter: Adapter, fitting: Sequence[Room], state: State) -> Room:
    return min(fitting, key=lambda room: (room.bytes, room.number))


def _any(adapter: Adapter, fitting: Sequence[Room], state: State) -> Room:
    return state.rng.choice(fitting)


def _fewest(adapter: Adapter, fitting: Sequence[Room], state: State) -> Room:
    return min(fitting, key=lambda room: (len(room.adapters), room.number))


def _least_loaded(adapter: Adapter, fitting: Sequence[Room], state: State) -> Room:
    return min(fitting, key=lambda room: (room.load, room.number))


def _rendezvous(adapter: Adapter, fitting: Sequence[Room], state: State) -> Room:
    own = hashed(adapter.key)
    return max(fitting, key=lambda room: mixed(own ^ state.salt[room.pod.key]))


def _bounded(adapter: Adapter, fitting: Sequence[Room], state: State) -> Room:
    below = [room for room in fitting if room.load + share(adapter) <= BOUND * state.mean]
    return _rendezvous(adapter, below or fitting, state)


def _by_key(adapter: Adapter) -> object:
    return adapter.key


def _largest_first(adapter: Adapter) -> object:
    return -adapter.bytes, adapter.key


def _hottest_first(adapter: Adapter) -> object:
    return -share(adapter), adapter.key


LEAST_LOADED = Baseline("least loaded", _hottest_first, _least_loaded)
BASELINES = (
    Baseline("first-fit decreasing", _largest_first, _first),
    Baseline("first-fit decreasing, anew", _largest_first, _first, sticky=False),
    Baseline("best-fit", _largest_first, _tightest),
    Baseline("random", _by_key, _any),
    Baseline("least adapters", _by_key, _fewest),
    LEAST_LOADED,
    Baseline("rendezvous", _by_key, _rendezvous, sticky=False),
    Baseline("bounded-load rendezvous", _by_key, _bounded, sticky=False),
)
