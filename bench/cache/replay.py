"""Plays a trace through the operator's own decision, `choose_victims`, without a disk."""

from __future__ import annotations

import math
from dataclasses import replace

from bench.cache.tally import Tally, tally
from bench.cache.traces import Trace
from lora_operator.cache.entry import Entry
from lora_operator.cache.history import THRASH_SECONDS
from lora_operator.cache.policies import EvictionPolicy, Memory
from lora_operator.cache.victims import choose_victims


def replay(trace: Trace, budget_bytes: int, policy: EvictionPolicy) -> Tally:
    """The policy alone: nothing expires, nothing is in use, and nothing was asked for too recently to go."""
    held: dict[int, Entry] = {}
    gone_at: dict[str, float] = {}
    memory, used, evictions, thrash = Memory(), 0, 0, 0
    hits = []
    index_of = {item.name: index for index, item in enumerate(trace.items)}
    for now, index in trace.asks:
        entry = held.get(index)
        hits.append(entry is not None)
        if entry is not None:
            held[index] = replace(entry, hits=entry.hits + 1, last_used=now)
            continue
        item = trace.items[index]
        if now - gone_at.pop(item.name, -math.inf) <= THRASH_SECONDS:
            thrash += 1
        if item.size_bytes > budget_bytes:
            continue
        if used + item.size_bytes > budget_bytes:
            choice = choose_victims(
                held.values(), used + item.size_bytes - budget_bytes, now, policy, (), ttl_seconds=math.inf,
                memory=memory,
            )  # fmt: skip
            memory = choice.memory
            for victim in choice.victims:
                del held[index_of[victim.name]]
                gone_at[victim.name] = now
                used -= victim.size_bytes
                evictions += 1
        held[index] = Entry(item.name, "", item.size_bytes, now, now, load_seconds=item.load_seconds)
        used += item.size_bytes
    return tally(trace, hits, evictions, thrash)
