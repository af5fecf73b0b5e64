"""`model: auto`: whose text is for an adapter of the caller is answered by it, and whose is for none by the default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lora_operator.router.request_text import request_text
from tests.picking.gateway import picking
from tests.router.fleet import Fleet

ALICE, BOB = "alice-key-0123456789", "bob-key-9876543210"
SQL = {"keywords": ["sql", "database"]}
LAW = {"keywords": ["contract"]}


def a_fleet() -> Fleet:
    """`sql` is alice's, `law` bob's, `plain` says nothing."""
    fleet = Fleet()
    fleet.pod("vllm-0", "10.0.0.1", says={"base-model": "llama"})
    fleet.adapter("a", {"vllm-0": {"sql": "sql--1"}}, selection=SQL, owner="alice")
    fleet.adapter("b", {"vllm-0": {"law": "law"}}, selection=LAW, owner="bob")
    fleet.adapter("c", {"vllm-0": {"plain": "plain"}})
    fleet.refresh()
    return fleet


def chat(*said: str, role: str = "user", model: str = "auto") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": role, "content": one} for one in said], "n": 1}


async def test_a_request_is_answered_by_the_adapter_that_its_text_is_for() -> None:
    async with picking(a_fleet()) as it:
        told = await it.gateway.ask(chat("Why is this SQL so slow?"))
        assert json.loads(told.body) == chat("Why is this SQL so slow?", model="sql--1")
        assert told.metadata["lora-operator"] == {"model": "sql", "selected": "sql"}
        for body in ({"prompt": "a contract"}, {"input": [{"role": "user", "content": [{"text": "a contract"}]}]}):
            told = await it.gateway.ask({"model": "auto"} | body)
            assert (told.model, told.metadata["lora-operator"]["selected"]) == ("law", "law")
        told = await it.gateway.ask(chat("Tell me a joke"))
        assert (told.model, told.metadata["lora-operator"]) == ("llama", {"model": "llama"})
        # only what users say counts, and an adapter is an adapter when it is named
        assert (await it.gateway.ask(chat("sql", role="system"))).model == "llama"
        assert (await it.gateway.ask(chat("sql", model="law"))).model == "law"
        listed = json.loads((await it.gateway.ask(method="GET", path="/v1/models")).body)["data"]
        assert [one["id"] for one in listed] == ["llama", "law", "plain", "sql", "auto"]
        assert (await it.gateway.ask(method="GET", path="/v1/models/auto")).status == 200


async def test_a_caller_is_given_an_adapter_of_its_own(tmp_path: Path) -> None:
    for owner, key in (("alice", ALICE), ("bob", BOB), ("eve", "eve-key-01234567890")):
        (tmp_path / owner).write_text(key)
    async with picking(a_fleet(), keys=str(tmp_path)) as it:

        async def answered(key: str) -> Any:
            told = await it.gateway.ask(chat("contract", "sql"), headers={"authorization": f"Bearer {key}"})
            return told.status or told.model

        assert [await answered(key) for key in (ALICE, BOB)] == ["sql--1", "law"]
        assert await answered("eve-key-01234567890") == 404, "where there is nothing to choose, there is no such model"


async def test_where_no_text_fits_the_default_answers_or_the_one_base_model() -> None:
    fleet = a_fleet()
    async with picking(fleet, auto_default="plain") as it:
        told = await it.gateway.ask(chat("Tell me a joke"))
        assert (told.model, told.metadata["lora-operator"]) == ("plain", {"model": "plain"})
    fleet.pod("vllm-1", "10.0.0.2", says={"base-model": "mistral"})
    fleet.adapter("d", {"vllm-1": {"poems": "poems"}}, selection={"keywords": ["poem"]}, base_model="mistral")
    fleet.refresh()
    async with picking(fleet) as it:
        assert (await it.gateway.ask(chat("A poem"))).endpoint == "10.0.0.2:8000"
        told = await it.gateway.ask(chat("Tell me a joke"))
        assert (told.status, told.error["type"]) == (404, "NotFoundError") and "name an adapter" in told.error[
            "message"
        ]


@pytest.mark.parametrize("model", ["", "choose"])
async def test_the_name_can_be_another_one_or_none(model: str) -> None:
    async with picking(a_fleet(), auto_model=model) as it:
        assert (await it.gateway.ask(chat("sql"))).status == 404
        if model:
            assert (await it.gateway.ask(chat("sql", model=model))).model == "sql--1"


async def test_what_really_has_the_name_is_meant_by_it() -> None:
    fleet = a_fleet()
    fleet.adapter("e", {"vllm-0": {"auto": "auto"}})
    fleet.refresh()
    async with picking(fleet) as it:
        told = await it.gateway.ask(chat("sql"))
        assert (told.model, told.metadata["lora-operator"]) == ("auto", {"model": "auto"})


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, "c"]}, "c\na"),
        ({"prompt": ["a", "b"]}, "b\na"),
        ({"input": "a", "instructions": "b"}, "a"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}, {"text": "a"}, {"text": 1}, 2]}]}, "a"),
        ({"messages": {"role": "user"}, "prompt": [1, 2, [3]], "input": None}, ""),
        ({"messages": [{"role": ["user"], "content": "a"}, {"content": "b"}]}, ""),
    ],
)
def test_of_whatever_is_sent_the_text_of_the_user_is_taken(members: dict[str, Any], text: str) -> None:
    assert request_text(members) == text
