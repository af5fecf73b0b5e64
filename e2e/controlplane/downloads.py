"""The official release programs, each checked against the checksum that its publisher gives beside it."""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

from e2e.controlplane.errors import BinariesError
from e2e.controlplane.progress import progress
from e2e.controlplane.versions import ETCD_VERSION, HELM_VERSION, KUBERNETES_VERSION, target

KUBERNETES_RELEASES = "https://dl.k8s.io/release"
ETCD_RELEASES = "https://github.com/etcd-io/etcd/releases/download"
HELM_RELEASES = "https://get.helm.sh"
# a place that cannot be reached must not cost the user minutes before the next way is tried
CONNECT_SECONDS = 5.0
CHUNK_BYTES = 1 << 20


def download_programs(
    names: Iterable[str],
    directory: Path,
    *,
    kubernetes_releases: str = KUBERNETES_RELEASES,
    etcd_releases: str = ETCD_RELEASES,
    helm_releases: str = HELM_RELEASES,
) -> None:
    """Put the named programs into `directory`, which exists. Each appears there whole or not at all.

    Raises:
        BinariesError: no release for this platform, no connection, a refusal, or a wrong checksum.
    """
    system, architecture = target()
    for name in names:
        try:
            if name == "etcd":
                _etcd(directory, f"{etcd_releases}/v{ETCD_VERSION}", f"etcd-v{ETCD_VERSION}-{system}-{architecture}")
            elif name == "helm":
                archive = f"{helm_releases}/helm-v{HELM_VERSION}-{system}-{architecture}.tar.gz"
                expected = text_of(f"{archive}.sha256sum").split()[0]
                fetch_checked(archive, expected, directory, name, member(f"{system}-{architecture}/helm"))
            else:
                base = f"{kubernetes_releases}/v{KUBERNETES_VERSION}/bin/{system}/{architecture}/{name}"
                expected = text_of(f"{base}.sha256").split()[0]
                fetch_checked(base, expected, directory, name, lambda source, sink: source.rename(sink))
        except (OSError, urllib.error.URLError, IndexError, tarfile.TarError, KeyError) as error:
            raise BinariesError(f"{name}: {error}") from error


def _etcd(directory: Path, base: str, stem: str) -> None:
    lines = [line.split() for line in text_of(f"{base}/SHA256SUMS").splitlines()]
    sums = {words[1]: words[0] for words in lines if len(words) == 2}
    archive = f"{stem}.tar.gz"
    if archive not in sums:
        raise BinariesError(f"etcd: {base}/SHA256SUMS does not list {archive}; there is no release for this platform")
    fetch_checked(f"{base}/{archive}", sums[archive], directory, "etcd", member(f"{stem}/etcd"))


def member(path: str) -> Callable[[Path, Path], None]:
    """Takes one file out of a tar archive."""

    def unpack(source: Path, sink: Path) -> None:
        with tarfile.open(source) as tar:
            found = tar.extractfile(path)
            if found is None:
                raise BinariesError(f"the archive has no file {path}")
            sink.write_bytes(found.read())

    return unpack


def text_of(url: str) -> str:
    """What a small file at `url` says."""
    with urllib.request.urlopen(url, timeout=CONNECT_SECONDS) as response:
        return bytes(response.read()).decode()


def fetch_checked(url: str, sha256: str, directory: Path, name: str, finish: Callable[[Path, Path], object]) -> None:
    """Put the program `name` into `directory`: what `finish` makes of the file at `url`, once its checksum is right.

    Raises:
        BinariesError: the checksum is wrong.
    """
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory(prefix=".download-", dir=directory) as scratch:
        part = Path(scratch, "part")
        with (
            progress(f"downloading {name}"),
            urllib.request.urlopen(url, timeout=CONNECT_SECONDS) as response,
            part.open("wb") as sink,
        ):
            while chunk := response.read(CHUNK_BYTES):
                digest.update(chunk)
                sink.write(chunk)
        if digest.hexdigest() != sha256.lower():
            raise BinariesError(f"{name}: {url} has SHA-256 {digest.hexdigest()}, its publisher says {sha256}")
        ready = Path(scratch, "ready")
        finish(part, ready)
        ready.chmod(0o755)
        ready.replace(directory / name)
