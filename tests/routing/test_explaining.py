"""Explanations: every pod that holds some of it, the best first, term by term."""

from __future__ import annotations

from lora_scheduler.routing import RoutingRequest, Score, Weights, explain
from tests.routing.fleets import a_pod, an_index, ask, busy


def test_candidates_are_those_that_hold_any_of_it_and_those_that_hold_all_come_first() -> None:
    index = an_index(a_pod("p1", "a"), a_pod("p2", "a", "b"), a_pod("p3", "c"), a_pod("p4", "b", load=busy(4)))
    found = explain(index, ask("a", "b", shared=frozenset({"b"}), cached={"p1": 0.5}), now=0.0)
    assert [(one.endpoint.pod, one.missing) for one in found] == [("p2", ()), ("p1", ("b",)), ("p4", ("a",))]
    assert found[0].score == Score(10.0, 5.0, 1.0, 0.0, -10.0)  # of its load nothing is known: it counts as the mean
    assert found[1].score.prefix == 2.5
    assert found[2].load == 4.0
    assert [one.endpoint.pod for one in explain(index, ask("a"), now=0.0, most=1)] == ["p1"]


def test_weights_are_those_given_and_avoided_pods_are_left_out() -> None:
    index = an_index(a_pod("p1", "a"), a_pod("p2", "a"))
    (one,) = explain(index, ask("a", avoid=frozenset({"p1"})), now=0.0, weights=Weights(own_resident=3.0))
    assert (one.endpoint.pod, one.score.total) == ("p2", 4.0)


def test_what_nobody_knows_or_serves_has_no_candidates() -> None:
    index = an_index(a_pod("p1", "a"))
    assert explain(index, ask("z"), now=0.0) == ()
    index.know("z", "mistral")
    assert explain(index, ask("z"), now=0.0) == ()
    assert [one.endpoint.pod for one in explain(index, RoutingRequest(base_model="llama"), now=0.0)] == ["p1"]
