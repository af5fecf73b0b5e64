"""One fleet: control plane, engines, LoraAdapters, and the operator as a process of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.scale.engines import at_once
from bench.scale.seen import Seen
from e2e.controlplane import ControlPlane
from e2e.pods.api import Api, Json
from e2e.world import World
from e2e.world.adapters import write_adapter
from e2e.world.forked import die_with_parent
from e2e.world.operator_process import OperatorProcess
from e2e.world.rest import GROUP
from e2e.world.world import SERVICE_ACCOUNT, SYSTEM_NAMESPACE

NAMESPACE = "scale"
DISTINCT = 8  # weights; the folders of all others are links to them, so that each has a name of its own
FOR_EVER = 86_400.0


@dataclass(slots=True)
class Fleet:
    """What a measurement works with."""

    plane: ControlPlane
    directory: Path
    api: Api
    seen: Seen
    engines: subprocess.Popen[str]

    def start_operator(self, arguments: Sequence[str] = ()) -> OperatorProcess:
        """As it is installed: for all namespaces, with leader election."""
        kubeconfig = self.plane.service_account_kubeconfig(SYSTEM_NAMESPACE, SERVICE_ACCOUNT)
        given = ("--log-format", "console", *arguments)
        return OperatorProcess(kubeconfig, self.directory / "volume", self.directory / "operator.log", given)

    async def create(self, count: int, deployment: Json) -> None:
        """LoraAdapters a0, a1, …, many at a time."""
        path = f"{GROUP}/namespaces/{NAMESPACE}/loraadapters"
        await at_once(self.api.create(path, self._body(number, deployment)) for number in range(count))

    async def delete_all(self, count: int) -> None:
        path = f"{GROUP}/namespaces/{NAMESPACE}/loraadapters"
        await at_once(self.api.delete(f"{path}/a{number}", {}) for number in range(count))

    def kill_engine(self, pod: str) -> None:
        """It refuses connections from now on; its pod stays as it is."""
        assert self.engines.stdin is not None and self.engines.stdout is not None
        self.engines.stdin.write(f"kill {pod}\n")
        self.engines.stdin.flush()
        self.engines.stdout.readline()

    def _body(self, number: int, deployment: Json) -> Json:
        return {
            "apiVersion": "production-stack.vllm-project/v1alpha1",
            "kind": "LoraAdapter",
            "metadata": {"name": f"a{number}", "namespace": NAMESPACE},
            "spec": {
                "baseModel": "tiny",
                "adapterSource": {"type": "local", "repository": str(self.directory / "source" / f"a{number}")},
                "deploymentConfig": deployment,
            },
        }


@contextlib.asynccontextmanager
async def fleet(directory: Path, adapters: int, pods: int, slots: int, load_seconds: float) -> AsyncIterator[Fleet]:
    """All but the LoraAdapters and the operator. `slots`: how many adapters each engine holds."""
    (directory / "volume").mkdir(parents=True)
    _write_sources(directory / "source", adapters)
    with ControlPlane.start(directory / "controlplane", node_grace_seconds=FOR_EVER) as plane:
        World.install(plane)
        plane.create_namespace(NAMESPACE)
        engines = _start_engines(plane, directory, pods, slots, load_seconds)
        api = await Api.connect(plane.kubeconfig)
        try:
            assert engines.stdout is not None
            if engines.stdout.readline() != "ready\n":
                raise AssertionError(f"the engines did not start; see {directory}/engines.log")
            async with Seen(api, NAMESPACE).following() as seen:
                yield Fleet(plane, directory, api, seen, engines)
        finally:
            engines.kill()
            engines.wait()
            await api.close()


def _start_engines(
    plane: ControlPlane, directory: Path, pods: int, slots: int, load_seconds: float
) -> subprocess.Popen[str]:
    command = [
        sys.executable, "-m", "bench.scale.engines", str(plane.kubeconfig), NAMESPACE, str(pods),
        str(directory / "addresses"), "tiny", str(directory / "volume"), str(slots), str(load_seconds),
    ]  # fmt: skip
    with (directory / "engines.log").open("wb") as log:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, preexec_fn=die_with_parent
        )


def _write_sources(folder: Path, count: int) -> None:
    folder.mkdir()
    first = [write_adapter(folder / f"a{number}", base_model="tiny", seed=number) for number in range(DISTINCT)]
    for number in range(DISTINCT, count):
        (folder / f"a{number}").mkdir()
        for file in first[number % DISTINCT].iterdir():
            (folder / f"a{number}" / file.name).hardlink_to(file)
