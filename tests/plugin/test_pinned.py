"""Pinned adapters: named by an annotation, and their files stay wherever the operator looks after them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from lora_operator.api.well_known import PIN_ANNOTATION
from lora_operator.delivery.agent_client import AgentClient
from lora_operator.desired.adapters import desired
from lora_operator.desired.pinning import ALL, pinned, pinned_names, write
from lora_operator.informers.sources import SourceView, request_of
from lora_operator.sources import Resolution
from lora_operator.vllm.answers import Endpoint
from tests.core.builders import V1, a_resource, found
from tests.core.fleet import ADAPTERS, Fleet, a_fleet


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("", set()),
        ("false", set()),
        ("True", {ALL}),
        ("a", {"a"}),
        (" a, b ,,c ", {"a", "b", "c"}),
        ("true,a", {"true", "a"}),  # an adapter may be called so, among others
    ],
)
def test_the_annotation_is_true_or_names(value: str, names: set[str]) -> None:
    assert pinned_names(value) == names


def test_what_is_written_is_read_again() -> None:
    for names in ({ALL}, {"b", "a"}, {ALL, "a"}, set[str]()):
        value = write(names)
        assert pinned_names(value or "") == (frozenset({ALL}) if ALL in names else names)
    assert write({"b", "a"}) == "a,b"


def test_the_wanted_versions_of_the_named_adapters_are_pinned() -> None:
    def pins(annotation: str) -> frozenset[tuple[str, str]]:
        resource = a_resource(annotations={PIN_ANNOTATION: annotation})
        assert resource.spec is not None
        view = SourceView(request_of(resource.spec, {}), Resolution((found("a"), found("b"))), checked=True)
        wanted = desired([resource], {resource.key: view})
        assert pinned(wanted, "other") == frozenset()
        assert pinned(wanted, "ns") == pinned(wanted)
        return pinned(wanted)

    assert pins("true") == {("a", V1), ("b", V1)}
    assert pins("b,unknown") == {("b", V1)}
    assert pins("false") == frozenset()


async def test_an_agent_from_before_there_were_pins_is_told_what_is_loaded_all_the_same() -> None:
    told: list[Any] = []

    async def loaded(request: web.Request) -> web.Response:
        told.append(await request.json())
        if "pinned" in told[-1]:
            return web.json_response({"reason": "BadRequest", "message": "pinned: extra_forbidden"}, status=400)
        return web.json_response({"versions": told[-1]["versions"]})

    app = web.Application()
    app.router.add_put("/v1/loaded", loaded)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        client = AgentClient(session, lambda: "t0ken-of-the-agents")
        held = await client.loaded(Endpoint(server.host, server.port or 0), [("a", V1)], [("b", V1)])
    assert [(one.name, one.fingerprint) for one in held.versions] == [("a", V1)]
    assert [sorted(body) for body in told] == [["pinned", "versions"], ["versions"]]


def annotate(fleet: Fleet, value: str) -> None:
    path = f"{ADAPTERS}/la"
    body = fleet.api.objects[path]
    body["metadata"]["annotations"] = {PIN_ANNOTATION: value}
    fleet.api.put(path, body)


async def test_files_of_a_pinned_adapter_make_no_room_on_the_operators_volume(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, pods=1) as fleet:
        fleet.write("sql")
        fleet.apply("la", "sql", replicas=0)
        files = fleet.operator.files
        await fleet.until(lambda: files.desired is not None and bool(files.desired.adapters))
        assert files.desired is not None
        (wanted,) = files.desired.adapters.values()
        version = (wanted.adapter.name, wanted.adapter.version)
        await fleet.until(lambda: files._in_use() == set())
        annotate(fleet, "true")
        await fleet.until(lambda: files._in_use() == {version})
        annotate(fleet, "false")
        await fleet.until(lambda: files._in_use() == set())
