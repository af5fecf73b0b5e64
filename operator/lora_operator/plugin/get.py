"""`kubectl lora get`: adapters, their replicas, and where they are."""

from __future__ import annotations

import argparse

from rich.text import Text

from lora_operator.plugin import fleet
from lora_operator.plugin.connect import connected
from lora_operator.plugin.fleet import Line
from lora_operator.plugin.screen import BAD, FAINT, GOOD, WORRYING, Screen, in_size

PODS_SHOWN = 3
STYLES = {
    fleet.READY: GOOD,
    fleet.LOADING: WORRYING,
    fleet.PENDING: WORRYING,
    fleet.PARTIAL: WORRYING,
    fleet.FAILED: BAD,
    fleet.ON_DEMAND: FAINT,
    fleet.OFF: FAINT,
    fleet.UNKNOWN: WORRYING,
}
AS_DECLARED = (fleet.READY, fleet.OFF, fleet.ON_DEMAND)


async def run(arguments: argparse.Namespace) -> int:
    async with connected(arguments) as cluster:
        bodies = await cluster.adapters()
    found = fleet.lines(bodies) if arguments.name is None else fleet.chosen(bodies, arguments.name, cluster.where)
    screen = Screen(arguments.output)
    screen.show([line.document() for line in found], lambda: draw(screen, found, not cluster.namespaces, cluster.where))
    return 0


def draw(screen: Screen, found: list[Line], everywhere: bool, where: str) -> None:
    """The table, or one line that says that there is nothing."""
    if not found:
        screen.line(f"No LoraAdapters {where}.")
        return
    columns = ["ADAPTER", "LORAADAPTER", "BASE MODEL", "REPLICAS", "STATE", "PODS"]
    wide = ["RANK", "SIZE", "VERSION", "PINNED", "MESSAGE"] if screen.wide else []
    screen.table(
        ["NAMESPACE"] * everywhere + columns + wide,
        ([line.namespace] * everywhere + _cells(line, screen.wide) for line in found),
    )


def _cells(line: Line, wide: bool) -> list[str | Text]:
    cells: list[str | Text] = [
        line.adapter or "-",
        line.resource,
        line.base_model,
        f"{line.loaded}/{line.wanted}" if line.adapter else "-",
        state(line),
        in_short(line.pods, None if wide else PODS_SHOWN),
    ]
    if wide:
        cells += [
            str(line.rank or "-"),
            in_size(line.bytes) if line.bytes is not None else "-",
            line.fingerprint[:8] or "-",
            "yes" if line.pinned else "-",
            line.message,
        ]
    return cells


def state(line: Line) -> Text:
    """In colour; what is not as wanted says its reason."""
    reason = f" ({line.reason})" if line.reason not in ("", line.state) and line.state not in AS_DECLARED else ""
    return Text(line.state + reason, STYLES[line.state])


def in_short(names: tuple[str, ...], most: int | None) -> str:
    """`a,b,c +2`."""
    if not names:
        return "-"
    shown = ",".join(names[:most])
    return shown if most is None or len(names) <= most else f"{shown} +{len(names) - most}"
