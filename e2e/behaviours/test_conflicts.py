"""Two who want the same: names claimed twice, and adapters that somebody else has loaded."""

from __future__ import annotations

import pytest

from e2e.behaviours.seen import loads, unloads
from e2e.behaviours.worlds import Worlds
from e2e.controlplane import KubectlError
from e2e.world import World
from e2e.world.world import BASE_MODEL, assigned, condition, eventually, failed


def test_the_older_of_two_claims_serves_and_the_other_takes_over_without_an_unload(fleet: World) -> None:
    fleet.adapter("sql", inside="one")
    fleet.adapter("sql", inside="two")
    fleet.apply("older", "one", deployment={"replicas": 3})
    fleet.wait_ready("older")
    fleet.apply("younger", "two", deployment={"replicas": 3})
    body = fleet.wait("younger", lambda status: failed(status) == {"sql": "Conflict"})
    (entry,) = body["status"]["failedAdapters"]
    assert f"{fleet.namespace}/older is older" in entry["message"]
    assert not assigned(body["status"])
    assert condition(fleet.get("older")["status"], "Ready") == "True"

    before = unloads(fleet), loads(fleet)
    fleet.kubectl("delete", "la/older", "--timeout=60s")
    body = fleet.wait_ready("younger")
    assert len(assigned(body["status"])) == 3
    # the same weights: what was loaded stays loaded
    assert (unloads(fleet), loads(fleet)) == before
    assert {engine.complete("sql").status for engine in fleet.engines().values()} == {200}


def test_of_two_of_the_same_second_the_one_that_serves_goes_on(fleet: World) -> None:
    fleet.adapter("sql", inside="one", seed=1)
    fleet.adapter("sql", inside="two", seed=2)
    fleet.apply("z-first", "one")
    before = fleet.wait_ready("z-first")["status"]["adapters"]
    # creation times are whole seconds: often this one is no younger by its time, and comes first by its name
    fleet.apply("a-second", "two")
    fleet.wait("a-second", lambda status: failed(status) == {"sql": "Conflict"})
    assert fleet.get("z-first")["status"]["adapters"] == before


def test_the_other_version_replaces_the_first_when_the_younger_takes_over(fleet: World) -> None:
    fleet.adapter("sql", inside="one", seed=1)
    fleet.adapter("sql", inside="two", seed=2)
    fleet.apply("older", "one")
    first = fleet.wait_ready("older")["status"]["adapters"][0]["fingerprint"]
    fleet.apply("younger", "two")
    fleet.wait("younger", lambda status: failed(status) == {"sql": "Conflict"})
    fleet.kubectl("delete", "la/older", "--timeout=60s")
    body = fleet.wait_ready("younger")
    assert body["status"]["adapters"][0]["fingerprint"] != first
    (pod,) = assigned(body["status"])
    assert body["status"]["adapters"][0]["fingerprint"] in fleet.engine(pod).models()["sql"]


def test_a_foreign_adapter_takes_a_slot_and_is_never_touched(worlds: Worlds) -> None:
    world = worlds(1, operator=None, max_loras=1, max_cpu_loras=2)
    engine = world.engine("vllm-0")
    by_hand = world.adapter("by-hand")
    assert engine.load("by-hand", str(by_hand)) == 200
    world.start_operator()  # only now: of what was loaded since its last look at an engine it could not know
    for name in ("a", "b"):
        world.adapter(name)
        world.apply(name, name, scheduling={"priority": 100})
        if name == "a":
            world.wait_ready(name)
    world.wait("b", lambda status: failed(status) == {"b": "NoFreeSlot"})
    world.kubectl("delete", "la/a", "la/b", "--timeout=60s")
    assert engine.models() == {"by-hand": str(by_hand)}
    assert not [e for e in engine.events() if e["event"] == "unload" and e["name"] == "by-hand"]


def test_a_foreign_adapter_with_the_wanted_name_is_left_alone_and_named_as_the_reason(worlds: Worlds) -> None:
    world = worlds(1)
    engine = world.engine("vllm-0")
    by_hand = world.adapter("sql", inside="theirs", seed=9)
    assert engine.load("sql", str(by_hand)) == 200
    world.adapter("sql")
    world.apply("sql", "sql")
    body = world.wait("sql", lambda status: failed(status) == {"sql": "NameTaken"})
    assert "'sql' was loaded there by somebody else" in body["status"]["failedAdapters"][0]["message"]
    assert not assigned(body["status"])
    assert engine.models() == {"sql": str(by_hand)}
    assert engine.unload("sql") == 200
    world.wait_ready("sql")
    eventually(lambda: str(world.volume) in engine.models().get("sql", ""), what=["ours is loaded"])


def test_an_adapter_cannot_have_the_base_models_name(fleet: World) -> None:
    fleet.adapter(BASE_MODEL)
    with pytest.raises(KubectlError, match="called like the base model"):
        fleet.apply("same", BASE_MODEL)
