"""How many replicas, on which pods, which of them stay, and what is never touched."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lora_scheduler import LoadCause, Policy, Reason, ReplicaPolicy, Selector, UnloadCause
from tests.scheduler.builders import (
    GIB,
    LOADING,
    UNLOADING,
    a_foreigner,
    a_pod,
    a_replica,
    a_snapshot,
    an_adapter,
    holding,
    load_causes,
    loads,
    message_on,
    plan_for,
    reason_on,
    run,
    unload_causes,
    unloads,
    where,
)

ZONE = "topology.kubernetes.io/zone"
GOLD = Selector((("tier", "gold"),))


def in_zone(zone: str) -> dict[str, str]:
    return {ZONE: zone}


def test_places_each_replica_on_a_pod_of_its_own() -> None:
    made = plan_for(an_adapter(replicas=2), a_pod("p1"), a_pod("p2"), a_pod("p3"))
    assert len(made.assignments["a"]) == 2
    assert load_causes(made) == {LoadCause.MISSING}
    made = plan_for(an_adapter(replicas=3), a_pod("p1"), a_pod("p2"))
    assert made.assignments["a"] == ("p1", "p2") and made.missing == {"a": 1}


def test_nothing_changed_means_nothing_to_do() -> None:
    snapshot = a_snapshot(
        *(an_adapter(key, replicas=2, demand=d) for key, d in (("a", 5.0), ("b", None), ("c", 0.1))),
        *(a_pod(f"p{i}") for i in range(4)),
    )
    rested, plans = run(snapshot)
    assert len(plans) == 1
    skewed = replace(rested, adapters=tuple(replace(a, demand=99.0) for a in rested.adapters))
    assert run(skewed) == (skewed, [])


def test_a_lost_pod_moves_only_its_own_replicas() -> None:
    adapters = [an_adapter(f"a{i}", replicas=2) for i in range(6)]
    rested, _ = run(a_snapshot(*adapters, *(a_pod(f"p{i}", slots=6) for i in range(4))))
    before = {a.key: set(where(rested, a.key)) for a in adapters}
    smaller = replace(rested, pods=tuple(pod for pod in rested.pods if pod.key != "p0"))
    after, plans = run(smaller)
    assert len(plans) == 1 and not unloads(plans[0])
    assert len(loads(plans[0])) == sum("p0" in pods for pods in before.values())
    assert all(before[a.key] - {"p0"} <= set(where(after, a.key)) for a in adapters)


def test_an_added_pod_forces_no_move() -> None:
    rested, _ = run(a_snapshot(*(an_adapter(f"a{i}") for i in range(4)), a_pod("p1")))
    assert run(replace(rested, pods=(*rested.pods, a_pod("p2"))))[1] == []


def test_all_pods_means_every_pod_that_matches_and_names_those_without_room() -> None:
    made = plan_for(
        an_adapter(replica_policy=ReplicaPolicy.ALL_PODS, selector=GOLD),
        a_pod("p1", labels={"tier": "gold"}),
        a_pod("p2", labels={"tier": "gold"}, slots=1, residents=(a_foreigner(),)),
        a_pod("p3"),
        a_pod("p4", labels={"tier": "gold"}, max_rank=4),
        a_pod("p5", labels={"tier": "gold"}, ready=False),
    )
    assert made.assignments["a"] == ("p1",)
    assert made.missing == {"a": 2}
    assert reason_on(made, "p2") is Reason.NO_FREE_SLOT
    assert reason_on(made, "p4") is Reason.RANK_TOO_HIGH
    assert reason_on(made, "p5") is Reason.POD_NOT_READY


def test_all_pods_takes_in_a_new_pod_at_once() -> None:
    everywhere = an_adapter(replica_policy=ReplicaPolicy.ALL_PODS)
    assert loads(plan_for(everywhere, holding(a_pod("p1"), a_replica()), a_pod("p2"))) == [("a", "p2")]


def test_all_pods_is_complete_without_the_pods_that_are_not_ready() -> None:
    everywhere = an_adapter(replica_policy=ReplicaPolicy.ALL_PODS)
    made = plan_for(everywhere, holding(a_pod("p1"), a_replica()), a_pod("p2", ready=False))
    assert not made.missing and not made.actions
    assert plan_for(everywhere, a_pod("p1", ready=False)).missing == {"a": 1}


def test_auto_asks_for_replicas_within_the_maximum() -> None:
    pods = [a_pod(f"p{i}") for i in range(4)]
    auto = an_adapter(replica_policy=ReplicaPolicy.AUTO, replicas=3)
    assert len(plan_for(auto, *pods).assignments["a"]) == 3
    assert len(plan_for(replace(auto, max_replicas=2), *pods).assignments["a"]) == 2


@pytest.mark.parametrize("policy", ReplicaPolicy)
def test_no_replicas_unloads_everywhere(policy: ReplicaPolicy) -> None:
    idle = an_adapter(replicas=0, replica_policy=policy)
    made = plan_for(idle, holding(a_pod("p1"), a_replica()), a_pod("p2"))
    assert unloads(made) == [("a", "p1")] and unload_causes(made) == {UnloadCause.SURPLUS}
    assert not made.missing and not loads(made)


# --- which replicas go


def test_scaling_down_keeps_what_serves() -> None:
    made = plan_for(
        an_adapter(replicas=1),
        holding(a_pod("p1", ready=False, held=True), a_replica()),
        holding(a_pod("p2"), a_replica(state=LOADING)),
        holding(a_pod("p3"), a_replica()),
    )
    assert made.assignments["a"] == ("p3",)
    assert not made.actions  # nothing is sent to an unready pod, and a load that is under way is not raced


def test_a_surplus_replica_goes_when_it_has_arrived() -> None:
    snapshot = a_snapshot(
        an_adapter(replicas=1), holding(a_pod("p1"), a_replica()), holding(a_pod("p2"), a_replica(state=LOADING))
    )
    rested, plans = run(replace(snapshot, pods=tuple(replace(p, residents=(a_replica(),)) for p in snapshot.pods)))
    assert len(plans) == 1 and len(where(rested)) == 1


def test_scaling_down_takes_the_replica_that_hurts_spread() -> None:
    made = plan_for(
        an_adapter(replicas=2, topology_key=ZONE),
        holding(a_pod("p1", node_labels=in_zone("z1")), a_replica()),
        holding(a_pod("p2", node_labels=in_zone("z1")), a_replica()),
        holding(a_pod("p3", node_labels=in_zone("z2")), a_replica()),
    )
    assert "p3" in made.assignments["a"] and len(unloads(made)) == 1


def test_scaling_down_takes_the_replica_on_the_busiest_pod() -> None:
    busy = an_adapter("b", demand=50.0)
    made = plan_for(
        an_adapter(replicas=1),
        busy,
        holding(a_pod("p1"), a_replica()),
        holding(a_pod("p2"), a_replica(), a_replica(busy)),
    )
    assert unloads(made) == [("a", "p2")]


def test_surplus_replicas_wait_until_enough_others_serve() -> None:
    old = [holding(a_pod(f"p{i}"), a_replica(version="v0")) for i in (1, 2)]
    new = holding(a_pod("p3"), a_replica(state=LOADING))
    made = plan_for(an_adapter(replicas=1), *old, new)
    assert made.assignments["a"] == ("p3",)
    assert unloads(made) == [("a", "p2")]  # one old replica stays until the new one serves
    made = plan_for(an_adapter(replicas=1), old[0], holding(a_pod("p3"), a_replica()))
    assert unloads(made) == [("a", "p1")] and unload_causes(made) == {UnloadCause.SUPERSEDED}


# --- pods that changed


def test_a_blip_moves_nothing() -> None:
    made = plan_for(an_adapter(), holding(a_pod("p1", ready=False, held=True), a_replica()), a_pod("p2"))
    assert made.assignments["a"] == ("p1",) and not made.actions and not made.missing


@pytest.mark.parametrize("state", [{"ready": False}, {"draining": True}])
def test_replicas_on_a_pod_that_is_lost_or_going_are_made_elsewhere_at_once(state: dict[str, bool]) -> None:
    made = plan_for(an_adapter(), holding(a_pod("p1", **state), a_replica(), a_replica("nobody")), a_pod("p2"))
    assert loads(made) == [("a", "p2")] and not unloads(made)


def test_a_replica_that_can_never_be_allowed_there_goes_at_once() -> None:
    made = plan_for(an_adapter(selector=GOLD), holding(a_pod("p1"), a_replica()), a_pod("p2", labels={"tier": "gold"}))
    assert unloads(made) == [("a", "p1")] and unload_causes(made) == {UnloadCause.SURPLUS}
    assert loads(made) == [("a", "p2")]


def test_a_replica_above_a_lowered_rank_limit_serves_until_another_does() -> None:
    limited = holding(a_pod("p1", max_rank=4), a_replica())
    made = plan_for(an_adapter(), limited)
    assert not made.actions and made.missing == {"a": 1}
    assert message_on(made, "p1") == "rank 8 exceeds max_lora_rank 4"
    made = plan_for(an_adapter(), limited, a_pod("p2"))
    assert loads(made) == [("a", "p2")] and not unloads(made)
    made = plan_for(an_adapter(), limited, holding(a_pod("p2"), a_replica(state=LOADING)))
    assert not made.actions
    made = plan_for(an_adapter(), limited, holding(a_pod("p2"), a_replica()))
    assert unloads(made) == [("a", "p1")] and unload_causes(made) == {UnloadCause.SURPLUS}


def test_all_pods_gives_up_a_barred_replica_when_all_others_serve() -> None:
    everywhere = an_adapter(replica_policy=ReplicaPolicy.ALL_PODS)
    limited = holding(a_pod("p1", max_rank=4), a_replica())
    assert not unloads(plan_for(everywhere, limited, a_pod("p2")))
    assert unloads(plan_for(everywhere, limited, holding(a_pod("p2"), a_replica()))) == [("a", "p1")]


@pytest.mark.parametrize(
    ("reason", "stays"),
    [
        (Reason.LOAD_FAILED, True),
        (Reason.STALE_PREFIX_CACHE, True),
        (Reason.UNSUPPORTED_BY_ENGINE, False),
    ],
)
def test_an_exclusion_about_loading_does_not_concern_a_replica_that_is_there(reason: Reason, stays: bool) -> None:
    pod = holding(a_pod("p1", excluded={"a": (reason, "so it is")}), a_replica())
    assert loads(plan_for(an_adapter(), pod, a_pod("p2"))) == ([] if stays else [("a", "p2")])


def test_a_pod_with_nonsensical_limits_keeps_what_it_has_and_gets_nothing() -> None:
    pod = holding(a_pod("p1", max_rank=0), a_replica(), a_replica("nobody"))
    made = plan_for(an_adapter(), an_adapter("b"), pod)
    assert unloads(made) == [("nobody", "p1")]
    assert made.assignments == {"a": ("p1",), "b": ()}
    assert reason_on(made, "p1", "b") is Reason.INVALID_POD_LIMITS


# --- residents that are nobody's, somebody else's, or twice there


@pytest.mark.parametrize("key", [None, "gone"])
def test_what_nobody_wants_is_unloaded(key: str | None) -> None:
    made = plan_for(holding(a_pod(), a_replica(adapter=key), a_replica("on-its-way", state=LOADING)))
    assert unloads(made) == [("a", "p1")] and unload_causes(made) == {UnloadCause.UNWANTED}
    assert not plan_for(holding(a_pod(), a_replica(adapter=key, state=UNLOADING))).actions


def test_foreign_residents_are_counted_and_never_touched() -> None:
    pod = holding(a_pod(slots=2, memory=4), a_foreigner(bytes=2 * GIB, adapter="a"))
    made = plan_for(an_adapter("b", bytes=2 * GIB), an_adapter("c"), pod)
    assert loads(made) == [("b", "p1")] and not unloads(made)
    assert message_on(made, "p1", "c") == "2 of 2 slots are taken"


def test_a_foreign_resident_that_is_leaving_is_waited_for() -> None:
    made = plan_for(an_adapter(), holding(a_pod(slots=1), a_foreigner(state=UNLOADING)))
    assert not made.actions and not made.missing
    load, refusal = made.waiting[0]
    assert (load.pod, refusal.reason) == ("p1", Reason.WAITING_FOR_ROOM)
    assert refusal.message == "1 of 1 slots are taken until others have left"


def test_a_second_resident_of_one_adapter_is_not_a_second_replica() -> None:
    pod = holding(a_pod(), a_replica(), a_replica(name="a--v1"))
    made = plan_for(an_adapter(), pod)
    assert unloads(made) == [("a--v1", "p1")] and unload_causes(made) == {UnloadCause.UNWANTED}
    assert loads(plan_for(an_adapter(replicas=2), pod, a_pod("p2"))) == [("a", "p2")]
    one_serves = holding(a_pod(), a_replica(state=LOADING), a_replica(name="a--v1"))
    assert not plan_for(an_adapter(), one_serves).actions


def test_what_is_loading_is_not_loaded_twice_and_what_is_leaving_is_no_replica() -> None:
    assert not plan_for(an_adapter(), holding(a_pod(), a_replica(state=LOADING))).actions
    made = plan_for(an_adapter(), holding(a_pod(), a_replica(state=UNLOADING)))
    assert not made.actions and not made.missing
    assert made.waiting[0][1].message == "a resident called 'a', or an older version, has to leave first"
    assert loads(plan_for(an_adapter(), holding(a_pod("p1"), a_replica(state=UNLOADING)), a_pod("p2"))) == [("a", "p2")]


def test_residents_that_are_leaving_hold_their_room() -> None:
    leaving = a_replica("x", bytes=3 * GIB, state=UNLOADING)
    made = plan_for(an_adapter(bytes=2 * GIB), holding(a_pod(memory=4), leaving))
    assert not made.actions and made.assignments["a"] == ("p1",)
    assert made.waiting[0][1].message == "needs 2.0 GiB, 1.0 GiB of 4.0 GiB is free until others have left"


def test_loads_of_one_plan_fit_beside_each_other_before_anything_has_left() -> None:
    leaving = a_replica("x", bytes=2 * GIB, state=UNLOADING)
    first, second = (an_adapter(key, bytes=3 * GIB // 2) for key in "ab")
    made = plan_for(first, second, holding(a_pod(memory=4), leaving))
    assert made.assignments == {"a": ("p1",), "b": ("p1",)}
    assert loads(made) == [("a", "p1")] and [load.adapter for load, _ in made.waiting] == ["b"]
    made = plan_for(first, second, holding(a_pod(slots=2), leaving))
    assert loads(made) == [("a", "p1")] and [load.adapter for load, _ in made.waiting] == ["b"]


# --- over a limit


def test_a_pod_over_its_slots_gives_up_the_lowest_priority_and_moves_it() -> None:
    low, high = an_adapter("low"), an_adapter("high", priority=5)
    made = plan_for(low, high, holding(a_pod("p1", slots=1), a_replica(low), a_replica(high)), a_pod("p2"))
    assert unloads(made) == [("low", "p1")] and unload_causes(made) == {UnloadCause.SURPLUS}
    assert loads(made) == [("low", "p2")]


def test_a_pod_over_its_memory_gives_up_as_few_as_it_can() -> None:
    sizes = {"a": 1, "b": 3, "c": 1}
    adapters = [an_adapter(key, bytes=n * GIB) for key, n in sizes.items()]
    made = plan_for(*adapters, holding(a_pod(memory=2), *(a_replica(a) for a in adapters)))
    assert unloads(made) == [("b", "p1")]
    assert message_on(made, "p1", "b") == "needs 3.0 GiB, the pod's whole budget is 2.0 GiB"


def test_what_others_put_over_a_limit_costs_us_nothing_if_that_would_not_help() -> None:
    pod = holding(a_pod(slots=1), a_replica(), a_foreigner("x"), a_foreigner("y"))
    made = plan_for(an_adapter(), an_adapter("b"), pod)
    assert not made.actions and message_on(made, "p1", "b") == "3 of 1 slots are taken"


# --- where replicas go


def test_replicas_are_spread_over_zones() -> None:
    pods = [a_pod(f"p{i}", node=f"n{i}", node_labels=in_zone(f"z{i % 3}")) for i in range(9)]
    made = plan_for(an_adapter(replicas=6, topology_key=ZONE), *pods)
    zones = [int(pod[1:]) % 3 for pod in made.assignments["a"]]
    assert sorted(zones) == [0, 0, 1, 1, 2, 2]


def test_replicas_are_spread_over_nodes() -> None:
    pods = [a_pod(f"p{i}", node=f"n{i // 2}") for i in range(6)]
    made = plan_for(an_adapter(replicas=3), *pods)
    assert len({int(pod[1:]) // 2 for pod in made.assignments["a"]}) == 3


def test_expected_load_is_balanced() -> None:
    adapters = [an_adapter(f"a{i:02}", demand=d) for i, d in enumerate((8, 7, 6, 5, 4, 3, 2, 1))]
    made = plan_for(*adapters, a_pod("p1", slots=9), a_pod("p2", slots=9))
    load = {"p1": 0.0, "p2": 0.0}
    for adapter in adapters:
        load[made.assignments[adapter.key][0]] += adapter.demand or 0
    assert abs(load["p1"] - load["p2"]) <= 2


def test_memory_per_free_slot_is_kept_even() -> None:
    large = [an_adapter(f"l{i}", bytes=3 * GIB) for i in range(2)]
    small = [an_adapter(f"s{i}", bytes=GIB) for i in range(2)]
    made = plan_for(*large, *small, a_pod("p1", slots=2, memory=4), a_pod("p2", slots=2, memory=4))
    assert not made.missing


def test_small_adapters_go_where_slots_have_little_memory_and_large_ones_where_they_have_much() -> None:
    roomy, tight = a_pod("p1", slots=4, memory=8), a_pod("p2", slots=4, memory=2)
    for key in "abcdef":
        assert plan_for(an_adapter(key, bytes=GIB // 2), roomy, tight).assignments[key] == ("p2",)
        assert plan_for(an_adapter(key, bytes=2 * GIB), roomy, tight).assignments[key] == ("p1",)


def test_replicas_are_kept_off_one_node_whatever_the_topology_key() -> None:
    pods = [a_pod(f"p{i}", node=f"n{i // 4}") for i in range(8)]
    for key in "abcdef":
        made = plan_for(an_adapter(key, replicas=2, topology_key="rack"), *pods)
        assert len({int(pod[1:]) // 4 for pod in made.assignments[key]}) == 2


def test_a_small_rank_goes_where_little_is_wasted() -> None:
    made = plan_for(an_adapter(rank=8), a_pod("p1", max_rank=64), a_pod("p2", max_rank=8))
    assert made.assignments["a"] == ("p2",)


def test_a_replica_comes_back_to_the_pod_that_had_it() -> None:
    pods = [a_pod(f"p{i}") for i in range(5)]
    for previous in ("p0", "p3"):
        made = plan_for(an_adapter(previous_pods=frozenset({previous})), *pods)
        assert made.assignments["a"] == (previous,)


def test_binpack_fills_pods_and_spread_does_not() -> None:
    adapters = [an_adapter(f"a{i}") for i in range(4)]
    pods = [a_pod(f"p{i}", slots=4, memory=9) for i in range(4)]
    packed = plan_for(*adapters, *pods, policy=Policy("binpack"))
    assert len({pod for _, pod in loads(packed)}) == 1
    spread = plan_for(*adapters, *pods, policy=Policy("spread"))
    assert len({pod for _, pod in loads(spread)}) == 4


def test_spread_keeps_replicas_apart_in_every_way() -> None:
    pods = [a_pod(f"p{i}", node=f"n{i // 2}", node_labels=in_zone(f"z{i // 4}")) for i in range(8)]
    for key in "abcdef":
        for replicas in (2, 4):
            adapter = an_adapter(key, replicas=replicas, topology_key="rack")
            chosen = [int(p[1:]) for p in plan_for(adapter, *pods, policy=Policy("spread")).assignments[key]]
            assert sum(pod // 4 for pod in chosen) == replicas / 2  # half of them in each zone
            assert len({pod // 2 for pod in chosen}) == replicas


def test_what_starts_now_is_preferred_to_what_has_to_wait() -> None:
    waiting = holding(a_pod("p1", slots=1), a_replica("x", state=UNLOADING))
    busy = holding(a_pod("p2"), a_replica(an_adapter("b")))
    assert loads(plan_for(an_adapter(), an_adapter("b"), waiting, busy)) == [("a", "p2")]
