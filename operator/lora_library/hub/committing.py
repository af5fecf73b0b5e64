"""A commit becomes a version of an adapter. What is no whole adapter yet waits for the rest of it, a day at most:
clients send a folder in several commits where it is large, or file by file."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from lora_library import partials
from lora_library.catalogue import changing, reading
from lora_library.hub.naming import CARD_BYTES, CARD_FILE, commit_of, digest
from lora_library.hub.ndjson import Operation
from lora_library.hub.repositories import Entry, Repository
from lora_library.model import Principal
from lora_library.names import check_name
from lora_library.partials import Partial, Wish
from lora_library.problems import Problem
from lora_library.receiving.checking import HOW_TO_CONVERT, PICKLES
from lora_library.uploads import Wanted
from lora_library.web.context import Library
from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE

ADAPTER = (CONFIG_FILE, WEIGHTS_FILE)
KEPT = (*ADAPTER, CARD_FILE)
_PASSED_OVER = frozenset({".gitattributes", ".gitignore"})
_Source = Entry | Partial | Path  # of the version that is served, of an earlier request, of this one


@dataclass(frozen=True, slots=True)
class Place:
    """Where a commit's files are: of `uploads.place`."""

    reservation: str
    folder: Path


def check_paths(paths: Sequence[str]) -> None:
    """What a client means to send, before it does. Raises Problem (INVALID_FILE_FORMAT)."""
    last = {path: PurePosixPath(path).name for path in paths}
    if any(path in KEPT for path in paths):
        return
    seen = ", ".join(repr(each[:60]) for each in paths[:8]) or "nothing"
    if bad := next((name for name in last.values() if name.lower().endswith(PICKLES)), None):
        raise Problem("INVALID_FILE_FORMAT", f"{bad[:100]!r} is a pickle: {HOW_TO_CONVERT}", detected="pickle")
    if any(name in ADAPTER for name in last.values()):
        raise Problem(
            "INVALID_FILE_FORMAT",
            f"an adapter is at the root of its repository, and these files are not ({seen}): push them without "
            "path_in_repo, each adapter to a repository of its own",
            detected=seen,
        )
    raise Problem(
        "INVALID_FILE_FORMAT",
        f"this is no adapter ({seen}): the library takes {CONFIG_FILE} and {WEIGHTS_FILE}, as PEFT's save_pretrained "
        f"writes them, and {CARD_FILE}",
        detected=seen,
    )


class Committing:
    """One commit to one repository."""

    def __init__(self, library: Library, principal: Principal, repository: Repository, place: Place) -> None:
        self._library, self._principal, self._repository, self._place = library, principal, repository, place
        self._used: list[Partial] = []

    async def apply(self, operations: Sequence[Operation]) -> str:
        """The commit that it made. Raises Problem, StoreError."""
        before = await self._before()
        after = await self._after(before, operations)
        changed = {path for path in KEPT if after.get(path) is not before.get(path)}
        if lacking := [path for path in ADAPTER if path not in after]:
            if self._repository.lora is not None:
                raise Problem(
                    "INVALID_FILE_FORMAT",
                    f"without {lacking[0]} it would be no adapter: delete the repository, if that is what you want",
                    detected="nothing",
                )
            return await self._draft(after, changed)
        card = await self._card(after.get(CARD_FILE)) if CARD_FILE in changed else None
        if not changed & set(ADAPTER):
            return await self._only_card(card)
        adapter = self._place.folder / "adapter"
        adapter.mkdir()
        for path in ADAPTER:
            await self._bring(after[path], adapter / path)
        uploads, repository = self._library.uploads, self._repository
        unfinished = [*repository.unfinished, *self._used]
        wanted = Wanted(check_name(repository.name), card=card)
        try:
            with self._library.counts.one() as stored:
                lora = await uploads.keep(self._principal, adapter, wanted, self._place.reservation, unfinished)
                stored(lora)
        except Problem as problem:
            if problem.code in ("ADAPTER_REFUSED", "INVALID_FILE_FORMAT"):  # nothing will ever come of it
                await partials.drop(self._library.database, unfinished, self._library.clock())
            raise
        return await newest_commit(self._library, lora.id)

    async def _before(self) -> dict[str, _Source]:
        """The files that the commit goes on top of."""
        if self._repository.lora is not None:
            return dict(self._repository.main().entries)
        return {each.path: each for each in self._repository.unfinished if each.purpose == partials.DRAFT}

    async def _after(self, before: Mapping[str, _Source], operations: Sequence[Operation]) -> dict[str, _Source]:
        after = dict(before)
        for each in operations:
            if each.kind.startswith("deleted"):
                gone = [
                    path for path in after if path == each.path or (path + "/").startswith(each.path.rstrip("/") + "/")
                ]
                for path in gone:
                    del after[path]
            elif each.path in KEPT:
                after[each.path] = await self._uploaded(before, each) if each.file is None else each.file
            elif each.path not in _PASSED_OVER:
                check_paths([each.path])
        return after

    async def _uploaded(self, before: Mapping[str, _Source], operation: Operation) -> _Source:
        """What was sent by LFS before the commit."""
        known = before.get(operation.path)
        if isinstance(known, Entry) and known.mark == operation.sha256:
            return known
        mine = await partials.find(
            self._library.database, self._library.clock(), owner=self._principal.subject,
            purposes=(partials.LFS, partials.DRAFT),
        )  # fmt: skip
        found = next((each for each in reversed(mine) if each.sha256 == operation.sha256), None)
        if found is None:
            raise Problem("INVALID_REQUEST", f"{operation.path} was not uploaded before the commit: push it again")
        self._used.append(found)
        return found

    async def _bring(self, source: _Source, path: Path) -> None:
        """Blocking work in threads; nothing of a client's becomes a path."""
        uploads = self._library.uploads
        if isinstance(source, Path):
            await asyncio.to_thread(shutil.move, source, path)
        elif isinstance(source, Partial):
            (received,) = await uploads.assembled([source], self._place.folder, self._place.reservation)
            await asyncio.to_thread(shutil.move, received.path, path)
        else:
            await asyncio.to_thread(self._copy, source, path)

    def _copy(self, entry: Entry, path: Path) -> None:
        take = partial(self._library.uploads.take, self._place.reservation)
        with path.open("xb") as out:
            for block in self._library.store.read(entry.key):
                take(len(block))
                out.write(block)

    async def _card(self, source: _Source | None) -> str:
        if source is None:
            return ""
        path = self._place.folder / "card"
        if isinstance(source, Entry):
            return source.content.decode()
        await self._bring(source, path)
        if path.stat().st_size > CARD_BYTES:
            raise Problem("INVALID_REQUEST", f"{CARD_FILE} may have {CARD_BYTES} bytes")
        try:
            card = path.read_bytes().decode()
        except UnicodeDecodeError:
            raise Problem("INVALID_REQUEST", f"{CARD_FILE} is no UTF-8") from None
        if "\0" in card:
            raise Problem("INVALID_REQUEST", f"{CARD_FILE} has characters that are no text")
        return card

    async def _only_card(self, card: str | None) -> str:
        library, lora = self._library, self._repository.lora
        assert lora is not None
        if card is not None:
            await changing.set_card(library.database, self._principal, lora.id, lora.current, card, library.clock())
            await library.uploads.tell(self._principal.subject)
        return await newest_commit(library, lora.id, lora.current)

    async def _draft(self, after: Mapping[str, _Source], changed: set[str]) -> str:
        """Keeps what came for when the rest does."""
        library, subject, now = self._library, self._principal.subject, self._library.clock()
        kept = set(after.values())
        for path in sorted(changed & after.keys()):
            source = after[path]
            if isinstance(source, Partial):
                await partials.becomes_draft(library.database, source.id, self._repository.name, path)
                continue
            assert isinstance(source, Path)
            wish = Wish(partials.DRAFT, source.stat().st_size, self._repository.name, path)
            made = await partials.begin(library.database, subject, wish, library.limits, now)
            if made.size_bytes:
                await asyncio.to_thread(partials.add_piece, library.store, made, 0, source)
        gone = [each for each in self._repository.unfinished if each.purpose == partials.DRAFT and each not in kept]
        await partials.drop(library.database, gone, now)
        return digest(f"{self._repository.full_name} {sorted(after)} {now}")


async def newest_commit(library: Library, lora_id: str, number: int | None = None) -> str:
    """Of the newest version, or of the one with this number."""
    versions = await reading.versions(library.database, lora_id)
    found = next((each for each in versions if number in (None, each.number)), None)
    if found is None:
        raise Problem("CONFLICT", "the adapter was changed meanwhile: push it again")
    return commit_of(lora_id, found)
