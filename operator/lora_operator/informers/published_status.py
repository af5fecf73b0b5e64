"""What the status of a LoraAdapter said when it was read. What makes no sense in it is left out: others may write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NotedAdapter:
    """One of `adapters`; `bytes` and `rank` are None where it does not tell."""

    name: str
    fingerprint: str = ""
    bytes: int | None = None
    rank: int | None = None
    replicas: int = 0
    loaded: int = 0


@dataclass(frozen=True, slots=True)
class NotedFailure:
    """One of `failedAdapters`; `reason` is the code where there is one. `pods`: pod, reason, message."""

    name: str
    reason: str
    message: str
    pods: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class NotedCondition:
    """One of `conditions`."""

    status: str = ""
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class NotedPod:
    """One of `podAssignments`: its adapters, and by which names its engine knows those that have another."""

    pod: str
    address: str
    container: str
    adapters: tuple[str, ...]
    engine_names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PublishedStatus:
    """Lists are empty and texts too where nothing is said."""

    observed_generation: int = 0
    selector: str = ""
    adapters: tuple[NotedAdapter, ...] = ()
    loaded_adapters: tuple[str, ...] = ()
    failed_adapters: tuple[NotedFailure, ...] = ()
    pod_assignments: tuple[NotedPod, ...] = ()
    conditions: Mapping[str, NotedCondition] = field(default_factory=lambda: MappingProxyType({}))
    lacks_names: bool = False
    """Whether there are adapters that this status has no room for: it says how many there are."""
    alone: bool = False
    """Whether an operator wrote this that writes no LoraEndpoints. A status that nobody wrote yet is none of theirs."""

    @property
    def names(self) -> set[str]:
        """Of its `adapters`."""
        return {noted.name for noted in self.adapters}

    def condition(self, kind: str) -> NotedCondition:
        """The one of that type, or an empty one."""
        return self.conditions.get(kind, _NO_CONDITION)


_NO_CONDITION = NotedCondition()
NO_STATUS = PublishedStatus()


def read_status(status: Json) -> PublishedStatus:
    """Raises nothing."""
    if not status:
        return NO_STATUS
    adapters = tuple(
        NotedAdapter(
            name,
            _text(item.get("fingerprint")),
            _count(item.get("bytes")),
            _count(item.get("rank")),
            _count(item.get("replicas")) or 0,
            _count(item.get("loaded")) or 0,
        )
        for name, item in _named(status, "adapters", "name")
    )
    failed = tuple(
        NotedFailure(
            name,
            _text(item.get("code")) or _text(item.get("reason")) or "Failed",
            _text(item.get("message")) or _text(item.get("reason")),
            tuple(
                (pod, _text(why.get("reason")), _text(why.get("message"))) for pod, why in _named(item, "pods", "pod")
            ),
        )
        for name, item in _named(status, "failedAdapters", "name")
    )
    total = _text(status.get("summary")).partition("/")[2]
    named = {noted.name for noted in adapters} | {noted.name for noted in failed}
    return PublishedStatus(
        observed_generation=_count(status.get("observedGeneration")) or 0,
        selector=_text(status.get("selector")),
        adapters=adapters,
        loaded_adapters=_texts(status.get("loadedAdapters")),
        failed_adapters=failed,
        pod_assignments=tuple(
            NotedPod(
                pod,
                _text(item.get("address")),
                _text(item.get("container")),
                _texts(item.get("adapters")),
                {name: _text(pair.get("engineName")) or name for name, pair in _named(item, "engineNames", "name")},
            )
            for pod, item in _named(status, "podAssignments", "pod")
        ),
        conditions={
            kind: NotedCondition(_text(one.get("status")), _text(one.get("reason")), _text(one.get("message")))
            for kind, one in _named(status, "conditions", "type")
        },
        lacks_names=bool(status.get("truncated")) and total.isdecimal() and len(named) < int(total),
        alone="pods" not in status and "phase" in status,
    )


def _named(body: Json, list_name: str, key: str) -> Iterator[tuple[str, Json]]:
    """The objects of a list that have a text under `key`, with it."""
    items = body.get(list_name)
    for item in items if isinstance(items, list | tuple) else ():
        if isinstance(item, Mapping) and (name := _text(item.get(key))):
            yield name, item


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple(filter(None, map(_text, value))) if isinstance(value, list | tuple) else ()


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None
