from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from lora_operator.desired.adapters import Rejected, SourceState
from lora_operator.status.aggregate import StatusInput, state_name, status_of
from lora_operator.status.change_events import events_between
from lora_scheduler import Reason, Refusal
from tests.core.builders import a_state, given

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2026, 1, 2, tzinfo=UTC)


def status(given_: StatusInput, before: Any = None, now: datetime = NOW) -> dict[str, Any]:
    return status_of(given_, before or {}, now).to_dict()


def ready(body: dict[str, Any]) -> tuple[str, str]:
    return next((c["status"], c["reason"]) for c in body["conditions"] if c["type"] == "Ready")


def refusal(pod: str, reason: Reason, message: str = "because") -> Refusal:
    return Refusal(f"ns/{pod}", reason, message)


def test_ready_when_every_adapter_has_every_copy() -> None:
    body = status(given(a_state("a", wanted=2, replicas=2), a_state("b")))
    assert (body["phase"], body["summary"], ready(body)) == ("Ready", "2/2", ("True", "Ready"))
    assert body["loadedAdapters"] == ["a", "b"] and body["replicas"] == 1
    assert body["podAssignments"][0] == {"pod": "p0", "address": "10.0.0.0:8000", "adapters": ["a", "b"]}


def test_two_of_three_replicas_is_not_ready() -> None:
    body = status(given(a_state(wanted=3, replicas=2, moving=True)))
    assert (body["phase"], ready(body)) == ("Loading", ("False", "Loading"))
    assert "loadedAdapters" not in body


def test_old_versions_answer_but_do_not_make_ready() -> None:
    body = status(given(a_state(wanted=1, replicas=1, current=False, moving=True)))
    assert ready(body)[0] == "False" and body["podAssignments"]


def test_a_refusal_says_the_reason_with_its_numbers_and_how_many_pods() -> None:
    message = "rank 64 exceeds max_lora_rank 16"
    refusals = tuple(refusal(f"p{n}", Reason.RANK_TOO_HIGH, message) for n in range(3))
    body = status(given(a_state(replicas=0, missing=1, refusals=refusals)))
    (failed,) = body["failedAdapters"]
    assert (failed["code"], failed["reason"]) == ("RankTooHigh", "Rank too high")
    assert failed["message"] == "rank 64 exceeds max_lora_rank 16 on 3 of 3 pods"
    assert [p["pod"] for p in failed["pods"]] == ["p0", "p1", "p2"]
    assert body["phase"] == "Failed"


def test_one_bad_adapter_beside_a_good_one_is_partial() -> None:
    bad = Rejected("bad", "Truncated", "Truncated", "the file ends early")
    body = status(given(a_state("good"), rejected=(bad,)))
    assert (body["phase"], body["summary"], ready(body)) == ("Partial", "1/2", ("False", "Truncated"))
    assert body["loadedAdapters"] == ["good"]


def test_no_pod_at_all_is_pending_and_says_so() -> None:
    body = status(given(a_state(replicas=0, missing=1)))
    assert (body["phase"], ready(body)) == ("Pending", ("False", "NoMatchingPods"))
    assert "failedAdapters" not in body


def test_a_pod_that_is_starting_is_no_failure() -> None:
    body = status(given(a_state(replicas=0, missing=1, refusals=(refusal("p0", Reason.POD_NOT_READY),))))
    assert body["phase"] == "Pending" and "failedAdapters" not in body


def test_a_failed_load_is_told_while_it_is_being_tried_again() -> None:
    state = a_state(replicas=0, moving=True, refusals=(refusal("p0", Reason.LOAD_FAILED, "EngineFailing: 500"),))
    body = status(given(state))
    assert body["failedAdapters"][0]["code"] == "LoadFailed"


def test_a_source_that_fails_leaves_what_answers_ready() -> None:
    body = status(given(a_state(), source=SourceState(False, "NotThere", "gone")))
    assert ready(body)[0] == "True"
    source = next(c for c in body["conditions"] if c["type"] == "SourceReady")
    assert (source["status"], source["reason"]) == ("False", "NotThere")


def test_a_source_that_never_worked_is_failed_with_its_reason() -> None:
    body = status(given(source=SourceState(False, "SourceNotSupportedYet", "not yet")))
    assert (body["phase"], ready(body)) == ("Failed", ("False", "SourceNotSupportedYet"))


def test_the_version_to_ask_for_is_named_where_the_engine_knows_it_by_another_name() -> None:
    body = status(given(a_state("sql", engine_name="sql--aaaaaaaa")))
    assert body["podAssignments"][0]["engineNames"] == [{"name": "sql", "engineName": "sql--aaaaaaaa"}]


def test_transition_times_stay_where_nothing_changed() -> None:
    first = status(given(a_state()))
    again = status(given(a_state()), first, LATER)
    assert again == first
    worse = status(given(a_state(replicas=0, moving=True)), first, LATER)
    times = {c["type"]: c["lastTransitionTime"] for c in worse["conditions"]}
    assert times["Ready"] == "2026-01-02T00:00:00Z" and times["SourceReady"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("wanted", "extra", "reason"), [(0, {}, "ScaledToZero"), (0, {"on_demand": True}, "LoadOnDemand")]
)
def test_nothing_loaded_on_purpose_is_not_ready_and_says_why(wanted: int, extra: Any, reason: str) -> None:
    assert ready(status(given(a_state(wanted=wanted, replicas=0), **extra))) == ("False", reason)


def test_of_adapters_on_demand_it_says_of_those_that_were_asked_for_what_it_says_of_others() -> None:
    cold, loaded = a_state("cold", wanted=0, replicas=0), a_state("loaded")
    loading = a_state("loading", replicas=0, moving=True)
    body = status(given(cold, loaded, on_demand=True))
    assert ready(body) == ("False", "LoadOnDemand") and (body["phase"], body["summary"]) == ("Partial", "1/2")
    (message,) = [c["message"] for c in body["conditions"] if c["type"] == "Ready"]
    assert message == "1 of 2 adapters ready: loadOnStartup is false: cold will be loaded when somebody asks"
    assert ready(status(given(cold, loaded, loading, on_demand=True))) == ("False", "Loading")
    full = a_state("full", replicas=0, missing=1, refusals=(refusal("p0", Reason.NO_FREE_SLOT),))
    assert ready(status(given(cold, full, on_demand=True))) == ("False", "NoFreeSlot")
    assert ready(status(given(loaded, on_demand=True))) == ("True", "Ready")
    many = [a_state(f"a{n}", wanted=0, replicas=0) for n in range(7)]
    (message,) = [c["message"] for c in status(given(*many, on_demand=True))["conditions"] if c["type"] == "Loaded"]
    assert "a0, a1, a2, a3, a4 and 2 more will be loaded" in message


def test_statistics_tell_what_is_lacking_from_what_nobody_wants_now() -> None:
    states = (a_state(), a_state(replicas=0, moving=True), a_state(replicas=0), a_state(wanted=0, replicas=0))
    assert [state_name(state) for state in states] == ["complete", "moving", "lacking", "unwanted"]


def test_events_tell_of_changes_once() -> None:
    bad = Rejected("bad", "Truncated", "Truncated", "the file ends early")
    nothing: dict[str, Any] = {}
    first = status(given(a_state(), rejected=(bad,)))
    assert [(kind, reason) for kind, reason, _ in events_between(nothing, first)] == [("Warning", "Truncated")]
    assert events_between(first, first) == []
    healed = status(given(a_state()))
    assert [reason for _, reason, _ in events_between(first, healed)] == ["Ready"]
