from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lora_operator.desired.adapters import desired
from lora_operator.engines.prober import EngineView, instance_of
from lora_operator.informers.records import PodRecord
from lora_operator.planning.inflight import Effect, Stage
from lora_operator.planning.snapshot import engine_name_for, take_snapshot
from lora_operator.planning.snapshots import Snapshots
from lora_operator.vllm.engine_state import EngineState
from lora_operator.vllm.quirks import LoadName
from lora_scheduler import Pod, Reason, ResidentState
from tests.core.builders import (
    V1,
    V2,
    a_pod,
    a_resource,
    a_source,
    an_engine,
    foreign,
    found,
    nothing_under_way,
    observed,
    ours,
)


def one_pod(
    record: PodRecord, view: EngineView, version: str = V1, *, features: tuple[str, ...] = (), versioned: bool = True
) -> Pod:
    resource = a_resource()
    wanted = desired([resource], {resource.key: a_source(resource, found("sql", version, features=features))})
    ledger, failures = nothing_under_way()
    (pod,) = take_snapshot(wanted, observed((record, view), versioned_names=versioned), ledger, failures, 0.0).pods
    return pod


def test_what_the_engine_lists_from_our_path_is_a_copy_of_that_version() -> None:
    record = a_pod()
    (resident,) = one_pod(record, an_engine(record, ours("sql"))).residents
    assert (resident.adapter, resident.version, resident.owned) == ("ns/la/sql", V1, True)


def test_what_somebody_else_loaded_takes_room_and_is_not_ours() -> None:
    record = a_pod(annotations={"lora-memory": "800"})
    (resident,) = one_pod(record, an_engine(record, foreign("sql"))).residents
    assert (resident.adapter, resident.owned, resident.bytes) == (None, False, 100)


def test_our_path_under_another_name_is_not_ours() -> None:
    record = a_pod()
    model = ours("sql", engine_name="other")
    (resident,) = one_pod(record, an_engine(record, model)).residents
    assert not resident.owned


def test_a_copy_that_nobody_wants_is_ours_to_unload() -> None:
    record = a_pod()
    (resident,) = one_pod(record, an_engine(record, ours("old"))).residents
    assert (resident.adapter, resident.owned) == (None, True)


def test_a_load_under_way_takes_its_room_until_the_engine_lists_it() -> None:
    record = a_pod()
    view = an_engine(record)
    resource = a_resource()
    wanted = desired([resource], {resource.key: a_source(resource, found("sql"))})
    ledger, failures = nothing_under_way()
    ledger.begin(Effect(record.key, "sql", Stage.FETCHING, "ns/la/sql", V1, 1000, 8, instance_of(record)))
    (pod,) = take_snapshot(wanted, observed((record, view)), ledger, failures, 0.0).pods
    assert [r.state for r in pod.residents] == [ResidentState.LOADING]
    (pod,) = take_snapshot(wanted, observed((record, an_engine(record, ours("sql")))), ledger, failures, 0.0).pods
    assert [r.state for r in pod.residents] == [ResidentState.LOADED]


def test_a_hung_engine_is_held_and_a_dead_one_is_not() -> None:
    record = a_pod()
    suspect = one_pod(record, an_engine(record, ours("sql"), state=EngineState.SUSPECT))
    assert (suspect.ready, suspect.held) == (False, True)
    down = one_pod(record, an_engine(record, ours("sql"), state=EngineState.DOWN))
    assert (down.ready, down.held) == (False, False)
    assert down.not_ready is not None and down.not_ready[0] is Reason.POD_UNREACHABLE


def test_nonsense_in_annotations_excludes_the_pod_with_the_annotations_name() -> None:
    record = a_pod(annotations={"max-loras": "many"})
    pod = one_pod(record, an_engine(record))
    assert pod.not_ready is not None
    assert pod.not_ready[0] is Reason.INVALID_POD_LIMITS and "max-loras" in pod.not_ready[1]


def test_a_new_version_goes_beside_the_old_one_where_the_cache_is_keyed_by_name() -> None:
    record = a_pod()
    pod = one_pod(record, an_engine(record, ours("sql", V1), release="0.28.0"), V2)
    assert pod.side_by_side == {"ns/la/sql"}


def test_without_versioned_names_such_a_pod_refuses_the_new_version() -> None:
    record = a_pod()
    pod = one_pod(record, an_engine(record, ours("sql", V1), release="0.28.0"), V2, versioned=False)
    assert pod.excluded["ns/la/sql"][0] is Reason.STALE_PREFIX_CACHE


def test_a_safe_release_swaps_under_the_plain_name() -> None:
    record = a_pod()
    pod = one_pod(record, an_engine(record, ours("sql", V1), release="0.32.0"), V2)
    assert not pod.side_by_side and not pod.excluded


def test_prefix_caching_off_is_safe_everywhere() -> None:
    record = a_pod(args=("--no-enable-prefix-caching",))
    pod = one_pod(record, an_engine(record, ours("sql", V1), release="0.28.0"), V2)
    assert not pod.side_by_side and not pod.excluded


def test_what_a_release_gets_wrong_is_refused_there() -> None:
    record = a_pod()
    old = one_pod(record, an_engine(record, release="0.28.0"), features=("rank_pattern",))
    assert old.excluded["ns/la/sql"][0] is Reason.UNSUPPORTED_BY_ENGINE
    assert not one_pod(record, an_engine(record), features=()).excluded


def test_what_a_person_says_that_an_engine_serves_is_not_refused_there() -> None:
    record = a_pod(annotations={"lora-features": "fused_experts, rank_pattern"})
    view = an_engine(record, release="0.28.0")
    assert not one_pod(record, view, features=("rank_pattern",)).excluded
    other = one_pod(record, view, features=("rank_pattern", "alpha_pattern"))
    assert "lora-features" in other.excluded["ns/la/sql"][1]


def test_what_only_some_ranks_have_takes_room_and_has_to_go() -> None:
    record = a_pod()
    (resident,) = one_pod(record, an_engine(record, replace(ours("sql"), partial=True))).residents
    assert (resident.adapter, resident.owned) == ("ns/la/sql", True)
    assert resident.version not in (V1, None)


def test_a_failed_load_excludes_the_pair_until_it_is_due_again() -> None:
    record = a_pod()
    resource = a_resource()
    wanted = desired([resource], {resource.key: a_source(resource, found("sql"))})
    ledger, failures = nothing_under_way()
    failure = failures.add("ns/la/sql", V1, record.key, instance_of(record), "LoadRefused", "broken", 100.0, slow=False)
    before = take_snapshot(wanted, observed((record, an_engine(record))), ledger, failures, failure.next_at - 0.1)
    assert before.pods[0].excluded["ns/la/sql"][0] is Reason.LOAD_FAILED
    after = take_snapshot(wanted, observed((record, an_engine(record))), ledger, failures, failure.next_at + 0.1)
    assert not after.pods[0].excluded


@pytest.mark.parametrize("passes", [True, False])
def test_what_failed_and_says_nothing_of_the_version_is_told_from_what_does_until_it_has_passed(passes: bool) -> None:
    record, resource = a_pod(), a_resource()
    wanted = desired([resource], {resource.key: a_source(resource, found("sql"))})
    ledger, failures = nothing_under_way()
    life, key = instance_of(record), "ns/la/sql"
    failure = failures.add(key, V1, record.key, life, "Away", "away", 100.0, slow=False, passes=passes)
    snapshots, seen = Snapshots(), []
    view = an_engine(record)
    for now in (failure.next_at - 0.1, failure.next_at + 0.1, 1000.0):
        (pod,) = snapshots.take(wanted, observed((record, view)), ledger, failures, now).pods
        assert pod == take_snapshot(wanted, observed((record, view)), ledger, failures, now).pods[0]
        seen.append((key in pod.excluded, key in pod.failed_lately))
    assert seen == [(True, passes), (False, passes), (False, False)]


def test_where_more_names_were_served_than_could_be_noted_no_plain_name_is_safe() -> None:
    note = json.dumps({"container": "c-p0", "names": {"other": V1}, "full": True})
    record = a_pod(annotations={"served-versions": note})
    assert one_pod(record, an_engine(record, release="0.28.0")).side_by_side == {"ns/la/sql"}
    refused = one_pod(record, an_engine(record, release="0.28.0"), versioned=False).excluded
    assert refused["ns/la/sql"][0] is Reason.STALE_PREFIX_CACHE


def test_an_engine_that_adapts_some_modules_only_gets_no_adapter_of_others() -> None:
    resource = a_resource()
    wanted = desired([resource], {resource.key: a_source(resource, found("a"))})
    (adapter,) = wanted.adapters.values()
    assert adapter.found is not None
    for modules, refused in (
        (("q_proj", "v_proj"), False),
        (("qkv_proj",), False),
        (("model.layers.0.self_attn.q_proj", "v_proj"), False),
        (("down_proj",), True),
    ):
        record = a_pod(args=("--lora-target-modules", *modules))
        (pod,) = take_snapshot(wanted, observed((record, an_engine(record))), *nothing_under_way(), 0.0).pods
        assert (adapter.adapter.key in pod.excluded) is refused, (modules, adapter.found.inspection.targets)
        if refused:
            reason, message = pod.excluded[adapter.adapter.key]
            assert reason is Reason.UNSUPPORTED_BY_ENGINE and "lora-target-modules" in message
    record = a_pod(args=("--lora-target-modules", "down_proj"), annotations={"lora-target-modules": "*"})
    (pod,) = take_snapshot(wanted, observed((record, an_engine(record))), *nothing_under_way(), 0.0).pods
    assert not pod.excluded


def test_an_engine_that_caches_images_by_name_gets_each_version_under_a_name_of_its_own() -> None:
    resource = a_resource()
    wanted = desired([resource], {resource.key: a_source(resource, found("a", V2))})
    (adapter,) = wanted.adapters.values()
    for args, versioned in (((), False), (("--enable-tower-connector-lora", "--no-enable-prefix-caching"), True)):
        record = replace(a_pod(args=args), served={"a": V1})
        named = engine_name_for(record, an_engine(record), adapter, True)
        assert isinstance(named, LoadName) and named.versioned is versioned


def test_a_pod_shows_why_its_engine_is_silent_until_it_answers() -> None:
    record = a_pod(args=("--api-server-count", "8"))
    for state, ready in ((EngineState.STARTING, False), (EngineState.DOWN, False), (EngineState.UP, True)):
        view = an_engine(record, state=state)
        (pod,) = take_snapshot(desired([], {}), observed((record, view)), *nothing_under_way(), 0.0).pods
        assert pod.ready is ready
        if not ready:
            assert pod.not_ready is not None and pod.not_ready[0] is Reason.POD_UNREACHABLE
            assert "--api-server-count 1" in pod.not_ready[1]
