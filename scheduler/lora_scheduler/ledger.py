"""What one planning round knows and changes about a pod: its room now, its room later, and whose replicas it holds.

A pod has two balances. `now` counts everything that is resident in any state plus the loads of this plan, and never
counts on an unload: it decides whether a load may start. `later` counts what stays when everything planned has
happened: it decides where things go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_scheduler.model import Adapter, Pod, Reason, Resident, ResidentState
from lora_scheduler.topology import domain_of

if TYPE_CHECKING:
    from lora_scheduler.starting import Entry, Starting

UNLIMITED = 1 << 62  # a memory budget that was not declared


@dataclass(slots=True, eq=False)
class Replica:
    """One adapter's replica on one pod: wanted there, there already, or both.

    `current` is the resident of the wanted version, `old` one of another version that stands in for it; residents on
    their way out are neither. `extras` are further residents of the same adapter, which nobody needs. `bytes` is what
    the replica takes in the end. `settled` is set once the plan says how the wanted version gets there, `begun` where
    this is a load with which nothing is replaced, to a place that is not held on to. `starts` while its load takes room
    on the pod, though nothing of it is there; `entry` is where `listed` has it if that load goes on being in one plan
    after the other. `at_hand` is set where the pod was chosen since it has the files.
    """

    adapter: Adapter
    ledger: PodLedger
    bytes: int
    share: float
    current: Resident | None = None
    old: Resident | None = None
    extras: tuple[Resident, ...] = ()
    settled: bool = False
    begun: bool = False
    starts: bool = False
    entry: Entry | None = None
    listed: Starting | None = None
    at_hand: bool = False

    @property
    def residents(self) -> tuple[Resident, ...]:
        return tuple(r for r in (self.current, self.old, *self.extras) if r is not None)

    @property
    def serving(self) -> bool:
        """Whether requests are answered there now, by whatever version."""
        return self.ledger.answers and any(r.state is ResidentState.LOADED for r in self.residents)

    @property
    def serving_current(self) -> bool:
        return self.ledger.answers and self.current is not None and self.current.state is ResidentState.LOADED

    @property
    def arriving(self) -> bool:
        """Whether nothing has arrived there yet, or something is on its way."""
        residents = self.residents
        return not residents or any(r.state is not ResidentState.LOADED for r in residents)

    @property
    def outdated(self) -> bool:
        """Whether only another version is there."""
        return self.current is None and self.old is not None


class PodLedger:
    """The mutable account of one pod. It outlives its rounds: `read` takes in what the pod has become, and the replicas
    that are held stay held until whoever entered them releases them."""

    __slots__ = (
        "_below",
        "_by_share",
        "_foreign",
        "_namesakes",
        "_shares",
        "answers",
        "bounds",
        "byte_limit",
        "counts",
        "disk_is_tight",
        "domains",
        "foreign_names",
        "held",
        "key",
        "keys_there",
        "largest",
        "later_bytes",
        "later_slots",
        "load",
        "lowest",
        "names",
        "names_there",
        "now_bytes",
        "now_slots",
        "pod",
        "replicas",
        "sends",
        "slot_limit",
        "target",
    )  # fmt: skip

    def __init__(self, pod: Pod) -> None:
        self.key = pod.key
        self.names: dict[str, str] = {}  # public name -> key of the adapter that has it here (of several, the least)
        self._namesakes: dict[str, set[str]] = {}  # the keys of those that share a name, where several do
        self.replicas: dict[str, Replica] = {}  # by adapter: what counts in `later`
        self.held: dict[str, Replica] = {}  # of the replicas, those of which nothing is here yet, see holding
        self.load = 0.0  # expected requests per second, exact whatever the order (see allotment.share_of)
        self.lowest: int | None = None  # see lowest_priority
        self._below: dict[int, tuple[int, int]] = {}  # see held_below
        self.bounds: dict[tuple[int, int], tuple[int, int] | None] = {}  # see preemption.bound
        self.largest: float | None = None  # see largest_share
        self._by_share: tuple[Replica, ...] | None = None  # see by_share
        self._shares: tuple[float, ...] | None = None  # see shares
        self.later_bytes = self.later_slots = 0
        self._foreign = 0, 0  # (slots, bytes) in `later` of what is not ours
        self.read(pod)

    def read(self, pod: Pod) -> None:
        """Take in the pod as it is now."""
        self.pod = pod
        self.domains: dict[str, str] = {}
        self.sends = pod.ready and not pod.draining  # may get actions
        self.counts = (pod.ready or pod.held) and not pod.draining  # its residents are replicas
        # a pod whose declared limits are nonsense takes nothing, but answers requests
        declares_nonsense = pod.not_ready is not None and pod.not_ready[0] is Reason.INVALID_POD_LIMITS
        self.answers = self.sends or (self.counts and declares_nonsense)
        self.target = self.sends and has_valid_limits(pod)  # may get loads
        self.slot_limit = pod.host_slots
        residents = pod.residents
        starting = [replica.adapter.bytes for replica in self.replicas.values() if replica.starts]
        self.now_bytes = sum([resident.bytes for resident in residents]) + sum(starting)
        self.now_slots = len(residents) + len(starting)
        self.names_there = frozenset([resident.name for resident in residents])
        self.keys_there = frozenset([resident.adapter for resident in residents])
        foreign = [resident for resident in residents if not resident.owned]
        self.foreign_names = frozenset([resident.name for resident in foreign])
        memory = UNLIMITED if pod.memory_bytes is None else pod.memory_bytes
        # what somebody else has loaded came from elsewhere
        disk = UNLIMITED if pod.disk_bytes is None else pod.disk_bytes + sum([resident.bytes for resident in foreign])
        self.byte_limit, self.disk_is_tight = min(memory, disk), disk < memory
        staying = [resident.bytes for resident in foreign if resident.state is not ResidentState.UNLOADING]
        slots, size = len(staying), sum(staying)
        self.later_slots += slots - self._foreign[0]
        self.later_bytes += size - self._foreign[1]
        self.bounds.clear()
        self._foreign = slots, size

    def lowest_priority(self) -> int | None:
        """The lowest priority that holds room here; None if nobody does. Asked more often than it changes."""
        if self.lowest is None and self.replicas:
            self.lowest = min([replica.adapter.effective_priority for replica in self.replicas.values()])
        return self.lowest

    def held_below(self, priority: int) -> tuple[int, int]:
        """(slots, bytes) that lower priorities than this hold here. Asked more often than it changes."""
        found = self._below.get(priority)
        if found is None:
            sizes = [
                replica.bytes for replica in self.replicas.values() if replica.adapter.effective_priority < priority
            ]
            found = self._below[priority] = len(sizes), sum(sizes)
        return found

    def _changed(self) -> None:
        self._below.clear()
        self.bounds.clear()

    def domain(self, topology_key: str) -> str:
        """Where the pod stands, by a node label (see topology)."""
        found = self.domains.get(topology_key)
        if found is None:
            found = self.domains[topology_key] = domain_of(self.pod, topology_key)
        return found

    def largest_share(self) -> float:
        """The largest share of the requests that one replica has here; 0 where there is none."""
        if self.largest is None:
            self.largest = max([replica.share for replica in self.replicas.values()], default=0.0)
        return self.largest

    def by_share(self) -> tuple[Replica, ...]:
        """The replicas, largest share first. Asked more often than it changes."""
        if self._by_share is None:
            self._shares = None
            self._by_share = tuple(
                sorted(self.replicas.values(), key=lambda replica: (-replica.share, replica.adapter.key))
            )
        return self._by_share

    def shares(self) -> tuple[float, ...]:
        """The negatives of their shares, in that order: what `bisect` looks a share up in."""
        if self._by_share is None or self._shares is None:
            self._shares = tuple([-replica.share for replica in self.by_share()])
        return self._shares

    def hold(self, replica: Replica) -> None:
        """Count a replica among what stays."""
        key, name = replica.adapter.key, replica.adapter.name
        self.replicas[key] = replica
        self._by_share = None
        if self._below or self.bounds:
            self._changed()
        if self.lowest is not None and replica.adapter.effective_priority < self.lowest:
            self.lowest = replica.adapter.effective_priority
        if self.largest is not None and replica.share > self.largest:
            self.largest = replica.share
        first = self.names.setdefault(name, key)
        if first != key:
            self._namesakes.setdefault(name, {first}).add(key)
            self.names[name] = min(first, key)
        self.later_bytes += replica.bytes
        self.later_slots += 1
        self.load += replica.share

    def release(self, replica: Replica) -> None:
        """Count a replica no longer, nor its load if that has begun with this plan."""
        key, name = replica.adapter.key, replica.adapter.name
        del self.replicas[key]
        self._by_share = None
        if self._below or self.bounds:
            self._changed()
        self.held.pop(key, None)
        self.abort(replica)
        if replica.adapter.effective_priority == self.lowest:
            self.lowest = None
        if replica.share == self.largest:
            self.largest = None
        heirs = self._namesakes.get(name)
        if heirs is None:
            del self.names[name]
        else:
            heirs.remove(key)
            self.names[name] = min(heirs)
            if len(heirs) == 1:
                del self._namesakes[name]
        self.later_bytes -= replica.bytes
        self.later_slots -= 1
        self.load -= replica.share

    def unload(self, replica: Replica) -> None:
        """Count on no requests for a held replica any more."""
        self.share_changes(replica, 0.0)

    def share_changes(self, replica: Replica, share: float) -> None:
        """Count a held replica with another share of the requests."""
        self.load += share - replica.share
        replica.share = share
        self.largest = self._by_share = None

    def resize(self, replica: Replica, size: int) -> None:
        """Count a held replica with another size."""
        self.later_bytes += size - replica.bytes
        replica.bytes = size
        self._changed()

    def shortage(self, size: int, own: Replica | None = None) -> tuple[int, int]:
        """(slots, bytes) that would have to leave before a replica of this size fits in `own`'s place or a new one."""
        slots = self.later_slots + (own is None) - self.slot_limit
        return slots, self.later_bytes - (own.bytes if own else 0) + size - self.byte_limit

    def fits_later(self, size: int, own: Replica | None = None) -> bool:
        if own is None:  # asked for nearly every pair of adapter and pod, hence not by way of shortage()
            return self.later_slots < self.slot_limit and self.later_bytes + size <= self.byte_limit
        slots, size_over = self.shortage(size, own)
        return slots <= 0 and size_over <= 0

    def fits_now(self, size: int, leaving: int | None = None) -> bool:
        """Whether a load fits beside all that is here; `leaving`: once a resident of that many bytes has left."""
        slots = self.now_slots + (leaving is None)
        return slots <= self.slot_limit and self.now_bytes - (leaving or 0) + size <= self.byte_limit

    def begin(self, replica: Replica) -> None:
        """The load of a held replica starts with this plan: its room is taken from now on."""
        replica.starts = True
        self.now_bytes += replica.adapter.bytes
        self.now_slots += 1

    def abort(self, replica: Replica) -> None:
        """It does not start after all, or the plan is gone with which it did."""
        if replica.starts:
            replica.starts = False
            if replica.listed is not None:
                replica.listed.discard(replica)
            self.now_bytes -= replica.adapter.bytes
            self.now_slots -= 1


def has_valid_limits(pod: Pod) -> bool:
    """Whether every limit is a positive number."""
    return min(pod.host_slots, pod.max_rank, pod.gpu_slots) > 0 and (pod.memory_bytes is None or pod.memory_bytes > 0)
