"""Adapters with `loadOnStartup: false` are loaded when a router asks for them, and go when others need their room."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from e2e.behaviours.asking import pick, record
from e2e.behaviours.client import digest_of
from e2e.behaviours.folders import many
from e2e.behaviours.seen import listed, loads, unloads
from e2e.behaviours.worlds import Worlds
from e2e.world import EngineProbe, World
from e2e.world.world import condition, eventually

ALWAYS = ("chat", "sql")
LONG_AGO = timedelta(hours=1)


def a_world(worlds: Worlds, lazy: int, **options: Any) -> tuple[World, list[str]]:
    """One pod with two adapters that are always loaded, and so many that are not."""
    world = worlds(1, **options)
    names = many(world, lazy)
    world.apply("many", "many", deployment={"loadOnStartup": False})
    for name in ALWAYS:
        world.adapter(name)
        world.apply(name, name)
    for name in ALWAYS:
        world.wait_ready(name)
    world.wait("many", lambda status: condition(status, "SourceReady") == "True")
    return world, names


def on_demand(world: World) -> list[str]:
    """What is loaded beside what always is."""
    return sorted(set(listed(world).get("vllm-0", ())) - {*ALWAYS})


def until_loaded(world: World, names: Sequence[str]) -> None:
    eventually(lambda: on_demand(world) == sorted(names), what=(*names, "are loaded, and no others"))


def test_asked_for_by_two_routers_at_once_it_is_loaded_once_and_answers(worlds: Worlds) -> None:
    world, names = a_world(worlds, 2)
    assert on_demand(world) == []
    first, second = world.operator, world.start_operator(identity="another")
    try:
        status, body = pick(world, first, names[1])
        assert (status, body["state"], body["adapter"]) == (202, "loading", names[1])
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda n: pick(world, (first, second)[n % 2], names[0], 20.0), range(6)))
    finally:
        second.stop()
    assert [status for status, _ in answers] == [200] * 6, answers
    (address,) = {body["address"] for _, body in answers}
    assert EngineProbe(address).complete(names[0]).weights == digest_of(world.source / "many" / names[0])
    until_loaded(world, names)
    assert loads(world) == {("vllm-0", name): 1 for name in (*names, *ALWAYS)}
    world.wait_ready("many")


def test_the_longest_unused_goes_first_and_never_one_that_is_always_loaded(worlds: Worlds) -> None:
    world, (a, b, c, d, e) = a_world(worlds, 5, max_cpu_loras=4)
    record(world, a, b)
    until_loaded(world, [a, b])
    record(world, c)
    world.wait("many", lambda status: any(item["name"] == c for item in status.get("failedAdapters") or ()))
    assert on_demand(world) == [a, b], "both were asked for a moment ago"
    status, body = pick(world, world.operator, c)
    assert (status, body["reason"]) == (503, "NoFreeSlot")
    record(world, b, ago=LONG_AGO)
    until_loaded(world, [a, c])
    record(world, a, ago=LONG_AGO / 2)
    record(world, c, ago=LONG_AGO / 3)
    record(world, d)
    until_loaded(world, [c, d])
    record(world, e)
    until_loaded(world, [d, e])
    assert set(ALWAYS) <= set(listed(world)["vllm-0"])
    assert not {name for _, name in unloads(world)} & {*ALWAYS, d, e}
    assert loads(world) == {("vllm-0", name): 1 for name in (*ALWAYS, a, b, c, d, e)}


def test_a_request_is_not_lost_with_the_operator_and_what_is_loaded_survives_it_too(worlds: Worlds) -> None:
    world, (asked, idle, _) = a_world(worlds, 3)
    record(world, idle)
    until_loaded(world, [idle])
    assert world.operator is not None
    world.operator.kill()
    record(world, idle, ago=LONG_AGO)
    record(world, asked)
    world.start_operator()
    until_loaded(world, [asked, idle])
    assert set(loads(world).values()) == {1} and not unloads(world)
