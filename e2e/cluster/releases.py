"""The official release archives of what nodes need, each checked against its publisher's checksum."""

from __future__ import annotations

import tarfile
import urllib.error
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from e2e.controlplane.downloads import fetch_checked, member, text_of
from e2e.controlplane.errors import BinariesError
from e2e.controlplane.versions import target

GITHUB = "https://github.com"


@dataclass(frozen=True, slots=True)
class Release:
    """Where an archive is; {version} and {target} (linux-amd64) and {machine} (amd64) are filled in."""

    archive: str
    checksum: str  # a file whose lines begin with the SHA-256
    inside: str | None  # path of a program in the archive, {name} filled in; None: it is no archive


RELEASES = {
    "containerd": Release(
        "containerd/containerd/releases/download/v{version}/containerd-{version}-{target}.tar.gz",
        "containerd/containerd/releases/download/v{version}/containerd-{version}-{target}.tar.gz.sha256sum",
        "bin/{name}",
    ),
    "runc": Release(
        "opencontainers/runc/releases/download/v{version}/runc.{machine}",
        "opencontainers/runc/releases/download/v{version}/runc.sha256sum",
        None,
    ),
    "cni-plugins": Release(
        "containernetworking/plugins/releases/download/v{version}/cni-plugins-{target}-v{version}.tgz",
        "containernetworking/plugins/releases/download/v{version}/cni-plugins-{target}-v{version}.tgz.sha256",
        "./{name}",
    ),
    "coredns": Release(
        "coredns/coredns/releases/download/v{version}/coredns_{version}_linux_{machine}.tgz",
        "coredns/coredns/releases/download/v{version}/coredns_{version}_linux_{machine}.tgz.sha256",
        "{name}",
    ),
}


def download_release(
    release: Release, version: str, names: Iterable[str], directory: Path, *, server: str = GITHUB
) -> None:
    """Put the named programs into `directory`, which exists. Each appears there whole or not at all.

    Raises:
        BinariesError: no connection, a refusal, or a wrong checksum.
    """
    system, machine = target()
    values = {"version": version, "target": f"{system}-{machine}", "machine": machine}
    archive = f"{server}/{release.archive.format(**values)}"
    file = archive.rpartition("/")[2]
    for name in names:
        try:
            sums = text_of(f"{server}/{release.checksum.format(**values)}")
            expected = checksum(sums, file)
            inside = release.inside
            finish = member(inside.format(name=name)) if inside else lambda source, sink: source.rename(sink)
            fetch_checked(archive, expected, directory, name, finish)
        except (OSError, urllib.error.URLError, tarfile.TarError, KeyError) as error:
            raise BinariesError(f"{name}: {error}") from error


def checksum(text: str, file: str) -> str:
    """That of the file in a list of checksums, or the only one.

    Raises:
        BinariesError: it is not listed.
    """
    lines = [words for line in text.splitlines() if (words := line.split())]
    for words in lines:
        if len(words) == 1 or words[1].lstrip("*") == file:
            return words[0]
    raise BinariesError(
        f"{file}: its publisher's list of checksums does not have it; there is no release for this platform"
    )
