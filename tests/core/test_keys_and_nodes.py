"""API keys from Secrets and labels of nodes: read once, again when due, and never in anybody's way."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lora_operator.informers import api_keys as keys
from lora_operator.informers import nodes
from lora_operator.informers.api_keys import ApiKeys
from lora_operator.informers.cache import Cluster
from lora_operator.informers.nodes import Nodes
from lora_operator.informers.pod_description import PodDefaults
from lora_operator.informers.records import PodRecord, read_pod
from tests.core.api_server import ApiServer, an_api_server
from tests.core.builders import a_pod

SECRET = "/api/v1/namespaces/ns/secrets/engine"
KEY = "s3cret-key"


def a_locked_pod(name: str = "p0") -> PodRecord:
    reference = {"secretKeyRef": {"name": "engine", "key": "api-key"}}
    env = [{"name": "VLLM_API_KEY", "valueFrom": reference}]
    body = {
        "metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "1"},
        "spec": {"containers": [{"name": "vllm", "args": ["--model", "tiny", "--enable-lora"], "env": env}]},
    }
    return read_pod(body, PodDefaults())


def a_secret(value: bytes, name: str = "api-key") -> dict[str, Any]:
    return {"data": {name: base64.b64encode(value).decode()}}


@asynccontextmanager
async def api_keys() -> AsyncIterator[tuple[ApiServer, ApiKeys]]:
    async with an_api_server() as api:
        made = ApiKeys(api.kube, lambda: None)
        try:
            yield api, made
        finally:
            await made.stop()


async def until(done: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not done():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.005)


async def test_a_secret_is_read_once_for_all_pods_that_need_it(caplog: pytest.LogCaptureFixture) -> None:
    async with api_keys() as (api, made):
        api.objects[SECRET] = a_secret(KEY.encode() + b"\n")
        pods = {f"ns/p{n}": a_locked_pod(f"p{n}") for n in range(3)}
        assert set(made.sync_targets(pods).values()) == {None}
        await made.first_reads(10.0)
        assert set(made.sync_targets(pods).values()) == {KEY}
        made.sync_targets(pods)
        assert len(api.calls) == 1
        assert KEY not in caplog.text and KEY not in repr(pods)


async def test_a_pod_without_a_key_needs_none() -> None:
    async with api_keys() as (api, made):
        assert made.sync_targets({"ns/p0": a_pod()}) == {"ns/p0": None}
        await made.first_reads(10.0)
        assert api.calls == []


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (None, "there is no such Secret"),
        (a_secret(b"x", "another"), "no readable key 'api-key'"),
        ({"data": {"api-key": "%%%"}}, "no readable key"),
        (a_secret(b" \n"), "no readable key"),
        ({"data": None}, "no readable key"),
        ({"data": {"api-key": base64.b64encode(b"\xff\xfe").decode()}}, "no readable key"),
    ],
)
async def test_a_secret_that_cannot_be_used_is_told_and_read_again(
    body: dict[str, Any] | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "RETRY_SECONDS", 0.01)
    async with api_keys() as (api, made):
        if body is not None:
            api.objects[SECRET] = body
        pods = {"ns/p0": a_locked_pod()}
        made.sync_targets(pods)
        await made.first_reads(10.0)
        made.sync_targets(pods)
        assert says in made.problems["ns/p0"]
        api.objects[SECRET] = a_secret(KEY.encode())
        await until(lambda: made.sync_targets(pods)["ns/p0"] == KEY)
        assert made.problems == {}


def an_open_pod() -> PodRecord:
    body = {
        "metadata": {"name": "p0", "namespace": "ns", "uid": "p0", "resourceVersion": "1"},
        "spec": {"containers": [{"name": "vllm", "args": ["m"], "envFrom": [{"secretRef": {"name": "engine"}}]}]},
    }
    return read_pod(body, PodDefaults())


async def test_a_secret_that_may_hold_the_key_is_read_only_once_the_engine_wants_one() -> None:
    async with api_keys() as (api, made):
        api.objects[SECRET] = a_secret(KEY.encode(), "VLLM_API_KEY")
        pods = {"ns/p0": an_open_pod()}
        assert made.sync_targets(pods) == {"ns/p0": None}
        await made.first_reads(10.0)
        assert api.calls == []
        made.sync_targets(pods, {"ns/p0"})
        await until(lambda: made.sync_targets(pods)["ns/p0"] == KEY)
        assert made.sync_targets(pods) == {"ns/p0": KEY}, "also when the engine does not refuse any more"


async def test_a_key_that_is_refused_is_read_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "RETRY_SECONDS", 0.01)
    async with api_keys() as (api, made):
        api.objects[SECRET] = a_secret(b"old-key")
        pods = {"ns/p0": a_locked_pod()}
        made.sync_targets(pods)
        await made.first_reads(10.0)
        api.objects[SECRET] = a_secret(KEY.encode())
        await until(lambda: made.sync_targets(pods, refused={"ns/p0"})["ns/p0"] == KEY)


async def test_what_no_pod_needs_is_forgotten() -> None:
    async with api_keys() as (api, made):
        api.objects[SECRET] = a_secret(KEY.encode())
        made.sync_targets({"ns/p0": a_locked_pod()})
        await made.first_reads(10.0)
        made.sync_targets({})
        assert not made._secrets.values and not made._secrets._due


async def test_labels_of_nodes_are_known_and_forgotten_with_the_nodes() -> None:
    async with an_api_server() as api:
        cluster, news = Cluster(PodDefaults()), asyncio.Event()
        api.objects["/api/v1/nodes/a"] = {"metadata": {"name": "a", "labels": {"zone": "1"}}}
        made = Nodes(api.kube, cluster, news.set)
        made.sync_targets({"a", "absent"})
        await news.wait()
        await until(lambda: not made._tasks)
        assert cluster.node_labels == {"a": {"zone": "1"}}
        made.sync_targets({"a", "absent"})
        assert len(api.calls) == 2
        made.sync_targets(set())
        assert cluster.node_labels == {} and not made._due
        await made.stop()


async def test_nodes_that_may_not_be_read_are_one_line_however_many_they_are(caplog: pytest.LogCaptureFixture) -> None:
    async with an_api_server() as api:
        api.statuses = {f"/api/v1/nodes/{name}": 403 for name in "abc"}
        made = Nodes(api.kube, Cluster(PodDefaults()), lambda: None)
        made.sync_targets({"a", "b", "c"})
        await until(lambda: not made._tasks)
        assert [line.partition(",")[0] for line in caplog.messages] == ["labels of nodes may not be read (rbac.nodes)"]
        await made.stop()


async def test_the_first_plan_can_wait_for_the_labels() -> None:
    async with an_api_server() as api:
        cluster = Cluster(PodDefaults())
        api.objects["/api/v1/nodes/a"] = {"metadata": {"name": "a", "labels": {"zone": "1"}}}
        made = Nodes(api.kube, cluster, lambda: None)
        await made.first_reads(timeout=30.0)  # nothing to wait for
        made.sync_targets({"a"})
        await made.first_reads(timeout=30.0)
        assert cluster.node_labels == {"a": {"zone": "1"}}
        await made.stop()


@pytest.mark.parametrize("refused", [False, True])
async def test_a_node_that_could_not_be_read_is_read_again(monkeypatch: pytest.MonkeyPatch, refused: bool) -> None:
    monkeypatch.setattr(nodes, "RETRY_SECONDS", 0.0)
    async with an_api_server() as api:
        cluster = Cluster(PodDefaults())
        api.objects["/api/v1/nodes/a"] = {"metadata": {"name": "a", "labels": {"zone": "1"}}}
        if refused:  # as by an API server that has just started
            api.statuses["/api/v1/nodes/a"] = 403
        else:
            api.raw["/api/v1/nodes/a"] = b"nonsense"
        made = Nodes(api.kube, cluster, lambda: None)
        made.sync_targets({"a"})
        await until(lambda: not made._tasks)
        api.raw.clear()
        api.statuses.clear()
        made.sync_targets({"a"})
        await until(lambda: cluster.node_labels)
        await made.stop()
