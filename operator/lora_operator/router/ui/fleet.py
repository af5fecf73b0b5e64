"""Pods and LoraAdapters for people to look at: written as JSON once, and told again only where they changed.

A page asks every few seconds, and a fleet of thousands changes in one place at a time: whoever says which version it
has seen gets the difference.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lora_operator.informers.cache import Cluster
from lora_operator.informers.records import PodRecord, Resource
from lora_operator.planning.inflight import Effect, Ledger
from lora_operator.planning.pod_selection import Participants, Participation
from lora_operator.router.freshness import Freshness
from lora_operator.router.lines import dumped, with_member
from lora_operator.router.streams import rounded
from lora_operator.router.ui.lines import effect_json, pod_json, resource_json
from lora_operator.router.ui.versions import Versions

T = TypeVar("T", Resource, PodRecord)


@dataclass(frozen=True, slots=True)
class _Changes(Generic[T]):
    """What differs between two looks: keys of what came or is another than before, and of what went."""

    before: Mapping[str, T]
    now: Mapping[str, T]
    set: tuple[str, ...]
    gone: tuple[str, ...]

    @classmethod
    def between(cls, before: Mapping[str, T], now: Mapping[str, T]) -> _Changes[T]:
        changed = tuple(key for key, one in now.items() if before.get(key) is not one)
        return cls(before, now, changed, tuple(key for key in before if key not in now))

    def __bool__(self) -> bool:
        return bool(self.set or self.gone)


class Fleet:
    """Reads the cluster when it is asked, so that it costs nothing while nobody looks.

    `effects`: what is under way on a pod, from the operator that leads; None where that is not known.
    """

    def __init__(self, cluster: Cluster, epoch: str, effects: Callable[[str], Iterable[Effect]] | None = None) -> None:
        self._cluster = cluster
        self._epoch = epoch
        self._number = 0
        self._pods, self._resources = Versions(), Versions()
        self._seen_pods: Mapping[str, PodRecord] = {}
        self._seen_resources: Mapping[str, Resource] = {}
        self._participation = Participation()
        self._named: set[str] = set()  # pods that hold something, by what was published
        self._participants = Participants({}, frozenset())
        self._lock = asyncio.Lock()
        self.effects = effects

    def pod(self, key: str) -> PodRecord | None:
        """A pod by its key, as the cluster has it now."""
        return self._cluster.pods.get(key)

    async def answer(self, since: str | None, freshness: Freshness) -> bytes:
        """The model `FleetAnswer`, with what changed after the version `since`, or with all."""
        async with self._lock:
            await self._refresh()
            seen = self._version(since)
            from_number = -1 if seen is None else seen
            age = rounded(freshness.age_seconds)
            body: dict[str, Any] = {
                "version": f"{self._epoch}-{self._number}",
                "whole": seen is None,
                "ageSeconds": age,
                "apiServer": "Unknown" if age is None else "Away" if freshness.away else "Reachable",
                "underWay": self._under_way(),
                "podsGone": [] if seen is None else self._pods.gone_since(seen),
                "resourcesGone": [] if seen is None else self._resources.gone_since(seen),
            }
            with_pods = with_member(body, "pods", self._pods.since(from_number))
            return with_pods[:-1] + b',"resources":' + self._resources.since(from_number) + b"}"

    def _version(self, since: str | None) -> int | None:
        """The number of that version, if the difference to it is known."""
        epoch, _, number = (since or "").rpartition("-")
        if epoch != self._epoch or not (number.isascii() and number.isdigit() and len(number) < 20):
            return None
        oldest = max(self._pods.oldest, self._resources.oldest)
        return int(number) if oldest <= int(number) <= self._number else None

    def _under_way(self) -> list[dict[str, Any]] | None:
        if self.effects is None:
            return None
        return [effect_json(effect) for key in self._participants.pods for effect in self.effects(key)]

    async def _refresh(self) -> None:
        """Take in what differs from the last time, as one version."""
        resources = _Changes.between(self._seen_resources, {one.key: one for one in self._cluster.adapters.values()})
        pods = _Changes.between(self._seen_pods, {one.key: one for one in self._cluster.pods.values()})
        if resources or pods:
            self._named = {one.key for one in self._cluster.endpoints.values() if one.said.adapters}
            self._named |= {key for resource in resources.now.values() for key in _pods_named(resource)}
            # picks are not to wait for it; what is read there is frozen
            taking = asyncio.ensure_future(asyncio.to_thread(self._take, resources, pods, self._number + 1))
            try:
                await asyncio.shield(taking)
            finally:
                # the thread ends what it began, also where whoever asked has gone: two at a time would spoil it
                await asyncio.wait((taking,))
                self._number += taking.result()
                self._seen_resources, self._seen_pods = resources.now, pods.now

    def _take(self, resources: _Changes[Resource], pods: _Changes[PodRecord], number: int) -> bool:
        """Write what changed; whether any of it is news."""
        news = False
        for key in resources.set:
            news |= self._resources.put(key, number, dumped(resource_json(resources.now[key])))
        for key in resources.gone:
            self._resources.drop(key, number)
            news = True
        before = self._participants
        if self._others_may_take_part(resources, pods):
            now = self._participation.of(pods.now.values(), resources.now.values(), {}, Ledger(), self._named)
            again = [*now.pods]
        else:
            now = Participants({key: pods.now[key] for key in before.pods}, before.leaving)
            again = [key for key in pods.set if key in now.pods]
        for key in again:
            record, leaving = now.pods[key], key in now.leaving
            if before.pods.get(key) is not record or leaving != (key in before.leaving):
                news |= self._pods.put(key, number, dumped(pod_json(record, leaving)))
        for key in self._pods.keys - now.pods.keys():
            self._pods.drop(key, number)
            news = True
        self._participants = now
        return news

    def _others_may_take_part(self, resources: _Changes[Resource], pods: _Changes[PodRecord]) -> bool:
        """Whether the pods that take part have to be found anew. On large fleets that is most of the work."""
        if resources.gone or pods.gone or self._participants.leaving:
            return True
        for key in resources.set:
            old, new = resources.before.get(key), resources.now[key]
            if old is None or (old.spec, old.deleted_at) != (new.spec, new.deleted_at):
                return True
        if not self._named & pods.now.keys() <= self._participants.pods.keys():
            return True
        for key in pods.set:
            was, is_now = pods.before.get(key), pods.now[key]
            if was is None or (was.pod.labels, was.pod.phase) != (is_now.pod.labels, is_now.pod.phase):
                return True
        return False


def _pods_named(resource: Resource) -> Iterable[str]:
    return (f"{resource.namespace}/{item.pod}" for item in resource.published.pod_assignments)
