"""Which resources' statuses say that a pod answers for an adapter: routers read them, and have to be told before an
engine lets go of it. Also those of resources that are being deleted, or no longer want it."""

from __future__ import annotations

from collections.abc import Iterable

from lora_operator.desired import Desired, Wanted
from lora_operator.observe.cluster import Cluster, Resource

Place = tuple[str, str]  # key of a pod, public name of an adapter


class Tellers:
    """Of one plan: who says what is looked up once for all of its unloads."""

    def __init__(self, cluster: Cluster, desired: Desired | None) -> None:
        self._cluster = cluster
        self._departing = desired.departing if desired is not None else ()
        self._found: dict[Place, set[str]] | None = None

    def of(self, pod: str, name: str, wanted: Wanted | None) -> set[str]:
        """Keys of resources. `wanted`: the adapter as somebody wants it now, whose status is said to be told anyway."""
        if wanted is not None:
            others = saying(self._departing) if self._departing else {}
            return {wanted.resource, *others.get((pod, name), ())}
        if self._found is None:
            self._found = saying(self._cluster.adapters.values())
        return self._found.get((pod, name), set())


def saying(resources: Iterable[Resource]) -> dict[Place, set[str]]:
    """By place, the resources whose status names it."""
    found: dict[Place, set[str]] = {}
    for resource in resources:
        for item in resource.status.get("podAssignments") or ():
            pod = f"{resource.namespace}/{item.get('pod')}"
            for name in item.get("adapters") or ():
                found.setdefault((pod, str(name)), set()).add(resource.key)
    return found
