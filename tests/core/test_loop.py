"""The whole loop with real engines: one thing that is odd, slow or gone concerns nobody else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from lora_operator.kube import write_queue as writes
from lora_operator.kube.client import KubeError
from lora_operator.manager.loop import CycleFailed
from lora_operator.manager.operator import Operator
from tests.core.fleet import Fleet, a_fleet


async def test_an_adapter_is_loaded_reported_and_unloaded(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=2) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql", replicas=2)
        await fleet.until(lambda: fleet.ready("la"))
        assert fleet.listed() == {"p0": ["sql"], "p1": ["sql"]}
        assert fleet.assigned("la") == {"p0": ["sql"], "p1": ["sql"]}
        fleet.delete("la")
        await fleet.until(lambda: not fleet.exists("la"))
        assert fleet.listed() == {}


async def test_a_pod_that_hides_what_it_serves_gets_the_adapters_of_what_its_engine_lists(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        fleet.change_pod("p0", lambda body: body["spec"]["containers"][0].update(args=["--config", "/etc/vllm.yaml"]))
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.ready("la"))
        assert fleet.listed() == {"p0": ["sql"]}
        assert fleet.observers.holdings.said("ns/p0").base_models == ("tiny",)
        await fleet.restart()
        await fleet.until(lambda: fleet.view("p0") is not None and fleet.view("p0").bases)
        await fleet.rounds()
        assert fleet.ready("la") and fleet.listed() == {"p0": ["sql"]}


async def test_a_folder_whose_name_is_no_text_is_refused_and_stops_nobody_else(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        fleet.write("many/good")
        fleet.write("many/odd").rename(os.fsdecode(os.fsencode(fleet.source / "many") + b"/odd\xff"))
        fleet.write("other")
        fleet.apply("odd", "many")
        fleet.apply("la", "other")
        await fleet.until(lambda: fleet.ready("la") and fleet.status("odd").get("loadedAdapters") == ["good"])
        assert fleet.failed("odd") == {"odd?": "InvalidName"}


async def test_nonsense_in_a_status_stops_nobody(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        fleet.write("sql")
        await fleet.add_pod("old", "--release", "0.28.0")
        fleet.apply("gone", "nowhere")
        body = fleet.api.objects[next(path for path in fleet.api.objects if path.endswith("/gone"))]
        body["status"] = {
            "adapters": [{"name": "../x", "fingerprint": "no hex"}, {"name": "sql", "fingerprint": "zz"}, {}],
            "podAssignments": [{"pod": "p9"}, {}],
            "conditions": [{"type": "Ready"}],
        }
        fleet.api.put(next(path for path in fleet.api.objects if path.endswith("/gone")), body)
        fleet.apply("la", "sql", replicas=2)
        await fleet.until(lambda: fleet.ready("la"))
        await fleet.until(lambda: fleet.condition("gone", "SourceReady").get("reason") == "FolderNotFound")


async def test_a_pod_that_loses_its_label_is_rid_of_our_adapters_and_then_left_alone(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=2) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql", replicaPolicy="AllPods")
        await fleet.until(lambda: len(fleet.assigned("la")) == 2)
        fleet.change_pod("p0", lambda body: body["metadata"].update(labels={}))
        await fleet.until(lambda: fleet.listed() == {"p1": ["sql"]} and fleet.view("p0") is None)
        await fleet.until(lambda: fleet.ready("la") and fleet.assigned("la") == {"p1": ["sql"]})
        label = {"production-stack.vllm-project/lora": "enabled"}
        fleet.change_pod("p0", lambda body: body["metadata"].update(labels=label))
        await fleet.until(lambda: fleet.listed() == {"p0": ["sql"], "p1": ["sql"]})


async def test_what_somebody_else_loaded_stays_on_a_pod_that_leaves(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        theirs = fleet.write("theirs", seed=7)
        status, _ = await _load_by_hand(fleet, "p0", "theirs", theirs)
        assert status == 200
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.ready("la"))
        fleet.change_pod("p0", lambda body: body["metadata"].update(labels={}))
        await fleet.until(lambda: fleet.view("p0") is None)
        assert fleet.listed() == {"p0": ["theirs"]}


async def test_deleting_a_resource_unloads_from_pods_that_only_its_selector_matched(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as fleet:
        await fleet.add_pod("p0", labels={"team": "a"})
        fleet.write("sql")
        fleet.apply("la", "sql", selector={"team": "a"})
        await fleet.until(lambda: fleet.ready("la"))
        fleet.delete("la")
        await fleet.until(lambda: not fleet.exists("la"))
        assert fleet.listed() == {}
        await fleet.until(lambda: fleet.view("p0") is None)


async def test_another_selector_moves_the_replicas(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as fleet:
        await fleet.add_pod("p0", labels={"team": "a"})
        await fleet.add_pod("p1", labels={"team": "b"})
        fleet.write("sql")
        fleet.apply("la", "sql", selector={"team": "a"})
        await fleet.until(lambda: fleet.listed() == {"p0": ["sql"]})
        fleet.apply("la", "sql", selector={"team": "b"})
        await fleet.until(lambda: fleet.listed() == {"p1": ["sql"]})
        await fleet.until(lambda: fleet.ready("la") and fleet.assigned("la") == {"p1": ["sql"]})


async def test_a_new_process_finds_what_is_left_on_a_pod_that_left_in_the_meantime(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=2) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql", replicas=2)
        await fleet.until(lambda: fleet.ready("la"))
        await fleet.stop()
        fleet.change_pod("p0", lambda body: body["metadata"].update(labels={}))
        await fleet.restart()
        await fleet.until(lambda: fleet.listed() == {"p1": ["sql"]})
        await fleet.until(lambda: fleet.assigned("la") == {"p1": ["sql"]})


async def test_while_a_deletion_waits_for_a_hung_engine_status_names_no_other_pod(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=2, finalizer_seconds=600.0, probe_timeout=0.3) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql", replicas=2)
        await fleet.until(lambda: fleet.ready("la"))
        fleet.engines["p0"].faults.add("hang", "all")
        await fleet.until(lambda: fleet.view("p0").state != "Up")
        fleet.delete("la")
        await fleet.until(lambda: not fleet.assigned("la"))
        assert fleet.condition("la")["reason"] == "Deleting"
        assert fleet.status("la")["adapters"][0]["name"] == "sql"
        fleet.actors.finalizers._deadline = 0.0  # its time is over
        fleet.operator.loop.mark()
        await fleet.until(lambda: not fleet.exists("la"))
        await fleet.until(lambda: "ReleasedWithoutUnload" in fleet.events())
        fleet.engines["p0"].faults.clear()
        await fleet.until(lambda: fleet.listed() == {})


async def test_a_resource_whose_source_never_answered_is_deleted_at_once(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        fleet.apply("la", "nowhere")
        await fleet.until(lambda: fleet.condition("la", "SourceReady").get("reason") == "FolderNotFound")
        fleet.delete("la")
        await fleet.until(lambda: not fleet.exists("la"), timeout=30.0)


async def test_a_deletion_that_comes_while_the_finalizer_is_written_is_not_left_lying(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        fleet.write("sql")
        await fleet.rounds(1)
        stall = fleet.stall()
        fleet.apply("la", "sql")
        await fleet.until(lambda: any("loraadapters" in path for path in fleet.api.writes()))
        path = next(path for path in fleet.api.objects if path.endswith("/la"))
        body = fleet.api.objects[path]
        body["metadata"]["finalizers"] = ["production-stack.vllm-project/unload"]
        fleet.api.put(path, body)
        fleet.delete("la")
        await fleet.rounds()
        stall.set()
        await fleet.until(lambda: not fleet.exists("la") and fleet.listed() == {}, timeout=30.0)


async def test_a_resource_that_goes_while_its_adapter_is_being_loaded_leaves_nothing(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        fleet.write("sql")
        hang = fleet.engines["p0"].faults.add("late", "load")
        fleet.apply("la", "sql")
        await fleet.until(lambda: hang.hits)
        fleet.api.remove(next(path for path in fleet.api.objects if path.endswith("/la")))
        await fleet.rounds()
        fleet.engines["p0"].faults.clear()
        await fleet.until(lambda: fleet.listed() == {} and not len(fleet.ledger))


async def test_an_api_server_that_is_away_delays_a_deletion_as_routers_could_not_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writes, "FLUSH_SECONDS", 0.05)
    monkeypatch.setattr(writes, "AWAY_SECONDS", 0.05)
    async with a_fleet(tmp_path, pods=1) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.ready("la"))
        fleet.api.away = True
        fleet.delete("la")
        await fleet.until(lambda: "routers cannot be told" in caplog.text)
        assert fleet.listed() == {"p0": ["sql"]} and fleet.exists("la")
        fleet.api.away = False
        await fleet.until(lambda: not fleet.exists("la") and fleet.listed() == {})


async def test_a_defect_in_a_load_is_told_and_tried_again_at_the_pace_of_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_fleet(tmp_path, pods=1, retry_seconds=10.0) as fleet:
        calls = []

        async def publish(*_: Any) -> None:
            calls.append(1)
            raise RuntimeError("a defect")

        monkeypatch.setattr(fleet.operator.files.store, "publish", publish)
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.failed("la") == {"sql": "LoadFailed"})
        await fleet.rounds(20)
        assert len(calls) == 1
        assert "InternalError: RuntimeError in the operator" in fleet.status("la")["failedAdapters"][0]["message"]


async def test_files_that_took_long_are_not_loaded_once_nobody_wants_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        fetching = fleet.hold_fetches(monkeypatch)
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: len(fleet.ledger))
        fleet.delete("la")
        await fleet.rounds()
        fetching.set()
        await fleet.until(lambda: not fleet.exists("la") and not len(fleet.ledger))
        assert "load" not in fleet.engines["p0"].journal.calls


async def test_nothing_meant_for_a_pod_is_sent_to_its_successor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        fetching = fleet.hold_fetches(monkeypatch)
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: len(fleet.ledger))
        (effect,) = fleet.ledger.on("ns/p0")
        fleet.remove_pod("p0")
        await fleet.engines.pop("p0").kill()
        await fleet.add_pod("p0")
        fetching.set()
        await fleet.until(lambda: fleet.ready("la"))
        assert effect.instance != fleet.view("p0").instance
        assert fleet.engines["p0"].journal.calls["load"] == 1


async def test_what_is_loading_when_the_operator_ends_is_told_in_status(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        fleet.write("sql")
        late = fleet.engines["p0"].faults.add("slow", "load", seconds=0.1)
        fleet.apply("la", "sql")
        await fleet.until(lambda: late.hits)
        await fleet.stop()
        assert fleet.assigned("la") == {"p0": ["sql"]}
        await fleet.restart()
        await fleet.until(lambda: fleet.ready("la"))
        assert fleet.engines["p0"].journal.calls["load"] == 1


async def test_a_stopped_container_is_planned_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_operator.manager.loop.HEARTBEAT_SECONDS", 3600.0)  # ten looks may take long
    async with a_fleet(tmp_path, pods=2, demand_seconds=0.0) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.ready("la"))
        engine = fleet.engines["p1"]
        fleet.change_pod("p0", lambda body: body["status"]["containerStatuses"][0].update(state={"waiting": {}}))
        await fleet.until(lambda: fleet.view("p0").state == "Down")
        await fleet.settle()
        looked = engine.journal.calls["models"]
        await fleet.until(
            lambda: engine.journal.calls["models"] > looked + 3
        )  # what its end brought about has been planned
        await fleet.settle()
        planned, looked = fleet.operator.loop.last_end_at, engine.journal.calls["models"]
        await fleet.until(lambda: engine.journal.calls["models"] > looked + 10)
        assert fleet.operator.loop.last_end_at == planned


async def test_a_quiet_fleet_is_looked_at_and_nothing_is_written(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=2) as fleet:
        fleet.write("many/a")
        fleet.write("many/b", seed=1)
        fleet.apply("la", "many", replicas=2)
        await fleet.until(lambda: fleet.ready("la"))
        await fleet.settle()
        calls, looked = len(fleet.api.calls), fleet.engines["p0"].journal.calls["models"]
        await fleet.until(lambda: fleet.engines["p0"].journal.calls["models"] > looked + 10)
        assert len(fleet.api.calls) == calls
        assert "unload" not in fleet.engines["p0"].journal.calls


async def test_what_somebody_unloads_comes_back_and_is_counted(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.ready("la"))
        url = f"{fleet.engines['p0'].url}/v1/unload_lora_adapter"
        async with fleet.operator._session.post(url, json={"lora_name": "sql"}) as answer:
            assert answer.status == 200
        await fleet.until(lambda: b"lora_operator_drift_total 1.0" in fleet.operator.metrics.exposition())
        await fleet.until(lambda: fleet.listed() == {"p0": ["sql"]})


async def test_a_changed_mount_path_leaves_what_is_loaded_alone(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.ready("la"))
        key = "production-stack.vllm-project/adapter-root"
        fleet.change_pod("p0", lambda body: body["metadata"]["annotations"].update({key: "/elsewhere"}))
        await fleet.until(lambda: fleet.failed("la") == {"sql": "NameTaken"})
        assert fleet.listed() == {"p0": ["sql"]} and not fleet.assigned("la")
        fleet.change_pod("p0", lambda body: body["metadata"]["annotations"].pop(key))
        await fleet.until(lambda: fleet.ready("la"))
        assert fleet.engines["p0"].journal.calls["load"] == 1


async def test_another_resource_of_the_same_name_takes_nothing_over(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        fleet.write("old")
        fleet.apply("la", "old")
        await fleet.until(lambda: fleet.ready("la"))
        path = next(path for path in fleet.api.objects if path.endswith("/la"))
        fleet.api.remove(path)
        fleet.apply("la", "nowhere")
        await fleet.until(lambda: fleet.condition("la", "SourceReady").get("reason") == "FolderNotFound")
        await fleet.until(lambda: fleet.listed() == {})
        assert not fleet.status("la").get("adapters")


async def _load_by_hand(fleet: Fleet, pod: str, name: str, path: Path) -> tuple[int, str]:
    request = {"lora_name": name, "lora_path": str(path)}
    url = f"{fleet.engines[pod].url}/v1/load_lora_adapter"
    async with fleet.operator._session.post(url, json=request) as answer:
        return answer.status, await answer.text()


async def test_where_every_round_fails_after_planning_it_is_seen_and_whoever_waits_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.ready("la"))
        await fleet.settle()
        loop = fleet.operator.loop

        def broken(*_: Any) -> None:
            raise RuntimeError("a defect after planning")

        monkeypatch.setattr(fleet.actors.finalizers, "update", broken)
        ended = loop.last_end_at
        with pytest.raises(CycleFailed, match="RuntimeError"):
            await loop.next_cycle()
        with pytest.raises(KubeError, match="what is to be published is not known"):
            await fleet.operator._next_cycle()  # so that nothing is unloaded without being withdrawn
        assert loop.last_end_at == ended


async def test_where_not_even_the_first_round_comes_to_its_end_its_age_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        await fleet.stop()
        fleet.operator = Operator(fleet.settings, fleet.api.kube)
        monkeypatch.setattr(fleet.actors.finalizers, "update", lambda *_: 1 / 0)
        await fleet.start()
        with pytest.raises(CycleFailed):
            await fleet.operator.loop.next_cycle()
        assert fleet.operator.loop.plan_age() is not None
        assert fleet.operator.loop.unready() == "no plan has been made yet"
