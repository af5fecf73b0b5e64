"""What is done on pods: how much at a time, in which order, and what becomes of refusals and deaths."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from lora_operator.execution import unload as unloading
from lora_operator.kube import write_queue as writes
from lora_operator.planning.inflight import EVERYWHERE, Stage
from lora_operator.vllm.engine_state import EngineState
from tests.core.fleet import Fleet, a_fleet


def many(fleet: Fleet, count: int) -> None:
    for number in range(count):
        fleet.write(f"many/a{number}", seed=number)


def metric(fleet: Fleet, line: str) -> bool:
    return f"lora_operator_{line}" in fleet.operator.metrics.exposition().decode()


async def test_a_pod_that_serves_nobody_yet_loads_side_by_side_and_a_serving_one_by_one(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        many(fleet, 4)
        engine = fleet.engines["p0"]
        late = engine.faults.add("late", "load")
        fleet.write("first", seed=9)
        fleet.apply("many", "many")
        # engines answer before sources do, so that the pod may count as settled: a new one certainly is not
        fresh = await fleet.add_pod("p1")
        both = fresh.faults.add("late", "load")
        fleet.apply("many", "many", replicas=2)
        await fleet.until(lambda: both.hits == 4)
        engine.faults.clear()
        fresh.faults.clear()
        await fleet.until(lambda: fleet.ready("many"))
        assert late.hits >= 1
        await fleet.until(lambda: all(view.has_served for view in fleet.observers.engines.views.values()))
        one = fresh.faults.add("late", "load")
        for number in range(4, 7):
            fleet.write(f"more/a{number}", seed=number)
        fleet.apply("more", "more", replicas=2)
        await fleet.until(lambda: one.hits == 1)
        await fleet.rounds(5)
        assert one.hits == 1
        # files of the next ones come meanwhile, and nothing is asked of the engine for them
        store, under_way = fleet.operator.files.store, [*fleet.ledger.on("ns/p1")]
        await fleet.until(lambda: all(store.holds(e.engine_name, e.version) for e in under_way))
        await fleet.rounds(20)
        stages = sorted(effect.stage for effect in under_way)
        assert stages == [Stage.FETCHING, Stage.FETCHING, Stage.LOADING] and one.hits == 1
        fresh.faults.clear()
        await fleet.until(lambda: fleet.ready("more"))


async def test_all_pods_that_need_the_same_files_wait_for_one_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_fleet(tmp_path, pods=3) as fleet:
        go = fleet.hold_fetches(monkeypatch)
        copies = []
        publish = fleet.operator.files.store.publish

        async def counted(*arguments: Any) -> Any:
            copies.append(arguments)
            return await publish(*arguments)

        monkeypatch.setattr(fleet.operator.files.store, "publish", counted)
        fleet.write("sql")
        fleet.apply("la", "sql", replicas=3)
        await fleet.until(lambda: len(fleet.ledger) == 3)
        go.set()
        await fleet.until(lambda: fleet.ready("la"))
        assert len(copies) == 1


async def test_status_lets_go_of_a_pod_before_its_engine_does(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=2, unload_timeout=0.5) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql", replicas=2)
        await fleet.until(lambda: fleet.ready("la"))
        hangs = {pod: engine.faults.add("hang", "unload") for pod, engine in fleet.engines.items()}
        fleet.apply("la", "sql", replicas=1)
        await fleet.until(lambda: any(hang.hits for hang in hangs.values()))
        (leaving,) = (pod for pod, hang in hangs.items() if hang.hits)
        assert leaving not in fleet.assigned("la") and len(fleet.assigned("la")) == 1
        assert fleet.engines[leaving].adapters == ["sql"]
        fleet.engines[leaving].faults.clear()
        await fleet.until(lambda: fleet.listed() == {next(iter(fleet.assigned("la"))): ["sql"]})


async def test_all_that_goes_is_withdrawn_at_once_and_unloaded_a_few_at_a_time(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, unload_timeout=30.0) as fleet:
        engine = await fleet.add_pod("p0", "--max-loras", "16", "--max-cpu-loras", "16")
        many(fleet, 12)
        fleet.apply("many", "many")
        await fleet.until(lambda: fleet.ready("many"))
        late = engine.faults.add("late", "unload")
        fleet.delete("many")
        await fleet.until(lambda: late.hits == 8)
        assert fleet.published("p0") == set(), "whoever waits for a turn is withdrawn already"
        await fleet.rounds(5)
        assert late.hits == 8
        engine.faults.clear()
        await fleet.until(lambda: not fleet.exists("many"))
        assert engine.adapters == []


@pytest.mark.parametrize("change", ["deleted", "emptied"])
async def test_routers_are_told_of_what_nobody_wants_any_more_before_its_engine_is(change: str, tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1, unload_timeout=0.5) as fleet:
        fleet.write("many/sql")
        fleet.write("many/chat")
        fleet.apply("la", "many")
        await fleet.until(lambda: fleet.ready("la"))
        hang = fleet.engines["p0"].faults.add("hang", "unload")
        if change == "deleted":
            fleet.delete("la")
        else:
            shutil.rmtree(fleet.source / "many/sql")
        stall = fleet.stall()
        await fleet.until(lambda: any(e.engine_name == "sql" for e in fleet.ledger.on("ns/p0")))
        await fleet.until(lambda: ("LoraEndpoint", "ns/p0") in fleet.operator._writes)
        assert not hang.hits and "sql" in fleet.published("p0"), "it still says so"
        fleet.api.stall = None
        stall.set()
        await fleet.until(lambda: hang.hits)
        assert "sql" not in fleet.published("p0")
        await fleet.until(lambda: "sql" not in fleet.assigned("la").get("p0", []))
        fleet.engines["p0"].faults.clear()
        await fleet.until(lambda: "sql" not in fleet.on("p0"))


async def test_what_routers_cannot_be_told_of_stays_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writes, "FLUSH_SECONDS", 0.05)
    monkeypatch.setattr(writes, "AWAY_SECONDS", 0.05)
    async with a_fleet(tmp_path, pods=2) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql", replicas=2)
        await fleet.until(lambda: fleet.ready("la"))
        fleet.apply("la", "sql", replicas=1)
        fleet.api.away = True
        await fleet.until(lambda: caplog.text.count("routers cannot be told") >= 2)
        assert all("unload" not in engine.journal.calls for engine in fleet.engines.values())
        fleet.api.away = False
        await fleet.until(lambda: fleet.listed() == fleet.assigned("la") and len(fleet.listed()) == 1)


async def test_a_surplus_copy_stays_when_the_other_one_dies_in_the_last_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = asyncio.Event()
    monkeypatch.setattr(unloading.Unloading, "_until_routers_let_go", lambda self, effect: go.wait())
    async with a_fleet(tmp_path, pods=2) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql", replicas=2)
        await fleet.until(lambda: fleet.ready("la"))
        fleet.apply("la", "sql", replicas=1)
        await fleet.until(lambda: len(fleet.assigned("la")) == 1)
        (staying,) = fleet.assigned("la")
        (leaving,) = {"p0", "p1"} - {staying}
        await fleet.engines[staying].kill()
        await fleet.until(lambda: fleet.view(staying).state is not EngineState.UP)
        go.set()
        await fleet.until(lambda: fleet.ready("la") and list(fleet.assigned("la")) == [leaving])
        await fleet.settle()
        assert "unload" not in fleet.engines[leaving].journal.calls


async def test_an_unload_that_has_begun_is_finished_and_told_when_the_operator_ends(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=2, withdraw_seconds=0.05) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql", replicas=2)
        await fleet.until(lambda: fleet.ready("la"))
        fleet.apply("la", "sql", replicas=1)
        await fleet.until(lambda: len(fleet.ledger))
        await fleet.stop()
        assert sorted(fleet.listed()) == sorted(fleet.assigned("la"))
        await fleet.restart()
        await fleet.until(lambda: fleet.ready("la") and len(fleet.listed()) == 1)


@pytest.mark.parametrize("fault", [{"kind": "status", "endpoint": "unload"}, {"kind": "forget_unload"}])
async def test_a_refused_unload_is_asked_for_again(
    fault: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unloading, "AGAIN_SECONDS", 0.02)
    async with a_fleet(tmp_path, pods=1) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.ready("la"))
        fleet.engines["p0"].faults.add(times=3, **fault)
        fleet.apply("la", "sql", replicas=0)
        await fleet.until(lambda: fleet.listed() == {})
        assert fleet.engines["p0"].journal.calls["unload"] == 4
        await fleet.settle()
        assert not fleet.ledger.failed_unloads


async def test_an_engine_that_goes_on_refusing_is_asked_less_and_less_often(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unloading, "AGAIN_SECONDS", 0.01)
    async with a_fleet(tmp_path, pods=1) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.ready("la"))
        fault = fleet.engines["p0"].faults.add("status", "unload")
        fleet.apply("la", "sql", replicas=0)
        await fleet.until(lambda: fault.hits == 2)
        monkeypatch.setattr(unloading, "AGAIN_SECONDS", 3600.0)
        await fleet.until(lambda: "attempt 3, again in 4 s" in caplog.text)
        assert metric(fleet, 'unloads_total{cause="Surplus",result="UnloadRefused"} 3.0')


async def test_a_name_that_somebody_took_a_moment_ago_is_no_failure_of_ours(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1, probe_seconds=3600.0) as fleet:
        theirs = fleet.write("theirs/sql", seed=3)
        await fleet.until(lambda: fleet.view("p0") is not None and fleet.view("p0").state == "Up")
        url = f"{fleet.engines['p0'].url}/v1/load_lora_adapter"
        async with fleet.operator._session.post(url, json={"lora_name": "sql", "lora_path": str(theirs)}) as answer:
            assert answer.status == 200
        fleet.write("ours/sql")
        fleet.apply("la", "ours/sql")
        await fleet.until(lambda: fleet.failed("la") == {"sql": "NameTaken"})
        await fleet.rounds(10)
        assert fleet.engines["p0"].journal.calls["load"] == 2  # theirs, and one of ours
        assert not fleet.failures._known


async def test_an_engine_that_dies_of_a_load_dies_alone_and_another_pod_serves(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=2, retry_seconds=30.0) as fleet:
        fleet.write("sql")
        fleet.engines["p0"].faults.add("crash")
        fleet.apply("la", "sql", replicas=2)
        await fleet.until(lambda: fleet.assigned("la") == {"p1": ["sql"]})
        await fleet.until(lambda: fleet.engines["p0"].exit_code is not None)
        assert fleet.engines["p1"].exit_code is None


async def test_a_connection_that_a_pod_cuts_while_it_ends_counts_as_no_death(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        fleet.write("sql")
        late = fleet.engines["p0"].faults.add("late", "load")
        fleet.apply("la", "sql")
        await fleet.until(lambda: late.hits)
        deleted = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
        fleet.change_pod("p0", lambda body: body["metadata"].update(deleted))
        await fleet.engines["p0"].kill()
        await fleet.until(lambda: not len(fleet.ledger))
        assert EVERYWHERE not in fleet.failures._known


async def test_a_load_that_fails_is_tried_again_when_it_is_due_and_not_before(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1, retry_seconds=0.05) as fleet:
        fleet.write("sql")
        fault = fleet.engines["p0"].faults.add("status", "load", status=500, times=3)
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.ready("la"))
        assert fault.hits == 3
        assert metric(fleet, 'loads_total{result="LoadRefused"} 3.0') and metric(fleet, 'loads_total{result="ok"} 1.0')
        assert not fleet.failures._known


async def test_loads_that_cannot_be_fetched_say_why_and_heal(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        fleet.volume.rmdir()
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.failed("la") == {"sql": "LoadFailed"})
        assert "VolumeMissing" in fleet.status("la")["failedAdapters"][0]["message"]
        fleet.volume.mkdir()
        await fleet.until(lambda: fleet.ready("la"))


async def test_an_engine_that_can_unload_nothing_is_asked_once_and_says_why(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as fleet:
        left = fleet.write(str(fleet.volume / "sql" / "0123456789abcdef"))
        off = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "0"}
        await fleet.add_pod("p0", "--lora-modules", f"sql={left}", hidden=off)
        await fleet.until(lambda: fleet.view("p0") is not None and fleet.view("p0").lora_disabled)
        await fleet.rounds(5)
        assert metric(fleet, 'unloads_total{cause="Unwanted",result="RuntimeUpdatingDisabled"} 1.0')
        assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in fleet.view("p0").lora_disabled


async def test_a_leader_whose_workers_would_not_see_the_files_gets_none_and_says_what_they_need(tmp_path: Path) -> None:
    def leads_two(pod: dict[str, Any]) -> None:
        root = str(fleet.volume)
        pod["metadata"]["labels"] |= {"leaderworkerset.sigs.k8s.io/worker-index": "0"}
        pod["metadata"]["annotations"] |= {
            "leaderworkerset.sigs.k8s.io/size": "2", "production-stack.vllm-project/agent-port": "9",
        }  # fmt: skip
        pod["spec"]["volumes"] = [{"name": "adapters", "emptyDir": {}}]
        pod["spec"]["containers"][0] |= {
            "command": ["vllm", "serve"], "volumeMounts": [{"name": "adapters", "mountPath": root}],
        }  # fmt: skip

    async with a_fleet(tmp_path) as fleet:
        fleet.write("sql")
        await fleet.add_pod("p0")
        fleet.change_pod("p0", leads_two)
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.failed("la") == {"sql": "WorkersLackFiles"})
        message = fleet.status("la")["failedAdapters"][0]["message"]
        assert "group of 2 pods" in message and "mount one shared volume" in message
        assert not fleet.listed()
