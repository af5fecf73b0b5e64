"""What answers where, round after round: a pod about which nothing changed is not looked through again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lora_operator.engines.liveness import EngineView, instance_of
from lora_operator.engines.ownership import our_model
from lora_operator.informers.records import PodRecord
from lora_operator.planning.inflight import Ledger
from lora_operator.status.aggregate import Replica
from lora_operator.status.departing import Answering
from lora_operator.vllm.client import Endpoint

Name = tuple[str, str]  # namespace and public name of an adapter


@dataclass(frozen=True, slots=True)
class _Known:
    """One pod, and what answers there by name."""

    record: PodRecord
    view: EngineView | None
    leaving: frozenset[str]  # engine names
    answers: Mapping[Name, tuple[Answering, ...]]


class Answers:
    """What answers: listed by an engine that has missed no more probes than it may, and not being withdrawn."""

    def __init__(self) -> None:
        self._pods: dict[str, _Known] = {}
        self._places: dict[Name, dict[str, tuple[Answering, ...]]] = {}  # by pod
        self._of: dict[Name, tuple[Answering, ...]] = {}

    def update(self, pods: Mapping[str, PodRecord], engines: Mapping[str, EngineView], ledger: Ledger) -> None:
        """As it is at this moment."""
        for key in [key for key in self._pods if key not in pods]:
            self._put(key, self._pods.pop(key).answers, {})
        for key, record in pods.items():
            known, view = self._pods.get(key), engines.get(key)
            leaving = frozenset(effect.engine_name for effect in ledger.on(key) if effect.is_unload)
            if known is None or known.record is not record or known.view is not view or known.leaving != leaving:
                answers = _answering(key, record, view, leaving)
                self._put(key, known.answers if known is not None else {}, answers)
                self._pods[key] = _Known(record, view, leaving, answers)

    def of(self, namespace: str, name: str) -> tuple[Answering, ...]:
        """Of whatever version. The same object as long as nothing changed."""
        found = self._of.get((namespace, name))
        if found is None:
            places = self._places.get((namespace, name), {})
            found = tuple(answer for pod in sorted(places) for answer in places[pod])
            if places:
                self._of[namespace, name] = found
        return found

    def _put(
        self, pod: str, before: Mapping[Name, tuple[Answering, ...]], now: Mapping[Name, tuple[Answering, ...]]
    ) -> None:
        for name in before.keys() | now.keys():
            answers = now.get(name)
            if before.get(name) == answers:
                continue
            places = self._places.setdefault(name, {})
            if answers is not None:
                places[pod] = answers
            else:
                del places[pod]
                if not places:
                    del self._places[name]
            self._of.pop(name, None)


def _answering(
    key: str, record: PodRecord, view: EngineView | None, leaving: frozenset[str]
) -> dict[Name, tuple[Answering, ...]]:
    # an engine that was told to end refuses requests at once, though it may be listening when it is looked at
    if view is None or not view.keeps or record.pod.terminating:
        return {}
    if view.instance != instance_of(record):
        return {}  # the last look was at an earlier container
    found: dict[Name, tuple[Answering, ...]] = {}
    namespace, address = record.pod.namespace, str(Endpoint(record.pod.ip or "", record.pod.port))
    for model in view.models:
        ours = our_model(model, record.pod.adapter_root)
        if ours is not None and not ours.partial and ours.engine_name not in leaving:
            replica = Replica(key, address, ours.engine_name, current=True, container=record.pod.container_mark)
            name = namespace, ours.name
            found[name] = (*found.get(name, ()), (ours.name, ours.fingerprint, replica))
    return found
