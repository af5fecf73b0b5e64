"""Collects what a plan does at once, and what it has to leave for later with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lora_scheduler.allotment import Allotment
from lora_scheduler.filters import size
from lora_scheduler.fleet import Fleet
from lora_scheduler.ledger import Copy, PodLedger
from lora_scheduler.model import Load, LoadCause, Reason, Refusal, Resident, ResidentState, Unload, UnloadCause
from lora_scheduler.starting import Starting


class Steps:
    """The actions of one plan. A load takes its room on the pod the moment it is added."""

    def __init__(self, starting: Starting) -> None:
        """`starting`: loads that go on being in the plan, see holding."""
        self._starting = starting
        self.waiting: list[tuple[Load, Refusal]] = []
        self._begun: list[tuple[Copy, LoadCause]] = []
        self._unloads: dict[tuple[str, str], Unload] = {}
        self._obstacles: dict[str, dict[str, Refusal]] = {}  # what loads wait for, by adapter and pod

    @property
    def actions(self) -> tuple[Load | Unload, ...]:
        """Unloads by pod and name, then loads in the order of priority."""
        unloads = [self._unloads[key] for key in sorted(self._unloads)]
        begun = [_load(copy, cause) for copy, cause in self._begun]
        if self._starting.entries:
            begun = self._starting.with_others(list(zip(begun, [copy for copy, _ in self._begun], strict=True)))
        return (*unloads, *begun)

    def load(self, copy: Copy, cause: LoadCause) -> None:
        copy.settled = True
        copy.begun = copy.current is None and copy.old is None and not copy.starts
        if copy.starts:
            self._starting.discard(copy)  # else it would be in the plan twice
        else:
            copy.ledger.begin(copy)
        self._begun.append((copy, cause))

    def begun(self) -> Iterator[Copy]:
        """The copies of which nothing is there yet, and whose place this plan has found."""
        return (copy for copy, _ in self._begun if copy.begun)

    def cancel(self, copy: Copy) -> None:
        """Do not begin a load after all."""
        copy.ledger.abort(copy)
        self._begun = [entry for entry in self._begun if entry[0] is not copy]

    def wait(self, copy: Copy, cause: LoadCause, reason: Reason, message: str) -> None:
        copy.settled = True
        refusal = Refusal(copy.ledger.key, reason, message)
        self.waiting.append((_load(copy, cause), refusal))
        self._obstacles.setdefault(copy.adapter.key, {})[refusal.pod] = refusal

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
    """Load the copies that have a place and are not there, or say what they wait for."""
    usual: LoadCause | None = None  # asked once: one with a replica on every pod would look at all of them for each
    for copy in allotment.in_place():
        if copy.settled or copy.current is not None or copy.old is not None:
            continue
        usual = usual or _cause_of(allotment)
        cause = LoadCause.UPDATE if _takes_over(allotment, copy) else usual
        ledger = copy.ledger
        if copy.starts:
            steps.load(copy, cause)
        elif fleet.blocks(allotment, ledger):
            message = f"a resident called {copy.adapter.name!r}, or an older version, has to leave first"
            steps.wait(copy, cause, Reason.WAITING_FOR_ROOM, message)
        elif ledger.fits_now(copy.adapter.bytes):
            steps.load(copy, cause)
        else:
            steps.wait(copy, cause, Reason.WAITING_FOR_ROOM, f"{_too_full(copy)} until others have left")


def finish(fleet: Fleet, steps: Steps) -> None:
    """Unload everything that was given up."""
    for ledger, resident in fleet.unwanted():
        steps.unload(ledger, resident, UnloadCause.UNWANTED, resident.adapter)
    for allotment in fleet.stirred:
        key = allotment.adapter.key
        for pod, copy in allotment.dropped.items():
            replaced = allotment.wanted > 0 and pod in allotment.group.matching
            for resident in copy.residents:
                old = resident.version != copy.adapter.version
                cause = UnloadCause.SUPERSEDED if old and replaced else UnloadCause.SURPLUS
                steps.unload(copy.ledger, resident, cause, key)
        for eviction in allotment.evicted.values():
            for resident in eviction.copy.residents:
                steps.unload(eviction.copy.ledger, resident, eviction.cause, key, eviction.on_behalf_of)


def _takes_over(allotment: Allotment, copy: Copy) -> bool:
    """Whether another version is leaving the same pod."""
    leaving = allotment.leaving.get(copy.ledger.key, ()) if allotment.there else ()
    return any(resident.version != allotment.adapter.version for resident in leaving)


def _cause_of(allotment: Allotment) -> LoadCause:
    """Why copies have to be loaded, as far as what is there now can tell."""
    if not allotment.there:
        return LoadCause.MISSING
    if any(other.outdated for other in allotment.pending.values()):
        return LoadCause.SURGE
    if any(other.outdated for other in allotment.kept.values()):
        return LoadCause.UPDATE
    return LoadCause.MOVE if allotment.pending else LoadCause.MISSING


def _load(copy: Copy, cause: LoadCause) -> Load:
    return Load(copy.ledger.key, copy.adapter.key, copy.adapter.version, cause)


def _too_full(copy: Copy) -> str:
    ledger = copy.ledger
    if ledger.now_slots >= ledger.slot_limit:
        return f"{ledger.now_slots} of {ledger.slot_limit} slots are taken"
    free = max(ledger.byte_limit - ledger.now_bytes, 0)
    return f"needs {size(copy.adapter.bytes)}, {size(free)} of {size(ledger.byte_limit)} is free"
