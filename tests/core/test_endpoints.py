"""What a pod's LoraEndpoint should say, worked out for the pods of which something has changed and no others."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from lora_operator.desired.adapters import desired
from lora_operator.engines.prober import EngineView
from lora_operator.informers.endpoints import Contents
from lora_operator.informers.holdings import NOTHING
from lora_operator.informers.records import PodRecord
from lora_operator.planning.inflight import Effect, Ledger, Stage
from lora_operator.status.pod_endpoints import Claims, Endpoints, claims_of
from lora_operator.vllm.engine_state import EngineState
from tests.core.builders import V1, V2, a_pod, a_resource, a_source, an_engine, foreign, found, ours

CLAIMS: Claims = {("ns", "sql"): ("la", V1), ("ns", "chat"): ("la", V1)}


def said(record: PodRecord, view: EngineView | None, ledger: Ledger | None = None, claims: Claims = CLAIMS) -> Any:
    """What is said of one pod, by a process that has just begun."""
    views = {} if view is None else {record.key: view}
    return Endpoints().update({record.key: record}, views, ledger or Ledger(), claims)[record.key]


def names(contents: Contents) -> dict[str, str]:
    return {held.name: held.engine_name for held in contents.adapters}


def test_says_what_the_engine_lists_and_somebody_stands_for() -> None:
    record = a_pod()
    contents = said(record, an_engine(record, ours("sql"), ours("nobodys"), foreign("chat")))
    assert (contents.address, contents.pod_uid, contents.base_models) == ("127.0.0.9:8000", "uid-p0", ("tiny",))
    assert contents.container == record.pod.container_mark
    assert [(held.name, held.version, held.resource) for held in contents.adapters] == [("sql", V1, "la")]


def test_what_is_about_to_be_unloaded_is_left_out() -> None:
    record = a_pod()
    view = an_engine(record, ours("sql"), ours("chat"))
    ledger = Ledger()
    ledger.begin(Effect(record.key, "sql", Stage.WITHDRAWING, None, V1, 0, 0, view.instance))
    assert names(said(record, view, ledger)) == {"chat": "chat"}


def test_of_two_versions_the_wanted_one_is_the_one_to_ask() -> None:
    record = a_pod()
    old, new = ours("sql", V2, engine_name="sql--bbbbbbbb"), ours("sql", V1, engine_name="sql--aaaaaaaa")
    assert names(said(record, an_engine(record, old, new))) == {"sql": "sql--aaaaaaaa"}
    assert names(said(record, an_engine(record, new, old))) == {"sql": "sql--aaaaaaaa"}
    assert names(said(record, an_engine(record, old))) == {"sql": "sql--bbbbbbbb"}


@pytest.mark.parametrize("state", [EngineState.DOWN, EngineState.STARTING])
def test_an_engine_that_is_gone_holds_nothing(state: EngineState) -> None:
    record = a_pod()
    assert said(record, an_engine(record, ours("sql"), state=state)).adapters == ()


def test_an_engine_that_is_slow_to_answer_still_holds_what_it_had() -> None:
    record = a_pod()
    assert names(said(record, an_engine(record, ours("sql"), state=EngineState.SUSPECT))) == {"sql": "sql"}


def test_of_an_engine_that_was_not_asked_yet_nothing_is_said() -> None:
    record = a_pod()
    assert said(record, None) is None
    assert said(record, an_engine(record, state=EngineState.UNKNOWN)) is None
    assert said(record, replace(an_engine(record, ours("sql")), instance="an earlier one")) is None


def test_a_pod_that_is_about_to_go_holds_nothing() -> None:
    record = a_pod(deletionTimestamp="2026-01-01T00:00:00Z")
    assert said(record, an_engine(record, ours("sql"))).adapters == ()


def test_those_who_want_a_name_stand_for_it_before_those_who_are_deleted() -> None:
    going = a_resource(
        "going", deletionTimestamp="2026-01-01T00:00:00Z", status={"adapters": [{"name": "sql"}, {"name": "old"}]}
    )
    heir = a_resource("heir")
    wanted = desired([going, heir], {heir.key: a_source(heir, found("sql"))})
    claims = claims_of(wanted, lambda key: NOTHING)
    assert claims == {("ns", "sql"): ("heir", V1), ("ns", "old"): ("going", "")}


def test_a_deleted_one_whose_status_was_cut_stands_for_what_pods_hold_of_it() -> None:
    status = {"adapters": [{"name": "a"}], "truncated": True, "summary": "2/2"}
    going = a_resource("going", deletionTimestamp="2026-01-01T00:00:00Z", status=status)
    claims = claims_of(desired([going], {}), lambda key: {"b": frozenset({"ns/p0"})})
    assert claims == {("ns", "a"): ("going", ""), ("ns", "b"): ("going", "")}


def test_a_pod_of_which_nothing_has_changed_keeps_the_same_object() -> None:
    endpoints, records = Endpoints(), {f"ns/p{n}": a_pod(f"p{n}") for n in range(3)}
    views = {key: an_engine(record, ours("sql")) for key, record in records.items()}
    first = dict(endpoints.update(records, views, Ledger(), CLAIMS))
    views["ns/p1"] = an_engine(records["ns/p1"], ours("sql"), ours("chat"))
    second = dict(endpoints.update(records, views, Ledger(), dict(CLAIMS)))
    assert [first[key] is second[key] for key in records] == [True, False, True]
    third = dict(endpoints.update(records, views, Ledger(), {("ns", "sql"): ("la", V1)}))
    assert [second[key] is third[key] for key in records] == [True, False, True]
    del records["ns/p0"]
    assert set(endpoints.update(records, views, Ledger(), CLAIMS)) == {"ns/p1", "ns/p2"}


def test_equal_entries_of_many_pods_are_one_object() -> None:
    records = {f"ns/p{n}": a_pod(f"p{n}") for n in range(2)}
    views = {key: an_engine(record, ours("sql")) for key, record in records.items()}
    first, second = Endpoints().update(records, views, Ledger(), CLAIMS).values()
    assert first is not None and second is not None and first.adapters[0] is second.adapters[0]


def test_what_followed_every_change_equals_what_begins_now() -> None:
    chance = random.Random(11)
    endpoints, ledger = Endpoints(), Ledger()
    records = {f"ns/p{n}": a_pod(f"p{n}") for n in range(3)}
    views = {key: an_engine(record) for key, record in records.items()}
    effects: list[Effect] = []
    claims = dict(CLAIMS)
    models = [ours(n, v, engine_name=f"{n}--{v[:8]}") for n in ("sql", "chat", "poet") for v in (V1, V2)]
    models += [ours(name, V1) for name in ("sql", "chat", "poet")]
    for _ in range(1500):
        key, what = chance.choice(list(records)), chance.random()
        view = views[key]
        if what < 0.4:
            more = chance.choice(models)
            if view.listed(more.name) is None:
                views[key] = replace(view, models=(*view.models, more))
        elif what < 0.6:
            views[key] = replace(view, models=tuple(chance.sample(view.models, len(view.models) // 2)))
        elif what < 0.7:
            views[key] = replace(view, state=chance.choice(list(EngineState)))
        elif what < 0.8 and view.models:
            effects.append(Effect(key, chance.choice(view.models).name, Stage.UNLOADING, None, V1, 0, 0, view.instance))
            ledger.begin(effects[-1])
        elif what < 0.9 and effects:
            ledger.end(effects.pop())
        else:
            name = ("ns", chance.choice(("sql", "chat", "poet")))
            claims = {k: v for k, v in claims.items() if k != name}
            if chance.random() < 0.7:
                claims[name] = (chance.choice(("la", "lb")), chance.choice((V1, V2, "")))
        followed = dict(endpoints.update(records, views, ledger, claims))
        fresh = dict(Endpoints().update(records, views, ledger, claims))
        for pod in records:
            one, other = followed[pod], fresh[pod]
            assert (one is None) is (other is None)
            if one is None or other is None:
                continue
            # which of two versions that nobody wants is named may depend on which came first
            assert [held.name for held in one.adapters] == [held.name for held in other.adapters]
            assert one.address == other.address and one.container == other.container
            for held in one.adapters:
                assert claims["ns", held.name][0] == held.resource
                assert views[pod].listed(held.engine_name) is not None
