"""The agents of a fleet, as the commands about caches ask them."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from lora_operator.cache.paths import is_fingerprint, is_name
from lora_operator.informers.pod_description import PodDefaults, PodDescription, describe
from lora_operator.plugin.connect import Cluster
from lora_operator.plugin.problems import PluginError, unknown
from lora_operator.plugin.reach import NoAnswer, Reach, token_of

T = TypeVar("T")
LIST = "`kubectl get pods -A` lists all"
NO_SENSE = "its agent's answer makes no sense: are both of the same version?"


async def with_agents(cluster: Cluster, pod: str | None) -> list[PodDescription]:
    """The pods that have an agent, or the one of that name. Raises PluginError."""
    defaults = PodDefaults()
    pods = [describe(body, defaults) for body in await cluster.all_pods()]
    if pod is not None:
        named = [one for one in pods if one.name == pod]
        if not named:
            raise unknown("pod", pod, cluster.where, (one.name for one in pods), LIST)
        pods = named
    found = [one for one in pods if one.agent_port is not None and one.phase == "Running"]
    if not found and pod is not None:
        raise PluginError(f"pod {pod} has no agent that runs: a container with a port called lora-agent")
    if not found:
        raise PluginError(
            f"no pod {cluster.where} has an agent. Files of a shared volume are looked after by the operator: its "
            "metrics lora_operator_cache_… tell how full it is"
        )
    return found


async def ask_all(
    cluster: Cluster,
    arguments: argparse.Namespace,
    pods: Iterable[PodDescription],
    ask: Callable[[PodDescription, str], Awaitable[T]],
) -> list[tuple[PodDescription, T | NoAnswer]]:
    """`ask(pod, token)` of each, side by side; one that does not answer is an answer. Raises PluginError."""
    pods = list(pods)
    tokens = {name: await token_of(cluster, name, arguments) for name in sorted({pod.namespace for pod in pods})}

    async def one(pod: PodDescription) -> T | NoAnswer:
        try:
            return await ask(pod, tokens[pod.namespace])
        except NoAnswer as error:
            return error

    return list(zip(pods, await asyncio.gather(*map(one, pods)), strict=True))


async def entries(reach: Reach, pod: PodDescription, token: str) -> dict[str, object]:
    """What is on the agent's disk, as `agent.wire.ListBody` says it. Raises NoAnswer."""
    body = await reach.agent("GET", pod, "/v1/adapters", token)
    if not isinstance(body, dict) or not isinstance(body.get("entries"), list):
        raise NoAnswer(NO_SENSE)
    if not all(map(_makes_sense, body["entries"])):
        raise NoAnswer(NO_SENSE)
    return body


def _makes_sense(entry: object) -> bool:
    """Whoever may start a pod may answer as an agent: name and version become parts of paths that are asked with the
    user's own rights."""
    if not isinstance(entry, dict):
        return False
    sizes = (entry.get("sizeBytes"), entry.get("doneBytes"), entry.get("lastUsed") or 0)
    return (
        is_name(str(entry.get("name")))
        and is_fingerprint(str(entry.get("fingerprint")))
        and isinstance(entry.get("state"), str)
        and all(isinstance(size, int | float) for size in sizes)
    )
