"""With --adapter-services each adapter has a Service, whose EndpointSlices lead to the pods that have it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.behaviours.client import PROMPT, Client, Request
from e2e.behaviours.worlds import Worlds
from e2e.controlplane.helm import run_helm
from e2e.world import EngineProbe, World
from e2e.world.world import ROOT, SERVICE_ACCOUNT, SYSTEM_NAMESPACE, eventually

SUBNET = "198.18.0.0/16"  # loopback addresses are refused in EndpointSlices
WITHDRAW_SECONDS = 0.2  # as World.start_operator gives it
KINDS = "services,endpointslices,configmaps"
OURS = ("-l", "production-stack.vllm-project/export")
Json = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def _addresses_that_may_be_in_slices() -> Iterator[None]:
    route = ["ip", "route", "add", "local", SUBNET, "dev", "lo"]
    if os.geteuid() or subprocess.run(route, capture_output=True, check=False).returncode:
        pytest.skip(f"pods need addresses in {SUBNET}, which takes root: {' '.join(route)}")
    yield
    subprocess.run(["ip", "route", "del", "local", SUBNET, "dev", "lo"], check=True)


class SliceClient(Client):
    """Asks whatever the EndpointSlices of the adapter's Service name, as a client of that Service is led to."""

    def _ask_all(self) -> None:
        read_at = time.monotonic()
        held = addresses(self._world, f"lora-{self._adapter}", self._rest)
        self.gaps += not held
        for address in held:
            answer = EngineProbe(address).complete(self._adapter, PROMPT)
            self.requests.append(Request(address, self._adapter, read_at, time.monotonic() - read_at, answer))


def addresses(world: World, service: str, rest: Any = None) -> list[str]:
    """Where the EndpointSlices of a Service lead to, as ip:port."""
    path = f"/apis/discovery.k8s.io/v1/namespaces/{world.namespace}/endpointslices"
    found = (rest or world.rest).get(path, labelSelector=f"kubernetes.io/service-name={service}")["items"]
    return sorted(
        f"{address}:{body['ports'][0]['port']}"
        for body in found
        for end in body["endpoints"] or ()
        for address in end["addresses"]
    )


def service(world: World, name: str) -> Json:
    return world.rest.get(f"/api/v1/namespaces/{world.namespace}/services/{name}")


def exported(world: World) -> list[str]:
    return sorted(world.kubectl("get", KINDS, *OURS, "-o", "name").split())


def allow(world: World) -> None:
    """The rights that the chart gives with its values for these."""
    values = f"image.repository=x,watchNamespaces={{{world.namespace}}},adapterServices=ClusterIP,baseModelMaps=keep"
    rights = run_helm(
        "template", SERVICE_ACCOUNT, str(ROOT / "helm/lora-operator"), "--namespace", SYSTEM_NAMESPACE,
        "--show-only", "templates/rbac.yaml", "--set", values,
    )  # fmt: skip
    world.plane.kubectl("apply", "-f", "-", input=rights)


def test_an_adapters_service_leads_to_the_pods_that_have_it_and_to_no_other(worlds: Worlds) -> None:
    world = worlds(3, operator=None, pod_options={"subnet": SUBNET})
    allow(world)
    theirs = {"spec": {"ports": [{"port": 1}], "selector": {"app": "theirs"}}, "metadata": {"name": "lora-chat"}}
    world.kubectl("create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "Service", **theirs}))
    world.start_operator("--adapter-services", "ClusterIP", "--base-model-maps", "keep", "--mark-pods")
    for seed, name in enumerate(("sql", "chat")):
        world.adapter(name, seed=seed)
        world.apply(name, name, deployment={"replicas": 2})
        world.wait_ready(name)
    eventually(lambda: len(addresses(world, "lora-sql")) == 2)
    for address in addresses(world, "lora-sql"):
        assert EngineProbe(address).complete("sql").adapter == "sql"
    made = service(world, "lora-sql")
    assert made["metadata"]["ownerReferences"][0]["uid"] == world.get("sql")["metadata"]["uid"]
    assert made["metadata"]["annotations"]["production-stack.vllm-project/model"] == "sql"

    # a Service of somebody else is left alone, said, and led nowhere
    eventually(lambda: any(one["reason"] == "ServiceNameTaken" for one in world.events("chat")))
    assert service(world, "lora-chat")["spec"]["selector"] == {"app": "theirs"}
    assert "labels" not in service(world, "lora-chat")["metadata"] and not addresses(world, "lora-chat")

    # what somebody breaks is put right
    world.kubectl("delete", "service", "lora-sql", "lora-chat")
    # what was refused is tried again at the latest after 72 s
    eventually(lambda: len(addresses(world, "lora-sql")) == len(addresses(world, "lora-chat")) == 2, timeout=150)

    # a pod leaves the slices before it unloads: who goes by them is never answered with 404
    with SliceClient(world, "sql", "sql") as client:
        world.apply("sql", "sql", deployment={"replicas": 1})
        eventually(lambda: len(addresses(world, "lora-sql")) == 1)
        world.apply("sql", "sql", deployment={"replicas": 3})
        eventually(lambda: len(addresses(world, "lora-sql")) == 3)
        world.apply("sql", "sql", deployment={"replicas": 1})
        eventually(lambda: [pod for pod, engine in world.engines().items() if "sql" in engine.models()] != [])
        eventually(lambda: len(addresses(world, "lora-sql")) == 1)
        eventually(lambda: sum("sql" in engine.models() for engine in world.engines().values()) == 1)
    fresh = [request for request in client.requests if request.view_age_seconds < WITHDRAW_SECONDS]
    assert client.requests and client.gaps == 0
    assert {request.answer.status for request in fresh} <= {200}

    # of which base model adapters are, in the form of llm-d's payload processor
    told = world.rest.get(f"/api/v1/namespaces/{world.namespace}/configmaps/lora-sql")
    assert told["data"] == {"baseModel": "tiny", "adapters": '- "sql"\n'}

    # pods are marked by what their engines list, which wakes production-stack's router
    pods = world.rest.get(f"/api/v1/namespaces/{world.namespace}/pods")["items"]
    marks = {(p["metadata"].get("annotations") or {}).get("production-stack.vllm-project/models") for p in pods}
    assert len(marks - {None, ""}) >= 2

    # they go with their LoraAdapter, become others by choice, and are removed by choice
    world.rest.delete(f"{world.collection}/chat")
    world.wait_gone("chat")
    eventually(lambda: service(world, "lora-chat") == {} and not addresses(world, "lora-chat"))
    world.stop_operator()
    world.start_operator("--adapter-services", "Headless", "--base-model-maps", "keep")
    eventually(lambda: service(world, "lora-sql").get("spec", {}).get("clusterIP") == "None")
    eventually(lambda: len(addresses(world, "lora-sql")) == 1)
    world.stop_operator()
    world.start_operator("--adapter-services", "ClusterIP", "--base-model-maps", "keep")
    eventually(lambda: service(world, "lora-sql").get("spec", {}).get("clusterIP", "None") != "None")
    world.stop_operator()
    world.start_operator("--adapter-services", "remove", "--base-model-maps", "remove")
    eventually(lambda: exported(world) == [])
