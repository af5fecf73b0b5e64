"""What is there at one moment, as anybody can see it: pods, what their engines list, and the status of LoraAdapters."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from e2e.world.engines import EngineProbe
from e2e.world.rest import GROUP, Json, Rest


@dataclass(frozen=True, slots=True)
class Pod:
    """`loaded`: adapter -> version, read from the engine itself; None while it does not answer."""

    name: str
    uid: str
    address: str
    state: str
    slots: int
    budget_bytes: int
    loaded: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class Resource:
    """A LoraAdapter. `ready` is its Ready condition, `named` what status names: pod -> adapter -> engine name."""

    name: str
    current: bool
    ready: bool
    message: str
    phase: str
    named: Mapping[str, Mapping[str, str]]
    addresses: Mapping[str, str]
    versions: Mapping[str, str]
    sizes_bytes: Mapping[str, int]
    failed: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Fleet:
    """Pods in order of their names, and LoraAdapters by name."""

    pods: tuple[Pod, ...] = ()
    resources: Mapping[str, Resource] | None = None

    def resource(self, name: str) -> Resource | None:
        return (self.resources or {}).get(name)

    def ready(self, *names: str) -> bool:
        """All of these are Ready, for the spec that they have now."""
        found = [self.resource(name) for name in names]
        return all(one is not None and one.current and one.ready for one in found)

    def pod(self, name: str) -> Pod | None:
        return next((pod for pod in self.pods if pod.name == name), None)

    def holds(self, pod: str, *adapters: str) -> bool:
        """The engine of this pod lists all of them."""
        found = self.pod(pod)
        return found is not None and set(adapters) <= (found.loaded or {}).keys()

    def settled(self, pod: str) -> bool:
        """Status names this pod for all that its engine lists, and it lists all that status names it for."""
        found = self.pod(pod)
        named = {name for one in (self.resources or {}).values() for name in one.named.get(pod, ())}
        return found is not None and named == set(found.loaded or {})


def read_fleet(rest: Rest, namespace: str, app: str) -> Fleet:
    """Ask the API server for pods and LoraAdapters, and every engine for what it has loaded."""
    pods = rest.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"app={app}").get("items", [])
    resources = [_resource(item) for item in rest.get(f"{GROUP}/namespaces/{namespace}/loraadapters").get("items", [])]
    return Fleet(
        pods=tuple(sorted((_pod(item) for item in pods), key=lambda pod: pod.name)),
        resources={one.name: one for one in resources},
    )


def _pod(item: Json) -> Pod:
    metadata, status, container = item["metadata"], item.get("status") or {}, item["spec"]["containers"][0]
    arguments, annotations = container.get("args") or [], metadata.get("annotations") or {}
    ip = status.get("podIP")
    address = f"{ip}:{container['ports'][0]['containerPort']}" if ip else ""
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        address=address,
        state=_state(item),
        slots=int(arguments[arguments.index("--max-cpu-loras") + 1]),
        budget_bytes=_bytes(annotations.get("production-stack.vllm-project/lora-memory", "0")),
        loaded=_loaded(address) if address else None,
    )


def _state(item: Json) -> str:
    status = item.get("status") or {}
    if item["metadata"].get("deletionTimestamp"):
        return "ending"
    if any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ()):
        return "ready"
    restarted = any(c.get("restartCount") for c in status.get("containerStatuses") or ())
    down = any("terminated" in (c.get("state") or {}) for c in status.get("containerStatuses") or ())
    return "down" if down else "restarting" if restarted else "starting"


def _bytes(quantity: str) -> int:
    for unit, factor in (("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30)):
        if quantity.endswith(unit):
            return int(quantity.removesuffix(unit)) * factor
    return int(quantity)


def _loaded(address: str) -> dict[str, str] | None:
    try:
        models = EngineProbe(address, timeout=2.0).models()
    except (OSError, http.client.HTTPException, KeyError):
        return None
    return dict(_name_and_version(name, root) for name, root in models.items())


def _name_and_version(name: str, root: str) -> tuple[str, str]:
    """Ours are loaded from VOLUME/NAME/FINGERPRINT, and some releases know them by a versioned name."""
    path = PurePosixPath(root)
    return (path.parent.name, path.name) if name.startswith(path.parent.name) else (name, "by hand")


def _resource(item: Json) -> Resource:
    status = item.get("status") or {}
    ready: Json = next((c for c in status.get("conditions") or () if c["type"] == "Ready"), {})
    named: dict[str, dict[str, str]] = {}
    for one in status.get("podAssignments") or ():
        engine_names = {entry["name"]: entry["engineName"] for entry in one.get("engineNames") or ()}
        named[one["pod"]] = {adapter: engine_names.get(adapter, adapter) for adapter in one.get("adapters") or ()}
    adapters = status.get("adapters") or ()
    return Resource(
        name=item["metadata"]["name"],
        current=status.get("observedGeneration") == item["metadata"]["generation"],
        ready=ready.get("status") == "True",
        message=ready.get("message", ""),
        phase=status.get("phase", ""),
        named=named,
        addresses={one["pod"]: one.get("address", "") for one in status.get("podAssignments") or ()},
        versions={one["name"]: one.get("fingerprint", "") for one in adapters},
        sizes_bytes={one["name"]: one.get("bytes", 0) for one in adapters},
        failed={one["name"]: one.get("code", "") for one in status.get("failedAdapters") or ()},
    )
