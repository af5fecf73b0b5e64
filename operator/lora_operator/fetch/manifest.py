"""What to fetch, as plain values: the operator writes orders, an agent or the operator itself carries them out.

Links and their headers are secrets while they live: they are never part of a repr, a log line or an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

ArchiveKind = Literal["tar", "tar.gz", "zip"]


@dataclass(frozen=True, slots=True)
class Link:
    """Where bytes can be had by HTTP GET, with ranges if the server knows them.

    `expires_at` is Unix time, None for a link that does not run out. `tag` is the ETag that the answer must carry
    ("" where the store tells none): other bytes under the same link are refused. `shows_secret`: it carries what the
    source's Secret holds, rather than something that was signed for these bytes.
    """

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    expires_at: float | None = None
    tag: str = ""
    shows_secret: bool = False


@dataclass(frozen=True, slots=True)
class FetchFile:
    """One file: its name in the adapter's folder, its size, its sha256 in hex ("" where nobody knows it yet), and
    where it comes from: `inline` for what the operator has read already, else `link`; neither if it is in an archive.
    """

    path: str
    size_bytes: int
    sha256: str = ""
    inline: bytes | None = field(default=None, repr=False)
    link: Link | None = None


@dataclass(frozen=True, slots=True)
class Archive:
    """A .tar, .tar.gz or .zip that holds the files below its folder `folder` ("" for its top)."""

    link: Link
    kind: ArchiveKind
    folder: str = ""
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class FetchManifest:
    """One version of one adapter, to be put into `<store>/<name>/<fingerprint>/`."""

    name: str
    fingerprint: str
    files: tuple[FetchFile, ...]
    archive: Archive | None = None

    @property
    def size_bytes(self) -> int:
        """What the files take on disk."""
        return sum(file.size_bytes for file in self.files)

    @property
    def scratch_bytes(self) -> int:
        """What the files take on disk while they are fetched: an archive lies beside them until it is unpacked."""
        return self.size_bytes + (self.archive.size_bytes or 0 if self.archive is not None else 0)

    @property
    def expires_at(self) -> float | None:
        """When the first of its links runs out; None if none does."""
        return min((link.expires_at for link in self.links if link.expires_at is not None), default=None)

    @property
    def shows_secret(self) -> bool:
        """Whether who carries it out learns what a Secret holds."""
        return any(link.shows_secret for link in self.links)

    @property
    def links(self) -> tuple[Link, ...]:
        """All that it has."""
        archive = () if self.archive is None else (self.archive.link,)
        return (*(file.link for file in self.files if file.link is not None), *archive)
