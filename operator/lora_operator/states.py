"""Gathers, for each resource, what its status depends on: from plan, engines and what is under way. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from lora_operator.departing import Answering, departing_input
from lora_operator.desired import Desired, DesiredResource, Wanted
from lora_operator.inflight import Failures, Ledger, Stage
from lora_operator.observe.cluster import PodRecord
from lora_operator.observe.engines import EngineState, EngineView, incarnation_of
from lora_operator.observe.holdings import NOTHING, Held
from lora_operator.snapshot import our_model
from lora_operator.status import AdapterState, Copy, StatusInput
from lora_operator.vllm.client import Endpoint
from lora_scheduler import Load, Plan, Reason, Refusal, ReplicaPolicy, Snapshot


def status_inputs(
    desired: Desired,
    snapshot: Snapshot,
    plan: Plan,
    pods: Mapping[str, PodRecord],
    engines: Mapping[str, EngineView],
    ledger: Ledger,
    failures: Failures,
    held: Callable[[str], Held] = lambda key: NOTHING,
) -> dict[str, StatusInput]:
    """One StatusInput per resource, also of those that are being deleted. `held`: what is published to be somewhere."""
    answering = _answering(pods, engines, ledger)
    copies = _copies(desired, answering)
    moving = {action.adapter for action in plan.actions if isinstance(action, Load)}
    moving |= {load.adapter for load, _ in plan.waiting}
    moving |= {
        effect.adapter for pod in pods for effect in ledger.on(pod) if effect.is_load and effect.adapter is not None
    }
    fetching = _fetching(pods, ledger)
    failed = _load_failures(desired, pods, failures)
    for pod in snapshot.pods:
        if pod.not_ready is not None:
            # copies that have their place there, and do not answer for the moment
            for resident in pod.residents:
                if resident.adapter is not None and pod.key in plan.assignments.get(resident.adapter, ()):
                    failed.setdefault(resident.adapter, []).append(Refusal(pod.key, *pod.not_ready))
    for load, refusal in plan.waiting:
        failed.setdefault(load.adapter, []).insert(0, refusal)  # first, so that what failed on that pod is said instead
    inputs = {
        key: _input(resource, plan, copies, moving, fetching, failed) for key, resource in desired.resources.items()
    }
    return inputs | {r.key: departing_input(r, desired, answering, held(r.key)) for r in desired.departing}


def _input(
    resource: DesiredResource,
    plan: Plan,
    copies: Mapping[str, list[Copy]],
    moving: set[str],
    fetching: Mapping[str, int],
    failed: Mapping[str, list[Refusal]],
) -> StatusInput:
    spec = resource.resource.spec
    generation = resource.resource.generation
    if resource.source.ready is None:
        # what is said about the source is still about the spec before: a status must not claim more
        generation = int(resource.resource.status.get("observedGeneration") or generation)
    deployment = spec.deployment_config if spec is not None else None
    automatic = deployment is not None and deployment.replica_policy is ReplicaPolicy.AUTO
    least = deployment.replicas if deployment is not None and automatic else None
    return StatusInput(
        generation=generation,
        source=resource.source,
        adapters=tuple(_state(wanted, least, plan, copies, moving, fetching, failed) for wanted in resource.wanted),
        rejected=resource.rejected,
        on_demand=resource.on_demand,
        selector=spec.deployment_config.pod_selector.to_string() if spec is not None else "",
    )


def _state(
    wanted: Wanted,
    least: int | None,
    plan: Plan,
    copies: Mapping[str, list[Copy]],
    moving: set[str],
    fetching: Mapping[str, int],
    failed: Mapping[str, list[Refusal]],
) -> AdapterState:
    key = wanted.adapter.key
    assigned = plan.assignments.get(key, ())
    missing = plan.missing.get(key, 0)
    if least is not None:
        missing = min(missing, max(least - len(assigned), 0))
    refusals = {refusal.pod: refusal for refusal in plan.refusals.get(key, ())}
    refusals |= {refusal.pod: refusal for refusal in failed.get(key, ())}
    return AdapterState(
        name=wanted.adapter.name,
        fingerprint=wanted.adapter.version,
        bytes=wanted.adapter.bytes,
        rank=wanted.adapter.rank,
        wanted=len(assigned) + missing,
        missing=missing,
        moving=key in moving,
        fetched_percent=fetching.get(key),
        copies=tuple(sorted(copies.get(key, ()), key=lambda c: (c.pod, c.engine_name))),
        refusals=tuple(refusals[pod] for pod in sorted(refusals)),
        least=least,
    )


def _fetching(pods: Iterable[str], ledger: Ledger) -> dict[str, int]:
    """By adapter, how much of its files is there, on the pod where that is least; only what has begun to come."""
    found: dict[str, int] = {}
    for pod in pods:
        for effect in ledger.on(pod):
            if effect.stage is Stage.FETCHING and effect.adapter is not None and effect.fetched_percent:
                found[effect.adapter] = min(effect.fetched_percent, found.get(effect.adapter, 100))
    return found


def _answering(
    pods: Mapping[str, PodRecord], engines: Mapping[str, EngineView], ledger: Ledger
) -> tuple[Answering, ...]:
    """What answers now: listed by an engine that is up, and not being withdrawn."""
    found: list[Answering] = []
    for key, record in pods.items():
        view = engines.get(key)
        # an engine that was told to end refuses requests at once, though it may be listening when it is looked at
        if view is None or view.state is not EngineState.UP or record.pod.terminating:
            continue
        if view.incarnation != incarnation_of(record):
            continue  # the last look was at an earlier container
        leaving = {effect.engine_name for effect in ledger.on(key) if not effect.is_load}
        for model in view.models:
            ours = our_model(model, record.pod.adapter_root)
            if ours is None or ours.engine_name in leaving:
                continue
            address = str(Endpoint(record.pod.ip or "", record.pod.port))
            copy = Copy(key, address, ours.engine_name, current=True, container=record.pod.container_mark)
            found.append((ours.name, ours.fingerprint, copy))
    return tuple(found)


def _copies(desired: Desired, answering: Iterable[Answering]) -> dict[str, list[Copy]]:
    """By adapter, the copies of whatever version."""
    found: dict[str, list[Copy]] = {}
    for name, fingerprint, copy in answering:
        wanted = desired.by_name(copy.pod.partition("/")[0], name)
        if wanted is not None:
            current = fingerprint == wanted.adapter.version
            found.setdefault(wanted.adapter.key, []).append(copy if current else replace(copy, current=False))
    return found


def _load_failures(desired: Desired, pods: Mapping[str, PodRecord], failures: Failures) -> dict[str, list[Refusal]]:
    """Failed loads, also those that are just being tried again: a retry is no reason to hide why it is needed."""
    found: dict[str, list[Refusal]] = {}
    for key, record in pods.items():
        for adapter, version, failure in failures.of_pod(key, incarnation_of(record)):
            wanted = desired.adapters.get(adapter)
            if wanted is not None and wanted.adapter.version == version:
                message = f"{failure.reason}: {failure.message}"
                found.setdefault(adapter, []).append(Refusal(key, Reason.LOAD_FAILED, message))
    return found
