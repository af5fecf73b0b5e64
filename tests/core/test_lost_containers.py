"""Containers that end, or are never heard of again, in the middle of a load."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lora_operator.execution import load
from lora_operator.vllm.client import EngineClient
from tests.core.fleet import Fleet, a_fleet


async def test_a_pod_that_replaces_one_on_a_lost_machine_waits_for_no_answer_of_that_one(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1, load_timeout=60.0) as fleet:
        fleet.write("sql")
        lost = fleet.engines["p0"]
        lost.faults.add("hang", "load")
        fleet.apply("la", "sql")
        await fleet.until(lambda: lost.journal.calls["load"] == 1)
        lost.faults.add("hang", "all")
        # the connection to the old one stays open for ever: nobody is left there to close it
        fleet.remove_pod("p0")
        await fleet.add_pod("p0")
        await fleet.until(lambda: fleet.ready("la"))
        assert fleet.engines["p0"].journal.calls["load"] == 1
        await lost.kill()


async def test_a_container_that_restarts_gets_what_its_predecessor_was_asked_for(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1, load_timeout=60.0) as fleet:
        fleet.write("sql")
        engine = fleet.engines["p0"]
        hang = engine.faults.add("hang", "load", times=1)
        fleet.apply("la", "sql")
        await fleet.until(lambda: hang.hits)
        fleet.change_pod("p0", _restart)
        await fleet.until(lambda: fleet.ready("la"))
        assert engine.journal.calls["load"] == 2


async def test_an_adapter_whose_loads_kill_engines_does_not_get_to_kill_them_all(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=3, retry_seconds=5.0) as fleet:
        for engine in fleet.engines.values():
            engine.faults.add("crash", "load", name="deadly")
        fleet.write("deadly")
        fleet.write("good", seed=1)
        fleet.apply("deadly", "deadly")
        await fleet.until(lambda: fleet.failed("deadly") == {"deadly": "LoadFailed"} and len(_dead(fleet)) == 2)
        await fleet.until(lambda: "died" in fleet.status("deadly")["failedAdapters"][0]["message"])
        fleet.apply("good", "good")
        await fleet.until(lambda: fleet.ready("good"))
        assert len(_dead(fleet)) == 2


async def test_a_version_waits_for_news_of_an_engine_that_may_be_dying_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, look_up = asyncio.Event(), EngineClient._look_up

    async def late(*asked: Any) -> Any:
        await told.wait()
        return await look_up(*asked)

    monkeypatch.setattr(EngineClient, "_look_up", late)
    monkeypatch.setattr(load, "DEATH_SECONDS", 60.0)
    async with a_fleet(tmp_path, pods=3, retry_seconds=60.0) as fleet:
        for engine in fleet.engines.values():
            engine.faults.add("crash", "load", name="deadly")
        fleet.write("deadly")
        fleet.apply("deadly", "deadly")
        # one is dead, which prober and plan see before the load itself has failed
        await fleet.until(lambda: len(_dead(fleet)) == 1 and len(list(fleet.ledger.loads())) == 2)
        for _ in range(3):
            await fleet.operator.loop.next_cycle()
        assert sum(engine.journal.calls["load"] for engine in fleet.engines.values()) == 1
        told.set()
        await fleet.until(lambda: len(_dead(fleet)) == 2)
        await fleet.settle()
        assert len(_dead(fleet)) == 2


def _dead(fleet: Fleet) -> list[str]:
    return [pod for pod, engine in fleet.engines.items() if engine.exited.is_set()]


def _restart(body: dict[str, Any]) -> None:
    body["status"]["containerStatuses"][0].update(containerID="another", restartCount=1)
