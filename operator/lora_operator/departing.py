"""What a resource that is being deleted still says: until it is gone, somebody may read from its status where to send
requests. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lora_operator.desired import Desired, SourceState
from lora_operator.observe.cluster import Resource
from lora_operator.observe.holdings import NOTHING, Held, known_of, lacks_names
from lora_operator.status import DELETING, AdapterState, Copy, StatusInput

Answering = tuple[str, str, Copy]  # public name, fingerprint, where


def departing_input(
    resource: Resource, desired: Desired, answering: Iterable[Answering], held: Held = NOTHING
) -> StatusInput:
    """Its adapters as status notes them, and those that only LoraEndpoints name as status was cut, with those copies
    that still answer and that nobody else has taken over."""
    left: dict[str, list[Copy]] = {}
    for name, _, copy in answering:
        if copy.pod.partition("/")[0] == resource.namespace and desired.by_name(resource.namespace, name) is None:
            left.setdefault(name, []).append(copy)
    noted = [item for item in resource.status.get("adapters") or () if item.get("name")]
    beyond = known_of(resource.status, held).keys()
    known = {str(item["name"]) for item in noted}
    return StatusInput(
        generation=int(resource.status.get("observedGeneration") or resource.generation),
        source=SourceState(None, DELETING, "it is being deleted, and its adapters are being unloaded"),
        adapters=tuple(
            _state(item, left.get(str(item["name"]), []))
            for item in (*noted, *({"name": name} for name in sorted(beyond - known)))
        ),
        rejected=(),
        on_demand=False,
        selector=str(resource.status.get("selector") or ""),
        truncated=lacks_names(resource.status),
    )


def _state(noted: dict[str, Any], copies: list[Copy]) -> AdapterState:
    return AdapterState(
        name=str(noted["name"]),
        fingerprint=str(noted.get("fingerprint") or ""),
        bytes=int(noted.get("bytes") or 0),
        rank=int(noted.get("rank") or 0),
        wanted=0,
        missing=0,
        moving=False,
        copies=tuple(sorted(copies, key=lambda c: (c.pod, c.engine_name))),
        refusals=(),
    )
