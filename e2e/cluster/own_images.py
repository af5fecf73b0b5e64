"""The operator's and the simulated engine's images, without Docker, as a file that `load` imports.

The operator's is what the Dockerfile says, as `make image-proof` builds it, which takes minutes: it is built anew when
libraries change, or how it is built. Our own packages are on top as they are now. The simulator's is the same files
with the simulator on top, since Python and the libraries are those.
"""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from e2e.cluster.archive import Image, Layer, layer_of_files, layer_of_tree, read_image, write_archive
from e2e.cluster.errors import ImageError
from e2e.controlplane.progress import progress
from image.proof.building import ROOT, Builder, ProofError, missing

# as the charts call the operator's by default; the simulator's stands in for vLLM's own
OPERATOR_IMAGE = "lora-operator:0.1.0"
SIMULATOR_IMAGE = "vllm-sim:0.1.0"
DIRECTORY = ROOT / ".run" / "image"
IMAGE_SOURCES = ("Dockerfile", "pyproject.toml", "image/requirements", "image/assemble.py")
PACKAGES = ("scheduler/lora_scheduler", "operator/lora_operator", "operator/lora_library")  # as the wheel has them
SIMULATOR_SOURCES = ("e2e/__init__.py", "e2e/vllm_sim")
BUILDERS = ("buildah", "mmdebstrap")
EXTRAS = "envoy library"  # so that endpoint picker and user library can run too
SIMULATOR_PATH = "opt/vllm-sim"
OPAQUE = ".wh..wh..opq"  # of the image format: the folder shows nothing of lower layers


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
    version = digest((*IMAGE_SOURCES, *PACKAGES, *SIMULATOR_SOURCES), extras=EXTRAS)
    images = OwnImages(DIRECTORY / f"own-{version}.tar", _names(SIMULATOR_IMAGE, version)[1])
    if not images.archive.is_file():
        base = _image()
        for old in DIRECTORY.glob("own-*.tar"):
            old.unlink()
        _write(images.archive, version, base)
    return images


def _image() -> Path:
    """The operator's image alone, with the packages that there were when it was built."""
    archive = DIRECTORY / f"image-{digest(IMAGE_SOURCES, extras=EXTRAS)}.tar"
    if not archive.is_file():
        if absent := missing(BUILDERS):
            raise ImageError(absent)
        for old in DIRECTORY.glob("image-*.tar"):
            old.unlink()
        with progress("building the operator's image"):
            _build(archive)
    return archive


def _names(image: str, version: str) -> list[str]:
    """As the charts have it, and one that says what is in it."""
    return [image, f"{image.partition(':')[0]}:{version}"]


def digest(sources: Sequence[str], root: Path = ROOT, *, extras: str = "") -> str:
    """Of the names and contents of what goes into an image, and of its build argument."""
    total = hashlib.sha256(extras.encode())
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


def _build(archive: Path) -> None:
    builder = Builder(DIRECTORY)
    try:
        with tempfile.TemporaryDirectory(prefix=".layers-", dir=_made(DIRECTORY)) as scratch:
            built = builder.build(EXTRAS)
            base = layer_of_tree(built.root, Path(scratch, "base.tar"))
            write_archive([Image([OPERATOR_IMAGE], [base], built.config)], archive)
    except ProofError as error:
        raise ImageError(f"the operator's image cannot be built: {error}") from error
    finally:
        builder.close()


def _write(archive: Path, version: str, image: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".layers-", dir=DIRECTORY) as scratch:
        base, config = read_image(image, OPERATOR_IMAGE, Path(scratch))
        present = layer_of_files(_present_packages(base[0], Path(scratch, "empty")), Path(scratch, "packages.tar"))
        sources = {f"{SIMULATOR_PATH}/{path.relative_to(ROOT)}": path for path in _files(SIMULATOR_SOURCES, ROOT)}
        simulator = layer_of_files(sources, Path(scratch, "simulator.tar"))
        images = [
            Image(_names(OPERATOR_IMAGE, version), [*base, present], config),
            Image(_names(SIMULATOR_IMAGE, version), [*base, present, simulator], simulator_config(config)),
        ]
        write_archive(images, archive)


def _present_packages(base: Layer, empty: Path) -> dict[str, Path]:
    """Their files by the paths in the image, and a mark for each that hides what the layer below has of it."""
    with tarfile.open(base.file) as tar:
        known = next(name for name in tar.getnames() if name.endswith("/site-packages/lora_operator/__init__.py"))
    folder = PurePosixPath(known).parents[1]
    empty.touch()
    files = {f"{folder / Path(package).name / OPAQUE}": empty for package in PACKAGES}
    for package in PACKAGES:
        files |= {f"{folder / path.relative_to((ROOT / package).parent)}": path for path in _files([package], ROOT)}
    return files


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
