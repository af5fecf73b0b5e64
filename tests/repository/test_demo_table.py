"""What the demo draws and tells, from fleets made up for it."""

from __future__ import annotations

from dataclasses import replace

from e2e.demo.changes import changes
from e2e.demo.fleet import Fleet, Pod, Resource
from e2e.demo.table import table

V1, V2 = "1111111111111111", "2222222222222222"


def a_pod(name: str, loaded: dict[str, str] | None, state: str = "ready") -> Pod:
    return Pod(name, f"uid-{name}", "127.0.0.9:8000", state, slots=4, budget_bytes=262144, loaded=loaded)


def a_resource(named: dict[str, dict[str, str]], *, ready: bool = True, phase: str = "Ready") -> Resource:
    return Resource(
        name="sql",
        current=True,
        ready=ready,
        message="",
        phase=phase,
        named=named,
        addresses={},
        versions={"sql": V1},
        sizes_bytes={"sql": 10240},
        failed={},
    )


def a_fleet(*pods: Pod, resource: Resource | None = None) -> Fleet:
    return Fleet(pods, {resource.name: resource} if resource else {})


def test_the_table_shows_versions_slots_and_memory_and_marks_what_status_names() -> None:
    named = a_resource({"vllm-0": {"sql": "sql"}})
    fleet = a_fleet(a_pod("vllm-0", {"sql": V1}), a_pod("vllm-1", {}), a_pod("vllm-2", None, "down"), resource=named)
    assert table(fleet) == [
        "POD     STATE  sql      SLOTS  MEMORY",
        "vllm-0  ready  111111*  1/4    10/256 KiB",
        "vllm-1  ready  -        0/4    0/256 KiB",
        "vllm-2  down   ?        ?      ?",
    ]


def test_equal_fleets_have_no_changes() -> None:
    fleet = a_fleet(a_pod("vllm-0", {"sql": V1}), resource=a_resource({"vllm-0": {"sql": "sql"}}))
    assert changes(fleet, fleet) == []


def test_a_new_version_is_a_load() -> None:
    before, after = a_fleet(a_pod("vllm-0", {"sql": V1})), a_fleet(a_pod("vllm-0", {"sql": V2}))
    assert changes(before, after) == ["vllm-0 has loaded sql (222222)"]


def test_a_container_that_dies_and_comes_back_is_told_in_both_directions() -> None:
    up, down = a_fleet(a_pod("vllm-0", {"sql": V1})), a_fleet(a_pod("vllm-0", None, "down"))
    assert changes(up, down) == ["vllm-0 is down", "vllm-0: its engine does not answer"]
    empty = a_fleet(a_pod("vllm-0", {}))
    assert changes(down, empty) == [
        "vllm-0 is ready, at 127.0.0.9:8000",
        "vllm-0: its engine answers, with nothing loaded",
    ]


def test_a_pod_of_the_same_name_is_a_new_one_if_its_uid_is() -> None:
    before = a_fleet(a_pod("vllm-0", {"sql": V1}))
    after = a_fleet(replace(a_pod("vllm-0", None, "starting"), uid="other"))
    assert changes(before, after) == ["vllm-0 is a new pod", "vllm-0 is starting"]


def test_status_that_names_other_pods_is_told() -> None:
    before = a_fleet(resource=a_resource({"vllm-0": {"sql": "sql"}}))
    after = a_fleet(resource=a_resource({"vllm-1": {"sql": "sql"}}, ready=False, phase="Loading"))
    assert changes(before, after) == ["status of sql: phase Loading, Ready=False, names vllm-1"]


def test_a_pod_is_settled_when_status_names_it_for_all_that_it_holds() -> None:
    pod, named = a_pod("vllm-0", {"sql": V1}), a_resource({"vllm-0": {"sql": "sql"}})
    assert a_fleet(pod, resource=named).settled("vllm-0")
    assert not a_fleet(pod, resource=a_resource({})).settled("vllm-0")
    assert not a_fleet(a_pod("vllm-0", None), resource=named).settled("vllm-0")
