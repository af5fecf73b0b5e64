"""The demo's adapters, written as a user's training job would leave them, and the LoraAdapters for them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import yaml

from e2e.demo.engines import MEMORY, Engine
from e2e.pods.manifests import vllm_statefulset
from e2e.world.adapters import write_adapter
from e2e.world.world import BASE_MODEL

APP = "vllm"
NAMESPACE = "lora-demo"
WEIGHTS = "adapter_model.safetensors"
TOO_HIGH_RANK = 64
SPREAD = 0.3


class Samples:
    """Folders under `directory`: `source` with adapters, `manifests` with YAML, `volume` for the operator and pods."""

    def __init__(self, directory: Path) -> None:
        self.source = directory / "source"
        self.manifests = directory / "manifests"
        self.volume = directory / "volume"
        for folder in (self.source, self.manifests, self.volume):
            folder.mkdir(exist_ok=True)

    def adapter(self, path: str, *, seed: int, rank: int = 8) -> Path:
        """Random weights; another seed gives others."""
        folder = self.source / path
        folder.parent.mkdir(exist_ok=True)
        return write_adapter(folder, base_model=BASE_MODEL, rank=rank, seed=seed, spread=SPREAD)

    def truncated(self, path: str, *, seed: int) -> Path:
        """An upload that broke off."""
        folder = self.adapter(path, seed=seed)
        weights = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(weights[: len(weights) // 2])
        return folder

    def weights(self, path: str) -> str:
        """How the simulator names the weights that computed an answer."""
        return hashlib.sha256((self.source / path / WEIGHTS).read_bytes()).hexdigest()[:12]

    def lora_adapter(
        self,
        name: str,
        path: str,
        *,
        source: Mapping[str, object] | None = None,
        deployment: Mapping[str, object] | None = None,
    ) -> Path:
        """Write the manifest of a LoraAdapter; returns its file."""
        spec: dict[str, object] = {
            "baseModel": BASE_MODEL,
            "adapterSource": {"type": "local", "repository": str(self.source / path), **(source or {})},
        }
        if deployment:
            spec["deploymentConfig"] = dict(deployment)
        return self._write(
            name,
            {
                "apiVersion": "production-stack.vllm-project/v1alpha1",
                "kind": "LoraAdapter",
                "metadata": {"name": name},
                "spec": spec,
            },
        )

    def pods(self, engine: Engine, port: int) -> Path:
        """Write the manifest of the StatefulSet; returns its file."""
        return self._write(
            APP,
            vllm_statefulset(
                APP,
                engine.pods,
                BASE_MODEL,
                namespace=NAMESPACE,
                annotations={"lora-memory": MEMORY},
                args=engine.all_arguments,
                env=engine.variables,
                image=engine.image,
                adapter_root=self.volume,
                port=port,
            ),
        )

    def _write(self, name: str, document: Mapping[str, object]) -> Path:
        file = self.manifests / f"{name}.yaml"
        file.write_text(yaml.safe_dump(document, sort_keys=False, width=1000))
        return file
