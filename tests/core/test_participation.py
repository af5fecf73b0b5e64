"""Which pods are looked after, which versions on the volume stay, and what one odd object may stop."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lora_operator.delivery.retention import needed
from lora_operator.desired.adapters import desired
from lora_operator.engines.prober import EngineView, instance_of
from lora_operator.informers.holdings import Holdings
from lora_operator.informers.records import PodRecord, Resource
from lora_operator.planning.fault_isolation import Isolation
from lora_operator.planning.inflight import Effect, Ledger, Stage
from lora_operator.planning.pod_selection import Participants, Participation
from lora_operator.vllm.client import EngineModel
from lora_operator.vllm.engine_state import EngineState
from lora_scheduler import Adapter, InvalidSnapshot, Pod, Policy, Resident, Snapshot, Unload
from tests.core.builders import V1, V2, a_pod, a_resource, a_source, an_engine, foreign, found, ours

PLAIN = {"labels": {}}


def look(
    record: PodRecord,
    view: EngineView | None = None,
    *,
    resources: tuple[Resource, ...] = (),
    ledger: Ledger | None = None,
    after: Participation | None = None,
) -> Participants:
    views = {record.key: view} if view is not None else {}
    published = Holdings()
    for resource in resources:
        published.set_status(resource.key, resource.published)
    return (after or Participation()).of([record], resources, views, ledger or Ledger(), published.pods())


def test_a_labelled_pod_takes_part_until_it_has_ended() -> None:
    record = a_pod()
    assert look(record).pods == {record.key: record} and not look(record).leaving
    assert not look(replace(record, pod=replace(record.pod, phase="Failed"))).pods


def test_a_pod_of_nobody_is_nobodys_business() -> None:
    record = a_pod(**PLAIN)
    assert not look(record).pods
    assert not look(record, an_engine(record, foreign("theirs"))).pods


def test_a_selector_makes_pods_of_its_own_namespace_take_part() -> None:
    record = a_pod(labels={"team": "a"})
    resource = a_resource(spec={"deploymentConfig": {"podSelector": {"matchLabels": {"team": "a"}}}})
    assert look(record, resources=(resource,)).pods
    assert not look(record, resources=(replace(resource, namespace="elsewhere"),)).pods
    assert not look(record, resources=(replace(resource, deleted_at=1.0),)).pods


@pytest.mark.parametrize("state", [EngineState.UP, EngineState.SUSPECT, EngineState.DOWN])
def test_a_pod_that_holds_ours_leaves_only_when_it_is_rid_of_it(state: EngineState) -> None:
    record = a_pod(**PLAIN)
    assert look(record, an_engine(record, ours("sql"), state=state)).leaving == {record.key}
    assert not look(record, an_engine(record, state=EngineState.UP)).pods


def test_a_load_under_way_keeps_a_pod_in_sight() -> None:
    record = a_pod(**PLAIN)
    ledger = Ledger()
    ledger.begin(Effect(record.key, "sql", Stage.LOADING, "ns/la/sql", V1, 1, 1, instance_of(record)))
    assert look(record, an_engine(record), ledger=ledger).leaving == {record.key}


def test_a_pod_that_status_names_is_looked_at_once() -> None:
    record = a_pod(**PLAIN)
    resource = a_resource(status={"podAssignments": [{"pod": "p0", "adapters": ["sql"]}]})
    participation = Participation()
    assert look(record, resources=(resource,), after=participation).leaving == {record.key}
    unknown = EngineView(instance_of(record))
    assert look(record, unknown, resources=(resource,), after=participation).leaving == {record.key}
    empty = an_engine(record)
    assert not look(record, empty, resources=(resource,), after=participation).pods
    # status still names it, and there is nothing to see
    assert not look(record, resources=(resource,), after=participation).pods
    anew = replace(record, pod=replace(record.pod, container_id="another"))
    assert look(anew, resources=(resource,), after=participation).leaving == {record.key}


def test_a_silent_engine_that_was_never_heard_of_stays_in_sight() -> None:
    record = a_pod(**PLAIN)
    assert look(record, EngineView(instance_of(record), EngineState.DOWN)).leaving == {record.key}
    assert not look(record, EngineView(instance_of(record), EngineState.STARTING)).pods


def test_what_is_wanted_or_listed_stays_on_the_volume() -> None:
    record, resource = a_pod(), a_resource()
    wanted = desired([resource], {resource.key: a_source(resource, found("sql", V2))})
    moved = EngineModel("old", f"/another/mount/old/{V1}/", "tiny")
    view = an_engine(record, ours("sql", V1), moved, foreign("theirs"), EngineModel("x", "", "tiny"))
    assert needed(wanted, {record.key: record}, {record.key: view}) == {("sql", V2), ("sql", V1), ("old", V1)}


def test_nothing_is_swept_while_an_engine_cannot_say_what_it_has() -> None:
    record = a_pod()
    nothing = desired([], {})
    life = instance_of(record)
    silent = (
        EngineView(life, EngineState.UNKNOWN),
        EngineView(life, EngineState.SUSPECT, "0.32.0"),
        EngineView(life, EngineState.DOWN),
    )
    for view in silent:
        assert needed(nothing, {record.key: record}, {record.key: view}) is None
    known = EngineView(life, EngineState.DOWN, "0.32.0", (ours("sql"),))
    assert needed(nothing, {record.key: record}, {record.key: known}) == {("sql", V1)}
    assert needed(nothing, {record.key: record}, {record.key: EngineView(life, EngineState.STARTING)}) == set()


def adapter(key: str, **extra: int) -> Adapter:
    return Adapter(**({"key": key, "name": key, "base_model": "tiny", "version": V1, "bytes": 1, "rank": 1} | extra))


def test_one_odd_adapter_or_pod_is_left_out_of_the_plan_and_nothing_of_it_is_touched(
    caplog: pytest.LogCaptureFixture,
) -> None:
    odd_copy = Resident("odd", 1, 1, "odd", V1)
    good = Pod("p0", "tiny", host_slots=4, max_rank=8, residents=(odd_copy,))
    odd = Pod("p1", "tiny", host_slots=4, max_rank=8, residents=(Resident("r", -1, 1),))
    snapshot = Snapshot((adapter("a"), adapter("odd", bytes=-1)), (good, odd))
    isolation = Isolation()
    made = isolation.plan(snapshot, Policy())
    assert made.assignments == {"a": ("p0",)}
    assert not any(isinstance(action, Unload) for action in made.actions)
    isolation.plan(snapshot, Policy())
    said = [entry.getMessage() for entry in caplog.records]
    assert len(said) == 2 and all(any(what in one for one in said) for what in ("adapter odd", "pod p1"))


def test_where_nobody_is_to_blame_the_round_fails() -> None:
    twice = Snapshot((adapter("a"), adapter("a")), ())
    with pytest.raises(InvalidSnapshot):
        Isolation().plan(twice, Policy())


def test_a_failing_block_is_logged_once_and_passed_by(caplog: pytest.LogCaptureFixture) -> None:
    isolation = Isolation()
    for text in ("one", "one", "two"):
        with isolation.around("the status of ns/la"):
            raise ValueError(text)
    assert len(caplog.records) == 2
