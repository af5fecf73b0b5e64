"""One file from its link to the disk: one stream, taken up again after every break, proven as it comes in.

Ranges in parallel took longer over a link of 100 MB/s (`make bench-fetch`, in turns, three times): 1.2 to 1.6 times the
ideal for a file of 500 MB where one stream takes 1.0 to 1.4, and 1.0 to 2.8 for 50 files of 20 MB where it takes 1.0 to
1.6. Several files come at a time all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import aiohttp

from lora_operator.fetch.answers import Answer, check_extent, check_version, read_answer, same_tag
from lora_operator.fetch.errors import FetchError
from lora_operator.fetch.links import Links
from lora_operator.fetch.manifest import Link
from lora_operator.fetch.pace import backoff_seconds
from lora_operator.fetch.partial import Mark, PartialFile
from lora_operator.fetch.problems import Hiccup, StaleLink, of_client, of_disk
from lora_operator.fetch.transport import Transport, host_of

PROOF_BYTES = 16 << 20
_RENEWALS_IN_A_ROW = 2


class Proof(Protocol):
    """Looks at a file's bytes in their order while the file grows. Blocking."""

    def advance(self, end: int) -> None:
        """Look at what is new below byte `end`. Raises FetchError for content that must not be used."""
        ...  # pragma: no cover


@dataclass(frozen=True, slots=True)
class DesiredFile:
    """What a download is for. `what` names it to people; `path` is its key in the manifest, None for the archive."""

    what: str
    path: str | None
    size_max: int


class Download:
    """Fills `partial`. To be run once; the partial file and its journal stay open, whatever happens."""

    def __init__(
        self,
        desired: DesiredFile,
        partial: PartialFile,
        links: Links,
        transport: Transport,
        proof: Proof | None,
        came: Callable[[], None],
    ) -> None:
        self._desired = desired
        self._partial = partial
        self._links = links
        self._transport = transport
        self._limits = transport.limits
        self._proof = proof
        self._came = came
        self._pinned = ""
        self._failures = 0  # in a row
        self._refused = 0  # links, in a row
        self._kept_bytes = 0

    async def run(self) -> None:
        """Until every byte is there and proven. Raises FetchError."""
        proven = 0
        while proven < self._partial.have_bytes:  # what an earlier fetch left
            proven = min(self._partial.have_bytes, proven + PROOF_BYTES)
            await self._disk("reading", self._prove, proven)
        while not self._partial.complete:
            try:
                async with self._transport.slots:
                    await self._stream(await self._links.current(self._desired.path))
            except Hiccup as problem:
                await self._recover(problem)

    def _prove(self, end: int) -> None:
        if self._proof is not None:
            self._proof.advance(end)

    async def _recover(self, problem: Hiccup) -> None:
        """Get a fresh link, wait a moment, or raise what cannot be helped."""
        error = problem.error
        if isinstance(problem, StaleLink):
            self._refused += 1
            if not self._links.renewable or self._refused > _RENEWALS_IN_A_ROW:
                raise error
            self._transport.meter.retried(error.reason)
            await self._links.renew()
            return
        self._transport.meter.retried(error.reason)
        self._failures += 1
        wait = backoff_seconds(self._failures, error.retry_after_seconds, self._limits)
        if self._failures >= self._limits.attempts or wait > self._limits.backoff_max_seconds:
            raise error
        await asyncio.sleep(wait)

    async def _stream(self, link: Link) -> None:
        """One request for all that is missing."""
        have = self._partial.have_bytes
        headers = {}
        if self._provable(link):  # else parts of two versions would go unnoticed
            headers["Range"] = f"bytes={have}-"
        elif have:
            raise FetchError(
                "ConnectionLost",
                f"{self._desired.what} broke off, and its server knows no way to go on: it is fetched from the start",
                retryable=True,
            )
        if link.tag and not link.tag.startswith("W/"):
            headers["If-Match"] = f'"{same_tag(link.tag)}"'
        elif self._pinned and have:
            headers["If-Range"] = self._pinned
        async with self._transport.get(self._desired.what, link, headers) as response:
            what = f"{self._desired.what}: {host_of(response.url)}"
            proven = bool(self._partial.mark.sha256) or self._desired.path is None
            answer = read_answer(what, response.status, response.headers)
            check_version(what, answer, response.headers.get("ETag", ""), self._pinned, link.tag, proven=proven)
            check_extent(what, answer, have, self._partial.mark.size_bytes)
            self._check_size(what, answer.size_bytes)
            await self._learn(answer)
            await self._receive(what, response, answer)

    def _provable(self, link: Link) -> bool:
        """Whether bytes of another version could not slip in; the members of an archive are proven when unpacked."""
        return bool(self._partial.mark.sha256 or link.tag or self._pinned) or self._desired.path is None

    def _check_size(self, what: str, size_bytes: int | None) -> None:
        if size_bytes is not None and size_bytes > self._desired.size_max:
            raise FetchError(
                "TooLarge",
                f"{what} has a file of {size_bytes} bytes, and at most {self._desired.size_max} are fetched: use a "
                "smaller one, or raise the limit in the settings",
                retryable=False,
            )

    async def _learn(self, answer: Answer) -> None:
        """Take note of what the answer says of the file."""
        before = self._partial.mark
        if not before.sha256 and not self._pinned:
            self._pinned = answer.tag
        size = before.size_bytes if before.size_bytes is not None else answer.size_bytes
        if answer.ranged and size is None:
            raise FetchError(
                "BadAnswer", f"{self._desired.what} comes in ranges of an unknown whole: see the server", retryable=True
            )
        await self._disk("writing", self._partial.pin, Mark(size, before.sha256, before.tag or answer.tag))

    async def _receive(self, what: str, response: aiohttp.ClientResponse, answer: Answer) -> None:
        place, end = answer.begin, self._partial.mark.size_bytes
        while end is None or place < end:
            want = self._limits.block_bytes if end is None else min(self._limits.block_bytes, end - place)
            block, problem = await self._block(what, response, want)
            self._transport.meter.received(len(block))
            await self._transport.bandwidth.take(len(block))
            # a server without ranges begins anew
            fresh = block[max(0, self._partial.have_bytes - place) :]
            if fresh:
                await self._keep(fresh)
            place += len(block)
            self._check_size(what, place)
            if problem is not None:
                raise problem
            if len(block) < want:
                if end is None and answer.length_bytes is None:
                    await self._disk("writing", self._partial.pin, Mark(place, "", self._partial.mark.tag))
                    return
                if answer.length_bytes is not None and place >= answer.begin + answer.length_bytes:
                    return  # it gave less than was asked for, as it may
                raise Hiccup(FetchError("Truncated", f"{what} sent less than it announced", retryable=True))
        if not answer.ranged and answer.length_bytes is None and not response.content.at_eof():
            block, _ = await self._block(what, response, 1)
            if block:
                raise FetchError(
                    "SizeMismatch",
                    f"{what} sends more than the {end} bytes that were expected: it is read again, or correct the "
                    "source",
                    retryable=True,
                )

    async def _block(
        self, what: str, response: aiohttp.ClientResponse, want: int
    ) -> tuple[bytearray, FetchError | Hiccup | None]:
        """Up to `want` bytes, fewer only at the end of the body or with the problem that ended it."""
        block = bytearray()
        try:
            async with asyncio.timeout(self._limits.stall_seconds):
                while len(block) < want and (part := await response.content.read(want - len(block))):
                    block += part
        except (aiohttp.ClientError, OSError) as error:
            return block, of_client(what, error)
        return block, None

    async def _keep(self, block: bytearray) -> None:
        await self._disk("writing", self._append, block)
        self._kept_bytes += len(block)
        if self._kept_bytes >= self._limits.progress_bytes:
            self._kept_bytes = self._failures = self._refused = 0
        self._came()

    def _append(self, block: bytearray) -> None:
        self._partial.append(block)
        self._prove(self._partial.have_bytes)

    async def _disk(self, doing: str, work: Callable[..., None], *arguments: object) -> None:
        problem: FetchError | None = None
        try:
            await self._transport.in_thread(work, *arguments)
        except OSError as error:
            problem = of_disk(f"{doing} {self._desired.what}", error)
        if problem is not None:
            raise problem
