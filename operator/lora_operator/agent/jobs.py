"""The fetches of one agent: at most one for a version, whoever asks how often."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

from lora_operator.agent.fills import Fills
from lora_operator.agent_api.wire import ProblemBody
from lora_operator.cache.store_error import StoreError
from lora_operator.cache.volume import VolumeStore
from lora_operator.fetch.errors import FetchError
from lora_operator.fetch.fetcher import Fetcher
from lora_operator.fetch.manifest import FetchManifest
from lora_operator.tracing import OFF, Tracing

log = logging.getLogger(__name__)

NEW_LINKS_SECONDS = 90.0  # how long a fetch waits for the operator to send links that have not run out
MOST_FAILURES = 1000
Key = tuple[str, str]


class Job:
    """One version on its way. `order` is the newest that was sent: its links are the ones that hold. None at the end:
    links are secrets, and nobody needs them any more."""

    def __init__(self, order: FetchManifest, prefetch: bool) -> None:
        self.order: FetchManifest | None = order
        self.size_bytes = order.size_bytes
        self.prefetch = prefetch
        self.done_bytes = 0
        self.problem: ProblemBody | None = None
        self.wants_links = False
        self.renewed = asyncio.Event()
        self.ended = asyncio.Event()
        self.news = asyncio.Event()  # it has ended, or wants fresh links
        self.task: asyncio.Task[None] | None = None


class Jobs:
    """Starts fetches and remembers why the last one of a version failed, until it is asked for again."""

    def __init__(self, store: VolumeStore, fetcher: Fetcher, tracing: Tracing = OFF) -> None:
        self._tracing = tracing
        self._store = store
        self._fetcher = fetcher
        self._jobs: dict[Key, Job] = {}
        self._fills = Fills()

    def get(self, key: Key) -> Job | None:
        return self._jobs.get(key)

    def items(self) -> Iterator[tuple[Key, Job]]:
        yield from sorted(self._jobs.items())

    def start(self, order: FetchManifest, *, prefetch: bool) -> Job:
        """Begin a fetch, or join the one under way and give it the order's fresh links."""
        key = (order.name, order.fingerprint)
        job = self._jobs.get(key)
        if job is not None and not job.ended.is_set():
            job.order = order
            job.prefetch = job.prefetch and prefetch
            job.wants_links = False
            job.news.clear()
            job.renewed.set()
            return job
        self._forget_oldest()
        job = self._jobs[key] = Job(order, prefetch)
        job.task = asyncio.create_task(self._run(key, job, order), name=f"fetch {order.name}")
        return job

    def _forget_oldest(self) -> None:
        failed = [key for key, job in self._jobs.items() if job.ended.is_set()]
        for key in failed[: max(len(failed) - MOST_FAILURES, 0)]:
            del self._jobs[key]

    async def stop(self) -> None:
        """Cut off what is under way; it goes on from there at the next start."""
        await self._fills.stop()
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, key: Key, job: Job, order: FetchManifest) -> None:
        async def renew() -> FetchManifest:
            # whoever waits is told at once, and asks again with new links
            job.renewed.clear()
            job.wants_links = True
            job.news.set()
            try:
                async with asyncio.timeout(NEW_LINKS_SECONDS):
                    await job.renewed.wait()
            except TimeoutError:
                raise FetchError(
                    "LinkExpired", f"the links of {key[0]} ran out and no new ones came", retryable=True
                ) from None
            return job.order or order

        def report(done_bytes: int) -> None:
            job.done_bytes = done_bytes

        async def fill(folder: Path) -> None:
            with self._fills.one():
                await self._fetcher.fetch(job.order or order, folder, renew=renew, report=report)

        sizes = {file.path: file.size_bytes for file in order.files}
        ahead = job.prefetch
        try:
            with self._tracing.span("agent fetch", adapter=key[0], version=key[1], prefetch=ahead):
                await self._store.add(*key, sizes, fill, prefetch=ahead)
            if ahead and not job.prefetch:
                await self._store.use(*key)  # it was fetched ahead, and just in time
            log.info("fetched %s %s", key[0], key[1][:8], extra={"adapter": key[0], "version": key[1]})
            del self._jobs[key]
        except (FetchError, StoreError) as error:
            job.problem = problem_of(error)
            log.warning("fetching %s failed (%s): %s", key[0], error.reason, error, extra={"version": key[1]})
        except Exception as error:
            # a defect; the text of an unknown error may hold anything
            job.problem = ProblemBody(
                reason="InternalError", message=f"{type(error).__name__} in the agent: see its log", retryable=True
            )
            log.error("fetching %s failed unexpectedly: %s", key[0], type(error).__name__)
        finally:
            job.order = None
            job.ended.set()
            job.news.set()


def problem_of(error: FetchError | StoreError) -> ProblemBody:
    """What to answer."""
    return ProblemBody(
        reason=error.reason,
        message=error.message[:2048],
        retryable=error.retryable,
        retry_after_seconds=getattr(error, "retry_after_seconds", None),
    )
