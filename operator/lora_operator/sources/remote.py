"""What all stores over the network have in common: from the folders that a store lists to adapters, good or broken.

A store says which files there are and reads pieces of them; everything else happens here. What did not change since the
last look is not read again, and a good version stays until its successor is good too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from lora_operator.artifacts import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    AdapterRefused,
    InvalidAdapterName,
    fingerprint,
)
from lora_operator.artifacts.found import FoundAdapter
from lora_operator.sources.base import BrokenAdapter, Resolution, SourceError, SourceRequest
from lora_operator.sources.remote_inspection import RemoteFile, StoreReader, inspect_remote
from lora_operator.sources.selection import not_found, passes

CONCURRENCY = 8
SETTLE_SECONDS = 2.0
RETRY_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    """The files directly in one adapter's folder. `location` is where the store keeps it, in the store's own words.

    `origin` says whose tags the files carry, beyond doubt (type, endpoint and place: see `fingerprint`). `below` is
    true for a folder below that of another adapter, as of a training's checkpoints: such a one has to be asked for.
    """

    name: str
    location: str
    files: tuple[RemoteFile, ...]
    origin: str
    below: bool = False

    def file(self, path: str) -> RemoteFile | None:
        return next((file for file in self.files if file.path == path), None)

    @property
    def told_apart(self) -> RemoteFolder:
        """The same, by the time of changes where the store gives one ETag to all: two contents have it here."""
        config, weights = self.file(CONFIG_FILE), self.file(WEIGHTS_FILE)
        if not (config and weights and config.etag) or config.etag != weights.etag:
            return self
        if config.size_bytes == weights.size_bytes:
            return self
        return replace(self, files=tuple(file.by_time for file in self.files))


@dataclass(frozen=True, slots=True)
class RemoteNote:
    """The `signature` of what was found. Equal `seen` mean: nothing changed since.

    `files` are config and weights as the store described them when they were read: what `locate` is to ask for.
    `missing_since` is Unix time, set while the folder is not listed any more.
    """

    seen: object
    files: tuple[RemoteFile, ...] = ()
    missing_since: float | None = None


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What is known of one adapter after a look. `error`: the store failed. `again_in`: seconds to the next look."""

    found: FoundAdapter | None = None
    broken: BrokenAdapter | None = None
    again_in: float | None = None
    error: SourceError | None = None


def asked_for(folders: Iterable[RemoteFolder], adapters: Collection[str]) -> list[RemoteFolder]:
    """Without those below other adapters that are not named."""
    return [folder for folder in folders if not folder.below or folder.name in adapters]


def choose(folders: Iterable[RemoteFolder], request: SourceRequest) -> list[RemoteFolder]:
    """The folders with (something of) an adapter that the request selects, sorted. Raises SourceError."""
    passing = [
        folder
        for folder in asked_for(folders, request.adapters)
        if passes(folder.name, request.pattern, request.prefix, request.adapters)
        and (folder.file(CONFIG_FILE) or folder.file(WEIGHTS_FILE))
    ]
    check_number(len(passing), request)
    return sorted(passing, key=lambda folder: folder.name)


def check_number(count: int, request: SourceRequest) -> None:
    """Raises SourceError (TooManyAdapters) if `count` adapters are more than the request allows."""
    if count > request.max_adapters:
        raise SourceError(
            "TooManyAdapters",
            f"{request.repository[:300]!r} has {count} adapters that match, more than maxAdapters "
            f"{request.max_adapters}: narrow pattern, prefix or adapters, or raise maxAdapters",
            retryable=False,
        )


def noted_file(found: FoundAdapter, path: str) -> RemoteFile:
    """A file of `found` as its store described it. Raises SourceError (SourceChanged) where nobody noted it."""
    note = found.signature
    for file in note.files if isinstance(note, RemoteNote) else ():
        if file.path == path:
            return file
    raise changed(found.name)


def changed(name: str) -> SourceError:
    """What `locate` raises for a version that the store no longer has."""
    return SourceError(
        "SourceChanged",
        f"{name[:128]}: the source has other files by now than those that were checked: they are looked at again",
        retryable=True,
    )


async def resolve_folders(
    folders: Iterable[RemoteFolder],
    reader: StoreReader,
    request: SourceRequest,
    previous: Resolution | None,
    *,
    now: float,
    settle_seconds: float = SETTLE_SECONDS,
    concurrency: int = CONCURRENCY,
) -> Resolution:
    """Select, look at what changed, and keep good versions whose successors are incomplete or broken.

    `folders` are all that the store lists; `now` is Unix time. An update whose files are younger than `settle_seconds`
    waits, and so does the removal of an adapter: somebody may just be replacing it. A store that fails for some
    adapters does not hide the others. Raises SourceError if there are too many, or if it fails for all that are read.
    """
    previous = previous or Resolution()
    before = {found.name: found for found in previous.adapters}
    excuses = {item.name: item for item in (*previous.broken, *previous.stale)}
    listed = [folder.told_apart for folder in choose(folders, request)]
    look = _Look(reader, request, now, settle_seconds, concurrency)
    outcomes = await asyncio.gather(
        *(look.at(folder, before.get(folder.name), excuses.get(folder.name)) for folder in listed)
    )
    failed = [outcome.error for outcome in outcomes if outcome.error]
    if failed and len(failed) == len(outcomes):
        raise failed[0]
    for name in sorted(before.keys() - {folder.name for folder in listed}):
        if passes(name, request.pattern, request.prefix, request.adapters):
            outcomes.append(_unlisted(before[name], now, settle_seconds))
    there = {folder.name for folder in listed} | {each.found.name for each in outcomes if each.found}
    broken = [each.broken for each in outcomes if each.broken and not each.found]
    broken += [not_found(name) for name in set(request.adapters) - there]
    return Resolution(
        adapters=tuple(sorted((each.found for each in outcomes if each.found), key=lambda found: found.name)),
        broken=tuple(sorted(broken, key=lambda item: item.name)),
        stale=tuple(each.broken for each in outcomes if each.broken and each.found),
        recheck_after_seconds=min((each.again_in for each in outcomes if each.again_in is not None), default=None),
    )


def _unlisted(found: FoundAdapter, now: float, settle_seconds: float) -> _Outcome:
    """An adapter whose folder is not listed: it stays for a moment."""
    note = found.signature if isinstance(found.signature, RemoteNote) else RemoteNote(None)
    since = now if note.missing_since is None else note.missing_since
    left = since + settle_seconds - now
    if not 0 < left <= settle_seconds:
        return _Outcome()
    return _Outcome(replace(found, signature=replace(note, missing_since=since)), again_in=left)


class _Look:
    """The looks of one round at all adapters of one source."""

    def __init__(
        self, reader: StoreReader, request: SourceRequest, now: float, settle_seconds: float, concurrency: int
    ) -> None:
        self._reader = reader
        self._request = request
        self._now = now
        self._settle_seconds = settle_seconds
        self._places = asyncio.Semaphore(concurrency)
        self._parsing = asyncio.Lock()

    async def at(self, folder: RemoteFolder, before: FoundAdapter | None, excuse: BrokenAdapter | None) -> _Outcome:
        """One adapter: its earlier result if nothing changed or if it is too early, else what its files say now."""
        try:
            self._request.check_name(folder.name)
        except InvalidAdapterName as error:
            return _Outcome(broken=BrokenAdapter(folder.name, "InvalidName", str(error)))
        config, weights = folder.file(CONFIG_FILE), folder.file(WEIGHTS_FILE)
        names = frozenset(file.path for file in folder.files)
        request = self._request
        seen = (folder.location, folder.origin, config, weights, names, request.compared_with)
        for known in (before, excuse):
            if known is not None and isinstance(known.signature, RemoteNote) and known.signature.seen == seen:
                return _Outcome(_relisted(before), None if known is before else excuse)
        settles_in = self._settles_in(folder)
        if before is not None and settles_in is not None:
            return _Outcome(_relisted(before), again_in=settles_in)
        try:
            async with self._places:
                inspection, files = await inspect_remote(
                    self._reader, folder.location, names, (config, weights), request, parsing=self._parsing
                )
        except AdapterRefused as error:
            # what is in flux is read again soon, and again at each time
            note = None if error.transient else RemoteNote(seen)
            again_in = RETRY_SECONDS if error.transient else None
            broken = BrokenAdapter(folder.name, error.reason.value, error.message, note)
            return _Outcome(_relisted(before), broken, again_in)
        except SourceError as error:
            broken = BrokenAdapter(folder.name, error.reason, error.message)
            again_in = (error.retry_after_seconds or RETRY_SECONDS) if error.retryable else None
            return _Outcome(_relisted(before), broken, again_in, error)
        return _Outcome(
            FoundAdapter(
                folder.name,
                fingerprint(inspection.files, folder.origin),
                inspection.files,
                inspection,
                folder.location,
                RemoteNote(seen, files),
            )
        )

    def _settles_in(self, folder: RemoteFolder) -> float | None:
        """In how many seconds the newest file is old enough; None if it is.

        A store's clock may be a little ahead of ours; far ahead says nothing.
        """
        times = [file.modified_at for file in folder.files if file.modified_at is not None]
        left = max(times, default=0.0) + self._settle_seconds - self._now
        return left if 0 < left < 2 * self._settle_seconds else None


def _relisted(before: FoundAdapter | None) -> FoundAdapter | None:
    """`before`, there again if it was missing."""
    if before is None or not isinstance(before.signature, RemoteNote) or before.signature.missing_since is None:
        return before
    return replace(before, signature=replace(before.signature, missing_since=None))
