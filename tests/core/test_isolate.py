"""The planner that lives in the loop: told whole snapshots, and never stopped for good by one odd object."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from lora_operator.isolate import Isolation
from lora_scheduler import Adapter, InvalidSnapshot, Pod, Policy, Resident, Snapshot, plan


def an_adapter(name: str) -> Adapter:
    return Adapter(f"ns/la/{name}", name, "tiny", "v1", 10, 8)


def a_pod(name: str, *residents: Resident) -> Pod:
    return Pod(f"ns/{name}", "tiny", 4, 16, residents=residents)


SOUND = Snapshot((an_adapter("a"), an_adapter("b")), (a_pod("p0"), a_pod("p1")))
# what no snapshot of ours should ever hold: one is refused at once, the other breaks in the middle of a round
REFUSED = replace(an_adapter("odd"), bytes=-1)
BREAKING = replace(an_adapter("odd"), previous_pods=7)  # type: ignore[arg-type]


def test_plans_round_after_round_as_if_from_scratch() -> None:
    isolation = Isolation()
    loaded = Resident("a", 10, 8, "ns/la/a", "v1")
    for snapshot in (SOUND, replace(SOUND, pods=(a_pod("p0", loaded),)), replace(SOUND, adapters=()), SOUND):
        for policy in (Policy(), Policy("spread")):
            assert isolation.plan(snapshot, policy) == plan(snapshot, policy)


@pytest.mark.parametrize("odd_one", [REFUSED, BREAKING])
def test_an_odd_adapter_is_left_out_and_said_once(odd_one: Adapter, caplog: pytest.LogCaptureFixture) -> None:
    isolation = Isolation()
    odd = Snapshot((*SOUND.adapters, odd_one), SOUND.pods)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert isolation.plan(odd, Policy()) == plan(SOUND)
    assert [record.getMessage().partition(" failed")[0] for record in caplog.records] == [
        "planning with adapter ns/la/odd"
    ]
    assert isolation.plan(SOUND, Policy()) == plan(SOUND)


def test_goes_on_from_scratch_after_a_round_that_nobody_could_plan() -> None:
    isolation = Isolation()
    isolation.plan(SOUND, Policy())
    with pytest.raises(InvalidSnapshot, match="twice"):  # none of them is odd alone
        isolation.plan(Snapshot((*SOUND.adapters, *SOUND.adapters), SOUND.pods), Policy())
    assert isolation.plan(SOUND, Policy()) == plan(SOUND)
