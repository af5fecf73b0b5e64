"""In the operator itself the table knows what is about to be written, and what was written says nothing any more."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from lora_operator.process import slices
from lora_operator.router.early_status import Ahead
from lora_operator.router.serving import Router
from tests.core.builders import a_state, given
from tests.router.fleet import NAMESPACE, a_fleet

SQL = {"sql": ("sql", "two")}


def test_what_is_withdrawn_or_loaded_is_so_before_it_is_written() -> None:
    fleet = a_fleet()
    ahead = Ahead(fleet.cluster)
    inputs = {f"{NAMESPACE}/two": given(a_state("sql"))}
    pods = [f"{NAMESPACE}/vllm-{number}" for number in range(2)]
    held, nothing = fleet.contents("vllm-0", SQL), fleet.contents("vllm-1", {})
    fleet.feed.foresee(ahead.news(inputs), {pods[0]: held, pods[1]: nothing})
    assert fleet.pods_of("sql") == ["vllm-0"]
    assert fleet.table.get(NAMESPACE, "chat") is None
    fleet.adapter("two", {"vllm-1": {"sql": "sql"}})  # an older word that comes back from the API server
    fleet.refresh()
    assert fleet.pods_of("sql") == ["vllm-0"]
    assert [*ahead.news(inputs)] == []
    fleet.feed.foresee((), {pods[0]: held, pods[1]: fleet.contents("vllm-1", SQL)})
    assert fleet.pods_of("sql") == ["vllm-0", "vllm-1"]
    fleet.pod("vllm-1", "10.0.0.2", terminating=True)
    fleet.refresh()
    assert fleet.pods_of("sql") == ["vllm-0"]
    fleet.drop_adapter("two")
    fleet.refresh()
    assert len(fleet.table) == 0
    fleet.feed.foresee(ahead.news({}), {})
    fleet.adapter("two", {"vllm-0": {"sql": "sql"}})
    fleet.refresh()
    assert len(fleet.table) == 0  # a deleted object does not come back


def test_of_a_pod_of_which_nothing_is_known_now_what_was_published_counts() -> None:
    fleet = a_fleet()
    pod = f"{NAMESPACE}/vllm-1"
    fleet.feed.foresee((), {pod: fleet.contents("vllm-1", {})})
    assert fleet.pods_of("sql") == ["vllm-0"]
    fleet.feed.foresee((), {pod: None})
    assert fleet.pods_of("sql") == ["vllm-0", "vllm-1"]


async def test_many_statuses_are_worked_out_while_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_SECONDS", 0.0)
    fleet = a_fleet()
    names = [f"a{number}" for number in range(100)]
    for name in names:
        fleet.adapter(name, names=(name,))
    router = Router(fleet.cluster, cast(Any, None))
    router.listed()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    inputs = {f"{NAMESPACE}/{name}": given(a_state(name, replicas=0, moving=True)) for name in names}
    await router.ahead(inputs, {})
    counting.cancel()
    assert turns >= len(names) / 2 and len(router.table) == len(names) + 2
