"""Engines have the first word on what they hold, and status where they may not be asked."""

from __future__ import annotations

import json
from typing import Any

from tests.core.api_server import ApiServer
from tests.plugin.a_fleet import PODS, a_pod, an_adapter, show
from tests.plugin.conftest import Lora


def answering(api: ApiServer, pod: str, *models: tuple[str, str]) -> None:
    """Have the engine of a pod list these adapters: (name, path)."""
    listed: list[dict[str, Any]] = [{"id": "llama", "root": "/models/llama", "parent": None}]
    listed += [{"id": name, "root": root, "parent": "llama"} for name, root in models]
    api.raw[f"{PODS}/{pod}:8000/proxy/v1/models"] = json.dumps({"object": "list", "data": listed}).encode()
    api.raw[f"{PODS}/{pod}:8000/proxy/version"] = b'{"version": "0.32.0"}'


def at(body: dict[str, Any], name: str) -> tuple[str, str]:
    """As the engine lists the wanted version of an adapter."""
    (item,) = [item for item in body["status"]["adapters"] if item["name"] == name]
    return name, f"/adapters/{name}/{item['fingerprint']}"


async def test_a_copy_that_the_engine_lost_is_loaded_again(lora: Lora, api: ApiServer) -> None:
    sql = an_adapter("sql", {"sql": ["vllm-0"]})
    show(api, [sql], [a_pod("vllm-0")])
    answering(api, "vllm-0", at(sql, "sql"))
    assert (await lora("plan")).out.splitlines()[-1] == "Nothing to do."
    answering(api, "vllm-0")
    (step,) = (await lora("plan", "-o", "json")).document["steps"]
    assert (step["action"], step["adapter"]) == ("load", "sql")
    assert (await lora("plan", "--offline", "-o", "json")).document["steps"] == []


async def test_what_others_loaded_takes_slots(lora: Lora, api: ApiServer) -> None:
    sql = an_adapter("sql", {"sql": ["vllm-0"]})
    show(api, [sql], [a_pod("vllm-0")])
    answering(api, "vllm-0", at(sql, "sql"), ("theirs", "/somewhere/else"))
    (pod,) = (await lora("pods", "--ask", "-o", "json")).document
    assert (pod["slots"]["used"], pod["adapters"]) == (2, ["sql", "theirs"])
    (pod,) = (await lora("pods", "-o", "json")).document
    assert pod["adapters"] == ["sql"]


async def test_where_it_is_forbidden_one_engine_is_asked_and_status_counts_for_all(lora: Lora, api: ApiServer) -> None:
    show(api, [an_adapter("sql", {"sql": ["vllm-0"]})], [a_pod(f"vllm-{n}") for n in range(5)])
    api.statuses[f"{PODS}/vllm-0:8000/proxy/v1/models"] = 403
    said = await lora("plan")
    assert said.status == 0
    assert "note: status tells what is on vllm-0, vllm-1, vllm-2 and 2 more: refused; ask for the right" in said.out
    assert sum("/proxy/" in path for _, path in api.calls) == 1


async def test_an_engine_whose_answer_makes_no_sense_does_not_hide_the_others(lora: Lora, api: ApiServer) -> None:
    sql = an_adapter("sql", {"sql": ["vllm-0", "vllm-1"]}, wanted=2)
    show(api, [sql], [a_pod("vllm-0"), a_pod("vllm-1")])
    api.raw[f"{PODS}/vllm-0:8000/proxy/v1/models"] = b"<html>"
    answering(api, "vllm-1")
    said = await lora("plan", "-o", "json")
    assert [(step["action"], step["pod"]) for step in said.document["steps"]] == [("load", "team-a/vllm-1")]
    assert "status tells what is on vllm-0: its answer is not vLLM's" in said.document["notes"][0]


async def test_without_the_right_to_see_nodes_a_plan_says_what_it_lacks(lora: Lora, api: ApiServer) -> None:
    show(api, [an_adapter("sql", {"sql": ["vllm-0"]})], [a_pod("vllm-0")])
    api.statuses["/api/v1/nodes"] = 403
    said = await lora("plan", "--offline")
    assert said.status == 0
    assert "note: labels of nodes are not known, and replicas not spread over zones" in said.out
