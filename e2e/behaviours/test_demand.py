"""Requests that users send become demand, and demand becomes copies."""

from __future__ import annotations

from e2e.behaviours.client import Client
from e2e.behaviours.seen import AuditLog, metric
from e2e.behaviours.worlds import Worlds
from e2e.world import World
from e2e.world.world import SERVICE_ACCOUNT, eventually

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
        eventually(lambda: demand(world) > 5.0, what=("requests are seen",))
    assert all(request.answer.status == 200 for request in client.requests)
    eventually(lambda: demand(world) == 0.0, what=("their end is seen",))
    assert not log.writes(world.namespace, SERVICE_ACCOUNT)
