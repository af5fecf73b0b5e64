"""Asks a malware scanner about each file of what was uploaded, by HTTP, until it answers.

A file is the body of a POST. 200 with `{"clean": true}` lets it through, `{"clean": false, "reason": "…"}` rejects it;
anything else is no answer, and it is asked again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import aiohttp
from starlette.concurrency import iterate_in_threadpool

from lora_library.catalogue import scans
from lora_library.catalogue.scans import Waiting
from lora_library.database import Database
from lora_library.names import object_prefix
from lora_library.stores.base import Store, StoreError

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0  # for what other replicas have left
MOST_ANSWER_BYTES = 64 << 10
AT_ONCE = 2
ACTOR = "scan"


class NoAnswer(Exception):
    """The scanner did not say; the message says what it did instead."""


class Scanner:
    """`tell` brings the news of an owner to store and cluster."""

    def __init__(
        self, database: Database, store: Store, tell: Callable[[str], Awaitable[None]], url: str, *, token: str = "",
        seconds: float = 300.0, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._database, self._store, self._tell = database, store, tell
        self._url, self._token, self._seconds, self._clock = url, token, seconds, clock
        self._new = asyncio.Event()

    def notice(self) -> None:
        """There is something new."""
        self._new.set()

    async def run(self) -> None:
        """For ever."""
        await asyncio.gather(*(self._work() for _ in range(AT_ONCE)))

    async def _work(self) -> None:
        while True:
            try:
                if await self.one():
                    continue
            except Exception as error:
                log.warning("scanning failed, and is tried again: %s: %s", type(error).__name__, error)
            self._new.clear()
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._new.wait()
            except TimeoutError:
                continue

    async def one(self) -> bool:
        """Asks about what has waited longest. Whether there was anything."""
        now = self._clock()
        waiting = await scans.due(self._database, now, now + 2 * self._seconds)
        if waiting is None:
            return False
        try:
            reason = await self._reason(waiting)
        except (NoAnswer, StoreError) as error:
            log.warning("%s has no answer of the scanner yet: %s", waiting.object_id, error)
            await scans.later(self._database, waiting, str(error), self._clock())
            return True
        await scans.judged(
            self._database, waiting.owner, waiting.object_id, clean=reason is None, reason=reason or "", actor=ACTOR,
            now=self._clock(),
        )  # fmt: skip
        await self._tell(waiting.owner)
        return True

    async def _reason(self, waiting: Waiting) -> str | None:
        """Why it is not clean; None if it is. Raises NoAnswer, StoreError."""
        timeout = aiohttp.ClientTimeout(total=self._seconds, connect=10)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session:
            for file in waiting.files:
                said = await self._ask(session, waiting, file)
                if said.get("clean") is not True:
                    return f"{file['path']}: {_plain(str(said.get('reason') or 'not clean'))}"
        return None

    async def _ask(
        self, session: aiohttp.ClientSession, waiting: Waiting, file: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        headers = {
            "Content-Type": "application/octet-stream", "Content-Length": str(file["size_bytes"]),
            "X-File-Name": file["path"], "X-File-Sha256": file["sha256"],
        }  # fmt: skip
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        key = f"{object_prefix(waiting.owner, waiting.object_id)}/{file['path']}"
        try:
            async with session.post(
                self._url, data=self._content(key), headers=headers, allow_redirects=False
            ) as answer:
                body = b""
                async for piece in answer.content.iter_any():
                    body += piece
                    if len(body) > MOST_ANSWER_BYTES:
                        raise NoAnswer(f"the scanner answered with more than {MOST_ANSWER_BYTES} bytes")
                if answer.status != 200:
                    raise NoAnswer(f"the scanner answered with status {answer.status}")
                said = json.loads(body)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NoAnswer(f"the scanner gave no answer: {type(error).__name__}") from None
        if not isinstance(said, dict) or not isinstance(said.get("clean"), bool):
            raise NoAnswer('the scanner answered without "clean": true or false')
        return said

    async def _content(self, key: str) -> AsyncIterator[bytes]:
        async for piece in iterate_in_threadpool(self._store.read(key)):
            yield piece


def _plain(text: str) -> str:
    """Without what a database does not take: nobody would hear of the verdict."""
    return "".join(each if each.isprintable() else "?" for each in text)
