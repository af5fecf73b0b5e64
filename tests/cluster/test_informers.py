"""What the operator sees of a real API server, and through a network that breaks: nothing is missed for long."""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import secrets
import urllib.parse
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.aio.config import incluster_config

from e2e.controlplane import ControlPlane
from e2e.faults import FaultProxy
from e2e.world import World
from e2e.world.world import ROOT
from lora_operator.api.well_known import GROUP, PLURAL, POD_LABEL
from lora_operator.informers.cache import Cluster
from lora_operator.informers.pod_description import PodDefaults
from lora_operator.kube.client import Kube
from lora_operator.router.cluster_informers import Following

pytestmark = pytest.mark.cluster
CRD = f"crd/{PLURAL}.{GROUP}"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One whose CRD may be taken away."""
    with ControlPlane.start(tmp_path_factory.mktemp("informers")) as plane:
        if plane.existing:
            pytest.skip("the CRD of an existing cluster is not ours to remove")
        World.install(plane)
        yield plane


@pytest.fixture
def proxy(plane: ControlPlane) -> Iterator[FaultProxy]:
    address = urllib.parse.urlsplit(yaml.safe_load(plane.kubeconfig.read_text())["clusters"][0]["cluster"]["server"])
    with FaultProxy(str(address.hostname), address.port or 443) as proxy:
        yield proxy


@dataclass
class Seen:
    plane: ControlPlane
    namespace: str
    cluster: Cluster
    following: Following
    kube: Kube
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def kubectl(self, *arguments: str, body: Any = None) -> str:
        given = None if body is None else json.dumps(body)
        return await asyncio.to_thread(self.plane.kubectl, *arguments, input=given, namespace=self.namespace)

    async def adapter(self, name: str, selector: dict[str, str] | None = None) -> None:
        spec: dict[str, Any] = {"baseModel": "tiny", "adapterSource": {"type": "local", "repository": "/m"}}
        if selector is not None:
            spec["deploymentConfig"] = {"podSelector": {"matchLabels": selector}}
        kind = {"apiVersion": f"{GROUP}/v1alpha1", "kind": "LoraAdapter", "metadata": {"name": name}, "spec": spec}
        await self.kubectl("apply", "-f", "-", body=kind)

    async def pod(self, name: str, **labels: str) -> None:
        spec = {"containers": [{"name": "vllm", "image": "nowhere"}]}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}
        await self.kubectl("apply", "-f", "-", body=body)

    async def until(self, done: Callable[[], Any], seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds):
            while not done():
                self.changed.clear()
                await self.changed.wait()

    @property
    def pods(self) -> set[str]:
        return {record.pod.name for record in self.cluster.pods.values()}

    @property
    def adapters(self) -> set[str]:
        return {resource.name for resource in self.cluster.adapters.values()}


@asynccontextmanager
async def seeing(
    plane: ControlPlane, folder: Path, proxy: FaultProxy | None = None, *, everywhere: bool = False
) -> AsyncIterator[Seen]:
    """What is in a namespace of its own; `everywhere`: the whole cluster is watched."""
    namespace = f"seen-{secrets.token_hex(4)}"
    await asyncio.to_thread(plane.create_namespace, namespace)
    config = yaml.safe_load(plane.kubeconfig.read_text())
    if proxy is not None:
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    kube, cluster = await Kube.connect(str(kubeconfig)), Cluster(PodDefaults())
    changed = asyncio.Event()
    following = Following(kube, cluster, () if everywhere else (namespace,), changed.set)
    running = following.start()
    try:
        await following.until_synced(asyncio.Event())
        yield Seen(plane, namespace, cluster, following, kube, changed)
        assert not running.done()
    finally:
        await following.stop()
        await kube.close()
        await asyncio.to_thread(plane.delete_namespace, namespace)


async def test_only_pods_that_take_part_are_seen_and_those_of_a_new_selector_from_then_on(
    plane: ControlPlane, tmp_path: Path
) -> None:
    async with seeing(plane, tmp_path, everywhere=True) as seen:
        await seen.pod("stranger", app="web")
        await seen.pod("labelled", **{POD_LABEL: "enabled"})
        await seen.pod("selected", tier="gold")
        await seen.until(lambda: "labelled" in seen.pods)
        assert seen.pods == {"labelled"}
        await seen.adapter("sql", selector={"tier": "gold"})
        await seen.until(lambda: "selected" in seen.pods)
        assert seen.pods == {"labelled", "selected"}
        await seen.kubectl("delete", "pod", "labelled", "selected", "--force", "--grace-period=0")
        await seen.until(lambda: not seen.pods)


async def test_a_pod_whose_label_goes_is_seen_until_it_goes_itself(plane: ControlPlane, tmp_path: Path) -> None:
    async with seeing(plane, tmp_path) as seen:
        await seen.pod("vllm", **{POD_LABEL: "enabled"})
        await seen.until(lambda: "vllm" in seen.pods)
        await seen.kubectl("label", "pod", "vllm", f"{POD_LABEL}-", "app=web")
        key = f"{seen.namespace}/vllm"
        await seen.until(lambda: seen.cluster.pods[key].pod.labels == {"app": "web"})
        await seen.kubectl("delete", "pod", "vllm", "--force", "--grace-period=0")
        await seen.until(lambda: not seen.pods)


async def test_a_crd_that_was_gone_for_long_and_is_there_again_is_seen_within_seconds(
    plane: ControlPlane, tmp_path: Path
) -> None:
    async with seeing(plane, tmp_path) as seen:
        await seen.adapter("before")
        await seen.until(lambda: seen.adapters == {"before"})
        await seen.kubectl("delete", CRD, "--timeout=30s")
        await seen.until(lambda: not seen.adapters)
        await asyncio.sleep(8)  # what it took a watch to give up
        await seen.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        await asyncio.to_thread(plane.wait_established, CRD.removeprefix("crd/"))
        await seen.adapter("after")
        await seen.until(lambda: seen.adapters == {"after"}, seconds=10)


async def test_when_connections_go_silent_what_changes_is_seen_over_new_ones(
    plane: ControlPlane, tmp_path: Path, proxy: FaultProxy
) -> None:
    async with seeing(plane, tmp_path, proxy) as seen:
        await seen.adapter("goes")
        await seen.until(lambda: seen.adapters == {"goes"})
        assert proxy.silence() > 0
        await seen.kubectl("delete", "la", "goes")
        await seen.until(lambda: not seen.adapters, seconds=10)
        assert seen.following.stale() == ""


@pytest.mark.parametrize("fault", ["reset", "half_open", "truncate"])
async def test_a_connection_that_breaks_costs_no_event(
    plane: ControlPlane, tmp_path: Path, proxy: FaultProxy, fault: str
) -> None:
    async with seeing(plane, tmp_path, proxy) as seen:
        await seen.adapter("goes")
        await seen.until(lambda: seen.adapters == {"goes"})
        assert {"reset": proxy.reset, "half_open": proxy.half_open, "truncate": lambda: proxy.truncate(30)}[fault]() > 0
        await seen.adapter("comes")
        await seen.kubectl("delete", "la", "goes")
        await seen.until(lambda: seen.adapters == {"comes"}, seconds=10)


async def test_in_a_pod_all_goes_to_the_address_of_the_environment_with_the_token_of_the_file(
    plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # there is no cluster DNS here: what went to kubernetes.default.svc would not arrive
    config = yaml.safe_load(plane.kubeconfig.read_text())
    address = urllib.parse.urlsplit(config["clusters"][0]["cluster"]["server"])
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("not yet valid")
    authority.write_bytes(base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(address.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(address.port))
    made = incluster_config.InClusterConfigLoader.__init__

    def impatient(self: Any, **options: Any) -> None:
        made(self, **options)
        self._token_refresh_period = datetime.timedelta(seconds=0.1)  # and not a minute

    monkeypatch.setattr(incluster_config.InClusterConfigLoader, "__init__", impatient)
    kube, cluster = await Kube.connect(), Cluster(PodDefaults())
    following = Following(kube, cluster, (), lambda: None)
    following.start()
    try:
        await refused(following)
        token.write_text(config["users"][0]["user"]["token"])  # as the kubelet renews it, in place
        async with asyncio.timeout(30):
            await following.until_synced(asyncio.Event())
        assert following.trouble() is None
    finally:
        await following.stop()
        await kube.close()


async def refused(following: Following) -> None:
    async with asyncio.timeout(30):
        while (error := following.trouble()) is None or error.status != 401:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_while_nothing_comes_through_it_says_which_watch_is_how_old_and_is_fresh_again_afterwards(
    plane: ControlPlane, tmp_path: Path, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_operator.router.cluster_informers.STALE_SECONDS", 2.0)
    async with seeing(plane, tmp_path, proxy) as seen:
        proxy.block = True
        proxy.silence()
        async with asyncio.timeout(30):
            while not seen.following.stale():  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.05)
        assert "has not been fresh for" in seen.following.stale()
        assert (seen.following.age_seconds() or 0) > 2
        proxy.heal()
        await seen.adapter("new")
        await seen.until(lambda: seen.adapters == {"new"})
        async with asyncio.timeout(30):
            while seen.following.stale():  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_a_selector_that_no_api_server_reads_hides_nothing_from_anybody(
    plane: ControlPlane, tmp_path: Path
) -> None:
    async with seeing(plane, tmp_path) as seen:
        await seen.adapter("odd", selector={"not a key": "x"})
        await seen.adapter("sql", selector={"tier": "gold"})
        await seen.pod("selected", tier="gold")
        await seen.until(lambda: "selected" in seen.pods and "odd" in seen.adapters)
        assert [str(one.scope) for one in seen.following._all() if one.error is not None] == []
        again = Following(seen.kube, Cluster(PodDefaults()), (seen.namespace,), lambda: None)
        running = again.start()
        try:
            async with asyncio.timeout(10):
                await again.until_synced(asyncio.Event())
            assert not running.done()
        finally:
            await again.stop()
