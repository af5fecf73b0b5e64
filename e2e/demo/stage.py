"""Brings up what the demo needs, in the order in which a user would, and takes it down again."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from e2e.controlplane import ControlPlane
from e2e.controlplane.binaries import find_binaries
from e2e.controlplane.existing import existing_kubeconfig
from e2e.controlplane.plane import run_kubectl
from e2e.controlplane.processes import Launcher, end, tail
from e2e.controlplane.versions import KUBERNETES_VERSION
from e2e.demo import record
from e2e.demo.borrowed import UNINSTALL, remove_adapters, remove_namespace, remove_nodes
from e2e.demo.engines import Engine
from e2e.demo.errors import NotAsExpected
from e2e.demo.fleet import Fleet, read_fleet
from e2e.demo.samples import APP, NAMESPACE, Samples
from e2e.demo.screen import Screen
from e2e.demo.shown import shown
from e2e.demo.uploads import Upload
from e2e.demo.watching import Watching
from e2e.world import OperatorProcess, Rest, World
from e2e.world.world import BASE_MODEL, SERVICE_ACCOUNT, SYSTEM_NAMESPACE

T = TypeVar("T")
LOG_LINES = 25
GRACE_SECONDS = 15.0


class Stage:
    """Control plane, pods and operator, each a process of its own. `stop` ends what `start` has started."""

    def __init__(
        self,
        directory: Path,
        engine: Engine,
        port: int,
        screen: Screen,
        *,
        detached: bool,
        upload: Upload | None = None,
    ) -> None:
        self.directory = directory
        self.engine = engine
        self.screen = screen
        self.samples = Samples(directory, upload)
        self.kubeconfig = directory / "kubeconfig"
        self.plane: ControlPlane | None = None
        self._port = port
        self._detached = detached
        self._launcher = Launcher(detached=detached)
        self._runner: subprocess.Popen[bytes] | None = None
        self._operator: OperatorProcess | None = None
        self._rest: Rest | None = None
        self.watching = Watching(
            self._read,
            self.check,
            screen,
            patience_seconds=engine.patience_seconds,
            look_seconds=engine.look_seconds,
        )

    @property
    def logs(self) -> dict[str, Path]:
        plane = self.directory / "controlplane"
        return {
            "operator": self.directory / "operator.log",
            **({"agents": self.directory / "pods" / "pods"} if self.samples.upload is not None else {}),
            "pods": self.directory / "pods.log",
            "engines": self.directory / "pods" / "pods",
            "API server": plane / "kube-apiserver.log",
            "audit": plane / "audit.log",
        }

    @property
    def addresses(self) -> dict[str, str]:
        """Where the operator answers people and programs."""
        assert self._operator is not None
        router = f"http://127.0.0.1:{self._operator.router_port}"
        return {
            "web view": f"{router}/ui/",
            "router API": f"{router}/openapi.json",
            "metrics": f"http://127.0.0.1:{self._operator.metrics_port}/metrics",
        }

    def start(self) -> None:
        """Bring everything up.

        Raises:
            ControlPlaneError, NotAsExpected: some part did not become ready.
        """
        if existing_kubeconfig(os.environ) is None:
            find_binaries()  # takes minutes where they have to be built, and says so
            what = f"Kubernetes {KUBERNETES_VERSION}: etcd, API server, controller manager"
        else:
            what = "the cluster of KUBECONFIG, as USE_EXISTING_CLUSTER says"
        plane = self._timed(what, self._start_plane)
        self._start_runner()
        self.screen.command("kubectl apply --server-side -f crds/")
        self.screen.command("kubectl apply -f=manifests/install/{namespace,rbac,requests,pod-guard}.yaml")
        self._timed("the operator's resource definition, service account and rights", lambda: World.install(plane))
        plane.kubectl("create", "namespace", NAMESPACE)
        plane.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=30s", namespace=NAMESPACE)
        self._write_kubeconfig(plane)
        self._rest = Rest(self.kubeconfig)
        self._open_store()
        manifest = self.samples.pods(self.engine, self._port)
        self.screen.command(f"kubectl apply -f {shown(manifest)}")
        self.kubectl("apply", "-f", str(manifest))
        self._timed("the operator, under its own service account", lambda: self._start_operator(plane))
        self._save(plane)
        agents = "" if self.samples.upload is None else " and an agent"
        self.screen.say(f"{self.engine.pods} pods with {self.engine.title}{agents}, each on an address of its own:")
        self.watching.until(
            f"{self.engine.pods} pods are ready",
            lambda fleet: (
                [pod.state for pod in fleet.pods] == ["ready"] * self.engine.pods
                and all(pod.loaded is not None for pod in fleet.pods)
            ),
        )

    def stop(self) -> None:
        """End everything that was started, the latest first, whatever becomes of the others."""
        borrowed = self.plane is not None and self.plane.existing and self._rest is not None
        with ExitStack() as last:
            last.callback(record.forget, self.directory)
            if self.samples.upload is not None:
                last.callback(self.samples.upload.close)
            if self.plane is not None:
                last.callback(self.plane.stop)
            if self._rest is not None:
                last.callback(self._rest.close)
            last.callback(self._launcher.close)
            if borrowed:
                last.callback(self.screen.say, f"CRD and rights stay on your cluster; to remove them: {UNINSTALL}")
                last.callback(remove_nodes, self.kubectl)
            if self._runner is not None:
                last.callback(end, self._runner, grace_seconds=GRACE_SECONDS)
            if borrowed:
                last.callback(remove_namespace, self.kubectl)
            if self._operator is not None:
                last.callback(self._operator.stop)
            if borrowed:
                last.callback(remove_adapters, self.kubectl)

    def let_go(self) -> None:
        """Leave everything running."""
        self._launcher.close()
        if self._rest is not None:
            self._rest.close()

    def check(self) -> None:
        """Raises NotAsExpected if a part of the system has ended."""
        for name, process in self.plane.processes.items() if self.plane is not None else ():
            if process.poll() is not None:
                raise NotAsExpected(f"{name} has ended with exit code {process.returncode}")
        if self._operator is not None and self._operator.process.poll() is not None:
            raise NotAsExpected(f"the operator has ended with exit code {self._operator.process.returncode}")
        if self._runner is not None and self._runner.poll() is not None:
            raise NotAsExpected(f"the pods' runner has ended: {tail(self.logs['pods'])}")

    def operator_log(self) -> str:
        return tail(self.logs["operator"], LOG_LINES)

    def kubectl(self, *arguments: str) -> str:
        """As the user would, with the demo's kubeconfig."""
        assert self.plane is not None
        return run_kubectl(self.plane.kubectl_path, self.kubeconfig, *arguments)

    def new_rest(self) -> Rest:
        """One more session, for another thread."""
        return Rest(self.kubeconfig)

    def _read(self) -> Fleet:
        assert self._rest is not None
        return read_fleet(self._rest, NAMESPACE, APP)

    def _start_plane(self) -> ControlPlane:
        self.plane = ControlPlane.start(self.directory / "controlplane", detached=self._detached)
        self._save(self.plane)
        return self.plane

    def _open_store(self) -> None:
        """Let the operator read the one Secret, and know the token that it shares with the agents."""
        if self.samples.upload is None:
            return
        self.samples.token_file.touch(mode=0o600)
        self.samples.token_file.write_text(secrets.token_hex(16))
        access = self.samples.access()
        self.screen.say(
            f"Adapters will be uploaded to {self.samples.upload.title}; its credentials are in a Secret that the "
            "operator may read. Agents in the pods fetch the files by links that it makes, and never see the Secret."
        )
        self.screen.command(f"kubectl apply -f {shown(access)}")
        self.kubectl("apply", "-f", str(access))

    def _start_runner(self) -> None:
        assert self.plane is not None
        command = [
            sys.executable, "-m", "e2e.pods", "run", "--kubeconfig", str(self.plane.kubeconfig),
            "--nodes", str(self.engine.pods), "--dir", str(self.directory / "pods"),
        ]  # fmt: skip
        self._runner = self._launcher.start(command, self.logs["pods"], self.engine.runner_environment)
        self._save(self.plane)

    def _start_operator(self, plane: ControlPlane) -> None:
        arguments = (
            "--namespace", NAMESPACE, "--log-format", "console", "--local-root", str(self.samples.source),
            "--base-model-config", f"{BASE_MODEL}={self.engine.model / 'config.json'}",
            # a demo is short: sources are looked at more often than every 10 s
            "--source-seconds", "0.5", "--settle-seconds", "0.3",
            *(() if self.samples.upload is None else ("--agent-token-file", str(self.samples.token_file))),
        )  # fmt: skip
        kubeconfig = plane.service_account_kubeconfig(SYSTEM_NAMESPACE, SERVICE_ACCOUNT)
        self._operator = OperatorProcess(
            kubeconfig, self.samples.volume, self.logs["operator"], arguments, detached=self._detached
        )
        self._save(plane)
        try:
            self._operator.wait_ready()
        except AssertionError as error:
            raise NotAsExpected(str(error).partition("\n")[0]) from None

    def _write_kubeconfig(self, plane: ControlPlane) -> None:
        """The administrator's, with the demo's namespace as the one that kubectl takes."""
        view = json.loads(plane.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
        view["contexts"][0]["context"]["namespace"] = NAMESPACE
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(json.dumps(view, indent=1))

    def _save(self, plane: ControlPlane) -> None:
        """So that `down` finds what is there already, however this process ends."""
        if not self._detached:
            return
        started = {
            "operator": self._operator.process.pid if self._operator else None,
            "pods": self._runner.pid if self._runner else None,
            **{name: process.pid for name, process in reversed(plane.processes.items())},
        }
        processes = {name: record.server_of(pid) for name, pid in started.items() if pid is not None}
        kept = record.Record(str(self.kubeconfig), str(plane.kubectl_path), processes, borrowed=plane.existing)
        record.save(self.directory, kept)

    def _timed(self, what: str, work: Callable[[], T]) -> T:
        started = time.monotonic()
        self.screen.draw([f"… {what}"])
        result = work()
        self.screen.good(f"{what} ({time.monotonic() - started:.1f} s)")
        return result
