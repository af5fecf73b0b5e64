"""Early files: all of them come without another planning round, also where an agent is a little late."""

from __future__ import annotations

import asyncio

import pytest

from lora_operator.delivery import prefetcher
from lora_operator.delivery.agent_client import AgentError
from lora_operator.delivery.prefetcher import AT_A_TIME, Prefetcher
from lora_operator.desired.adapters import Desired, desired
from tests.core.builders import a_pod, a_resource, a_source, found


class LateAgent:
    """Ways that refuse so often before they bring anything."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.asked = 0
        self.brought: set[str] = set()
        self.most_at_once = 0
        self.at_once = 0
        self.changed = asyncio.Event()

    async def prefetch(self, record: object, wanted: object) -> None:
        self.asked += 1
        self.changed.set()
        if self.asked <= self.refusals:
            raise AgentError("AgentUnreachable", "it starts", retryable=True)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        self.brought.add(wanted.adapter.name)  # type: ignore[attr-defined]

    async def until(self, count: int) -> None:
        while len(self.brought) < count:
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 10)


def wishes(count: int) -> Desired:
    resource = a_resource()
    return desired([resource], {resource.key: a_source(resource, *(found(f"a{n}") for n in range(count)))})


async def test_more_than_are_brought_at_a_time_are_all_brought_in_one_round() -> None:
    ways, record, wanted = LateAgent(), a_pod(), wishes(3 * AT_A_TIME)
    made = Prefetcher(ways)  # type: ignore[arg-type]
    made.sync_targets([(record.key, key) for key in wanted.adapters], {record.key: record}, wanted)
    await ways.until(3 * AT_A_TIME)
    assert ways.most_at_once == AT_A_TIME
    await made.stop()


async def test_an_agent_that_is_late_is_asked_again_without_another_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetcher, "AGAIN_SECONDS", (0.01, 0.02))
    ways, record, wanted = LateAgent(refusals=3), a_pod(), wishes(1)
    made = Prefetcher(ways)  # type: ignore[arg-type]
    made.sync_targets([(record.key, key) for key in wanted.adapters], {record.key: record}, wanted)
    await ways.until(1)
    assert ways.asked == 4
    await made.stop()


async def test_nothing_is_begun_after_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetcher, "AGAIN_SECONDS", (0.01, 0.02))
    ways, record, wanted = LateAgent(refusals=100), a_pod(), wishes(1)
    made = Prefetcher(ways)  # type: ignore[arg-type]
    made.sync_targets([(record.key, key) for key in wanted.adapters], {record.key: record}, wanted)
    await ways.changed.wait()
    await made.stop()
    asked = ways.asked
    await asyncio.sleep(0.05)
    assert ways.asked == asked
