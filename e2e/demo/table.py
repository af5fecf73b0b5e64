"""The table of pods and adapters, as text. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from e2e.demo.fleet import Fleet, Pod

VERSION_LETTERS = 6
LEGEND = "a cell is the version that the engine has loaded; * means that status names this pod for it"


def table(fleet: Fleet) -> list[str]:
    """One line per pod: what its engine has loaded, and what of its slots and memory that takes."""
    resources = (fleet.resources or {}).values()
    loaded = {name for pod in fleet.pods for name in pod.loaded or {}}
    adapters = sorted(loaded.union(*(one.versions for one in resources)))
    sizes = {name: size for one in resources for name, size in one.sizes_bytes.items()}
    named = {(pod, name) for one in resources for pod, names in one.named.items() for name in names}
    rows = [["POD", "STATE", *adapters, "SLOTS", "MEMORY"]]
    for pod in fleet.pods:
        cells = [_cell(pod, name, (pod.name, name) in named) for name in adapters]
        rows.append([pod.name, pod.state, *cells, _slots(pod), _memory(pod, sizes)])
    return columns(rows)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells, aligned to the left, two blanks apart."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def short(version: str) -> str:
    return version[:VERSION_LETTERS]


def _cell(pod: Pod, adapter: str, named: bool) -> str:
    if pod.loaded is None:
        return "?"
    if adapter not in pod.loaded:
        return "-"
    return short(pod.loaded[adapter]) + ("*" if named else "")


def _slots(pod: Pod) -> str:
    return "?" if pod.loaded is None else f"{len(pod.loaded)}/{pod.slots}"


def _memory(pod: Pod, sizes: Mapping[str, int]) -> str:
    if pod.loaded is None:
        return "?"
    used = sum(sizes.get(name, 0) for name in pod.loaded)
    return f"{used / 1024:.0f}/{pod.budget_bytes / 1024:.0f} KiB"
