"""Policies that nobody should want: what goes first came first, or is drawn by lot."""

from __future__ import annotations

import random
from collections.abc import Sequence

from lora_operator.cache.entry import Entry
from lora_operator.cache.policies.base import Memory, place, take


class Fifo:
    name = "fifo"

    def choose(
        self, entries: Sequence[Entry], need_bytes: int, now: float, memory: Memory
    ) -> tuple[tuple[Entry, ...], Memory]:
        return take(sorted(entries, key=place), need_bytes), memory


class Lot:
    """Draws anew for every time, the same in every run."""

    name = "random"

    def choose(
        self, entries: Sequence[Entry], need_bytes: int, now: float, memory: Memory
    ) -> tuple[tuple[Entry, ...], Memory]:
        mixed = sorted(entries, key=place)
        random.Random(now).shuffle(mixed)
        return take(mixed, need_bytes), memory
