"""Which pods take part, and which no longer do but still hold something of ours.

A pod takes part by its label, or because a podSelector matches it. When that ends (the label is removed, a selector or
a LoraAdapter goes), what we loaded there is still there: such a pod is looked after, and gets nothing new, until it is
rid of it. What was published tells a new process on which pods to look.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lora_operator.engines.ownership import our_model
from lora_operator.engines.prober import EngineView, instance_of
from lora_operator.informers.pod_description import takes_part
from lora_operator.informers.records import PodRecord, Resource
from lora_operator.planning.inflight import Ledger
from lora_operator.process.remembered import Remembered
from lora_operator.vllm.engine_state import EngineState
from lora_scheduler import Selector, matches

ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Participants:
    """`pods` are all that are looked after; those in `leaving` only until they are rid of what is ours."""

    pods: Mapping[str, PodRecord]
    leaving: frozenset[str]


class Participation:
    """Decides anew for each round; remembers only which pods were seen to hold nothing."""

    def __init__(self) -> None:
        self._clean: dict[str, str] = {}  # pod -> container instance
        self._selectors: Remembered[Selector | None] = Remembered()

    def of(
        self,
        records: Iterable[PodRecord],
        resources: Iterable[Resource],
        engines: Mapping[str, EngineView],
        ledger: Ledger,
        named: Container[str] = (),
    ) -> Participants:
        """`named`: the pods that hold something according to what was published."""
        resources = list(resources)
        selectors = self._selected(resources)
        pods: dict[str, PodRecord] = {}
        leaving: set[str] = set()
        clean: dict[str, str] = {}
        for record in records:
            key = record.key
            if record.pod.phase in ENDED:
                continue
            if takes_part(record.pod) or any(
                matches(selector, record.pod.labels) for selector in selectors.get(record.pod.namespace, ())
            ):
                pods[key] = record
                continue
            view = engines.get(key)
            if view is None and key not in named:
                continue
            instance = instance_of(record)
            empty = self._clean.get(key) == instance if view is None else _holds_nothing(record, view)
            if empty and not any(ledger.on(key)):
                clean[key] = instance
            else:
                pods[key] = record
                leaving.add(key)
        self._clean = clean
        return Participants(pods, frozenset(leaving))

    def _selected(self, resources: Sequence[Resource]) -> dict[str, set[Selector]]:
        """By namespace, the selectors that somebody gave; the empty one selects among those that take part anyway."""
        found: dict[str, set[Selector]] = {}
        for resource in resources:
            selector = self._selectors.of(resource.key, (resource,), lambda: _selector(resource))  # noqa: B023
            if selector is not None:
                found.setdefault(resource.namespace, set()).add(selector)
        self._selectors.keep({resource.key for resource in resources})
        return found


def _selector(resource: Resource) -> Selector | None:
    if resource.spec is None or resource.deleted_at is not None:
        return None
    selector = resource.spec.deployment_config.pod_selector.for_placement()
    return selector if selector != Selector() else None


def _holds_nothing(record: PodRecord, view: EngineView) -> bool:
    """Whether it is certain that this container instance of the pod's engine has nothing of ours."""
    if view.instance != instance_of(record) or view.state is EngineState.UNKNOWN:
        return False
    if any(our_model(model, record.pod.adapter_root) is not None for model in view.models):
        return False
    answered = view.state is EngineState.UP or bool(view.release)
    return answered or view.state is EngineState.STARTING or not record.pod.container_running
