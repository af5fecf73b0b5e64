"""What a namespace may have: narrowed by its ConfigMap, refused with the sums, announced before it is used up."""

from __future__ import annotations

import json

import pytest

from e2e.world import World
from e2e.world.world import eventually, failed


def narrow(world: World, **limits: str) -> None:
    """The namespace's ConfigMap; it is read when the first LoraAdapter comes, and then every half minute."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "lora-operator-quota"}, "data": limits}
    world.kubectl("apply", "-f", "-", input=json.dumps(body))


def events(world: World, name: str, reason: str) -> list[str]:
    return [event["message"] for event in world.events(name) if event["reason"] == reason]


def test_what_is_beyond_the_number_is_refused_with_the_sum_and_announced_at_80_percent(fleet: World) -> None:
    narrow(fleet, adapters="5")
    for number in range(4):
        fleet.adapter(f"a{number}", inside="team", seed=number)
    fleet.apply("team", "team")
    fleet.wait_ready("team")
    eventually(lambda: bool(events(fleet, "team", "QuotaNearlyUsed")), what=["an Event at 80 %"])
    assert "uses 4 of 5 adapters" in events(fleet, "team", "QuotaNearlyUsed")[0]
    for number in range(2):
        fleet.adapter(f"b{number}", inside="more", seed=10 + number)
    fleet.apply("more", "more")
    status = fleet.wait("more", lambda status: bool(status.get("loadedAdapters")) and bool(failed(status)))["status"]
    assert list(failed(status).values()) == ["QuotaExceeded"] and status["phase"] == "Partial"
    message = status["failedAdapters"][0]["message"]
    assert f"namespace {fleet.namespace} has 5 adapters and may have 5" in message
    assert len(fleet.wait_ready("team")["status"]["loadedAdapters"]) == 4


@pytest.mark.parametrize("share", [1.5])
def test_what_is_beyond_the_bytes_is_refused_with_the_sum(fleet: World, share: float) -> None:
    size = sum(file.stat().st_size for file in fleet.adapter("one").iterdir() if file.suffix == ".safetensors")
    limit = int(size * share)
    narrow(fleet, bytes=str(limit))
    fleet.apply("one", "one")
    fleet.wait_ready("one")
    fleet.adapter("two", seed=2)
    fleet.apply("two", "two")
    status = fleet.wait("two", lambda status: bool(failed(status)))["status"]
    assert failed(status) == {"two": "QuotaExceeded"} and status["phase"] == "Failed"
    assert f"of the {limit} bytes that it may have" in status["failedAdapters"][0]["message"]


def test_room_that_is_given_back_is_given_to_who_waits_for_it(fleet: World) -> None:
    narrow(fleet, adapters="1")
    for seed, name in enumerate(("one", "two")):
        fleet.adapter(name, seed=seed)
        fleet.apply(name, name)
        fleet.wait(name, lambda status: bool(status.get("loadedAdapters")) or bool(failed(status)))
    assert failed(fleet.get("two")["status"]) == {"two": "QuotaExceeded"}
    fleet.kubectl("delete", "la", "one")
    fleet.wait_ready("two")
