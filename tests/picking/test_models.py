"""GET /v1/models lists what a request could be answered by, whichever pod has it."""

from __future__ import annotations

import json
from typing import Any

from tests.picking.gateway import Told, picking
from tests.picking.test_picking import a_fleet_with_bases
from tests.router.fleet import Fleet


async def test_adapters_and_base_models_are_listed_whichever_pod_has_them() -> None:
    fleet = a_fleet_with_bases()
    fleet.adapter("cold", names=("poet",), on_demand=True)
    fleet.adapter("big", failed={"huge": {"code": "RankTooHigh", "message": "rank 512 is above 64"}})
    fleet.refresh()
    async with picking(fleet) as it:
        told = await it.gateway.ask(method="GET", path="/v1/models?limit=3")
        assert (told.status, told.headers["content-type"]) == (200, "application/json")
        listed = models(told)
        assert [*listed] == ["llama", "mistral", "chat", "poet", "sql"], "what cannot be had is not offered"
        assert (listed["llama"]["parent"], listed["sql"]["parent"]) == (None, "llama")
        assert [name for name, one in listed.items() if one["on_demand"]] == ["poet"]
        assert [name for name, one in listed.items() if not one["loaded"]] == ["poet"]
        assert all(isinstance(one["created"], int) and one["object"] == "model" for one in listed.values())
        assert "10.0.0" not in told.body.decode() and "chat--1234" not in told.body.decode()
        fleet.drop_adapter("cold")
        fleet.refresh()
        assert "poet" not in models(await it.gateway.ask(method="GET", path="/v1/models/"))
        assert await it.counted() == {"models": 2}


async def test_one_model_is_shown_with_why_no_pod_has_it() -> None:
    fleet = a_fleet_with_bases()
    fleet.adapter("big", failed={"huge": {"code": "RankTooHigh", "message": "rank 512 is above 64"}})
    fleet.pod("vllm-3", "10.0.0.4", says={"base-model": "Qwen/Qwen3"})
    fleet.refresh()
    async with picking(fleet) as it:
        for path, name in (("sql", "sql"), ("Qwen/Qwen3", "Qwen/Qwen3"), ("Qwen%2FQwen3", "Qwen/Qwen3")):
            told = await it.gateway.ask(method="GET", path=f"/v1/models/{path}")
            assert (told.status, json.loads(told.body)["id"]) == (200, name)
        told = await it.gateway.ask(method="GET", path="/v1/models/huge")
        assert (json.loads(told.body)["loaded"], json.loads(told.body)["reason"]) == (False, "RankTooHigh")
        told = await it.gateway.ask(method="GET", path="/v1/models/sq")
        assert (told.status, told.error["type"], told.error["near"]) == (404, "NotFoundError", ["sql"])


async def test_of_one_namespace_only_its_models_are_shown() -> None:
    fleet = Fleet()
    for namespace, ip in (("a", "10.0.0.1"), ("b", "10.0.0.2")):
        fleet.pod("vllm-0", ip, namespace=namespace, says={"base-model": f"llama-{namespace}"})
        fleet.adapter("one", {"vllm-0": {"sql": "sql", f"of-{namespace}": "x"}}, namespace=namespace)
    fleet.refresh()
    async with picking(fleet) as it:
        listed = models(await it.gateway.ask(method="GET", path="/v1/models", namespace="b"))
        assert [*listed] == ["llama-b", "of-b", "sql"]
        assert (await it.gateway.ask(method="GET", path="/v1/models/of-a", namespace="b")).status == 404
        assert (await it.gateway.ask(method="GET", path="/v1/models/sql")).status == 400


async def test_ten_thousand_adapters_are_one_answer() -> None:
    fleet = Fleet()
    fleet.pod("vllm-0")
    fleet.adapter("many", {"vllm-0": {f"a{number:05}": f"a{number:05}" for number in range(10_000)}})
    fleet.refresh()
    async with picking(fleet) as it:
        assert len(models(await it.gateway.ask(method="GET", path="/v1/models"))) == 10_001


def models(told: Told) -> dict[str, dict[str, Any]]:
    """By id, in order."""
    found = json.loads(told.body)
    assert found["object"] == "list"
    return {one["id"]: one for one in found["data"]}
