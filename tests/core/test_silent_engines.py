"""Engines that are slow, silent, cut off or gone, and what of that status, placement and the next process make."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from e2e.faults import FaultProxy
from lora_operator.api.well_known import GROUP
from lora_operator.engines import prober as engines
from lora_operator.vllm.engine_state import EngineState
from tests.core.fleet import Fleet, a_fleet

PATIENT = {"hold_seconds": 60.0, "probe_timeout": 0.1}


def never_lost(fleet: Fleet, name: str, pod: str) -> bool:
    """Whether no status that was written since the adapter was first served lacks the pod, or says other than Ready."""
    bodies = [
        body.get("status") or {}
        for (method, path), body in zip(fleet.api.calls, fleet.api.bodies, strict=True)
        if method == "PATCH" and f"/loraadapters/{name}/status" in path
    ]
    served = [{item["pod"] for item in status.get("podAssignments") or ()} for status in bodies]
    first = next(number for number, pods in enumerate(served) if pod in pods)
    return all(pod in pods for pods in served[first:])


@pytest.mark.parametrize("fault", [{"kind": "hang"}, {"kind": "drop"}, {"kind": "status", "status": 503}])
async def test_a_pod_that_misses_probes_keeps_its_place_and_phase_until_the_threshold(
    fault: dict[str, Any], tmp_path: Path
) -> None:
    async with a_fleet(tmp_path, pods=2, **PATIENT) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql", replicas=2)
        await fleet.until(lambda: fleet.ready("la"))
        await fleet.settle()
        writes = len(fleet.api.calls)
        hit = fleet.engines["p0"].faults.add(endpoint="models", **fault)
        await fleet.until(lambda: fleet.view("p0").state is EngineState.SUSPECT and hit.hits >= 2)
        await fleet.rounds(5)
        await fleet.settle()
        assert set(fleet.assigned("la")) == {"p0", "p1"} and fleet.status("la")["phase"] == "Ready"
        assert len(fleet.api.calls) == writes, "a suspicion is no news"
        fleet.engines["p0"].faults.clear()
        await fleet.until(lambda: fleet.view("p0").state is EngineState.UP)
        assert never_lost(fleet, "la", "p0")


def found_ready_by_its_kubelet(pod: dict[str, Any], ready: bool = True) -> None:
    pod["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"path": "/health", "port": 8000}}
    others = [one for one in pod["status"].get("conditions", []) if one["type"] != "Ready"]
    pod["status"]["conditions"] = [*others, {"type": "Ready", "status": str(ready)}]


async def test_where_most_engines_are_silent_at_once_their_kubelets_are_believed(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=3, hold_seconds=0.1, probe_timeout=0.05) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql", replicas=3)
        await fleet.until(lambda: fleet.ready("la"))
        for pod in ("p0", "p1", "p2"):
            fleet.change_pod(pod, found_ready_by_its_kubelet)
        # one of three is that engine's own trouble
        fleet.engines["p0"].faults.add("hang", "models")
        await fleet.until(lambda: fleet.view("p0").state is EngineState.DOWN)
        await fleet.until(lambda: set(fleet.assigned("la")) == {"p1", "p2"})
        fleet.engines["p0"].faults.clear()
        await fleet.until(lambda: fleet.ready("la") and set(fleet.assigned("la")) == {"p0", "p1", "p2"})
        # all of them: the way from the operator is broken
        hits = [engine.faults.add("hang", "models") for engine in fleet.engines.values()]
        await fleet.until(lambda: all(hit.hits >= 20 for hit in hits))
        await fleet.settle()
        assert {fleet.view(pod).state for pod in ("p0", "p1", "p2")} == {EngineState.SUSPECT}
        assert set(fleet.assigned("la")) == {"p0", "p1", "p2"} and fleet.ready("la")
        # but one that its kubelet does not find ready any more is gone
        fleet.change_pod("p2", lambda pod: found_ready_by_its_kubelet(pod, ready=False))
        await fleet.until(lambda: set(fleet.assigned("la")) == {"p0", "p1"})


def nobody_listens(gate: FaultProxy) -> int:
    """As behind a NetworkPolicy that rejects: the engine is well, and whoever comes is refused."""
    gate.__exit__()
    return gate.port


async def test_where_most_connections_are_refused_at_once_the_kubelets_are_believed(tmp_path: Path) -> None:
    names = ("p0", "p1", "p2")
    async with a_fleet(tmp_path, hold_seconds=0.1) as fleet:
        gates = {}
        for name in names:
            engine = await fleet.add_pod(name)
            gates[name] = FaultProxy("127.0.0.1", engine.port).__enter__()
            where = {f"{GROUP}/port": str(gates[name].port)}
            fleet.change_pod(name, lambda body, where=where: body["metadata"]["annotations"].update(where))  # type: ignore[misc]
            fleet.change_pod(name, found_ready_by_its_kubelet)
        fleet.write("sql")
        fleet.apply("la", "sql", replicas=3)
        await fleet.until(lambda: fleet.ready("la") and all(fleet.view(name).listed("sql") for name in names))
        # one of three has ended, whatever its kubelet says so far
        port = nobody_listens(gates["p0"])
        await fleet.until(lambda: fleet.view("p0").state is EngineState.STARTING)
        await fleet.until(lambda: set(fleet.assigned("la")) == {"p1", "p2"})
        gates["p0"] = FaultProxy("127.0.0.1", fleet.engines["p0"].port, ("127.0.0.1", port)).__enter__()
        await fleet.until(lambda: fleet.ready("la") and set(fleet.assigned("la")) == set(names))
        # all of them: the way from the operator is broken
        await fleet.settle()
        ports = {name: nobody_listens(gate) for name, gate in gates.items()}
        await fleet.until(lambda: all(fleet.view(name).misses >= 5 for name in names))
        await fleet.settle()
        assert {fleet.view(name).state for name in names} == {EngineState.SUSPECT}
        assert set(fleet.assigned("la")) == set(names) and fleet.ready("la")
        # but one that its kubelet does not find ready any more is gone
        fleet.change_pod("p2", lambda pod: found_ready_by_its_kubelet(pod, ready=False))
        await fleet.until(lambda: set(fleet.assigned("la")) == {"p0", "p1"})
        for name in ("p0", "p1"):
            with FaultProxy("127.0.0.1", fleet.engines[name].port, ("127.0.0.1", ports[name])):
                await fleet.until(lambda name=name: fleet.view(name).state is EngineState.UP)  # type: ignore[misc]
        assert sum(event["event"] == "load" for event in fleet.engines["p1"].journal.events) == 1


async def test_a_new_adapter_waits_for_a_suspect_pod_and_has_not_failed(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1, **PATIENT) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.ready("la"))
        fleet.engines["p0"].faults.add("hang", "models")
        await fleet.until(lambda: fleet.view("p0").state is EngineState.SUSPECT)
        fleet.write("chat")
        fleet.apply("new", "chat")
        await fleet.until(lambda: fleet.condition("new"))
        assert fleet.status("new")["phase"] == "Pending" and not fleet.failed("new")
        fleet.engines["p0"].faults.clear()
        await fleet.until(lambda: fleet.ready("new"))


async def test_a_process_that_has_just_started_takes_nothing_from_a_pod_it_has_not_reached(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=2, **PATIENT) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.ready("la"))
        (pod,) = fleet.assigned("la")
        other = "p1" if pod == "p0" else "p0"
        hang = fleet.engines[pod].faults.add("hang", "models")
        await fleet.restart()
        await fleet.until(lambda: hang.hits >= 3)
        await fleet.rounds(5)
        assert list(fleet.assigned("la")) == [pod] and fleet.ready("la")
        assert other not in fleet.listed(), "nothing is placed elsewhere yet"
        fleet.engines[pod].faults.clear()
        await fleet.until(lambda: fleet.view(pod).state is EngineState.UP)
        await fleet.rounds()
        assert fleet.listed() == {pod: ["sql"]} and never_lost(fleet, "la", pod)
        assert "lora_operator_drift_total 0.0" in fleet.operator.metrics.exposition().decode()


async def test_a_pod_that_a_new_process_cannot_reach_for_long_is_given_up(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=2, hold_seconds=0.3, probe_timeout=0.1) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.ready("la"))
        (pod,) = fleet.assigned("la")
        fleet.engines[pod].faults.add("hang", "models")
        await fleet.restart()
        await fleet.until(lambda: fleet.ready("la") and set(fleet.assigned("la")) == {"p0", "p1"} - {pod})


async def test_an_engine_whose_process_has_ended_is_replaced_at_once_however_rarely_pods_are_probed(
    tmp_path: Path,
) -> None:
    async with a_fleet(tmp_path, pods=2, probe_seconds=3600.0, hold_seconds=3600.0) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.ready("la"))
        (pod,) = fleet.assigned("la")
        await fleet.until(lambda: f"ns/{pod}" in fleet.observers.engines._tripwires._wires)
        await fleet.engines[pod].kill()
        await fleet.until(lambda: fleet.ready("la") and set(fleet.assigned("la")) == {"p0", "p1"} - {pod})


async def test_a_pod_whose_engine_lists_too_much_keeps_its_place_and_gets_nothing_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_fleet(tmp_path, pods=1, hold_seconds=0.1) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql")
        await fleet.until(lambda: fleet.ready("la"))
        monkeypatch.setattr(engines, "TOO_LONG_AGAIN_SECONDS", 0.0)
        monkeypatch.setattr("lora_operator.vllm.client.LIST_ENTRIES_MAX", 1)
        await fleet.until(lambda: fleet.view("p0").reason == "ModelListTooLong" and fleet.view("p0").misses > 5)
        await fleet.until(lambda: time.monotonic() - fleet.view("p0").silent_since > 0.2)
        await fleet.rounds()
        assert fleet.assigned("la") == {"p0": ["sql"]} and fleet.status("la")["phase"] == "Ready"
        fleet.write("chat")
        fleet.apply("new", "chat")
        await fleet.until(lambda: fleet.failed("new") == {"chat": "ModelListTooLong"})
        assert fleet.on("p0") == ["sql"]
