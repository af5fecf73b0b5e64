"""One file from its link to the disk: ranges in parallel, taken up again after every break, proven as they come in."""

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
from lora_operator.fetch.pace import Parallel, backoff_seconds
from lora_operator.fetch.partial import Mark, PartialFile
from lora_operator.fetch.problems import Hiccup, StaleLink, of_client, of_disk
from lora_operator.fetch.spans import Span, Spans, pieces
from lora_operator.fetch.transport import Transport, host_of

PROOF_BYTES = 16 << 20
# What has to come before failures are counted from none again: a server that sends a byte and hangs up gets nowhere.
PROGRESS_BYTES = 64 << 10
_RENEWALS_IN_A_ROW = 2


class Proof(Protocol):
    """Looks at a file's bytes in their order while the file grows. Blocking."""

    def advance(self, end: int) -> None:
        """Look at what is new below byte `end`. Raises FetchError for content that must not be used."""
        ...  # pragma: no cover


@dataclass(frozen=True, slots=True)
class DesiredAdapter:
    """What a download is for. `what` names it to people; `path` is its key in the order, None for the archive."""

    what: str
    path: str | None
    size_max: int


@dataclass(frozen=True, slots=True)
class _Started:
    """A request under way: what it asks for, and how many setbacks there had been when it was made."""

    span: Span
    setbacks: int


class Download:
    """Fills `partial`. To be run once; the partial file and its journal stay open, whatever happens."""

    def __init__(
        self,
        wanted: DesiredAdapter,
        partial: PartialFile,
        links: Links,
        transport: Transport,
        proof: Proof | None,
        came: Callable[[], None],
    ) -> None:
        self._wanted = wanted
        self._partial = partial
        self._links = links
        self._transport = transport
        self._limits = transport.limits
        self._proof = proof
        self._came = came
        self._grew = asyncio.Event()
        self._parallel = Parallel(self._limits.connections_per_file)
        self._ranges: bool | None = None  # None: not known yet
        self._pinned = ""
        self._head = asyncio.Event()
        self._failures = 0  # in a row
        self._setbacks = 0  # in all
        self._refused: set[int] = set()  # generations of links, in a row
        self._kept_bytes = 0

    async def run(self) -> None:
        """Until every byte is there and proven. Raises FetchError."""
        tasks: set[asyncio.Task[None]] = set()
        try:
            if self._proof is not None:
                tasks.add(asyncio.create_task(self._prove(self._proof)))
            tasks.add(asyncio.create_task(self._bring()))
            while tasks:
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            await _end(tasks)

    @property
    def _size(self) -> int | None:
        return self._partial.mark.size_bytes

    def _complete(self) -> bool:
        return self._size is not None and self._partial.have.prefix >= self._size

    async def _prove(self, proof: Proof) -> None:
        proven = 0
        while True:
            self._grew.clear()
            prefix, complete = self._partial.have.prefix, self._complete()
            while proven < prefix:
                proven = min(prefix, proven + PROOF_BYTES)
                await self._disk("reading", proof.advance, proven)
            if complete:
                return
            await self._grew.wait()

    async def _bring(self) -> None:
        """Keep requests under way until nothing is missing."""
        under_way: dict[asyncio.Task[None], _Started] = {}
        head = asyncio.create_task(self._answered())
        try:
            while not self._complete():
                self._start_more(under_way)
                waiting = {*under_way} if head.done() else {*under_way, head}
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                ended = [(under_way.pop(task), task.exception()) for task in {*under_way} & done]
                for started, problem in ended:
                    await self._react(problem, started)
        finally:
            await _end({*under_way, head})

    async def _answered(self) -> None:
        await self._head.wait()

    def _start_more(self, under_way: dict[asyncio.Task[None], _Started]) -> None:
        """As many requests as are allowed now: one until the first answer has shown what the server can do."""
        size = self._size if self._size is not None else 1 << 60
        limit = self._parallel.limit if self._ranges and self._size is not None else 1
        absent = Spans([*self._partial.have, *(other.span for other in under_way.values())]).missing(size)
        for hole in absent:
            for span in pieces(hole, self._limits.chunk_bytes):
                if len(under_way) >= limit:
                    return
                under_way[asyncio.create_task(self._get(span))] = _Started(span, self._setbacks)

    async def _react(self, problem: BaseException | None, started: _Started) -> None:
        """Go on, wait a moment, or raise what cannot be helped."""
        if problem is None:
            self._parallel.went_well()
            return
        if not isinstance(problem, Hiccup):
            raise problem
        error = problem.error
        if isinstance(problem, StaleLink):
            if not self._links.renewable or len(self._refused) > _RENEWALS_IN_A_ROW:
                raise error
            self._transport.meter.retried(error.reason)
            return  # whoever met this has renewed the link
        self._transport.meter.retried(error.reason)
        if started.setbacks < self._setbacks:
            return  # it was under way when another one met the same trouble
        self._setbacks += 1
        self._failures += 1
        self._parallel.failed()
        wait = backoff_seconds(self._failures, error.retry_after_seconds, self._limits)
        if self._failures >= self._limits.attempts or wait > self._limits.backoff_max_seconds:
            raise error
        await asyncio.sleep(wait)

    async def _get(self, span: Span) -> None:
        async with self._transport.slots:
            link, generation = await self._links.current(self._wanted.path)
            try:
                await self._ask(link, span)
            except StaleLink:
                self._refused.add(generation)
                await self._links.renew(generation)
                raise

    async def _ask(self, link: Link, span: Span) -> None:
        headers = {}
        if self._ranges is None and not self._provable(link):
            self._ranges = False  # parts of two versions would go unnoticed
        if self._ranges is not False:
            headers["Range"] = f"bytes={span[0]}-{span[1] - 1}"
        if link.tag and not link.tag.startswith("W/"):
            headers["If-Match"] = f'"{same_tag(link.tag)}"'
        elif self._pinned and "Range" in headers:
            headers["If-Range"] = self._pinned
        async with self._transport.get(self._wanted.what, link, headers) as response:
            what = f"{self._wanted.what}: {host_of(response.url)}"
            proven = bool(self._partial.mark.sha256) or self._wanted.path is None
            answer = read_answer(what, response.status, response.headers)
            check_version(what, answer, response.headers.get("ETag", ""), self._pinned, link.tag, proven=proven)
            check_extent(what, answer, span, self._size)
            self._check_size(what, answer.size_bytes)
            place = await self._learn(answer, link)
            await self._receive(what, response, answer, place, span)

    def _provable(self, link: Link) -> bool:
        """Whether bytes of another version could not slip in; the members of an archive are proven when unpacked."""
        return bool(self._partial.mark.sha256 or link.tag or self._pinned) or self._wanted.path is None

    def _check_size(self, what: str, size_bytes: int | None) -> None:
        if size_bytes is not None and size_bytes > self._wanted.size_max:
            raise FetchError(
                "TooLarge",
                f"{what} has a file of {size_bytes} bytes, and at most {self._wanted.size_max} are fetched: use a "
                "smaller one, or raise the limit in the settings",
                retryable=False,
            )

    async def _learn(self, answer: Answer, link: Link) -> int:
        """Take note of what the first answer says of file and server; returns from which byte on to keep its body."""
        if not self._partial.mark.sha256 and not self._pinned:
            self._pinned = answer.tag
        before = self._partial.mark
        size = before.size_bytes if before.size_bytes is not None else answer.size_bytes
        if answer.ranged and size is None:
            raise FetchError(
                "BadAnswer", f"{self._wanted.what} comes in ranges of an unknown whole: see the server", retryable=True
            )
        await self._disk("writing", self._partial.pin, Mark(size, before.sha256, before.tag or answer.tag))
        prefix = self._partial.have.prefix
        if not answer.ranged and prefix and not self._provable(link):
            raise FetchError(
                "ConnectionLost",
                f"{self._wanted.what} broke off, and its server knows no way to go on: it is fetched from the start",
                retryable=True,
            )
        self._ranges = answer.ranged
        self._head.set()
        return answer.begin if answer.ranged else prefix

    async def _receive(
        self, what: str, response: aiohttp.ClientResponse, answer: Answer, keep_from: int, span: Span
    ) -> None:
        place = answer.begin
        end = span[1] if answer.ranged else self._size
        while end is None or place < end:
            want = self._limits.block_bytes if end is None else min(self._limits.block_bytes, end - place)
            block, problem = await self._block(what, response, want)
            self._transport.meter.received(len(block))
            await self._transport.bandwidth.take(len(block))
            fresh = block[max(0, keep_from - place) :]
            if fresh:
                await self._keep(place + len(block) - len(fresh), fresh)
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
                    f"{what} sends more than the {self._size} bytes that were expected: it is read again, or correct "
                    "the source",
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

    async def _keep(self, place: int, block: bytearray) -> None:
        await self._disk("writing", self._partial.write, place, block)
        self._partial.have.add(place, place + len(block))
        self._kept_bytes += len(block)
        if self._kept_bytes >= min(PROGRESS_BYTES, self._limits.chunk_bytes):
            self._kept_bytes = self._failures = 0
            self._refused.clear()
        self._grew.set()
        self._came()

    async def _disk(self, doing: str, work: Callable[..., None], *arguments: object) -> None:
        problem: FetchError | None = None
        try:
            await self._transport.in_thread(work, *arguments)
        except OSError as error:
            problem = of_disk(f"{doing} {self._wanted.what}", error)
        if problem is not None:
            raise problem


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()
