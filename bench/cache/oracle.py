"""The same policies as libcachesim has them: what our own are compared with."""

from __future__ import annotations

import libcachesim

from bench.cache.tally import Tally, tally
from bench.cache.traces import Trace

IMPLEMENTATIONS = {
    "lru": libcachesim.LRU,
    "sieve": libcachesim.Sieve,
    "gdsf": libcachesim.GDSF,
    "fifo": libcachesim.FIFO,
    "random": libcachesim.Random,
}
_HASH_POWER = 12


def replay_there(trace: Trace, budget_bytes: int, policy: str) -> Tally:
    """Its GDSF takes every miss for equally dear; so must the one that it is compared with."""
    cache = IMPLEMENTATIONS[policy](cache_size=budget_bytes, hashpower=_HASH_POWER)
    hits = []
    for at, (_, index) in enumerate(trace.asks):
        request = libcachesim.Request(
            obj_size=trace.items[index].size_bytes, obj_id=index + 1, clock_time=at, op=libcachesim.ReqOp.OP_GET
        )
        hits.append(cache.get(request))
    return tally(trace, hits)
