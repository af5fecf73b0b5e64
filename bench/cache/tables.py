"""Tables and a plot of the records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.cache.figures import (
    A_THIRD,
    ASKS_PER_ITEM_AND_DAY,
    BOUND,
    EXPONENTS,
    POLICIES,
    SHARES,
    Record,
    chosen,
    left_on_the_table,
    mean,
    thrash_share,
)

Rows = list[tuple[str, ...]]
METHODS = (*(policy.name for policy in POLICIES), BOUND)


def tables(records: Sequence[Record]) -> Iterator[tuple[str, Rows]]:
    """(title, rows with a head)."""
    head = (
        "cache",
        "method",
        "asks",
        "bytes",
        "load seconds",
        "avoidable left",
        "evictions",
        "thrash",
    )
    for exponent in EXPONENTS:
        rows: Rows = [head]
        for share in SHARES:
            here = chosen(records, zipf=exponent, share=share)
            for name in METHODS:
                own = chosen(here, method=name)
                cells = [f"{100 * mean(own, what):.1f}" for what in ("object_miss", "byte_miss", "seconds_miss")]
                if name == BOUND:
                    cells += ["", "", ""]
                else:
                    left = left_on_the_table(here, name)
                    cells += [f"{100 * sum(left) / len(left):.1f}", f"{mean(own, 'evictions'):.0f}"]
                    cells.append(f"{100 * thrash_share(own):.1f}")
                rows.append((f"{share:.0%}", name, *cells))
        yield f"missed in %, Zipf {exponent}, by size of the cache in shares of the working set", rows
    rows = [("asks per adapter and day", "Zipf", "lru", "sieve", "gdsf")]
    for daily in ASKS_PER_ITEM_AND_DAY:
        for exponent in EXPONENTS:
            here = chosen(records, zipf=exponent, share=A_THIRD, daily=daily)
            shares = [100 * thrash_share(chosen(here, method=name, daily=daily)) for name in ("lru", "sieve", "gdsf")]
            rows.append((f"{daily:g}", str(exponent), *(f"{share:.1f}" for share in shares)))
    yield "thrash in % of evictions at a third of the working set, by how fast adapters are asked for", rows


def draw(records: Sequence[Record], path: Path) -> Path:
    """Missed load seconds by the size of the cache, one panel per trace."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(EXPONENTS), figsize=(10, 3.6), sharey=True, layout="constrained")
    for panel, exponent in zip(panels, EXPONENTS, strict=True):
        for name in METHODS:
            missed = [100 * mean(chosen(records, zipf=exponent, share=s, method=name), "seconds_miss") for s in SHARES]
            style = "k--" if name == BOUND else "o-"
            panel.plot([100 * share for share in SHARES], missed, style, label=name, markersize=4)
        panel.set_title(f"Zipf {exponent}")
        panel.set_xlabel("cache in % of the working set")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("load seconds missed in %")
    panels[-1].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path
