"""Pods come, go and lose what they held; the adapters stay."""

from __future__ import annotations

from e2e.behaviours.folders import many
from e2e.behaviours.seen import listed, loads, log_of, metric, unloads
from e2e.behaviours.worlds import Worlds
from e2e.world import World
from e2e.world.world import assigned, condition, eventually

ALL_PODS = {"replicaPolicy": "AllPods"}


def test_a_restarted_container_gets_all_its_adapters_back_and_status_tells_the_truth_meanwhile(worlds: Worlds) -> None:
    world = worlds(2, pod_options={"restart_seconds": 0.7})
    names = many(world, 5)
    world.apply("many", "many", deployment={"replicas": 2})
    world.wait_ready("many")

    world.pods.kill_container(world.namespace, "vllm-0")
    body = world.wait("many", lambda status: "vllm-0" not in assigned(status))
    assert assigned(body["status"]) == {"vllm-1": names}
    assert condition(body["status"], "Ready") == "False"

    body = world.wait_ready("many")
    assert assigned(body["status"]) == {"vllm-0": names, "vllm-1": names}
    assert listed(world) == {"vllm-0": names, "vllm-1": names}
    assert set(loads(world).values()) == {1}
    restarts = "jsonpath={.status.containerStatuses[0].restartCount}"
    assert world.kubectl("get", "pod", "vllm-0", "-o", restarts) == "1"
    assert metric(world, "lora_operator_drift_total") == 0


def test_a_deleted_pod_is_replaced_by_its_statefulset_and_gets_its_adapters_back(worlds: Worlds) -> None:
    world = worlds(2)
    names = many(world, 3)
    world.apply("many", "many", deployment={"replicas": 2})
    before = world.wait_ready("many")["status"]["podAssignments"]

    world.kubectl("delete", "pod", "vllm-1", "--wait=false")
    world.wait("many", lambda status: "vllm-1" not in assigned(status))
    after = world.wait_ready("many")["status"]["podAssignments"]
    assert [item["pod"] for item in after] == ["vllm-0", "vllm-1"]
    assert before[0] == after[0]
    assert before[1]["address"] != after[1]["address"]
    assert listed(world) == {"vllm-0": names, "vllm-1": names}


def test_a_new_pod_gets_what_all_pods_have_and_nothing_else_moves(worlds: Worlds) -> None:
    world = worlds(2)
    world.adapter("everywhere")
    world.adapter("pinned", seed=1)
    world.apply("everywhere", "everywhere", deployment=ALL_PODS)
    world.apply("pinned", "pinned", deployment={"replicas": 1})
    before = world.wait_ready("pinned")["status"]["podAssignments"]
    world.wait_ready("everywhere")

    world.kubectl("scale", "statefulset/vllm", "--replicas=3")
    body = world.wait("everywhere", lambda status: "vllm-2" in assigned(status))
    assert sorted(assigned(body["status"])) == ["vllm-0", "vllm-1", "vllm-2"]
    assert condition(body["status"], "Ready") == "True"
    assert world.get("pinned")["status"]["podAssignments"] == before
    assert listed(world)["vllm-2"] == ["everywhere"]
    assert not unloads(world)


def test_when_pods_go_their_copies_move_to_those_that_are_left(worlds: Worlds) -> None:
    world = worlds(3)
    names = many(world, 6)
    world.apply("many", "many", deployment={"replicas": 1})
    before = assigned(world.wait_ready("many")["status"])
    assert sorted(before) == ["vllm-0", "vllm-1", "vllm-2"]

    world.kubectl("scale", "statefulset/vllm", "--replicas=1")
    body = world.wait("many", lambda status: assigned(status) == {"vllm-0": names})
    assert condition(body["status"], "Ready") == "True"
    eventually(lambda: world.pods.pods(world.namespace) == ["vllm-0"], 60, ("the others are gone",))
    assert set(loads(world).values()) == {1}
    assert not unloads(world)


def test_what_somebody_unloads_by_hand_is_loaded_again_and_counted(fleet: World) -> None:
    fleet.adapter("sql")
    fleet.apply("sql", "sql", deployment=ALL_PODS)
    before = fleet.wait_ready("sql")["status"]
    engine = fleet.engine("vllm-1")
    counted = metric(fleet, "lora_operator_drift_total")

    assert engine.unload("sql") == 200
    eventually(lambda: "sql" in engine.models(), what=("the adapter is back",))
    assert loads(fleet)["vllm-1", "sql"] == 2
    assert metric(fleet, "lora_operator_drift_total") == counted + 1
    assert "somebody else unloaded sql" in log_of(fleet)
    assert fleet.wait_ready("sql")["status"]["podAssignments"] == before["podAssignments"]
