"""An object that the operator has made for others to read, as the API server shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ExportedObject:
    """Made to be kept in a `Cache`."""

    key: str
    uid: str
    version: int
    body: Json


def says(there: Any, wanted: Any) -> bool:
    """Whether an object says all that is wanted of it; it may say more in its maps, as the API server fills in."""
    if isinstance(wanted, Mapping):
        return isinstance(there, Mapping) and all(says(there.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(there, list) and len(there) == len(wanted) and all(map(says, there, wanted))
    return bool(there == wanted)
