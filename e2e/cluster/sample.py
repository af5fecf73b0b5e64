"""What the charts are tried with on a cluster that reaches nothing: simulated engines, and adapters on a web server.

`python -m e2e.cluster sample` writes it for the commands of docs/one-machine.md; the behaviours use the same.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

import yaml

from e2e.cluster.own_images import OPERATOR_IMAGE, SIMULATOR_IMAGE
from e2e.world.adapters import MODEL_CONFIG, write_adapter
from e2e.world.rest import Json

TEAM = "team-a"
BASE_MODEL = "tiny"
STORE = "store"
ADAPTER = "sql"
ADAPTERS = (ADAPTER, "poet")  # what the store has
DISK = "64Mi"  # of each pod, for adapters


def write_sample(directory: Path) -> dict[Path, str]:
    """Write values of the pods' chart and a manifest; returns what each file is."""
    directory.mkdir(parents=True, exist_ok=True)
    models, adapter = directory / "models.yaml", directory / "adapter.yaml"
    models.write_text(yaml.safe_dump(pods_values(), sort_keys=False))
    objects = [*store_objects(directory / "adapters"), a_lora_adapter(ADAPTER, 2)]
    adapter.write_text(yaml.safe_dump_all(objects, sort_keys=False))
    return {
        models: "values of helm/vllm-lora: two pods with the simulated engine",
        adapter: "an adapter for them, and the web server that has its files",
    }


def pods_values(image: str = OPERATOR_IMAGE) -> Json:
    """my-models.yaml, with the simulator where vLLM would need a GPU."""
    return {
        "models": [{"name": BASE_MODEL, "model": "/model", "servedModelName": BASE_MODEL, "replicas": 2}],
        "modelDefaults": {
            "image": SIMULATOR_IMAGE,
            "gpus": 0,
            "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
            "loraConfig": {"maxLoras": 2, "maxCpuLoras": 4, "maxLoraRank": 16, "memory": "1Gi"},
            "volumes": [{"name": "model", "configMap": {"name": "model"}}],
            "volumeMounts": [{"name": "model", "mountPath": "/model", "readOnly": True}],
        },
        "delivery": {
            "kind": "podDisk",
            "size": DISK,
            "cacheBytes": "32Mi",
            "agent": {"image": image},
        },
    }


def a_lora_adapter(
    name: str, replicas: int, namespace: str = TEAM, source: Json | None = None, **deployment: object
) -> Json:
    """A LoraAdapter for what the store has under this name; see `Installation.declare`."""
    usual = {"adapterSource": {"type": "http", "repository": f"http://{STORE}.{TEAM}.svc:8000/{name}/"}}
    return {
        "apiVersion": "production-stack.vllm-project/v1alpha1",
        "kind": "LoraAdapter",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "baseModel": BASE_MODEL,
            **(source or usual),
            "deploymentConfig": {"replicas": replicas, **deployment},
        },
    }


def config_map(name: str, files: Mapping[str, bytes]) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": TEAM},
        "binaryData": {key: base64.b64encode(content).decode() for key, content in files.items()},
    }


def store_objects(scratch: Path, node_selector: Mapping[str, str] | None = None) -> list[Json]:
    """The model's configuration, adapters, which are written into `scratch` too, and a web server that has them."""
    made = [config_map("model", {"config.json": json.dumps(MODEL_CONFIG).encode()})]
    for seed, name in enumerate(ADAPTERS):
        folder = write_adapter(scratch / name, base_model=BASE_MODEL, seed=seed)
        made.append(config_map(f"adapter-{name}", {file.name: file.read_bytes() for file in sorted(folder.iterdir())}))
    labels = {"app": STORE}
    container = {
        "name": STORE,
        "image": SIMULATOR_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-m", "http.server", "8000", "--directory", "/files"],
        "ports": [{"containerPort": 8000}],
        "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
        "volumeMounts": [{"name": name, "mountPath": f"/files/{name}"} for name in ADAPTERS],
    }
    pod: Json = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": STORE, "namespace": TEAM, "labels": labels},
        "spec": {
            "automountServiceAccountToken": False,
            "nodeSelector": dict(node_selector or {}),
            "containers": [container],
            "volumes": [{"name": name, "configMap": {"name": f"adapter-{name}"}} for name in ADAPTERS],
        },
    }
    service: Json = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": STORE, "namespace": TEAM},
        "spec": {"selector": labels, "ports": [{"port": 8000}]},
    }
    return [*made, pod, service]
