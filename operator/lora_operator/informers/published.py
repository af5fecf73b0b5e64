"""What was published about what pods hold. Pure.

An operator that has just started knows no more than that: until an engine has answered it, or has missed as many probes
as it may, its pod keeps what is said of it. Nothing is done on the strength of it; it only keeps things as they are.
"""

from __future__ import annotations

from collections.abc import Callable

from lora_operator.informers.holdings import Holdings
from lora_operator.informers.records import PodRecord, Resource
from lora_operator.vllm.answers import EngineModel


def published(
    holdings: Holdings, pods: Callable[[str], PodRecord | None], resources: Callable[[str], Resource | None]
) -> dict[str, tuple[EngineModel, ...]]:
    """By pod, the adapters that are said to be in its present container, as its engine would list them."""
    found: dict[str, tuple[EngineModel, ...]] = {}
    for key in holdings.pods():
        record = pods(key)
        if record is None:
            continue
        base = next(iter(record.pod.base_models), "")
        root = record.pod.adapter_root.rstrip("/")
        models: dict[str, EngineModel] = {}
        for owner, name in holdings.on(key):
            place = holdings.place(owner, key, name)
            if place is None or place.container != record.pod.container_mark:
                continue
            version = place.version or _version_in_status(resources(owner), name)
            models[place.engine_name] = EngineModel(place.engine_name, f"{root}/{name}/{version}", base)
        if models:
            found[key] = tuple(models.values())
    return found


def _version_in_status(resource: Resource | None, name: str) -> str:
    items = resource.published.adapters if resource is not None else ()
    return next((item.fingerprint for item in items if item.name == name), "")
