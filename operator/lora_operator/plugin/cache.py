"""`kubectl lora cache`: what is on the disks of agents."""

from __future__ import annotations

import argparse
import time
from typing import Any

from rich.text import Text

from lora_operator.informers.pod_description import PodDescription
from lora_operator.plugin.agents import ask_all, entries, with_agents
from lora_operator.plugin.connect import connected
from lora_operator.plugin.problems import FAILED
from lora_operator.plugin.reach import NoAnswer, reaching
from lora_operator.plugin.screen import BAD, FAINT, GOOD, WORRYING, Screen, bar, in_size, in_time

Found = list[tuple[PodDescription, dict[str, Any] | NoAnswer]]
COLUMNS = ("POD", "ADAPTER", "VERSION", "SIZE", "STATE", "KEPT FOR", "LAST USE")


async def run(arguments: argparse.Namespace) -> int:
    async with connected(arguments) as cluster, reaching(cluster, arguments) as reach:
        pods = await with_agents(cluster, arguments.pod)
        found: Found = await ask_all(cluster, arguments, pods, lambda pod, token: entries(reach, pod, token))
    screen = Screen(arguments.output)
    screen.show([_document(pod, answer) for pod, answer in found], lambda: draw(screen, found, time.time()))
    return FAILED if all(isinstance(answer, NoAnswer) for _, answer in found) else 0


def draw(screen: Screen, found: Found, now: float) -> None:
    """Each disk in a line, then what is on them, the largest first; `now` is Unix time."""
    rows: list[list[str | Text]] = []
    for pod, answer in found:
        if isinstance(answer, NoAnswer):
            rows.append([pod.name, Text("no answer", BAD), Text(str(answer), BAD)])
            continue
        used, budget = int(answer.get("usedBytes") or 0), answer.get("budgetBytes")
        room = f"{in_size(used)}/{in_size(budget)}" if budget else in_size(used)
        rows.append([pod.name, bar(used, budget) if budget else "", room])
    screen.table(("DISK OF", "", "USED"), rows)
    lines = [
        _cells(pod, entry, now)
        for pod, answer in found
        if not isinstance(answer, NoAnswer)
        for entry in sorted(answer["entries"], key=lambda e: (-e["sizeBytes"], e["name"]))
    ]
    if lines:
        screen.line()
        screen.table(COLUMNS, lines)


def _cells(pod: PodDescription, entry: dict[str, Any], now: float) -> list[str | Text]:
    state = Text(entry["state"], {"Present": GOOD, "Fetching": WORRYING}.get(entry["state"], BAD))
    if entry["state"] == "Fetching" and entry["sizeBytes"]:
        state += Text(f" {100 * entry['doneBytes'] // entry['sizeBytes']} %")
    kept = [word for word, so in (("loaded", entry.get("loaded")), ("pinned", entry.get("pinned"))) if so]
    if entry.get("prefetched"):
        kept.append("fetched ahead")
    last = entry.get("lastUsed")
    return [
        pod.name,
        entry["name"],
        entry["fingerprint"][:8],
        in_size(entry["sizeBytes"]),
        state,
        ", ".join(kept) or Text("-", FAINT),
        "-" if last is None else f"{in_time(now - last)} ago",
    ]


def _document(pod: PodDescription, answer: dict[str, Any] | NoAnswer) -> dict[str, Any]:
    place = {"namespace": pod.namespace, "pod": pod.name}
    return place | ({"error": str(answer)} if isinstance(answer, NoAnswer) else answer)
