"""Each pod says in a LoraEndpoint of its own what it holds."""

from __future__ import annotations

from typing import Any

from e2e.behaviours.seen import AuditLog
from e2e.behaviours.worlds import Worlds
from e2e.world import World
from e2e.world.world import SERVICE_ACCOUNT, eventually

Json = dict[str, Any]


def held(world: World) -> dict[str, list[str]]:
    """By pod, the adapters that its LoraEndpoint names."""
    return {body["metadata"]["name"]: sorted(body.get("adapters") or ()) for body in _endpoints(world)}


def _endpoints(world: World) -> list[Json]:
    found: list[Json] = world.rest.get(world.endpoints)["items"]
    return found


def test_what_a_pod_holds_is_published_and_withdrawn_and_goes_with_it(worlds: Worlds) -> None:
    world = worlds(2)
    for number, name in enumerate(("sql", "chat")):
        world.adapter(name, seed=number)
        world.apply(name, name, deployment={"replicaPolicy": "AllPods"})
    for name in ("sql", "chat"):
        world.wait_ready(name)
    eventually(lambda: held(world) == {"vllm-0": ["chat", "sql"], "vllm-1": ["chat", "sql"]})
    status = world.get("sql")["status"]
    assert status["pods"] == 2 and [item["pod"] for item in status["podAssignments"]] == ["vllm-0", "vllm-1"]
    for body in _endpoints(world):
        pod = world.rest.get(f"/api/v1/namespaces/{world.namespace}/pods/{body['metadata']['name']}")
        assert [owner["uid"] for owner in body["metadata"]["ownerReferences"]] == [pod["metadata"]["uid"]]
        assert body["address"].startswith(pod["status"]["podIP"])
    world.rest.delete(f"{world.collection}/chat")
    world.wait_gone("chat")
    assert held(world) == {"vllm-0": ["sql"], "vllm-1": ["sql"]}
    world.kubectl("scale", "statefulset/vllm", "--replicas=1")
    eventually(lambda: held(world) == {"vllm-0": ["sql"]})


def test_one_load_writes_one_loraendpoint_once(worlds: Worlds) -> None:
    world = worlds(3)
    world.adapter("sql")
    world.apply("sql", "sql")
    world.wait_ready("sql")
    eventually(lambda: len(held(world)) == 1)
    audit = AuditLog(world.plane.audit_log)
    world.adapter("chat", seed=1)
    world.apply("chat", "chat")
    world.wait_ready("chat")
    eventually(lambda: sum("chat" in names for names in held(world).values()) == 1)
    writes = [one for one in audit.writes(world.namespace, SERVICE_ACCOUNT) if "/loraendpoints/" in one]
    assert len(writes) == 1
