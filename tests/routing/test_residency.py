"""Where a request may go at all: what holds for every policy."""

from __future__ import annotations

import random

import pytest

from lora_scheduler.routing import Holding, NotLoaded, Picked, RoutingRequest, Unknown, pick
from tests.routing.fleets import (
    DRAINING,
    LOADING,
    POLICY_NAMES,
    UNREADY,
    WITHDRAWN,
    a_pod,
    an_index,
    answers,
    ask,
    busy,
    picked,
)

every_policy = pytest.mark.parametrize("policy", POLICY_NAMES)


@every_policy
def test_only_pods_that_hold_the_adapter_are_picked(policy: str) -> None:
    index = an_index(a_pod("p1", "a", load=busy(90, "a")), a_pod("p2", "b"), a_pod("p3", "a"), a_pod("p4"))
    assert picked(index, "a", policy) <= {"p1", "p3"}


@every_policy
def test_a_pick_tells_the_engines_name_of_the_adapter(policy: str) -> None:
    index = an_index(a_pod("p1", Holding("a", "a--v2")))
    (answer,) = answers(index, "a", policy, times=1)
    assert isinstance(answer, Picked)
    assert (answer.endpoint.address, answer.names, answer.warm) == ("p1:8000", {"a": "a--v2"}, True)


@every_policy
@pytest.mark.parametrize("state", [DRAINING, UNREADY])
def test_a_pod_that_is_going_or_not_ready_is_never_picked(policy: str, state: object) -> None:
    index = an_index(a_pod("p1", "a", state=state), a_pod("p2", "a", load=busy(50)))
    assert picked(index, "a", policy) == {"p2"}
    assert picked(index, ask("a", may_load=True), policy) == {"p2"}


@every_policy
def test_a_withdrawn_replica_is_never_picked_and_still_takes_its_slot(policy: str) -> None:
    index = an_index(a_pod("p1", Holding("a", "a", WITHDRAWN), host_slots=1), a_pod("p2", host_slots=0), known=["a"])
    assert set(answers(index, "a", policy)) == {NotLoaded(("a",), "llama")}
    assert set(answers(index, ask("a", may_load=True), policy)) == {NotLoaded(("a",), "llama")}


@every_policy
def test_an_adapter_that_is_nowhere_is_loadable_where_there_is_room(policy: str) -> None:
    pods = (
        a_pod("p1", "b", host_slots=1),
        a_pod("p2", load=busy(9)),
        a_pod("p3", load=busy(1)),
        a_pod("p4", Holding("a", "a", LOADING), load=busy(0)),
        a_pod("p5", base_model="mistral"),
    )
    index = an_index(*pods, known=["a"])
    expected = NotLoaded(("a",), "llama", loading=("p4",), loadable=("p3", "p2"))
    assert answers(index, "a", policy, times=1) == [expected]


@every_policy
def test_a_full_pod_that_may_unload_something_is_loadable_when_no_slot_is_free(policy: str) -> None:
    full, other = a_pod("p1", "b", host_slots=1, evictable=1), a_pod("p2", "c", host_slots=1)
    assert answers(an_index(full, other, known=["a"]), "a", policy, times=1) == [
        NotLoaded(("a",), "llama", loadable=("p1",))
    ]
    (answer,) = answers(an_index(full, known=["a"]), ask("a", may_load=True), policy, times=1)
    assert isinstance(answer, Picked)
    assert (answer.endpoint.pod, answer.missing, answer.warm, answer.names) == ("p1", ("a",), False, {})


@every_policy
def test_a_load_on_its_way_is_joined_rather_than_another_begun(policy: str) -> None:
    index = an_index(a_pod("p1", Holding("a", "a", LOADING), load=busy(5)), a_pod("p2", host_slots=0))
    assert picked(index, ask("a", may_load=True), policy) == {"p1"}


@every_policy
def test_a_name_that_nobody_has_heard_of_is_unknown(policy: str) -> None:
    index = an_index(a_pod("p1", "a"))
    assert answers(index, ask("a", "x", "y"), policy, times=1) == [Unknown(("x", "y"))]
    assert answers(index, RoutingRequest(base_model="gpt"), policy, times=1) == [Unknown(("gpt",))]


def test_an_adapter_is_known_from_its_announcement_until_it_is_forgotten_and_gone() -> None:
    index = an_index(a_pod("p1", "b"), known=["a"])
    index.forget("a")
    index.forget("never there")
    assert answers(index, "a", times=1) == [Unknown(("a",))]
    index.know("b", "llama")
    index.forget("b")
    assert picked(index, "b") == {"p1"}
    index.remove("p1", now=0.0)
    assert answers(index, "b", times=1) == [Unknown(("b",))]


def test_a_known_adapter_of_a_base_model_without_pods_is_not_loaded() -> None:
    index = an_index()
    index.know("a", "llama")
    assert answers(index, "a", times=1) == [NotLoaded(("a",), "llama")]


@every_policy
def test_the_base_model_is_served_by_all_its_pods(policy: str) -> None:
    index = an_index(a_pod("p1", "a"), a_pod("p2"), a_pod("p3", state=DRAINING), a_pod("p4", base_model="mistral"))
    assert picked(index, RoutingRequest(base_model="llama"), policy) == {"p1", "p2"}
    index.put(a_pod("p1", state=DRAINING), now=0.0)
    index.put(a_pod("p2", state=DRAINING), now=0.0)
    assert answers(index, RoutingRequest(base_model="llama"), policy, times=1) == [NotLoaded((), "llama")]


@every_policy
@pytest.mark.parametrize("may_load", [False, True])
def test_a_request_can_avoid_pods_and_stay_among_others(policy: str, may_load: bool) -> None:
    index = an_index(*(a_pod(f"p{n}", "a") for n in range(4)))
    wanted = ask("a", avoid=frozenset({"p0"}), among=frozenset({"p0", "p1"}), may_load=may_load)
    assert picked(index, wanted, policy) == {"p1"}
    nobody = ask("a", among=frozenset(), may_load=may_load)
    assert answers(index, nobody, policy, times=1) == [NotLoaded(("a",), "llama")]


@every_policy
def test_several_adapters_go_to_a_pod_that_holds_them_all_if_there_is_one(policy: str) -> None:
    pods = [a_pod(f"p{n}", "a") for n in range(6)] + [a_pod(f"q{n}", "b") for n in range(6)]
    index = an_index(*pods, a_pod("both", "a", "b", load=busy(40)))
    assert picked(index, ask("a", "b"), policy) == {"both"}
    index.remove("both", now=0.0)
    (answer,) = answers(index, ask("a", "b"), policy, times=1)
    assert isinstance(answer, NotLoaded)
    assert answer.adapters == ("a", "b")
    assert answer.loadable


@every_policy
def test_several_adapters_are_loaded_only_where_all_of_them_fit(policy: str) -> None:
    index = an_index(a_pod("p1", "a", host_slots=1), a_pod("p2", "a", host_slots=2), a_pod("p3", "b", host_slots=2))
    index.know("c", "llama")
    answer = pick(index, ask("a", "c", may_load=True), now=0.0, chance=random.Random(3))
    assert isinstance(answer, Picked)
    assert (answer.endpoint.pod, answer.missing) == ("p2", ("c",))


def test_of_two_versions_on_a_pod_the_one_that_serves_is_picked() -> None:
    index = an_index(
        a_pod("p1", Holding("a", "a--v1", WITHDRAWN), Holding("a", "a--v2"), Holding("a", "a--v3", LOADING))
    )
    (answer,) = answers(index, "a", times=1)
    assert isinstance(answer, Picked)
    assert answer.names == {"a": "a--v2"}
    assert list(index.loading("a")) == []
    assert [endpoint.pod for endpoint in index.pods_of("a")] == ["p1"]
