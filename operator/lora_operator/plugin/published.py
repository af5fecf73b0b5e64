"""Completes statuses that were cut, from what each pod's LoraEndpoint says. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lora_operator.informers.endpoints import Shared
from lora_operator.informers.holdings import Holdings
from lora_operator.informers.records import read_endpoint, read_resource

Json = dict[str, Any]


def is_cut(body: Mapping[str, Any]) -> bool:
    """Whether the status of this LoraAdapter does not say it all."""
    return bool((body.get("status") or {}).get("truncated"))


def completed(bodies: Iterable[Json], endpoints: Iterable[Json]) -> list[Json]:
    """The same LoraAdapters; those that were cut have all pods in `podAssignments`, and in `adapters` all names that
    are loaded somewhere (of how many replicas are wanted of those, nothing is known but that they are there)."""
    bodies = list(bodies)
    holdings, shared = Holdings(), Shared()
    for endpoint in endpoints:
        found = read_endpoint(endpoint, shared)
        holdings.set_endpoint(found.key, found.said)
    for body in bodies:
        resource = read_resource(body)
        holdings.set_status(resource.key, resource.published)
    return [_completed(body, holdings) if is_cut(body) else body for body in bodies]


def _completed(body: Json, holdings: Holdings) -> Json:
    status = body["status"]
    key = f"{body['metadata']['namespace']}/{body['metadata']['name']}"
    held = holdings.of(key)
    pods: dict[str, Json] = {}
    for name in sorted(held):
        for pod in sorted(held[name]):
            place = holdings.place(key, pod, name)
            if place is None:
                continue
            item = pods.setdefault(
                pod, {"pod": pod.partition("/")[2], "address": place.address, "adapters": [], "engineNames": []}
            )
            item["adapters"].append(name)
            if place.engine_name != name:
                item["engineNames"].append({"name": name, "engineName": place.engine_name})
    noted = list(status.get("adapters") or ())
    missing = sorted(held.keys() - {item.get("name") for item in noted})
    noted += [
        {"name": name, "fingerprint": holdings.version(key, name), "replicas": len(held[name]),
         "loaded": len(held[name])}
        for name in missing
    ]  # fmt: skip
    loaded = sorted({*(status.get("loadedAdapters") or ()), *missing})
    more = {"podAssignments": [pods[pod] for pod in sorted(pods)], "adapters": noted, "loadedAdapters": loaded}
    return {**body, "status": {**status, **more}}
