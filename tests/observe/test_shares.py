"""Who asked for what, told from pages that count requests without saying whose they were."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lora_operator.engines.shares import BASE, Shares
from lora_operator.vllm.metrics import EngineMetrics, Moment
from tests.observe.busy_engine import EPOCH, pages

SKEWED = {"hot": 0.6, "warm": 0.3, "cold": 0.1}


def a_page(finished: float = 0.0, *moments: tuple[float, str], running: int = 0) -> EngineMetrics:
    """`moments`: seconds, and the adapters of the set without spaces between."""
    told = tuple(Moment(EPOCH + at, frozenset(names.split())) for at, names in moments)
    newest = max(told, key=lambda moment: moment.at, default=Moment(0, frozenset()))
    return EngineMetrics(
        requests_running=running,
        requests_waiting=0,
        active_adapters=newest.adapters,
        requests_finished=finished,
        moments=told,
    )


def divided(rates: dict[str, float], stay: float, seconds: float = 1200.0) -> dict[str, float]:
    """Each adapter's part of what was finished in the second half."""
    shares, totals = Shares(60.0), dict.fromkeys([*rates, BASE], 0.0)
    for now, page, _ in pages(rates, stay, 10.0, seconds):
        for name, count in (shares.look(page, now) or {}).items():
            totals[name] += count if now > seconds / 2 else 0.0
    whole = sum(totals.values())
    return {name: count / whole for name, count in totals.items()}


def test_the_first_look_tells_nothing_as_nobody_knows_since_when_it_was_counted() -> None:
    assert Shares(60.0).look(a_page(1000.0, (1, "a")), 100.0) is None


def test_an_adapter_alone_gets_all() -> None:
    shares = Shares(60.0)
    shares.look(a_page(), 0.0)
    assert shares.look(a_page(3.0, (2, "a"), (2.1, "")), 10.0) == {"a": 3.0}


def test_what_was_busy_before_the_look_before_gets_nothing() -> None:
    shares = Shares(60.0)
    shares.look(a_page(5.0, (2, "old"), (2.1, "")), 10.0)
    assert shares.look(a_page(6.0, (2, "old"), (12, "a"), (12.1, "")), 20.0) == {"a": 1.0}


def test_requests_without_any_adapter_are_the_base_models() -> None:
    shares = Shares(60.0)
    shares.look(a_page(), 0.0)
    assert shares.look(a_page(7.0, (5, "")), 10.0) == {BASE: 7.0}


def test_a_quiet_engine_finishes_nothing_for_anybody() -> None:
    shares = Shares(60.0)
    shares.look(a_page(5.0, (2, "a"), (2.1, "")), 10.0)
    assert sum((shares.look(a_page(5.0, (2, "a"), (2.1, "")), 20.0) or {}).values()) == 0.0


def test_a_counter_that_began_anew_counts_from_zero() -> None:
    shares = Shares(60.0)
    shares.look(a_page(500.0), 0.0)
    assert shares.look(a_page(4.0, (2, "a"), (2.1, "")), 10.0) == {"a": 4.0}


def test_two_engine_names_are_kept_apart() -> None:
    shares = Shares(60.0)
    shares.look(a_page(), 0.0)
    told = shares.look(a_page(2.0, (3, "sql--1234"), (6, "sql"), (6.1, "")), 10.0)
    assert told is not None and set(told) == {"sql--1234", "sql"}


@pytest.mark.parametrize(
    ("total", "stay"), [(0.5, 0.1), (3.0, 0.1), (3.0, 1.0), (3.0, 3.0), (30.0, 0.1)], ids=lambda value: f"{value:g}"
)
def test_skewed_requests_are_told_apart_from_an_idle_to_a_busy_engine(total: float, stay: float) -> None:
    parts = divided({name: share * total for name, share in SKEWED.items()}, stay)
    assert sum(abs(parts[name] - share) for name, share in SKEWED.items()) / 2 < 0.15, parts
    assert parts["hot"] > parts["warm"] > parts["cold"]


def test_an_engine_where_all_are_always_busy_gives_each_the_same() -> None:
    parts = divided({"hot": 40.0, "warm": 20.0}, 1.0, 600.0)
    assert parts["hot"] == pytest.approx(0.5, abs=0.05)


def test_what_no_look_misses_has_what_the_rare_ones_leave() -> None:
    parts = divided({"hot": 10.0, "rare": 0.4}, 1.0)
    assert parts["rare"] < 0.1


def test_requests_to_the_base_model_are_noticed_where_they_are_many() -> None:
    parts = divided({"a": 1.0, BASE: 3.0}, 1.0)
    assert 0.3 < parts[BASE] < 0.9


@example([(5e-324, 0.0, 1, [(0.0, "a")])])
@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 50.0),
            st.floats(0.0, 1e6),
            st.integers(0, 100),
            st.lists(st.tuples(st.floats(0.0, 1e9), st.sampled_from(["", "a", "a b", "c"])), max_size=4),
        ),
        max_size=12,
    )
)
def test_whatever_an_engine_says_all_that_finished_is_given_out_once(
    looks: list[tuple[float, float, int, list[tuple[float, str]]]],
) -> None:
    shares, now, before = Shares(10.0), 0.0, None
    for pause, finished, running, moments in looks:
        now += pause
        told = shares.look(a_page(finished, *moments, running=running), now)
        if told is not None and before is not None:
            expected = finished - before if finished >= before else finished
            assert sum(told.values()) == pytest.approx(expected, abs=1e-6)
            assert all(count >= 0 for count in told.values())
        before = finished
