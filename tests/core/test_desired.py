from __future__ import annotations

from lora_operator.desired.adapters import desired
from lora_operator.sources import BrokenAdapter, SourceError
from lora_scheduler import ReplicaPolicy
from tests.core.builders import V1, a_failing_source, a_resource, a_source, found


def test_every_adapter_of_the_source_is_wanted() -> None:
    resource = a_resource(spec={"deploymentConfig": {"replicas": 2}, "schedulingConfig": {"priority": 7}})
    result = desired([resource], {resource.key: a_source(resource, found("a"), found("b"))})
    assert sorted(result.adapters) == ["ns/la/a", "ns/la/b"]
    adapter = result.adapters["ns/la/a"].adapter
    assert (adapter.replicas, adapter.priority, adapter.version, adapter.bytes) == (2, 7, V1, 1000)


def test_a_selection_that_nothing_passes_is_told_with_the_selection() -> None:
    source = {"type": "local", "repository": "/models/x"}
    chosen = a_resource("chosen", spec={"adapterSource": {**source, "pattern": "sql-[0-", "adapters": ["a", "b"]}})
    whole = a_resource("whole", spec={"adapterSource": source})
    result = desired([chosen, whole], {r.key: a_source(r) for r in (chosen, whole)})
    what = "an adapter is a folder with adapter_config.json and adapter_model.safetensors"
    assert [result.resources[f"ns/{name}"].source.message for name in ("chosen", "whole")] == [
        f"no adapter there is selected by pattern 'sql-[0-' and adapters 'a, b': {what}",
        f"there is no adapter: {what}",
    ]


def test_declared_memory_wins_over_measured_bytes() -> None:
    resource = a_resource(spec={"schedulingConfig": {"resourceRequirements": {"memory": "2Gi"}}})
    result = desired([resource], {resource.key: a_source(resource, found("a"))})
    assert result.adapters["ns/la/a"].adapter.bytes == 2 * 2**30


def test_a_broken_adapter_stands_beside_the_good_ones() -> None:
    resource = a_resource()
    broken = BrokenAdapter("bad", "RankMismatch", "r is 8, tensors have 4")
    result = desired([resource], {resource.key: a_source(resource, found("good"), broken=(broken,))})
    assert list(result.adapters) == ["ns/la/good"]
    assert [(r.name, r.code, r.reason) for r in result.resources["ns/la"].rejected] == [
        ("bad", "RankMismatch", "Rank mismatch")
    ]


def test_what_looks_wrong_is_wanted_and_said() -> None:
    resource = a_resource()
    doubtful = found("a", doubts=("adapter_model.safetensors has no tensors for model.layers.3.self_attn.q_proj",))
    result = desired([resource], {resource.key: a_source(resource, doubtful)})
    assert list(result.adapters) == ["ns/la/a"]
    source = result.resources["ns/la"].source
    assert source.ready is True
    assert source.message == (
        "found 1 adapter; served, though it may be wrong: a: adapter_model.safetensors has no tensors for "
        "model.layers.3.self_attn.q_proj"
    )


def test_the_older_resource_keeps_a_name_that_two_claim() -> None:
    old = a_resource("z-old", created="2026-01-01T00:00:00Z")
    new = a_resource("a-new", created="2026-01-02T00:00:00Z")
    sources = {r.key: a_source(r, found("sql")) for r in (old, new)}
    result = desired([new, old], sources)
    assert list(result.adapters) == ["ns/z-old/sql"]
    (conflict,) = result.resources["ns/a-new"].rejected
    assert conflict.code == "Conflict" and "ns/z-old" in conflict.message


def test_the_younger_resource_takes_over_when_the_older_is_being_deleted() -> None:
    old = a_resource("old", deletionTimestamp="2026-01-03T00:00:00Z")
    new = a_resource("new", created="2026-01-02T00:00:00Z")
    result = desired([old, new], {r.key: a_source(r, found("sql")) for r in (old, new)})
    assert list(result.adapters) == ["ns/new/sql"] and "ns/old" not in result.resources


def test_while_a_source_is_away_status_says_what_is_wanted() -> None:
    noted = {"adapters": [{"name": "sql", "fingerprint": V1, "bytes": 5, "rank": 4}], "loadedAdapters": ["sql"]}
    resource = a_resource(status=noted)
    error = SourceError("NotThere", "the folder is gone", retryable=True)
    result = desired([resource], {resource.key: a_failing_source(resource, error)})
    wanted = result.adapters["ns/la/sql"]
    assert (wanted.adapter.version, wanted.adapter.rank, wanted.found) == (V1, 4, None)
    assert result.resources["ns/la"].source.ready is False
    assert ("ns", "sql") in result.protected


def test_what_status_remembers_still_has_to_pass_the_selection() -> None:
    noted = {"adapters": [{"name": n, "fingerprint": V1, "bytes": 5, "rank": 4} for n in ("sql-a", "chat")]}
    spec = {"adapterSource": {"type": "local", "repository": "/models/x", "prefix": "sql-"}}
    resource = a_resource(status=noted, spec=spec)
    result = desired([resource], {})
    assert list(result.adapters) == ["ns/la/sql-a"]
    assert result.resources["ns/la"].source.ready is None


def test_an_unreadable_spec_is_reported_and_breaks_nothing() -> None:
    resource = a_resource(spec={"adapterSource": {"type": "gopher", "repository": "x"}})
    result = desired([resource], {})
    state = result.resources["ns/la"].source
    assert state.ready is False and state.reason == "InvalidSpec" and "adapterSource.type" in state.message


def test_on_demand_adapters_are_checked_but_get_no_replicas() -> None:
    spec = {"deploymentConfig": {"loadOnStartup": False, "replicaPolicy": "AllPods"}}
    resource = a_resource(spec=spec)
    result = desired([resource], {resource.key: a_source(resource, found("a"))})
    adapter = result.adapters["ns/la/a"].adapter
    assert (adapter.replicas, adapter.replica_policy) == (0, ReplicaPolicy.FIXED)
    assert result.resources["ns/la"].on_demand


def test_the_pods_that_status_names_are_where_a_swapped_copy_belongs() -> None:
    resource = a_resource(status={"podAssignments": [{"pod": "p1", "adapters": ["a"]}, {"pod": "p2", "adapters": []}]})
    result = desired([resource], {resource.key: a_source(resource, found("a"))})
    assert result.adapters["ns/la/a"].adapter.previous_pods == {"ns/p1"}


def test_who_goes_does_not_change_the_rank_of_those_who_stay() -> None:
    old, young = a_resource("old", created="2026-01-01T00:00:00Z"), a_resource("young", created="2026-01-02T00:00:00Z")
    sources = {each.key: a_source(each, found(each.name)) for each in (old, young)}
    both, left = desired([young, old], sources), desired([young], sources)
    assert both.adapters["ns/old/old"].adapter.age_rank < both.adapters["ns/young/young"].adapter.age_rank
    assert left.adapters["ns/young/young"] == both.adapters["ns/young/young"]


def test_an_adapter_is_served_under_the_name_that_the_resource_gives_it() -> None:
    one = a_resource("one", spec={"servedName": "chat"})
    many = a_resource("many", spec={"servedName": "team-{slug}"})
    result = desired(
        [one, many], {one.key: a_source(one, found("chat-lora")), many.key: a_source(many, found("a b"), found("_c"))}
    )
    assert sorted(result.adapters) == ["ns/many/team-a-b", "ns/many/team-c", "ns/one/chat"]
    wanted = result.adapters["ns/one/chat"]
    assert wanted.adapter.name == "chat" and wanted.found is not None and wanted.found.name == "chat"


def test_one_name_for_several_adapters_is_a_conflict_that_says_what_to_write() -> None:
    resource = a_resource(spec={"servedName": "chat"})
    result = desired([resource], {resource.key: a_source(resource, found("a"), found("b"))})
    assert sorted(result.adapters) == ["ns/la/chat"]
    (rejected,) = result.resources[resource.key].rejected
    assert rejected.code == "Conflict" and "{name}" in rejected.message


def test_the_same_repository_twice_is_no_conflict_with_two_names() -> None:
    both = [a_resource(name, spec={"servedName": name}) for name in ("v1", "v2")]
    result = desired(both, {one.key: a_source(one, found("chat-lora")) for one in both})
    assert sorted(result.adapters) == ["ns/v1/v1", "ns/v2/v2"]
    assert not any(each.rejected for each in result.resources.values())


def test_what_status_remembers_has_served_names() -> None:
    status = {"adapters": [{"name": "team-a", "fingerprint": V1, "bytes": 1000, "rank": 8}]}
    spec = {"servedName": "team-{name}", "adapterSource": {"type": "local", "repository": "/m", "adapters": ["a"]}}
    resource = a_resource(spec=spec, status=status)
    error = SourceError("NetworkError", "away", retryable=True)
    result = desired([resource], {resource.key: a_failing_source(resource, error)})
    assert sorted(result.adapters) == ["ns/la/team-a"]


def test_the_surge_of_an_update_is_that_of_its_resource() -> None:
    resources = [a_resource("usual"), a_resource("none", spec={"deploymentConfig": {"maxSurge": 0}})]
    result = desired(resources, {one.key: a_source(one, found(one.name)) for one in resources})
    assert {key: wanted.adapter.max_surge for key, wanted in result.adapters.items()} == {
        "ns/usual/usual": 1, "ns/none/none": 0,
    }  # fmt: skip
