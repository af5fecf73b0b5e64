"""From records to the table of goals: what the library reached, and the best baseline on the same inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.figures import Figure, percentile
from bench.placement.contenders import OURS, REPAIR_ONLY
from bench.placement.records import Record
from bench.placement.special import GOALS_MS

Read = Callable[[Record], float | None]
FULL_SOLVE_MS = {"100×10": 5.0, "1,000×100": 30.0, "10,000×1,000": 300.0}
EVENT_P99_MS = 5.0
CROWDED_EVENT_MS = 10.0
CROWDED_SOLVE_MS = {"cold at 98 % use": 600.0, "cold at 130 %, 4 priorities": 1500.0}
SUMMED = ("loads", "minimum", "to_even_out", "missing")


def figures(records: Sequence[Record]) -> list[Figure]:
    """One per goal, in the order of the design's table; those without records are left out."""
    made = [
        *_cold(records), *_oversubscribed(records), *_arrivals(records), *_churn(records), *_auto(records),
        *_quiet(records), *_timings(records), *_events(records), *_special(records), *_limits(records),
    ]  # fmt: skip
    return [figure for figure in made if figure.values]


def chosen(records: Iterable[Record], section: str, **wanted: object) -> list[Record]:
    """Records of a section whose fields have these values."""
    return [one for one in records if one["section"] == section and all(one.get(key) == v for key, v in wanted.items())]


def _cold(records: Sequence[Record]) -> Iterator[Figure]:
    known = [one for one in chosen(records, "cold") if one["least_missing"] is not None and one["zipf"] > 0]
    for mixed, what in ((False, "equal pods"), (True, "mixed pods")):
        yield _compared(
            f"largest load ÷ least possible, cold, {what}", [one for one in known if one["mixed"] is mixed],
            of_bound, "<= 1.01", lambda worst: worst <= 1.01,
        )  # fmt: skip
        yield _compared(
            f"replicas unplaced beyond the inevitable, use ≤ 98 %, {what}",
            [one for one in known if one["mixed"] is mixed and one["use"] <= 0.98],
            lambda one: one["missing"] - one["least_missing"], "0", lambda worst: worst <= 0, unit="replicas",
        )  # fmt: skip
    yield from _solved(known)


def _solved(records: Sequence[Record]) -> Iterator[Figure]:
    """What an integer program reaches in its time on the same small fleets, for comparison; no goal."""
    asked = [one for one in records if one["method"] == OURS and one.get("solver_missing") is not None]
    if asked:
        ours = sum(one["missing"] for one in asked)
        note = f"the integer program leaves {sum(one['solver_missing'] for one in asked):g} in its time, we {ours}"
        beyond = tuple(float(one["missing"] - one["least_missing"]) for one in asked)
        yield Figure(f"the same, {len(asked)} small fleets", beyond, "replicas", "", "", None, note)
    asked = [one for one in asked if one.get("solver_largest_load")]
    if asked:
        reached = [one["solver_largest_load"] / one["bound"] for one in asked if one["bound"]]
        note = "the integer program in its time: " + ", ".join(f"{one:.3f}" for one in sorted(reached))
        yield Figure(
            "largest load ÷ least possible, crowded small fleets",
            tuple(of_bound(one) or 1.0 for one in asked),
            "",
            "",
            "",
            None,
            note,
        )


def of_bound(one: Record) -> float | None:
    """Largest load ÷ the least possible one. None where there is nothing to compare: not all can be placed, or demand
    is unknown, so that loads are whole numbers of replicas, and the bound is not."""
    if one["bound"] is None or one["zipf"] == 0:
        return None
    ideal = one["largest_load"] / one["imbalance"] if one["imbalance"] else 1.0
    return float(max(one["largest_load"] / max(one["bound"], ideal), 1.0))


def _oversubscribed(records: Sequence[Record]) -> Iterator[Figure]:
    yield _compared(
        "weighted demand served ÷ LP bound, first replicas first, 110–150 %", chosen(records, "oversubscribed"),
        lambda one: one["of_strict_bound"], ">= 0.99", lambda worst: worst >= 0.99, largest=False,
    )  # fmt: skip
    yield _compared(
        "the same ÷ LP bound that leaves adapters without any replica for hotter ones",
        chosen(records, "oversubscribed"), lambda one: one["of_bound"], "", None, largest=False,
    )  # fmt: skip
    yield _compared(
        "priority inversions", chosen(records, "oversubscribed"), lambda one: one["inversions"], "0",
        lambda worst: worst == 0, unit="adapters",
    )  # fmt: skip


def _arrivals(records: Sequence[Record]) -> Iterator[Figure]:
    dearer = [float(one["beyond_minimum"]) for one in chosen(records, "arrivals", what="small")]
    cases = sum(one["cases"] for one in chosen(records, "arrivals", what="small"))
    yield Figure(
        f"preemptions beyond the exact minimum, {cases} small fleets", tuple(dearer), "fleets", "0", "", not any(dearer)
    )
    waves = chosen(records, "arrivals", what="wave")
    yield _compared(
        "inversions after a wave of important adapters", waves, lambda one: one["inversions"], "0",
        lambda worst: worst == 0, unit="adapters",
    )  # fmt: skip


def _churn(records: Sequence[Record]) -> Iterator[Figure]:
    churn = chosen(records, "churn")
    losses = [one for one in churn if one["change"] == "pod loss" and one["minimum"] > 0]
    yield _compared(
        "loads ÷ minimum on pod loss, repair only", losses, _moved, "1.0", lambda worst: worst <= 1, ours=REPAIR_ONLY
    )
    worst = max((_moved(one) for one in losses if one["method"] == OURS), default=0.0)
    summed = _compared(
        "loads ÷ minimum on pod loss, with rebalance", _whole_traces(losses), _moved, "<= 1.6", lambda most: most <= 1.6
    )
    yield replace(summed, note=f"one value per fleet, over all that it loses; the worst single loss: {worst:.2f}")
    evened = [
        one | {"minimum": one["minimum"] + one["to_even_out"]}
        for one in _whole_traces(churn)
        if one["minimum"] + one["to_even_out"] > 0
    ]
    evened_out = _compared("loads ÷ least that evens out to 1.1, kinds of changes", evened, _moved, "", None)
    yield replace(evened_out, peers="")  # the baselines move less and do not even out
    demand = ("flash crowd", "crowd gone", "hour of a day")
    for what, changes in (
        ("pods or adapters came or went", [one for one in churn if one["change"] not in demand]),
        ("demand changed", [one for one in churn if one["change"] in demand]),
    ):
        yield _compared(
            f"imbalance after {what}", changes, lambda one: one["imbalance"], "<= 1.1", lambda worst: worst <= 1.1
        )
    yield _compared("plans until all is at rest", churn, lambda one: one["rounds"], "", None, unit="plans")
    yield _compared(
        "replicas unplaced after a change", churn, lambda one: one["missing"], "0", lambda worst: worst == 0,
        unit="replicas",
    )  # fmt: skip
    yield _compared(
        "forced moves on pod addition", [one for one in churn if one["change"] == "pod addition"],
        lambda one: one["loads"] - one["minimum"], "0", lambda worst: worst <= 0, unit="loads", ours=REPAIR_ONLY,
    )  # fmt: skip


def _auto(records: Sequence[Record]) -> Iterator[Figure]:
    auto = chosen(records, "auto")
    yield _compared(
        "imbalance after demand changed, Auto", auto, lambda one: one["imbalance"], "<= 1.1", lambda most: most <= 1.1
    )
    yield _compared("hottest replica ÷ mean load of a pod, Auto", auto, lambda one: one["hottest_share"], "", None)


def _whole_traces(records: Sequence[Record]) -> list[Record]:
    """Sums over all changes of one kind to one fleet by one method."""
    sums: dict[tuple[str, str, str], Record] = {}
    for one in records:
        whole = sums.setdefault((one["size"], one["change"], one["method"]), one | dict.fromkeys(SUMMED, 0))
        for what in SUMMED:
            whole[what] += one[what]
    return list(sums.values())


def _moved(one: Record) -> float:
    return float(one["loads"] / one["minimum"])


def _quiet(records: Sequence[Record]) -> Iterator[Figure]:
    quiet = chosen(records, "quiet")
    yield _compared(
        "loads when nothing changed", quiet, lambda one: one["loads"], "0", lambda worst: worst == 0, unit="loads"
    )
    yield _compared(
        "loads when demand shook by 2 %", quiet, lambda one: one["loads_in_noise"], "0", lambda worst: worst == 0,
        unit="loads",
    )  # fmt: skip


def _timings(records: Sequence[Record]) -> Iterator[Figure]:
    for size, goal in FULL_SOLVE_MS.items():
        for what in ("cold", "steady"):
            timed = chosen(records, "timings", size=size, what=what)
            ours = [1e3 * seconds for one in timed if one["method"] == OURS for seconds in one["seconds"]]
            others = {one["method"]: 1e3 * percentile(one["seconds"], 50) for one in timed if one["method"] != OURS}
            best = min(others, key=lambda name: others[name], default=None)
            yield Figure(
                f"full solve, {what}, {size}", tuple(ours), "ms", f"<= {goal:g}",
                f"{best} {others[best]:.3g}" if best else "", percentile(ours, 50) <= goal if ours else None,
            )  # fmt: skip

    for what, goal in CROWDED_SOLVE_MS.items():
        taken = [1e3 * seconds for one in chosen(records, "timings", what=what) for seconds in one["seconds"]]
        if taken:
            yield Figure(
                f"full solve, {what}, 10,000×1,000",
                tuple(taken),
                "ms",
                f"<= {goal:g}",
                "",
                percentile(taken, 50) <= goal,
            )


def _events(records: Sequence[Record]) -> Iterator[Figure]:
    crowded = [1e3 * seconds for one in chosen(records, "crowded") for seconds in one["seconds"]]
    if crowded:
        p50 = percentile(crowded, 50)
        yield Figure(
            "one event where 130 % is wanted at 4 priorities", tuple(crowded), "ms", f"p50 <= {CROWDED_EVENT_MS:g}", "",
            p50 <= CROWDED_EVENT_MS,
        )  # fmt: skip
    timed = chosen(records, "events")
    taken = [1e3 * seconds for one in timed for seconds in one["seconds"]]
    if taken:
        p99 = percentile(taken, 99)
        slowest = max(timed, key=lambda one: percentile(one["seconds"], 99))
        note = f"p99 of the slowest kind, {slowest['what']}: {1e3 * percentile(slowest['seconds'], 99):.3g} ms"
        goal = f"p99 <= {EVENT_P99_MS:g}"
        yield Figure(f"one event, {timed[0]['size']}", tuple(taken), "ms", goal, "", p99 <= EVENT_P99_MS, note)


def _special(records: Sequence[Record]) -> Iterator[Figure]:
    for what, goal in GOALS_MS.items():
        for one in chosen(records, "special", what=what):
            taken = [1e3 * seconds for seconds in one["seconds"]]
            yield Figure(
                f"{what}, {one['size']}", tuple(taken), "ms", f"<= {goal:g}", "", percentile(taken, 50) <= goal
            )


def _limits(records: Sequence[Record]) -> Iterator[Figure]:
    judged = [one for one in records if "over_limit" in one]
    yield _compared(
        "pods beyond a limit at any moment", judged,
        lambda one: one["over_limit"] + one.get("over_limit_on_the_way", 0), "0", lambda worst: worst == 0, unit="pods",
    )  # fmt: skip
    yield _compared(
        "adapters spread worse than there is room for", [one for one in judged if one["section"] == "cold"],
        lambda one: one["skewed"], "0", lambda worst: worst == 0, unit="adapters",
    )  # fmt: skip


def _compared(
    name: str, records: Sequence[Record], read: Read, goal: str, met: Callable[[float], bool] | None, *,
    unit: str = "", largest: bool = True, ours: str = OURS,
) -> Figure:  # fmt: skip
    """The library's values, and the baseline whose worst value is best. Worst is the largest, or the smallest."""
    values: dict[str, list[float]] = {}
    for one in records:
        value = read(one)
        if value is not None:
            values.setdefault(one["method"], []).append(float(value))
    mine = values.get(ours, [])
    worst_of: Any = max if largest else min
    best = _best_baseline(records, {name: worst_of(found) for name, found in values.items()}, ours, largest)
    return Figure(name, tuple(mine), unit, goal, best, met(worst_of(mine)) if mine and met else None)


def _best_baseline(records: Sequence[Record], worst: Mapping[str, float], ours: str, largest: bool) -> str:
    """The best of those that leave no more unplaced than the library does; failing that, the one that leaves least."""
    left = Counter[str]()
    for one in records:
        left[one["method"]] += max(0, one["missing"] - (one.get("least_missing") or 0))
    others = [name for name in worst if name not in (OURS, REPAIR_ONLY)]
    if not others:
        return ""
    sign = 1 if largest else -1
    best = min(others, key=lambda name: (max(left[name] - left[ours], 0), sign * worst[name], name))
    even = max(one["imbalance"] for one in records if one["method"] == best)
    beside = f", imbalance {even:.2f}" if records[0]["section"] == "churn" and even != worst[best] else ""
    return f"{best} {worst[best]:.4g}" + (f" ({left[best]})" if left[best] else "") + beside
