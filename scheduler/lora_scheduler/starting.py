"""The loads that go on being in one plan after the other until they begin, in the order of service."""

from __future__ import annotations

from bisect import bisect_left
from itertools import groupby

from lora_scheduler.allotment import Order
from lora_scheduler.ledger import Replica
from lora_scheduler.model import Load, LoadCause

FEW = 64  # more new entries than these are sorted in together

Entry = tuple[Order, str]


class Starting:
    """Loads of adapters that are otherwise at rest. There may be a hundred thousand of them, and few come or go between
    two plans: they are kept as they are given to the plan."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.loads: list[Load] = []
        self._new: list[tuple[Entry, Load]] = []
        self._gone: set[Entry] = set()  # given up since, or started in another way

    def add(self, replica: Replica, order: Order) -> None:
        """A replica whose load goes on being in the plan; one that is listed already gets its present order."""
        entry = order, replica.ledger.key
        if replica.entry == entry:
            return
        self.discard(replica)
        replica.entry, replica.listed = entry, self
        adapter = replica.adapter
        self._new.append((entry, Load(replica.ledger.key, adapter.key, adapter.version, LoadCause.MISSING)))

    def discard(self, replica: Replica) -> None:
        if replica.entry is not None:
            self._gone.add(replica.entry)
            replica.entry = None

    def settle(self) -> None:
        """Put in order what has come and gone."""
        if len(self._new) + len(self._gone) > FEW:
            both = [pair for pair in zip(self.entries, self.loads, strict=True) if pair[0] not in self._gone]
            both = sorted([*both, *self._new])
            self.entries, self.loads = [entry for entry, _ in both], [load for _, load in both]
        else:
            for gone in self._gone:
                place = bisect_left(self.entries, gone)
                del self.entries[place], self.loads[place]
            for entry, load in self._new:
                place = bisect_left(self.entries, entry)
                self.entries.insert(place, entry)
                self.loads.insert(place, load)
        self._new.clear()
        self._gone.clear()

    def with_others(self, others: list[tuple[Load, Replica]]) -> list[Load]:
        """Those that are still to begin, and these others, the highest priority first."""
        self.settle()
        merged: list[Load] = []
        done = 0
        others.sort(key=lambda other: -other[1].adapter.effective_priority)
        for priority, group in groupby(others, key=lambda other: other[1].adapter.effective_priority):
            place = bisect_left(self.entries, ((1 - priority,),))
            merged += self.loads[done:place]
            merged += [load for load, _ in group]
            done = place
        return merged + self.loads[done:]
