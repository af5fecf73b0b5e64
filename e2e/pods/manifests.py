"""Manifests of vLLM pods that the runner plays; tests, demo and benchmarks share them.

The annotations and the label are those of the product: what a pod says about itself to the operator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from e2e.pods.options import TEST_LABEL

GROUP = "production-stack.vllm-project"
LORA_LABEL = f"{GROUP}/lora"
ADAPTER_VOLUME = "adapters"
# no scheduler has this name: on a cluster that has one, the pods wait for the runner to bind them
SCHEDULER = "lora-operator-test"
PORT = 8000
AGENT_PORT = 8090

Json = dict[str, Any]


def vllm_statefulset(
    name: str,
    replicas: int,
    base_model: str,
    *,
    namespace: str = "default",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    args: Sequence[str] = (),
    env: Mapping[str, str | Json | None] | None = None,
    image: str = "vllm-sim",
    adapter_root: Path | None = None,
    port: int = PORT,
    ordered: bool = False,
    grace_seconds: int = 10,
    readiness_gates: Sequence[str] = (),
    containers: Sequence[Json] = (),
    sidecars: Sequence[Json] = (),
) -> Json:
    """A StatefulSet whose container `vllm` serves `base_model` with LoRA on.

    `args` come after `--model`, `--enable-lora` and `--port`; give `--model` there to serve a folder under the name
    `base_model`. `annotations` without a slash in the key are the product's: `{"max-loras": "4"}`. `adapter_root`, a
    folder of this machine, is mounted at its own path and told in the annotation `adapter-root`. `containers` are
    further ones, `sidecars` such that are native sidecars. A value of `env` may be a `valueFrom`, or None for a
    variable that is not to be set.

    With `ordered` the pods come one after the other, as is Kubernetes' default.
    """
    selector = {"app": name}
    template = vllm_pod_template(
        base_model,
        labels={**selector, **(labels or {})},
        annotations=annotations,
        args=args,
        env=env,
        image=image,
        adapter_root=adapter_root,
        port=port,
        grace_seconds=grace_seconds,
        readiness_gates=readiness_gates,
        containers=containers,
        sidecars=sidecars,
    )
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name, "namespace": namespace, "labels": selector},
        "spec": {
            "serviceName": name,
            "replicas": replicas,
            "podManagementPolicy": "OrderedReady" if ordered else "Parallel",
            "selector": {"matchLabels": selector},
            "template": template,
        },
    }


def vllm_pod_template(
    base_model: str,
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    args: Sequence[str] = (),
    env: Mapping[str, str | Json | None] | None = None,
    image: str = "vllm-sim",
    adapter_root: Path | None = None,
    port: int = PORT,
    grace_seconds: int = 10,
    readiness_gates: Sequence[str] = (),
    containers: Sequence[Json] = (),
    sidecars: Sequence[Json] = (),
) -> Json:
    """The pod template alone, for Deployments and single pods; see `vllm_statefulset`."""
    own = {"base-model": base_model, "port": str(port)}
    volumes: list[Json] = []
    mounts: list[Json] = []
    if adapter_root is not None:
        own["adapter-root"] = str(adapter_root)
        volumes.append({"name": ADAPTER_VOLUME, "hostPath": {"path": str(adapter_root)}})
        mounts.append({"name": ADAPTER_VOLUME, "mountPath": str(adapter_root)})
    for key, value in (annotations or {}).items():
        own[key] = value
    variables: dict[str, str | Json | None] = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", **(env or {})}
    vllm = {
        "name": "vllm",
        "image": image,
        "args": [*_model(base_model, args), "--enable-lora", "--port", str(port), *args],
        "env": [_variable(key, value) for key, value in variables.items() if value is not None],
        "ports": [{"name": "http", "containerPort": port}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}},
        "volumeMounts": mounts,
    }
    return {
        "metadata": {
            "labels": {TEST_LABEL: "true", LORA_LABEL: "enabled", **(labels or {})},
            "annotations": {key if "/" in key else f"{GROUP}/{key}": value for key, value in own.items()},
        },
        "spec": {
            "schedulerName": SCHEDULER,
            "terminationGracePeriodSeconds": grace_seconds,
            "readinessGates": [{"conditionType": kind} for kind in readiness_gates],
            "initContainers": [{**sidecar, "restartPolicy": "Always"} for sidecar in sidecars],
            "containers": [vllm, *containers],
            "volumes": volumes,
        },
    }


def agent_container(adapter_root: Path, token_file: Path, *args: str, port: int = AGENT_PORT) -> Json:
    """The agent as a sidecar, over a folder of this machine that all its pods share, as agents of one node do."""
    return {
        "name": "agent",
        "image": "lora-operator",
        "args": [
            "agent", "--root", str(adapter_root), "--token-file", str(token_file), "--port", str(port),
            "--pod", "$(POD_NAMESPACE)/$(POD_NAME)", "--pod-uid", "$(POD_UID)", "--log-format", "console", *args,
        ],
        "env": [
            {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        ],
        "ports": [{"name": "lora-agent", "containerPort": port}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "lora-agent"}},
        "volumeMounts": [{"name": ADAPTER_VOLUME, "mountPath": str(adapter_root)}],
    }  # fmt: skip


def _variable(name: str, value: str | Json) -> Json:
    return {"name": name, "value": value} if isinstance(value, str) else {"name": name, "valueFrom": value}


def _model(base_model: str, args: Sequence[str]) -> list[str]:
    if not any(word == "--model" or word.startswith("--model=") for word in args):
        return ["--model", base_model]
    if any(word.startswith("--served-model-name") for word in args):
        return []
    return ["--served-model-name", base_model]
