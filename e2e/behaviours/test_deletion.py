"""Deletion of a LoraAdapter waits for the engines, and never for ever."""

from __future__ import annotations

from e2e.behaviours.seen import listed, loads
from e2e.behaviours.worlds import Worlds
from e2e.world import World
from e2e.world.world import assigned, condition, eventually, failed

PATIENCE = ("--probe-seconds", "0.3", "--probe-timeout", "0.5", "--hold-seconds", "1")


def _reasons(world: World, name: str) -> dict[str, str]:
    return {event["reason"]: event["message"] for event in world.events(name)}


def test_an_engine_that_hangs_is_waited_for_until_a_deadline_and_unloaded_when_it_is_back(worlds: Worlds) -> None:
    world = worlds(2, operator=(*PATIENCE, "--finalizer-seconds", "2"))
    for index, name in enumerate(("sql", "other")):
        world.adapter(name, seed=index)
        world.apply(name, name, deployment={"replicas": 2})
        world.wait_ready(name)
    world.engine("vllm-1").fault(kind="hang", endpoint="all")
    world.kubectl("delete", "la", "sql", "--wait=false")
    eventually(lambda: "sql" not in world.engine("vllm-0").models(), what=("the healthy engine has let go",))
    world.wait_gone("sql")
    eventually(lambda: "ReleasedWithoutUnload" in _reasons(world, "sql"), what=("an Event says so",))
    assert "sql on vllm-1" in _reasons(world, "sql")["ReleasedWithoutUnload"]
    world.wait("other", lambda status: assigned(status) == {"vllm-0": ["other"]})

    world.engine("vllm-1").heal()
    eventually(lambda: listed(world) == {"vllm-0": ["other"], "vllm-1": ["other"]}, what=("the rest is unloaded",))
    world.wait_ready("other")
    assert loads(world)["vllm-1", "other"] == 1


def test_a_pod_that_is_gone_has_let_go(worlds: Worlds) -> None:
    world = worlds(2, operator=(*PATIENCE, "--finalizer-seconds", "600"))
    world.adapter("sql")
    world.apply("sql", "sql", deployment={"replicas": 2})
    world.wait_ready("sql")
    world.engine("vllm-1").fault(kind="hang", endpoint="all")
    world.kubectl("delete", "la", "sql", "--wait=false")
    eventually(lambda: "sql" not in world.engine("vllm-0").models(), what=("the healthy engine has let go",))
    assert world.get("sql"), "it is not waiting for the engine that hangs"
    world.kubectl("delete", "pod", "vllm-1", "--force", "--grace-period=0", "--wait=false")
    world.wait_gone("sql")
    assert "ReleasedWithoutUnload" not in _reasons(world, "sql")


def test_an_operator_that_has_never_heard_an_engine_does_not_take_its_silence_for_an_empty_list(worlds: Worlds) -> None:
    world = worlds(1, operator=PATIENCE)
    world.adapter("sql")
    world.apply("sql", "sql")
    world.wait_ready("sql")
    engine = world.engine("vllm-0")
    engine.fault(kind="hang", endpoint="all")
    world.stop_operator()
    world.kubectl("delete", "la", "sql", "--wait=false")
    world.start_operator(*PATIENCE, "--finalizer-seconds", "600")
    # a later resource has been seen to, so that the deletion was looked at as well
    world.adapter("later", seed=1)
    world.apply("later", "later")
    world.wait("later", lambda status: failed(status) == {"later": "PodUnreachable"})
    assert world.get("sql"), "released though nobody knows what the engine holds"
    engine.heal()
    world.wait_gone("sql")
    world.wait_ready("later")
    assert listed(world) == {"vllm-0": ["later"]}


def test_with_no_pod_left_it_goes_at_once(worlds: Worlds) -> None:
    world = worlds(1, operator=("--finalizer-seconds", "600"))
    world.adapter("sql")
    world.apply("sql", "sql")
    world.wait_ready("sql")
    world.kubectl("scale", "statefulset/vllm", "--replicas=0")
    world.wait("sql", lambda status: condition(status, "Ready") == "False")
    world.kubectl("delete", "la", "sql", "--wait=false")
    world.wait_gone("sql")
