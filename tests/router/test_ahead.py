"""In the operator itself the table knows what status is about to say, and status as it was says nothing any more."""

from __future__ import annotations

from dataclasses import replace

from lora_operator.router.ahead import Ahead
from lora_operator.status import Copy
from tests.core.builders import a_state, given
from tests.router.fleet import NAMESPACE, a_fleet


def test_what_is_withdrawn_or_loaded_is_so_before_status_is_written() -> None:
    fleet = a_fleet()
    ahead = Ahead(fleet.cluster)
    key = f"{NAMESPACE}/two"

    def copy(number: int) -> Copy:
        return Copy(f"{NAMESPACE}/vllm-{number}", f"10.0.0.{number + 1}:8000", "sql", True)

    state = replace(a_state("sql"), copies=(copy(0),))
    fleet.feed.foresee(ahead.news({key: given(state)}))
    assert fleet.pods_of("sql") == ["vllm-0"]
    assert fleet.table.get(NAMESPACE, "chat") is None
    fleet.adapter("two", {"vllm-1": {"sql": "sql"}})  # an older word that comes back from the API server
    fleet.refresh()
    assert fleet.pods_of("sql") == ["vllm-0"]
    assert [*ahead.news({key: given(state)})] == []
    fleet.feed.foresee(ahead.news({key: given(replace(state, copies=(copy(0), copy(1))))}))
    assert fleet.pods_of("sql") == ["vllm-0", "vllm-1"]
    fleet.pod("vllm-1", "10.0.0.2", terminating=True)
    fleet.refresh()
    assert fleet.pods_of("sql") == ["vllm-0"]
    fleet.drop_adapter("two")
    fleet.refresh()
    assert len(fleet.table) == 0
    fleet.feed.foresee(ahead.news({}))
    fleet.adapter("two", {"vllm-0": {"sql": "sql"}})
    fleet.refresh()
    assert len(fleet.table) == 0  # a deleted object does not come back
