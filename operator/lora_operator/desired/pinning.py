"""Which adapters a LoraAdapter's annotation pins: their files stay in all caches, whoever wants the room. Pure.

The annotation is "true" for all adapters of the resource, or their names with commas between them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line needs the names alone, and in a moment
    from lora_operator.desired.adapters import Desired

ALL = "*"


def pinned_names(value: str) -> frozenset[str]:
    """What an annotation's value names; ALL among them stands for every adapter."""
    text = value.strip()
    if text.lower() in ("true", "false"):
        return frozenset({ALL}) if text.lower() == "true" else frozenset()
    return frozenset(name for part in text.split(",") if (name := part.strip()))


def write(names: Collection[str]) -> str | None:
    """The annotation's value for these names; None where it is not needed."""
    return "true" if ALL in names else ",".join(sorted(names)) or None


def pinned(desired: Desired, namespace: str | None = None) -> frozenset[tuple[str, str]]:
    """(name, fingerprint) of the wanted versions that are pinned, of one namespace or of all."""
    found: set[tuple[str, str]] = set()
    for each in desired.resources.values():
        if not each.resource.pinned or namespace not in (None, each.resource.namespace):
            continue
        names = pinned_names(each.resource.pinned)
        found |= {
            (wanted.adapter.name, wanted.adapter.version)
            for wanted in each.wanted
            if ALL in names or wanted.adapter.name in names
        }
    return frozenset(found)
