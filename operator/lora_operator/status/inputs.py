"""Gathers, for each resource, what its status depends on: from plan, engines and what is under way. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from lora_operator.desired.adapters import Desired, DesiredAdapter, DesiredResource
from lora_operator.engines.liveness import EngineView, instance_of
from lora_operator.informers.holdings import NOTHING, Held
from lora_operator.informers.records import PodRecord
from lora_operator.planning.inflight import Failures, Ledger, Stage
from lora_operator.status.aggregate import AdapterState, StatusInput
from lora_operator.status.answers import Answers
from lora_operator.status.departing import Answering, departing_input
from lora_operator.status.refusals import Reasons
from lora_operator.vllm.engine_state import EngineState
from lora_scheduler import Load, Plan, Reason, Refusal, ReplicaPolicy, Snapshot


@dataclass(frozen=True, slots=True)
class Moment:
    """What is so in one cycle, and what is planned."""

    desired: Desired
    snapshot: Snapshot
    plan: Plan
    pods: Mapping[str, PodRecord]
    engines: Mapping[str, EngineView]
    ledger: Ledger
    failures: Failures


def status_inputs(moment: Moment, held: Callable[[str], Held] = lambda key: NOTHING) -> dict[str, StatusInput]:
    """One StatusInput per resource, also of those that are being deleted. `held`: what is published to be somewhere."""
    states = StatusInputs()
    states.update(moment)
    wanted = {key: states.of(resource) for key, resource in moment.desired.resources.items()}
    return wanted | states.departing(moment.desired, held)


class StatusInputs:
    """Status inputs, round after round: what nothing has changed about is the same object as in the round before.

    `update` takes in a moment, of which `of` and `departing` tell until the next.
    """

    def __init__(self) -> None:
        self.reasons = Reasons()
        self._answers = Answers()
        self._found = _Found(Plan({}, (), (), {}, {}), self._answers, self.reasons, set(), {}, {})
        self._known: dict[str, tuple[DesiredResource, tuple[_Facts, ...], StatusInput]] = {}

    def update(self, moment: Moment) -> None:
        """This is what is so."""
        plan, pods, ledger, resources = moment.plan, moment.pods, moment.ledger, moment.desired.resources
        self._answers.update(pods, moment.engines, ledger)
        self.reasons.update(moment.snapshot, plan)
        self._found = _Found(
            plan, self._answers, self.reasons, _moving(plan, pods, ledger), _fetching(pods, ledger), _failed(moment)
        )
        if len(self._known) > len(resources):
            self._known = {key: known for key, known in self._known.items() if key in resources}

    def of(self, resource: DesiredResource) -> StatusInput:
        """What the status of one resource depends on."""
        key = resource.resource.key
        facts = tuple(self._found.facts(wanted) for wanted in resource.wanted)
        before = self._known.get(key)
        if before is not None and before[0] is resource and before[1] == facts:
            return before[2]
        made = _input(resource, facts)
        self._known[key] = (resource, facts, made)
        return made

    def departing(self, desired: Desired, held: Callable[[str], Held] = lambda key: NOTHING) -> dict[str, StatusInput]:
        """The same of those that are being deleted."""
        return {
            resource.key: departing_input(resource, desired, self._answers.of, held(resource.key))
            for resource in desired.departing
        }


@dataclass(frozen=True, slots=True)
class _Facts:
    """Of one adapter, all that its state depends on beside what is wanted."""

    assigned: int
    missing: int
    moving: bool
    fetched_percent: int | None
    answers: tuple[Answering, ...]
    refusals: tuple[Refusal, ...]
    failed: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    """By adapter, what the round has found."""

    plan: Plan
    answers: Answers
    reasons: Reasons
    moving: set[str]
    fetching: Mapping[str, int]
    failed: Mapping[str, list[Refusal]]

    def facts(self, wanted: DesiredAdapter) -> _Facts:
        adapter = wanted.adapter
        key = adapter.key
        return _Facts(
            len(self.plan.assignments.get(key, ())),
            self.plan.missing.get(key, 0),
            key in self.moving,
            self.fetching.get(key),
            self.answers.of(adapter.namespace, adapter.name),
            self.reasons.of(key),
            tuple(self.failed.get(key, ())),
        )


def _input(resource: DesiredResource, facts: tuple[_Facts, ...]) -> StatusInput:
    spec = resource.resource.spec
    generation = resource.resource.generation
    if resource.source.ready is None:
        # what is said about the source is still about the spec before: a status must not claim more
        generation = resource.resource.published.observed_generation or generation
    deployment = spec.deployment_config if spec is not None else None
    automatic = deployment is not None and deployment.replica_policy is ReplicaPolicy.AUTO
    least = deployment.replicas if deployment is not None and automatic else None
    return StatusInput(
        generation=generation,
        source=resource.source,
        adapters=tuple(_state(wanted, least, each) for wanted, each in zip(resource.wanted, facts, strict=True)),
        rejected=resource.rejected,
        on_demand=resource.on_demand,
        selector=spec.deployment_config.pod_selector.to_string() if spec is not None else "",
    )


def _state(wanted: DesiredAdapter, least: int | None, facts: _Facts) -> AdapterState:
    missing = facts.missing
    if least is not None:
        missing = min(missing, max(least - facts.assigned, 0))
    refusals = {refusal.pod: refusal for refusal in (*facts.refusals, *facts.failed)}
    version = wanted.adapter.version
    replicas = [replica if found == version else replace(replica, current=False) for _, found, replica in facts.answers]
    return AdapterState(
        name=wanted.adapter.name,
        fingerprint=version,
        bytes=wanted.adapter.bytes,
        rank=wanted.adapter.rank,
        wanted=facts.assigned + missing,
        missing=missing,
        moving=facts.moving,
        fetched_percent=facts.fetched_percent,
        replicas=tuple(sorted(replicas, key=lambda c: (c.pod, c.engine_name))),
        refusals=tuple(refusals[pod] for pod in sorted(refusals)),
        least=least,
    )


def _moving(plan: Plan, pods: Iterable[str], ledger: Ledger) -> set[str]:
    """Adapters with replicas that are on their way, or will be."""
    moving = {action.adapter for action in plan.actions if isinstance(action, Load)}
    moving |= {load.adapter for load, _ in plan.waiting}
    return moving | {
        effect.adapter for pod in pods for effect in ledger.on(pod) if effect.is_load and effect.adapter is not None
    }


def _failed(moment: Moment) -> dict[str, list[Refusal]]:
    """By adapter, what is wrong where it has a place; what comes later is said instead of what comes before."""
    failed = _load_failures(moment.desired, moment.pods, moment.failures)
    for pod in moment.snapshot.pods:
        view = moment.engines.get(pod.key)
        if pod.not_ready is not None and (view is None or view.state is not EngineState.SUSPECT):
            # replicas that have their place there, and do not answer
            for resident in pod.residents:
                if resident.adapter is not None and pod.key in moment.plan.assignments.get(resident.adapter, ()):
                    failed.setdefault(resident.adapter, []).append(Refusal(pod.key, *pod.not_ready))
    for load, refusal in moment.plan.waiting:
        failed.setdefault(load.adapter, []).insert(0, refusal)  # first, so that what failed on that pod is said instead
    return failed


def _fetching(pods: Iterable[str], ledger: Ledger) -> dict[str, int]:
    """By adapter, how much of its files is there, on the pod where that is least; only what has begun to come."""
    found: dict[str, int] = {}
    for pod in pods:
        for effect in ledger.on(pod):
            if effect.stage is Stage.FETCHING and effect.adapter is not None and effect.fetched_percent:
                found[effect.adapter] = min(effect.fetched_percent, found.get(effect.adapter, 100))
    return found


def _load_failures(desired: Desired, pods: Mapping[str, PodRecord], failures: Failures) -> dict[str, list[Refusal]]:
    """Failed loads, also those that are just being tried again: a retry is no reason to hide why it is needed."""
    found: dict[str, list[Refusal]] = {}
    for key, record in pods.items():
        for adapter, version, failure in failures.of_pod(key, instance_of(record)):
            wanted = desired.adapters.get(adapter)
            if wanted is not None and wanted.adapter.version == version:
                message = f"{failure.reason}: {failure.message}"
                found.setdefault(adapter, []).append(Refusal(key, Reason.LOAD_FAILED, message))
    return found
