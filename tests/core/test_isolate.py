"""The planner that lives in the loop: told whole snapshots, and never stopped for good by one odd object."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from lora_operator.planning.fault_isolation import Isolation
from lora_scheduler import Adapter, InvalidSnapshot, Plan, Pod, Policy, Resident, Snapshot, plan
from lora_scheduler.ledger import PodLedger


def an_adapter(name: str) -> Adapter:
    return Adapter(f"ns/la/{name}", name, "tiny", "v1", 10, 8)


def a_pod(name: str, *residents: Resident) -> Pod:
    return Pod(f"ns/{name}", "tiny", 4, 16, residents=residents)


SOUND = Snapshot((an_adapter("a"), an_adapter("b")), (a_pod("p0"), a_pod("p1")))
# what no snapshot of ours should ever hold: one is refused at once, the other breaks in the middle of a round
REFUSED = replace(an_adapter("odd"), bytes=-1)
BREAKING = replace(an_adapter("odd"), previous_pods=7)  # type: ignore[arg-type]


def an_isolation() -> Isolation:
    """One that is given all the time that it takes."""
    return Isolation(clock=lambda: 0.0)


def test_plans_round_after_round_as_if_from_scratch() -> None:
    isolation = an_isolation()
    loaded = Resident("a", 10, 8, "ns/la/a", "v1")
    for snapshot in (SOUND, replace(SOUND, pods=(a_pod("p0", loaded),)), replace(SOUND, adapters=()), SOUND):
        for policy in (Policy(), Policy("spread")):
            assert isolation.plan(snapshot, policy) == plan(snapshot, policy)


@pytest.mark.parametrize("odd_one", [REFUSED, BREAKING])
def test_an_odd_adapter_is_left_out_and_said_once(odd_one: Adapter, caplog: pytest.LogCaptureFixture) -> None:
    isolation = an_isolation()
    odd = Snapshot((*SOUND.adapters, odd_one), SOUND.pods)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert isolation.plan(odd, Policy()) == plan(SOUND)
    assert [record.getMessage().partition(" failed")[0] for record in caplog.records] == [
        "planning with adapter ns/la/odd"
    ]
    assert isolation.plan(SOUND, Policy()) == plan(SOUND)


def test_an_odd_adapter_is_looked_for_once_and_taken_in_when_it_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    isolation = an_isolation()
    odd = Snapshot((*SOUND.adapters, REFUSED), SOUND.pods)
    isolation.plan(odd, Policy())
    monkeypatch.setattr("lora_operator.planning.fault_isolation.plan", lambda *_: pytest.fail("looked for it again"))
    assert isolation.plan(odd, Policy()) == plan(SOUND)
    better = Snapshot((*SOUND.adapters, replace(REFUSED, bytes=1)), SOUND.pods)
    assert isolation.plan(better, Policy()) == plan(better)


def test_an_adapter_that_breaks_planning_beside_pods_only_is_found_among_many(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    many = tuple(an_adapter(f"m{i}") for i in range(8))
    odd = Snapshot(many, SOUND.pods)
    fits = PodLedger.fits_now

    def breaks(ledger: PodLedger, size: int, leaving: int | None = None) -> bool:
        if size == 77:
            raise RuntimeError("a defect")
        return fits(ledger, size, leaving)

    monkeypatch.setattr(PodLedger, "fits_now", breaks)
    for place in range(8):
        broken = replace(odd, adapters=(*many[:place], replace(many[place], bytes=77), *many[place + 1 :]))
        left = replace(odd, adapters=(*many[:place], *many[place + 1 :]))
        assert an_isolation().plan(broken, Policy()) == plan(left)
    assert "planning with adapter ns/la/m3 failed" in caplog.text


def test_what_there_is_no_time_to_try_is_left_out_until_the_next_round_goes_on_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = tuple(an_adapter(f"m{i}") for i in range(64))
    room = (Pod("ns/p0", "tiny", 100, 16),)
    broken = Snapshot(adapters=(*many[:40], replace(many[40], bytes=77), *many[41:]), pods=room)
    fits = PodLedger.fits_now

    def breaks(ledger: PodLedger, size: int, leaving: int | None = None) -> bool:
        if size == 77:
            raise RuntimeError("a defect")
        return fits(ledger, size, leaving)

    monkeypatch.setattr(PodLedger, "fits_now", breaks)
    now = iter(range(10_000))
    isolation = Isolation(clock=lambda: next(now))  # each try takes longer than there is
    made, left, rounds = isolation.plan(broken, Policy()), plan(replace(broken, adapters=(*many[:40], *many[41:]))), 1
    assert made.assignments.keys() < left.assignments.keys()
    while made.assignments != left.assignments:
        made, rounds = isolation.plan(broken, Policy()), rounds + 1
        assert rounds < 30
    assert isolation.plan(broken, Policy()).assignments == left.assignments


def test_what_did_not_change_since_planning_worked_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    isolation = an_isolation()
    many = tuple(an_adapter(f"m{i}") for i in range(100))
    isolation.plan(replace(SOUND, adapters=many), Policy())
    tried: list[int] = []

    def counting(snapshot: Snapshot, policy: Policy) -> Plan:
        tried.append(len(snapshot.adapters))
        return plan(snapshot, policy)

    monkeypatch.setattr("lora_operator.planning.fault_isolation.plan", counting)
    broken = replace(SOUND, adapters=(*many, replace(BREAKING, priority=1)))  # one that is looked at, full as it is
    assert isolation.plan(broken, Policy()).assignments.keys() == {adapter.key for adapter in many}
    assert tried and max(tried) == 1


def test_a_planner_that_breaks_by_itself_is_replaced_in_the_same_round(caplog: pytest.LogCaptureFixture) -> None:
    isolation = an_isolation()
    isolation.plan(SOUND, Policy())
    planner = isolation._planner
    assert planner is not None and planner._last is not None
    planner._last.fleet._ledgers.clear()  # what no change from outside can do
    fewer = replace(SOUND, pods=SOUND.pods[:1])
    assert isolation.plan(fewer, Policy()) == plan(fewer)
    assert isolation._planner is not planner
    assert "planning on from the round before failed" in caplog.text


def test_goes_on_from_scratch_after_a_round_that_nobody_could_plan() -> None:
    isolation = an_isolation()
    isolation.plan(SOUND, Policy())
    with pytest.raises(InvalidSnapshot, match="twice"):  # none of them is odd alone
        isolation.plan(Snapshot((*SOUND.adapters, *SOUND.adapters), SOUND.pods), Policy())
    assert isolation.plan(SOUND, Policy()) == plan(SOUND)
