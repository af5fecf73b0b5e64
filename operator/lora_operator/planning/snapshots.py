"""Snapshots, round after round: a pod about which nothing changed is the same object as in the one before, which the
planner passes over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lora_operator.desired.adapters import Desired, DesiredAdapter
from lora_operator.engines.ownership import our_model
from lora_operator.engines.prober import EngineView, instance_of
from lora_operator.informers.records import ANY_OTHER, PodRecord
from lora_operator.planning.inflight import Failures, Ledger
from lora_operator.planning.snapshot import Common, Observed, pod_of
from lora_scheduler import Pod, Reason, Snapshot

Facts = tuple[object, ...]
Unsupported = Mapping[str, tuple[Reason, str]]


@dataclass(frozen=True, slots=True)
class _Known:
    """One pod, and what it was made of. `asked`: sizes had to be asked for, which may be known better by now."""

    record: PodRecord
    view: EngineView
    desired: Desired
    loaded: Facts
    asked: bool
    others: Facts
    pod: Pod


class Snapshots:
    """Takes the snapshots that `take_snapshot` takes."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._common: tuple[Desired, Common] | None = None
        self._unsupported: dict[str, Unsupported] = {}  # by release

    def take(self, desired: Desired, observed: Observed, ledger: Ledger, failures: Failures, now: float) -> Snapshot:
        """See `take_snapshot`."""
        if self._common is None or self._common[0] is not desired:
            self._common = desired, Common(desired)
        common = self._common[1]
        self._unsupported = {
            release: self._unsupported_by(release, common)
            for release in {view.release for view in observed.engines.values()}
        }
        known: dict[str, _Known] = {}
        for key, record in sorted(observed.pods.items()):
            view = observed.engines.get(key)
            if view is not None:
                known[key] = self._pod(record, view, desired, observed, common, ledger, failures, now)
        self._known = known
        return Snapshot(
            tuple(wanted.adapter for wanted in desired.adapters.values()), tuple(each.pod for each in known.values())
        )

    def _unsupported_by(self, release: str, common: Common) -> Unsupported:
        """The same object as before if it says the same: it is compared for each pod."""
        before, now = self._unsupported.get(release), common.unsupported(release)
        return before if before is not None and before == now else now

    def _pod(
        self,
        record: PodRecord,
        view: EngineView,
        desired: Desired,
        observed: Observed,
        common: Common,
        ledger: Ledger,
        failures: Failures,
        now: float,
    ) -> _Known:
        known = self._known.get(record.key)
        if known is not None and (known.record is not record or known.view is not view):
            known = None
        if known is not None and known.desired is desired and not known.asked:
            loaded, asked = known.loaded, False
        else:
            loaded = tuple(_loaded(record, view, desired, observed))
            asked = any(isinstance(fact, _Asked) for fact in loaded)
        others = (
            *_wanted(record, desired, common),
            common.base_model(record),
            self._unsupported[view.release],
            common.left_out(record.pod.target_modules),
            observed.versioned_names,
            observed.key_problems.get(record.key, ""),
            record.key in observed.leaving,
            observed.disk_of(record),
            observed.node_labels.get(record.pod.node or ""),
            *((e.engine_name, e.stage, e.adapter, e.version, e.bytes, e.rank, e.instance)
              for e in ledger.on(record.key)),
            *_failed(record, desired, failures, now),
        )  # fmt: skip
        if known is not None and known.loaded == loaded and known.others == others:
            pod = known.pod
        else:
            pod = pod_of(record, view, desired, observed, common, ledger, failures, now)
        return _Known(record, view, desired, loaded, asked, others, pod)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The size and rank of a version that nobody wants (now)."""

    size: tuple[int, int] | None


def _loaded(record: PodRecord, view: EngineView, desired: Desired, observed: Observed) -> Iterator[object]:
    """What is wanted of the names that the engine lists."""
    namespace, root = record.pod.namespace, record.pod.adapter_root
    for model in view.models:
        ours = our_model(model, root)
        name = model.name if ours is None else ours.name
        wanted = desired.by_name(namespace, name)
        yield _of(wanted)
        if ours is None:
            continue
        if wanted is None:
            yield (namespace, name) in desired.protected
        if wanted is None or wanted.adapter.version != ours.fingerprint:
            yield _Asked(observed.sizes(name, ours.fingerprint))


def _wanted(record: PodRecord, desired: Desired, common: Common) -> Iterator[object]:
    """What is wanted of other names that matter on this pod."""
    namespace = record.pod.namespace
    names = set(record.served) | set(record.pod.base_models)
    if ANY_OTHER in names:
        names.update(common.names(namespace))
    for name in sorted(names):
        yield _of(desired.by_name(namespace, name))


def _failed(record: PodRecord, desired: Desired, failures: Failures, now: float) -> Iterator[object]:
    for adapter, version, failure in failures.of_pod(record.key, instance_of(record)):
        wanted = desired.adapters.get(adapter)
        if wanted is not None and wanted.adapter.version == version:
            lately = failure.passes_at is not None and failure.passes_at > now
            yield adapter, failure.message, failure.next_at > now, lately


def _of(wanted: DesiredAdapter | None) -> object:
    if wanted is None:
        return None
    adapter = wanted.adapter
    return adapter.key, adapter.version, adapter.bytes, adapter.rank
