"""`kubectl lora pods`: how full each pod is, and with what."""

from __future__ import annotations

import argparse
from typing import Any

from rich.text import Text

from lora_operator.informers.records import PodRecord
from lora_operator.plugin.connect import connected
from lora_operator.plugin.engine_lists import ask_engines
from lora_operator.plugin.objects import from_cluster
from lora_operator.plugin.offline_snapshot import Assumed, assume, read
from lora_operator.plugin.problems import unknown
from lora_operator.plugin.reach import reaching
from lora_operator.plugin.screen import BAD, GOOD, WORRYING, Screen, bar, in_size
from lora_scheduler import Pod


async def run(arguments: argparse.Namespace) -> int:
    async with connected(arguments) as cluster, reaching(cluster, arguments) as reach:
        objects = await from_cluster(cluster)
        resources, records = read(objects)
        moment = assume(resources, records, objects.node_labels, {})
        notes: list[str] = []
        if arguments.ask or arguments.direct:
            asked = await ask_engines(reach, moment.pods)
            moment, notes = assume(resources, records, objects.node_labels, {}, asked.engines), asked.notes
    pods = list(moment.snapshot.pods)
    if arguments.pod is not None:
        names = [moment.pods[pod.key].pod.name for pod in pods]
        pods = [pod for pod in pods if moment.pods[pod.key].pod.name == arguments.pod]
        if not pods:
            raise unknown(KIND, arguments.pod, cluster.where, names, LIST)
    screen = Screen(arguments.output)
    everywhere = not cluster.namespaces

    def draw() -> None:
        if not pods:
            screen.line(f"No pods take part {cluster.where}. {HOW_TO_TAKE_PART}")
            return
        for note in notes:
            screen.line(f"note: {note}", WORRYING)
        columns = ["POD", "BASE MODEL", "STATE", "ADAPTERS", "", "MEMORY", "", "MAX RANK"]
        columns = ["NAMESPACE"] * everywhere + columns + (["NODE", "HOLDS"] if screen.wide else [])
        screen.table(columns, (_cells(moment.pods[pod.key], pod, screen.wide, everywhere) for pod in pods))

    screen.show([document(moment, pod) for pod in pods], draw)
    return 0


KIND, LIST = "pod that takes part called", "`kubectl lora pods -A` lists them"
HOW_TO_TAKE_PART = "They need the label production-stack.vllm-project/lora=enabled, or to match a podSelector."


def _cells(record: PodRecord, pod: Pod, wide: bool, everywhere: bool) -> list[str | Text]:
    used, taken = len(pod.residents), memory_of(pod)
    room: list[str | Text] = ["no budget", in_size(taken)]
    if pod.memory_bytes is not None:
        room = [bar(taken, pod.memory_bytes), f"{in_size(taken)}/{in_size(pod.memory_bytes)}"]
    cells: list[str | Text] = [
        record.pod.name,
        pod.base_model or "-",
        _state(pod),
        bar(used, pod.host_slots),
        f"{used}/{pod.host_slots}",
        *room,
        str(pod.max_rank),
    ]
    if wide:
        cells += [pod.node or "-", ",".join(resident.name for resident in pod.residents) or "-"]
    return [record.pod.namespace] * everywhere + cells


def _state(pod: Pod) -> Text:
    if pod.draining:
        return Text("Terminating", BAD)
    if pod.ready:
        return Text("Ready", GOOD)
    return Text(str(pod.not_ready[0]) if pod.not_ready else "NotReady", BAD)


def memory_of(pod: Pod) -> int:
    """What its adapters take of its budget."""
    return sum(resident.bytes for resident in pod.residents)


def document(moment: Assumed, pod: Pod) -> dict[str, Any]:
    """For programs."""
    record = moment.pods[pod.key].pod
    return {
        "namespace": record.namespace,
        "pod": record.name,
        "node": pod.node or None,
        "baseModel": pod.base_model or None,
        "ready": pod.ready and not pod.draining,
        "reason": str(pod.not_ready[0]) if pod.not_ready else "",
        "message": pod.not_ready[1] if pod.not_ready else "",
        "slots": {"used": len(pod.residents), "most": pod.host_slots, "gpu": pod.gpu_slots},
        "memoryBytes": {"used": memory_of(pod), "most": pod.memory_bytes},
        "maxRank": pod.max_rank,
        "adapters": [resident.name for resident in pod.residents],
    }
