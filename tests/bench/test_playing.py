"""Playing the library round by round, counting what it does, and turning counts into goals met or not."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from bench.placement import arrivals
from bench.placement.baselines import LEAST_LOADED
from bench.placement.contenders import OURS, REPAIR_ONLY, library, populated, simple
from bench.placement.fleets import Shape, build
from bench.placement.goals import figures
from bench.placement.play import settle
from bench.placement.quality import quality
from bench.placement.records import Record, record
from lora_scheduler import Load, Plan, Policy, Snapshot, plan
from tests.scheduler.builders import a_pod, a_replica, a_snapshot, an_adapter, holding


def test_plays_until_there_is_nothing_left_to_do() -> None:
    fleet = a_snapshot(an_adapter("a", replicas=2), an_adapter("b"), a_pod("p1"), a_pod("p2"))
    played = settle(fleet, plan, 10)
    assert (played.loads, played.unloads, played.rounds, played.settled, played.over_limit) == (3, 0, 1, True, 0)


def test_counts_victims_and_the_rounds_that_their_room_takes() -> None:
    low, high = an_adapter("low"), an_adapter("high", priority=1)
    fleet = a_snapshot(low, high, holding(a_pod(slots=1), a_replica(low)))
    played = settle(fleet, plan, 10)
    assert (played.preempted, played.unloads, played.loads, played.rounds) == (1, 1, 1, 2)


def test_gives_up_on_plans_that_never_end_and_sees_loads_that_do_not_fit() -> None:
    def stubborn(snapshot: Snapshot) -> Plan:
        return Plan({}, (Load("p1", "a", "v1"),), (), {}, {})

    fleet = a_snapshot(an_adapter("a"), holding(a_pod(slots=1), a_replica("b")))
    played = settle(fleet, stubborn, 3)
    assert (played.settled, played.rounds, played.over_limit) == (False, 3, 3)


def test_replicas_on_pods_that_are_gone_are_gone() -> None:
    fleet = populated(a_snapshot(an_adapter("a", replicas=2), a_pod("p1")), {"a": ("p1", "gone"), "unknown": ("p1",)})
    assert [(pod.key, [r.adapter for r in pod.residents]) for pod in fleet.pods] == [("p1", ["a"])]


def test_the_library_and_a_baseline_answer_the_same_question() -> None:
    fleet = build(Shape(40, 5))
    for contender in (library(OURS, Policy()), simple(LEAST_LOADED)):
        first = contender.advance(fleet, {})
        assert first.loads == sum(adapter.replicas for adapter in fleet.adapters)
        assert quality(fleet, first.assignment).missing == 0
        assert contender.advance(fleet, first.assignment).loads == 0


def test_tries_every_set_of_victims() -> None:
    adapters = [an_adapter(key, bytes=size, priority=priority) for key, size, priority in
                (("a", 2, 0), ("b", 2, 1), ("c", 3, 1), ("d", 9, 5))]  # fmt: skip
    newcomer = an_adapter("z", bytes=4, priority=3)
    pod = replace(a_pod("p1"), memory_bytes=16)
    before = dict.fromkeys("abcd", ("p1",))
    assert arrivals.cheapest(a_snapshot(*adapters, newcomer, pod), before, newcomer) == (1, 2)
    assert arrivals.cheapest(a_snapshot(*adapters, newcomer, replace(pod, memory_bytes=18)), before, newcomer) == (0, 1)
    too_large = replace(newcomer, bytes=8)
    assert arrivals.cheapest(a_snapshot(*adapters, too_large, pod), before, too_large) is None


@pytest.mark.parametrize("seed", range(40))
def test_the_library_never_takes_dearer_victims_than_needed(seed: int) -> None:
    fleet, before, newcomer = arrivals.small_case(random.Random(seed))
    least = arrivals.cheapest(fleet, before, newcomer)
    assert least is None or arrivals.taken(fleet, before, newcomer) <= least


def a_loss(method: str, loads: int, missing: int = 0) -> Record:
    counts = {"minimum": 10, "to_even_out": 0, "loads": loads, "missing": missing, "rounds": 1}
    return record("churn", Shape(10, 2), method, change="pod loss", imbalance=1.0, **counts)


def test_a_goal_is_met_by_the_worst_value() -> None:
    met = {figure.name: figure.met for figure in figures([a_loss(REPAIR_ONLY, 10), a_loss(REPAIR_ONLY, 11)])}
    assert met["loads ÷ minimum on pod loss, repair only"] is False


def test_what_a_rebalance_moves_is_summed_up_over_all_losses_of_a_fleet() -> None:
    made = {figure.name: figure for figure in figures([a_loss(OURS, 12), a_loss(OURS, 17)])}
    found = made["loads ÷ minimum on pod loss, with rebalance"]
    assert (found.values, found.met) == ((1.45,), True)
    assert "1.70" in found.note


def test_a_figure_below_its_goal_is_met() -> None:
    met = {figure.name: figure.met for figure in figures([a_loss(OURS, 12)])}
    assert met["imbalance after pods or adapters came or went"] is True


def test_the_best_baseline_is_one_that_leaves_no_more_unplaced() -> None:
    records = [a_loss(OURS, 12), a_loss("careless", 10, missing=3), a_loss("careful", 20), a_loss("wild", 90)]
    shown = {figure.name: figure.peers for figure in figures(records)}
    assert shown["loads ÷ minimum on pod loss, with rebalance"] == "careful 2, imbalance 1.00"
