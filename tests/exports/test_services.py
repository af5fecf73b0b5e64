"""What Services, EndpointSlices and ConfigMaps say, without an API server."""

from __future__ import annotations

import re

import pytest

from lora_operator.exports.services import HEADLESS, export_name, service, service_of, slice_name, slice_names, slices
from lora_operator.informers.exported import says
from lora_operator.router.entries import Endpoint, Entry, Why, Withheld


def an_entry(*ends: Endpoint, name: str = "sql", withheld: tuple[Withheld, ...] = ()) -> Entry:
    return Entry("team", name, "tiny", "la", ends, withheld)


def addresses(made: object, name: str) -> list[str]:
    return [one["addresses"][0] for one in made[name]["endpoints"]]  # type: ignore[index]


def test_every_adapter_has_a_name_that_a_service_may_have_and_no_other_has() -> None:
    derived = export_name("Sql").removeprefix("lora-")
    names = (
        "sql",
        "Sql",
        "sQl",
        "s.ql",
        "s_ql",
        "s-ql",
        "0",
        "0.",
        "sql-",
        "-",
        "s" * 58,
        "s" * 59,
        "s" * 60,
        derived,
        "a--b",
    )
    found = {export_name(name) for name in names}
    assert len(found) == len(names)
    assert all(re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) and len(name) <= 63 for name in found)


@pytest.mark.parametrize("name", ["Sql", "s.ql", "s_ql", "sql-", "s" * 59])
def test_a_name_that_is_none_for_a_service_keeps_what_is_readable_of_it(name: str) -> None:
    derived = export_name(name)
    assert re.fullmatch(r"lora-[a-z-]{3,}-x[0-9a-f]{16}", derived) and export_name(derived[5:]) != derived
    assert export_name("sql") == "lora-sql"


def test_pods_are_in_a_slice_for_each_family_and_port_and_only_where_they_answer_to_the_name() -> None:
    entry = an_entry(
        Endpoint("a", "10.0.0.1:8000", "sql"),
        Endpoint("b", "10.0.0.2:9000", "sql"),
        Endpoint("c", "[fd00::3]:8000", "sql"),
        Endpoint("d", "10.0.0.4:8000", "sql--0123456789abcdef"),
        withheld=(Withheld("e", Why.TERMINATING),),
    )
    made = slices(entry, "u", lambda key: None)
    assert {name: addresses(made, name) for name in made} == {
        "lora-sql-ipv4-8000": ["10.0.0.1"],
        "lora-sql-ipv4-9000": ["10.0.0.2"],
        "lora-sql-ipv6-8000": ["fd00::3"],
    }
    assert {service_of(name) for name in made} == {"lora-sql"} and made.keys() == slice_names(entry)
    assert slice_name("lora-sql", "10.0.0.9", 8000) in made


def test_more_pods_than_a_slice_holds_are_in_several() -> None:
    ends = [Endpoint(f"p{n}", f"10.0.{n // 250}.{n % 250}:8000", "sql") for n in range(1001)]
    made = slices(an_entry(*ends), "u", lambda key: None)
    assert made.keys() == slice_names(an_entry(*ends))
    assert {name: len(body["endpoints"]) for name, body in made.items()} == {
        "lora-sql-ipv4-8000": 1000,
        "lora-sql-ipv4-8000-1": 1,
    }
    assert service_of("lora-sql-ipv4-8000-1") == "lora-sql"


def test_a_service_belongs_to_its_loraadapter_and_names_the_model() -> None:
    made = service(an_entry(name="My.Sql"), "u", HEADLESS)
    assert made["metadata"]["annotations"] == {"production-stack.vllm-project/model": "My.Sql"}
    assert made["metadata"]["ownerReferences"][0] == {
        "apiVersion": "production-stack.vllm-project/v1alpha1", "kind": "LoraAdapter", "name": "la", "uid": "u",
    }  # fmt: skip
    assert made["spec"]["clusterIP"] == "None"


def test_what_the_api_server_fills_in_is_no_difference() -> None:
    wanted = {"spec": {"ports": [{"port": 8000}]}}
    assert says({"spec": {"ports": [{"port": 8000, "targetPort": 8000}], "type": "ClusterIP"}}, wanted)
    assert not says({"spec": {"ports": [{"port": 8000}, {"port": 1}]}}, wanted)
    assert not says({"spec": {}}, wanted)
