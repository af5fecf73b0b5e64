"""From a request's body to an adapter that can be called: received, checked, given room, stored, told.

At each step something may end the process. What is left then: a folder of received files on a disk that is emptied at
the next start, a reservation that runs out, an object without a row that the sweeper removes, a row that is published
by whoever comes next.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lora_library import partials
from lora_library.catalogue.storing import NotStored, known_object, settle
from lora_library.cluster.publisher import Publisher
from lora_library.database import Database
from lora_library.model import ACTIVE, QUARANTINED, Limits, Lora, NewVersion, Principal
from lora_library.names import InvalidName, check_name, name_of_file, object_prefix
from lora_library.problems import Problem
from lora_library.quota import release, renew, reserve
from lora_library.receiving.checking import BaseModels, Checked, arrange, check
from lora_library.receiving.multipart import Form, ReceivedFile, receive
from lora_library.receiving.pace import Pace, Places, paced
from lora_library.receiving.room import Room
from lora_library.stores.base import Store
from lora_library.words import attributes_of, description_of, tags_of

log = logging.getLogger(__name__)

RESERVED_SECONDS = 600.0
FORM_BYTES = 64 << 10  # what of a body may be something else than files
STEP_BYTES = 8 << 20  # of a body whose length is not known, until its room is taken
OBJECT_NOTE = "meta.json"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an uploader says of an upload. None: what it had, or what the files say."""

    name: str
    base_model: str | None = None
    tags: tuple[str, ...] | None = None
    description: str | None = None
    attributes: Mapping[str, Any] | None = None
    card: str | None = None


class Uploads:
    """`work` is a folder of this process alone, with room for what is under way. `scan` is called where there are new
    files, which wait for its verdict; without, they are good as they are."""

    def __init__(
        self, database: Database, store: Store, publisher: Publisher, limits: Limits, base_models: BaseModels,
        work: Path, *, at_once: int = 256, at_once_each: int = 16, pace: Pace | None = None,
        work_bytes: int = 0, publish_seconds: float = 10.0, scan: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._database, self._store, self._publisher = database, store, publisher
        self._limits, self._base_models, self._work = limits, base_models, work
        self._places = Places(at_once, at_once_each, "TOO_MANY_UPLOADS", "uploads")
        self._pace, self._publish_seconds, self._clock = pace or Pace(), publish_seconds, clock
        self._scan, self._new_state = scan, QUARANTINED if scan is not None else ACTIVE
        self._room = Room(work_bytes)
        self._checks = asyncio.Semaphore(2)  # they compute
        self._puts = asyncio.Semaphore(8)
        self._tasks: set[asyncio.Task[None]] = set()

    def empty_work(self) -> None:
        """What an earlier process left."""
        self._work.mkdir(parents=True, exist_ok=True)
        for each in self._work.iterdir():
            shutil.rmtree(each, ignore_errors=True)

    @property
    def under_way(self) -> int:
        return self._places.held

    async def receive(
        self, principal: Principal, body: AsyncIterator[bytes], content_type: str, length: int | None
    ) -> Lora:
        """An upload as multipart/form-data. Raises Problem."""
        if length is not None and length > self._limits.upload_bytes + (1 << 20):
            raise Problem(
                "FILE_TOO_LARGE", f"an upload may have {self._limits.upload_bytes} bytes, and this one has {length}",
                maximum=self._limits.upload_bytes,
            )  # fmt: skip
        async with self.place(principal, max(0, (length or 0) - FORM_BYTES)) as (reservation, folder):
            counted = self.counted(principal.subject, reservation, body, max(0, (length or 0) - FORM_BYTES))
            form = await receive(counted, content_type, folder, self._limits.upload_bytes)
            resumed = await self._resumed(principal, form.fields.get("upload", ()))
            files = [*form.files, *await self.assembled(resumed, folder, reservation)]
            wanted = wanted_of(form, files)
            take = partial(self._room.take, reservation)
            adapter = await asyncio.to_thread(arrange, files, folder, self._limits.upload_bytes, take)
            return await self.keep(principal, adapter, wanted, reservation, resumed)

    async def _resumed(self, principal: Principal, ids: Sequence[str]) -> list[partials.Partial]:
        """The resumable uploads that a form names instead of files. Raises Problem."""
        if not ids:
            return []
        mine = await partials.find(self._database, self._clock(), owner=principal.subject, purposes=(partials.UPLOAD,))
        found = [each for each in mine if each.id in ids]
        if len(found) != len(ids):
            raise Problem(
                "INVALID_REQUEST", "the field upload names an upload that is not there (any more): begin anew"
            )
        return found

    def take(self, reservation: str, size_bytes: int) -> None:
        """Room on the disk for more in the folder of a place, from any thread. Raises Problem (TOO_MANY_UPLOADS)."""
        self._room.take(reservation, size_bytes)

    async def assembled(self, parts: Sequence[partials.Partial], folder: Path, reservation: str) -> list[ReceivedFile]:
        """Their files, in the folder of an upload. Raises Problem, StoreError."""
        take = partial(self._room.take, reservation)
        for each in parts:
            await asyncio.to_thread(partials.assemble, self._store, each, folder / each.id, take)
        return [ReceivedFile(each.path, folder / each.id, each.size_bytes) for each in parts]

    async def body(self, reservation: str, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """A body that goes into the folder of a place: not too slow, and no more than the disk has. Raises Problem."""
        async for chunk in paced(body, self._pace, lambda: self._places.scarce):
            self._room.take(reservation, len(chunk))
            yield chunk

    async def counted(
        self, subject: str, reservation: str, body: AsyncIterator[bytes], reserved: int
    ) -> AsyncIterator[bytes]:
        """A body of which more comes than was said (or nothing was) takes its room as it comes. Raises Problem."""
        came = 0
        async for chunk in paced(body, self._pace, lambda: self._places.scarce):
            came += len(chunk)
            self._room.take(reservation, len(chunk))
            if came - FORM_BYTES > reserved + STEP_BYTES:
                reserved = came - FORM_BYTES
                await self._reserve(subject, reservation, reserved)
            yield chunk

    @contextlib.asynccontextmanager
    async def place(self, principal: Principal, at_least_bytes: int = 0) -> AsyncIterator[tuple[str, Path]]:
        """Room for one upload: its reservation, and a folder for its files. Raises Problem."""
        subject = principal.subject
        with self._places.one(subject):
            reservation = secrets.token_hex(16)
            folder = self._work / reservation
            self._room.begin(reservation)
            kept = False
            try:
                await self._reserve(subject, reservation, at_least_bytes)
                kept = True
                folder.mkdir(parents=True)
                renewing = asyncio.create_task(self._renew(reservation))
                try:
                    yield reservation, folder
                finally:
                    renewing.cancel()
            finally:
                await asyncio.shield(self._leave(reservation if kept else None, folder))

    async def keep(
        self, principal: Principal, adapter: Path, wanted: Wanted, reservation: str,
        made_of: Sequence[partials.Partial] = (),
    ) -> Lora:  # fmt: skip
        """The adapter in a folder becomes one of the library; what it was made of goes. Raises Problem, StoreError."""
        subject = principal.subject
        async with self._checks:
            checked = await asyncio.to_thread(check, adapter, self._base_models, wanted.base_model)
        check_name(wanted.name, checked.base_model)
        consumed = tuple(each.id for each in made_of)
        stored = not await known_object(self._database, subject, checked.fingerprint)
        if stored:
            await self._store_bytes(subject, reservation, checked, consumed)
        new = NewVersion(
            wanted.name, checked.base_model, reservation, checked.fingerprint, checked.size_bytes, checked.files,
            checked.described, wanted.tags, wanted.description, wanted.attributes, wanted.card, consumed,
            self._new_state,
        )  # fmt: skip
        try:
            lora = await settle(self._database, principal, new, self._limits, self._clock(), stored=stored)
        except NotStored:  # it was purged since
            await self._store_bytes(subject, reservation, checked, consumed)
            lora = await settle(self._database, principal, new, self._limits, self._clock())
        if self._scan is not None:
            self._scan()
        await self.tell(subject)
        return lora

    async def tell(self, subject: str) -> None:
        """Store and cluster get to know; what takes longer, or fails, goes on afterwards."""
        task = asyncio.create_task(self._publish(subject))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait({task}, timeout=self._publish_seconds)

    async def finish(self) -> None:
        """Wait for what is being told."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _publish(self, subject: str) -> None:
        try:
            await self._publisher.publish(subject)
        except Exception as error:  # the sweeper tells it again
            log.warning("an owner's adapters could not be published yet: %s: %s", type(error).__name__, error)

    async def _store_bytes(self, subject: str, reservation: str, checked: Checked, instead_of: Sequence[str]) -> None:
        await self._reserve(subject, reservation, checked.size_bytes, instead_of)
        await self._put(subject, reservation, checked)

    async def _put(self, subject: str, object_id: str, checked: Checked) -> None:
        prefix = object_prefix(subject, object_id)
        note = {
            "owner": subject, "id": object_id, "fingerprint": checked.fingerprint, "size_bytes": checked.size_bytes,
            "files": list(checked.files), "described": dict(checked.described), "created_at": self._clock(),
        }  # fmt: skip
        async with self._puts:
            for file in checked.files:
                await asyncio.to_thread(self._store.put_file, f"{prefix}/{file['path']}", checked.folder / file["path"])
            await asyncio.to_thread(self._store.put, f"{prefix}/{OBJECT_NOTE}", json.dumps(note).encode())

    async def _reserve(self, subject: str, reservation: str, size_bytes: int, instead_of: Sequence[str] = ()) -> None:
        now = self._clock()
        await reserve(
            self._database, subject, reservation, size_bytes, self._limits, now=now, until=now + RESERVED_SECONDS,
            instead_of=instead_of,
        )  # fmt: skip

    async def _renew(self, reservation: str) -> None:
        while True:
            await asyncio.sleep(RESERVED_SECONDS / 3)
            with contextlib.suppress(Exception):  # it is tried again long before it runs out
                await renew(self._database, reservation, self._clock() + RESERVED_SECONDS)

    async def _leave(self, reservation: str | None, folder: Path) -> None:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        self._room.give_back(folder.name)  # which is its reservation's
        if reservation is not None:
            try:
                await release(self._database, reservation)
            except Exception as error:
                log.warning("a reservation is left to run out: %s", type(error).__name__)


def wanted_of(form: Form, files: Sequence[ReceivedFile]) -> Wanted:
    """What the fields of an upload say. Raises Problem, InvalidName."""
    name = form.one("name") or (name_of_file(files[0].name) if len(files) == 1 else "")
    if not name:
        raise InvalidName("give the adapter a name, with the field name")
    tags = form.fields.get("tags[]", form.fields.get("tags"))
    description, metadata = form.one("description"), form.one("metadata")
    return Wanted(
        check_name(name), form.one("base_model") or None, None if tags is None else tags_of(tags),
        None if description is None else description_of(description),
        None if metadata is None else attributes_of(metadata),
    )  # fmt: skip
