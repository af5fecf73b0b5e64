from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from lora_operator.desired.adapters import desired
from lora_operator.informers.records import PodRecord
from lora_operator.planning.snapshot import take_snapshot
from lora_operator.status.aggregate import AdapterState, status_of
from lora_operator.status.inputs import Moment, status_inputs
from lora_scheduler import Policy, plan
from tests.core.builders import V1, a_pod, a_resource, a_source, an_engine, found, nothing_under_way, observed, ours

DELETED = {"deletionTimestamp": "2026-01-01T00:00:01Z"}


def state_with(*pods: PodRecord) -> AdapterState:
    """What is said of `sql`, one replica of which is wanted and which all of these pods list."""
    resource = a_resource()
    wanted = desired([resource], {resource.key: a_source(resource, found("sql"))})
    ledger, failures = nothing_under_way()
    seen = observed(*((record, an_engine(record, ours("sql"))) for record in pods))
    snapshot = take_snapshot(wanted, seen, ledger, failures, 0.0)
    made = plan(snapshot, Policy())
    given = status_inputs(Moment(wanted, snapshot, made, seen.pods, seen.engines, ledger, failures))
    (state,) = given[resource.key].adapters
    return state


def test_a_copy_on_a_pod_that_stays_answers() -> None:
    state = state_with(a_pod("p0"))
    assert [replica.pod for replica in state.replicas] == ["ns/p0"]
    assert state.complete


def test_a_terminating_pod_is_named_to_nobody() -> None:
    state = state_with(a_pod("p0", **DELETED), a_pod("p1"))
    assert [replica.pod for replica in state.replicas] == ["ns/p1"]
    assert state.complete
    alone = state_with(a_pod("p0", **DELETED))
    assert not alone.replicas
    assert not alone.complete


def test_a_look_at_the_container_before_names_nobody_and_moves_nothing() -> None:
    record = a_pod("p0")
    anew = replace(record, pod=replace(record.pod, container_id="the next one"))
    resource = a_resource()
    wanted = desired([resource], {resource.key: a_source(resource, found("sql"))})
    ledger, failures = nothing_under_way()
    other = a_pod("p1")
    seen = observed((anew, an_engine(record, ours("sql"))), (other, an_engine(other)))
    snapshot = take_snapshot(wanted, seen, ledger, failures, 0.0)
    made = plan(snapshot, Policy())
    assert made.actions == ()
    given = status_inputs(Moment(wanted, snapshot, made, seen.pods, seen.engines, ledger, failures))
    (state,) = given[resource.key].adapters
    assert not state.replicas and not state.complete


def test_an_address_of_ipv6_is_written_as_one_can_dial_it() -> None:
    record = a_pod("p0")
    (replica,) = state_with(replace(record, pod=replace(record.pod, ip="fd00::9"))).replicas
    assert replica.address == "[fd00::9]:8000"


def test_one_pod_that_has_it_under_two_names_is_one_copy() -> None:
    record = a_pod("p0")
    resource = a_resource(spec={"deploymentConfig": {"replicas": 2}})
    wanted = desired([resource], {resource.key: a_source(resource, found("sql"))})
    ledger, failures = nothing_under_way()
    twice = an_engine(record, ours("sql"), ours("sql", engine_name=f"sql--{V1[:8]}"))
    seen = observed((record, twice))
    snapshot = take_snapshot(wanted, seen, ledger, failures, 0.0)
    given = status_inputs(Moment(wanted, snapshot, plan(snapshot, Policy()), seen.pods, seen.engines, ledger, failures))
    (state,) = given[resource.key].adapters
    assert len(state.replicas) == 2 and state.current == 1 and not state.complete


def test_a_resource_that_is_being_deleted_says_what_still_answers_and_keeps_its_names() -> None:
    noted = {
        "observedGeneration": 3,
        "adapters": [{"name": "sql", "fingerprint": V1, "bytes": 5, "rank": 4}, {"name": "taken", "fingerprint": V1}],
    }
    going = a_resource("going", status=noted, **DELETED)
    other = a_resource("other")
    wanted = desired([going, other], {other.key: a_source(other, found("taken"))})
    record = a_pod("p0")
    ledger, failures = nothing_under_way()
    seen = observed((record, an_engine(record, ours("sql"), ours("taken"))))
    snapshot = take_snapshot(wanted, seen, ledger, failures, 0.0)
    made = plan(snapshot, Policy())
    given = status_inputs(Moment(wanted, snapshot, made, seen.pods, seen.engines, ledger, failures))[going.key]
    status = status_of(given, noted, datetime(2026, 1, 1, tzinfo=UTC)).to_dict()
    assert status["podAssignments"] == [
        {"pod": "p0", "address": "127.0.0.9:8000", "container": "c-p0", "adapters": ["sql"]}
    ]
    assert [item["name"] for item in status["adapters"]] == ["sql", "taken"]
    ready = next(c for c in status["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"], status["observedGeneration"]) == ("False", "Deleting", 3)
    assert "loadedAdapters" not in status and "failedAdapters" not in status
