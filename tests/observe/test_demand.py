"""What becomes of finished requests: a smooth rate, still where nothing changes, and unknown at first."""

from __future__ import annotations

import random

import pytest

from lora_operator.engines.demand import Demand, step_of

A, B = ("ns", "a"), ("ns", "b")
HALF_LIFE = 60.0


class Fed:
    """A Demand that is given looks of ten seconds at one engine, or at several in turn."""

    def __init__(self, now: float = 1000.0) -> None:
        self.demand = Demand(HALF_LIFE)
        self.now = now
        self.changes = 0

    def look(self, finished: dict[tuple[str, str], float], listed: tuple[tuple[str, str], ...] = (A,)) -> bool:
        since, self.now = self.now, self.now + 10.0
        changed = self.demand.add(listed, finished, since, self.now)
        self.changes += changed
        return changed

    def looks(self, count: int, rate: float, name: tuple[str, str] = A) -> float | None:
        for _ in range(count):
            self.look({name: rate * 10.0}, (name,))
        return self.demand.demands.get(name)


def test_nothing_is_known_until_there_was_time_to_look() -> None:
    fed = Fed()
    assert fed.looks(8, 5.0) is None
    assert fed.looks(1, 5.0) == pytest.approx(5.0, rel=0.13)


def test_a_quiet_adapter_is_at_zero_and_that_is_said_once() -> None:
    fed = Fed()
    assert fed.looks(100, 0.0) == 0.0
    assert fed.changes == 1


def test_a_single_request_now_and_then_changes_nothing() -> None:
    fed = Fed()
    fed.looks(20, 0.0)
    for _ in range(5):
        assert not fed.look({A: 1.0})
        fed.looks(60, 0.0)
    assert fed.demand.demands == {A: 0.0}


@pytest.mark.parametrize("rate", [0.05, 0.5, 5.0, 50.0])
def test_random_arrivals_at_a_constant_rate_change_almost_nothing(rate: float) -> None:
    dice, fed = random.Random(3), Fed()
    for _ in range(1000):
        count, at = 0, dice.expovariate(rate)
        while at < 10.0:
            count, at = count + 1, at + dice.expovariate(rate)
        fed.look({A: float(count)})
    assert fed.demand.demands[A] == pytest.approx(rate, rel=0.6)
    assert fed.changes <= 12  # in close to three hours


def test_follows_a_real_change_within_a_few_minutes_both_ways() -> None:
    fed = Fed()
    fed.looks(20, 1.0)
    assert fed.looks(18, 10.0) == pytest.approx(10.0, rel=0.35)
    assert fed.looks(18, 1.0) == pytest.approx(1.0, rel=1.0)
    assert fed.looks(60, 0.0) == 0.0


def test_a_small_demand_that_ends_comes_to_zero_too() -> None:
    fed = Fed()
    assert fed.looks(60, 0.05)
    assert fed.looks(60, 0.0) == 0.0


def test_engines_add_up_and_one_that_is_gone_takes_nothing_back() -> None:
    demand, now = Demand(HALF_LIFE), 0.0
    while now < 600.0:
        demand.add((A,), {A: 20.0}, now, now + 10.0)
        demand.add((A,), {A: 20.0}, now + 5.0, now + 15.0)
        now += 10.0
    both = demand.demands[A]
    assert both == pytest.approx(4.0, rel=0.13)
    while now < 1200.0:  # the same requests, now all to one of them
        assert not demand.add((A,), {A: 40.0}, now, now + 10.0)
        now += 10.0


def test_what_nobody_can_see_for_a_while_keeps_its_demand() -> None:
    fed = Fed()
    known = fed.looks(30, 4.0)
    fed.now += 3600.0
    assert not fed.look({A: 40.0})
    assert fed.demand.demands[A] == known


def test_a_restarted_operator_learns_of_all_at_once() -> None:
    demand, now = Demand(HALF_LIFE), 0.0
    while now < 300.0:
        demand.add((A,), {A: 10.0}, now, now + 10.0)
        assert set(demand.demands) in (set(), {A, B})
        demand.add((B,), {}, now + 3.0, now + 13.0)
        assert set(demand.demands) in (set(), {A, B})
        now += 10.0
    assert demand.demands[B] == 0.0


def test_a_newcomer_is_unknown_among_the_known() -> None:
    fed = Fed()
    fed.looks(20, 1.0)
    fed.look({}, (A, B))
    assert set(fed.demand.demands) == {A}


def test_forgets_what_nobody_wants() -> None:
    fed = Fed()
    fed.looks(20, 1.0)
    fed.demand.keep({B})
    assert not fed.demand.demands
    assert fed.looks(5, 1.0) is None


def test_steps_are_a_quarter_apart_and_short_to_read() -> None:
    rates = (0.0, 0.009, 1.0, 1.1, 1.2, 5.0, 123.0)
    assert [step_of(rate, 0.01) for rate in rates] == [0.0, 0.0, 1.0, 1.0, 1.25, 4.77, 136.0]
