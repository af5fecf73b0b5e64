"""Draws the records: what each method does as fleets fill up, what evenness costs in moves, and what solving costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import ticker

from bench.figures import percentile
from bench.placement.contenders import OURS, REPAIR_ONLY
from bench.placement.fleets import MIDDLE, Replicas, Shape
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
            ("placement-time.png", _times, [*chosen(records, "timings"), *chosen(records, "events")]),
        )
        for path in _drawn(directory / name, plot, lines)
    ]


def _comparable(records: Sequence[Record], size: str) -> list[Record]:
    return chosen(records, "cold", size=size, mixed=False, zipf=1.0, replicas=Replicas.BY_DEMAND, binding="both")


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
        unplaced.plot(use, [100 * one["missing"] / one["replicas_wanted"] for one in own], **style)
        imbalance.plot(use, [one["imbalance"] for one in own], **style)
    unplaced.set(xlabel="use of memory and of slots, %", ylabel="replicas without a place, %")
    unplaced.set_yscale("symlog", linthresh=1)
    imbalance.set(xlabel="use of memory and of slots, %", ylabel="largest load ÷ max(mean, largest replica)")
    figure.legend(*imbalance.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")
    figure.suptitle(f"Empty fleets of {records[0]['size']}, Zipf 1.0, equal pods")


def _moves(figure: Any, records: Sequence[Record]) -> None:
    axes = figure.subplots()
    for number, name in enumerate(methods(records)):
        own = [one for one in records if one["method"] == name]
        moved = sum(one["loads"] for one in own) / max(sum(one["minimum"] for one in own), 1)
        imbalance = sum(one["imbalance"] for one in own) / len(own)
        missing = sum(one["missing"] for one in own) / len(own)
        left_out = f" ({missing:.0f} unplaced)" if missing else ""
        style = _style(name, number) | {"linestyle": "", "label": name + left_out, "markersize": 8.0}
        axes.plot([moved], [imbalance], **style)
    axes.axhline(1.1, color="grey", linewidth=0.5)
    axes.axvline(1.6, color="grey", linewidth=0.5)
    axes.set(xlabel="loads ÷ replicas that were lost", ylabel="imbalance afterwards, mean", xscale="log")
    axes.xaxis.set_major_locator(ticker.FixedLocator([1, 1.6, 2, 4, 8, 16]))
    axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    figure.legend(loc="outside right", fontsize="small")
    figure.suptitle(f"A pod is lost, {records[0]['size']}, 80 % in use; the goals are left of and below the lines")


def _times(figure: Any, records: Sequence[Record]) -> None:
    axes = figure.subplots()
    full = chosen(records, "timings")
    for number, name in enumerate(methods(full)):
        for what, line in (("cold", "-"), ("steady", "--")):
            own = [one for one in full if one["method"] == name and one["what"] == what]
            if own:
                label = f"{name}, {what}" if name == OURS else name
                style = _style(name, number) | {"label": label, "linestyle": line}
                axes.plot([one["adapters"] for one in own], [_median_ms(one["seconds"]) for one in own], **style)
    events = chosen(records, "events")
    taken = [seconds for one in events for seconds in one["seconds"]]
    if taken:
        style = {"color": "black", "marker": "*", "markersize": 10, "linestyle": ""}
        axes.plot([events[0]["adapters"]], [_median_ms(taken)], label=f"{OURS}, one event", **style)
    axes.set(xscale="log", yscale="log", xlabel="adapters (a tenth as many pods)", ylabel="ms of one core, median")
    figure.legend(loc="outside right", fontsize="small")
    figure.suptitle("A full solve; all methods in pure Python")


def _median_ms(seconds: Sequence[float]) -> float:
    return 1e3 * percentile(seconds, 50)


def _drawn_methods(records: Sequence[Record]) -> list[str]:
    """Those that differ on empty fleets."""
    return [name for name in methods(records) if name not in (REPAIR_ONLY, "first-fit decreasing, anew")]


def _style(name: str, number: int) -> dict[str, Any]:
    own = {"color": "black", "linewidth": 2.0} if name == OURS else {"linewidth": 1.0}
    return {"label": name, "marker": MARKS[number % len(MARKS)], "markersize": 5.0} | own
