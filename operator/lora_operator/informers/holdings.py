"""Which pods hold the adapters of each LoraAdapter, by what was published: LoraEndpoints, else status.

A pod's LoraEndpoint counts. Where a pod has none yet, status does, as it does for a LoraAdapter whose status was last
written by an operator that writes no LoraEndpoints (it has no `pods`): what they say of that one may be out of date.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from lora_operator.informers.cache import Cache, Cluster
from lora_operator.informers.endpoints import Contents, HeldAdapter, PodEndpoint
from lora_operator.informers.published_status import NO_STATUS, PublishedStatus
from lora_operator.informers.records import PodRecord, Resource

Touched = set[tuple[str, str]]  # (key of a LoraAdapter, name of an adapter)
Held = Mapping[str, frozenset[str]]  # name of an adapter -> keys of pods
NOTHING: Held = MappingProxyType({})
NOBODY: frozenset[str] = frozenset()

T = TypeVar("T", Resource, PodRecord, PodEndpoint)


@dataclass(frozen=True, slots=True)
class Place:
    """How one pod answers for one adapter. `version` and `pod_uid` are empty where status says so, which lacks them."""

    address: str
    container: str
    engine_name: str
    version: str = ""
    pod_uid: str = ""


def known_of(status: PublishedStatus, held: Held) -> Held:
    """What pods tell of the adapters of a LoraAdapter that its status has no room for.

    Nothing where it names them all: a LoraAdapter of today may be called like one of yesterday.
    """
    return held if status.lacks_names else NOTHING


class Holdings:
    """Set what changed: each change costs what it touches, and says for which adapters it may matter."""

    def __init__(self) -> None:
        self._said: dict[str, Contents] = {}  # by pod
        self._by_endpoint: dict[str, dict[str, frozenset[str]]] = {}  # resource -> adapter -> pods
        self._by_status: dict[str, dict[str, dict[str, Place]]] = {}  # resource -> pod -> adapter; only what counts
        self._counted: dict[str, set[str]] = {}  # pod -> resources in `_by_status`
        self._alone: set[str] = set()  # resources of which only status counts
        self._seen: tuple[dict[str, PodEndpoint], dict[str, Resource]] = ({}, {})

    def of(self, resource: str) -> Held:
        """By adapter, the pods that hold it for this LoraAdapter."""
        published = NOTHING if resource in self._alone else self._by_endpoint.get(resource, NOTHING)
        counted = self._by_status.get(resource)
        if not counted:
            return published
        found = dict(published)
        for pod, places in counted.items():
            for name in places:
                found[name] = found.get(name, NOBODY) | {pod}
        return found

    def place(self, resource: str, pod: str, name: str) -> Place | None:
        """How a pod that `of` gives answers for the adapter."""
        if (counted := self._by_status.get(resource)) and (found := counted.get(pod, {}).get(name)) is not None:
            return found
        return place_of(self._said.get(pod), name) if resource not in self._alone else None

    def by_status(self, resource: str) -> bool:
        """Whether its status is believed in what it says of any pod."""
        return resource in self._by_status or resource in self._alone

    def version(self, resource: str, name: str) -> str:
        """The fingerprint of the adapter on the first of its pods that say it; empty if none does."""
        places = (self.place(resource, pod, name) for pod in sorted(self.of(resource).get(name, NOBODY)))
        return next((place.version for place in places if place is not None and place.version), "")

    def said(self, pod: str) -> Contents | None:
        """What the pod's LoraEndpoint says."""
        return self._said.get(pod)

    def counting(self, pod: str, name: str) -> set[str]:
        """The LoraAdapters whose status is believed when it says that this pod holds the adapter."""
        return {key for key in self._counted.get(pod, ()) if name in self._by_status[key][pod]}

    def on(self, pod: str) -> Iterator[tuple[str, str]]:
        """(LoraAdapter, adapter) of all that the pod holds."""
        said = self._said.get(pod)
        for held in said.adapters if said is not None else ():
            if (owner := _owner(pod, held)) not in self._alone:
                yield owner, held.name
        for resource in self._counted.get(pod, ()):
            yield from ((resource, name) for name in self._by_status[resource][pod])

    def pods(self) -> set[str]:
        """All that hold something."""
        return {pod for pod, said in self._said.items() if said.adapters} | self._counted.keys()

    def set_endpoint(self, pod: str, said: Contents | None) -> Touched:
        """Take what a pod's LoraEndpoint says now; None where there is none."""
        before = self._said.get(pod)
        if said == before:
            return set()
        old, new = before.adapters if before is not None else (), said.adapters if said is not None else ()
        lost, got = _differences(old, new)
        elsewhere = before is None or said is None or _where(before) != _where(said)
        namespace, one = pod.partition("/")[0], frozenset((pod,))
        touched = {
            (f"{namespace}/{held.resource}", held.name) for held in ((*old, *new) if elsewhere else (*lost, *got))
        }
        for held in lost:
            self._move(f"{namespace}/{held.resource}", held.name, one, there=False)
        for held in got:
            self._move(f"{namespace}/{held.resource}", held.name, one, there=True)
        if said is None:
            del self._said[pod]
            return touched
        self._said[pod] = said
        for resource in list(self._counted.get(pod, ())):  # from now on its own word counts
            if resource not in self._alone:
                touched |= {(resource, name) for name in self._by_status[resource][pod]}
                self._uncount(resource, pod)
        return touched

    def set_status(self, key: str, status: PublishedStatus) -> Touched:
        """Take the status of a LoraAdapter as it is now, empty where it is gone."""
        alone = status.alone
        before = self._by_status.get(key, {})
        counted = {pod: places for pod, places in _assigned(key, status) if alone or pod not in self._said}
        touched = {
            (key, name)
            for pod in before.keys() | counted.keys()
            if before.get(pod) != counted.get(pod)
            for name in before.get(pod, {}).keys() | counted.get(pod, {}).keys()
        }
        for pod in list(before):
            self._uncount(key, pod)
        for pod, places in counted.items():
            self._by_status.setdefault(key, {})[pod] = places
            self._counted.setdefault(pod, set()).add(key)
        if alone is not (key in self._alone):
            self._alone ^= {key}
            touched |= {(key, name) for name in self._by_endpoint.get(key, ())}
        return touched

    def sync_targets(self, cluster: Cluster) -> Touched:
        """Take in what differs from the last time."""
        endpoints, resources = self._seen
        touched: Touched = set()
        for pod, endpoint in news(cluster.endpoints, endpoints):
            touched |= self.set_endpoint(pod, None if endpoint is None else endpoint.said)
        for key, resource in news(cluster.adapters, resources):
            touched |= self.set_status(key, NO_STATUS if resource is None else resource.published)
        return touched

    def _move(self, resource: str, name: str, pod: frozenset[str], *, there: bool) -> None:
        names = self._by_endpoint.setdefault(resource, {})
        pods = names.get(name, NOBODY) | pod if there else names.get(name, NOBODY) - pod
        if pods:
            names[name] = pods
            return
        names.pop(name, None)
        if not names:
            del self._by_endpoint[resource]

    def _uncount(self, resource: str, pod: str) -> None:
        del self._by_status[resource][pod]
        if not self._by_status[resource]:
            del self._by_status[resource]
        self._counted[pod].discard(resource)
        if not self._counted[pod]:
            del self._counted[pod]


def place_of(said: Contents | None, name: str) -> Place | None:
    """How a pod answers for an adapter, by its LoraEndpoint."""
    held = said.holds(name) if said is not None else None
    if said is None or held is None:
        return None
    return Place(said.address, said.container, held.engine_name, held.version, said.pod_uid)


def news(cache: Cache[T], seen: dict[str, T]) -> Iterator[tuple[str, T | None]]:
    """What is another object than the one seen last, and what is gone; notes it as seen."""
    for item in cache.values():
        if seen.get(item.key) is not item:
            seen[item.key] = item
            yield item.key, item
    if len(seen) > len(cache):
        for key in [key for key in seen if cache.get(key) is None]:
            del seen[key]
            yield key, None


def _differences(old: Iterable[HeldAdapter], new: Iterable[HeldAdapter]) -> tuple[Set[HeldAdapter], Set[HeldAdapter]]:
    """What is only in the one, and only in the other. Mostly they have the same objects, see `Shared`."""
    before, after = set(map(id, old)), set(map(id, new))
    lost = {held for held in old if id(held) not in after}
    got = {held for held in new if id(held) not in before}
    return lost - got, got - lost


def _where(said: Contents) -> tuple[str, ...]:
    return said.address, said.container, said.pod_uid, said.scheme


def _owner(pod: str, held: HeldAdapter) -> str:
    return f"{pod.partition('/')[0]}/{held.resource}"


def _assigned(resource: str, status: PublishedStatus) -> Iterable[tuple[str, dict[str, Place]]]:
    """By pod, what its `podAssignments` say."""
    namespace = resource.partition("/")[0]
    for item in status.pod_assignments:
        yield (
            f"{namespace}/{item.pod}",
            {name: Place(item.address, item.container, item.engine_names.get(name, name)) for name in item.adapters},
        )
