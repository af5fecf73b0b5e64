"""From one LoraAdapter and the pods that hold its adapters to lines of the routing table. Pure.

LoraEndpoints are written by whoever leads: one names an adapter once the pod's engine lists it, and no longer names it
some time before an unload. Pods are looked at as well, for they say first that they are about to go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from lora_operator.api.spec import Fallback
from lora_operator.informers.endpoints import Contents
from lora_operator.informers.holdings import Place
from lora_operator.informers.records import PodRecord, Resource
from lora_operator.router.absence import ANSWERS, CONFLICT, Absence, absences, is_on_demand
from lora_operator.router.entries import About, Endpoint, Entry, Why, Withheld
from lora_operator.router.selection_texts import about_of
from lora_operator.vllm.client import Endpoint as EngineAddress

PODS_NOT_READY = "PodsNotReady"


@dataclass(frozen=True, slots=True)
class PodView:
    """What routing depends on about a pod. `address` is empty before it has one, as is `container`."""

    address: str
    ready: bool
    terminating: bool
    container: str = ""
    uid: str = ""


def view_of(record: PodRecord) -> PodView:
    pod = record.pod
    address = str(EngineAddress(pod.ip, pod.port)) if pod.ip else ""
    return PodView(address, pod.ready, pod.terminating, pod.container_mark, record.uid)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a LoraAdapter says of the adapters that it stands for. `known`: why no pod answers, for those it names."""

    resource: Resource
    known: Mapping[str, Absence]
    plain: Absence  # of one that only pods name
    about: Callable[[str], About | None]

    def entry(self, name: str, ends: Iterable[Endpoint | Withheld]) -> Entry | None:
        """The line of one adapter; None where it is not known, or is being unloaded and nobody has it any more."""
        resource = self.resource
        found = list(ends)
        endpoints = tuple(one for one in found if isinstance(one, Endpoint))
        withheld = tuple(one for one in found if isinstance(one, Withheld))
        if not found and (name not in self.known or resource.deleted_at is not None):
            return None
        why = self.known.get(name, self.plain)
        if endpoints:
            why = ANSWERS
        elif withheld:
            why = Absence(PODS_NOT_READY, "; ".join(f"{one.pod} is {_WORDS[one.state]}" for one in withheld[:4]))
        return Entry(
            resource.namespace, name, resource.spec.base_model if resource.spec is not None else "", resource.name,
            endpoints, withheld, why.reason, why.message, is_on_demand(resource), why.given_up, self.about(name),
            owner_of(resource), resource.spec is not None and resource.spec.fallback is Fallback.BASE_MODEL,
        )  # fmt: skip


def owner_of(resource: Resource) -> str:
    """Without one that is named, its namespace owns it."""
    return (resource.spec.owner if resource.spec is not None else None) or resource.namespace


def standing(resource: Resource) -> Standing:
    """Raises what nonsense in its status leads to."""
    known, plain = absences(resource)
    return Standing(resource, known, plain, about_of(resource))


def end_of(pod: str, place: Place, view: PodView | None) -> Endpoint | Withheld | None:
    """How a pod (by name) that is said to hold an adapter takes requests; None if it is gone, or another by now."""
    if view is None or not place.address or view.address != place.address:
        return None
    if place.pod_uid and place.pod_uid != view.uid:
        return None
    why = _why_not(view, place.container)
    return Endpoint(pod, place.address, place.engine_name) if why is None else Withheld(pod, why)


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


def ends_of(pod: str, said: Contents, view: PodView | None) -> dict[str, Endpoint | Withheld | None]:
    """The same for all that a LoraEndpoint names, by adapter."""
    sample = end_of(pod, Place(said.address, said.container, "", "", said.pod_uid), view)
    if not isinstance(sample, Endpoint):
        return dict.fromkeys((held.name for held in said.adapters), sample)
    return {held.name: Endpoint(pod, said.address, held.engine_name, held.version) for held in said.adapters}


def _why_not(pod: PodView, container: str) -> Why | None:
    """`container`: the one that what was published speaks of; empty where it does not say."""
    if pod.terminating:
        return Why.TERMINATING
    if not pod.ready:
        return Why.NOT_READY
    # where nobody leads just now, nobody takes back what was said of the engine before
    return Why.RESTARTED if container and pod.container and container != pod.container else None
