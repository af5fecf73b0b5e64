"""One adapter at a store over the network: read its config and the header of its weights, and nothing else of it."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Protocol

from lora_operator.artifacts import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    AdapterFile,
    AdapterRefused,
    Inspection,
    RefusedReason,
    header_length,
    inspect_parts,
)
from lora_operator.artifacts.adapter_config import MAX_CONFIG_BYTES
from lora_operator.artifacts.folder import PICKLE_FILES
from lora_operator.sources.base import SourceRequest

# Before the time of the last change, in place of the mark that a store does not have.
MODIFIED = "modified:"
# The header of most adapters is shorter, so that one request does.
FIRST_BYTES = 64 << 10


def time_tag(modified_at: float) -> str:
    """What stands for a store's own mark: its clock at the last change, in whole seconds, as HTTP has it."""
    return MODIFIED + formatdate(int(modified_at), usegmt=True)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file as its store describes it.

    `path` is its name in the adapter's folder, `tag` the store's mark for this very content ("" where it has none),
    `sha256` in hex where the store tells it, `version` what pins this content at the store even after it was
    overwritten ("" where nothing does), `modified_at` Unix time by the store's clock, where known.
    """

    path: str
    size_bytes: int
    tag: str = ""
    sha256: str = ""
    version: str = ""
    modified_at: float | None = None

    @property
    def etag(self) -> str:
        """The store's own mark, "" where the time of the last change stands for it."""
        return "" if self.tag.startswith(MODIFIED) else self.tag

    @property
    def by_time(self) -> RemoteFile:
        """Told apart by the time of its last change, for a store whose own marks tell nothing."""
        return self if self.modified_at is None else replace(self, tag=time_tag(self.modified_at))

    def adapter_file(self) -> AdapterFile:
        return AdapterFile(self.path, self.size_bytes, self.sha256, self.tag)


class StoreReader(Protocol):
    """How one store is read. Both methods raise SourceError, or AdapterRefused for a file that went or changed."""

    async def describe(self, location: str, file: RemoteFile) -> RemoteFile:
        """`file` with all that the store tells of it alone (digest, version); `file` itself if that is nothing more."""
        ...  # pragma: no cover

    async def read(self, location: str, file: RemoteFile, begin: int, end: int) -> bytes:
        """Bytes [begin, end) of exactly this version of the file, 0 <= begin < end <= its size."""
        ...  # pragma: no cover


async def inspect_remote(
    reader: StoreReader,
    location: str,
    names: frozenset[str],
    files: tuple[RemoteFile | None, RemoteFile | None],
    request: SourceRequest,
    *,
    parsing: asyncio.Lock,
) -> tuple[Inspection, tuple[RemoteFile, ...]]:
    """Check the adapter whose (config, weights) are `files`; `names` are all file names in its folder.

    `parsing` is held while a long header is in memory: a hostile one takes some hundred megabytes. Returns the two
    files as the store describes them, the config with its digest. Raises AdapterRefused and SourceError.
    """
    config, weights = files
    if config is None:
        raise _missing(RefusedReason.CONFIG_MISSING, CONFIG_FILE, WEIGHTS_FILE)
    if weights is None:
        if not names.isdisjoint(PICKLE_FILES):  # no content makes these good
            inspect_parts(names, (AdapterFile(CONFIG_FILE, 0), b""), (AdapterFile(WEIGHTS_FILE, 0), b""))
        raise _missing(RefusedReason.WEIGHTS_MISSING, WEIGHTS_FILE, CONFIG_FILE)
    config = await reader.describe(location, config)
    raw = await _read(reader, location, config, 0, min(config.size_bytes, MAX_CONFIG_BYTES + 1))
    if len(raw) == config.size_bytes:
        config = replace(config, sha256=hashlib.sha256(raw).hexdigest())
    weights = await reader.describe(location, weights)
    first = await _read(reader, location, weights, 0, min(weights.size_bytes, FIRST_BYTES))
    length = header_length(first, weights.size_bytes)

    async def check(header: bytes) -> Inspection:
        return await asyncio.to_thread(
            inspect_parts,
            names,
            (config.adapter_file(), raw),
            (weights.adapter_file(), header),
            base=request.base,
            served_base_model=request.served_base_model,
            base_aliases=request.base_aliases,
        )

    if 8 + length <= len(first):
        inspection = await check(first[8 : 8 + length])
    else:
        async with parsing:
            rest = await _read(reader, location, weights, len(first), 8 + length)
            inspection = await check(first[8:] + rest)
    return inspection, (config, weights)


async def _read(reader: StoreReader, location: str, file: RemoteFile, begin: int, end: int) -> bytes:
    if begin >= end:
        return b""
    data = await reader.read(location, file, begin, end)
    if len(data) != end - begin:
        raise AdapterRefused(
            RefusedReason.FILE_CHANGED,
            f"{file.path}: the store gave {len(data)} bytes where {end - begin} were asked for: it is being replaced, "
            "or something on the way cuts answers short",
        )
    return data


def _missing(reason: RefusedReason, name: str, beside: str) -> AdapterRefused:
    return AdapterRefused(
        reason, f"{name} is missing beside {beside}: wait for the upload to end, or put it into the adapter's folder"
    )
