"""Runs every policy on every trace, and judges what came out."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from bench.cache.baselines import Fifo, Lot
from bench.cache.bound import pfoo_l
from bench.cache.replay import replay
from bench.cache.tally import Tally
from bench.cache.traces import Trace, zipf_trace
from bench.figures import Figure
from lora_operator.cache.policies import Gdsf, Lru, Sieve
from lora_operator.cache.policies.base import EvictionPolicy

Record = dict[str, Any]

EXPONENTS, SHARES = (0.8, 1.0, 1.2), (0.10, 0.33, 0.60)
A_THIRD = 0.33
# Each adapter once a day on the average: popular ones some forty times, most of them less than once.
DAILY = 24.0
ASKS_PER_ITEM_AND_DAY = (1.0, 5.0, 20.0)
BOUND, THERE = "bound (PFOO-L)", "libcachesim"
POLICIES: tuple[EvictionPolicy, ...] = (Lru(), Sieve(), Gdsf(), Fifo(), Lot())
# ours is exactly theirs, to the last ask
EXACT = ("lru", "sieve", "fifo")
WHY_NOT = {
    "gdsf": "theirs is not the textbook's, which ours is: see tests/cache/test_bench_cache.py",
    "random": "other draws",
}
CURRENCIES = ("object_miss", "byte_miss", "seconds_miss")


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured: adapters and asks per trace, and how many traces of each kind."""

    items: int = 300
    asks: int = 10_000
    seeds: int = 3

    def trace(self, exponent: float, seed: int, daily: float = ASKS_PER_ITEM_AND_DAY[0]) -> Trace:
        per_hour = self.items * daily / DAILY
        return zipf_trace(exponent, items=self.items, asks=self.asks, asks_per_hour=per_hour, seed=seed)


def measure(extent: Extent) -> Iterator[Record]:
    """One record per trace, size of the cache and method; then LRU at a third with faster clocks."""
    compare = importlib.util.find_spec("libcachesim") is not None
    for seed in range(extent.seeds):
        for exponent in EXPONENTS:
            trace = extent.trace(exponent, seed)
            for share in SHARES:
                size = int(trace.working_set_bytes * share)
                about = {"zipf": exponent, "seed": seed, "share": share, "daily": ASKS_PER_ITEM_AND_DAY[0]}
                yield _record(about, BOUND, pfoo_l(trace, size))
                for policy in POLICIES:
                    yield _record(about, policy.name, replay(trace, size, policy))
                if compare:
                    yield from _there(about, trace, size)
            for daily in ASKS_PER_ITEM_AND_DAY[1:]:
                faster = extent.trace(exponent, seed, daily)
                about = {"zipf": exponent, "seed": seed, "share": A_THIRD, "daily": daily}
                for policy in POLICIES[:3]:
                    yield _record(about, policy.name, replay(faster, int(faster.working_set_bytes * A_THIRD), policy))


def _there(about: Record, trace: Trace, size: int) -> Iterator[Record]:
    from bench.cache.oracle import replay_there

    for policy in POLICIES:
        yield _record(about, f"{THERE} {policy.name}", replay_there(trace, size, policy.name))
    yield _record(about, "gdsf, all equally dear", replay(trace, size, Gdsf(lambda entry: 1.0)))


def _record(about: Record, method: str, tally: Tally) -> Record:
    return about | {"method": method} | asdict(tally)


def chosen(records: Sequence[Record], **wanted: object) -> list[Record]:
    """Those that say what is `wanted`; without a clock wanted, those of the usual one."""
    wanted = {"daily": ASKS_PER_ITEM_AND_DAY[0]} | wanted
    return [one for one in records if all(one[name] == value for name, value in wanted.items())]


def mean(records: Sequence[Record], what: str) -> float:
    return fmean(float(one[what]) for one in records)


def thrash_share(records: Sequence[Record]) -> float:
    """Of all evictions; 0 where there were none."""
    evictions = sum(int(one["evictions"]) for one in records)
    return sum(int(one["thrash"]) for one in records) / max(evictions, 1)


def left_on_the_table(records: Sequence[Record], method: str) -> list[float]:
    """For each trace and size, of the load time that the bound avoids: which share the method does not."""
    shares = []
    for bound in (one for one in records if one["method"] == BOUND):
        same = {name: bound[name] for name in ("zipf", "seed", "share", "daily")}
        (ours,) = chosen(records, method=method, **same)
        shares.append((ours["seconds_miss"] - bound["seconds_miss"]) / (1 - bound["seconds_miss"]))
    return shares


def figures(records: Sequence[Record]) -> list[Figure]:
    """The goals, and how far from them."""
    third = chosen(records, share=A_THIRD)
    found: list[Figure] = []
    for exponent in EXPONENTS:
        own = chosen(third, zipf=exponent)
        hits = {
            name: tuple(100 * (1 - one["object_miss"]) for one in chosen(own, method=name))
            for name in ("lru", "sieve", "gdsf", BOUND)
        }
        others = ", ".join(f"{name} {fmean(values):.1f}" for name, values in hits.items() if name != "lru")
        found.append(Figure(f"hits of LRU, Zipf {exponent}", hits["lru"], "%", "≥ 60", others, min(hits["lru"]) >= 60))
        thrash = 100 * thrash_share(chosen(own, method="lru"))
        others = ", ".join(
            f"{name} {100 * thrash_share(chosen(own, method=name)):.1f}" for name in ("sieve", "gdsf", "fifo")
        )
        found.append(Figure(f"thrash of LRU, Zipf {exponent}", (thrash,), "% of evictions", "< 5", others, thrash < 5))
    lru, gdsf = (fmean(left_on_the_table(third, name)) * 100 for name in ("lru", "gdsf"))
    found.append(Figure(
        "avoidable load time that LRU leaves", (lru,), "%", "about 20", f"gdsf {gdsf:.1f}", None,
        "against PFOO-L, which no real policy reaches",
    ))  # fmt: skip
    found.append(_beaten(records))
    if any(one["method"].startswith(THERE) for one in records):
        found += _agreement(records)
    return found


def _beaten(records: Sequence[Record]) -> Figure:
    """The bound is one only if nothing is below it."""
    below = 0
    for one in chosen(records):
        same = {name: one[name] for name in ("zipf", "seed", "share")}
        (bound,) = chosen(records, method=BOUND, **same)
        below += any(one[name] < bound[name] - 1e-12 for name in CURRENCIES)
    return Figure("runs below the bound", (float(below),), "", "0", "", below == 0)


def _agreement(records: Sequence[Record]) -> Iterator[Figure]:
    for policy in POLICIES:
        ours = "gdsf, all equally dear" if policy.name == "gdsf" else policy.name
        differences = []
        for there in chosen(records, method=f"{THERE} {policy.name}"):
            (own,) = chosen(records, method=ours, **{name: there[name] for name in ("zipf", "seed", "share")})
            differences.append(100 * max(abs(own[name] - there[name]) for name in CURRENCIES[:2]))
        exact = policy.name in EXACT
        yield Figure(
            f"{policy.name}: farthest from {THERE}", (max(differences),), "points",
            "0" if exact else "", f"mean {fmean(differences):.2f}", max(differences) == 0 if exact else None,
            "" if exact else WHY_NOT[policy.name],
        )  # fmt: skip
