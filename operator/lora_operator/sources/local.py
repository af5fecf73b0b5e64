"""Adapters in a folder that the operator can read: a mounted volume.

One adapter at the folder's root, or one per direct sub-folder. Whoever writes there does so without telling us, so that
a version counts only when it is whole, and a good version stays until its successor is good too.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lora_operator.artifacts import AdapterRefused, InvalidAdapterName, fingerprint, inspect
from lora_operator.artifacts.found import FoundAdapter
from lora_operator.artifacts.hub_cache import repository_name, snapshot_in
from lora_operator.sources.base import BrokenAdapter, Resolution, SourceError, SourceRequest
from lora_operator.sources.folder_signature import FolderSignature, holds_adapter, signature_of, written_at
from lora_operator.sources.remote_threads import THREADS, Threads
from lora_operator.sources.selection import not_found, passes

SETTLE_SECONDS = 2.0
AT_ONCE = 2 * THREADS  # handed to the threads: thousands ask at the start, in one turn of the event loop


@dataclass(frozen=True, slots=True)
class _Noted:
    """The signature under which a result was found; `final` once the files were quiet when they were read."""

    signature: FolderSignature
    final: bool


@dataclass(frozen=True, slots=True)
class _Limits:
    """The real folders below one of which a source has to be, if there are any, and below none of which it may be."""

    roots: tuple[str, ...]
    closed: tuple[str, ...]

    @classmethod
    def now(cls, roots: tuple[Path, ...], closed: tuple[Path, ...]) -> _Limits:
        """As the links are now: found out once for a look, not for each adapter."""
        return cls(tuple(map(os.path.realpath, roots)), tuple(map(os.path.realpath, closed)))

    def allow(self, real: Path) -> bool:
        return not self.roots or any(real.is_relative_to(root) for root in self.roots)

    def check_open(self, shown: str, real: Path) -> None:
        if any(real.is_relative_to(closed) for closed in self.closed):
            raise SourceError(
                "InsideAdapterVolume",
                f"local repository {shown} leads to where this operator keeps the adapters of everybody: name the "
                "folder that they come from",
                retryable=False,
            )


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What is known of one adapter after a look. `again_in`: seconds after which it should be looked at again."""

    found: FoundAdapter | None = None
    broken: BrokenAdapter | None = None
    again_in: float | None = None


class LocalSource:
    """Reads adapters from absolute folders, below one of `roots` if any are given, and never below one of `closed`.

    An update that is younger than `settle_seconds` waits; a first sighting does not. `clock` gives seconds since the
    epoch.
    """

    def __init__(
        self,
        roots: tuple[Path, ...] = (),
        *,
        closed: tuple[Path, ...] = (),
        settle_seconds: float = SETTLE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._roots = roots
        self._closed = closed
        self._threads = Threads("local")
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._settle_seconds = settle_seconds
        self._clock = clock

    async def resolve(self, request: SourceRequest, previous: Resolution | None) -> Resolution:
        """See `Source`. All reading happens in threads of its own: a volume may hang."""
        async with self._turns:
            return await self._threads.run(lambda: self._resolve(request, previous or Resolution()))

    async def locate(self, request: SourceRequest, found: FoundAdapter) -> Path:
        """See `Source`: the folder itself."""
        return Path(found.location)

    def _resolve(self, request: SourceRequest, previous: Resolution) -> Resolution:
        now = self._clock()
        limits = _Limits.now(self._roots, self._closed)
        repository = self._repository(request.repository, limits)
        places = self._places(request, repository)
        before = {found.name: found for found in previous.adapters}
        excuses = {item.name: item for item in (*previous.broken, *previous.stale)}
        for name, found in before.items():
            if name not in places and self._settles_in(_went_at(found, repository), now) is not None:
                places[name] = None
        if len(places) > request.max_adapters:
            raise SourceError(
                "TooManyAdapters",
                f"{request.repository} has {len(places)} adapters that match, more than maxAdapters "
                f"{request.max_adapters}: narrow pattern, prefix or adapters, or raise maxAdapters",
                retryable=False,
            )
        outcomes = [
            _Outcome(before[name], again_in=self._settles_in(_went_at(before[name], repository), now))
            if place is None
            else self._look(name, place, repository, limits, request, before.get(name), excuses.get(name), now)
            for name, place in sorted(places.items())
        ]
        absent = sorted(set(request.adapters) - set(places))
        return Resolution(
            adapters=tuple(each.found for each in outcomes if each.found),
            broken=tuple(
                sorted(
                    [each.broken for each in outcomes if each.broken and not each.found] + [*map(not_found, absent)],
                    key=lambda item: item.name,
                )
            ),
            stale=tuple(each.broken for each in outcomes if each.broken and each.found),
            recheck_after_seconds=min((each.again_in for each in outcomes if each.again_in is not None), default=None),
        )

    def _repository(self, text: str, limits: _Limits) -> Path:
        """The folder that the resource names, checked."""
        shown = repr(text[:300])
        if not text.startswith("/") or "\0" in text or ".." in text.split("/"):
            raise SourceError(
                "PathNotAbsolute",
                f"local repository {shown} is not an absolute path without '..': give the full path of the folder",
                retryable=False,
            )
        try:
            real = Path(os.path.realpath(text, strict=True))
            with os.scandir(real):
                pass
        except (FileNotFoundError, NotADirectoryError) as error:
            if isinstance(error, NotADirectoryError) or os.path.lexists(text):
                raise SourceError(
                    "NotAFolder", f"local repository {shown} is not a folder: name the folder", retryable=True
                ) from error
            raise SourceError(
                "FolderNotFound",
                f"local repository {shown} does not exist for the operator: mount the volume, or correct the path",
                retryable=True,
            ) from error
        except PermissionError as error:
            raise SourceError(
                "FolderNotReadable",
                f"local repository {shown} cannot be listed (permission denied): let the operator's user read it",
                retryable=True,
            ) from error
        except (OSError, ValueError) as error:
            raise SourceError(
                "FolderNotReadable", f"local repository {shown} cannot be read ({error}): check it", retryable=True
            ) from error
        if not limits.allow(real):
            raise SourceError(
                "OutsideAllowedRoots",
                f"local repository {shown} is not below a folder that this operator may read "
                f"({', '.join(map(str, self._roots))}): move it there, or allow its folder in the operator's settings",
                retryable=False,
            )
        limits.check_open(shown, real)
        return real

    def _places(self, request: SourceRequest, repository: Path) -> dict[str, Path | None]:
        """The folder of each adapter that the request selects."""
        repository = snapshot_in(repository) or repository
        root = holds_adapter(repository)
        candidates: dict[str, Path] = {}
        if not root or request.adapters:
            with os.scandir(repository) as entries:
                found = sorted(
                    entry.name
                    for entry in entries
                    if not entry.name.startswith(".") and (entry.is_symlink() or entry.is_dir())
                )
            for folder in found:
                path = snapshot_in(repository / folder) or repository / folder
                name = repository_name(path) or folder
                if not root or folder in request.adapters:
                    candidates[folder if name in candidates else name] = path
        if root:
            candidates[repository_name(repository) or Path(request.repository).name or "root"] = repository
        return {
            name: path
            for name, path in candidates.items()
            if passes(name, request.pattern, request.prefix, request.adapters) and holds_adapter(path)
        }

    def _settles_in(self, moment: float, now: float) -> float | None:
        """In how many seconds `moment` is long enough ago; None if it is.

        A volume's clock may be a little ahead of ours; far ahead says nothing.
        """
        left = moment + self._settle_seconds - now
        return left if 0 < left < 2 * self._settle_seconds else None

    def _look(
        self,
        name: str,
        place: Path,
        repository: Path,
        limits: _Limits,
        request: SourceRequest,
        before: FoundAdapter | None,
        excuse: BrokenAdapter | None,
        now: float,
    ) -> _Outcome:
        """One adapter: its earlier result if nothing changed or if it is too early, else what its files say now."""
        try:
            request.check_name(name)
            real = place if place is repository else _inside(name, place, repository, limits)
        except InvalidAdapterName as error:
            return _Outcome(broken=BrokenAdapter(name, "InvalidName", str(error)))
        except SourceError as error:
            return _Outcome(before, BrokenAdapter(name, error.reason, error.message))
        signature = signature_of(real, request.compared_with)
        settled_in = self._settles_in(signature.newest_change, now)
        for known in (before, excuse):
            noted = known.signature if known is not None else None
            if isinstance(noted, _Noted) and noted.signature == signature and (noted.final or settled_in is not None):
                again_in = None if noted.final else settled_in
                return _Outcome(before, None if known is before else excuse, again_in)
        written_in = self._settles_in(signature.newest_write, now)
        if before is not None and written_in is not None:
            return _Outcome(before, again_in=written_in)
        return self._read(name, real, request, before, signature, settled_in)

    def _read(
        self,
        name: str,
        folder: Path,
        request: SourceRequest,
        before: FoundAdapter | None,
        signature: FolderSignature,
        settled_in: float | None,
    ) -> _Outcome:
        # Two writes within one tick of the file system's clock leave one signature: what is read while the files are
        # young is read once more when they are not.
        final = settled_in is None
        try:
            inspection = inspect(
                folder,
                base=request.base,
                served_base_model=request.served_base_model,
                base_aliases=request.base_aliases,
            )
        except AdapterRefused as error:
            noted = _Noted(signature, final and not error.transient)
            return _Outcome(before, BrokenAdapter(name, error.reason.value, error.message, noted), settled_in)
        files = inspection.files
        found = FoundAdapter(name, fingerprint(files), files, inspection, str(folder), _Noted(signature, final))
        return _Outcome(found, again_in=settled_in)


def _inside(name: str, place: Path, repository: Path, limits: _Limits) -> Path:
    """The real folder of an adapter. A link may lead elsewhere below the roots, or else only inside the source."""
    try:
        real = Path(os.path.realpath(place, strict=True))
    except OSError as error:
        raise SourceError(
            "FolderNotReadable", f"{name}: the folder cannot be opened ({error})", retryable=True
        ) from error
    if real.is_relative_to(repository) or (limits.roots and limits.allow(real)):
        limits.check_open(repr(name), real)
        return real
    raise SourceError(
        "LinkEscapes",
        f"{name} is a symbolic link to a folder outside of the source: put the adapter's folder itself there",
        retryable=False,
    )


def _went_at(found: FoundAdapter, repository: Path) -> float:
    """When the folder of `found` went, or was emptied: a replacement by move or copy does that for a moment."""
    return max(written_at(repository), written_at(Path(found.location)))
