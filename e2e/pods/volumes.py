"""The files of a pod's Secret, ConfigMap and projected volumes. Pure: the objects come in as values.

Projected volumes that need more than those two (a token of the service account, the pod's own fields) are not played;
as every pod gets one of them by itself, they are left out and not refused.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Objects = Mapping[tuple[str, str], Json]


@dataclass(frozen=True, slots=True)
class Part:
    """One object in a volume: `kind` is secrets or configmaps; `paths` by key, every key under its own name if none."""

    kind: str
    name: str
    optional: bool
    paths: Mapping[str, str]


def parts_of(pod: Json) -> dict[str, list[Part]]:
    """Volume name -> the objects whose keys are files in it."""
    found: dict[str, list[Part]] = {}
    for volume in pod["spec"].get("volumes") or []:
        sources = (volume.get("projected") or {}).get("sources") or [volume]
        parts = [part for source in sources for part in _parts(source)]
        if parts and len(parts) == len(sources):
            found[volume["name"]] = parts
    return found


def files_of(parts: list[Part], objects: Objects) -> dict[str, bytes]:
    """Path -> content. Of an object that is not there, nothing; a key that is named and not there is left out."""
    files: dict[str, bytes] = {}
    for part in parts:
        data = objects.get((part.kind, part.name), {}).get("data") or {}
        for key, text in data.items():
            if part.paths and key not in part.paths:
                continue
            content = base64.b64decode(text) if part.kind == "secrets" else str(text).encode()
            files[part.paths.get(key, key)] = content
    return files


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Have exactly these files in the folder; each is exchanged in one step, as whoever reads it may be at work."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f"..{target.name}")
        fresh.write_bytes(content)
        fresh.replace(target)
    for file in [file for file in folder.rglob("*") if file.is_file() and str(file.relative_to(folder)) not in files]:
        file.unlink()


def _parts(source: Json) -> Iterator[Part]:
    for field, key, kind in (("secret", "secretName", "secrets"), ("configMap", "name", "configmaps")):
        if body := source.get(field):
            paths = {item["key"]: item["path"] for item in body.get("items") or []}
            yield Part(kind, body.get(key) or body["name"], bool(body.get("optional")), paths)
