"""Collects what a plan does at once, and what it has to leave for later with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lora_scheduler.allotment import Allotment
from lora_scheduler.filters import size
from lora_scheduler.fleet import Fleet
from lora_scheduler.ledger import PodLedger, Replica
from lora_scheduler.model import Load, LoadCause, Reason, Refusal, Resident, ResidentState, Unload, UnloadCause
from lora_scheduler.starting import Starting


class Steps:
    """The actions of one plan. A load takes its room on the pod the moment it is added."""

    def __init__(self, starting: Starting) -> None:
        """`starting`: loads that go on being in the plan, see holding."""
        self._starting = starting
        self.waiting: list[tuple[Load, Refusal]] = []
        self._begun: list[tuple[Replica, LoadCause]] = []
        self._unloads: dict[tuple[str, str], Unload] = {}
        self._obstacles: dict[str, dict[str, Refusal]] = {}  # what loads wait for, by adapter and pod

    @property
    def actions(self) -> tuple[Load | Unload, ...]:
        """Unloads by pod and name, then loads in the order of priority."""
        unloads = [self._unloads[key] for key in sorted(self._unloads)]
        begun = [_load(replica, cause) for replica, cause in self._begun]
        if self._starting.entries:
            begun = self._starting.with_others(list(zip(begun, [replica for replica, _ in self._begun], strict=True)))
        return (*unloads, *begun)

    def load(self, replica: Replica, cause: LoadCause) -> None:
        replica.settled = True
        replica.begun = replica.current is None and replica.old is None and not replica.starts
        if replica.starts:
            self._starting.discard(replica)  # else it would be in the plan twice
        else:
            replica.ledger.begin(replica)
        self._begun.append((replica, cause))

    def begun(self) -> Iterator[Replica]:
        """The replicas of which nothing is there yet, and whose place this plan has found."""
        return (replica for replica, _ in self._begun if replica.begun)

    def cancel(self, replica: Replica) -> None:
        """Do not begin a load after all."""
        replica.ledger.abort(replica)
        self._begun = [entry for entry in self._begun if entry[0] is not replica]

    def wait(self, replica: Replica, cause: LoadCause, reason: Reason, message: str) -> None:
        replica.settled = True
        refusal = Refusal(replica.ledger.key, reason, message)
        self.waiting.append((_load(replica, cause), refusal))
        self._obstacles.setdefault(replica.adapter.key, {})[refusal.pod] = refusal

    def obstacles(self, adapter_key: str) -> Mapping[str, Refusal]:
        """What the adapter's loads wait for, by pod."""
        return self._obstacles.get(adapter_key, {})

    def unload(
        self,
        ledger: PodLedger,
        resident: Resident,
        cause: UnloadCause,
        adapter: str | None,
        on_behalf_of: str | None = None,
    ) -> None:
        """Unless nothing may be sent to the pod, or the resident is leaving already. One that is still on its way there
        is taken off when it has arrived: an unload would race with its load."""
        if ledger.sends and resident.state is ResidentState.LOADED:
            unload = Unload(ledger.key, resident.name, cause, adapter, on_behalf_of)
            self._unloads.setdefault((ledger.key, resident.name), unload)


def start(allotment: Allotment, fleet: Fleet, steps: Steps) -> None:
    """Load the replicas that have a place and are not there, or say what they wait for."""
    usual: LoadCause | None = None  # asked once: one with a replica on every pod would look at all of them for each
    for replica in allotment.in_place():
        if replica.settled or replica.current is not None or replica.old is not None:
            continue
        usual = usual or _cause_of(allotment)
        cause = LoadCause.UPDATE if _takes_over(allotment, replica) else usual
        ledger = replica.ledger
        if replica.starts:
            steps.load(replica, cause)
        elif fleet.blocks(allotment, ledger):
            message = f"a resident called {replica.adapter.name!r}, or an older version, has to leave first"
            steps.wait(replica, cause, Reason.WAITING_FOR_ROOM, message)
        elif ledger.fits_now(replica.adapter.bytes):
            steps.load(replica, cause)
        else:
            steps.wait(replica, cause, Reason.WAITING_FOR_ROOM, f"{_too_full(replica)} until others have left")


def finish(fleet: Fleet, steps: Steps) -> None:
    """Unload everything that was given up."""
    for ledger, resident in fleet.unwanted():
        steps.unload(ledger, resident, UnloadCause.UNWANTED, resident.adapter)
    for allotment in fleet.stirred:
        key = allotment.adapter.key
        for pod, replica in allotment.dropped.items():
            replaced = allotment.wanted > 0 and pod in allotment.group.matching
            for resident in replica.residents:
                old = resident.version != replica.adapter.version
                cause = UnloadCause.SUPERSEDED if old and replaced else UnloadCause.SURPLUS
                steps.unload(replica.ledger, resident, cause, key)
        for eviction in allotment.evicted.values():
            for resident in eviction.replica.residents:
                steps.unload(eviction.replica.ledger, resident, eviction.cause, key, eviction.on_behalf_of)


def _takes_over(allotment: Allotment, replica: Replica) -> bool:
    """Whether another version is leaving the same pod."""
    leaving = allotment.leaving.get(replica.ledger.key, ()) if allotment.there else ()
    return any(resident.version != allotment.adapter.version for resident in leaving)


def _cause_of(allotment: Allotment) -> LoadCause:
    """Why replicas have to be loaded, as far as what is there now can tell."""
    if not allotment.there:
        return LoadCause.MISSING
    if any(other.outdated for other in allotment.pending.values()):
        return LoadCause.SURGE
    if any(other.outdated for other in allotment.kept.values()):
        return LoadCause.UPDATE
    return LoadCause.MOVE if allotment.pending else LoadCause.MISSING


def _load(replica: Replica, cause: LoadCause) -> Load:
    return Load(replica.ledger.key, replica.adapter.key, replica.adapter.version, cause)


def _too_full(replica: Replica) -> str:
    ledger = replica.ledger
    if ledger.now_slots >= ledger.slot_limit:
        return f"{ledger.now_slots} of {ledger.slot_limit} slots are taken"
    free = max(ledger.byte_limit - ledger.now_bytes, 0)
    return f"needs {size(replica.adapter.bytes)}, {size(free)} of {size(ledger.byte_limit)} is free"
