"""What no method can beat, by linear programming (HiGHS, as scipy has it), and by integer programming on small fleets.

Pods of one kind (base model, highest rank) are taken together, which makes the programs small and the bounds, if
anything, kinder to nobody: whatever can be placed on pods can be placed on their sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import coo_matrix, csr_matrix, hstack, identity, vstack

from bench.placement.quality import budget_bytes, usable
from lora_scheduler import Adapter, Snapshot


@dataclass(frozen=True, slots=True)
class _Kind:
    """Pods of one kind: how many, and their room together."""

    base_model: str
    max_rank: int
    pods: int
    slots: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Program:
    """Variables: how many replicas of an adapter are on a kind of pods, for all pairs that match."""

    adapters: tuple[Adapter, ...]
    kinds: tuple[_Kind, ...]
    pairs: tuple[tuple[int, int], ...]  # adapter, kind

    @classmethod
    def of(cls, snapshot: Snapshot) -> _Program:
        kinds: dict[tuple[str, int], _Kind] = {}
        for pod in snapshot.pods:
            if usable(pod):
                key = (pod.base_model, pod.max_rank)
                known = kinds.get(key, _Kind(*key, 0, 0, 0))
                memory = known.bytes + budget_bytes(pod)
                kinds[key] = _Kind(*key, known.pods + 1, known.slots + pod.host_slots, memory)
        ordered = tuple(kinds[key] for key in sorted(kinds))
        pairs = tuple(
            (number, kind_number)
            for number, adapter in enumerate(snapshot.adapters)
            for kind_number, kind in enumerate(ordered)
            if adapter.base_model == kind.base_model and adapter.rank <= kind.max_rank
        )
        return cls(snapshot.adapters, ordered, pairs)

    def capacity(self) -> tuple[csr_matrix, np.ndarray]:
        """Rows: slots and bytes of each kind, replicas of each adapter."""
        kinds, many = len(self.kinds), len(self.pairs)
        rows, values = [], []
        for number, kind in self.pairs:
            adapter = self.adapters[number]
            rows += [kind, kinds + kind, 2 * kinds + number]
            values += [1.0, adapter.bytes / (1 << 20), 1.0]
        columns = [pair for pair in range(many) for _ in range(3)]
        shape = (2 * kinds + len(self.adapters), many)
        limits = [
            *(float(kind.slots) for kind in self.kinds),
            *(kind.bytes / (1 << 20) for kind in self.kinds),
            *(float(adapter.replicas) for adapter in self.adapters),
        ]
        return csr_matrix(coo_matrix((values, (rows, columns)), shape=shape)), np.array(limits)

    def most(self) -> list[tuple[float, float]]:
        return [(0.0, min(self.adapters[n].replicas, self.kinds[k].pods)) for n, k in self.pairs]

    def maximum(self, worth: Callable[[Adapter], float]) -> float:
        """The largest worth that can be placed, `worth` being that of one replica."""
        if not self.pairs:
            return 0.0
        matrix, limits = self.capacity()
        gains = np.array([worth(self.adapters[number]) for number, _ in self.pairs])
        return _largest(gains, matrix, limits, self.most())

    def with_first_replicas(self) -> tuple[csr_matrix, np.ndarray, list[tuple[float, float]]]:
        """The same with one more variable for each adapter: how much of a first replica it has. (constraints, their
        limits, the range of each variable)"""
        matrix, limits = self.capacity()
        many, adapters = len(self.pairs), len(self.adapters)
        placed = coo_matrix(([-1.0] * many, ([number for number, _ in self.pairs], range(many))), (adapters, many))
        wider = vstack(
            [
                hstack([matrix, csr_matrix((matrix.shape[0], adapters))]),
                hstack([placed, identity(adapters)]),
            ]
        )
        first = [(0.0, min(1.0, adapter.replicas)) for adapter in self.adapters]
        return csr_matrix(wider), np.append(limits, np.zeros(adapters)), [*self.most(), *first]


def _largest(gains: np.ndarray, matrix: csr_matrix, limits: np.ndarray, ranges: list[tuple[float, float]]) -> float:
    solved = linprog(-gains, A_ub=matrix, b_ub=limits, bounds=ranges, method="highs")
    if not solved.success:
        raise RuntimeError(f"HiGHS found no maximum over {len(gains)} variables: {solved.message}")
    return float(-solved.fun)


def share(adapter: Adapter) -> float:
    """The load of one replica when all are there, in requests per second."""
    return (1.0 if adapter.demand is None else adapter.demand) / max(adapter.replicas, 1)


def most_demand(snapshot: Snapshot, weight: Callable[[int], float] = lambda priority: 1.0) -> float:
    """The largest Σ weight(priority) × demand that can be placed, replicas being divisible."""
    return _Program.of(snapshot).maximum(lambda adapter: weight(adapter.priority) * share(adapter))


def most_demand_strictly(snapshot: Snapshot) -> dict[int, float]:
    """Per priority, the most demand that can be placed by the rules: after all higher priorities got theirs, first
    replicas bring as much as they can, and then further ones bring what they can beside those."""
    program = _Program.of(snapshot)
    reached = dict.fromkeys(sorted({adapter.priority for adapter in snapshot.adapters}, reverse=True), 0.0)
    if not program.pairs:
        return reached
    matrix, limits, ranges = program.with_first_replicas()
    for priority in reached:
        mine = [share(adapter) * (adapter.priority == priority) for adapter in program.adapters]
        of_first = np.array([*[0.0] * len(program.pairs), *mine])
        of_all = np.array([*(mine[number] for number, _ in program.pairs), *[0.0] * len(mine)])
        for gains in (of_first, of_all):
            reached[priority] = _largest(gains, matrix, limits, ranges)
            matrix = csr_matrix(vstack([matrix, csr_matrix(-gains)]))
            # what HiGHS found itself is within its tolerance only
            limits = np.append(limits, -reached[priority] * (1 - 1e-6))
    return reached


def fewest_missing(snapshot: Snapshot) -> int:
    """How many replicas at least lack a place."""
    wanted = sum(adapter.replicas for adapter in snapshot.adapters)
    return math.ceil(wanted - _Program.of(snapshot).maximum(lambda adapter: 1.0) - 1e-6)


def least_largest_load(snapshot: Snapshot) -> float:
    """The smallest possible largest load of a pod when all replicas are placed, in requests per second.

    At least the mean and the largest replica; more where ranks or room force load onto some kinds of pods. Infinite
    where not even divisible replicas can all be placed.
    """
    program = _Program.of(snapshot)
    matrix, limits = program.capacity()
    kinds, many = len(program.kinds), len(program.pairs)
    shares = [share(program.adapters[number]) for number, _ in program.pairs]
    load_rows = coo_matrix((shares, ([kind for _, kind in program.pairs], range(many))), shape=(kinds, many))
    top = np.array([[-float(kind.pods)] for kind in program.kinds])
    upper = np.block(
        [
            [matrix[: 2 * kinds].toarray(), np.zeros((2 * kinds, 1))],
            [load_rows.toarray(), top],
        ]
    )
    equal = np.hstack([matrix[2 * kinds :].toarray(), np.zeros((len(program.adapters), 1))])
    solved = linprog(
        np.append(np.zeros(many), 1.0), A_ub=csr_matrix(upper), b_ub=np.append(limits[: 2 * kinds], np.zeros(kinds)),
        A_eq=csr_matrix(equal), b_eq=limits[2 * kinds :], bounds=[*program.most(), (0.0, None)], method="highs",
    )  # fmt: skip
    return max(float(solved.fun), max(shares, default=0.0)) if solved.success else math.inf


def whole_largest_load(snapshot: Snapshot, seconds: float) -> tuple[float | None, float]:
    """(largest load of the best assignment found, proven lower bound) of whole replicas on whole pods within the
    time."""
    matrix, lower, upper, allowed = _whole(snapshot)
    adapters, width = snapshot.adapters, len(allowed) // len(snapshot.adapters)
    many = len(allowed)
    loads = coo_matrix(
        (
            [*(share(adapter) for adapter in adapters for _ in range(width)), *[-1.0] * width],
            ([*list(range(width)) * len(adapters), *range(width)], [*range(many), *[many] * width]),
        ),
        shape=(width, many + 1),
    )
    replicas = [float(adapter.replicas) for adapter in adapters]
    wider = csr_matrix(hstack([matrix, csr_matrix((matrix.shape[0], 1))]))
    solved = milp(
        np.append(np.zeros(many), 1.0),
        constraints=[
            LinearConstraint(wider, [*replicas, *lower[len(replicas) :]], upper),
            LinearConstraint(csr_matrix(loads), -np.inf, 0.0),
        ],
        integrality=np.append(np.ones(many), 0),
        bounds=Bounds(np.zeros(many + 1), np.append(allowed, np.inf)),
        options={"time_limit": seconds},
    )
    found = None if solved.x is None else float(solved.fun)
    return found, float(solved.mip_dual_bound or 0.0)


def whole_fewest_missing(snapshot: Snapshot, seconds: float) -> tuple[int, int]:
    """(replicas that lack in the best assignment found, proven fewest) of whole replicas on whole pods within the
    time."""
    matrix, lower, upper, allowed = _whole(snapshot)
    wanted = sum(adapter.replicas for adapter in snapshot.adapters)
    solved = milp(
        -np.ones(len(allowed)),
        constraints=LinearConstraint(matrix, lower, upper),
        integrality=np.ones(len(allowed)),
        bounds=Bounds(0.0, np.array(allowed)),
        options={"time_limit": seconds},
    )
    found = wanted if solved.x is None else wanted + round(solved.fun)
    return found, max(0, math.ceil(wanted + float(solved.mip_dual_bound or -wanted) - 1e-6))


def _whole(snapshot: Snapshot) -> tuple[csr_matrix, list[float], list[float], list[float]]:
    """Constraints on whether an adapter is on a pod: rows for replicas, slots, MiB; and which pairs are allowed."""
    adapters, pods = snapshot.adapters, [pod for pod in snapshot.pods if usable(pod)]
    rows, values = [], []
    for number, adapter in enumerate(adapters):
        for place in range(len(pods)):
            rows += [number, len(adapters) + place, len(adapters) + len(pods) + place]
            values += [1.0, 1.0, adapter.bytes / (1 << 20)]
    many = len(adapters) * len(pods)
    columns = [pair for pair in range(many) for _ in range(3)]
    upper = [
        *(float(adapter.replicas) for adapter in adapters),
        *(float(pod.host_slots) for pod in pods),
        *(budget_bytes(pod) / (1 << 20) for pod in pods),
    ]
    allowed = [float(adapter.rank <= pod.max_rank) for adapter in adapters for pod in pods]
    matrix = csr_matrix(coo_matrix((values, (rows, columns)), shape=(len(upper), many)))
    return matrix, [0.0] * len(upper), upper, allowed
