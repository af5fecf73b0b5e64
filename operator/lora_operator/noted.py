"""What status says that pods hold. Pure.

An operator that has just started knows no more than that: until an engine has answered it, or has missed as many probes
as it may, its pod keeps what status names. Nothing is done on the strength of it; it only keeps things as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from lora_operator.observe.cluster import Json, PodRecord, Resource
from lora_operator.vllm.answers import EngineModel


def noted(resources: Iterable[Resource], pods: Callable[[str], PodRecord | None]) -> dict[str, tuple[EngineModel, ...]]:
    """By pod, the adapters that status names in its present container, as its engine would list them."""
    found: dict[str, dict[str, EngineModel]] = {}
    for resource in resources:
        versions = {str(item.get("name")): str(item.get("fingerprint")) for item in _items(resource.status, "adapters")}
        for item in _items(resource.status, "podAssignments"):
            record = pods(f"{resource.namespace}/{item.get('pod')}")
            if record is None or (item.get("container") or "") != record.pod.container_mark:
                continue
            engine_names = {pair.get("name"): pair.get("engineName") for pair in _items(item, "engineNames")}
            base = next(iter(record.pod.base_models), "")
            root = record.pod.adapter_root.rstrip("/")
            adapters = item.get("adapters")
            for name in map(str, adapters if isinstance(adapters, list) else ()):
                engine_name = str(engine_names.get(name) or name)
                path = f"{root}/{name}/{versions.get(name, '')}"
                found.setdefault(record.key, {})[engine_name] = EngineModel(engine_name, path, base)
    return {key: tuple(models.values()) for key, models in found.items()}


def _items(holder: Json, field: str) -> list[Json]:
    """The objects of a list in a status, which anybody may have written."""
    items = holder.get(field)
    return [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []
