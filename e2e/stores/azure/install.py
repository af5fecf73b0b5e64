"""Finds Azurite in the project's cache, or puts it there with npm, once for all."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
from pathlib import Path

from e2e.controlplane.progress import progress
from e2e.controlplane.versions import cache_root

# the last that runs on every Node.js that is still looked after; later ones also bring telemetry along
VERSION = "3.33.0"
INSTALL_SECONDS = 300.0


class AzuriteUnavailable(Exception):
    """Azurite cannot be run here; the message says what to install."""


def azurite_command() -> list[str]:
    """How to start Azurite's blob service; installs it first where it is not in the cache, in some 20 seconds.

    Raises AzuriteUnavailable.
    """
    node = shutil.which("node")
    if node is None:
        raise AzuriteUnavailable("node is not on the PATH: install Node.js 18 or newer with npm")
    root = cache_root()
    target = root / f"azurite-{VERSION}"
    program = target / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    if not program.is_file():
        root.mkdir(parents=True, exist_ok=True)
        with (root / f"{target.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not program.is_file():  # another process may have put it there while this one waited
                _install(root, target)
    return [node, str(program)]


def _install(root: Path, target: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise AzuriteUnavailable("npm is not on the PATH: install Node.js 18 or newer with npm")
    with tempfile.TemporaryDirectory(prefix=".azurite-", dir=root) as scratch:
        made = Path(scratch, "made")
        made.mkdir()
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--omit=dev", "--omit=optional", "--loglevel=error"]
        command = [npm, "install", *options, "--prefix", str(made), f"azurite@{VERSION}"]
        with progress(f"installing Azurite {VERSION}"):
            try:
                done = subprocess.run(
                    command, cwd=made, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
                )
            except subprocess.TimeoutExpired:
                raise AzuriteUnavailable(f"npm did not install Azurite within {INSTALL_SECONDS:g} s") from None
        if done.returncode:
            raise AzuriteUnavailable(f"npm cannot install Azurite {VERSION}:\n{done.stderr.strip()[-1000:]}")
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)
