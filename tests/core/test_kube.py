"""The few calls to the API server: what is read, what a broken answer becomes."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import certifi
import pytest
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import incluster_config

from lora_operator.kube.client import Kube, KubeError
from lora_operator.kube.connections import client_of
from tests.core.api_server import an_api_server


def page(version: str, *names: str, more: str = "") -> dict[str, Any]:
    items = [{"metadata": {"name": name, "namespace": "a", "uid": name, "resourceVersion": "1"}} for name in names]
    return {"metadata": {"resourceVersion": version, "continue": more}, "items": items}


async def test_a_long_list_is_read_page_by_page() -> None:
    async with an_api_server() as api:
        api.lists["/api/v1/pods"] = [page("7", "p0", "p1", more="1"), page("7", "p2")]
        pods, version = await api.kube.list_pods(())
    assert [pod["metadata"]["name"] for pod in pods] == ["p0", "p1", "p2"]
    assert version == "7"


async def test_lists_of_several_namespaces_are_as_old_as_the_first_of_them() -> None:
    # what was created in the first namespace while the second was read is missing, and yet it is there
    async with an_api_server() as api:
        api.lists["/api/v1/namespaces/a/pods"] = [page("7", "p0")]
        api.lists["/api/v1/namespaces/b/pods"] = [page("9", "p1")]
        pods, version = await api.kube.list_pods(("a", "b"))
    assert len(pods) == 2
    assert version == "7"


@pytest.mark.parametrize("nonsense", [b"<html>please log in</html>", b"[1]", b"7"])
async def test_an_answer_that_is_no_object_is_an_error_of_its_own_kind(nonsense: bytes) -> None:
    async with an_api_server() as api:
        api.raw["/api/v1/nodes/n"] = nonsense
        with pytest.raises(KubeError, match="is there a proxy"):
            await api.kube.node("n")


async def test_a_refusal_carries_the_status_and_what_the_server_said() -> None:
    async with an_api_server() as api:
        with pytest.raises(KubeError, match=r"404 .*not found") as caught:
            await api.kube.secret("ns", "keys")
        assert caught.value.status == 404


async def test_no_answer_at_all_has_status_zero() -> None:
    async with an_api_server() as api:
        kube = api.kube
        api.kube._client.configuration.host = "http://127.0.0.1:1"
        with pytest.raises(KubeError) as caught:
            await kube.node("n")
        assert caught.value.status == 0


async def test_an_event_that_is_there_already_says_the_same_and_is_no_error() -> None:
    async with an_api_server() as api:
        api.refuse = [409, 403]
        await api.kube.create_event("ns", {"metadata": {"name": "e"}})
        with pytest.raises(KubeError):
            await api.kube.create_event("ns", {"metadata": {"name": "e"}})


async def test_a_status_is_never_written_to_another_object_of_the_same_name() -> None:
    path = "/apis/production-stack.vllm-project/v1alpha1/namespaces/ns/loraadapters/la"
    async with an_api_server() as api:
        api.objects[path] = {"metadata": {"name": "la", "namespace": "ns", "uid": "new", "resourceVersion": "1"}}
        with pytest.raises(KubeError) as caught:
            await api.kube.apply_status("ns", "la", "old", {"phase": "Ready"})
        assert caught.value.status == 409
        assert (await api.kube.apply_status("ns", "la", "new", {"phase": "Ready"}))["status"] == {"phase": "Ready"}


async def test_an_address_of_ipv6_stands_in_brackets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOKEN", "CERT"):
        (tmp_path / name).write_text(certifi.contents() if name == "CERT" else "token")
        monkeypatch.setattr(incluster_config, f"SERVICE_{name}_FILENAME", str(tmp_path / name))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    kube = await Kube.connect()
    assert kube._client.configuration.host == "https://[fd00::1]:443"
    await kube.close()


def test_the_environment_is_asked_for_a_proxy_only_where_it_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    asked = []
    for proxy in ("", "http://proxy:3128"):
        if proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy)
        configuration = Configuration()
        client_of(configuration)
        asked.append((configuration.client_session_kwargs or {}).get("trust_env", True))
    assert asked == [False, True]


async def test_connections_of_its_own_cost_no_reading_of_ca_and_certificate_unless_these_are_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    create = ssl.create_default_context

    def counted(**given: Any) -> ssl.SSLContext:
        made.append(given)
        return create()

    monkeypatch.setattr(ssl, "create_default_context", counted)
    ca = tmp_path / "ca.crt"
    ca.write_text("one")
    configuration = Configuration()
    configuration.ssl_ca_cert = str(ca)
    kube = Kube(client_of(configuration))
    others = [kube.with_own_connections() for _ in range(5)]
    assert len(made) == 1
    pools = {id(one._client.rest_client) for one in (kube, *others)}
    assert len(pools) == 6 and {one._client.rest_client.pool_manager for one in others} == {None}
    ca.write_text("another one, as after a rotation")
    others.append(kube.with_own_connections())
    assert len(made) == 2
    for one in (kube, *others):
        await one.close()
