"""What a status has no room for is read from the pods' LoraEndpoints."""

from __future__ import annotations

from lora_operator.informers.endpoints import Contents, HeldAdapter, body_of
from lora_operator.plugin.fleet import lines
from lora_operator.plugin.published import completed
from tests.plugin.a_fleet import NAMESPACE, an_adapter

V1 = "a" * 16


def test_a_status_that_was_cut_is_completed_and_others_stay_as_they_are() -> None:
    cut, whole = an_adapter("many", {"one": ["vllm-0"]}), an_adapter("sql")
    cut["status"] |= {"truncated": True, "pods": 2, "phase": "Ready"}
    held = (HeldAdapter("one", "one", V1, "many"), HeldAdapter("two", "two--aaaaaaaa", V1, "many"))
    bodies = [
        body_of(f"{NAMESPACE}/vllm-{number}", Contents(f"uid-{number}", "10.0.0.1:8000", "", ("llama",), held))
        for number in range(2)
    ]
    for number, body in enumerate(bodies):
        body["metadata"] |= {"uid": f"e{number}", "resourceVersion": "1"}
    found = completed([cut, whole], bodies)
    assert found[1] is whole
    assert {line.adapter: (line.pods, line.loaded) for line in lines(found) if line.resource == "many"} == {
        "one": (("vllm-0", "vllm-1"), 1),  # the number is what status says
        "two": (("vllm-0", "vllm-1"), 2),
    }
    assert found[0]["status"]["podAssignments"][0]["engineNames"] == [{"name": "two", "engineName": "two--aaaaaaaa"}]
