"""`kubectl lora evict`: removes an adapter's files from the disks of agents, each of which refuses what is in use."""

from __future__ import annotations

import argparse

from lora_operator.informers.pod_description import PodDescription
from lora_operator.plugin.agents import ask_all, entries, with_agents
from lora_operator.plugin.connect import connected
from lora_operator.plugin.problems import FAILED, unknown
from lora_operator.plugin.reach import NoAnswer, Reach, reaching
from lora_operator.plugin.screen import BAD, GOOD, Screen, in_size


async def run(arguments: argparse.Namespace) -> int:
    screen = Screen()
    async with connected(arguments) as cluster, reaching(cluster, arguments) as reach:
        pods = await with_agents(cluster, arguments.pod)
        seen: set[str] = set()

        async def remove(pod: PodDescription, token: str) -> list[tuple[str, NoAnswer | None]]:
            return await _remove(reach, pod, token, arguments.name, seen)

        found = await ask_all(cluster, arguments, pods, remove)
    failed = False
    for pod, answer in found:
        for what, problem in [("", answer)] if isinstance(answer, NoAnswer) else answer:
            failed |= problem is not None
            said = f"{what} stays: {problem}" if what else f"not asked: {problem}"
            screen.line(f"{pod.name}: {said if problem else f'{what} removed'}", BAD if problem else GOOD)
    if not failed and not any(answer for _, answer in found):
        raise unknown(
            "cached adapter", arguments.name, "on these disks", seen, "`kubectl lora cache` shows what there is"
        )
    return FAILED if failed else 0


async def _remove(
    reach: Reach, pod: PodDescription, token: str, name: str, seen: set[str]
) -> list[tuple[str, NoAnswer | None]]:
    """(version, None or why it stays) of each version of the adapter on this disk; `seen` gets all names there."""
    removed: list[tuple[str, NoAnswer | None]] = []
    there = (await entries(reach, pod, token))["entries"]
    assert isinstance(there, list)
    for entry in there:
        seen.add(entry["name"])
        if entry["name"] != name:
            continue
        what = f"{name} {entry['fingerprint'][:8]} ({in_size(entry['sizeBytes'])})"
        try:
            await reach.agent("DELETE", pod, f"/v1/adapters/{name}/{entry['fingerprint']}", token)
            removed.append((what, None))
        except NoAnswer as error:
            if error.reason != "NotStored":  # pods of a node share a disk: another agent may have been faster
                removed.append((what, error))
    return removed
