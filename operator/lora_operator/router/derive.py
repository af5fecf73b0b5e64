"""From one LoraAdapter and the pods to lines of the routing table. Pure.

Status is written by whoever leads: it names a pod once its engine lists the adapter, and no longer names it some time
before an unload. Pods are looked at as well, for they say first that they are about to go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from lora_operator.observe.cluster import PodRecord, Resource
from lora_operator.router.about import about_of
from lora_operator.router.absence import ANSWERS, CONFLICT, Absence, absences, is_on_demand, items_of
from lora_operator.router.entries import Endpoint, Entry, Why, Withheld
from lora_operator.vllm.client import Endpoint as EngineAddress

PODS_NOT_READY = "PodsNotReady"


@dataclass(frozen=True, slots=True)
class PodView:
    """What routing depends on about a pod. `address` is empty before it has one, as is `container`."""

    address: str
    ready: bool
    terminating: bool
    container: str = ""


PodsByKey = Callable[[str], PodView | None]


def view_of(record: PodRecord) -> PodView:
    pod = record.pod
    address = str(EngineAddress(pod.ip, pod.port)) if pod.ip else ""
    return PodView(address, pod.ready, pod.terminating, pod.container_mark)


def entries_of(resource: Resource, pods: PodsByKey) -> dict[str, Entry]:
    """By public name, every adapter that the resource is known to stand for."""
    base_model = resource.spec.base_model if resource.spec is not None else ""
    on_demand = is_on_demand(resource)
    holders = _holders(resource, pods)
    about = about_of(resource)
    found: dict[str, Entry] = {}
    for name, why in absences(resource, holders).items():
        endpoints, withheld = holders.get(name, ((), ()))
        if endpoints:
            why = ANSWERS
        elif withheld:
            why = Absence(PODS_NOT_READY, "; ".join(f"{one.pod} is {_WORDS[one.state]}" for one in withheld[:4]))
        elif resource.deleted_at is not None:
            continue  # being unloaded, and nobody has it any more
        found[name] = Entry(
            resource.namespace, name, base_model, resource.name, tuple(endpoints), tuple(withheld),
            why.reason, why.message, on_demand, why.given_up, about(name),
        )  # fmt: skip
    return found


def pods_named(resource: Resource) -> set[str]:
    """Keys of the pods on whose state the lines of this resource depend."""
    return {f"{resource.namespace}/{item.get('pod')}" for item in items_of(resource, "podAssignments")}


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


_WORDS = {Why.NOT_READY: "not ready", Why.TERMINATING: "about to go", Why.RESTARTED: "restarted and empty"}


def _why_not(pod: PodView, container: str) -> Why | None:
    """`container`: the one that status speaks of; empty in a status of an older operator."""
    if pod.terminating:
        return Why.TERMINATING
    if not pod.ready:
        return Why.NOT_READY
    # where nobody leads just now, nobody takes back what was said of the engine before
    return Why.RESTARTED if container and pod.container and container != pod.container else None


def _holders(resource: Resource, pods: PodsByKey) -> dict[str, tuple[list[Endpoint], list[Withheld]]]:
    found: dict[str, tuple[list[Endpoint], list[Withheld]]] = {}
    for item in items_of(resource, "podAssignments"):
        name, address = str(item.get("pod")), str(item.get("address") or "")
        pod = pods(f"{resource.namespace}/{name}")
        if pod is None or not address or pod.address != address:
            continue  # gone, or another pod has its name by now
        engine_names = {pair.get("name"): pair.get("engineName") for pair in item.get("engineNames") or ()}
        why = _why_not(pod, str(item.get("container") or ""))
        for adapter in item.get("adapters") or ():
            endpoints, withheld = found.setdefault(str(adapter), ([], []))
            if why is None:
                endpoints.append(Endpoint(name, address, str(engine_names.get(adapter) or adapter)))
            else:
                withheld.append(Withheld(name, why))
    return found
