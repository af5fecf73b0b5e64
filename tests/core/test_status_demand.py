"""Replicas that demand calls for beyond the least are no promise: what lacks of them makes nobody unready."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest

from lora_operator.desired.adapters import desired
from lora_operator.status.aggregate import AdapterState, status_of
from lora_operator.status.inputs import Moment, status_inputs
from lora_scheduler import Plan, Reason, Refusal, Snapshot
from tests.core.builders import a_pod, a_resource, a_source, a_state, an_engine, found, given, nothing_under_way, ours

KEY = "ns/la/sql"


def ready(state: AdapterState) -> str:
    body = status_of(given(state), {}, datetime.now(UTC)).to_dict()
    return next(str(c["status"]) for c in body["conditions"] if c["type"] == "Ready")


@pytest.mark.parametrize(("replicas", "least", "expected"), [(1, 1, "True"), (1, 2, "False"), (1, None, "False")])
def test_ready_while_further_replicas_are_being_loaded_if_the_least_answer(
    replicas: int, least: int | None, expected: str
) -> None:
    assert ready(replace(a_state(wanted=3, replicas=replicas, moving=True), least=least)) == expected


def test_not_ready_while_one_that_answers_is_of_an_older_version() -> None:
    state = replace(a_state(wanted=2, replicas=2), least=1)
    assert ready(state) == "True"
    old = replace(state.replicas[1], current=False)
    assert ready(replace(state, replicas=(state.replicas[0], old))) == "False"


def state_of(deployment: dict[str, Any], missing: int) -> AdapterState:
    """Of an adapter with one replica that serves, while so many more find no place."""
    resource, record = a_resource(spec={"deploymentConfig": deployment}), a_pod("p0")
    wanted = desired([resource], {resource.key: a_source(resource, found("sql"))})
    refusals = (Refusal("ns/p1", Reason.NO_FREE_SLOT, "4 of 4 slots are taken"),)
    plan = Plan(
        MappingProxyType({KEY: ("ns/p0",)}), (), (), MappingProxyType({KEY: refusals}), MappingProxyType({KEY: missing})
    )
    ledger, failures = nothing_under_way()
    engines = {record.key: an_engine(record, ours("sql"))}
    made = status_inputs(Moment(wanted, Snapshot((), ()), plan, {record.key: record}, engines, ledger, failures))
    (state,) = made[resource.key].adapters
    return state


def test_replicas_beyond_the_least_that_find_no_place_are_no_failure() -> None:
    auto = {"replicaPolicy": "Auto", "replicas": 1, "maxReplicas": 3}
    assert ready(state_of(auto, 2)) == "True"
    assert state_of(auto | {"replicas": 2}, 2).missing == 1
    assert ready(state_of(auto | {"replicas": 2}, 2)) == "False"


def test_replicas_of_a_fixed_number_are_all_promised() -> None:
    assert ready(state_of({"replicas": 3}, 2)) == "False"
