"""Requests that users send become demand, and demand becomes replicas."""

from __future__ import annotations

from e2e.behaviours.client import Client
from e2e.behaviours.seen import AuditLog, metric, unloads
from e2e.behaviours.worlds import Worlds
from e2e.world import World
from e2e.world.world import SERVICE_ACCOUNT, assigned, condition, eventually

QUICK = ("--demand-seconds", "0.1", "--demand-half-life", "0.4")


def demand(world: World) -> float:
    return metric(world, "lora_operator_demand_requests_per_second", base_model="tiny")


def test_requests_become_demand_which_ends_with_them_and_writes_nothing(worlds: Worlds) -> None:
    world = worlds(2, operator=QUICK)
    for name in ("sql", "chat"):
        world.adapter(name)
        world.apply(name, name)
    for name in ("sql", "chat"):
        world.wait_ready(name)
    log = AuditLog(world.plane.audit_log)
    with Client(world, "sql", "sql") as client:
        eventually(lambda: demand(world) > 0.0, what=("requests are seen",))
    assert all(request.answer.status == 200 for request in client.requests)
    eventually(lambda: demand(world) == 0.0, what=("their end is seen",))
    assert not log.writes(world.namespace, SERVICE_ACCOUNT)


def test_two_busy_adapters_on_one_pod_part_without_a_request_lost(worlds: Worlds) -> None:
    # few requests in a short time prove nothing, and on a busy machine they are few
    world = worlds(2, operator=("--demand-seconds", "0.1", "--demand-half-life", "10"))
    names = ("chat", "code", "math", "sql")
    for name in names:
        world.adapter(name)
        world.apply(name, name)
    pod_of = {name: next(iter(assigned(world.wait_ready(name)["status"]))) for name in names}
    # of four on two pods, some pod has two: which one is nobody's promise
    pod, other_pod = sorted(("vllm-0", "vllm-1"), key=list(pod_of.values()).count, reverse=True)
    first, second, *_ = (name for name in names if pod_of[name] == pod)
    with Client(world, first, first) as one, Client(world, second, second) as other:
        eventually(lambda: _pods(world, first).isdisjoint(_pods(world, second)), what=("they part",))
        eventually(lambda: demand(world) > 0.0, what=("both go on",))
    for client in (one, other):
        assert client.gaps == 0
        assert {request.answer.status for request in client.requests} == {200}
    (moved,) = (name for name in (first, second) if _pods(world, name) == {other_pod})
    eventually(lambda: "Rebalanced" in [event["reason"] for event in world.events(moved)], what=("an Event says so",))
    (event,) = (event for event in world.events(moved) if event["reason"] == "Rebalanced")
    assert event["message"].startswith(f"{moved} moves to pod {other_pod} from {pod}")


def test_replicas_follow_demand_up_and_down_and_a_restart_changes_nothing(worlds: Worlds) -> None:
    world = worlds(3, operator=QUICK)
    world.adapter("sql")
    world.apply("sql", "sql", deployment={"replicaPolicy": "Auto", "replicas": 1, "maxReplicas": 3})
    assert len(assigned(world.wait_ready("sql")["status"])) == 1
    with Client(world, "sql", "sql") as client:
        world.wait("sql", lambda status: status.get("replicas") == 3)
        world.stop_operator()
        done = unloads(world)
        world.start_operator(*QUICK)
        eventually(lambda: demand(world) > 0.0, what=("demand is known again",))
        assert unloads(world) == done
    assert client.gaps == 0
    assert {request.answer.status for request in client.requests} == {200}
    body = world.wait("sql", lambda status: status.get("replicas") == 1)
    assert condition(body["status"], "Ready") == "True"
    eventually(lambda: len(_scaled(world)) >= 2, what=("Events say so",))
    assert any(message.startswith("sql: 1 -> 3 replicas, its demand is ") for message in _scaled(world))


def _scaled(world: World) -> list[str]:
    return [event["message"] for event in world.events("sql") if event["reason"] == "ScaledByDemand"]


def _pods(world: World, name: str) -> set[str]:
    return set(assigned(world.get(name)["status"]))
