"""All engines of a fleet in one process, and their pods as objects in the API server, with the status that a kubelet
would give them.

`python -m bench.scale.engines KUBECONFIG NAMESPACE PODS ADDRESSES MODEL ADAPTER_ROOT MAX_CPU_LORAS LOAD_SECONDS` prints
`ready` when all answer. Each line of input is a command: `kill POD` ends an engine and leaves its pod as it is.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from e2e.pods.addresses import AddressBook
from e2e.pods.api import Api, Json
from e2e.pods.manifests import vllm_pod_template
from e2e.pods.status import ContainerState, pod_status
from e2e.vllm_sim.server import Engine, serve

PODS_PER_NODE = 8
AT_ONCE = 32


async def at_once(work: Iterable[Awaitable[object]], most: int = AT_ONCE) -> None:
    """All of it, a few at a time."""
    some = asyncio.Semaphore(most)

    async def one(each: Awaitable[object]) -> None:
        async with some:
            await each

    await asyncio.gather(*(one(each) for each in work))


class Fleet:
    """Engines by the names of their pods."""

    def __init__(self, api: Api, namespace: str, flags: list[str], root: Path) -> None:
        self._api = api
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._flags = flags
        self._root = root
        self._engines: dict[str, Engine] = {}

    async def start(self, count: int, addresses: AddressBook) -> None:
        await at_once(self._node(f"node-{number}") for number in range(-(-count // PODS_PER_NODE)))
        await at_once(self._pod(number, addresses.give(f"pod-{number}")) for number in range(count))

    async def kill(self, pod: str) -> None:
        await self._engines[pod].kill()

    async def _node(self, name: str) -> None:
        await self._api.create("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": _now(), "lastTransitionTime": _now()}
        await self._api.patch(f"/api/v1/nodes/{name}/status", {"status": {"conditions": [ready]}})

    async def _pod(self, number: int, address: str) -> None:
        name, node = f"vllm-{number}", f"node-{number // PODS_PER_NODE}"
        body: Json = vllm_pod_template("tiny", args=self._flags, adapter_root=self._root)
        body |= {"apiVersion": "v1", "kind": "Pod"}
        body["metadata"]["name"] = name
        body["spec"]["nodeName"] = node
        environment = {each["name"]: each["value"] for each in body["spec"]["containers"][0]["env"]}
        arguments = [*body["spec"]["containers"][0]["args"], "--sim-bind", address, "--sim-startup-seconds", "0"]
        self._engines[name] = await serve(arguments, environment)
        container = ContainerState("vllm", "vllm-sim", {"running": {"startedAt": _now()}}, ready=True)
        container.container_id = f"sim://{number:064x}"
        made = await self._api.create(self._pods, body)
        status = pod_status(made, [container], ip=address, host_ip="127.0.0.1", start_time=_now(), now=_now())
        await self._api.patch(f"{self._pods}/{name}/status", {"status": status})


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def main(arguments: list[str]) -> None:
    kubeconfig, namespace, count, addresses, model, root, max_cpu_loras, load_seconds = arguments
    flags = [
        "--model", model, "--served-model-name", "tiny", "--max-loras", "4", "--max-cpu-loras", max_cpu_loras,
        "--sim-load-seconds", load_seconds,
    ]  # fmt: skip
    fleet = Fleet(await Api.connect(Path(kubeconfig)), namespace, flags, Path(root))
    await fleet.start(int(count), AddressBook(Path(addresses)))
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        match line.split():
            case ["kill", pod]:
                await fleet.kill(pod)
                print(line.strip(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
