"""What status says about replicas that wait, and about reasons that no table knows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

from lora_operator.status.aggregate import failed_adapter, status_of, telling_reason
from lora_operator.telemetry.metrics import Metrics
from lora_scheduler import Reason, Refusal
from tests.core.builders import a_state, given

NEWER = cast(Reason, "WhollyNewReason")


def condition(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(c for c in body["conditions"] if c["type"] == kind)


def test_a_copy_that_waits_for_room_says_where_and_for_what() -> None:
    refusal = Refusal("ns/p0", Reason.WAITING_FOR_ROOM, "version v1 has to leave first")
    state = a_state("sql", replicas=0, moving=True, refusals=(refusal,))
    body = status_of(given(state), {}, datetime.now(UTC)).to_dict()
    assert condition(body, "Ready")["message"].endswith(
        "loading sql; sql waits for room on p0: version v1 has to leave first"
    )
    assert body["phase"] == "Loading" and "failedAdapters" not in body


def test_a_reason_that_is_younger_than_the_tables_is_shown_as_it_is() -> None:
    state = a_state("sql", replicas=0, missing=1, refusals=(Refusal("ns/p0", NEWER, "because"),))
    entry = failed_adapter(state)
    assert entry is not None and (entry.code, entry.reason) == ("WhollyNewReason", "Wholly new reason")
    body = status_of(given(state), {}, datetime.now(UTC)).to_dict()
    assert condition(body, "Scheduled")["reason"] == "WhollyNewReason"
    metrics = Metrics()
    reason = str(telling_reason(state.refusals))
    metrics.round(now=0.0, seconds=0.0, engine_states=(), adapter_states=(), refused=[reason], in_flight=0)
    assert 'lora_operator_unplaced_copies{reason="WhollyNewReason"} 1.0' in metrics.exposition().decode()


def test_every_reason_of_the_library_has_words_and_none_hides_a_younger_one() -> None:
    for reason in Reason:
        refusals = (Refusal("ns/p0", reason, "because"), Refusal("ns/p1", Reason.SELECTOR_MISMATCH, "because"))
        state = a_state(replicas=0, missing=1, refusals=refusals)
        assert status_of(given(state), {}, datetime.now(UTC)).to_dict()["conditions"]
    assert telling_reason([Refusal("ns/p0", NEWER, ""), Refusal("ns/p1", Reason.SELECTOR_MISMATCH, "")]) == NEWER
