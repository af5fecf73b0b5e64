"""A source whose adapters are objects in a bucket or container: all of it but the store's own SDK."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE, AdapterRefused
from lora_operator.artifacts.found import FoundAdapter
from lora_operator.fetch.manifest import FetchFile, FetchManifest, Link
from lora_operator.sources.base import Resolution, SourceError, SourceRequest
from lora_operator.sources.remote import SETTLE_SECONDS, RemoteFolder, changed, noted_file, resolve_folders
from lora_operator.sources.remote_inspection import RemoteFile
from lora_operator.sources.remote_objects import ObjectPlace, bounded, folders_of, what_is_near
from lora_operator.sources.remote_threads import DEADLINE_SECONDS, Threads
from lora_operator.sources.remote_versions import pinned


@dataclass(frozen=True, slots=True)
class Timing:
    """How long to wait for a connection and for each answer (seconds), how often to try, and for all together."""

    connect_seconds: float = 5.0
    read_seconds: float = 8.0
    attempts: int = 3
    deadline_seconds: float = DEADLINE_SECONDS


class ObjectStore(Protocol):
    """One bucket or container, through a blocking SDK; called in several threads at once.

    All methods raise SourceError; those on one object AdapterRefused, if it went or changed since it was listed.
    """

    @property
    def place(self) -> ObjectPlace:
        """What the request points at."""
        ...  # pragma: no cover

    def objects(self, deadline: float) -> Iterator[tuple[str, RemoteFile]]:
        """(key, file) of everything below the place's prefix, until `deadline` in monotonic time."""
        ...  # pragma: no cover

    def folders_in(self, prefix: str) -> list[str]:
        """The names of the first folders right below `prefix`."""
        ...  # pragma: no cover

    def versions(self, key: str, deadline: float) -> Iterator[RemoteFile]:
        """All versions of one object."""
        ...  # pragma: no cover

    def describe(self, key: str, file: RemoteFile) -> RemoteFile:
        """`file`, there and unchanged, with its digest and version where the store tells them."""
        ...  # pragma: no cover

    def read(self, key: str, file: RemoteFile, begin: int, end: int) -> bytes:
        """Bytes [begin, end) of exactly this version."""
        ...  # pragma: no cover

    def link(self, key: str, file: RemoteFile) -> Link:
        """Under which anybody can read this version; without its tag."""
        ...  # pragma: no cover

    def close(self, *, cut: bool) -> None:
        """Let go of the connections; with `cut`, also of those where an answer is still waited for."""
        ...  # pragma: no cover


class ObjectSource:
    """Lists, checks and locates adapters in the store that `open_store` gives for a request and its revision.

    `open_store` is called in a thread. `clock` gives Unix time; an update younger than `settle_seconds` waits.
    """

    def __init__(
        self,
        name: str,
        open_store: Callable[[SourceRequest], ObjectStore],
        *,
        timing: Timing,
        settle_seconds: float = SETTLE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._open_store = open_store
        self._settle_seconds = settle_seconds
        self._clock = clock
        self._name = name
        self._threads = Threads(name, deadline_seconds=timing.deadline_seconds)

    async def resolve(self, request: SourceRequest, previous: Resolution | None) -> Resolution:
        """See `Source`."""
        async with self._opened(request) as (store, deadline):
            folders = await self._threads.run(partial(_listed, store, request.revision, deadline))
            found = await resolve_folders(
                folders,
                _Reader(self._threads, store, by_version=bool(request.revision)),
                request,
                previous,
                now=self._clock(),
                settle_seconds=self._settle_seconds,
            )
            if found.adapters or found.broken:
                return found
            return replace(found, hint=await self._threads.run(partial(_near, store)))

    async def locate(self, request: SourceRequest, found: FoundAdapter) -> FetchManifest:
        """See `Source`: the config inline, the weights as a link that the store signs."""
        async with self._opened(request) as (store, _):
            try:
                files = await self._threads.run(partial(_located, store, found))
            except AdapterRefused:
                files = None
        if files is None:
            raise changed(found.name)
        return FetchManifest(found.name, found.fingerprint, files)

    @asynccontextmanager
    async def _opened(self, request: SourceRequest) -> AsyncIterator[tuple[ObjectStore, float]]:
        shown = f"{self._name} repository {request.repository[:300]!r}"
        async with self._threads.deadline(shown) as deadline:
            store = await self._threads.run(partial(self._open_store, request))
            try:
                yield store, deadline
            except BaseException:
                store.close(cut=True)  # some thread may still wait for an answer
                raise
            store.close(cut=False)


def _listed(store: ObjectStore, revision: str | None, deadline: float) -> list[RemoteFolder]:
    try:
        if revision:
            return [_at_revision(store, revision, deadline)]
        return folders_of(store.place, bounded(store.objects(deadline), store.place.address))
    except AdapterRefused:  # says of a list what is meant of an object
        pass
    raise SourceError(
        "UnexpectedAnswer",
        f"{store.place.address}: what answers has no such list: correct repository and endpoint",
        retryable=False,
    )


def _near(store: ObjectStore) -> str:
    try:
        return what_is_near(store.place, store.folders_in)
    except (SourceError, AdapterRefused):
        return ""  # these keys may list what is asked for, and no more


def _at_revision(store: ObjectStore, revision: str, deadline: float) -> RemoteFolder:
    place = store.place
    versions = [
        file for path in (CONFIG_FILE, WEIGHTS_FILE) for file in store.versions(f"{place.prefix}{path}", deadline)
    ]
    return place.folder(place.root_name, place.prefix, pinned(versions, revision, place.address + place.prefix))


def _located(store: ObjectStore, found: FoundAdapter) -> tuple[FetchFile, ...] | None:
    """None if the config is another one by now. Raises AdapterRefused if one of the files went or changed."""
    config, weights = noted_file(found, CONFIG_FILE), noted_file(found, WEIGHTS_FILE)

    def key(file: RemoteFile) -> str:
        return store.place.key(found.location, file.path)

    config = _reachable(store, key(config), config)
    raw = store.read(key(config), config, 0, config.size_bytes)
    if hashlib.sha256(raw).hexdigest() != noted_file(found, CONFIG_FILE).sha256:
        return None
    weights = _reachable(store, key(weights), weights)
    link = replace(store.link(key(weights), weights), tag=weights.etag)
    sha256 = noted_file(found, WEIGHTS_FILE).sha256
    return (
        FetchFile(CONFIG_FILE, len(raw), hashlib.sha256(raw).hexdigest(), inline=raw),
        FetchFile(WEIGHTS_FILE, weights.size_bytes, sha256, link=link),
    )


def _reachable(store: ObjectStore, key: str, file: RemoteFile) -> RemoteFile:
    """`file`, pinned by its version if it may be read so: that is a right of its own, which keys may lack."""
    try:
        store.describe(key, file)
    except SourceError as error:
        if not file.version or error.reason != "AccessDenied":
            raise
        file = replace(file, version="")
        store.describe(key, file)
    return file


class _Reader:
    """Reads a store for `resolve_folders` (see `StoreReader`)."""

    def __init__(self, threads: Threads, store: ObjectStore, *, by_version: bool) -> None:
        self._threads = threads
        self._store = store
        self._by_version = by_version

    async def describe(self, location: str, file: RemoteFile) -> RemoteFile:
        """See `StoreReader`."""
        key = self._store.place.key(location, file.path)
        return await self._threads.run(lambda: self._store.describe(key, file))

    async def read(self, location: str, file: RemoteFile, begin: int, end: int) -> bytes:
        """See `StoreReader`. Reading by version is a right of its own: the current one is had without."""
        if not self._by_version:
            file = replace(file, version="")
        key = self._store.place.key(location, file.path)
        return await self._threads.run(lambda: self._store.read(key, file, begin, end))
