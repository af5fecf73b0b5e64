"""The demo's adapters, written as a user's training job would leave them, and the LoraAdapters for them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import yaml

from e2e.demo.access import SECRET, access
from e2e.demo.engines import MEMORY, Engine
from e2e.demo.shown import shown
from e2e.demo.uploads import Upload
from e2e.pods.manifests import agent_container, vllm_statefulset
from e2e.world.adapters import write_adapter
from e2e.world.world import BASE_MODEL

APP = "vllm"
NAMESPACE = "lora-demo"
WEIGHTS = "adapter_model.safetensors"
TOO_HIGH_RANK = 64
SPREAD = 0.3


class Samples:
    """Folders under `directory`: `source` with adapters, `manifests` with YAML, `volume` for the operator and pods.

    With `upload`, adapters go from `source` to that store, and the pods' agents bring them onto `disk`.
    """

    def __init__(self, directory: Path, upload: Upload | None = None) -> None:
        self.upload = upload
        self.disk = directory / "node-disk"
        self.token_file = directory / "agent-token"
        self.source = directory / "source"
        self.manifests = directory / "manifests"
        self.volume = directory / "volume"
        for folder in (self.source, self.manifests, self.volume, self.disk):
            folder.mkdir(exist_ok=True)

    def adapter(self, path: str, *, seed: int, rank: int = 8) -> Path:
        """Random weights; another seed gives others."""
        folder = self._write_adapter(path, seed=seed, rank=rank)
        self._offer(path)
        return folder

    def truncated(self, path: str, *, seed: int) -> Path:
        """An upload that broke off."""
        folder = self._write_adapter(path, seed=seed, rank=8)
        weights = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(weights[: len(weights) // 2])
        self._offer(path)
        return folder

    def place_of(self, path: str) -> str:
        """Where the files of this adapter are offered, for people."""
        if self.upload is None:
            return shown(self.source / path)
        return f"{self.upload.title}: {self.upload.source(path)['repository']}"

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
            "adapterSource": {**self._source(path), **(source or {})},
        }
        if self.upload is not None:
            spec["credentialsSecretRef"] = {"name": SECRET}
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
                adapter_root=self.volume if self.upload is None else self.disk,
                containers=() if self.upload is None else [agent_container(self.disk, self.token_file)],
                port=port,
            ),
        )

    def access(self) -> Path:
        """Write the Secret of the store and the operator's right to read it; returns their file."""
        assert self.upload is not None
        file = self.manifests / f"{SECRET}.yaml"
        file.touch(mode=0o600)
        file.write_text(yaml.safe_dump_all(access(self.upload.secret), sort_keys=False, width=1000))
        return file

    def _write_adapter(self, path: str, *, seed: int, rank: int) -> Path:
        folder = self.source / path
        folder.parent.mkdir(exist_ok=True)
        return write_adapter(folder, base_model=BASE_MODEL, rank=rank, seed=seed, spread=SPREAD)

    def _offer(self, path: str) -> None:
        if self.upload is not None:
            self.upload.put(path, {file.name: file.read_bytes() for file in (self.source / path).iterdir()})

    def _source(self, path: str) -> dict[str, object]:
        if self.upload is not None:
            return self.upload.source(path)
        return {"type": "local", "repository": str(self.source / path)}

    def _write(self, name: str, document: Mapping[str, object]) -> Path:
        file = self.manifests / f"{name}.yaml"
        file.write_text(yaml.safe_dump(document, sort_keys=False, width=1000))
        return file
