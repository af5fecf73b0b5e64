"""Before an engine unloads an adapter it is waited for those who may still send requests: not where there were none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from lora_operator.execution.last_use import REST_SECONDS, at_rest
from lora_operator.vllm.metrics import EngineMetrics, Moment
from tests.core.fleet import Fleet, a_fleet

NOW = 1_800_000_000.0
LONG = 3600.0  # nobody waits for that in a test


def a_page(*moments: tuple[float, str], **fields: Any) -> EngineMetrics:
    said = tuple(Moment(at, frozenset(names.split())) for at, names in moments)
    known = {"requests_finished": 0.0, "requests_running": 0, "requests_waiting": 0}
    return EngineMetrics(**known | fields, moments=said)


@pytest.mark.parametrize(
    ("page", "rests"),
    [
        (a_page(), True),
        (a_page(requests_finished=None), False),  # it keeps no statistics
        (a_page(requests_finished=7.0), False),  # and it does not say when
        (a_page(requests_running=1), False),
        (a_page(requests_waiting=1), False),
        (a_page((NOW - 1, "chat"), requests_finished=7.0), False),
        (a_page((NOW - 1, ""), (NOW - REST_SECONDS - 1, "chat sql"), requests_finished=7.0), False),
        (a_page((NOW - REST_SECONDS - 1, "chat sql"), requests_finished=7.0), True),
        (a_page((NOW + 9, "sql"), requests_finished=7.0), False),
    ],
)
def test_only_an_engine_that_keeps_statistics_knows_that_nobody_asks(page: EngineMetrics, rests: bool) -> None:
    assert at_rest(page, NOW) is rests


async def loaded(fleet: Fleet, *names: str, replicas: int = 1) -> None:
    for name in names:
        fleet.write(name)
        fleet.apply(name, name, replicas=replicas)
    for name in names:
        await fleet.until(lambda name=name: fleet.ready(name))  # type: ignore[misc]


async def test_what_nobody_ever_asked_for_is_gone_at_once_when_it_is_deleted(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1, withdraw_seconds=LONG, demand_seconds=0) as fleet:
        await loaded(fleet, "sql", "chat", "code")
        for name in ("sql", "chat", "code"):
            fleet.delete(name)
        await fleet.until(lambda: not any(fleet.exists(name) for name in ("sql", "chat", "code")))
        assert fleet.on("p0") == []


@pytest.mark.parametrize("model", ["sql", "tiny"])  # of a request that takes one step its engine does not say for what
async def test_an_engine_that_was_asked_lately_is_waited_for(model: str, tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1, withdraw_seconds=LONG, demand_seconds=0) as fleet:
        await loaded(fleet, "sql")
        engine = fleet.engines["p0"]
        async with aiohttp.ClientSession() as session:
            body = {"model": model, "prompt": "hello", "max_tokens": 1}
            async with session.post(f"{engine.url}/v1/completions", json=body) as answer:
                assert answer.status == 200, await answer.text()
        fleet.delete("sql")
        await fleet.until(lambda: engine.journal.calls["metrics"] and fleet.published("p0") == set())
        await fleet.rounds(5)
        assert fleet.on("p0") == ["sql"]


async def test_a_copy_of_what_is_served_elsewhere_is_always_waited_for(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=2, withdraw_seconds=LONG, demand_seconds=0) as fleet:
        await loaded(fleet, "sql", replicas=2)
        fleet.apply("sql", "sql", replicas=1)
        await fleet.until(lambda: fleet.ready("sql") and len(fleet.assigned("sql")) == 1)
        await fleet.rounds(5)
        assert len(fleet.listed()) == 2


async def test_an_engine_that_does_not_say_is_waited_for_no_longer_than_any(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1, withdraw_seconds=0.05, demand_seconds=0) as fleet:
        await loaded(fleet, "sql")
        hang = fleet.engines["p0"].faults.add("hang", "metrics")
        fleet.delete("sql")
        await fleet.until(lambda: not fleet.exists("sql"))
        assert hang.hits == 1
