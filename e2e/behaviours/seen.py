"""What a test reads off afterwards: the engines' journals, the operator's metrics, the API server's audit log."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from e2e.world import World
from e2e.world.rest import Json

WRITING = frozenset({"create", "update", "patch", "delete", "deletecollection"})


def loads(world: World) -> Counter[tuple[str, str]]:
    """How often each pod's present container has loaded each name."""
    return _done(world, "load")


def unloads(world: World) -> Counter[tuple[str, str]]:
    """How often each pod's present container has unloaded each name."""
    return _done(world, "unload")


def _done(world: World, kind: str) -> Counter[tuple[str, str]]:
    return Counter(
        (pod, event["name"])
        for pod, engine in world.engines().items()
        for event in engine.events()
        if event["event"] == kind and event["status"] == 200
    )


def most_at_once(world: World) -> int:
    """The most adapters that the present container of any pod has had at a time."""
    most = 0
    for engine in world.engines().values():
        names: set[str] = set()
        for event in engine.events():
            if event["event"] in ("load", "unload") and event["status"] == 200:
                (names.add if event["event"] == "load" else names.discard)(event["name"])
                most = max(most, len(names))
    return most


def listed(world: World) -> dict[str, list[str]]:
    """Pod -> names of the adapters that its engine lists, sorted; pods without any are left out."""
    names = {pod: sorted(engine.models()) for pod, engine in world.engines().items()}
    return {pod: found for pod, found in names.items() if found}


def metric(world: World, name: str, **labels: str) -> float:
    """The sum of the samples of this name that have these labels."""
    assert world.operator is not None
    return sum(
        sample.value
        for family in text_string_to_metric_families(world.operator.fetch("/metrics"))
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


class AuditLog:
    """The requests that reach the API server from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size

    def requests(self) -> list[Json]:
        """All audited requests since."""
        with self._path.open("rb") as log:
            log.seek(self._offset)
            whole = log.read().rpartition(b"\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def writes(self, namespace: str, user: str) -> list[str]:
        """`verb path` of all that this user wrote in this namespace."""
        return [
            f"{item['verb']} {item['requestURI']}"
            for item in self.requests()
            if item["verb"] in WRITING
            and (item.get("objectRef") or {}).get("namespace") == namespace
            and item["user"]["username"].endswith(user)
        ]


def log_of(world: World) -> str:
    """All that the operator has logged in this world."""
    return (world.directory / "operator.log").read_text()
