"""SIEVE: in order of arrival, a hand passes over what was asked for since it last came by, and takes what was not.

After Zhang et al., "SIEVE is Simpler than LRU" (NSDI 2024). What is asked for once only goes early, however recent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lora_operator.cache.entry import Entry
from lora_operator.cache.policies.base import Memory, place


class Sieve:
    name = "sieve"

    def choose(
        self, entries: Sequence[Entry], need_bytes: int, now: float, memory: Memory
    ) -> tuple[tuple[Entry, ...], Memory]:
        queue = sorted(entries, key=place)
        at = 0
        if memory.hand is not None:
            at = next((index for index, entry in enumerate(queue) if place(entry) > memory.hand), 0)
        passed = {entry.key: memory.passed[entry.key] for entry in queue if entry.key in memory.passed}
        taken: list[Entry] = []
        hand = memory.hand
        while need_bytes > 0 and queue:
            at %= len(queue)
            entry = queue[at]
            hand = place(entry)
            if entry.hits > passed.get(entry.key, 0):
                passed[entry.key] = entry.hits
                at += 1
                continue
            del queue[at]
            passed.pop(entry.key, None)
            taken.append(entry)
            need_bytes -= entry.size_bytes
            if at == len(queue):
                at, hand = 0, None  # past the youngest: the next round begins with the oldest, not with who comes next
        return tuple(taken), replace(memory, hand=hand, passed=passed)
