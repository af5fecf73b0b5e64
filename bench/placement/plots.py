"""Draws the records: what each method does as fleets fill up, what evenness costs in moves, and what solving costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib

from bench.figures import percentile
from bench.placement.contenders import OURS, REPAIR_ONLY
from bench.placement.fleets import MIDDLE, Copies, Shape
from bench.placement.goals import chosen
from bench.placement.records import Record
from bench.placement.tables import methods

MARKS = "os^vD<>Pphx*"


def draw(records: Sequence[Record], directory: Path) -> list[Path]:
    """Write those plots that there are records for."""
    matplotlib.use("Agg")
    directory.mkdir(parents=True, exist_ok=True)
    size = Shape(*MIDDLE).size
    return [
        path
        for name, plot, lines in (
            ("placement-by-use.png", _by_use, _comparable(records, size)),
            ("placement-moves.png", _moves, chosen(records, "churn", size=size, change="pod loss")),
            ("placement-time.png", _times, chosen(records, "timings")),
        )
        for path in _drawn(directory / name, plot, lines)
    ]


def _comparable(records: Sequence[Record], size: str) -> list[Record]:
    return chosen(records, "cold", size=size, mixed=False, zipf=1.0, copies=Copies.BY_DEMAND, binding="both")


def _drawn(path: Path, plot: Callable[[Any, Sequence[Record]], None], records: Sequence[Record]) -> Iterator[Path]:
    if not records:
        return
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(9, 4.5), layout="constrained")
    plot(figure, records)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    yield path


def _by_use(figure: Any, records: Sequence[Record]) -> None:
    unplaced, imbalance = figure.subplots(1, 2)
    for number, name in enumerate(_drawn_methods(records)):
        own = sorted((one for one in records if one["method"] == name), key=lambda one: one["use"])
        use = [100 * one["use"] for one in own]
        style = _style(name, number)
        unplaced.plot(use, [100 * one["missing"] / one["copies_wanted"] for one in own], **style)
        imbalance.plot(use, [one["imbalance"] for one in own], **style)
    unplaced.set(xlabel="use of memory and of slots, %", ylabel="copies without a place, %")
    unplaced.set_yscale("symlog", linthresh=1)
    imbalance.set(xlabel="use of memory and of slots, %", ylabel="largest load ÷ max(mean, largest copy)")
    figure.legend(*imbalance.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")
    figure.suptitle(f"Empty fleets of {records[0]['size']}, Zipf 1.0, equal pods")


def _moves(figure: Any, records: Sequence[Record]) -> None:
    axes = figure.subplots()
    for number, name in enumerate(methods(records)):
        own = [one for one in records if one["method"] == name]
        least = sum(one["minimum"] for one in own)
        moved = sum(one["loads"] for one in own) / max(least, 1)
        imbalance = sum(one["imbalance"] for one in own) / len(own)
        missing = sum(one["missing"] for one in own) / len(own)
        style = _style(name, number) | {"linestyle": "", "label": f"{name} ({missing:.0f} unplaced)"}
        axes.plot([moved], [imbalance], **style)
    axes.axhline(1.1, color="grey", linewidth=0.5)
    axes.axvline(1.6, color="grey", linewidth=0.5)
    axes.set_xscale("log")
    axes.set(xlabel="loads ÷ copies that were lost", ylabel="imbalance afterwards, mean")
    figure.legend(loc="outside right", fontsize="small")
    figure.suptitle(f"A pod is lost, {records[0]['size']}, 80 % in use; goals: left of and below the lines")


def _times(figure: Any, records: Sequence[Record]) -> None:
    axes = figure.subplots()
    lines = [(name, what) for name in methods(records) for what in ("cold", "steady")]
    for number, (name, what) in enumerate(lines):
        own = [one for one in records if one["method"] == name and one["what"] == what]
        if own:
            copies = [one["adapters"] for one in own]
            style = _style(name, number // 2) | {"label": f"{name}, {what}" if name == OURS else name}
            if what == "steady":
                style["linestyle"] = "--"
            axes.plot(copies, [1e3 * percentile(one["seconds"], 50) for one in own], **style)
    axes.set(xscale="log", yscale="log", xlabel="adapters (a tenth as many pods)", ylabel="ms of one core, median")
    figure.legend(loc="outside right", fontsize="small")
    figure.suptitle("A full solve; all methods in pure Python")


def _drawn_methods(records: Sequence[Record]) -> list[str]:
    """Those that differ on empty fleets."""
    return [name for name in methods(records) if name not in (REPAIR_ONLY, "first-fit decreasing, anew")]


def _style(name: str, number: int) -> dict[str, Any]:
    own = {"color": "black", "linewidth": 2.0} if name == OURS else {"linewidth": 1.0}
    return {"label": name, "marker": MARKS[number % len(MARKS)], "markersize": 5.0} | own
