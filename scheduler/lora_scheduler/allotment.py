"""What one adapter has, keeps, gives up and gets, from the beginning of a planning round to its end."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lora_scheduler.ledger import PodLedger, Replica
from lora_scheduler.model import Adapter, Resident, UnloadCause

T = TypeVar("T")
Order = tuple[int, float, int, str]  # see finding.order_of


SHARES_PER_UNIT = 2.0**30
LARGEST_SHARE = 2.0**22  # requests per second


@dataclass(slots=True, eq=False)
class Group:
    """The pods that match one namespace, base model and selector.

    `targets` of them can take loads now, `ready` ones are served by AllPods; both are sorted by key. `followers` are
    the adapters that go by the number of pods; of those of Auto, `ceilings` has the most replicas that they could want.
    """

    matching: set[str] = field(default_factory=set)
    ready: list[PodLedger] = field(default_factory=list)
    targets: list[PodLedger] = field(default_factory=list)
    followers: set[str] = field(default_factory=set)
    ceilings: dict[str, int] = field(default_factory=dict)
    size: int = 0  # how many adapters are in it
    _domains: dict[str, frozenset[str]] = field(default_factory=dict)

    def domains(self, topology_key: str) -> frozenset[str]:
        """The domains in which a pod can take loads."""
        found = self._domains.get(topology_key)
        if found is None:
            found = self._domains[topology_key] = frozenset([pod.domain(topology_key) for pod in self.targets])
        return found

    def changed(self, pods: int) -> set[str]:
        """The pods are no longer what they were; the adapters that this concerns, where there were or are so many."""
        self._domains.clear()
        return self.followers.union([key for key, most in self.ceilings.items() if most >= pods])


class _Nothing(dict[str, Any]):
    """Most adapters have nothing pending, dropped, evicted or leaving: they share this one."""

    __hash__ = object.__hash__  # type: ignore[assignment]  # else it could not be a dataclass's default

    def __setitem__(self, key: str, value: Any) -> None:
        raise TypeError(f"{key!r} cannot be put into what all accounts share; give the account a dictionary of its own")


NOTHING: dict[str, Any] = _Nothing()


def own(entries: dict[str, T]) -> dict[str, T]:
    """The same entries in a dictionary that may be written to."""
    return {} if entries is NOTHING else entries


@dataclass(slots=True, eq=False)
class Eviction:
    """A replica that has to leave although it is wanted, and for whom."""

    replica: Replica
    cause: UnloadCause
    on_behalf_of: str | None


@dataclass(slots=True, eq=False)
class Allotment:
    """The adapter's account; the dictionaries are by pod.

    `kept` is where it should be when everything has happened. `pending` are replicas that go as soon as those serve in
    the wanted number; until then they serve, and hold their room. `dropped` are surplus and go at once, `evicted` have
    to make room. `leaving` are residents that are on their way out already.

    An account in which a round has changed anything is entered in `journal`, once: the next round begins by setting it
    back to what is there.
    """

    adapter: Adapter
    group: Group
    wanted: int
    share: float
    order: Order
    journal: list[Allotment]
    everywhere: bool  # AllPods, and not switched off by 0 replicas
    most: int  # for Auto: what `wanted` would be at most, were there more replicas than there are
    needed: (
        int  # without so many replicas something is missing; those by which Auto follows demand are welcome, no more
    )
    kept: dict[str, Replica] = field(default_factory=dict)
    pending: dict[str, Replica] = field(default=NOTHING)
    dropped: dict[str, Replica] = field(default=NOTHING)
    evicted: dict[str, Eviction] = field(default=NOTHING)
    leaving: dict[str, tuple[Resident, ...]] = field(default=NOTHING)
    moving: bool = False  # this round's plan takes a replica down or exchanges one
    there: bool = False  # something of it was found on a pod when the account was opened
    active: bool = False  # it was not at rest then
    stirred: bool = False  # it is in the journal
    scarce: bool = False  # there is not room for all of its priority: first replicas come before second ones
    kind: int = 0  # it should rather go to pods that serve ranks up to this one; 0 if it does not matter
    sound: bool = True  # what was found of it is as it should be, whether it is all or not

    @property
    def complete(self) -> bool:
        """Whether as many replicas are kept as there should be, no more and no less."""
        return self.missing == 0 if self.everywhere else len(self.kept) == self.wanted

    @property
    def only_lacks(self) -> bool:
        """Whether fewer replicas are kept than there should be, and all of those are missed."""
        return not self.everywhere and len(self.kept) < self.wanted == self.needed

    @property
    def missing(self) -> int:
        """How many replicas have no place. For AllPods: ready pods that match and do not get one, or 1 if there are
        none at all: an adapter that is nowhere is never complete."""
        if not self.everywhere:
            lacking = self.needed - len(self.kept)
            return lacking if lacking > 0 else 0
        kept = self.kept
        without = len([ledger for ledger in self.group.ready if ledger.key not in kept])
        return without or int(not kept)

    @property
    def spare(self) -> bool:
        """Whether a replica could go without anything missing: one of those by which Auto follows demand."""
        return not self.everywhere and len(self.kept) > self.needed

    @property
    def assigned(self) -> tuple[str, ...]:
        """The pods that should hold it, sorted."""
        return tuple(self.kept) if len(self.kept) == 1 else tuple(sorted(self.kept))

    def in_place(self) -> Collection[Replica]:
        """What is kept, by pod."""
        kept = self.kept
        return kept.values() if len(kept) < 2 else [replica for _, replica in sorted(kept.items())]

    def held(self) -> Iterator[Replica]:
        """All replicas that count for room and load."""
        yield from self.kept.values()
        yield from self.pending.values()

    def enter(self, replica: Replica) -> None:
        """Count a replica that is there already, before anything is decided."""
        replica.ledger.hold(replica)
        self.kept[replica.ledger.key] = replica

    def want_no_more(self) -> None:
        """What is kept is enough."""
        self.wanted = self.needed = self.most = len(self.kept)

    def withdraw(self) -> None:
        """Count none of the replicas any longer: the account is about to be opened anew."""
        for replica in self.held():
            replica.ledger.release(replica)
        self.kept, self.pending = {}, NOTHING

    def reset(self) -> bool:
        """Take back what a round has decided, where that is no more than places for missing replicas: the account need
        not be opened anew then."""
        if not self.sound or self.pending or self.dropped or self.evicted or self.leaving:
            return False
        for replica in [replica for replica in self.kept.values() if replica.current is None]:
            self.give_back(replica)
        self.active = self.stirred = self.moving = self.scarce = False
        self.kind = 0
        return True

    def give_back(self, replica: Replica) -> None:
        """Count a kept replica no longer, before anything is decided."""
        replica.ledger.release(replica)
        del self.kept[replica.ledger.key]

    def keep(self, replica: Replica) -> None:
        self._note()
        self.enter(replica)

    def relocate(self, replica: Replica, ledger: PodLedger) -> None:
        """Count a kept replica of which nothing is there yet on another pod instead."""
        del self.kept[replica.ledger.key]
        replica.ledger.release(replica)
        replica.ledger, replica.at_hand = ledger, False
        self.keep(replica)

    def cancel(self, replica: Replica) -> None:
        """Give up a kept replica of which nothing is there yet."""
        self._forget(replica)

    def drop(self, replica: Replica) -> None:
        """Give up a held replica as surplus."""
        self._forget(replica)
        self.dropped = own(self.dropped)
        self.dropped[replica.ledger.key] = replica

    def evict(self, replica: Replica, cause: UnloadCause, on_behalf_of: str | None = None) -> None:
        """Give up a held replica to make room."""
        self._forget(replica)
        self.evicted = own(self.evicted)
        self.evicted[replica.ledger.key] = Eviction(replica, cause, on_behalf_of)

    def bytes_on(self, pod: str) -> int:
        """What a replica would take on the pod: as `taken_back` gives one back, with the size that it has there."""
        dropped, eviction = self.dropped.get(pod), self.evicted.get(pod)
        there = dropped or (eviction.replica if eviction else None)
        return self.adapter.bytes if there is None or there.current is None else there.bytes

    def taken_back(self, pod: str) -> Replica | None:
        """The replica that was given up on the pod in this round and is of the wanted version: nothing of it has to
        leave if it gets its place back."""
        eviction = self.evicted.get(pod)
        if eviction is None:
            return self.dropped.pop(pod, None)
        return self.evicted.pop(pod).replica if eviction.replica.current is not None else None

    def postpone(self, replica: Replica) -> None:
        """Keep a replica only until others serve; it counts with the size that is there, not with the one to come, and
        no more with its load."""
        self._note()
        replica.ledger.unload(replica)
        del self.kept[replica.ledger.key]
        self.pending = own(self.pending)
        self.pending[replica.ledger.key] = replica
        if replica.residents:  # nothing is there of one that was only on its way: it is given up later in the round
            replica.ledger.resize(replica, replica.residents[0].bytes)

    def _forget(self, replica: Replica) -> None:
        self._note()
        replica.ledger.release(replica)
        if self.kept.pop(replica.ledger.key, None) is None:
            del self.pending[replica.ledger.key]
        if self.adapter.idle:
            self.want_no_more()

    def _note(self) -> None:
        if not self.stirred:
            self.stirred = True
            self.journal.append(self)


def share_of(adapter: Adapter, wanted: int) -> float:
    """The requests per second that each of so many replicas is expected to get; 1 for all together if unknown, and 0 of
    what nobody uses.

    A whole number of 1 / SHARES_PER_UNIT: such numbers add up exactly (to 8 million requests per second), in whatever
    order replicas come and go, so that nothing depends on that order and nothing is left over.
    """
    if adapter.idle:
        return 0.0
    share = 1.0 if adapter.demand is None else adapter.demand
    if wanted > 1:
        share /= wanted
    return round(share * SHARES_PER_UNIT) / SHARES_PER_UNIT if share < LARGEST_SHARE else LARGEST_SHARE
