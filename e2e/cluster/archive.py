"""Writes images in the form of `docker save`, which runtimes and kind load: a tar of layers and two JSON files."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.controlplane.versions import target


@dataclass(frozen=True, slots=True)
class Layer:
    """An uncompressed tar in a file."""

    file: Path
    digest: str  # SHA-256 in hexadecimal digits


def layer_of_files(files: Mapping[str, Path], to: Path) -> Layer:
    """A layer with these files by their paths in the image (without the first slash): root's, of one fixed time."""
    with _writing(to) as tar:
        for name, source in sorted(files.items()):
            tar.add(source, arcname=name, recursive=False, filter=_as_root)
    return Layer(to, _sha256(to))


def layer_of_tree(root: Path, to: Path) -> Layer:
    """A layer that holds everything under `root`, with owners and modes as they are."""
    with _writing(to) as tar:
        for path in sorted(root.iterdir()):
            tar.add(path, arcname=path.name)
    return Layer(to, _sha256(to))


def write_archive(name: str, layers: Sequence[Layer], config: Mapping[str, Any], to: Path) -> None:
    """Write an image called `name` (repository:tag) to the file `to`. `config` is that of an OCI image."""
    image = {
        "architecture": target()[1],
        "os": "linux",
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.digest}" for layer in layers]},
    }
    body = json.dumps(image, sort_keys=True).encode()
    file = f"{hashlib.sha256(body).hexdigest()}.json"
    manifest = [{"Config": file, "RepoTags": [name], "Layers": [f"{layer.digest}/layer.tar" for layer in layers]}]
    part = to.with_name(f"{to.name}.part")
    with tarfile.open(part, "w") as tar:
        for layer in layers:
            tar.add(layer.file, arcname=f"{layer.digest}/layer.tar", filter=_as_root)
        for entry, content in ((file, body), ("manifest.json", json.dumps(manifest).encode())):
            info = tarfile.TarInfo(entry)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    part.replace(to)


def write_program_image(name: str, programs: Mapping[str, Path], to: Path) -> None:
    """An image of static programs at its root alone; the first is what it runs."""
    with tempfile.TemporaryDirectory(prefix=".image-", dir=to.parent) as scratch:
        layer = layer_of_files(programs, Path(scratch, "layer.tar"))
        write_archive(name, [layer], {"Entrypoint": [f"/{next(iter(programs))}"]}, to)


@contextmanager
def _writing(to: Path) -> Iterator[tarfile.TarFile]:
    with tarfile.open(to, "w", format=tarfile.PAX_FORMAT) as tar:
        yield tar


def _as_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    info.mtime = 0
    return info


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
