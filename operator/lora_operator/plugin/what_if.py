"""Tries plans out on a snapshot: with other pods, until nothing more happens, and how many pods would do. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from lora_operator.plugin.objects import HOSTNAME
from lora_scheduler import Load, Plan, Pod, Policy, Reason, Snapshot, Unload, plan, simulate

ROUNDS_MAX = 200
MORE_PODS_MAX = 2000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happens from a snapshot on: the actions of each round, and where it ends."""

    rounds: tuple[tuple[Load | Unload, ...], ...]
    end: Snapshot
    last: Plan  # has no actions, unless there were too many rounds

    @property
    def missing(self) -> int:
        """Replicas that have no place in the end."""
        return sum(self.last.missing.values())


@dataclass(frozen=True, slots=True)
class Need:
    """How many more pods like this one give all replicas a place that can be on such pods at all."""

    like: str
    pods: int
    placed: int  # replicas that have a place then and have none now
    enough: bool  # false where more of them do not help any further


def play(snapshot: Snapshot, policy: Policy) -> Outcome:
    """Plan, do all of it, and plan again, until there is nothing to do."""
    rounds: list[tuple[Load | Unload, ...]] = []
    made = plan(snapshot, policy)
    while made.actions and len(rounds) < ROUNDS_MAX:
        rounds.append(made.actions)
        snapshot = simulate(snapshot, made, settle=True)
        made = plan(snapshot, policy)
    return Outcome(tuple(rounds), snapshot, made)


def with_more(snapshot: Snapshot, like: Pod, count: int) -> Snapshot:
    """And `count` empty pods like that one, each on a node of its own in the same zone."""
    taken = {pod.key for pod in snapshot.pods}
    added: list[Pod] = []
    number = 0
    while len(added) < count:
        number += 1
        key = f"{like.key}-more-{number}"
        if key not in taken:
            added.append(_empty(like, key))
    return replace(snapshot, pods=(*snapshot.pods, *added))


def _empty(like: Pod, key: str) -> Pod:
    node = f"node-of-{key.rpartition('/')[2]}"
    return replace(
        like,
        key=key,
        node=node,
        node_labels={**like.node_labels, HOSTNAME: node},
        residents=(),
        ready=True,
        held=False,
        draining=False,
        not_ready=None,
        side_by_side=frozenset(),
    )


def without(snapshot: Snapshot, gone: Collection[str]) -> Snapshot:
    """As if these pods had never been."""
    adapters = tuple(replace(a, previous_pods=a.previous_pods - frozenset(gone)) for a in snapshot.adapters)
    return Snapshot(adapters, tuple(pod for pod in snapshot.pods if pod.key not in gone))


def kinds(pods: Iterable[Pod]) -> list[Pod]:
    """One pod of each kind that may take adapters: what differs in limits, base model or labels is another kind."""
    found: dict[object, Pod] = {}
    for pod in pods:
        if pod.base_model and not pod.draining:
            found.setdefault(kind_of(pod), pod)
    return list(found.values())


# labels that a controller gives to each of its pods, or to each generation of them, and the API server (since 1.35) by
# the node
_OWN_LABELS = ("statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index", "controller-revision-hash",
               "pod-template-hash", "topology.kubernetes.io/zone", "topology.kubernetes.io/region")  # fmt: skip


def kind_of(pod: Pod) -> object:
    """What two pods have in common that are as good as each other."""
    labels = tuple(sorted((key, value) for key, value in pod.labels.items() if key not in _OWN_LABELS))
    return pod.namespace, pod.base_model, pod.host_slots, pod.max_rank, pod.memory_bytes, pod.gpu_slots, labels


def needs(snapshot: Snapshot, policy: Policy, like: Pod | None) -> list[Need]:
    """How many more pods give a place to what has none, kind by kind; `like`: of this kind alone.

    A kind is tried with all pods of the kinds before it: what one of them can take, none of the others needs to.
    """
    found: list[Need] = []
    for kind in kinds(snapshot.pods) if like is None else [like]:
        missing = _missing(snapshot, policy)
        need = _need(snapshot, policy, kind, missing) if missing else None
        if need is not None:
            found.append(need)
            snapshot = with_more(snapshot, kind, need.pods)
    return found


def _need(snapshot: Snapshot, policy: Policy, kind: Pod, missing: int) -> Need | None:
    """None where no number of such pods gives a place to anything that has none."""

    def lacking(count: int) -> int:
        return _missing(with_more(snapshot, kind, count), policy)

    most = min(
        missing, MORE_PODS_MAX
    )  # a pod takes one of these replicas at least, or none of them however many it are
    least = lacking(most)
    if least >= missing:
        return None
    return Need(kind.key, _fewest(lambda count: lacking(count) <= least, 1, most), missing - least, least == 0)


def _fewest(enough: Callable[[int], bool], low: int, high: int) -> int:
    """The smallest number of which `enough` holds, which it does of `high`."""
    while low < high:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _missing(snapshot: Snapshot, policy: Policy) -> int:
    return play(snapshot, policy).missing


# of no use to somebody who asks why there is no place: another replica of the same adapter is there
NO_OBSTACLE = frozenset({Reason.ALREADY_PLACED, Reason.NOT_WANTED})
