"""Deletion of a LoraAdapter waits for the engines, and never for ever."""

from __future__ import annotations

import json

import pytest

from e2e.behaviours.seen import AuditLog, listed, loads
from e2e.behaviours.worlds import Worlds
from e2e.world import World
from e2e.world.rest import Json
from e2e.world.world import SERVICE_ACCOUNT, assigned, condition, eventually, failed
from lora_operator.api.well_known import FINALIZER

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


@pytest.mark.parametrize("theirs", [(), ("example.com/theirs",)])
def test_one_that_was_created_with_our_finalizer_is_deleted_as_any_other(
    worlds: Worlds, theirs: tuple[str, ...]
) -> None:
    # a backup that is restored, a dump that is applied again: whoever created it owns the finalizer
    world = worlds(1)
    world.adapter("sql")
    body = world.manifest("sql", "sql")
    body["metadata"]["finalizers"] = [FINALIZER, *theirs]
    world.kubectl("create", "-f", "-", input=json.dumps(body))
    world.wait_ready("sql")
    audit = AuditLog(world.plane.audit_log)
    world.kubectl("delete", "la", "sql", "--wait=false")
    world.rest.wait(world.collection, "sql", lambda body: finalizers_of(body) == list(theirs))
    assert finalizer_writes(world, audit) == 1
    if theirs:
        world.kubectl("patch", "la", "sql", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    world.wait_gone("sql")


def test_a_finalizer_is_added_beside_those_of_others_and_in_one_write(worlds: Worlds) -> None:
    world = worlds(1)
    for index, (name, theirs) in enumerate({"sql": [], "kept": ["example.com/theirs"]}.items()):
        world.adapter(name, seed=index)
        audit = AuditLog(world.plane.audit_log)
        body = world.manifest(name, name)
        body["metadata"]["finalizers"] = theirs
        world.kubectl("create", "-f", "-", input=json.dumps(body))
        world.rest.wait(world.collection, name, lambda body: FINALIZER in finalizers_of(body))
        assert finalizers_of(world.wait_ready(name)) == [*theirs, FINALIZER]
        assert finalizer_writes(world, audit) == 1
    world.kubectl("patch", "la", "kept", "--type=json", "-p", '[{"op":"remove","path":"/metadata/finalizers/0"}]')


def finalizers_of(body: Json) -> list[str]:
    return list((body.get("metadata") or {}).get("finalizers") or ())


def finalizer_writes(world: World, audit: AuditLog) -> int:
    """How often the operator has patched LoraAdapters themselves, their status aside."""
    lines = audit.writes(world.namespace, SERVICE_ACCOUNT)
    return sum("/loraadapters/" in line and "/status" not in line for line in lines)
