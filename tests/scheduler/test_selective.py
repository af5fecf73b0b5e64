"""Where selectors leave few pods to each adapter, the others are not looked at."""

from __future__ import annotations

import pytest

from lora_scheduler import LoadCause, Planner, ReplicaPolicy, Selector, plan, simulate, steps
from lora_scheduler.balance.shifting import Shifting
from lora_scheduler.ledger import PodLedger, Replica
from tests.scheduler.builders import a_pod, a_snapshot, an_adapter, loads


def test_no_exchange_is_looked_for_among_pods_that_an_adapter_may_not_be_on(monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = [
        an_adapter(f"a{n}", demand=float(1 + n % 7), selector=Selector((("slice", str(n % 30)),))) for n in range(120)
    ]
    pods = [a_pod(f"p{n:02d}", labels={"slice": str(n)}) for n in range(30)]
    asked: list[tuple[str, str]] = []
    may_go = Shifting.may_go

    def counted(shifting: Shifting, replica: Replica, pod: PodLedger) -> bool:
        asked.append((replica.adapter.key, pod.key))
        return may_go(shifting, replica, pod)

    monkeypatch.setattr(Shifting, "may_go", counted)
    assert len(loads(plan(a_snapshot(*adapters, *pods)))) == 120
    assert asked == []


def test_why_an_adapter_is_loaded_is_asked_once_for_all_of_its_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    everywhere = [an_adapter(f"a{n}", replica_policy=ReplicaPolicy.ALL_PODS) for n in range(3)]
    asked: list[str] = []
    cause_of = steps._cause_of

    def counted(allotment: steps.Allotment) -> LoadCause:
        asked.append(allotment.adapter.key)
        return cause_of(allotment)

    monkeypatch.setattr(steps, "_cause_of", counted)
    planner, snapshot = Planner(remember=True), a_snapshot(*everywhere, *(a_pod(f"p{n}") for n in range(9)))
    made = planner.plan(snapshot)
    assert len(loads(made)) == 27 and asked == ["a0", "a1", "a2"]
    snapshot = simulate(snapshot, made, settle=True)
    planner.plan(snapshot)
    asked.clear()
    assert len(loads(planner.update(pods=[a_pod("new")]))) == 3 and asked == ["a0", "a1", "a2"]
