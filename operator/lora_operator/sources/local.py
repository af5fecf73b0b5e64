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

from lora_operator.artifacts import (
    AdapterRefused,
    InvalidAdapterName,
    fingerprint,
    inspect,
    valid_adapter_name,
)
from lora_operator.sources.base import BrokenAdapter, FoundAdapter, Resolution, SourceError, SourceRequest
from lora_operator.sources.folder_signature import FolderSignature, holds_adapter, signature_of, written_at
from lora_operator.sources.selection import not_found, passes

SETTLE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class _Noted:
    """The signature under which a result was found; `final` once the files were quiet when they were read."""

    signature: FolderSignature
    final: bool


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What is known of one adapter after a look. `pending` is set while it should be looked at again soon."""

    found: FoundAdapter | None = None
    broken: BrokenAdapter | None = None
    pending: bool = False


class LocalSource:
    """Reads adapters from absolute folders, below one of `roots` if any are given.

    An update that is younger than `settle_seconds` waits; a first sighting does not. `clock` gives seconds since the
    epoch.
    """

    def __init__(
        self,
        roots: tuple[Path, ...] = (),
        *,
        settle_seconds: float = SETTLE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._roots = roots
        self._settle_seconds = settle_seconds
        self._clock = clock

    async def resolve(self, request: SourceRequest, previous: Resolution | None) -> Resolution:
        """See `Source`. All reading happens in a thread."""
        return await asyncio.to_thread(self._resolve, request, previous or Resolution())

    def _resolve(self, request: SourceRequest, previous: Resolution) -> Resolution:
        now = self._clock()
        repository = self._repository(request.repository)
        places = self._places(request, repository)
        before = {found.name: found for found in previous.adapters}
        excuses = {item.name: item for item in (*previous.broken, *previous.stale)}
        for name, found in before.items():
            if name not in places and self._may_come_back(found, repository, now):
                places[name] = None
        if len(places) > request.max_adapters:
            raise SourceError(
                "TooManyAdapters",
                f"{request.repository} has {len(places)} adapters that match, more than maxAdapters "
                f"{request.max_adapters}: narrow pattern, prefix or adapters, or raise maxAdapters",
                retryable=False,
            )
        outcomes = [
            _Outcome(before[name], pending=True)
            if place is None
            else self._look(name, place, repository, request, before.get(name), excuses.get(name), now)
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
            recheck_after_seconds=self._settle_seconds if any(each.pending for each in outcomes) else None,
        )

    def _repository(self, text: str) -> Path:
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
        if not self._allowed(real):
            raise SourceError(
                "OutsideAllowedRoots",
                f"local repository {shown} is not below a folder that this operator may read "
                f"({', '.join(map(str, self._roots))}): move it there, or allow its folder in the operator's settings",
                retryable=False,
            )
        return real

    def _allowed(self, real: Path) -> bool:
        return not self._roots or any(real.is_relative_to(os.path.realpath(root)) for root in self._roots)

    def _places(self, request: SourceRequest, repository: Path) -> dict[str, Path | None]:
        """The folder of each adapter that the request selects."""
        if holds_adapter(repository):
            name = Path(request.repository).name or "root"
            candidates = {name: repository}
        else:
            with os.scandir(repository) as entries:
                candidates = {
                    entry.name: Path(entry.path)
                    for entry in entries
                    if not entry.name.startswith(".") and (entry.is_symlink() or entry.is_dir())
                }
        return {
            name: path
            for name, path in candidates.items()
            if passes(name, request.pattern, request.prefix, request.adapters) and holds_adapter(path)
        }

    def _is_young(self, moment: float, now: float) -> bool:
        """Whether that was just now. A volume's clock may be a little ahead of ours; far ahead says nothing."""
        return abs(now - moment) < self._settle_seconds

    def _may_come_back(self, found: FoundAdapter, repository: Path, now: float) -> bool:
        """Whether the folder of `found` went just now: a replacement by move or copy does that for a moment."""
        went = max(written_at(repository), written_at(Path(found.location)))
        return self._is_young(went, now)

    def _look(
        self,
        name: str,
        place: Path,
        repository: Path,
        request: SourceRequest,
        before: FoundAdapter | None,
        excuse: BrokenAdapter | None,
        now: float,
    ) -> _Outcome:
        """One adapter: its earlier result if nothing changed or if it is too early, else what its files say now."""
        try:
            valid_adapter_name(name, base_model=request.base_model)
            real = self._inside(name, place, repository)
        except InvalidAdapterName as error:
            return _Outcome(broken=BrokenAdapter(name, "InvalidName", str(error)))
        except SourceError as error:
            return _Outcome(before, BrokenAdapter(name, error.reason, error.message))
        signature = signature_of(real, (request.base_model, request.base))
        fresh = self._is_young(signature.newest_change, now)
        for known in (before, excuse):
            noted = known.signature if known is not None else None
            if isinstance(noted, _Noted) and noted.signature == signature and (noted.final or fresh):
                if known is before:
                    return _Outcome(before, pending=not noted.final)
                return _Outcome(before, excuse, pending=not noted.final)
        if before is not None and self._is_young(signature.newest_write, now):
            return _Outcome(before, pending=True)
        return self._read(name, real, request, before, signature, final=not fresh)

    def _read(
        self,
        name: str,
        folder: Path,
        request: SourceRequest,
        before: FoundAdapter | None,
        signature: FolderSignature,
        *,
        final: bool,
    ) -> _Outcome:
        try:
            inspection = inspect(folder, base=request.base, served_base_model=request.base_model)
        except AdapterRefused as error:
            noted = _Noted(signature, final and not error.transient)
            return _Outcome(before, BrokenAdapter(name, error.reason.value, error.message, noted), pending=not final)
        files = inspection.files
        found = FoundAdapter(name, fingerprint(files), files, inspection, str(folder), _Noted(signature, final))
        return _Outcome(found, pending=not final)

    def _inside(self, name: str, place: Path, repository: Path) -> Path:
        """The real folder of an adapter. A link may lead elsewhere below the roots, or else only inside the source."""
        try:
            real = Path(os.path.realpath(place, strict=True))
        except OSError as error:
            raise SourceError(
                "FolderNotReadable", f"{name}: the folder cannot be opened ({error})", retryable=True
            ) from error
        if real.is_relative_to(repository) or (self._roots and self._allowed(real)):
            return real
        raise SourceError(
            "LinkEscapes",
            f"{name} is a symbolic link to a folder outside of the source: put the adapter's folder itself there",
            retryable=False,
        )
