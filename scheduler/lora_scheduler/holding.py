"""Holds on to the places that an earlier plan has given to replicas of which nothing is on the pod yet.

Who has such a place keeps it before anybody looks for one, as long as the adapter lacks the replica, the pod may hold
it and has the room for it, and the load can begin at once or waits for nothing but the adapter's own older version. So
an update does not lose the gap that its old version leaves, and while thousands of loads wait for their engines, a
round costs what has changed: where nothing has, the places and loads of the round before are those of this one.

All is decided pod by pod, in the order in which adapters are served, so that it is the same whether one pod is asked
again or all of them are asked for the first time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from operator import attrgetter

from lora_scheduler.allotment import Allotment
from lora_scheduler.filters import loadable
from lora_scheduler.ledger import PodLedger, Replica
from lora_scheduler.model import Load, Places

_order = attrgetter("order")


class Holding:
    """The places that are held."""

    def __init__(
        self,
        allotments: Mapping[str, Allotment],
        ledgers: Mapping[str, PodLedger],
        blocks: Callable[[Allotment, PodLedger], bool],
    ) -> None:
        self._allotments = allotments
        self._ledgers = ledgers
        self._blocks = blocks
        self._places = Places()
        self._further: set[str] = set()  # pods that can take loads by now
        self._void: dict[int, bool] = {}  # by group: whether such a pod is in it
        self._asked: dict[str, list[Allotment]] = {}  # who had a place on a pod, and would like to keep it

    def begin(self, places: Places, targets: set[str]) -> None:
        """A round begins after these places were given, when `targets` can take loads. Where there are further ones by
        now, what has not begun is free to go there: a fleet does not come up all at once."""
        self._places = places
        self._further = targets - places.pods if places.assignments else set()
        self._void.clear()

    @property
    def remembers(self) -> bool:
        """Whether what a plan decides is there for the next one."""
        return self._places.remembered

    def leaves(self, adapter: str) -> str | None:
        """The pod that a replica of the adapter is about to leave, for one that is or was to be loaded elsewhere."""
        move = self._places.moves.get(adapter)
        return move[0] if move is not None else None

    def moves_of(self, worked: Iterable[Allotment]) -> dict[str, tuple[str, str]]:
        """The moves that are still under way after a round: of those that it has worked on."""
        before = self._places.moves
        known = {one.adapter.key: one for one in worked} if before else {}
        return {key: move for key, move in before.items() if key in known and move[0] in known[key].pending}

    def voided(self, starting: Iterable[Load]) -> list[str]:
        """Of the adapters that are at rest but for these loads, those whose places are given anew."""
        if not self._further:
            return []
        return [key for key in dict.fromkeys(load.adapter for load in starting) if self._is_void(key)]

    def _is_void(self, key: str) -> bool:
        allotment = self._allotments[key]
        if not self._further or allotment.everywhere or key in self._places.firm:
            return False
        group = allotment.group
        found = self._void.get(id(group))
        if found is None:
            found = self._void[id(group)] = not self._further.isdisjoint(group.matching)
        return found

    def firm(self, worked: Iterable[Allotment]) -> frozenset[str]:
        """Places.firm of the round that ends: of those that it has worked on, and those that were so before."""
        before = (self._allotments[key] for key in self._places.firm if key in self._allotments)
        found = {allotment.adapter.key: allotment for allotment in worked if allotment.there}
        found |= {allotment.adapter.key: allotment for allotment in before}
        return frozenset(
            key for key, one in found.items() if any(replica.current is None for replica in one.kept.values())
        )

    def ask(self, allotment: Allotment) -> None:
        """An account was opened: it would like to keep the places of the replicas that it lacks."""
        assigned = self._places.assignments.get(allotment.adapter.key)
        if not assigned or self._is_void(allotment.adapter.key):
            return
        lacking = len(assigned) if allotment.everywhere else allotment.needed - len(allotment.kept)
        for key in assigned:
            if lacking <= 0:
                return
            if key not in allotment.kept and key in allotment.group.matching:
                lacking -= 1
                self._asked.setdefault(key, []).append(allotment)

    def settle(self, changed: Collection[str]) -> set[str]:
        """Decide who keeps a place, on the pods that have changed and those that were asked for; the adapters at rest
        that this concerns."""
        shaken: set[str] = set()
        for key in {*changed, *self._asked}:
            ledger = self._ledgers.get(key)
            if ledger is not None:
                asking = sorted(self._asked.get(key, ()), key=_order)
                if asking or ledger.held:
                    shaken |= self._settle(ledger, asking)
        self._asked.clear()
        return shaken

    def _settle(self, ledger: PodLedger, asking: list[Allotment]) -> set[str]:
        held = [self._allotments[key] for key in ledger.held]
        if (
            all(self._stays(allotment, ledger) for allotment in held)
            and _within(ledger)
            and all(self._admit(allotment, ledger) for allotment in asking)
        ):
            return {allotment.adapter.key for allotment in asking}  # all find room: the order does not matter
        for allotment in (*held, *asking):
            replica = allotment.kept.get(ledger.key)
            if replica is not None:
                allotment.give_back(replica)
        for allotment in sorted((*held, *asking), key=_order):
            self._admit(allotment, ledger)
        return {allotment.adapter.key for allotment in (*held, *asking)}

    def _stays(self, allotment: Allotment, ledger: PodLedger) -> bool:
        return self._may(allotment, ledger) and not self._blocks(allotment, ledger)

    def _may(self, allotment: Allotment, ledger: PodLedger) -> bool:
        return ledger.target and ledger.key in allotment.group.matching and loadable(allotment.adapter, ledger)

    def _admit(self, allotment: Allotment, ledger: PodLedger) -> bool:
        size = allotment.adapter.bytes
        if not (self._may(allotment, ledger) and ledger.fits_later(size)):
            return False
        starts = ledger.fits_now(size) and not self._blocks(allotment, ledger)
        if not starts and ledger.key not in allotment.leaving:
            return False
        replica = Replica(allotment.adapter, ledger, size, allotment.share)
        allotment.enter(replica)
        ledger.held[allotment.adapter.key] = replica
        if starts:
            ledger.begin(replica)
        return True


def _within(ledger: PodLedger) -> bool:
    """Whether everything fits that is there or has a place."""
    slots, size = ledger.slot_limit, ledger.byte_limit
    return max(ledger.later_slots, ledger.now_slots) <= slots and max(ledger.later_bytes, ledger.now_bytes) <= size
