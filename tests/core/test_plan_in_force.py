"""What is planned and then changes its mind before an engine was asked; what was asked and is not answered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lora_operator.cache.store_error import StoreError
from lora_operator.execution import load as loading
from lora_operator.execution import unload as unloading
from lora_operator.kube.lease import LeaseLost
from lora_operator.planning.inflight import Stage
from lora_operator.sources import FoundAdapter
from lora_operator.vllm.answers import EngineModel, Frontend
from lora_operator.vllm.client import Endpoint, LoadOutcome
from lora_operator.vllm.errors import EngineTimeout, EngineUnreachable
from tests.core.fleet import ADAPTERS, Fleet, a_fleet


async def test_what_is_wanted_no_more_when_its_files_are_there_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        fetching = fleet.hold_fetches(monkeypatch)
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: len(fleet.ledger))
        fleet.apply("la", "sql", replicas=0)
        await fleet.rounds()
        fetching.set()
        await fleet.until(lambda: not len(fleet.ledger))
        assert "load" not in fleet.engines["p0"].journal.calls
        fleet.apply("la", "sql", replicas=1)
        await fleet.until(lambda: fleet.ready("la"))


async def test_what_is_wanted_on_another_pod_by_now_is_not_loaded_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        await fleet.add_pod("far", labels={"zone": "b", "production-stack.vllm-project/lora": "enabled"})
        fetching = fleet.hold_fetches(monkeypatch)
        fleet.write("sql")
        fleet.apply("la", "sql", selector={"zone": "b"})
        await fleet.until(lambda: any(fleet.ledger.on("ns/far")))
        fleet.change_pod("p0", lambda body: body["metadata"]["labels"].update(zone="c"))
        fleet.apply("la", "sql", selector={"zone": "c"})
        await fleet.until(lambda: any(fleet.ledger.on("ns/p0")))
        fetching.set()
        await fleet.until(lambda: fleet.ready("la"))
        assert fleet.listed() == {"p0": ["sql"]} and "load" not in fleet.engines["far"].journal.calls


async def test_what_is_wanted_again_while_routers_let_go_is_not_unloaded(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=2, withdraw_seconds=0.3) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql", replicas=2)
        await fleet.until(lambda: fleet.ready("la"))
        fleet.apply("la", "sql", replicas=1)
        await fleet.until(lambda: len(fleet.assigned("la")) == 1)
        fleet.apply("la", "sql", replicas=2)
        await fleet.until(lambda: len(fleet.assigned("la")) == 2 and fleet.ready("la"))
        assert all("unload" not in engine.journal.calls for engine in fleet.engines.values())


def most_listed(fleet: Fleet, pod: str) -> int:
    """The most names that the engine ever listed at a time, by its own journal."""
    count = most = 0
    for event in fleet.engines[pod].journal.events:
        if event["event"] in ("load", "unload") and event["status"] == 200:
            count += 1 if event["event"] == "load" else -1
            most = max(most, count)
    return most


ONE_SLOT = (
    "--max-loras",
    "1",
    "--max-cpu-loras",
    "1",
    "--sim-load-seconds",
    "0.6",
    "--sim-parallel-loads",
    "--sim-unload-seconds",
    "0.4",
)


async def test_the_room_of_a_load_that_may_still_happen_stays_taken(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, load_timeout=0.1, unload_timeout=5.0) as fleet:
        await fleet.add_pod("p0", *ONE_SLOT, "--sim-load-seconds", "3")  # long enough to be seen
        fleet.write("sql")
        fleet.write("chat")
        fleet.apply("first", "sql")
        await fleet.until(lambda: any(e.stage is Stage.UNANSWERED for e in fleet.ledger.on("ns/p0")))
        fleet.apply("second", "chat")
        fleet.delete("first")
        await fleet.until(lambda: fleet.on("p0") == ["chat"] and not fleet.exists("first"))
        assert most_listed(fleet, "p0") == 1


async def test_a_load_that_took_too_long_is_found_and_not_asked_for_in_vain(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, load_timeout=0.1) as fleet:
        await fleet.add_pod("p0", *ONE_SLOT)
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.ready("la"))
        assert [e["status"] for e in fleet.engines["p0"].journal.events if e["event"] == "load"][:1] == [200]
        assert "unload" not in fleet.engines["p0"].journal.calls and most_listed(fleet, "p0") == 1


async def test_a_load_that_came_late_is_no_failure_any_more(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, load_timeout=0.1) as fleet:
        await fleet.add_pod("p0", *ONE_SLOT)
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.ready("la") and not len(fleet.ledger))
        assert not len(fleet.failures)


async def test_a_connection_that_fails_is_no_answer_to_a_load_that_may_still_happen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "UNANSWERED_FIRST_SECONDS", 0.01)
    async with a_fleet(tmp_path, pods=1) as fleet:
        client, under_way = fleet.actors.executor._on.client, []
        load = client.load

        async def asked(endpoint: Endpoint, name: str, path: str) -> LoadOutcome:
            under_way.append(fleet.ledger.get("ns/p0", name))
            if len(under_way) == 1:
                raise EngineTimeout(str(endpoint), "POST /v1/load_lora_adapter", 0.1)
            if len(under_way) == 2:
                raise EngineUnreachable(str(endpoint), "too many open files", own_shortage=True)
            outcome: LoadOutcome = await load(endpoint, name, path)
            return outcome

        monkeypatch.setattr(client, "load", asked)
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.ready("la"))
        assert len(under_way) == 3 and all(effect is under_way[0] for effect in under_way)


async def test_loads_that_a_rust_frontend_never_answers_are_tried_less_and_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "UNANSWERED_FIRST_SECONDS", 0.01)
    async with a_fleet(tmp_path, pods=1) as fleet:
        client, asked = fleet.actors.executor._on.client, []
        models = client.models

        async def of_rust(endpoint: Endpoint) -> tuple[EngineModel, ...]:
            return tuple([replace(model, frontend=Frontend.RUST) for model in await models(endpoint)])

        async def silent(endpoint: Endpoint, name: str, path: str) -> LoadOutcome:
            asked.append(name)
            raise EngineTimeout(str(endpoint), "POST /v1/load_lora_adapter", 0.1)

        monkeypatch.setattr(client, "models", of_rust)
        monkeypatch.setattr(client, "load", silent)
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: len(asked) > loading.UNANSWERED_MOST + 1 and not len(fleet.ledger))
        assert fleet.failed("la")


async def test_an_adapter_whose_load_is_not_answered_is_served_by_another_pod(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=2, load_timeout=0.2) as fleet:
        hang = fleet.engines["p0"].faults.add("hang", "load")
        other = fleet.engines["p1"].faults.add("hang", "load")
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: hang.hits or other.hits)
        stuck, well = ("p0", "p1") if hang.hits else ("p1", "p0")
        fleet.engines[well].faults.clear()
        await fleet.until(lambda: fleet.ready("la") and list(fleet.assigned("la")) == [well])
        fleet.engines[stuck].faults.clear()
        await fleet.until(lambda: fleet.listed() == {well: ["sql"]} and not len(fleet.ledger))


async def test_an_engine_that_is_slow_to_unload_is_no_drift(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unloading, "AGAIN_SECONDS", 0.05)
    async with a_fleet(tmp_path, pods=1, unload_timeout=0.1) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.ready("la"))
        late = fleet.engines["p0"].faults.add("late", "unload")
        fleet.apply("la", "sql", replicas=0)
        await fleet.until(lambda: late.hits and not fleet.view("p0").models)
        hang = fleet.engines["p0"].faults.add("hang", "unload")
        fleet.engines["p0"].faults.clear(late.id)
        fleet.apply("la", "sql", replicas=1)
        await fleet.until(lambda: fleet.ready("la"))
        fleet.apply("la", "sql", replicas=0)
        await fleet.until(lambda: hang.hits >= 2)  # the first time-out is over; the engine does it much later
        fleet.engines["p0"].faults.clear()
        await fleet.until(lambda: not fleet.view("p0").models and not len(fleet.ledger))
        assert "somebody else unloaded" not in caplog.text


@pytest.mark.parametrize("what", ["load", "unload"])
async def test_an_effect_that_the_fence_stops_is_no_failure_and_no_defect(
    what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        fleet.write("sql")
        if what == "unload":
            fleet.apply("la", "sql")
            await fleet.until(lambda: fleet.ready("la"))
        stopped = []

        def lost() -> None:
            stopped.append(1)
            raise LeaseLost("it is another's")

        monkeypatch.setattr(fleet.actors.executor._on, "fence", lost)
        fleet.apply("la", "sql", replicas=1 if what == "load" else 0)
        await fleet.until(lambda: stopped)
        await fleet.rounds(1)
        assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
        assert what not in fleet.engines["p0"].journal.calls
        assert not fleet.failed("la")


async def test_an_operator_that_leads_no_more_asks_nothing_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_fleet(tmp_path, load_timeout=0.1) as fleet:
        await fleet.add_pod("p0", *ONE_SLOT)
        hang = fleet.engines["p0"].faults.add("hang", "load")
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: hang.hits)
        stopped: list[int] = []

        def lost() -> None:
            stopped.append(1)
            raise LeaseLost("it is another's")

        monkeypatch.setattr(fleet.actors.executor._on, "fence", lost)
        await fleet.until(lambda: stopped)
        await fleet.until(lambda: not any(e.stage is Stage.UNANSWERED for e in fleet.ledger.on("ns/p0")))
        assert hang.hits == 1 and "never retrieved" not in caplog.text


async def test_one_of_higher_priority_takes_room_again_once_its_files_can_be_brought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_fleet(tmp_path, retry_max_seconds=0.5) as fleet:
        await fleet.add_pod("p0", "--max-loras", "1", "--max-cpu-loras", "1")
        fleet.write("low")
        fleet.write("high")
        fleet.apply("low", "low")
        await fleet.until(lambda: fleet.ready("low"))
        store, away = fleet.operator.files.store, True
        publish = store.publish

        async def while_away(adapter: FoundAdapter, folder: Path) -> Path:
            if adapter.name == "high" and away:
                raise StoreError("StoreUnavailable", "it is away", retryable=True)
            return await publish(adapter, folder)

        monkeypatch.setattr(store, "publish", while_away)
        fleet.apply("high", "high")
        body = fleet.api.objects[f"{ADAPTERS}/high"]
        fleet.api.put(f"{ADAPTERS}/high", body | {"spec": body["spec"] | {"schedulingConfig": {"priority": 1}}})
        await fleet.until(lambda: len(fleet.failures) and fleet.on("p0") == ["low"])
        away = False
        await fleet.until(lambda: fleet.ready("high"), timeout=30.0)
        assert fleet.on("p0") == ["high"]
