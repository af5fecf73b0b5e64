"""The figures are only worth something if demand and engines are what they are said to be."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from statistics import fmean, pstdev

import pytest

from bench.routing.demand import Bursts, Request, Shape, requests, shares
from bench.routing.engine import Engine, Limits
from bench.routing.placed import placed
from bench.routing.replay import Setting, replay
from lora_scheduler.routing import Rules

SHAPE = Shape(adapters=40, per_second=20.0, seconds=40.0)
SMALL = Setting(pods=4, limits=Limits(host_slots=8))


def begun(engine: Engine) -> list[tuple[str, float]]:
    return [(request.adapter, round(at, 6)) for request, at in engine.begun]


def an_engine(*resident: str, batch: int = 2, gpu_slots: int = 2, host_slots: int = 2) -> Engine:
    engine = Engine("pod", Limits(batch, gpu_slots, host_slots, load_seconds=1.0))
    engine.resident.update(dict.fromkeys(resident))
    return engine


def served(engine: Engine, *asked: tuple[float, str, float]) -> list[tuple[str, float]]:
    for at, adapter, seconds in asked:
        engine.pass_time(at)
        engine.take(Request(at, adapter, seconds))
    engine.pass_time(100.0)
    assert engine.requests == 0
    return begun(engine)


@pytest.mark.parametrize("cv", [1.0, 4.0])
@pytest.mark.parametrize("bursts", Bursts)
def test_demand_has_the_rate_the_bursts_and_the_popularity_that_it_should(cv: float, bursts: Bursts) -> None:
    shape = Shape(adapters=10, per_second=100.0, seconds=150.0, cv=cv, bursts=bursts)
    asked = requests(shape)
    own = [one.at for one in asked if bursts is Bursts.ALL or one.adapter == "adapter-0"]
    intervals = [after - before for before, after in itertools.pairwise(own)]
    assert len(asked) == pytest.approx(15_000, rel=0.25)
    assert pstdev(intervals) / fmean(intervals) == pytest.approx(cv, rel=0.25)
    assert fmean(one.seconds for one in asked) == pytest.approx(shape.served_seconds, rel=0.05)
    share = sum(one.adapter == "adapter-0" for one in asked) / len(asked)
    assert share == pytest.approx(shares(shape)[0], rel=0.25)
    assert asked == requests(shape)


def test_a_full_batch_makes_requests_wait() -> None:
    assert served(an_engine("a"), (0, "a", 3), (0, "a", 2), (0, "a", 1)) == [("a", 0), ("a", 0), ("a", 2)]


def test_an_adapter_without_a_place_in_the_batch_waits_and_others_pass() -> None:
    engine = an_engine("a", "b", batch=3, gpu_slots=1)
    assert served(engine, (0, "a", 2), (0, "b", 1), (1, "a", 4)) == [("a", 0), ("a", 1), ("b", 5)]


def test_a_load_holds_up_everything_and_is_done_once() -> None:
    engine = an_engine("a")
    assert served(engine, (0, "a", 2), (1, "b", 1), (1.5, "b", 1)) == [("a", 0), ("b", 2), ("b", 3)]
    assert (engine.loads, engine.stalled_seconds) == (1, 1.0)


def test_room_is_made_by_the_adapter_that_nobody_wanted_for_longest() -> None:
    engine = an_engine("a", "b")
    served(engine, (0, "a", 1), (5, "b", 1), (10, "c", 1), (15, "b", 1))
    assert (list(engine.resident), engine.loads) == (["c", "b"], 1)


def test_nothing_that_is_in_use_is_unloaded() -> None:
    engine = an_engine("a", "b")
    assert served(engine, (0, "a", 3), (0, "b", 9), (1, "c", 1)) == [("a", 0), ("b", 0), ("c", 4)]
    assert list(engine.resident) == ["b", "c"]


def test_requests_present_are_counted_over_time() -> None:
    engine = an_engine("a")
    served(engine, (0, "a", 2), (1, "a", 3))
    assert engine.request_seconds == pytest.approx(5.0)


def test_an_engine_that_is_never_full_holds_what_littles_law_says() -> None:
    shape = replace(SHAPE, adapters=1, seconds=400.0)
    engine = an_engine("adapter-0", batch=10_000)
    for request in (asked := requests(shape)):
        engine.pass_time(request.at)
        engine.take(request)
    mean = engine.request_seconds / asked[-1].at
    assert mean == pytest.approx(shape.per_second * shape.served_seconds, rel=0.1)


@pytest.mark.parametrize("policy", ["lora-affinity", "weighted", "threshold", "least-request", "random"])
def test_a_replay_serves_everything_and_is_the_same_again(policy: str) -> None:
    asked = requests(SHAPE)
    outcome = replay(asked, SMALL, Rules(policy))
    assert outcome == replay(asked, SMALL, Rules(policy))
    assert outcome.requests == sum(one.at >= asked[-1].at * 0.25 for one in asked)
    assert 0 < outcome.warm <= 1
    assert outcome.imbalance >= 1
    assert outcome.loads > 0


def test_requests_that_may_not_load_find_what_was_placed_and_load_nothing() -> None:
    setting = replace(SMALL, may_load=False, limits=Limits(host_slots=16), told=True)
    held = placed(SHAPE, setting)
    assert {name for names in held.values() for name in names} == {f"adapter-{number}" for number in range(40)}
    outcome = replay(requests(SHAPE), setting, Rules(), held)
    assert (outcome.warm, outcome.loads, outcome.stalled) == (1.0, 0, 0.0)
    assert math.isfinite(outcome.wait_p99)


def test_adapters_that_do_not_fit_cannot_be_placed_beforehand() -> None:
    with pytest.raises(ValueError, match="give Setting"):
        placed(SHAPE, SMALL)
