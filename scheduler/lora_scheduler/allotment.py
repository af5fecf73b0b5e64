"""What one adapter has, keeps, gives up and gets in one planning round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lora_scheduler.ledger import Copy, PodLedger
from lora_scheduler.model import Adapter, ReplicaPolicy, Resident, UnloadCause


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """The pods that match one namespace, base model and selector; `targets` of them can take loads now."""

    matching: frozenset[str]
    ready: tuple[PodLedger, ...]
    targets: tuple[PodLedger, ...]


@dataclass(slots=True, eq=False)
class Eviction:
    """A copy that has to leave although it is wanted, and for whom."""

    copy: Copy
    cause: UnloadCause
    on_behalf_of: str | None


@dataclass(slots=True, eq=False)
class Allotment:
    """The adapter's account in one planning round; the dictionaries are by pod.

    `kept` is where it should be when everything has happened. `pending` are copies that go as soon as those serve in
    the wanted number; until then they serve, and hold their room. `dropped` are surplus and go at once, `evicted` have
    to make room. `leaving` are residents that are on their way out already.
    """

    adapter: Adapter
    group: Group
    wanted: int
    share: float
    kept: dict[str, Copy] = field(default_factory=dict)
    pending: dict[str, Copy] = field(default_factory=dict)
    dropped: dict[str, Copy] = field(default_factory=dict)
    evicted: dict[str, Eviction] = field(default_factory=dict)
    leaving: dict[str, tuple[Resident, ...]] = field(default_factory=dict)
    moving: bool = False  # this round's plan takes a copy down or exchanges one

    @property
    def everywhere(self) -> bool:
        return self.adapter.replica_policy is ReplicaPolicy.ALL_PODS and self.adapter.replicas > 0

    @property
    def missing(self) -> int:
        """How many copies have no place. For AllPods: ready pods that match and do not get one, or 1 if there are none
        at all: an adapter that is nowhere is never complete."""
        if not self.everywhere:
            return max(self.wanted - len(self.kept), 0)
        without = sum(ledger.key not in self.kept for ledger in self.group.ready)
        return without or int(not self.kept)

    def held(self) -> Iterator[Copy]:
        """All copies that count for room and load."""
        yield from self.kept.values()
        yield from self.pending.values()

    def keep(self, copy: Copy) -> None:
        copy.ledger.hold(copy)
        self.kept[copy.ledger.key] = copy

    def drop(self, copy: Copy) -> None:
        """Give up a held copy as surplus."""
        self._forget(copy)
        self.dropped[copy.ledger.key] = copy

    def evict(self, copy: Copy, cause: UnloadCause, on_behalf_of: str | None = None) -> None:
        """Give up a held copy to make room."""
        self._forget(copy)
        self.evicted[copy.ledger.key] = Eviction(copy, cause, on_behalf_of)

    def postpone(self, copy: Copy) -> None:
        """Keep a copy only until others serve; it counts with the size that is there, not with the one to come."""
        del self.kept[copy.ledger.key]
        self.pending[copy.ledger.key] = copy
        copy.ledger.resize(copy, copy.residents[0].bytes)

    def _forget(self, copy: Copy) -> None:
        copy.ledger.release(copy)
        if self.kept.pop(copy.ledger.key, None) is None:
            del self.pending[copy.ledger.key]
