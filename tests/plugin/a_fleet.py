"""A small fleet as the API server would show it: the one of the examples in docs/cli.md."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.core.api_server import ApiServer

GROUP = "production-stack.vllm-project"
NAMESPACE = "team-a"
ADAPTERS = f"/apis/{GROUP}/v1alpha1/namespaces/{NAMESPACE}/loraadapters"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
MEBIBYTE = 1 << 20

Json = dict[str, Any]


def an_adapter(
    name: str,
    adapters: dict[str, list[str]] | None = None,
    *,
    wanted: int = 1,
    mebibytes: int = 80,
    rank: int = 16,
    failed: list[Json] | None = None,
    spec: Json | None = None,
    ready: tuple[str, str, str] = ("True", "Ready", "1 adapter answers"),
    **metadata: Any,
) -> Json:
    """A LoraAdapter whose status says which pods hold each of its `adapters`."""
    held = {name: ["vllm-0"]} if adapters is None else adapters
    pods = sorted({pod for places in held.values() for pod in places})
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "LoraAdapter",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": f"uid-{name}", "resourceVersion": "1",
                     "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z", **metadata},
        "spec": {"baseModel": "llama", "adapterSource": {"type": "s3", "repository": f"adapters/{name}"},
                 "deploymentConfig": {"replicas": wanted}} | (spec or {}),
        "status": {
            "observedGeneration": 1,
            "conditions": [{"type": "Ready", "status": ready[0], "reason": ready[1], "message": ready[2]}],
            "loadedAdapters": [n for n, places in held.items() if wanted and len(places) >= wanted],
            "failedAdapters": failed or [],
            "podAssignments": [
                {"pod": pod, "address": f"10.0.0.{pod[-1]}:8000", "adapters": [n for n in held if pod in held[n]]}
                for pod in pods
            ],
            "adapters": [
                {"name": n, "fingerprint": f"{abs(sum(map(ord, n))):016x}"[::-1], "bytes": mebibytes * MEBIBYTE,
                 "rank": rank, "replicas": wanted, "loaded": len(places)}
                for n, places in held.items()
            ],
        },
    }  # fmt: skip


def a_pod(
    name: str, *, slots: int = 4, memory: str = "512Mi", rank: int = 16, agent: bool = True, up: bool = True
) -> Json:
    containers: list[Json] = [
        {"name": "vllm", "image": "vllm/vllm-openai:v0.32.0",
         "args": ["--model", "llama", "--enable-lora", "--max-loras", "2", "--max-cpu-loras", str(slots),
                  "--max-lora-rank", str(rank)]}
    ]  # fmt: skip
    if agent:
        containers.append({"name": "agent", "ports": [{"name": "lora-agent", "containerPort": 8090}]})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": f"uid-{name}", "resourceVersion": "1",
                     "labels": {f"{GROUP}/lora": "enabled"}, "annotations": {f"{GROUP}/lora-memory": memory}},
        "spec": {"nodeName": f"node-{name[-1]}", "containers": containers},
        "status": {
            "phase": "Running", "podIP": "127.0.0.1",
            "conditions": [{"type": kind, "status": str(up)} for kind in ("Ready", "ContainersReady")],
            "containerStatuses": [{"name": "vllm", "containerID": "c://1", "state": {"running": {}}}],
        },
    }  # fmt: skip


def refused(name: str, reason: str, message: str, pods: tuple[str, ...] = ("vllm-0", "vllm-1")) -> Json:
    """An entry of failedAdapters."""
    return {
        "name": name,
        "reason": reason,
        "code": reason,
        "message": f"{message} on {len(pods)} of {len(pods)} pods",
        "pods": [{"pod": pod, "reason": reason, "message": message} for pod in pods],
    }


def fill(api: ApiServer) -> None:
    """Have `api` show the fleet: two pods; an adapter on both, one on one, one on demand, one too large."""
    both = ["vllm-0", "vllm-1"]
    show(
        api,
        [
            an_adapter("assistants", {"chat": ["vllm-1"], "poet": ["vllm-0"]}, mebibytes=40, rank=8),
            an_adapter("on-demand", {"rare": []}, wanted=0, spec={"deploymentConfig": {"loadOnStartup": False}},
                       ready=("False", "LoadOnDemand", "loadOnStartup is false: nothing is loaded yet")),
            an_adapter("sql", {"sql": both}, wanted=2),
            an_adapter("wide", {"wide": []}, rank=64, mebibytes=320,
                       failed=[refused("wide", "RankTooHigh", "rank 64 exceeds max_lora_rank 16")],
                       ready=("False", "RankTooHigh", "0 of 1 adapters ready")),
        ],
        [a_pod("vllm-0"), a_pod("vllm-1")],
    )  # fmt: skip
    for pod, running, adapter in (("vllm-0", 3, "sql,poet"), ("vllm-1", 1, "sql")):
        api.raw[f"{PODS}/{pod}:8000/proxy/metrics"] = _metrics(running, adapter).encode()
    api.raw[f"{PODS}/vllm-0:8090/proxy/v1/adapters"] = json.dumps(_disk("sql", "poet", "old")).encode()
    api.raw[f"{PODS}/vllm-1:8090/proxy/v1/adapters"] = json.dumps(_disk("sql", "chat")).encode()
    api.objects[f"/api/v1/namespaces/{NAMESPACE}/secrets/lora-agent-token"] = {
        "metadata": {"name": "lora-agent-token", "uid": "s"}, "data": {"token": "dDBrZW4tb2YtYWdlbnRz"}
    }  # fmt: skip


def show(api: ApiServer, adapters: list[Json], pods: list[Json]) -> None:
    """Have `api` list these."""
    api.lists[ADAPTERS] = [{"metadata": {"resourceVersion": "1"}, "items": adapters}]
    api.lists[PODS] = [{"metadata": {"resourceVersion": "1"}, "items": pods}]
    for body in adapters:
        api.objects[f"{ADAPTERS}/{body['metadata']['name']}"] = body
    labels = {"topology.kubernetes.io/zone": "a"}
    nodes = [{"metadata": {"name": body["spec"]["nodeName"], "labels": labels}} for body in pods]
    api.lists["/api/v1/nodes"] = [{"metadata": {}, "items": nodes}]


def _metrics(running: int, adapters: str) -> str:
    info = f'max_lora="2",running_lora_adapters="{adapters}",waiting_lora_adapters=""'
    return (
        f'vllm:num_requests_running{{model_name="llama"}} {running}\n'
        'vllm:num_requests_waiting{model_name="llama"} 0\n'
        'vllm:kv_cache_usage_perc{model_name="llama"} 0.31\n'
        f"vllm:lora_requests_info{{{info}}} 1.7e9\n"
    )


def _disk(*names: str) -> Json:
    entries = [
        {"name": name, "fingerprint": f"{sum(map(ord, name)):016x}"[::-1], "state": "Present",
         "sizeBytes": 80 * MEBIBYTE, "doneBytes": 80 * MEBIBYTE, "pinned": name == "chat", "loaded": name != "old",
         "prefetched": False, "lastUsed": time.time() - 185}
        for name in names
    ]  # fmt: skip
    used = sum(entry["sizeBytes"] for entry in entries)
    return {"entries": entries, "usedBytes": used, "budgetBytes": 1024 * MEBIBYTE}
