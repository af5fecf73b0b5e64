"""Carries out the Dockerfile with buildah, on a stand-in for the base image, and lays its root open."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEBIAN = "bookworm"
STAND_IN = "localhost/python-stand-in"
IMAGE = "localhost/lora-operator"
# what python:3.11-slim-bookworm has of Debian's packages for its Python, and Debian's own Python in place of that one
PACKAGES = "ca-certificates,netbase,tzdata,libpython3.11-stdlib,python3.11-minimal,python3-distutils"
# as in that image; Debian's own pip would bring a compiler along
PIP = "pip==24.0"


class ProofError(Exception):
    """The image cannot be built or run, or is not what it should be. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Built:
    root: Path  # the files of the image
    config: dict[str, object]  # of the OCI image: Env, Entrypoint, User, Labels ...


class Builder:
    """Images of its own in `directory`; the stand-in stays there for the next time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()
        self._containers: list[str] = []

    def build(self, extras: str) -> Built:
        """The image as the Dockerfile says, with `extras` as its build argument.

        Raises:
            ProofError: a step failed; its output is on stderr.
        """
        self._buildah("rm", "--all")  # of a run that was killed
        if not self._buildah("images", "--quiet", "--filter", f"reference={STAND_IN}"):
            self._make_stand_in()
        arguments = [
            "--isolation=chroot", "--network=host", "--layers=false", f"--tag={IMAGE}", "--quiet",
            f"--build-arg=PYTHON={STAND_IN}", f"--build-arg=EXTRAS={extras}",
        ]  # fmt: skip
        for file in _certificates():
            arguments.append(f"--volume={file}:{file}:ro")
        self._buildah("bud", *arguments, str(ROOT))
        container = self._buildah("from", "--pull-never", IMAGE)
        self._containers.append(container)
        config = json.loads(self._buildah("inspect", "--type=image", IMAGE))["OCIv1"]["config"]
        return Built(Path(self._buildah("mount", container)), config)

    def close(self) -> None:
        """Give the roots back. The last image stays, and the stand-in."""
        while self._containers:
            self._buildah("rm", self._containers.pop())
        self._buildah("rmi", "--prune")

    def _make_stand_in(self) -> None:
        """Debian's smallest system with Python 3.11 and pip where the base image has them."""
        tree = self._directory / "stand-in"
        shutil.rmtree(tree, ignore_errors=True)
        self._directory.mkdir(parents=True, exist_ok=True)
        _run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", DEBIAN, str(tree))
        (tree / "usr/local/bin/python3").symlink_to("/usr/bin/python3.11")
        packages = tree / "usr/local/lib/python3.11/dist-packages"
        _run(sys.executable, "-m", "pip", "install", "--quiet", f"--target={packages}", PIP)
        container = self._buildah("from", "scratch")
        try:
            self._buildah("add", "--quiet", container, str(tree), "/")
            path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            self._buildah("config", f"--env=PATH={path}", "--env=LANG=C.UTF-8", container)
            self._buildah("commit", "--quiet", container, STAND_IN)
        finally:
            self._buildah("rm", container)
            shutil.rmtree(tree, ignore_errors=True)

    def _buildah(self, *arguments: str) -> str:
        # plain folders: slower than overlays, and possible on every file system
        store = ("--storage-driver=vfs", f"--root={self._directory}/images", f"--runroot={self._directory}/run")
        return _run("buildah", *store, *arguments)


def missing(programs: Sequence[str] = ("buildah", "mmdebstrap", "runc")) -> str:
    """Empty, or what this machine lacks to build images, and to run them with `runc`."""
    if os.geteuid() != 0:
        return "images are built and run as root here: run this with sudo"
    absent = [program for program in programs if shutil.which(program) is None]
    return f"{', '.join(absent)} not found: apt install {' '.join(absent)} (Debian, Ubuntu)" if absent else ""


def _certificates() -> list[Path]:
    """Where a proxy signs for the package index with an authority of its own, pip in the build has to know that too."""
    named = [os.environ.get("PIP_CERT", ""), "/etc/pip.conf" if os.environ.get("PIP_CERT") else ""]
    return [Path(name) for name in named if name and Path(name).is_file()]


def _run(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise ProofError(
            f"{' '.join(command[:12])} ended with {done.returncode}; its messages are above\n{done.stdout[-2000:]}"
        )
    return done.stdout.strip()
