"""When an engine that does not answer is suspected, and when it is down."""

from __future__ import annotations

import pytest

from lora_operator.engines.liveness import EngineView, Thresholds, answered, assumed, missed
from lora_operator.vllm.engine_state import EngineState
from lora_operator.vllm.errors import (
    EngineError,
    EngineFailing,
    EngineTimeout,
    EngineUnauthorized,
    EngineUnreachable,
    ModelListTooLong,
)
from tests.core.builders import a_pod, an_engine, ours

THRESHOLDS = Thresholds(3, 10.0)
SILENT = EngineTimeout("e", "GET /v1/models", 2.0)
REFUSED = EngineUnreachable("e", "connection refused", refused=True)
RESET = EngineUnreachable("e", "the connection broke", maybe_received=True)
FULL = an_engine(a_pod(), ours("sql"))


def after(view: EngineView, *misses: tuple[float, EngineError]) -> EngineView:
    for now, error in misses:
        view = missed(view, error, now, THRESHOLDS)
    return view


@pytest.mark.parametrize("error", [SILENT, RESET, EngineFailing("e", "GET /v1/models", 503, "busy")])
def test_an_engine_keeps_what_it_has_until_it_has_missed_enough_probes_for_long_enough(error: EngineError) -> None:
    suspect = after(FULL, (100.0, error))
    assert suspect.state is EngineState.SUSPECT and suspect.listed("sql") and suspect.keeps
    assert after(suspect, (105.0, error), (109.0, error)).state is EngineState.SUSPECT, "three misses, and too soon"
    assert after(suspect, (111.0, error)).state is EngineState.SUSPECT, "ten seconds, and two misses"
    down = after(suspect, (105.0, error), (111.0, error))
    assert down.state is EngineState.DOWN and down.since == 111.0 and not down.keeps
    assert down.listed("sql"), "it may come back with it"


def test_an_answer_begins_the_count_anew() -> None:
    back = answered(after(FULL, (100.0, SILENT), (105.0, SILENT)), "0.32.0", FULL.models, 106.0)
    assert (back.state, back.since, back.error) == (EngineState.UP, 106.0, "")
    assert after(back, (107.0, SILENT), (111.0, SILENT), (116.0, SILENT)).state is EngineState.SUSPECT


def test_one_refused_connection_may_be_an_accident_and_two_are_none() -> None:
    once = after(FULL, (100.0, REFUSED))
    assert once.state is EngineState.SUSPECT and once.listed("sql")
    twice = after(once, (100.1, REFUSED))
    assert twice.state is EngineState.STARTING and not twice.models and not twice.release
    between = after(once, (100.1, SILENT), (100.2, REFUSED))
    assert between.state is EngineState.SUSPECT
    assert after(FULL, (100.0, RESET), (100.1, REFUSED), (100.2, REFUSED)).state is EngineState.STARTING


def test_a_refusal_takes_nothing_while_it_is_not_known_whether_others_are_refused_as_well() -> None:
    once = missed(FULL, REFUSED, 100.0, THRESHOLDS, vouched=None)
    again = missed(once, REFUSED, 100.1, THRESHOLDS, vouched=None)
    assert again.state is EngineState.SUSPECT and again.listed("sql") and again.refusals == 2
    assert missed(again, REFUSED, 100.2, THRESHOLDS, vouched=False).state is EngineState.STARTING
    kept = missed(again, REFUSED, 200.0, THRESHOLDS, vouched=True)
    for now in (210.0, 220.0, 230.0):
        kept = missed(kept, REFUSED, now, THRESHOLDS, vouched=True)
    assert kept.state is EngineState.SUSPECT and kept.listed("sql") and not kept.refusals, "asked no faster than others"


def test_an_engine_with_nothing_to_lose_is_starting_at_the_first_refusal() -> None:
    assert after(an_engine(a_pod()), (100.0, REFUSED)).state is EngineState.STARTING


def test_an_engine_that_comes_up_slowly_is_starting_until_it_has_been_silent_for_long() -> None:
    starting = after(an_engine(a_pod(), state=EngineState.STARTING), *((t, REFUSED) for t in range(100, 200)))
    assert after(starting, (200.0, SILENT), (205.0, SILENT)).state is EngineState.STARTING
    assert after(starting, (200.0, SILENT), (205.0, SILENT), (210.0, SILENT)).state is EngineState.DOWN


def test_an_engine_that_was_never_heard_of_is_unknown_until_it_has_been_silent_for_long() -> None:
    view = EngineView("life", EngineState.UNKNOWN)
    assert after(view, (100.0, SILENT), (105.0, SILENT)).state is EngineState.UNKNOWN
    assert after(view, (100.0, SILENT), (105.0, SILENT), (110.0, SILENT)).state is EngineState.DOWN


def test_an_engine_that_says_no_clearly_is_not_waited_for() -> None:
    no = EngineUnauthorized("e", "wants an API key")
    assert after(EngineView("life"), (100.0, no)).state is EngineState.DOWN


def test_what_status_says_of_a_pod_counts_until_it_has_really_been_asked() -> None:
    view = assumed(a_pod(), [ours("sql")], 100.0)
    assert view.keeps and view.listed("sql") and not view.release
    assert after(view, (102.0, SILENT), (105.0, SILENT)).keeps
    assert after(view, (102.0, SILENT), (105.0, SILENT), (112.0, SILENT)).state is EngineState.DOWN
    assert after(view, (102.0, REFUSED), (102.1, REFUSED)).state is EngineState.STARTING


def test_an_engine_that_lists_too_much_goes_on_serving_what_it_has() -> None:
    long = ModelListTooLong("e", "5000 names")
    view = after(FULL, *((float(t), long) for t in range(100, 200)))
    assert view.state is EngineState.SUSPECT and view.reason == "ModelListTooLong" and view.listed("sql")
    assert after(EngineView("life"), (100.0, long)).state is EngineState.DOWN, "nothing is known of it"


def test_an_engine_that_listed_too_much_is_not_down_after_the_first_probe_that_it_misses() -> None:
    long = ModelListTooLong("e", "5000 names")
    view = after(FULL, *((float(t), long) for t in range(100, 200)), (200.0, SILENT))
    assert view.state is EngineState.SUSPECT
    assert after(view, (206.0, SILENT), (212.0, SILENT)).state is EngineState.DOWN


def test_an_engine_that_lists_too_much_keeps_what_status_says_when_a_new_operator_begins() -> None:
    long = ModelListTooLong("e", "5000 names")
    view = after(assumed(a_pod(), FULL.models, 0.0), *((float(t), long) for t in range(100, 200)))
    assert view.state is EngineState.SUSPECT and view.listed("sql")


def test_of_two_entries_with_one_name_the_first_counts() -> None:
    first, second = ours("sql"), ours("sql", "0" * 16)
    assert an_engine(a_pod(), first, second).listed("sql") is first
    assert an_engine(a_pod()).listed("sql") is None


def test_a_load_and_an_unload_change_what_is_listed_and_leave_the_view_before_as_it_was() -> None:
    before = an_engine(a_pod(), ours("sql"), ours("math"))
    newer, other = ours("sql", "0" * 16), ours("chat")
    after_loads = before.with_model(newer).with_model(other)
    assert after_loads.models == (ours("math"), newer, other)
    assert after_loads.listed("sql") is newer and after_loads.listed("chat") is other
    after_unload = after_loads.without_model("sql").without_model("never-there")
    assert after_unload.models == (ours("math"), other) and after_unload.listed("sql") is None
    assert before.models == (ours("sql"), ours("math")) and before.listed("chat") is None
