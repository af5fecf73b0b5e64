"""How a lasting planner is used, and what it does when it is used wrongly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lora_scheduler import (
    InvalidPolicy,
    InvalidSnapshot,
    Planner,
    Policy,
    Reason,
    ReplicaPolicy,
    Requirement,
    Selector,
    Snapshot,
    UnknownAdapter,
    explain,
    get_adapter_status,
    plan,
)
from lora_scheduler.allotment import NOTHING
from lora_scheduler.filters import DECLARED, first_refusal
from lora_scheduler.fleet import Change, Fleet
from lora_scheduler.groups import selects
from lora_scheduler.ledger import PodLedger
from tests.scheduler.builders import LOADING, a_pod, a_replica, a_snapshot, an_adapter, holding, loads

LACKING = a_snapshot(an_adapter("a"), an_adapter("b"), a_pod(slots=1))


def a_fleet(snapshot: Snapshot) -> Fleet:
    fleet = Fleet(Policy().hot_share)
    fleet.apply(Change(snapshot.adapters, snapshot.pods))
    return fleet


def test_says_what_it_takes_for_the_present() -> None:
    planner = Planner(Policy("spread"))
    planner.update(adapters=[an_adapter("a")], pods=[a_pod("p1")])
    planner.update(adapters=[an_adapter("b")], removed_pods=["p1"])
    assert planner.snapshot == a_snapshot(an_adapter("a"), an_adapter("b"))
    assert planner.policy == Policy("spread")


def test_a_policy_that_does_not_exist_is_refused_at_once() -> None:
    with pytest.raises(InvalidPolicy, match="'best'"):
        Planner(Policy("best"))


def test_reasons_of_a_plan_stay_those_of_its_own_round() -> None:
    planner = Planner()
    first = planner.plan(LACKING)
    expected = dict(plan(LACKING).refusals)
    second = planner.update(pods=[a_pod(slots=2)])
    third = planner.update(pods=[a_pod(slots=0)])
    assert not second.refusals
    assert first.refusals == expected
    assert first.refusals["b"][0].reason is Reason.NO_FREE_SLOT
    assert third.refusals["b"][0].reason is Reason.INVALID_POD_LIMITS


def test_reasons_that_were_asked_for_in_time_are_kept() -> None:
    planner = Planner()
    first = planner.plan(LACKING)
    before = first.refusals["b"]
    planner.update(removed_pods=["p1"])
    assert first.refusals["b"] is before


def test_reasons_look_like_the_mapping_that_they_are() -> None:
    refusals = plan(LACKING).refusals
    assert repr(refusals) == repr(dict(refusals))
    assert "a" not in refusals
    with pytest.raises(KeyError):
        refusals["a"]


def test_a_plan_does_not_change_when_the_next_one_is_made() -> None:
    planner = Planner()
    first = planner.plan(LACKING)
    expected = plan(LACKING)
    planner.update(removed_pods=["p1"])
    assert first == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"removed_adapters": ["c"]}, "adapter 'c' cannot be removed: it is not known"),
        ({"removed_pods": ["p9"]}, "pod 'p9' cannot be removed: it is not known"),
        ({"adapters": [an_adapter("a")], "removed_adapters": ["a"]}, "adapter 'a' .* changed by the same update"),
        ({"pods": [a_pod("p2"), a_pod("p2")]}, "pod 'p2' is in the snapshot twice"),
        ({"adapters": [an_adapter("c", bytes=-1)]}, "adapter 'c' has bytes -1"),
    ],
)
def test_nothing_of_a_wrong_change_is_taken_in(change: dict[str, list[object]], message: str) -> None:
    planner = Planner()
    planner.plan(LACKING)
    with pytest.raises(InvalidSnapshot, match=message):
        planner.update(**change)  # type: ignore[arg-type]
    assert planner.snapshot == LACKING
    assert planner.update() == plan(LACKING)


def test_nothing_of_a_snapshot_that_contradicts_itself_is_taken_in() -> None:
    planner = Planner()
    planner.plan(LACKING)
    for wrong in (a_snapshot(an_adapter(), an_adapter()), a_snapshot(a_pod(), a_pod())):
        with pytest.raises(InvalidSnapshot, match="twice"):
            planner.plan(wrong)
    assert planner.update() == plan(LACKING)


def test_begins_from_scratch_after_something_broke_a_round() -> None:
    planner = Planner()
    planner.plan(LACKING)
    odd = an_adapter("odd", previous_pods=7)
    with pytest.raises(TypeError):
        planner.update(adapters=[odd], pods=[a_pod(slots=9)])
    with pytest.raises(TypeError):
        planner.update(adapters=[an_adapter("c")])
    made = planner.update(removed_adapters=["odd"])
    assert loads(made) == [("a", "p1"), ("b", "p1"), ("c", "p1")]


def test_an_update_that_says_nothing_new_gives_the_plan_that_was_made() -> None:
    planner = Planner()
    made = planner.plan(a_snapshot(an_adapter("a"), a_pod()))
    assert planner.update(pods=[a_pod()], adapters=[an_adapter("a")]) is made
    assert planner.update(pods=[a_pod(slots=1)], adapters=[an_adapter("a")]) is not made


def test_a_planner_explains_and_tells_status_as_a_plan_from_scratch_does() -> None:
    adapters = [an_adapter("a", replicas=2, version="v2"), an_adapter("b", replicas=3), an_adapter("c", rank=64)]
    pods = [holding(a_pod("p1", slots=2), a_replica("a"), a_replica("b", state=LOADING)), a_pod("p2", slots=1)]
    snapshot = a_snapshot(*adapters, *pods)
    planner = Planner()
    with pytest.raises(UnknownAdapter, match="adapter 'a' is not in what was planned last"):
        planner.explain("a")
    planner.plan(snapshot)
    for adapter in adapters:
        assert planner.explain(adapter.key) == explain(adapter.key, snapshot)
        assert planner.get_adapter_status(adapter.key) == get_adapter_status(adapter.key, snapshot)
    with pytest.raises(UnknownAdapter, match="'nobody'"):
        planner.get_adapter_status("nobody")


def test_an_event_concerns_only_those_who_have_to_do_with_it() -> None:
    adapters = [an_adapter(key) for key in "abcdef"]
    pods = [
        holding(a_pod(f"p{n}"), a_replica(a), a_replica(b)) for n, (a, b) in enumerate(zip("ace", "bdf", strict=True))
    ]
    fleet = a_fleet(a_snapshot(*adapters, *pods))
    assert not fleet.active
    assert not fleet.apply(Change(pods=[pods[0]]))
    assert fleet.apply(Change(pods=[replace(pods[0], residents=(a_replica("a"),))])) == ["b"]
    assert [one.adapter.key for one in fleet.waiting] == ["b"]
    assert sorted(fleet.apply(Change(pods=[replace(pods[1], ready=False)]))) == ["c", "d"]
    assert not fleet.active and sorted(one.adapter.key for one in fleet.waiting) == ["b", "c", "d"]


def test_replicas_on_every_pod_share_the_demand_anew_when_a_pod_goes() -> None:
    adapter = an_adapter(replica_policy=ReplicaPolicy.ALL_PODS, demand=6.0)
    pods = [holding(a_pod(f"p{n}"), a_replica()) for n in range(3)]
    fleet = a_fleet(a_snapshot(adapter, *pods))
    fleet.apply(Change(removed_pods=["p1"]))
    assert not fleet.active
    assert [(ledger.key, ledger.load) for ledger in fleet.pods] == [("p0", 3.0), ("p2", 3.0)]


def test_replicas_that_follow_demand_follow_that_of_all_others_too() -> None:
    hot = an_adapter("hot", replica_policy=ReplicaPolicy.AUTO, demand=1.0)
    pods = [holding(a_pod(f"p{n}"), a_replica("hot" if n < 2 else "other")) for n in range(4)]
    fleet = a_fleet(a_snapshot(hot, an_adapter("other", replicas=2, demand=3.0), *pods))
    assert not fleet.active
    fleet.apply(Change(adapters=[an_adapter("other", replicas=2, demand=15.0)]))
    assert [(allotment.adapter.key, allotment.wanted) for allotment in fleet.active] == [("hot", 1)]


def test_groups_that_nobody_belongs_to_any_more_are_forgotten() -> None:
    planner = Planner()
    for number in range(3):
        selector = Selector((("tier", str(number)),))
        planner.update(adapters=[an_adapter(selector=selector)], pods=[a_pod(labels={"tier": str(number)})])
        assert loads(planner.update()) == [("a", "p1")]
    (groups,) = planner._last.fleet._groups._by_model.values()  # type: ignore[union-attr]
    assert len(groups) == 1


def test_base_models_that_nobody_is_for_any_more_are_forgotten() -> None:
    planner = Planner()
    for model in ("x", "y", "z"):
        planner.update(adapters=[an_adapter(base_model=model, demand=1.0)], pods=[a_pod(base_model=model)])
    planner.update(removed_adapters={"a"}, removed_pods={"p1"})
    fleet = planner._last.fleet  # type: ignore[union-attr]
    assert not (fleet._groups._by_model or fleet._groups._pods or fleet._followed._demand or fleet._followed._sizes)


def test_the_quick_question_after_groups_is_answered_as_the_one_with_reasons() -> None:
    selectors = (Selector(), Selector((("a", "1"),)), Selector((), (Requirement("a", "Exists"),)))
    for selector in selectors:
        for namespace in ("", "red", "blue"):
            for pod in (a_pod(namespace="red", labels={"a": "1"}), a_pod(labels={"a": "2"}), a_pod(namespace="blue")):
                adapter = an_adapter(namespace=namespace, selector=selector)
                quick = selects(namespace, selector, pod)
                assert quick is (first_refusal(DECLARED, adapter, PodLedger(pod)) is None)


def test_a_name_on_a_pod_belongs_to_the_least_key_of_those_that_have_it() -> None:
    adapters = [an_adapter(key, name="same", version=f"v-{key}") for key in "cab"]
    residents = [a_replica(adapter, name=f"same--{adapter.version}") for adapter in adapters]
    pod = holding(a_pod(side_by_side=frozenset("abc")), *residents)
    fleet = a_fleet(a_snapshot(*adapters, pod))
    (ledger,) = fleet.pods
    for key, heir in (("b", "a"), ("a", "c"), ("c", None)):
        fleet.allotments[key].withdraw()
        assert ledger.names.get("same") == heir


def test_what_all_accounts_share_cannot_be_written_to() -> None:
    with pytest.raises(TypeError, match="'p1' cannot be put"):
        NOTHING["p1"] = 1


def test_a_demand_beyond_all_reason_breaks_nothing() -> None:
    made = Planner().plan(a_snapshot(an_adapter(demand=1e300), a_pod()))
    assert loads(made) == [("a", "p1")]
