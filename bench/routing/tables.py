"""Goals, tables and a plot of the records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean

from bench.figures import Figure
from bench.routing.demand import Bursts
from bench.routing.measure import (
    COMPARED,
    CVS,
    ON_DEMAND,
    PLACED,
    POLICIES,
    SCRAPE_SECONDS,
    SCRAPES,
    VARIATIONS,
    VARIED,
    Record,
    chosen,
)
from bench.routing.timings import TIMES

OURS, THEIRS = POLICIES[0], "least-request"
Rows = list[tuple[str, ...]]


def figures(records: list[Record]) -> list[Figure]:
    """The goals, and how far from them: of the default policy, where requests may have their adapter loaded."""
    found = []
    for bursts in Bursts:
        for cv in CVS:
            where = f"cv {cv:g}, bursts of {bursts}"
            own = chosen(records, ON_DEMAND, bursts=bursts, cv=cv)
            ours, theirs = (chosen(own, ON_DEMAND, policy=policy) for policy in (OURS, THEIRS))
            warm = tuple(100 * one["warm"] for one in ours)
            others = _others(own, lambda one: f"{100 * one:.1f}", "warm")
            found.append(Figure(f"warm picks, {where}", warm, "%", "≥ 95", others, min(warm) >= 95))
            uneven = tuple(one["imbalance"] for one in ours)
            others = _others(own, lambda one: f"{one:.2f}", "imbalance")
            goal, met = ("≤ 1.25", max(uneven) <= 1.25) if cv == 4 else ("", None)
            found.append(Figure(f"max/mean load, {where}", uneven, "", goal, others, met))
            fewer = tuple(100 * (1 - our["loads"] / their["loads"]) for our, their in zip(ours, theirs, strict=True))
            others = _others(own, lambda one: f"{one:.0f} loads", "loads")
            found.append(Figure(f"fewer loads than {THEIRS}, {where}", fewer, "%", "≥ 30", others, min(fewer) >= 30))
    for policy in POLICIES:
        taken = [1e6 * one["seconds_p99"] for one in chosen(records, TIMES, policy=policy)]
        found.append(
            Figure(
                f"p99 of a pick, {policy}",
                (max(taken),),
                "µs",
                "≤ 50",
                f"without loads {taken[0]:.1f}",
                max(taken) <= 50,
            )
        )
    return found


def _others(records: list[Record], show: Callable[[float], str], what: str) -> str:
    """What the other policies reach, on the mean."""
    return ", ".join(
        f"{policy} {show(fmean(one[what] for one in records if one['policy'] == policy))}"
        for policy in POLICIES
        if policy != OURS
    )


def tables(records: list[Record]) -> Iterator[tuple[str, Rows]]:
    """(title, rows with a head); means over all traces of a kind."""
    for section in (ON_DEMAND, PLACED):
        rows: Rows = [(
            "bursts of", "cv", "policy", "warm %", "max/mean", "loads", "spills", "wait s", "p99", "standing still %",
        )]  # fmt: skip
        for bursts in Bursts:
            for cv in CVS:
                for policy in POLICIES:
                    own = chosen(records, section, bursts=bursts, cv=cv, policy=policy)
                    rows.append((str(bursts), f"{cv:g}", policy, *_cells(own)))
        yield f"adapters {section}", rows
    rows = [
        ("read every s", "told of ends", "warm %", "max/mean", "loads", "spills", "wait s", "p99", "standing still %")
    ]
    for seconds in SCRAPE_SECONDS:
        for told in (False, True):
            own = chosen(records, SCRAPES, scrape_seconds=seconds, told=told)
            rows.append((f"{seconds:g}", "yes" if told else "no", *_cells(own)))
    yield f"{OURS} with metrics of different age, bursts of each adapter's, cv 4", rows
    rows = [("fleet", "policy", "warm %", "max/mean", "loads", "spills", "wait s", "p99", "standing still %")]
    for variation in VARIATIONS:
        for policy in COMPARED:
            own = chosen(records, VARIED, variation=variation.name, policy=policy)
            rows.append((variation.name, policy, *_cells(own)))
    yield "other fleets, loaded on demand, bursts of each adapter's, cv 4", rows
    rows = [("policy", "may load", "p50 µs", "p99 µs", "of the worst round")]
    for one in chosen(records, TIMES):
        rows.append((
            one["policy"], "yes" if one["may_load"] else "no",
            f"{1e6 * one['seconds_p50']:.1f}", f"{1e6 * one['seconds_p99']:.1f}",
            f"{1e6 * one['seconds_p99_worst']:.1f}",
        ))  # fmt: skip
    yield "a pick among 1,000 pods and 10,000 adapters", rows


def _cells(own: list[Record]) -> tuple[str, ...]:
    return (
        f"{100 * fmean(one['warm'] for one in own):.1f}",
        f"{fmean(one['imbalance'] for one in own):.2f}",
        f"{fmean(one['loads'] for one in own):.0f}",
        f"{fmean(one['spills'] for one in own):.0f}",
        f"{fmean(one['wait_mean'] for one in own):.2f}",
        f"{fmean(one['wait_p99'] for one in own):.1f}",
        f"{100 * fmean(one['stalled'] for one in own):.1f}",
    )


def draw(records: list[Record], path: Path) -> Path:
    """The figures by burstiness: a row per kind of burst, a line per policy."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = (("warm", "warm picks, %", 100.0), ("imbalance", "max/mean load", 1.0), ("loads", "loads", 1.0),
             ("wait_p99", "p99 wait, s", 1.0))  # fmt: skip
    figure, panels = pyplot.subplots(len(Bursts), len(shown), figsize=(13, 6), layout="constrained")
    for row, bursts in zip(panels, Bursts, strict=True):
        for panel, (what, label, scale) in zip(row, shown, strict=True):
            for policy in POLICIES:
                means = [
                    scale * fmean(one[what] for one in chosen(records, ON_DEMAND, bursts=bursts, cv=cv, policy=policy))
                    for cv in CVS
                ]
                panel.plot(CVS, means, "ko-" if policy == OURS else "o-", label=policy, markersize=4)
            panel.set(title=label, xticks=CVS, ylim=(None, None) if what == "warm" else (0, None))
            panel.grid(alpha=0.3)
        row[0].set_ylabel(f"bursts of {bursts}")
    for panel in panels[-1]:
        panel.set_xlabel("cv of the intervals")
    panels[0][0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path
