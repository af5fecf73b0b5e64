"""`kubectl lora why`: pod by pod, why an adapter is there or not."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from rich.text import Text

from lora_operator.plugin import fleet
from lora_operator.plugin.agents import ask_all, entries, with_agents
from lora_operator.plugin.connect import Cluster, connected
from lora_operator.plugin.fleet import Line
from lora_operator.plugin.get import STYLES
from lora_operator.plugin.objects import from_cluster
from lora_operator.plugin.offline_snapshot import Assumed, assume, read
from lora_operator.plugin.pods import HOW_TO_TAKE_PART
from lora_operator.plugin.reach import NoAnswer, reaching
from lora_operator.plugin.screen import BAD, FAINT, GOOD, WORRYING, Screen, in_size
from lora_scheduler import Reason, explain
from lora_scheduler.reasons import FILES_THERE

Files = frozenset[tuple[str, str]]  # name, fingerprint
NOTHING: Mapping[str, Files | NoAnswer] = MappingProxyType({})
HOLDS = "Holds"
STATUS, PLANNING = "status", "planning"  # where an answer comes from
_STYLES = {HOLDS: GOOD, Reason.ALREADY_PLACED: GOOD, Reason.NOT_WANTED: FAINT, Reason.WAITING_FOR_ROOM: WORRYING}


@dataclass(frozen=True, slots=True)
class Answer:
    """One pod's. `source` says whether the operator wrote it into status or it was worked out here."""

    pod: str
    reason: str
    message: str
    source: str


async def run(arguments: argparse.Namespace) -> int:
    async with connected(arguments) as cluster:
        objects = await from_cluster(cluster)
        line = fleet.one_adapter(objects.adapters.values(), arguments.name, cluster.where)
        files = await _files(cluster, arguments, line.namespace) if arguments.files else {}
    moment = assume(*read(objects), objects.node_labels, {})
    found = answers(line, moment, files)
    screen = Screen(arguments.output)
    document = line.document() | {
        "pods": [{"pod": a.pod, "reason": a.reason, "message": a.message, "source": a.source} for a in found]
    }
    body = objects.adapters[f"{line.namespace}/{line.resource}"]
    taking_part = sum(record.pod.namespace == line.namespace for record in moment.pods.values())
    screen.show(document, lambda: _draw(screen, line, body, found, taking_part))
    return 0


async def _files(cluster: Cluster, arguments: argparse.Namespace, namespace: str) -> dict[str, Files | NoAnswer]:
    """What is on the disks of the agents in the namespace, by pod."""
    async with reaching(cluster, arguments) as reach:
        pods = [pod for pod in await with_agents(cluster, None) if pod.namespace == namespace]
        found = await ask_all(cluster, arguments, pods, lambda pod, token: entries(reach, pod, token))
    return {pod.name: said if isinstance(said, NoAnswer) else _stored(said) for pod, said in found}


def _stored(said: dict[str, Any]) -> Files:
    return frozenset((one["name"], one["fingerprint"]) for one in said["entries"] if one["state"] == "Present")


def answers(line: Line, moment: Assumed, files: Mapping[str, Files | NoAnswer] = NOTHING) -> list[Answer]:
    """One for each pod of the adapter's namespace: status has the last word, planning tells the rest. `files` are those
    on the disks of agents that were asked."""
    said = {pod: Answer(pod, reason, message, STATUS) for pod, reason, message in line.refusals}
    said |= {pod: Answer(pod, HOLDS, "it answers for this adapter", STATUS) for pod in line.pods}
    key = f"{line.namespace}/{line.resource}/{line.adapter}"
    if any(adapter.key == key for adapter in moment.snapshot.adapters):
        for refusal in explain(key, moment.snapshot):
            namespace, _, pod = refusal.pod.partition("/")
            if namespace == line.namespace:
                said.setdefault(pod, Answer(pod, str(refusal.reason), refusal.message, PLANNING))
    version = next((adapter.version for adapter in moment.snapshot.adapters if adapter.key == key), "")
    there = {pod: _said_of_files(found, (line.adapter, version)) for pod, found in files.items()}
    return [replace(said[pod], message=_with_files(said[pod].message, there.get(pod, ""))) for pod in sorted(said)]


def _said_of_files(found: Files | NoAnswer, version: tuple[str, str]) -> str:
    if isinstance(found, NoAnswer):
        return f"; whether its files are there is not known: {found}"
    return FILES_THERE if version in found else "; its files are not on the pod's disk"


def _with_files(message: str, files: str) -> str:
    """The operator may have said so by itself."""
    return message if message.endswith(files) else message + files


def _draw(screen: Screen, line: Line, body: dict[str, Any], found: list[Answer], taking_part: int) -> None:
    size = f", {in_size(line.bytes)}, rank {line.rank}" if line.bytes is not None else ""
    screen.line(f"{line.adapter or '(no adapter yet)'}: LoraAdapter {line.namespace}/{line.resource}{size}")
    screen.line(f"base model {line.base_model}", FAINT)
    screen.line(f"{line.state}: {_replicas(line)}", STYLES[line.state])
    if line.message:
        screen.line(f"{line.reason}: {line.message}")
    source = fleet.condition(body, "SourceReady")
    if source and source.get("status") != "True" and source.get("message") != line.message:
        screen.line(f"source: {source.get('reason')}: {source.get('message')}", WORRYING)
    screen.line()
    if not found:
        screen.line(_no_answers(line, taking_part))
        return
    rows: list[list[str | Text]] = [
        [a.pod, Text(a.reason, _STYLES.get(a.reason, BAD)), a.message, a.source] for a in found
    ]
    screen.table(["POD", "ANSWER", "WHY", "SAID BY"], rows)


def _replicas(line: Line) -> str:
    if not line.adapter:
        return "no adapter of it is known"
    if line.wanted or line.loaded:
        return f"{line.loaded} of {line.wanted} replicas answer"
    return "it is loaded nowhere" if line.state == fleet.FAILED else "no replica is wanted now"


def _no_answers(line: Line, taking_part: int) -> str:
    """What to say in the place of the table."""
    if not taking_part:
        return f"No pods take part in namespace {line.namespace}. {HOW_TO_TAKE_PART}"
    pods = "1 pod takes part" if taking_part == 1 else f"{taking_part} pods take part"
    return f"{pods} in namespace {line.namespace}, and none is asked before the above is mended."
