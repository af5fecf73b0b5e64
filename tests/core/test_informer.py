"""What an informer makes of answers that a real API server gives seldom: a restored etcd, a list that grows too old."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lora_operator.api.well_known import POD_LABEL
from lora_operator.informers.cache import Cluster
from lora_operator.informers.pod_description import PodDefaults
from lora_operator.router.cluster_informers import Following
from tests.core.api_server import ApiServer, an_api_server
from tests.core.test_app import LORA, PODS, a_list

WATCHED = f"{PODS}?{POD_LABEL}=enabled"


def a_pod(name: str, version: int, uid: str = "") -> dict[str, Any]:
    metadata = {"name": name, "namespace": "ns", "uid": uid or name, "resourceVersion": str(version)}
    return {"metadata": metadata | {"labels": {POD_LABEL: "enabled"}}}


class Seen:
    def __init__(self, api: ApiServer, cluster: Cluster, changed: asyncio.Event, following: Following) -> None:
        self.api = api
        self.cluster = cluster
        self.changed = changed
        self.following = following

    async def until(self, done: Callable[[], Any]) -> None:
        async with asyncio.timeout(60):
            while not done():
                self.changed.clear()
                await self.changed.wait()

    @property
    def versions(self) -> dict[str, int]:
        return {record.pod.name: record.version for record in self.cluster.pods.values()}

    async def tell(self, kind: str, body: dict[str, Any]) -> None:
        """Once the pods are watched."""
        async with asyncio.timeout(20):
            while WATCHED not in self.api.streams:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        self.api.streams[WATCHED].put_nowait({"type": kind, "object": body})


@asynccontextmanager
async def seeing(*pods: dict[str, Any], version: str) -> AsyncIterator[Seen]:
    async with an_api_server() as api:
        api.lists = {LORA: a_list(version=version), PODS: a_list(*pods, version=version)}
        cluster, changed = Cluster(PodDefaults()), asyncio.Event()
        following = Following(api.kube, cluster, (), changed.set)
        running = following.start()
        try:
            await following.until_synced(asyncio.Event())
            yield Seen(api, cluster, changed, following)
            assert not running.done()
        finally:
            await following.stop()


async def test_after_a_restored_etcd_lower_versions_count_and_what_it_lacks_is_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with seeing(a_pod("stays", 900), a_pod("later", 950), version="1000") as seen:
        await seen.tell("DELETED", a_pod("back", 990))
        seen.api.lists = {
            LORA: a_list(version="500"), PODS: a_list(a_pod("stays", 400), a_pod("back", 300), version="500")
        }  # fmt: skip
        seen.api.away = True  # an API server is restarted for it
        for path in list(seen.api.streams):
            seen.api._end_watch(path)
        async with asyncio.timeout(60):
            while any(informer.error is None for informer in seen.following._pods.values()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # until it was noticed
        seen.api.away = False
        await seen.until(lambda: seen.versions == {"stays": 400, "back": 300})
        assert "gone back from version 1000 to 500" in caplog.text


async def test_a_watch_whose_version_is_too_old_begins_anew_with_a_list() -> None:
    async with seeing(a_pod("p0", 5), version="10") as seen:
        seen.api.lists[PODS] = a_list(a_pod("p1", 20), version="30")
        await seen.tell("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"})
        await seen.until(lambda: seen.versions == {"p1": 20})


async def test_a_bookmark_moves_the_place_from_which_the_watch_goes_on() -> None:
    async with seeing(a_pod("p0", 5), version="10") as seen:
        asked: list[str] = []
        answer = seen.api._stream

        async def noting(request: Any) -> Any:
            if request.path == PODS:
                asked.append(request.query["resourceVersion"])
            return await answer(request)

        seen.api._stream = noting  # type: ignore[method-assign]
        await seen.tell("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": "77"}})
        async with asyncio.timeout(20):
            while "77" not in asked:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_one_object_that_cannot_be_read_keeps_no_other_from_being_seen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with seeing(version="10") as seen:
        read = seen.cluster.pods._read

        def choosy(body: Any) -> Any:
            if body["metadata"]["name"] == "odd":
                raise ValueError("nonsense")
            return read(body)

        monkeypatch.setattr(seen.cluster.pods, "_read", choosy)
        await seen.tell("ADDED", a_pod("odd", 11))
        await seen.tell("ADDED", a_pod("p0", 12))
        await seen.until(lambda: seen.versions == {"p0": 12})
        assert "pods ns/odd cannot be read" in caplog.text
