"""A holder where the prompt's beginning is cached is preferred, within the bound of load."""

from __future__ import annotations

from tests.routing.fleets import a_pod, an_index, ask, busy, picked


def test_the_default_prefers_a_holder_where_the_prompt_is_cached_within_the_bound_of_load() -> None:
    pods = [a_pod(f"p{n}", "a", load=busy(4)) for n in range(4)]
    assert picked(an_index(*pods), ask("a", cached={"p3": 2.0})) == {"p3"}
    assert picked(an_index(*pods), ask("a", cached={"p3": 2.0, "p2": 3.0})) == {"p2"}
    assert picked(an_index(*pods), ask("a", cached={"p3": 2.0}, avoid=frozenset({"p3"}))) == {"p0", "p1", "p2"}
    assert picked(an_index(*pods), ask("a", cached={"p0": -3.0, "p1": -3.0, "p2": -3.0, "p3": 0.0})) == {"p3"}
    busier = [*pods[:3], a_pod("p3", "a", load=busy(8))]
    assert picked(an_index(*busier), ask("a", cached={"p3": 0.25})) <= {"p0", "p1", "p2"}  # not worth the wait
    assert picked(an_index(*busier), ask("a", cached={"p3": 2.0})) == {"p3"}
    flooded = [*pods[:3], a_pod("p3", "a", load=busy(40))]
    assert picked(an_index(*flooded), ask("a", cached={"p3": 100.0})) == {"p0", "p1", "p2"}
    crowded = [*pods[:3], a_pod("p3", "a", load=busy(4, "x", max_loras=1))]
    assert picked(an_index(*crowded), ask("a", cached={"p3": 2.0})) == {"p0", "p1", "p2"}


def test_no_cache_makes_a_pod_the_answer_that_does_not_hold_the_adapter() -> None:
    index = an_index(a_pod("p0", "a"), a_pod("p1", "b"))
    assert picked(index, ask("a", cached={"p1": 50.0, "gone": 50.0})) == {"p0"}
    assert picked(index, ask(base_model="llama", cached={"p1": 1.0})) == {"p0", "p1"}
