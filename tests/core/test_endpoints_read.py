"""A LoraEndpoint is read as it was written, whatever else is in there."""

from __future__ import annotations

from typing import Any

from lora_operator.informers.endpoints import Contents, HeldAdapter, Shared, body_of, contents_of
from lora_operator.informers.records import read_endpoint

HELD = (
    HeldAdapter("chat", "chat--bbbbbbbb", "b" * 16, "assistants"),
    HeldAdapter("sql", "sql", "a" * 16, "sql"),
)
SAID = Contents("uid-0", "10.0.0.1:8000", "0123456789ab", ("tiny",), HELD)


def test_what_was_written_is_read_back() -> None:
    body = body_of("ns/vllm-0", SAID)
    assert contents_of(body, Shared()) == SAID
    assert body["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Pod", "name": "vllm-0", "uid": "uid-0"}
    ]
    assert body["adapters"] == {"chat": f"assistants/{'b' * 16}", "sql": f"sql/{'a' * 16}"}
    assert body["engineNames"] == {"chat": "chat--bbbbbbbb"}


def test_a_pod_that_holds_nothing_has_no_lists() -> None:
    nothing = Contents("uid-0", "10.0.0.1:8000", "", (), ())
    assert contents_of(body_of("ns/vllm-0", nothing), Shared()) == nothing
    assert "adapters" not in body_of("ns/vllm-0", nothing)


def test_an_adapter_is_found_by_its_name() -> None:
    assert SAID.holds("sql") is HELD[1]
    assert [SAID.holds(name) for name in ("a", "d", "z")] == [None, None, None]


def test_nonsense_in_an_object_is_passed_over() -> None:
    metadata: dict[str, Any] = {"namespace": "ns", "name": "p", "uid": "u", "resourceVersion": "7"}
    odd = {"adapters": {"x": 3}, "engineNames": ["x"], "baseModels": "tiny", "address": 8}
    found = read_endpoint({"metadata": metadata | {"ownerReferences": ["x"]}} | odd, Shared())
    assert (found.key, found.version) == ("ns/p", 7)
    assert found.said == Contents("", "", "", (), (HeldAdapter("x", "x", "", "x"),))


def test_equal_entries_of_many_pods_are_one_object() -> None:
    shared = Shared(most=3)
    first, second = (contents_of(body_of(f"ns/p{n}", SAID), shared) for n in range(2))
    assert all(one is other for one, other in zip(first.adapters, second.adapters, strict=True))
    for number in range(9):
        shared.of(f"a{number}", "", "", "")
    assert len(shared._known) <= 3
