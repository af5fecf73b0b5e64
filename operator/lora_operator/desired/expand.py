"""What is desired, round after round: only what changed is worked out anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import is_

from lora_operator.api.usage_record import Use
from lora_operator.desired.adapters import Demands, Desired, DesiredResource, SizeOf, expand, resolve_names
from lora_operator.informers.holdings import Holdings
from lora_operator.informers.records import Resource
from lora_operator.informers.sources import SourceView
from lora_operator.process.slices import in_slices

MANY = 200
Measured = tuple[float | None, ...] | None  # of each adapter; None while nothing is measured


@dataclass(frozen=True, slots=True)
class _Known:
    """What was worked out, and of what."""

    resource: Resource
    view: SourceView | None
    measured: Measured
    expanded: DesiredResource


class Expansions:
    """Gives what `desired` gives. As long as nothing changes it is the very same object.

    Whoever lets `holdings` take something in says by `forget` which resources that touches.
    """

    def __init__(self, holdings: Holdings, sizes: SizeOf) -> None:
        self._holdings = holdings
        self._sizes = sizes
        self._known: dict[str, _Known] = {}
        self._last: tuple[Sequence[DesiredResource], Sequence[Resource], Desired] | None = None

    def desired(
        self, resources: Iterable[Resource], sources: Mapping[str, SourceView], demands: Demands | None, use: Use
    ) -> Desired:
        """See `desired.desired`."""
        ordered = sorted(resources, key=lambda r: (r.created, r.key, r.uid))
        expanded = [self._expand(r, sources.get(r.key), demands, use) for r in ordered if r.deleted_at is None]
        departing = tuple(resource for resource in ordered if resource.deleted_at is not None)
        last = self._last
        if last is not None and _same(last[0], expanded) and _same(last[1], departing):
            return last[2]
        made = resolve_names(expanded, departing, self._holdings)
        self._last = (expanded, departing, made)
        for key in self._known.keys() - made.resources.keys():
            del self._known[key]
        return made

    async def prepare(
        self, resources: Sequence[Resource], sources: Mapping[str, SourceView], demands: Demands | None, use: Use
    ) -> None:
        """Where many are new, as at the start, expand them in slices: the rest then takes no time."""
        if len(resources) - len(self._known) >= MANY:
            async for resource in in_slices(resources):
                if resource.deleted_at is None:
                    self._expand(resource, sources.get(resource.key), demands, use)

    def forget(self, resources: Iterable[str]) -> None:
        """What was published about these is otherwise by now."""
        for key in resources:
            self._known.pop(key, None)

    def _expand(
        self, resource: Resource, view: SourceView | None, demands: Demands | None, use: Use
    ) -> DesiredResource:
        on_demand = resource.spec is not None and not resource.spec.deployment_config.load_on_startup
        if on_demand or (resource.published.lacks_names and (view is None or view.resolution is None)):
            # time changes it as well, or what is found out about sizes
            return expand(resource, view, demands, use, self._holdings, self._sizes)
        known = self._known.get(resource.key)
        if (
            known is not None
            and known.resource is resource
            and known.view is view
            and known.measured == _measured(known.expanded, demands)
        ):
            return known.expanded
        made = expand(resource, view, demands, use, self._holdings, self._sizes)
        self._known[resource.key] = _Known(resource, view, _measured(made, demands), made)
        return made


def _measured(expanded: DesiredResource, demands: Demands | None) -> Measured:
    if demands is None:
        return None
    namespace = expanded.resource.namespace
    return tuple(demands.get((namespace, wanted.adapter.name)) for wanted in expanded.wanted)


def _same(one: Sequence[object], other: Sequence[object]) -> bool:
    return len(one) == len(other) and all(map(is_, one, other))
