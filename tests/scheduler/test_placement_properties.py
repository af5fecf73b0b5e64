"""Whatever happens to a fleet, in whatever order, and however much of a plan is carried out: what must always hold.

That no load breaks a limit, goes to a name that is taken or to a pod that takes nothing is asserted by `World` at every
single action.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora_scheduler import (
    Adapter,
    Load,
    Plan,
    Pod,
    Policy,
    PreemptionPolicy,
    ReplicaPolicy,
    Resident,
    ResidentState,
    Snapshot,
    Unload,
    UnloadCause,
    explain,
    plan,
)
from lora_scheduler.filters import DECLARED, LOADABLE, first_refusal, loadable
from lora_scheduler.groups import selects
from lora_scheduler.ledger import PodLedger
from lora_scheduler.model import YIELDING
from tests.scheduler.builders import a_replica
from tests.scheduler.walks import Walk, shuffled
from tests.scheduler.world import World

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines are busy at times


@settings(UNHURRIED, max_examples=100)
@given(seed=st.integers(0, 2**32))
def test_the_quick_filter_says_what_the_ones_with_reasons_say(seed: int) -> None:
    walk = Walk(seed, lambda *_: None)
    walk.live(8)
    for pod in walk.world.pods.values():
        ledger = PodLedger(pod)
        ledger.names["a"] = "b"
        for adapter in walk.world.adapters.values():
            assert loadable(adapter, ledger) is (first_refusal(LOADABLE, adapter, ledger) is None)
            matching = adapter.base_model == pod.base_model and selects(adapter.namespace, adapter.selector, pod)
            assert matching is (first_refusal(DECLARED, adapter, ledger) is None)


@settings(UNHURRIED, max_examples=150)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 40))
def test_a_fleet_never_breaks_a_rule_and_comes_to_rest_whatever_happens(seed: int, steps: int) -> None:
    walk = Walk(seed, check)
    walk.live(steps)
    walk.failures_are_due_again()
    walk.held_pods_are_back()
    made = walk.come_to_rest()
    assert_no_inversion(walk.world.snapshot, made)
    assert_nothing_is_left_over(walk.world, made)


def check(world: World, policy: Policy, made: Plan) -> None:
    """What holds for each plan."""
    snapshot = world.snapshot
    assert made == plan(shuffled(snapshot, len(made.actions)), policy), "the order of the input changed the plan"
    assert len(set(made.actions)) == len(made.actions)
    assert set(made.assignments) == set(world.adapters)
    assert set(made.missing) == set(made.refusals)
    for key, adapter in world.adapters.items():
        assigned, missing = made.assignments[key], made.missing.get(key, 0)
        assert list(assigned) == sorted(set(assigned))
        if adapter.idle:
            assert_it_only_stays(world, made, adapter)
        elif adapter.replica_policy is ReplicaPolicy.FIXED:
            assert len(assigned) + missing == adapter.replicas
        if missing:
            assert [refusal.pod for refusal in made.refusals[key]] == sorted(world.pods)
        assert_update_is_gentle(world, policy, made, adapter)
        assert_no_last_replica_is_surplus(world, made, adapter)
    if world.adapters:
        some = sorted(world.adapters)[0]
        assert [refusal.pod for refusal in explain(some, snapshot, policy)] == sorted(world.pods)


def assert_it_only_stays(world: World, made: Plan, adapter: Adapter) -> None:
    """An adapter that nobody uses lacks nothing, and is nowhere where it was not."""
    key = adapter.key
    assert key not in made.missing and key not in {one.adapter for one in made.actions if isinstance(one, Load)}
    for pod in made.assignments[key]:
        assert any(r.adapter == key and r.version == adapter.version for r in world.pods[pod].residents)


def assert_update_is_gentle(world: World, policy: Policy, made: Plan, adapter: Adapter) -> None:
    """An update takes away no more serving replicas than allowed, and not the last one of several."""
    key = adapter.key
    gone = {(action.pod, action.name): action.cause for action in made.actions if isinstance(action, Unload)}
    loading = {action.pod for action in made.actions if isinstance(action, Load) and action.adapter == key}
    before = after = 0
    given_up = False
    superseded: list[str] = []
    for pod in world.pods.values():
        if not pod.ready or pod.draining:
            continue
        replicas = [r for r in pod.residents if r.owned and r.adapter == key and r.state is ResidentState.LOADED]
        left = [r for r in replicas if (pod.key, r.name) not in gone]
        causes = {gone[pod.key, r.name] for r in replicas if (pod.key, r.name) in gone}
        given_up |= bool(causes & {UnloadCause.PREEMPTED, UnloadCause.SURPLUS})
        before += bool(replicas)
        after += bool(left)
        if replicas and not left and UnloadCause.SUPERSEDED in causes and pod.key in made.assignments[key]:
            superseded.append(pod.key)
    assert len(superseded) <= policy.max_unavailable
    assert not set(superseded) & loading
    if superseded and before >= 2 and not given_up:
        assert after >= 1, f"the update takes away all {before} replicas of {key} that serve"


def assert_no_last_replica_is_surplus(world: World, made: Plan, adapter: Adapter) -> None:
    """Neither a move nor fewer replicas take the last replica that serves: only a pod that does not match any more, or
    is over a limit, may."""
    gone = {(action.pod, action.name): action.cause for action in made.actions if isinstance(action, Unload)}
    serving = [
        (pod, resident)
        for pod in world.pods.values()
        for resident in pod.residents
        if pod.ready and not pod.draining and resident.owned and resident.adapter == adapter.key
        if resident.state is ResidentState.LOADED
    ]
    if (
        serving
        and adapter.replicas
        and not adapter.idle
        and {gone.get((p.key, r.name)) for p, r in serving} == {UnloadCause.SURPLUS}
    ):
        assert all(
            not selects(adapter.namespace, adapter.selector, pod)
            or len(pod.residents) > pod.host_slots
            or not has_bytes_for(pod, pod.residents)
            for pod, _ in serving
        ), f"{adapter.key} loses the last replica that serves"


def assert_no_inversion(snapshot: Snapshot, made: Plan) -> None:
    """At rest, no adapter is refused while there is room, or lower priorities hold the room that it needs."""
    priorities = {adapter.key: adapter.effective_priority for adapter in snapshot.adapters}
    for adapter in snapshot.adapters:
        if not made.missing.get(adapter.key):
            continue
        for pod in snapshot.pods:
            if pod.key in made.assignments[adapter.key] or not could_be_on(adapter, pod):
                continue
            beside = [r for r in pod.residents if not r.owned or r.adapter != adapter.key]
            beside = [r for r in beside if not r.owned or priorities[r.adapter or ""] >= YIELDING]
            if adapter.preemption is PreemptionPolicy.LOWER_PRIORITY:
                beside = [r for r in beside if not r.owned or priorities[r.adapter or ""] >= adapter.effective_priority]
            assert not fits(adapter, pod, beside), f"{adapter.key} is refused on {pod.key}, which has room for it"


def could_be_on(adapter: Adapter, pod: Pod) -> bool:
    return (
        pod.ready
        and not pod.draining
        and (not adapter.selector.match_expressions or "gold" in pod.labels)
        and adapter.rank <= pod.max_rank
        and adapter.name not in {resident.name for resident in pod.residents if not resident.owned}
    )


def fits(adapter: Adapter, pod: Pod, beside: list[Resident]) -> bool:
    return len(beside) < pod.host_slots and has_bytes_for(pod, [*beside, a_replica(adapter)])


def has_bytes_for(pod: Pod, residents: Sequence[Resident]) -> bool:
    """Whether they are within the pod's memory, and those of ours on its disk."""
    ours = [resident.bytes for resident in residents if resident.owned]
    within = pod.memory_bytes is None or sum(resident.bytes for resident in residents) <= pod.memory_bytes
    return within and (pod.disk_bytes is None or sum(ours) <= pod.disk_bytes)


def assert_nothing_is_left_over(world: World, made: Plan) -> None:
    """At rest, what is resident is what was assigned, at the wanted version, or what has nowhere else to go."""
    for pod in world.pods.values():
        if not pod.ready or pod.draining:
            continue
        for resident in pod.residents:
            if not resident.owned:
                continue
            adapter = world.adapters[resident.adapter or ""]
            if pod.key not in made.assignments[adapter.key]:
                follows_demand = (
                    adapter.replica_policy is ReplicaPolicy.AUTO
                )  # and may lack replicas that nobody misses
                assert made.missing.get(adapter.key) or world.serving(adapter.key) <= adapter.replicas or follows_demand
            elif resident.version != adapter.version:
                assert made.waiting, f"{resident} is outdated and nothing is said about it"
