"""Brings the system up in the order in which a user would, and takes it down again."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from e2e.controlplane import ControlPlane
from e2e.pods import PodRunnerThread
from e2e.pods.manifests import agent_container, vllm_statefulset
from e2e.world.adapters import MODEL_CONFIG, write_adapter
from e2e.world.engines import EngineProbe
from e2e.world.operator_process import OperatorProcess
from e2e.world.rest import GROUP, PATIENCE_SECONDS, Json, Rest, WaitError

ROOT = Path(__file__).resolve().parents[2]
SYSTEM_NAMESPACE = "lora-operator-system"
INSTALLED = ("namespace", "rbac", "requests", "pod-guard")  # of manifests/install
SERVICE_ACCOUNT = "lora-operator"
BASE_MODEL = "tiny"


class World:
    """Control plane, pods and (when started) the operator, for one namespace of users' things."""

    def __init__(
        self,
        plane: ControlPlane,
        directory: Path,
        namespace: str,
        *,
        operator_kubeconfig: Path | None = None,
        **pod_options: Any,
    ) -> None:
        self.plane = plane
        self.directory = directory
        self.namespace = namespace
        self.rest = Rest(plane.kubeconfig)
        self.source = directory / "source"  # where users keep adapters
        self.volume = directory / "volume"  # the adapter volume, mounted in pods under another path
        self.model = directory / "model"
        self.disk = directory / "node-disk"  # where agents keep adapters
        for folder in (self.source, self.volume, self.model, self.disk):
            folder.mkdir(parents=True, exist_ok=True)
        self.token_file = directory / "agent-token"
        self.token_file.write_text(secrets.token_hex(16))
        (self.model / "config.json").write_text(json.dumps(MODEL_CONFIG))
        self.operator: OperatorProcess | None = None
        self._operator_kubeconfig = operator_kubeconfig
        self.pods = PodRunnerThread(plane.kubeconfig, directory / "pods", namespaces=(namespace,), **pod_options)

    def __enter__(self) -> World:
        self.pods.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_operator()
        self.pods.stop()
        self.rest.close()

    # what an administrator does once

    @staticmethod
    def install(plane: ControlPlane) -> None:
        """CRD, namespace, service account and rights, as shipped. Safe to repeat."""
        plane.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        plane.wait_established(*(f"{kind}.production-stack.vllm-project" for kind in ("loraadapters", "loraendpoints")))
        for name in INSTALLED:
            plane.kubectl("apply", "-f", str(ROOT / "manifests" / "install" / f"{name}.yaml"))

    def start_operator(self, *arguments: str, wait: bool = True, identity: str = "") -> OperatorProcess:
        """Run the operator for this world's namespace, under its own service account.

        One of another `identity` stands by while the first is there; it is the caller's to end.
        """
        kubeconfig = self._operator_kubeconfig or self.plane.service_account_kubeconfig(
            SYSTEM_NAMESPACE, SERVICE_ACCOUNT
        )
        given = (
            "--namespace", self.namespace, "--log-format", "console", "--source-seconds", "0.5",
            "--settle-seconds", "0.2", "--withdraw-seconds", "0.2", "--agent-token-file", str(self.token_file),
            "--lease-name", f"operator-{self.namespace}", *arguments,
        )  # fmt: skip
        name = identity or f"operator-{self.namespace}"
        log = self.directory / (f"{identity}.log" if identity else "operator.log")
        operator = OperatorProcess(kubeconfig, self.volume, log, given, identity=name, forked=True)
        if not identity:
            self.operator = operator
        if wait:
            operator.wait_ready()
        return operator

    def stop_operator(self) -> int | None:
        """End it in order."""
        operator, self.operator = self.operator, None
        return operator.stop() if operator is not None else None

    def start_pods(
        self,
        count: int,
        *arguments: str,
        name: str = "vllm",
        annotations: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        environment: Mapping[str, str | Json | None] | None = None,
        max_loras: int = 4,
        max_cpu_loras: int = 8,
        max_lora_rank: int = 16,
        release: str = "0.32.0",
        readiness_gates: Sequence[str] = (),
        agent: Sequence[str] | None = None,
        native_sidecar: bool = False,
        wait: bool = True,
    ) -> None:
        """A StatefulSet of simulated engines. `environment`: see `vllm_statefulset`.

        With `agent` (its further arguments) each pod has an agent beside the engine, and reads adapters from its disk;
        the agent is a native sidecar if that is chosen.
        """
        flags = (
            "--model", str(self.model), "--served-model-name", BASE_MODEL, "--enable-lora",
            "--max-loras", str(max_loras), "--max-cpu-loras", str(max_cpu_loras),
            "--max-lora-rank", str(max_lora_rank), "--release", release, *arguments,
        )  # fmt: skip
        agents = [] if agent is None else [agent_container(self.disk, self.token_file, *agent)]
        manifest = vllm_statefulset(
            name,
            count,
            BASE_MODEL,
            namespace=self.namespace,
            labels=dict(labels or {}),
            annotations=dict(annotations or {}),
            args=flags,
            env=environment,
            readiness_gates=readiness_gates,
            adapter_root=self.volume if agent is None else self.disk,
            containers=() if native_sidecar else agents,
            sidecars=agents if native_sidecar else (),
        )
        self.kubectl("apply", "-f", "-", input=json.dumps(manifest))
        if wait:
            self.pods.wait_ready(self.namespace, count, f"{name}-")

    # what users do

    def kubectl(self, *arguments: str, input: str | None = None, check: bool = True) -> str:
        return self.plane.kubectl(*arguments, input=input, check=check, namespace=self.namespace)

    def adapter(self, name: str, *, inside: str = "", **options: Any) -> Path:
        """Write an adapter into the source folder (or a folder of several in it)."""
        return write_adapter(self.source / inside / name, base_model=BASE_MODEL, **options)

    def manifest(
        self,
        name: str,
        path: str,
        *,
        source: Mapping[str, object] | None = None,
        deployment: Mapping[str, object] | None = None,
        scheduling: Mapping[str, object] | None = None,
        **spec: object,
    ) -> Json:
        """A LoraAdapter of a folder under the source folder. `spec`: what else it says."""
        return {
            "apiVersion": "production-stack.vllm-project/v1alpha1",
            "kind": "LoraAdapter",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "baseModel": BASE_MODEL,
                "adapterSource": {"type": "local", "repository": str(self.source / path)} | dict(source or {}),
                "deploymentConfig": dict(deployment or {}),
                "schedulingConfig": dict(scheduling or {}),
                **spec,
            },
        }

    def apply(self, name: str, path: str, **options: Any) -> None:
        """kubectl apply of `manifest(...)`."""
        self.kubectl("apply", "-f", "-", input=json.dumps(self.manifest(name, path, **options)))

    def clear(self) -> None:
        """Delete every LoraAdapter and wait until the engines have let go of all that was theirs."""
        names = [item["metadata"]["name"] for item in self.rest.get(self.collection).get("items", [])]
        self.rest.delete(self.collection)
        for name in names:
            self.wait_gone(name)
        shutil.rmtree(self.source)
        self.source.mkdir()

    # what anybody sees

    @property
    def collection(self) -> str:
        return f"{GROUP}/namespaces/{self.namespace}/loraadapters"

    @property
    def endpoints(self) -> str:
        """Where the LoraEndpoints are."""
        return f"{GROUP}/namespaces/{self.namespace}/loraendpoints"

    def get(self, name: str) -> Json:
        return self.rest.get(f"{self.collection}/{name}")

    def wait(self, name: str, done: Callable[[Json], bool], timeout: float = PATIENCE_SECONDS) -> Json:
        """Until this LoraAdapter's status is as expected; returns the object. A failure shows the operator's log."""
        try:
            return self.rest.wait(
                self.collection, name, lambda body: bool(body) and done(body.get("status") or {}), timeout
            )
        except WaitError as error:
            log = self.operator.tail() if self.operator is not None else "(no operator runs)"
            raise WaitError(f"{error}\n--- operator log\n{log}") from None

    def wait_ready(self, name: str, timeout: float = PATIENCE_SECONDS) -> Json:
        """Until Ready is True for the present generation."""
        body = self.rest.get(f"{self.collection}/{name}")
        generation = body.get("metadata", {}).get("generation", 1)
        return self.wait(
            name,
            lambda status: status.get("observedGeneration", 0) >= generation and condition(status, "Ready") == "True",
            timeout,
        )

    def wait_gone(self, name: str, timeout: float = PATIENCE_SECONDS) -> None:
        """Until the LoraAdapter does not exist any more."""
        self.rest.wait(self.collection, name, lambda body: not body, timeout)

    def engine(self, pod: str, api_key: str | None = None) -> EngineProbe:
        """The engine of a pod."""
        return EngineProbe(f"{self.pods.address_of(self.namespace, pod)}:8000", api_key)

    def engines(self) -> dict[str, EngineProbe]:
        """All engines by pod."""
        return {pod: self.engine(pod) for pod in self.pods.pods(self.namespace)}

    def events(self, name: str) -> list[Json]:
        """Kubernetes Events about one LoraAdapter."""
        path = f"/api/v1/namespaces/{self.namespace}/events"
        return list(self.rest.get(path, fieldSelector=f"involvedObject.name={name}").get("items", []))


def condition(status: Json, kind: str) -> str:
    """The status of one condition: True, False, Unknown or nothing."""
    return next((str(c["status"]) for c in status.get("conditions") or () if c["type"] == kind), "")


def assigned(status: Json) -> dict[str, list[str]]:
    """Pod -> adapters, from status."""
    return {item["pod"]: item.get("adapters", []) for item in status.get("podAssignments") or ()}


def failed(status: Json) -> dict[str, str]:
    """Adapter -> typed reason, from status."""
    return {item["name"]: item.get("code", "") for item in status.get("failedAdapters") or ()}


def eventually(done: Callable[[], bool], timeout: float = PATIENCE_SECONDS, what: Sequence[str] = ()) -> None:
    """For what cannot be watched (an engine's list): ask again until it is so."""
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            raise WaitError(f"not so within {timeout:g} s: {' '.join(what)}")
        time.sleep(0.02)
