"""Adapters of stores, for worlds: how to put them there, and to apply LoraAdapters and Secrets for them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from e2e.demo.access import access
from e2e.demo.uploads import Upload
from e2e.world import World


def offer(world: World, store: Upload, path: str, **options: Any) -> dict[str, object]:
    """Put an adapter into the store, or a new version of it; returns its adapterSource."""
    folder = world.adapter(path, **options)
    store.put(path, {file.name: file.read_bytes() for file in folder.iterdir()})
    return store.source(path)


def apply(
    world: World, name: str, source: Mapping[str, object], *, secret: str | None = None, **deployment: Any
) -> None:
    """kubectl apply of a LoraAdapter with this source."""
    manifest = world.manifest(name, "", source=source, deployment=deployment)
    if secret is not None:
        manifest["spec"]["credentialsSecretRef"] = {"name": secret}
    world.kubectl("apply", "-f", "-", input=json.dumps(manifest))


def grant(world: World, name: str, values: Mapping[str, str]) -> None:
    """kubectl apply of a Secret, and of the operator's right to read this one."""
    items = {"apiVersion": "v1", "kind": "List", "items": access(values, name)}
    world.kubectl("apply", "-f", "-", input=json.dumps(items))


def refresh(world: World, name: str) -> None:
    """What a person does who does not want to wait."""
    annotation = f"production-stack.vllm-project/refresh={secrets.token_hex(4)}"
    world.kubectl("annotate", "--overwrite", "la", name, annotation)


def source_ready(status: Mapping[str, Any]) -> tuple[str, str]:
    """Status and reason of the condition SourceReady."""
    found = [(c["status"], c["reason"]) for c in status.get("conditions") or () if c["type"] == "SourceReady"]
    return found[0] if found else ("", "")


def everything_said(world: World) -> str:
    """Logs of operator and agents, metrics, Events and statuses: all that people and machines get to see."""
    assert world.operator is not None
    logs = [world.operator.log, *world.directory.rglob("agent.log")]
    said = [_text(log) for log in logs] + [world.operator.fetch("/metrics")]
    events = world.rest.get(f"/api/v1/namespaces/{world.namespace}/events")
    return "\n".join([*said, json.dumps(events), json.dumps(world.rest.get(world.collection))])


def _text(log: Path) -> str:
    return log.read_text(errors="replace")
