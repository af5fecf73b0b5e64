"""The benchmark of adapters that come back: its fleets keep their limits, and disks that are known are used."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.affinity.fleet import Fleet, Pod
from bench.affinity.measure import BLIND, METHODS, OURS, QUICK, figures, least_bytes, measure, rows
from bench.affinity.replay import replay
from bench.affinity.traces import Shape, Trace, generate

SHAPE = Shape(0.9, adapters=120, per_second=0.3, seconds=3600.0)


class Watched(Fleet):
    """Looks at every load whether a limit is broken."""

    def load(self, pod: Pod, adapter: int, now: float) -> float:
        end = super().load(pod, adapter, now)
        assert pod.taken <= self.slots
        assert pod.used_bytes == sum(entry.size_bytes for entry in pod.disk.values()) <= pod.disk_bytes
        assert set(pod.loaded) | set(pod.loading) <= set(pod.disk)
        return end


def test_the_same_seed_makes_the_same_trace() -> None:
    trace = generate(SHAPE)
    assert trace == generate(SHAPE) != generate(replace(SHAPE, seed=1))
    assert list(trace.asks) == sorted(trace.asks) and len(trace.sizes) == 120


@pytest.mark.parametrize("method", METHODS)
def test_every_method_answers_all_requests_within_the_limits_and_fetches_no_less_than_possible(method: str) -> None:
    trace = generate(SHAPE)
    disk = trace.working_set_bytes // 3
    fleet = Watched(4, 8, disk, trace.sizes)
    counts = replay(trace, fleet, METHODS[method](fleet))
    assert counts.unanswered == 0 and counts.loads >= len({number for _, number in trace.asks})
    assert counts.fetched_bytes >= least_bytes(trace, 4 * disk) > 0
    assert counts.from_disk <= counts.stored <= counts.reloads < counts.loads


def test_what_comes_back_finds_its_files_where_disks_are_known() -> None:
    extent = replace(QUICK, shape=SHAPE, pods=4, slots=8, disks=(0.5,))
    records = list(measure(extent))
    found = {one["method"]: one for one in records}
    assert found[OURS]["from_disk"] > 2 * found[BLIND]["from_disk"]
    assert found[OURS]["fetched_bytes"] < found[BLIND]["fetched_bytes"]
    assert len(rows(records)) == 1 + len(METHODS) and figures(records)[0].values == (found[OURS]["from_disk"],)


def test_files_come_once_and_stay_until_others_need_their_room() -> None:
    fleet = Fleet(1, 1, 100, (60, 60))
    pod = fleet.pods["pod-00"]
    fleet.settle(pod, 0, fleet.load(pod, 0, 0.0))
    fleet.settle(pod, 0, fleet.unload(pod, 0, 10.0))
    fleet.settle(pod, 0, fleet.load(pod, 0, 20.0))
    assert (fleet.counts.fetched_bytes, fleet.counts.from_disk) == (60, 1)
    fleet.settle(pod, 0, fleet.unload(pod, 0, 30.0))
    fleet.load(pod, 1, 40.0)
    assert list(pod.disk) == [1] and fleet.counts.fetched_bytes == 120 and not fleet.holders[0]


def test_a_trace_knows_what_all_that_is_asked_for_takes() -> None:
    assert Trace((1, 2, 4), ((0.0, 2), (1.0, 0), (2.0, 2))).working_set_bytes == 5
