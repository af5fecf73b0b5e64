"""What each policy prefers among pods that may all be the answer."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from lora_scheduler.routing import (
    EngineLoad,
    Holding,
    Index,
    InvalidAsk,
    InvalidEndpoint,
    InvalidRules,
    Picked,
    RoutingRequest,
    Rules,
    Weights,
    pick,
)
from tests.routing.fleets import LOADING, POLICY_NAMES, a_pod, an_index, answers, ask, busy, picked


def holders(*requests: int, adapter: str = "a", **fields: Any) -> list[Any]:
    """A pod for each number of requests, all with the adapter."""
    return [a_pod(f"p{n}", adapter, load=busy(count), **fields) for n, count in enumerate(requests)]


# lora-affinity


def test_affinity_takes_the_less_busy_of_two_holders() -> None:
    assert picked(an_index(*holders(2, 1)), "a") == {"p1"}


def test_affinity_looks_at_more_holders_when_two_are_busier_than_the_mean() -> None:
    assert picked(an_index(*holders(9, 9, 9, 9, 9, 1)), "a", scan=6) == {"p5"}


def test_affinity_spreads_evenly_over_holders_that_are_equally_busy() -> None:
    counts = Counter(
        answer.endpoint.pod
        for answer in answers(an_index(*holders(0, 0, 0)), "a", times=3000)
        if isinstance(answer, Picked)
    )
    assert all(800 < count < 1200 for count in counts.values())


def test_affinity_stays_with_a_busy_holder_up_to_its_bound_and_loads_elsewhere_beyond() -> None:
    others = [a_pod(f"q{n}", load=busy(8)) for n in range(9)]
    wanted = ask("a", may_load=True)

    def index(requests: int) -> Index:
        return an_index(*holders(requests), *others, a_pod("idle", load=busy(0)))

    assert picked(index(11), wanted, scan=11) == {"p0"}  # 4 more than a mean of 7.5 at most
    assert picked(index(15), wanted, epsilon=1.0, scan=11) == {"p0"}
    assert picked(index(15), wanted, scan=11) == {"idle"}


def test_affinity_never_answers_with_another_pod_for_one_that_may_not_load_but_names_it() -> None:
    index = an_index(*holders(30), a_pod("idle", load=busy(0)), a_pod("full", host_slots=0, load=busy(0)))
    given = set(answers_spills(index, ask("a")))
    assert given == {("p0", "idle")}


def answers_spills(index: Index, wanted: RoutingRequest) -> list[tuple[str, str | None]]:
    return [(a.endpoint.pod, a.spill) for a in answers(index, wanted) if isinstance(a, Picked)]


def test_affinity_joins_a_replica_on_its_way_before_it_begins_another() -> None:
    coming = a_pod("coming", Holding("a", "a", LOADING), load=busy(9))
    index = an_index(*holders(30), coming, a_pod("idle", load=busy(0)))
    assert picked(index, ask("a", may_load=True)) == {"coming"}
    index.observe("coming", busy(40), now=0.0)
    assert picked(index, ask("a", may_load=True)) == {"idle"}


def test_affinity_stays_where_nobody_is_less_busy_than_the_mean() -> None:
    index = an_index(*holders(30), *(a_pod(f"q{n}", "b", host_slots=1, load=busy(0)) for n in range(3)))
    index.put(a_pod("room", load=busy(20)), now=0.0)
    assert set(answers_spills(index, ask("a", may_load=True))) == {("p0", None)}


def test_a_load_must_gain_something() -> None:
    index = an_index(*holders(14), *(a_pod(f"q{n}", load=busy(9)) for n in range(9)))
    assert picked(index, ask("a", may_load=True), gain=1.0) == {"p0"}
    assert picked(index, ask("a", may_load=True), gain=0.0).isdisjoint({"p0"})


def test_requests_sent_since_the_metrics_count_at_once() -> None:
    index, chance = an_index(*holders(0, 0, 0, 0)), random.Random(5)
    sent: Counter[str] = Counter()
    for _ in range(400):
        answer = pick(index, ask("a"), now=0.0, chance=chance)
        assert isinstance(answer, Picked)
        index.sent(answer.endpoint.pod, now=0.0)
        sent[answer.endpoint.pod] += 1
    assert max(sent.values()) - min(sent.values()) < 10


@pytest.mark.parametrize("policy", ["lora-affinity", "least-request"])
def test_a_batch_without_a_place_for_the_adapter_is_the_last_choice(policy: str) -> None:
    """Requests for one adapter more wait there without fairness, however few they are."""
    crowded = a_pod("crowded", "a", "b", "c", gpu_slots=2, load=busy(1, "b", "c"))
    free = a_pod("free", "a", "b", gpu_slots=2, load=busy(4, "b"))
    active = a_pod("active", "a", "b", gpu_slots=2, load=busy(5, "a", "b"))
    assert picked(an_index(crowded, free), "a", policy) == {"free"}
    assert picked(an_index(crowded, active), "a", policy) == {"active"}
    assert picked(an_index(crowded, active, stale_seconds=1.0), "a", policy, now=9.0) == {"crowded", "active"}


def test_the_less_used_cache_decides_between_equally_busy_pods() -> None:
    loads = [busy(3, kv_cache_usage=usage) for usage in (0.9, 0.2, None)]
    full, half, unknown = (a_pod(f"p{n}", "a", load=load) for n, load in enumerate(loads))
    assert picked(an_index(full, half), "a") == {"p1"}
    assert picked(an_index(half, unknown), "a") == {"p2"}


# threshold


def test_threshold_prefers_where_the_adapter_runs_then_where_it_waits_then_a_place_in_the_batch() -> None:
    waits = EngineLoad(0.0, running=1, waiting=3, waiting_adapters=frozenset({"a"}), max_loras=1)
    pods = {
        "runs": a_pod("runs", "a", load=busy(9, "a", max_loras=1)),
        "waits": a_pod("waits", "a", load=waits),
        "place": a_pod("place", "a", load=busy(9, "b", max_loras=2)),
        "full": a_pod("full", "a", load=busy(0, "b", "c", max_loras=2)),
    }
    index = an_index(*pods.values())
    for best in ("runs", "waits", "place", "full"):
        assert picked(index, "a", "threshold", affinity=1.0) == {best}
        index.remove(best, now=0.0)


def test_threshold_goes_elsewhere_about_once_in_a_thousand() -> None:
    index = an_index(a_pod("runs", "a", load=busy(9, "a")), a_pod("place", "a", load=busy(0)))
    given = answers(index, "a", "threshold", times=10_000)
    elsewhere = sum(answer.endpoint.pod == "place" for answer in given if isinstance(answer, Picked))
    assert 2 <= elsewhere <= 25


def test_threshold_without_affinity_takes_a_place_in_the_batch_of_any_pod_if_it_may_load() -> None:
    index = an_index(a_pod("runs", "a", load=busy(9, "a")), a_pod("other", load=busy(0)))
    assert picked(index, ask("a", may_load=True), "threshold", affinity=0.0) == {"other"}
    assert picked(index, "a", "threshold", affinity=0.0) == {"runs"}


def test_threshold_takes_the_number_of_places_from_the_metrics_unless_they_say_zero() -> None:
    by_metrics = a_pod("metrics", "a", gpu_slots=1, load=busy(9, "b", max_loras=2))
    zero = a_pod("zero", "a", gpu_slots=1, load=busy(0, "b", max_loras=0))
    assert picked(an_index(by_metrics, zero), "a", "threshold") == {"metrics"}


def test_threshold_counts_running_and_waiting_adapters_together() -> None:
    both = EngineLoad(0.0, 1, 1, None, frozenset({"b"}), frozenset({"c"}), max_loras=2)
    index = an_index(a_pod("both", "a", load=both), a_pod("place", "a", load=busy(8, "b", max_loras=2)))
    assert picked(index, "a", "threshold") == {"place"}


def test_threshold_takes_stale_activity_for_none() -> None:
    index = an_index(
        a_pod("p1", "a", load=busy(0, "a")), a_pod("p2", "a", load=busy(5, "a", at=8.0)), stale_seconds=5.0
    )
    assert picked(index, "a", "threshold", now=9.0) == {"p2"}


def test_activity_is_forgotten_with_the_metrics_that_told_it() -> None:
    index = an_index(a_pod("p1", "a", load=busy(0, "a", "not ours")), a_pod("p2", "a", load=busy(5)))
    index.observe("p1", busy(9), now=0.0)
    assert [list(index.running("a")), list(index.waiting("a"))] == [[], []]
    assert picked(index, "a", "threshold") == {"p2"}


def test_several_adapters_are_active_only_where_all_of_them_are() -> None:
    index = an_index(
        a_pod("one", "a", "b", load=busy(0, "a", max_loras=9)), a_pod("all", "a", "b", load=busy(9, "a", "b"))
    )
    assert picked(index, ask("a", "b"), "threshold", affinity=1.0, choices=3) == {"all"}


# weighted


def test_weighted_holds_an_own_replica_worth_more_than_a_shared_one() -> None:
    index = an_index(a_pod("own", "mine", host_slots=2), a_pod("shared", "theirs", host_slots=2))
    wanted = ask("mine", "theirs", may_load=True, shared=frozenset({"theirs"}))
    assert picked(index, wanted, "weighted") == {"own"}
    (answer,) = answers(index, wanted, "weighted", times=1)
    assert isinstance(answer, Picked)
    assert (answer.missing, answer.score) == (("theirs",), 11.0)


def test_weighted_adds_up_several_adapters_and_takes_off_queues() -> None:
    two, one = a_pod("two", "a", "b", load=busy(3)), a_pod("one", "a", load=busy(1))
    wanted = ask("a", "b", may_load=True)
    assert picked(an_index(two, one), wanted, "weighted", weights=Weights(queue_depth=1)) == {"two"}
    assert picked(an_index(two, one), wanted, "weighted", weights=Weights(queue_depth=30)) == {"one"}


def test_weighted_prefers_a_place_in_the_batch_between_equals() -> None:
    crowded = a_pod("crowded", "a", load=busy(2, "b", max_loras=1))
    assert picked(an_index(crowded, a_pod("free", "a", load=busy(2))), "a", "weighted") == {"free"}


def test_weighted_passes_by_holders_of_a_part_that_have_no_room_for_the_rest() -> None:
    index = an_index(a_pod("full", "a", host_slots=1), a_pod("room"), known=["b"])
    assert picked(index, ask("a", "b", may_load=True), "weighted") == {"room"}


# least-request and random


@pytest.mark.parametrize("policy", ["least-request", "random"])
def test_plain_policies_look_at_all_pods_only_if_the_request_may_load(policy: str) -> None:
    index = an_index(*holders(5), a_pod("idle", load=busy(0)), a_pod("full", "b", host_slots=1, load=busy(0)))
    assert picked(index, "a", policy) == {"p0"}
    anywhere = picked(index, ask("a", may_load=True), policy, choices=3, scan=3)
    assert anywhere == ({"idle"} if policy == "least-request" else {"idle", "p0"})


def test_the_same_draws_give_the_same_answers() -> None:
    pods = [a_pod(f"p{n}", "a", load=busy(n % 3)) for n in range(20)]
    forth, back = an_index(*pods), an_index(*reversed(pods))
    for policy in POLICY_NAMES:
        assert answers(forth, "a", policy) == answers(back, "a", policy)


# bad input


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: pick(an_index(a_pod("p", "a")), ask("a"), now=0, chance=random.Random(1), rules=Rules("best")),
         InvalidRules, "'best' does not exist; use one of least-request"),
        (lambda: Rules(choices=0), InvalidRules, "choices is 0"),
        (lambda: Rules(choices=4, scan=3), InvalidRules, "scan 3"),
        (lambda: Rules(epsilon=-1), InvalidRules, "epsilon is -1"),
        (lambda: Rules(slack=float("nan")), InvalidRules, "slack is nan"),
        (lambda: Rules(affinity=1.5), InvalidRules, "affinity is 1.5"),
        (lambda: Weights(free_slot=float("inf")), InvalidRules, "free_slot is inf"),
        (lambda: Index(stale_seconds=0), InvalidRules, "stale_seconds is 0"),
        (lambda: Index(half_life_seconds=float("nan")), InvalidRules, "half_life_seconds is nan"),
        (lambda: RoutingRequest(), InvalidAsk, "neither an adapter nor a base model"),
        (lambda: ask("a", "a"), InvalidAsk, "twice"),
        (lambda: a_pod("p9", host_slots=-1), InvalidEndpoint, "'p9' has host_slots -1"),
        (lambda: a_pod("p9", gpu_slots=-1), InvalidEndpoint, "gpu_slots -1"),
        (lambda: a_pod("p9", evictable=-2), InvalidEndpoint, "evictable -2"),
        (lambda: EngineLoad(float("nan")), InvalidEndpoint, "taken at nan"),
        (lambda: EngineLoad(0.0, running=-1), InvalidEndpoint, "running is -1"),
        (lambda: EngineLoad(0.0, kv_cache_usage=float("inf")), InvalidEndpoint, "kv_cache_usage is inf"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_what_to_do(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()
