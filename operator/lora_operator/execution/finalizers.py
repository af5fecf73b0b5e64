"""Finalizers: a deleted LoraAdapter stays until the engines have let go of it, and never for ever.

A pod that is gone has let go. An engine that does not answer is waited for up to a deadline; then the resource is
released and an Event says what may still be loaded where (the loop unloads it when the engine is back).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from lora_operator.api.well_known import FINALIZER
from lora_operator.desired.adapters import Desired
from lora_operator.engines.liveness import EngineView
from lora_operator.engines.ownership import our_model
from lora_operator.informers.cache import Cluster
from lora_operator.informers.holdings import NOTHING, Held, known_of
from lora_operator.informers.records import PodRecord, Resource, asks_the_same
from lora_operator.kube.client import Kube, KubeError
from lora_operator.kube.events import Recorder
from lora_operator.kube.own_writes import LORA_ADAPTER, OwnWrites
from lora_operator.kube.write_queue import FINALIZER_WRITE, NotSo, Priority, Writes
from lora_operator.planning.inflight import Ledger
from lora_operator.vllm.engine_state import EngineState
from lora_operator.vllm.errors import EngineTimeout, EngineUnreachable

log = logging.getLogger(__name__)


class Finalizers:
    """Adds ours to every resource that lacks it, and takes it away when nothing is left on any pod."""

    def __init__(
        self,
        kube: Kube,
        cluster: Cluster,
        writes: Writes,
        recorder: Recorder,
        *,
        deadline_seconds: float,
        own_writes: OwnWrites | None = None,
    ) -> None:
        self._kube = kube
        self._own_writes = own_writes or OwnWrites()
        self._cluster = cluster
        self._writes = writes
        self._recorder = recorder
        self._deadline = deadline_seconds
        self._wanted: dict[str, bool] = {}  # whether it should be there, where that is not so
        self._waiting_until: dict[str, float] = {}

    def update(
        self,
        resources: Iterable[Resource],
        desired: Desired,
        pods: Mapping[str, PodRecord],
        engines: Mapping[str, EngineView],
        ledger: Ledger,
        held: Callable[[str], Held] = lambda key: NOTHING,
    ) -> None:
        """Decide for every resource; writes happen beside the loop. `held`: what is published to be somewhere."""
        self._waiting_until.clear()
        before, self._wanted = self._wanted, {}
        now = time.time()
        found: Leftovers | None = None
        for resource in resources:
            if resource.deleted_at is None:
                # nothing is loaded for a spec that cannot be read, and the API server may refuse all changes of it
                if not resource.finalized and resource.spec is not None:
                    self._wanted[resource.key] = True
                continue
            if not resource.finalized:
                continue
            found = found or Leftovers(desired, pods, engines, ledger)
            left = found.of(resource, held(resource.key))
            deadline = resource.deleted_at + self._deadline
            if not left:
                self._wanted[resource.key] = False
            elif now >= deadline:
                text = (
                    f"released after {self._deadline:g} s though these could not be unloaded: {', '.join(left)[:700]}"
                )
                if before.get(resource.key) is None:
                    log.warning("LoraAdapter %s %s", resource.key, text, extra={"resource": resource.key})
                self._recorder.emit(resource, "Warning", "ReleasedWithoutUnload", text)
                self._wanted[resource.key] = False
            else:
                self._waiting_until[resource.key] = deadline
        for key, wanted in self._wanted.items():
            if before.get(key) != wanted or (FINALIZER_WRITE, key) not in self._writes:
                # somebody waits for one that goes: status that is always news must not keep it for ever
                priority = Priority.FINALIZER if wanted else Priority.STATUS
                self._writes.put((FINALIZER_WRITE, key), partial(self._write, key), priority)

    def next_deadline(self) -> float | None:
        """Wall-clock time at which the first waiting deletion is released."""
        return min(self._waiting_until.values(), default=None)

    async def _write(self, key: str) -> None:
        """Add or remove ours, as the last round wants it. Raises KubeError."""
        resource, wanted = self._cluster.adapters.get(key), self._wanted.get(key)
        if resource is None or wanted is None or resource.finalized == wanted:
            return
        if wanted is (resource.deleted_at is not None):  # it has the name of the one that this was decided for
            return
        patch = self._kube.add_finalizer if wanted else self._kube.remove_finalizer
        with self._own_writes.writing((LORA_ADAPTER, key)) as own:
            try:
                body = await patch(resource.namespace, resource.name, resource.uid, resource.finalizers)
            except KubeError as error:
                if error.status != 404:
                    raise
                own.news = True
                metadata = {"namespace": resource.namespace, "name": resource.name, "uid": resource.uid}
                self._cluster.adapters.drop({"metadata": metadata})
                return
            metadata = body["metadata"]
            if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
                self._cluster.adapters.drop(body)  # that was the last thing that held it
                own.news = True
                return
            self._cluster.adapters.put(body)
            known = self._cluster.adapters.get(key)
            same = known is not None and asks_the_same(resource, known) and known.status == resource.status
            own.news = not same or not self._cluster.adapters.is_at(body) or not wanted
            if (FINALIZER in (metadata.get("finalizers") or ())) != wanted:
                raise NotSo(f"its finalizers are {metadata.get('finalizers')} after the write")


class Leftovers:
    """What of deleted resources is still on pods. Every engine is gone through once, however many are being deleted."""

    def __init__(
        self,
        desired: Desired,
        pods: Mapping[str, PodRecord],
        engines: Mapping[str, EngineView],
        ledger: Ledger,
    ) -> None:
        self._held: dict[tuple[str, str], list[str]] = {}  # pods, by namespace and adapter
        self._loads: dict[str, list[str]] = {}  # under way, by resource
        self._silent: list[PodRecord] = []
        for key, record in pods.items():
            if record.pod.terminating:
                continue
            namespace, pod, view = record.pod.namespace, record.pod.name, engines.get(key)
            self._silent += [record] if _is_silent(record, view) else []
            for model in view.models if view is not None and view.state is not EngineState.STARTING else ():
                ours = our_model(model, record.pod.adapter_root)
                if ours is not None and desired.by_name(namespace, ours.name) is None:
                    self._held.setdefault((namespace, ours.name), []).append(pod)
            for effect in ledger.on(key):
                if effect.reads_files:
                    owner = "/".join((effect.adapter or "").split("/")[:2])
                    self._loads.setdefault(owner, []).append(f"{effect.engine_name} on {pod}")

    def of(self, resource: Resource, held: Held = NOTHING) -> list[str]:
        """`adapter on pod` for each replica that is still there because of it (and not wanted by another). `held`: what
        is published to be somewhere.

        Where its status was cut, what nobody wants may be its own: an adapter that is withdrawn is named nowhere else.
        """
        names = resource.published.names | known_of(resource.published, held).keys()
        names |= {name for assignment in resource.published.pod_assignments for name in assignment.adapters}
        if resource.published.lacks_names:
            names |= {name for namespace, name in self._held if namespace == resource.namespace}
        left = {f"{name} on {pod}" for name in names for pod in self._held.get((resource.namespace, name), ())}
        left.update(self._loads.get(resource.key, ()))
        for record in self._silent if names else ():
            if record.pod.namespace == resource.namespace and _may_hold(resource, record):
                left.add(f"whatever {record.pod.name} holds, as its engine does not say")
        return sorted(left)


def _may_hold(resource: Resource, record: PodRecord) -> bool:
    return resource.spec is None or resource.spec.base_model in record.pod.base_models


def _is_silent(record: PodRecord, view: EngineView | None) -> bool:
    """Whether the pod's engine runs, and has not answered since this operator started."""
    if view is None or view.release or not record.pod.container_running:
        return False
    silent = view.state is EngineState.DOWN and view.reason in (EngineTimeout.reason, EngineUnreachable.reason)
    return silent or view.state in (EngineState.UNKNOWN, EngineState.SUSPECT)
