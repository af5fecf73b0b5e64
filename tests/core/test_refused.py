"""Reasons are worked out a few at a time, and all of them in the end."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from lora_operator.status import refusals as refused
from lora_operator.status.refusals import NOT_YET, Reasons
from lora_scheduler import Adapter, Plan, Pod, Reason, Refusal, Snapshot

LACKING = ("a", "b", "c", "d", "e")


def a_snapshot() -> Snapshot:
    adapters = tuple(Adapter(key, key, "tiny", "v", 1, 8) for key in LACKING)
    return Snapshot(adapters, tuple(Pod(f"p{number}", "tiny", 1, 8) for number in range(10)))


def a_plan(text: str, lacking: tuple[str, ...] = LACKING) -> Plan:
    refusals = {key: (Refusal("p0", Reason.NO_FREE_SLOT, text),) for key in lacking}
    return Plan({}, (), (), MappingProxyType(refusals), dict.fromkeys(lacking, 1))


def said(reasons: Reasons) -> list[str]:
    return [reasons.of(key)[0].message if reasons.of(key) is not NOT_YET else "" for key in LACKING]


def test_what_there_was_no_time_for_is_worked_out_in_the_rounds_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refused, "AT_A_TIME", 20)  # of two adapters
    reasons, snapshot = Reasons(), a_snapshot()
    reasons.update(snapshot, a_plan("full"))
    assert said(reasons) == ["full", "full", "", "", ""] and reasons.unfinished
    reasons.update(snapshot, a_plan("full"))
    reasons.update(snapshot, a_plan("full"))
    assert said(reasons) == ["full"] * 5 and not reasons.unfinished
    # as long as the fleet is the same, so are the reasons
    reasons.update(snapshot, a_plan("nobody reads this"))
    assert said(reasons) == ["full"] * 5


def test_after_a_change_old_reasons_are_said_until_there_are_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refused, "AT_A_TIME", 20)
    reasons, snapshot = Reasons(), a_snapshot()
    for _ in range(3):
        reasons.update(snapshot, a_plan("full"))
    changed = a_snapshot()
    reasons.update(changed, a_plan("anew"))
    assert sorted(said(reasons)) == ["anew", "anew", "full", "full", "full"] and reasons.unfinished
    for _ in range(2):
        reasons.update(changed, a_plan("anew"))
    assert said(reasons) == ["anew"] * 5 and not reasons.unfinished
    reasons.update(changed, a_plan("", ()))
    assert reasons.of("a") == () and not reasons.unfinished
