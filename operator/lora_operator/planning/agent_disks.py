"""What agents have on their disks, as far as they have said. No effects.

An agent lists its disk now and then. In between, what it fetched for us and what it says that it removed is counted;
what other agents of the same disk do, only its next list tells. It is good for choosing a pod, and nobody relies on it:
an agent that is asked for files fetches what it does not have.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace

from lora_operator.agent_api.wire import ListBody
from lora_operator.informers.records import PodRecord

Key = tuple[str, str]  # name, fingerprint


@dataclass(frozen=True, slots=True)
class AgentDisk:
    """Of one pod. `budget_bytes` None: it may be filled."""

    stored: frozenset[Key] = frozenset()
    budget_bytes: int | None = None


class AgentDisks:
    """By pod. A pod that was made anew under its old name has another disk, or may have."""

    def __init__(self) -> None:
        self._disks: dict[str, tuple[str, AgentDisk]] = {}  # pod -> its uid, its disk

    def of(self, record: PodRecord) -> AgentDisk | None:
        """None while its agent has not listed it."""
        uid, disk = self._disks.get(record.key, ("", None))
        return disk if uid == record.uid else None

    def listed(self, record: PodRecord, listed: ListBody) -> None:
        """All that is there."""
        stored = frozenset((one.name, one.fingerprint) for one in listed.entries if one.state == "Present")
        self._note(record, AgentDisk(stored, listed.budget_bytes))

    def came(self, record: PodRecord, key: Key) -> None:
        disk = self.of(record)
        if disk is not None and key not in disk.stored:
            self._note(record, replace(disk, stored=disk.stored | {key}))

    def gone(self, record: PodRecord, key: Key) -> None:
        disk = self.of(record)
        if disk is not None and key in disk.stored:
            self._note(record, replace(disk, stored=disk.stored - {key}))

    def prune(self, pods: Container[str]) -> None:
        """Keep only these pods, by key."""
        for key in [key for key in self._disks if key not in pods]:
            del self._disks[key]

    def _note(self, record: PodRecord, disk: AgentDisk) -> None:
        if self.of(record) != disk:  # else it stays the same object, which the planner passes over
            self._disks[record.key] = record.uid, disk


def unwanted(listed: ListBody, wanted: Container[Key], before: float) -> list[Key]:
    """Of what an agent has listed, the versions that nobody wants, has loaded or pinned, or has used since `before`
    (Unix time); the longest unused first."""
    found = [
        (one.last_used, one.name, one.fingerprint)
        for one in listed.entries
        if one.state == "Present" and not (one.loaded or one.pinned) and one.last_used is not None
        if one.last_used < before and (one.name, one.fingerprint) not in wanted
    ]
    return [(name, fingerprint) for _, name, fingerprint in sorted(found)]
