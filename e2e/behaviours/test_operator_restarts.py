"""The operator dies, is stopped and starts again: nothing is lost, repeated or undone by that."""

from __future__ import annotations

import json
import shutil

from e2e.behaviours.folders import many
from e2e.behaviours.seen import AuditLog, listed, loads, log_of, unloads
from e2e.behaviours.worlds import Worlds
from e2e.world import World
from e2e.world.world import SERVICE_ACCOUNT, assigned, condition, eventually, failed


def kill(world: World) -> None:
    """SIGKILL the operator."""
    assert world.operator is not None
    world.operator.kill()


def test_killed_while_it_loads_twenty_adapters_it_goes_on_where_it_was(worlds: Worlds) -> None:
    world = worlds(3, "--sim-load-seconds", "0.05", max_cpu_loras=20)
    names = many(world, 20)
    world.apply("many", "many", deployment={"replicas": 3})
    eventually(lambda: len(world.engine("vllm-0").models()) >= 3, what=("it has begun",))
    kill(world)
    assert len(world.engine("vllm-0").models()) < 20

    world.start_operator()
    world.wait_ready("many")
    assert listed(world) == dict.fromkeys(("vllm-0", "vllm-1", "vllm-2"), names)
    assert set(loads(world).values()) == {1}
    assert not unloads(world)


def test_killed_in_the_middle_of_a_roll_out_it_finishes_it(worlds: Worlds) -> None:
    world = worlds(3, operator=("--withdraw-seconds", "0.3"))
    world.adapter("sql")
    world.apply("sql", "sql", deployment={"replicas": 3})
    world.wait_ready("sql")
    before = world.engine("vllm-0").models()["sql"]

    world.adapter("sql", seed=1)
    eventually(
        lambda: any(engine.models().get("sql", before) != before for engine in world.engines().values()),
        what=("the first pod has the new version",),
    )
    kill(world)
    paths = [engine.models().get("sql") for engine in world.engines().values()]
    assert before in paths  # the last pod has not

    world.start_operator()
    world.wait("sql", lambda status: [a["loaded"] for a in status["adapters"]] == [3] and _is_ready(status))
    after = {engine.models()["sql"] for engine in world.engines().values()}
    assert len(after) == 1 and before not in after
    assert set(loads(world).values()) == {2}
    assert set(unloads(world).values()) == {1}
    assert len({engine.complete("sql").weights for engine in world.engines().values()}) == 1


def _is_ready(status: dict[str, object]) -> bool:
    return condition(status, "Ready") == "True"


def test_a_restart_in_quiet_changes_and_writes_nothing(worlds: Worlds) -> None:
    world = worlds(2, operator=("--probe-seconds", "0.2"))
    many(world, 5)
    world.apply("many", "many", deployment={"replicas": 1})
    world.apply("broken", "nowhere")
    before = world.wait_ready("many")
    world.wait("broken", lambda status: condition(status, "SourceReady") == "False")
    broken = world.get("broken")
    eventually(lambda: len(world.events("broken")) > 0, what=("its Event",))
    done = loads(world)

    audit = AuditLog(world.plane.audit_log)
    assert world.stop_operator() == 0
    world.start_operator("--probe-seconds", "0.2")
    looks = {pod: engine.calls()["models"] for pod, engine in world.engines().items()}
    eventually(
        lambda: all(engine.calls()["models"] > looks[pod] + 5 for pod, engine in world.engines().items()),
        what=("it has looked at all pods again and again",),
    )
    assert audit.writes(world.namespace, SERVICE_ACCOUNT) == []
    assert audit.requests(), "the audit log is not written"
    assert loads(world) == done
    assert not unloads(world)
    assert world.get("many") == before
    assert world.get("broken") == broken


def test_what_is_created_changed_and_deleted_while_it_is_down_is_seen_to_when_it_is_back(worlds: Worlds) -> None:
    world = worlds(2)
    for index, name in enumerate(("kept", "grows", "goes", "new")):
        world.adapter(name, seed=index)
    for name in ("kept", "grows", "goes"):
        world.apply(name, name, deployment={"replicas": 1})
        world.wait_ready(name)
    before = world.get("kept")["status"]["podAssignments"]

    assert world.stop_operator() == 0
    world.apply("new", "new", deployment={"replicas": 2})
    world.apply("grows", "grows", deployment={"replicas": 2})
    world.kubectl("delete", "la", "goes", "--wait=false")
    assert "goes" in {name for names in listed(world).values() for name in names}

    world.start_operator()
    world.wait_gone("goes")
    world.wait_ready("new")
    world.wait_ready("grows")
    assert world.get("kept")["status"]["podAssignments"] == before
    where = before[0]["pod"]
    both = {pod: sorted({"grows", "new", *(["kept"] if pod == where else [])}) for pod in ("vllm-0", "vllm-1")}
    assert listed(world) == both
    assert set(loads(world).values()) == {1}
    assert sum(unloads(world).values()) == 1


def test_adapters_stay_and_come_back_while_their_source_is_away(worlds: Worlds) -> None:
    world = worlds(2)
    names = many(world, 3)
    world.apply("many", "many", deployment={"replicas": 2})
    world.wait_ready("many")

    world.stop_operator()
    away = world.source / "many"
    away.rename(world.directory / "elsewhere")
    world.start_operator()
    status = world.wait("many", lambda status: condition(status, "SourceReady") == "False")["status"]
    (why,) = [item for item in status["conditions"] if item["type"] == "SourceReady"]
    assert why["reason"] == "FolderNotFound"
    assert condition(status, "Ready") == "True"
    assert assigned(status) == {"vllm-0": names, "vllm-1": names}
    assert set(loads(world).values()) == {1}
    assert not unloads(world)

    # a pod that restarts gets them from the adapter volume
    world.pods.kill_container(world.namespace, "vllm-0")
    world.pods.wait_restarted(world.namespace, "vllm-0")
    eventually(lambda: listed(world) == {"vllm-0": names, "vllm-1": names}, what=("the pod has them back",))
    world.wait("many", lambda status: assigned(status) == {"vllm-0": names, "vllm-1": names} and _is_ready(status))

    (world.directory / "elsewhere").rename(away)
    world.wait("many", lambda status: condition(status, "SourceReady") == "True")
    shutil.rmtree(away)
    world.wait("many", lambda status: condition(status, "SourceReady") == "False")
    assert listed(world) == {"vllm-0": names, "vllm-1": names}


def test_told_to_stop_it_lets_a_load_end_and_begins_no_more(worlds: Worlds) -> None:
    world = worlds(1)
    many(world, 2)
    world.adapter("first", seed=7)
    world.apply("first", "first")
    world.wait_ready("first")
    engine = world.engine("vllm-0")
    engine.fault(kind="slow", endpoint="load", seconds=0.7)
    world.apply("many", "many")
    eventually(lambda: engine.calls()["load"] == 2, what=("a load is under way",))
    # a pod that serves gets one at a time, whichever's files are there first
    assert world.stop_operator() == 0
    assert engine.calls()["load"] == 2
    (loaded,) = {"a00", "a01"} & set(engine.models())
    assert f"loaded {loaded}" in log_of(world)

    engine.heal()
    world.start_operator()
    world.wait_ready("many")
    assert set(loads(world).values()) == {1}


def test_it_says_how_it_is(worlds: Worlds) -> None:
    world = worlds(1)
    world.adapter("sql")
    world.apply("sql", "sql")
    world.apply("broken", "nowhere")
    world.wait_ready("sql")
    world.wait("broken", lambda status: condition(status, "SourceReady") == "False")
    assert world.operator is not None
    assert world.operator.fetch("/healthz").startswith("ok, last plan")
    assert world.operator.fetch("/readyz").startswith("ok, last plan")
    text = world.operator.fetch("/metrics")
    for line in (
        'lora_operator_loads_total{result="ok"} 1.0',
        'lora_operator_pods{state="Up"} 1.0',
        'lora_operator_adapters{state="complete"} 1.0',
        "lora_operator_in_flight_actions 0.0",
        "lora_operator_drift_total 0.0",
    ):
        assert line in text.splitlines(), f"{line} is not in:\n{text}"
    assert failed(world.get("broken")["status"]) == {}
    assert json.dumps(world.get("broken")["status"]).count("FolderNotFound") >= 1
