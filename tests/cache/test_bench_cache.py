"""What the benchmark of the cache rests on: its bound, its traces, and the policies next to textbook ones."""

from __future__ import annotations

import heapq
import itertools
import math
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.cache.bound import least_missed, pfoo_l
from bench.cache.replay import replay
from bench.cache.tally import tally
from bench.cache.traces import Item, Trace, zipf_trace
from lora_operator.cache.policies import Gdsf, Lru, Sieve


@st.composite
def small_traces(draw: st.DrawFn) -> Trace:
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    items = tuple(Item(str(index), size, draw(st.integers(1, 5)) / 2) for index, size in enumerate(sizes))
    asked = draw(st.lists(st.integers(0, len(items) - 1), min_size=1, max_size=9))
    return Trace(items, tuple((float(at), index) for at, index in enumerate(asked)))


def optimum(trace: Trace, budget: int, worth: dict[int, float]) -> float:
    """The least share of worth that can be missed, by trying all: what is kept after every ask, and what is not."""
    asked = [index for _, index in trace.asks]

    @cache
    def most(at: int, held: frozenset[int]) -> float:
        if at == len(asked):
            return 0.0
        hit = worth[asked[at]] if asked[at] in held else 0.0
        candidates = sorted(held | {asked[at]})
        best = 0.0
        for count in range(len(candidates) + 1):
            for kept in itertools.combinations(candidates, count):
                if sum(trace.items[index].size_bytes for index in kept) <= budget:
                    best = max(best, most(at + 1, frozenset(kept)))
        return hit + best

    return 1.0 - most(0, frozenset()) / sum(worth[index] for index in asked)


@settings(max_examples=60, deadline=None)
@given(small_traces(), st.integers(1, 12))
def test_nothing_beats_the_bound_not_even_the_optimum(trace: Trace, budget: int) -> None:
    for worth in (lambda item: 1.0, lambda item: float(item.size_bytes), lambda item: item.load_seconds):
        least = optimum(trace, budget, {index: worth(item) for index, item in enumerate(trace.items)})
        assert least_missed(trace, budget, worth) <= least + 1e-9


@settings(max_examples=30, deadline=None)
@given(small_traces())
def test_the_bound_is_the_optimum_where_all_fits(trace: Trace) -> None:
    worth = dict.fromkeys(range(len(trace.items)), 1.0)
    assert least_missed(trace, 20, lambda item: 1.0) == pytest.approx(optimum(trace, 20, worth))


def test_the_bound_is_tight_for_one_item_that_comes_back() -> None:
    item = Item("a", 4, 1.0)
    trace = Trace((item,), ((0.0, 0), (1.0, 0), (2.0, 0)))
    assert pfoo_l(trace, 4).object_miss == pytest.approx(1 / 3)
    assert pfoo_l(trace, 3).object_miss == 1.0


@pytest.mark.parametrize("exponent", [0.8, 1.2])
def test_gdsf_is_what_the_textbook_says(exponent: float) -> None:
    trace = zipf_trace(exponent, items=40, asks=1500, asks_per_hour=10, seed=1)
    budget = trace.working_set_bytes // 3
    used, inflation = 0, 0.0
    worth: dict[int, float] = {}
    frequency: dict[int, int] = {}
    heap: list[tuple[float, float, int]] = []
    hits = []
    for now, index in trace.asks:
        size = trace.items[index].size_bytes
        hits.append(index in worth)
        while index not in worth and used + size > budget:
            value, _, victim = heapq.heappop(heap)
            if worth.get(victim) == value:
                inflation = value
                del worth[victim], frequency[victim]
                used -= trace.items[victim].size_bytes
        used += 0 if index in worth else size
        frequency[index] = frequency.get(index, 0) + 1
        worth[index] = inflation + frequency[index] * trace.items[index].load_seconds / size
        heapq.heappush(heap, (worth[index], now, index))
    assert replay(trace, budget, Gdsf()).object_miss == pytest.approx(tally(trace, hits).object_miss, abs=0.003)


def test_a_trace_is_the_same_in_every_run_and_as_popular_as_it_says() -> None:
    trace = zipf_trace(1.0, items=50, asks=5000, asks_per_hour=60, seed=3)
    assert trace == zipf_trace(1.0, items=50, asks=5000, asks_per_hour=60, seed=3)
    counts = sorted((sum(1 for _, index in trace.asks if index == item) for item in range(50)), reverse=True)
    harmonic = sum(1 / place for place in range(1, 51))
    assert counts[0] == pytest.approx(5000 / harmonic, rel=0.1)
    assert trace.asks[-1][0] == pytest.approx(5000 * 60, rel=0.1)
    assert [at for at, _ in trace.asks] == sorted(at for at, _ in trace.asks)


@pytest.mark.parametrize("policy", [Lru(), Sieve(), Gdsf()], ids=lambda policy: policy.name)
def test_policies_are_exactly_those_of_another_implementation(policy: Lru | Sieve | Gdsf) -> None:
    pytest.importorskip("libcachesim", reason="pip install -e '.[bench]'")
    from bench.cache.oracle import replay_there

    trace = zipf_trace(0.8, items=60, asks=2000, asks_per_hour=10, seed=2)
    budget = trace.working_set_bytes // 4
    ours, theirs = replay(trace, budget, policy), replay_there(trace, budget, policy.name)
    tolerance = 0.05 if policy.name == "gdsf" else 0.0  # theirs counts every miss for equally dear
    assert math.isclose(ours.object_miss, theirs.object_miss, abs_tol=tolerance)
