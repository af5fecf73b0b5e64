"""Engines that hang, fail, die or lose things: each harms nothing but itself, and heals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.behaviours.folders import many
from e2e.behaviours.seen import listed, loads, log_of, unloads
from e2e.behaviours.worlds import Worlds
from e2e.controlplane import ControlPlane
from e2e.world import World
from e2e.world.rest import Json
from e2e.world.world import assigned, condition, eventually, failed

PATIENCE = ("--probe-seconds", "0.3", "--probe-timeout", "0.5", "--hold-seconds", "1", "--retry-seconds", "0.2")


def on(pod: str) -> Json:
    """A deploymentConfig for one pod only."""
    return {"podSelector": {"matchLabels": {"statefulset.kubernetes.io/pod-name": pod}}}


def as_status_says(world: World, *resources: str) -> bool:
    """Whether the engines list exactly what these LoraAdapters' status names."""
    named: dict[str, list[str]] = {}
    for resource in resources:
        for pod, names in assigned(world.get(resource)["status"]).items():
            named[pod] = sorted(named.get(pod, []) + names)
    return listed(world) == named


def test_an_engine_that_hangs_holds_up_nothing_but_itself(worlds: Worlds) -> None:
    world = worlds(3, operator=PATIENCE)
    world.adapter("old")
    world.adapter("new", seed=1)
    world.apply("old", "old", deployment={"replicas": 2})
    hung, other = sorted(assigned(world.wait_ready("old")["status"]))
    healthy = sorted({"vllm-0", "vllm-1", "vllm-2"} - {hung})

    world.engine(hung).fault(kind="hang", endpoint="all")
    world.apply("new", "new", deployment={"replicas": 3})
    world.wait("new", lambda status: sorted(assigned(status)) == healthy)
    status = world.wait("new", lambda status: failed(status) == {"new": "PodUnreachable"})["status"]
    assert [item["pod"] for item in status["failedAdapters"][0]["pods"]] == [hung]
    assert status["phase"] == "Partial"

    # its replicas are held for a second, and then replaced
    world.wait("old", lambda status: sorted(assigned(status)) == healthy and condition(status, "Ready") == "True")
    assert other in healthy

    world.engine(hung).heal()
    status = world.wait_ready("new")["status"]
    assert len(assigned(status)) == 3
    eventually(lambda: as_status_says(world, "old", "new"), what=("nothing is left over",))
    assert len(assigned(world.wait_ready("old")["status"])) == 2
    assert set(loads(world).values()) == {1}
    assert sum(unloads(world).values()) == 1


def test_a_frozen_process_is_waited_for_and_comes_back_without_leftovers(worlds: Worlds) -> None:
    world = worlds(2, in_process=False, operator=PATIENCE)
    names = many(world, 4)
    world.pods.freeze(world.namespace, "vllm-0")
    world.apply("many", "many", deployment={"replicas": 1})
    status = world.wait_ready("many")["status"]
    assert assigned(status) == {"vllm-1": names}

    world.pods.thaw(world.namespace, "vllm-0")
    # what was asked of it before it froze is done now, and undone
    world.adapter("back", seed=9)
    world.apply("back", "back", deployment=on("vllm-0"))
    world.wait_ready("back")
    eventually(lambda: as_status_says(world, "many", "back"), what=("nothing is left over",))
    assert set(assigned(world.wait_ready("many")["status"])) <= {"vllm-0", "vllm-1"}
    assert sum(len(pod) for pod in assigned(world.get("many")["status"]).values()) == 4


@pytest.mark.parametrize(
    ("fault", "reason"),
    [({"kind": "hang"}, "EngineTimeout"), ({"kind": "status", "status": 500}, "LoadRefused")],
    ids=["does not answer loads", "answers 500 to loads"],
)
def test_where_one_engine_does_not_load_another_does(worlds: Worlds, fault: Json, reason: str) -> None:
    world = worlds(2, operator=("--load-timeout", "1", "--retry-seconds", "0.3"))
    names = many(world, 4)
    world.adapter("only", seed=9)
    world.engine("vllm-0").fault(endpoint="load", **fault)
    world.apply("many", "many", deployment={"replicas": 1})
    world.apply("only", "only", deployment=on("vllm-0"))
    assert assigned(world.wait_ready("many")["status"]) == {"vllm-1": names}

    status = world.wait("only", lambda status: failed(status) == {"only": "LoadFailed"})["status"]
    (entry,) = status["failedAdapters"]
    assert reason in entry["message"]
    assert entry["pods"][0]["pod"] == "vllm-0"
    assert condition(status, "Ready") == "False"
    eventually(lambda: "LoadFailed" in {event["reason"] for event in world.events("only")}, what=("an Event",))

    world.engine("vllm-0").heal()
    world.wait_ready("only")
    eventually(lambda: as_status_says(world, "many", "only"), what=("nothing is left over",))
    assert loads(world)["vllm-0", "only"] == 1


def test_an_engine_that_dies_of_a_load_comes_back_with_all_it_had(worlds: Worlds) -> None:
    world = worlds(2, operator=PATIENCE)
    names = many(world, 3)
    world.adapter("deadly", seed=9)
    world.apply("many", "many", deployment={"replicas": 2})
    world.wait_ready("many")
    world.engine("vllm-0").fault(kind="crash")
    world.apply("deadly", "deadly", deployment={"replicas": 2})
    world.wait_ready("deadly")
    world.wait_ready("many")
    everything = [*names, "deadly"]
    assert listed(world) == {"vllm-0": everything, "vllm-1": everything}
    restarts = "jsonpath={.items[*].status.containerStatuses[0].restartCount}"
    assert world.kubectl("get", "pods", "-o", restarts) == "1 0"


@pytest.fixture(scope="module")
def lone(plane: ControlPlane, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One pod, and an operator that does not wait long for an answer to a load."""
    made = Worlds(plane, tmp_path_factory.mktemp("lone"), kubeconfig)
    yield made(1, operator=("--load-timeout", "0.5"))
    made.close()


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("answered-too-late", {"kind": "late"}),
        ("cut-off-after-the-work", {"kind": "drop", "after": True}),
        ("cut-off-before-the-work", {"kind": "drop", "after": False}),
    ],
)
def test_a_load_whose_answer_is_lost_is_neither_failed_nor_repeated(lone: World, name: str, fault: Json) -> None:
    lone.adapter(name)
    lone.engine("vllm-0").fault(endpoint="load", times=1, **fault)
    lone.apply(name, name)
    lone.wait_ready(name)
    assert loads(lone)["vllm-0", name] == 1
    assert f"{name} on {lone.namespace}/vllm-0 failed" not in log_of(lone)
    lone.engine("vllm-0").heal()
    lone.clear()


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("forgotten", {"kind": "forget_unload"}),
        ("answered-500", {"kind": "status", "endpoint": "unload", "status": 500}),
        ("cut-off", {"kind": "drop", "endpoint": "unload", "after": True}),
    ],
)
def test_an_unload_that_did_not_happen_is_asked_for_again(lone: World, name: str, fault: Json) -> None:
    lone.adapter(name)
    lone.apply(name, name)
    lone.wait_ready(name)
    lone.engine("vllm-0").fault(times=1, **fault)
    lone.kubectl("delete", "la", name, "--wait=false")
    lone.wait_gone(name)
    eventually(lambda: listed(lone) == {}, what=("it is unloaded in the end",))
    assert unloads(lone)["vllm-0", name] >= 1
