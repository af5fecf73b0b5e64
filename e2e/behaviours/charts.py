"""Installs the charts as a platform engineer does, and plays the kubelet for what Helm waits for."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.controlplane import ControlPlane
from e2e.controlplane.helm import run_helm
from e2e.pods.volumes import write_files
from e2e.world import OperatorProcess, Rest, World
from e2e.world.world import SYSTEM_NAMESPACE

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "lora-operator"
PODS_CHART = ROOT / "helm" / "vllm-lora"
TEAM = "team"
RELEASE = "lora-operator"
ACCOUNT = f"system:serviceaccount:{SYSTEM_NAMESPACE}:{RELEASE}"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{SYSTEM_NAMESPACE}/deployments"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CRD_NAME = "loraadapters.production-stack.vllm-project"
FAST = {"sourceSeconds": 0.5, "settleSeconds": 0.2, "withdrawSeconds": 0.2, "leaseSeconds": 3}
# its prefix cache is keyed by name: a new version gets a name of its own there, which the operator notes on the pod
ENGINE_RELEASE = "0.28.0"
IMAGE = "registry.example.com/lora-operator"
EDGE = "edge"  # the base model of the pods that have agents

Json = dict[str, Any]


@dataclass
class Cluster:
    """A control plane, and what a platform engineer does with it."""

    plane: ControlPlane
    rest: Rest
    world: World

    def helm(self, *arguments: str) -> str:
        return run_helm(*arguments, kubeconfig=self.plane.kubeconfig)

    def install(self, *more: str, chart: Path = CHART, **values: object) -> str:
        """Install or upgrade the operator's chart."""
        file = self.world.directory / "values.json"
        given = {
            "image": {"repository": IMAGE}, "settings": {**FAST, "localRoots": [str(self.world.directory)]},
            "agentToken": {"namespaces": [TEAM]}, "adapterVolume": {"enabled": True},
        } | values  # fmt: skip
        given["credentialSecrets"] = [{"namespace": TEAM, "name": "source-credentials"}]
        file.write_text(json.dumps(given))
        return self.helm(
            "upgrade", "--install", RELEASE, str(chart), "-n", SYSTEM_NAMESPACE, "--create-namespace",
            "--values", str(file), *more,
        )  # fmt: skip

    def run_operator(self) -> OperatorProcess:
        """What the Deployment's pod would run: its command line, but for paths and ports, under its account."""
        pod = self.rest.get(f"{DEPLOYMENTS}/{RELEASE}")["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        other = ("--adapter-root", "--agent-token-file", "--metrics-port", "--health-port", "--router-port")
        arguments = [one for one in container["args"] if not one.startswith(other)]
        kubeconfig = self.plane.service_account_kubeconfig(SYSTEM_NAMESPACE, pod["serviceAccountName"])
        log = self.world.directory / "operator.log"
        tokens = self.world.directory / "agent-tokens"  # as the Deployment mounts the Secret
        secret = self.rest.get(f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/secrets/lora-agent-token")
        write_files(tokens, {name: base64.b64decode(text) for name, text in secret["data"].items()})
        arguments += ["--agent-token-file", str(tokens), "--log-format", "console"]
        self.world.operator = OperatorProcess(kubeconfig, self.world.volume, log, arguments)
        self.world.operator.wait_ready()
        return self.world.operator

    def install_pods(self, name: str, delivery: Json, **model: object) -> None:
        """A release of the pods' chart, with one model."""
        file = self.world.directory / f"{name}.json"
        pods = {
            "models": [{"name": "tiny", "model": str(self.world.model), **model}],
            "modelDefaults": {
                "image": "vllm-sim", "args": ["--release", ENGINE_RELEASE], "schedulerName": "lora-operator-test",
                "podLabels": {"lora-operator.dev/test-pod": "true"}, "gpus": 0,
                "loraConfig": {"maxLoras": 2, "maxCpuLoras": 4, "maxLoraRank": 16, "memory": "1Gi"},
            },
            "delivery": {"agent": {"image": f"{IMAGE}:0.1.0"}} | delivery,
        }  # fmt: skip
        file.write_text(json.dumps(pods))
        self.helm("install", name, str(PODS_CHART), "-n", TEAM, "--values", str(file))

    def play(self, component: str) -> threading.Thread:
        """Play the kubelet for the next pod of this component of the release, which Helm waits for."""
        opened = threading.Event()
        thread = threading.Thread(target=self._play, args=(component, opened), daemon=True)
        thread.start()
        assert opened.wait(10)
        return thread

    def _play(self, component: str, opened: threading.Event) -> None:
        rest = Rest(self.plane.kubeconfig)
        pods = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/pods"
        for pod in rest.follow(pods, opened):
            if pod["metadata"]["labels"].get("app.kubernetes.io/component") == component:
                break
        else:
            raise AssertionError(f"no pod with component {component} came")
        kubeconfig = self.plane.service_account_kubeconfig(
            SYSTEM_NAMESPACE, pod["spec"].get("serviceAccountName", "default")
        )
        (container,) = pod["spec"]["containers"]
        words: list[str] = [*container["command"], *container["args"]]
        assert words.pop(0) == "python3"
        if component == "test" and self.world.operator is not None:  # no name service leads to its process
            words = [
                re.sub(r"http://.*:8080", f"http://127.0.0.1:{self.world.operator.metrics_port}", w) for w in words
            ]
        run = subprocess.Popen(
            [sys.executable, *words], env={**os.environ, "KUBECONFIG": str(kubeconfig)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        if component == "let-go":
            rest.wait(DEPLOYMENTS, RELEASE, lambda body: not body or body["spec"]["replicas"] == 0, 100)
            self.world.stop_operator()
        said, _ = run.communicate(timeout=60)
        (self.world.directory / f"{component}.log").write_text(said)
        phase = "Failed" if run.returncode else "Succeeded"
        rest.patch(f"{pods}/{pod['metadata']['name']}/status", {"status": {"phase": phase}})
        rest.close()

    def uninstall(self) -> str:
        """`helm uninstall`, with somebody there to run its Job. Returns what the Job said."""
        job = self.play("let-go")
        self.helm("uninstall", RELEASE, "-n", SYSTEM_NAMESPACE, "--timeout", "180s")
        job.join(60)
        return (self.world.directory / "let-go.log").read_text()

    def tokens(self) -> tuple[str, str]:
        """That of the team's agents, as they know it and as the operator does."""
        theirs, operators = (
            self.rest.get(f"/api/v1/namespaces/{namespace}/secrets/lora-agent-token")["data"]
            for namespace in (TEAM, SYSTEM_NAMESPACE)
        )
        return base64.b64decode(theirs["token"]).decode(), base64.b64decode(operators[TEAM]).decode()

    def finalizers(self, name: str) -> list[str]:
        return list(self.world.get(name)["metadata"].get("finalizers") or [])
