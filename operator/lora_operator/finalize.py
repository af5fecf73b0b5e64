"""Finalizers: a deleted LoraAdapter stays until the engines have let go of it, and never for ever.

A pod that is gone has let go. An engine that does not answer is waited for up to a deadline; then the resource is
released and an Event says what may still be loaded where (the loop unloads it when the engine is back).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping

from lora_operator.desired import Desired
from lora_operator.events import Recorder
from lora_operator.inflight import Ledger
from lora_operator.kube import Kube, KubeError
from lora_operator.observe.cluster import Cluster, PodRecord, Resource
from lora_operator.observe.engines import EngineState, EngineView
from lora_operator.observe.holdings import NOTHING, Held, known_of, lacks_names
from lora_operator.settings import FINALIZER
from lora_operator.snapshot import our_model
from lora_operator.vllm.errors import EngineTimeout, EngineUnreachable

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


class Finalizers:
    """Adds ours to every resource that lacks it, and takes it away when nothing is left on any pod."""

    def __init__(
        self,
        kube: Kube,
        cluster: Cluster,
        recorder: Recorder,
        *,
        deadline_seconds: float,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._kube = kube
        self._changed = changed
        self._cluster = cluster
        self._recorder = recorder
        self._deadline = deadline_seconds
        self._tasks: dict[str, asyncio.Task[None]] = {}
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
        now = time.time()
        for resource in list(resources):
            if resource.key in self._tasks:
                continue
            if resource.deleted_at is None:
                # nothing is loaded for a spec that cannot be read, and the API server may refuse all changes of it
                if not resource.finalized and resource.spec is not None:
                    self._write(resource, [FINALIZER])
                continue
            if not resource.finalized:
                continue
            left = leftovers(resource, desired, pods, engines, ledger, held(resource.key))
            deadline = resource.deleted_at + self._deadline
            if not left:
                self._write(resource, [])
            elif now >= deadline:
                text = (
                    f"released after {self._deadline:g} s though these could not be unloaded: {', '.join(left)[:700]}"
                )
                log.warning("LoraAdapter %s %s", resource.key, text, extra={"resource": resource.key})
                self._recorder.emit(resource, "Warning", "ReleasedWithoutUnload", text)
                self._write(resource, [])
            else:
                self._waiting_until[resource.key] = deadline

    def next_deadline(self) -> float | None:
        """Wall-clock time at which the first waiting deletion is released."""
        return min(self._waiting_until.values(), default=None)

    async def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _write(self, resource: Resource, finalizers: list[str]) -> None:
        async def run() -> None:
            try:
                body = await self._kube.apply_finalizers(resource.namespace, resource.name, resource.uid, finalizers)
                metadata = body["metadata"]
                if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
                    self._cluster.adapters.drop(body)  # that was the last thing that held it
                else:
                    self._cluster.adapters.put(body)
            except KubeError as error:
                if error.status == 404:
                    self._cluster.adapters.drop(
                        {"metadata": {"namespace": resource.namespace, "name": resource.name, "uid": resource.uid}}
                    )
                else:
                    log.warning("finalizer of %s was not written, again soon: %s", resource.key, error)
                    await asyncio.sleep(RETRY_SECONDS)
            finally:
                self._tasks.pop(resource.key, None)
                self._changed()  # what came in the meantime was left for now

        self._tasks[resource.key] = asyncio.create_task(run(), name=f"finalizer {resource.key}")


def leftovers(
    resource: Resource,
    desired: Desired,
    pods: Mapping[str, PodRecord],
    engines: Mapping[str, EngineView],
    ledger: Ledger,
    held: Held = NOTHING,
) -> list[str]:
    """`adapter on pod` for each copy that is still there because of this resource (and not wanted by another).

    Where its status was cut, what nobody wants may be its own: an adapter that is withdrawn is named nowhere else.
    """
    names = {str(item.get("name")) for item in resource.status.get("adapters") or ()}
    names |= known_of(resource.status, held).keys()
    for assignment in resource.status.get("podAssignments") or ():
        names |= {str(name) for name in assignment.get("adapters") or ()}
    cut = lacks_names(resource.status)
    left: list[str] = []
    for key, record in pods.items():
        if record.pod.namespace != resource.namespace or record.pod.terminating:
            continue
        view = engines.get(key)
        models = view.models if view is not None and view.state is not EngineState.STARTING else ()
        if (names or cut) and _may_hold(resource, record, view):
            left.append(f"whatever {record.pod.name} holds, as its engine does not say")
        for model in models:
            ours = our_model(model, record.pod.adapter_root)
            its_own = ours is not None and (cut or ours.name in names)
            if ours is not None and its_own and desired.by_name(resource.namespace, ours.name) is None:
                left.append(f"{ours.name} on {record.pod.name}")
        for effect in ledger.on(key):
            if effect.is_load and (effect.adapter or "").startswith(f"{resource.key}/"):
                left.append(f"{effect.engine_name} on {record.pod.name}")
    return sorted(set(left))


def _may_hold(resource: Resource, record: PodRecord, view: EngineView | None) -> bool:
    """Whether the pod's engine runs, could hold the adapters, and has not answered since this operator started."""
    if view is None or view.release or not record.pod.container_running:
        return False
    if resource.spec is not None and resource.spec.base_model not in record.pod.base_models:
        return False
    silent = view.state is EngineState.DOWN and view.reason in (EngineTimeout.reason, EngineUnreachable.reason)
    return silent or view.state is EngineState.UNKNOWN
