"""What the base model of a pod is called, where the pod itself does not say it: as its engine lists it. Pure.

An annotation counts for more than the engine, and a command line for as much as the engine confirms. What an engine was
once heard to serve counts for its pod until it says otherwise: its command line does not change while the pod lives. A
new operator goes by what was published until it has heard it itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from lora_operator.artifacts.base_name import UNKNOWN_MODEL
from lora_operator.engines.liveness import EngineView
from lora_operator.engines.ownership import our_model
from lora_operator.informers.endpoints import Contents
from lora_operator.informers.pod_description import Naming
from lora_operator.informers.records import PodRecord

NAMES_MAX = 16  # of one base model

Names = tuple[str, ...]


class ServedNames:
    """Completes pods' records; what did not change stays the same object."""

    def __init__(self, published: Callable[[str], Contents | None]) -> None:
        self._published = published
        self._heard: dict[str, tuple[str, Names]] = {}  # by pod: its uid, and what its engine lists
        self._made: dict[str, tuple[PodRecord, Names, PodRecord]] = {}

    def of(self, pods: Mapping[str, PodRecord], views: Mapping[str, EngineView]) -> dict[str, PodRecord]:
        """The pods with the names under which they really serve their base models."""
        for table in (self._heard, self._made):
            for key in [key for key in table if key not in pods]:
                del table[key]
        return {key: self._completed(key, record, views.get(key)) for key, record in pods.items()}

    def _completed(self, key: str, record: PodRecord, view: EngineView | None) -> PodRecord:
        names = self._names(key, record, view)
        if names == record.pod.base_models:
            return record
        made = self._made.get(key)
        if made is None or made[0] is not record or made[1] != names:
            made = record, names, replace(record, pod=replace(record.pod, base_models=names))
            self._made[key] = made
        return made[2]

    def _names(self, key: str, record: PodRecord, view: EngineView | None) -> Names:
        said = record.pod.base_models
        if record.pod.named_by is Naming.ANNOTATION:
            return said
        listed = listed_names(record, view)
        if listed:
            self._heard[key] = record.uid, listed
        heard = self._heard.get(key)
        known = heard[1] if heard is not None and heard[0] == record.uid else ()
        if not known and record.pod.named_by is Naming.DEFAULT:
            published = self._published(key)
            known = published.base_models if published is not None and published.pod_uid == record.uid else ()
        return said if not known or set(said) & set(known) else known


def listed_names(record: PodRecord, view: EngineView | None) -> Names:
    """The names of the base model that the pod's engine lists. Some servers that stand before an engine list adapters
    as if they were base models."""
    if view is None or not view.instance.startswith(f"{record.uid}/"):
        return ()
    root = record.pod.adapter_root
    return tuple(model.name for model in view.bases if our_model(model, root) is None)[:NAMES_MAX]


def names_of_model(record: PodRecord, view: EngineView | None) -> Names:
    """All that is known of what the model of a completed pod is called: the names that it is served under, and what is
    behind them. One of them says that this is not known, where it is not."""
    behind = {model.root for model in (view.bases if view is not None else ()) if model.root}
    if record.pod.model is not None:
        behind.add(record.pod.model)
    return (*record.pod.base_models, *sorted(behind or {UNKNOWN_MODEL}))
