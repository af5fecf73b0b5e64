"""How the benchmark judges assignments, on fleets small enough to judge by hand."""

from __future__ import annotations

import pytest

from bench.placement.quality import held, quality
from lora_scheduler import PreemptionPolicy, ReplicaPolicy
from tests.scheduler.builders import a_pod, a_replica, a_snapshot, an_adapter, holding

ZONE = "topology.kubernetes.io/zone"


def test_tells_the_largest_load_relative_to_the_mean() -> None:
    fleet = a_snapshot(an_adapter("a", demand=3.0), an_adapter("b", demand=2.0), an_adapter("c", demand=3.0),
                       a_pod("p1"), a_pod("p2"))  # fmt: skip
    found = quality(fleet, {"a": ("p1",), "b": ("p1",), "c": ("p2",)})
    assert found.imbalance == pytest.approx(5 / 4)
    assert found.largest_load == 5


def test_blames_nobody_for_a_replica_that_is_larger_than_the_mean() -> None:
    fleet = a_snapshot(an_adapter("a", demand=9.0), an_adapter("b", demand=1.0), a_pod("p1"), a_pod("p2"))
    assert quality(fleet, {"a": ("p1",), "b": ("p2",)}).imbalance == 1


def test_counts_a_replica_that_has_to_carry_the_load_of_a_missing_one() -> None:
    fleet = a_snapshot(an_adapter("a", replicas=2, demand=4.0), an_adapter("b", demand=2.0), a_pod("p1"), a_pod("p2"))
    found = quality(fleet, {"a": ("p1",), "b": ("p2",)})
    assert (found.missing, found.unplaced) == (1, 0)
    assert found.imbalance == pytest.approx(4 / 3)
    assert found.served == {0: 4.0}


def test_does_not_count_pods_that_nothing_may_be_placed_on_into_the_mean() -> None:
    fleet = a_snapshot(an_adapter("a", demand=1.0), an_adapter("b", demand=1.0), a_pod("p1"), a_pod("p2", ready=False))
    assert quality(fleet, {"a": ("p1",), "b": ("p1",)}).imbalance == 1


def test_takes_what_auto_has_chosen_for_what_is_wanted() -> None:
    fleet = a_snapshot(an_adapter("a", replica_policy=ReplicaPolicy.AUTO), a_pod("p1"), a_pod("p2"))
    assert quality(fleet, {"a": ("p1", "p2")}).missing == 0


@pytest.mark.parametrize(
    "pod",
    [a_pod("p1", slots=1), a_pod("p1", memory=1.5), a_pod("p1", max_rank=4)],
    ids=["slots", "memory", "rank"],
)
def test_sees_every_broken_limit(pod: object) -> None:
    fleet = a_snapshot(an_adapter("a"), an_adapter("b"), pod)  # type: ignore[arg-type]
    assert quality(fleet, {"a": ("p1",), "b": ("p1",)}).over_limit == 1


def test_sees_a_lower_priority_that_holds_the_room_of_a_higher_one() -> None:
    high, low = an_adapter("high", priority=2), an_adapter("low", priority=1)
    assert quality(a_snapshot(high, low, a_pod("p1", slots=1)), {"low": ("p1",)}).inversions == 1


@pytest.mark.parametrize(
    "high",
    [
        an_adapter("high", priority=1),
        an_adapter("high", priority=2, preemption=PreemptionPolicy.NONE),
        an_adapter("high", priority=2, rank=64),
    ],
    ids=["equal priority", "may not preempt", "rank too high"],
)
def test_sees_no_inversion_where_nobody_may_make_room(high: object) -> None:
    fleet = a_snapshot(high, an_adapter("low", priority=1), a_pod("p1", slots=1))  # type: ignore[arg-type]
    assert quality(fleet, {"low": ("p1",)}).inversions == 0


def test_does_not_count_on_the_room_of_equal_priorities() -> None:
    high, peer, low = an_adapter("high", priority=2, bytes=2 << 30), an_adapter("peer", priority=2), an_adapter("low")
    there = {"peer": ("p1",), "low": ("p1",)}
    assert quality(a_snapshot(high, peer, low, a_pod("p1", memory=2)), there).inversions == 0
    assert quality(a_snapshot(high, peer, low, a_pod("p1", memory=3)), there).inversions == 1


def test_calls_replicas_badly_spread_only_where_another_zone_has_room() -> None:
    adapter = an_adapter("a", replicas=2, topology_key=ZONE)
    in_a = [a_pod(key, node_labels={ZONE: "a"}) for key in ("p1", "p2")]
    together = {"a": ("p1", "p2")}
    free, full = a_pod("p3", node_labels={ZONE: "b"}), a_pod("p3", slots=0, node_labels={ZONE: "b"})
    assert quality(a_snapshot(adapter, *in_a, free), together).skewed == 1
    assert quality(a_snapshot(adapter, *in_a, full), together).skewed == 0


def test_reads_off_residents_who_is_where() -> None:
    fleet = a_snapshot(an_adapter("a"), an_adapter("b"), holding(a_pod("p1"), a_replica("a"), a_replica("unknown")))
    assert held(fleet) == {"a": ("p1",), "b": ()}
