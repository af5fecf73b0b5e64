"""Each caller sees its own adapters and shared ones; those of others are as if they were not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lora_operator.api.owner_names import owner_key
from lora_operator.cli.main import parser
from lora_operator.picking.callers import READ_SECONDS, ApiKeys
from lora_operator.router.settings import from_arguments
from lora_operator.settings.options import SettingsError
from tests.picking.gateway import Told, picking
from tests.router.fleet import Fleet

ALICE, BOB = "alice-key-0123456789", "bob-key-9876543210"


def a_fleet_of_owners() -> Fleet:
    """`sql` is alice's in one namespace and bob's in another; `house` is the platform's, `plain` its namespace's."""
    fleet = Fleet()
    for namespace, ip in (("a", "10.0.0.1"), ("b", "10.0.0.2")):
        fleet.pod("vllm-0", ip, namespace=namespace, says={"base-model": "llama"} if namespace == "a" else None)
    fleet.adapter("alices", {"vllm-0": {"sql": "sql--1", "diary": "diary"}}, namespace="a", owner="alice")
    fleet.adapter("bobs", {"vllm-0": {"sql": "sql--2"}}, namespace="b", owner="bob")
    fleet.adapter("house", {"vllm-0": {"house": "house"}}, namespace="a", owner="platform")
    fleet.adapter("plain", {"vllm-0": {"plain": "plain"}}, namespace="a")
    fleet.refresh()
    return fleet


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """As a Secret is mounted: files are links into a folder that is replaced."""
    (tmp_path / "..data").mkdir()
    for owner, text in (("alice", f"{ALICE}\nanother-key-of-alice\n"), ("bob", BOB)):
        (tmp_path / "..data" / owner).write_text(text)
        (tmp_path / owner).symlink_to(tmp_path / "..data" / owner)
    return tmp_path


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def ids(told: Told) -> set[str]:
    return {one["id"] for one in json.loads(told.body)["data"]}


async def test_each_owner_reaches_its_own_adapters_and_shared_ones(keys: Path) -> None:
    async with picking(a_fleet_of_owners(), keys=str(keys), shared_owners=("platform",)) as it:
        ask = it.gateway.ask
        alice = await ask({"model": "sql"}, headers=bearer(ALICE))
        assert (alice.endpoint, alice.model) == ("10.0.0.1:8000", "sql--1")
        assert alice.metadata["lora-operator"] == {"model": "sql", "owner": "alice"}
        assert alice.removed == ["authorization"], "engines have no business with it"
        assert (await ask({"model": "sql"}, headers=bearer(BOB))).model == "sql--2"
        assert (await ask({"model": "house"}, headers=bearer(BOB))).endpoint
        assert (await ask({"model": "llama"}, headers=bearer(BOB) | {"x-lora-namespace": "a"})).endpoint
        for name, more in (("diary", {}), ("plain", {}), ("diary", {"x-lora-namespace": "a"})):
            told = await ask({"model": name}, headers=bearer(BOB) | more)
            assert told.status == 404 and "near" not in told.error, "names of others are no hints"
        listed = await ask(method="GET", path="/v1/models", headers=bearer(BOB))
        assert ids(listed) == {"llama", "sql", "house"}
        listed = await ask(method="GET", path="/v1/models", headers=bearer(ALICE))
        assert ids(listed) == {"llama", "sql", "diary", "house"}
        assert (await ask(method="GET", path="/v1/models/diary", headers=bearer(BOB))).status == 404


@pytest.mark.parametrize(
    "sent",
    [
        [], [("authorization", "Bearer wrong-key-0123456789")], [("authorization", ALICE)],
        [("authorization", f"Basic {ALICE}")], [("authorization", "Bearer ")], [("x-api-key", ALICE)],
        [("authorization", f"Bearer {ALICE}"), ("authorization", f"Bearer {BOB}")],
    ],
)  # fmt: skip
async def test_without_one_known_key_nothing_is_answered(keys: Path, sent: list[tuple[str, str]]) -> None:
    async with picking(a_fleet_of_owners(), keys=str(keys)) as it:
        for what in ({"body": {"model": "sql"}}, {"method": "GET", "path": "/v1/models"}):
            told = await it.gateway.ask(**what, more=sent)  # type: ignore[arg-type]
            assert (told.status, told.error["type"]) == (401, "Unauthorized")
        assert await it.counted() == {"unauthorized": 2}


async def test_a_verified_token_names_the_owner_and_headers_do_not() -> None:
    forged = dict.fromkeys(("x-lora-owner", "x_lora_owner", "X-Lora-Owner", "sub", "tenant"), "bob")
    async with picking(a_fleet_of_owners(), owner_claim="tenant") as it:
        told = await it.gateway.ask({"model": "sql"}, token={"tenant": "alice", "sub": "bob"}, headers=forged)
        assert told.model == "sql--1" and told.removed == []
        both: Any = {"tenant": ["alice", "bob"]}
        assert (await it.gateway.ask({"model": "sql"}, token=both)).status == 400
        assert (await it.gateway.ask({"model": "diary"}, token=both)).metadata["lora-operator"]["owner"] == "alice,bob"
        for token in (None, {}, {"tenant": ""}, {"tenant": 7}, {"tenant": {"x": "alice"}}, {"sub": "alice"}):
            assert (await it.gateway.ask({"model": "sql"}, token=token, headers=forged)).status == 401


async def test_whose_name_no_owner_can_have_is_known_by_a_derived_one_that_nobody_can_claim() -> None:
    fleet, derived = a_fleet_of_owners(), owner_key("alice@example.com")
    fleet.adapter("mails", {"vllm-0": {"mail": "mail"}}, namespace="a", owner=derived)
    fleet.refresh()
    async with picking(fleet, owner_claim="sub") as it:
        told = await it.gateway.ask({"model": "mail"}, token={"sub": "alice@example.com"})
        assert (told.model or "mail", told.metadata["lora-operator"]["owner"]) == ("mail", derived)
        for claimed in (derived, "alice-example.com", "Alice@example.com"):
            assert (await it.gateway.ask({"model": "mail"}, token={"sub": claimed})).status == 404
        told = await it.gateway.ask(
            {"model": "llama"}, token={"sub": "\u0430\u043b"}, headers={"x-lora-namespace": "a"}
        )
        assert told.metadata["lora-operator"]["owner"].startswith("user-x")


async def test_with_a_prefix_nobody_is_called_like_a_namespace() -> None:
    fleet = a_fleet_of_owners()
    fleet.adapter("hers", {"vllm-0": {"poem": "poem"}}, namespace="a", owner=owner_key("u.alice"))
    fleet.refresh()
    async with picking(fleet, owner_claim="sub", owner_prefix="u.") as it:
        assert (await it.gateway.ask({"model": "poem"}, token={"sub": "alice"})).status == 0
        for claimed in ("a", "alice", "u.alice"):
            assert (await it.gateway.ask({"model": "sql"}, token={"sub": claimed})).status == 404


def test_keys_are_read_again_and_weak_or_shared_ones_left_out(keys: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    known = ApiKeys(keys, lambda: now)
    assert [known.owner(key) for key in (ALICE, "another-key-of-alice", BOB, "")] == ["alice", "alice", "bob", None]
    (keys / "..data" / "carol").write_text(f"short\n{BOB}\ncarols-key-0123456789")
    (keys / "carol").symlink_to(keys / "..data" / "carol")
    (keys / "alice").unlink()
    assert known.owner(ALICE) == "alice"
    now += READ_SECONDS
    assert [known.owner(key) for key in (ALICE, BOB, "short", "carols-key-0123456789")] == [None, None, None, "carol"]
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "same API key" in said and "less than 16" in said and BOB not in said and "short" not in said


def test_owners_are_known_in_one_way() -> None:
    flags = ["router", "--picker-port", "9002", "--picker-keys", "x", "--picker-owner-claim", "sub"]
    with pytest.raises(SettingsError, match="give one"):
        from_arguments(parser("router").parse_args(flags), {})
