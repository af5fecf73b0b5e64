"""The operator's and the simulated engine's images, without Docker, as a file that `load` imports.

The operator's is what the Dockerfile says, as `make image-proof` builds it. The simulator's is the same files with the
simulator on top, since Python and the libraries are those. They are built anew when what goes into it has changed.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.archive import Image, Layer, layer_of_files, layer_of_tree, write_archive
from e2e.cluster.errors import ImageError
from e2e.controlplane.progress import progress
from image.proof.building import ROOT, Builder, ProofError, missing

# as the charts call the operator's by default; the simulator's stands in for vLLM's own
OPERATOR_IMAGE = "lora-operator:0.1.0"
SIMULATOR_IMAGE = "vllm-sim:0.1.0"
DIRECTORY = ROOT / ".run" / "image"
# what the Dockerfile copies, and itself
SOURCES = ("Dockerfile", "pyproject.toml", "README.md", "LICENSE", "image/requirements", "image/assemble.py",
           "scheduler", "operator")  # fmt: skip
SIMULATOR_SOURCES = ("e2e/__init__.py", "e2e/vllm_sim")
BUILDERS = ("buildah", "mmdebstrap")
EXTRAS = "envoy"  # so that the endpoint picker can run too
SIMULATOR_PATH = "opt/vllm-sim"


@dataclass(frozen=True, slots=True)
class OwnImages:
    """One file with both, and the name by which a node that has them knows exactly these."""

    archive: Path
    name: str


def build_own_images() -> OwnImages:
    """Build both, unless they are there as they should be.

    Raises:
        ImageError: they cannot be built; the message says what is missing or went wrong.
    """
    version = digest((*SOURCES, *SIMULATOR_SOURCES))
    images = OwnImages(DIRECTORY / f"own-{version}.tar", _versioned(SIMULATOR_IMAGE, version))
    if not images.archive.is_file():
        if absent := missing(BUILDERS):
            raise ImageError(absent)
        for old in DIRECTORY.glob("own-*.tar"):
            old.unlink()
        with progress("building the operator's and the simulator's images"):
            _build(images.archive, version)
    return images


def _versioned(image: str, version: str) -> str:
    return f"{image.partition(':')[0]}:{version}"


def digest(sources: Sequence[str], root: Path = ROOT) -> str:
    """Of the names and contents of what goes into an image."""
    total = hashlib.sha256()
    for path in _files(sources, root):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(root)} {content}\n".encode())
    return total.hexdigest()[:16]


def _files(sources: Sequence[str], root: Path) -> Iterator[Path]:
    for name in sources:
        found = root / name
        yield from sorted(
            path for path in ([found] if found.is_file() else found.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        )  # fmt: skip


def _build(archive: Path, version: str) -> None:
    builder = Builder(DIRECTORY)
    try:
        with tempfile.TemporaryDirectory(prefix=".layers-", dir=_made(DIRECTORY)) as scratch:
            built = builder.build(EXTRAS)
            base = layer_of_tree(built.root, Path(scratch, "base.tar"))
            top = _simulator_layer(Path(scratch, "top.tar"))
            contents = (
                (OPERATOR_IMAGE, [base], built.config),
                (SIMULATOR_IMAGE, [base, top], simulator_config(built.config)),
            )
            images = [Image([name, _versioned(name, version)], layers, config) for name, layers, config in contents]
            write_archive(images, archive)
    except ProofError as error:
        raise ImageError(f"the operator's image cannot be built: {error}") from error
    finally:
        builder.close()


def _simulator_layer(to: Path) -> Layer:
    sources = _files(SIMULATOR_SOURCES, ROOT)
    return layer_of_files({f"{SIMULATOR_PATH}/{path.relative_to(ROOT)}": path for path in sources}, to)


def simulator_config(operator: dict[str, object]) -> dict[str, object]:
    """That of the operator's image, with the simulator as what runs, open to the pod's network as vLLM is."""
    environment = operator.get("Env") or []
    assert isinstance(environment, list)
    return {
        **operator,
        "Env": [*environment, f"PYTHONPATH=/{SIMULATOR_PATH}"],
        "Entrypoint": ["python3", "-m", "e2e.vllm_sim", "--sim-bind=0.0.0.0"],
        "Cmd": [],
        "Labels": {},
    }


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory
