"""Carries out orders: whatever a folder needs to become one version of an adapter, proven, or the reason why not."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from lora_operator.artifacts import AdapterFile
from lora_operator.fetch.archive import unpack
from lora_operator.fetch.download import DesiredFile, Download
from lora_operator.fetch.errors import FetchError
from lora_operator.fetch.hosts import HostRules
from lora_operator.fetch.limits import Limits
from lora_operator.fetch.links import Links, Renew
from lora_operator.fetch.manifest import FetchFile, FetchManifest
from lora_operator.fetch.meter import Meter, NoMeter
from lora_operator.fetch.partial import Mark, PartialFile, journal_of
from lora_operator.fetch.problems import of_disk
from lora_operator.fetch.progress import Progress, Report
from lora_operator.fetch.proof import BadContent, FileProof, check_order
from lora_operator.fetch.transport import Transport
from lora_operator.tracing import OFF, Tracing, without_secrets

ARCHIVE_FILE = ".archive"


class Fetcher:
    """One for a process: all its fetches share connections, bandwidth and limits. Made inside of a running loop."""

    def __init__(
        self,
        *,
        rules: HostRules | None = None,
        limits: Limits | None = None,
        meter: Meter | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
        tracing: Tracing = OFF,
    ) -> None:
        self._tracing = tracing
        self._meter: Meter = meter or NoMeter()
        self._limits = limits or Limits()
        self._transport = Transport(rules or HostRules(), self._limits, self._meter, tls)
        self._clock = clock

    async def __aenter__(self) -> Fetcher:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. Fetches that are under way have to be cancelled before."""
        await self._transport.close()

    async def fetch(
        self, order: FetchManifest, into: Path, *, renew: Renew | None = None, report: Report | None = None
    ) -> tuple[AdapterFile, ...]:
        """Put the files of `order` into the folder `into`, and nothing else; returns what arrived, with every sha256.

        `into` is empty, or what an earlier fetch of the same version left in it when it failed or was killed: then that
        is taken up again. No other process may use it meanwhile. The files are proven at the end, and neither durable
        nor read-only. On failure what was fetched stays, for the next time; whoever gives up deletes the folder.

        `renew` gives the same order with fresh links when they run out. `report` is told now and then how many bytes of
        the order are there. Raises FetchError, and what `renew` raises.
        """
        began = asyncio.get_running_loop().time()
        reason = "Cancelled"
        try:
            check_order(order, self._limits.file_bytes)
            files = await self._fetch(order, into, renew, report)
            reason = ""
        except FetchError as error:
            reason = error.reason
            raise
        finally:
            elapsed = asyncio.get_running_loop().time() - began
            self._meter.finished(reason, 0 if reason else order.size_bytes, elapsed)
        return files

    async def _fetch(
        self, order: FetchManifest, into: Path, renew: Renew | None, report: Report | None
    ) -> tuple[AdapterFile, ...]:
        progress = Progress(order.size_bytes, report)
        links = Links(order, renew, self._limits, self._clock)
        problem: FetchError | None = None
        try:
            await self._transport.in_thread(self._prepare, order, into)
            arrived = [
                await self._transport.in_thread(_put_inline, order, file, into)
                for file in order.files
                if file.inline is not None
            ]
            for file in order.files:
                if file.inline is None and file.link is not None:
                    arrived.append(await self._one(order, file, into, links, progress))
            if len(arrived) < len(order.files):
                arrived += await self._from_archive(order, into, links, progress)
            await self._transport.in_thread(_tidy, order, into)
        except OSError as error:
            problem = of_disk(f"fetching {order.name}", error)
        if problem is not None:
            raise problem
        progress.done()
        return tuple(sorted(arrived, key=lambda each: each.path))

    def _prepare(self, order: FetchManifest, into: Path) -> None:
        """Throw away what is none of ours, and find out early that the disk is too small."""
        ours = {ARCHIVE_FILE, journal_of(into / ARCHIVE_FILE).name}
        for file in order.files:
            ours |= {file.path, journal_of(into / file.path).name}
        there = 0
        for path in into.iterdir():
            if path.name in ours:
                there += path.lstat().st_blocks * 512
            elif path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        free = os.statvfs(into)
        if (
            self._limits.checks_free_space
            and free.f_blocks
            and free.f_bavail * free.f_frsize + there < order.scratch_bytes
        ):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def _one(
        self, order: FetchManifest, file: FetchFile, into: Path, links: Links, progress: Progress
    ) -> AdapterFile:
        assert file.link is not None
        what = f"{file.path} of {order.name}"
        mark = Mark(file.size_bytes, file.sha256.lower(), file.link.tag)
        partial = await self._transport.in_thread(PartialFile, into / file.path, mark, undo=PartialFile.close)
        try:
            attempts = 2
            while True:
                fresh = not partial.have_bytes
                attempts -= fresh
                proof = FileProof(order.name, file, partial.descriptor)
                count = progress.counter(file.path, partial)
                desired = DesiredFile(what, file.path, self._limits.file_bytes)
                try:
                    with self._tracing.span("download", url=without_secrets(file.link.url), bytes=file.size_bytes):
                        await Download(desired, partial, links, self._transport, proof, count).run()
                    sha256 = await self._transport.in_thread(proof.finish)
                    return AdapterFile(file.path, file.size_bytes, sha256, file.link.tag)
                except BadContent as error:
                    if not attempts:
                        raise
                    self._meter.retried(error.reason)
                await self._transport.in_thread(partial.reset)
        finally:
            await self._transport.in_thread(partial.close)

    async def _from_archive(
        self, order: FetchManifest, into: Path, links: Links, progress: Progress
    ) -> list[AdapterFile]:
        archive = order.archive
        assert archive is not None
        desired = DesiredFile(f"the archive of {order.name}", None, self._limits.archive_bytes)
        mark = Mark(archive.size_bytes, "", archive.link.tag)
        stopped = threading.Event()
        partial = await self._transport.in_thread(PartialFile, into / ARCHIVE_FILE, mark, undo=PartialFile.close)
        try:
            attempts = 2
            while True:
                attempts -= not partial.have_bytes
                with self._tracing.span("download", url=without_secrets(archive.link.url), bytes=archive.size_bytes):
                    await Download(desired, partial, links, self._transport, None, progress.archive).run()
                try:
                    return await self._transport.in_thread(
                        unpack, order, partial.descriptor, into, self._limits, stopped, stop=stopped.set
                    )
                except BadContent as error:
                    if not attempts:
                        raise
                    self._meter.retried(error.reason)
                await self._transport.in_thread(partial.reset)
        finally:
            await self._transport.in_thread(partial.close)


def _put_inline(order: FetchManifest, file: FetchFile, into: Path) -> AdapterFile:
    assert file.inline is not None
    if len(file.inline) != file.size_bytes:
        raise FetchError(
            "SizeMismatch",
            f"{file.path} of {order.name} came with the order, with {len(file.inline)} bytes where {file.size_bytes} "
            "were announced: it is read again",
            retryable=True,
        )
    partial = PartialFile(into / file.path, Mark(None))
    try:
        partial.append(file.inline)
        sha256 = FileProof(order.name, file, partial.descriptor).finish()
    finally:
        partial.close()
    return AdapterFile(file.path, file.size_bytes, sha256)


def _tidy(order: FetchManifest, into: Path) -> None:
    for path in (into / ARCHIVE_FILE, journal_of(into / ARCHIVE_FILE)):
        path.unlink(missing_ok=True)
    for file in order.files:
        journal_of(into / file.path).unlink(missing_ok=True)
