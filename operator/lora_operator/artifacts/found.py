"""An adapter as a source has it."""

from __future__ import annotations

from dataclasses import dataclass, field

from lora_operator.artifacts import AdapterFile, Inspection


@dataclass(frozen=True, slots=True)
class FoundAdapter:
    """A good adapter, whole and checked. `location` is where its source keeps it (local: the folder).

    `signature` is the source's own note for a cheap second look; it says nothing about the content.
    """

    name: str
    fingerprint: str
    files: tuple[AdapterFile, ...]
    inspection: Inspection
    location: str
    signature: object = field(default=None, compare=False, repr=False)
