"""Adapters from remote sources, brought by the pods' agents: fetched, loaded, kept, and refused where they are bad."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest

from e2e.behaviours.worlds import Worlds
from e2e.stores.web import WebStore
from e2e.world import World
from e2e.world.world import assigned

TOKEN = "w3b-t0ken-of-the-source"


class Store:
    """A web server in a thread of its own; `call` runs something in its loop."""

    def __init__(self) -> None:
        self.web = WebStore({})
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),), daemon=True)
        self._ready: Future[None] = Future()

    async def _run(self) -> None:
        async with self.web:
            self._ready.set_result(None)
            await self._stop.wait()

    def __enter__(self) -> Store:
        self._thread.start()
        self._ready.result(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def read(self, path: str) -> int:
        """How often bytes of this file were asked for."""
        return sum(asked.method == "GET" and asked.path == path for asked in self.web.requests)

    def offer(self, world: World, name: str, **options: Any) -> str:
        """Put an adapter there; returns its URL."""
        folder = world.adapter(name, **options)
        for path in folder.iterdir():
            self.web.files[f"/{name}/{path.name}"] = path.read_bytes()
        return self.web.url(f"/{name}/")


@pytest.fixture
def store() -> Iterator[Store]:
    with Store() as made:
        yield made


def apply(world: World, name: str, url: str, *, secret: str | None = None, **deployment: Any) -> None:
    manifest = world.manifest(name, "", source={"type": "http", "repository": url}, deployment=deployment)
    if secret is not None:
        manifest["spec"]["credentialsSecretRef"] = {"name": secret}
    world.kubectl("apply", "-f", "-", input=json.dumps(manifest))


@contextmanager
def a_secret(world: World, name: str, **values: str) -> Iterator[None]:
    """A Secret of the namespace, and the operator's right to read this one."""
    base = f"/api/v1/namespaces/{world.namespace}/secrets"
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    world.rest.create(base, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data})
    account = {"kind": "ServiceAccount", "name": "lora-operator", "namespace": "lora-operator-system"}
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{world.namespace}"
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [name], "verbs": ["get"]}
    kind = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    world.rest.create(f"{rbac}/roles", {**kind, "kind": "Role", "metadata": {"name": name}, "rules": [rule]})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    binding = {**kind, "kind": "RoleBinding", "metadata": {"name": name}, "roleRef": role, "subjects": [account]}
    world.rest.create(f"{rbac}/rolebindings", binding)
    yield


def test_an_adapter_of_a_web_server_is_fetched_once_for_a_node_and_answers(worlds: Worlds, store: Store) -> None:
    world = worlds(2, agent=())
    apply(world, "sql", store.offer(world, "sql"), replicas=2)
    status = world.wait_ready("sql")["status"]
    assert {name for names in assigned(status).values() for name in names} == {"sql"}
    assert len(assigned(status)) == 2
    version = status["adapters"][0]["fingerprint"]
    assert (world.disk / "sql" / version / "adapter_model.safetensors").stat().st_mode & 0o777 == 0o444
    assert not (world.volume / "sql").exists()


def test_a_new_version_at_the_source_is_rolled_out(worlds: Worlds, store: Store) -> None:
    world = worlds(1, agent=())
    apply(world, "sql", store.offer(world, "sql"))
    before = world.wait_ready("sql")["status"]["adapters"][0]["fingerprint"]
    store.offer(world, "sql", seed=7)
    after = world.wait("sql", lambda status: status["adapters"][0]["fingerprint"] != before)
    world.wait_ready("sql")
    assert after["status"]["adapters"][0]["fingerprint"] != before


def test_a_source_with_a_token_is_read_with_that_of_the_secret_and_it_is_shown_nowhere(
    worlds: Worlds, store: Store
) -> None:
    world = worlds(1, agent=())
    store.web.token = TOKEN
    url = store.offer(world, "sql")
    apply(world, "sql", url, secret="source")
    refused = world.wait(
        "sql", lambda status: reason(status) == "SecretNotFound" or reason(status) == "SecretForbidden"
    )
    assert refused["status"]["phase"] == "Failed"
    with a_secret(world, "source", token=TOKEN):
        body = world.wait_ready("sql", timeout=40)
    assert TOKEN not in json.dumps(body) and TOKEN not in json.dumps(world.events("sql"))
    assert world.operator is not None
    logs = world.operator.log.read_text() + "".join(p.read_text() for p in world.directory.rglob("agent.log"))
    assert "fetched sql" in logs and TOKEN not in logs
    assert TOKEN not in world.operator.fetch("/metrics")


def test_a_pod_whose_agent_and_engine_were_restarted_gets_its_adapters_without_a_byte_over_the_network(
    worlds: Worlds, store: Store
) -> None:
    world = worlds(1, agent=())
    apply(world, "sql", store.offer(world, "sql"))
    world.wait_ready("sql")
    read = store.read("/sql/adapter_model.safetensors")
    for container in ("agent", "vllm"):
        world.pods.kill_container(world.namespace, "vllm-0", container)
    world.pods.wait_restarted(world.namespace, "vllm-0", container="agent")
    world.pods.wait_restarted(world.namespace, "vllm-0")
    world.wait("sql", lambda status: bool(status.get("podAssignments")))
    world.wait_ready("sql")
    assert store.read("/sql/adapter_model.safetensors") == read


def test_a_pod_with_an_agent_says_that_it_cannot_have_adapters_of_a_local_folder(worlds: Worlds) -> None:
    world = worlds(1, agent=())
    world.adapter("sql")
    world.apply("sql", "sql")
    status = world.wait("sql", lambda status: bool(status.get("failedAdapters")))["status"]
    assert "cannot read folders of the operator" in status["failedAdapters"][0]["message"]


def reason(status: dict[str, Any]) -> str:
    """Why the source is not ready."""
    found = [item["reason"] for item in status.get("conditions", ()) if item["type"] == "SourceReady"]
    return found[0] if found else ""
