"""What a resource that is being deleted still says: until it is gone, somebody may read from its status where to send
requests. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lora_operator.desired.adapters import Desired, SourceState
from lora_operator.informers.holdings import NOTHING, Held, known_of
from lora_operator.informers.published_status import NotedAdapter
from lora_operator.informers.records import Resource
from lora_operator.status.aggregate import DELETING, AdapterState, Replica, StatusInput

Answering = tuple[str, str, Replica]  # public name, fingerprint, where


def departing_input(
    resource: Resource, desired: Desired, answers: Callable[[str, str], Iterable[Answering]], held: Held = NOTHING
) -> StatusInput:
    """Its adapters as status notes them, and those that only LoraEndpoints name as status was cut, with those replicas
    that still answer and that nobody else has taken over. `answers`: what answers, by namespace and public name."""

    def left(name: str) -> list[Replica]:
        if desired.by_name(resource.namespace, name) is not None:
            return []
        return [replica for _, _, replica in answers(resource.namespace, name)]

    published = resource.published
    beyond = known_of(published, held).keys() - published.names
    return StatusInput(
        generation=published.observed_generation or resource.generation,
        source=SourceState(None, DELETING, "it is being deleted, and its adapters are being unloaded"),
        adapters=tuple(
            _state(noted, left(noted.name)) for noted in (*published.adapters, *map(NotedAdapter, sorted(beyond)))
        ),
        rejected=(),
        on_demand=False,
        selector=published.selector,
        truncated=published.lacks_names,
    )


def _state(noted: NotedAdapter, replicas: list[Replica]) -> AdapterState:
    return AdapterState(
        name=noted.name,
        fingerprint=noted.fingerprint,
        bytes=noted.bytes or 0,
        rank=noted.rank or 0,
        wanted=0,
        missing=0,
        moving=False,
        replicas=tuple(sorted(replicas, key=lambda c: (c.pod, c.engine_name))),
        refusals=(),
    )
