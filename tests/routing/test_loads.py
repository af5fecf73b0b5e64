"""How busy a pod is taken for: metrics while they are fresh, what was sent since, and the mean where nobody knows."""

from __future__ import annotations

import random

import pytest

from lora_scheduler.routing import EngineLoad, Index, Picked, RoutingRequest, pick
from tests.routing.fleets import DRAINING, a_pod, an_index, busy, picked


def load_of(index: Index, pod: str, now: float = 0.0) -> float:
    answer = pick(index, RoutingRequest(base_model="llama", among=frozenset({pod})), now=now, chance=random.Random(1))
    assert isinstance(answer, Picked)
    return answer.load


def mean_of(index: Index, now: float = 0.0) -> float:
    pool = index.pool("llama")
    assert pool is not None
    pool.refresh(now)
    return pool.mean(now)


def test_running_and_waiting_requests_are_its_load() -> None:
    index = an_index(a_pod("p1", load=EngineLoad(0.0, running=3, waiting=2)), a_pod("p2", load=busy(1)))
    assert (load_of(index, "p1"), load_of(index, "p2"), mean_of(index)) == (5, 1, 3)


def test_half_of_the_counts_missing_is_read_as_none_and_both_as_not_knowing() -> None:
    index = an_index(a_pod("p1", load=EngineLoad(0.0, waiting=4)), a_pod("p2", load=EngineLoad(0.0)), a_pod("p3"))
    assert [load_of(index, pod) for pod in ("p1", "p2", "p3")] == [4, 4, 4]


def test_what_was_sent_counts_until_the_next_metrics() -> None:
    index = an_index(a_pod("p1", load=busy(2)), a_pod("p2", load=busy(2)))
    for _ in range(3):
        index.sent("p1", now=0.0)
    assert (load_of(index, "p1"), mean_of(index)) == (5, 3.5)
    index.observe("p1", busy(4, at=1.0), now=1.0)
    assert (load_of(index, "p1", 1.0), mean_of(index, 1.0)) == (4, 3)


def test_what_was_sent_fades_for_pods_and_mean_alike() -> None:
    index = an_index(a_pod("p1"), a_pod("p2"), half_life_seconds=5.0)
    for _ in range(4):
        index.sent("p1", now=0.0)
    assert (load_of(index, "p1", 5.0), load_of(index, "p2", 5.0), mean_of(index, 5.0)) == (2, 0, 1)
    index.sent("p1", now=5.0)
    assert (load_of(index, "p1", 10.0), mean_of(index, 10.0)) == (1.5, 0.75)


def test_a_clock_that_goes_back_does_no_harm() -> None:
    index = an_index(a_pod("p1"))
    index.sent("p1", now=10.0)
    index.sent("p1", now=5.0)
    assert load_of(index, "p1", 5.0) == mean_of(index, 5.0) == 2


def test_what_has_ended_no_longer_counts() -> None:
    index = an_index(a_pod("p1", load=busy(1)), a_pod("p2", load=busy(1)))
    index.sent("p1", now=0.0)
    index.done("p1", now=0.0)
    assert (load_of(index, "p1"), mean_of(index)) == (1, 1)
    index.done("p1", now=0.0)
    index.done("p1", now=0.0)
    assert (load_of(index, "p1"), mean_of(index)) == (0, 0.5)


def test_stale_metrics_count_as_unknown_and_the_mean_stands_in() -> None:
    index = an_index(a_pod("p1", load=busy(90)), a_pod("p2", load=busy(4, at=8.0)), stale_seconds=5.0)
    assert load_of(index, "p1", 5.0) == 90
    assert (load_of(index, "p1", 9.0), mean_of(index, 9.0)) == (4, 4)
    assert (load_of(index, "p1", 99.0), mean_of(index, 99.0)) == (0, 0)


def test_newer_metrics_keep_a_pod_from_going_stale() -> None:
    index = an_index(a_pod("p1", load=busy(9)), stale_seconds=5.0)
    index.observe("p1", busy(7, at=4.0), now=4.0)
    assert load_of(index, "p1", 8.0) == 7


def test_a_pod_without_metrics_is_neither_shunned_nor_flooded() -> None:
    index = an_index(a_pod("p1", "a", load=busy(9)), a_pod("p2", "a", load=busy(1)), a_pod("p3", "a"))
    assert picked(index, "a", choices=3) == {"p2"}
    index.observe("p2", busy(20, at=0.0), now=0.0)
    assert picked(index, "a", choices=3) == {"p1"}


def test_a_pod_that_changes_keeps_its_metrics_and_what_was_sent() -> None:
    index = an_index(a_pod("p1", load=busy(3)), a_pod("p2", load=busy(1)))
    index.sent("p1", now=0.0)
    index.put(a_pod("p1", "a"), now=0.0)
    assert (load_of(index, "p1"), mean_of(index)) == (4, 2.5)
    index.put(a_pod("p1", "a", load=busy(6, at=-5.0)), now=0.0)  # older than what is known
    assert load_of(index, "p1") == 4
    index.put(a_pod("p1", "a", load=busy(6, at=1.0)), now=1.0)
    assert (load_of(index, "p1", 1.0), mean_of(index, 1.0)) == (6, 3.5)


def test_a_draining_pod_is_no_part_of_the_mean_and_comes_back_with_its_metrics() -> None:
    index = an_index(a_pod("p1", load=busy(3)), a_pod("p2", load=busy(1)))
    index.put(a_pod("p1", state=DRAINING), now=0.0)
    assert mean_of(index) == 1
    index.sent("p1", now=0.0)
    index.done("p1", now=0.0)
    index.observe("p1", busy(5, at=1.0), now=1.0)
    assert mean_of(index, 1.0) == 1
    index.put(a_pod("p1"), now=1.0)
    assert (load_of(index, "p1", 1.0), mean_of(index, 1.0)) == (5, 3)


def test_news_of_a_pod_that_is_not_there_changes_nothing() -> None:
    index = an_index(a_pod("p1", load=busy(3)))
    index.observe("gone", busy(5), now=0.0)
    index.sent("gone", now=0.0)
    index.done("gone", now=0.0)
    index.remove("gone", now=0.0)
    assert (len(index), mean_of(index), index.endpoint("gone")) == (1, 3, None)
    assert index.endpoint("p1") == a_pod("p1", load=busy(3))


def test_metrics_that_nobody_asks_for_do_not_pile_up() -> None:
    index = an_index(a_pod("p1"), stale_seconds=5.0)
    for second in range(1000):
        index.observe("p1", busy(1, at=float(second)), now=float(second))
    pool = index.pool("llama")
    assert pool is not None
    assert len(pool._ages) <= 7


def test_tells_which_pods_there_are_and_how_old_their_metrics_are() -> None:
    index = an_index(a_pod("p1", load=busy(3, at=2.0)), a_pod("p2"))
    assert index.endpoints() == [a_pod("p1", load=busy(3, at=2.0)), a_pod("p2")]
    assert [index.observed_at(pod) for pod in ("p1", "p2", "gone")] == [2.0, None, None]
    index.observe("p2", busy(1, at=4.0), now=4.0)
    assert index.observed_at("p2") == 4.0


def test_an_empty_pool_has_no_load() -> None:
    index = an_index(a_pod("p1", state=DRAINING))
    assert mean_of(index) == 0


@pytest.mark.parametrize("seed", range(20))
def test_the_mean_is_that_of_all_pods_whatever_has_happened(seed: int) -> None:
    """The running sums against a look at every pod."""
    rng, now = random.Random(seed), 0.0
    index = an_index(stale_seconds=4.0, half_life_seconds=3.0)
    for _ in range(200):
        now += rng.random()
        pod = f"p{rng.randrange(6)}"
        match rng.randrange(6):
            case 0:
                state = rng.choice([DRAINING, a_pod().state])
                index.put(a_pod(pod, state=state), now=now)
            case 1:
                index.remove(pod, now=now)
            case 2:
                index.observe(pod, busy(rng.choice([None, 0, 3, 9]), at=now - rng.random() * 6), now=now)
            case 3:
                index.done(pod, now=now)
            case _:
                index.sent(pod, now=now)
        pool = index.pool("llama")
        if pool is not None and len(pool.serving):
            pool.refresh(now)
            loads = [pool.load(slot, now) for slot in pool.serving.slots]
            assert pool.mean(now) == pytest.approx(sum(loads) / len(loads))
