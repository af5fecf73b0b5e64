"""Two operators: one acts, the other stands by and takes over, and nothing is done twice."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from e2e.behaviours.folders import many
from e2e.behaviours.seen import loads, unloads
from e2e.behaviours.worlds import Worlds
from e2e.world import OperatorProcess, World
from e2e.world.rest import PATIENCE_SECONDS

LEASE_SECONDS = 1.5
LEASE = ("--lease-seconds", str(LEASE_SECONDS))


@contextmanager
def another(world: World) -> Iterator[OperatorProcess]:
    """A second operator for the same namespace."""
    second = world.start_operator(*LEASE, identity="another")
    yield second
    second.stop()


def until_it_leads(operator: OperatorProcess) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "leading:" not in operator.log.read_text():
        assert time.monotonic() < deadline, operator.tail()
        time.sleep(0.02)


def test_when_the_leader_is_killed_the_other_goes_on_and_does_nothing_twice(worlds: Worlds) -> None:
    world = worlds(2, operator=LEASE)
    names = many(world, 5)
    world.apply("many", "many", deployment={"replicas": 2})
    world.wait_ready("many")
    with another(world) as second:
        assert "standing by" in second.tail() and "started:" not in second.tail()
        assert world.operator is not None
        world.operator.kill()
        world.adapter("late")
        world.apply("late", "late", deployment={"replicas": 2})
        world.wait_ready("late", 30)
        assert "leading:" in second.tail()
        assert set(loads(world).values()) == {1} and not unloads(world)
        assert all({*names, "late"} <= set(engine.models()) for engine in world.engines().values())


def test_a_leader_that_was_frozen_wakes_up_and_does_no_harm(worlds: Worlds) -> None:
    world = worlds(2, operator=LEASE)
    world.adapter("sql")
    world.apply("sql", "sql", deployment={"replicas": 2})
    world.wait_ready("sql")
    first = world.operator
    assert first is not None
    with another(world) as second:
        first.process.send_signal(signal.SIGSTOP)
        until_it_leads(second)
        # while it sleeps, the world changes: what it believes is wrong by now
        world.kubectl("delete", "la/sql", "--wait=true", "--timeout=60s")
        world.adapter("other")
        world.apply("other", "other", deployment={"replicas": 2})
        world.wait_ready("other")
        done = (loads(world), unloads(world))
        first.process.send_signal(signal.SIGCONT)
        assert first.process.wait(30) == 1
        assert "no longer leading" in first.tail()
        world.wait_ready("other")
        assert (loads(world), unloads(world)) == done


def test_an_operator_that_ends_in_order_hands_over_without_waiting_for_the_lease(worlds: Worlds) -> None:
    world = worlds(1, operator=("--lease-seconds", "60"))
    second = world.start_operator("--lease-seconds", "60", identity="another")
    try:
        assert world.stop_operator() == 0
        until_it_leads(second)
    finally:
        second.stop()
