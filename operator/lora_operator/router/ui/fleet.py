"""Pods and LoraAdapters for people to look at: written as JSON once, and told again only where they changed.

A page asks every few seconds, and a fleet of thousands changes in one place at a time: whoever says which version it
has seen gets the difference.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lora_operator.inflight import Effect, Ledger
from lora_operator.observe.cluster import Cluster, PodRecord, Resource
from lora_operator.participation import Participation
from lora_operator.router.freshness import Freshness
from lora_operator.router.lines import dumped, with_member
from lora_operator.router.streams import rounded
from lora_operator.router.ui.lines import effect_json, pod_json, resource_json

log = logging.getLogger(__name__)

GONE_REMEMBERED = 10_000
AT_A_TIME = 200  # objects, a few milliseconds


@dataclass(slots=True)
class _Line:
    source: object
    number: int  # of the version in which it last changed
    data: bytes


@dataclass(slots=True)
class _Lines:
    """Things of one kind, by `namespace/name`."""

    known: dict[str, _Line] = field(default_factory=dict)
    gone: dict[str, int] = field(default_factory=dict)  # the number of the version in which it went, in that order

    def put(self, key: str, source: object, number: int, data: bytes) -> bool:
        line = self.known.get(key)
        if line is not None and line.data == data:
            line.source = source
            return False
        self.known[key] = _Line(source, number, data)
        self.gone.pop(key, None)
        return True

    def drop(self, key: str, number: int) -> None:
        del self.known[key]
        self.gone[key] = number

    def since(self, number: int) -> bytes:
        return b"[" + b",".join(line.data for line in self.known.values() if line.number > number) + b"]"

    def gone_since(self, number: int) -> list[dict[str, str]]:
        keys = (key.partition("/") for key, at in self.gone.items() if at > number)
        return [{"namespace": namespace, "name": name} for namespace, _, name in keys]


class Fleet:
    """Reads the cluster when it is asked, so that it costs nothing while nobody looks.

    `effects`: what is under way on a pod, from the operator that leads; None where that is not known.
    """

    def __init__(self, cluster: Cluster, epoch: str) -> None:
        self._cluster = cluster
        self._epoch = epoch
        self._number = 0
        self._oldest = 0  # what went before this version is forgotten
        self._pods, self._resources = _Lines(), _Lines()
        self._records: dict[str, PodRecord] = {}
        self._leaving: frozenset[str] = frozenset()
        self._participation = Participation()
        self._refreshing = asyncio.Lock()
        self.effects: Callable[[str], Iterable[Effect]] | None = None

    async def answer(self, since: str | None, freshness: Freshness) -> bytes:
        """The model `FleetAnswer`, with what changed after the version `since`, or with all."""
        async with self._refreshing:
            await self._refresh()
        seen = self._seen(since)
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

    def _seen(self, since: str | None) -> int | None:
        """The number of that version, if the difference to it is known."""
        epoch, _, number = (since or "").rpartition("-")
        if epoch != self._epoch or not (number.isascii() and number.isdigit() and len(number) < 20):
            return None
        return int(number) if self._oldest <= int(number) <= self._number else None

    def _under_way(self) -> list[dict[str, Any]] | None:
        if self.effects is None:
            return None
        return [effect_json(effect) for key in self._pods.known for effect in self.effects(key)]

    async def _refresh(self) -> None:
        """Take in what differs from the last time, as one version. Whoever asks for picks is let in meanwhile."""
        resources = {one.key: one for one in self._cluster.adapters.values()}
        records = {one.key: one for one in self._cluster.pods.values()}
        changed = _differing(resources, {key: line.source for key, line in self._resources.known.items()})
        if not changed and records.keys() == self._records.keys() and not _differing(records, self._records):
            return
        number, news = self._number + 1, False
        for at, key in enumerate(changed):
            if at % AT_A_TIME == AT_A_TIME - 1:
                await asyncio.sleep(0)
            resource = resources.get(key)
            if resource is None:
                self._resources.drop(key, number)
                news = True
            else:
                news |= self._resources.put(key, resource, number, _written(resource))
        taking_part = self._participation.of(records.values(), resources.values(), {}, Ledger())
        for at, (key, record) in enumerate(taking_part.pods.items()):
            if at % AT_A_TIME == AT_A_TIME - 1:
                await asyncio.sleep(0)
            line, leaving = self._pods.known.get(key), key in taking_part.leaving
            if line is None or line.source is not record or leaving != (key in self._leaving):
                news |= self._pods.put(key, record, number, dumped(pod_json(record, leaving)))
        for key in self._pods.known.keys() - taking_part.pods.keys():
            self._pods.drop(key, number)
            news = True
        self._records, self._leaving = records, taking_part.leaving
        self._number += news
        for lines in (self._pods, self._resources):
            while len(lines.gone) > GONE_REMEMBERED:
                self._oldest = max(self._oldest, lines.gone.pop(next(iter(lines.gone))))


def _differing(now: Mapping[str, object], before: Mapping[str, object]) -> list[str]:
    """Keys of what came, changed or went."""
    return [key for key, one in now.items() if before.get(key) is not one] + [key for key in before if key not in now]


def _written(resource: Resource) -> bytes:
    try:
        return dumped(resource_json(resource))
    except Exception:  # one object must not take the view from all others
        log.exception("the status of LoraAdapter %s cannot be read; the web view shows nothing of it", resource.key)
        return dumped(resource_json(replace(resource, status={}, problem="its status cannot be read")))
