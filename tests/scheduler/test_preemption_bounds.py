"""What makes large fleets quick: bounds of what room costs on a pod, and pods in the order of their room."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from lora_scheduler import Policy, Snapshot
from lora_scheduler.balance.roominess import Roominess, Rooms
from lora_scheduler.fleet import Change, Fleet
from lora_scheduler.ledger import PodLedger
from lora_scheduler.placement import allot
from lora_scheduler.preemption import KNOWN, SPARE, bound, cheapest, weaker
from tests.scheduler.builders import (
    GIB,
    a_foreigner,
    a_pod,
    a_replica,
    a_snapshot,
    an_adapter,
    holding,
    plan_for,
    unloads,
)


def a_fleet(snapshot: Snapshot) -> Fleet:
    fleet = Fleet(Policy().hot_share)
    fleet.apply(Change(snapshot.adapters, snapshot.pods))
    return fleet


@pytest.mark.parametrize("seed", range(60))
def test_a_bound_is_never_above_the_price(seed: int) -> None:
    dice = random.Random(seed)
    adapters = [
        an_adapter(
            f"a{n}",
            bytes=dice.choice((1, 2, 3)) * GIB,
            priority=dice.choice((0, 0, 1, 2)),
            replicas=dice.choice((1, 1, 2)),
        )
        for n in range(6)
    ]
    left = [adapter for adapter in adapters for _ in range(adapter.replicas)]  # never more than are wanted
    pods = []
    for n in range(3):
        there = {adapter.key: adapter for adapter in dice.sample(left, min(3, len(left)))}
        left = [adapter for adapter in left if adapter.key not in there]
        pods.append(holding(a_pod(f"p{n}", slots=dice.choice((3, 5)), memory=9), *map(a_replica, there.values())))
    fleet = a_fleet(a_snapshot(*adapters, *pods))
    for ledger in fleet.pods:
        for reach in (0, 1, 2, 3):
            for size in (GIB, 4 * GIB, 9 * GIB, 10 * GIB):
                least = bound(ledger, size, reach)
                slots, over = ledger.shortage(size)
                price = cheapest(weaker(ledger, reach, fleet.allotments), slots, over, fleet.allotments)
                if slots > 0 or over > 0:
                    assert (least is None) == (price is None)
                    assert least is None or price is None or least <= price
                else:
                    assert least is not None


def test_a_pod_remembers_only_so_many_bounds() -> None:
    ledger = a_fleet(a_snapshot(an_adapter("a"), holding(a_pod(), a_replica("a")))).pods[0]
    for size in range(KNOWN + 5):
        assert bound(ledger, size, 1) is not None
    assert len(ledger.bounds) <= KNOWN
    assert bound(PodLedger(a_pod()), GIB, 5) == (SPARE, 0)


@pytest.mark.parametrize("pods", [20, 60, 300])
def test_in_a_large_fleet_too_the_cheapest_victim_makes_room(pods: int) -> None:
    lows = [an_adapter(f"low{n:03}", demand=1.0) for n in range(pods)]
    lows[-1] = replace(lows[-1], priority=-1, demand=90.0)
    fleet = [holding(a_pod(f"p{n:03}", slots=1), a_replica(low)) for n, low in enumerate(lows)]
    made = plan_for(*lows, an_adapter("high", priority=1), *fleet)
    assert unloads(made) == [(lows[-1].key, f"p{pods - 1:03}")]
    made = plan_for(*lows[:-1], an_adapter("high", priority=1, replicas=2), *fleet[:-1])
    assert len(unloads(made)) == 2


def test_a_second_replica_anywhere_in_a_large_fleet_makes_room() -> None:
    once = [an_adapter(f"once{n:03}", demand=1.0) for n in range(58)]
    # wants two replicas, has one: as it seems a second one, as long as it is not looked at
    alone = [an_adapter(f"alone{n:03}", demand=1.0, replicas=2) for n in range(150)]
    twice = an_adapter("twice", replicas=2, demand=200.0)
    residents = [*alone, *once, twice, twice]
    pods = [holding(a_pod(f"p{n:03}", slots=1), a_replica(one)) for n, one in enumerate(residents)]
    made = plan_for(*alone, *once, twice, an_adapter("high", priority=1), *pods)
    assert len(unloads(made)) == 1  # not all pods are looked at: which one it is, is not exact here


def test_pods_over_their_limits_are_in_no_line_until_they_are_within() -> None:
    over = PodLedger(holding(a_pod("p1", slots=1, memory=4), a_foreigner("x"), a_foreigner("y")))
    full = PodLedger(holding(a_pod("p2", slots=1, memory=4), a_foreigner("x")))
    free = PodLedger(a_pod("p3", slots=1, memory=4))
    rooms = Roominess([over, full, free])
    assert [pod.key for pod in rooms.by_shortage()] == ["p3", "p2"] and rooms.free_slots == 1
    over.read(holding(a_pod("p1", slots=1, memory=4), a_foreigner("x")))
    free.read(holding(a_pod("p3", slots=1, memory=4), a_foreigner("x"), a_foreigner("y")))
    for pod in (over, free, PodLedger(a_pod("p9"))):
        rooms.changed(pod)
    assert [pod.key for pod in rooms.by_shortage()] == ["p1", "p2"] and not list(rooms.open())
    assert [pod.key for pod in rooms.most(5, full)] == ["p1"]
    Rooms().changed([over])


def test_a_place_of_which_nothing_is_there_is_postponed_without_a_size() -> None:
    fleet = a_fleet(a_snapshot(an_adapter("a"), a_pod()))
    allotment = fleet.allotments["a"]
    replica = allot(allotment, fleet.pods[0])
    allotment.postpone(replica)
    assert replica.bytes == GIB and allotment.pending == {"p1": replica} and not allotment.kept
