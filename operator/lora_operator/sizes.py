"""How large the versions of an adapter are, also those that nobody wants any more but that still take room."""

from __future__ import annotations

import json
from collections import OrderedDict

from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE
from lora_operator.cache.volume import VolumeStore
from lora_operator.desired import Desired

REMEMBERED = 50_000


class Sizes:
    """(bytes, rank) by public name and fingerprint; what this process has not seen is read off the adapter volume."""

    def __init__(self, store: VolumeStore) -> None:
        self._store = store
        self._known: OrderedDict[tuple[str, str], tuple[int, int] | None] = OrderedDict()

    def remember(self, desired: Desired) -> None:
        for wanted in desired.adapters.values():
            adapter = wanted.adapter
            self._known[(adapter.name, adapter.version)] = (adapter.bytes, adapter.rank)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def of(self, name: str, fingerprint: str) -> tuple[int, int] | None:
        """None where nothing is known; the caller then assumes a pod's fair share."""
        key = (name, fingerprint)
        if key not in self._known:
            self._known[key] = _measure(self._store, name, fingerprint)
        return self._known[key]


def _measure(store: VolumeStore, name: str, fingerprint: str) -> tuple[int, int] | None:
    """A published version was inspected before, so that its own word counts; one that cannot be read is unknown."""
    try:
        folder = store.path_of(name, fingerprint)
        config = json.loads((folder / CONFIG_FILE).read_bytes())
        ranks = [int(config["r"]), *map(int, (config.get("rank_pattern") or {}).values())]
        return (folder / WEIGHTS_FILE).stat().st_size, max(ranks)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
