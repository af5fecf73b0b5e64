"""The readiness gate opens when a pod holds what it should, or when waiting is of no use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lora_operator.api.well_known import GATE
from lora_operator.kube import write_queue as writes
from lora_operator.vllm.engine_state import EngineState
from tests.core.fleet import Fleet, a_fleet

PATH = "/api/v1/namespaces/ns/pods/p0"


@asynccontextmanager
async def a_gated_fleet(folder: Path, *arguments: str) -> AsyncIterator[Fleet]:
    async with a_fleet(folder) as fleet:
        fleet.write("sql")
        await fleet.add_pod("p0", *arguments, gate=True)
        yield fleet


def gate(fleet: Fleet) -> dict[str, Any]:
    conditions = fleet.api.objects[PATH]["status"].get("conditions", [])
    return next((c for c in conditions if c["type"].endswith("/adapters-loaded")), {})


async def test_it_opens_once_all_that_is_planned_is_loaded(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.condition("la").get("reason") == "NoMatchingPods")
        engine = await fleet.add_pod("p0", gate=True)
        late = engine.faults.add("late", "load")
        await fleet.until(lambda: late.hits)
        assert gate(fleet).get("status") != "True"
        engine.faults.clear()
        await fleet.until(lambda: gate(fleet).get("reason") == "AdaptersLoaded")


async def test_it_opens_with_a_reason_where_an_adapter_cannot_be_loaded(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, retry_seconds=60.0) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.condition("la").get("reason") == "NoMatchingPods")
        engine = await fleet.add_pod("p0", gate=True)
        engine.faults.add("status", "load", status=500)
        await fleet.until(lambda: gate(fleet).get("reason") in ("LoadFailed", "AdaptersLoaded"))
        assert gate(fleet)["status"] == "True"


async def test_it_opens_after_a_deadline_whatever_is_lacking(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, gate_seconds=0.0, load_timeout=1.0) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.condition("la").get("reason") == "NoMatchingPods")
        engine = await fleet.add_pod("p0", gate=True)
        engine.faults.add("hang", "load")
        await fleet.until(lambda: gate(fleet).get("reason") == "DeadlinePassed")


async def test_the_deadline_calls_for_a_round_by_itself(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, gate_seconds=3600.0) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.condition("la").get("reason") == "NoMatchingPods")
        assert fleet.operator.loop.reconciler.next_due(time.monotonic()) is None
        engine = await fleet.add_pod("p0", gate=True)
        hang = engine.faults.add("hang", "load")
        await fleet.until(lambda: hang.hits)
        await fleet.rounds(1)
        assert 0.0 < (fleet.operator.loop.reconciler.next_due(time.monotonic()) or 0.0) <= 3600.0


async def test_an_engine_that_the_operator_cannot_reach_closes_no_gate(tmp_path: Path) -> None:
    async with a_gated_fleet(tmp_path) as fleet:
        await fleet.until(lambda: gate(fleet).get("status") == "True")
        await fleet.engines["p0"].kill()  # refused, at once
        await fleet.until(lambda: fleet.view("p0").state is not EngineState.UP)
        await fleet.rounds(5)
        assert gate(fleet)["status"] == "True"


async def test_one_that_never_answers_the_operator_opens_after_the_deadline_where_the_kubelet_finds_it_well(
    tmp_path: Path,
) -> None:
    async with a_fleet(tmp_path, gate_seconds=0.0) as fleet:
        engine = await fleet.add_pod("p0", gate=True)
        engine.faults.add("drop", "all")
        await fleet.until(lambda: fleet.view("p0") is not None and fleet.view("p0").state is EngineState.DOWN)
        await fleet.rounds(5)
        assert gate(fleet).get("status") != "True"
        fleet.change_pod("p0", containers_are("True"))
        await fleet.until(lambda: gate(fleet).get("reason") == "DeadlinePassed")


async def test_it_closes_for_an_engine_in_a_new_container_and_opens_again(tmp_path: Path) -> None:
    async with a_gated_fleet(tmp_path) as fleet:
        await fleet.until(lambda: gate(fleet).get("status") == "True")
        assert gate(fleet)["message"].endswith("(container c-1)")
        await fleet.engines["p0"].kill()
        fleet.change_pod("p0", another_container)
        await fleet.until(lambda: gate(fleet).get("reason") == "EngineNotReady")
        assert gate(fleet)["status"] == "False"


async def test_it_never_closes_a_pod_whose_containers_are_ready(tmp_path: Path) -> None:
    async with a_gated_fleet(tmp_path) as fleet:
        await fleet.until(lambda: gate(fleet).get("status") == "True")
        await fleet.engines["p0"].kill()
        fleet.change_pod("p0", containers_are("True"))
        fleet.change_pod("p0", another_container)  # which serves since, while no operator ran
        await fleet.rounds(5)
        assert gate(fleet)["status"] == "True"


async def test_one_that_somebody_else_opened_stays_open(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as fleet:
        engine = await fleet.add_pod("p0", gate=True)
        await engine.kill()
        fleet.change_pod("p0", lambda pod: pod["status"].update(conditions=[{"type": GATE, "status": "True"}]))
        fleet.change_pod("p0", another_container)
        await fleet.rounds(5)
        assert gate(fleet)["status"] == "True"


def another_container(pod: dict[str, Any]) -> None:
    pod["status"]["containerStatuses"][0] |= {"containerID": "c-another", "restartCount": 1}


def containers_are(status: str) -> Callable[[dict[str, Any]], None]:
    def change(pod: dict[str, Any]) -> None:
        conditions = [c for c in pod["status"].get("conditions", []) if c["type"] != "ContainersReady"]
        pod["status"]["conditions"] = [*conditions, {"type": "ContainersReady", "status": status}]

    return change


async def test_it_opens_where_no_adapter_can_ever_be_loaded(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as fleet:
        await fleet.add_pod("p0", gate=True, env={"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "0"})
        await fleet.until(lambda: gate(fleet).get("reason") == "LoraDisabled")
        assert gate(fleet)["status"] == "True"


async def test_it_is_written_once_and_again_after_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "FIRST_PAUSE_SECONDS", 0.01)
    async with a_fleet(tmp_path) as fleet:
        fleet.api.refuse = [500, 409]
        await fleet.add_pod("p0", gate=True)
        await fleet.until(lambda: gate(fleet).get("status") == "True")
        await fleet.rounds(5)
        await asyncio.sleep(0)
        assert len([path for path in fleet.api.writes() if path.endswith("/status")]) == 3
