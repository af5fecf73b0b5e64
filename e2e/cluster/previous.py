"""The previous release of this repository, from its history: its charts, and an image of its code.

That is the last tag `v…` before the present commit. Until there is one, it is a commit from before the charts got their
present defaults, so that an upgrade has something to change. The image has the libraries of the present one: what they
are hardly matters to a cluster, and its own would be downloaded and built for minutes.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.archive import Image, layer_of_files, read_image, write_archive
from e2e.cluster.own_images import OPERATOR_IMAGE, OwnImages
from image.proof.building import ROOT

BEFORE_ANY_RELEASE = "e1c1cbd4e93c7dd99a7d51bfd02e40138f51398e"
PREVIOUS_IMAGE = "lora-operator:previous"
PLACE = "opt/previous"
PACKAGES = {"operator": "lora_operator", "scheduler": "lora_scheduler"}


@dataclass(frozen=True, slots=True)
class Previous:
    """A commit of this repository."""

    revision: str

    @classmethod
    def find(cls) -> Previous | None:
        """None where the history does not reach so far back, as in a shallow clone."""
        tag = _git("describe", "--tags", "--abbrev=0", "--match=v[0-9]*", "HEAD^").decode().strip()
        revision = tag or BEFORE_ANY_RELEASE
        there = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").decode().strip()
        return cls(there) if there else None

    def charts(self, directory: Path) -> Path:
        """Write them into the folder; returns that in which they lie by their names."""
        self._unpack(directory, "helm")
        return directory / "helm"

    def image(self, own: OwnImages, to: Path) -> OwnImages:
        """Its operator on the libraries of the present one, as a file that `load` imports.

        Raises:
            ImageError: the archive of the present images has no operator.
        """
        name = f"{PREVIOUS_IMAGE.partition(':')[0]}:previous-{self.revision[:12]}"
        with tempfile.TemporaryDirectory(dir=to.parent) as scratch:
            base, config = read_image(own.archive, OPERATOR_IMAGE, Path(scratch))
            top = layer_of_files(self._program(Path(scratch, "source")), Path(scratch, "top.tar"))
            environment = dict(entry.split("=", 1) for entry in config.get("Env") or ())
            environment["PATH"] = f"/{PLACE}/bin:{environment['PATH']}"
            environment["PYTHONPATH"] = f"/{PLACE}"
            config = {**config, "Env": [f"{key}={value}" for key, value in environment.items()]}
            write_archive([Image([PREVIOUS_IMAGE, name], [*base, top], config)], to)
        return OwnImages(to, name)

    def _program(self, source: Path) -> dict[str, Path]:
        """The files of its packages by their places in the image, and what `lora-operator` runs."""
        self._unpack(source, *PACKAGES, "pyproject.toml")
        entry = tomllib.loads((source / "pyproject.toml").read_text())["project"]["scripts"]["lora-operator"]
        module, _, function = entry.partition(":")
        script = source / "lora-operator"
        script.write_text(
            f"#!/opt/lora-operator/bin/python3\nfrom {module} import {function}\nraise SystemExit({function}())\n"
        )
        script.chmod(0o755)
        files = {f"{PLACE}/bin/lora-operator": script}
        for folder, package in PACKAGES.items():
            for path in (source / folder / package).rglob("*"):
                if path.is_file():
                    files[f"{PLACE}/{path.relative_to(source / folder)}"] = path
        return files

    def _unpack(self, directory: Path, *paths: str) -> None:
        with tarfile.open(fileobj=io.BytesIO(_git("archive", self.revision, *paths))) as tar:
            tar.extractall(directory, filter="data")


def _git(*arguments: str) -> bytes:
    """What git prints; nothing where it refuses."""
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True).stdout
