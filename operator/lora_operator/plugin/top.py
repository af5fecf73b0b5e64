"""`kubectl lora top`: how busy engines are and with which adapters, from their own metrics."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.text import Text

from lora_operator.informers.records import PodRecord
from lora_operator.plugin.connect import Cluster, connected
from lora_operator.plugin.get import PODS_SHOWN, in_short
from lora_operator.plugin.objects import from_cluster
from lora_operator.plugin.offline_snapshot import assume, read
from lora_operator.plugin.problems import FAILED, PluginError
from lora_operator.plugin.reach import NoAnswer, Reach, reaching
from lora_operator.plugin.screen import BAD, Screen, a_table, bar, clean
from lora_operator.vllm.metrics import EngineMetrics, parse_metrics
from lora_operator.vllm.quirks import public_name

PERCENT = 100


@dataclass(frozen=True, slots=True)
class Look:
    """One engine at one moment. `rate`: requests ended per second since the look before, None at the first."""

    pod: PodRecord
    holds: tuple[str, ...]
    metrics: EngineMetrics | None
    rate: float | None
    problem: str = ""


async def run(arguments: argparse.Namespace) -> int:
    screen = Screen(arguments.output)
    live = not arguments.once and arguments.output in ("table", "wide") and sys.stdout.isatty()
    async with connected(arguments) as cluster, reaching(cluster, arguments) as reach:
        looks = await look(cluster, reach, {}, 0.0)
        if not live:
            screen.show([_document(one) for one in looks], lambda: _draw(screen, looks, cluster.where))
            return FAILED if looks and all(one.metrics is None for one in looks) else 0
        with Live(_picture(looks), console=screen.console, screen=True, auto_refresh=False) as shown:
            while True:
                await asyncio.sleep(arguments.seconds)
                problem = ""
                try:
                    before = {one.pod.key: one for one in looks}
                    looks = await look(cluster, reach, before, arguments.seconds)
                except PluginError as error:
                    problem = str(error)  # it may come back; what was seen last stays on the screen
                shown.update(_picture(looks, problem), refresh=True)


async def look(cluster: Cluster, reach: Reach, before: dict[str, Look], seconds: float) -> list[Look]:
    """All engines that run, side by side. Raises PluginError."""
    objects = await from_cluster(cluster)
    moment = assume(*read(objects), objects.node_labels, {})
    held = {pod.key: tuple(sorted({public_name(r.name) for r in pod.residents})) for pod in moment.snapshot.pods}
    running = [record for key, record in sorted(moment.pods.items()) if record.pod.container_running and record.pod.ip]
    return list(
        await asyncio.gather(
            *(_look(reach, record, held.get(record.key, ()), before.get(record.key), seconds) for record in running)
        )
    )


async def _look(reach: Reach, record: PodRecord, holds: tuple[str, ...], before: Look | None, seconds: float) -> Look:
    try:
        page = await reach.get(record.pod, record.pod.port, "/metrics")
    except NoAnswer as error:
        return Look(record, holds, None, None, str(error))
    metrics = parse_metrics(page.decode("utf-8", "replace"))
    rate = None
    if before is not None and before.metrics is not None and seconds > 0:
        ended, ended_before = metrics.requests_finished, before.metrics.requests_finished
        if ended is not None:
            rate = max(ended - (ended_before or 0.0), 0.0) / seconds
    return Look(record, holds, metrics, rate)


def _active(one: Look) -> set[str]:
    return {public_name(name) for name in one.metrics.active_adapters} if one.metrics is not None else set()


def _of_pods(looks: Sequence[Look]) -> list[list[str | Text]]:
    rows: list[list[str | Text]] = []
    for one in looks:
        metrics = one.metrics
        if metrics is None:
            rows.append([one.pod.pod.name, Text("no answer", BAD)])
            continue
        cache = metrics.kv_cache_usage
        rows.append(
            [
                one.pod.pod.name,
                _number(metrics.requests_running),
                _number(metrics.requests_waiting),
                "-" if one.rate is None else f"{one.rate:.1f}/s",
                bar(round(cache * PERCENT), PERCENT) + Text(f" {cache:.0%}") if cache is not None else "-",
                ",".join(sorted(_active(one))) or "-",
            ]
        )
    return rows


def _of_adapters(looks: Sequence[Look]) -> list[list[str | Text]]:
    """The busiest first: by the pods that have requests for it, running or waiting."""
    names = {name for one in looks for name in (*one.holds, *_active(one))}
    rows = []
    for name in names:
        busy = [one for one in looks if name in _active(one)]
        held = sum(name in one.holds for one in looks)
        queue = sum((one.metrics.requests_waiting or 0) for one in busy if one.metrics is not None)
        rows.append((-len(busy), -queue, name, held, [one.pod.pod.name for one in busy]))
    return [
        [name, f"{-busy}/{held}", str(-queue), ",".join(pods) or "-"] for busy, queue, name, held, pods in sorted(rows)
    ]


OF_PODS = ("POD", "RUNNING", "WAITING", "ENDED", "KV CACHE", "BUSY WITH")
OF_ADAPTERS = ("ADAPTER", "BUSY ON", "WAITING THERE", "PODS")


def _picture(looks: Sequence[Look], problem: str = "") -> Group:
    pods, adapters = a_table(OF_PODS, _of_pods(looks)), a_table(OF_ADAPTERS, _of_adapters(looks))
    said = [*_problems(looks), *([problem] if problem else [])]
    return Group(pods, Text(), adapters, *(Text(clean(one), BAD) for one in said))


def _problems(looks: Sequence[Look]) -> list[str]:
    """Each only once: what is wrong with one pod is often wrong with all."""
    pods: dict[str, list[str]] = {}
    for one in looks:
        if one.problem:
            pods.setdefault(one.problem, []).append(one.pod.pod.name)
    return [f"{in_short(tuple(names), PODS_SHOWN)}: {problem}" for problem, names in pods.items()]


def _draw(screen: Screen, looks: Sequence[Look], where: str) -> None:
    if not looks:
        screen.line(f"No engine runs {where}.")
        return
    screen.table(OF_PODS, _of_pods(looks))
    screen.line()
    screen.table(OF_ADAPTERS, _of_adapters(looks))
    for problem in _problems(looks):
        screen.line(problem, BAD)


def _document(one: Look) -> dict[str, Any]:
    place = {"namespace": one.pod.pod.namespace, "pod": one.pod.pod.name, "holds": list(one.holds)}
    metrics = one.metrics
    if metrics is None:
        return place | {"error": one.problem}
    return place | {
        "running": metrics.requests_running,
        "waiting": metrics.requests_waiting,
        "kvCacheUsage": metrics.kv_cache_usage,
        "activeAdapters": sorted(_active(one)),
        "endedPerSecond": one.rate,
    }


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)
