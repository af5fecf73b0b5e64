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

from e2e.cluster.errors import ImageError
from e2e.controlplane.versions import target


@dataclass(frozen=True, slots=True)
class Layer:
    """An uncompressed tar in a file."""

    file: Path
    digest: str  # SHA-256 in hexadecimal digits


@dataclass(frozen=True, slots=True)
class Image:
    """Its names (repository:tag), its layers from the lowest on, and the `config` part of its configuration."""

    names: Sequence[str]
    layers: Sequence[Layer]
    config: Mapping[str, Any]


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


def write_archive(images: Sequence[Image], to: Path) -> None:
    """Write the images to the file `to`; layers that they share are in it once."""
    manifest, entries = [], []
    layers: dict[str, Layer] = {}
    for image in images:
        body = json.dumps(_described(image), sort_keys=True).encode()
        file = f"{hashlib.sha256(body).hexdigest()}.json"
        entries.append((file, body))
        paths = [f"{layer.digest}/layer.tar" for layer in image.layers]
        layers.update(zip(paths, image.layers, strict=True))
        manifest.append({"Config": file, "RepoTags": list(image.names), "Layers": paths})
    part = to.with_name(f"{to.name}.part")
    with tarfile.open(part, "w") as tar:
        for path, layer in layers.items():
            tar.add(layer.file, arcname=path, filter=_as_root)
        for entry, content in (*entries, ("manifest.json", json.dumps(manifest).encode())):
            info = tarfile.TarInfo(entry)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    part.replace(to)


def read_image(archive: Path, name: str, scratch: Path) -> tuple[list[Layer], dict[str, Any]]:
    """The layers and the `config` part of one image of an archive that `write_archive` has written.

    The layers are unpacked into `scratch`.

    Raises:
        ImageError: it has no such image.
    """
    with tarfile.open(archive) as tar:

        def read(member: str) -> Any:
            file = tar.extractfile(member)
            assert file is not None
            return json.load(file)

        image = next((one for one in read("manifest.json") if name in one["RepoTags"]), None)
        if image is None:
            raise ImageError(f"{archive} has no image {name}")
        layers = []
        for member in image["Layers"]:
            tar.extract(member, scratch, filter="data")
            layers.append(Layer(scratch / member, Path(member).parent.name))
        return layers, dict(read(image["Config"])["config"])


def write_program_image(name: str, programs: Mapping[str, Path], to: Path) -> None:
    """An image of static programs at its root alone; the first is what it runs."""
    with tempfile.TemporaryDirectory(prefix=".image-", dir=to.parent) as scratch:
        layer = layer_of_files(programs, Path(scratch, "layer.tar"))
        write_archive([Image([name], [layer], {"Entrypoint": [f"/{next(iter(programs))}"]})], to)


def _described(image: Image) -> dict[str, Any]:
    """The configuration of an OCI image."""
    return {
        "architecture": target()[1],
        "os": "linux",
        "config": dict(image.config),
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.digest}" for layer in image.layers]},
    }


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
