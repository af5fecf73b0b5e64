"""Which adapters have more replicas in one domain than they need: those that a move could spread better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from lora_scheduler.allotment import Allotment, Group


@dataclass(slots=True, eq=False)
class Even:
    """Adapters of one group and topology key whose replicas share domains, as there are no more than these."""

    group: Group
    topology_key: str
    domains: frozenset[str]
    adapters: set[str] = field(default_factory=set)


class Crowding:
    """What is known from the accounts as they were opened. Four replicas in three zones have nowhere to go: they are
    not looked at again until a domain comes or goes."""

    def __init__(self) -> None:
        self._close: set[str] = set()
        self._even: dict[tuple[int, str], Even] = {}
        self._even_by: dict[str, Even] = {}

    def note(self, allotment: Allotment) -> None:
        """An account was opened, or corrected."""
        key, group, topology_key = allotment.adapter.key, allotment.group, allotment.adapter.topology_key
        self.forget(key)
        if len(allotment.kept) < 2 or allotment.everywhere:  # replicas on every pod need not be spread
            return
        counts = Counter([replica.ledger.domain(topology_key) for replica in allotment.kept.values()])
        most = max(counts.values())
        if most < 2:
            return
        domains = group.domains(topology_key)
        if any(counts[domain] <= most - 2 for domain in domains):
            self._close.add(key)
            return
        even = self._even.setdefault((id(group), topology_key), Even(group, topology_key, domains))
        even.adapters.add(key)
        self._even_by[key] = even

    def forget(self, key: str) -> None:
        self._close.discard(key)
        even = self._even_by.pop(key, None)
        if even is not None:
            even.adapters.remove(key)
            if not even.adapters:
                del self._even[id(even.group), even.topology_key]

    def close(self, allotments: Mapping[str, Allotment]) -> Collection[str]:
        """The adapters with at least two replicas more in one domain than there are in another that can take loads."""
        for even in list(self._even.values()):
            domains = even.group.domains(even.topology_key)
            if domains != even.domains:
                even.domains = domains
                for key in sorted(even.adapters):
                    self.note(allotments[key])
        return self._close
