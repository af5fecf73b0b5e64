"""What LoraAdapters say about single adapters: one line for each, from spec and status alone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lora_operator.api.well_known import PIN_ANNOTATION
from lora_operator.desired.pinning import ALL, pinned_names
from lora_operator.plugin.problems import PluginError, unknown
from lora_operator.status.aggregate import DELETING

Json = Mapping[str, Any]

READY, LOADING, PENDING, PARTIAL, FAILED = "Ready", "Loading", "Pending", "Partial", "Failed"
ON_DEMAND, OFF, UNKNOWN = "OnDemand", "ScaledToZero", "Unknown"
# what an adapter of which no replica is wanted says, whatever its LoraAdapter says of others
_ASLEEP = {
    ON_DEMAND: ("LoadOnDemand", "loadOnStartup is false: it is loaded when somebody asks for it"),
    OFF: ("ScaledToZero", "replicas is 0"),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One adapter of one LoraAdapter. `adapter` is empty where the resource has none (yet)."""

    namespace: str
    resource: str
    adapter: str
    base_model: str
    state: str
    loaded: int
    wanted: int
    pods: tuple[str, ...]
    bytes: int | None
    rank: int | None
    fingerprint: str
    reason: str
    message: str
    refusals: tuple[tuple[str, str, str], ...]  # (pod, reason, message)
    pinned: bool

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "namespace": self.namespace,
            "resource": self.resource,
            "adapter": self.adapter or None,
            "baseModel": self.base_model,
            "state": self.state,
            "loaded": self.loaded,
            "wanted": self.wanted,
            "pods": list(self.pods),
            "bytes": self.bytes,
            "rank": self.rank,
            "fingerprint": self.fingerprint or None,
            "reason": self.reason,
            "message": self.message,
            "pinned": self.pinned,
            "refusals": [{"pod": pod, "reason": why, "message": text} for pod, why, text in self.refusals],
        }


def lines(bodies: Iterable[Json]) -> list[Line]:
    """All adapters, by namespace, resource and name."""
    return [line for body in bodies for line in _of(body)]


def _of(body: Json) -> list[Line]:
    status = body.get("status") or {}
    known = {item["name"]: item for item in status.get("adapters") or ()}
    failed = {item["name"]: item for item in status.get("failedAdapters") or ()}
    names = sorted({*known, *failed}) or [""]
    return [_line(body, name, known.get(name, {}), failed.get(name)) for name in names]


def _line(body: Json, name: str, item: Json, failed: Json | None) -> Line:
    spec, status = body.get("spec") or {}, body.get("status") or {}
    pins = pinned_names((body["metadata"].get("annotations") or {}).get(PIN_ANNOTATION, ""))
    loaded, wanted = int(item.get("loaded") or 0), int(item.get("replicas") or 0)
    complete = wanted > 0 and name in (status.get("loadedAdapters") or ())
    said = next((c for kind in ("Loaded", "Ready") if (c := condition(body, kind)).get("status", "True") != "True"), {})
    if name and status.get("failedAdapters"):
        said = {}  # the conditions speak of those that failed
    reason, message = said.get("reason", ""), said.get("message", "")
    state = _state(spec, said, loaded, wanted, complete, failed is not None, bool(name))
    if failed is not None:
        reason, message = failed.get("code") or failed.get("reason", ""), failed.get("message") or ""
    elif complete:
        reason = message = ""
    elif reason != DELETING:
        reason, message = _ASLEEP.get(state, (reason, message))
    return Line(
        namespace=body["metadata"]["namespace"],
        resource=body["metadata"]["name"],
        adapter=name,
        base_model=str(spec.get("baseModel") or ""),
        state=state,
        loaded=loaded,
        wanted=wanted,
        pods=tuple(
            sorted(
                a["pod"] for a in status.get("podAssignments") or () if name and name in (a.get("adapters") or ())
            )
        ),
        bytes=item.get("bytes"),
        rank=item.get("rank"),
        fingerprint=str(item.get("fingerprint") or ""),
        reason=reason,
        message=message,
        refusals=tuple(
            (p["pod"], p["reason"], p.get("message", "")) for p in (failed or {}).get("pods") or ()
        ),
        pinned=bool(name) and (ALL in pins or name in pins),
    )  # fmt: skip


def _state(spec: Json, said: Json, loaded: int, wanted: int, complete: bool, failed: bool, named: bool) -> str:
    if failed or (not named and said.get("status") == "False"):
        return FAILED
    if not named:
        return UNKNOWN
    if complete:
        return READY
    if wanted == 0:
        on_demand = (spec.get("deploymentConfig") or {}).get("loadOnStartup") is False
        return ON_DEMAND if on_demand else OFF
    if said.get("reason", LOADING) == LOADING:
        return LOADING
    return PARTIAL if loaded else PENDING


def condition(body: Json, kind: str) -> Json:
    """One condition of the status, empty if it is not there."""
    conditions = (body.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c.get("type") == kind), {})


def chosen(bodies: Iterable[Json], name: str, where: str) -> list[Line]:
    """The adapters of that name, else those of the LoraAdapter of that name. Raises PluginError if there are none."""
    every = lines(bodies)
    found = [line for line in every if line.adapter == name] or [line for line in every if line.resource == name]
    if not found:
        raise unknown("adapter", name, where, (n for line in every for n in (line.adapter, line.resource) if n))
    return found


def one_adapter(bodies: Iterable[Json], name: str, where: str) -> Line:
    """The adapter of that name, or of a LoraAdapter of that name with one adapter. Raises PluginError.

    Where several LoraAdapters of a namespace claim the name, it is the one that has it.
    """
    found = chosen(bodies, name, where)
    holders = [line for line in found if line.reason != "Conflict"] or found
    if len(holders) == 1:
        return holders[0]
    places = sorted({line.namespace for line in holders})
    if len(places) > 1:
        raise PluginError(f"several namespaces have {name}: {', '.join(places)}; say which is meant with -n")
    names = ", ".join(sorted({line.adapter for line in holders}))
    raise PluginError(f"LoraAdapter {name} stands for several adapters: {names}; say which is meant")
