"""Finds etcd, kube-apiserver, kube-controller-manager and kubectl, or gets them: the first way that works wins.
Helm, which only the tests of the charts need, comes the same ways (helm.py).

The ways, in order: `KUBEBUILDER_ASSETS`, the cache, the official releases, a build from Go modules.
Only the pinned versions are ever put into the cache, so what is there need not be checked again.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.controlplane.downloads import download_programs
from e2e.controlplane.errors import BinariesError
from e2e.controlplane.gobuild import build_programs
from e2e.controlplane.versions import PROGRAMS, binaries_directory

Fill = Callable[[Sequence[str], Path], None]
FILLS: tuple[tuple[str, Fill], ...] = (
    ("official release", download_programs),
    ("build from Go modules", build_programs),
)


@dataclass(frozen=True, slots=True)
class Binaries:
    """Where the programs are."""

    etcd: Path
    kube_apiserver: Path
    kube_controller_manager: Path
    kubectl: Path


def find_binaries(
    environment: Mapping[str, str] | None = None, *, fills: Sequence[tuple[str, Fill]] = FILLS
) -> Binaries:
    """Find all programs; what is in no known place is downloaded or built into the cache, once.

    Raises:
        BinariesError: some program could be had in no way; the message lists the ways and why each failed.
    """
    environment = os.environ if environment is None else environment
    tried: list[str] = []
    found = _from_assets(environment, tried)
    found = fill_cache(PROGRAMS, binaries_directory(environment), found, fills, tried)
    return Binaries(*(found[name] for name in PROGRAMS))


def fill_cache(
    programs: Sequence[str],
    cache: Path,
    found: dict[str, Path],
    fills: Sequence[tuple[str, Fill]],
    tried: list[str],
) -> dict[str, Path]:
    """Where the programs are: as `found` says, else in the folder `cache`, into which what is missing is put.

    `tried` has a line for each way that did not work so far.

    Raises:
        BinariesError: some program could be had in no way.
    """
    found = from_directory(cache, programs) | found
    if all(name in found for name in programs):
        return found
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _only_one(cache.with_name(cache.name + ".lock")):
            return _fill(programs, cache, found, fills, tried)
    except OSError as error:
        raise BinariesError(
            f"the programs cannot be kept in {cache} ({error}); "
            "set LORA_OPERATOR_CACHE to a folder that can be written to"
        ) from error


def _fill(
    programs: Sequence[str],
    cache: Path,
    found: dict[str, Path],
    fills: Sequence[tuple[str, Fill]],
    tried: list[str],
) -> dict[str, Path]:
    found = from_directory(cache, programs) | found  # another process may have filled it while this one waited
    tried.append(f"cache: {cache} lacks {', '.join(name for name in programs if name not in found) or 'nothing'}")
    for title, fill in fills:
        missing = [name for name in programs if name not in found]
        if not missing:
            break
        try:
            fill(missing, cache)
        except BinariesError as error:
            tried.append(f"{title}: {error}")
        found = from_directory(cache, programs) | found
    missing = [name for name in programs if name not in found]
    if missing:
        raise BinariesError(
            f"no way to get {', '.join(missing)} worked.\n"
            + "\n".join(f"  - {line}" for line in tried)
            + "\nInstall Go 1.26 or newer (https://go.dev/dl), or set KUBEBUILDER_ASSETS to a directory that has the "
            "programs, or use a cluster that you have: KUBECONFIG=… USE_EXISTING_CLUSTER=1"
        )
    return found


def _from_assets(environment: Mapping[str, str], tried: list[str]) -> dict[str, Path]:
    assets = environment.get("KUBEBUILDER_ASSETS")
    if not assets:
        tried.append("KUBEBUILDER_ASSETS: not set")
        return {}
    found = from_directory(Path(assets).expanduser().absolute(), PROGRAMS)
    lacking = [name for name in PROGRAMS if name not in found]
    if lacking:
        # envtest has no controller manager: that one then comes from the next ways
        tried.append(f"KUBEBUILDER_ASSETS: {assets} lacks {', '.join(lacking)}")
    return found


def from_directory(directory: Path, programs: Sequence[str]) -> dict[str, Path]:
    paths = {name: directory / name for name in programs}
    return {name: path for name, path in paths.items() if path.is_file() and os.access(path, os.X_OK)}


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write(f"waiting for another process that fills {path.name.removesuffix('.lock')}\n")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
