"""An endpoint is there exactly while the engine has the adapter and the pod takes requests."""

from __future__ import annotations

import random
from typing import Any

import pytest

from lora_operator.router.entries import Endpoint, Why, Withheld
from tests.router.fleet import NAMESPACE, Fleet, a_fleet


@pytest.fixture(params=[False, True], ids=["by LoraEndpoints", "by status"], autouse=True)
def said(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fleet, "by_status", request.param)


def test_endpoints_come_from_status_with_address_and_engine_name() -> None:
    fleet = a_fleet()
    sql, chat = fleet.table.get(NAMESPACE, "sql"), fleet.table.get(NAMESPACE, "chat")
    assert sql is not None and chat is not None
    assert sql.endpoints == (Endpoint("vllm-0", "10.0.0.1:8000", "sql"), Endpoint("vllm-1", "10.0.0.2:8000", "sql"))
    assert chat.endpoints == (Endpoint("vllm-0", "10.0.0.1:8000", "chat--1234"),)
    assert (sql.base_model, sql.resource, sql.reason, sql.message) == ("llama", "two", "", "")
    assert fleet.table.endpoints == 3


def test_a_pod_that_is_not_ready_or_about_to_go_is_withheld_at_once() -> None:
    fleet = a_fleet()
    fleet.pod("vllm-0", "10.0.0.1", ready=False)
    fleet.refresh()
    assert fleet.pods_of("sql") == ["vllm-1"]
    fleet.pod("vllm-0", "10.0.0.1", terminating=True)
    fleet.pod("vllm-1", "10.0.0.2", ready=False)
    fleet.refresh()
    entry = fleet.table.get(NAMESPACE, "sql")
    assert entry is not None and not entry.endpoints
    assert entry.withheld == (Withheld("vllm-0", Why.TERMINATING), Withheld("vllm-1", Why.NOT_READY))
    assert (entry.reason, entry.message) == ("PodsNotReady", "vllm-0 is about to go; vllm-1 is not ready")


def test_a_pod_that_is_gone_or_has_another_address_than_status_says_is_no_endpoint() -> None:
    fleet = a_fleet()
    fleet.drop_pod("vllm-1")
    fleet.refresh()
    assert fleet.pods_of("sql") == ["vllm-0"]
    fleet.pod("vllm-0", "10.0.0.77")  # a new pod of the same name, which status does not know yet
    fleet.refresh()
    assert fleet.pods_of("sql") == []


def test_a_pod_whose_container_was_replaced_is_withheld_until_status_speaks_of_the_new_one() -> None:
    fleet = Fleet()
    for container in ("containerd://aaaaaaaaaaaa1111", "containerd://bbbbbbbbbbbb2222"):
        fleet.pod("vllm-0", container=container)
        fleet.refresh()
        if container.startswith("containerd://b"):
            entry = fleet.table.get(NAMESPACE, "sql")
            assert entry is not None and not entry.endpoints
            assert entry.withheld == (Withheld("vllm-0", Why.RESTARTED),)
            assert entry.message == "vllm-0 is restarted and empty"
        fleet.adapter("one", {"vllm-0": {"sql": "sql"}})
        fleet.refresh()
        assert fleet.pods_of("sql") == ["vllm-0"]


def test_what_says_nothing_of_containers_counts() -> None:
    fleet = Fleet()
    fleet.pod("vllm-0")
    fleet.adapter("one", {"vllm-0": {"sql": "sql"}})
    fleet.pod("vllm-0", container="containerd://aaaaaaaaaaaa1111")
    fleet.refresh()
    assert fleet.pods_of("sql") == ["vllm-0"]


def test_what_status_no_longer_names_is_no_endpoint_though_its_pod_is_fine() -> None:
    fleet = a_fleet()
    fleet.adapter("two", {"vllm-1": {"sql": "sql"}}, names=("chat",), ready=("False", "Loading", "loading chat"))
    fleet.refresh()
    assert fleet.pods_of("sql") == ["vllm-1"]
    entry = fleet.table.get(NAMESPACE, "chat")
    assert entry is not None
    assert (entry.endpoints, entry.reason, entry.message) == ((), "Loading", "loading chat")


def test_known_adapters_without_pods_say_why() -> None:
    fleet = Fleet()
    fleet.adapter("la", failed={"big": {"code": "RankTooHigh", "message": "rank 64"}}, explicit=("later",))
    fleet.adapter("lazy", names=("idle",), ready=("False", "LoadOnDemand", "nothing is loaded yet"))
    fleet.refresh()
    found = {entry.name: (entry.reason, entry.message) for entry in fleet.table.after()}
    assert found == {
        "big": ("RankTooHigh", "rank 64"),
        "idle": ("LoadOnDemand", "nothing is loaded yet"),
        "later": ("NotLoaded", "no pod has it loaded"),
    }


def test_an_adapter_of_a_deleted_resource_stays_while_a_pod_answers_for_it() -> None:
    fleet = a_fleet()
    fleet.adapter("two", {"vllm-1": {"sql": "sql"}}, names=("chat",), deleting=True)
    fleet.refresh()
    assert fleet.pods_of("sql") == ["vllm-1"]
    assert fleet.table.get(NAMESPACE, "chat") is None
    fleet.drop_adapter("two")
    fleet.refresh()
    assert len(fleet.table) == 0 and fleet.table.endpoints == 0


def test_of_two_resources_with_one_name_the_one_that_has_it_loaded_counts() -> None:
    fleet = a_fleet()
    fleet.adapter("aaa", failed={"sql": {"code": "NameTaken", "message": "two has it"}}, base_model="other")
    fleet.refresh()
    entry = fleet.table.get(NAMESPACE, "sql")
    assert entry is not None and entry.resource == "two" and len(entry.endpoints) == 2
    fleet.drop_adapter("two")
    fleet.refresh()
    entry = fleet.table.get(NAMESPACE, "sql")
    assert entry is not None and (entry.resource, entry.reason) == ("aaa", "NameTaken")


def test_a_name_that_is_handed_over_has_the_pods_of_both() -> None:
    fleet = a_fleet()
    fleet.adapter("two", {"vllm-0": {"sql": "sql"}}, deleting=True)
    fleet.adapter("heir", {"vllm-1": {"sql": "sql"}})
    fleet.refresh()
    assert fleet.pods_of("sql") == ["vllm-0", "vllm-1"]


def test_the_same_name_in_another_namespace_is_another_adapter() -> None:
    fleet = a_fleet()
    fleet.pod("vllm-0", "10.0.1.1", namespace="team-b")
    fleet.adapter("theirs", {"vllm-0": {"sql": "sql"}}, namespace="team-b")
    fleet.refresh()
    assert fleet.pods_of("sql") == ["vllm-0", "vllm-1"]
    assert fleet.pods_of("sql", "team-b") == ["vllm-0"]


def test_a_status_that_breaks_the_rules_harms_nobody_else() -> None:
    fleet = a_fleet()
    for number, status in enumerate(({"podAssignments": ["x"]}, {"adapters": 7}, {"conditions": [[]]})):
        metadata = {"name": f"odd-{number}", "namespace": NAMESPACE, "uid": f"odd-{number}", "resourceVersion": "9"}
        spec = {"baseModel": "llama", "adapterSource": {"type": "local", "repository": "/m", "adapters": ["odd"]}}
        fleet.cluster.adapters.put({"metadata": metadata, "spec": spec, "status": status})
    fleet.refresh()
    assert fleet.pods_of("sql") == ["vllm-0", "vllm-1"]
    assert fleet.pods_of("odd") == []


def test_a_table_that_followed_every_change_equals_one_that_begins_now() -> None:
    chance = random.Random(7)
    fleet = Fleet(log_length=10_000)
    names = [f"a{number}" for number in range(6)]
    for _ in range(400):
        pod = f"vllm-{chance.randrange(4)}"
        what = chance.random()
        if what < 0.45:
            ip = f"10.0.0.{chance.randrange(6)}"
            fleet.pod(pod, ip, ready=chance.random() < 0.7, terminating=chance.random() < 0.1)
        elif what < 0.55:
            fleet.drop_pod(pod)
        elif what < 0.9:
            held = {f"vllm-{n}": {a: a for a in chance.sample(names, 2)} for n in range(4) if chance.random() < 0.5}
            fleet.adapter(f"la-{chance.randrange(3)}", held, deleting=chance.random() < 0.2)
        else:
            fleet.drop_adapter(f"la-{chance.randrange(3)}")
        fleet.refresh()
        fresh = Fleet()
        fresh.cluster.pods._items = dict(fleet.cluster.pods._items)
        fresh.cluster.adapters._items = dict(fleet.cluster.adapters._items)
        fresh.cluster.endpoints._items = dict(fleet.cluster.endpoints._items)
        fresh.refresh()
        assert list(fresh.table.after()) == list(fleet.table.after())
        assert fresh.table.endpoints == fleet.table.endpoints
    replayed = {}
    for change in fleet.table.since(0) or ():
        key = (change.after or change.before).key  # type: ignore[union-attr]
        assert replayed.get(key) == change.before
        replayed[key] = change.after
    assert {key: entry for key, entry in replayed.items() if entry} == {e.key: e for e in fleet.table.after()}


@pytest.mark.parametrize(
    ("said", "reason", "given_up"),
    [
        ({}, "LoadOnDemand", False),
        ({"asked": ("poet",)}, "Loading", False),
        ({"asked": ("poet",), "ready": ("False", "NoMatchingPods", "no pod")}, "NoMatchingPods", False),
        ({"ready": ("False", "Loading", "loading bard"), "asked": ("bard",)}, "LoadOnDemand", False),
        ({"failed": {"bard": {"code": "X"}}, "ready": ("False", "X", "bard")}, "LoadOnDemand", False),
        (
            {"failed": {"bard": {"code": "X"}}, "ready": ("False", "X", "bard"), "asked": ("bard", "poet")},
            "Loading", False,
        ),
        ({"failed": {"poet": {"code": "RankTooHigh", "message": "rank 64"}}}, "RankTooHigh", True),
        ({"replicas": 0}, "ScaledToZero", True),
        ({"names": (), "explicit": ("poet",), "ready": ("Unknown", "Resolving", "")}, "Resolving", False),
        ({"names": (), "explicit": ("poet",), "ready": ("False", "Gone", ""), "source_ready": False}, "Gone", True),
        ({"explicit": ("poet",), "ready": ("False", "NotFound", ""), "source_ready": False}, "LoadOnDemand", False),
    ],
)  # fmt: skip
def test_of_an_adapter_on_demand_it_is_known_whether_asking_for_it_helps(
    said: dict[str, Any], reason: str, given_up: bool
) -> None:
    fleet = Fleet()
    fleet.adapter("lazy", **({"names": ("bard", "poet"), "on_demand": True} | said))
    fleet.refresh()
    entry = fleet.table.get(NAMESPACE, "poet")
    assert entry is not None and entry.on_demand
    assert (entry.reason, entry.given_up) == (reason, given_up)


def test_a_copy_on_a_pod_that_comes_back_is_worth_waiting_for_though_another_was_refused() -> None:
    fleet = Fleet()
    fleet.pod("vllm-0", "10.0.0.1", ready=False)
    fleet.adapter("lazy", {"vllm-0": {"poet": "poet"}}, on_demand=True, failed={"poet": {"code": "NoFreeSlot"}})
    fleet.refresh()
    entry = fleet.table.get(NAMESPACE, "poet")
    assert entry is not None and (entry.reason, entry.given_up) == ("PodsNotReady", False)


def test_nothing_is_remembered_of_pods_that_are_gone() -> None:
    fleet = a_fleet()
    fleet.drop_pod("vllm-1")
    fleet.refresh()
    fleet.drop_endpoint("vllm-1")  # some time after its pod
    fleet.refresh()
    feed = fleet.feed
    for table in (feed._ends, feed._pods, feed._records, feed._endpoints, feed._holdings._said):
        assert f"{NAMESPACE}/vllm-1" not in table
