"""Finds the best pod for a further replica without asking all pods: those of a group stand in line, least loaded first.

What the line gives is what the scorers of the balanced policy would choose among all pods, with one bound for the sake
of speed: of pods with the same load, or as good as the same where room gets scarce, it looks at the first few only.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import inf

from lora_scheduler.allotment import Allotment, Group
from lora_scheduler.filters import loadable
from lora_scheduler.ledger import UNLIMITED, PodLedger
from lora_scheduler.scorers import Choice, Scorer, best

SHORTLIST = 8  # so many pods are compared more closely
MOST = 2  # a group of more than one in so many pods of a base model goes by the line of all of them
SCARCE = 0.5  # from this part of the room on being taken, even room counts for as much as one replica's load


class Board:
    """The lines of all groups, for one planning round. `scorers` decide among all pods of a group, `close` among those
    that a line finds equally good; without `close` there are no lines."""

    def __init__(
        self,
        pods: Iterable[PodLedger],
        scorers: Sequence[Scorer],
        close: Sequence[Scorer] | None = None,
        following: Iterable[str] = (),
    ) -> None:
        """`following`: the keys of the adapters whose number of replicas follows demand."""
        self._pods = pods
        self._scorers = scorers
        self._close = close
        self._following = following
        self._spare: dict[str, PodLedger] | None = None  # the pods that had spare replicas when that was first asked
        self._lines: dict[tuple[int, int], Line] = {}  # by group and kind
        self._shared: dict[tuple[PodLedger, ...], Line] = {}  # groups of the same pods, or nearly so, have one line
        self._targets: dict[str, tuple[PodLedger, ...]] = {}  # that can take loads, by base model
        self._lower: dict[int, tuple[Group, list[tuple[int, str, PodLedger]]]] = {}

    def choose(self, allotment: Allotment) -> PodLedger | None:
        """The best pod that may get a replica and has room for it; None if there is none, or none of the kind that the
        adapter is marked for (which would leave its replicas as far apart)."""
        returning, familiar = whereabouts(allotment)
        if self._close is None or returning or familiar:
            return self._of_all(allotment)
        line = self._line(allotment.group, allotment.kind)
        choice: Choice | None = None
        domains: Mapping[str, int] = {}
        fewest = 0
        if allotment.kept:
            choice = choice_of(allotment, ())
            domains = choice.domains
            fewest = line.fewest(allotment, domains)
        found = line.first(allotment, domains, fewest)
        if allotment.kind and found and domains.get(found[0].domain(allotment.adapter.topology_key), 0) > fewest:
            return None
        if len(found) <= 1:
            return found[0] if found else None
        choice = choice or Choice(allotment.adapter, found)
        choice.candidates, choice.room_per_slot = found, line.room_per_slot
        return best(choice, found, self._close)

    def best(self, allotment: Allotment, candidates: Sequence[PodLedger]) -> PodLedger:
        """The best of these pods, at least one."""
        return best(choice_of(allotment, candidates), candidates, self._scorers)

    def note(self, ledger: PodLedger) -> None:
        """Room came free on a pod, or its load fell."""
        for line in self._shared.values():
            if ledger in line:
                line.place(ledger)
                line.roomier()

    def below(self, allotment: Allotment, priority: int, allotments: Mapping[str, Allotment]) -> list[PodLedger]:
        """The pods that may get a replica, and on which lower priorities than this or spare replicas may hold room.

        To be asked in the order of priorities: what was placed since the first question is of none that is lower, and
        not spare.
        """
        group = allotment.group
        known = self._lower.get(id(group))
        if known is None:
            lowest = [(pod.lowest_priority(), pod.key, pod) for pod in group.targets]
            known = self._lower[id(group)] = group, sorted([(p, key, pod) for p, key, pod in lowest if p is not None])
        reach = {key: pod for _, key, pod in known[1][: bisect_left(known[1], (priority,))]}
        if self._spare is None:
            spare = [one for one in map(allotments.__getitem__, self._following) if one.spare]
            self._spare = {key: replica.ledger for one in spare for key, replica in one.kept.items()}
        if self._spare:
            reach |= {key: pod for key, pod in self._spare.items() if pod.target and key in group.matching}
        return [pod for key, pod in reach.items() if key not in allotment.kept and loadable(allotment.adapter, pod)]

    @property
    def has_spare(self) -> bool:
        """Whether `below` has found spare replicas anywhere."""
        return bool(self._spare)

    def _line(self, group: Group, kind: int) -> Line:
        line = self._lines.get((id(group), kind))
        if line is None:
            pods = tuple(group.targets)
            alike = self._of_model(pods[0].pod.base_model) if pods else pods
            if len(pods) * MOST > len(alike):
                pods = alike
            if kind:
                pods = tuple([pod for pod in pods if pod.pod.max_rank == kind])
            if pods not in self._shared:
                self._shared[pods] = Line(pods)
            line = self._lines[id(group), kind] = self._shared[pods]
        return line

    def _of_model(self, base_model: str) -> tuple[PodLedger, ...]:
        if not self._targets:
            found: dict[str, list[PodLedger]] = {}
            for pod in self._pods:
                if pod.target:
                    found.setdefault(pod.pod.base_model, []).append(pod)
            self._targets = {model: tuple(pods) for model, pods in found.items()}
        return self._targets[base_model]

    def _of_all(self, allotment: Allotment) -> PodLedger | None:
        pending = allotment.pending
        fitting = [
            pod for pod in options(allotment) if pod.fits_later(allotment.bytes_on(pod.key), pending.get(pod.key))
        ]
        return self.best(allotment, fitting) if fitting else None


class Line:
    """Pods that may have a free slot, by load: those of a group, or all of a base model where a group has most of them.
    What changed since is noticed in passing, as long as it is more load or less room; the opposite has to be told
    (`place`)."""

    def __init__(self, targets: Sequence[PodLedger]) -> None:
        self._targets = targets
        self._entries = sorted((pod.load, pod.key, pod) for pod in targets if pod.later_slots < pod.slot_limit)
        self._loads = {key: load for load, key, _ in self._entries}
        self._members = frozenset(targets)
        self._domains: dict[tuple[int, str], set[str]] = {}  # by group and topology key
        self._slots = sum([pod.slot_limit for pod in targets])
        self._bytes = sum([pod.byte_limit for pod in targets if pod.byte_limit != UNLIMITED])
        self._countdown = 0
        self.room_per_slot = 0.0
        self._scarce = False
        self._too_large = inf  # from this size on, a replica fits on none of the pods
        # by size class (sizes of as many bits): where those pods end, least loaded, that have no room for any of it
        self._fronts: dict[int, tuple[float, str]] = {}

    def __contains__(self, pod: PodLedger) -> bool:
        return pod in self._members

    def roomier(self) -> None:
        """Room came free on a pod."""
        self._too_large = inf
        self._fronts.clear()

    def place(self, pod: PodLedger) -> None:
        """Put a pod where it belongs now."""
        load = self._loads.pop(pod.key, None)
        if load is not None:
            del self._entries[bisect_left(self._entries, (load, pod.key))]
        if pod.later_slots < pod.slot_limit:
            insort(self._entries, (pod.load, pod.key, pod))
            self._loads[pod.key] = pod.load

    def fewest(self, allotment: Allotment, counts: Mapping[str, int]) -> int:
        """How many replicas the domain has that has the fewest."""
        group, topology_key = allotment.group, allotment.adapter.topology_key
        domains = self._domains.get((id(group), topology_key))
        if domains is None:
            domains = {pod.domain(topology_key) for pod in group.targets}
            self._domains[id(group), topology_key] = domains
        if len(domains) > len(counts):
            return 0
        return min([counts.get(domain, 0) for domain in domains], default=0)

    def first(self, allotment: Allotment, domains: Mapping[str, int], fewest: int) -> list[PodLedger]:
        """The first few pods that have room: of the domains with the fewest replicas, rather where the load can start
        at once, with the least load."""
        if allotment.adapter.bytes >= self._too_large:
            return []
        self._look()
        adapter, kept, entries = allotment.adapter, allotment.kept, self._entries
        matching, evicted = allotment.group.matching, allotment.evicted
        size, topology_key, ideal = adapter.bytes, adapter.topology_key, (fewest, False)
        tolerance = allotment.share if self._scarce or allotment.kind else 0.0
        found: list[PodLedger] = []
        rated: tuple[float, bool] = (inf, False)
        limit = inf
        roomy = False
        size_class = size.bit_length()
        smallest = 1 << size_class >> 1
        front = self._fronts.get(size_class)
        position = 0 if front is None else bisect_left(entries, front)
        at_front = True
        count = len(entries)
        while position < count:
            load, key, pod = entries[position]
            if pod.load != load or pod.later_slots >= pod.slot_limit:
                self.place(pod)
                count = len(entries)
                continue
            if load > limit:
                break
            position += 1
            room = pod.byte_limit - pod.later_bytes
            if at_front:
                at_front = room < smallest
                if at_front:
                    front = load, key
            if room < size:
                continue
            roomy = True
            if key in evicted and room < allotment.bytes_on(key):
                continue
            if key in kept or key not in matching or not loadable(adapter, pod):
                continue
            rating = (
                domains.get(pod.domain(topology_key), 0) if domains else 0,
                pod.now_slots >= pod.slot_limit or pod.now_bytes + size > pod.byte_limit,
            )
            if rating < rated:
                rated, found, edge = rating, [pod], load + tolerance
                limit = edge if rating == ideal else inf
            elif rating == rated and load <= edge and len(found) < SHORTLIST:
                found.append(pod)
            if len(found) == SHORTLIST and rated == ideal:
                break
        if not roomy:
            self._too_large = size
        if front is not None:
            self._fronts[size_class] = front
        return found

    def _look(self) -> None:
        """Once in a while, see how much room is left in all."""
        self._countdown -= 1
        if self._countdown >= 0:
            return
        self._countdown = len(self._targets)
        slots = free_slots = free_bytes = 0
        for pod in self._targets:
            free = max(pod.slot_limit - pod.later_slots, 0)
            free_slots += free
            if pod.byte_limit != UNLIMITED:
                slots += free
                free_bytes += max(pod.byte_limit - pod.later_bytes, 0)
        self.room_per_slot = free_bytes / max(slots, 1)
        self._scarce = free_slots < self._slots * (1 - SCARCE) or free_bytes < self._bytes * (1 - SCARCE)


def options(allotment: Allotment) -> list[PodLedger]:
    """The pods that may get a replica if they have room."""
    return [
        ledger
        for ledger in allotment.group.targets
        if ledger.key not in allotment.kept and loadable(allotment.adapter, ledger)
    ]


def whereabouts(allotment: Allotment) -> tuple[Collection[str], Collection[str]]:
    """The pods where a replica is or is being exchanged, and further ones where one was last and may be again."""
    adapter = allotment.adapter
    returning: Collection[str] = ()
    if allotment.leaving or allotment.dropped or allotment.pending:
        exchanging = {
            key for key, gone in allotment.leaving.items() if any(old.version != adapter.version for old in gone)
        }
        returning = exchanging | allotment.dropped.keys() | allotment.pending.keys()
    familiar: Collection[str] = ()
    if adapter.previous_pods:
        familiar = [
            key for key in adapter.previous_pods if key in allotment.group.matching and key not in allotment.kept
        ]
    return returning, familiar


def choice_of(allotment: Allotment, candidates: Sequence[PodLedger]) -> Choice:
    """What the scorers need to know about a decision for this adapter."""
    returning, familiar = whereabouts(allotment)
    choice = Choice(allotment.adapter, candidates, returning=returning, familiar=familiar)
    choice.count([replica.ledger for replica in allotment.kept.values()])
    return choice
