"""Which versions on the adapter volume must stay: whatever is wanted, or may be loaded anywhere. Pure.

An engine may read the files of a loaded adapter again at any time, and dies where they are gone.
"""

from __future__ import annotations

from collections.abc import Mapping

from lora_operator.cache.paths import is_fingerprint
from lora_operator.desired.adapters import Desired, DesiredAdapter
from lora_operator.engines.prober import EngineView
from lora_operator.informers.records import PodRecord
from lora_operator.vllm.engine_state import EngineState

Key = tuple[str, str]


def needed(
    desired: Desired, pods: Mapping[str, PodRecord], engines: Mapping[str, EngineView]
) -> set[tuple[str, str]] | None:
    """(name, fingerprint) of all that must stay; None where an engine that runs does not say what it has."""
    return _with_loaded({_key(wanted) for wanted in desired.adapters.values()}, pods, engines)


def in_use(
    desired: Desired, pods: Mapping[str, PodRecord], engines: Mapping[str, EngineView]
) -> set[tuple[str, str]] | None:
    """The same without what is wanted on no pod for now: that may make room where a budget asks for it."""
    wanted = {_key(each) for each in desired.adapters.values() if each.adapter.replicas > 0}
    return _with_loaded(wanted, pods, engines)


def _key(wanted: DesiredAdapter) -> Key:
    return wanted.adapter.name, wanted.adapter.version


def _with_loaded(keep: set[Key], pods: Mapping[str, PodRecord], engines: Mapping[str, EngineView]) -> set[Key] | None:
    for key, view in engines.items():
        if _may_have_anything(view, pods.get(key)):
            return None
        for model in view.models:
            # also below a root that the pod's annotation does not name (any more): better one folder too many
            *_, name, version = ("", "", *model.root.rstrip("/").split("/"))
            if is_fingerprint(version):
                keep.add((name, version))
    return keep


def _may_have_anything(view: EngineView, record: PodRecord | None) -> bool:
    if view.state in (EngineState.UNKNOWN, EngineState.SUSPECT):
        return True
    never_answered = view.state is EngineState.DOWN and not view.release
    return never_answered and record is not None and record.pod.container_running
