"""All accounts, before anything is decided: who has what where. They outlive rounds, and are corrected by changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from operator import attrgetter

from lora_scheduler.allotment import Allotment, Group, Order, share_of
from lora_scheduler.crowding import Crowding
from lora_scheduler.disks import Disks
from lora_scheduler.failing import Failing
from lora_scheduler.finding import Replicas, enter_found, order_of, replicas_on
from lora_scheduler.groups import Groups, alike, insert, of_one_group, remove
from lora_scheduler.holding import Holding
from lora_scheduler.ledger import PodLedger
from lora_scheduler.model import Adapter, Places, Pod, ReplicaPolicy, Resident, ResidentState
from lora_scheduler.prospects import Waiting
from lora_scheduler.replicas import Followed, wanted_replicas
from lora_scheduler.starting import Starting

_order = attrgetter("order")

NOWHERE = Places()


@dataclass(frozen=True, slots=True)
class Change:
    """What is new, or no longer what it was, since the last round; the removed ones by key, which must be known."""

    adapters: Sequence[Adapter] = ()
    pods: Sequence[Pod] = ()
    removed_adapters: Collection[str] = ()
    removed_pods: Collection[str] = ()


class Fleet:
    """The accounts of all pods and adapters.

    Most adapters are at rest: as many replicas as wanted are there, in the wanted version, where they may be. No step
    of a round would do anything about them, so that a round goes through the `active` ones only; what it changes in
    others, it finds in `stirred`. Those that only lack replicas become active where they have a prospect (`waiting`).
    `apply` sets all accounts that are not at rest back to what is really there. So the accounts of a round, and with
    them the plan, are the same whatever was planned before.
    """

    def __init__(self, hot_share: float) -> None:
        self.pods: list[PodLedger] = []  # by key
        self.allotments: dict[str, Allotment] = {}  # in no order that means anything
        self.active: list[Allotment] = []  # not at rest when the round begins, in the order in which they are served
        self.stirred: list[Allotment] = []  # changed by the round, in the order of the first change
        self._ledgers: dict[str, PodLedger] = {}
        self._groups = Groups()
        self._found: dict[str, Replicas] = {}  # our residents by adapter, then by pod
        self._abandoned: set[str] = set()  # adapters that have residents, and are not in the fleet
        self._crowding = Crowding()
        self.failing = Failing()
        self.disks = Disks()
        self._priorities: Counter[int] = Counter()
        self._hot_share = hot_share  # see model.Policy
        self._followed = Followed()
        self.targets: set[str] = set()  # the pods that can take loads
        self.waiting = Waiting()  # who lacks replicas and is at rest otherwise: see `wake`
        self.starting = Starting()  # the loads of those that are at rest otherwise
        self.holding = Holding(self.allotments, self._ledgers, self.blocks)

    @property
    def lowest_priority(self) -> int:
        return min(self._priorities, default=0)

    def ledger(self, pod: str) -> PodLedger:
        return self._ledgers[pod]

    @property
    def following(self) -> Collection[str]:
        """The keys of the adapters whose number of replicas follows demand."""
        return self._followed.adapters

    def unwanted(self) -> Iterator[tuple[PodLedger, Resident]]:
        """The residents that are ours and of no adapter in the fleet."""
        for adapter in self._abandoned:
            for pod, residents in self._found[adapter].items():
                for resident in residents:
                    yield self._ledgers[pod], resident

    def residents(self, adapter: str) -> Iterator[tuple[str, Resident]]:
        """What of an adapter is on the pods, each with the pod's key."""
        for pod, residents in self._found.get(adapter, {}).items():
            for resident in residents:
                yield pod, resident

    def overfull(self) -> list[PodLedger]:
        """The pods where more would stay than a limit allows."""
        return [pod for pod in self.pods if pod.later_slots > pod.slot_limit or pod.later_bytes > pod.byte_limit]

    def in_turn(self, lowest: int | None) -> Iterator[Allotment | None]:
        """The active ones, those that wait and have a prospect when their priority comes, and those that the round
        stirs before their turn has come; highest priority first. After those of each priority, None. `lowest`: the
        lowest priority whose room may be taken, None if none may."""
        line = sorted(self.active, key=_order, reverse=True)
        levels = sorted(self.waiting.levels)  # that are still to be woken
        others: list[tuple[Order, Allotment]] = []
        seen = 0
        turn: Order | None = None
        level: int | None = None
        while True:
            while seen < len(self.stirred):
                stirred = self.stirred[seen]
                seen += 1
                if not stirred.active and (turn is None or stirred.order > turn):
                    heappush(others, (stirred.order, stirred))
            stirred_first = bool(others) and (not line or others[0][0] < line[-1].order)
            following = others[0][1] if stirred_first else line[-1] if line else None
            priority = None if following is None else following.adapter.effective_priority
            if levels and (priority is None or levels[-1] > priority):
                priority = levels[-1]
            if level is not None and (priority is None or priority < level):
                level = None
                yield None
                continue
            if levels and levels[-1] == priority:
                of_level = [one for one in line if one.adapter.effective_priority == priority]
                if self._wake(levels.pop(), of_level, lowest):
                    left = [one for one in self.active if one.adapter.effective_priority <= priority]
                    line = sorted(left, key=_order, reverse=True)
                continue
            if following is None:
                return
            (heappop(others) if stirred_first else line.pop())
            turn, level = following.order, following.adapter.effective_priority
            yield following

    def wake(self) -> None:
        """Make those active for which there is room by now, without taking that of anybody else."""
        for priority in sorted(self.waiting.levels, reverse=True):
            self._wake(priority, (), None)

    def _wake(self, priority: int, others: Iterable[Allotment], lowest: int | None) -> bool:
        spare = lowest is not None and any(self.allotments[key].spare for key in self._followed.adapters)
        woken = self.waiting.wake(priority, others, self.pods, lowest, anybody=spare)
        for allotment in woken:
            allotment.active = True
            self.waiting.discard(allotment.adapter.key)
        self.active += woken
        return bool(woken)

    def worked(self) -> list[Allotment]:
        """All whose account may have changed in this round, in the order in which they are served."""
        return sorted([*self.active, *(a for a in self.stirred if not a.active)], key=_order)

    def close_together(self) -> list[Allotment]:
        """All with replicas in one domain that could be in another, and some others, in the order in which they are
        served."""
        close = self._crowding.close(self.allotments)
        found = dict.fromkeys((*(self.allotments[key] for key in close), *self.active, *self.stirred))
        return sorted([one for one in found if len(one.kept) > 1 and not one.everywhere], key=_order)

    def blocks(self, allotment: Allotment, ledger: PodLedger) -> bool:
        """Whether an engine name that a load would need is still listed on the pod."""
        adapter = allotment.adapter
        if adapter.key not in ledger.pod.side_by_side:
            if adapter.name in ledger.names_there or adapter.key in ledger.keys_there:
                return True
        elif adapter.key in ledger.keys_there and any(
            r.adapter == adapter.key and r.version == adapter.version for r in ledger.pod.residents
        ):
            return True
        # whoever had this name and version before has the versioned name too, which begins with the public one
        return bool(self._abandoned) and any(
            resident.owned
            and resident.adapter not in self.allotments
            and resident.version == adapter.version
            and resident.name.startswith(adapter.name)
            for resident in ledger.pod.residents
        )

    def apply(self, change: Change, places: Places = NOWHERE) -> Collection[str]:
        """Take a change in, and set back to what is there whatever a round has decided, but for those `places` that it
        has given and that are held on to; the keys of all it concerns."""
        restless = {allotment.adapter.key for allotment in (*self.active, *self.stirred)}
        self.active.clear()
        self.stirred.clear()
        changed = {pod.key for pod in change.pods}  # the pods where it is asked anew who keeps a place
        for key in (*change.removed_adapters, *(adapter.key for adapter in change.adapters)):
            changed.update(self._found.get(key, ()))
        touched: dict[str, list[str]] = {key: [] for key in restless}  # the pods where something is new, by adapter
        for pod, adapters in (
            *((key, self._remove_pod(self._ledgers[key])) for key in change.removed_pods),
            *((pod.key, self._put_pod(pod)) for pod in change.pods),
        ):
            for key in adapters:
                touched.setdefault(key, []).append(pod)
        self.holding.begin(places, self.targets)
        self.failing.before = places.failed
        for key in self.holding.voided(self.starting.loads):
            touched.setdefault(key, [])
            restless.add(key)
        for key in change.removed_adapters:
            self._remove_adapter(key)
        opened = {adapter.key: (adapter, self._put_adapter(adapter)) for adapter in change.adapters}
        corrected: list[str] = []
        for key in touched.keys() - opened.keys():
            allotment = self.allotments.get(key)
            if allotment is None:
                continue
            if (key not in restless or allotment.reset()) and self._correct(allotment, touched[key]):
                corrected.append(key)
            else:
                allotment.withdraw()
                opened[key] = allotment.adapter, allotment.group
        if self._followed.adapters and self._followed.update(self.pods):
            for key in self._followed.adapters - opened.keys():
                allotment = self.allotments[key]
                if self._wanted(allotment.adapter, allotment.group) != (allotment.wanted, allotment.most):
                    allotment.withdraw()
                    opened[key] = allotment.adapter, allotment.group
        for adapter, group in opened.values():
            self._open(adapter, group)
        concerned = dict.fromkeys((*opened, *corrected, *sorted(self.holding.settle(changed))))
        for key in concerned:
            self._judge(self.allotments[key])
        self.starting.settle()
        self.active.sort(key=_order)
        return list(concerned)

    def _judge(self, allotment: Allotment) -> None:
        """Whether an account is at rest: what is there is as it should be, and all else can begin to load."""
        self._crowding.note(allotment)
        self.waiting.discard(allotment.adapter.key)
        complete = allotment.complete
        if (
            allotment.sound
            and (complete or allotment.only_lacks)
            and all(replica.starts or replica.current is not None for replica in allotment.kept.values())
        ):
            if not complete:
                self.waiting.add(allotment)
            for replica in allotment.kept.values():
                if replica.starts:
                    self.starting.add(replica, allotment.order)
            return
        for replica in allotment.kept.values():
            self.starting.discard(replica)
        allotment.active = True
        self.active.append(allotment)

    def _put_pod(self, pod: Pod) -> set[str]:
        """A new or changed pod; the adapters whose accounts that touches."""
        ledger = self._ledgers.get(pod.key)
        self.failing.note(None if ledger is None else ledger.pod, pod)
        self.disks.note(None if ledger is None else ledger.pod, pod)
        if ledger is None:
            ledger = self._ledgers[pod.key] = PodLedger(pod)
            self._note_target(ledger)
            insert(self.pods, ledger)
            return self._groups.add(ledger) | self._index(pod.key, {}, replicas_on(pod))
        old = ledger.pod
        regroup = not alike(old, pod)
        touched = self._groups.discard(ledger) if regroup else set()
        ledger.read(pod)
        self._note_target(ledger)
        if regroup:
            touched |= self._groups.add(ledger)
        before, after = replicas_on(old), replicas_on(pod)
        changed = self._index(pod.key, before, after)
        # which files are on its disk says nothing about what is loaded
        same = replace(old, residents=pod.residents, stored=pod.stored) == pod
        return touched | (changed if same else before.keys() | after.keys())

    def _remove_pod(self, ledger: PodLedger) -> set[str]:
        del self._ledgers[ledger.key]
        remove(self.pods, ledger)
        self.targets.discard(ledger.key)
        self.failing.note(ledger.pod, None)
        self.disks.note(ledger.pod, None)
        return self._groups.discard(ledger) | self._index(ledger.key, replicas_on(ledger.pod), {}) | ledger.held.keys()

    def _note_target(self, ledger: PodLedger) -> None:
        (self.targets.add if ledger.target else self.targets.discard)(ledger.key)

    def _index(self, pod: str, before: Replicas, after: Replicas) -> set[str]:
        """Note which adapters have what on the pod; those for which that is new."""
        changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        for key in changed:
            residents = after.get(key)
            found = self._found.setdefault(key, {})
            if residents:
                found[pod] = residents
            else:
                del found[pod]
            if not found:
                del self._found[key]
            if key not in self.allotments:
                (self._abandoned.add if found else self._abandoned.discard)(key)
        return changed

    def _put_adapter(self, adapter: Adapter) -> Group:
        """A new or changed adapter, whose account is closed if it had one; the group that it belongs to."""
        old = self.allotments.get(adapter.key)
        self._abandoned.discard(adapter.key)
        if old is not None:
            self.waiting.discard(adapter.key)
            old.withdraw()
            self._forget(old.adapter)
        self._priorities[adapter.effective_priority] += 1
        self._followed.add(adapter)
        if old is None:
            return self._groups.join(adapter)
        if of_one_group(old.adapter, adapter):
            return old.group
        self._groups.leave(old.adapter)
        return self._groups.join(adapter)

    def _remove_adapter(self, key: str) -> None:
        allotment = self.allotments.pop(key)
        self.waiting.discard(key)
        allotment.withdraw()
        self._crowding.forget(key)
        self._groups.leave(allotment.adapter)
        self._forget(allotment.adapter)
        if key in self._found:
            self._abandoned.add(key)

    def _forget(self, adapter: Adapter) -> None:
        self._followed.discard(adapter)
        self._priorities[adapter.effective_priority] -= 1
        if not self._priorities[adapter.effective_priority]:
            del self._priorities[adapter.effective_priority]

    def _wanted(self, adapter: Adapter, group: Group) -> tuple[int, int]:
        if adapter.idle:
            return 0, 0  # as many as are there, see _open
        if adapter.replica_policy is not ReplicaPolicy.AUTO:
            return wanted_replicas(adapter, group, 0, 0.0)
        leaves = self.holding.leaves(adapter.key)  # what is moving is there twice for a while, and is no growth
        present = sum(
            pod != leaves
            and self._ledgers[pod].counts
            and any(r.state is not ResidentState.UNLOADING for r in residents)
            for pod, residents in self._found.get(adapter.key, {}).items()
        )
        return wanted_replicas(adapter, group, present, self._hot_share * self._followed.mean(adapter.base_model))

    def _open(self, adapter: Adapter, group: Group) -> None:
        """Open the account, with the replicas that are there."""
        wanted, most = self._wanted(adapter, group)
        share = share_of(adapter, wanted)
        everywhere = adapter.replica_policy is ReplicaPolicy.ALL_PODS and adapter.replicas > 0 and not adapter.idle
        needed = min(wanted, adapter.replicas) if adapter.replica_policy is ReplicaPolicy.AUTO else wanted
        order = order_of(adapter, share)
        allotment = Allotment(adapter, group, wanted, share, order, self.stirred, everywhere, most, needed)
        self.allotments[adapter.key] = allotment
        if adapter.replica_policy is ReplicaPolicy.AUTO and adapter.max_replicas is None:
            group.ceilings[adapter.key] = max(most, needed)
        else:
            group.ceilings.pop(adapter.key, None)
        as_wanted = True
        found = self._found.get(adapter.key)
        if found is not None:
            allotment.there = True
            for pod in sorted(found) if len(found) > 1 else found:
                ledger = self._ledgers[pod]
                if ledger.counts:
                    as_wanted &= enter_found(allotment, ledger, found[pod])
            if adapter.idle:
                allotment.want_no_more()
        allotment.sound = as_wanted
        self.holding.ask(allotment)

    def _correct(self, allotment: Allotment, pods: Iterable[str]) -> bool:
        """Bring an account that was at rest up to date on these pods only: one with a replica on every pod would take
        long to open anew at each event. False if it is no longer at rest, and has to be opened all the same."""
        adapter = allotment.adapter
        if adapter.idle or adapter.replica_policy is ReplicaPolicy.AUTO:
            return False  # the number of its replicas depends on those that are there
        wanted, _ = self._wanted(adapter, allotment.group)
        share = share_of(adapter, wanted)
        if share != allotment.share:
            for replica in allotment.kept.values():
                replica.ledger.share_changes(replica, share)
        allotment.wanted = allotment.most = allotment.needed = wanted
        allotment.share, allotment.order = share, order_of(adapter, share)
        found = self._found.get(adapter.key, {})
        for pod in pods:
            replica_there = allotment.kept.get(pod)
            if replica_there is not None:
                allotment.give_back(replica_there)
            if (
                pod in found
                and self._ledgers[pod].counts
                and not enter_found(allotment, self._ledgers[pod], found[pod])
            ):
                return False
        if len(allotment.kept) > wanted and not allotment.everywhere:
            return False  # a replica is back, and a place may be held for another one in its stead
        allotment.there = bool(found)
        self.holding.ask(allotment)
        return True
