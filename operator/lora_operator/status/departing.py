"""What a resource that is being deleted still says: until it is gone, somebody may read from its status where to send
requests. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from lora_operator.desired.adapters import Desired, SourceState
from lora_operator.informers.holdings import NOTHING, Held, known_of, lacks_names
from lora_operator.informers.records import Resource
from lora_operator.status.aggregate import DELETING, AdapterState, Copy, StatusInput

Answering = tuple[str, str, Copy]  # public name, fingerprint, where


def departing_input(
    resource: Resource, desired: Desired, answers: Callable[[str, str], Iterable[Answering]], held: Held = NOTHING
) -> StatusInput:
    """Its adapters as status notes them, and those that only LoraEndpoints name as status was cut, with those copies
    that still answer and that nobody else has taken over. `answers`: what answers, by namespace and public name."""

    def left(name: str) -> list[Copy]:
        if desired.by_name(resource.namespace, name) is not None:
            return []
        return [copy for _, _, copy in answers(resource.namespace, name)]

    noted = [item for item in resource.status.get("adapters") or () if item.get("name")]
    beyond = known_of(resource.status, held).keys()
    known = {str(item["name"]) for item in noted}
    return StatusInput(
        generation=int(resource.status.get("observedGeneration") or resource.generation),
        source=SourceState(None, DELETING, "it is being deleted, and its adapters are being unloaded"),
        adapters=tuple(
            _state(item, left(str(item["name"])))
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
