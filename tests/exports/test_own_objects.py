"""Objects of ours are put right, and those of others left alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lora_operator.exports.base_models import CONFIG_MAPS
from lora_operator.exports.own_objects import OwnObjects, of_adapter
from lora_operator.kube.write_queue import Writes
from tests.core.api_server import ApiServer, an_api_server

MAPS = "/api/v1/namespaces/ns/configmaps"
KEY = "ns/lora-sql"


def a_map(**data: str) -> dict[str, Any]:
    metadata = of_adapter("ns", "lora-sql", "sql", "u") | {"uid": "own"}  # which a real API server gives
    return CONFIG_MAPS.body(metadata, {"data": data})


class Desk:
    """`wanted` is what the object under KEY should be."""

    def __init__(self, api: ApiServer) -> None:
        self.api = api
        self.wanted: dict[str, Any] | None = a_map(a="1")
        self.taken: list[str] = []
        self.writes = Writes()
        self.objects = self.of_its_kind()

    def of_its_kind(self, after: OwnObjects | None = None) -> OwnObjects:
        return OwnObjects(
            self.api.kube, CONFIG_MAPS, ("ns",), self.writes, lambda key: self.wanted, taken=self.taken.append,
            after=after, relist_seconds=300,
        )  # fmt: skip

    async def until_calls(self, count: int) -> None:
        async with asyncio.timeout(30):
            await self.api.until_calls(count)

    async def idle(self) -> None:
        async with asyncio.timeout(30):
            while not self.writes.idle:  # noqa: ASYNC110 - what it waits for has no event
                await asyncio.sleep(0.005)


@asynccontextmanager
async def a_desk() -> AsyncIterator[Desk]:
    async with an_api_server() as api:
        desk = Desk(api)
        try:
            yield desk
        finally:
            await desk.writes.stop(0.1)


def synced(objects: OwnObjects) -> OwnObjects:
    """As after its first list."""
    for informer in objects._informers:
        informer.synced.set()
    return objects


async def test_nothing_is_written_before_it_is_known_what_there_is() -> None:
    async with a_desk() as desk:
        later = synced(desk.of_its_kind(after=desk.objects))
        for objects in (desk.objects, later):
            objects.look(KEY)
        assert desk.writes.idle
        synced(desk.objects)
        later.look(KEY)
        await desk.idle()
        assert desk.api.writes() == [MAPS]


async def test_what_is_as_it_should_be_is_not_written_again() -> None:
    async with a_desk() as desk:
        synced(desk.objects).look(KEY)
        await desk.idle()
        desk.objects.look(KEY)
        assert desk.writes.idle and desk.api.objects[f"{MAPS}/lora-sql"]["data"] == {"a": "1"}
        desk.wanted = a_map(a="2")
        desk.objects.look(KEY)
        await desk.idle()
        assert desk.api.objects[f"{MAPS}/lora-sql"]["data"] == {"a": "2"}
        assert desk.api.writes() == [MAPS, f"{MAPS}/lora-sql"]


@pytest.mark.parametrize(
    ("there", "before", "after"),
    [("1", None, "1"), (None, "1", None), ("1", "2", "1")],
    ids=["deleting", "creating", "changing"],
)
async def test_what_is_wanted_again_while_a_write_is_under_way_comes_after_it(
    there: str | None, before: str | None, after: str | None
) -> None:
    """What is there is as it should be when it is looked at, and will not be once the write has ended."""
    async with a_desk() as desk:
        if there is not None:
            synced(desk.objects).there.put(json.loads(json.dumps(desk.api.put(f"{MAPS}/lora-sql", a_map(a=there)))))
        desk.wanted = before and a_map(a=before)
        desk.api.stall = asyncio.Event()
        synced(desk.objects).look(KEY)
        await desk.until_calls(1)
        desk.wanted = after and a_map(a=after)
        desk.objects.look(KEY)
        desk.api.stall.set()
        desk.api.stall = None
        await desk.idle()
        found = desk.api.objects.get(f"{MAPS}/lora-sql")
        assert (found and found["data"]["a"]) == after


async def test_an_object_of_somebody_else_is_never_written_and_its_name_is_tried_again() -> None:
    async with a_desk() as desk:
        metadata = {"name": "lora-sql", "namespace": "ns", "uid": "theirs"}
        theirs = desk.api.put(f"{MAPS}/lora-sql", {"metadata": metadata, "data": {}})
        synced(desk.objects).look(KEY)
        await desk.until_calls(4)
        assert set(desk.taken) == {KEY} and desk.api.writes("PATCH") == []
        assert desk.api.objects[f"{MAPS}/lora-sql"] == theirs
        del desk.api.objects[f"{MAPS}/lora-sql"]
        await desk.idle()
        assert desk.api.objects[f"{MAPS}/lora-sql"]["data"] == {"a": "1"}


async def test_one_of_ours_that_was_not_seen_yet_is_taken_up() -> None:
    async with a_desk() as desk:
        desk.api.put(f"{MAPS}/lora-sql", a_map(a="old"))
        synced(desk.objects).look(KEY)
        await desk.idle()
        assert desk.api.objects[f"{MAPS}/lora-sql"]["data"] == {"a": "1"} and not desk.taken
