"""A worker that asks for work: what it is given, and that nobody waits for ever."""

from __future__ import annotations

import random
from typing import Any

import pytest

from lora_scheduler.routing import Endpoint, Holding, InvalidRules, Match, Pending, PullRules, Weights, match
from tests.routing.fleets import DRAINING, WITHDRAWN, a_pod, ask, busy


def waiting(key: str, *adapters: str, since: float = 0.0, base_model: str = "llama", **fields: Any) -> Pending:
    wanted = ask(*adapters, **fields) if adapters else ask(base_model=base_model, **fields)
    return Pending(key, wanted, base_model, since)


def taken(worker: Endpoint, *pending: Pending, now: float = 0.0, **rules: Any) -> str | None:
    found = match(worker, pending, now=now, rules=PullRules(**rules))
    return None if found is None else found.pending.key


def test_a_worker_takes_what_it_holds() -> None:
    assert taken(a_pod("w", "a"), waiting("1", "b"), waiting("2", "a")) == "2"


def test_a_worker_takes_nothing_that_it_cannot_serve() -> None:
    worker = a_pod("w", "a", Holding("c", "c", WITHDRAWN), host_slots=2)
    assert taken(worker) is None
    assert taken(worker, waiting("1", "b"), waiting("2", "c"), waiting("3", base_model="mistral")) is None
    assert taken(worker, waiting("4", "b", may_load=True)) is None  # no room


@pytest.mark.parametrize("fields", [{"avoid": frozenset({"w"})}, {"among": frozenset({"x"})}])
def test_a_worker_leaves_what_is_not_meant_for_it(fields: Any) -> None:
    assert taken(a_pod("w", "a"), waiting("1", "a", **fields)) is None
    assert taken(a_pod("x", "a"), waiting("1", "a", **fields)) == "1"


def test_a_draining_worker_takes_nothing() -> None:
    assert taken(a_pod("w", "a", state=DRAINING), waiting("1", "a")) is None


def test_the_best_score_wins_and_the_oldest_of_equals() -> None:
    worker = a_pod("w", "a", "b", "c")
    shared = waiting("shared", "a", shared=frozenset({"a"}))
    one, two, other = waiting("one", "a"), waiting("two", "a", "b"), waiting("other", "b", "c")
    assert taken(worker, shared, one) == "one"
    assert taken(worker, shared, one, two, other) == "two"
    found = match(worker, [two], now=0.0)
    assert found == Match(two, 21.0)


def test_a_place_in_the_batch_counts() -> None:
    worker = a_pod("w", "a", "b", load=busy(3, "b", max_loras=1))
    assert taken(worker, waiting("1", "a"), waiting("2", "b")) == "2"
    assert taken(a_pod("w", "a", "b", gpu_slots=2, load=busy(3, "b")), waiting("1", "a"), waiting("2", "b")) == "1"


def test_the_base_model_alone_is_served_by_anyone() -> None:
    assert taken(a_pod("w"), waiting("1")) == "1"


def test_what_has_to_be_loaded_is_taken_only_if_there_is_nothing_else() -> None:
    load, held = waiting("load", "a", "x", may_load=True), waiting("held", "b", shared=frozenset({"b"}))
    worker = a_pod("w", "a", "b")
    assert taken(worker, load, held, weights=Weights(shared_resident=0)) == "held"
    assert match(worker, [load], now=0.0) == Match(load, 11.0, missing=("x",))


def test_overdue_requests_come_first_whatever_they_score_the_oldest_before_all() -> None:
    worker = a_pod("w", "a")
    first, second = waiting("first", "x", may_load=True, since=1.0), waiting("second", "a", since=2.0)
    fresh = waiting("fresh", "a", since=9.5)
    assert taken(worker, first, second, fresh, now=3.0) == "second"
    found = match(worker, [first, second, fresh], now=10.0)
    assert found == Match(first, 1.0, missing=("x",), overdue=True)
    assert taken(worker, waiting("impossible", "y"), second, fresh, now=10.0) == "second"


def test_only_the_oldest_are_looked_at() -> None:
    queue = [waiting(str(n), "x") for n in range(10)]
    assert taken(a_pod("w", "a"), *queue, waiting("last", "a"), scan=10) is None
    assert taken(a_pod("w", "a"), *queue, waiting("last", "a"), scan=11) == "last"


@pytest.mark.parametrize("seed", range(10))
def test_nobody_waits_longer_than_those_before_take_turns(seed: int) -> None:
    """One worker, popular adapters that never stop coming, and an unpopular one that scores less."""
    rng, rules = random.Random(seed), PullRules(scan=1000, fair_seconds=3.0)
    worker = a_pod("w", "hot", "cold")
    queue: list[Pending] = []
    for now in range(60):
        for _ in range(rng.randrange(3)):
            cold = rng.random() < 0.2
            shared = frozenset({"cold"}) if cold else frozenset[str]()
            queue.append(waiting(str(len(queue)), "cold" if cold else "hot", shared=shared, since=float(now)))
        found = match(worker, queue, now=float(now), rules=rules)
        overdue = [one for one in queue if now - one.since > rules.fair_seconds]
        if overdue:
            assert found is not None
            assert found.pending == overdue[0]
        if found is not None:
            queue.remove(found.pending)


@pytest.mark.parametrize(("field", "value"), [("scan", 0), ("fair_seconds", -1.0), ("fair_seconds", float("nan"))])
def test_rules_that_cannot_be_are_refused(field: str, value: float) -> None:
    with pytest.raises(InvalidRules, match=f"{field} is {value}"):
        PullRules(**{field: value})  # type: ignore[arg-type]
