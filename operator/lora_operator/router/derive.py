"""From one LoraAdapter and the pods to lines of the routing table. Pure.

Status is written by whoever leads: it names a pod once its engine lists the adapter, and no longer names it some time
before an unload. Pods are looked at as well, for they say first that they are about to go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lora_operator.observe.cluster import PodRecord, Resource
from lora_operator.router.about import about_of
from lora_operator.router.entries import Endpoint, Entry, Why, Withheld
from lora_operator.vllm.client import Endpoint as EngineAddress

NOT_LOADED = "NotLoaded"
CONFLICT = "Conflict"  # of those that were refused a name that another resource has
LOAD_ON_DEMAND = ("LoadOnDemand", "it is loaded when it is asked for")
LOADING = ("Loading", "it was asked for and is on its way")
PODS_NOT_READY = "PodsNotReady"


@dataclass(frozen=True, slots=True)
class PodView:
    """What routing depends on about a pod. `address` is empty before it has one."""

    address: str
    ready: bool
    terminating: bool


PodsByKey = Callable[[str], PodView | None]


def view_of(record: PodRecord) -> PodView:
    pod = record.pod
    address = str(EngineAddress(pod.ip, pod.port)) if pod.ip else ""
    return PodView(address, pod.ready, pod.terminating)


def entries_of(resource: Resource, pods: PodsByKey) -> dict[str, Entry]:
    """By public name, every adapter that the resource is known to stand for."""
    base_model = resource.spec.base_model if resource.spec is not None else ""
    on_demand = resource.spec is not None and not resource.spec.deployment_config.load_on_startup
    holders = _holders(resource, pods)
    about = about_of(resource)
    found: dict[str, Entry] = {}
    for name, (reason, message, given_up) in _names(resource, holders).items():
        endpoints, withheld = holders.get(name, ((), ()))
        if endpoints:
            reason = message = ""
            given_up = False
        elif withheld:
            reason = PODS_NOT_READY
            message = "; ".join(f"{one.pod} is {_WORDS[one.state]}" for one in withheld[:4])
        elif resource.deleted_at is not None:
            continue  # being unloaded, and nobody has it any more
        found[name] = Entry(
            resource.namespace, name, base_model, resource.name, tuple(endpoints), tuple(withheld), reason, message,
            on_demand, given_up, about(name),
        )  # fmt: skip
    return found


def pods_named(resource: Resource) -> set[str]:
    """Keys of the pods on whose state the lines of this resource depend."""
    return {f"{resource.namespace}/{item.get('pod')}" for item in _items(resource, "podAssignments")}


def merged(entries: Iterable[Entry]) -> Entry:
    """One line of what several resources say about one name: a deleted one hands over, or one was refused the name."""
    first, *others = sorted(
        entries, key=lambda one: (not one.endpoints, not one.withheld, one.reason == CONFLICT, one.resource)
    )
    endpoints = {one.pod: one for one in first.endpoints}
    for other in others:
        if other.base_model == first.base_model:
            endpoints = {one.pod: one for one in other.endpoints} | endpoints
    return replace(first, endpoints=tuple(endpoints[pod] for pod in sorted(endpoints))) if others else first


_WORDS = {Why.NOT_READY: "not ready", Why.TERMINATING: "about to go"}


def _holders(resource: Resource, pods: PodsByKey) -> dict[str, tuple[list[Endpoint], list[Withheld]]]:
    found: dict[str, tuple[list[Endpoint], list[Withheld]]] = {}
    for item in _items(resource, "podAssignments"):
        name, address = str(item.get("pod")), str(item.get("address") or "")
        pod = pods(f"{resource.namespace}/{name}")
        if pod is None or not address or pod.address != address:
            continue  # gone, or another pod has its name by now
        engine_names = {pair.get("name"): pair.get("engineName") for pair in item.get("engineNames") or ()}
        why = Why.TERMINATING if pod.terminating else None if pod.ready else Why.NOT_READY
        for adapter in item.get("adapters") or ():
            endpoints, withheld = found.setdefault(str(adapter), ([], []))
            if why is None:
                endpoints.append(Endpoint(name, address, str(engine_names.get(adapter) or adapter)))
            else:
                withheld.append(Withheld(name, why))
    return found


def _names(resource: Resource, holders: Iterable[str]) -> dict[str, tuple[str, str, bool]]:
    """Name -> why it is not loaded, if it is not, and whether it was given up."""
    ready = _condition(resource, "Ready")
    plain = (
        str(ready.get("reason") or NOT_LOADED) if ready.get("status") != "True" else NOT_LOADED,
        str(ready.get("message") or "no pod has it loaded"),
        False,
    )
    names = dict.fromkeys(holders, plain)
    spec = resource.spec
    on_demand = spec is not None and not spec.deployment_config.load_on_startup
    if spec is not None:
        # what the source cannot show is not loaded by asking for it
        lost = on_demand and _condition(resource, "SourceReady").get("status") == "False"
        names |= dict.fromkeys(spec.adapter_source.adapters, (*plain[:2], lost))
    failed = {
        str(item["name"]): (
            str(item.get("code") or item.get("reason") or "Failed"),
            str(item.get("message") or item.get("reason") or ""),
            True,
        )
        for item in _items(resource, "failedAdapters")
        if item.get("name")
    }
    of_another = any(plain[0] == code for code, _, _ in failed.values())
    for item in _items(resource, "adapters"):
        if not item.get("name"):
            continue
        said = plain
        if on_demand and not item.get("replicas"):
            said = (*LOAD_ON_DEMAND, False)
        elif on_demand and (of_another or ready.get("status") == "True"):
            said = (*LOADING, False)
        names[str(item["name"])] = said
    return names | failed


def _condition(resource: Resource, kind: str) -> Mapping[str, Any]:
    return next((one for one in _items(resource, "conditions") if one.get("type") == kind), {})


def _items(resource: Resource, field: str) -> Iterable[Mapping[str, Any]]:
    return resource.status.get(field) or ()
