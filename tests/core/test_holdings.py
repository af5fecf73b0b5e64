"""Who holds what by what was published: LoraEndpoints, and status where there are none or they are out of date."""

from __future__ import annotations

import random
from typing import Any

import pytest

from lora_operator.informers.endpoints import Contents, HeldAdapter
from lora_operator.informers.holdings import Holdings, Place, known_of
from lora_operator.informers.published_status import NO_STATUS, read_status

ADDRESS = "10.0.0.1:8000"


def says(*held: tuple[str, str], address: str = ADDRESS, engine_name: str = "") -> Contents:
    """Each adapter with its LoraAdapter."""
    entries = tuple(HeldAdapter(name, engine_name or name, "a" * 16, resource) for name, resource in sorted(held))
    return Contents("uid", address, "c", ("tiny",), entries)


def assigned(*pods: str, adapters: tuple[str, ...] = ("sql",), new: bool = True) -> dict[str, Any]:
    """A status that names these pods, of an operator that writes LoraEndpoints or of an older one."""
    items = [{"pod": pod, "address": ADDRESS, "adapters": list(adapters)} for pod in pods]
    return {"phase": "Ready", "podAssignments": items} | ({"pods": len(pods)} if new else {})


def test_a_change_of_one_pod_touches_what_changed_there() -> None:
    holdings = Holdings()
    assert holdings.set_endpoint("ns/p0", says(("sql", "la"), ("chat", "la"))) == {("ns/la", "sql"), ("ns/la", "chat")}
    assert holdings.set_endpoint("ns/p1", says(("sql", "la"))) == {("ns/la", "sql")}
    assert holdings.of("ns/la") == {"sql": {"ns/p0", "ns/p1"}, "chat": {"ns/p0"}}
    assert holdings.set_endpoint("ns/p0", says(("sql", "la"), ("poet", "po"))) == {("ns/la", "chat"), ("ns/po", "poet")}
    assert holdings.set_endpoint("ns/p0", says(("sql", "la"), ("poet", "po"))) == set()
    assert holdings.of("ns/po") == {"poet": {"ns/p0"}}
    assert holdings.set_endpoint("ns/p1", None) == {("ns/la", "sql")}
    assert holdings.pods() == {"ns/p0"}


def test_a_pod_that_answers_elsewhere_touches_all_that_it_holds() -> None:
    holdings = Holdings()
    holdings.set_endpoint("ns/p0", says(("sql", "la"), ("chat", "la")))
    assert len(holdings.set_endpoint("ns/p0", says(("sql", "la"), ("chat", "la"), address="10.0.0.2:8000"))) == 2
    place = holdings.place("ns/la", "ns/p0", "sql")
    assert place == Place("10.0.0.2:8000", "c", "sql", "a" * 16, "uid")


def test_status_counts_for_a_pod_until_it_has_a_word_of_its_own() -> None:
    holdings = Holdings()
    assert holdings.set_status("ns/la", read_status(assigned("p0", "p1"))) == {("ns/la", "sql")}
    assert holdings.of("ns/la") == {"sql": {"ns/p0", "ns/p1"}}
    assert holdings.counting("ns/p0", "sql") == {"ns/la"}
    assert holdings.set_endpoint("ns/p0", says()) == {("ns/la", "sql")}
    assert holdings.of("ns/la") == {"sql": {"ns/p1"}}
    assert holdings.counting("ns/p0", "sql") == set()


def test_a_status_of_an_operator_that_writes_no_loraendpoints_counts_against_them() -> None:
    holdings = Holdings()
    holdings.set_endpoint("ns/p0", says(("sql", "la"), ("chat", "other")))
    holdings.set_status("ns/la", read_status(assigned("p1", new=False)))
    assert holdings.of("ns/la") == {"sql": {"ns/p1"}}
    assert holdings.place("ns/la", "ns/p0", "sql") is None
    assert holdings.of("ns/other") == {"chat": {"ns/p0"}}
    assert set(holdings.on("ns/p0")) == {("ns/other", "chat")}
    assert holdings.set_status("ns/la", read_status(assigned("p0"))) == {("ns/la", "sql")}
    assert holdings.of("ns/la") == {"sql": {"ns/p0"}}
    assert holdings.place("ns/la", "ns/p0", "sql") == Place(ADDRESS, "c", "sql", "a" * 16, "uid")


def test_a_status_that_nobody_has_written_yet_leaves_the_word_to_pods() -> None:
    holdings = Holdings()
    holdings.set_endpoint("ns/p0", says(("sql", "la")))
    holdings.set_status("ns/la", NO_STATUS)
    assert holdings.of("ns/la") == {"sql": {"ns/p0"}}


@pytest.mark.parametrize("nonsense", [["x"], 7, [{"pod": 3}], [{"pod": "p0", "adapters": "sql"}]])
def test_nonsense_in_a_status_says_nothing(nonsense: object) -> None:
    holdings = Holdings()
    holdings.set_status("ns/la", read_status(assigned("p0")))
    holdings.set_status("ns/la", read_status({"podAssignments": nonsense}))
    assert holdings.of("ns/la") == {}


def test_only_a_status_that_lacks_names_is_completed() -> None:
    held = {"sql": frozenset({"ns/p0"})}
    cut = {"truncated": True, "summary": "1/2", "adapters": [{"name": "a"}], "failedAdapters": [{"name": "b"}]}
    whole, lacking = read_status(cut), read_status(cut | {"summary": "1/3"})
    assert not whole.lacks_names and known_of(whole, held) == {}
    assert lacking.lacks_names and known_of(lacking, held) == held
    assert not read_status({"summary": "0/3"}).lacks_names and not read_status({"truncated": True}).lacks_names


def test_what_followed_every_change_equals_what_begins_now() -> None:
    chance = random.Random(3)
    pods, resources, names = ("p0", "p1", "p2"), ("a", "b", "c"), ("x", "y", "z")
    holdings = Holdings()
    endpoints: dict[str, Contents] = {}
    statuses: dict[str, dict[str, Any]] = {}
    for _ in range(800):
        before = {resource: dict(holdings.of(f"ns/{resource}")) for resource in resources}
        if chance.random() < 0.6:
            pod = f"ns/{chance.choice(pods)}"
            owners = {name: chance.choice(resources) for name in names if chance.random() < 0.6}
            endpoints[pod] = says(*owners.items())
            touched = holdings.set_endpoint(pod, endpoints[pod])
        else:
            key = f"ns/{chance.choice(resources)}"
            chosen = [pod for pod in pods if chance.random() < 0.5]
            adapters = tuple(name for name in names if chance.random() < 0.5)
            statuses[key] = assigned(*chosen, adapters=adapters, new=chance.random() < 0.6)
            touched = holdings.set_status(key, read_status(statuses[key]))
        fresh = Holdings()
        for pod, said in endpoints.items():
            fresh.set_endpoint(pod, said)
        for key, status in statuses.items():
            fresh.set_status(key, read_status(status))
        for resource in resources:
            now = dict(holdings.of(f"ns/{resource}"))
            assert now == dict(fresh.of(f"ns/{resource}"))
            for name in {*now, *before[resource]}:
                if now.get(name) != before[resource].get(name):
                    assert (f"ns/{resource}", name) in touched
        assert holdings.pods() == fresh.pods()
